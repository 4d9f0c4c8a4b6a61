"""test_nvme.py - what only NVMe disks do: thousands of requests at the device,
transfers in several commands, a reset that sends the others again.

What all disks do is in test_disk.py and test_device_faults.py, on either bus.
"""
import re
import signal
import subprocess
import time

import pytest

import qemu

from harness import boot, ktap
from harness.shell import Shell

MIB = boot.MIB
SECTOR = 512
RING = 2047                         # commands that QEMU's rings hold
DEAF = 'throttling.bps-write=1'     # the first write passes, the next waits
ROADS = pytest.mark.parametrize('port', ['apc', 'direct'])


def sectors(count):
    """What the program flood writes."""
    return b''.join(bytes([i % 255 + 1]) * SECTOR for i in range(count))


def nvme(path, options='', device=''):
    return qemu.Disk(path, 'nvme', options, device)


def takes(device):
    """Whether this QEMU has such a disk: one without a limit of the length of
    transfers (mdts=0) is refused from QEMU 10 on."""
    return subprocess.run(
        [qemu.QEMU, '-accel', 'tcg', '-machine', 'pc', '-nodefaults', '-S',
         '-display', 'none', '-monitor', 'stdio',
         '-device', f'nvme,serial=0,{device}'],
        input=b'quit\n', capture_output=True).returncode == 0


def hear(m, disk='disk0'):
    """From now on the disk answers."""
    m.hmp(f'block_set_io_throttle {disk} 0 0 0 0 0 0')


def ended(m):
    """{how: number} of flood's last line."""
    text = m.expect(re.compile(rb'flood: \d+ success.* other(?=\r?\n)'), 120)
    return {how: int(n) for n, how in
            re.findall(r'(\d+) (\w+)', text[text.rindex('flood:'):])}


@pytest.fixture
def started(machine, fixtures, scratch):
    """Boots with one deaf disk, up to the prompt; the machine, the disk."""
    def start(*options):
        disk = scratch(8 * MIB)
        m = machine(kernel=fixtures.checked, initrd=fixtures.initrd,
                    options=options, disks=[nvme(disk, DEAF)])
        return Shell(m), m, disk
    return start


@ROADS
def test_more_than_the_ring_holds(started, port):
    shell, m, disk = started(f'port={port}')
    count = 2 * RING + 300
    shell.start(f'flood 0 {count}', f'sent {count}')
    hear(m)
    assert ended(m)['success'] == count
    shell.until_prompt()
    assert shell.counts()['irps'] == 0
    assert disk.read_bytes() == sectors(count) + bytes(
        8 * MIB - count * SECTOR)


@ROADS
def test_what_waits_is_cancelled(started, port):
    """What is at the device runs to its end; of the rest nothing is written,
    but for what takes the place of the first ones, that the disk did."""
    shell, m, disk = started(f'port={port}')
    said = shell.start(f'flood 0 {RING + 500} cancel', 'at once')
    cancelled = int(re.search(r'(\d+) cancelled at once', said).group(1))
    assert 500 - 5 <= cancelled <= 500
    hear(m)
    left = RING + 500 - cancelled
    assert ended(m) == {'success': left, 'cancelled': cancelled, 'timeout': 0,
                        'other': 0}
    shell.until_prompt()
    assert shell.counts()['irps'] == 0
    found, written = disk.read_bytes(), sectors(RING + 500)
    assert found[:RING * SECTOR] == written[:RING * SECTOR]
    others = {at: found[at:at + SECTOR] for at in
              range(RING * SECTOR, len(found), SECTOR)
              if any(found[at:at + SECTOR])}
    assert len(others) == left - RING
    assert all(what == written[at:at + SECTOR] for at, what in others.items())


def test_a_dying_program_waits_for_what_is_at_the_device(started):
    shell, m, _ = started()
    shell.start(f'flood 0 {RING + 500}', 'sent')
    m.send('\x03')
    hear(m)
    shell.until_prompt()
    assert shell.counts()['irps'] == 0
    assert 'bytes are as they should be' in shell.run('nothread --writes 6')


# ---- Sizes ------------------------------------------------------------------

@pytest.mark.parametrize('device', ['', 'mdts=1', 'mdts=0',
                                    'max_ioqpairs=1'])
@pytest.mark.parametrize('size', [12288, 9 * 4096, 10 * 4096, 524288,
                                  524288 + 4096, 2 * MIB + 512, 3 * MIB])
