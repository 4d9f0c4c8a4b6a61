// user.c - the border to ring 3: its memory, its registers, its APCs.
//
// No other code touches user memory than ki_probe_user to ki_copy_user in
// entry.asm: a fault there is a status. Registers that go back to ring 3 are
// never trusted: selectors are forced, flags masked, rip and rsp checked.

#include "kernel/ke/kep.h"

enum { RED_ZONE = 128 };

extern uint8_t ki_copy_user_end[], ki_copy_user_fault[];
extern uint8_t ki_user_args_begin[], ki_user_args_end[], ki_user_args_fault[];
extern const ke_service *ki_service_table;
extern uint32_t ki_service_count;

// Wires the services.
//
// IRQL:    any level
void ke_set_services(const ke_service *table, uint32_t count)
{
    ki_service_table = table;
    ki_service_count = count;
}

// Where a fault at rip goes on, if it is in code that touches user memory.
//
// IRQL:    any level
// Returns: 0 if it is not
uint64_t ki_find_fixup(uint64_t rip)
{
    if (rip >= (uint64_t)ki_probe_user && rip < (uint64_t)ki_copy_user_end)
        return (uint64_t)ki_copy_user_fault;
    if (rip >= (uint64_t)ki_user_args_begin &&
        rip < (uint64_t)ki_user_args_end)
        return (uint64_t)ki_user_args_fault;
    return 0;
}

// Copies from ring 3.
//
// IRQL:    <= APC_LEVEL
// Returns: STATUS_SUCCESS, STATUS_ACCESS_VIOLATION (to may be half written)
NTSTATUS ke_copy_from_user(void *to, const void *from, size_t length)
{
    ASSERT_IRQL(<=, APC_LEVEL);
    return ke_is_user_range(from, length) ? ki_copy_user(to, from, length)
                                          : STATUS_ACCESS_VIOLATION;
}

// Copies to ring 3.
//
// IRQL:    <= APC_LEVEL
// Returns: STATUS_SUCCESS, STATUS_ACCESS_VIOLATION (to may be half written)
NTSTATUS ke_copy_to_user(void *to, const void *from, size_t length)
{
    ASSERT_IRQL(<=, APC_LEVEL);
    return ke_is_user_range(to, length) ? ki_copy_user(to, from, length)
                                        : STATUS_ACCESS_VIOLATION;
}

// ---- Registers ------------------------------------------------------------

// The general registers lie in the same order in both.
_Static_assert(offsetof(CONTEXT, Rip) == offsetof(KTRAP_FRAME, vector) &&
               offsetof(CONTEXT, Rax) == offsetof(KTRAP_FRAME, Rax),
               "a context begins as a trap frame does");

static void save_context(const KTRAP_FRAME *frame, CONTEXT *context)
{
    memset(context, 0, sizeof(*context));
    memcpy(context, frame, offsetof(CONTEXT, Rip));
    context->Rip = frame->Rip;
    context->EFlags = frame->EFlags;
    context->Rsp = frame->Rsp;
    __asm__ volatile("fxsave64 %0" : "+m"(context->FltSave));
}

static void load_frame(KTRAP_FRAME *frame, const CONTEXT *context)
{
    memset(frame, 0, sizeof(*frame));
    memcpy(frame, context, offsetof(CONTEXT, Rip));
    frame->Rip = context->Rip;
    frame->EFlags = (context->EFlags & EFLAGS_USER) | EFLAGS_FIXED |
                    EFLAGS_IF;
    frame->Rsp = context->Rsp;
    frame->SegCs = KI_USER_CS;
    frame->SegSs = KI_USER_SS;
}

// Replaces ring 3's registers by context's, and returns there; test_alert:
// user APCs that are queued run first (APC-14).
//
// IRQL:    == PASSIVE_LEVEL
// Returns: only for an rip that iretq would fault on: STATUS_ACCESS_VIOLATION
NTSTATUS ke_continue(const CONTEXT *context, bool test_alert)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    if (!ke_is_user_range((void *)context->Rip, 1))
        return STATUS_ACCESS_VIOLATION;
    KTHREAD *thread = KeGetCurrentThread();
    CONTEXT copy = *context;
    // fxrstor faults on reserved bits of MXCSR (Intel SDM 10.5.1.2).
    *ki_mxcsr_of(copy.FltSave) &= KI_MXCSR_MASK;
    __asm__ volatile("fxrstor64 %0" ::"m"(copy.FltSave));

    if (test_alert)
        KeTestAlertThread(UserMode);
    KTRAP_FRAME *frame = ki_user_frame(thread);
    ki_disable();    // frame is where an interrupt from ring 3 would be; our
    load_frame(frame, &copy);    // own stack is below it
    ki_return_to_user(frame);
}

// Enters ring 3 for the first time in this thread.
//
// IRQL:    == PASSIVE_LEVEL
void ke_enter_user(uint64_t rip, uint64_t rsp, uint64_t rdi, uint64_t rsi,
                   uint64_t rdx)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    KTHREAD *thread = KeGetCurrentThread();
    CONTEXT context = { .Rip = rip, .Rsp = rsp, .Rdi = rdi, .Rsi = rsi,
                        .Rdx = rdx };
    memcpy(context.FltSave, thread->fpu, sizeof(context.FltSave));
    ke_continue(&context, true);    // APC-23
    ke_hook.user_fault(STATUS_INVALID_IMAGE_FORMAT);
    __builtin_unreachable();
}

// Turns frame into a call of a user APC's routine: what was interrupted lies
// as a CONTEXT on the user stack, and NtContinue goes back to it.
//
// IRQL:    == APC_LEVEL
void ki_call_user_apc(KTRAP_FRAME *frame, const KAPC *apc)
{
    ASSERT_IRQL(==, APC_LEVEL);
    KTHREAD *thread = KeGetCurrentThread();
    CONTEXT context;
    save_context(frame, &context);
    uint64_t top = frame->Rsp - RED_ZONE;
    uint64_t at = (top - sizeof(CONTEXT)) & ~(uint64_t)63;
    if (!NT_SUCCESS(ke_copy_to_user((void *)at, &context, sizeof(context)))) {
        KeLowerIrql(PASSIVE_LEVEL);
        ke_hook.user_fault(STATUS_STACK_OVERFLOW);
    }
    ki_trace(TRACE_USER_APC, 0, thread->id);
    CONTEXT call = {
        .Rip = thread->Process->user_entry, .Rsp = at, .Rdi = NT_ENTRY_APC,
        .Rsi = at, .Rdx = (uint64_t)apc->NormalRoutine,
        .Rcx = (uint64_t)apc->NormalContext,
        .R8 = (uint64_t)apc->SystemArgument1,
        .R9 = (uint64_t)apc->SystemArgument2,
    };
    load_frame(frame, &call);
}
