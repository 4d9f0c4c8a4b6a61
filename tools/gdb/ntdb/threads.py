"""threads.py - nt threads, thread, ps: who there is, and what each waits for.
"""
import gdb

from . import guest, stacks, text
from .command import command, is_id, value_of
from .guest import Garbage, hexa, number

SAVED_RBP, SAVED_RIP = 5, 6     # words above kernel_rsp: ki_swap_context


# ---- Finding them ------------------------------------------------------------

def all_threads():
    """Every ETHREAD that has not ended."""
    return guest.entries(guest.symbol('psp_threads'), 'ETHREAD',
                         'ThreadListEntry')


def processes():
    """Every EPROCESS that has a thread, in the order of their ids."""
    found = {}
    for thread in all_threads():
        process = guest.at('EPROCESS', thread['process'])
        found[int(process['UniqueProcessId'])] = process
    return [found[key] for key in sorted(found)]


def find_thread(argument):
    """The KTHREAD that an id, an address, or nothing (the current one) names."""
    if not argument:
        return guest.at('KTHREAD', guest.current()['CurrentThread'])
    value = value_of(argument)
    if is_id(value):
        for thread in all_threads():
            if int(thread['Tcb']['id']) == value:
                return thread['Tcb']
        raise Garbage(f'there is no thread {value}')
    return check_thread(value)


def check_thread(value):
    """A KTHREAD, if what lies at an address can be one."""
    thread = guest.at('KTHREAD', value)
    if text.constant('KOBJECTS', thread['Header']['Type']) != 'ThreadObject':
        raise Garbage(f'{value:#x} is not a thread: its header has type '
                      f'{int(thread["Header"]["Type"])}')
    text.check_constant('KTHREAD_STATE', thread['State'], f'{value:#x}')
    return thread


def find_process(argument):
    """The EPROCESS of an id, an address or a program; without one the current."""
    if not argument:
        thread = find_thread('')
        if is_idle(thread):
            raise Garbage('the idle thread belongs to no EPROCESS: name one '
                          '(`nt ps` lists them)')
        return guest.at('EPROCESS', thread['Process'])
    for process in processes():
        if guest.array(process['ImageFileName']) == argument:
            return process
    value = value_of(argument)
    if is_id(value):
        for process in processes():
            if int(process['UniqueProcessId']) == value:
                return process
        raise Garbage(f'there is no process {value}')
    process = guest.at('EPROCESS', value)
    if text.constant('KOBJECTS', process['Pcb']['Header']['Type']) != \
            'ProcessObject':
        raise Garbage(f'{value:#x} is not a process')
    return process


# ---- Words for them ----------------------------------------------------------

def is_idle(thread):
    return any(number(prcb['idle_thread']) == number(thread.address)
               for prcb in guest.prcbs())


def process_name(thread):
    """The program that a KTHREAD belongs to."""
    if is_idle(thread):
        return 'Idle'
    return guest.array(guest.at('EPROCESS', thread['Process'])
                       ['ImageFileName'])


def thread_name(thread):
    if is_idle(thread):
        return 'idle'
    return f'{process_name(thread)}, thread {int(thread["id"])}'


def cid(thread):
    if is_idle(thread):
        return '0000.0000'
    process = guest.at('EPROCESS', thread['Process'])
    return f'{int(process["UniqueProcessId"]):04x}.{int(thread["id"]):04x}'


def state_text(thread):
    """RUNNING on processor 0, WAIT: (WrQueue) UserMode Non-Alertable, ..."""
    state = text.constant('KTHREAD_STATE', thread['State'])
    if state == 'Running':
        return f'RUNNING on processor {int(thread["processor"])}'
    if state != 'Waiting':
        return state.upper()
    reason = text.constant('KWAIT_REASON', thread['WaitReason'])
    mode = 'UserMode' if int(thread['WaitMode']) else 'KernelMode'
    alertable = 'Alertable' if thread['Alertable'] else 'Non-Alertable'
    return f'WAIT: ({reason}) {mode} {alertable}'


def waits_for(thread):
    """(address, kind) of each object that a waiting thread waits for."""
    if text.constant('KTHREAD_STATE', thread['State']) != 'Waiting':
        return
    for i in range(int(thread['WaitCount'])):
        block = guest.at('KWAIT_BLOCK', (thread['WaitBlockList'] + i))
        header = guest.at('DISPATCHER_HEADER', block['Object'])
        yield number(header.address), text.constant('KOBJECTS', header['Type'])
    if thread['Timer']['Header']['Inserted']:
        yield number(thread['Timer'].address), 'time-out'


# ---- The commands ------------------------------------------------------------

