"""test_memory.py - page tables and control registers, read from outside."""
import pytest

from harness import boot, pages
from harness.shell import Shell

GIB = 1 << 30
UPPER = 1 << 63
WP, UMIP, FSGSBASE, SMEP, SMAP, NXE = (1 << 16, 1 << 11, 1 << 16, 1 << 20,
                                       1 << 21, 1 << 11)


@pytest.fixture(params=['free', 'checked'])
def kernel(request, fixtures):
    return fixtures.kernel if request.param == 'free' else fixtures.checked


def look(m, size, in_ring_3=False):
    for _ in range(1000):
        m.qmp('stop')
        registers = pages.registers(m)
        if not in_ring_3 or registers['CPL'] == 3:
            break
        m.qmp('cont')       # it is not yet back from its call
    return registers, pages.mapped(m, registers['CR3'], size)


@pytest.mark.parametrize('program, sign', [(['busy'], 'computing'),
                                           (['waiter'], 'waiting')])
def test_rights_of_all_pages(machine, fixtures, kernel, program, sign):
    """In ring 3 (busy), and with the kernel idle (waiter)."""
    m = machine(program=program, kernel=kernel, initrd=fixtures.initrd,
                mem='64M')
    m.expect(sign)
    _, ranges = look(m, 64 * boot.MIB, in_ring_3=program == ['busy'])
    lower = [r for r in ranges if r.start < UPPER]
    upper = [r for r in ranges if r.start >= UPPER]
    if program == ['busy']:
        assert lower and any(r.execute for r in lower)
    assert not [r for r in ranges if r.write and r.execute], 'W and X'
    assert not [r for r in lower if r.start < 4 * GIB], 'below 4 GiB'
    assert not [r for r in lower if not r.user], 'the kernel in the lower half'
    assert not [r for r in upper if r.user], 'ring 3 in the upper half'
    assert any(r.execute for r in upper)


def test_kernel_text_has_no_writable_alias(machine, fixtures, kernel):
    """... not even in the map of all physical memory."""
    m = machine(program=['busy'], kernel=kernel, initrd=fixtures.initrd,
                mem='64M')
    m.expect('computing')
    _, ranges = look(m, 64 * boot.MIB)
    text = pages.frames(r for r in ranges if r.start >= UPPER and r.execute)
    assert text
    assert not text & pages.frames(r for r in ranges if r.write)


def test_protection_is_on(machine, fixtures, kernel):
    m = machine(program=['busy'], kernel=kernel, initrd=fixtures.initrd)
    m.expect('computing')
    registers = pages.registers(m)
    assert registers['CR0'] & WP and registers['EFER'] & NXE
    for name, bit in (('SMEP', SMEP), ('SMAP', SMAP), ('UMIP', UMIP)):
        assert registers['CR4'] & bit, f'{name} is off with -cpu max'
    assert not registers['CR4'] & FSGSBASE


def test_protection_that_is_not_there_is_left_off(machine, fixtures, kernel):
    m = machine(program=['busy'], kernel=kernel, initrd=fixtures.initrd,
                cpu='qemu64')
    m.expect('computing')
    registers = pages.registers(m)
    assert registers['CR0'] & WP and registers['EFER'] & NXE
    assert not registers['CR4'] & (SMEP | SMAP | UMIP)


def test_low_memory_is_gone_at_the_prompt(machine, fixtures, kernel):
    m = machine(kernel=kernel, initrd=fixtures.initrd, mem='64M')
    Shell(m)
    _, ranges = look(m, 64 * boot.MIB)
    assert not [r for r in ranges if r.start < 4 * GIB]
