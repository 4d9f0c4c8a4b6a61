#!/usr/bin/env python3
"""run.py - the launcher: boots TINT in QEMU with the console on this terminal.

What to run comes from the environment, untouched by shell and make:

  ARGS   the program and its arguments; TINT leaves QEMU when it has ended.
         Blanks separate words, "..." groups them, \\\\ \\" \\' are escapes, and
         any other backslash is itself: ARGS='echo "a b" B:\\files\\my.txt'.
         Without ARGS: nothread runs, and its shell stays.
  KOPTS  further kernel options, such as port=direct trace=all
  CPUS   MEM   DISK=ide|nvme   SPEED=full   ISO=1   BUILD

The status is 0 if the program returned 0, 1 if it failed, 2 after a bugcheck
(its addresses are then named), and 3 for anything else.
"""
import argparse
import os
import select
import subprocess
import sys
import tempfile
import termios

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import iso
import qemu
import symbols

RESULT = {qemu.PASSED: 0, qemu.FAILED: 1, qemu.BUGCHECK: 2}
SLOW = 'throttling.iops-total=4'        # a person can watch each write
LONGEST = 2047                          # bytes of the command line: boot.c
CLOSED = 'QEMU: Terminated'             # QEMU's own word after Ctrl-A X


def say(text):
    print(f'run: {text}', file=sys.stderr, flush=True)


def number(name, default):
    text = os.environ.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 256):
        sys.exit(f'run: {name}={text} is not a number from 1 to 255')
    return int(text)


def choose_disks(slow):
    bus = os.environ.get('DISK') or 'nvme'
    if bus not in ('ide', 'nvme'):
        sys.exit(f'run: DISK is ide or nvme, not {bus}')
    if (os.environ.get('SPEED') or 'full') != 'full':
        sys.exit('run: SPEED is full or not given')
    slow = slow and not os.environ.get('SPEED')
    disks = [qemu.Disk(qemu.BUILD / 'disk.img', bus, SLOW if slow else '')]
    if (qemu.BUILD / 'files.img').exists():
        disks.append(qemu.Disk(qemu.BUILD / 'files.img', bus))
    return disks


def build_command(debug, disks=None):
    """The command line of the machine, and the kernel that it boots. disks: if
    others than the environment's."""
    program = qemu.words(os.environ.get('ARGS') or '')
    options = qemu.words(os.environ.get('KOPTS') or '')
    if '--' in options:
        sys.exit('run: KOPTS has options only; the program goes into ARGS')
    if program:
        options.append('then=poweroff')
    program = program or ['sh', '-c', 'nothread']
    kernel = qemu.BUILD / ('tint-chk.elf' if debug else 'tint.elf')
    initrd = qemu.BUILD / 'initrd.tar'
    disks = choose_disks(slow=not debug) if disks is None else disks
    for path in [kernel, initrd, *(disk.path for disk in disks)]:
        if not Path(path).exists():
            sys.exit(f'run: {path} is not there: run make first')
    length = len(os.fsencode(qemu.command_line(options, program)))
    if length > LONGEST:
        sys.exit(f'run: ARGS and KOPTS make a command line of {length} bytes; '
                 f'TINT takes {LONGEST}')
    cd = None
    if os.environ.get('ISO') and not debug:
        cd = qemu.BUILD / 'run.iso'
        iso.make(cd, kernel, initrd, [*options, '--', *program])
    return qemu.machine_arguments(
        kernel, initrd, qemu.command_line(options, program), disks,
        number('CPUS', 1), os.environ.get('MEM') or '128M', iso=cd), kernel


def output_is_gone():
    """Whether nobody reads what we say: a closed terminal, a pipe's end."""
    poll = select.poll()
    poll.register(1, 0)
    return bool(poll.poll(0))


def wait(process):
    """Waits for process; Ctrl-C is the guest's or QEMU's, not ours."""
    while True:
        try:
            return process.wait(1)
        except subprocess.TimeoutExpired:
            if output_is_gone():
                process.terminate()     # it would run on, and keep the disk
        except KeyboardInterrupt:
            pass


def run(quit_ok, extra=()):
    """Runs the machine on this terminal, with extra options of QEMU."""
    command, kernel = build_command(debug=False)
    command += extra
    log = tempfile.NamedTemporaryFile(prefix='tint-console-')
    command += ['-chardev', 'stdio,id=com1,mux=on,signal=off,logfile='
                + qemu.quote(log.name),
                '-serial', 'chardev:com1', '-mon', 'chardev=com1']
    terminal = sys.stdin and sys.stdin.isatty() and termios.tcgetattr(sys.stdin)
    print('To leave QEMU press Ctrl-A, then X.', flush=True)
    try:
        status = wait(subprocess.Popen(command,
                                       preexec_fn=qemu.die_with_parent))
    finally:
        if terminal:
            termios.tcsetattr(sys.stdin, termios.TCSANOW, terminal)
    console = Path(log.name).read_text(encoding='latin-1')
    closed = CLOSED in console[-200:]
    if status == 0 and closed:
        say('you left QEMU')
        return 0 if quit_ok and not os.environ.get('ARGS') else 3
    names = symbols.explain(console, kernel)
    if names:
        say(f'the addresses of this bugcheck:\n{names}')
    if status != qemu.PASSED:
        meaning = qemu.MEANING.get(status, 'no status that TINT gives')
        say(f'QEMU ended with status {status}: {meaning}')
    return RESULT.get(status, 3)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--quit-ok', action='store_true',
                        help='without ARGS, Ctrl-A X is the status 0')
    args = parser.parse_args()
    try:
        status = run(args.quit_ok)
    except SystemExit as error:         # a message: the guest never ran
        print(error, file=sys.stderr)
        status = 3
    sys.exit(status)


if __name__ == '__main__':
    main()
