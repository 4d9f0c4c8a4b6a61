"""deferred.py - nt dpcs, apc, timers, locks: what waits for its moment.
"""
import gdb

from . import guest
from .command import command
from .guest import hexa, number
from .threads import all_threads, find_thread, is_idle, process_name, cid

IMPORTANCE = ['Low', 'Normal', 'High', 'MediumHigh']
FOREVER = guest.MASK


@command('dpcs')
def dpcs(argument):
    """nt dpcs: DPCs that are queued, by processor. WinDbg: !dpcs.
One whose routine runs is off its queue already; `Active` says that a processor
drains its own, on its DPC stack."""
    yield 'CPU Type        KDPC              Function'
    count = 0
    for prcb in guest.prcbs():
        where = int(prcb['Number'])
        for dpc in guest.entries(prcb['dpc']['list'], 'KDPC', 'DpcListEntry'):
            count += 1
            kind = IMPORTANCE[int(dpc['Importance']) & 3]
            yield (f'{where:2}: {kind:10}: {hexa(dpc.address)}: '
                   f'{guest.name_of(number(dpc["DeferredRoutine"]))}')
        if prcb['dpc_active']:
            yield f'{where:2}: Active    : the drain loop runs'
    if not count:
        yield 'No DPC is queued.'


@command('apc', gdb.COMPLETE_EXPRESSION)
def apc(argument):
    """nt apc [THREAD]: APCs that are queued, of all threads or of one.
WinDbg: !apc."""
    if argument:
        threads = [find_thread(argument)]
    else:
        yield '*** Enumerating APCs in all processes'
        threads = [thread['Tcb'] for thread in all_threads()]
    count = 0
    for thread in threads:
        for mode, name in enumerate(['KERNEL', 'USER']):
            head = thread['ApcState']['ApcListHead'][mode]
            found = list(guest.entries(head, 'KAPC', 'ApcListEntry'))
            if not found:
                continue
            who = 'idle' if is_idle(thread) else process_name(thread)
            yield (f'Thread {hexa(thread.address)} Cid {cid(thread)} {who} '
                   f'ApcListHead [{name}]')
            for one in found:
                count += 1
                yield from apc_lines(one)
    if not count:
        yield 'No APC is queued.'


def apc_lines(one):
    normal = number(one['NormalRoutine'])
    kind = ('special kernel' if not normal else
            'user' if int(one['ApcMode']) else 'normal kernel')
    yield f'    KAPC @ {hexa(one.address)}  {kind}'
    for name in ['KernelRoutine', 'RundownRoutine', 'NormalRoutine']:
        where = number(one[name])
        yield f'      {name:14} {where:016x} {guest.name_of(where)}'.rstrip()


@command('timers')
def timers(argument):
    """nt timers: timers that are set, and when each clock comes next.
WinDbg: !timer."""
    per_ms = number(guest.symbol('hal_tsc_frequency')) / 1000
    yield 'CPU Timer             Due (ms since boot)  Period  Whose'
    for prcb in guest.prcbs():
        where, count = int(prcb['Number']), 0
        for timer in heap(number(prcb['timers']['root'])):
            count += 1
            yield (f'{where:2}: {hexa(timer.address)}  '
                   f'{number(timer["node"]["key"]) / 10000:19.3f}  '
                   f'{int(timer["Period"]):6}  {owner(timer)}')
        if not count:
            yield f'{where:2}: no timer is set'
        deadline = number(prcb['clock_deadline'])
        when = ('is not armed: nothing is due' if deadline == FOREVER else
                f'comes at {deadline / per_ms:.3f} ms since boot')
        yield f'    the clock of processor {where} {when}'


def heap(root):
    """The KTIMERs of a skew heap (kernel/rtl/heap.c), the earliest first."""
    back = guest.offset('KTIMER', 'node')
    todo, seen, found = [root], set(), []
    while todo:
        node = todo.pop()
        if not node or node in seen:
            continue
        seen.add(node)
        timer = guest.at('KTIMER', node - back)
        found.append((number(timer['node']['key']), node, timer))
        todo += [number(timer['node'][side]) for side in ('left', 'right')]
    return [timer for _, _, timer in sorted(found, key=lambda t: t[:2])]


def owner(timer):
    where = number(timer.address)
    for thread in all_threads():
        if number(thread['Tcb']['Timer'].address) == where:
            return f'time-out of thread {int(thread["Tcb"]["id"])}'
    if number(timer['Dpc']):
        dpc = guest.at('KDPC', timer['Dpc'])
        return 'DPC ' + guest.name_of(number(dpc['DeferredRoutine']))
    if number(timer['apc']):
        apc = guest.at('KAPC', timer['apc'])
        thread = guest.at('KTHREAD', apc['Thread'])
        return (f'APC {number(apc["NormalRoutine"]):#x} '
                f'to thread {int(thread["id"])}')
    return 'an object'


LOCKS = [('kernel/io/cancel.c', 'cancel_lock', 'cancel'),
         (None, 'io_files_lock', 'list of files'),
         (None, 'psp_lock', 'threads and processes'),
         (None, 'ki_dispatcher_lock', 'dispatcher'),
         ('kernel/ob/name.c', 'name_lock', 'names')]


@command('locks')
def locks(argument):
    """nt locks: spin locks that have a name, and mutants that threads own.
A spin lock does not know its owner; the checked kernel counts for each
processor how many it holds. WinDbg: !locks, for what NT calls resources."""
    for file, name, what in LOCKS:
        lock = guest.static(file, name) if file else guest.symbol(name)
        yield f'{name:20} {"HELD" if int(lock) else "free"}  ({what})'
    try:
        held = guest.static('tests/kernel/verify.c', 'held')
    except guest.Garbage:
        held = None             # the free kernel does not count
    for prcb in guest.prcbs():
        i = int(prcb['Number'])
        queue = 'HELD' if int(prcb['dpc']['lock']) else 'free'
        counted = f', holds {int(held[i])} spin locks' if held else ''
        yield f'processor {i}: DPC queue lock {queue}{counted}'
    count = 0
    for thread in all_threads():
        tcb = thread['Tcb']
        for mutant in guest.entries(tcb['MutantListHead'], 'KMUTANT',
                                    'MutantListEntry'):
            count += 1
            yield (f'mutant {hexa(mutant.address)}: owned by thread '
                   f'{int(tcb["id"])}, {process_name(tcb)}')
    if not count:
        yield 'No thread owns a mutant.'
