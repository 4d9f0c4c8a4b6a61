"""test_bugcheck.py - what must stop the kernel, does, and says why.

The causes are in-kernel tests (fatal/*.c), one boot each.
"""
import re

import pytest

import qemu
import symbols

STOP = re.compile(r'^\*\*\* STOP (0x[0-9A-F]{8}) (\w+) \(', re.M)
ASSERTION = ('0xC0000420', 'STATUS_ASSERTION_FAILURE_CODE')
IRQL = 'KeGetCurrentIrql()'

# name: (code, its name, a function of the backtrace, text of the report)
TRAPS = {
    'fatal_page_fault': ('0x00000050', 'PAGE_FAULT_IN_NONPAGED_AREA',
                         'fatal_read', 'FFFFDEAD00000000'),
    'fatal_call_of_null': ('0x00000050', 'PAGE_FAULT_IN_NONPAGED_AREA',
                           'ktest_fatal_call_of_null', '(0x0,'),
    'fatal_stack_overflow': ('0x0000007F', 'UNEXPECTED_KERNEL_MODE_TRAP',
                             'fatal_recurse', '(0x8,'),
    'fatal_invalid_opcode': ('0x0000001E', 'KMODE_EXCEPTION_NOT_HANDLED',
                             'ktest_fatal_invalid_opcode', '(0x6,'),
    'fatal_assertion': (*ASSERTION, 'ktest_fatal_assertion', 'device != '),
}
# What a rule calls fatal for the caller: the report names the rule.
# name: (rule, file, how its condition begins, a function of the backtrace)
RULES = {
    'fatal_raise_to_lower': ('IRQL-03', 'irql.h', 'irql >= *old', ''),
    'fatal_raise_to_dpc_level_from_above': (
        'IRQL-03', 'irql.h', 'irql >= *old', ''),
    'fatal_lower_to_higher': ('IRQL-03', 'irql.h', 'irql <= ', ''),
    'fatal_release_of_a_free_lock': ('IRQL-06', 'irql.h', '*lock', ''),
    'fatal_at_dpc_level_below_it': ('IRQL-06', 'verify.c', IRQL, ''),
    'fatal_lowered_with_a_lock': ('IRQL-06', 'verify.c', IRQL, ''),
    'fatal_lock_taken_twice': ('IRQL-06', 'verify.c', 'i < 0', ''),
    'fatal_wait_at_dispatch': (
        'IRQL-05', 'wait.c', IRQL, 'KeWaitForSingleObject'),
    'fatal_timed_wait_at_dispatch': (
        'IRQL-05', 'wait.c', IRQL, 'KeWaitForSingleObject'),
    'fatal_wait_for_many_at_dispatch': (
        'IRQL-05', 'wait.c', IRQL, 'KeWaitForMultipleObjects'),
    'fatal_poll_at_device_level': (
        'IRQL-05', 'wait.c', IRQL, 'KeWaitForSingleObject'),
    'fatal_delay_at_dispatch': ('IRQL-05', 'wait.c', IRQL, 'ktest_sleep'),
    'fatal_dequeue_at_dispatch': (
        'IRQL-05', 'queue.c', IRQL, 'ke_remove_queue'),
    'fatal_leave_a_critical_region': (
        'REG-01', 'apc.c', '*disable < 0', 'KeLeaveCriticalRegion'),
    'fatal_leave_a_guarded_region': (
        'REG-01', 'apc.c', '*disable < 0', 'KeLeaveGuardedRegion'),
    'fatal_dpc_at_another_level': (
        'DPC-06', 'dpc.c', IRQL, 'ki_retire_dpc_list'),
    'fatal_next_of_an_idle_device': (
        'DVQ-02', 'devqueue.c', 'queue->Busy', 'KeRemoveDeviceQueue'),
    'fatal_complete_pending': (
        'IRP-07', 'complete.c', 'irp->IoStatus.Status != ', 'fatal_complete'),
    'fatal_complete_with_a_lock': (
        'IRP-07', 'verify.c', 'held_by_caller() == 0', 'fatal_complete'),
    'fatal_complete_above_dispatch': (
        'IRP-07', 'verify.c', IRQL, 'fatal_complete'),
    'fatal_no_next_location': (
        'IRP-01', 'irp.h', 'irp->CurrentLocation > 1', ''),
    'fatal_skip_of_what_was_never_sent': (
        'IRP-01', 'irp.h', 'irp->CurrentLocation <= ', ''),
    'fatal_nobody_keeps_a_drivers_own_irp': (
        'IRP-06', 'verify.c', 'irp->Thread', 'fatal_complete'),
    'fatal_filter_hides_pending': (
        'IRP-05', 'verify.c', '!this.answered', 'fatal_filter'),
    'fatal_filter_that_skips_hides_pending': (
        'IRP-05', 'verify.c', '!this.answered', 'fatal_filter'),
    'fatal_filter_makes_pending_up': (
        'IRP-05', 'verify.c', '!this.answered', 'fatal_filter'),
    'fatal_dispatch_stays_raised': (
        'IRQL-01', 'verify.c', f'{IRQL} == irql', 'fatal_call'),
    'fatal_completion_stays_raised': (
        'IRQL-01', 'verify.c', f'{IRQL} == irql', 'fatal_complete'),
    'fatal_pending_without_the_mark': (
        'IRP-05', 'verify.c', 'this.marked || ', 'fatal_call'),
    'fatal_pending_completed_without_the_mark': (
        'IRP-05', 'verify.c', 'this.marked || ', 'fatal_call'),
    'fatal_marked_but_success': (
        'IRP-05', 'verify.c', 'pending || !this.marked', 'fatal_call'),
    'fatal_marked_completed_but_success': (
        'IRP-05', 'verify.c', 'pending || !this.marked', 'fatal_call'),
    'fatal_kept_but_success': (
        'IRP-05', 'verify.c', 'pending || this.passed', 'fatal_call'),
    'fatal_cancel_completes_with_the_lock': (
        'IRP-07', 'verify.c', 'held_by_caller() == 0', 'fatal_cancel'),
    'fatal_cancel_keeps_the_lock': (
        'CAN-10', 'verify.c', 'held_by_caller() == others', 'fatal_cancel'),
    'fatal_cancel_by_list_keeps_the_lock': (
        'CAN-10', 'verify.c', 'held_by_caller() == others', 'io_cancel'),
    'fatal_cancel_stays_raised': (
        'CAN-10', 'verify.c', f'{IRQL} == irql', 'fatal_cancel'),
    'fatal_cancel_releases_twice': (
        'IRQL-06', 'irql.h', '*lock', 'fatal_cancel'),
}
# The same where Windows has a code of its own for it.
# name: (code, its name, rule, a function of the backtrace)
CODES = {
    'fatal_no_more_locations': (
        '0x00000035', 'NO_MORE_IRP_STACK_LOCATIONS', 'IRP-01', ''),
    'fatal_complete_twice': (
        '0x00000044', 'MULTIPLE_IRP_COMPLETE_REQUESTS', 'IRP-07',
        'fatal_complete'),
    'fatal_complete_after_more_processing': (
        '0x00000044', 'MULTIPLE_IRP_COMPLETE_REQUESTS', 'IRP-07',
        'fatal_complete'),
    'fatal_complete_still_cancelable': (
        '0x00000048', 'CANCEL_STATE_IN_COMPLETED_IRP', 'CAN-10',
        'fatal_complete'),
}


