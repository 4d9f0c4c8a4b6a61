"""stream.py - reads what the kernel writes to port 0xe9: trace records.

The layout is kernel/ke/trace.h's: units of 16 bytes, records and notes. What
the rings lost before it could be written is counted by the kernel; a record
that was read before its writer had filled it in is recognised here, as a copy
of what lay in the same slot before, and counted as well.
"""
import dataclasses
import re
import struct

from pathlib import Path

import tracering

NTABI = Path(__file__).resolve().parent.parent.parent / 'kernel/ntabi.h'
NOTE = 0                              # the code of a note
START, RECORDS, THREAD = 0, 1, 2      # its kinds
EMPTY = bytes(tracering.RECORD.size)

CODES = {name: code for code, name in tracering.event_names().items()}


class Damaged(ValueError):
    """This is no trace, or not a whole one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    time: int       # ticks of the time stamp counter
    cpu: int
    code: int
    irql: int
    aux: int
    id: int


@dataclasses.dataclass
class Recording:
    frequency: int                # ticks a second
    records: list                 # of all processors, by time
    lost: dict                    # cpu: overwritten before they were read
    torn: dict                    # cpu: read before they were written
    threads: dict                 # id: (process, program)
    holes: list                   # (begin, end): some are missing in between
    cut: bool                     # the stream ends in the middle

    @property
    def missing(self):
        return sum(self.lost.values()) + sum(self.torn.values())


def service_names():
    """The system services, by their numbers."""
    return re.findall(r'X\((\w+), \d+,', NTABI.read_text())


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0
        self.rings = {}           # cpu: {slot: the raw record last read there}
        self.written = {}         # cpu: records so far, with those lost
        self.lost, self.torn, self.threads = {}, {}, {}
        self.records = []
        self.holes = []
        self.last = {}            # cpu: when its last record was written
        self.holed = set()        # processors, since their last record

    def unit(self):
        raw = self.data[self.at:self.at + tracering.RECORD.size]
        self.at += tracering.RECORD.size
        if len(raw) < tracering.RECORD.size:
            raise EOFError
        return raw

    def note(self):
        value, event, kind, ident = tracering.RECORD.unpack(self.unit())
        if event & tracering.CODE != NOTE or kind not in (START, RECORDS,
                                                          THREAD):
            raise Damaged(f'no note where one should be, at byte {self.at}')
        return kind, ident, value

    def read_records(self, cpu, value):
        count, lost = value & 0xffffffff, value >> 32
        ring = self.rings.setdefault(cpu, {})
        first = self.written.get(cpu, 0) + lost
        self.written[cpu] = first + count
        self.lost[cpu] = self.lost.get(cpu, 0) + lost
        self.torn.setdefault(cpu, 0)
        if lost:
            self.holed.add(cpu)
        for position in range(first, first + count):
            raw, slot = self.unit(), position % self.size
            stale = raw == ring.get(slot, EMPTY)
            ring[slot] = raw
            if stale:
                self.torn[cpu] += 1
                self.holed.add(cpu)
                continue
            time, event, aux, ident = tracering.RECORD.unpack(raw)
            self.records.append(Record(
                time, cpu, event & tracering.CODE,
                event >> tracering.IRQL & 0xf, aux, ident))
            if cpu in self.holed:
                self.holes.append((self.last.get(cpu, 0), time))
                self.holed.remove(cpu)
            self.last[cpu] = time

    def read(self):
        kind, self.size, self.frequency = self.note()
        if kind != START or not self.frequency or not self.size:
            raise Damaged('the trace does not begin with its start')
        cut = False
        try:
            while self.at < len(self.data):
                kind, ident, value = self.note()
                if kind == THREAD:
                    name = self.unit().split(b'\0')[0].decode('latin-1')
                    self.threads[ident] = (value, name)
                elif kind == RECORDS:
                    self.read_records(ident, value)
        except EOFError:
            cut = True
        self.records.sort(key=lambda record: (record.time, record.cpu))
        return Recording(self.frequency, self.records, self.lost, self.torn,
                         self.threads, self.holes, cut)


def read(data):
    """The Recording in these bytes; Damaged if it is none."""
    if not data:
        raise Damaged('the trace is empty: does this kernel export it?')
    try:
        return Reader(data).read()
    except EOFError:
        raise Damaged('the trace ends before it has begun') from None
