"""flight.py - reads QEMU's log of a run: what ran while a disk was at work.

The log comes from `-d exec,nochain` (one line for each block of guest code
that is executed) and from trace events of the IDE disk and the I/O APIC, all
in one file and in order. A flight begins when the disk is given a DMA command
and ends when its interrupt line rises. With several processors what counts is
the time from the moment on at which all of them are halted, and none has been
sent an IPI that it has yet to wake for: only one that runs can send it.
"""
import dataclasses
import re

import symbols

DEBUG = ['exec', 'nochain']
EVENTS = ['ide_exec_cmd', 'ioapic_set_irq', 'apic_mem_writel']
# All but the BIOS and the option ROMs, whose polling would be most of the log.
EXTRA = ['-dfilter', '0x100000000..0xffffffffffffffff',
         '-msg', 'timestamp=on']
IDLE = 'ki_idle_hlt'
SHORTEST = 0.5      # seconds: a disk that is not throttled has no idle flights

LINE = re.compile(
    r'^Trace (?P<cpu>\d+): \S+ \[[0-9a-f]+/(?P<pc>[0-9a-f]+)/[^]]*\] ?(?P<name>\S*)'
    r'|@(?P<time>\d+\.\d+):(?:ide_exec_cmd .* cmd 0x(?P<command>[0-9a-f]+)'
    r'|ioapic_set_irq vector: (?P<pin>\d+) level: 1'
    r'|apic_mem_writel 0x[0-9a-f]*310 = 0x(?P<called>[0-9a-f]{2}))')
DMA = {0xC8: 'read', 0x25: 'read', 0xCA: 'write', 0x35: 'write'}


@dataclasses.dataclass
class Flight:
    kind: str               # read or write
    start: float
    end: float = 0
    before: int = 0         # blocks from the command on, until all halt
    halted: bool = False    # all of them did, at one moment
    ran: list = dataclasses.field(default_factory=list)    # from then on

    @property
    def seconds(self):
        return self.end - self.start


def flights(log, elf, pin=14):
    """The flights of the disks on one channel, in order."""
    halt = next(address for address, _, name in symbols.load(elf)
                if name == IDLE)
    found, flight, awake, called = [], None, set(), set()
    with open(log, encoding='latin-1') as lines:
        for line in lines:
            match = LINE.search(line)
            if not match:
                continue
            if match['pc']:
                if int(match['pc'], 16) == halt:
                    awake.discard(match['cpu'])
                else:
                    awake.add(match['cpu'])
                    called.discard(match['cpu'])
                if not flight:
                    continue
                if flight.halted:
                    flight.ran.append(match['name'] or match['pc'])
                elif awake or called:
                    flight.before += 1
                else:
                    flight.halted = True
            elif match['called']:    # ICR, high: whom the next IPI goes to
                called.add(str(int(match['called'], 16)))
            elif match['command']:
                kind = DMA.get(int(match['command'], 16))
                if kind:
                    flight = Flight(kind, float(match['time']))
            elif flight and int(match['pin']) == pin:
                flight.end = float(match['time'])
                found.append(flight)
                flight = None
    return found


def judge(found):
    """What speaks against `nobody waits`; an empty list is a pass."""
    long = [flight for flight in found if flight.seconds > SHORTEST]
    if not long:
        return [f'no flight of {len(found)} is longer than {SHORTEST} s']
    faults = []
    for n, flight in enumerate(long):
        if not flight.halted:
            faults.append(f'flight {n}: never were all halted, '
                          f'{flight.before} blocks ran')
        elif flight.ran:
            names = ', '.join(sorted(set(flight.ran))[:5])
            faults.append(f'flight {n}: {len(flight.ran)} blocks behind the '
                          f'hlt, in {names}')
    return faults
