// user.c - the border to ring 3: its memory, its registers, its APCs.
//
// No other code touches user memory than what ki_fixups names: a fault there is
// a status. Registers that go back to ring 3 are never trusted: selectors are
// forced, flags masked, rip is checked.

#include "kernel/ke/kep.h"

enum { RED_ZONE = 128 };

// Where a fault at rip goes on, if it is in code that touches user memory.
//
// IRQL:    any level
// Returns: 0 if it is not
uint64_t ki_find_fixup(uint64_t rip)
{
    const ki_fixup *f = ki_fixups;
    while (f < ki_fixups_end && (rip < f->begin || rip >= f->end))
        f++;
    return f < ki_fixups_end ? f->target : 0;
}

// ---- Registers ------------------------------------------------------------

// The general registers lie in the same order in both.
_Static_assert(offsetof(CONTEXT, Rip) == offsetof(KTRAP_FRAME, vector) &&
               offsetof(CONTEXT, Rax) == offsetof(KTRAP_FRAME, Rax),
               "a context begins as a trap frame does");

// Where frame leads, and with which flags.
static void set_target(KTRAP_FRAME *frame, uint64_t rip, uint64_t flags,
                       uint64_t rsp)
{
    frame->Rip = rip;
    frame->SegCs = KI_USER_CS;
    frame->EFlags = (flags & EFLAGS_USER) | EFLAGS_FIXED | EFLAGS_IF;
    frame->Rsp = rsp;
    frame->SegSs = KI_USER_SS;
}

// Replaces ring 3's registers by those of ring 3's context, and returns there;
// test_alert: user APCs that are queued run first (APC-14). Until all of it is
// read the frame of this system call keeps where it came from: that is the way
// out if something is wrong.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_ACCESS_VIOLATION    no context there, an rip that iretq would
//                                     fault on, or an area that fxrstor does
NTSTATUS ke_continue(const CONTEXT *context, bool test_alert)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    uint64_t rip;
    KTRAP_FRAME *frame = ki_user_frame(KeGetCurrentThread());
    if (!ke_is_user_range(context, sizeof(*context)) ||
        (uintptr_t)context % _Alignof(CONTEXT) ||
        !NT_SUCCESS(ke_get_user(&rip, &context->Rip)) ||
        !ke_is_user_range((void *)rip, 1) ||
        !NT_SUCCESS(ki_load_context(frame, context)))
        return STATUS_ACCESS_VIOLATION;
    if (test_alert)    // an alert is for a wait to come (APC-11)
        ki_look_for_user_apcs(KeGetCurrentThread());
    set_target(frame, rip, frame->EFlags, frame->Rsp);
    ki_return_to_user(frame);
}

// Enters ring 3 for the first time in this thread.
//
// IRQL:    == PASSIVE_LEVEL
void ke_enter_user(uint64_t rip, uint64_t rsp, uint64_t rdi, uint64_t rsi,
                   uint64_t rdx)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    KTRAP_FRAME *frame = ki_user_frame(KeGetCurrentThread());
    if (!ke_is_user_range((void *)rip, 1))
        ke_hook.user_fault(STATUS_INVALID_IMAGE_FORMAT);
    *frame = (KTRAP_FRAME){ .Rdi = rdi, .Rsi = rsi, .Rdx = rdx };
    set_target(frame, rip, 0, rsp);
    ki_look_for_user_apcs(KeGetCurrentThread());    // APC-23
    ki_return_to_user(frame);
}

// Turns frame into a call of a user APC's routine: what was interrupted lies
// as a CONTEXT on the user stack, and NtContinue goes back to it.
//
// IRQL:    == APC_LEVEL
void ki_call_user_apc(KTRAP_FRAME *frame, const KAPC *apc)
{
    ASSERT_IRQL(==, APC_LEVEL);
    uint64_t top = frame->Rsp - RED_ZONE;
    CONTEXT *at = (void *)((top - sizeof(*at)) & ~(uint64_t)63);
    if (!ke_may_touch(at, sizeof(*at)) ||
        !NT_SUCCESS(ki_save_context(at, frame))) {
        KeLowerIrql(PASSIVE_LEVEL);
        ke_hook.user_fault(STATUS_STACK_OVERFLOW);
    }
    ki_trace(TRACE_USER_APC, 0, KeGetCurrentThread()->id);
    frame->Rdi = NT_ENTRY_APC;
    frame->Rsi = (uint64_t)at;
    frame->Rdx = (uint64_t)apc->NormalRoutine;
    frame->Rcx = (uint64_t)apc->NormalContext;
    frame->R8 = (uint64_t)apc->SystemArgument1;
    frame->R9 = (uint64_t)apc->SystemArgument2;
    set_target(frame, KeGetCurrentThread()->Process->user_entry, 0,
               (uint64_t)at);
}
