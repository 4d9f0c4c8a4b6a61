// queue.c - lab 3: a port without a concurrency rule. It delivers all packets
// in their order, but to the oldest waiter, and to as many as there are.

int32_t KeInsertQueue(KQUEUE *queue, LIST_ENTRY *entry)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KIRQL old = ki_lock_dispatcher();
    KeAcquireSpinLockAtDpcLevel(&queue->lock);
    int32_t before = queue->abandoned ? -1 : queue->Header.SignalState;
    bool waits = !IsListEmpty(&queue->waiters);
    if (before >= 0 && !waits) {
        InsertTailList(&queue->EntryListHead, entry);
        queue->Header.SignalState++;
    }
    KeReleaseSpinLockFromDpcLevel(&queue->lock);
    if (before >= 0 && waits) {
        KWAIT_BLOCK *block = CONTAINING_RECORD(queue->waiters.Blink,
                                               KWAIT_BLOCK, WaitListEntry);
        block->Thread->queue_packet = entry;
        ki_unwait(block->Thread, STATUS_SUCCESS, EVENT_INCREMENT);
    } else if (before >= 0) {
        ki_signal(&queue->Header, EVENT_INCREMENT);
    }
    ki_unlock_dispatcher(old);
    return before;
}

bool ke_return_entries(KQUEUE *queue, LIST_ENTRY **entries, uint32_t count)
{
    bool taken = true;
    for (uint32_t i = 0; i < count && taken; i++)    // behind all others
        taken = KeInsertQueue(queue, entries[i]) >= 0;
    return taken;
}

void ki_deactivate_queue(KQUEUE *queue)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    (void)queue;    // nobody counts who runs
}

static uint32_t take_entries(KQUEUE *queue, LIST_ENTRY **entries,
                             uint32_t count, bool released)
{
    uint32_t taken = 0;
    (void)released;    // there is no limit
    while (taken < count && !IsListEmpty(&queue->EntryListHead))
        entries[taken++] = take_first(queue);
    return taken;
}

static NTSTATUS remove_once(KQUEUE *queue, uint64_t due, LIST_ENTRY **entries,
                            uint32_t count, uint32_t *taken)
{
    KTHREAD *thread = KeGetCurrentThread();
    NTSTATUS status = thread->Queue == queue ? STATUS_SUCCESS
                                             : ki_test_alert(thread);
    if (status != STATUS_SUCCESS)
        return status;
    if (queue->abandoned)
        return STATUS_ABANDONED_WAIT_0;
    if (thread->Queue != queue) {
        ki_leave_queue(thread);
        thread->Queue = queue;
        InsertTailList(&queue->ThreadListHead, &thread->QueueListEntry);
    }
    KeAcquireSpinLockAtDpcLevel(&queue->lock);
    *taken = take_entries(queue, entries, count, false);
    if (!*taken)
        status = ki_test_alert(thread);
    if (!*taken && status == STATUS_SUCCESS && due == 0)
        status = STATUS_TIMEOUT;
    if (*taken || status != STATUS_SUCCESS) {
        KeReleaseSpinLockFromDpcLevel(&queue->lock);
        return status;
    }
    KWAIT_BLOCK *block = &thread->WaitBlock[0];
    *block = (KWAIT_BLOCK){ .Thread = thread, .Object = &queue->Header };
    thread->queue_packet = NULL;
    thread->WaitBlockList = block;
    thread->WaitCount = 1;
    InsertHeadList(&queue->waiters, &block->WaitListEntry);
    thread->State = Waiting;
    KeReleaseSpinLockFromDpcLevel(&queue->lock);
    if (due != KI_FOREVER)
        ki_wait_with_timer(thread, due);
    ki_swap_thread();
    if (thread->WaitStatus == STATUS_SUCCESS) {
        entries[0] = thread->queue_packet;
        *taken = 1;
    }
    return thread->WaitStatus;
}
