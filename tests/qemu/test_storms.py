"""test_storms.py - the in-kernel storms (tests/kernel/storm.c, diskstorm.c)
with many seeds, on several processors. `make test LEVEL=kernel` runs them once
as well, with the seed that is built in.
"""
import pytest

import qemu

from harness import boot, ktap

SEEDS = 100 if boot.STRESS else 2
BOUND = 300


@pytest.mark.parametrize('seed', range(1, SEEDS + 1))
@pytest.mark.parametrize('cpus', [1, 2, 4])
def test_storm(machine, scratch, cpus, seed):
    # An NVMe command moves 8 KiB then: cancels come between a request's.
    disk = (qemu.Disk(scratch(), 'nvme', device='mdts=1') if seed % 2
            else qemu.Disk(scratch(), 'ide'))
    m = machine(kernel=boot.CHECKED, program=['true'], cpus=cpus,
                options=['ktest=storm_*', f'seed={seed}', 'then=poweroff'],
                disks=[disk])
    status = m.wait(BOUND)
    results = ktap.results(m.com2)
    wrong = [text for passed, _, text in results.values() if not passed]
    if status != qemu.PASSED or wrong or not results:
        raise qemu.Failure(m.report('\n'.join([f'seed={seed}', *wrong])))
