"""test_device_faults.py - disks that report errors, and one that never
answers. The request fails with a status, the next ones work.
"""
import re

import pytest

import qemu

from harness import boot, ktap
from harness.shell import Shell

MIB = boot.MIB


BUSES = pytest.mark.parametrize('bus', ['ide', 'nvme'])


def faulty(tmp_path, disk, rules, bus):
    """A disk in whose way blkdebug stands, with these rules."""
    config = tmp_path / 'blkdebug.conf'
    config.write_text(rules)
    return qemu.Disk(f'blkdebug:{config}:{disk}', bus)


def nth(event, n, errno):
    """The nth event of a kind fails, once."""
    states = ''.join(f'[set-state]\nevent = "{event}"\nstate = "{i}"\n'
                     f'new_state = "{i + 1}"\n' for i in range(1, n))
    return states + (f'[inject-error]\nevent = "{event}"\nstate = "{n}"\n'
                     f'errno = "{errno}"\nonce = "on"\n')


EIO, ENOSPC = 5, 28
# What QEMU makes of either: ABRT; Write Fault or Unrecovered Read Error.
FAILED = {'ide': 'STATUS_IO_DEVICE_ERROR', 'nvme': 'STATUS_DEVICE_DATA_ERROR'}


@BUSES
@pytest.mark.parametrize('port', ['apc', 'direct'])
@pytest.mark.parametrize('n, errno', [(1, EIO), (3, EIO), (8, EIO),
                                      (2, ENOSPC)])
def test_the_nth_write_fails(run, scratch, tmp_path, bus, port, n, errno):
    disk = scratch(MIB)
    m = run('sh', '-c', 'nothread B:\\files\\odd.bin --writes 8; status; counts'
            '; nothread B:\\files\\odd.bin --writes 8; counts',
            disks=[faulty(tmp_path, disk, nth('write_aio', n, errno), bus)],
            options=[f'port={port}', 'then=poweroff'])
    first = re.search(r'^nothread: write (\d+) of 8 failed: (STATUS_\w+)',
                      m.console, re.M)
    assert first and int(first.group(1)) == n, m.report('no error')
    assert first.group(2) == FAILED[bus]
    assert 'last: status 1\n' in m.console
    assert m.console.count('all 32,768 bytes are as they should be') == 1
    assert re.findall(r'irps=(\d+)', m.console) == ['0', '0']


@BUSES
@pytest.mark.parametrize('errno', [EIO, ENOSPC])
def test_only_the_failed_write_is_missing(run, fixtures, scratch, tmp_path,
                                          errno, bus):
    disk = scratch(MIB)
    run('nothread', 'B:\\files\\odd.bin', '--writes', '8', expect=qemu.FAILED,
        disks=[faulty(tmp_path, disk, nth('write_aio', 3, errno), bus)])
    should = bytearray(fixtures.content('odd.bin')[:32768])
    should[8192:12288] = bytes(4096)
    assert disk.read_bytes() == bytes(should) + bytes(MIB - 32768)


@BUSES
def test_a_read_fails(run, scratch, tmp_path, bus):
    """nothread reads its bytes back, and one sector cannot be read."""
    disk = scratch(MIB)
    m = run('sh', '-c', 'nothread B:\\files\\page.bin --offset 65536; status;'
            'nothread B:\\files\\page.bin --offset 65536',
            disks=[faulty(tmp_path, disk, '[inject-error]\n'
                          'event = "read_aio"\nerrno = "5"\n'
                          'sector = "130"\niotype = "read"\nonce = "on"\n',
                          bus)])
    assert re.search(rf'^nothread: reading back: {FAILED[bus]}\b', m.console,
                     re.M)
    assert 'last: status 1\n' in m.console
    assert m.console.count('bytes are as they should be') == 1


READS = 6


def statuses(m, operation):
    return re.findall(rf'^0 {operation} \d+ \d+: (STATUS_\w+)', m.console, re.M)


