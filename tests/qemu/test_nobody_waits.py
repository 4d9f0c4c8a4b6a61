"""test_nobody_waits.py - the claim itself, with QEMU's log as the witness:
from the hlt to the disk's interrupt no processor executes one instruction.

The disk does one request a second. The checker must also fail where the claim
does not hold: beside a program that computes, and without any I/O.
"""
import pytest

import qemu

from harness import boot, flight

WRITES = 4


def logged(run, tmp_path, *program, options=(), disk_options, cpus=1):
    disk = tmp_path / 'disk.img'
    with open(disk, 'wb') as image:
        image.truncate(boot.MIB)
    m = run(*program, options=[*options, 'then=poweroff'],
            disks=[qemu.Disk(disk, options=disk_options)],
            cpus=cpus, debug=flight.DEBUG, trace=flight.EVENTS, extra=flight.EXTRA,
            bound=240)
    log = m.logs / 'qemu.log'
    found = flight.flights(log, m.kernel)
    log.unlink()            # some hundred MB
    return m, found


SLOW = 'throttling.iops-total=1'


@pytest.mark.parametrize('port, cpus', [('apc', 1), ('direct', 1), ('apc', 2),
                                        ('direct', 4)])
def test_from_hlt_to_interrupt_nothing_runs(run, tmp_path, port, cpus):
    m, found = logged(run, tmp_path, 'nothread', '--writes', str(WRITES),
                      options=[f'port={port}'], disk_options=SLOW, cpus=cpus)
    assert [f.kind for f in found].count('write') == WRITES
    long = [f for f in found if f.seconds > flight.SHORTEST
            and f.kind == 'write']
    assert len(long) >= WRITES - 1
    faults = flight.judge(found)
    assert not faults, m.report('\n'.join(faults))


def test_the_checker_fails_beside_a_computation(run, tmp_path):
    """busy never lets the processor halt while nothread's writes fly."""
    _, found = logged(run, tmp_path, 'sh', '-c', 'busy & nothread --writes 2',
                      disk_options=SLOW)
    assert any(f.seconds > flight.SHORTEST for f in found)
    assert flight.judge(found)


def test_the_checker_fails_with_a_timer(run, tmp_path):
    """The processor halts, but somebody wakes it in the middle."""
    _, found = logged(run, tmp_path, 'sh', '-c',
                      'ticker & nothread --writes 3', disk_options=SLOW)
    faults = flight.judge(found)
    assert faults and 'behind the hlt' in ' '.join(faults)


def test_the_checker_fails_without_io(run, tmp_path):
    _, found = logged(run, tmp_path, 'true', disk_options='')
    assert flight.judge(found) == ['no flight of 0 is longer than 0.5 s']
