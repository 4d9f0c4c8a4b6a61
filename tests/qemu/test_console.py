"""test_console.py - the shell through COM1, and Ctrl-C wherever it may hit."""
import re

import pytest

import qemu

from harness import boot
from harness.shell import CTRL_C, KEPT_PAGES, Shell

UP, DOWN, RIGHT, LEFT = '\x1b[A', '\x1b[B', '\x1b[C', '\x1b[D'
HOME, END, DELETE = '\x1b[H', '\x1b[F', '\x1b[3~'
KILLED = 'STATUS_CONTROL_C_EXIT (0xC000013A)'
SLOW = 'throttling.iops-total=2'


@pytest.fixture(params=['free', 'checked'])
def shell(request, machine, fixtures, scratch):
    """A shell on a machine with two disks, the first of them slow."""
    kernel = fixtures.kernel if request.param == 'free' else fixtures.checked
    disks = [qemu.Disk(scratch(boot.MIB), options=SLOW),
             qemu.Disk(scratch(boot.MIB))]
    found = Shell(machine(kernel=kernel, initrd=fixtures.initrd, options=(),
                          disks=disks))
    found.fast = disks[1].path
    found.slow = disks[0].path
    return found


def full_speed(shell):
    """Takes the brake off the first disk; what it holds is done at once."""
    shell.machine.hmp('block_set_io_throttle disk0 0 0 0 0 0 0')


def echoed(shell, keys):
    """What the shell runs after these keys: the words as echo prints them."""
    return shell.run('echo ' + keys)


@pytest.mark.parametrize('keys, line', [
    ('abc', 'abc'), ('abd\x7fc', 'abc'), ('abd\x08c', 'abc'),
    ('bc' + LEFT * 2 + 'a', 'abc'), ('ac' + LEFT + 'b', 'abc'),
    ('abxc' + LEFT * 2 + DELETE, 'abc'), ('abc' + RIGHT * 3 + 'd', 'abcd'),
    ('x abc' + HOME + RIGHT * 5 + DELETE * 2, 'abc'),
    ('bc\x01' + RIGHT * 5 + 'a\x05d', 'abcd'),
    ('abcdef' + LEFT * 3 + '\x0b', 'abc'), ('one two\x17abc', 'one abc'),
    ('junk\x15echo abc', 'abc'), ('abc' + '\x02' * 3 + '\x06\x06X', 'abXc'),
    ('abc' + HOME + END + 'd', 'abcd'), ('a\x1b[99~b\x1bOZc', 'abc'),
    ('"a  b"', 'a  b'), ('x' * 200, 'x' * 200)],
    ids=lambda value: repr(value)[1:20])
@pytest.mark.parametrize('shell', ['free'], indirect=True)
def test_line_editing(shell, keys, line):
    assert echoed(shell, keys) .rpartition('\n')[0].split('\n')[-1] == line


@pytest.mark.parametrize('shell', ['free'], indirect=True)
def test_too_long_a_line_is_kept_in_bounds(shell):
    said = shell.run('echo ' + 'y' * 3000)
    assert '\ny' not in said[:1] and 'y' * 1000 in said
    assert shell.run('echo still here').endswith('still here\n')


@pytest.mark.parametrize('shell', ['free'], indirect=True)
def test_history(shell):
    assert shell.run('echo first').endswith('first\n')
    assert shell.run('echo second').endswith('second\n')
    assert shell.run(UP).endswith('second\n')
    assert shell.run(UP + UP).endswith('first\n')
    assert shell.run(UP * 2 + DOWN + '!').endswith('first!\n')
    said = shell.run('history')
    lines = re.findall(r'^ *\d+  (.*)$', said, re.M)
    assert lines[:2] == ['echo first', 'echo second']
    assert lines[-1] == 'history'


def test_the_prompt_takes_ctrl_c(shell):
    shell.run('counts')
    before = shell.counts()
    for _ in range(5):
        shell.type('echo this is not run')
        assert '^C' in shell.interrupt()
    assert shell.counts()['irps'] == before['irps']
    assert 'not run\n' not in shell.run('echo alive')


# ---- Ctrl-C -----------------------------------------------------------------

@pytest.mark.parametrize('line, sign', [
    ('busy', 'computing'), ('cat', 'typed'), ('waiter', 'waiting'),
    ('ticker', 'ticking'), ('sh -c busy', 'computing'),
    ('sh -c waiter', 'waiting'), ('sh -c cat', 'typed')])
def test_ctrl_c_ends_the_foreground(shell, line, sign):
    def round_():
        if line.endswith('cat'):
            shell.type(line + '\rtyped\n')
            shell.machine.expect(sign)
        else:
            shell.start(line, sign)
        said = shell.interrupt()
        assert '^C' in said
        assert KILLED in said, shell.machine.report(said)

    # The first rounds fill what the kernel keeps for the next program.
    for _ in range(3):
        round_()
    before = shell.steady()
    for _ in range(2 * KEPT_PAGES):
        round_()
    shell.comes_back(before)


