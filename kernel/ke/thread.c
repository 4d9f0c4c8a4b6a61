// thread.c - a thread's first instruction and its last; suspension; idle.

#include "kernel/ke/kep.h"

// Prepares a slot on which nothing hangs.
//
// IRQL:    any level
void ke_initialize_io_slot(ke_io_slot *slot)
{
    KeInitializeSpinLock(&slot->lock);
    InitializeListHead(&slot->irps);
    slot->count = 0;
    KeInitializeEvent(&slot->none, NotificationEvent, true);
}

// Prepares a process that has no threads yet.
//
// IRQL:    any level
void ke_initialize_process(KPROCESS *process, uint64_t cr3)
{
    ki_initialize_header(&process->Header, ProcessObject, 0);
    process->DirectoryTableBase = cr3;
    process->ActiveProcessors = 0;
    process->BasePriority = KI_NORMAL_PRIORITY;
    ke_initialize_io_slot(&process->io);
}

// The KernelRoutine of an APC that is part of something, which may be gone by
// now: it is left alone.
//
// IRQL:    == APC_LEVEL
void ke_leave_apc(KAPC *, KNORMAL_ROUTINE **, void **, void **, void **)
{
    ASSERT_IRQL(==, APC_LEVEL);
}

static void suspend_normal(void *context, void *, void *)
{
    KTHREAD *thread = context;
    KeWaitForSingleObject(&thread->SuspendSemaphore, Suspended, KernelMode,
                          false, NULL);
}

// Prepares a thread that will run start(context) at PASSIVE_LEVEL in ring 0.
// fpu: 512 bytes for ring 3's SSE state, 16-aligned, or NULL.
//
// IRQL:    any level
void ke_initialize_thread(KTHREAD *thread, KPROCESS *process, void *stack_top,
                          void *stack_limit, KSTART_ROUTINE *start,
                          void *context, void *fpu)
{
    // Intel SDM 8.1.5, 10.2.3.
    enum { DEFAULT_FCW = 0x037F, DEFAULT_MXCSR = 0x1F80, MXCSR_OFFSET = 24 };
    memset(thread, 0, sizeof(*thread));
    ki_initialize_header(&thread->Header, ThreadObject, 0);
    InitializeListHead(&thread->MutantListHead);
    InitializeListHead(&thread->ApcState.ApcListHead[KernelMode]);
    InitializeListHead(&thread->ApcState.ApcListHead[UserMode]);
    KeInitializeTimerEx(&thread->Timer, NotificationTimer);
    ke_initialize_io_slot(&thread->io);
    KeInitializeSemaphore(&thread->SuspendSemaphore, 0, 1);
    KeInitializeApc(&thread->SuspendApc, thread, ke_leave_apc,
                    ke_keep_apc, suspend_normal, KernelMode, thread);
    thread->ApcQueueable = true;
    thread->Process = thread->attached = process;
    thread->handles = process->handles;
    thread->InitialStack = stack_top;
    thread->StackLimit = stack_limit;
    thread->Priority = thread->BasePriority = process->BasePriority;
    thread->Affinity = ~0u >> (MAXIMUM_PROCESSORS - KeNumberProcessors);
    thread->State = Initialized;
    thread->fpu = fpu;
    if (fpu) {
        memset(fpu, 0, sizeof(((CONTEXT *)0)->FltSave));
        *(uint16_t *)fpu = DEFAULT_FCW;
        *(uint32_t *)((char *)fpu + MXCSR_OFFSET) = DEFAULT_MXCSR;
    }
    if (!stack_top)
        return;    // an idle thread: it already runs

    // What ki_swap_context pops: r15, r14, r13, r12, rbx, rbp, rip. The user
    // frame's room stays above it.
    const uint64_t frame[] = { 0, 0, (uint64_t)context, (uint64_t)start, 0, 0,
                               (uint64_t)ki_thread_startup };
    thread->kernel_rsp = (uint64_t *)ki_user_frame(thread) - 2 -
                         ARRAY_SIZE(frame);
    memcpy(thread->kernel_rsp, frame, sizeof(frame));
}

// Lets a prepared thread run.
//
// IRQL:    <= DISPATCH_LEVEL
void ke_start_thread(KTHREAD *thread)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KIRQL old = ki_lock_dispatcher();
    thread->processor = (uint8_t)KeGetCurrentProcessorNumber();
    ki_ready_thread(thread);
    ki_unlock_dispatcher(old);
}