@BUSES
@pytest.mark.parametrize('n', [1, 2, 5])
def test_the_nth_read_fails(run, scratch, tmp_path, bus, n):
    """On IDE, QEMU itself has read once, to guess a geometry."""
    m = run('sh', '-c', ' '.join(['rawio', *(f'0 r {512 * i} 512'
                                             for i in range(READS))])
            + '; rawio 0 r 0 512; counts',
            disks=[faulty(tmp_path, scratch(MIB), nth('read_aio', n + (bus == 'ide'), EIO),
                          bus)])
    should = ['STATUS_SUCCESS'] * (READS + 1)
    should[n - 1] = FAILED[bus]
    assert statuses(m, 'r') == should, m.report(f'read {n} should fail')
    assert 'irps=0' in m.console


@BUSES
@pytest.mark.parametrize('n', [1, 3])
def test_the_nth_flush_fails(run, scratch, tmp_path, bus, n):
    disk = scratch(MIB)
    m = run('sh', '-c', 'rawio' + ' 0 w 0 512 0 s 0 0' * 4 + '; counts',
            disks=[faulty(tmp_path, disk, nth('flush_to_disk', n, EIO), bus)])
    should = ['STATUS_SUCCESS'] * 4
    should[n - 1] = FAILED[bus]
    assert statuses(m, 's') == should, m.report(f'flush {n} should fail')
    assert disk.read_bytes()[:512] == b'G' * 512
    assert 'irps=0' in m.console


# ---- A disk that is slow ----------------------------------------------------

@BUSES
@pytest.mark.parametrize('cpus', [1, 4])
def test_all_else_is_responsive_beside_a_slow_disk(machine, fixtures, scratch,
                                                   bus, cpus):
    """One request a second: while six writes are on their way the other disk
    is written and read, and programs come and go; none waits for the six."""
    disks = [qemu.Disk(scratch(MIB), bus, 'throttling.iops-total=1'),
             qemu.Disk(scratch(MIB), bus)]
    if bus == 'ide':    # the fast one on the other channel: each has one turn
        disks.insert(1, qemu.Disk(scratch(MIB), bus))
    m = machine(kernel=fixtures.checked, initrd=fixtures.initrd, cpus=cpus,
                options=(), disks=disks)
    shell = Shell(m)
    said = shell.run('nothread --disk 0 --writes 6 &')
    for _ in range(6):
        said += shell.run(f'nothread --disk {len(disks) - 1} --writes 8')
    assert said.count('all 32,768 bytes are as they should be') == 6
    assert 'all 24,576 bytes' not in said, m.report('who waited for whom?')
    m.hmp('block_set_io_throttle disk0 0 0 0 0 0 0')
    m.expect('all 24,576 bytes are as they should be')


def test_a_time_out_waits_for_the_start(run, fixtures, scratch):
    m = run('true', kernel=fixtures.checked, cpus=2,
            disks=[qemu.Disk(scratch(MIB), 'ide')],
            options=['ktest=starting_*', 'then=poweroff'])
    assert 'ok 1 - starting_keeps_the_time_out_away' in m.com2


# ---- A disk that never answers ----------------------------------------------

DEAF = 'throttling.bps-write=1'     # the first write passes, the next waits


def test_a_write_times_out_and_the_others_go_on(run, scratch):
    """Requests: two writes and a read at the deaf disk, two at a good one on
    the other channel's turn, and all end."""
    deaf, good = scratch(MIB), scratch(MIB)
    extra = []
    for n, (path, options) in enumerate([(deaf, ',' + DEAF), (good, '')]):
        extra += ['-drive', f'if=none,id=d{n},format=raw,file={path},'
                            f'werror=report,rerror=report{options}',
                  '-device', f'ide-hd,drive=d{n},bus=ide.{n},unit=0']
    m = run('sh', '-c',
            'rawio 0 w 0 512 0 w 512 512 0 r 1024 512 1 w 0 512 1 w 512 512; '
            'counts', options=['iotimeout=2', 'then=poweroff'], bound=120,
            extra=['-nodefaults', '-vga', 'none', *extra])
    said = re.findall(r'^(\d \w \d+) \d+: (STATUS_\w+)', m.console, re.M)
    assert said == [
        ('0 w 0', 'STATUS_SUCCESS'), ('0 w 512', 'STATUS_IO_TIMEOUT'),
        ('0 r 1024', 'STATUS_SUCCESS'), ('1 w 0', 'STATUS_SUCCESS'),
        ('1 w 512', 'STATUS_SUCCESS')], m.report('not so')
    assert 'irps=0' in m.console
    assert deaf.read_bytes()[:512] == b'A' * 512
    assert deaf.read_bytes()[512:1024] in (b'B' * 512, bytes(512))
    assert deaf.read_bytes()[1024:] == bytes(MIB - 1024)
    assert good.read_bytes()[:1024] == b'D' * 512 + b'E' * 512


