"""test_gdb.py - `make debug`: every `nt` command at every kind of stop, with
good and with bad addresses; and the session itself.

A command may say little, but it says it in lines: never a Python traceback,
and to a bad address exactly one line, which begins with its name.
"""
import fcntl
import os
import re
import shutil
import subprocess
import sys

import pytest

import qemu

from harness import debugger

pytestmark = pytest.mark.usefixtures('debugging')


def run(build, *arguments, **variables):
    """A session on a machine with an IDE disk, which most stops here want."""
    return debugger.run(build, *arguments, **{'DISK': 'ide', **variables})


ALL = ['irql', 'dpcs', 'apc', 'irp', 'irps', 'threads', 'thread', 'ready',
       'running', 'ps', 'handles', 'iocp', 'dev', 'devstack', 'drv', 'file',
       'pte', 'idt', 'pcr', 'timers', 'pool', 'locks', 'trace', 'why',
       'step-irq']
WITH_ADDRESS = ['apc', 'irp', 'thread', 'ps', 'handles', 'iocp', 'dev',
                'devstack', 'drv', 'file', 'pte', 'idt', 'pcr', 'pool']
GARBAGE = ['0xffff8000deadbeef', '0xffffdead00000000', '0xffffffffffffffff',
           '1/0', 'nosuch', '$rsp+1', '-1', 'ki_idle_hlt', '"text"', '((']
# What is an address of its own to these commands, and gets an answer.
ANSWERS = ('pte', 'pool')

# (name, commands that lead there, what `nt irql` must say there)
STOPS = [
    ('first_c', ['break *kernel_main', 'continue'], 'no kernel objects yet'),
    ('ring3', ['delete', 'break *_start', 'continue'],
     r'PASSIVE_LEVEL\)  \[ring 3\]'),
    ('call', ['delete', 'break *ki_system_call', 'continue'], 'PASSIVE_LEVEL'),
    ('swapped', ['stepi', 'stepi', 'stepi'], 'PASSIVE_LEVEL'),
    # The UART interrupts who has just given it its first bytes.
    ('stub', ['delete', 'break *ki_stub_64', 'continue'],
     r'DISPATCH_LEVEL\)  \[kernel\]'),
    ('isr', ['delete', 'break con_isr', 'continue'],
     r'\(device 4\)  \[ISR\]\n.*vector 0x40 interrupted'),
    ('apc', ['delete', 'break complete_apc', 'continue'], 'APC_LEVEL'),
    ('start', ['delete', 'break ide_start_io', 'continue'], 'DISPATCH_LEVEL'),
    ('dpc', ['delete', 'break ide_dpc', 'continue'],
     r'DISPATCH_LEVEL\)  \[DPC\]'),
    ('hlt', ['delete', 'break *ki_idle_hlt', 'continue'],
     r'PASSIVE_LEVEL\)  \[idle\]'),
]


def everything(stop):
    """The steps that try all commands at a stop."""
    steps = [(f'{stop} {name}', [f'nt {name}']) for name in ALL]
    steps += [(f'{stop} backtrace', ['backtrace'])]
    for name in WITH_ADDRESS:
        steps += [(f'{stop} {name} bad{i}', [f'nt {name} {bad}'])
                  for i, bad in enumerate(GARBAGE)]
    return steps


def check(said, stop):
    assert 'Backtrace stopped' not in said[f'{stop} backtrace'], stop
    for name in ALL:
        assert said[f'{stop} {name}'], f'nt {name} says nothing at {stop}'
    for name in WITH_ADDRESS:
        for i, bad in enumerate(GARBAGE):
            text = said[f'{stop} {name} bad{i}']
            lines = text.splitlines()
            assert lines, (stop, name, bad)
            if name not in ANSWERS:
                assert len(lines) == 1 and lines[0].startswith(f'nt {name}: '), \
                    (stop, name, bad, text)