@command('threads')
def threads(argument):
    """nt threads: all threads, one line each.
WORKS ON: the IRP that its call or its APC belongs to; a thread that waits for
a packet or an event works on none."""
    yield 'Thread            Cid        Pri  Works on  State'
    for prcb in guest.prcbs():
        idle = guest.at('KTHREAD', prcb['idle_thread'])
        yield thread_line(idle, f'idle {int(prcb["Number"])}')
    for thread in all_threads():
        yield thread_line(thread['Tcb'], process_name(thread['Tcb']))


def thread_line(thread, name):
    works = int(thread['irp_id'])
    state = state_text(thread)
    if state.startswith('WAIT: '):
        reason = text.constant('KWAIT_REASON', thread['WaitReason'])
        waits = ', '.join(kind for _, kind in waits_for(thread))
        state = f'WAIT: ({reason})' + (f' on {waits}' if waits else '')
    return (f'{hexa(thread.address)}  {cid(thread)}  {int(thread["Priority"]):3}'
            f'  {"IRP " + str(works) if works else "-":8}  {name}: '
            + state)


@command('thread', gdb.COMPLETE_EXPRESSION)
def thread(argument):
    """nt thread [ID|ADDRESS]: one thread; without argument the current one.
What it waits for, its IRPs, where it stands. WinDbg: !thread."""
    one = find_thread(argument)
    yield (f'THREAD {hexa(one.address)}  Cid {cid(one)}  '
           f'{state_text(one)}')
    for where, kind in waits_for(one):
        yield f'    {where:016x}  {kind}'
    works = int(one['irp_id'])
    yield (f'Works on I/O:           IRP {works}' if works else
           'Works on I/O:           no')
    yield 'IRP List:'
    count = 0
    for irp in guest.entries(one['io']['irps'], 'IRP', 'ThreadListEntry'):
        count += 1
        yield (f'    {hexa(irp.address)}: id {int(irp["id"])}  '
               f'Mdl: {hexa(irp["MdlAddress"])}')
    if not count:
        yield '    none hangs on the thread'
    yield (f'Owning Process          {hexa(one["Process"])}  Image: '
           f'{process_name(one)}')
    if number(one['attached']) != number(one['Process']):
        yield f'Attached Process        {hexa(one["attached"])}'
    yield f'Context Switch Count    {int(one["ContextSwitches"])}'
    yield (f'APCs disabled           kernel {int(one["KernelApcDisable"])}, '
           f'special {int(one["SpecialApcDisable"])}; pending: kernel '
           f'{bool(one["ApcState"]["KernelApcPending"])}, user '
           f'{bool(one["ApcState"]["UserApcPending"])}')
    if number(one['Queue']):
        yield f'Associated port         {hexa(one["Queue"])}'
    yield (f'Stack Init {hexa(one["InitialStack"])} Current '
           f'{hexa(one["kernel_rsp"])} Limit {hexa(one["StackLimit"])}')
    yield (f'Priority {int(one["Priority"])} BasePriority '
           f'{int(one["BasePriority"])} Affinity {int(one["Affinity"]):#x}')
    if text.constant('KTHREAD_STATE', one['State']) in ('Waiting', 'Ready'):
        yield '        Child-SP or return address, where it goes on'
        rsp = number(one['kernel_rsp'])
        yield from stacks.backtrace(guest.word(rsp + SAVED_RIP * 8),
                                    guest.word(rsp + SAVED_RBP * 8))


@command('ps', gdb.COMPLETE_EXPRESSION)
def ps(argument):
    """nt ps [ID|NAME|ADDRESS]: all processes, or one with its threads.
WinDbg: !process 0 0, !process."""
    if not argument:
        yield '**** NT ACTIVE PROCESS DUMP ****'
        for process in processes():
            yield from process_lines(process)
        return
    process = find_process(argument)
    yield from process_lines(process)
    for one in all_threads():
        if number(one['process']) == number(process.address):
            yield (f'    THREAD {hexa(one["Tcb"].address)}  Cid '
                   f'{cid(one["Tcb"])}  {state_text(one["Tcb"])}')


def process_lines(process):
    table = process['ObjectTable']
    exit_status = text.status(process['ExitStatus'])
    yield f'PROCESS {hexa(process.address)}'
    yield (f'    Cid: {int(process["UniqueProcessId"]):04x}  Peb: '
           f'{hexa(process["peb"])}  ParentCid: '
           f'{int(process["parent_id"]):04x}')
    yield (f'    DirBase: {number(process["space"]["cr3"]):08x}  ObjectTable: '
           f'{hexa(table.address)}  HandleCount: {int(table["count"]):3}.')
    yield f'    Image: {guest.array(process["ImageFileName"])}'
    if exit_status != 'STATUS_PENDING':
        yield f'    Ends with: {exit_status}'
