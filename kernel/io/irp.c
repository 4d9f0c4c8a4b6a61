// irp.c - allocating, sending and completing IRPs: the driver's side of one.
//
// IRPs come from a list per processor, touched with interrupts off and thus
// without a lock, and from pool when it is empty. The checked build keeps none
// there: its pool sees who uses a freed one. complete.c goes on where
// IoCompleteRequest ends.

#include "kernel/io/iop.h"

enum { LOOKASIDE_DEPTH = 256 };

static volatile uint64_t irps_from_pool;    // kept ones included

// Makes a fresh IRP of memory that holds stack_size locations (IRP-01).
//
// IRQL:    any level
void iop_initialize_irp(IRP *irp, int8_t stack_size)
{
    KPRCB *prcb = KeGetCurrentPrcb();
    memset(irp, 0, sizeof(IRP) + (size_t)stack_size *
                                     sizeof(IO_STACK_LOCATION));
    irp->StackCount = stack_size;
    irp->CurrentLocation = (int8_t)(stack_size + 1);
    irp->id = __atomic_fetch_add(&prcb->irp_sequence, 1, __ATOMIC_RELAXED) *
                  KeNumberProcessors + prcb->Number + 1;
}

// Allocates an IRP for a stack of stack_size devices.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: NULL when there is no pool
// NT:      IoAllocateIrp (WDK). Left out: ChargeQuota.
IRP *IoAllocateIrp(int8_t stack_size)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    IRP *irp = NULL;
    uint64_t flags = ki_disable_interrupts();
    KPRCB *prcb = KeGetCurrentPrcb();
    if (stack_size <= IO_KEPT_LOCATIONS && prcb->irp_lookaside_depth) {
        prcb->irp_lookaside_depth--;
        irp = CONTAINING_RECORD(RemoveHeadList(&prcb->irp_lookaside), IRP,
                                ThreadListEntry);
    }
    ki_restore_interrupts(flags);
    if (!irp) {
        size_t locations = (size_t)MAX(stack_size, IO_KEPT_LOCATIONS);
        irp = ExAllocatePoolWithTag(
            NonPagedPool, sizeof(IRP) + locations * sizeof(IO_STACK_LOCATION),
            IOP_TAG);
        if (!irp)
            return NULL;
        __atomic_add_fetch(&irps_from_pool, 1, __ATOMIC_RELAXED);
    }
    iop_initialize_irp(irp, stack_size);
    return irp;
}

// Frees an IRP and nothing that it refers to.
//
// IRQL:    <= DISPATCH_LEVEL
// NT:      IoFreeIrp (WDK).
void IoFreeIrp(IRP *irp)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    uint64_t flags = ki_disable_interrupts();
    KPRCB *prcb = KeGetCurrentPrcb();
    bool keep = !DBG && irp->StackCount <= IO_KEPT_LOCATIONS &&
                prcb->irp_lookaside_depth < LOOKASIDE_DEPTH;
    if (keep) {
        prcb->irp_lookaside_depth++;
        InsertHeadList(&prcb->irp_lookaside, &irp->ThreadListEntry);
    }
    ki_restore_interrupts(flags);
    if (!keep) {
        __atomic_sub_fetch(&irps_from_pool, 1, __ATOMIC_RELAXED);
        ExFreePoolWithTag(irp, IOP_TAG);
    }
}

// How many free IRPs are kept for the next request.
//
// IRQL:    any level
uint64_t io_kept_irps(void)
{
    uint64_t kept = 0;
    for (uint32_t i = 0; i < KeNumberProcessors; i++)
        kept += ki_processor[i]->irp_lookaside_depth;
    return kept;
}

// How many IRPs are allocated and not freed, kept ones not counted. A moment's
// picture, taken without a lock: one freed meanwhile may be missing twice.
//
// IRQL:    any level
uint64_t io_irp_count(void)
{
    uint64_t kept = io_kept_irps(), all = irps_from_pool;
    return all > kept ? all - kept : 0;
}

// ---- Down and up the stack ------------------------------------------------

// Hands an IRP to a device's driver (stage 3). The location that the caller
// filled as "next" becomes the current one.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: what the driver's dispatch routine returns
// NT:      IoCallDriver (WDK).
NTSTATUS IoCallDriver(DEVICE_OBJECT *device, IRP *irp)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    if (--irp->CurrentLocation <= 0)
        KeBugCheckEx(NO_MORE_IRP_STACK_LOCATIONS, (uintptr_t)irp, 0, 0, 0);
    IO_STACK_LOCATION *location = IoGetCurrentIrpStackLocation(irp);
    location->DeviceObject = device;
    ki_trace(TRACE_IRP_CALL, location->MajorFunction, irp->id);
    return device->DriverObject->MajorFunction[location->MajorFunction](
        device, irp);
}

// The driver hands the request to the hardware (stage 4).
//
// IRQL:    <= DISPATCH_LEVEL
void io_irp_at_device(IRP *irp, uint32_t unit)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    irp->state = IrpAtDevice;
    ki_trace(TRACE_DMA_START, unit, irp->id);
}

// Invoke conditions are OR-ed (IRP-03).
static bool wants_call(const IO_STACK_LOCATION *location, const IRP *irp)
{
    uint8_t control = location->Control;
    return location->CompletionRoutine &&
           ((NT_SUCCESS(irp->IoStatus.Status) ? control & SL_INVOKE_ON_SUCCESS
                                              : control & SL_INVOKE_ON_ERROR) ||
            (irp->Cancel && control & SL_INVOKE_ON_CANCEL));
}

// Calls the completion routines upwards; false when one keeps the IRP.
static bool walk_up(IRP *irp)
{
    while (irp->CurrentLocation <= irp->StackCount) {
        IO_STACK_LOCATION *done = IoGetCurrentIrpStackLocation(irp);
        irp->PendingReturned = done->Control & SL_PENDING_RETURNED;
        irp->CurrentLocation++;
        bool top = irp->CurrentLocation > irp->StackCount;
        if (wants_call(done, irp)) {
            DEVICE_OBJECT *device =
                top ? NULL : IoGetCurrentIrpStackLocation(irp)->DeviceObject;
            if (done->CompletionRoutine(device, irp, done->Context) ==
                STATUS_MORE_PROCESSING_REQUIRED)
                return false;
        } else if (irp->PendingReturned && !top) {
            IoMarkIrpPending(irp);    // passed up by itself (IRP-04)
        }
    }
    irp->CurrentLocation = (int8_t)(irp->StackCount + 2);
    return true;
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
    if (irp->CurrentLocation > irp->StackCount)    // never sent, or done
        KeBugCheckEx(MULTIPLE_IRP_COMPLETE_REQUESTS, (uintptr_t)irp,
                     irp->id, 0, 0);
    ASSERT_RULE("IRP-07", irp->IoStatus.Status != STATUS_PENDING);
    if (irp->CancelRoutine)
        KeBugCheckEx(CANCEL_STATE_IN_COMPLETED_IRP, (uintptr_t)irp, irp->id,
                     0, 0);
    ki_trace(TRACE_IRP_COMPLETE, 0, irp->id);
    if (!walk_up(irp))
        return;
    irp->state = IrpCompleted;
    if (irp->flags & IRP_KERNEL_WAIT) {    // gone with the caller's stack
        *irp->UserIosb = irp->IoStatus;
        KeSetEvent(irp->UserEvent, boost);
    } else if (irp->PendingReturned) {
        iop_complete_pending(irp, boost);
    }    // else io_send finishes it, in the issuing call
}
