"""test_pool.py - what is done wrong to pool stops the checked kernel, which
names the deed, the block, and the code that allocated and freed it.

The causes are in-kernel tests (fatal/pool.c), one boot each.
"""
import re

import pytest

import qemu
import symbols

SOURCE = qemu.ROOT / 'tests/qemu/fatal/pool.c'
STOP = re.compile(r'^\*\*\* STOP (0x[0-9A-F]{8}) \w+ \((.*)\)\n  (.*)$', re.M)
BAD_POOL_CALLER, UNDEFINED = '0x000000C2', '0xC0000420'

# name: (what is said, how many callers that allocated, and freed, it names)
CASES = {
    'write_after_free': ('use after free at byte 8 of 40, tag Fatl', 2),
    'write_in_quarantine': ('use after free at byte 8 of 40, tag Fatl', 2),
    'write_after_quarantine': ('use after free at byte 8 of 40, tag Fatl', 2),
    'write_after_free_large': ('use after free at byte 8 of 5000, tag Fatl', 2),
    'double_free': ('double free at byte 0 of 40, tag Fatl', 2),
    'free_inside': ('free of a wrong pointer at byte 16 of 40, tag Fatl', 1),
    'free_of_stack': ('free of a wrong pointer', 0),
    'free_of_nothing': ('free of a wrong pointer', 0),
    'wrong_tag': ('wrong tag at byte 0 of 40, tag Fatl', 1),
    'overrun': ('overrun at byte 40 of 40, tag Fatl', 1),
    'overrun_large': ('overrun at byte 5000 of 5000, tag Fatl', 1),
    'overrun_far': ('overrun at byte 40 of 40, tag Fatl', 1),
    'underrun': ('underrun at byte -1 of 40, tag Fatl', 1),
    'underrun_far': ('underrun at byte -16 of 40, tag Fatl', 1),
    'irp_after_free': ('use after free at byte', 2),
    'irp_freed_twice': ('double free at byte 0 of', 2),
}
# No pattern is a pointer to anything: UBSan sees that first.
PATTERNS = {'read_after_free': 'undefined: misaligned 0xdddddddddddddddd',
            'read_of_fresh': 'undefined: misaligned 0xcdcdcdcdcdcdcdcd'}


def stop(run, fixtures, name):
    """The one bugcheck of this test: code, parameters, line below, names."""
    m = run('true', kernel=fixtures.checked, expect=qemu.BUGCHECK,
            options=[f'ktest=pool_{name}', 'then=poweroff'])
    found = STOP.findall(m.console)
    assert len(found) == 1, m.report('not one STOP')
    return *found[0], symbols.explain(m.console, m.kernel), m


def named(names, address):
    """The function that the launcher found for an address."""
    found = re.search(rf'^{address}  (\w+)\+', names, re.M)
    assert found, f'no name for {address} in\n{names}'
    return found.group(1)


@pytest.mark.parametrize('name', CASES)
def test_it_stops_and_says_whose(run, fixtures, name):
    code, parameters, text, names, m = stop(run, fixtures, name)
    said, callers = CASES[name]
    assert code == BAD_POOL_CALLER and text.startswith(said), m.report(text)
    addresses = re.findall(r'at (0x[0-9a-f]{16})', text)
    assert len(addresses) == 2 * callers, text
    if name.startswith('irp'):
        ours = ['IoAllocateIrp', 'take_irp', 'IoFreeIrp', 'give_irp']
    else:
        ours = ['take', f'ktest_pool_{name}', 'give', f'ktest_pool_{name}']
    assert [named(names, a) for a in addresses] == ours[:2 * callers], names
    if callers:
        assert f'{int(addresses[0], 16):#x}' in parameters.split(', ')


@pytest.mark.parametrize('name', PATTERNS)
def test_a_pattern_is_no_pointer(run, fixtures, name):
    code, _, text, names, m = stop(run, fixtures, name)
    assert code == UNDEFINED and PATTERNS[name] in text, m.report(text)
    assert f' ktest_pool_{name}+' in names


def test_a_leak_is_named(run, fixtures):
    """In COM2's report of the test, and when a failure ends the run."""
    m = run('true', kernel=fixtures.checked, expect=qemu.FAILED,
            options=['ktest=pool_leak', 'then=poweroff'])
    for text in (m.com2, m.console):
        lines = re.findall(r'^# Fatl: (.*), allocated at (\S+) at (\S+)$',
                           text, re.M)
        assert [line[0] for line in lines] == ['40 bytes in 1 blocks'] * 2, text
        names = symbols.names(text, m.kernel)
        for _, first, second in lines:
            assert named(names, first) == 'take'
            assert named(names, second) == 'ktest_pool_leak'
    assert 'not ok' in m.com2


def test_all_cases_are_here():
    found = re.findall(r'^KTEST\(pool_(\w+),', SOURCE.read_text(), re.M)
    assert set(found) == {*CASES, *PATTERNS, 'leak'}
