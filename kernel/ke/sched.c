// sched.c - ready queues, preemption, quantum; the switch.
//
// Each processor has 32 queues of ready threads and a bit for each. What runs
// there is never worse than what is ready there: ki_ready_thread chooses the
// processor that has the least to do of those that the thread may use, and sets
// `reschedule` there if it must switch, which it does on its next way below
// DISPATCH. A processor that would go idle takes what waits elsewhere. All of
// it is guarded by the dispatcher lock, which is held across the switch: a
// thread on a ready queue is off its stack when somebody else can take it.

#include "kernel/ke/kep.h"

KSPIN_LOCK ki_dispatcher_lock;

// The highest priority in a summary; idle's, if that is 0.
static inline KPRIORITY highest(uint32_t summary)
{
    return summary ? 31 ^ __builtin_clz(summary) : KI_IDLE_PRIORITY;
}

// Is anybody ready there with at least this priority? 0: anybody at all.
static inline bool is_ready(const KPRCB *prcb, int priority)
{
    return (uint64_t)prcb->ready_summary >> priority;
}

static void enqueue_ready(KPRCB *prcb, KTHREAD *thread, bool at_head)
{
    thread->processor = (uint8_t)prcb->Number;
    ki_trace(TRACE_READY, (uint32_t)thread->Priority, thread->id);
    LIST_ENTRY *queue = &prcb->ready[thread->Priority];
    InsertHeadList(at_head ? queue : queue->Blink, &thread->ready_entry);
    prcb->ready_summary |= 1u << thread->Priority;
    thread->State = Ready;
}

static void dequeue_ready(KTHREAD *thread)
{
    if (RemoveEntryList(&thread->ready_entry))
        ki_processor[thread->processor]->ready_summary &=
            ~(1u << thread->Priority);
}

static bool may_run_on(const KTHREAD *thread, const KPRCB *prcb)
{
    return thread->Affinity >> prcb->Number & 1;
}

// The best that runs or is ready there; idle is the least.
static KPRIORITY load_of(const KPRCB *prcb)
{
    return MAX(prcb->CurrentThread->Priority, highest(prcb->ready_summary));
}

static DECLSPEC_NOINLINE KPRCB *find_least(const KTHREAD *thread)
{
    KPRCB *best = NULL;
    uint32_t number = thread->processor;
    for (uint32_t i = 0; i < KeNumberProcessors; i++) {
        KPRCB *prcb = ki_processor[number];
        if (may_run_on(thread, prcb) &&
            (!best || load_of(prcb) < load_of(best)))
            best = prcb;
        if (++number == KeNumberProcessors)
            number = 0;
    }
    return best;
}

// Where a thread that becomes ready should run: where there is least to do,
// and of equals where it ran last. If that idles there is nothing to look for.
static inline KPRCB *choose_processor(const KTHREAD *thread)
{
    KPRCB *last = ki_processor[thread->processor];
    // One that idles with a priority hurries: it is not idle.
    return KeNumberProcessors == 1 || (load_of(last) == KI_IDLE_PRIORITY &&
                                       may_run_on(thread, last))
               ? last : find_least(thread);
}

// If somebody who is ready would deserve the processor as much as the current
// thread without its boost, its quantum is measured; else no timer is armed.
//
// IRQL:    == DISPATCH_LEVEL
void ki_update_quantum(KPRCB *prcb)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    KTHREAD *current = prcb->CurrentThread;
    bool contended = current != prcb->idle_thread &&
                     is_ready(prcb, current->BasePriority);
    if (!contended)
        prcb->quantum_deadline = KI_FOREVER;
    if (prcb->quantum_deadline != KI_FOREVER || !contended)
        return;
    uint64_t flags = ki_disable_interrupts();
    prcb->quantum_deadline = hal_read_tsc() + ki_quantum_ticks;
    ki_clock_at_latest(prcb, prcb->quantum_deadline);
    ki_restore_interrupts(flags);
}

// Lets a processor look who should run, now or when its level allows it.
static inline void reschedule(KPRCB *prcb, const KPRCB *self)
{
    prcb->reschedule = true;
    if (prcb != self)
        hal_send_ipi(prcb->apic_id, HAL_VECTOR_DPC);
}

