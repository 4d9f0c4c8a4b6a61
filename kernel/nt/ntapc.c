// ntapc.c - user APCs, alerts, and the way back from them.

#include "kernel/nt/ntp.h"

static void apc_kernel(KAPC *apc, KNORMAL_ROUTINE **, void **, void **, void **)
{
    ex_give(KE_KEPT_APCS, apc, NT_POOL_TAG);
}

// Queues a user APC to a thread (APC-15).
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_UNSUCCESSFUL    the thread has ended
//          STATUS_INVALID_HANDLE, STATUS_ACCESS_DENIED,
//          STATUS_OBJECT_TYPE_MISMATCH, STATUS_INSUFFICIENT_RESOURCES
// NT:      NtQueueApcThread (native).
NTSTATUS NtQueueApcThread(HANDLE handle, PS_APC_ROUTINE *routine,
                          void *argument1, void *argument2, void *argument3)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    NT_REFERENCE(ETHREAD, thread, handle, THREAD_SET_CONTEXT);
    if (thread->Tcb.Header.SignalState)
        return STATUS_UNSUCCESSFUL;    // it has ended (APC-25)
    if (!routine)
        return STATUS_SUCCESS;         // wakes nobody (APC-26)
    KAPC *apc = ex_take(KE_KEPT_APCS, sizeof(*apc), NT_POOL_TAG);
    if (!apc)
        return STATUS_INSUFFICIENT_RESOURCES;
    KeInitializeApc(apc, &thread->Tcb, apc_kernel, NULL, routine, UserMode,
                    argument1);
    if (KeInsertQueueApc(apc, argument2, argument3, IO_NO_INCREMENT))
        return STATUS_SUCCESS;
    ex_give(KE_KEPT_APCS, apc, NT_POOL_TAG);
    return STATUS_UNSUCCESSFUL;
}

// Runs the user APCs that are queued, on the way back (APC-14).
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, or STATUS_ALERTED if the thread was
// NT:      NtTestAlert (native).
NTSTATUS NtTestAlert(void)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    return KeTestAlertThread(UserMode) ? STATUS_ALERTED : STATUS_SUCCESS;
}

// Ends a thread's present alertable wait, or its next one (APC-11).
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INVALID_HANDLE, STATUS_ACCESS_DENIED,
//          STATUS_OBJECT_TYPE_MISMATCH
// NT:      NtAlertThread (native).
NTSTATUS NtAlertThread(HANDLE handle)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    NT_REFERENCE(ETHREAD, thread, handle, THREAD_ALERT);
    KeAlertThread(&thread->Tcb, UserMode);
    return STATUS_SUCCESS;
}

// Goes on in ring 3 with these registers; what runs after each user APC.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: only if it cannot: STATUS_ACCESS_VIOLATION
// NT:      NtContinue (native).
NTSTATUS NtContinue(const CONTEXT *context, bool test_alert)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    return ke_continue(context, nt_bool(test_alert));
}
