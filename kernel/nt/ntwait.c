// ntwait.c - waiting for objects, for time, and for nothing.
//
// Whatever has a handle begins with a DISPATCHER_HEADER, so one service waits
// for all of it: events, semaphores, mutants, timers, threads, processes,
// ports, files.

#include "kernel/nt/ntp.h"

// Waits for one object.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_WAIT_0, STATUS_ABANDONED_WAIT_0, STATUS_TIMEOUT,
//          STATUS_USER_APC, STATUS_ALERTED
//          STATUS_INVALID_HANDLE (WAIT-05)
//          STATUS_ACCESS_DENIED       the handle lacks SYNCHRONIZE
//          STATUS_ACCESS_VIOLATION
// NT:      NtWaitForSingleObject (WDK).
NTSTATUS NtWaitForSingleObject(HANDLE handle, bool alertable,
                               const int64_t *timeout)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    NT_CAPTURE_TIMEOUT(timeout);
    NT_OWNED void *object = NULL;
    NT_TRY(ob_reference_by_handle(handle, SYNCHRONIZE, NULL, &object, NULL));
    return KeWaitForSingleObject(object, UserRequest, UserMode,
                                 nt_bool(alertable), timeout);
}

static bool has_duplicates(void *const *objects, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < i; j++)
            if (objects[i] == objects[j])
                return true;
    return false;
}

// Waits for any or all of up to 64 objects (WAIT-02, WAIT-03).
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_WAIT_0 + index, STATUS_ABANDONED_WAIT_0 + index,
//          STATUS_TIMEOUT, STATUS_USER_APC, STATUS_ALERTED
//          STATUS_INVALID_PARAMETER    none, too many (WAIT-06), type, or one
//                                      object twice in a wait for all
//          STATUS_INVALID_HANDLE       any of them, or a pseudo handle
//          STATUS_ACCESS_DENIED, STATUS_ACCESS_VIOLATION
// NT:      NtWaitForMultipleObjects (native).
NTSTATUS NtWaitForMultipleObjects(uint32_t count, const HANDLE *handles,
                                  WAIT_TYPE type, bool alertable,
                                  const int64_t *timeout)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    if (count == 0 || count > MAXIMUM_WAIT_OBJECTS ||
        (type != WaitAll && type != WaitAny))
        return STATUS_INVALID_PARAMETER;
    void *objects[MAXIMUM_WAIT_OBJECTS];    // first their handles
    NT_TRY(ke_copy_from_user(objects, handles, count * sizeof(*handles)));
    NT_CAPTURE_TIMEOUT(timeout);

    // All are referenced, or none stays so (WAIT-05, WAIT-07).
    NTSTATUS status = STATUS_SUCCESS;
    uint32_t done = 0;
    for (; done < count; done++) {
        HANDLE handle = objects[done];
        status = ob_pseudo_handle(handle)
                     ? STATUS_INVALID_HANDLE
                     : ob_reference_by_handle(handle, SYNCHRONIZE, NULL,
                                              &objects[done], NULL);
        if (!NT_SUCCESS(status))
            break;
    }
    KWAIT_BLOCK blocks[MAXIMUM_WAIT_OBJECTS];
    if (type == WaitAll && done == count && has_duplicates(objects, count))
        status = STATUS_INVALID_PARAMETER;
    if (NT_SUCCESS(status))
        status = KeWaitForMultipleObjects(count, objects, type, UserRequest,
                                          UserMode, nt_bool(alertable),
                                          timeout, blocks);
    while (done--)
        ObDereferenceObject(objects[done]);
    return status;
}

// Sleeps.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS            the time is over (APC-20)
//          STATUS_USER_APC, STATUS_ALERTED, STATUS_ACCESS_VIOLATION
// NT:      NtDelayExecution (native).
NTSTATUS NtDelayExecution(bool alertable, const int64_t *interval)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    int64_t time;
    NT_TRY(ke_get_user(&time, interval));
    return KeDelayExecutionThread(UserMode, nt_bool(alertable), &time);
}

// Lets another thread of the same priority run, if there is one.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
// NT:      NtYieldExecution (native). Left out: STATUS_NO_YIELD_PERFORMED.
NTSTATUS NtYieldExecution(void)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    ke_yield();
    return STATUS_SUCCESS;
}