@pytest.mark.parametrize('cpus', [1, 2])
def test_every_command_at_every_stop(fixtures, cpus):
    steps = [('reset', [])] + everything('reset')
    for stop, commands, _ in STOPS:
        steps += [(f'go {stop}', commands)] + everything(stop)
        if cpus > 1:            # the same, seen from the other processor
            steps += [(f'turn {stop}', ['thread 2'])]
            steps += everything(f'{stop}/2')
            steps += [(f'back {stop}', ['thread 1'])]
    # Without ARGS a shell stays at its prompt: the last stop surely comes.
    status, output = run(
        fixtures.build, script=debugger.script(steps), CPUS=cpus)
    said = debugger.answers(output)
    assert 'end' in said, output[-3000:]
    assert 'no kernel objects yet' in said['reset irql']
    check(said, 'reset')
    for stop, _, wanted in STOPS:
        check(said, stop)
        if cpus > 1:
            check(said, f'{stop}/2')
        else:
            assert re.search(wanted, said[f'{stop} irql']), \
                (stop, said[f'go {stop}'], said[f'{stop} irql'])
    assert status == 0


STEPS = 45              # instructions; the way in and out is shorter


@pytest.mark.parametrize('place', ['ki_trap_common', 'ki_trap_exit'])
def test_backtraces_at_each_instruction_of_the_way(fixtures, place):
    """In and out of ring 0: whatever is pushed already, or popped again."""
    steps = [('go', ['break ide_start_io', 'continue', 'delete',
                     f'break *{place}', 'continue', 'delete'])]
    steps += [(f'step {n}', ['backtrace', 'stepi']) for n in range(STEPS)]
    said = debugger.answers(run(
        fixtures.build, script=debugger.script(steps), CPUS=2,
        ARGS='nothread --writes 3')[1])
    for n in range(STEPS):
        assert 'Backtrace stopped' not in said[f'step {n}'], said[f'step {n}']
        assert said[f'step {n}'].count('\n#') >= 1


# ---- What the commands say ---------------------------------------------------

@pytest.fixture(scope='module')
def flight(fixtures):
    """What is said while three writes are out: one at the device, two in
    line. The stop is the call for a packet."""
    at = ['break *NtRemoveIoCompletion if $cs==8', 'continue']
    steps = [
        ('before', ['break NtWriteFile if length == 4096', 'continue',
                    'break ide_start_io', 'continue', 'print *irp', 'print (NTSTATUS)0xc0000005',
                    'print (NTSTATUS)0x103', 'print psp_threads',
                    'print *(KTHREAD *)ki_processor[0]->CurrentThread',
                    'print *(IRP *)&psp_threads', 'backtrace']),
        ('go', ['delete', *at]),
        ('irps', ['nt irps']), ('dev', ['nt dev']), ('ps', ['nt ps']),
        ('threads', ['nt threads']), ('handles', ['nt handles']),
        ('iocp', ['nt iocp']), ('file', ['nt file']), ('drv', ['nt drv ide']),
        ('devstack', ['nt devstack DR0']), ('idt', ['nt idt 0x40']),
        ('pool', ['nt pool']), ('pte', ['nt pte $rip']),
        ('trace', ['nt trace 200']),
        ('step', ['nt step-irq', 'nt step-irq on', 'nt step-irq off',
                  'nt step-irq what']),
        ('help', ['help nt', 'help nt irp', 'nt nosuch']),
        ('complete', ['complete nt t', 'complete nt step-irq o']),
        ('bad', ['set $old = psp_threads.Flink',
                 'set var psp_threads.Flink = 0x1234', 'nt threads', 'nt ps',
                 'set var psp_threads.Flink = $old', 'nt ps']),
        ('ring3', ['break take_packets', 'info breakpoints']),
    ]
    return debugger.answers(run(
        fixtures.build, script=debugger.script(steps),
        ARGS='nothread --writes 3')[1])


