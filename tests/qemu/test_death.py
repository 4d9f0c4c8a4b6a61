"""test_death.py - programs that die with I/O at the disk, and whoever gets
their memory next.

The disk is throttled so that it holds what it was given until the host lets
it go. What was read must not come into the new owner's memory, and what is
written must never be the new owner's: the program `heir` looks at its memory,
the host at the image. Then all that was in use must be free again.
"""
import random

import pytest

import qemu

from harness import boot
from harness.shell import CTRL_C, Shell

MIB = boot.MIB
SIZE = 16 * MIB
MEMORY = '64M'
ROUNDS = 6 if boot.STRESS else 1
VICTIM = b'V'
SECTOR = 512
# bytes a second, in all: the first command passes, the next waits for years.
HOLD, RELEASE = '1 0 0 0 0 0', '0 0 0 0 0 0'
DEATHS = ['kill', 'ctrl-c', 'fault', 'exit', 'thread', 'close', 'unmap']
STAYS = ['thread', 'close', 'unmap']    # the process is not yet dying


def old_content(seed):
    content = random.Random(seed).randbytes(SIZE)
    return b'\0' + content[1:]          # no boot sector


def one_death(shell, operation, how, throttle=HOLD):
    """Runs heir with the disk held until it has taken all memory, or with one
    that goes on at the speed given."""
    m = shell.machine
    m.hmp(f'block_set_io_throttle disk0 {throttle}')
    shell.start(f'heir {operation} {how}',
                'press' if how == 'ctrl-c' else 'filled')
    if how == 'ctrl-c':
        m.send(CTRL_C + '\r')
        m.expect('filled')
    state = m.expect('\n')
    assert throttle != HOLD or 'in flight' in state, \
        m.report('the victim died at once')
    m.hmp(f'block_set_io_throttle disk0 {RELEASE}')
    m.send('\r')
    m.expect('changed 0 of ')
    shell.until_prompt()


def check_image(path, before, operation):
    """Old bytes or the victim's, sector by sector."""
    after = path.read_bytes()
    assert len(after) == len(before)
    written = foreign = 0
    for at in range(0, SIZE, SECTOR):
        if after[at:at + SECTOR] != before[at:at + SECTOR]:
            mine = after[at:at + SECTOR] == VICTIM * SECTOR
            written += mine
            foreign += not mine
    assert not foreign, f'{foreign} sectors hold what nobody wrote'
    if operation == 'w':
        assert written, 'not even the first command reached the disk'
    else:
        assert not written


@pytest.mark.parametrize('bus, cpus', [
    ('ide', 1), ('ide', 2), ('nvme', 2),
    *([('ide', 4), ('nvme', 1), ('nvme', 4)] if boot.STRESS else [])])
@pytest.mark.parametrize('port', ['apc', 'direct'])
@pytest.mark.parametrize('operation', ['r', 'w'])
def test_the_heir(machine, fixtures, tmp_path, operation, port, bus, cpus):
    """CAN-11: no page goes to a new owner while the disk may still use it."""
    disk = tmp_path / 'disk.img'
    before = old_content(cpus)
    disk.write_bytes(before)
    m = machine(kernel=fixtures.checked, initrd=fixtures.initrd, cpus=cpus,
                mem=MEMORY, disks=[qemu.Disk(disk, bus)],
                options=[f'port={port}'])
    shell = Shell(m)
    for how in DEATHS:                  # fills what the kernel keeps
        one_death(shell, operation, how)
    counts = shell.steady()
    for _ in range(ROUNDS):
        for how in DEATHS:
            one_death(shell, operation, how)
    shell.comes_back(counts)
    m.kill()
    check_image(disk, before, operation)


@pytest.mark.parametrize('bus', ['ide', 'nvme'])
@pytest.mark.parametrize('operation', ['r', 'w'])
def test_the_heir_of_a_disk_that_runs(machine, fixtures, tmp_path, operation,
                                      bus):
    """The victim dies wherever its requests are: the disk's speed is drawn."""
    disk, draw = tmp_path / 'disk.img', random.Random(bus + operation)
    before = old_content(3)
    disk.write_bytes(before)
    m = machine(kernel=fixtures.checked, initrd=fixtures.initrd, cpus=2,
                mem=MEMORY, disks=[qemu.Disk(disk, bus)])
    shell = Shell(m)
    for _ in range(10 * ROUNDS):
        speed = int(2 ** draw.uniform(20, 26))      # 1 to 64 MiB a second
        one_death(shell, operation, draw.choice(DEATHS), f'{speed} 0 0 0 0 0')
    m.kill()
    check_image(disk, before, operation)


@pytest.mark.parametrize('bus', ['ide', 'nvme'])
@pytest.mark.parametrize('operation', ['r', 'w'])
def test_the_disk_is_given_up(machine, fixtures, tmp_path, operation, bus):
    """The disk never goes on: it is reset, and with that QEMU lets go what it
    held, into memory that must still be the victim's."""
    disk = tmp_path / 'disk.img'
    before = old_content(9)
    disk.write_bytes(before)
    m = machine(kernel=fixtures.checked, initrd=fixtures.initrd, mem=MEMORY,
                disks=[qemu.Disk(disk, bus)], options=['iotimeout=2'])
    shell = Shell(m)
    m.hmp(f'block_set_io_throttle disk0 {HOLD}')
    shell.start(f'heir {operation} kill', 'filled')
    assert 'in flight' in m.expect('\n')
    m.send('\r')
    m.expect('changed 0 of ')
    shell.until_prompt()
    m.kill()
    check_image(disk, before, operation)