// Queues a thread for a processor that it may use; there it preempts what is
// worse, and a quantum is measured for what is equal.
static void assign(KPRCB *prcb, KTHREAD *thread, bool at_head)
{
    enqueue_ready(prcb, thread, at_head);
    const KTHREAD *current = prcb->CurrentThread;
    const KPRCB *self = KeGetCurrentPrcb();
    if (thread->Priority > current->Priority ||
        (prcb != self && thread->Priority >= current->BasePriority))
        reschedule(prcb, self);
    else if (prcb == self)
        ki_update_quantum(prcb);
}

// Makes a thread ready.
//
// IRQL:    == DISPATCH_LEVEL
void ki_ready_thread(KTHREAD *thread)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    assign(choose_processor(thread), thread, false);
}

// ---- The switch -----------------------------------------------------------

// Ring 3's SSE state: saved whenever its thread leaves; restored only if
// these registers do not hold that thread's newest state still. Ring 0 uses
// none, so threads without state (fpu == NULL) disturb nothing.
static void switch_fpu(KPRCB *prcb, KTHREAD *from, KTHREAD *to)
{
    if (from->fpu && prcb->fpu_owner == from)
        __asm__ volatile("fxsave64 (%0)" ::"r"(from->fpu) : "memory");
    if (!to->fpu)
        return;
    if (prcb->fpu_owner != to || to->fpu_processor != prcb->Number + 1)
        __asm__ volatile("fxrstor64 (%0)" ::"r"(to->fpu) : "memory");
    prcb->fpu_owner = to;
    to->fpu_processor = (uint8_t)(prcb->Number + 1);
}

static void switch_space(KPRCB *prcb, KPROCESS *from, KPROCESS *to)
{
    if (from == to)
        return;
    uint32_t bit = 1u << prcb->Number;
    __atomic_or_fetch(&to->ActiveProcessors, bit, __ATOMIC_SEQ_CST);
    KI_WRITE_CR(3, to->DirectoryTableBase);
    __atomic_and_fetch(&from->ActiveProcessors, ~bit, __ATOMIC_SEQ_CST);
}

// Moves the current thread into another process's address space.
//
// IRQL:    == PASSIVE_LEVEL
void ke_attach_process(KPROCESS *process)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    KIRQL old = ki_lock_dispatcher();
    KTHREAD *thread = KeGetCurrentThread();
    switch_space(KeGetCurrentPrcb(), thread->attached, process);
    thread->attached = process;
    ki_unlock_dispatcher(old);
}

static void switch_to(KPRCB *prcb, KTHREAD *from, KTHREAD *to)
{
    uint64_t now = hal_read_tsc();
    from->run_time += now - from->switched_in;
    to->switched_in = now;
    to->ContextSwitches++;
    to->State = Running;
    prcb->CurrentThread = to;
    prcb->current_id = to->id;
    uint64_t stack = (uint64_t)to->InitialStack;
    prcb->service_stack = stack - KI_SERVICE_FRAME;
    ((ki_processor_block *)prcb)->descriptors.tss.rsp[0] = stack;
    switch_fpu(prcb, from, to);
    switch_space(prcb, from->attached, to->attached);
    // Ring 3 may have changed the register by loading a selector: what the
    // other thread left is not to be trusted, even if it should be the same.
    if (to->fs_base || from->fs_base)
        hal_write_msr(MSR_FS_BASE, to->fs_base);
    ki_trace_at(TRACE_SWITCH, DISPATCH_LEVEL,
                (uint32_t)from->State << 8 | from->WaitReason, to->id);
    ki_swap_context(&from->kernel_rsp, to->kernel_rsp);
}

// What a thread does first when it has got the processor. The one that it
// came from may have been dead: only now is nobody on its stack.
//
// IRQL:    == DISPATCH_LEVEL
void ki_finish_switch(void)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    KPRCB *prcb = KeGetCurrentPrcb();
    if (prcb->dead)
        ke_hook.thread_dead(prcb->dead);
    prcb->dead = NULL;
    prcb->quantum_deadline = KI_FOREVER;
    prcb->quantum_expired = false;    // that was the other thread's
    ki_update_quantum(prcb);
}