def test_printers_and_backtraces(flight):
    said = flight['before']
    assert re.search(r'IRP \d+: IRP_MJ_WRITE\(4\) DR0, Irp\w+', said)
    assert '= STATUS_ACCESS_VIOLATION' in said
    assert '= STATUS_PENDING' in said
    assert re.search(r'= \d entries: 0xffff', said)
    assert re.search(r'= nothread, thread \d+: RUNNING on processor 0', said)
    assert '= no IRP: ' in said
    # From StartIo by way of the system call to main, in ring 3.
    assert re.search(r'ide_start_io.*NtWriteFile.*ki_call_service.*'
                     r'NtWriteFile.*main \(', said, re.S)


def test_requests_and_devices(flight):
    ids = re.findall(r'^ffff\w+ +(\d+)  ', flight['irps'], re.M)
    assert len(ids) == 3 and flight['irps'].endswith('3 IRPs')
    assert flight['irps'].count('IRP_MJ_WRITE(4) DR0, on file ') <= 3
    assert re.search(r'\\Driver\\ide +DR0', flight['dev'])
    assert 'DriverStartIo: ide_start_io' in flight['drv']
    assert re.search(r'\[04\] IRP_MJ_WRITE +\w+ read_write', flight['drv'])
    assert re.search(r'^> ffff\w+  \\Driver\\ide +\w+  DR0$',
                     flight['devstack'], re.M)


def test_processes_threads_and_handles(flight):
    assert re.search(r'Image: nothread', flight['ps'])
    assert re.search(r'nothread: RUNNING on processor 0', flight['threads'])
    assert re.search(r'Type: File .* DR0$', flight['handles'], re.M)
    assert re.search(r'Type: IoCompletion', flight['handles'])
    assert re.search(r'^Port ffff\w+: \d packets; 1 of at most 1 threads run',
                     flight['iocp']) or 'of at most 1' in flight['iocp']
    assert re.search(r'DR0 +Opened', flight['file'])


def test_memory_interrupts_trace(flight):
    assert re.search(r'^40: \w+ ki_stub_64 +con_isr', flight['idt'], re.M)
    assert re.search(r'^PTE at .*KREV$', flight['pte'], re.M)
    assert re.search(r'^ Iop  +\d+ +\d+', flight['pool'], re.M)
    assert 'DMA_START' in flight['trace']


def test_help_completion_and_stepping(flight):
    assert flight['step'].splitlines() == [
        'Interrupts are held back while you step.',
        'Interrupts are delivered while you step.',
        'Interrupts are held back while you step.',
        'nt step-irq: on or off?']
    assert 'nt irp -- One I/O request packet' in flight['help'] or \
        'nt irp -- one I/O request packet' in flight['help']
    assert 'Usage: nt irp ID|ADDRESS' in flight['help']
    assert 'nt: there is no command nosuch' in flight['help']
    assert {'nt thread', 'nt threads', 'nt timers', 'nt tour',
            'nt trace'} <= set(flight['complete'].splitlines())
    assert {'nt step-irq on', 'nt step-irq off'} <= \
        set(flight['complete'].splitlines())


def test_a_damaged_list_is_one_line(flight):
    assert len(re.findall(r'^nt \w+: the list at .* is damaged, or just being '
                          r'changed', flight['bad'], re.M)) == 2
    assert 'Image: nothread' in flight['bad']


def test_programs_have_symbols_of_their_own(fixtures):
    """Two programs with a main each: a breakpoint means one of them."""
    said = debugger.answers(run(fixtures.build, script=debugger.script(
        [('go', ['break take_packets', 'continue', 'backtrace', 'nt irql']),
         ('images', ['info symbol $rip', 'print $cs == 0x2b'])]),
        ARGS='sh -c "nothread --writes 1"')[1])
    assert re.search(r'take_packets.*main \(', said['go'], re.S)
    assert 'Backtrace stopped' not in said['go']
    assert 'user/nothread' in said['images']
    assert said['images'].endswith('= 1')


