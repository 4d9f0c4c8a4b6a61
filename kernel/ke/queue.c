// queue.c - KQUEUE, of which a completion port is made.
//
// CurrentCount is the number of threads of the queue that run: released by it
// and not blocked since. A packet is handed out only while that is below
// MaximumCount; a thread that blocks elsewhere gives its place back at once,
// and takes it again when it wakes, so the limit may be exceeded for a while
// (IOCP-09, IOCP-10).
//
// Locks: the queue's lock guards packets and counts; the list of waiters
// changes only with the dispatcher lock held as well. So under the queue's
// lock alone "nobody waits" stays true, and the fast ways below need no more.

#include "kernel/ke/kep.h"

// Prepares a queue. count: how many threads may run; 0: one a processor.
//
// IRQL:    any level
// NT:      KeInitializeQueue (ntifs).
void KeInitializeQueue(KQUEUE *queue, uint32_t count)
{
    memset(queue, 0, sizeof(*queue));
    ki_initialize_header(&queue->Header, QueueObject, 0);
    InitializeListHead(&queue->EntryListHead);
    InitializeListHead(&queue->waiters);
    InitializeListHead(&queue->ThreadListHead);
    queue->MaximumCount = count ? count : KeNumberProcessors;
}

static inline LIST_ENTRY *take_first(KQUEUE *queue)
{
    queue->Header.SignalState--;
    return RemoveHeadList(&queue->EntryListHead);
}

// Packets that nobody waits to take are the direct waiters' to know of: whoever
// is in a dequeue comes first (IOCP-27). Dispatcher lock held, the queue's not.
static void tell_direct_waiters(KQUEUE *queue)
{
    if (queue->Header.SignalState > 0 && IsListEmpty(&queue->waiters))
        ki_signal(&queue->Header, EVENT_INCREMENT);
}

// The newest thread in KeRemoveQueue gets the oldest packet (IOCP-11). Both
// locks are held; the queue's is let go for the release, which counts the
// thread as running.
static void hand_over(KQUEUE *queue)
{    // lab 3
    KWAIT_BLOCK *block = CONTAINING_RECORD(queue->waiters.Flink, KWAIT_BLOCK,
                                           WaitListEntry);
    KTHREAD *thread = block->Thread;
    thread->queue_packet = take_first(queue);
    KeReleaseSpinLockFromDpcLevel(&queue->lock);
    ki_unwait(thread, STATUS_SUCCESS, EVENT_INCREMENT);
    KeAcquireSpinLockAtDpcLevel(&queue->lock);
}

// Lets waiters go while there are packets, and room for threads. Both locks
// are held; what is left is the callers' to tell of, when they let go of ours.
static void release_waiters(KQUEUE *queue)
{    // lab 3
    while (queue->CurrentCount < queue->MaximumCount &&
           !IsListEmpty(&queue->waiters) && !IsListEmpty(&queue->EntryListHead))
        hand_over(queue);
}

// An insert made by a thread inside its own queue wait (a completion APC ran
// there) releases nobody: that thread itself takes the packet next, and leaves
// the rest to others. A DPC that interrupted it there inserts for anybody: it
// may have another thread preempt this one before it gets to the packet.
static bool inserter_takes_it(const KQUEUE *queue)
{    // lab 3
    const KTHREAD *thread = KeGetCurrentThread();
    return thread->Queue == queue && thread->WaitReason == WrQueue &&
           !KeGetCurrentPrcb()->dpc_active;
}

// Appends the packet; false if the queue was run down. Queue's lock held.
static inline bool append(KQUEUE *queue, LIST_ENTRY *entry)
{    // lab 3
    if (queue->abandoned)
        return false;
    InsertTailList(&queue->EntryListHead, entry);
    queue->Header.SignalState++;
    return true;
}

// Somebody waits: the same with both locks, of which the dispatcher's comes
// first.
static DECLSPEC_NOINLINE int32_t insert_for_waiters(KQUEUE *queue,
                                                    LIST_ENTRY *entry)
{    // lab 3
    KIRQL old = ki_lock_dispatcher();
    KeAcquireSpinLockAtDpcLevel(&queue->lock);
    int32_t before = queue->Header.SignalState;
    bool keeps_it = inserter_takes_it(queue);
    if (!append(queue, entry))
        before = -1;
    else if (!keeps_it)
        release_waiters(queue);
    KeReleaseSpinLockFromDpcLevel(&queue->lock);
    if (!keeps_it)
        tell_direct_waiters(queue);
    ki_unlock_dispatcher(old);
    return before;
}

