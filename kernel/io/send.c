// send.c - handing a request to a device stack: where a thread lets go of it.
//
// An asynchronous handle returns at once; a synchronous one is the same road
// plus a wait here. Two threads on one synchronous handle take turns here as
// well, for the file position's sake. Nothing below waits.

#include "kernel/io/iop.h"

// Allocates an MDL for length bytes at address, to be filled in by a lock or
// build routine; it goes with the IRP that it is given to.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: NULL when there is no pool
// NT:      IoAllocateMdl (WDK). Left out: SecondaryBuffer, ChargeQuota, Irp.
MDL *IoAllocateMdl(uint64_t address, uint32_t length)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    size_t pages = BYTES_TO_PAGES((uint64_t)BYTE_OFFSET(address) + length);
    MDL *mdl = ExAllocatePoolWithTag(
        ex_pool_for_io, sizeof(*mdl) + pages * sizeof(*mdl->frames), IO_TAG);
    if (mdl)
        *mdl = (MDL){ .from_pool = true };
    return mdl;
}

// Puts a request on its list; of many, none of which has an APC routine, all
// before the first that belongs on another one. Those that will be a packet
// outlive their thread (CAN-08), so they hang on the file, hold a reference to
// the thread, and are counted for its process, which waits for them when it
// dies.
// Returns: how many
static FORCEINLINE uint32_t link_irps(FILE_OBJECT *file, IRP **irps,
                                      uint32_t count)
{
    KTHREAD *thread = KeGetCurrentThread();
    ke_io_slot *slot = &thread->io, *counter = slot;
    bool on_file = iop_will_be_packet(file, *irps);
    if (__builtin_expect(on_file, 1)) {
        slot = &file->io;
        counter = &thread->Process->io;
    }
    IRP **at = irps, **const end = irps + count;
    KeAcquireSpinLockAtDpcLevel(&slot->lock);
    do {
        IRP *irp = *at;
        irp->Thread = thread;
        irp->flags |= on_file ? IRP_ON_FILE : 0;
        InsertTailList(&slot->irps, &irp->ThreadListEntry);
    } while (++at < end && (on_file ? (*at)->UserApcContext != NULL
                                    : !iop_will_be_packet(file, *at)));
    uint32_t linked = (uint32_t)(at - irps);
    // close_file says so before it takes this lock to look for requests: it
    // finds these, or we see it here. Its own are not meant.
    if (__builtin_expect(file->Flags & FO_CLEANUP_DONE, 0))
        for (at = irps; at < irps + linked; at++)
            (*at)->Cancel = !((*at)->flags & IRP_KERNEL_WAIT);
    KeReleaseSpinLockFromDpcLevel(&slot->lock);
    // None of them can be completed before it is sent.
    __atomic_add_fetch(&counter->count, linked, __ATOMIC_SEQ_CST);
    if (on_file)
        ob_reference(thread, (int32_t)linked);
    return linked;
}

// Links it and hands it to the driver, from PASSIVE_LEVEL: in one stay at
// DISPATCH_LEVEL if that is short there.
static FORCEINLINE NTSTATUS link_and_call(FILE_OBJECT *file, IRP *irp)
{
    DEVICE_OBJECT *device = file->DeviceObject;
    NTSTATUS status;
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    ki_set_irql(DISPATCH_LEVEL);
    link_irps(file, &irp, 1);
    if (__builtin_expect(device->Flags & DO_SHORT_SEND &&
                             irp->flags & IRP_TRANSFER, 1)) {
        status = IoCallDriver(device, irp);
        KeLowerIrql(PASSIVE_LEVEL);
    } else {
        KeLowerIrql(PASSIVE_LEVEL);
        status = IoCallDriver(device, irp);
    }
    return status;
}

// Finished inside the call (IRP-08). An NT error that was never pending
// leaves everything alone (CMP-02); all else is a completion (CMP-03).
static DECLSPEC_NOINLINE NTSTATUS finish_inline(FILE_OBJECT *file, IRP *irp)
{
    NTSTATUS status = irp->IoStatus.Status;
    if (NT_ERROR(status)) {
        iop_unlink_irp(irp);
        io_discard_irp(irp);
        return status;
    }
    if (irp->MdlAddress)
        iop_release_mdl(irp);
    bool skip_packet = NT_SUCCESS(status) && file->Flags & FO_SKIP_PORT;
    KIRQL old;
    KeRaiseIrql(APC_LEVEL, &old);
    iop_finish_irp(irp, skip_packet);
    KeLowerIrql(old);
    return status;
}