def test_a_bugcheck_is_explained(fixtures):
    """It stops by itself, says why, and the launcher resolves the addresses
    when QEMU has ended."""
    status, output = run(
        fixtures.build, KOPTS='ktest=fatal_page_fault', ARGS='true',
        script=debugger.script([('go', ['continue']),
                                ('why', ['nt why', 'backtrace']),
                                ('on', ['continue', 'nt why', 'nt irql'])]))
    said = debugger.answers(output)
    assert 'A bugcheck: `nt why`' in said['go']
    assert 'PAGE_FAULT_IN_NONPAGED_AREA (50)' in said['why']
    text = ' '.join(said['why'].split())
    assert re.search(r'page fault\) at fatal_read\S*: a read of '
                     r'0xffffdead0000\w+, where nothing is mapped', text)
    assert re.search(r'on processor 0, in System, thread \d+, at IRQL 0', text)
    assert 'fatal_read' in said['why'].split('backtrace')[-1]
    assert 'QEMU has ended' in said['on']
    assert 'PAGE_FAULT_IN_NONPAGED_AREA (50)' in said['on']
    assert 'nt irql: there is no guest' in said['on']


def test_a_call_of_null_has_a_caller(fixtures):
    said = debugger.answers(run(
        fixtures.build, KOPTS='ktest=fatal_call_of_null', ARGS='true',
        script=debugger.script([('go', ['continue']),
                                ('why', ['backtrace'])]))[1])
    assert re.search(r'fatal_jump\b.*ktest_fatal_call_of_null', said['why'],
                     re.S), said['why']


def test_a_broken_rule_is_told(fixtures):
    said = debugger.answers(run(
        fixtures.build, KOPTS='ktest=fatal_raise_to_lower', ARGS='true',
        script=debugger.script([('go', ['continue']), ('why', ['nt why'])]))[1])
    text = ' '.join(said['why'].split())
    assert 'an assertion of the checked kernel does not hold' in text
    assert 'Rule IRQL-03: Raising to a lower level' in text


# ---- Backwards ---------------------------------------------------------------

def test_a_replay_goes_back_to_what_was_interrupted(fixtures):
    """From the ISR to the last instruction before its interrupt, behind which
    stands the one that it held up; to the breakpoint before; and forwards
    again to the same ISR."""
    said = debugger.answers(run(
        fixtures.build, REPLAY=1, ARGS='nothread --writes 1',
        script=debugger.script([
            ('start', ['break ide_start_io', 'continue']),
            ('isr', ['break ide_isr', 'continue', 'nt irql',
                     'print $rsp']),
            ('back', ['break *ki_stub_80', 'reverse-continue',
                      'reverse-stepi', 'x/2i $rip']),
            ('forth', ['stepi', 'info symbol $rip']),
            ('in', ['stepi', 'info symbol $rip']),
            ('further', ['delete 3', 'reverse-continue']),
            ('again', ['continue', 'nt irql', 'print $rsp']),
            ('step', ['nt step-irq off']),
        ]))[1])
    assert 'Breakpoint 1, ide_start_io' in said['start']
    assert 'Breakpoint 2, ide_isr' in said['isr']
    assert '[ISR]' in said['isr']       # although it interrupted a DPC
    interrupted = re.search(r'vector 0x50 interrupted (\S+) in ring',
                            said['isr']).group(1)
    assert f'<{interrupted}>' in said['back'], (said['isr'], said['back'])
    assert interrupted.replace('+', ' + ') + ' in section' in said['forth']
    assert 'ki_stub_80' in said['in']
    assert 'Breakpoint 1, ide_start_io' in said['further']
    assert f'interrupted {interrupted} in ring' in said['again']
    assert said['again'].splitlines()[-1].split('= ')[1] == \
        said['isr'].splitlines()[-1].split('= ')[1]
    assert 'What was recorded is replayed whole' in said['step']


@pytest.mark.parametrize('name, value', [('DISK', 'nvme'), ('CPUS', 2)])
def test_what_cannot_be_replayed_is_said(fixtures, name, value):
    status, output = run(fixtures.build, REPLAY=1, **{name: value})
    assert status == 3
    assert 'only: leave ' + name + ' away' in output and '.py' not in output