// Queues a packet, or hands it to the newest waiter if one may run.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: how many packets were queued before; -1: it was run down, and the
//          packet stays the caller's
// NT:      KeInsertQueue (ntifs).
FORCEINLINE int32_t KeInsertQueue(KQUEUE *queue, LIST_ENTRY *entry)
{    // lab 3
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    ki_lock_leaf(&queue->lock);
    // A direct waiter lists itself, then takes this lock (block in wait.c):
    // we see it, or it our packet.
    if (!IsListEmpty(&queue->waiters) ||
        !IsListEmpty(&queue->Header.WaitListHead)) {
        ki_unlock_leaf(&queue->lock);
        return insert_for_waiters(queue, entry);
    }
    int32_t before = queue->Header.SignalState;
    if (!append(queue, entry))
        before = -1;
    ki_unlock_leaf(&queue->lock);
    return before;
}

// Gives packets back that were taken and cannot be used: before all others, in
// their order.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: false: it was run down, and they stay the caller's
bool ke_return_entries(KQUEUE *queue, LIST_ENTRY **entries, uint32_t count)
{    // lab 3
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KIRQL old = ki_lock_dispatcher();
    KeAcquireSpinLockAtDpcLevel(&queue->lock);
    bool taken = !queue->abandoned;
    for (; taken && count; queue->Header.SignalState++)
        InsertHeadList(&queue->EntryListHead, entries[--count]);
    release_waiters(queue);
    KeReleaseSpinLockFromDpcLevel(&queue->lock);
    tell_direct_waiters(queue);
    ki_unlock_dispatcher(old);
    return taken;
}

// One of the queue's threads no longer runs: lets another one go in its
// place, if there are a packet and a waiter for it.
//
// IRQL:    == DISPATCH_LEVEL
void ki_deactivate_queue(KQUEUE *queue)
{    // lab 3
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    KeAcquireSpinLockAtDpcLevel(&queue->lock);
    ASSERT(queue->CurrentCount > 0);
    queue->CurrentCount--;
    release_waiters(queue);
    KeReleaseSpinLockFromDpcLevel(&queue->lock);
    tell_direct_waiters(queue);
}

// Ends a running thread's association with its queue.
//
// IRQL:    == DISPATCH_LEVEL
void ki_leave_queue(KTHREAD *thread)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    KQUEUE *queue = thread->Queue;
    if (!queue)
        return;
    thread->Queue = NULL;
    RemoveEntryList(&thread->QueueListEntry);
    ki_deactivate_queue(queue);
}

// Takes what is there, if the limit lets this thread go on: it was released, or
// is associated and counted as running when it asks. Queue's lock held.
static inline uint32_t take_entries(KQUEUE *queue, LIST_ENTRY **entries,
                             uint32_t count, bool released)
{    // lab 3
    if ((!released && queue->CurrentCount > queue->MaximumCount) ||
        IsListEmpty(&queue->EntryListHead))
        return 0;
    uint32_t there = (uint32_t)queue->Header.SignalState;    // at least one
    uint32_t taken = count == 1 ? 1 : MIN(count, there);
    LIST_ENTRY *head = &queue->EntryListHead, *first = head->Flink;
    for (uint32_t i = 0; i < taken; first = first->Flink)
        entries[i++] = first;
    head->Flink = first;
    first->Blink = head;
    queue->Header.SignalState -= (int32_t)taken;
    return taken;
}

// One round with the dispatcher lock held: takes packets, or blocks until one
// is handed over. Looking and listing are one step under the queue's lock, so
// that no insert slips in between.
static NTSTATUS remove_once(KQUEUE *queue, uint64_t due, LIST_ENTRY **entries,
                            uint32_t count, uint32_t *taken)
{    // lab 3
    KTHREAD *thread = KeGetCurrentThread();
    bool associated = thread->Queue == queue;
    // A thread that has taken from this port before gets the packet, any
    // other one its APC first, and stays unassociated (IOCP-14).
    NTSTATUS status = associated ? STATUS_SUCCESS : ki_test_alert(thread);
    if (status != STATUS_SUCCESS)
        return status;
    if (queue->abandoned)
        return STATUS_ABANDONED_WAIT_0;
    if (!associated)
        ki_leave_queue(thread);
    KeAcquireSpinLockAtDpcLevel(&queue->lock);
    if (!associated) {
        thread->Queue = queue;
        InsertTailList(&queue->ThreadListHead, &thread->QueueListEntry);
        queue->CurrentCount++;
    }
    uint32_t got = take_entries(queue, entries, count, false);
    *taken = got;
    if (got)
        release_waiters(queue);    // for what our own APCs brought and we leave
    else if ((status = ki_test_alert(thread)) == STATUS_SUCCESS && due == 0)
        status = STATUS_TIMEOUT;
    if (got || status != STATUS_SUCCESS) {
        KeReleaseSpinLockFromDpcLevel(&queue->lock);
        return status;
    }
    // The newest waiter, which no longer counts as running. Nobody takes its
    // place: had there been a packet and room for a thread, this one would
    // have taken it.
    KWAIT_BLOCK *block = &thread->WaitBlock[0];
    block->Thread = thread;
    block->Object = &queue->Header;
    thread->queue_packet = NULL;
    thread->WaitBlockList = block;
    thread->WaitCount = 1;
    InsertHeadList(&queue->waiters, &block->WaitListEntry);
    queue->CurrentCount--;
    thread->State = Waiting;
    KeReleaseSpinLockFromDpcLevel(&queue->lock);
    if (due != KI_FOREVER)
        ki_wait_with_timer(thread, due);
    ki_swap_thread();
    if (thread->WaitStatus == STATUS_SUCCESS) {
        entries[0] = thread->queue_packet;
        *taken = 1;
        if (count == 1)
            return STATUS_SUCCESS;
        KeAcquireSpinLockAtDpcLevel(&queue->lock);
        *taken += take_entries(queue, entries + 1, count - 1, true);
        KeReleaseSpinLockFromDpcLevel(&queue->lock);
    }
    return thread->WaitStatus;
}

