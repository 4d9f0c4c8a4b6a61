"""misc.py - nt trace, why, step-irq.
"""
import sys

import gdb

from . import guest, text
from .command import command, value_of
from .guest import Garbage, number

sys.path.insert(0, str(guest.ROOT / 'tools'))
import tracering

TRACE_LINES, MOST_LINES = 40, 1000000
STEP, NO_IRQ, NO_TIMERS = 1, 2, 4       # QEMU's sstep bits


@command('trace')
def trace(argument):
    """nt trace [COUNT]: the last records of the trace rings, the newest last.
All processors together; time in TSC ticks, counted back from the last one."""
    count = value_of(argument) if argument else TRACE_LINES
    if not 1 <= count <= MOST_LINES:
        raise Garbage(f'COUNT is a number from 1 to {MOST_LINES}')
    yield from tracering.dump(guest.kernel().filename, guest.memory,
                              int(guest.symbol('KeNumberProcessors')),
                              count).splitlines()


# ---- nt why ------------------------------------------------------------------

last = None                     # what the breakpoint of attach.py saw


class Bugcheck:
    """What one bugcheck says of itself, read when it begins."""

    def __init__(self, frame):
        self.code = number(frame.read_var('code'))
        if frame.name() == 'stop':
            parameters = frame.read_var('parameters')
            self.parameters = [number(parameters[i]) for i in range(4)]
            self.text = guest.string(frame.read_var('text'), 160)
        else:
            self.parameters = [number(frame.read_var(f'parameter{i}'))
                               for i in range(1, 5)]
            self.text = guest.string(guest.symbol('ke_bugcheck_note'), 160)


def is_bugcheck(frame):
    """Whether it is a function of bugcheck.c that Bugcheck can read."""
    symtab = frame.find_sal().symtab
    return frame.name() in ('stop', 'KeBugCheckEx') and symtab and \
        'bugcheck' in symtab.filename


def find_bugcheck():
    """The bugcheck that some processor is in the middle of, or the last."""
    for thread in guest.cpus().values():
        with guest.selected(thread):
            frame = gdb.newest_frame()
            while frame:
                if is_bugcheck(frame):
                    try:
                        return Bugcheck(frame), thread
                    except (gdb.error, Garbage, ValueError):
                        pass
                frame = frame.older()
    return last, None


MEANING = {
    'IRQL_NOT_LESS_OR_EQUAL': 'something was done at an IRQL at which it may '
                              'not be done',
    'REFERENCE_BY_POINTER': 'an object was dereferenced once too often',
    'KMODE_EXCEPTION_NOT_HANDLED': 'ring 0 met an exception that nobody '
                                   'handles',
    'PHASE1_INITIALIZATION_FAILED': 'the kernel could not start',
    'NO_MORE_IRP_STACK_LOCATIONS': 'an IRP was sent further down than it has '
                                   'stack locations',
    'MULTIPLE_IRP_COMPLETE_REQUESTS': 'an IRP was completed a second time',
    'CANCEL_STATE_IN_COMPLETED_IRP': 'an IRP was completed while it still had '
                                     'a cancel routine',
    'PAGE_FAULT_IN_NONPAGED_AREA': 'ring 0 touched memory that is not there',
    'UNEXPECTED_KERNEL_MODE_TRAP': 'ring 0 met a trap that leaves no way on',
    'NMI_HARDWARE_FAILURE': 'an NMI came that nobody had sent',
    'MACHINE_CHECK_EXCEPTION': 'the processor reported an error of its own',
    'BAD_POOL_CALLER': 'pool was freed or used by somebody who may not',
    'STATUS_ASSERTION_FAILURE_CODE': 'an assertion of the checked kernel does '
                                     'not hold',
}


@command('why')
def why(argument):
    """nt why: the last bugcheck, in a paragraph. WinDbg: !analyze."""
    seen, thread = find_bugcheck()
    if not seen:
        yield 'There was no bugcheck.'
        return
    name = text.read_bugchecks().get(seen.code, 'UNKNOWN')
    parameters = ', '.join(f'{p:#x}' for p in seen.parameters)
    yield f'{name} ({seen.code:x}): {MEANING.get(name, "an unknown code")}.'
    if seen.text:
        yield f'It says: {seen.text}'
    yield f'Parameters: {parameters}'
    if name in ('PAGE_FAULT_IN_NONPAGED_AREA', 'KMODE_EXCEPTION_NOT_HANDLED',
                'UNEXPECTED_KERNEL_MODE_TRAP'):
        first, error, rip, vector = seen.parameters
        yield (f'At {guest.name_of(rip) or f"{rip:#x}"}, vector {vector}, '
               f'error code {error:#x}'
               + (f', address {first:#x}.' if 'PAGE' in name else '.'))
    prcb = owner(thread)
    if prcb:
        one = guest.at('KTHREAD', prcb['CurrentThread'])
        yield (f'It happened on processor {int(prcb["Number"])} in thread '
               f'{int(one["id"])}; `backtrace` shows the way there.')


def owner(thread):
    if not thread:
        return None
    for prcb in guest.prcbs():
        if int(prcb['apic_id']) == thread.ptid[1] - 1:
            return prcb
    return None


# ---- nt step-irq -------------------------------------------------------------

@command('step-irq', words=('on', 'off'), anywhere=True)
def step_irq(argument):
    """nt step-irq on|off: whether interrupts come in while you step.
QEMU hides them (and stops its timers) during stepi, step and next, so that a
step stays in the code that you look at. With `on` they are delivered, and a
step may end in the first instruction of an ISR. `continue` is not concerned.
Without argument it says which it is."""
    if argument not in ('', 'on', 'off'):
        raise Garbage('on or off?')
    if not gdb.selected_thread():
        raise Garbage('there is no guest: `make debug` starts one')
    if argument:
        bits = STEP | (0 if argument == 'on' else NO_IRQ | NO_TIMERS)
        gdb.execute(f'maintenance packet Qqemu.sstep={bits:#x}',
                    to_string=True)
    answer = gdb.execute('maintenance packet qqemu.sstep', to_string=True)
    bits = int(answer.split('received: "')[1].split('"')[0], 16)
    if argument == 'off' and not bits & NO_IRQ:
        yield 'What was recorded is replayed whole, interrupts included.'
    yield ('Interrupts are held back while you step.' if bits & NO_IRQ else
           'Interrupts are delivered while you step.')
