"""test_port_model.py - IOCP-01 to IOCP-14 against a model: random lists of
operations run on TINT and on the host, and every result has to match.
"""
import pytest

import qemu

from harness import boot, portmodel

OPERATIONS = 150
BOUND = 900
# (processors, the first seed of a boot, lists): no two boots share a list. The
# workers spin: four processors on a host with two are slow.
RUNS = [(cpus, 1000 * cpus + 60 * n, 60)
        for cpus in (1, 2, 4) for n in range(4)]
if not boot.STRESS:
    RUNS = [(1, 1000, 16), (2, 2000, 16), (4, 4000, 3)]


@pytest.mark.parametrize('cpus, seed, lists', RUNS)
def test_lists(machine, fixtures, cpus, seed, lists):
    m = machine(kernel=fixtures.checked, initrd=fixtures.initrd, cpus=cpus,
                program=['portlist', str(seed), str(lists), str(OPERATIONS)])
    m.expect_status(qemu.PASSED, BOUND)
    done = portmodel.lists(m.com2)
    assert sorted(done) == list(range(seed, seed + lists))
    for number, operations in done.items():
        try:
            compared = portmodel.replay(operations, cpus)
        except portmodel.Mismatch as difference:
            raise qemu.Failure(m.report(
                f'list {number}, repeat: portlist {number} 1 {OPERATIONS} '
                f'on {cpus} processors\n{difference}')) from None
        # Otherwise nothing much was tried.
        assert compared > OPERATIONS / 4
