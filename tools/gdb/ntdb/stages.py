"""stages.py - the twelve stages of one write: where each is met, what is told
there, and what must hold. The order and the names are those of the README.

A stage's `where` is a place as gdb takes it, or a variable to be watched;
`meets` looks whether a stop there is the write of this walk; `holds` gives
pairs (true or false, what it says).
"""
import dataclasses

import gdb

from . import guest, stacks, text
from .guest import number

PASSIVE, APC, DISPATCH = 0, 1, 2
DEVICE_FIRST, DEVICE_LAST = 3, 11
STATUS_SUCCESS, STATUS_PENDING = 0, 0x103
FILE_DEVICE_DISK, FO_SYNCHRONOUS_IO = 7, 0x30
IRP_MJ_WRITE = 4
HANDLE_MASK = 0xFFFFFFFC
WATCH = 'watch '                # such a place is a variable, not a function


@dataclasses.dataclass
class Stage:
    number: int
    title: str
    where: str
    story: str
    meets: object
    holds: object


# ---- What a stop is asked ----------------------------------------------------

def ring():
    return guest.register('cs') & 3


def irql():
    return guest.register('cr8') & 15


def thread_here():
    return number(guest.current()['CurrentThread'])


def is_idle_here():
    prcb = guest.current()
    return number(prcb['CurrentThread']) == number(prcb['idle_thread'])


def basics(walk, level, ring_wanted=0):
    """Level, ring and, but for what is nobody's, the thread."""
    wanted = [level] if isinstance(level, int) else level
    return [(irql() in wanted, f'IRQL {irql()} ({text.irql(irql())})'),
            (ring() == ring_wanted, f'ring {ring()}')]


def in_asking_thread(walk):
    return [(thread_here() == walk.thread,
             f'in the thread that asked ({walk.thread_id})')]


def on_dpc_stack(walk):
    prcb = guest.current()
    return [(stacks.is_on_dpc_stack(prcb), 'on the DPC stack'),
            (bool(prcb['dpc_active']), 'the drain loop runs')]


def irp_state(walk, state):
    found = text.constant('SNAPSHOT_IRP_STATE', walk.irp()['state'])
    return (found == state, f'the IRP\'s state is {found}')


# ---- 1 to 5: down, in the caller's thread ------------------------------------

def meets_call(walk):
    """Ring 3 asks for an asynchronous write to a disk."""
    from .objects import header_of, table_entries
    from .threads import find_process
    if ring() != 3:
        return False
    wanted = guest.register('rdi') & HANDLE_MASK
    for handle, entry in table_entries(find_process('')['ObjectTable']):
        where = number(entry['object'])
        if handle != wanted or header_of(where)[1] != 'File':
            continue
        file = guest.at('FILE_OBJECT', where)
        device = guest.at('DEVICE_OBJECT', file['DeviceObject'])
        if int(device['DeviceType']) == FILE_DEVICE_DISK and \
                not int(file['Flags']) & FO_SYNCHRONOUS_IO:
            walk.begin(thread_here(), where)
            return True
    return False


def holds_call(walk):
    return basics(walk, PASSIVE, 3) + in_asking_thread(walk)


def meets_service(walk):
    return thread_here() == walk.thread


def holds_service(walk):
    return basics(walk, PASSIVE) + in_asking_thread(walk)


def meets_down(walk):
    """IoCallDriver(device, irp) with the first IRP of the call."""
    if thread_here() != walk.thread:
        return False
    irp = guest.at('IRP', guest.register('rsi'))
    location = irp['stack'][int(irp['CurrentLocation']) - 2]
    if int(location['MajorFunction']) != IRP_MJ_WRITE:
        return False
    walk.found_irp(irp)
    return True


def holds_down(walk):
    from .io import all_irps
    irp = walk.irp()
    listed = any(number(one.address) == walk.irp_at for one, _ in all_irps())
    mdl = guest.at('MDL', irp['MdlAddress'])
    return (basics(walk, range(DISPATCH + 1)) + in_asking_thread(walk) +
            [(number(irp['Thread']) == walk.thread,
              'the IRP names the thread that asked'),
             (listed, 'it hangs on a list, so that it can be cancelled'),
             (bool(mdl['locked']), 'the caller\'s pages are pinned')])


def meets_irp(walk):
    return guest.register('rdi') == walk.irp_at


def meets_dma(walk):
    return irp_state(walk, 'IrpAtDevice')[0]


