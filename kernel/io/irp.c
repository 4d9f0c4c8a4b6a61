// irp.c - making IRPs, freeing them, and handing them to a driver, to do or to
// cancel; complete.c is the way back.

#include "kernel/io/iop.h"

volatile uint64_t io_irps_from_pool;

// One from pool, with room for IO_KEPT_LOCATIONS at least; NULL: there is none.
// In place: the pool notes who asked.
static FORCEINLINE IRP *new_irp(int8_t stack_size)
{
    size_t locations = (size_t)MAX(stack_size, IO_KEPT_LOCATIONS);
    IRP *irp = ExAllocatePoolWithTag(
        ex_pool_for_io, sizeof(IRP) + locations * sizeof(IO_STACK_LOCATION),
        IO_TAG);
    if (irp) {
        __atomic_add_fetch(&io_irps_from_pool, 1, __ATOMIC_RELAXED);
        io_initialize_irp(irp, stack_size);
    }
    return irp;
}

// For io_take_irp: makes an IRP of the kept one, if there is one and it is
// large enough, or of pool.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: NULL when there is no pool
DECLSPEC_NOINLINE IRP *io_make_irp(IRP *kept, int8_t stack_size)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    if (!kept || stack_size > IO_KEPT_LOCATIONS) {
        if (kept)
            iop_free_irp(kept);
        return new_irp(stack_size);
    }
    io_initialize_irp(kept, stack_size);
    return kept;
}

// Allocates an IRP for a stack of stack_size devices.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: NULL when there is no pool
// NT:      IoAllocateIrp (WDK). Left out: ChargeQuota.
IRP *IoAllocateIrp(int8_t stack_size)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    return new_irp(stack_size);
}

// Frees an IRP, whatever state it is in, and nothing that it refers to.
//
// IRQL:    <= DISPATCH_LEVEL
// NT:      IoFreeIrp (WDK).
void IoFreeIrp(IRP *irp)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    __atomic_sub_fetch(&io_irps_from_pool, 1, __ATOMIC_RELAXED);
    ExFreePoolWithTag(irp, IO_TAG);
}

// Lets go of what few IRPs own: MDL, SystemBuffer, event.
//
// IRQL:    <= DISPATCH_LEVEL
void iop_discard_buffers(IRP *irp)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    if (irp->MdlAddress)
        iop_release_mdl(irp);
    if (irp->SystemBuffer)
        ExFreePoolWithTag(irp->SystemBuffer, IO_TAG);
    if (irp->UserEvent)
        ObDereferenceObject(irp->UserEvent);
    irp->SystemBuffer = irp->UserEvent = NULL;
}

// Frees an IRP of io_build_irp that is on no list, with all that it owns.
//
// IRQL:    <= DISPATCH_LEVEL
void io_discard_irp(IRP *irp)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    iop_discard_irp(irp);
}

// Counts the free IRPs, packets and APCs that are kept for the next request.
//
// IRQL:    any level
void io_count_kept(uint64_t *blocks, uint64_t *bytes)
{
    static const size_t sizes[KE_KEPT_LISTS] = {
        IO_KEPT_IRP_BYTES, sizeof(iop_mini_packet), sizeof(KAPC)
    };
    *blocks = *bytes = 0;
    for (uint32_t i = 0; i < KeNumberProcessors; i++)
        for (uint32_t list = 0; list < KE_KEPT_LISTS; list++) {
            uint64_t depth = ki_processor[i]->kept[list].depth;
            *blocks += depth;
            *bytes += depth * sizes[list];
        }
}

// How many IRPs are allocated and not freed, kept ones not counted. A moment's
// picture, taken without a lock: one freed meanwhile may be missing twice.
//
// IRQL:    any level
uint64_t io_irp_count(void)
{
    uint64_t kept = 0, all = io_irps_from_pool;
    for (uint32_t i = 0; i < KeNumberProcessors; i++)
        kept += ki_processor[i]->kept[KE_KEPT_IRPS].depth;
    return all > kept ? all - kept : 0;
}

// ---- Down the stack -------------------------------------------------------

// Hands an IRP to a device's driver (stage 3). The location that the caller
// filled as "next" becomes the current one.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: what the driver's dispatch routine returns
// NT:      IoCallDriver (WDK).
FORCEINLINE NTSTATUS IoCallDriver(DEVICE_OBJECT *device, IRP *irp)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    if (--irp->CurrentLocation <= 0)
        KeBugCheckEx(NO_MORE_IRP_STACK_LOCATIONS, (uintptr_t)irp, 0, 0, 0);
    IO_STACK_LOCATION *location = --irp->location;
    location->DeviceObject = device;
    ki_trace(TRACE_IRP_CALL, location->MajorFunction, irp->id);
    return device->DriverObject->MajorFunction[location->MajorFunction](
        device, irp);
}

// ---- Cancelled --------------------------------------------------------------

// Calls a cancel routine that was taken out, or, NULL, lets the cancel lock go
// itself; afterwards the caller is at irql (CAN-10). Nobody in this file calls
// it: so the checked kernel sees every call (verify.c).
//
// IRQL:    == DISPATCH_LEVEL
// Returns: whether there was one
bool iop_call_cancel_routine(IRP *irp, DRIVER_CANCEL *routine, KIRQL irql)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    if (routine) {
        bool sent = irp->CurrentLocation <= irp->StackCount;
        irp->CancelIrql = irql;
        routine(sent ? irp->location->DeviceObject : NULL, irp);
    } else {
        IoReleaseCancelSpinLock(irql);
    }
    return routine;
}
