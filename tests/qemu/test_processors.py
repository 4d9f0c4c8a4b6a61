"""test_processors.py - as many processors as the machine has, from outside.

What they do together is tested in the kernel and by programs; here are only
the numbers that nobody runs every day, and the end of all.
"""
import re

import pytest

import qemu
import symbols


@pytest.mark.parametrize('cpus', [2, 3, 8, 32])
def test_all_start_and_a_disk_is_written(run, scratch, fixtures, cpus):
    disk = scratch()
    m = run('nothread', 'B:\\files\\odd.bin', cpus=cpus, mem='256M',
            disks=[qemu.Disk(disk)], bound=240)
    assert f' {cpus} processors, ' in m.console
    assert 'did not start' not in m.console
    content = fixtures.content('odd.bin')
    assert disk.read_bytes()[:len(content)] == content


def test_no_more_than_32_are_used(run):
    m = run('true', cpus=40, mem='256M', bound=240)
    assert ' 32 processors, ' in m.console


def test_cpus_says_how_many(run):
    m = run('true', cpus=4, options=['cpus=3', 'then=poweroff'])
    assert ' 3 processors, ' in m.console


@pytest.mark.parametrize('program', [['waiter'], ['busy']])
def test_an_nmi_on_all_is_one_bugcheck(machine, fixtures, program):
    """QEMU gives the NMI to every processor: one of them may print."""
    m = machine(kernel=fixtures.checked, initrd=fixtures.initrd,
                program=program, cpus=4)
    m.expect({'waiter': 'waiting', 'busy': 'computing'}[program[0]])
    m.inject_nmi()
    m.expect_status(qemu.BUGCHECK)
    assert len(re.findall(r'^\*\*\* STOP ', m.console, re.M)) == 1
    assert re.search(r'^  processor [0-3], thread \d+, IRQL \d+$', m.console,
                     re.M), m.report('which processor?')
    # Whoever was first names where it was: in the kernel, or in ring 3.
    assert '0xffffffff8' in symbols.explain(m.console, m.kernel) \
        or re.search(r'^  at 0x00000001', m.console, re.M)