def holds_dma(walk):
    mdl = guest.at('MDL', walk.irp()['MdlAddress'])
    physical = (number(mdl['frames'][0]) << 12) + int(mdl['ByteOffset'])
    return (basics(walk, DISPATCH) + in_asking_thread(walk) +
            [(physical > 0, 'the device gets physical addresses, the first is '
              f'{physical:#x}')])


def meets_pending(walk):
    return thread_here() == walk.thread and \
        guest.register('rax') & 0xFFFFFFFF == STATUS_PENDING


def holds_pending(walk):
    return (basics(walk, PASSIVE) + in_asking_thread(walk) +
            [(guest.register('rax') & 0xFFFFFFFF == STATUS_PENDING,
              'rax is STATUS_PENDING'), irp_state(walk, 'IrpAtDevice')])


# ---- 6: nobody ---------------------------------------------------------------

def holds_flight(walk):
    from .threads import all_threads
    result = [irp_state(walk, 'IrpAtDevice')]
    for prcb in guest.prcbs():
        i = int(prcb['Number'])
        rip = guest.registers(prcb, 'rip')[0]
        result += [
            (guest.is_halted(prcb), f'QEMU says: processor {i} is halted'),
            (rip - guest.address('ki_idle_hlt') in (0, 1),
             f'processor {i} stands at the idle loop\'s hlt')]
    works = [int(thread['Tcb']['id']) for thread in all_threads()
             if int(thread['Tcb']['irp_id'])]
    return result + [(not works, f'{len(works)} threads work on I/O')]


# ---- 7 to 9: up, beneath whoever is there ------------------------------------

def meets_driver(walk):
    return True


def holds_interrupt(walk):
    prcb = guest.current()
    frames = list(stacks.trap_frames(prcb))
    halt = guest.address('ki_idle_hlt') + 1
    who = stacks.describe(frames[0]) if frames else 'nobody was interrupted'
    walk.interrupted = who
    return (basics(walk, range(DEVICE_FIRST, DEVICE_LAST + 1)) +
            [(int(prcb['interrupt_depth']) == 1, 'one interrupt deep'),
             (bool(frames) and number(frames[0]['Rip']) == halt, who),
             (is_idle_here(), 'the current thread is the idle thread: nobody'),
             (not stacks.is_on_dpc_stack(prcb),
              'on the stack of whom it interrupted')])


def holds_dpc(walk):
    frames = list(stacks.trap_frames(guest.current()))
    who = stacks.describe(frames[0]) if frames else 'nobody was interrupted'
    return (basics(walk, DISPATCH) + on_dpc_stack(walk) +
            [(who == walk.interrupted, f'still {who}')])


def holds_complete(walk):
    status = number(walk.irp()['IoStatus']['Status']) & 0xFFFFFFFF
    return (holds_dpc(walk) +
            [(status == STATUS_SUCCESS, f'its status is {text.status(status)}'),
             (number(walk.irp()['IoStatus']['Information']) == walk.length,
              f'Information is {walk.length} bytes, all of them')])


# ---- 10 to 12: back to the thread that asked, and on -------------------------

def meets_apc(walk):
    return guest.register('rdi') == walk.irp_at + guest.offset('IRP',
                                                               'Tail.Apc')


def holds_apc(walk):
    process = guest.at('EPROCESS', guest.at('KTHREAD', walk.thread)['Process'])
    space = number(process['space']['cr3'])
    return (basics(walk, APC) + in_asking_thread(walk) +
            [(guest.register('cr3') == space,
              'in its address space: here the status can be stored')])


def is_in_port(walk, port):
    from .io import packets
    return any(where == walk.irp_at for _, where in packets(port))


def meets_packet(walk):
    """A thread of the port leaves the kernel with success, and the packet is
    not in the port any more."""
    port = guest.at('KQUEUE', guest.at('FILE_OBJECT', walk.file)
                    ['CompletionPort'])
    prcb = guest.current()
    thread = guest.at('KTHREAD', prcb['CurrentThread'])
    if number(thread['Queue']) != number(port.address) or \
            guest.register('rax') & 0xFFFFFFFF != STATUS_SUCCESS or \
            is_in_port(walk, port):
        return False
    top = number(thread['InitialStack'])
    frame = guest.at('KTRAP_FRAME',
                     top - gdb.lookup_type('KTRAP_FRAME').sizeof)
    walk.taker = thread_here()
    walk.back = guest.word(number(frame['Rsp']))    # behind the stub
    walk.irp_at = 0             # it is freed, or another request's by now
    return True


