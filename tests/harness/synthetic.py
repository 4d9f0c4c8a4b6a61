"""synthetic.py - streams of port 0xe9 that no kernel wrote: as large, or as
damaged, as a test needs them.
"""
import struct

import tracering

from timeline import stream
from timeline.stream import CODES

FREQUENCY = 10**9               # a tick is a nanosecond
RING = 16384
PASSIVE, DISPATCH, DEVICE = 0, 2, 5
WRITE, WAITING, WRQUEUE = 4, 5, 4


def record(time, name, ident=0, aux=0, irql=PASSIVE):
    return tracering.RECORD.pack(time, CODES[name] | irql << 8, aux, ident)


def note(kind, ident, value):
    return tracering.RECORD.pack(value, stream.NOTE, kind, ident)


def batch(cpu, records, lost=0):
    return note(stream.RECORDS, cpu, lost << 32 | len(records)) + b''.join(
        records)


def thread(ident, process, name):
    return note(stream.THREAD, ident, process) + struct.pack('16s',
                                                             name.encode())


def start(ring=RING):
    return note(stream.START, ring, FREQUENCY)


def write(time, irp, service, unit=0, flight=200000):
    """The 18 records of one write of a thread that then waits in the port."""
    us = 1000
    down = time + 20 * us
    up = down + flight
    leave = WAITING << 8 | WRQUEUE
    return [
        record(time, 'SERVICE', service),
        record(time + 2 * us, 'IRP_BUILT', irp, WRITE),
        record(time + 3 * us, 'IRP_CALL', irp, WRITE),
        record(time + 5 * us, 'DMA_START', irp, unit, DISPATCH),
        record(time + 8 * us, 'IRP_PENDING', irp),
        record(down - 4 * us, 'SWITCH', 0, leave, DISPATCH),
        record(down, 'IDLE_IN'),
        record(up, 'IDLE_OUT'),
        record(up + 1 * us, 'ISR_IN', 0x50, 0, DEVICE),
        record(up + 4 * us, 'ISR_OUT', 0x50, 0, DEVICE),
        record(up + 5 * us, 'DPC_IN', 0, 0, DISPATCH),
        record(up + 8 * us, 'IRP_COMPLETE', irp, 0, DISPATCH),
        record(up + 9 * us, 'READY', 20, 8, DISPATCH),
        record(up + 10 * us, 'DPC_OUT', 0, 0, DISPATCH),
        record(up + 11 * us, 'SWITCH', 20, 1 << 8, DISPATCH),
        record(up + 12 * us, 'APC_IN', 20, 0, 1),
        record(up + 15 * us, 'IRP_DONE', irp, 0, 1),
        record(up + 17 * us, 'APC_OUT', 20, 0, 1),
        record(up + 20 * us, 'PORT_REMOVE', irp),
    ]


def many(events):
    """A stream of at least so many records, of one processor and thread."""
    service = stream.service_names().index('NtWriteFile')
    records = [record(1, 'SWITCH', 20, 1 << 8, DISPATCH)]
    time, irp = 1000, 1
    while len(records) < events:
        records += write(time, irp, service)
        time += 300000
        irp += 1
    out = start(1 << 20) + thread(20, 16, 'many')
    return out + batch(0, records)
