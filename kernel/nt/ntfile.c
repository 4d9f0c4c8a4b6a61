// ntfile.c - opening files, and asking and telling what is known about them.

#include "kernel/nt/ntp.h"

#include "kernel/ex/ex.h"
#include "kernel/io/io.h"
#include "kernel/rtl/rtl.h"

enum { MAXIMUM_DIRECTORY_BUFFER = 65536 };

// Opens or creates a file or a device.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, *file is the handle, iosb->Information FILE_OPENED
//          and so on
//          STATUS_ACCESS_VIOLATION       a pointer is not ring 3's
//          STATUS_OBJECT_NAME_INVALID, STATUS_OBJECT_NAME_NOT_FOUND,
//          STATUS_OBJECT_TYPE_MISMATCH   the name
//          STATUS_INVALID_PARAMETER      disposition
//          STATUS_INSUFFICIENT_RESOURCES no pool, or no handle is left
//          or what the driver answered
// NT:      NtCreateFile (WDK). Left out: AllocationSize, FileAttributes, EA.
NTSTATUS NtCreateFile(HANDLE *file, ACCESS_MASK access,
                      const OBJECT_ATTRIBUTES *attributes,
                      IO_STATUS_BLOCK *iosb, uint32_t share,
                      uint32_t disposition, uint32_t options)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    (void)share;
    char name[OB_MAX_NAME];
    uintptr_t information = 0;

    NT_TRY(nt_capture_name(attributes, name));
    if (disposition > FILE_OVERWRITE_IF)
        return STATUS_INVALID_PARAMETER;
    access = ob_map_access(&io_file_type, access);
    NT_OWNED FILE_OBJECT *object = NULL;
    NT_TRY(io_create_file(name, access, disposition, options, &object,
                          &information));
    NT_TRY(nt_put_iosb(iosb, STATUS_SUCCESS, information));
    ObReferenceObject(object);
    return ob_insert_for_user(object, access, file);
}

// Stores information and status; both or an error.
static NTSTATUS store(void *buffer, const void *information, size_t length,
                      IO_STATUS_BLOCK *iosb, NTSTATUS status)
{
    NT_TRY(ke_copy_to_user(buffer, information, length));
    return nt_put_iosb(iosb, status, length);
}

// Asks for FileStandardInformation or FilePositionInformation.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INFO_LENGTH_MISMATCH,
//          STATUS_INVALID_INFO_CLASS, STATUS_INVALID_HANDLE,
//          STATUS_OBJECT_TYPE_MISMATCH, STATUS_ACCESS_VIOLATION, or the
//          driver's
// NT:      NtQueryInformationFile (WDK).
NTSTATUS NtQueryInformationFile(HANDLE file, IO_STATUS_BLOCK *iosb,
                                void *buffer, uint32_t length,
                                FILE_INFORMATION_CLASS information_class)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    FILE_STANDARD_INFORMATION standard = { 0 };
    FILE_POSITION_INFORMATION position = { 0 };
    bool is_position = information_class == FilePositionInformation;
    uint32_t size = is_position ? sizeof(position) : sizeof(standard);
    if (!is_position && information_class != FileStandardInformation)
        return STATUS_INVALID_INFO_CLASS;
    if (length < size)
        return STATUS_INFO_LENGTH_MISMATCH;
    NT_REFERENCE(FILE_OBJECT, object, file, 0, io_file_type);
    if (is_position) {
        position.CurrentByteOffset = object->CurrentByteOffset;
        return store(buffer, &position, size, iosb, STATUS_SUCCESS);
    }
    NTSTATUS status = io_request(
        object, &(IO_STACK_LOCATION){
            .MajorFunction = IRP_MJ_QUERY_INFORMATION,
            .Parameters.QueryFile = { (uint32_t)size, information_class }
        }, NULL, &standard, NULL);
    NT_TRY(status);
    return store(buffer, &standard, size, iosb, status);
}

static NTSTATUS bind_port(FILE_OBJECT *file,
                          const FILE_COMPLETION_INFORMATION *completion)
{
    NT_REFERENCE(KQUEUE, port, completion->Port, IO_COMPLETION_MODIFY_STATE,
                 io_port_type);
    return io_bind_port(file, port, completion->Key);
}