def holds_packet(walk):
    port = guest.at('KQUEUE', guest.at('FILE_OBJECT', walk.file)
                    ['CompletionPort'])
    running, most = int(port['CurrentCount']), int(port['MaximumCount'])
    stored, length = guest.word(walk.iosb) & 0xFFFFFFFF, \
        guest.word(walk.iosb + 8)
    return (basics(walk, PASSIVE) +
            [(int(port['Header']['SignalState']) == 0,
              'the packet is out of the port'),
             (1 <= running <= most,
              f'{running} of at most {most} of its threads run'),
             (stored == STATUS_SUCCESS and length == walk.length,
              f'ring 3 finds in its IO_STATUS_BLOCK: {text.status(stored)}, '
              f'{length} bytes')])


def meets_continuation(walk):
    return ring() == 3 and thread_here() == walk.taker


def holds_continuation(walk):
    return basics(walk, PASSIVE, 3) + [
        (guest.register('rax') & 0xFFFFFFFF == STATUS_SUCCESS,
         f'NtRemoveIoCompletion returned to {guest.name_of(walk.back)}')]


STAGES = [
    Stage(1, 'a program calls NtWriteFile, in ring 3', 'NtWriteFile',
          'A thread wants bytes on the disk, and calls a stub that does no '
          'more than `syscall`. It gives an IO_STATUS_BLOCK of its own, where '
          'it will find the result later.', meets_call, holds_call),
    Stage(2, 'the system call: NtWriteFile in ring 0', '*NtWriteFile',
          'The same thread, on its kernel stack. It checks what ring 3 passed, '
          'pins the buffer\'s pages, and builds one I/O request packet.',
          meets_service, holds_service),
    Stage(3, 'down the device stack: IoCallDriver', '*IoCallDriver',
          'The IRP goes to the disk\'s driver, which marks it pending and hands '
          'it to the device, or to a queue. Nobody will wait for it there.',
          meets_down, holds_down),
    Stage(4, 'the device is told to go: DMA', WATCH + '((IRP *){irp})->state',
          'The device had room for it, so the driver tells it to go at once, '
          'still in the caller\'s thread. The device will read the caller\'s own '
          'pages, by their physical addresses.', meets_dma, holds_dma),
    Stage(5, 'the call returns STATUS_PENDING', '*ki_system_exit',
          'The thread is on its way back to ring 3 while the disk works; it '
          'may do whatever it likes. (QEMU lets a disk finish its command when '
          'gdb stops it; so this write takes two, and the second follows.)',
          meets_pending, holds_pending),
    Stage(6, 'in flight: every processor is halted', '',
          'The thread had nothing left to do and asked the port for a packet, '
          'so the idle loop ran into its hlt. The write is an entry in a queue '
          'and the disk\'s own business: there is no thread.',
          None, holds_flight),
    Stage(7, 'the disk\'s interrupt', '*{driver}_isr',
          'The interrupt woke the processor and borrowed the stack that it '
          'found. The ISR tells the disk "thank you", queues a DPC, and '
          'completes nothing.', meets_driver, holds_interrupt),
    Stage(8, 'the DPC', '*{driver}_dpc',
          'On the way out of the interrupt the DPC queue is drained, beneath '
          'all threads, on a stack of its own. The driver starts the next '
          'request, if there is one, and completes this one.',
          meets_driver, holds_dpc),
    Stage(9, 'completion: IoCompleteRequest', '*IoCompleteRequest',
          'The IRP goes back up the stack, through completion routines if a '
          'driver has set some. Then an APC is sent to the thread that asked.',
          meets_irp, holds_complete),
    Stage(10, 'the APC in the asking thread', '*complete_apc',
          'The status must be stored in the caller\'s address space, so its '
          'thread is borrowed: for the first time since stage 5 a thread is '
          'needed at all. It stores the status and puts the IRP into the port.',
          meets_apc, holds_apc),
    Stage(11, 'the port releases a thread', '*ki_system_exit',
          'A completion port is a queue of packets and threads: the newest '
          'waiter takes the packet, and never more threads run than its limit. '
          'What the IRP had to say is copied out, and the IRP is gone.',
          meets_packet, holds_packet),
    Stage(12, 'the continuation, in ring 3', '*{back:#x}',
          'The thread is behind its NtRemoveIoCompletion and goes on with what '
          'was to happen after the write. Who waited for the disk? There was '
          'no thread.', meets_continuation, holds_continuation),
]
