"""qemu.py - TINT's machine: the QEMU command line, and a class that drives it.

The launcher (run.py) and the tests build every command line here, so that
both boot the same machine. Only the standard library is needed.
"""
import contextlib
import ctypes
import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import symbols
import tracering

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / os.environ.get('BUILD', 'build')
QEMU = 'qemu-system-x86_64'

# What QEMU's exit status says; the guest writes the rest of it to port 0xf4.
PASSED, FAILED, BUGCHECK = 33, 35, 37
MEANING = {
    PASSED: 'the first program returned 0',
    FAILED: 'the first program failed, or said shutdown with a number',
    BUGCHECK: 'the kernel stopped with a bugcheck, or refused to boot',
    0: 'the guest said nothing: a triple fault, or QEMU was closed',
    1: 'QEMU itself failed: its message stands above',
}


# ---- Words of the kernel command line ---------------------------------------

def words(text):
    """Splits text as the kernel does: "..." groups, \\\\ \\" \\' escape."""
    found, word, quoted, i = [], None, False, 0
    while i < len(text):
        c = text[i]
        if c in ' \t' and not quoted:
            if word is not None:
                found.append(word)
            word = None
        else:
            word = word or ''
            if c == '"':
                quoted = not quoted
            else:
                if c == '\\' and text[i + 1:i + 2] in ('\\', '"', "'"):
                    i += 1
                word += text[i]
        i += 1
    return found if word is None else found + [word]


def escape(word):
    """Writes word so that words() and the kernel read exactly it."""
    out = re.sub(r'''([\\"'])''', r'\\\1', word)
    return f'"{out}"' if not out or re.search(r'[ \t]', out) else out


def command_line(options, program):
    """The kernel command line: options, `--`, and the first program."""
    return ' '.join(escape(word) for word in [*options, '--', *program])


# ---- The machine ------------------------------------------------------------

@dataclasses.dataclass
class Disk:
    """A raw image on a bus (ide or nvme); options are those of -drive."""
    path: object
    bus: str = 'ide'
    options: str = ''       # 'throttling.iops-total=4'
    device: str = ''        # of -device nvme: 'max_ioqpairs=1'


def quote(path):
    """A file name inside an option of QEMU, where a comma ends the value."""
    return str(path).replace(',', ',,')


def find_qemu():
    path = shutil.which(QEMU)
    if not path:
        raise SystemExit(f'{QEMU} is missing: `make setup` installs it '
                         '(package qemu-system-x86)')
    return path


def disk_arguments(disks):
    """The options for disks; index 2 of IDE is QEMU's CD drive by default."""
    out = []
    for n, disk in enumerate(disks):
        drive = f'format=raw,file={quote(disk.path)}'
        if disk.options:
            drive += f',{disk.options}'
        if disk.bus == 'nvme':
            out += ['-drive', f'if=none,id=disk{n},{drive}', '-device',
                    f'nvme,drive=disk{n},serial=disk{n}'
                    + (f',{disk.device}' if disk.device else '')]
        else:
            # Without these, a full host disk stops the whole machine.
            out += ['-drive', f'if=ide,id=disk{n},werror=report,rerror=report,'
                    + drive]
    return out


def machine_arguments(kernel, initrd, append, disks=(), cpus=1, mem='128M',
                      cpu='max', iso=None):
    """All of the command line but the consoles."""
    out = [find_qemu(), '-accel', 'tcg', '-machine', 'pc', '-cpu', cpu,
           '-m', str(mem), '-smp', str(cpus), '-display', 'none',
           '-no-reboot', '-device', 'isa-debug-exit,iobase=0xf4,iosize=0x04']
    if iso:
        out += ['-cdrom', str(iso), '-boot', 'd']
    else:
        # Strict: or the firmware looks for a boot sector on each NVMe disk, and
        # takes a second for it.
        out += ['-kernel', str(kernel), '-boot', 'strict=on']
        if initrd:
            out += ['-initrd', str(initrd)]
        out += ['-append', append]
    return out + disk_arguments(disks)


def debugcon(path):
    """Port 0xe9, whose bytes go to a file: the trace of the kernel."""
    return ['-chardev', f'file,id=debugcon,path={quote(path)}',
            '-device', 'isa-debugcon,iobase=0xe9,chardev=debugcon']


