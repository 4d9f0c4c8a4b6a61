"""processors.py - nt irql, pcr, idt, running, ready: who runs, at which level.
"""
import gdb

from . import guest, stacks, text
from .command import command, value_of
from .guest import Garbage, hexa, number
from .threads import thread_name

PRIORITIES = 32
GATE = 16                       # bytes of an IDT entry


def irql_of(prcb):
    return guest.registers(prcb, 'cr8')[0] & 15


def state_of(prcb):
    """In a word: what a processor is doing."""
    if guest.is_halted(prcb):
        return 'halted'
    if int(prcb['interrupt_depth']):    # also one that interrupted a DPC
        return 'ISR'
    if prcb['dpc_active']:
        return 'DPC'
    if guest.registers(prcb, 'cs')[0] & 3:
        return 'ring 3'
    idle = number(prcb['CurrentThread']) == number(prcb['idle_thread'])
    return 'idle' if idle else 'kernel'


@command('irql')
def irql(argument):
    """nt irql: the IRQL of each processor, which is its CR8.
Beneath what an interrupt, a DPC or an APC runs, all that was interrupted
follows, the latest first. WinDbg: !irql."""
    for prcb in guest.prcbs():
        level = irql_of(prcb)
        yield (f'Debugger saved IRQL for processor {int(prcb["Number"]):#x} '
               f'-- {level} ({text.irql(level)})  [{state_of(prcb)}]')
        yield from stacks.interrupted_lines(prcb)


@command('running')
def running(argument):
    """nt running: the thread of each processor. WinDbg: !running."""
    processors = list(guest.prcbs())
    everyone = sum(1 << int(prcb['Number']) for prcb in processors)
    idle = sum(1 << int(prcb['Number']) for prcb in processors if
               number(prcb['CurrentThread']) == number(prcb['idle_thread']))
    yield f'System Processors:  ({everyone:08x})'
    yield f'  Idle Processors:  ({idle:08x})'
    yield ('     Prcb              Current           (pri)  State   '
           'Thread')
    for prcb in processors:
        thread = guest.at('KTHREAD', prcb['CurrentThread'])
        yield (f' {int(prcb["Number"]):2}  {hexa(prcb.address)}  '
               f'{hexa(thread.address)}  ({int(thread["Priority"]):3})  '
               f'{state_of(prcb):7} {thread_name(thread)}')


@command('ready')
def ready(argument):
    """nt ready: threads that could run, by processor and priority.
WinDbg: !ready."""
    for prcb in guest.prcbs():
        where = int(prcb['Number'])
        if not int(prcb['ready_summary']):
            yield f'Processor {where}: No threads in READY state'
            continue
        yield f'Processor {where}: ready threads, the best first'
        for priority in reversed(range(PRIORITIES)):
            queue = prcb['ready'][priority]
            for thread in guest.entries(queue, 'KTHREAD', 'ready_entry'):
                yield (f'    THREAD {hexa(thread.address)}  priority '
                       f'{priority:2}  {thread_name(thread)}')


@command('pcr', gdb.COMPLETE_EXPRESSION)
def pcr(argument):
    """nt pcr [NUMBER]: a processor's KPRCB; without NUMBER, of the selected one.
WinDbg: !pcr, !prcb."""
    if argument:
        wanted = value_of(argument)
        found = [p for p in guest.prcbs() if int(p['Number']) == wanted]
        if not found:
            raise Garbage(f'there is no processor {wanted}')
        prcb = found[0]
    else:
        prcb = guest.current()
    level = irql_of(prcb)
    yield f'KPRCB for Processor {int(prcb["Number"])} at {hexa(prcb.address)}:'
    thread = guest.at('KTHREAD', prcb['CurrentThread'])
    for name, what in [
            ('Current Thread', f'{hexa(thread.address)} {thread_name(thread)}'),
            ('Idle Thread', hexa(prcb['idle_thread'])),
            ('IRQL', f'{level} ({text.irql(level)}), {state_of(prcb)}'),
            ('APIC Id', int(prcb['apic_id'])),
            ('Interrupt Count', f'{int(prcb["interrupt_count"])} (spurious '
             f'{int(prcb["spurious_count"])}, unknown '
             f'{int(prcb["unknown_count"])}, nested now '
             f'{int(prcb["interrupt_depth"])})'),
            ('DPC Queue', f'{int(prcb["dpc"]["depth"])} queued, '
             f'{int(prcb["dpc"]["count"])} have run; drain requested: '
             f'{bool(prcb["dpc_requested"])}, active: '
             f'{bool(prcb["dpc_active"])}'),
            ('DPC Stack', hexa(prcb['dpc_stack'])),
            ('Service Stack', hexa(prcb['service_stack'])),
            ('Ready Summary', f'{int(prcb["ready_summary"]):08x}'),
            ('Reschedule', bool(prcb['reschedule']))]:
        yield f'    {name:16} {what}'


@command('idt', gdb.COMPLETE_EXPRESSION)
def idt(argument):
    """nt idt [VECTOR]: where interrupts lead; without VECTOR those with an owner.
WinDbg: !idt."""
    table = number(guest.static('kernel/ke/cpu.c', 'idt').address)
    chains = guest.symbol('ki_chains')
    last = chains.type.range()[1]
    wanted = value_of(argument) if argument else None
    if wanted is not None and wanted >= guest.VECTORS:
        raise Garbage(f'vectors end at {guest.VECTORS - 1:#x}')
    yield f'Dumping IDT: {table:016x}'
    for vector in range(guest.VECTORS) if wanted is None else [wanted]:
        raw = guest.memory(table + vector * GATE, GATE)
        entry = int.from_bytes(raw[0:2] + raw[6:12], 'little')
        owners = [f'{name} (KINTERRUPT {where:016x})'
                  for name, where in chain(chains[vector])] \
            if vector <= last else []
        fixed = guest.symbol('ki_trap_stubs') and KNOWN.get(vector)
        if wanted is None and not owners and not fixed:
            continue
        yield (f'{vector:02x}: {entry:016x} {guest.name_of(entry):12} '
               + (', '.join(owners) or fixed or 'nobody'))


KNOWN = {2: 'NMI, stack of its own', 8: 'double fault, stack of its own',
         13: 'general protection', 14: 'page fault',
         0x1F: 'APC (IRQL 1)', 0x2F: 'DPC, reschedule (IRQL 2)',
         0xD1: 'clock (IRQL 13)', 0xE1: 'IPI (IRQL 14)', 0xFF: 'spurious'}


def chain(first):
    """(name of the ISR, address) of the KINTERRUPTs on a vector."""
    where = number(first)
    for _ in range(16):
        if not where:
            return
        interrupt = guest.at('KINTERRUPT', where)
        routine = number(interrupt['ServiceRoutine'])
        yield guest.name_of(routine) or f'{routine:#x}', where
        where = number(interrupt['next'])
    raise Garbage('the chain of KINTERRUPTs does not end')
