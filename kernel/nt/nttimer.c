// nttimer.c - timers as ring 3 has them, with a routine to call when one
// expires.
//
// With a routine, the KTIMER queues the timer's own user APC to the thread that
// set it when it expires; one that is still queued from the last time is not
// queued again. The lock makes setting and cancelling one step each; it lies
// outside the dispatcher lock, under which all of expiry happens: so behind
// KeCancelTimer none is under way. The last handle's close disarms for good, so
// a timer is never freed armed.

#include "kernel/nt/ntp.h"

struct nt_timer {
    KTIMER timer;                // first: what a wait looks at
    KSPIN_LOCK lock;             // for who sets or cancels
    KAPC apc;                    // its thread is referenced while timer.apc is
};                               // not NULL

// Takes back all that setting did; lock held. In this order: only behind the
// cancel does nobody queue the APC any more.
static void disarm(nt_timer *timer)
{
    KeCancelTimer(&timer->timer);
    if (!timer->timer.apc)
        return;
    KeRemoveQueueApc(&timer->apc);
    ObDereferenceObject(timer->apc.Thread);
    timer->timer.apc = NULL;
}

static void close_timer(EPROCESS *, void *object, uint32_t handles)
{
    if (handles)
        return;
    nt_timer *timer = object;
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&timer->lock);
    disarm(timer);
    KeReleaseSpinLock(&timer->lock, old);
}

OBJECT_TYPE nt_timer_type = {
    .name = "Timer", NT_RIGHTS(TIMER_QUERY_STATE, TIMER_MODIFY_STATE),
    .close = close_timer
};

// Makes a timer that is not set.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INVALID_PARAMETER,
//          STATUS_OBJECT_NAME_INVALID, STATUS_INSUFFICIENT_RESOURCES,
//          STATUS_ACCESS_VIOLATION
// NT:      NtCreateTimer (native). Left out: names.
NTSTATUS NtCreateTimer(HANDLE *handle, ACCESS_MASK access,
                       const OBJECT_ATTRIBUTES *attributes, TIMER_TYPE type)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    if (type != NotificationTimer && type != SynchronizationTimer)
        return STATUS_INVALID_PARAMETER;
    NT_CREATE(nt_timer, timer, attributes);
    KeInitializeTimerEx(&timer->timer, type);
    return ob_insert_for_user(timer, access, handle);
}

// Sets a timer anew. due: 100 ns, negative: from now, else the system time;
// period_ms 0: once. apc: runs in this thread when it waits alertably.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS            *previous: it was signalled
//          STATUS_INVALID_PARAMETER  period_ms is negative
//          STATUS_INVALID_HANDLE, STATUS_ACCESS_DENIED,
//          STATUS_OBJECT_TYPE_MISMATCH, STATUS_ACCESS_VIOLATION
// NT:      NtSetTimer (native). Left out: resume. The end of the thread that
//          set it does not cancel the timer, only the routine.
NTSTATUS NtSetTimer(HANDLE handle, const int64_t *due, TIMER_APC_ROUTINE *apc,
                    void *apc_context, bool, int32_t period_ms, bool *previous)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    if (period_ms < 0)
        return STATUS_INVALID_PARAMETER;
    int64_t time;
    NT_TRY(ke_get_user(&time, due));
    NT_TRY(NT_PROBE_OPTIONAL(previous));
    NT_REFERENCE(nt_timer, timer, handle, TIMER_MODIFY_STATE);

    KIRQL old = KeAcquireSpinLockRaiseToDpc(&timer->lock);
    bool was_set = timer->timer.Header.SignalState > 0;
    // With no handle left nobody disarms it any more: it has been closed.
    bool closed = !ob_header(timer)->HandleCount;
    disarm(timer);
    if (apc && !closed) {
        KeInitializeApc(&timer->apc, KeGetCurrentThread(), ke_leave_apc,
                        ke_keep_apc, (KNORMAL_ROUTINE *)(void *)apc, UserMode,
                        apc_context);
        ObReferenceObject(timer->apc.Thread);
        timer->timer.apc = &timer->apc;
    }
    if (!closed)
        KeSetTimerEx(&timer->timer, time, (uint32_t)period_ms, NULL);
    KeReleaseSpinLock(&timer->lock, old);
    return closed ? STATUS_INVALID_HANDLE : NT_PUT_OPTIONAL(previous, &was_set);
}

// Cancels a timer, with a routine that it has queued but that did not run.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS    *current: it is signalled
//          or as NtSetTimer
// NT:      NtCancelTimer (native).
NTSTATUS NtCancelTimer(HANDLE handle, bool *current)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    NT_TRY(NT_PROBE_OPTIONAL(current));
    NT_REFERENCE(nt_timer, timer, handle, TIMER_MODIFY_STATE);
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&timer->lock);
    disarm(timer);
    bool is_set = timer->timer.Header.SignalState > 0;
    KeReleaseSpinLock(&timer->lock, old);
    return NT_PUT_OPTIONAL(current, &is_set);
}