def die_with_parent():
    """In the child: QEMU must not outlive a killed Python."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Failure(AssertionError):
    """The machine did not do what a test waits for; the text says why."""


class Machine:
    """One run of QEMU that a test talks to.

        with Machine('boot', program=['sh']) as m:
            m.expect('> ')
            m.send('shutdown\\n')
            assert m.wait() == PASSED

    COM1 is `console` (all of it so far), COM2 a file, QMP a socket. All logs
    and the command line are kept in build/test-logs/NAME/. append, if given,
    is the kernel's command line as it stands.
    """

    def __init__(self, name, program=('sh',), options=('then=poweroff',),
                 kernel=None, initrd=None, disks=(), cpus=1, mem='128M',
                 cpu='max', extra=(), debug=(), trace=(), iso=None,
                 append=None):
        self.kernel = Path(kernel or BUILD / 'tint.elf')
        self.logs = BUILD / 'test-logs' / re.sub(r'[^\w.=+-]+', '_', name)
        self.debug = ['cpu_reset', *debug]      # a triple fault shows up here
        self.trace = trace
        self.extra = extra
        self.arguments = machine_arguments(
            self.kernel, BUILD / 'initrd.tar' if initrd is None else initrd,
            command_line(options, program) if append is None else append,
            disks, cpus, mem, cpu, iso)
        self.cpus = cpus
        self.output = bytearray()
        self.mark = 0                           # expect() has read up to here
        self.changed = threading.Condition()
        self.process = None
        self.events = []                        # of QMP, that nobody asked for

    def __enter__(self):
        return self if self.process else self.start()

    def __exit__(self, *_):
        self.kill()

    # ---- Start and end

    def start(self):
        shutil.rmtree(self.logs, ignore_errors=True)
        self.logs.mkdir(parents=True)
        self.com1, com1 = socket.socketpair()
        self.monitor, monitor = socket.socketpair()
        command = [
            *self.arguments,
            '-chardev', f'socket,id=com1,fd={com1.fileno()}',
            '-serial', 'chardev:com1',
            '-chardev', f'file,id=com2,path={quote(self.logs / "com2.log")}',
            '-serial', 'chardev:com2',
            '-chardev', f'socket,id=qmp,fd={monitor.fileno()}',
            '-mon', 'chardev=qmp,mode=control',
            '-D', str(self.logs / 'qemu.log'), '-d', ','.join(self.debug)]
        for event in self.trace:
            command += ['-trace', event]
        command += self.extra
        (self.logs / 'command').write_text(shlex.join(command) + '\n')
        with open(self.logs / 'stderr.log', 'wb') as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=errors,
                stderr=errors, pass_fds=(com1.fileno(), monitor.fileno()),
                cwd=ROOT, preexec_fn=die_with_parent)
        com1.close()
        monitor.close()
        self.replies = self.monitor.makefile('r')
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        return self

    def _read(self):
        """The thread that empties COM1, so that the guest never waits. It
        writes the log, too: in QEMU's own stands twice what the socket had no
        room for at once."""
        with open(self.logs / 'console.log', 'wb', buffering=0) as log:
            data = b'?'
            while data:
                try:
                    data = self.com1.recv(65536)
                except OSError:
                    data = b''
                with self.changed:
                    self.output += data
                    self.changed.notify_all()
                log.write(data)

    def wait(self, bound=180):
        """Waits until QEMU has ended, and returns its status."""
        try:
            status = self.process.wait(bound)
        except subprocess.TimeoutExpired:
            report = self.report(f'no end within {bound} s')
            self.kill()
            raise Failure(report) from None
        self.reader.join(5)
        return status

    def expect_status(self, status, bound=180):
        """Waits until QEMU has ended with this status."""
        if self.wait(bound) != status:
            raise Failure(self.report(f'QEMU should end with {status}'))

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process:
            self.reader.join(5)
            self.replies.close()
            self.monitor.close()
            self.com1.close()

    # ---- Talking to the guest

    @property
    def console(self):
        """Everything that COM1 said so far, as text with plain newlines."""
        with self.changed:
            text = bytes(self.output)
        return text.decode('latin-1').replace('\r\n', '\n')

    @property
    def com2(self):
        path = self.logs / 'com2.log'
        text = path.read_bytes() if path.exists() else b''
        return text.decode('latin-1').replace('\r\n', '\n')

    def send(self, text):
        """Types text on COM1."""
        self.com1.sendall(text.encode('latin-1'))

    def comes(self, what, bound=120):
        """Waits for what, a string or a compiled pattern for bytes, in the
        output behind the last match; returns the output up to its end, or
        None if it does not come."""
        if isinstance(what, str):
            what = re.compile(re.escape(what.encode('latin-1')))
        end = time.monotonic() + bound
        with self.changed:
            while True:
                match = what.search(self.output, self.mark)
                if match:
                    text = bytes(self.output[self.mark:match.end()])
                    self.mark = match.end()
                    return text.decode('latin-1')
                left = end - time.monotonic()
                if left <= 0 or not self.reader.is_alive():
                    return None
                self.changed.wait(min(left, 0.2))

    def expect(self, what, bound=120):
        """The same, but it has to come; if not, the machine is stopped."""
        text = self.comes(what, bound)
        if text is not None:
            return text
        how = f'within {bound} s'
        if not self.reader.is_alive():          # COM1 was closed: QEMU ends
            how = 'before QEMU ended'
            self.process.wait(10)
        raise Failure(self.report(f'{what!r} did not come {how}'))

    # ---- Talking to QEMU

    def qmp(self, command, bound=60, **arguments):
        """Runs one QMP command and returns what it returned."""
        self.monitor.settimeout(bound)
        if not hasattr(self, 'greeting'):
            self.greeting = json.loads(self.replies.readline())
            self.qmp('qmp_capabilities')
        message = {'execute': command}
        if arguments:
            message['arguments'] = {key.replace('_', '-'): value
                                    for key, value in arguments.items()}
        self.monitor.sendall(json.dumps(message).encode() + b'\n')
        while True:
            try:
                line = self.replies.readline()
            except ConnectionError:
                line = ''
            if not line:
                raise Failure(f'QEMU closed QMP during {command}')
            reply = json.loads(line)
            if 'return' in reply:
                return reply['return']
            if 'error' in reply:
                raise Failure(f'QMP {command}: {reply["error"]["desc"]}')
            self.events.append(reply)

    def inject_nmi(self):
        """An NMI for every processor. TINT may have stopped QEMU before it can
        say that it was done."""
        with contextlib.suppress(Failure):
            self.qmp('inject-nmi')

    def hmp(self, command):
        """Runs one command of the human monitor and returns its answer."""
        return self.qmp('human-monitor-command', command_line=command)

    def memory(self, address, length, cpu=0):
        """Reads guest memory at a virtual address, as cpu sees it."""
        path = self.logs / 'memory'
        if address >= 1 << 63:                  # QMP's integers are signed
            address -= 1 << 64
        self.qmp('memsave', val=address, size=length, filename=str(path),
                 cpu_index=cpu)
        return path.read_bytes()

    def trace_events(self, last=40):
        """The last records of the trace rings, as text."""
        try:
            self.qmp('stop')
            return tracering.dump(self.kernel, self.memory, self.cpus, last)
        except (Failure, OSError, ValueError) as error:
            return f'no trace: {error}'

    # ---- For a person

    def report(self, what, lines=40):
        """What went wrong: the console's tail, names for addresses, the last
        trace events of a guest that still runs, and where the logs are."""
        parts = [what]
        status = self.process.poll() if self.process else None
        if status is not None:
            parts.append(f'QEMU status {status}: '
                         + MEANING.get(status, 'not a status of the guest'))
        tail = '\n'.join(self.console.splitlines()[-lines:])
        parts.append(f'--- console, last lines\n{tail}')
        names = symbols.explain(self.console, self.kernel)
        if names:
            parts.append('--- addresses\n' + names)
        path = self.logs / 'stderr.log'
        errors = path.exists() and path.read_text(errors='replace').strip()
        if errors:
            parts.append(f'--- QEMU\n{errors}')
        if self.process and status is None:
            parts.append(f'--- last trace events\n{self.trace_events()}')
        parts.append(f'--- logs: {os.path.relpath(self.logs, ROOT)}/')
        return '\n'.join(parts)
