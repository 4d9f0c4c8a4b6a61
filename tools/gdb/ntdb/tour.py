"""tour.py - nt tour: one write from the call to the continuation, stage by
stage, with what must hold at each.

Stage 6 has no instruction to stop at: every processor is halted. QEMU's own
monitor says when that is so, and then stops the machine. The disk is slowed
down so far meanwhile that it would not answer for hours, and let go again.
"""
import contextlib
import itertools
import json
import os
import re
import select
import socket
import sys
import textwrap
import threading
import time

import gdb

from . import guest, stages, text
from .command import COMMANDS, command
from .guest import Garbage, number

FLIGHT = 6
HELD = (5, FLIGHT)              # stages on the way to which the disk is held
BOUND = int(os.environ.get('TOUR_BOUND') or 300)    # s: ends one that hangs
LOOK = 0.05                     # seconds between two looks at HLT
HOLD = '1 0 0 0 0 0'            # one byte a second
FREE = '0 0 0 0 0 0'

WELCOME = """
One asynchronous write, from the call to its end, in the twelve stages that the
README tells of ("The life of one write"). At each the machine stands still, and
you see what is happening, what must hold there (`ok` if it does), and what some
`nt` commands say. The program's own words go to debug-console.log, in the build
folder."""

walk = None                     # the present one; `nt tour` goes on with it


class Monitor:
    """QEMU's monitor beside gdb: it answers while the guest runs."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(BOUND)
        try:
            self.socket.connect(str(guest.BUILD / 'qmp.sock'))
        except OSError:
            raise Garbage('QEMU was not started by `make tour` or `make '
                          'debug`') from None
        self.lines = self.socket.makefile('r')
        self.lines.readline()
        self.ask('qmp_capabilities')

    def ask(self, what, **arguments):
        message = {'execute': what, 'arguments': arguments}
        self.socket.sendall(json.dumps(message).encode() + b'\n')
        while True:
            answer = json.loads(self.lines.readline())
            if 'return' in answer or 'error' in answer:
                return answer.get('return', '')

    def all_halted(self):
        registers = self.ask('human-monitor-command',
                             **{'command-line': 'info registers -a'})
        found = re.findall(r'HLT=(\d)', registers)
        return bool(found) and set(found) == {'1'}

    def close(self):
        self.lines.close()
        self.socket.close()


@contextlib.contextmanager
def silence():
    """What gdb says of a stop, such as `Program received signal`, goes
    nowhere: the tour has its own words. No setting of gdb's does it."""
    gdb.flush()
    out, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        gdb.flush()
        os.dup2(out, 1)
        os.close(out)
        os.close(nowhere)


class Point(gdb.Breakpoint):
    """Where a stage is met; stops only for the write of this walk."""

    def __init__(self, stage, place):
        watched = place.removeprefix(stages.WATCH)
        kind = gdb.BP_BREAKPOINT if watched == place else gdb.BP_WATCHPOINT
        super().__init__(watched, kind, gdb.WP_WRITE, internal=True)
        self.stage, self.met, self.silent = stage, False, True

    def stop(self):
        guest.user_thread = gdb.selected_thread()
        try:
            self.met = bool(self.stage.meets(walk))
        except (Garbage, gdb.error):
            self.met = False
        return self.met


