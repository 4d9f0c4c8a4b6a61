#!/usr/bin/env python3
"""debug.py - boots the checked kernel paused, with gdb attached to it.

As in run.py, ARGS, KOPTS, CPUS, MEM and DISK say what runs. And:

  QEMU=only   no gdb here: for an editor, or a gdb in another terminal. The
              console is this terminal, and the guest waits on the socket
  REPLAY=1    first records a run on the IDE disk, then debugs the recording,
              forwards and backwards (reverse-stepi, reverse-continue)

With --tour it is the guided walk, with --batch one that goes on by itself.
"""
import argparse
import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import qemu
import record
import run
import symbols

WELCOME = """\
The guest is paused before its first instruction: `continue` starts it, Ctrl-C
stops it again, `quit` ends it. `help nt` lists commands for the kernel's
objects. The console is shown here, and kept in the build folder, in
debug-console.log.
"""
WELCOME_BACK = """\
... recorded. Now the same run again, paused at its start. Forwards as always,
and backwards: reverse-stepi, reverse-step, reverse-continue. To go back is to
run again from the start, up to there; so the console is not shown this time.
`help nt` lists commands for the kernel's objects.
"""
TINT = Path(os.path.relpath(qemu.ROOT / 'tools/gdb/tint.py'))
MONITOR = 'qmp.sock'           # beside gdb's socket
QUESTION = b'{"execute":"qmp_capabilities"} {"execute":"query-status"}'
LONGEST_SOCKET = 100            # Linux takes 107 bytes
LOCKED = 'Failed to get "write" lock'
# What the tour writes: two commands of the disk on this bus (see tour.py).
TOUR_BYTES = {'ide': 2 << 20, 'nvme': 1 << 20}
TOUR_ARGS = 'nothread --writes 1 --size {}'


@contextlib.contextmanager
def only_session():
    """One session a build folder: its socket and its disk are one each."""
    path = qemu.BUILD / 'gdb.lock'
    with open(path, 'w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f'debug: another debug session uses {qemu.BUILD}/ now. '
                     'End it first, or give\nthis one a folder of its own: '
                     'make debug BUILD=build-2')
        yield


def socket_path():
    path = Path(os.path.relpath(qemu.BUILD / 'gdb.sock'))
    if len(str(path)) > LONGEST_SOCKET:
        sys.exit(f'debug: {path} is too long for the name of a socket: choose '
                 'a shorter BUILD')
    remove(path)
    return path


def remove(path):
    path.unlink(missing_ok=True)
    path.with_name(MONITOR).unlink(missing_ok=True)


def stub(path):
    """QEMU's options for a guest that waits for gdb on a socket; the tour asks
    its monitor on another one."""
    listen = 'socket,server=on,wait=off,path='
    monitor = path.with_name(MONITOR)
    return ['-S', '-chardev', listen + qemu.quote(path) + ',id=gdb',
            '-gdb', 'chardev:gdb', '-chardev',
            listen + qemu.quote(monitor) + ',id=qmp',
            '-mon', 'chardev=qmp,mode=control']


class Guest:
    """A paused QEMU. What its console says goes to a log and, if echo, to
    this terminal; it can say something only while gdb lets it run."""

    def __init__(self, command, path, echo):
        self.path, self.echo = path, echo
        self.log = qemu.BUILD / 'debug-console.log'
        ours, theirs = socket.socketpair()
        self.errors = tempfile.TemporaryFile('w+')
        # A session of its own: Ctrl-C is gdb's.
        self.process = subprocess.Popen(
            [*command, '-monitor', 'none', '-chardev',
             f'socket,id=com1,fd={theirs.fileno()},logfile='
             + qemu.quote(self.log), '-serial', 'chardev:com1'],
            stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors,
            pass_fds=[theirs.fileno()], start_new_session=True,
            preexec_fn=qemu.die_with_parent)
        theirs.close()
        self.pump = threading.Thread(target=self.copy, args=[ours],
                                     daemon=True)
        self.pump.start()

    def copy(self, console):
        while data := console.recv(65536):
            if self.echo:
                os.write(sys.stdout.fileno(), data)

    def wait_until_up(self):
        """Its main loop answers a question when all is set up, the disk
        included; the greeting comes before."""
        while self.process.poll() is None:
            with socket.socket(socket.AF_UNIX) as monitor, \
                    contextlib.suppress(OSError):
                monitor.connect(str(self.path.with_name(MONITOR)))
                monitor.sendall(QUESTION)
                answer = b''
                while data := monitor.recv(4096):
                    answer += data
                    if b'"running"' in answer:
                        return
            time.sleep(0.05)
        sys.exit(explain(self.said()))

    def said(self):
        self.errors.seek(0)
        return self.errors.read()

    def end(self):
        """QEMU ends with gdb, whatever it was doing. Returns its status."""
        self.process.kill()
        status = self.process.wait()
        self.pump.join(5)
        remove(self.path)
        return status


