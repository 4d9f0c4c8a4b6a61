"""test_boot.py - both ways to boot, what must be there, and command lines."""
import re

import pytest

import qemu

from harness import boot

BANNER = re.compile(r'^TINT \S+ \((free|checked) build\): (?:1 processor|\d+ processors), '
                    r'(\d+) MiB, (\d+) disks?$', re.M)
QUOTED = ['a b', 'c"d', "it's", 'B:\\files\\x', '\\\\', 'tail\\', '-',
          '--', 'k=v', '$HOME `x` #y; z']


def banner(m):
    found = BANNER.findall(m.console)
    assert len(found) == 1, m.report('no banner')
    build, memory, disks = found[0]
    return build, int(memory), int(disks)


@pytest.mark.parametrize('cpu', ['max', 'qemu64'])
@pytest.mark.parametrize('checked', [False, True], ids=['free', 'checked'])
def test_direct_boot_reaches_a_program(run, fixtures, scratch, cpu, checked):
    kernel = fixtures.checked if checked else fixtures.kernel
    m = run('echo', 'a program', 'speaks', cpu=cpu, kernel=kernel,
            disks=[qemu.Disk(scratch())])
    build, memory, disks = banner(m)
    assert build == ('checked' if checked else 'free')
    assert 120 <= memory <= 128 and disks == 1
    assert m.console.endswith('\na program speaks\n')


@pytest.mark.parametrize('cpu', ['max', 'qemu64'])
def test_grub_reaches_a_program(machine, fixtures, iso_image, scratch, cpu):
    disk = scratch()
    image = iso_image(program=['nothread', 'B:\\files\\odd.bin'],
                      kernel=fixtures.kernel, initrd=fixtures.initrd)
    m = machine(iso=image, kernel=fixtures.kernel, cpu=cpu,
                disks=[qemu.Disk(disk)])
    m.expect_status(qemu.PASSED)
    assert banner(m)[2] == 1
    content = fixtures.content('odd.bin')
    assert disk.read_bytes()[:len(content)] == content


def test_both_loaders_hand_over_the_same_words(machine, fixtures, iso_image,
                                               run):
    direct = run('echo', *QUOTED)
    image = iso_image(program=['echo', *QUOTED], kernel=fixtures.kernel,
                      initrd=fixtures.initrd)
    grub = machine(iso=image, kernel=fixtures.kernel)
    grub.expect_status(qemu.PASSED)
    line = ' '.join(QUOTED) + '\n'
    for m in (direct, grub):
        assert m.console.endswith(f'disks\n{line}'), m.report(repr(line))


def test_empty_words_and_tabs_arrive(run):
    """GRUB has no way to write these: only `qemu -append` does."""
    m = run('echo', '', 'a', '\t', '')
    assert m.console.endswith('disks\n a \t \n')


def test_32_mib_are_enough_for_nothread(run, fixtures, scratch):
    disk = scratch()
    m = run('nothread', 'B:\\files\\odd.bin', mem='32M',
            disks=[qemu.Disk(disk)])
    assert 28 <= banner(m)[1] <= 32
    content = fixtures.content('odd.bin')
    assert disk.read_bytes()[:len(content)] == content


@pytest.mark.parametrize('mem', ['32M', '128M', '512M'])
def test_the_initrd_may_lie_where_the_firmware_keeps_memory(run, scratch, mem):
    """For an NVMe disk SeaBIOS takes from the end of RAM, where QEMU has put
    the initrd: its last pages, those of README.md, are in no free range."""
    m = run('cat', 'B:\\files\\README.md', mem=mem,
            disks=[qemu.Disk(scratch(), 'nvme')])
    readme = (boot.ROOT / 'README.md').read_text(encoding='latin-1')
    assert m.console.replace('\r', '').endswith(readme)


@pytest.mark.parametrize('mem', ['12M', '16M', '24M', '30M'])
def test_less_memory_is_refused(run, mem):
    m = run('true', mem=mem, expect=qemu.BUGCHECK)
    assert 'less than 32 MiB of memory' in m.console
    assert 'STOP' not in m.console


def test_less_memory_is_refused_under_grub(machine, fixtures, iso_image):
    image = iso_image(kernel=fixtures.kernel, initrd=fixtures.initrd)
    m = machine(iso=image, kernel=fixtures.kernel, mem='24M')
    m.expect_status(qemu.BUGCHECK)
    assert 'less than 32 MiB of memory' in m.console


@pytest.mark.parametrize('cpu, missing', [
    ('qemu32', 'long mode'), ('qemu64,-lm', 'long mode'),
    ('qemu64,-nx', 'NX'), ('qemu64,-syscall', 'SYSCALL'),
    ('qemu64,-apic', 'APIC'), ('qemu64,-sse2', 'SSE2'),
    ('qemu64,-fxsr', 'FXSR'), ('qemu64,-tsc', 'TSC')])
def test_a_processor_that_lacks_something_is_refused(run, cpu, missing):
    m = run('true', cpu=cpu, expect=qemu.BUGCHECK)
    lines = [line for line in m.console.splitlines() if line]
    assert len(lines) == 1 and missing in lines[0]


@pytest.mark.parametrize('off, missing', [('pit=off', 'PIT'),
                                          ('acpi=off', 'MADT')])
