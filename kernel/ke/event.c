// event.c - events, semaphores, mutants: states that threads wait for.

#include "kernel/ke/kep.h"

// What every dispatcher object begins with.
//
// IRQL:    any level
void ki_initialize_header(DISPATCHER_HEADER *header, KOBJECTS type,
                          int32_t state)
{
    header->Type = (uint8_t)type;
    header->Inserted = false;
    header->SignalState = state;
    InitializeListHead(&header->WaitListHead);
}

// Prepares an event.
//
// IRQL:    any level
// NT:      KeInitializeEvent (WDK).
void KeInitializeEvent(KEVENT *event, EVENT_TYPE type, bool state)
{
    _Static_assert(EventSynchronizationObject == (int)SynchronizationEvent,
                   "NT numbers both alike");
    ki_initialize_header(&event->Header, (KOBJECTS)type, state);
}

// Gives an event a state and returns the previous one; a pulse leaves it
// un-signalled.
static inline int32_t change_state(KEVENT *event, int32_t state, bool pulse,
                                   KPRIORITY increment)
{
    KIRQL old = ki_lock_dispatcher();
    int32_t previous = __atomic_exchange_n(&event->Header.SignalState, state,
                                           __ATOMIC_SEQ_CST);
    if (state)
        ki_signal(&event->Header, increment);
    if (pulse)
        event->Header.SignalState = 0;
    ki_unlock_dispatcher(old);
    return previous;
}

// Sets an event: releases all waiters, or the longest one (SYN-02).
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: the previous state
// NT:      KeSetEvent (WDK). Left out: Wait.
int32_t KeSetEvent(KEVENT *event, KPRIORITY increment)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    return change_state(event, 1, false, increment);
}

// Sets a notification event that is still there when those that wait for it
// have gone on. If nobody does it needs no lock: we set it, then look for
// waiters; a waiter lists itself, then looks at the event (block in wait.c).
// One of the two sees the other.
//
// IRQL:    <= DISPATCH_LEVEL
void ke_set_lasting_event(KEVENT *event, KPRIORITY increment)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    ASSERT(event->Header.Type == EventNotificationObject);
    __atomic_store_n(&event->Header.SignalState, 1, __ATOMIC_SEQ_CST);
    if (!IsListEmpty(&event->Header.WaitListHead))
        change_state(event, 1, false, increment);
}

// Un-signals an event.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: the previous state
// NT:      KeResetEvent (WDK).
int32_t KeResetEvent(KEVENT *event)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    return change_state(event, 0, false, IO_NO_INCREMENT);
}

// Sets the event for those who wait right now, and leaves it un-signalled.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: the previous state
// NT:      KePulseEvent (ntddk). Left out: Wait.
int32_t KePulseEvent(KEVENT *event, KPRIORITY increment)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    return change_state(event, 1, true, increment);
}

// Prepares a semaphore.
//
// IRQL:    any level
// NT:      KeInitializeSemaphore (WDK).
void KeInitializeSemaphore(KSEMAPHORE *semaphore, int32_t count, int32_t limit)
{
    ki_initialize_header(&semaphore->Header, SemaphoreObject, count);
    semaphore->Limit = limit;
}

// Adds to a semaphore's count; NT's KeReleaseSemaphore raises an exception
// where this returns false.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: false, and nothing is changed, if the limit would be exceeded
bool ke_release_semaphore(KSEMAPHORE *semaphore, KPRIORITY increment,
                          int32_t adjustment, int32_t *previous)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KIRQL old = ki_lock_dispatcher();
    int32_t before = semaphore->Header.SignalState;
    bool fits = adjustment > 0 && adjustment <= semaphore->Limit - before;
    if (fits) {
        semaphore->Header.SignalState = before + adjustment;
        ki_signal(&semaphore->Header, increment);
    }
    ki_unlock_dispatcher(old);
    if (fits && previous)
        *previous = before;
    return fits;
}

// Prepares a mutant, owned by the current thread or free.
//
// IRQL:    <= DISPATCH_LEVEL
void ke_initialize_mutant(KMUTANT *mutant, bool owned)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    ki_initialize_header(&mutant->Header, MutantObject, owned ? 0 : 1);
    mutant->Abandoned = false;
    mutant->OwnerThread = NULL;
    if (owned) {
        KIRQL old = ki_lock_dispatcher();
        mutant->OwnerThread = KeGetCurrentThread();
        InsertTailList(&mutant->OwnerThread->MutantListHead,
                       &mutant->MutantListEntry);
        ki_unlock_dispatcher(old);
    }
}

// Gives a mutant up once; NT's KeReleaseMutant raises an exception where this
// returns a status.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: STATUS_SUCCESS, STATUS_MUTANT_NOT_OWNED
NTSTATUS ke_release_mutant(KMUTANT *mutant, KPRIORITY increment,
                           int32_t *previous)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KIRQL old = ki_lock_dispatcher();
    int32_t before = mutant->Header.SignalState;
    bool owned = mutant->OwnerThread == KeGetCurrentThread();
    if (owned && ++mutant->Header.SignalState == 1) {
        mutant->OwnerThread = NULL;
        RemoveEntryList(&mutant->MutantListEntry);
        ki_signal(&mutant->Header, increment);
    }
    ki_unlock_dispatcher(old);
    if (owned && previous)
        *previous = before;
    return owned ? STATUS_SUCCESS : STATUS_MUTANT_NOT_OWNED;
}

// Takes a mutant that is about to be freed from its owner, if it has one.
//
// IRQL:    <= DISPATCH_LEVEL
void ke_discard_mutant(void *object)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KMUTANT *mutant = object;
    KIRQL old = ki_lock_dispatcher();
    if (mutant->OwnerThread)
        RemoveEntryList(&mutant->MutantListEntry);
    ki_unlock_dispatcher(old);
}
