"""test_disk.py - what lies in the disk image after nothread, as the host sees
it: exactly the bytes asked for, and nothing else changed.
"""
import random

import pytest

import qemu

from harness import boot

SECTOR = 512
MIB = boot.MIB
LBA28_END = (1 << 28) * SECTOR          # the first byte beyond LBA28


BUSES = pytest.mark.parametrize('bus', ['ide', 'nvme'])


def fill(path, size, seed):
    """Makes a disk of random bytes, so that any change shows."""
    content = random.Random(seed).randbytes(size)
    # Noise in place of a boot sector must not look like a volume.
    content = b'\0' + content[1:]
    path.write_bytes(content)
    return content


def expected(before, content, offset, writes=None, size=4096):
    """The image after nothread: content at offset, padded with zeros to a
    sector; with writes, repeated or cut to writes * size bytes."""
    if writes:
        total = writes * size
        data = (content * (total // len(content) + 1))[:total]
    else:
        data = content + bytes(-len(content) % SECTOR)
    return before[:offset] + data + before[offset + len(data):]


def check(disk, before, content, offset, writes=None, size=4096):
    after = disk.read_bytes()
    should = expected(before, content, offset, writes, size)
    assert len(after) == len(should)
    if after != should:
        first = next(n for n in range(len(after)) if after[n] != should[n])
        pytest.fail(f'the image differs first at byte {first}')


@BUSES
@pytest.mark.parametrize('port', ['apc', 'direct'])
@pytest.mark.parametrize('name, options', [
    ('one.bin', {}), ('sector.bin', {}), ('over.bin', {}), ('page.bin', {}),
    ('odd.bin', {}), ('odd.bin', {'offset': 512}),
    ('odd.bin', {'size': 512, 'offset': 1536}),
    ('odd.bin', {'size': 65536}), ('odd.bin', {'size': 70144}),
    ('odd.bin', {'size': 131072 + 512, 'writes': 3}),
    ('over.bin', {'writes': 7, 'size': 1536}),
    ('one.bin', {'writes': 5, 'offset': 4096}),
    ('odd.bin', {'writes': 2, 'size': 512}),
    ('page.bin', {'writes': 300, 'size': 4096}),
], ids=lambda value: value if isinstance(value, str) else '-'.join(
    f'{key}{n}' for key, n in value.items()) or 'plain')
def test_exactly_these_bytes(run, fixtures, tmp_path, bus, port, name,
                             options):
    disk = tmp_path / 'disk.img'
    before = fill(disk, 2 * MIB, 1)
    words = [word for key, value in options.items()
             for word in (f'--{key}', str(value))]
    run('nothread', f'B:\\files\\{name}', *words,
        disks=[qemu.Disk(disk, bus)],
        options=[f'port={port}', 'then=poweroff'])
    check(disk, before, fixtures.content(name), options.get('offset', 0),
          options.get('writes'), options.get('size', 4096))


@BUSES
@pytest.mark.parametrize('seed', range(40 if boot.STRESS else 6))
def test_random_sizes_and_places(run, fixtures, tmp_path, seed, bus):
    draw = random.Random(1000 + seed)
    disk = tmp_path / 'disk.img'
    before = fill(disk, 4 * MIB, seed)
    words, content = ['sh', '-c'], before
    lines = []
    for _ in range(4):
        name = draw.choice(['one.bin', 'over.bin', 'page.bin', 'odd.bin'])
        size = SECTOR * draw.choice([1, 2, 7, 8, 127, 128, 129, 200])
        writes = draw.choice([None, 1, draw.randint(1, 20)])
        length = (writes * size if writes
                  else -(-len(fixtures.content(name)) // SECTOR) * SECTOR)
        offset = SECTOR * draw.randint(0, (4 * MIB - length) // SECTOR)
        lines.append(f'nothread B:\\files\\{name} --size {size} '
                     f'--offset {offset}'
                     + (f' --writes {writes}' if writes else ''))
        content = expected(content, fixtures.content(name), offset, writes,
                           size)
    m = run(*words, '; '.join(lines), disks=[qemu.Disk(disk, bus)],
            options=[f'port={draw.choice(["apc", "direct"])}',
                     'then=poweroff'])
    assert 'nothread: ' not in m.console
    assert disk.read_bytes() == content, m.report(' ; '.join(lines))


def test_four_disks_on_both_channels(run, fixtures, tmp_path):
    """Each its own place; the disks next to it stay as they were."""
    places = [tmp_path / f'{n}.img' for n in range(4)]
    before = [fill(path, MIB, n) for n, path in enumerate(places)]
    extra = []
    for n, path in enumerate(places):
        extra += ['-drive', f'if=none,id=d{n},format=raw,file={path}',
                  '-device', f'ide-hd,drive=d{n},bus=ide.{n // 2},'
                             f'unit={n % 2}']
    lines = '; '.join(f'nothread B:\\files\\odd.bin --disk {n} '
                      f'--offset {n * 512}' for n in range(4))
    m = run('sh', '-c', lines, extra=['-nodefaults', '-vga', 'none', *extra])
    assert ', 4 disks\n' in m.console
    for n, path in enumerate(places):
        check(path, before[n], fixtures.content('odd.bin'), n * 512)


def test_two_disks_at_once(run, fixtures, tmp_path):
    """One on each channel, written by two programs side by side."""
    places = [tmp_path / f'{n}.img' for n in range(2)]
    before = [fill(path, 2 * MIB, n) for n, path in enumerate(places)]
    extra = []
    for n, path in enumerate(places):
        extra += ['-drive', f'if=none,id=d{n},format=raw,file={path}',
                  '-device', f'ide-hd,drive=d{n},bus=ide.{n},unit=0']
    run('sh', '-c', 'nothread B:\\files\\odd.bin --disk 0 --writes 100 & '
        'nothread B:\\files\\page.bin --disk 1 --writes 100; wait',
        extra=['-nodefaults', '-vga', 'none', *extra])
    check(places[0], before[0], fixtures.content('odd.bin'), 0, 100)
    check(places[1], before[1], fixtures.content('page.bin'), 0, 100)


@BUSES
@pytest.mark.parametrize('number, status', [(0, qemu.PASSED),
                                            (1, qemu.PASSED),
                                            (2, qemu.FAILED)])
def test_the_disk_asked_for(run, fixtures, tmp_path, number, status, bus):
    places = [tmp_path / f'{n}.img' for n in range(2)]
    before = [fill(path, MIB, n) for n, path in enumerate(places)]
    m = run('nothread', 'B:\\files\\odd.bin', '--disk', str(number),
            disks=[qemu.Disk(path, bus) for path in places], expect=status)
    for n, path in enumerate(places):
        if n == number:
            check(path, before[n], fixtures.content('odd.bin'), 0)
        else:
            assert path.read_bytes() == before[n]
    if status == qemu.FAILED:
        assert 'STATUS_OBJECT_NAME_NOT_FOUND' in m.console


@BUSES
def test_a_volume_is_left_alone(run, fixtures, tmp_path, bus):
    """Without --disk the first disk that holds none is taken."""
    places = [tmp_path / f'{n}.img' for n in range(2)]
    before = [fill(path, MIB, n) for n, path in enumerate(places)]
    boot_sector = bytearray(before[0][:512])
    boot_sector[0:3] = b'\xeb\x3c\x90'
    boot_sector[11:13] = b'\x00\x02'
    boot_sector[510:512] = b'\x55\xaa'
    before[0] = bytes(boot_sector) + before[0][512:]
    places[0].write_bytes(before[0])
    run('nothread', 'B:\\files\\odd.bin',
        disks=[qemu.Disk(path, bus) for path in places])
    assert places[0].read_bytes() == before[0]
    check(places[1], before[1], fixtures.content('odd.bin'), 0)


@BUSES
@pytest.mark.parametrize('port', ['apc', 'direct'])
def test_beyond_2_to_the_28_sectors(run, fixtures, scratch, port, bus):
    """One write across the border of LBA28, one far behind it; what would
    lie there if the address lost its upper bits stays zero."""
    disk = scratch(size=LBA28_END + 1024 * MIB)
    content = fixtures.content('odd.bin')
    far = LBA28_END + 512 * MIB
    near = LBA28_END - 8192
    run('sh', '-c', f'nothread B:\\files\\odd.bin --size 16384 --offset {near}'
        f'; nothread B:\\files\\odd.bin --offset {far}',
        disks=[qemu.Disk(disk, bus)],
        options=[f'port={port}', 'then=poweroff'])
    padded = content + bytes(-len(content) % SECTOR)
    with open(disk, 'rb') as image:
        for place in (near, far):
            image.seek(place - SECTOR)
            assert image.read(len(padded) + 2 * SECTOR) == (
                bytes(SECTOR) + padded + bytes(SECTOR))
    # Sparse: what was written is all that takes room.
    assert disk.stat().st_blocks * 512 <= 2 * len(padded) + 64 * 1024


# ---- What is refused --------------------------------------------------------

@pytest.mark.parametrize('words', [
    ['--writes', '17', '--size', '4096'], ['--offset', '61440', '--writes',
                                           '2'],
    ['--offset', '65536', '--writes', '1'], ['--offset', '100'],
    ['--size', '100'], ['--size', '0'], ['--writes', '0'],
    ['--writes', '18446744073709551615'], ['--offset', '18446744073709551104'],
    ['--size', '99999999999'], ['--size', '-512'], ['--writes', 'x'],
    ['--offset'], ['--disk', '99'], ['--nonsense'], ['a', 'b']],
    ids=lambda words: ' '.join(words))
def test_nothread_refuses(run, tmp_path, words):
    disk = tmp_path / 'disk.img'
    before = fill(disk, 65536, 3)
    m = run('nothread', 'B:\\files\\page.bin', *words, expect=qemu.FAILED,
            disks=[qemu.Disk(disk)])
    assert 'nothread: ' in m.console, m.report('silent')
    assert disk.read_bytes() == before


def test_a_disk_that_is_too_small(run, tmp_path):
    disk = tmp_path / 'disk.img'
    before = fill(disk, 8192, 3)
    m = run('nothread', 'B:\\files\\odd.bin', expect=qemu.FAILED,
            disks=[qemu.Disk(disk)])
    assert 'beyond the disk' in m.console
    assert disk.read_bytes() == before


def test_a_file_that_is_missing(run, scratch):
    m = run('nothread', 'B:\\files\\missing', expect=qemu.FAILED,
            disks=[qemu.Disk(scratch())])
    assert 'STATUS_OBJECT_NAME_NOT_FOUND' in m.console


@BUSES
def test_raw_requests_at_the_edges(run, tmp_path, bus):
    """The kernel's own checks, without nothread's in front of them."""
    size = 65536
    disk = tmp_path / 'disk.img'
    before = fill(disk, size, 4)
    cases = [('w', 1, 512, 'INVALID_PARAMETER'),
             ('w', 0, 511, 'INVALID_PARAMETER'),
             ('o', 0, 512, 'INVALID_PARAMETER'),
             ('w', size, 512, 'INVALID_PARAMETER'),
             ('w', size - 512, 1024, 'INVALID_PARAMETER'),
             ('w', 2**63 - 512, 512, 'INVALID_PARAMETER'),
             ('r', size, 512, 'END_OF_FILE'),
             ('r', size - 512, 1024, 'SUCCESS (0x00000000) 512'),
             ('r', 1, 512, 'INVALID_PARAMETER'),
             ('w', 0, 0, 'SUCCESS (0x00000000) 0'),
             ('w', size - 512, 512, 'SUCCESS (0x00000000) 512')]
    words = [str(word) for case in cases for word in (0, *case[:3])]
    m = run('rawio', *words, expect=qemu.FAILED, disks=[qemu.Disk(disk, bus)])
    for what, offset, length, status in cases:
        assert f'0 {what} {offset} {length}: STATUS_{status}' in m.console, \
            m.report(f'{what} {offset} {length}')
    letter = bytes([ord('A') + len(cases) - 1])
    assert disk.read_bytes() == before[:-512] + letter * 512
