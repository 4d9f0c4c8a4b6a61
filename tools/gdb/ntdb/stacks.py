"""stacks.py - walks kernel stacks by their frame pointers, without gdb's help.

Every function of the kernel keeps rbp, and entry.asm links a trap frame into
the chain, so a walk leads out of an ISR into whatever it interrupted, and from
the DPC stack back to the stack that it was borrowed from. `ki_trap_exit` is
where ki_trap returns to: its KTRAP_FRAME lies right above that address.
"""
from . import guest
from .guest import Garbage, number

DEEPEST = 64
VECTORS = {0x1F: 'APC interrupt', 0x2F: 'DPC interrupt', 0xD1: 'clock',
           0xE1: 'IPI', 0xFF: 'spurious interrupt', 14: 'page fault'}


def walk(rip, rbp, first=None):
    """(return address, where it lies) up the stack; first: of a function that
    has not pushed rbp yet."""
    if first:
        yield guest.word(first), first
    for _ in range(DEEPEST):
        if rbp < guest.LOWEST_KERNEL or rbp % guest.POINTER:
            return
        try:
            yield guest.word(rbp + guest.POINTER), rbp + guest.POINTER
            rbp = guest.word(rbp)
        except Garbage:
            return


def trap_frames(prcb):
    """The KTRAP_FRAMEs beneath what a processor runs, the newest first."""
    rip, rsp, rbp, cs = guest.registers(prcb, 'rip', 'rsp', 'rbp', 'cs')
    if cs & 3:
        return
    end, seen = guest.address('ki_trap_exit'), set()
    for back, where in walk(rip, rbp, rsp):
        if back == end and where not in seen:
            seen.add(where)
            yield guest.at('KTRAP_FRAME', where + guest.POINTER)


def describe(frame):
    """What a trap frame says of whom it interrupted."""
    rip, vector = number(frame['Rip']), number(frame['vector'])
    ring = int(frame['SegCs']) & 3
    what = VECTORS.get(vector, f'vector {vector:#04x}')
    place = guest.name_of(rip) or f'{rip:#x}'
    return f'{what} interrupted {place} in ring {ring}'


def interrupted_lines(prcb):
    for frame in trap_frames(prcb):
        thread = guest.at('KTHREAD', prcb['CurrentThread'])
        who = 'nobody (idle)' if number(thread.address) == \
            number(prcb['idle_thread']) else f'thread {int(thread["id"])}'
        yield f'    {describe(frame)}, of {who}'


def is_on_dpc_stack(prcb):
    """Whether a processor's rsp lies in its DPC stack."""
    top = number(prcb['dpc_stack'])
    return 0 < top - guest.registers(prcb, 'rsp')[0] <= 3 * 4096


def backtrace(rip, rbp):
    """Lines for the stack of a thread that does not run."""
    yield f'        {rip:016x} {guest.name_of(rip)}'
    for back, _ in walk(rip, rbp):
        name = guest.name_of(back)
        if not name:
            return
        yield f'        {back:016x} {name}'
