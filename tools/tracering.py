"""tracering.py - reads the kernel's trace rings out of a guest's memory.

The layout is kernel/ke/trace.h's and stands only here; the names of the
events come from kernel/ntabi.h, the file that ring 3 reads as well.
"""
import re
import struct

from pathlib import Path

import symbols

RINGS = 'ki_trace_rings'            # an array, one struct per processor
RING = struct.Struct('<QQQ')        # next, mask: in bytes; their address
RECORD = struct.Struct('<QHHI')     # time, event, aux, id
CODE, IRQL = 0xff, 8                # event = code | IRQL << 8


def event_names():
    """{code: name} of TRACE_EVENT, which counts up by one."""
    text = (Path(__file__).parent.parent / 'kernel/ntabi.h').read_text()
    text = re.sub(r'//.*', '', text)
    body = re.search(r'enum TRACE_EVENT \{(.*?)\}', text, re.S)
    names, code = {}, 0
    for name, value in re.findall(r'TRACE_(\w+)(?:\s*=\s*(\d+))?',
                                  body.group(1) if body else ''):
        code = int(value) if value else code
        names[code] = name
        code += 1
    return names


def records(elf, memory, cpus, last):
    """The last records of all rings, oldest first: (time, cpu, event, aux,
    id). memory(address, length) reads the guest."""
    table = [entry for entry in symbols.load(elf) if entry[2] == RINGS]
    if not table:
        raise ValueError(f'{elf} has no symbol {RINGS}')
    found = []
    for cpu in range(cpus):
        ring = memory(table[0][0] + cpu * RING.size, RING.size)
        following, mask, base = RING.unpack(ring)
        if not base:                # this processor has not started yet
            continue
        begin = following - min(last * RECORD.size, mask + 1)
        for at in range(max(0, begin), following, RECORD.size):
            raw = memory(base + (at & mask), RECORD.size)
            time, event, aux, ident = RECORD.unpack(raw)
            found.append((time, cpu, event, aux, ident))
    return sorted(found)[-last:]


def dump(elf, memory, cpus=1, last=40):
    """The last records as text, one a line; time in ticks, from the last."""
    found = records(elf, memory, cpus, last)
    if not found:
        return 'the trace is empty'
    names, end = event_names(), found[-1][0]
    return '\n'.join(
        f'{time - end:>14}  cpu {cpu}  irql {event >> IRQL & 0xf:<2} '
        f'{names.get(event & CODE, event & CODE):<14} aux {aux} id {ident}'
        for time, cpu, event, aux, ident in found)
