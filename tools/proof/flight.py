"""flight.py - follows QEMU's log of a run: what was executed while a disk was
at work.

Three kinds of lines, in one file and in the order of the events:

  - a line for each block of guest code that is executed (-d exec,nochain, no
    filter), the first witness;
  - what the plugin counted whenever a processor halts or goes on (count.c),
    the second one;
  - QEMU's own trace of the disk controller and of interrupts that processors
    send each other, with time stamps.

A flight begins when a disk is given its first write and ends with its next
interrupt. What counts is the time from the moment on at which all processors
are halted, and none has been sent an interrupt that it has yet to wake for.
"""
import collections
import dataclasses
import datetime
import re

DEBUG = ['plugin']                  # from the start on; the first witness later
WITNESS = 'exec,nochain,plugin'
# The first and the third have other names from QEMU 8 and 9 on.
EVENTS = ['ide_*exec_cmd', 'ioapic_set_irq', 'apic_*_write*', 'pci_nvme_write',
          'pci_nvme_enqueue_req_completion', 'pci_nvme_irq_msix']
IDE_WRITES = {0xCA, 0x35, 0x30, 0x34}       # DMA and PIO, LBA28 and LBA48
IDE_PINS = {14, 15}

STAMP = re.compile(r'(\d{4}-[-\d]+T[\d:.]+Z) ')   # of all lines, from 10.2 on
BLOCK = re.compile(r'Trace (\d+): \S+ \[[0-9a-f]+/([0-9a-f]+)/')
COUNT = re.compile(r'count: (idle|resume) (\d+) (\d+) (\d+\.\d+)')
EVENT = re.compile(
    r'(?:@(?P<time>\d+\.\d+):|^)'
    r'(?:ide_(?:bus_)?exec_cmd .* cmd 0x(?P<ide>[0-9a-f]+)'
    r'|ioapic_set_irq vector: (?P<pin>\d+) level: 1'
    r'|apic_(?:mem_writel 0x[0-9a-f]*310|register_write register 0x31)'
    r' = 0x(?P<called>[0-9a-f]+)'
    r'|(?P<nvme>pci_nvme_write) '
    r'|pci_nvme_enqueue_req_completion cid \d+ cqid (?P<done>[1-9])'
    r'|pci_nvme_irq_msix .* vector (?P<vector>[1-9]))')


@dataclasses.dataclass
class Cpu:
    halted: bool = False        # says the plugin
    count: int = 0              # instructions, at its last word
    since: float = 0            # when it halted
    last: int = None            # the last block executed, None: not logged yet
    called: bool = False        # sent an interrupt, not awake yet


@dataclasses.dataclass
class Flight:
    start: float
    end: float = 0              # the disk's interrupt
    quiet: float = 0            # since when all are halted; 0: they never were
    given: int = 1              # writes that the device has been given
    done: int = 0
    before: collections.Counter = dataclasses.field(
        default_factory=collections.Counter)    # blocks, until all halt
    ran: list = dataclasses.field(default_factory=list)   # and from then on
    counted: int = 0            # instructions from then on, says the plugin
    woken: int = 0              # processors that went on before the interrupt
    at_quiet: dict = None       # cpu: its count

    @property
    def seconds(self):
        return self.end - self.start

    @property
    def halted(self):
        return self.end - self.quiet if self.quiet else 0


class Log:
    """Reads a growing log. halt: the address of the one hlt that counts."""

    def __init__(self, path, halt, cpus):
        self.file = open(path, encoding='latin-1')
        self.rest = ''
        self.halt = halt
        self.cpus = {n: Cpu() for n in range(cpus)}
        self.flight = None          # the one that is judged
        self.armed = False          # flights count from now on

    def close(self):
        self.file.close()

    def read(self):
        """Takes in what is new; returns how many characters that were."""
        text = self.file.read()
        lines = (self.rest + text).split('\n')
        self.rest = lines.pop()
        for line in lines:
            self.line(line)
        return len(text)

    def line(self, line):
        stamp = STAMP.match(line)
        line = line[stamp.end():] if stamp else line
        if line.startswith('Trace '):
            match = BLOCK.match(line)
            if match:
                self.block(int(match[1]), int(match[2], 16))
            return
        if line.startswith('count: '):
            match = COUNT.match(line)
            if match:
                self.word(match[1], self.cpus[int(match[2])], int(match[3]),
                          float(match[4]))
            return
        match = EVENT.search(line)
        if match and (stamp or match['time']):
            self.event(match, float(match['time'] or datetime.datetime
                                    .fromisoformat(stamp[1]).timestamp()))

    # ---- The witnesses

    def block(self, number, pc):
        cpu, flight = self.cpus[number], self.flight
        cpu.last, cpu.called = pc, False
        if not flight or flight.end:
            return
        if flight.quiet:
            flight.ran.append(pc)
        else:
            flight.before[pc] += 1

    def word(self, what, cpu, count, time):
        flight = self.flight
        judged = flight and flight.quiet and not flight.end
        if judged and what == 'resume':
            flight.woken += 1
        if judged:
            flight.counted += count - cpu.count
        cpu.halted, cpu.count = what == 'idle', count
        cpu.called = cpu.called and cpu.halted
        cpu.since = time if cpu.halted else 0
        self.look()

    def look(self):
        """Are all halted now, says either witness?"""
        flight = self.flight
        if (flight and not flight.quiet and not flight.end and all(
                cpu.halted and not cpu.called
                and cpu.last in (None, self.halt)
                for cpu in self.cpus.values())):
            flight.quiet = max(flight.start,
                               *(cpu.since for cpu in self.cpus.values()))

    # ---- The disk

    def given(self, time):
        if self.flight:
            if not self.flight.end:
                self.flight.given += 1
        elif self.armed:
            self.flight = Flight(time)

    def interrupt(self, time):
        if self.flight and not self.flight.end:
            self.flight.end = time

    def event(self, match, time):
        if match['called']:
            number = int(match['called'], 16) >> 24
            if number in self.cpus and self.cpus[number].halted:
                self.cpus[number].called = True
        elif match['ide'] and int(match['ide'], 16) in IDE_WRITES:
            self.given(time)
        elif match['nvme']:
            self.given(time)
        elif match['done']:
            if self.flight and not self.flight.end:
                self.flight.done += 1
        elif match['vector'] or (match['pin']
                                 and int(match['pin']) in IDE_PINS):
            self.interrupt(time)