// The best thread that is ready there and may run here, or NULL. 32 are looked
// at, as all wait for the lock meanwhile: a processor may idle beside a 33rd.
static KTHREAD *find_ready(const KPRCB *there, const KPRCB *here)
{
    for (uint32_t left = there->ready_summary, looks = 32; left;) {
        KPRIORITY priority = highest(left);
        RTL_FOR_EACH_RECORD(KTHREAD, thread, &there->ready[priority],
                            ready_entry)
            if (may_run_on(thread, here))
                return thread;
            else if (!--looks)
                return NULL;
        left &= ~(1u << priority);
    }
    return NULL;
}

// Who runs next: the best of this processor's own queues; if there is none,
// somebody who waits for another one; else idle.
static KTHREAD *take_next(KPRCB *prcb)
{
    uint32_t others = KeNumberProcessors;
    KTHREAD *next = prcb->ready_summary ? find_ready(prcb, prcb) : NULL;
    for (uint32_t i = 0; !next && others > 1 && i < others; i++)
        next = find_ready(ki_processor[i], prcb);
    if (!next)
        return prcb->idle_thread;
    dequeue_ready(next);
    next->processor = (uint8_t)prcb->Number;
    return next;
}

// Leaves the processor to the best ready thread, or to idle, and returns when
// the caller's thread gets one again. The caller has changed its own State.
//
// IRQL:    == DISPATCH_LEVEL
void ki_swap_thread(void)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    KPRCB *prcb = KeGetCurrentPrcb();
    KTHREAD *current = prcb->CurrentThread;
    KTHREAD *next = take_next(prcb);
    prcb->reschedule = false;
    if (next == current) {
        next->State = Running;
        ki_update_quantum(prcb);
        return;
    }
    switch_to(prcb, current, next);
    ki_finish_switch();
}

// Puts the current thread back, which is about to be replaced: preempted, at
// the head of its queue; behind its equals at the quantum's end; elsewhere if
// there is less to do.
static void put_back(KPRCB *prcb, KTHREAD *current, bool at_head)
{
    KPRCB *there = prcb;
    if (current == prcb->idle_thread)
        current->State = Ready;    // it is on no queue
    else if ((there = choose_processor(current)) != prcb)
        assign(there, current, at_head);
    else
        enqueue_ready(prcb, current, at_head);
}

// A boost goes step by step, with each quantum or what is left of it.
static void lose_boost(KTHREAD *current)
{
    if (current->Priority > current->BasePriority && !current->hurries)
        current->Priority--;
}

// Decides who runs: preempts the current thread for a better one, at the end of
// its quantum for an equal one, and if it may not run here any more. Lock held.
static void decide(KPRCB *prcb)
{
    KTHREAD *current = prcb->CurrentThread;
    prcb->reschedule = false;    // first: the clock may set both in between
    bool quantum_end = __atomic_exchange_n(&prcb->quantum_expired, false,
                                           __ATOMIC_SEQ_CST);
    if (quantum_end)
        lose_boost(current);
    if (is_ready(prcb, current->Priority + !quantum_end) ||
        !may_run_on(current, prcb)) {
        put_back(prcb, current, !quantum_end);
        ki_swap_thread();
    } else {
        ki_update_quantum(prcb);
    }
}

// The same on the way down.
//
// IRQL:    == DISPATCH_LEVEL
void ki_reschedule(void)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    KeAcquireSpinLockAtDpcLevel(&ki_dispatcher_lock);
    decide(KeGetCurrentPrcb());
    KeReleaseSpinLockFromDpcLevel(&ki_dispatcher_lock);
}

// Lets go of the dispatcher lock; below DISPATCH_LEVEL also of everything
// that was held back: of the processor at once, if there is nothing else.
//
// IRQL:    == DISPATCH_LEVEL
void ki_unlock_dispatcher(KIRQL old)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    KPRCB *prcb = KeGetCurrentPrcb();
    if (old < DISPATCH_LEVEL && prcb->reschedule && !prcb->dpc_requested) {
        ki_enable();    // the first thread's start has them off
        decide(prcb);
        prcb = KeGetCurrentPrcb();
    }
    KeReleaseSpinLockFromDpcLevel(&ki_dispatcher_lock);
    if (old < DISPATCH_LEVEL) {
        if (prcb->reschedule || prcb->dpc_requested ||
            prcb->CurrentThread->ApcState.KernelApcPending)
            ki_run_held_back(old);
        else
            KeLowerIrql(old);
    } else if (prcb->reschedule) {
        ki_interrupt_self(prcb, HAL_VECTOR_DPC);
    }
}

