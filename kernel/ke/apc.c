// apc.c - queueing and delivering APCs, and the regions that hold them back.
//
// KernelApcPending and UserApcPending are the truth that every way down looks
// at; the self-IPI with vector 0x1F only makes sure that one is taken.

#include "kernel/ke/kep.h"

// Specials go behind the specials and ahead of the normals; the thread-exit
// APC goes to the head; all others to the tail (APC-03).
static FORCEINLINE void insert_apc(KTHREAD *thread, KAPC *apc,
                                   KPROCESSOR_MODE mode)
{    // lab 2
    LIST_ENTRY *head = &thread->ApcState.ApcListHead[mode];
    LIST_ENTRY *before = head->Blink;
    if (apc->at_head)
        before = head;
    else if (!apc->NormalRoutine)
        while (before != head && CONTAINING_RECORD(before, KAPC, ApcListEntry)
                                     ->NormalRoutine)
            before = before->Blink;
    InsertHeadList(before, &apc->ApcListEntry);    // that is, behind it
    apc->Inserted = true;
}

// Whether the thread's wait is open to user APCs and to its end: not where
// kernel APCs of any kind are held back (APC-10, APC-12).
static bool takes_user_apcs(const KTHREAD *thread)
{    // lab 2
    return thread->WaitMode == UserMode && thread->WaitIrql == PASSIVE_LEVEL &&
           !thread->KernelApcDisable && !thread->SpecialApcDisable;
}

// Whether an APC ends the present wait of its thread.
static bool ends_wait(const KTHREAD *thread, const KAPC *apc)
{    // lab 2
    if (thread->State != Waiting)
        return false;
    if (apc->ApcMode == UserMode)
        return takes_user_apcs(thread) && (thread->Alertable || apc->at_head);
    return thread->WaitIrql == PASSIVE_LEVEL && !thread->SpecialApcDisable &&
           (!apc->NormalRoutine || (!thread->KernelApcDisable &&
                                    !thread->ApcState.KernelApcInProgress));
}

// The flag that says that a list may hold something to deliver.
static inline bool *pending_flag(KAPC_STATE *state, KPROCESSOR_MODE mode)
{
    return mode == KernelMode ? &state->KernelApcPending
                              : &state->UserApcPending;
}

// Puts an APC on its list, unless it is on one or the thread takes no more; and
// sets the flag for it, if the thread does not look for itself, as it does for
// most user APCs when it waits alertably. *ends: whether its wait is over.
static FORCEINLINE bool link_apc(KTHREAD *thread, KAPC *apc, void *argument1,
                                 void *argument2, bool *ends)
{    // lab 2
    KPROCESSOR_MODE mode = apc->ApcMode;
    ki_lock_leaf(&thread->ApcQueueLock);
    bool linked = thread->ApcQueueable && !apc->Inserted;
    if (linked) {
        apc->SystemArgument1 = argument1;
        apc->SystemArgument2 = argument2;
        insert_apc(thread, apc, mode);
        *ends = *ends && ends_wait(thread, apc);
        if (mode == KernelMode || *ends || apc->at_head)
            *pending_flag(&thread->ApcState, mode) = true;
    }
    ki_unlock_leaf(&thread->ApcQueueLock);
    return linked;
}

// KeInsertQueueApc to any thread, with the dispatcher lock held. Lets it know
// (APC-08, APC-09, APC-10): one that runs right now, on another processor, or
// that cannot deliver before this processor's level falls to old, hears it from
// an interrupt.
//
// IRQL:    == DISPATCH_LEVEL
bool ki_insert_apc(KAPC *apc, void *argument1, void *argument2,
                   KPRIORITY increment, KIRQL old)
{    // lab 2
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    KTHREAD *thread = apc->Thread;
    KPROCESSOR_MODE mode = apc->ApcMode;
    bool wakes = true;
    if (!link_apc(thread, apc, argument1, argument2, &wakes))
        return false;
    // Now it may have run, and be free.
    if (wakes)
        ki_unwait(thread,
                  mode == KernelMode ? STATUS_KERNEL_APC : STATUS_USER_APC,
                  increment);
    KPRCB *self = KeGetCurrentPrcb();
    if (thread->State != Running || !*pending_flag(&thread->ApcState, mode))
        return true;    // it looks for itself, or has done so already
    if (thread->processor != self->Number)
        hal_send_ipi(ki_processor[thread->processor]->apic_id,
                     HAL_VECTOR_APC);
    else if (old >= APC_LEVEL)
        ki_interrupt_self(self, HAL_VECTOR_APC);
    return true;
}

