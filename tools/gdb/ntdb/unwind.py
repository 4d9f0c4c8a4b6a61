"""unwind.py - teaches gdb's backtrace the way through the assembler's parts.

Its stubs have no unwind data. Out of an interrupt a trap frame leads to what
was interrupted, in whichever ring; out of a system call the frame at the top
of the thread's stack leads to ring 3; out of the DPC stack its first frame
leads to the stack that was left.

gdb refuses a caller whose stack lies below its callee's. So what lies beneath
another stack is unwound here, by frame pointers, with ids as if it lay above.
The value of a register that nobody asks for marks such frames.
"""
import gdb
from gdb.unwinder import Unwinder, register_unwinder

from . import guest
from .guest import Garbage, number

GENERAL = ['r15', 'r14', 'r13', 'r12', 'rbp', 'rbx', 'r11', 'r10', 'r9', 'r8',
           'rdi', 'rsi', 'rdx', 'rcx', 'rax']    # as KTRAP_FRAME has them
PUSHED = ['r15', 'r14', 'r13', 'r12', 'rbx']     # somewhere, by C
MARK, MARKED = 'k_gs_base', 0x7FACADE
KEPT = ['rip', 'rsp', 'eflags', 'cs', 'ss', 'cr0', 'cr3', 'cr8', MARK]
FRAME_WORDS = 22                # of a KTRAP_FRAME
RIP, CS, RSP = 17, 18, 20       # words of it
SEGMENTS = {0x08: (0, 0x10), 0x2B: (0x23,)}     # CS: what SS may then be
FLAGS_LIMIT = 1 << 22
STACK_BYTES = 3 * 4096          # MM_STACK_PAGES
LOWEST_USER = 1 << 32           # below is boot's code, which is gone
ABOVE, ABOVE_ALL, OFFSET = 0xFFFFFFFFC0000000, 0xFFFFFFFFE0000000, 0xFFFFFFF
LEAF = 'ki_idle_hlt'            # it pushes nothing
# Where programs and processors begin; what called them is gone, or not there.
OUTERMOST = ('_start', 'RtlUserThreadStart', 'kernel_main',
             'ke_enter_processor')
END = {'rip': 0, 'rsp': 8}      # gdb looks 8 below and finds the end
SYSCALL = b'\x0f\x05'


class FrameId:
    def __init__(self, sp, pc):
        self.sp, self.pc = quad(sp), quad(pc)


def quad(value):
    return gdb.Value(value & guest.MASK).cast(gdb.lookup_type('unsigned long'))


class Entry(Unwinder):
    """One gdb asks for each frame, before its own."""

    def __init__(self):
        super().__init__('TINT assembler')
        self.places = None

    def __call__(self, pending):
        if not self.places:
            self.places = [guest.address(name) for name in (
                'ki_stub_0', 'ki_trap_exit', 'ki_system_call',
                'ki_system_exit', 'ki_copy_user',
                'ki_call_on_stack', 'ki_halt')]
        stubs, trap_exit, call, leave, end, borrow, borrow_end = self.places
        mark = None
        try:
            pc, sp, rbp, mark = (guest.raw(pending.read_register(name))
                                 for name in ('rip', 'rsp', 'rbp', MARK))
            if not pc:
                return None
            if stubs <= pc < call:
                saved = interrupted(sp, pc == trap_exit)
            elif call <= pc < end:
                saved = caller_in_ring_3(pending, sp, pc < leave)
            elif borrow < pc < borrow_end and not guest.word(rbp) == 0:
                saved = {'rip': guest.word(rbp + 8), 'rsp': rbp + 16,
                         'rbp': guest.word(rbp), MARK: MARKED}
            elif mark == MARKED:
                saved = caller(pc, sp, rbp)
            elif guest.name_of(pc).split('+')[0] in OUTERMOST:
                saved = END
            else:
                return None
            return frame(pending, sp, pc, saved, mark == MARKED)
        except (Garbage, gdb.error):
            pass
        # A stack that is gone, as a dying program's: the end, no complaint.
        return frame(pending, sp, pc, END, True) if mark == MARKED else None


