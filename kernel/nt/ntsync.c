// ntsync.c - events, semaphores and mutants as ring 3 has them.
//
// An object is its dispatcher object and nothing else; who waits for it, and
// when it is signalled, is kernel/ke's business.

#include "kernel/nt/ntp.h"

OBJECT_TYPE nt_event_type = {
    .name = "Event", NT_RIGHTS(EVENT_QUERY_STATE, EVENT_MODIFY_STATE)
};

OBJECT_TYPE nt_semaphore_type = {
    .name = "Semaphore", NT_RIGHTS(0, SEMAPHORE_MODIFY_STATE)
};

OBJECT_TYPE nt_mutant_type = {
    .name = "Mutant", NT_RIGHTS(MUTANT_QUERY_STATE, MUTANT_QUERY_STATE),
    .delete = ke_discard_mutant
};

// ---- Events ---------------------------------------------------------------

// Makes an event.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INVALID_PARAMETER,
//          STATUS_OBJECT_NAME_INVALID, STATUS_INSUFFICIENT_RESOURCES,
//          STATUS_ACCESS_VIOLATION
// NT:      NtCreateEvent (WDK). Left out: names.
NTSTATUS NtCreateEvent(HANDLE *event, ACCESS_MASK access,
                       const OBJECT_ATTRIBUTES *attributes, EVENT_TYPE type,
                       bool state)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    if (type != NotificationEvent && type != SynchronizationEvent)
        return STATUS_INVALID_PARAMETER;
    NT_CREATE(KEVENT, object, attributes);
    KeInitializeEvent(object, type, nt_bool(state));
    return ob_insert_for_user(object, access, event);
}

// Sets an event (WAIT-01).
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INVALID_HANDLE, STATUS_ACCESS_DENIED,
//          STATUS_OBJECT_TYPE_MISMATCH, STATUS_ACCESS_VIOLATION
// NT:      NtSetEvent (WDK).
NTSTATUS NtSetEvent(HANDLE event, int32_t *previous)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    NT_TRY(NT_PROBE_OPTIONAL(previous));
    NT_REFERENCE(KEVENT, object, event, EVENT_MODIFY_STATE);
    int32_t old = KeSetEvent(object, EVENT_INCREMENT);
    return NT_PUT_OPTIONAL(previous, &old);
}

// Un-signals an event.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: as NtSetEvent
// NT:      NtResetEvent (native).
NTSTATUS NtResetEvent(HANDLE event, int32_t *previous)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    NT_TRY(NT_PROBE_OPTIONAL(previous));
    NT_REFERENCE(KEVENT, object, event, EVENT_MODIFY_STATE);
    int32_t old = KeResetEvent(object);
    return NT_PUT_OPTIONAL(previous, &old);
}

// Releases whoever waits for an event now, and leaves it un-signalled.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: as NtSetEvent
// NT:      NtPulseEvent (native).
NTSTATUS NtPulseEvent(HANDLE event, int32_t *previous)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    NT_TRY(NT_PROBE_OPTIONAL(previous));
    NT_REFERENCE(KEVENT, object, event, EVENT_MODIFY_STATE);
    int32_t old = KePulseEvent(object, EVENT_INCREMENT);
    return NT_PUT_OPTIONAL(previous, &old);
}

// Tells an event's type and state.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: as NtSetEvent
// NT:      NtQueryEvent (native). Its one class is implied.
NTSTATUS NtQueryEvent(HANDLE event, EVENT_BASIC_INFORMATION *information)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    NT_REFERENCE(KEVENT, object, event, EVENT_QUERY_STATE);
    EVENT_BASIC_INFORMATION basic = {
        .EventType = object->Header.Type == EventNotificationObject
                         ? NotificationEvent : SynchronizationEvent,
        .EventState = object->Header.SignalState,
    };
    return ke_put_user(information, &basic);
}

// ---- Semaphores -----------------------------------------------------------

// Makes a semaphore.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_INVALID_PARAMETER    not 0 <= initial <= maximum, 0 < maximum
//          or as NtCreateEvent
// NT:      NtCreateSemaphore (native). Left out: names.
NTSTATUS NtCreateSemaphore(HANDLE *semaphore, ACCESS_MASK access,
                           const OBJECT_ATTRIBUTES *attributes,
                           int32_t initial, int32_t maximum)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    if (maximum <= 0 || initial < 0 || initial > maximum)
        return STATUS_INVALID_PARAMETER;
    NT_CREATE(KSEMAPHORE, object, attributes);
    KeInitializeSemaphore(object, initial, maximum);
    return ob_insert_for_user(object, access, semaphore);
}

// Adds count to a semaphore.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_INVALID_PARAMETER           count is not positive
//          STATUS_SEMAPHORE_LIMIT_EXCEEDED    nothing was changed
//          or as NtSetEvent
// NT:      NtReleaseSemaphore (native).
NTSTATUS NtReleaseSemaphore(HANDLE semaphore, int32_t count, int32_t *previous)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    if (count <= 0)
        return STATUS_INVALID_PARAMETER;
    NT_TRY(NT_PROBE_OPTIONAL(previous));
    NT_REFERENCE(KSEMAPHORE, object, semaphore, SEMAPHORE_MODIFY_STATE);
    int32_t old = 0;
    return ke_release_semaphore(object, EVENT_INCREMENT, count, &old)
               ? NT_PUT_OPTIONAL(previous, &old)
               : STATUS_SEMAPHORE_LIMIT_EXCEEDED;
}

// ---- Mutants --------------------------------------------------------------

// Makes a mutant, owned by the caller or free.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: as NtCreateEvent
// NT:      NtCreateMutant (native). Left out: names.
NTSTATUS NtCreateMutant(HANDLE *mutant, ACCESS_MASK access,
                        const OBJECT_ATTRIBUTES *attributes, bool owned)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    NT_CREATE(KMUTANT, object, attributes);
    ke_initialize_mutant(object, nt_bool(owned));
    return ob_insert_for_user(object, access, mutant);
}

// Gives a mutant up once.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_MUTANT_NOT_OWNED    the caller does not own it
//          or as NtSetEvent
// NT:      NtReleaseMutant (native).
NTSTATUS NtReleaseMutant(HANDLE mutant, int32_t *previous)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    NT_TRY(NT_PROBE_OPTIONAL(previous));
    NT_REFERENCE(KMUTANT, object, mutant, MUTANT_QUERY_STATE);
    int32_t old = 0;
    NT_TRY(ke_release_mutant(object, EVENT_INCREMENT, &old));
    return NT_PUT_OPTIONAL(previous, &old);
}