def stop(m):
    """(code, name) of the one bugcheck."""
    found = STOP.findall(m.console)
    assert len(found) == 1, m.report('not one STOP')
    return found[0]


def stops(run, fixtures, name, reason, function, bottom='system_thread'):
    """Boots the one test, sees the one bugcheck for reason, with function in
    its backtrace ('': the test itself), and returns what the console said."""
    m = run('true', kernel=fixtures.checked, expect=qemu.BUGCHECK,
            options=[f'ktest={name}', 'then=poweroff'])
    assert stop(m) == reason
    assert re.search(r'^  processor 0, thread \d+, IRQL \d+$', m.console, re.M)
    names = symbols.explain(m.console, m.kernel)
    assert f' {function or "ktest_" + name}+' in names, m.report(names)
    assert f' {bottom}+' in names, m.report(names)
    return m


@pytest.mark.parametrize('name', TRAPS)
def test_a_trap_stops_and_says_why(run, fixtures, name):
    code, code_name, function, text = TRAPS[name]
    m = stops(run, fixtures, name, (code, code_name), function,
              function if 'stack_overflow' in name else 'system_thread')
    assert text.lower() in m.console.lower(), m.report(text)


@pytest.mark.parametrize('name', RULES)
def test_a_broken_rule_is_named(run, fixtures, name):
    rule, file, condition, function = RULES[name]
    # A DPC's backtrace ends on the DPC stack.
    m = stops(run, fixtures, name, ASSERTION, function,
              function if rule == 'DPC-06' else 'system_thread')
    said = re.findall(r'^  \S*?([\w.]+):\d+: (\w+-\d+): (.*)$', m.console, re.M)
    assert len(said) == 1, m.report('not one broken rule')
    assert said[0][:2] == (file, rule), m.report(said)
    assert said[0][2].startswith(condition), m.report(said)


@pytest.mark.parametrize('name', CODES)
def test_a_broken_rule_with_a_code_of_its_own(run, fixtures, name):
    code, code_name, rule, function = CODES[name]
    m = stops(run, fixtures, name, (code, code_name), function)
    assert re.search(rf'^\*\*\* STOP .*\n  {rule}\r?$', m.console, re.M), \
        m.report(rule)


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
    assert set(re.findall(r'^KTEST\((\w+),', source, re.M)) == \
        TRAPS.keys() | RULES.keys() | CODES.keys()


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
    m.inject_nmi()
    m.expect_status(qemu.BUGCHECK)
    assert stop(m) == ('0x00000080', 'NMI_HARDWARE_FAILURE')
    if sign == 'waiting':
        assert 'ki_idle_hlt' in symbols.explain(m.console, m.kernel)
