// cancel.c - asking requests to end, and waiting until they have.
//
// The cancel lock comes first, then a list's lock: a request that is found on
// a list cannot be freed before the lock is let go, and once its cancel
// routine has been taken out it is ours, for that routine to complete.

#include "kernel/io/iop.h"

static KSPIN_LOCK cancel_lock;

// Takes the lock that serializes cancellation.
//
// IRQL:    <= DISPATCH_LEVEL
// NT:      IoAcquireCancelSpinLock (WDK).
void IoAcquireCancelSpinLock(KIRQL *irql)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KeAcquireSpinLock(&cancel_lock, irql);
}

// Lets it go.
//
// IRQL:    == DISPATCH_LEVEL
// NT:      IoReleaseCancelSpinLock (WDK).
void IoReleaseCancelSpinLock(KIRQL irql)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    KeReleaseSpinLock(&cancel_lock, irql);
}

// Calls a cancel routine that was taken out, or lets the lock go.
static bool call_cancel_routine(IRP *irp, DRIVER_CANCEL *routine, KIRQL irql)
{
    if (!routine) {
        IoReleaseCancelSpinLock(irql);
        return false;
    }
    irp->CancelIrql = irql;
    routine(IoGetCurrentIrpStackLocation(irp)->DeviceObject, irp);
    return true;
}

// Marks an IRP cancelled and calls its cancel routine, if it has one
// (CAN-09). The caller must know that the IRP is not freed meanwhile.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: whether there was a cancel routine
// NT:      IoCancelIrp (WDK).
bool IoCancelIrp(IRP *irp)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KIRQL irql;
    IoAcquireCancelSpinLock(&irql);
    irp->Cancel = true;
    return call_cancel_routine(irp, IoSetCancelRoutine(irp, NULL), irql);
}

// ---- By list --------------------------------------------------------------

typedef struct cancel_filter {
    const FILE_OBJECT *file;      // NULL: any
    const KTHREAD *thread;        // NULL: any
    const KPROCESS *process;      // NULL: any
    const IO_STATUS_BLOCK *iosb;  // NULL: any
} cancel_filter;

static bool matches(const IRP *irp, const cancel_filter *filter)
{
    return (!filter->file || irp->OriginalFileObject == filter->file) &&
           (!filter->thread || irp->Thread == filter->thread) &&
           (!filter->process || irp->Thread->Process == filter->process) &&
           (!filter->iosb || irp->UserIosb == filter->iosb);
}

// Cancels the first match that is not yet; false when there is none left.
static bool cancel_next(LIST_ENTRY *list, KSPIN_LOCK *lock,
                        const cancel_filter *filter, bool *matched)
{
    KIRQL irql;
    IoAcquireCancelSpinLock(&irql);
    KeAcquireSpinLockAtDpcLevel(lock);
    IRP *found = NULL;
    DRIVER_CANCEL *routine = NULL;
    RTL_FOR_EACH(entry, list) {
        IRP *irp = CONTAINING_RECORD(entry, IRP, ThreadListEntry);
        if (!matches(irp, filter))
            continue;
        *matched = true;
        if (irp->Cancel)
            continue;
        irp->Cancel = true;
        routine = IoSetCancelRoutine(irp, NULL);
        found = irp;
        break;
    }
    KeReleaseSpinLockFromDpcLevel(lock);
    call_cancel_routine(found, routine, irql);
    return found;
}

// Asks requests that hang on a file to end; NULL: of any process, thread,
// IOSB.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: whether there was one
bool io_cancel_on_file(FILE_OBJECT *file, const KPROCESS *process,
                       const KTHREAD *thread, const IO_STATUS_BLOCK *iosb)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    bool matched = false;
    cancel_filter filter = { .process = process, .thread = thread,
                             .iosb = iosb };
    while (cancel_next(&file->irps, &file->irp_lock, &filter, &matched))
        continue;
    return matched;
}

// Asks the requests that hang on a thread to end. The thread must be kept
// from being deleted by the caller.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: whether there was one
bool io_cancel_on_thread(KTHREAD *thread, const FILE_OBJECT *file,
                         const IO_STATUS_BLOCK *iosb)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    bool matched = false;
    cancel_filter filter = { .file = file, .iosb = iosb };
    while (cancel_next(&thread->io.irps, &thread->io.lock, &filter, &matched))
        continue;
    return matched;
}

// ---- Rundown --------------------------------------------------------------

// Cancels what hangs on the dying thread and waits until all of it is done:
// the completion APCs run right here, in this wait.
//
// IRQL:    == PASSIVE_LEVEL
void io_rundown_thread(void)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    KTHREAD *thread = KeGetCurrentThread();
    io_cancel_on_thread(thread, NULL, NULL);
    for (;;) {
        KIRQL old;
        KeAcquireSpinLock(&thread->io.lock, &old);
        bool empty = thread->io.count == 0;
        if (!empty)
            KeClearEvent(&thread->io.none);
        KeReleaseSpinLock(&thread->io.lock, old);
        if (empty)
            return;
        KeWaitForSingleObject(&thread->io.none, Executive, KernelMode, false,
                              NULL);
    }
}

// Cancels the port-bound requests of a process whose last thread is the
// caller and whose handles are closed, and waits until they are done: no page
// of the process may go before.
//
// IRQL:    == PASSIVE_LEVEL
void io_rundown_process(KPROCESS *process)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    for (;;) {
        KeClearEvent(&process->io.none);
        if (__atomic_load_n(&process->io.count, __ATOMIC_SEQ_CST) == 0)
            return;
        iop_cancel_for_process(process);
        KeWaitForSingleObject(&process->io.none, Executive, KernelMode, false,
                              NULL);
    }
}
