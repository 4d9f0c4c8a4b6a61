// complete.c - from a driver's IoCompleteRequest to ring 3: up the stack, then
// stage 10 on either road.
//
// The apc road: a special kernel APC in the asking thread stores the status,
// sets the event, and queues the user APC or the packet. The direct road, for
// port-bound requests: the DPC sets the event and queues the IRP itself; the
// thread that takes the packet stores the status. A thread that is gone when
// its port-bound request completes makes the apc road end in the direct one, or
// in another thread of its process.

#include "kernel/io/iop.h"

// ---- The list that a pending request hangs on -----------------------------

// Takes a request off its list; nobody can cancel it any more. The counts have
// no lock: whoever waits for 0 clears the event, then looks at the count;
// whoever gets there counts, then looks at the event: one of the two sees the
// other. The IRP's reference keeps thread and process; what hangs on a thread
// is unlinked by that thread.
static FORCEINLINE void unlink_irp(IRP *irp, ke_io_slot *slot,
                                   ke_io_slot *counter)
{
    ki_lock_leaf(&slot->lock);
    RemoveEntryList(&irp->ThreadListEntry);
    ki_unlock_leaf(&slot->lock);
    if (__atomic_sub_fetch(&counter->count, 1, __ATOMIC_SEQ_CST) == 0 &&
        counter->none.Header.SignalState == 0)
        KeSetEvent(&counter->none, IO_NO_INCREMENT);
}

// The same for those who send.
//
// IRQL:    <= DISPATCH_LEVEL
FORCEINLINE void iop_unlink_irp(IRP *irp)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KTHREAD *thread = irp->Thread;
    if (irp->flags & IRP_ON_FILE)
        unlink_irp(irp, &irp->OriginalFileObject->io, &thread->Process->io);
    else
        unlink_irp(irp, &thread->io, &thread->io);
}

// ---- Stage 10 -------------------------------------------------------------

// The event of the request; or the file itself, unless it is told not to.
// A synchronous caller waits for the file in any case (CMP-05).
static inline void signal_completion(IRP *irp, bool synchronous)
{
    FILE_OBJECT *file = irp->OriginalFileObject;
    bool file_too = synchronous ||
                    (!irp->UserEvent && !(file->Flags & FO_SKIP_EVENT));
    if (irp->UserEvent) {
        KeSetEvent(irp->UserEvent, IO_NO_INCREMENT);
        ObDereferenceObject(irp->UserEvent);
        irp->UserEvent = NULL;
    }
    if (file_too)
        ke_set_lasting_event(&file->Event, IO_NO_INCREMENT);
}

// Copies buffered output, in the address space of the asking process. Ring 3
// may have freed its buffer: then nobody is there to care.
//
// IRQL:    <= APC_LEVEL
void iop_copy_output(IRP *irp)
{
    ASSERT_IRQL(<=, APC_LEVEL);
    size_t length = MIN(irp->IoStatus.Information, irp->UserBufferLength);
    if (!NT_ERROR(irp->IoStatus.Status) &&
        !NT_SUCCESS(ke_copy_to_user(irp->UserBuffer, irp->SystemBuffer,
                                    length)))
        irp->IoStatus = (IO_STATUS_BLOCK){ .Status = STATUS_ACCESS_VIOLATION };
}

static void advance_position(IRP *irp)
{
    FILE_OBJECT *file = irp->OriginalFileObject;
    IO_STACK_LOCATION *top = &irp->stack[irp->StackCount - 1];
    file->FinalStatus = irp->IoStatus.Status;
    if (file->DeviceObject->seekable && !NT_ERROR(irp->IoStatus.Status) &&
        irp->flags & IRP_TRANSFER &&
        top->Parameters.Read.ByteOffset != FILE_WRITE_TO_END_OF_FILE)
        file->CurrentByteOffset = top->Parameters.Read.ByteOffset +
                                  irp->IoStatus.Information;
}