// A new thread's first instructions in C: it holds the dispatcher lock, which
// the thread that it came from took.
//
// IRQL:    == DISPATCH_LEVEL
void ki_thread_start(KSTART_ROUTINE *start, void *context)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    ki_finish_switch();
    ki_unlock_dispatcher(PASSIVE_LEVEL);
    start(context);
    ke_terminate_thread();
}

// Ends the current thread: its mutants are abandoned, its waiters released.
// ke_hook.thread_dead hears of it when nobody is on its stack any more.
//
// IRQL:    == PASSIVE_LEVEL
void ke_terminate_thread(void)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    KTHREAD *thread = KeGetCurrentThread();
    ki_lock_dispatcher();
    thread->ApcQueueable = false;
    while (!IsListEmpty(&thread->MutantListHead)) {
        KMUTANT *mutant = CONTAINING_RECORD(
            RemoveHeadList(&thread->MutantListHead), KMUTANT, MutantListEntry);
        mutant->OwnerThread = NULL;
        mutant->Abandoned = true;
        mutant->Header.SignalState = 1;
        ki_signal(&mutant->Header, IO_NO_INCREMENT);
    }
    ki_leave_queue(thread);
    thread->Header.SignalState = 1;
    ki_signal(&thread->Header, IO_NO_INCREMENT);
    thread->State = Terminated;
    KPRCB *prcb = KeGetCurrentPrcb();
    prcb->dead = thread;
    if (prcb->fpu_owner == thread)
        prcb->fpu_owner = NULL;
    ki_swap_thread();
    __builtin_unreachable();
}

// Signals a process: it has ended.
//
// IRQL:    <= DISPATCH_LEVEL
void ke_signal_process(KPROCESS *process)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KeSetEvent((KEVENT *)&process->Header, IO_NO_INCREMENT);
}

// Suspends a thread: a normal kernel APC makes it wait for its semaphore, the
// caller itself at PASSIVE_LEVEL.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: the previous suspend count (THR-02); 127 means: refused
// NT:      KeSuspendThread (symbol).
uint32_t KeSuspendThread(KTHREAD *thread)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KIRQL old = ki_lock_dispatcher();
    uint32_t before = thread->SuspendCount;
    if (before < MAXIMUM_SUSPEND_COUNT)
        thread->SuspendCount++;
    if (before == 0)
        ki_insert_apc(&thread->SuspendApc, NULL, NULL, IO_NO_INCREMENT, old);
    ki_unlock_dispatcher(old);
    return before;
}

// Takes one suspension back; at the last the thread goes on.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: the previous suspend count
// NT:      KeResumeThread (symbol).
uint32_t KeResumeThread(KTHREAD *thread)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KIRQL old = ki_lock_dispatcher();
    uint32_t before = thread->SuspendCount;
    if (before > 0)
        thread->SuspendCount--;
    // Not delivered yet: nobody waits, and nothing is to be released.
    if (before == 1 && !KeRemoveQueueApc(&thread->SuspendApc)) {
        thread->SuspendSemaphore.Header.SignalState = 1;
        ki_signal(&thread->SuspendSemaphore.Header, IO_NO_INCREMENT);
    }
    ki_unlock_dispatcher(old);
    return before;
}

// The idle loop: what a processor does when there is no thread. It looks with
// interrupts off, and ki_halt leaves no instruction between the last look and
// the hlt for an interrupt to slip through.
//
// IRQL:    == PASSIVE_LEVEL
void ke_idle(void)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    ki_enable();    // from here on we answer others' IPIs
    for (;;) {
        KPRCB *prcb = KeGetCurrentPrcb();
        uint32_t seen = prcb->interrupt_count;
        while (ke_hook.reap())
            continue;
        ki_disable();
        // Said first, then looked: see request_drain in dpc.c.
        __atomic_store_n(&prcb->halted_since, hal_read_tsc(), __ATOMIC_SEQ_CST);
        prcb->dpc_requested |= prcb->dpc.depth != 0;
        // An interrupt since then may have left something to reap.
        if (seen != prcb->interrupt_count || prcb->dpc_requested ||
            prcb->timer_expired || prcb->reschedule) {
            ki_wake_up(prcb);
            ki_run_held_back(PASSIVE_LEVEL);
            continue;
        }
        ki_arm_clock(prcb);
        ki_trace(TRACE_IDLE_IN, 0, 0);
        ki_halt();
    }
}
