// devqueue.c - device queues: who is at the device, and who is in line.

#include "kernel/ke/kep.h"

// Prepares an idle queue.
//
// IRQL:    any level
// NT:      KeInitializeDeviceQueue (WDK).
void KeInitializeDeviceQueue(KDEVICE_QUEUE *queue)
{
    KeInitializeSpinLock(&queue->Lock);
    InitializeListHead(&queue->DeviceListHead);
    queue->Busy = false;
}

static bool insert_entry(KDEVICE_QUEUE *queue, KDEVICE_QUEUE_ENTRY *entry,
                         bool by_key)
{
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&queue->Lock);
    bool queued = queue->Busy;
    if (queued) {
        LIST_ENTRY *after = &queue->DeviceListHead;
        while (by_key && after->Blink != &queue->DeviceListHead &&
               CONTAINING_RECORD(after->Blink, KDEVICE_QUEUE_ENTRY,
                                 DeviceListEntry)->SortKey > entry->SortKey)
            after = after->Blink;
        InsertTailList(after, &entry->DeviceListEntry);
    }
    queue->Busy = true;
    entry->Inserted = queued;
    KeReleaseSpinLock(&queue->Lock, old);
    return queued;
}

// Puts an entry in line, if the device is busy (DVQ-01).
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: false: the queue was idle, is busy now, and the entry is not in it
// NT:      KeInsertDeviceQueue (WDK).
bool KeInsertDeviceQueue(KDEVICE_QUEUE *queue, KDEVICE_QUEUE_ENTRY *entry)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    return insert_entry(queue, entry, false);
}

// The same, sorted by ascending keys, behind equal ones (DVQ-02).
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: as KeInsertDeviceQueue
// NT:      KeInsertByKeyDeviceQueue (WDK).
bool KeInsertByKeyDeviceQueue(KDEVICE_QUEUE *queue, KDEVICE_QUEUE_ENTRY *entry,
                              uint32_t key)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    entry->SortKey = key;
    return insert_entry(queue, entry, true);
}

// Takes the first in line.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: NULL: nobody is; the queue is idle now
// NT:      KeRemoveDeviceQueue (WDK).
KDEVICE_QUEUE_ENTRY *KeRemoveDeviceQueue(KDEVICE_QUEUE *queue)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KDEVICE_QUEUE_ENTRY *entry = NULL;
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&queue->Lock);
    ASSERT_RULE("DVQ-02", queue->Busy);
    if (IsListEmpty(&queue->DeviceListHead)) {
        queue->Busy = false;
    } else {
        entry = CONTAINING_RECORD(RemoveHeadList(&queue->DeviceListHead),
                                  KDEVICE_QUEUE_ENTRY, DeviceListEntry);
        entry->Inserted = false;
    }
    KeReleaseSpinLock(&queue->Lock, old);
    return entry;
}

// Takes one particular entry out of the line; the queue stays busy.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: whether it was in line
// NT:      KeRemoveEntryDeviceQueue (WDK).
bool KeRemoveEntryDeviceQueue(KDEVICE_QUEUE *queue, KDEVICE_QUEUE_ENTRY *entry)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&queue->Lock);
    bool removed = entry->Inserted;
    if (removed) {
        entry->Inserted = false;
        RemoveEntryList(&entry->DeviceListEntry);
    }
    KeReleaseSpinLock(&queue->Lock, old);
    return removed;
}
