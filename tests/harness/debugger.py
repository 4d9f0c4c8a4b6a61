"""debugger.py - runs tools/debug.py as a user does, with a script for gdb.

The folder of the fixtures is its BUILD, so that nobody's scratch disk is
touched.
"""
import os
import re
import signal
import subprocess
import sys

from qemu import ROOT, Failure

MARK = '@@'
BOUND = 300             # seconds: ends a session that hangs
PYTHON_ERRORS = ('Traceback', 'Python Exception', 'Error occurred in Python',
                 'Error while executing Python')


def run(build, *arguments, script='', bound=BOUND, **variables):
    """(status, output) of one session; fails if it has to be ended, or if
    Python says anything."""
    disk = build / 'disk.img'
    if not disk.exists():
        disk.write_bytes(b'')
        os.truncate(disk, 64 << 20)
    environment = {**os.environ, 'BUILD': str(build.relative_to(ROOT)),
                   **{key: str(value) for key, value in variables.items()}}
    for name in ('ARGS', 'KOPTS', 'CPUS', 'DISK', 'QEMU', 'REPLAY', 'MEM'):
        if name not in variables:
            environment.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, 'tools/debug.py', *arguments], cwd=ROOT, text=True,
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True, errors='replace')
    try:
        output = process.communicate(script, timeout=bound)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output = process.communicate()[0]
        raise Failure(f'the session did not end within {bound} s:\n'
                      + output[-3000:]) from None
    for text in PYTHON_ERRORS:
        if text in output:
            at = output.index(text)
            raise Failure(f'Python in gdb: {output[max(0, at - 500):at + 800]}')
    return process.returncode, output


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
