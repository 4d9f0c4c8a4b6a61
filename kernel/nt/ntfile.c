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
    FILE_OBJECT *object;
    IO_STATUS_BLOCK result = { .Pointer = NULL };

    NTSTATUS status = nt_capture_name(attributes, name);
    if (!NT_SUCCESS(status))
        return status;
    if (disposition > FILE_OVERWRITE_IF)
        return STATUS_INVALID_PARAMETER;
    access = ob_map_access(&io_file_type, access);
    status = io_create_file(name, access, disposition, options, &object,
                            &result.Information);
    if (!NT_SUCCESS(status))
        return status;
    status = ke_put_user(iosb, &result);
    if (!NT_SUCCESS(status)) {
        ObDereferenceObject(object);
        return status;
    }
    return ob_insert_for_user(object, access, file);
}

static NTSTATUS reference_file(HANDLE handle, ACCESS_MASK access,
                               FILE_OBJECT **file)
{
    void *object;
    NTSTATUS status = ob_reference_by_handle(handle, access, &io_file_type,
                                             &object, NULL);
    *file = NT_SUCCESS(status) ? object : NULL;
    return status;
}

// Stores information and status; both or an error.
static NTSTATUS store(void *buffer, const void *information, size_t length,
                      IO_STATUS_BLOCK *iosb, NTSTATUS status)
{
    IO_STATUS_BLOCK result = { .Pointer = (void *)(uint64_t)(uint32_t)status,
                               .Information = length };
    NTSTATUS stored = ke_copy_to_user(buffer, information, length);
    if (NT_SUCCESS(stored))
        stored = ke_put_user(iosb, &result);
    return NT_SUCCESS(stored) ? status : stored;
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
    union {
        FILE_STANDARD_INFORMATION standard;
        FILE_POSITION_INFORMATION position;
    } information = { 0 };
    size_t size = information_class == FileStandardInformation
                      ? sizeof(information.standard)
                      : sizeof(information.position);
    if (information_class != FileStandardInformation &&
        information_class != FilePositionInformation)
        return STATUS_INVALID_INFO_CLASS;
    if (length < size)
        return STATUS_INFO_LENGTH_MISMATCH;
    FILE_OBJECT *object;
    NTSTATUS status = reference_file(file, 0, &object);
    if (!NT_SUCCESS(status))
        return status;
    if (information_class == FilePositionInformation)
        information.position.CurrentByteOffset = object->CurrentByteOffset;
    else
        status = io_request(
            object, &(IO_STACK_LOCATION){
                .MajorFunction = IRP_MJ_QUERY_INFORMATION,
                .Parameters.QueryFile = { (uint32_t)size, information_class }
            }, NULL, &information, NULL);
    ObDereferenceObject(object);
    return NT_SUCCESS(status) ? store(buffer, &information, size, iosb, status)
                              : status;
}

static NTSTATUS bind_port(FILE_OBJECT *file,
                          const FILE_COMPLETION_INFORMATION *completion)
{
    void *port;
    NTSTATUS status = ob_reference_by_handle(
        completion->Port, IO_COMPLETION_MODIFY_STATE, &io_port_type, &port,
        NULL);
    if (!NT_SUCCESS(status))
        return status;
    status = io_bind_port(file, port, completion->Key);
    ObDereferenceObject(port);
    return status;
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
    NTSTATUS status = KeWaitForSingleObject(&file->Lock, Executive, UserMode,
                                            false, NULL);
    if (status != STATUS_SUCCESS)
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
    union {
        FILE_POSITION_INFORMATION position;
        FILE_COMPLETION_INFORMATION completion;
        FILE_IO_COMPLETION_NOTIFICATION_INFORMATION modes;
    } information = { 0 };
    size_t size;
    switch (information_class) {
    case FilePositionInformation: size = sizeof(information.position); break;
    case FileCompletionInformation:
        size = sizeof(information.completion);
        break;
    case FileIoCompletionNotificationInformation:
        size = sizeof(information.modes);
        break;
    default: return STATUS_INVALID_INFO_CLASS;
    }
    if (length < size)
        return STATUS_INFO_LENGTH_MISMATCH;
    NTSTATUS status = ke_copy_from_user(&information, buffer, size);
    FILE_OBJECT *object = NULL;
    if (NT_SUCCESS(status))
        status = reference_file(file, 0, &object);
    if (!NT_SUCCESS(status))
        return status;
    if (information_class == FilePositionInformation)
        status = set_position(object, information.position.CurrentByteOffset);
    else if (information_class == FileCompletionInformation)
        status = bind_port(object, &information.completion);
    else
        status = add_modes(object, information.modes.Flags);
    ObDereferenceObject(object);
    return NT_SUCCESS(status) ? store(buffer, NULL, 0, iosb, status) : status;
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
    FILE_OBJECT *object;
    length = MIN(length, (uint32_t)MAXIMUM_DIRECTORY_BUFFER);
    if (length < sizeof(FILE_NAMES_INFORMATION))
        return STATUS_BUFFER_TOO_SMALL;
    NTSTATUS status = reference_file(file, FILE_LIST_DIRECTORY, &object);
    if (!NT_SUCCESS(status))
        return status;
    void *names = ExAllocatePoolWithTag(NonPagedPool, length, NT_POOL_TAG);
    uintptr_t size = 0;
    status = STATUS_INSUFFICIENT_RESOURCES;
    if (names) {
        memset(names, 0, length);
        status = io_request(
            object, &(IO_STACK_LOCATION){
                .MajorFunction = IRP_MJ_DIRECTORY_CONTROL,
                .Parameters.QueryDirectory = { length, nt_bool(restart) }
            }, NULL, names, &size);
    }
    ObDereferenceObject(object);
    if (NT_SUCCESS(status))
        status = store(buffer, names, MIN(size, length), iosb, status);
    if (names)
        ExFreePoolWithTag(names, NT_POOL_TAG);
    return status;
}
