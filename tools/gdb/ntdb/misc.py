"""misc.py - nt trace, step-irq.
"""
import sys

import gdb

from . import guest
from .command import command, value_of
from .guest import Garbage

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
