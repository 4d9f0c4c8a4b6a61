"""test_top.py - the program top: what it says while a slow disk works, held
against what QEMU knows, and what it leaves on the screen.
"""
import re

import pytest

import qemu

from harness import shell

WRITES = 200
CPU = re.compile(r'^ *(\d+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +(\d+) +'
                 r'(\d+)  (\S.*)$', re.M)
FLYING = re.compile(r'in flight: ([\d,]+) +threads working on I/O: (\d+)')
DISK = re.compile(r'^  DR0 +(\d+) at the device, +(\d+) queued$', re.M)
ROUND = re.compile(r'^TINT top, round (\d+):', re.M)
COLUMNS, LINES = 80, 24


def start(machine, scratch, fixtures, bus='ide', cpus=2, **options):
    return machine(kernel=fixtures.either, initrd=fixtures.initrd, cpus=cpus,
                   disks=[qemu.Disk(scratch(), bus,
                                    'throttling.iops-total=3')], **options)


def written(m):
    """The writes that QEMU's disk has finished."""
    stats = m.qmp('query-blockstats')
    return sum(each['stats']['wr_operations'] for each in stats)


def rounds(text):
    """The rounds of a batch, each as text."""
    starts = [match.start() for match in ROUND.finditer(text)]
    return [text[a:b] for a, b in zip(starts, [*starts[1:], None])]


@pytest.mark.parametrize('bus', ['ide', 'nvme'])
def test_much_in_flight_and_nobody_busy(machine, scratch, fixtures, bus):
    """The writes that top counts are those that the disk has not done, by
    QEMU's count; no thread works on them, and the processors are halted."""
    m = start(machine, scratch, fixtures, bus)
    prompt = shell.Shell(m)
    prompt.type(f'nothread --writes {WRITES} &\r')
    m.expect('Nothing more is printed until the last one is done')
    prompt.type('\r')
    prompt.until_prompt()
    for _ in range(3):
        # The first round of all may see writes that are still being issued.
        before = written(m)
        text = prompt.run('top -b -n 1 -d 1')
        after = written(m)
        flying, working = FLYING.search(text).groups()
        flying = int(flying.replace(',', ''))
        # QEMU counts a write before its interrupt is served.
        assert WRITES - after - 1 <= flying <= WRITES - before, text
        assert working == '0'
        at_device, queued = map(int, DISK.search(text).groups())
        assert at_device + queued == flying
        assert at_device == (1 if bus == 'ide' else flying)
        assert re.search(r'^ +\d+ +\d+ nothread +waiting +packet in a port',
                         text, re.M)
        processors = CPU.findall(text)
        assert [each[0] for each in processors] == ['0', '1']
        for _, *shares, _, _, _ in processors:
            idle, thread, dpc, isr = map(float, shares)
            assert 99 <= idle + thread + dpc + isr <= 101, text
    # top has ended: outside, too, both processors stand at their hlt.
    assert any(re.findall(r'HLT=(\d)', m.hmp('info registers -a'))
               == ['1', '1'] for _ in range(200))


def test_idle_is_what_is_not_busy(machine, scratch, fixtures):
    """A program that computes takes what was idle before; it leads the list."""
    m = start(machine, scratch, fixtures, cpus=1)
    prompt = shell.Shell(m)
    quiet = CPU.search(prompt.run('top -b -n 1 -d 2'))
    prompt.type('busy &\r')
    prompt.until_prompt()
    text = prompt.run('top -b -n 1 -d 2')
    loud = CPU.search(text)
    assert float(loud.group(2)) == 0 and float(loud.group(3)) > 50, text
    assert float(quiet.group(2)) > 0
    first = re.search(r'WAITS FOR.*\n +\d+ +\d+ (\S+)', text)
    assert first.group(1) == 'busy', text


def test_rounds_help_and_errors(machine, scratch, fixtures):
    prompt = shell.Shell(start(machine, scratch, fixtures))
    text = prompt.run('top -b -n 3 -d 0.1')
    assert [int(n) for n in ROUND.findall(text)] == [1, 2, 3]
    assert '\x1b' not in text
    assert 'usage: top' in prompt.run('top --help')
    for wrong in ('-n', '-n 0', '-n x', '-d', '-d 0', '-d 1.5.2', '-d 4000',
                  '--fast', 'all'):
        text = prompt.run(f'top {wrong}')
        assert 'top --help tells more' in text and 'status 2' in text, wrong


class Screen:
    """A terminal, as far as top uses one."""

    def __init__(self):
        self.lines = [''] * LINES
        self.row = self.column = 0

    def feed(self, text):
        for part in re.findall(r'\x1b\[[\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+', text):
            line = self.lines[self.row]
            if part == '\r':
                self.column = 0
            elif part == '\n':
                assert self.row < LINES - 1, 'the screen scrolls'
                self.row += 1
            elif part == '\x1b[H':
                self.row = self.column = 0
            elif part == '\x1b[2J':
                self.lines = [''] * LINES
            elif part == '\x1b[K':
                self.lines[self.row] = line[:self.column]
            elif part == '\x1b[J':
                self.lines[self.row] = line[:self.column]
                self.lines[self.row + 1:] = [''] * (LINES - self.row - 1)
            else:
                assert part[0] != '\x1b', f'unknown: {part!r}'
                end = self.column + len(part)
                assert end <= COLUMNS, part
                self.lines[self.row] = (line[:self.column].ljust(self.column)
                                        + part + line[end:])
                self.column = end


@pytest.mark.parametrize('key', ['q', shell.CTRL_C], ids=['q', 'ctrl-c'])
def test_the_screen(machine, scratch, fixtures, key):
    """It is drawn in place, and what comes behind a key is the shell's."""
    m = start(machine, scratch, fixtures, cpus=4)
    prompt = shell.Shell(m)
    prompt.type(f'nothread --writes {WRITES} &\r')
    m.expect('Nothing more is printed until the last one is done')
    prompt.type('top -d 0.2\r')
    text = m.expect('round 1:') + m.expect('round 4:')
    prompt.type('x')                    # no key of top's
    text += m.expect('round 5:')
    prompt.type(key + 'echo still here\r')
    text += m.expect(shell.AT_PROMPT)
    assert 'still here' in prompt.until_prompt()
    screen = Screen()
    screen.feed(text[text.index('\x1b[2J'):])
    shown = '\n'.join(screen.lines)
    assert shown.count('TINT top, round') == 1, shown
    assert len(CPU.findall(shown)) == 4 and FLYING.search(shown)
    # The prompt stands below all that is shown.
    assert screen.lines[screen.row].startswith(shell.PROMPT), shown
    assert not any(screen.lines[screen.row + 1:])
