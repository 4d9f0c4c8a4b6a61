// wait.c - how a thread waits, and how it is released.
//
// One engine for one object or many, any or all, with time-out or without.
// A kernel APC taken in mid-wait is invisible: the thread is released with
// STATUS_KERNEL_APC, runs the APC on its way below APC_LEVEL, and goes back
// to the same wait with the same due time (SYN-04).

#include "kernel/ke/kep.h"

// ---- Signals and what they do to an object --------------------------------

// A mutant's owner that has taken it 2^31 times waits for itself. (NT raises
// STATUS_MUTANT_LIMIT_EXCEEDED.)
static bool is_signalled(const DISPATCHER_HEADER *object, const KTHREAD *thread)
{
    return object->SignalState > 0 ||
           (object->Type == MutantObject && object->SignalState > INT32_MIN &&
            ((const KMUTANT *)object)->OwnerThread == thread);
}

// Takes what a successful wait takes from an object.
static NTSTATUS consume(DISPATCHER_HEADER *object, KTHREAD *thread)
{
    const uint8_t type = object->Type;
    if (type == EventSynchronizationObject ||
        type == TimerSynchronizationObject)
        object->SignalState = 0;
    else if (type == SemaphoreObject || type == MutantObject)
        object->SignalState--;
    if (type != MutantObject)
        return STATUS_SUCCESS;
    KMUTANT *mutant = (KMUTANT *)object;
    if (!mutant->OwnerThread) {
        mutant->OwnerThread = thread;
        InsertTailList(&thread->MutantListHead, &mutant->MutantListEntry);
    }
    bool abandoned = mutant->Abandoned;
    mutant->Abandoned = false;
    return abandoned ? STATUS_ABANDONED_WAIT_0 : STATUS_SUCCESS;
}

static bool all_signalled(const KWAIT_BLOCK *blocks, uint32_t count,
                          const KTHREAD *thread)
{
    for (uint32_t i = 0; i < count; i++)
        if (!is_signalled(blocks[i].Object, thread))
            return false;
    return true;
}

// A wait-all takes every object or none (SYN-03).
static bool try_all(KWAIT_BLOCK *blocks, uint32_t count, KTHREAD *thread,
                    NTSTATUS *status)
{
    if (!all_signalled(blocks, count, thread))
        return false;
    *status = STATUS_SUCCESS;
    for (uint32_t i = 0; i < count; i++)
        if (consume(blocks[i].Object, thread) != STATUS_SUCCESS)
            *status = STATUS_ABANDONED_WAIT_0;
    return true;
}

static DECLSPEC_NOINLINE void unwait_timed(KTHREAD *thread, NTSTATUS status,
                                           KPRIORITY increment)
{
    ki_remove_timer(&thread->Timer);
    InitializeListHead(&thread->Timer.Header.WaitListHead);
    ki_unwait(thread, status, increment);
}

// Releases a waiting thread with a status. increment: its priority boost,
// which wears off; without one an old boost wears off by a step.
//
// IRQL:    == DISPATCH_LEVEL
void ki_unwait(KTHREAD *thread, NTSTATUS status, KPRIORITY increment)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    ASSERT(thread->State == Waiting);
    if (!IsListEmpty(&thread->Timer.Header.WaitListHead)) {
        unwait_timed(thread, status, increment);
        return;
    }
    KWAIT_BLOCK *block = thread->WaitBlockList;
    for (uint32_t left = thread->WaitCount; left; left--, block++)
        RemoveEntryList(&block->WaitListEntry);
    thread->WaitStatus = status;
    KQUEUE *queue = thread->Queue;
    if (queue) {    // it runs again, limit or not (IOCP-10)
        KeAcquireSpinLockAtDpcLevel(&queue->lock);
        queue->CurrentCount++;
        KeReleaseSpinLockFromDpcLevel(&queue->lock);
    }
    int base = thread->BasePriority, boosted = base + increment;
    if (base < LOW_REALTIME_PRIORITY && !thread->hurries) {
        boosted = MIN(boosted, LOW_REALTIME_PRIORITY - 1);
        if (increment > 0 && boosted > thread->Priority)
            thread->Priority = (KPRIORITY)boosted;
        else if (increment == 0 && thread->Priority > base)
            thread->Priority--;
    }
    ki_ready_thread(thread);
}

// Releases whom the object's new state satisfies, longest waiter first.
//
// IRQL:    == DISPATCH_LEVEL
void ki_signal(DISPATCHER_HEADER *object, KPRIORITY increment)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    LIST_ENTRY *entry = object->WaitListHead.Flink;
    while (object->SignalState > 0 && entry != &object->WaitListHead) {
        KWAIT_BLOCK *block = CONTAINING_RECORD(entry, KWAIT_BLOCK,
                                               WaitListEntry);
        KTHREAD *thread = block->Thread;
        NTSTATUS status;
        if (block->WaitType == WaitAny)
            status = consume(object, thread) + block->WaitKey;
        else if (!try_all(thread->WaitBlockList, thread->WaitCount, thread,
                          &status)) {
            entry = entry->Flink;
            continue;
        }
        // It may have other blocks here, all of them behind this one.
        LIST_ENTRY *before = entry->Blink;
        ki_unwait(thread, status, increment);
        entry = before->Flink;
    }
}

