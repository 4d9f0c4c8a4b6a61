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
    *irql = KeAcquireSpinLockRaiseToDpc(&cancel_lock);
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
    return iop_call_cancel_routine(irp, IoSetCancelRoutine(irp, NULL), irql);
}

// ---- By list --------------------------------------------------------------

static bool matches(const IRP *irp, const io_filter *filter)
{
    return (!filter->file || irp->OriginalFileObject == filter->file) &&
           (!filter->thread || irp->Thread == filter->thread) &&
           (!filter->process || irp->Thread->Process == filter->process) &&
           (!filter->iosb || irp->UserIosb == filter->iosb) &&
           (!filter->synchronous || irp->flags & IRP_SYNCHRONOUS) &&
           (!filter->by_packet || (!irp->UserEvent && !irp->UserApcRoutine &&
                                    irp->UserApcContext));
}

// Asks the requests that hang on a slot and match to end, one in each round:
// its routine is called with the list's lock let go. There are no more rounds
// than there are requests in the system now, those from the pool and one on the
// stack of who waits for it: whoever sends a new one for each would keep us
// here for ever. The caller must keep the slot's owner from being deleted.
// What a cancel routine is about to complete is nobody else's: it goes back to
// DISPATCH only, as its owner could not even be ended were we suspended there.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: whether there was one
bool io_cancel(ke_io_slot *slot, const io_filter *filter)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    bool matched = false;
    uint64_t rounds = io_irps_from_pool + 1;    // new ones are at the end
    IRP *found;
    do {
        DRIVER_CANCEL *routine = NULL;
        KIRQL irql, old = KeRaiseIrqlToDpcLevel();
        found = NULL;
        IoAcquireCancelSpinLock(&irql);
        KeAcquireSpinLockAtDpcLevel(&slot->lock);
        RTL_FOR_EACH_RECORD(IRP, irp, &slot->irps, ThreadListEntry) {
            bool ours = matches(irp, filter);
            matched |= ours;
            if (ours && !irp->Cancel) {
                found = irp;
                irp->Cancel = true;
                routine = IoSetCancelRoutine(irp, NULL);
                // The list begins anew behind it: none is met twice.
                RemoveEntryList(&slot->irps);
                InsertHeadList(&irp->ThreadListEntry, &slot->irps);
                break;
            }
        }
        KeReleaseSpinLockFromDpcLevel(&slot->lock);
        iop_call_cancel_routine(found, routine, irql);
        KeLowerIrql(old);
    } while (found && --rounds);
    return matched;
}

// ---- Rundown --------------------------------------------------------------

// Clears the event, then looks (iop_unlink_irp says why).
static bool is_busy(ke_io_slot *slot)
{
    KeClearEvent(&slot->none);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);    // cleared before we look
    return __atomic_load_n(&slot->count, __ATOMIC_SEQ_CST) != 0;
}

// Cancels what hangs on the dying thread and waits until all of it is done:
// the completion APCs run right here, in this wait.
//
// IRQL:    == PASSIVE_LEVEL
void io_rundown_thread(void)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    ke_io_slot *slot = &KeGetCurrentThread()->io;
    while (is_busy(slot)) {
        io_cancel(slot, &(io_filter){ 0 });
        KeWaitForSingleObject(&slot->none, Executive, KernelMode, false, NULL);
    }
}

// A file on which a request hangs that matches and has not been asked yet, or
// NULL. The request keeps the file, so there is something to refer to.
static FILE_OBJECT *find_file(const io_filter *filter)
{
    FILE_OBJECT *found = NULL;
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&io_files_lock);
    RTL_FOR_EACH_RECORD(FILE_OBJECT, file, &io_files, all_entry) {
        KeAcquireSpinLockAtDpcLevel(&file->io.lock);
        RTL_FOR_EACH_RECORD(IRP, irp, &file->io.irps, ThreadListEntry)
            if (!irp->Cancel && matches(irp, filter))
                found = file;
        if (found) {
            ObReferenceObject(found);
            RemoveEntryList(&io_files);    // it begins anew behind it
            InsertHeadList(&found->all_entry, &io_files);
        }
        KeReleaseSpinLockFromDpcLevel(&file->io.lock);
        if (found)
            break;
    }
    KeReleaseSpinLock(&io_files_lock, old);
    return found;
}

// Cancels the port-bound requests of a process whose last thread is the
// caller and whose handles are closed, wherever they hang, and waits until
// they are done: no page of the process may go before.
//
// IRQL:    == PASSIVE_LEVEL
void io_rundown_process(KPROCESS *process)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    const io_filter filter = { .process = process };
    while (is_busy(&process->io)) {
        FILE_OBJECT *file;
        while ((file = find_file(&filter)) != NULL) {
            io_cancel(&file->io, &filter);    // with no lock held (IRP-07)
            ObDereferenceObject(file);
        }
        KeWaitForSingleObject(&process->io.none, Executive, KernelMode, false,
                              NULL);
    }
}
