// device.c - drivers, their devices, and one request at a time for each.

#include "kernel/io/iop.h"

uint32_t io_disk_count;
uint64_t io_request_timeout;

// ---- Drivers and devices --------------------------------------------------

// Ends a request that needs, or gets, no device, as dispatch routines do in
// their last line.
//
// IRQL:    <= DISPATCH_LEVEL, no spin lock held
// Returns: status
NTSTATUS io_complete(IRP *irp, NTSTATUS status, uintptr_t information)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = information;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return status;
}

static NTSTATUS invalid_request(DEVICE_OBJECT *, IRP *irp)
{
    return io_complete(irp, STATUS_INVALID_DEVICE_REQUEST, 0);
}

static NTSTATUS succeed(DEVICE_OBJECT *, IRP *irp)
{
    return io_complete(irp, STATUS_SUCCESS, 0);
}

// IRP_MJ_CREATE of a device that leaves it alone: the device is there, is no
// directory, and below it is nothing.
static NTSTATUS open_device(DEVICE_OBJECT *, IRP *irp)
{
    const IO_STACK_LOCATION *stack = IoGetCurrentIrpStackLocation(irp);
    bool directory = stack->Parameters.Create.Options & FILE_DIRECTORY_FILE;
    bool new = stack->Parameters.Create.disposition == FILE_CREATE;
    NTSTATUS status =
        *stack->FileObject->FileName ? STATUS_OBJECT_NAME_NOT_FOUND
        : new ? STATUS_OBJECT_NAME_COLLISION
        : directory ? STATUS_NOT_A_DIRECTORY : STATUS_SUCCESS;
    return io_complete(irp, status, FILE_OPENED);
}

// Makes a driver's object and lets its entry routine fill it in. Drivers stay
// for ever.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: what the entry routine returns, STATUS_INSUFFICIENT_RESOURCES
NTSTATUS io_load_driver(const char *name, DRIVER_INITIALIZE *entry)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    DRIVER_OBJECT *driver =
        ExAllocatePoolWithTag(NonPagedPool, sizeof(*driver), IO_TAG);
    if (!driver)
        return STATUS_INSUFFICIENT_RESOURCES;
    memset(driver, 0, sizeof(*driver));
    driver->DriverName = name;
    for (size_t i = 0; i < ARRAY_SIZE(driver->MajorFunction); i++)
        driver->MajorFunction[i] = invalid_request;
    driver->MajorFunction[IRP_MJ_CREATE] = open_device;
    driver->MajorFunction[IRP_MJ_CLEANUP] = succeed;
    driver->MajorFunction[IRP_MJ_CLOSE] = succeed;
    return entry(driver);
}

OBJECT_TYPE iop_device_type = { .name = "Device" };

// Makes a device of a driver. name: "\\Device\\X", static, or NULL;
// extension_size: zeroed bytes for the driver.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INSUFFICIENT_RESOURCES,
//          STATUS_OBJECT_NAME_COLLISION
// NT:      IoCreateDevice (WDK). Left out: DeviceCharacteristics, Exclusive.
NTSTATUS IoCreateDevice(DRIVER_OBJECT *driver, uint32_t extension_size,
                        const char *name, uint32_t device_type,
                        DEVICE_OBJECT **device)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    DEVICE_OBJECT *new;
    NT_TRY(ob_create_object(&iop_device_type, sizeof(*new) + extension_size,
                            (void **)&new));
    new->DriverObject = driver;
    new->DeviceExtension = new + 1;
    new->DeviceType = device_type;
    new->StackSize = 1;
    new->name = name ? name : driver->DriverName;
    for (const char *c = new->name; *c; c++)
        if (*c == '\\')
            new->name = c + 1;
    KeInitializeDeviceQueue(&new->DeviceQueue);
    NTSTATUS status = name ? ob_insert_name(name, new) : STATUS_SUCCESS;
    if (!NT_SUCCESS(status)) {
        ObDereferenceObject(new);
        return status;
    }
    new->NextDevice = driver->DeviceObject;
    driver->DeviceObject = new;
    *device = new;
    return STATUS_SUCCESS;
}

