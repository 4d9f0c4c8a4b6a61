"""test_storms.py - the in-kernel storms (tests/kernel/storm.c, diskstorm.c,
stages.c) with many seeds, on several processors. `make test LEVEL=kernel` runs
them once as well, with the seed that is built in.
"""
import pytest

import qemu

from harness import boot, ktap

SEEDS = 100 if boot.STRESS else 2
ODD = {3: 50, 8: 10} if boot.STRESS else {3: 1}     # processors: seeds
CASES = [(cpus, seed) for cpus, seeds in {1: SEEDS, 2: SEEDS, 4: SEEDS,
                                          **ODD}.items()
         for seed in range(1, seeds + 1)]
STORMS = {'storm_of_everything', 'storm_of_cancels_apc',
          'storm_of_cancels_direct', 'storm_of_stages'}
BOUND = 600 if boot.STRESS else 300


@pytest.mark.parametrize('cpus, seed', CASES)
def test_storm(machine, scratch, cpus, seed):
    # An NVMe command moves 8 KiB then: cancels come between a request's.
    disk = (qemu.Disk(scratch(), 'nvme', device='mdts=1') if seed % 2
            else qemu.Disk(scratch(), 'ide'))
    again = f'again: make test LEVEL=qemu T="test_storm and {cpus}-{seed}"'
    m = machine(kernel=boot.CHECKED, program=['true'], cpus=cpus,
                options=['ktest=storm_*', f'seed={seed}', 'then=poweroff'],
                disks=[disk])
    try:
        status = m.wait(BOUND)
    except qemu.Failure as failure:
        raise qemu.Failure(f'{again}\n{failure}') from None
    results = ktap.results(m.com2)
    wrong = [text for passed, _, text in results.values() if not passed]
    if status != qemu.PASSED or wrong or set(results) != STORMS:
        raise qemu.Failure(m.report('\n'.join([again, *wrong])))


def test_without_a_disk(machine):
    m = machine(kernel=boot.CHECKED, program=['true'],
                options=['ktest=storm_of_c*', 'then=poweroff'])
    m.expect_status(qemu.PASSED)
    assert m.com2.count('# SKIP needs a disk') == 2
