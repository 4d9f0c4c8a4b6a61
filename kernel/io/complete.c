// complete.c - stage 10, on either road: what a completion means to ring 3.
//
// The apc road: a special kernel APC in the asking thread stores the status,
// sets the event, and queues the user APC or the packet. The direct road, for
// port-bound requests: the DPC sets the event and queues the IRP itself; the
// thread that takes the packet stores the status. A thread that is gone when
// its port-bound request completes makes the apc road end in the direct one.

#include "kernel/io/iop.h"

// ---- The list that a pending request hangs on -----------------------------

static ke_io_slot *slot_of(const IRP *irp)
{
    return irp->flags & IRP_ON_FILE ? &irp->OriginalFileObject->io
                                    : &irp->Thread->io;
}

static ke_io_slot *counter_of(const IRP *irp)
{
    return irp->flags & IRP_ON_FILE ? &irp->Thread->Process->io
                                    : &irp->Thread->io;
}

// Port-bound requests without APC routine outlive their thread (CAN-08), so
// they hang on the file, hold a reference to the thread, and are counted for
// its process, which waits for them when it dies.
//
// IRQL:    == PASSIVE_LEVEL
void iop_link_irp(IRP *irp)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    irp->Thread = KeGetCurrentThread();
    if (irp->OriginalFileObject->CompletionPort && !irp->UserApcRoutine &&
        irp->UserApcContext) {
        ObReferenceObject(irp->Thread);
        irp->flags |= IRP_ON_FILE;
    }
    __atomic_add_fetch(&counter_of(irp)->count, 1, __ATOMIC_SEQ_CST);
    ke_io_slot *slot = slot_of(irp);
    KIRQL old;
    KeAcquireSpinLock(&slot->lock, &old);
    InsertTailList(&slot->irps, &irp->ThreadListEntry);
    KeReleaseSpinLock(&slot->lock, old);
}

// Takes a request off its list; nobody can cancel it any more. The counts have
// no lock: whoever waits for 0 clears the event, then looks at the count;
// whoever gets there counts, then looks at the event: one of the two sees the
// other. The IRP's reference keeps thread and process; what hangs on a thread
// is unlinked by that thread.
//
// IRQL:    <= DISPATCH_LEVEL
void iop_unlink_irp(IRP *irp)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    ke_io_slot *slot = slot_of(irp);
    KIRQL old;
    KeAcquireSpinLock(&slot->lock, &old);
    RemoveEntryList(&irp->ThreadListEntry);
    KeReleaseSpinLock(&slot->lock, old);
    ke_io_slot *counter = counter_of(irp);
    if (__atomic_sub_fetch(&counter->count, 1, __ATOMIC_SEQ_CST) == 0 &&
        counter->none.Header.SignalState == 0)
        KeSetEvent(&counter->none, IO_NO_INCREMENT);
}

// ---- Releasing what an IRP owns -------------------------------------------

// Unpins and frees the MDL: the device is done with the pages.
//
// IRQL:    <= DISPATCH_LEVEL
void iop_release_mdl(IRP *irp)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    MDL *mdl = irp->MdlAddress;
    irp->MdlAddress = NULL;
    if (!mdl)
        return;
    if (mdl->locked)
        MmUnlockPages(mdl);
    if (mdl->from_pool)
        ExFreePoolWithTag(mdl, IOP_TAG);
}

// Frees an IRP that is on no list, with all that it owns.
//
// IRQL:    <= DISPATCH_LEVEL
void io_discard_irp(IRP *irp)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    iop_release_mdl(irp);
    if (irp->SystemBuffer)
        ExFreePoolWithTag(irp->SystemBuffer, IOP_TAG);
    if (irp->UserEvent)
        ObDereferenceObject(irp->UserEvent);
    if (irp->flags & IRP_ON_FILE)
        ObDereferenceObject(irp->Thread);
    if (irp->OriginalFileObject)
        ObDereferenceObject(irp->OriginalFileObject);
    IoFreeIrp(irp);
}

// ---- Stage 10 -------------------------------------------------------------

// The event of the request; or the file itself, unless it is told not to.
// A synchronous caller waits for the file in any case (CMP-05).
static void signal_completion(IRP *irp)
{
    FILE_OBJECT *file = irp->OriginalFileObject;
    bool file_too = irp->flags & IRP_SYNCHRONOUS ||
                    (!irp->UserEvent && !(file->Flags & FO_SKIP_EVENT));
    if (irp->UserEvent) {
        KeSetEvent(irp->UserEvent, IO_NO_INCREMENT);
        ObDereferenceObject(irp->UserEvent);
        irp->UserEvent = NULL;
    }
    if (file_too)
        KeSetEvent(&file->Event, IO_NO_INCREMENT);
}

