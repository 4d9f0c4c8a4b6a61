"""case.py - one machine that is watched while its writes are in flight.

The guest boots to its shell. The host then lets the disk take no write any
more, switches on the log of every block that is executed, without a filter,
types the command, and waits until a write is at the disk and every processor
is halted. It holds that for a second, looks at the host's accounting of the
virtual processors and into the guest's memory, lets the disk go, and reads on
until the disk's interrupt.
"""
import bisect
import dataclasses
import os
import re
import time

from pathlib import Path

import qemu
import symbols

from proof import guest
from proof.flight import DEBUG, EVENTS, WITNESS, Flight, Log

PLUGIN = qemu.BUILD / 'proof-count.so'
KERNEL = 1 << 63        # its addresses begin above
IDLE, SWITCH = 'ki_idle_hlt', 'ki_swap_context'
PROMPT = re.compile(rb'(?:\A|\n)tint> ')
HELD = 1.1              # seconds that a write is held with all halted
FORESEEN = 10           # seconds ahead in which no timer may be due
TIMEOUT = 300           # seconds that a request may take: no slow host ends one
SHORTEST = 0.5          # a shorter flight, or halt, proves nothing
SETTLE = 4              # seconds to halt in before; one that polls never does
BOOT, ANSWER = 120, 60  # seconds; bounds that only something broken reaches
# How many characters of log there may be before the first write, and from there
# to the halt of all, where each further write may take some: more is polling,
# or a program that has something else to do.
BEFORE, PATIENCE, PATIENCE_WRITE = 200 << 20, 12 << 20, 2 << 20
# Blocks before the halt, the same; of nothread, which has one thread, the last.
BUSY, BUSY_WRITE, BUSY_KNOWN = 20000, 20000, 1000
SLACK = 1e-3            # seconds of the host's time that are no work
MANY = 100              # writes from which on switches say something
FEW = 10                # switches: more than one thread that goes to wait needs
# Pins of the I/O APIC on which something may interrupt: console, IDE. No clock.
PINS = {3, 4, 14, 15}
BLOCK = 4096            # bytes of one write
DISK = 16 << 20
APIC_HZ = 10**9         # QEMU's local APIC timer
HOLD, RELEASE = '0 0 1 0 0 0', '0 0 0 0 0 0'     # bytes a second, of writes


@dataclasses.dataclass
class Outcome:
    flight: Flight = None
    faults: list = dataclasses.field(default_factory=list)  # first verdict
    held: int = None            # threads; the second verdict
    holders: list = dataclasses.field(default_factory=list)
    threads: list = dataclasses.field(default_factory=list)
    switches: int = 0           # between threads, until all were halted
    host: float = 0             # seconds that the host ran virtual processors
    host_for: float = 0         # of so many
    timer: float = None         # seconds to the first one of any processor
    clocks: list = dataclasses.field(default_factory=list)  # others, armed
    absent: int = 0             # writes not on the disk while in flight ...
    present: int = 0            # ... and there afterwards
    busiest: str = ''
    end: str = ''               # what the program said last

    @property
    def nothing_ran(self):
        return not self.faults

    @property
    def nobody_held(self):
        return self.held == 0


