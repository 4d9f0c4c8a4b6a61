// file.c - opening and closing: the life of a FILE_OBJECT.

#include "kernel/io/iop.h"

KSPIN_LOCK io_files_lock;
LIST_ENTRY io_files = { &io_files, &io_files };    // guarded by io_files_lock
bool (*io_cancel_of_threads)(const io_filter *filter);
bool (*io_try_threads)(KPROCESS *process, io_try_thread *try, void *context);

// Opens an NT name; waits for the driver. The file keeps the reference to
// the device that the name led to, and belongs to the top of its stack.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: the driver's status, STATUS_OBJECT_NAME_NOT_FOUND,
//          STATUS_OBJECT_NAME_INVALID, STATUS_INSUFFICIENT_RESOURCES
NTSTATUS io_create_file(const char *name, ACCESS_MASK access,
                        uint32_t disposition, uint32_t options,
                        FILE_OBJECT **result, uintptr_t *information)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    char rest[OB_MAX_NAME];
    DEVICE_OBJECT *device;    // nothing else has a name
    FILE_OBJECT *file;
    NT_TRY(ob_lookup_name(name, (void **)&device, rest));
    size_t size = rtl_strlen(rest) + 1;
    NTSTATUS status = ob_create_object(&io_file_type, sizeof(*file) + size,
                                       (void **)&file);
    if (!NT_SUCCESS(status)) {
        ObDereferenceObject(device);
        return status;
    }
    file->FileName = memcpy(file + 1, rest, size);
    while (device->AttachedDevice)
        device = device->AttachedDevice;
    file->DeviceObject = device;
    file->Flags = options & FO_SYNCHRONOUS_IO;
    KeInitializeEvent(&file->Event, NotificationEvent, false);
    KeInitializeEvent(&file->Lock, SynchronizationEvent, true);
    ke_initialize_io_slot(&file->io);
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&io_files_lock);
    InsertTailList(&io_files, &file->all_entry);
    KeReleaseSpinLock(&io_files_lock, old);

    IO_STACK_LOCATION create = {
        .MajorFunction = IRP_MJ_CREATE,
        .Parameters.Create = { .Options = options, .access = access,
                               .disposition = (uint8_t)disposition } };
    status = io_request(file, &create, NULL, NULL, information);
    if (!NT_SUCCESS(status)) {
        ObDereferenceObject(file);
        return status;
    }
    file->Flags |= FO_OPENED;
    *result = file;    // an error leaves it alone
    return STATUS_SUCCESS;
}

// Cleanup and close, for a driver that agreed to the open.
static void tell_driver(FILE_OBJECT *file, uint8_t major)
{
    if (file->Flags & FO_OPENED)
        io_request(file, &(IO_STACK_LOCATION){ .MajorFunction = major }, NULL,
                   NULL, NULL);
}

// A process closed its last handle. Others have some left: of its requests
// only those end that nothing but the port would have told about (CAN-12).
// The last of all ends whatever hangs here or, as each request keeps the file,
// on a thread, and is the driver's cleanup (CAN-11).
static void close_file(EPROCESS *process, void *object, uint32_t handles)
{
    FILE_OBJECT *file = object;
    if (handles) {
        // An EPROCESS begins with its KPROCESS, as any dispatcher object does.
        const io_filter filter = { .file = file, .by_packet = true,
                                   .process = (KPROCESS *)process };
        io_cancel(&file->io, &filter);
        if (file->CompletionPort)    // what was sent before it was bound
            io_cancel_of_threads(&filter);
        return;
    }
    __atomic_or_fetch(&file->Flags, FO_CLEANUP_DONE, __ATOMIC_RELAXED);
    io_cancel(&file->io, &(io_filter){ 0 });
    if (ob_header(file)->PointerCount > 1)
        io_cancel_of_threads(&(io_filter){ .file = file });
    tell_driver(file, IRP_MJ_CLEANUP);
}

static void delete_file(void *object)
{
    FILE_OBJECT *file = object;
    tell_driver(file, IRP_MJ_CLOSE);
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&io_files_lock);
    RemoveEntryList(&file->all_entry);
    KeReleaseSpinLock(&io_files_lock, old);
    if (file->CompletionPort)
        ObDereferenceObject(file->CompletionPort);
    DEVICE_OBJECT *device = file->DeviceObject;
    while (device->attached_to)
        device = device->attached_to;    // the one that the name led to
    ObDereferenceObject(device);
}

OBJECT_TYPE io_file_type = {
    .name = "File", .generic_read = FILE_READ_DATA | FILE_READ_ATTRIBUTES |
                                    SYNCHRONIZE,
    .generic_write = FILE_WRITE_DATA | FILE_APPEND_DATA | SYNCHRONIZE,
    .valid_access = ALL_ACCESS, .close = close_file, .delete = delete_file,
};
