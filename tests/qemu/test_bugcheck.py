"""test_bugcheck.py - what must stop the kernel, does, and says why.

The causes are in-kernel tests (fatal/*.c), one boot each.
"""
import re

import pytest

import qemu
import symbols

STOP = re.compile(r'^\*\*\* STOP (0x[0-9A-F]{8}) (\w+) \(', re.M)
ASSERTION = ('0xC0000420', 'STATUS_ASSERTION_FAILURE_CODE')

# name: (code, its name, a function of the backtrace, text of the report)
CASES = {
    'fatal_page_fault': ('0x00000050', 'PAGE_FAULT_IN_NONPAGED_AREA',
                         'fatal_read', 'FFFFDEAD00000000'),
    'fatal_stack_overflow': ('0x0000007F', 'UNEXPECTED_KERNEL_MODE_TRAP',
                             'fatal_recurse', '(0x8,'),
    'fatal_invalid_opcode': ('0x0000001E', 'KMODE_EXCEPTION_NOT_HANDLED',
                             'ktest_fatal_invalid_opcode', '(0x6,'),
    'fatal_assertion': (*ASSERTION, 'ktest_fatal_assertion',
                        'device != '),
    'fatal_raise_to_lower': (*ASSERTION, 'ktest_fatal_raise_to_lower',
                             'irql.h:'),
    'fatal_lower_to_higher': (*ASSERTION, 'ktest_fatal_lower_to_higher',
                              'irql.h:'),
    'fatal_wait_at_dispatch': (*ASSERTION, 'KeWaitForSingleObject', 'wait.c:'),
    'fatal_delay_at_dispatch': (*ASSERTION, 'ktest_sleep', 'wait.c:'),
    'fatal_complete_twice': ('0x00000044', 'MULTIPLE_IRP_COMPLETE_REQUESTS',
                             'fatal_complete', ''),
    'fatal_complete_pending': (*ASSERTION, 'fatal_complete', 'irp.c:'),
    'fatal_no_more_locations': ('0x00000035', 'NO_MORE_IRP_STACK_LOCATIONS',
                                'ktest_fatal_no_more_locations', ''),
}


def stop(m):
    """(code, name) of the one bugcheck."""
    found = STOP.findall(m.console)
    assert len(found) == 1, m.report('not one STOP')
    return found[0]


@pytest.mark.parametrize('name', CASES)
def test_it_stops_and_says_why(run, fixtures, name):
    code, code_name, function, text = CASES[name]
    m = run('true', kernel=fixtures.checked, expect=qemu.BUGCHECK,
            options=[f'ktest={name}', 'then=poweroff'])
    assert stop(m) == (code, code_name)
    assert text.lower() in m.console.lower(), m.report(text)
    assert re.search(r'^  processor 0, thread \d+, IRQL \d+$', m.console, re.M)
    names = symbols.explain(m.console, m.kernel)
    assert f' {function}+' in names, m.report(names)
    assert ' system_thread+' in names or 'stack_overflow' in name, names


@pytest.mark.parametrize('name', ['fatal_page_fault', 'fatal_stack_overflow',
                                  'fatal_invalid_opcode'])
def test_a_trap_shows_the_registers(run, fixtures, name):
    m = run('true', kernel=fixtures.checked, expect=qemu.BUGCHECK,
            options=[f'ktest={name}', 'then=poweroff'])
    for register in ('rax', 'rbx', 'rsp', 'rbp', 'r15', 'rip', 'efl', 'cr2'):
        assert re.search(rf'\b{register} +(0x)?[0-9A-Fa-f]{{16}}', m.console), \
            m.report(f'no {register}')


def test_all_cases_are_here(fixtures):
    source = (qemu.ROOT / 'tests/qemu/fatal/fatal.c').read_text()
    assert set(re.findall(r'^KTEST\((\w+),', source, re.M)) == set(CASES)


@pytest.mark.parametrize('program, sign', [
    (['busy'], 'computing'), (['waiter'], 'waiting')])
@pytest.mark.parametrize('checked', [False, True], ids=['free', 'checked'])
def test_an_nmi_is_a_bugcheck(machine, fixtures, checked, program, sign):
    """From ring 3 (busy) and from the hlt of the idle loop (waiter)."""
    m = machine(kernel=fixtures.checked if checked else fixtures.kernel,
                initrd=fixtures.initrd, program=program)
    m.expect(sign)
    while sign == 'waiting' and 'HLT=1' not in m.hmp('info registers'):
        pass
    m.qmp('inject-nmi')
    m.expect_status(qemu.BUGCHECK)
    assert stop(m) == ('0x00000080', 'NMI_HARDWARE_FAILURE')
    if sign == 'waiting':
        assert 'ki_idle_hlt' in symbols.explain(m.console, m.kernel)
