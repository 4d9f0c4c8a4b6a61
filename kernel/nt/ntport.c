// ntport.c - completion ports, by their native names.

#include "kernel/nt/ntp.h"

// Makes a port. count: how many of its threads may run at once; 0: one a
// processor.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INSUFFICIENT_RESOURCES,
//          STATUS_ACCESS_VIOLATION, STATUS_OBJECT_NAME_INVALID (it has one)
// NT:      NtCreateIoCompletion (native). No names.
NTSTATUS NtCreateIoCompletion(HANDLE *port, ACCESS_MASK access,
                              const OBJECT_ATTRIBUTES *attributes,
                              uint32_t count)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    NT_CREATE(KQUEUE, object, attributes);
    KeInitializeQueue(object, count);
    return ob_insert_for_user(object, access, port);
}

// Posts a packet; all five values pass through unread (IOCP-03).
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INVALID_HANDLE, STATUS_OBJECT_TYPE_MISMATCH,
//          STATUS_ACCESS_DENIED, STATUS_INSUFFICIENT_RESOURCES
// NT:      NtSetIoCompletion (native).
NTSTATUS NtSetIoCompletion(HANDLE port, void *key, void *apc_context,
                           NTSTATUS status, uintptr_t information)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    NT_REFERENCE(KQUEUE, object, port, IO_COMPLETION_MODIFY_STATE);
    return io_post(object, key, apc_context, status, information);
}

// Takes one packet; waits for it up to *timeout.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_TIMEOUT, STATUS_ABANDONED_WAIT_0,
//          STATUS_ACCESS_VIOLATION, and as NtSetIoCompletion for the handle
// NT:      NtRemoveIoCompletion (native).
NTSTATUS NtRemoveIoCompletion(HANDLE port, void **key, void **apc_context,
                              IO_STATUS_BLOCK *iosb, const int64_t *timeout)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    if (!ke_may_touch(key, sizeof(*key)) ||
        !ke_may_touch(apc_context, sizeof(*apc_context)) ||
        !ke_may_touch(iosb, sizeof(*iosb)))
        return STATUS_ACCESS_VIOLATION;
    NT_CAPTURE_TIMEOUT(timeout);
    NT_REFERENCE(KQUEUE, object, port, IO_COMPLETION_MODIFY_STATE);
    return io_remove_one(object, timeout, key, apc_context, iosb);
}

// Takes up to count packets in order, at least one (IOCP-08); alertable: a
// user APC ends the wait (IOCP-14).
//
// IRQL:    == PASSIVE_LEVEL
// Returns: as NtRemoveIoCompletion, with *removed packets; STATUS_USER_APC,
//          STATUS_ALERTED; STATUS_INVALID_PARAMETER: count is 0
// NT:      NtRemoveIoCompletionEx (native).
NTSTATUS NtRemoveIoCompletionEx(HANDLE port,
                                FILE_IO_COMPLETION_INFORMATION *entries,
                                uint32_t count, uint32_t *removed,
                                const int64_t *timeout, bool alertable)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    static const int64_t no_wait = 0;
    uint32_t got, taken = 0;
    if (count == 0)
        return STATUS_INVALID_PARAMETER;
    NT_TRY(ke_put_user(removed, &taken));    // whatever goes wrong
    NT_TRY(nt_probe_output(entries, count * sizeof(*entries)));
    NT_CAPTURE_TIMEOUT(timeout);
    NT_REFERENCE(KQUEUE, object, port, IO_COMPLETION_MODIFY_STATE);
    NTSTATUS status;
    do {
        status = io_remove_completion(object, nt_bool(alertable), timeout,
                                      entries + taken, count - taken, &got);
        taken += got;
        timeout = &no_wait;      // the rest only if it is there
        alertable = false;
    } while (got == IO_PORT_BATCH && taken < count);
    NT_TRY(ke_put_user(removed, &taken));
    return taken ? STATUS_SUCCESS : status;
}

// How many packets wait in the port.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: as NtSetIoCompletion, STATUS_ACCESS_VIOLATION
// NT:      NtQueryIoCompletion (native). One class: the depth.
NTSTATUS NtQueryIoCompletion(HANDLE port, uint32_t *depth)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    NT_REFERENCE(KQUEUE, object, port, IO_COMPLETION_QUERY_STATE);
    uint32_t packets = (uint32_t)object->Header.SignalState;
    return ke_put_user(depth, &packets);
}