// Waits until a request of this thread is done. What ends a wait of this kind
// cancels the request first (APC-27).
static void wait_for_request(KEVENT *done, KPROCESSOR_MODE mode,
                             bool alertable, const io_filter *filter)
{
    if (KeWaitForSingleObject(done, Executive, mode, alertable, NULL) ==
        STATUS_SUCCESS)
        return;
    io_cancel(&KeGetCurrentThread()->io, filter);
    KeWaitForSingleObject(done, Executive, KernelMode, false, NULL);
}

// Waits for one's turn on a synchronous handle, whose threads take turns for
// the position's sake. Until io_end_turn the thread cannot be suspended: the
// others may be of any process.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS; STATUS_CANCELLED: something ended the wait
NTSTATUS io_begin_turn(FILE_OBJECT *file, bool alertable)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    ke_hold_suspension();
    if (KeWaitForSingleObject(&file->Lock, Executive, UserMode, alertable,
                              NULL) == STATUS_SUCCESS)
        return STATUS_SUCCESS;
    ke_allow_suspension();
    return STATUS_CANCELLED;
}

// Hands it on.
//
// IRQL:    == PASSIVE_LEVEL
void io_end_turn(FILE_OBJECT *file)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    KeSetEvent(&file->Lock, IO_NO_INCREMENT);
    ke_allow_suspension();
}

static DECLSPEC_NOINLINE NTSTATUS send_synchronously(FILE_OBJECT *file,
                                                     IRP *irp)
{
    NTSTATUS status = io_begin_turn(file, file->Flags & FO_ALERTABLE_IO);
    if (status != STATUS_SUCCESS) {
        io_discard_irp(irp);
        return status;
    }
    ObReferenceObject(file);    // the IRP's own goes with it
    IO_STACK_LOCATION *location = IoGetNextIrpStackLocation(irp);
    if (irp->flags & IRP_TRANSFER && location->Parameters.Read.ByteOffset ==
                                         FILE_USE_FILE_POINTER_POSITION)
        location->Parameters.Read.ByteOffset = file->CurrentByteOffset;
    irp->flags |= IRP_SYNCHRONOUS;
    KeClearEvent(&file->Event);
    KeGetCurrentThread()->irp_id = irp->id;    // this thread works on this I/O
    status = link_and_call(file, irp);
    if (status == STATUS_PENDING) {
        wait_for_request(&file->Event, UserMode, file->Flags & FO_ALERTABLE_IO,
                         &(io_filter){ .file = file });
        status = file->FinalStatus;
    } else {
        status = finish_inline(file, irp);
    }
    KeGetCurrentThread()->irp_id = 0;
    io_end_turn(file);
    ObDereferenceObject(file);
    return status;
}

// Sends a request that a service built; takes over irp, which may be
// completed and freed before this returns. Waits only for a synchronous
// handle (CMP-06).
//
// IRQL:    == PASSIVE_LEVEL
// Returns: what the service returns, CMP-02..CMP-04
FORCEINLINE NTSTATUS io_send(FILE_OBJECT *file, IRP *irp)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    if (__builtin_expect(file->Flags & FO_SYNCHRONOUS_IO, 0))
        return send_synchronously(file, irp);
    uint32_t id = irp->id;
    KeClearEvent(&file->Event);    // with an event it stays so (CMP-05)
    NTSTATUS status = link_and_call(file, irp);
    if (status != STATUS_PENDING)
        return finish_inline(file, irp);
    ki_trace(TRACE_IRP_PENDING, 0, id);
    return STATUS_PENDING;
}