def vcpu_times(machine):
    """Seconds of host time per virtual processor: as exact as the host says
    (schedstat), but not less than its ordinary accounting (stat)."""
    total = 0
    for cpu in machine.qmp('query-cpus-fast'):
        task = Path(f'/proc/{machine.process.pid}/task/{cpu["thread-id"]}')
        fields = (task / 'stat').read_text().rpartition(')')[2].split()
        ticks = (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
        try:
            exact = int((task / 'schedstat').read_text().split()[0]) / 1e9
        except OSError:
            exact = ticks
        total += max(ticks, exact) if not exact else exact
    return total


def next_timer(machine):
    """Seconds to the next timer interrupt that a local APIC is armed for, None
    if none is; a periodic one counts as due."""
    found = []
    for cpu in range(machine.cpus):
        said = machine.hmp(f'info lapic {cpu}')
        armed = re.search(r'^LVTT\s.*$', said, re.M)
        count = re.search(r'divide by (\d+)\).*current_count = (\d+)', said)
        if not armed or not count or 'masked' in armed[0]:
            continue
        if 'periodic' in armed[0]:
            found.append(0)
        elif int(count[2]):
            found.append(int(count[1]) * int(count[2]) / APIC_HZ)
    return min(found, default=None)


def other_clocks(machine):
    """What could interrupt besides the local APICs' timers, the console and
    the disk: pins of the I/O APIC, and of the older controller all."""
    said = machine.hmp('info pic')
    pins = {int(pin) for pin in re.findall(r'^ *pin (\d+) (?!.*\bmasked\b)',
                                           said, re.M)} - PINS
    return [f'pin {pin} of the I/O APIC' for pin in sorted(pins)] + [
        f'pic{n}' for n in re.findall(r'^pic(\d):.*\bimr=(?!ff)', said, re.M)]


class Case:
    """exact: each write is a block of its own, from the disk's first on."""

    def __init__(self, kernel, program, bus='ide', cpus=1, writes=1,
                 options=(), mem='256M', name=None, initrd=None, exact=False,
                 plugin=PLUGIN):
        self.writes, self.program, self.exact = writes, program, exact
        self.disk = qemu.BUILD / 'proof' / f'{name or "disk"}-{os.getpid()}.img'
        self.disk.parent.mkdir(parents=True, exist_ok=True)
        with open(self.disk, 'wb') as image:
            image.truncate(DISK)
        self.machine = qemu.Machine(
            f'proof/{name or "case"}', program=['sh'], kernel=kernel,
            options=['then=poweroff', f'iotimeout={TIMEOUT}', *options],
            initrd=initrd,
            disks=[qemu.Disk(self.disk, bus)], cpus=cpus, mem=mem,
            debug=DEBUG, trace=EVENTS,
            extra=['-msg', 'timestamp=on', '-plugin', qemu.quote(plugin)])
        self.symbols = symbols.load(self.machine.kernel)
        table = {entry[2]: entry[0] for entry in self.symbols}
        if IDLE not in table:
            raise ValueError(f'{self.machine.kernel} has no label {IDLE}: '
                             'where does it halt?')
        self.halt, self.switch = table[IDLE], table.get(SWITCH)
        self.out = Outcome()

    # ---- The run

    def run(self):
        """Runs the case and returns its Outcome."""
        log = None
        try:
            with self.machine as m:
                m.expect(PROMPT, BOOT)
                log = Log(m.logs / 'qemu.log', self.halt, m.cpus)
                self.watch(m, log, guest.Guest(m))
        finally:
            if log:
                log.close()
                (self.machine.logs / 'qemu.log').unlink()   # some hundred MB
            self.disk.unlink(missing_ok=True)
        return self.out

    def settle(self, log):
        """Gives all some time to halt behind the prompt, as the plugin says."""
        end = time.monotonic() + SETTLE
        while time.monotonic() < end:
            log.read()
            if all(cpu.halted for cpu in log.cpus.values()):
                return
            time.sleep(0.02)

    def watch(self, m, log, threads):
        self.settle(log)
        before = {thread.id: thread for thread in threads.threads()}
        m.hmp(f'block_set_io_throttle disk0 {HOLD}')
        # The first request after a pause passes; let it be one of ours.
        m.hmp('qemu-io disk0 "write -P 0 0 512"')
        m.hmp(f'log {WITNESS}')
        log.armed = True
        m.send(' '.join(map(qemu.escape, self.program)) + '\r')
        if self.until_halted(m, log):
            self.hold(m, log)
            self.out.timer = next_timer(m)
            self.out.clocks = other_clocks(m)
            if m.comes(PROMPT, 0):
                self.out.faults.append('the program had ended when its write '
                                       'was still in flight')
            self.look_at_threads(threads.threads(), before)
            self.out.absent = self.count_blocks(zero=True)
            m.hmp(f'block_set_io_throttle disk0 {RELEASE}')
            self.until(m, log, lambda: log.flight.end)
        m.hmp(f'log {",".join(DEBUG)}')
        m.hmp(f'block_set_io_throttle disk0 {RELEASE}')
        log.read()
        self.out.flight = log.flight
        self.judge(log)
        if self.out.nothing_ran:
            self.finish(m)
        self.out.end = m.console[-4000:]

    def until(self, m, log, done, patience=None):
        """Reads on until done(); False if the program or the patience ends
        first."""
        said = 0
        end = time.monotonic() + ANSWER
        while not done():
            got = log.read()
            said += got
            if patience and said > patience:
                return False
            if got:
                end = time.monotonic() + ANSWER
            elif m.comes(PROMPT, 0) or not m.reader.is_alive():
                log.read()
                return bool(done())
            elif time.monotonic() > end:
                return False
            if not got:
                time.sleep(0.01)
        return True

    def until_halted(self, m, log):
        self.until(m, log, lambda: log.flight, BEFORE)
        if log.flight:
            self.until(m, log, lambda: log.flight.quiet or log.flight.end,
                       PATIENCE + PATIENCE_WRITE * self.writes)
        return bool(log.flight and log.flight.quiet and not log.flight.end)

    def hold(self, m, log):
        """A second in which nobody asks QEMU anything."""
        first, since = vcpu_times(m), time.monotonic()
        end = since + HELD
        while time.monotonic() < end and not log.flight.end:
            time.sleep(0.05)
            log.read()
        self.out.host_for = time.monotonic() - since
        self.out.host = vcpu_times(m) - first

    def finish(self, m):
        """Lets the program end, and looks whether the writes were real."""
        m.comes(PROMPT, ANSWER + self.writes // 10)
        self.out.present = self.count_blocks(zero=False)
        if self.exact and not (self.out.absent == self.out.present
                               == self.writes):
            self.out.faults.append(
                f'of {self.writes:,} writes {self.out.absent:,} were not on '
                f'the disk while they should have been in flight, and '
                f'{self.out.present:,} were there in the end')

    def count_blocks(self, zero):
        """How many of the writes' blocks hold nothing, or something."""
        with open(self.disk, 'rb') as image:
            blocks = [image.read(BLOCK) for _ in range(self.writes)]
        return sum(any(block) != zero for block in blocks)

    # ---- The verdicts

    def look_at_threads(self, now, before):
        """Who is held by a write? Whoever works on a request; whoever waits
        for anything but a packet, one thread of the program aside: somebody
        has to be told; and whoever else has run since the prompt, the shell's
        one thread aside. Of nothread it is known that it has one thread."""
        others = 0
        shell = min((thread.id for thread in before.values()
                     if thread.program == 'sh'), default=None)
        for thread in now:
            old = before.get(thread.id)
            same = old and (old.switches, old.stack) == (thread.switches,
                                                         thread.stack)
            packet = (thread.state == guest.WAITING and not self.exact
                      and thread.reason == guest.QUEUE and not old
                      and thread.program != 'System')
            if thread.irp:
                self.out.holders.append(thread)
            elif same or packet or thread.id == shell:
                continue
            elif (thread.program == 'System' or others or old
                  or thread.state != guest.WAITING):
                self.out.holders.append(thread)
            else:
                others += 1
        self.out.threads = now
        self.out.held = len(self.out.holders)

    def name(self, address):
        """The function at an address of the kernel; what else ran is told by
        its address."""
        at = bisect.bisect_right(self.symbols, address,
                                 key=lambda entry: entry[0]) - 1
        kernel = self.symbols[-1][0] > address >= KERNEL
        return self.symbols[at][2] if kernel else f'{address:#x}'

    def judge(self, log):
        out, f = self.out, log.flight
        fault = out.faults.append
        if not f:
            fault('no write was in flight')
            return
        blocks = sum(f.before.values())
        out.switches = f.before[self.switch]
        top = f.before.most_common(1)
        out.busiest = self.name(top[0][0]) if top else ''
        if not f.quiet:
            fault(f'while the disk had the write {blocks:,} blocks ran, most '
                  f'often {out.busiest}; never were all processors halted')
            return
        if not f.end:
            fault("the disk's interrupt did not come")
        elif f.seconds < SHORTEST or f.halted < SHORTEST:
            fault(f'in flight for {f.seconds:.2f} s, halted for '
                  f'{f.halted:.2f} s: too short to prove anything')
        if f.ran:
            names = {self.name(pc) for pc in f.ran[:200]}
            fault(f'{len(f.ran):,} blocks ran between the halt and the '
                  f'interrupt: {", ".join(sorted(names)[:5])}')
        if f.counted or f.woken:
            fault(f'the plugin counted {f.counted:,} instructions, and '
                  f'{f.woken:,} times a processor that went on')
        if out.host > SLACK:
            fault(f'the host ran the virtual processors for '
                  f'{out.host * 1000:.1f} ms of {out.host_for:.2f} s')
        if out.timer is not None and out.timer < FORESEEN:
            fault(f'a timer was armed, due in {out.timer:.1f} s: it would have '
                  'interrupted a longer flight')
        known = self.exact and '--threads' not in self.program
        if blocks > BUSY + (BUSY_KNOWN if known else BUSY_WRITE) * self.writes:
            fault(f'{blocks:,} blocks ran before the halt, most often '
                  f'{out.busiest}: somebody polled first')
        for clock in out.clocks:
            fault(f'{clock} may interrupt: what is behind it is no disk')
        # Somebody whom the list does not show? Of an unknown program's few
        # writes nobody knows how many switches they need.
        if not out.held and (
                out.switches > FEW if self.exact else
                out.switches >= self.writes >= MANY):
            out.held = out.switches
