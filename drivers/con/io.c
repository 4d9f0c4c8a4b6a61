// io.c - a serial port's requests: writes by StartIo, reads from a list.
//
// A write goes ide's way: queue, StartIo, interrupt, DPC. Reads show the other
// way to keep requests, a list of our own. The cancel lock guards it: a
// read is on the list exactly while it has a cancel routine, so no request can
// be taken and cancelled at once.

#include "drivers/con/con.h"

static NTSTATUS complete(IRP *irp, NTSTATUS status, uintptr_t information)
{
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = information;
    IoCompleteRequest(irp, NT_SUCCESS(status) ? IO_SERIAL_INCREMENT
                                              : IO_NO_INCREMENT);
    return status;
}

static uint32_t length_of(IRP *irp)
{
    return IoGetCurrentIrpStackLocation(irp)->Parameters.Read.Length;
}

// ---- Writes ---------------------------------------------------------------

// As in ide: a write in line is cancelled, one at the UART runs to its end.
static void cancel_write(DEVICE_OBJECT *device, IRP *irp)
{
    bool queued = KeRemoveEntryDeviceQueue(&device->DeviceQueue,
                                           &irp->Tail.DeviceQueueEntry);
    IoReleaseCancelSpinLock(irp->CancelIrql);    // last look at irp, if !queued
    if (queued)
        complete(irp, STATUS_CANCELLED, 0);
}

// IRP_MJ_WRITE.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: STATUS_PENDING, or STATUS_SUCCESS if there is nothing to write
NTSTATUS con_write(DEVICE_OBJECT *device, IRP *irp)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    if (!length_of(irp))
        return complete(irp, STATUS_SUCCESS, 0);
    IoMarkIrpPending(irp);
    IoStartPacket(device, irp, NULL, cancel_write);
    return STATUS_PENDING;
}

// Hands the current write to the ISR. A KSYNCHRONIZE_ROUTINE: it must not
// turn the transmitter on while the ISR, done with an echo, turns it off.
static bool begin_write(void *context)
{
    con_port *port = context;
    IRP *irp = port->device->CurrentIrp;
    port->out = irp->SystemBuffer;
    port->out_length = length_of(irp);
    con_transmit(port);
    return true;
}

// StartIo: this write is next.
//
// IRQL:    == DISPATCH_LEVEL
void con_start_io(DEVICE_OBJECT *device, IRP *irp)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);

    con_port *port = device->DeviceExtension;
    if (IoSetCancelRoutine(irp, NULL)) {
        irp->IoStatus.Status = STATUS_SUCCESS;
        KeSynchronizeExecution(&port->interrupt, begin_write, port);
        return;
    }
    // cancel_write left it to us; wait until it has looked at irp for the last
    // time. The DPC ends the request, so that StartIo does not nest.
    KIRQL irql;
    IoAcquireCancelSpinLock(&irql);
    IoReleaseCancelSpinLock(irql);
    irp->IoStatus.Status = STATUS_CANCELLED;
    port->write_done = true;
    IoRequestDpc(device, NULL, NULL);
}

static void end_write(DEVICE_OBJECT *device)
{
    IRP *irp = device->CurrentIrp;
    NTSTATUS status = irp->IoStatus.Status;
    IoStartNextPacket(device, true);
    complete(irp, status, NT_SUCCESS(status) ? length_of(irp) : 0);
}

// ---- Reads ----------------------------------------------------------------

static void cancel_read(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    RemoveEntryList(&irp->Tail.ListEntry);
    IoReleaseCancelSpinLock(irp->CancelIrql);
    complete(irp, STATUS_CANCELLED, 0);
}

// Takes the oldest read (of file, unless NULL) off the list, if there is one.
// The cancel lock is held.
static IRP *take_read(con_port *port, const FILE_OBJECT *file)
{
    RTL_FOR_EACH(entry, &port->reads)
    {
        IRP *irp = CONTAINING_RECORD(entry, IRP, Tail.ListEntry);
        if (!file || IoGetCurrentIrpStackLocation(irp)->FileObject == file) {
            RemoveEntryList(entry);
            IoSetCancelRoutine(irp, NULL);
            return irp;
        }
    }
    return NULL;
}

// Lets reads and bytes meet, until one of them is used up. Completes outside
// the lock (IRP-07).
static void hand_out(con_port *port)
{
    for (;;) {
        KIRQL irql;
        uint32_t count = 0;
        IoAcquireCancelSpinLock(&irql);
        IRP *irp = port->tail != port->head ? take_read(port, NULL) : NULL;
        if (irp) {
            char *to = irp->SystemBuffer;
            while (count < length_of(irp) && port->tail != port->head)
                to[count++] = port->ring[port->tail++ % CON_RING_SIZE];
        }
        IoReleaseCancelSpinLock(irql);
        if (!irp)
            return;
        complete(irp, STATUS_SUCCESS, count);
    }
}

// IRP_MJ_READ: completes with what is there as soon as that is one byte.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: STATUS_PENDING, or STATUS_SUCCESS if nothing is asked for
NTSTATUS con_read(DEVICE_OBJECT *device, IRP *irp)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    con_port *port = device->DeviceExtension;
    if (!length_of(irp))
        return complete(irp, STATUS_SUCCESS, 0);

    KIRQL irql;
    IoMarkIrpPending(irp);
    IoAcquireCancelSpinLock(&irql);
    bool cancelled = irp->Cancel;    // on its way here: IoCancelIrp is through
    if (!cancelled) {
        IoSetCancelRoutine(irp, cancel_read);
        InsertTailList(&port->reads, &irp->Tail.ListEntry);
    }
    IoReleaseCancelSpinLock(irql);
    if (cancelled)
        complete(irp, STATUS_CANCELLED, 0);
    else
        hand_out(port);    // irp may be gone
    return STATUS_PENDING;
}

// IRP_MJ_CLEANUP: nobody can take the results of this file's reads any more.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: STATUS_SUCCESS
NTSTATUS con_cleanup(DEVICE_OBJECT *device, IRP *irp)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    con_port *port = device->DeviceExtension;
    const FILE_OBJECT *file = IoGetCurrentIrpStackLocation(irp)->FileObject;
    IRP *pending;
    do {
        KIRQL irql;
        IoAcquireCancelSpinLock(&irql);
        pending = take_read(port, file);
        IoReleaseCancelSpinLock(irql);
        if (pending)
            complete(pending, STATUS_CANCELLED, 0);
    } while (pending);
    return complete(irp, STATUS_SUCCESS, 0);
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
        return complete(irp, STATUS_INVALID_DEVICE_REQUEST, 0);
    if (stack->Parameters.DeviceIoControl.InputBufferLength < sizeof(HANDLE))
        return complete(irp, STATUS_INVALID_PARAMETER, 0);

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
    return complete(irp, status, 0);
}

// ---- Behind the interrupt -------------------------------------------------

// Does all that the ISR left: a written IRP, Ctrl-C, bytes for reads. One run
// may answer several interrupts.
//
// IRQL:    == DISPATCH_LEVEL
void con_dpc(KDPC *dpc, DEVICE_OBJECT *device, IRP *irp, void *context)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    (void)dpc, (void)irp, (void)context;

    con_port *port = device->DeviceExtension;
    if (__atomic_exchange_n(&port->write_done, false, __ATOMIC_ACQ_REL))
        end_write(device);
    EPROCESS *victim =
        __atomic_exchange_n(&port->victim, NULL, __ATOMIC_ACQ_REL);
    if (victim) {
        ps_terminate_process(victim, STATUS_CONTROL_C_EXIT);
        ObDereferenceObject(victim);
    }
    hand_out(port);
}