def explain(errors):
    """Why QEMU did not start, in its words and, if we know better, in ours."""
    text = f'{errors.strip()}\ndebug: QEMU did not start'
    if LOCKED in errors:
        text += (': its disk is in use by another QEMU, such as a `make run` '
                 'in another\nterminal. End that one first, or use '
                 'BUILD=build-2, which has a disk of its own')
    return text


def gdb_command(path, kernel, *then):
    words = ['gdb', '-nx', '-q', '-iex', 'set pagination off' if then else
             'set pagination on', '-ex', f'source {TINT}', '-ex',
             f'target remote {path}']
    for command in then:
        words += ['-ex', command]
    return [*words, os.path.relpath(kernel)]


def with_gdb(command, kernel, path, then=(), echo=True, welcome=WELCOME):
    """Starts both; returns gdb's status. QEMU ends with it."""
    guest = Guest([*command, *stub(path)], path, echo)
    try:
        guest.wait_until_up()
        print(welcome, end='', flush=True)
        status = run.wait(subprocess.Popen(gdb_command(path, kernel, *then)))
    finally:
        ended = guest.end()
    if ended == qemu.BUGCHECK:
        print(symbols.explain(guest.log.read_text(encoding='latin-1'), kernel))
    return status


def without_gdb(command, kernel, path):
    attach = ' '.join(gdb_command(path, kernel)[:2])
    print(f'The guest waits for a gdb on {path}, for example:\n'
          f"    {attach} -ex 'source {TINT}' -ex 'target remote {path}' "
          f'{os.path.relpath(kernel)}\n'
          'This terminal is its console. To leave QEMU press Ctrl-A, then X.',
          flush=True)
    try:
        return run.wait(subprocess.Popen(
            [*command, *stub(path), '-serial', 'mon:stdio'],
            preexec_fn=qemu.die_with_parent))
    finally:
        remove(path)


def debug(arguments):
    only = os.environ.get('QEMU')
    if only not in (None, '', 'only'):
        sys.exit('debug: QEMU is only or not given')
    if only and arguments.tour:
        sys.exit('debug: a tour needs gdb: leave QEMU=only away')
    if not only and not shutil.which('gdb'):
        sys.exit('debug: gdb is missing: `make setup` installs it (package '
                 'gdb)')
    replay = bool(os.environ.get('REPLAY'))
    if arguments.tour and replay:
        sys.exit('debug: the tour needs a live disk: leave REPLAY away')
    if arguments.tour:
        bus = run.choose_disks(slow=False)[0].bus
        os.environ['ARGS'] = os.environ.get('ARGS') or \
            TOUR_ARGS.format(TOUR_BYTES[bus])
    qemu.BUILD.mkdir(parents=True, exist_ok=True)
    with only_session():
        path = socket_path()
        if replay:
            record.prepare()
        command, kernel = run.build_command(True, [] if replay else None)
        if replay:
            command = record.record(command)
        if only:
            return without_gdb(command, kernel, path)
        if replay:
            return with_gdb(command, kernel, path, echo=False,
                            welcome=WELCOME_BACK)
        if not arguments.tour:
            return with_gdb(command, kernel, path)
        then = ['nt tour batch', 'quit 1'] if arguments.batch else ['nt tour']
        return with_gdb(command, kernel, path, then, echo=False, welcome='')


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--tour', action='store_true')
    parser.add_argument('--batch', action='store_true')
    try:
        status = debug(parser.parse_args())
    except SystemExit as error:         # a message: the guest never ran
        if error.code and not isinstance(error.code, int):
            print(error, file=sys.stderr)
            status = 3
        else:
            raise
    except KeyboardInterrupt:           # before there was a gdb
        status = 130
    sys.exit(status)


if __name__ == '__main__':
    main()