static DECLSPEC_NOINLINE bool insert_other(KAPC *apc, void *argument1,
                                           void *argument2, KPRIORITY increment)
{
    KIRQL old = ki_lock_dispatcher();
    bool inserted = ki_insert_apc(apc, argument1, argument2, increment, old);
    ki_unlock_dispatcher(old);
    return inserted;
}

// Queues an APC to its thread. increment: priority boost of a thread that it
// wakes. A special one to oneself at PASSIVE has run when this returns.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: false if it is queued already, or the thread takes no more (APC-02)
// NT:      KeInsertQueueApc (ntifs).
FORCEINLINE bool KeInsertQueueApc(KAPC *apc, void *argument1,
                                  void *argument2, KPRIORITY increment)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KTHREAD *thread = apc->Thread;
    if (thread != KeGetCurrentThread())
        return insert_other(apc, argument1, argument2, increment);
    if (!link_apc(thread, apc, argument1, argument2, &(bool){ false }))
        return false;
    // The drain's end looks at a kernel APC, the way to ring 3 at a user APC.
    if (KeGetCurrentPrcb()->dpc_active || !thread->ApcState.KernelApcPending)
        return true;
    if (KeGetCurrentIrql() == PASSIVE_LEVEL)
        ki_run_held_back(PASSIVE_LEVEL);
    else    // wherever it is moved meanwhile, it is looked at as it comes in
        ki_interrupt_self(KeGetCurrentPrcb(), HAL_VECTOR_APC);
    return true;
}

static void unlink_apc(KAPC *apc)
{
    RemoveEntryList(&apc->ApcListEntry);
    apc->Inserted = false;
}

// Takes an APC off its list again. Its thread must still be there.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: true if it was queued: none of its routines is called
// NT:      KeRemoveQueueApc (symbol).
bool KeRemoveQueueApc(KAPC *apc)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KTHREAD *thread = apc->Thread;
    ki_lock_leaf(&thread->ApcQueueLock);
    bool removed = apc->Inserted;
    if (removed) {
        KAPC_STATE *state = &thread->ApcState;
        unlink_apc(apc);
        if (IsListEmpty(&state->ApcListHead[apc->ApcMode]))
            *pending_flag(state, apc->ApcMode) = false;
    }
    ki_unlock_leaf(&thread->ApcQueueLock);
    return removed;
}

// ---- Delivery -------------------------------------------------------------

// Takes the next deliverable APC of the mode off its list (APC-06, APC-07);
// NULL if there is none. Copies it: its routines may free or requeue it.
static inline KAPC *take_apc(KTHREAD *thread, KPROCESSOR_MODE mode, KAPC *copy)
{    // lab 2
    KAPC_STATE *state = &thread->ApcState;
    LIST_ENTRY *head = &state->ApcListHead[mode];
    ki_lock_leaf(&thread->ApcQueueLock);
    *pending_flag(state, mode) = false;
    KAPC *apc = IsListEmpty(head)
                    ? NULL
                    : CONTAINING_RECORD(head->Flink, KAPC, ApcListEntry);
    if (apc && apc->NormalRoutine && mode == KernelMode &&
        (thread->KernelApcDisable || state->KernelApcInProgress))
        apc = NULL;    // stays; leaving the region looks again
    if (apc) {
        unlink_apc(apc);
        copy->KernelRoutine = apc->KernelRoutine;
        copy->RundownRoutine = apc->RundownRoutine;
        copy->NormalRoutine = apc->NormalRoutine;
        copy->NormalContext = apc->NormalContext;
        copy->SystemArgument1 = apc->SystemArgument1;
        copy->SystemArgument2 = apc->SystemArgument2;
    }
    ki_unlock_leaf(&thread->ApcQueueLock);
    return apc;
}