// Gives a device a name for programs: "\\??\\X" -> "\\Device\\Y".
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INSUFFICIENT_RESOURCES,
//          STATUS_OBJECT_NAME_COLLISION
//          STATUS_OBJECT_NAME_NOT_FOUND    target is no device's name
// NT:      IoCreateSymbolicLink (WDK). Left out: a target that comes later.
NTSTATUS IoCreateSymbolicLink(const char *link, const char *target)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    char rest[OB_MAX_NAME];
    void *device;
    NT_TRY(ob_lookup_name(target, &device, rest));
    NTSTATUS status = rest[0] ? STATUS_OBJECT_NAME_NOT_FOUND
                              : ob_insert_name(link, device);
    ObDereferenceObject(device);
    return status;
}

// Puts source on top of the stack that target is in.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: the device that source lies on now; NULL: the stack is full
// NT:      IoAttachDeviceToDeviceStack (WDK).
DEVICE_OBJECT *IoAttachDeviceToDeviceStack(DEVICE_OBJECT *source,
                                           DEVICE_OBJECT *target)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    while (target->AttachedDevice)
        target = target->AttachedDevice;
    if (target->StackSize == IO_MAXIMUM_STACK)
        return NULL;
    target->AttachedDevice = source;
    source->attached_to = target;
    source->StackSize = (int8_t)(target->StackSize + 1);
    source->SectorSize = target->SectorSize;
    source->seekable = target->seekable;
    return target;
}

// ---- One request at a time ------------------------------------------------

// Starts a request if the device is idle, else queues it (DVQ-03). With a
// cancel routine all of it happens under the cancel lock; without one the IRP
// may be gone as soon as it is queued.
//
// IRQL:    <= DISPATCH_LEVEL
// NT:      IoStartPacket (WDK).
void IoStartPacket(DEVICE_OBJECT *device, IRP *irp, const uint32_t *key,
                   DRIVER_CANCEL *cancel)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KIRQL old = KeRaiseIrqlToDpcLevel();
    KIRQL irql = DISPATCH_LEVEL;
    uint32_t id = irp->id;
    if (cancel) {
        IoAcquireCancelSpinLock(&irql);
        IoSetCancelRoutine(irp, cancel);
    }
    irp->state = IrpQueued;
    KDEVICE_QUEUE_ENTRY *entry = &irp->Tail.DeviceQueueEntry;
    bool queued = key ? KeInsertByKeyDeviceQueue(&device->DeviceQueue, entry,
                                                 *key)
                      : KeInsertDeviceQueue(&device->DeviceQueue, entry);
    if (queued)
        ki_trace(TRACE_IRP_QUEUED, 0, id);
    else
        device->CurrentIrp = irp;
    // Queued, it may have been cancelled before it had its routine (CAN-10).
    if (cancel)
        iop_call_cancel_routine(irp, queued && irp->Cancel
                                         ? IoSetCancelRoutine(irp, NULL)
                                         : NULL, irql);
    if (!queued)
        device->DriverObject->DriverStartIo(device, irp);
    KeLowerIrql(old);
}

// Takes the next request in line to the device; none: the device is idle.
//
// IRQL:    == DISPATCH_LEVEL
// NT:      IoStartNextPacket (WDK).
void IoStartNextPacket(DEVICE_OBJECT *device, bool cancelable)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    KIRQL irql = DISPATCH_LEVEL;
    if (cancelable)
        IoAcquireCancelSpinLock(&irql);
    // Found empty, the queue is anybody's who starts the next one (DVQ-03).
    device->CurrentIrp = NULL;
    KDEVICE_QUEUE_ENTRY *entry = KeRemoveDeviceQueue(&device->DeviceQueue);
    IRP *irp = entry ? CONTAINING_RECORD(entry, IRP, Tail.DeviceQueueEntry)
                     : NULL;
    if (irp)
        device->CurrentIrp = irp;
    if (cancelable)
        IoReleaseCancelSpinLock(irql);
    if (irp)
        device->DriverObject->DriverStartIo(device, irp);
}

// Prepares the device's own DPC; its routine is a KDEFERRED_ROUTINE but for
// the names of the pointers that it gets.
//
// IRQL:    == PASSIVE_LEVEL
// NT:      IoInitializeDpcRequest (WDK).
void IoInitializeDpcRequest(DEVICE_OBJECT *device, IO_DPC_ROUTINE *routine)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    KeInitializeDpc(&device->Dpc, (KDEFERRED_ROUTINE *)(void *)routine, device);
}

// Queues the device's own DPC, from its ISR (DPC-12).
//
// IRQL:    any level
// NT:      IoRequestDpc (WDK).
void IoRequestDpc(DEVICE_OBJECT *device, IRP *irp, void *context)
{
    KeInsertQueueDpc(&device->Dpc, irp, context);
}
