"""test_port_model.py - IOCP-01 to IOCP-14 against a model: random lists of
operations run on TINT and on the host, and every result has to match.
"""
import pytest

import qemu

from harness import boot, portmodel

OPERATIONS = 150
PER_BOOT = 60 if boot.STRESS else 8
BOOTS = 4 if boot.STRESS else 2
BOUND = 600
# (processors, the first seed of a boot): no two boots share a list.
RUNS = [(cpus, 1000 * cpus + PER_BOOT * n)
        for cpus in (1, 2, 4) for n in range(BOOTS)]


@pytest.mark.parametrize('cpus, seed', RUNS)
def test_lists(machine, fixtures, cpus, seed):
    m = machine(kernel=fixtures.checked, initrd=fixtures.initrd, cpus=cpus,
                program=['portlist', str(seed), str(PER_BOOT),
                         str(OPERATIONS)])
    m.expect_status(qemu.PASSED, BOUND)
    done = portmodel.lists(m.com2)
    assert sorted(done) == list(range(seed, seed + PER_BOOT))
    for number, operations in done.items():
        try:
            compared = portmodel.replay(operations)
        except portmodel.Mismatch as difference:
            raise qemu.Failure(m.report(
                f'list {number}, repeat: portlist {number} 1 {OPERATIONS} '
                f'on {cpus} processors\n{difference}')) from None
        # Otherwise nothing much was tried.
        assert compared > OPERATIONS / 4
