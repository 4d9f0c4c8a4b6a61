// ntport.c - completion ports, by their native names.

#include "kernel/nt/ntp.h"

#include "kernel/io/io.h"
#include "kernel/rtl/rtl.h"

enum { MAXIMUM_ENTRIES = 64 };    // taken in one go; a caller may ask again

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
    NTSTATUS status = nt_check_unnamed(attributes);
    KQUEUE *object;
    if (NT_SUCCESS(status))
        status = io_create_port(count, &object);
    return NT_SUCCESS(status) ? ob_insert_for_user(object, access, port)
                              : status;
}

static NTSTATUS reference_port(HANDLE handle, ACCESS_MASK access,
                               KQUEUE **port)
{
    void *object;
    NTSTATUS status = ob_reference_by_handle(handle, access, &io_port_type,
                                             &object, NULL);
    *port = NT_SUCCESS(status) ? object : NULL;
    return status;
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
    KQUEUE *object;
    NTSTATUS result = reference_port(port, IO_COMPLETION_MODIFY_STATE,
                                     &object);
    if (!NT_SUCCESS(result))
        return result;
    result = io_post(object, key, apc_context, status, information);
    ObDereferenceObject(object);
    return result;
}

// What both removals do once their outputs are known to be writable: a packet
// that was taken cannot be put back.
static NTSTATUS remove(HANDLE port, bool alertable, const int64_t *timeout,
                       FILE_IO_COMPLETION_INFORMATION *entries,
                       uint32_t count, uint32_t *taken)
{
    int64_t value;
    KQUEUE *object;
    *taken = 0;
    NTSTATUS status = nt_capture_timeout(timeout, &value, &timeout);
    if (NT_SUCCESS(status))
        status = reference_port(port, IO_COMPLETION_MODIFY_STATE, &object);
    if (!NT_SUCCESS(status))
        return status;
    status = io_remove_completion(object, alertable, timeout, entries, count,
                                  taken);
    ObDereferenceObject(object);
    return status;
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
    FILE_IO_COMPLETION_INFORMATION entry;
    uint32_t taken;
    if (!key || !apc_context || !iosb ||
        !NT_SUCCESS(nt_probe_output(key, sizeof(*key))) ||
        !NT_SUCCESS(nt_probe_output(apc_context, sizeof(*apc_context))) ||
        !NT_SUCCESS(nt_probe_output(iosb, sizeof(*iosb))))
        return STATUS_ACCESS_VIOLATION;
    NTSTATUS status = remove(port, false, timeout, &entry, 1, &taken);
    if (!taken)
        return status;
    if (!NT_SUCCESS(ke_put_user(key, &entry.KeyContext)) ||
        !NT_SUCCESS(ke_put_user(apc_context, &entry.ApcContext)) ||
        !NT_SUCCESS(ke_put_user(iosb, &entry.IoStatusBlock)))
        return STATUS_ACCESS_VIOLATION;
    return STATUS_SUCCESS;
}

// Takes up to count packets in order, at least one (IOCP-08); alertable: a
// user APC ends the wait (IOCP-14).
//
// IRQL:    == PASSIVE_LEVEL
// Returns: as NtRemoveIoCompletion, with *removed packets; STATUS_USER_APC,
//          STATUS_ALERTED; STATUS_INVALID_PARAMETER: count is 0
// NT:      NtRemoveIoCompletionEx (native). At most 64 in one call.
NTSTATUS NtRemoveIoCompletionEx(HANDLE port,
                                FILE_IO_COMPLETION_INFORMATION *entries,
                                uint32_t count, uint32_t *removed,
                                const int64_t *timeout, bool alertable)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    FILE_IO_COMPLETION_INFORMATION batch[MAXIMUM_ENTRIES];
    uint32_t taken;
    if (count == 0)
        return STATUS_INVALID_PARAMETER;
    count = MIN(count, (uint32_t)MAXIMUM_ENTRIES);
    if (!removed || !NT_SUCCESS(nt_probe_output(removed, sizeof(*removed))))
        return STATUS_ACCESS_VIOLATION;
    for (uint32_t i = 0; i < count; i++)
        if (!entries || !NT_SUCCESS(nt_probe_output(
                            &entries[i].IoStatusBlock,
                            sizeof(entries[i].IoStatusBlock))))
            return STATUS_ACCESS_VIOLATION;
    NTSTATUS status = remove(port, nt_bool(alertable), timeout, batch, count,
                             &taken);
    if (!NT_SUCCESS(ke_copy_to_user(entries, batch, taken * sizeof(*batch))) ||
        !NT_SUCCESS(ke_put_user(removed, &taken)))
        return STATUS_ACCESS_VIOLATION;
    return status;
}

// How many packets wait in the port.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: as NtSetIoCompletion, STATUS_ACCESS_VIOLATION
// NT:      NtQueryIoCompletion (native). One class: the depth.
NTSTATUS NtQueryIoCompletion(HANDLE port, uint32_t *depth)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    KQUEUE *object;
    NTSTATUS status = reference_port(port, IO_COMPLETION_QUERY_STATE, &object);
    if (!NT_SUCCESS(status))
        return status;
    uint32_t packets = (uint32_t)object->Header.SignalState;
    ObDereferenceObject(object);
    return ke_put_user(depth, &packets);
}