def interrupted(sp, whole):
    """What a trap frame saved. whole: sp is a KTRAP_FRAME; else some of it is
    not pushed yet, or popped already: the processor's own part is looked for,
    and what lies below sp is still, or again, in its register."""
    base = sp if whole else find_frame(sp)
    saved = {'rip': guest.word(base + RIP * 8),
             'rsp': guest.word(base + RSP * 8)}
    for i, name in enumerate(GENERAL):
        if base + i * 8 >= sp:
            saved[name] = guest.word(base + i * 8)
    if guest.word(base + CS * 8) & 3:
        saved[MARK] = MARKED
    elif not saved['rip']:              # a call of NULL: gdb would end there
        saved['rip'] = guest.word(saved['rsp'])
        saved['rsp'] += 8
    return saved


def find_frame(sp):
    for i in range(FRAME_WORDS):
        _, cs, flags, _, ss = (guest.word(sp + (i + n) * 8) for n in range(5))
        vector = guest.word(sp + (i - 2) * 8) if i >= 2 else 0
        if ss in SEGMENTS.get(cs, ()) and flags & 2 and \
                flags < FLAGS_LIMIT and vector < guest.VECTORS:
            return sp + (i - RIP) * 8
    raise Garbage('no trap frame')


def caller_in_ring_3(pending, sp, enters):
    """Out of a system call, by way of the frame at the top of the stack."""
    rcx = guest.raw(pending.read_register('rcx'))
    if sp < guest.LOWEST_KERNEL:        # still, or again, ring 3's stack
        return {'rip': rcx}
    for prcb in guest.prcbs():
        thread = guest.at('KTHREAD', prcb['CurrentThread'])
        top = number(thread['InitialStack'])
        if 0 <= top - sp <= STACK_BYTES:
            base = top - FRAME_WORDS * 8
            rip, rsp = guest.word(base + RIP * 8), guest.word(base + RSP * 8)
            if enters and is_behind_syscall(rcx):   # not in the frame yet
                rip, rsp = rcx, number(prcb['user_stack'])
            return {'rip': rip, 'rsp': rsp, MARK: MARKED}
    raise Garbage("nobody's stack")


def is_behind_syscall(rip):
    try:
        return rip < guest.LOWEST_KERNEL and guest.memory(rip - 2, 2) == SYSCALL
    except Garbage:
        return False


def caller(pc, sp, rbp):
    """The caller of a function by its frame pointer, if that is pushed yet."""
    name = guest.name_of(pc)
    if not name or pc < LOWEST_USER or not rbp:
        return END
    if is_behind_syscall(pc) or '+' not in name or \
            name.startswith(LEAF):
        return {'rip': guest.word(sp), 'rsp': sp + 8}
    if name.endswith('+1'):             # behind `push rbp`
        return {'rip': guest.word(sp + 8), 'rsp': sp + 16}
    return {'rip': guest.word(rbp + 8), 'rsp': rbp + 16,
            'rbp': guest.word(rbp)}


def frame(pending, sp, pc, saved, is_beneath):
    """A frame with these registers saved; its caller has all others as they
    are, which gdb must be told."""
    where = sp
    if is_beneath:
        where = (ABOVE if pc >= guest.LOWEST_KERNEL else ABOVE_ALL) + \
            (sp & OFFSET)
    info = pending.create_unwind_info(FrameId(where, pc))
    for name in [*GENERAL, *KEPT]:
        old = pending.read_register(name)
        if name in saved:
            info.add_saved_register(name, quad(saved[name]).cast(old.type))
        elif not old.is_optimized_out and not \
                (is_beneath and name in PUSHED and 'rbp' in saved):
            info.add_saved_register(name, old)
    return info


def install():
    register_unwinder(None, Entry(), replace=True)