class Walk:
    def __init__(self):
        self.next = 0           # index of the stage to come
        self.thread = self.thread_id = self.file = 0
        self.irp_at = self.irp_id = self.iosb = self.length = 0
        self.taker = self.back = 0
        self.driver = self.interrupted = ''
        self.failed = []

    # ---- What the stages find out

    def begin(self, thread, file):
        self.thread, self.file = thread, file
        self.thread_id = int(guest.at('KTHREAD', thread)['id'])

    def found_irp(self, irp):
        self.irp_at, self.irp_id = number(irp.address), int(irp['id'])
        self.iosb = number(irp['UserIosb'])
        location = irp['stack'][int(irp['CurrentLocation']) - 2]
        self.length = number(location['Parameters']['Write']['Length'])
        file = guest.at('FILE_OBJECT', self.file)
        device = guest.at('DEVICE_OBJECT', file['DeviceObject'])
        driver = guest.at('DRIVER_OBJECT', device['DriverObject'])
        self.driver = guest.string(driver['DriverName'])

    def irp(self):
        return guest.at('IRP', self.irp_at)

    # ---- From stage to stage

    def go_on(self):
        """Runs to the next stage; Garbage if something else came first."""
        stage = stages.STAGES[self.next]
        hold = self.held_disk if stage.number in HELD else contextlib.nullcontext
        with hold():
            if stage.number == FLIGHT:
                self.wait_for_halt()
                self.check_flight()
            else:
                self.run_to(stage)
        self.next += 1
        return stage

    def run_to(self, stage):
        place = stage.where.format(driver=self.driver, back=self.back,
                                   irp=self.irp_at)
        point = Point(stage, place)
        try:
            self.run(stage)
            if not point.met:
                raise Garbage('the guest stopped before stage '
                              f'{stage.number}: `nt tour` goes on from here')
        finally:
            if point.is_valid():
                point.delete()

    @staticmethod
    def run(stage):
        failed = None
        try:
            with silence():
                gdb.execute('continue', to_string=True)
        except gdb.error as error:  # QEMU ended, and before version 8 said
            failed = error          # nothing of it
        if failed and gdb.selected_inferior().threads():
            raise Garbage(str(failed))
        if not gdb.selected_inferior().threads():
            raise Garbage(
                f'TINT ended before stage {stage.number}' +
                '; with port=direct there is no APC' * (stage.number == 10))

    def wait_for_halt(self):
        """Lets the guest run until all processors are halted, says QEMU."""
        monitor, stopped = Monitor(), threading.Event()

        def watch():
            end = time.monotonic() + BOUND
            while not stopped.wait(LOOK) and time.monotonic() < end:
                if monitor.all_halted():
                    self.halted = True
                    break
            monitor.ask('stop')

        self.halted = False
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            self.run(stages.STAGES[self.next])
        finally:
            stopped.set()
            watcher.join(BOUND)
            monitor.close()

    def check_flight(self):
        """Is it still this write that is in flight?"""
        try:
            state = text.constant('SNAPSHOT_IRP_STATE', self.irp()['state'])
            if state == 'IrpAtDevice' and int(self.irp()['id']) == self.irp_id:
                return
        except Garbage:
            pass
        raise Garbage('the write was over too early: the tour needs one of two '
                      'commands (see docs/DEBUG.md)')

    @contextlib.contextmanager
    def held_disk(self):
        """Lets the disk answer no more while the guest runs: a request of ours
        uses up what it may move in the next hours. A stop ends that: what the
        disk has begun, QEMU finishes."""
        throttle = 'monitor block_set_io_throttle disk0 '
        gdb.execute(throttle + HOLD, to_string=True)
        gdb.execute('monitor qemu-io disk0 "read 0 64k"', to_string=True)
        try:
            yield
        finally:
            with contextlib.suppress(gdb.error):        # QEMU has ended
                gdb.execute(throttle + FREE, to_string=True)

    # ---- What is shown

    def show(self, stage):
        guest.user_thread = gdb.selected_thread()
        yield ''
        yield f'stage {stage.number}: {stage.title}'
        for line in textwrap.wrap(stage.story, 76):
            yield '    ' + line
        for right, what in stage.holds(self):
            if not right:
                self.failed.append(f'    at stage {stage.number}: {what}')
            yield f'    {"  ok" if right else "FAIL"}  {what}'
        if self.irp_at:
            name = f'irp {int(self.irp()["id"])}'
            yield from section(name, COMMANDS['irp'](hex(self.irp_at)), 2)
        yield from section('irql', COMMANDS['irql'](''))
        for name, quiet in [('dpcs', 'No DPC'), ('apc', 'No APC'),
                            ('iocp', 'There is no')]:
            lines = list(COMMANDS[name](''))
            if not any(quiet in line for line in lines):
                yield from section(name, lines)
        busy = [line for line in itertools.islice(COMMANDS['dev'](''), 1, None)
                if not line.endswith(' -')]
        if self.irp_at and busy:
            yield from section('dev', busy)


def section(name, lines, most=None):
    """What a command says, below its name."""
    yield f'  nt {name}'
    for line in itertools.islice(lines, most):
        yield '    ' + line


def ask():
    """True: Enter; false: the user stays here."""
    try:
        print('-- Enter goes on, q stays here with gdb: ', end='', flush=True)
        # On a terminal Ctrl-C would wait for the line, too: gdb notes it, and
        # raises it in the next command that it executes.
        while sys.stdin.isatty() and \
                not select.select([sys.stdin], [], [], 0.2)[0]:
            gdb.execute('python pass')
        answer = input()
    except (EOFError, KeyboardInterrupt):
        answer = 'q'
    return answer.strip().lower() not in ('q', 'quit')


@command('tour', words=('batch',), anywhere=True, once=True)
def tour(argument):
    """nt tour [batch]: one write, stage by stage, from the call to its end.
`make tour` starts it in a machine of its own. At each stage Enter goes on, and
q stays there: look around, then `nt tour` goes on. With `batch` nobody is
asked, and gdb ends with status 0 only if all was as it must be."""
    global walk
    if not gdb.selected_thread():
        raise Garbage('there is no guest: `make tour` starts one')
    walk = walk or Walk()
    batch = argument == 'batch'
    if walk.next == 0:
        yield from WELCOME.splitlines()
    while walk and walk.next < len(stages.STAGES):
        stage = walk.go_on()
        with guest.kernel_view():
            yield from walk.show(stage)
        if not batch and walk.next < len(stages.STAGES) and not ask():
            yield ('Look around: `help nt` lists commands. `nt tour` goes on '
                   'to the next stage.')
            return
    yield from finish(batch)


def finish(batch):
    global walk
    failed, walk = walk.failed, None
    yield ''
    yield ('tour: 12 stages, all as they must be' if not failed else
           f'tour: {len(failed)} things were not as they must be')
    yield from failed
    if batch:
        with contextlib.suppress(gdb.error):    # QEMU ends
            gdb.execute('continue', to_string=True)
        gdb.execute(f'quit {1 if failed else 0}')
    yield '`continue` lets the program finish, `quit` ends the guest.'
