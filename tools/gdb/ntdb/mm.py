"""mm.py - nt pte, pool: page tables by hand, and who has the pool.
"""
import collections

import gdb

from . import guest
from .command import command, value_of
from .guest import Garbage, number
from .threads import find_process

DIRECT_MAP = 0xFFFF800000000000
FRAME = 0x000FFFFFFFFFF000
LEVELS = [('PXE', 39), ('PPE', 30), ('PDE', 21), ('PTE', 12)]
OWNERS = 24                     # rows of `nt pool`


def flags(entry):
    """As WinDbg draws them: ---DA--KWEV; a page that may run has an E."""
    bit = {n: bool(entry >> n & 1) for n in range(64)}
    return ''.join([
        'G' if bit[8] else '-', 'L' if bit[7] else '-',
        'D' if bit[6] else '-', 'A' if bit[5] else '-',
        'N' if bit[4] else '-', 'T' if bit[3] else '-',
        'U' if bit[2] else 'K', 'W' if bit[1] else 'R',
        '-' if bit[63] else 'E', 'V' if bit[0] else '-'])


@command('pte', gdb.COMPLETE_EXPRESSION)
def pte(argument):
    """nt pte ADDRESS [, PROCESS]: the page table entries of an address.
Without PROCESS in the space that the selected processor has loaded.
WinDbg: !pte."""
    if not argument:
        raise Garbage('of which address?')
    what, _, who = argument.partition(',')
    address = value_of(what)
    if who.strip():
        table = number(find_process(who.strip())['space']['cr3'])
    else:
        table = guest.register('cr3')
    yield f'                 VA {address:016x}'
    if address >> 47 not in (0, (1 << 17) - 1):
        raise Garbage(f'{address:#x} is no canonical address')
    for name, shift in LEVELS:
        where = DIRECT_MAP + (table & FRAME) + (address >> shift & 511) * 8
        entry = guest.word(where)
        yield (f'{name} at {where:016x}  contains {entry:016x}  pfn '
               f'{(entry & FRAME) >> 12:<6x} {flags(entry)}')
        if not entry & 1:
            yield 'not valid' + (' (allocated, but without access)'
                                 if entry and name == 'PTE' else '')
            return
        if entry & 1 << 7 and name != 'PTE':    # boot's own: a large page
            break
        table = entry
    yield f'physical {(entry & FRAME) + (address & (1 << shift) - 1):x}'


@command('pool', gdb.COMPLETE_EXPRESSION)
def pool(argument):
    """nt pool [ADDRESS]: who has the pool, by tag; or the block at an address.
The checked kernel knows every live block. WinDbg: !poolused, !pool."""
    if argument:
        yield from block_lines(value_of(argument))
        return
    yield (f'Pool: {number(guest.symbol("ex_pool_bytes"))} bytes in '
           f'{number(guest.symbol("ex_pool_blocks"))} blocks, '
           f'{number(guest.symbol("ex_pool_pages"))} pages are cut into blocks')
    count, size = collections.Counter(), collections.Counter()
    for guard in guards():
        tag = tag_of(guard['tag'])
        count[tag] += 1
        size[tag] += number(guard['size'])
    yield ' Tag    Blocks     Bytes'
    for tag, total in size.most_common(OWNERS):
        yield f' {tag}   {count[tag]:6} {total:9}'


def guards():
    """The headers of all live blocks, which only the checked kernel has."""
    return guest.entries(guest.static('tests/kernel/poolguard.c', 'live'),
                         'guard', 'entry')


def tag_of(value):
    return guest.printable(int(value).to_bytes(4, 'little'))


def block_lines(address):
    for guard in guards():
        start = number(guard['body'].address)
        size = number(guard['size'])
        if number(guard.address) <= address < start + size + 16:
            yield (f'Pool block {start:016x}: {size} bytes, tag '
                   f'{tag_of(guard["tag"])}, byte {address - start} of it')
            for i in range(2):
                caller = number(guard['allocated'][i])
                yield f'    allocated at {caller:016x} {guest.name_of(caller)}'
            return
    yield f'{address:#x} lies in no live block of the pool.'