// Copies buffered output, stores the IOSB; in the address space of the asking
// process. Ring 3 may have freed either: then nobody is there to care.
//
// IRQL:    <= APC_LEVEL
void iop_store_results(IRP *irp)
{
    ASSERT_IRQL(<=, APC_LEVEL);
    NTSTATUS status = irp->IoStatus.Status;
    if (irp->SystemBuffer && irp->UserBuffer && !NT_ERROR(status)) {
        size_t length = MIN(irp->IoStatus.Information, irp->UserBufferLength);
        if (!NT_SUCCESS(ke_copy_to_user(irp->UserBuffer, irp->SystemBuffer,
                                        length)))
            irp->IoStatus.Status = STATUS_ACCESS_VIOLATION;
    }
    // Information first: whoever polls sees Status change last. The address
    // is what ring 3 says, so it is no pointer to anything yet.
    uintptr_t iosb = (uintptr_t)irp->UserIosb;
    ke_put_user((uintptr_t *)(iosb + offsetof(IO_STATUS_BLOCK, Information)),
                &irp->IoStatus.Information);
    uint64_t word = (uint32_t)irp->IoStatus.Status;
    ke_copy_to_user((void *)iosb, &word, sizeof(word));
    irp->flags |= IRP_STORED;
}

static void advance_position(IRP *irp)
{
    FILE_OBJECT *file = irp->OriginalFileObject;
    IO_STACK_LOCATION *top = &irp->stack[irp->StackCount - 1];
    file->FinalStatus = irp->IoStatus.Status;
    if (file->DeviceObject->seekable && !NT_ERROR(irp->IoStatus.Status) &&
        iop_is_transfer(top))
        file->CurrentByteOffset = top->Parameters.Read.ByteOffset +
                                  irp->IoStatus.Information;
}

static void free_after_user_apc(KAPC *apc)
{
    io_discard_irp(CONTAINING_RECORD(apc, IRP, Tail.Apc));
}

// The user APC's kernel half: the arguments are copied, the IRP can go.
static void user_apc_kernel(KAPC *apc, KNORMAL_ROUTINE **normal,
                            void **context, void **argument1,
                            void **argument2)
{
    (void)normal, (void)context, (void)argument1, (void)argument2;
    free_after_user_apc(apc);
}

static void queue_user_apc(IRP *irp)
{
    KAPC *apc = &irp->Tail.Apc;
    void *iosb = irp->UserIosb;
    KeInitializeApc(apc, irp->Thread, user_apc_kernel, free_after_user_apc,
                    (KNORMAL_ROUTINE *)(void *)irp->UserApcRoutine, UserMode,
                    irp->UserApcContext);
    if (!KeInsertQueueApc(apc, iosb, NULL, IO_NO_INCREMENT))
        io_discard_irp(irp);
}

// Puts the IRP itself into the port, if that still has handles.
static void queue_packet(IRP *irp)
{
    KQUEUE *port = irp->OriginalFileObject->CompletionPort;
    uint32_t id = irp->id;
    irp->Tail.packet.is_irp = true;
    // From here on a taker may free it, unless the port refuses; and with it
    // the file, which kept the port.
    ObReferenceObject(port);
    int32_t before = KeInsertQueue(port, &irp->Tail.packet.entry);
    ki_trace(TRACE_PORT_INSERT, (uint32_t)before, id);
    if (before < 0)
        io_discard_irp(irp);
    ObDereferenceObject(port);
}

// Stage 10 in the asking thread (IRP-09). skip_packet: see IOCP-21.
//
// IRQL:    == APC_LEVEL
void iop_finish_irp(IRP *irp, bool skip_packet)
{
    ASSERT_IRQL(==, APC_LEVEL);
    iop_store_results(irp);
    if (irp->flags & IRP_SYNCHRONOUS)
        advance_position(irp);
    signal_completion(irp);
    iop_unlink_irp(irp);
    ki_trace(TRACE_IRP_DONE, 0, irp->id);
    if (irp->UserApcRoutine)
        queue_user_apc(irp);
    else if (irp->OriginalFileObject->CompletionPort &&
             irp->UserApcContext && !skip_packet)
        queue_packet(irp);
    else
        io_discard_irp(irp);
}

static void complete_apc(KAPC *apc, KNORMAL_ROUTINE **normal, void **context,
                         void **argument1, void **argument2)
{
    (void)normal, (void)context, (void)argument1, (void)argument2;
    IRP *irp = CONTAINING_RECORD(apc, IRP, Tail.Apc);
    KTHREAD *thread = KeGetCurrentThread();
    uint32_t before = thread->irp_id;
    thread->irp_id = irp->id;    // the thread is borrowed for it
    iop_finish_irp(irp, false);
    thread->irp_id = before;
}

// The direct road: all that needs no address space, then the port.
static void complete_directly(IRP *irp)
{
    ASSERT(irp->flags & IRP_ON_FILE);
    signal_completion(irp);
    iop_unlink_irp(irp);
    queue_packet(irp);
}

// The asking thread ended with our APC in its queue; only port-bound requests
// outlive their thread.
static void rundown_apc(KAPC *apc)
{
    complete_directly(CONTAINING_RECORD(apc, IRP, Tail.Apc));
}

// Sends a completed request on its road.
//
// IRQL:    <= DISPATCH_LEVEL
void iop_complete_pending(IRP *irp, KPRIORITY boost)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    iop_release_mdl(irp);
    // Whoever waits for the request's event must find the status stored
    // (IRP-09), and only the asking process's address space can hold that.
    if (io_direct_road && (irp->flags & IRP_ON_FILE) && !irp->SystemBuffer &&
        !irp->UserEvent) {
        complete_directly(irp);
        return;
    }
    KeInitializeApc(&irp->Tail.Apc, irp->Thread, complete_apc, rundown_apc,
                    NULL, KernelMode, NULL);
    if (!KeInsertQueueApc(&irp->Tail.Apc, NULL, NULL, boost))
        complete_directly(irp);
}