def test_a_machine_that_lacks_something_is_refused(run, off, missing):
    m = run('true', extra=['-machine', off], expect=qemu.BUGCHECK)
    lines = [line for line in m.console.splitlines() if line]
    assert len(lines) == 1 and missing in lines[0]


def test_no_initrd_is_refused(run):
    m = run('true', initrd='', expect=qemu.BUGCHECK)
    assert 'no initrd' in m.console and 'STOP' not in m.console


def test_no_initrd_is_refused_under_grub(machine, fixtures, iso_image):
    image = iso_image(kernel=fixtures.kernel, initrd=None)
    m = machine(iso=image, kernel=fixtures.kernel)
    m.expect_status(qemu.BUGCHECK)
    assert 'no initrd' in m.console and 'STOP' not in m.console


def broken_initrds(whole):
    yield 'noise', bytes(range(256)) * 64
    yield 'one-byte', b'x'
    yield 'zeros', bytes(4096)
    yield 'checksum', b'!' + whole[1:]
    yield 'huge-size', whole[:124] + b'77777777777\0' + whole[136:]
    yield 'cut', whole[:len(whole) // 2]


@pytest.mark.parametrize('kind', [
    'noise', 'one-byte', 'zeros', 'checksum', 'huge-size', 'cut'])
def test_a_corrupt_initrd_is_refused(run, fixtures, tmp_path, kind):
    content = dict(broken_initrds(fixtures.initrd.read_bytes()))[kind]
    initrd = tmp_path / 'initrd.tar'
    initrd.write_bytes(content)
    m = run('true', initrd=initrd, expect=qemu.BUGCHECK)
    assert 'initrd is damaged' in m.console and 'STOP' not in m.console


def test_no_disk_is_said(run):
    m = run('nothread', expect=qemu.FAILED)
    assert banner(m)[2] == 0 and 'STATUS_NO_SUCH_DEVICE' in m.console


# ---- Command lines ----------------------------------------------------------

def test_unknown_and_bad_keys_are_named_and_ignored(run, fixtures):
    bad = ['nonsense=1', 'word', 'trace=maybe', 'port=7', 'iotimeout=0',
           'iotimeout=x', 'seed=', 'cpus=0', '=', 'then=dance', 'ktest=*']
    m = run('echo', 'alive', options=[*bad, 'then=poweroff'],
            kernel=fixtures.kernel)     # the checked one knows ktest=
    for option in bad:
        assert f"ignored option '{option}'" in m.console
    assert m.console.count('ignored') == len(bad)
    assert m.console.endswith('alive\n')


def test_a_bad_value_of_then_changes_nothing(machine, fixtures):
    """Without then=poweroff the first program is started again."""
    m = machine(kernel=fixtures.kernel, initrd=fixtures.initrd,
                program=['true'], options=['then=dance'])
    m.expect('starting it again')
    m.expect('starting it again')


ODD = {
    'open-quote': 'then=poweroff -- echo "alive',
    'late-quote': 'then=poweroff -- echo alive"',
    'backslash': 'then=poweroff -- echo alive\\',
    'apostrophe': "then=poweroff -- echo 'alive",
    'blanks': '   then=poweroff    --   echo   alive   ',
    'all-quoted': '"then=poweroff" "--" "echo" "alive"',
    'bytes': '\x7f\x80\xff then=poweroff -- echo alive',
    'empty-keys': 'then=poweroff "" "=" = == -- echo alive',
    'format': 'then=poweroff %s%n%x -- echo alive',
    'long-key': 'x' * 300 + ' then=poweroff -- echo alive',
    'long-value': 'k=' + 'v' * 300 + ' then=poweroff -- echo alive',
}


@pytest.mark.parametrize('kind', ODD)
def test_odd_command_lines_still_run_the_program(run, kind):
    m = run(append=ODD[kind])
    assert re.search(r"^'?alive\\?$", m.console, re.M), m.report('not alive')


NOT_RUN = {
    'long-name': 'p' * 300, 'longer-name': 'p' * 1900,
    'open-quote': '"' + 'p ' * 1000, 'empty': '""', 'backslash': '\\',
    'dots': '../' * 80 + 'true', 'folder': 'B:\\', 'console': 'CON',
    'disk': '\\\\.\\PhysicalDrive0', 'text': 'B:\\files\\odd.bin',
}


@pytest.mark.parametrize('kind', NOT_RUN)
def test_what_cannot_be_run_is_said(run, scratch, kind):
    m = run(append=f'then=poweroff -- {NOT_RUN[kind]}', expect=qemu.FAILED,
            disks=[qemu.Disk(scratch())])
    assert 'STOP' not in m.console
    assert 'TINT: cannot start' in m.console, m.report('silent')
    assert m.console.endswith('\n')


@pytest.mark.parametrize('grub', [False, True], ids=['direct', 'grub'])
def test_too_long_a_command_line_is_refused(machine, fixtures, iso_image,
                                            grub):
    """Rather than that something else runs than was asked for. (QEMU's own
    PVH loader has room for 4 KiB.)"""
    words = ['then=poweroff', *['k=v'] * (5000 if grub else 900)]
    where = {'append': ' '.join([*words, '--', 'false'])}
    if grub:
        where = {'iso': iso_image(words, ['false'], kernel=fixtures.kernel,
                                  initrd=fixtures.initrd)}
    m = machine(kernel=fixtures.kernel, initrd=fixtures.initrd, **where)
    m.expect_status(qemu.BUGCHECK)
    assert 'the command line is too long' in m.console