def test_ctrl_c_at_once(shell):
    """Before, during and after the program's start: each time the shell is
    back and the next program is not hit by what was meant for this one."""
    for _ in range(10):
        shell.type('waiter 200\r' + CTRL_C)
        shell.until_prompt()
        # Where the byte found no program in the foreground it is the shell's.
        shell.type('echo in step\r')
        shell.machine.expect('in step\r\n')      # the echo
        shell.machine.expect('in step')
        shell.until_prompt()
    assert shell.run('echo unhurt').endswith('unhurt\n')


def test_ctrl_c_with_writes_in_flight(shell):
    """nothread on a slow disk dies with writes at the device and in line."""
    def kill_one():
        shell.start('nothread --disk 0 --writes 40', 'is done ...')
        said = shell.interrupt()
        assert '^C' in said and KILLED in said

    for _ in range(2):
        kill_one()
    before = shell.steady()
    for _ in range(KEPT_PAGES + 1):
        kill_one()
    shell.comes_back(before)
    full_speed(shell)
    said = shell.run('nothread --disk 0 --writes 40')
    assert 'read back, all 163,840 bytes are as they should be' in said
    readme = (boot.ROOT / 'README.md').read_bytes()
    whole = (readme * (163840 // len(readme) + 1))[:163840]
    assert shell.slow.read_bytes()[:163840] == whole
    assert shell.counts()['irps'] == before['irps']


def test_a_background_program_is_not_hit(shell):
    shell.run('waiter 1500 &')
    shell.start('busy', 'computing')
    assert KILLED in shell.interrupt()
    said = shell.run('wait')
    assert re.search(r'\[\d+\] waiter: status 0', said), said


def test_background_jobs(shell):
    said = shell.run('waiter 300 & false & true &')
    assert len(re.findall(r'^\[\d+\] (?:waiter|false|true)$', said, re.M)) == 3
    said += shell.run('wait') + shell.run('')
    for end in ('waiter: status 0', 'false: status 1', 'true: status 0'):
        assert re.search(rf'^\[\d+\] {end}$', said, re.M), said


def test_a_background_program_takes_no_keys(shell):
    """It is at the end of its input; also below a shell of its own."""
    shell.run('cat &')
    shell.run('sh -c cat &')
    for word in ['hello', 'world', 'all that is typed']:
        assert word in echoed(shell, word).splitlines()
    assert 'top: without the keyboard' in shell.run('top & wait')


def test_too_many_words(shell):
    said = echoed(shell, ' '.join(['x'] * 128))
    assert 'sh: a command has at most 128 words' in said
    assert echoed(shell, ' '.join(['x'] * 127)).count('x x') == 63


def test_statuses_are_said(shell):
    assert 'false: status 1' in shell.run('false')
    assert 'STATUS_ACCESS_VIOLATION' in shell.run('crash write')
    assert 'nothing-such: not found' in shell.run('nothing-such')
    assert 'last: status 127' in shell.run('status')


def test_ps_shows_the_threads(shell):
    shell.run('waiter 4000 &')
    said = shell.run('ps')
    rows = [line.split() for line in said.splitlines()]
    waiting = [row for row in rows if 'waiter' in row]
    assert len(waiting) == 1 and 'waiting' in waiting[0], said
    assert [row for row in rows if 'ps' in row and 'running' in row], said


def test_what_is_typed_before_the_boot_is_kept(machine, fixtures):
    m = machine(kernel=fixtures.kernel, initrd=fixtures.initrd, program=['sh'])
    m.send('echo early; shutdown\r')
    m.expect_status(qemu.PASSED)
    assert '\nearly\n' in m.console, m.report('nothing was run')


def test_exit_takes_a_number(shell):
    for wrong in ('abc', '1 2', '""', '1x', '99999999999'):
        assert 'usage: exit' in shell.run(f'exit {wrong}')


def test_exit_starts_the_shell_again(shell):
    for status in (0, 3):
        shell.type(f'exit {status}\r')
        shell.machine.expect(f'ended with status 0x0000000{status}; '
                             'starting it again')
        shell.until_prompt()
        assert shell.run('echo again').endswith('again\n')
    shell.type('\x04')                  # Ctrl-D on an empty line
    shell.machine.expect('starting it again')
    shell.until_prompt()
    shell.type('shutdown\r')
    shell.machine.expect_status(qemu.PASSED)


@pytest.mark.parametrize('shell', ['free'], indirect=True)
def test_a_flood_of_keys(shell):
    """More than any buffer holds, while nobody reads: bytes may be lost, the
    machine is not."""
    shell.start('busy', 'computing')
    shell.type('z' * 20000)
    assert KILLED in shell.interrupt()
    # Until the shell has eaten what was kept, more may be lost.
    alive = re.compile(rb'\nalive\r\n')
    assert any(shell.type('\x15echo alive\r') or shell.machine.comes(alive, 3)
               for _ in range(10))