static void free_after_user_apc(KAPC *apc)
{
    io_discard_irp(CONTAINING_RECORD(apc, IRP, Tail.Apc));
}

// The user APC's kernel half: the arguments are copied, the IRP can go.
static void user_apc_kernel(KAPC *apc, KNORMAL_ROUTINE **, void **, void **,
                            void **)
{
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
static inline void queue_packet(IRP *irp, KQUEUE *port)
{
    uint32_t id = irp->id;
    irp->Tail.packet.is_irp = true;
    // From here on a taker may free it, unless the port refuses; and with it
    // the file and the port. KeInsertQueue touches that under its lock only, or
    // the dispatcher's, which the rundown needs that the port's last handle
    // brings.
    int32_t before = KeInsertQueue(port, &irp->Tail.packet.entry);
    ki_trace(TRACE_PORT_INSERT, (uint32_t)before, id);
    if (before < 0)
        io_discard_irp(irp);
}

// Stage 10 in the asking thread (IRP-09). skip_packet: see IOCP-21.
//
// IRQL:    == APC_LEVEL
FORCEINLINE void iop_finish_irp(IRP *irp, bool skip_packet)
{
    ASSERT_IRQL(==, APC_LEVEL);
    iop_store_results(irp);
    if (irp->flags & IRP_SYNCHRONOUS)
        advance_position(irp);
    signal_completion(irp, irp->flags & IRP_SYNCHRONOUS);
    iop_unlink_irp(irp);
    ki_trace(TRACE_IRP_DONE, 0, irp->id);
    FILE_OBJECT *file = irp->OriginalFileObject;
    if (iop_will_be_packet(file, irp) && !skip_packet)
        queue_packet(irp, file->CompletionPort);
    else if (irp->UserApcRoutine)
        queue_user_apc(irp);
    else
        io_discard_irp(irp);
}

static void complete_apc(KAPC *apc, KNORMAL_ROUTINE **, void **, void **,
                         void **)
{
    IRP *irp = CONTAINING_RECORD(apc, IRP, Tail.Apc);
    KTHREAD *thread = KeGetCurrentThread();
    uint32_t before = thread->irp_id;
    thread->irp_id = irp->id;    // the thread is borrowed for it
    iop_finish_irp(irp, false);
    thread->irp_id = before;
}

// The direct road: all that needs no address space, then the port.
static FORCEINLINE void complete_directly(IRP *irp)
{
    FILE_OBJECT *file = irp->OriginalFileObject;
    ASSERT(irp->flags & IRP_ON_FILE && !(irp->flags & IRP_SYNCHRONOUS));
    signal_completion(irp, false);
    unlink_irp(irp, &file->io, &irp->Thread->Process->io);
    queue_packet(irp, file->CompletionPort);
}

static void rundown_apc(KAPC *apc);

// From ps_try_threads: true if the thread still takes APCs. The list's lock is
// held, and the dispatcher's is taken behind it, as in psp_end_thread;
// for that no lock may be held where requests are completed (IRP-07).
static bool try_to_borrow(ETHREAD *object, void *context)
{
    IRP *irp = context;    // not ours any more when it is done
    KeInitializeApc(&irp->Tail.Apc, (KTHREAD *)object, complete_apc,
                    rundown_apc, NULL, KernelMode, NULL);
    return KeInsertQueueApc(&irp->Tail.Apc, NULL, NULL, IO_NO_INCREMENT);
}

// The asking thread is gone; only port-bound requests outlive it. Whoever waits
// for the event must find the status stored (IRP-09): another thread of the
// process does it. Else it can wait for whoever takes the packet.
static void complete_for_another(IRP *irp)
{
    if (!irp->UserEvent ||
        !io_try_threads(irp->Thread->Process, try_to_borrow, irp))
        complete_directly(irp);
}

// The thread ended with our APC in its queue.
static void rundown_apc(KAPC *apc)
{
    complete_for_another(CONTAINING_RECORD(apc, IRP, Tail.Apc));
}

// Sends a request that was pending on its road.
static inline void complete_pending(IRP *irp, KPRIORITY boost)
{
    if (irp->MdlAddress)
        iop_release_mdl(irp);
    // Whoever waits for the request's event must find the status stored
    // (IRP-09), and only the asking process's address space can hold that.
    if (io_direct_road && (irp->flags & IRP_ON_FILE) &&
        !((uintptr_t)irp->SystemBuffer | (uintptr_t)irp->UserEvent)) {
        complete_directly(irp);
        return;
    }
    KeInitializeApc(&irp->Tail.Apc, irp->Thread, complete_apc, rundown_apc,
                    NULL, KernelMode, NULL);
    if (!KeInsertQueueApc(&irp->Tail.Apc, NULL, NULL, boost))
        complete_for_another(irp);
}

// ---- Up the stack ---------------------------------------------------------

// Invoke conditions are OR-ed (IRP-03).
static inline bool wants_call(uint8_t control, const IRP *irp)
{
    return (NT_SUCCESS(irp->IoStatus.Status) ? control & SL_INVOKE_ON_SUCCESS
                                             : control & SL_INVOKE_ON_ERROR) ||
           (irp->Cancel && control & SL_INVOKE_ON_CANCEL);
}

// Not sent yet, or through all drivers.
static inline bool is_at_top(const IRP *irp)
{
    return irp->CurrentLocation > irp->StackCount;
}

// Calls the completion routines upwards; false when one keeps the IRP.
static inline bool walk_up(IRP *irp)
{
    for (;;) {
        IO_STACK_LOCATION *done = irp->location++;
        uint8_t control = done->Control;
        irp->PendingReturned = control & SL_PENDING_RETURNED;
        irp->CurrentLocation++;
        done->Control = 0;    // it may be sent again (IRP-02)
        bool called = done->CompletionRoutine && wants_call(control, irp);
        if (called &&
            done->CompletionRoutine(
                is_at_top(irp) ? NULL : irp->location->DeviceObject, irp,
                done->Context) == STATUS_MORE_PROCESSING_REQUIRED)
            return false;
        if (is_at_top(irp))
            return true;
        if (!called && irp->PendingReturned)
            IoMarkIrpPending(irp);    // passed up by itself (IRP-04)
    }
}

// Ends a driver's work on an IRP (stages 8 and 9): walks the completion
// routines from here upwards, then finishes it: inline in the issuing call if
// nothing was pending, else by a special kernel APC or the port (IRP-08).
// boost: priority increment of a thread that this wakes.
//
// IRQL:    <= DISPATCH_LEVEL, no spin lock held
// NT:      IoCompleteRequest (WDK).
void IoCompleteRequest(IRP *irp, KPRIORITY boost)
{
    ASSERT_IRQL_RULE("IRP-07", <=, DISPATCH_LEVEL);
    ki_trace(TRACE_IRP_COMPLETE, 0, irp->id);
    if (is_at_top(irp))
        KeBugCheckEx(MULTIPLE_IRP_COMPLETE_REQUESTS, (uintptr_t)irp,
                     irp->id, 0, 0);
    ASSERT_RULE("IRP-07", irp->IoStatus.Status != STATUS_PENDING);
    if (irp->CancelRoutine)
        KeBugCheckEx(CANCEL_STATE_IN_COMPLETED_IRP, (uintptr_t)irp, irp->id,
                     0, 0);
    if (!walk_up(irp))
        return;
    irp->state = IrpCompleted;
    if (irp->flags & IRP_KERNEL_WAIT) {    // gone with the caller's stack
        *irp->UserIosb = irp->IoStatus;
        KeSetEvent(irp->UserEvent, boost);
    } else if (irp->PendingReturned) {
        complete_pending(irp, boost);
    }    // else io_send finishes it, in the issuing call
}
