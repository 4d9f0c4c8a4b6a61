"""witness.py - watches a guest from outside, through QEMU's gdb stub.

Breakpoints live in QEMU: the guest cannot see, move or remove them, and what
a stop tells - which processor, at which address, with which registers - is
the processor's word and not the kernel's. Code that wants to be seen begins
with a `nop`; after a stop there the guest goes on behind it.
"""
import dataclasses
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import time

from pathlib import Path

import qemu
import symbols

GENERAL = 'rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip'
LAYOUT = struct.Struct('<17QI6I3Q6Q')   # QEMU's i386-64bit.xml, its beginning
NAMES = [*GENERAL.split(), 'eflags', 'cs', 'ss', 'ds', 'es', 'fs', 'gs',
         'fs_base', 'gs_base', 'k_gs_base', 'cr0', 'cr2', 'cr3', 'cr4', 'cr8',
         'efer']
RIP = 16                    # its number in the protocol
NOP = 1                     # bytes
PIECE = 1024                # of memory in one packet
BOUND = 30                  # seconds without a stop that end a hang ...
STILL = 5                   # ... or so many with all processors halted
HALTED = ('it hangs: every processor is halted, and nothing comes that would '
          'wake one')
INTERRUPTS = 1 << 9         # in eflags


class Ended(Exception):
    """The guest is gone, or stopped moving; the text says which."""


@dataclasses.dataclass
class Stop:
    """A processor at one of the watched places."""
    place: str
    cpu: int
    registers: dict

    def __getattr__(self, name):
        try:
            return self.__dict__['registers'][name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def arguments(self):
        return tuple(self.registers[name] for name in
                     ('rdi', 'rsi', 'rdx', 'rcx'))


def addresses(elf, names):
    """{name: address} of global symbols; a static one of the same name in
    another file does not count."""
    out = subprocess.run([symbols.tool('nm'), '-g', '--defined-only', elf],
                         text=True, capture_output=True, check=True).stdout
    table = {line.split()[-1]: int(line.split()[0], 16)
             for line in out.splitlines()}
    return {name: table[name] for name in names}


def all_halted(machine):
    """Whether every processor of a machine stands at a hlt."""
    states = re.findall(r'HLT=(\d)', machine.hmp('info registers -a'))
    return bool(states) and set(states) == {'1'}


def wait_for_end(machine, bound):
    """Waits until QEMU has ended; Ended, with why, if it does not."""
    still = 0
    for _ in range(bound):
        try:
            machine.process.wait(1)
            return
        except subprocess.TimeoutExpired:
            still = still + 1 if all_halted(machine) else 0
        if still >= STILL:
            raise Ended(HALTED)
    raise Ended(f'it hangs: it runs, but comes to no end within {bound} s')


class Witness(qemu.Machine):
    """A Machine that stops at places; they are set before it starts."""

    def __init__(self, name, places, **options):
        self.places = places            # {name: address}
        self.folder = tempfile.mkdtemp(prefix='tint-')
        self.path = Path(self.folder) / 'gdb'
        super().__init__(name, extra=[
            '-S', '-chardev',
            f'socket,id=gdb,server=on,wait=off,path={self.path}',
            '-gdb', 'chardev:gdb', *options.pop('extra', ())], **options)

    def start(self):
        super().start()
        end = time.monotonic() + BOUND
        self.stub = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.stub.connect(str(self.path))
                break
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise Ended(self.last_words()) from None
                time.sleep(0.02)
        self.buffer = b''
        self.ask('?')
        # Only then does QEMU accept single registers.
        self.ask('qXfer:features:read:target.xml:0,ffb')
        for address in self.places.values():
            self.ask(f'Z0,{address:x},1')
        self.names = {at: name for name, at in self.places.items()}
        self.at = None                  # the stop that it stands at
        return self

    def kill(self):
        super().kill()
        if hasattr(self, 'stub'):
            self.stub.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---- The protocol

    def put(self, packet):
        data = packet.encode()
        self.send_raw(b'$%s#%02x' % (data, sum(data) & 0xff))

    def send_raw(self, data):
        try:
            self.stub.sendall(data)
        except OSError:                 # QEMU has ended
            raise Ended(self.last_words()) from None

    def take(self, bound):
        """The next packet, or None if none comes in time."""
        end = time.monotonic() + bound
        while True:
            match = re.search(rb'\$([^#]*)#..', self.buffer, re.S)
            if match:
                self.buffer = self.buffer[match.end():]
                self.send_raw(b'+')
                return match[1].decode('latin-1')
            left = end - time.monotonic()
            if left <= 0:
                return None
            self.stub.settimeout(left)
            try:
                data = self.stub.recv(65536)
            except socket.timeout:
                continue
            except OSError:
                data = b''
            if not data:
                raise Ended(self.last_words())
            self.buffer += data

    def ask(self, packet):
        self.put(packet)
        reply = self.take(BOUND)
        if not reply or reply.startswith('E'):
            raise Ended(f'QEMU refused {packet[:20]}: {reply}')
        return reply

    # ---- What a check does

    def next(self):
        """Lets the guest run until it stops at a watched place."""
        if self.at:
            self.ask(f'P{RIP:x}='
                     + struct.pack('<Q', self.at.rip + NOP).hex())
        self.at = None
        self.put('c')
        reply = self.wait_for_stop()
        if reply[0] != 'T':
            raise Ended(self.last_words())
        thread = re.search(r'thread:([0-9a-f]+)', reply)
        registers = dict(zip(NAMES, LAYOUT.unpack(
            bytes.fromhex(self.ask('g'))[:LAYOUT.size])))
        place = self.names.get(registers['rip'])
        if not place:
            raise Ended(f'stopped at {registers["rip"]:#x}, nobody knows why')
        self.at = Stop(place, int(thread[1], 16) - 1, registers)
        return self.at

    def wait_for_stop(self):
        """Waits with a bound that only a hang reaches."""
        end, still = time.monotonic() + BOUND, 0
        while time.monotonic() < end:
            reply = self.take(1)
            if reply:
                return reply
            still = still + 1 if all_halted(self) else 0
            if still >= STILL:
                raise Ended(HALTED)
        raise Ended(f'it hangs: it runs, but got nowhere for {BOUND} s')

    def read(self, address, length):
        out = b''
        while len(out) < length:
            size = min(PIECE, length - len(out))
            out += bytes.fromhex(self.ask(f'm{address + len(out):x},{size:x}'))
        return out

    def write(self, address, data):
        for at in range(0, len(data), PIECE):
            piece = data[at:at + PIECE]
            self.ask(f'M{address + at:x},{len(piece):x}:{piece.hex()}')

    def last_words(self):
        """Why the guest is gone, as far as it can be told."""
        try:
            status = self.process.wait(10)
        except subprocess.TimeoutExpired:
            return 'QEMU closed its gdb stub'
        self.reader.join(5)
        stop = re.search(r'^\*\*\* STOP.*(?:\n.+){0,3}', self.console, re.M)
        if status == qemu.BUGCHECK and stop:
            names = symbols.explain(self.console, self.kernel)
            return f'the kernel stopped:\n{stop[0]}\n{names}'.strip()
        if status in (qemu.PASSED, qemu.FAILED):
            return 'the guest left QEMU by itself, before it was done'
        return f'QEMU status {status}: ' + qemu.MEANING.get(status, 'died')