def test_long_transfers(run, fixtures, scratch, device, size):
    """One request is as many commands as the device wants."""
    if not takes(device):
        pytest.skip(f'this QEMU has no disk with {device}')
    disk = scratch(8 * MIB)
    m = run('nothread', 'B:\\files\\odd.bin', '--writes', '2', '--size',
            str(size), disks=[nvme(disk, device=device)])
    content = fixtures.content('odd.bin')
    should = (content * (2 * size // len(content) + 1))[:2 * size]
    assert disk.read_bytes() == should + bytes(8 * MIB - 2 * size)
    assert 'bytes are as they should be' in m.console


def test_buffers_that_begin_inside_a_page(run, scratch):
    disk = scratch(4 * MIB)
    cases = [(0, 512), (4096, 4096), (16384, 8192), (32768, 12288),
             (65536, 524288), (MIB, MIB + 512)]
    words = [str(word) for offset, length in cases
             for word in (0, 'q', offset, length)]
    run('rawio', *words, '0', 'o', '0', '512', disks=[nvme(disk)],
        expect=qemu.FAILED)
    should = bytearray(4 * MIB)
    for n, (offset, length) in enumerate(cases):
        should[offset:offset + length] = bytes([ord('A') + n]) * length
    assert disk.read_bytes() == should


def test_sectors_of_4096_bytes(run, fixtures, scratch):
    disk = scratch(MIB)
    m = run('sh', '-c', 'nothread B:\\files\\page.bin --writes 9; '
            'rawio 0 w 512 512 0 w 0 512',
            disks=[nvme(disk, device='physical_block_size=4096,'
                          'logical_block_size=4096')],
            expect=qemu.FAILED)
    assert disk.read_bytes() == fixtures.content('page.bin') * 9 + bytes(
        MIB - 9 * 4096)
    assert m.console.count('INVALID_PARAMETER') == 2


# ---- Resets -----------------------------------------------------------------

def test_a_time_out_resets_and_the_disk_goes_on(run, scratch):
    disk = scratch(MIB)
    m = run('sh', '-c', 'rawio 0 w 0 512 0 w 512 512 0 r 1024 512; '
            'rawio 0 r 0 512 0 f 0 0; counts',
            options=['iotimeout=1', 'then=poweroff'],
            disks=[nvme(disk, DEAF)])
    said = re.findall(r'^0 (\w \d+) \d+: (STATUS_\w+)', m.console, re.M)
    assert said == [
        ('w 0', 'STATUS_SUCCESS'), ('w 512', 'STATUS_IO_TIMEOUT'),
        ('r 1024', 'STATUS_SUCCESS'), ('r 0', 'STATUS_SUCCESS'),
        ('f 0', 'STATUS_SUCCESS')], m.report('not so')
    assert 'irps=0' in m.console
    after = disk.read_bytes()
    assert after[:512] == b'A' * 512 and not any(after[1024:])
    assert after[512:1024] in (b'B' * 512, bytes(512))


@ROADS
def test_many_time_outs(started, port):
    """A full ring and more, at a disk that never answers: all end."""
    shell, m, _ = started(f'port={port}', 'iotimeout=1')
    count = RING + 500
    shell.start(f'flood 0 {count}', 'sent')
    how = ended(m)
    assert sum(how.values()) == count and how['timeout'] >= RING, how
    assert not how['cancelled'] and not how['other'], how
    shell.until_prompt()
    hear(m)
    assert shell.counts()['irps'] == 0
    assert 'bytes are as they should be' in shell.run('nothread --writes 64')


def others_are_sent_again(shell, m, disk, late='', others=''):
    """The first program's write is late, those of the second are not; both by
    words for flood that say from where they are sent."""
    shell.type(f'flood 0 2 {late} & waiter 2000; flood 0 40 {others}\r')
    m.expect('sent 40')
    assert ended(m) == {'success': 1, 'cancelled': 0, 'timeout': 1, 'other': 0}
    hear(m)
    assert ended(m) == {'success': 40, 'cancelled': 0, 'timeout': 0,
                        'other': 0}
    assert disk.read_bytes()[:40 * SECTOR] == sectors(40)


def test_a_reset_sends_the_others_again(started):
    others_are_sent_again(*started('iotimeout=5'))


def test_a_reset_sends_other_queues_again(machine, fixtures, scratch):
    """What is late is processor 0's; nothing of processor 1's is lost, or said
    to be done before the disk has taken it a second time."""
    disk = scratch(8 * MIB)
    m = machine(kernel=fixtures.checked, initrd=fixtures.initrd, cpus=2,
                options=['iotimeout=5'], disks=[nvme(disk, DEAF)],
                trace=['pci_nvme_write', 'pci_nvme_mmio_start_success'])
    others_are_sent_again(Shell(m), m, disk, 'move 2', 'move 0')
    log = (m.logs / 'qemu.log').read_text(errors='replace')
    after = log[log.rindex('pci_nvme_mmio_start_success'):]
    assert after.count('pci_nvme_write ') == 40


def test_a_time_out_gives_back_the_list_of_its_pages(started):
    """A write of many pages has one, whatever becomes of it."""
    shell, m, _ = started('iotimeout=1')
    shell.run('rawio 0 w 0 512')    # the one that a deaf disk does take
    before = shell.steady()
    said = shell.run('rawio' + ' 0 w 0 65536' * 8)
    assert said.count('STATUS_IO_TIMEOUT') == 8, said
    shell.comes_back(before)


def test_a_queue_that_waits_for_another_is_not_late(run, scratch, fixtures):
    """Of three writes, 1.4 s each, the third one waits in a queue of its own,
    where it is the oldest all the time."""
    m = run('flood', '0', '3', 'move', '2', cpus=2, initrd=fixtures.initrd,
            options=['iotimeout=2', 'then=poweroff'], bound=60,
            disks=[nvme(scratch(MIB), 'throttling.bps-write=366')])
    assert '3 success' in m.console, m.report('not so')


def test_a_controller_that_cannot_be_used_is_told(run, scratch):
    m = run('true', disks=[nvme(scratch(MIB),
                                device='msix_qsize=1,max_ioqpairs=1')])
    assert 'TINT: driver nvme: status 0xC00000A3\n' in m.console
    assert ', 0 disks\n' in m.console


@pytest.mark.parametrize('format', ['ms=8,mset=1', 'ms=8,pi=1'])
def test_a_namespace_with_metadata_is_refused(run, scratch, format):
    """The device would move more bytes than the buffer has."""
    disk = scratch(MIB)
    m = run('true', extra=(
        '-drive', f'if=none,id=ns,format=raw,file={qemu.quote(disk)}',
        '-device', 'nvme,id=n,serial=n',
        '-device', f'nvme-ns,drive=ns,bus=n,{format}'))
    assert 'TINT: driver nvme: status 0xC00000A3\n' in m.console
    assert ', 0 disks\n' in m.console


@pytest.mark.parametrize('hears', [True, False])
def test_a_machine_that_stood_still_blames_no_disk(started, hears):
    """QEMU is suspended for longer than a request may take: the disk has one
    more period, and no third one."""
    shell, m, disk = started('iotimeout=3')
    shell.start('flood 0 2', 'sent 2')
    m.process.send_signal(signal.SIGSTOP)
    time.sleep(4)
    m.process.send_signal(signal.SIGCONT)
    if hears:
        hear(m)
        assert ended(m)['success'] == 2
        assert disk.read_bytes()[:2 * SECTOR] == sectors(2)
    else:
        assert ended(m)['timeout'] == 1


# ---- As QEMU sees it --------------------------------------------------------

def test_shutdown_is_said(run, scratch):
    """To each controller."""
    m = run('true', disks=[nvme(scratch(MIB)), nvme(scratch(MIB))],
            trace=['pci_nvme_mmio_shutdown_set',
                   'pci_nvme_mmio_shutdown_cleared'])
    log = (m.logs / 'qemu.log').read_text()
    assert log.count('pci_nvme_mmio_shutdown_set') == 2


def test_who_sends_is_interrupted(run, scratch):
    """Queue n's message goes to processor n - 1, which alone sends there."""
    m = run('flood', '0', '40', 'move', '20', cpus=2,
            disks=[nvme(scratch(MIB))],
            trace=['pci_nvme_irq_msix', 'apic_deliver_irq', 'pci_nvme_write'])
    log = (m.logs / 'qemu.log').read_text(errors='replace')
    said = re.findall(r'pci_nvme_irq_msix .*vector ([1-9]).*\n'
                      r'(?:.*\n)??.*apic_deliver_irq dest (\d+)', log)
    assert {(int(queue) - 1, int(processor)) for queue, processor in said} == {
        (0, 0), (1, 1)}, said


@pytest.mark.parametrize('count, bells', [(1, 1), (64, 1), (65, 2), (200, 4)])
def test_an_array_rings_once(run, fixtures, scratch, count, bells):
    """For up to 64 writes, which are all sent in one stay (SL_MORE_FOLLOWS)."""
    disk = scratch(MIB)
    m = run('volley', '0', str(count), disks=[nvme(disk)],
            trace=['pci_nvme_mmio_doorbell_sq', 'pci_nvme_write'])
    log = (m.logs / 'qemu.log').read_text(errors='replace')
    assert log.count('pci_nvme_write ') == count
    rung = re.findall(r'pci_nvme_mmio_doorbell_sq sqid [1-9]', log)
    assert len(rung) == bells, rung
    assert disk.read_bytes()[:count * SECTOR] == sectors(count)


def test_disks_of_both_kinds(run, fixtures, scratch):
    """IDE first, then NVMe, whatever QEMU's order."""
    places = [scratch(MIB) for _ in range(3)]
    m = run('sh', '-c', '; '.join(f'nothread B:\\files\\{name} --disk {n}'
                                  for n, name in enumerate(
                                      ['one.bin', 'page.bin', 'odd.bin'])),
            disks=[nvme(places[1]), qemu.Disk(places[0]), nvme(places[2])])
    assert ', 3 disks\n' in m.console
    for path, name in zip(places, ['one.bin', 'page.bin', 'odd.bin']):
        content = fixtures.content(name)
        assert path.read_bytes() == content + bytes(MIB - len(content))


def test_a_controller_that_is_dead(run, fixtures, scratch):
    m = run('true', kernel=fixtures.checked,
            disks=[qemu.Disk(scratch(MIB), 'nvme')],
            options=['ktest=dead_*', 'then=poweroff'])
    found = ktap.results(m.com2)
    assert sorted(found) == ['dead_controller_is_cut_off',
                             'dead_controller_keeps_its_queues']
    assert all(passed for passed, _, _ in found.values()), m.com2