static void deliver_kernel_apcs(KTHREAD *thread)
{    // lab 2
    KAPC apc, *original;
    ki_trace(TRACE_APC_IN, 0, thread->id);
    do {
        original = take_apc(thread, KernelMode, &apc);
        if (!original)
            break;
        bool special = !apc.NormalRoutine;    // whatever its routine sets
        apc.KernelRoutine(original, &apc.NormalRoutine, &apc.NormalContext,
                          &apc.SystemArgument1, &apc.SystemArgument2);
        if (special || !apc.NormalRoutine)    // suppressed (APC-05)
            continue;
        thread->ApcState.KernelApcInProgress++;
        ki_run_held_back(PASSIVE_LEVEL);    // specials may interrupt it
        apc.NormalRoutine(apc.NormalContext, apc.SystemArgument1,
                          apc.SystemArgument2);
        ki_set_irql(APC_LEVEL);
        thread->ApcState.KernelApcInProgress--;
        // Who comes while we look says so in KernelApcPending.
    } while (!IsListEmpty(&thread->ApcState.ApcListHead[KernelMode]));
    ki_trace(TRACE_APC_OUT, 0, thread->id);
}

// Delivers all kernel APCs that may be; in user mode then one user APC, by
// turning frame into a call of its routine.
//
// IRQL:    == APC_LEVEL
// NT:      KiDeliverApc (symbol). Left out: ExceptionFrame.
void KiDeliverApc(KPROCESSOR_MODE mode, KTRAP_FRAME *frame)
{    // lab 2
    ASSERT_IRQL(==, APC_LEVEL);
    KTHREAD *thread = KeGetCurrentThread();
    if (thread->ApcState.KernelApcPending || mode == KernelMode)
        deliver_kernel_apcs(thread);
    if (mode == KernelMode)
        return;

    KAPC apc, *original = take_apc(thread, UserMode, &apc);
    if (!original)
        return;
    apc.KernelRoutine(original, &apc.NormalRoutine, &apc.NormalContext,
                      &apc.SystemArgument1, &apc.SystemArgument2);
    if (apc.NormalRoutine)
        ki_call_user_apc(frame, &apc);
    else
        ki_look_for_user_apcs(thread);    // nothing ran: for the next
}

// ---- Regions --------------------------------------------------------------

// Leaving the outermost region of a kind delivers what it held back (REG-04);
// a critical region around a guarded one still lets specials in.
static void leave_region(int16_t *disable)
{
    KTHREAD *thread = KeGetCurrentThread();
    ASSERT_RULE("REG-01", *disable < 0);
    if (++*disable || thread->SpecialApcDisable ||
        IsListEmpty(&thread->ApcState.ApcListHead[KernelMode]))
        return;
    thread->ApcState.KernelApcPending = true;
    if (KeGetCurrentIrql() == PASSIVE_LEVEL)
        ki_run_held_back(PASSIVE_LEVEL);
    else    // lowering CR8 alone would not look
        hal_send_self_ipi(HAL_VECTOR_APC);
}

// Holds back normal kernel APCs, user APCs and termination (REG-03).
//
// IRQL:    <= APC_LEVEL
// NT:      KeEnterCriticalRegion (WDK).
void KeEnterCriticalRegion(void)
{
    ASSERT_IRQL(<=, APC_LEVEL);
    KeGetCurrentThread()->KernelApcDisable--;
}

// Leaves it again; the regions may be left in any order (REG-01).
//
// IRQL:    <= APC_LEVEL
// NT:      KeLeaveCriticalRegion (WDK).
void KeLeaveCriticalRegion(void)
{
    ASSERT_IRQL(<=, APC_LEVEL);
    leave_region(&KeGetCurrentThread()->KernelApcDisable);
}

// Holds back all APCs (REG-03).
//
// IRQL:    <= APC_LEVEL
// NT:      KeEnterGuardedRegion (WDK).
void KeEnterGuardedRegion(void)
{
    ASSERT_IRQL(<=, APC_LEVEL);
    KeGetCurrentThread()->SpecialApcDisable--;
}

// Leaves it again.
//
// IRQL:    <= APC_LEVEL
// NT:      KeLeaveGuardedRegion (WDK).
void KeLeaveGuardedRegion(void)
{
    ASSERT_IRQL(<=, APC_LEVEL);
    leave_region(&KeGetCurrentThread()->SpecialApcDisable);
}

// Holds back suspension, which is a normal kernel APC, and nothing else: for
// who has what others wait for, but stays open to its end. Normal kernel APCs
// wait for one in progress, as which this counts; it may be inside of one.
//
// IRQL:    <= APC_LEVEL
void ke_hold_suspension(void)
{
    ASSERT_IRQL(<=, APC_LEVEL);
    KeGetCurrentThread()->ApcState.KernelApcInProgress++;
}

