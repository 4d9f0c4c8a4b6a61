"""debugger.py - runs tools/debug.py as a user does, with a script for gdb.

The folder of the fixtures is its BUILD, so that nobody's scratch disk is
touched.
"""
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

from qemu import ROOT, Failure

MARK = '@@'
BOUND = 300             # seconds: ends a session that hangs
PYTHON_ERRORS = ('Traceback', 'Python Exception', 'Error occurred in Python',
                 'Error while executing Python')


def environment(build, variables):
    """What a session finds: of what the launcher reads, only variables."""
    disk = build / 'disk.img'
    if not disk.exists():
        disk.write_bytes(b'')
        os.truncate(disk, 64 << 20)
    found = {**os.environ, 'BUILD': str(build.relative_to(ROOT)),
             **{key: str(value) for key, value in variables.items()}}
    for name in ('ARGS', 'KOPTS', 'CPUS', 'DISK', 'QEMU', 'REPLAY', 'MEM'):
        if name not in variables:
            found.pop(name, None)
    return found


def check(output):
    """Fails if Python said anything in gdb."""
    for text in PYTHON_ERRORS:
        if text in output:
            at = output.index(text)
            raise Failure(f'Python in gdb: {output[max(0, at - 500):at + 800]}')


def run(build, *arguments, script='', bound=BOUND, **variables):
    """(status, output) of one session; fails if it has to be ended, or if
    Python says anything."""
    process = subprocess.Popen(
        [sys.executable, 'tools/debug.py', *arguments], cwd=ROOT, text=True,
        env=environment(build, variables), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True, errors='replace')
    try:
        output = process.communicate(script, timeout=bound)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output = process.communicate()[0]
        raise Failure(f'the session did not end within {bound} s:\n'
                      + output[-3000:]) from None
    check(output)
    return process.returncode, output


class Terminal:
    """A session on a terminal, as a person has it; ends with the block."""

    def __init__(self, build, *arguments, **variables):
        self.child, self.ours = pty.fork()
        if not self.child:
            os.chdir(ROOT)
            os.execve(sys.executable,
                      [sys.executable, 'tools/debug.py', *arguments],
                      {**environment(build, variables), 'TERM': 'dumb'})
        self.output, self.mark = '', 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child:
            os.killpg(self.child, signal.SIGKILL)
            os.waitpid(self.child, 0)
        os.close(self.ours)

    def read(self, end):
        """More output; false if there is none any more."""
        if not select.select([self.ours], [], [],
                             max(0, end - time.monotonic()))[0]:
            raise Failure(f'nothing more came:\n{self.output[-3000:]}')
        try:
            data = os.read(self.ours, 65536)
        except OSError:         # the other side is closed
            data = b''
        self.output += data.decode(errors='replace').replace('\r', '')
        return bool(data)

    def expect(self, what, bound=BOUND):
        """Waits for what; returns the output from the last match up to it."""
        end = time.monotonic() + bound
        while (at := self.output.find(what, self.mark)) < 0:
            if not self.read(end):
                raise Failure(f'{what!r} did not come:\n'
                              + self.output[-3000:])
        said = self.output[self.mark:at + len(what)]
        self.mark = at + len(what)
        return said

    def type(self, text):
        os.write(self.ours, text.encode())

    def wait(self):
        """The status of the session, which must come to its end."""
        end = time.monotonic() + BOUND
        while self.read(end):
            pass
        status = os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])
        self.child = 0
        check(self.output)
        return status


def script(steps):
    """A script of (name, commands), in which each step's output is marked."""
    lines = []
    for name, commands in steps:
        lines += [f'echo {MARK}{name}\\n', *commands]
    return '\n'.join([*lines, f'echo {MARK}end\\n', 'quit']) + '\n'


def answers(output):
    """{name: what gdb said in that step}, without its prompts."""
    found = {}
    for part in output.split(MARK)[1:]:
        name, _, text = part.partition('\n')
        found[name.strip()] = re.sub(r'^(\(gdb\) )+', '', text,
                                     flags=re.M).rstrip()
    return found