// Modes can only be added (IOCP-23).
static NTSTATUS add_modes(FILE_OBJECT *file, uint32_t modes)
{
    if (file->Flags & FO_SYNCHRONOUS_IO ||
        modes & ~(FILE_SKIP_COMPLETION_PORT_ON_SUCCESS |
                  FILE_SKIP_SET_EVENT_ON_HANDLE))
        return STATUS_INVALID_PARAMETER;
    uint32_t flags =
        (modes & FILE_SKIP_COMPLETION_PORT_ON_SUCCESS ? FO_SKIP_PORT : 0) |
        (modes & FILE_SKIP_SET_EVENT_ON_HANDLE ? FO_SKIP_EVENT : 0);
    __atomic_or_fetch(&file->Flags, flags, __ATOMIC_RELAXED);
    return STATUS_SUCCESS;
}

static NTSTATUS set_position(FILE_OBJECT *file, uint64_t offset)
{
    if ((int64_t)offset < 0 || !file->DeviceObject->seekable)
        return STATUS_INVALID_PARAMETER;
    if (KeWaitForSingleObject(&file->Lock, Executive, UserMode, false, NULL) !=
        STATUS_SUCCESS)
        return STATUS_CANCELLED;
    file->CurrentByteOffset = offset;
    KeSetEvent(&file->Lock, IO_NO_INCREMENT);
    return STATUS_SUCCESS;
}

// Sets FilePositionInformation, FileCompletionInformation (binds the file to a
// port), or FileIoCompletionNotificationInformation.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: as NtQueryInformationFile; STATUS_INVALID_PARAMETER: the position,
//          the port or the modes do not fit this file (IOCP-16, -17, -23)
// NT:      NtSetInformationFile (WDK).
NTSTATUS NtSetInformationFile(HANDLE file, IO_STATUS_BLOCK *iosb,
                              void *buffer, uint32_t length,
                              FILE_INFORMATION_CLASS information_class)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    static const uint8_t sizes[] = {
        [FilePositionInformation] = sizeof(FILE_POSITION_INFORMATION),
        [FileCompletionInformation] = sizeof(FILE_COMPLETION_INFORMATION),
        [FileIoCompletionNotificationInformation] =
            sizeof(FILE_IO_COMPLETION_NOTIFICATION_INFORMATION),
    };
    union {
        FILE_POSITION_INFORMATION position;
        FILE_COMPLETION_INFORMATION completion;
        FILE_IO_COMPLETION_NOTIFICATION_INFORMATION modes;
    } information = { 0 };
    uint32_t class = (uint32_t)information_class;
    if (class >= ARRAY_SIZE(sizes) || !sizes[class])
        return STATUS_INVALID_INFO_CLASS;
    if (length < sizes[class])
        return STATUS_INFO_LENGTH_MISMATCH;
    NT_TRY(ke_copy_from_user(&information, buffer, sizes[class]));
    NT_REFERENCE(FILE_OBJECT, object, file, 0, io_file_type);
    NTSTATUS status;
    if (class == FilePositionInformation)
        status = set_position(object, information.position.CurrentByteOffset);
    else if (class == FileCompletionInformation)
        status = bind_port(object, &information.completion);
    else
        status = add_modes(object, information.modes.Flags);
    NT_TRY(status);
    return nt_put_iosb(iosb, status, 0);
}

// Lists a directory: as many whole entries as fit, on from where the last
// call on this handle stopped.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, iosb->Information bytes; STATUS_NO_MORE_FILES;
//          STATUS_BUFFER_TOO_SMALL; as NtReadFile otherwise
// NT:      NtQueryDirectoryFile (WDK). Left out: Event, APC, class, pattern;
//          it always waits.
NTSTATUS NtQueryDirectoryFile(HANDLE file, IO_STATUS_BLOCK *iosb,
                              void *buffer, uint32_t length, bool restart)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    length = MIN(length, (uint32_t)MAXIMUM_DIRECTORY_BUFFER);
    if (length < sizeof(FILE_NAMES_INFORMATION))
        return STATUS_BUFFER_TOO_SMALL;
    NT_REFERENCE(FILE_OBJECT, object, file, FILE_LIST_DIRECTORY, io_file_type);
    void *names = ExAllocatePoolWithTag(NonPagedPool, length, NT_POOL_TAG);
    if (!names)
        return STATUS_INSUFFICIENT_RESOURCES;
    memset(names, 0, length);
    uintptr_t size = 0;
    NTSTATUS status = io_request(
        object, &(IO_STACK_LOCATION){
            .MajorFunction = IRP_MJ_DIRECTORY_CONTROL,
            .Parameters.QueryDirectory = { length, nt_bool(restart) }
        }, NULL, names, &size);
    if (NT_SUCCESS(status))
        status = store(buffer, names, MIN(size, length), iosb, status);
    ExFreePoolWithTag(names, NT_POOL_TAG);
    return status;
}