// Lets it come again, and one that was held back at once.
//
// IRQL:    == PASSIVE_LEVEL
void ke_allow_suspension(void)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    KeGetCurrentThread()->ApcState.KernelApcInProgress--;
    KeEnterCriticalRegion();
    KeLeaveCriticalRegion();    // which looks
}

// True inside either region; IRQL does not matter (REG-02).
//
// IRQL:    any level
// NT:      KeAreApcsDisabled (WDK).
bool KeAreApcsDisabled(void)
{
    KTHREAD *thread = KeGetCurrentThread();
    return thread->KernelApcDisable || thread->SpecialApcDisable;
}

// True inside a guarded region, or at APC_LEVEL and above (REG-02).
//
// IRQL:    any level
// NT:      KeAreAllApcsDisabled (WDK).
bool KeAreAllApcsDisabled(void)
{
    return KeGetCurrentThread()->SpecialApcDisable ||
           KeGetCurrentIrql() >= APC_LEVEL;
}

// ---- Alerts, rundown ------------------------------------------------------

// Takes an alert of the mode, if there is one.
static bool take_alert(KTHREAD *thread, KPROCESSOR_MODE mode)
{
    bool alerted = thread->Alerted[mode];
    if (alerted)
        thread->Alerted[mode] = false;
    return alerted;
}

// Says what ends the current thread's wait before it begins; the alert comes
// first (APC-11). Termination ends any UserMode wait (APC-10). Others only add
// to what is looked at: without the lock, it may be missed.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: STATUS_SUCCESS (nothing), STATUS_ALERTED, STATUS_USER_APC
NTSTATUS ki_test_alert(KTHREAD *thread)
{    // lab 2
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    bool user = takes_user_apcs(thread);
    if (thread->Alertable) {
        if (take_alert(thread, KernelMode) ||
            (thread->WaitMode == UserMode && take_alert(thread, UserMode)))
            return STATUS_ALERTED;
        if (user)
            ki_look_for_user_apcs(thread);
    }
    return user && thread->ApcState.UserApcPending ? STATUS_USER_APC
                                                   : STATUS_SUCCESS;
}

// Takes the current thread's alert; arranges that its user APCs run on the
// way to ring 3. No lock: nobody else takes either, and who adds one now might
// as well have come later.
//
// IRQL:    <= APC_LEVEL
// Returns: whether it was alerted
// NT:      KeTestAlertThread (symbol).
bool KeTestAlertThread(KPROCESSOR_MODE mode)
{
    ASSERT_IRQL(<=, APC_LEVEL);
    KTHREAD *thread = KeGetCurrentThread();
    if (mode == UserMode)
        ki_look_for_user_apcs(thread);
    return take_alert(thread, mode);
}

// Ends the thread's present alertable wait, or its next one (APC-11).
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: whether it was alerted already
// NT:      KeAlertThread (symbol).
bool KeAlertThread(KTHREAD *thread, KPROCESSOR_MODE mode)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KIRQL old = ki_lock_dispatcher();
    bool alerted = thread->Alerted[mode];
    if (!alerted) {
        if (thread->State == Waiting && thread->Alertable &&
            mode <= thread->WaitMode)
            ki_unwait(thread, STATUS_ALERTED, EVENT_INCREMENT);
        else
            thread->Alerted[mode] = true;
    }
    ki_unlock_dispatcher(old);
    return alerted;
}

// The RundownRoutine of an APC that is part of something: it stays there.
//
// IRQL:    == PASSIVE_LEVEL
void ke_keep_apc(KAPC *)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
}

// Refuses further APCs and runs down those that are queued: each one's
// RundownRoutine is called, or the APC freed (APC-13).
//
// IRQL:    == PASSIVE_LEVEL
void ke_rundown_apcs(KTHREAD *thread)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    thread->KernelApcDisable = 0;    // nothing is held back from the rundown
    thread->ApcState.KernelApcInProgress = 0;
    ki_lock_leaf(&thread->ApcQueueLock);
    thread->ApcQueueable = false;
    ki_unlock_leaf(&thread->ApcQueueLock);
    for (KPROCESSOR_MODE mode = KernelMode; mode <= UserMode; mode++) {
        KAPC copy, *apc;
        while ((apc = take_apc(thread, mode, &copy)) != NULL)
            (copy.RundownRoutine ? copy.RundownRoutine : ke_hook.free_apc)(apc);
    }
}
