// irp.c - making IRPs, freeing them, and handing them down to a driver.
//
// IRPs come from a list per processor, touched with interrupts off and thus
// without a lock, and from pool when it is empty. The checked build keeps none
// there: its pool sees who uses a freed one. complete.c is the way back.

#include "kernel/io/iop.h"

enum { LOOKASIDE_LOCATIONS = 2 };

static volatile uint64_t irps_from_pool;    // kept ones included

// Makes a fresh IRP of memory that holds stack_size locations (IRP-01).
static inline void initialize(IRP *irp, int8_t stack_size, uint32_t id)
{
    irp->IoStatus = (IO_STATUS_BLOCK){ 0 };
    irp->id = id;
    irp->StackCount = stack_size;
    irp->CurrentLocation = (int8_t)(stack_size + 1);
    irp->location = irp->stack + stack_size;
    irp->Cancel = irp->PendingReturned = false;
    irp->flags = irp->state = 0;
    irp->MdlAddress = NULL;
    irp->SystemBuffer = irp->UserBuffer = NULL;
    irp->UserIosb = NULL;
    irp->UserEvent = NULL;
    irp->UserApcRoutine = NULL;
    irp->UserApcContext = NULL;
    irp->CancelRoutine = NULL;
    irp->OriginalFileObject = NULL;
    irp->Tail.DeviceQueueEntry.Inserted = false;
    for (IO_STACK_LOCATION *l = irp->stack; l < irp->location; l++) {
        l->MajorFunction = l->MinorFunction = l->Flags = l->Control = 0;
        l->Parameters.DeviceIoControl.OutputBufferLength = 0;
        l->Parameters.DeviceIoControl.InputBufferLength = 0;
        l->Parameters.Read.ByteOffset = 0;
        l->DeviceObject = NULL;
        l->FileObject = NULL;
        l->CompletionRoutine = NULL;
    }
}

// The next id of this processor. Interrupts off, or the caller stays here and
// no interrupt makes IRPs.
static inline uint32_t next_id(KPRCB *prcb)
{
    return prcb->irp_sequence++ * KeNumberProcessors + prcb->Number + 1;
}

// The same, for an IRP that lies on its caller's stack.
//
// IRQL:    <= DISPATCH_LEVEL
void iop_initialize_irp(IRP *irp, int8_t stack_size)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    ki_disable();
    uint32_t id = next_id(KeGetCurrentPrcb());
    ki_enable();
    initialize(irp, stack_size, id);
}

static IRP *allocate_from_pool(int8_t stack_size)
{
    size_t locations = (size_t)MAX(stack_size, LOOKASIDE_LOCATIONS);
    IRP *irp = ExAllocatePoolWithTag(
        NonPagedPool, sizeof(IRP) + locations * sizeof(IO_STACK_LOCATION),
        IOP_TAG);
    if (irp)
        __atomic_add_fetch(&irps_from_pool, 1, __ATOMIC_RELAXED);
    return irp;
}

static inline IRP *allocate(int8_t stack_size)
{
    ki_disable();
    KPRCB *prcb = KeGetCurrentPrcb();
    uint32_t id = next_id(prcb);
    IRP *irp = stack_size <= LOOKASIDE_LOCATIONS ? ke_take_kept(&prcb->irps)
                                                 : NULL;
    ki_enable();
    if (!irp && !(irp = allocate_from_pool(stack_size)))
        return NULL;
    initialize(irp, stack_size, id);
    return irp;
}

static inline void release(IRP *irp)
{
    ki_disable();
    bool kept = irp->StackCount <= LOOKASIDE_LOCATIONS &&
                ke_keep(&KeGetCurrentPrcb()->irps, irp);
    ki_enable();
    if (kept)
        return;
    __atomic_sub_fetch(&irps_from_pool, 1, __ATOMIC_RELAXED);
    ExFreePoolWithTag(irp, IOP_TAG);
}

// Allocates an IRP for a stack of stack_size devices.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: NULL when there is no pool
// NT:      IoAllocateIrp (WDK). Left out: ChargeQuota.
IRP *IoAllocateIrp(int8_t stack_size)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    return allocate(stack_size);
}

// Frees an IRP and nothing that it refers to.
//
// IRQL:    <= DISPATCH_LEVEL
// NT:      IoFreeIrp (WDK).
void IoFreeIrp(IRP *irp)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    release(irp);
}

// Allocates an IRP for a request on file, with the next stack location's
// major function and file filled in. It owns a reference to file.
//
// IRQL:    <= APC_LEVEL
// Returns: NULL when there is no pool
IRP *io_build_irp(FILE_OBJECT *file, uint8_t major)
{
    ASSERT_IRQL(<=, APC_LEVEL);
    const KTHREAD *thread = KeGetCurrentThread();
    if (mm_is_too_much(thread->io.count + thread->Process->io.count))
        return NULL;
    IRP *irp = allocate(file->DeviceObject->StackSize);
    if (!irp)
        return NULL;
    ObReferenceObject(file);
    irp->OriginalFileObject = file;
    IO_STACK_LOCATION *location = IoGetNextIrpStackLocation(irp);
    location->MajorFunction = major;
    location->FileObject = file;
    ki_trace(TRACE_IRP_BUILT, major, irp->id);
    return irp;
}

// Frees an IRP that is on no list, with all that it owns.
//
// IRQL:    <= DISPATCH_LEVEL
void io_discard_irp(IRP *irp)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    if (irp->MdlAddress)
        iop_release_mdl(irp);
    if (irp->SystemBuffer)
        ExFreePoolWithTag(irp->SystemBuffer, IOP_TAG);
    if (irp->UserEvent)
        ObDereferenceObject(irp->UserEvent);
    if (irp->flags & IRP_ON_FILE)
        ObDereferenceObject(irp->Thread);
    if (irp->OriginalFileObject)
        ObDereferenceObject(irp->OriginalFileObject);
    release(irp);
}

// How many IRPs are allocated and not freed, kept ones not counted. A moment's
// picture, taken without a lock: one freed meanwhile may be missing twice.
//
// IRQL:    any level
uint64_t io_irp_count(void)
{
    uint64_t kept = 0;
    for (uint32_t i = 0; i < KeNumberProcessors; i++)
        kept += ki_processor[i]->irps.depth;
    uint64_t all = irps_from_pool;
    return all > kept ? all - kept : 0;
}

// ---- Down the stack -------------------------------------------------------

_Noreturn static void no_more_locations(const IRP *irp)
{
    KeBugCheckEx(NO_MORE_IRP_STACK_LOCATIONS, (uintptr_t)irp, 0, 0, 0);
}

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
        no_more_locations(irp);
    IO_STACK_LOCATION *location = --irp->location;
    location->DeviceObject = device;
    ki_trace(TRACE_IRP_CALL, location->MajorFunction, irp->id);
    return device->DriverObject->MajorFunction[location->MajorFunction](
        device, irp);
}