@BUSES
@pytest.mark.parametrize('operation', ['r', 'w'])
def test_a_deaf_disk_and_then_a_good_one(machine, fixtures, scratch, operation,
                                         bus):
    """What the disk holds back times out, and a flush that waits for it has its
    turn; when the disk hears again, reads and writes work."""
    m = machine(kernel=fixtures.checked, initrd=fixtures.initrd,
                options=['iotimeout=2'], disks=[qemu.Disk(scratch(MIB), bus)])
    shell = Shell(m)
    counts = shell.counts()
    m.hmp('block_set_io_throttle disk0 1 0 0 0 0 0')
    said = shell.run(f'rawio 0 {operation} 0 512 0 {operation} 512 512 0 s 0 0')
    assert re.findall(r'^0 (\w) \d+ \d+: (\w+)', said, re.M) == [
        (operation, 'STATUS_SUCCESS'), (operation, 'STATUS_IO_TIMEOUT'),
        ('s', 'STATUS_SUCCESS')], said
    m.hmp('block_set_io_throttle disk0 0 0 0 0 0 0')
    said = shell.run(f'rawio 0 {operation} 0 512 0 {operation} 512 512')
    assert said.count('STATUS_SUCCESS') == 2
    assert shell.counts()['irps'] == counts['irps']


@BUSES
def test_nothread_says_that_the_disk_timed_out(run, scratch, bus):
    m = run('nothread', '--size', '512', '--writes', '2', expect=qemu.FAILED,
            options=['iotimeout=2', 'then=poweroff'], bound=120,
            disks=[qemu.Disk(scratch(MIB), bus, DEAF)])
    assert 'nothread: write 2 of 2 failed: STATUS_IO_TIMEOUT' in m.console


@BUSES
def test_a_disk_that_is_slow_goes_on(run, scratch, bus):
    """All writes wait for longer than the time-out, those of the second program
    for the first one's; but each has its turn."""
    m = run('sh', '-c', 'nothread --writes 16 & '
            'nothread --writes 16 --offset 65536; wait', cpus=2,
            options=['iotimeout=1', 'then=poweroff'], bound=120,
            disks=[qemu.Disk(scratch(MIB), bus, 'throttling.iops-total=10')])
    assert 'TIMEOUT' not in m.console, m.report('timed out')
    assert m.console.count('bytes are as they should be') == 2


@BUSES
@pytest.mark.parametrize('checked', [False, True], ids=['free', 'checked'])
def test_a_kill_waits_for_the_deaf_disk(machine, fixtures, scratch, checked,
                                        bus):
    """The program dies when its write has timed out; then all works."""
    m = machine(kernel=fixtures.checked if checked else fixtures.kernel,
                initrd=fixtures.initrd, options=['iotimeout=3'],
                disks=[qemu.Disk(scratch(MIB), bus, DEAF)])
    shell = Shell(m)
    shell.run('counts')
    shell.start('nothread --size 512 --writes 6', 'is done ...')
    said = shell.interrupt()
    assert 'STATUS_CONTROL_C_EXIT' in said
    m.hmp('block_set_io_throttle disk0 0 0 0 0 0 0')
    assert 'bytes are as they should be' in shell.run('nothread --writes 6')
    assert shell.counts()['irps'] == 0


@BUSES
@pytest.mark.parametrize('seed', range(1, 21 if boot.STRESS else 2))
@pytest.mark.parametrize('cpus', [1, 4])
def test_interrupts_get_lost_or_come_for_nothing(run, fixtures, scratch, cpus,
                                                 seed, bus):
    m = run('true', kernel=fixtures.checked,
            disks=[qemu.Disk(scratch(), bus)],
            cpus=cpus, options=['ktest=faults_*', 'iotimeout=1',
                                f'seed={seed}', 'then=poweroff'])
    found = ktap.results(m.com2)
    assert sorted(found) == [
        'faults_interrupts_for_nothing', 'faults_lost_interrupts',
        'faults_repeated_interrupts', 'faults_some_of_many_lost']
    assert all(passed for passed, _, _ in found.values()), m.com2
