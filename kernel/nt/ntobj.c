// ntobj.c - NtClose and NtDuplicateObject: handles as such.

#include "kernel/nt/ntp.h"

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

static NTSTATUS duplicate(EPROCESS *from, HANDLE source, HANDLE target_process,
                          HANDLE *target, ACCESS_MASK access, uint32_t options)
{
    NT_ACQUIRE(to, target_process, PROCESS_DUP_HANDLE);
    HANDLE handle = NULL;
    NT_TRY(ob_duplicate_handle(&from->ObjectTable, source, &to->ObjectTable,
                               access, options, &handle));
    NTSTATUS status = ke_put_user(target, &handle);
    if (!NT_SUCCESS(status))
        ob_close_handle(&to->ObjectTable, handle);
    return status;
}

// Makes a handle of one process one of another, with the same or fewer rights;
// or, with DUPLICATE_CLOSE_SOURCE and no target process, only closes it.
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
                           ACCESS_MASK access, uint32_t, uint32_t options)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    if (options & ~(uint32_t)(DUPLICATE_CLOSE_SOURCE | DUPLICATE_SAME_ACCESS))
        return STATUS_INVALID_PARAMETER;
    NT_ACQUIRE(from, source_process, PROCESS_DUP_HANDLE);
    if (!target_process && options & DUPLICATE_CLOSE_SOURCE)
        return ob_close_handle(&from->ObjectTable, source);
    NTSTATUS status = duplicate(from, source, target_process, target, access,
                                options & DUPLICATE_SAME_ACCESS);
    if (options & DUPLICATE_CLOSE_SOURCE)    // whatever else went wrong
        ob_close_handle(&from->ObjectTable, source);
    return status;
}
