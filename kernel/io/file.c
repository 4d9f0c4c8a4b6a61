// file.c - opening and closing: the life of a FILE_OBJECT.

#include "kernel/io/iop.h"

static void close_file(EPROCESS *process, void *object, uint32_t handles);
static void delete_file(void *object);

OBJECT_TYPE io_file_type = {
    .name = "File", .generic_read = FILE_READ_DATA | FILE_READ_ATTRIBUTES |
                                    SYNCHRONIZE,
    .generic_write = FILE_WRITE_DATA | FILE_APPEND_DATA | SYNCHRONIZE,
    .valid_access = ALL_ACCESS, .close = close_file, .delete = delete_file,
};

KSPIN_LOCK io_files_lock;
LIST_ENTRY io_files = { &io_files, &io_files };    // guarded by io_files_lock
bool (*io_cancel_of_threads)(const io_filter *filter);
void (*io_for_each_thread)(void (*each)(ETHREAD *thread, void *context),
                           void *context);

// Makes the FILE_OBJECT for the stack of a device, and keeps the reference to
// that. name: what the namespace left of the name.
static NTSTATUS make_file(DEVICE_OBJECT *device, const char *name,
                          uint32_t options, FILE_OBJECT **result)
{
    size_t size = rtl_strlen(name) + 1;
    FILE_OBJECT *file;
    NT_TRY(ob_create_object(&io_file_type, sizeof(*file) + size,
                            (void **)&file));
    *result = file;
    file->FileName = memcpy(file + 1, name, size);
    while (device->AttachedDevice)
        device = device->AttachedDevice;
    file->DeviceObject = device;
    if (options & (FILE_SYNCHRONOUS_IO_ALERT | FILE_SYNCHRONOUS_IO_NONALERT))
        file->Flags |= FO_SYNCHRONOUS_IO;
    if (options & FILE_SYNCHRONOUS_IO_ALERT)
        file->Flags |= FO_ALERTABLE_IO;
    KeInitializeEvent(&file->Event, NotificationEvent, false);
    KeInitializeEvent(&file->Lock, SynchronizationEvent, true);
    ke_initialize_io_slot(&file->io);
    KIRQL old;
    KeAcquireSpinLock(&io_files_lock, &old);
    InsertTailList(&io_files, &file->all_entry);
    KeReleaseSpinLock(&io_files_lock, old);
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
    void *object;    // a device: nothing else has a name
    NT_TRY(ob_lookup_name(name, &object, rest));
    FILE_OBJECT *new;
    NTSTATUS status = make_file(object, rest, options, &new);
    if (!NT_SUCCESS(status)) {
        ObDereferenceObject(object);
        return status;
    }
    IO_STACK_LOCATION create = {
        .MajorFunction = IRP_MJ_CREATE,
        .Parameters.Create = { .Options = options, .access = access,
                               .disposition = (uint8_t)disposition } };
    status = io_request(new, &create, NULL, NULL, information);
    if (!NT_SUCCESS(status)) {
        ObDereferenceObject(new);
        return status;
    }
    new->Flags |= FO_OPENED;
    *file = new;    // an error leaves it alone
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
    file->Flags |= FO_CLEANUP_DONE;
    io_cancel(&file->io, &(io_filter){ 0 });
    if (ob_header(file)->PointerCount > 1)
        io_cancel_of_threads(&(io_filter){ .file = file });
    tell_driver(file, IRP_MJ_CLEANUP);
}

static void delete_file(void *object)
{
    FILE_OBJECT *file = object;
    tell_driver(file, IRP_MJ_CLOSE);
    KIRQL old;
    KeAcquireSpinLock(&io_files_lock, &old);
    RemoveEntryList(&file->all_entry);
    KeReleaseSpinLock(&io_files_lock, old);
    if (file->CompletionPort)
        ObDereferenceObject(file->CompletionPort);
    DEVICE_OBJECT *device = file->DeviceObject;
    while (device->attached_to)
        device = device->attached_to;    // the one that the name led to
    ObDereferenceObject(device);
}