# ---- The session -------------------------------------------------------------

def test_quitting_ends_qemu(fixtures):
    run(fixtures.build, script='quit\n')
    assert not (fixtures.build / 'gdb.sock').exists()
    # Nobody has the disk any more.
    with open(fixtures.build / 'gdb.lock') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert run(fixtures.build, script='quit\n')[0] == 0


def test_a_second_session_is_told_about_the_first(fixtures):
    with open(fixtures.build / 'gdb.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status, output = run(fixtures.build)
    assert status == 3
    assert 'another debug session' in output and 'BUILD=' in output


def test_a_disk_in_use_is_said(fixtures, machine):
    disk = fixtures.build / 'disk.img'
    run(fixtures.build, script='quit\n')       # it is there
    machine(program=['sh'], kernel=fixtures.kernel, initrd=fixtures.initrd,
            disks=[qemu.Disk(disk)]).expect('> ')
    status, output = run(fixtures.build)
    assert status == 3
    assert 'in use by another QEMU' in output and '.py' not in output


def test_a_missing_gdb_is_named(fixtures, tmp_path):
    (tmp_path / 'python3').symlink_to(sys.executable)
    status, output = run(fixtures.build, PATH=str(tmp_path))
    assert status == 3
    assert 'gdb is missing' in output and 'make setup' in output


def test_editors_get_a_guest_that_waits(fixtures):
    """QEMU=only: the guest waits on the socket; a gdb that knows nothing but
    what .vscode/launch.json has it do gets all of it."""
    environment = {**os.environ, 'QEMU': 'only', 'ARGS': 'true',
                   'BUILD': str(fixtures.build.relative_to(qemu.ROOT))}
    process = subprocess.Popen(
        [sys.executable, 'tools/debug.py'], cwd=qemu.ROOT, env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        said = process.stdout.readline() + process.stdout.readline()
        command = said.splitlines()[-1].split(' -ex ')[0].strip()
        assert command == 'gdb -nx'
        socket = os.path.relpath(fixtures.build / 'gdb.sock', qemu.ROOT)
        qemu_is_up = re.search(re.escape(socket), said)
        assert qemu_is_up
        gdb = subprocess.run(
            ['gdb', '-nx', '-batch', '-ex', 'source tools/gdb/tint.py',
             '-ex', f'target remote {socket}', '-ex', 'break ps_init', '-ex',
             'continue', '-ex', 'nt irql', str(fixtures.checked)],
            cwd=qemu.ROOT, env=environment, text=True, capture_output=True,
            timeout=debugger.BOUND)
        assert 'PASSIVE_LEVEL' in gdb.stdout, gdb.stdout + gdb.stderr
        process.wait(180)
    finally:
        process.kill()
        process.wait()


def test_the_editors_files_are_sound(fixtures):
    import json
    launch = json.loads(re.sub(
        r'^\s*//.*', '', (qemu.ROOT / '.vscode/launch.json').read_text(),
        flags=re.M))
    one = launch['configurations'][0]
    assert one['program'].endswith('build/tint-chk.elf')
    assert any('tools/gdb/tint.py' in step['text']
               for step in one['setupCommands'])
    subprocess.run(['make', '-s', 'compile_commands.json'], cwd=qemu.ROOT,
                   check=True, env={**os.environ, 'MAKEFLAGS': ''})
    commands = json.loads((qemu.ROOT / 'compile_commands.json').read_text())
    files = {entry['file'] for entry in commands}
    assert {'kernel/ke/dpc.c', 'drivers/ide/io.c', 'user/programs/nothread.c',
            'tests/kernel/apc.c'} <= files
    entry = next(e for e in commands if e['file'] == 'kernel/ke/dpc.c')
    assert entry['directory'] == str(qemu.ROOT)
    if shutil.which('clang'):
        subprocess.run(['clang', '-fsyntax-only', *[
            word for word in entry['arguments'][1:]
            if not word.startswith(('-o', '-M', '-c'))]], cwd=qemu.ROOT,
            check=True)