// ---- The wait -------------------------------------------------------------

// When a time-out is over, in 100 ns since boot.
//
// IRQL:    any level
// Returns: KI_FOREVER for NULL, 0 for "do not wait at all"
uint64_t ki_due_time(const int64_t *timeout)
{
    if (!timeout)
        return KI_FOREVER;
    if (*timeout == 0)
        return 0;
    uint64_t now = KeQueryInterruptTime();
    if (*timeout < 0) {
        uint64_t due = now + (0 - (uint64_t)*timeout);
        return due < now ? KI_FOREVER : due;
    }
    int64_t left = *timeout - ke_query_system_time();
    return left <= 0 ? 0 : now + (uint64_t)left;
}

// Puts the current thread on all lists and gives the processor away.
static NTSTATUS block(KWAIT_BLOCK *blocks, uint32_t count, uint64_t due)
{
    KTHREAD *thread = KeGetCurrentThread();
    for (uint32_t i = 0; i < count; i++) {
        InsertTailList(&blocks[i].Object->WaitListHead,
                       &blocks[i].WaitListEntry);
        // An insert looks for us under this lock: it sees that we are listed,
        // or comes before, and we see its packet below.
        KQUEUE *queue = (KQUEUE *)blocks[i].Object;
        if (blocks[i].Object->Type == QueueObject) {
            KeAcquireSpinLockAtDpcLevel(&queue->lock);
            KeReleaseSpinLockFromDpcLevel(&queue->lock);
        }
    }
    // Events are set, and packets come into a port, without our lock: now that
    // we are listed, look again (ke_set_lasting_event, KeInsertQueue); if there
    // is one, once more.
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    for (uint32_t i = 0; i < count; i++) {
        if (blocks[i].Object->SignalState > 0 &&
            (blocks[i].WaitType == WaitAny ||
             all_signalled(blocks, count, thread))) {
            for (i = 0; i < count; i++)
                RemoveEntryList(&blocks[i].WaitListEntry);
            return STATUS_KERNEL_APC;
        }
    }
    thread->WaitBlockList = blocks;
    thread->WaitCount = (uint8_t)count;
    if (due != KI_FOREVER)
        ki_wait_with_timer(thread, due);
    thread->State = Waiting;
    if (thread->Queue)
        ki_deactivate_queue(thread->Queue);
    ki_swap_thread();
    thread->WaitReason = Executive;
    return thread->WaitStatus;
}

// Lets the thread's own timer end its wait.
//
// IRQL:    == DISPATCH_LEVEL
void ki_wait_with_timer(KTHREAD *thread, uint64_t due)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    KWAIT_BLOCK *wait = &thread->timer_block;
    *wait = (KWAIT_BLOCK){ .Thread = thread, .Object = &thread->Timer.Header,
                           .WaitKey = STATUS_TIMEOUT, .WaitType = WaitAny };
    InsertTailList(&thread->Timer.Header.WaitListHead, &wait->WaitListEntry);
    thread->Timer.Header.SignalState = 0;
    thread->Timer.Period = 0;
    thread->Timer.Dpc = NULL;
    ki_insert_timer(&thread->Timer, due);
}

// Whether an APC comes before a wait that begins at irql; lock held.
static FORCEINLINE bool is_disturbed(const KTHREAD *thread, KIRQL irql)
{
    return irql == PASSIVE_LEVEL && thread->ApcState.KernelApcPending &&
           thread->SpecialApcDisable == 0;
}

static FORCEINLINE KIRQL note_wait(KTHREAD *thread, KIRQL irql,
                                   KWAIT_REASON reason, KPROCESSOR_MODE mode,
                                   bool alertable)
{
    thread->WaitIrql = irql;
    thread->WaitMode = mode;
    thread->Alertable = alertable;
    thread->WaitReason = (uint8_t)reason;
    return irql;
}

// As often as one more has come meanwhile, which who sends them decides: so in
// a loop, and not by a call of ki_begin_wait.
static DECLSPEC_NOINLINE KIRQL begin_again(KTHREAD *thread, KWAIT_REASON reason,
                                           KPROCESSOR_MODE mode, bool alertable)
{
    do {
        ki_unlock_dispatcher(PASSIVE_LEVEL);    // delivers them
    } while (is_disturbed(thread, ki_lock_dispatcher()));
    return note_wait(thread, PASSIVE_LEVEL, reason, mode, alertable);
}

// Begins a wait: delivers the APCs that wait for the thread, takes the
// dispatcher lock, and notes what may end the wait.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: the level to return to with ki_unlock_dispatcher
KIRQL ki_begin_wait(KWAIT_REASON reason, KPROCESSOR_MODE mode, bool alertable)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KTHREAD *thread = KeGetCurrentThread();
    KIRQL old = ki_lock_dispatcher();
    return is_disturbed(thread, old)
               ? begin_again(thread, reason, mode, alertable)
               : note_wait(thread, old, reason, mode, alertable);
}

