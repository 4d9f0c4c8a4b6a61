// wait.h - dispatcher objects: event, semaphore, mutant, timer, queue; and
// how a thread waits for them.
//
// All of it is guarded by the one dispatcher lock, held at DISPATCH_LEVEL for
// a few dozen instructions (Windows 7 split it). A thread that waits has one
// wait block on each object's list; whoever signals the object unwaits it:
//
//   Running --KeWaitFor...--> Waiting --signal, APC, time-out--> Ready
//
// The completion port is the KQUEUE. Its packets and its counts have their
// own lock inside the dispatcher lock; its waiters change only under both.
// So an insert that sees no waiter, and a removal that finds a packet, take
// the queue's lock alone.

#pragma once

#include "kernel/ke/dpc.h"
#include "kernel/nt.h"
#include "kernel/rtl/rtl.h"

typedef enum KOBJECTS {
    EventNotificationObject, EventSynchronizationObject, MutantObject,
    ProcessObject, QueueObject, SemaphoreObject, ThreadObject,
    TimerNotificationObject, TimerSynchronizationObject
} KOBJECTS;

// The first member of everything that can be waited for.
typedef struct DISPATCHER_HEADER {
    uint8_t Type;                // KOBJECTS
    bool Inserted;               // timer: in the heap
    int32_t SignalState;
    LIST_ENTRY WaitListHead;     // of KWAIT_BLOCK.WaitListEntry
} DISPATCHER_HEADER;

typedef struct KWAIT_BLOCK {
    LIST_ENTRY WaitListEntry;
    KTHREAD *Thread;
    DISPATCHER_HEADER *Object;
    uint16_t WaitKey;            // what the wait returns
    uint8_t WaitType;            // WAIT_TYPE
} KWAIT_BLOCK;

#define THREAD_WAIT_OBJECTS 3    // as many need no array of the caller

struct KEVENT { DISPATCHER_HEADER Header; };

typedef struct KSEMAPHORE {
    DISPATCHER_HEADER Header;
    int32_t Limit;
} KSEMAPHORE;

typedef struct KMUTANT {
    DISPATCHER_HEADER Header;    // SignalState 1: free, <= 0: owned
    LIST_ENTRY MutantListEntry;  // on its owner's list
    KTHREAD *OwnerThread;
    bool Abandoned;
} KMUTANT;

struct KTIMER {
    DISPATCHER_HEADER Header;
    rtl_heap_node node;          // key: due time in 100 ns since boot
    KDPC *Dpc;
    KAPC *apc;                   // or NULL; changes while the timer is not set
    uint32_t Period;             // milliseconds; 0: once
    uint8_t processor;           // whose heap
};

struct KQUEUE {
    DISPATCHER_HEADER Header;    // SignalState: packets; list: direct waiters
    KSPIN_LOCK lock;
    LIST_ENTRY EntryListHead;    // packets, first in first out
    LIST_ENTRY waiters;          // threads in KeRemoveQueue, newest first
    LIST_ENTRY ThreadListHead;   // threads associated with this queue
    uint32_t CurrentCount;       // of them, running
    uint32_t MaximumCount;
    bool abandoned;              // run down: nobody waits any more
};

void KeInitializeEvent(KEVENT *event, EVENT_TYPE type, bool state);
int32_t KeSetEvent(KEVENT *event, KPRIORITY increment);
void ke_set_lasting_event(KEVENT *event, KPRIORITY increment);
int32_t KeResetEvent(KEVENT *event);
int32_t KePulseEvent(KEVENT *event, KPRIORITY increment);

// Un-signals an event that nobody else sets at this moment.
// IRQL: <= DISPATCH_LEVEL
static inline void KeClearEvent(KEVENT *event)
{
    event->Header.SignalState = 0;
}

void KeInitializeSemaphore(KSEMAPHORE *semaphore, int32_t count, int32_t limit);
// Returns false, and changes nothing, when the limit would be exceeded.
bool ke_release_semaphore(KSEMAPHORE *semaphore, KPRIORITY increment,
                          int32_t adjustment, int32_t *previous);

void ke_initialize_mutant(KMUTANT *mutant, bool owned);
// Returns: STATUS_SUCCESS or STATUS_MUTANT_NOT_OWNED
NTSTATUS ke_release_mutant(KMUTANT *mutant, KPRIORITY increment,
                           int32_t *previous);

// Takes a mutant that goes away off its owner's list. IRQL: <= DISPATCH_LEVEL.
void ke_discard_mutant(void *mutant);

void KeInitializeTimerEx(KTIMER *timer, TIMER_TYPE type);
// due: 100 ns; negative: relative, else absolute system time.
bool KeSetTimerEx(KTIMER *timer, int64_t due, uint32_t period_ms, KDPC *dpc);
bool KeCancelTimer(KTIMER *timer);

void KeInitializeQueue(KQUEUE *queue, uint32_t count);
int32_t KeInsertQueue(KQUEUE *queue, LIST_ENTRY *entry);
bool ke_return_entries(KQUEUE *queue, LIST_ENTRY **entries, uint32_t count);
LIST_ENTRY *ke_poll_queue(KQUEUE *queue);
// Takes up to count entries, at least one; waits while there is none.
// Returns: STATUS_SUCCESS with *taken > 0, STATUS_TIMEOUT, STATUS_USER_APC,
//          STATUS_ALERTED or STATUS_ABANDONED_WAIT_0 with *taken == 0
NTSTATUS ke_remove_queue(KQUEUE *queue, KPROCESSOR_MODE mode, bool alertable,
                         const int64_t *timeout, LIST_ENTRY **entries,
                         uint32_t count, uint32_t *taken);
// Ends all waits with STATUS_ABANDONED_WAIT_0 and returns the packets.
LIST_ENTRY *KeRundownQueue(KQUEUE *queue);

NTSTATUS KeWaitForSingleObject(void *object, KWAIT_REASON reason,
                               KPROCESSOR_MODE mode, bool alertable,
                               const int64_t *timeout);
// blocks: count of them, or NULL for up to THREAD_WAIT_OBJECTS objects.
NTSTATUS KeWaitForMultipleObjects(uint32_t count, void **objects,
                                  WAIT_TYPE type, KWAIT_REASON reason,
                                  KPROCESSOR_MODE mode, bool alertable,
                                  const int64_t *timeout, KWAIT_BLOCK *blocks);
NTSTATUS KeDelayExecutionThread(KPROCESSOR_MODE mode, bool alertable,
                                const int64_t *interval);