// Gives the processor to another ready thread of the same priority.
//
// IRQL:    == PASSIVE_LEVEL
void ke_yield(void)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    KIRQL old = ki_lock_dispatcher();
    KPRCB *prcb = KeGetCurrentPrcb();
    KTHREAD *current = prcb->CurrentThread;
    if (is_ready(prcb, current->Priority) ||
        !may_run_on(current, prcb)) {    // somebody has just moved it away
        lose_boost(current);    // two that yield would keep it for ever
        put_back(prcb, current, false);
        ki_swap_thread();
    }
    ki_unlock_dispatcher(old);
}

// ---- Priorities -----------------------------------------------------------

// Changes a thread's current priority, wherever it is. A ready one, if it
// moves (for that, or for its processors), is placed anew. Lock held.
static void set_priority(KTHREAD *thread, KPRIORITY priority, bool moves)
{
    moves &= thread->State == Ready;
    if (moves)
        dequeue_ready(thread);
    thread->Priority = thread->hurries ? MAXIMUM_PRIORITY - 1 : priority;
    if (moves)
        ki_ready_thread(thread);
    else if (thread->State == Running)    // it may have become the worse one
        reschedule(ki_processor[thread->processor], KeGetCurrentPrcb());
}

// While on, nobody preempts the current thread, whatever priority it is given:
// it holds what others wait for. Then it is back at its base priority.
//
// IRQL:    == PASSIVE_LEVEL
void ke_hurry(bool on)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    KIRQL old = ki_lock_dispatcher();
    KTHREAD *thread = KeGetCurrentThread();
    thread->hurries = on;
    set_priority(thread, thread->BasePriority, false);
    ki_unlock_dispatcher(old);
}

// Sets the current and the base priority.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: the old current priority
// NT:      KeSetPriorityThread (WDK).
KPRIORITY KeSetPriorityThread(KTHREAD *thread, KPRIORITY priority)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KIRQL old = ki_lock_dispatcher();
    KPRIORITY before = thread->Priority;
    thread->BasePriority = priority;
    set_priority(thread, priority, before != priority);
    ki_unlock_dispatcher(old);
    return before;
}

// Sets the base priority relative to the process's, within 1..15 for an
// ordinary process and 16..31 for a real-time one.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: the old increment
// NT:      KeSetBasePriorityThread (ntifs).
KPRIORITY KeSetBasePriorityThread(KTHREAD *thread, KPRIORITY increment)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KPRIORITY process = thread->Process->BasePriority;
    int lowest = process < LOW_REALTIME_PRIORITY ? 1 : LOW_REALTIME_PRIORITY;
    int highest = process < LOW_REALTIME_PRIORITY ? LOW_REALTIME_PRIORITY - 1
                                                  : MAXIMUM_PRIORITY - 1;
    int wanted = process + increment;
    KPRIORITY base = (KPRIORITY)MAX(lowest, MIN(highest, wanted));
    KIRQL old = ki_lock_dispatcher();
    KPRIORITY before = (KPRIORITY)(thread->BasePriority - process);
    thread->BasePriority = base;
    set_priority(thread, base, thread->Priority != base);
    ki_unlock_dispatcher(old);
    return before;
}

// Says which processors may run the thread; 0, or none that exists, is a
// caller's error. A thread moves at once: the caller itself, below
// DISPATCH_LEVEL, before this returns; one that runs elsewhere by an interrupt.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: the old mask
// NT:      KeSetAffinityThread (symbol).
uint64_t KeSetAffinityThread(KTHREAD *thread, uint64_t affinity)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KIRQL old = ki_lock_dispatcher();
    uint64_t before = thread->Affinity;
    thread->Affinity = (uint32_t)affinity &
                       UINT32_MAX >> (MAXIMUM_PROCESSORS - KeNumberProcessors);
    set_priority(thread, thread->Priority, true);
    ki_unlock_dispatcher(old);
    return before;
}

// How many objects a thread waits for; *type: KOBJECTS of the first.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: 0 if it does not wait, or for time alone
uint32_t ke_query_wait(KTHREAD *thread, uint8_t *type)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KIRQL old = ki_lock_dispatcher();
    uint32_t count = thread->State == Waiting ? thread->WaitCount : 0;
    *type = count ? thread->WaitBlockList[0].Object->Type : 0;
    ki_unlock_dispatcher(old);
    return count;
}