// Takes a packet that is there, for a thread that has taken from this port
// before.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: NULL says nothing about the port
LIST_ENTRY *ke_poll_queue(KQUEUE *queue)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    // Others only take it from us, when the queue is run down: of what is left
    // then we may still take one, as whoever has the queue's lock first has it.
    if (KeGetCurrentThread()->Queue != queue ||
        IsListEmpty(&queue->EntryListHead))
        return NULL;
    LIST_ENTRY *entry = NULL;
    ki_lock_leaf(&queue->lock);
    take_entries(queue, &entry, 1, false);
    ki_unlock_leaf(&queue->lock);
    return entry;
}

// Takes up to count packets, waiting for the first. Many at a time is what
// NT's KeRemoveQueueEx does; this is both.
//
// IRQL:    <= APC_LEVEL
// Returns: STATUS_SUCCESS with *taken > 0; STATUS_TIMEOUT, STATUS_USER_APC,
//          STATUS_ALERTED, STATUS_ABANDONED_WAIT_0 with *taken == 0
NTSTATUS ke_remove_queue(KQUEUE *queue, KPROCESSOR_MODE mode, bool alertable,
                         const int64_t *timeout, LIST_ENTRY **entries,
                         uint32_t count, uint32_t *taken)
{
    ASSERT_IRQL_RULE("IRQL-05", <=, APC_LEVEL);
    KTHREAD *thread = KeGetCurrentThread();
    *taken = 0;
    uint64_t due = ki_due_time(timeout);
    NTSTATUS status;
    do {
        KIRQL old = ki_begin_wait(WrQueue, mode, alertable);
        status = remove_once(queue, due, entries, count, taken);
        // With a kernel APC to run, the thread stays "in its queue wait".
        if (status != STATUS_KERNEL_APC) {
            thread->WaitReason = Executive;
            tell_direct_waiters(queue);
        }
        ki_unlock_dispatcher(old);
    } while (status == STATUS_KERNEL_APC);
    return status;
}

// Ends the queue: its waiters return STATUS_ABANDONED_WAIT_0 (IOCP-12), direct
// waiters are satisfied (IOCP-27), its threads are let go.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: the packets that nobody took, as a circle without a head; or NULL
// NT:      KeRundownQueue (ntifs).
LIST_ENTRY *KeRundownQueue(KQUEUE *queue)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KIRQL old = ki_lock_dispatcher();
    KeAcquireSpinLockAtDpcLevel(&queue->lock);
    queue->abandoned = true;
    KeReleaseSpinLockFromDpcLevel(&queue->lock);
    while (!IsListEmpty(&queue->waiters)) {
        KWAIT_BLOCK *block = CONTAINING_RECORD(queue->waiters.Flink,
                                               KWAIT_BLOCK, WaitListEntry);
        ki_unwait(block->Thread, STATUS_ABANDONED_WAIT_0, IO_NO_INCREMENT);
    }
    while (!IsListEmpty(&queue->ThreadListHead)) {
        KTHREAD *thread = CONTAINING_RECORD(
            RemoveHeadList(&queue->ThreadListHead), KTHREAD, QueueListEntry);
        thread->Queue = NULL;
    }
    KeAcquireSpinLockAtDpcLevel(&queue->lock);
    queue->CurrentCount = 0;
    LIST_ENTRY *packets = NULL;
    if (!IsListEmpty(&queue->EntryListHead)) {
        packets = queue->EntryListHead.Flink;
        RemoveEntryList(&queue->EntryListHead);
        InitializeListHead(&queue->EntryListHead);
    }
    queue->Header.SignalState = 1;    // for good: also for who comes later
    KeReleaseSpinLockFromDpcLevel(&queue->lock);
    ki_signal(&queue->Header, IO_NO_INCREMENT);
    ki_unlock_dispatcher(old);
    return packets;
}
