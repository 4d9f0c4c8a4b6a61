// devqueue.h - device queues: one request at the device, the others in line.

#pragma once

#include "kernel/nt.h"

typedef struct KDEVICE_QUEUE_ENTRY {
    LIST_ENTRY DeviceListEntry;
    uint32_t SortKey;
    bool Inserted;
} KDEVICE_QUEUE_ENTRY;

typedef struct KDEVICE_QUEUE {
    KSPIN_LOCK Lock;             // a leaf; guards all below
    LIST_ENTRY DeviceListHead;
    bool Busy;
} KDEVICE_QUEUE;

void KeInitializeDeviceQueue(KDEVICE_QUEUE *queue);
// false: the queue was idle; it is busy now and the entry is NOT queued.
bool KeInsertDeviceQueue(KDEVICE_QUEUE *queue, KDEVICE_QUEUE_ENTRY *entry);
bool KeInsertByKeyDeviceQueue(KDEVICE_QUEUE *queue, KDEVICE_QUEUE_ENTRY *entry,
                              uint32_t key);
// NULL: nobody is in line; the queue is idle now.
KDEVICE_QUEUE_ENTRY *KeRemoveDeviceQueue(KDEVICE_QUEUE *queue);
bool KeRemoveEntryDeviceQueue(KDEVICE_QUEUE *queue, KDEVICE_QUEUE_ENTRY *entry);
