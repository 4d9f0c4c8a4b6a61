"""test_tour.py - `make tour`: one write's twelve stages, in order, and at each
the state that must hold there.

What a stage shows comes from registers, memory and QEMU's own word on who is
halted. The tour must also fail where it should: on the road without an APC,
and beside a program that never lets the processor halt.
"""
import re

import pytest

from harness import debugger

pytestmark = pytest.mark.usefixtures('debugging')

# What must be found at a stage, besides that nothing is wrong there.
HOLDS = {
    1: ['IRQL 0', 'ring 3', 'in the thread that asked'],
    2: ['IRQL 0', 'ring 0', 'in the thread that asked'],
    3: ['ring 0', 'it hangs on a list', "pages are pinned"],
    4: ['IRQL 2', 'in the thread that asked', 'physical addresses'],
    5: ['IRQL 0', 'rax is STATUS_PENDING', 'IrpAtDevice'],
    6: ['IrpAtDevice', 'QEMU says: processor 0 is halted',
        '0 threads work on I/O'],
    7: ['(device ', 'interrupted ki_idle_hlt+1 in ring 0', 'one interrupt deep',
        'the idle thread: nobody'],
    8: ['IRQL 2', 'on the DPC stack', 'interrupted ki_idle_hlt+1'],
    9: ['IRQL 2', 'on the DPC stack', 'STATUS_SUCCESS', 'all of them'],
    10: ['IRQL 1', 'in the thread that asked', 'in its address space'],
    11: ['IRQL 0', 'the packet is out of the port', 'STATUS_SUCCESS'],
    12: ['ring 3', 'NtRemoveIoCompletion returned to '],
}
GO_ON = '-- Enter goes on'
PROGRAM = 'nothread --writes 1 --size 2097152'


def stages(output):
    """{number: lines of that stage}, in the order of the stops."""
    found = {}
    for part in re.split(r'^(?=stage \d+: )', output, flags=re.M)[1:]:
        found[int(re.match(r'stage (\d+)', part).group(1))] = part
    return found


@pytest.mark.parametrize('variables', [
    {}, {'CPUS': 2}, {'DISK': 'nvme', 'CPUS': 4}], ids=str)
def test_twelve_stages_in_order(fixtures, variables):
    status, output = debugger.run(fixtures.build, '--tour', '--batch',
                                  **variables)
    found = stages(output)
    assert list(found) == list(range(1, 13)), output[-2000:]
    assert 'FAIL' not in output
    for number, wanted in HOLDS.items():
        right = [line for line in found[number].splitlines() if ' ok ' in line]
        for text in wanted:
            assert any(text in line for line in right), found[number]
    for cpu in range(variables.get('CPUS', 1)):
        assert f'QEMU says: processor {cpu} is halted' in found[6]
    assert 'tour: 12 stages, all as they must be' in output
    assert status == 0, output[-2000:]


def test_the_tour_misses_the_apc_on_the_other_road(fixtures):
    status, output = debugger.run(fixtures.build, '--tour', '--batch',
                                  KOPTS='port=direct')
    assert list(stages(output)) == list(range(1, 10))
    assert 'before stage 10; with port=direct there is no APC' in output
    assert status == 1


def test_the_tour_sees_that_not_everybody_is_halted(fixtures):
    status, output = debugger.run(
        fixtures.build, '--tour', '--batch', TOUR_BOUND=3,
        ARGS=f'sh -c "busy & {PROGRAM}"')
    assert 'FAIL  QEMU says: processor 0 is halted' in stages(output)[6]
    assert '    at stage 6: QEMU says: processor 0 is halted' in output
    assert status == 1


def test_a_person_goes_on_with_enter_and_stays_with_q(fixtures):
    """An empty line is `go on` to the tour only, never to gdb behind it."""
    with debugger.Terminal(fixtures.build, '--tour') as person:
        for number in range(1, 12):
            assert f'\nstage {number}: ' in person.expect(GO_ON)
            if number == 3:
                person.type('q\n')
                person.expect('(gdb) ')
                person.type('nt irps\n')
                assert re.search(r'created .* file +IRP_MJ_WRITE\(4\)',
                                 person.expect('(gdb) '))
                person.type('nt tour\n')
            else:
                person.type('\n')
        assert '\nstage 12: ' in person.expect('`quit` ends the guest.\n')
        person.expect('(gdb) ')
        person.type('\n')
        assert 'stage' not in person.expect('(gdb) ')
        person.type('quit\n')
        assert person.wait() == 0
    assert list(stages(person.output)) == list(range(1, 13))
    assert 'SIGINT' not in person.output


def test_ctrl_c_stops_a_tour_that_gets_nowhere(fixtures):
    """Also where it waits for processors to halt that never will."""
    with debugger.Terminal(fixtures.build, '--tour',
                           ARGS=f'sh -c "busy & {PROGRAM}"') as person:
        for _ in range(5):
            person.expect(GO_ON)
            person.type('\n')
        with pytest.raises(debugger.Failure):
            person.expect('stage 6', bound=2)
        person.type('\x03')
        person.expect('FAIL  QEMU says: processor 0 is halted')
        person.expect(GO_ON)
