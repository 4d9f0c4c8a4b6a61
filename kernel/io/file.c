// file.c - opening and closing: the life of a FILE_OBJECT.

#include "kernel/io/iop.h"

enum { STACK_LOCATIONS = 4 };    // of an IRP that lies on the stack

static void close_file(EPROCESS *process, void *object, uint32_t handles);
static void delete_file(void *object);

OBJECT_TYPE io_file_type = {
    .name = "File", .generic_read = FILE_READ_DATA | FILE_READ_ATTRIBUTES |
                                    SYNCHRONIZE,
    .generic_write = FILE_WRITE_DATA | FILE_APPEND_DATA | SYNCHRONIZE,
    .valid_access = ALL_ACCESS, .close = close_file, .delete = delete_file,
};

KSPIN_LOCK io_files_lock;
LIST_ENTRY io_files;             // guarded by io_files_lock

static void init_file(FILE_OBJECT *file, DEVICE_OBJECT *device,
                      uint32_t options)
{
    while (device->AttachedDevice)
        device = device->AttachedDevice;
    file->DeviceObject = device;
    if (options & (FILE_SYNCHRONOUS_IO_ALERT | FILE_SYNCHRONOUS_IO_NONALERT))
        file->Flags |= FO_SYNCHRONOUS_IO;
    if (options & FILE_SYNCHRONOUS_IO_ALERT)
        file->Flags |= FO_ALERTABLE_IO;
    KeInitializeEvent(&file->Event, NotificationEvent, false);
    KeInitializeEvent(&file->Lock, SynchronizationEvent, true);
    KeInitializeSpinLock(&file->irp_lock);
    InitializeListHead(&file->irps);
    KIRQL old;
    KeAcquireSpinLock(&io_files_lock, &old);
    InsertTailList(&io_files, &file->all_entry);
    KeReleaseSpinLock(&io_files_lock, old);
}

// Makes the FILE_OBJECT for what a name led to. rest: what the namespace left
// of the name. The file keeps the reference to the device.
static NTSTATUS make_file(void *object, const char *rest, uint32_t options,
                          FILE_OBJECT **file)
{
    if (ob_header(object)->Type != &iop_device_type) {
        ObDereferenceObject(object);
        return STATUS_OBJECT_TYPE_MISMATCH;
    }
    size_t size = rtl_strlen(rest) + 1;
    char *name = ExAllocatePoolWithTag(NonPagedPool, size, IOP_TAG);
    void *new = NULL;
    NTSTATUS status = name ? ob_create_object(&io_file_type,
                                              sizeof(FILE_OBJECT), &new)
                           : STATUS_INSUFFICIENT_RESOURCES;
    if (!NT_SUCCESS(status)) {
        if (name)
            ExFreePoolWithTag(name, IOP_TAG);
        ObDereferenceObject(object);
        return status;
    }
    memcpy(name, rest, size);
    *file = new;
    (*file)->FileName = name;
    init_file(*file, object, options);
    return STATUS_SUCCESS;
}

// Opens an NT name; waits for the driver.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: the driver's status, STATUS_OBJECT_NAME_NOT_FOUND,
//          STATUS_OBJECT_NAME_INVALID, STATUS_OBJECT_TYPE_MISMATCH,
//          STATUS_INSUFFICIENT_RESOURCES
NTSTATUS io_create_file(const char *name, ACCESS_MASK access,
                        uint32_t disposition, uint32_t options,
                        FILE_OBJECT **file, uintptr_t *information)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    char rest[OB_MAX_NAME];
    void *object;
    FILE_OBJECT *new;
    NTSTATUS status = ob_lookup_name(name, &object, rest);
    if (!NT_SUCCESS(status))
        return status;
    status = make_file(object, rest, options, &new);
    if (!NT_SUCCESS(status))
        return status;
    IRP *irp = io_build_irp(new, IRP_MJ_CREATE);
    if (!irp) {
        ObDereferenceObject(new);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    IO_STACK_LOCATION *location = IoGetNextIrpStackLocation(irp);
    location->Parameters.Create.Options = options;
    location->Parameters.Create.access = access;
    location->Parameters.Create.disposition = (uint8_t)disposition;
    status = io_send_and_wait(new, irp, information);
    if (!NT_SUCCESS(status)) {
        ObDereferenceObject(new);
        return status;
    }
    new->Flags |= FO_OPENED;
    *file = new;
    return STATUS_SUCCESS;
}

// Sends cleanup or close with an IRP on the stack: closing cannot fail for
// want of memory.
//
// IRQL:    == PASSIVE_LEVEL
void iop_send_from_stack(FILE_OBJECT *file, uint8_t major)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    DEVICE_OBJECT *device = file->DeviceObject;
    ASSERT(device->StackSize <= STACK_LOCATIONS);
    union {
        IRP irp;
        uint8_t bytes[sizeof(IRP) +
                      STACK_LOCATIONS * sizeof(IO_STACK_LOCATION)];
    } room;
    KEVENT done;
    IO_STATUS_BLOCK iosb;
    KeInitializeEvent(&done, NotificationEvent, false);
    IRP *irp = &room.irp;
    iop_initialize_irp(irp, device->StackSize);
    irp->flags = IRP_KERNEL_WAIT;
    irp->UserEvent = &done;
    irp->UserIosb = &iosb;
    irp->OriginalFileObject = file;
    IoGetNextIrpStackLocation(irp)->MajorFunction = major;
    IoGetNextIrpStackLocation(irp)->FileObject = file;
    // A close may be sent by the idle thread, which never waits: the drivers
    // complete it in the call.
    if (IoCallDriver(device, irp) == STATUS_PENDING)
        KeWaitForSingleObject(&done, Executive, KernelMode, false, NULL);
}

// A process closed its last handle, handles are left in others; the last of
// all is the driver's cleanup, and the end of what only the port would have
// told about (CAN-11).
static void close_file(EPROCESS *process, void *object, uint32_t handles)
{
    (void)process;
    FILE_OBJECT *file = object;
    if (handles || file->Flags & FO_CLEANUP_DONE)
        return;
    file->Flags |= FO_CLEANUP_DONE;
    io_cancel_on_file(file, NULL, NULL, NULL);
    if (file->Flags & FO_OPENED)
        iop_send_from_stack(file, IRP_MJ_CLEANUP);
}

static void delete_file(void *object)
{
    FILE_OBJECT *file = object;
    if (file->Flags & FO_OPENED)
        iop_send_from_stack(file, IRP_MJ_CLOSE);
    KIRQL old;
    KeAcquireSpinLock(&io_files_lock, &old);
    RemoveEntryList(&file->all_entry);
    KeReleaseSpinLock(&io_files_lock, old);
    if (file->CompletionPort)
        ObDereferenceObject(file->CompletionPort);
    ExFreePoolWithTag(file->FileName, IOP_TAG);
    DEVICE_OBJECT *device = file->DeviceObject;
    while (device->attached_to)
        device = device->attached_to;    // the one that the name led to
    ObDereferenceObject(device);
}

// Cancels a dying process's port-bound requests, wherever they hang.
//
// IRQL:    == PASSIVE_LEVEL
void iop_cancel_for_process(KPROCESS *process)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    KIRQL old;
    KeAcquireSpinLock(&io_files_lock, &old);
    RTL_FOR_EACH(entry, &io_files)
        io_cancel_on_file(CONTAINING_RECORD(entry, FILE_OBJECT, all_entry),
                          process, NULL, NULL);
    KeReleaseSpinLock(&io_files_lock, old);
}
