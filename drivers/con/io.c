// io.c - a serial port's requests: two lists, and what takes them off.
//
// Not StartIo's way, as ide goes, but the other one: lists of our own. The
// cancel lock guards them: a request is on its list exactly while it has a
// cancel routine, so none can be taken and cancelled at once.

#include "drivers/con/con.h"

static uint32_t length_of(IRP *irp)
{
    return IoGetCurrentIrpStackLocation(irp)->Parameters.Read.Length;
}

static void complete_transfer(IRP *irp, NTSTATUS status, uint32_t count)
{
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = count;
    IoCompleteRequest(irp, IO_SERIAL_INCREMENT);
}

// A request in its list is cancelled; a write at the UART ends with the piece
// that is there (con_dpc).
static void cancel(DEVICE_OBJECT *, IRP *irp)
{
    RemoveEntryList(&irp->Tail.ListEntry);
    IoReleaseCancelSpinLock(irp->CancelIrql);
    io_complete(irp, STATUS_CANCELLED, 0);
}

// Takes the oldest request off a list, if there is one. Cancel lock held.
static IRP *take(LIST_ENTRY *list)
{
    if (IsListEmpty(list))
        return NULL;
    IRP *irp = CONTAINING_RECORD(RemoveHeadList(list), IRP, Tail.ListEntry);
    IoSetCancelRoutine(irp, NULL);
    return irp;
}

// Hands the next piece of the write whose turn it is to the ISR. A
// KSYNCHRONIZE_ROUTINE: it must not turn the transmitter on while the ISR, done
// with an echo, turns it off.
static bool write_piece(void *context)
{
    con_port *port = context;
    port->out = (char *)port->writing->SystemBuffer + port->written;
    port->out_length = MIN(length_of(port->writing) - port->written,
                           CON_PIECE);
    port->written += port->out_length;
    con_transmit(port);
    return true;
}

// The oldest write to the UART, if that has none.
static void next_write(con_port *port)
{
    KIRQL irql;
    IoAcquireCancelSpinLock(&irql);
    IRP *irp = port->writing ? NULL : take(&port->writes);
    if (irp)
        port->writing = irp;
    IoReleaseCancelSpinLock(irql);
    if (irp)
        KeSynchronizeExecution(&port->interrupt, write_piece, port);
}

// Lets reads and bytes meet, until one of them is used up. Completes outside
// the lock (IRP-07).
static void hand_out(con_port *port)
{
    for (;;) {
        KIRQL irql;
        uint32_t count = 0;
        IoAcquireCancelSpinLock(&irql);
        IRP *irp = port->tail != port->head ? take(&port->reads) : NULL;
        if (irp) {
            // Behind each byte the ISR uses its place.
            for (char *to = irp->SystemBuffer; count < length_of(irp) &&
                 port->tail != port->head; port->tail++)
                to[count++] = port->ring[port->tail % CON_RING_SIZE];
        }
        IoReleaseCancelSpinLock(irql);
        if (!irp)
            return;
        complete_transfer(irp, STATUS_SUCCESS, count);
    }
}

// IRP_MJ_READ, which completes with what is there as soon as that is one byte,
// and IRP_MJ_WRITE. It may take up another one's request, too: by DO_SHORT_SEND
// nobody suspends or preempts who has that in hand.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: STATUS_PENDING, or STATUS_SUCCESS if there is nothing to move
NTSTATUS con_read_write(DEVICE_OBJECT *device, IRP *irp)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    con_port *port = device->DeviceExtension;
    bool write =
        IoGetCurrentIrpStackLocation(irp)->MajorFunction == IRP_MJ_WRITE;
    if (!length_of(irp))
        return io_complete(irp, STATUS_SUCCESS, 0);

    KIRQL irql;
    IoMarkIrpPending(irp);
    IoAcquireCancelSpinLock(&irql);
    bool cancelled = irp->Cancel;    // on its way here: IoCancelIrp is through
    if (!cancelled) {
        IoSetCancelRoutine(irp, cancel);
        InsertTailList(write ? &port->writes : &port->reads,
                       &irp->Tail.ListEntry);
    }
    IoReleaseCancelSpinLock(irql);
    if (cancelled)
        io_complete(irp, STATUS_CANCELLED, 0);
    else    // from here on irp may be gone
        (write ? next_write : hand_out)(port);
    return STATUS_PENDING;
}

// ---- Ctrl-C ---------------------------------------------------------------

// IRP_MJ_DEVICE_CONTROL: IOCTL_CONSOLE_SET_FOREGROUND, on the console.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INVALID_DEVICE_REQUEST,
//          STATUS_INVALID_PARAMETER (no HANDLE), or why the handle is refused
NTSTATUS con_device_control(DEVICE_OBJECT *device, IRP *irp)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    con_port *port = device->DeviceExtension;
    const IO_STACK_LOCATION *stack = IoGetCurrentIrpStackLocation(irp);
    if (stack->Parameters.DeviceIoControl.IoControlCode !=
            IOCTL_CONSOLE_SET_FOREGROUND ||
        !port->is_console)
        return io_complete(irp, STATUS_INVALID_DEVICE_REQUEST, 0);
    if (stack->Parameters.DeviceIoControl.InputBufferLength < sizeof(HANDLE))
        return io_complete(irp, STATUS_INVALID_PARAMETER, 0);

    HANDLE handle = *(HANDLE *)irp->SystemBuffer;
    void *process = NULL;
    NTSTATUS status = STATUS_SUCCESS;
    if (handle)
        status = ob_reference_by_handle(handle, PROCESS_TERMINATE,
                                        &ps_process_type, &process, NULL);
    if (NT_SUCCESS(status)) {
        process =
            __atomic_exchange_n(&port->foreground, process, __ATOMIC_ACQ_REL);
        if (process)    // the one before
            ObDereferenceObject(process);
    }
    return io_complete(irp, status, 0);
}

// ---- Behind the interrupt -------------------------------------------------

// Does all that the ISR left: a written IRP, Ctrl-C, bytes for reads. One run
// may answer several interrupts.
//
// IRQL:    == DISPATCH_LEVEL
void con_dpc(KDPC *, DEVICE_OBJECT *device, IRP *irp, void *)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);

    con_port *port = device->DeviceExtension;
    if (__atomic_exchange_n(&port->write_done, false, __ATOMIC_ACQ_REL)) {
        irp = port->writing;
        uint32_t done = port->written;
        bool whole = done == length_of(irp);
        if (!whole && !irp->Cancel) {
            KeSynchronizeExecution(&port->interrupt, write_piece, port);
        } else {
            port->written = 0;    // then the next may go, on any processor
            __atomic_store_n(&port->writing, NULL, __ATOMIC_RELEASE);
            next_write(port);
            complete_transfer(irp, whole ? STATUS_SUCCESS : STATUS_CANCELLED,
                              whole ? done : 0);    // CAN-03
        }
    }
    EPROCESS *victim =
        __atomic_exchange_n(&port->victim, NULL, __ATOMIC_ACQ_REL);
    if (victim) {
        ps_terminate_process(victim, STATUS_CONTROL_C_EXIT);
        ObDereferenceObject(victim);
    }
    hand_out(port);
}
