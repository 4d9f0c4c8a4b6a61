// ntobj.c - NtClose and NtDuplicateObject: handles as such.

#include "kernel/nt/ntp.h"

#include "kernel/ps/ps.h"

// Closes a handle of the calling process.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS or STATUS_INVALID_HANDLE
// NT:      NtClose (WDK). The pseudo handles cannot be closed.
NTSTATUS NtClose(HANDLE handle)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    return ob_close_handle(ob_current_table(), handle);
}

// A process's handle table, kept until ps_release_process.
static NTSTATUS acquire_table(HANDLE handle, EPROCESS **process)
{
    void *object = NULL;
    NTSTATUS status = ob_reference_by_handle(handle, PROCESS_DUP_HANDLE,
                                             &ps_process_type, &object, NULL);
    if (!NT_SUCCESS(status))
        return status;
    *process = object;
    if (ps_acquire_process(*process))
        return STATUS_SUCCESS;
    ObDereferenceObject(object);
    return STATUS_PROCESS_IS_TERMINATING;
}

static void release_table(EPROCESS *process)
{
    ps_release_process(process);
    ObDereferenceObject(process);
}

// The pseudo handles have no entry in a table; they mean the caller's own.
static NTSTATUS duplicate(EPROCESS *from, HANDLE source, EPROCESS *to,
                          ACCESS_MASK access, uint32_t options, HANDLE *handle)
{
    void *object = ob_pseudo_handle(source);
    if (!object)
        return ob_duplicate_handle(from->ObjectTable, source, to->ObjectTable,
                                   access, options & DUPLICATE_SAME_ACCESS,
                                   handle);
    ObReferenceObject(object);
    return ob_insert_handle(to->ObjectTable, object,
                            options & DUPLICATE_SAME_ACCESS ? GENERIC_ALL
                                                            : access,
                            handle);
}

// Makes a handle of one process one of another, with the same or fewer rights.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_INVALID_PARAMETER         unknown options
//          STATUS_INVALID_HANDLE, STATUS_ACCESS_DENIED
//          STATUS_OBJECT_TYPE_MISMATCH      not processes
//          STATUS_PROCESS_IS_TERMINATING    one of the two is ending
//          STATUS_INSUFFICIENT_RESOURCES, STATUS_ACCESS_VIOLATION
// NT:      NtDuplicateObject (WDK). Left out: attributes, inheritance.
NTSTATUS NtDuplicateObject(HANDLE source_process, HANDLE source,
                           HANDLE target_process, HANDLE *target,
                           ACCESS_MASK access, uint32_t attributes,
                           uint32_t options)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    (void)attributes;
    if (options & ~(DUPLICATE_CLOSE_SOURCE | DUPLICATE_SAME_ACCESS))
        return STATUS_INVALID_PARAMETER;
    EPROCESS *from = NULL, *to = NULL;
    NTSTATUS status = acquire_table(source_process, &from);
    if (!NT_SUCCESS(status))
        return status;
    status = acquire_table(target_process, &to);
    if (!NT_SUCCESS(status))
        goto release_source;

    HANDLE handle = NULL;
    status = duplicate(from, source, to, access, options, &handle);
    if (NT_SUCCESS(status)) {
        status = ke_put_user(target, &handle);
        if (!NT_SUCCESS(status))
            ob_close_handle(to->ObjectTable, handle);
    }
    release_table(to);
release_source:
    if (options & DUPLICATE_CLOSE_SOURCE)    // whatever else went wrong
        ob_close_handle(from->ObjectTable, source);
    release_table(from);
    return status;
}