// Sends requests from *sent on in one stay at DISPATCH_LEVEL, as long as the
// driver lets them pend and they hang on the same list. *linked: those before
// hang there.
static NTSTATUS send_in_one_stay(FILE_OBJECT *file, IRP **irps, uint32_t count,
                                 uint32_t *linked, uint32_t *sent)
{
    DEVICE_OBJECT *device = file->DeviceObject;
    NTSTATUS status = STATUS_PENDING;
    KIRQL old = KeRaiseIrqlToDpcLevel();
    KeClearEvent(&file->Event);
    IRP **at = irps + *sent;
    if (*linked == *sent)
        *linked += link_irps(file, at, count - *sent);
    IRP **const end = irps + *linked;
    while (at < end && status == STATUS_PENDING) {
        IRP *irp = *at++;
        uint32_t id = irp->id;
        status = IoCallDriver(device, irp);
        if (status == STATUS_PENDING)
            ki_trace(TRACE_IRP_PENDING, 0, id);
    }
    *sent = (uint32_t)(at - irps);
    if ((status != STATUS_PENDING || *sent < count) &&
        device->DriverObject->ring)
        device->DriverObject->ring(device);    // those before it still wait
    KeLowerIrql(old);
    return status;
}

// Sends requests that a service built for an asynchronous handle, in order, all
// of which say that more follow, and none of which has an APC routine; takes
// over all of them. *sent: how many, up to the one that failed at once; what is
// behind that is not sent.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, or what the driver answered to number *sent
NTSTATUS io_send_array(FILE_OBJECT *file, IRP **irps, uint32_t count,
                       uint32_t *sent)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    bool stays = file->DeviceObject->Flags & DO_SHORT_SEND;
    uint32_t linked = 0;
    *sent = 0;
    for (uint32_t i = stays && count ? count - 1 : 0; i < count; i++)
        IoGetNextIrpStackLocation(irps[i])->Flags = 0;
    while (*sent < count) {
        NTSTATUS status;
        if (!stays)
            status = io_send(file, irps[(*sent)++]);
        else if ((status = send_in_one_stay(file, irps, count, &linked,
                                            sent)) != STATUS_PENDING)
            status = finish_inline(file, irps[*sent - 1]);
        if (NT_ERROR(status)) {
            for (uint32_t i = *sent; i < count; i++) {
                if (i < linked)
                    iop_unlink_irp(irps[i]);
                io_discard_irp(irps[i]);
            }
            --*sent;
            return status;
        }
    }
    return STATUS_SUCCESS;
}

// Sends a kernel caller's request and waits in any case. The IRP lies on the
// stack, so that a close cannot fail for want of memory; it hangs on its thread
// like any other, so that it can be cancelled (CAN-07). what: the major
// function and its parameters; mdl, buffer, information: the caller's, or NULL.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: the request's final status; STATUS_CANCELLED
NTSTATUS io_request(FILE_OBJECT *file, const IO_STACK_LOCATION *what, MDL *mdl,
                    void *buffer, uintptr_t *information)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    _Alignas(IRP) uint8_t room[sizeof(IRP) +
                               IO_MAXIMUM_STACK * sizeof(IO_STACK_LOCATION)];
    IRP *irp = (IRP *)room;
    KEVENT done;
    IO_STATUS_BLOCK iosb;
    KeInitializeEvent(&done, NotificationEvent, false);
    io_initialize_irp(irp, file->DeviceObject->StackSize);
    irp->flags = IRP_KERNEL_WAIT | IRP_SYNCHRONOUS;
    irp->OriginalFileObject = file;
    irp->MdlAddress = mdl;
    irp->SystemBuffer = buffer;
    irp->UserEvent = &done;
    irp->UserIosb = &iosb;
    IO_STACK_LOCATION *location = IoGetNextIrpStackLocation(irp);
    *location = *what;
    location->FileObject = file;
    ki_trace(TRACE_IRP_BUILT, what->MajorFunction, irp->id);
    link_and_call(file, irp);
    // A close may be sent by the idle thread, which never blocks: the drivers
    // complete that one in the call. It and its cleanup go through whoever
    // sends them; all else ends early if its thread is to end: a flush may
    // stand behind much that is slow.
    bool closing = what->MajorFunction == IRP_MJ_CLEANUP ||
                   what->MajorFunction == IRP_MJ_CLOSE;
    wait_for_request(&done, closing ? KernelMode : UserMode, false,
                     &(io_filter){ .iosb = &iosb });
    iop_unlink_irp(irp);
    if (information)
        *information = iosb.Information;
    return iosb.Status;
}