// One round with the lock held: satisfied, refused, or blocked and released.
static NTSTATUS wait_once(KWAIT_BLOCK *blocks, uint32_t count, WAIT_TYPE type,
                          uint64_t due)
{
    KTHREAD *thread = KeGetCurrentThread();
    NTSTATUS status = STATUS_SUCCESS;
    if (type == WaitAll && count && try_all(blocks, count, thread, &status))
        return status;
    for (uint32_t i = 0; type == WaitAny && i < count; i++)
        if (is_signalled(blocks[i].Object, thread))
            return consume(blocks[i].Object, thread) + (NTSTATUS)i;
    status = ki_test_alert(thread);
    if (status != STATUS_SUCCESS)
        return status;
    if (due == 0)
        return STATUS_TIMEOUT;
    return block(blocks, count, due);
}

// Waits for any or all of count objects. blocks: one for each, NULL for up to
// THREAD_WAIT_OBJECTS. A zero time-out only looks, and is legal at DISPATCH.
//
// IRQL:    <= APC_LEVEL to wait, <= DISPATCH_LEVEL to look (IRQL-05)
// Returns: index of the object (any) or 0 (all), + STATUS_ABANDONED_WAIT_0 if
//          a mutant's owner had died; STATUS_TIMEOUT, STATUS_ALERTED,
//          STATUS_USER_APC
// NT:      KeWaitForMultipleObjects (WDK).
NTSTATUS KeWaitForMultipleObjects(uint32_t count, void **objects,
                                  WAIT_TYPE type, KWAIT_REASON reason,
                                  KPROCESSOR_MODE mode, bool alertable,
                                  const int64_t *timeout, KWAIT_BLOCK *blocks)
{
    ASSERT_IRQL_RULE("IRQL-05", <=,
                     timeout && *timeout == 0 ? DISPATCH_LEVEL : APC_LEVEL);
    ASSERT(blocks || count <= THREAD_WAIT_OBJECTS);
    KTHREAD *thread = KeGetCurrentThread();
    uint64_t due = ki_due_time(timeout);
    if (!blocks)
        blocks = thread->WaitBlock;
    NTSTATUS status;
    do {
        KIRQL old = ki_begin_wait(reason, mode, alertable);
        for (uint32_t i = 0; i < count; i++)
            blocks[i] = (KWAIT_BLOCK){ .Thread = thread, .Object = objects[i],
                                       .WaitKey = (uint16_t)i,
                                       .WaitType = (uint8_t)type };
        status = wait_once(blocks, count, type, due);
        ki_unlock_dispatcher(old);
    } while (status == STATUS_KERNEL_APC);
    return status;
}

// Waits for one object; see KeWaitForMultipleObjects.
//
// IRQL:    <= APC_LEVEL to wait, <= DISPATCH_LEVEL to look (IRQL-05)
// Returns: STATUS_SUCCESS, STATUS_ABANDONED_WAIT_0, STATUS_TIMEOUT,
//          STATUS_ALERTED, STATUS_USER_APC
// NT:      KeWaitForSingleObject (WDK).
NTSTATUS KeWaitForSingleObject(void *object, KWAIT_REASON reason,
                               KPROCESSOR_MODE mode, bool alertable,
                               const int64_t *timeout)
{
    ASSERT_IRQL_RULE("IRQL-05", <=,
                     timeout && *timeout == 0 ? DISPATCH_LEVEL : APC_LEVEL);
    return KeWaitForMultipleObjects(1, &object, WaitAny, reason, mode,
                                    alertable, timeout, NULL);
}

// Waits for time to pass; a zero interval only yields. What ends the wait
// before it begins is looked for without the lock first.
//
// IRQL:    <= APC_LEVEL
// Returns: STATUS_SUCCESS, STATUS_ALERTED, STATUS_USER_APC
// NT:      KeDelayExecutionThread (WDK).
NTSTATUS KeDelayExecutionThread(KPROCESSOR_MODE mode, bool alertable,
                                const int64_t *interval)
{
    ASSERT_IRQL_RULE("IRQL-05", <=, APC_LEVEL);
    KTHREAD *thread = KeGetCurrentThread();
    thread->WaitIrql = KeGetCurrentIrql();
    thread->WaitMode = mode;
    thread->Alertable = alertable;
    NTSTATUS status = ki_test_alert(thread);
    if (status != STATUS_SUCCESS)
        return status;
    status = KeWaitForMultipleObjects(0, NULL, WaitAny, DelayExecution, mode,
                                      alertable, interval, NULL);
    if (status == STATUS_TIMEOUT && *interval == 0 &&
        KeGetCurrentIrql() == PASSIVE_LEVEL)
        ke_yield();
    return status == STATUS_TIMEOUT ? STATUS_SUCCESS : status;
}
