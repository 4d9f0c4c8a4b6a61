// ntfile.c - opening files, and asking and telling what is known about them.

#include "kernel/nt/ntp.h"

enum { MAXIMUM_DIRECTORY_BUFFER = 65536 };

// Opens or creates a file or a device.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, *file is the handle, iosb->Information FILE_OPENED
//          and so on
//          STATUS_ACCESS_VIOLATION       a pointer is not ring 3's
//          STATUS_OBJECT_NAME_INVALID, STATUS_OBJECT_NAME_NOT_FOUND
//                                        the name
//          STATUS_INVALID_PARAMETER      disposition, or options that exclude
//                                        each other
//          STATUS_INSUFFICIENT_RESOURCES no pool, or no handle is left
//          or what the driver answered
// NT:      NtCreateFile (WDK). Left out: AllocationSize, FileAttributes, EA.
NTSTATUS NtCreateFile(HANDLE *file, ACCESS_MASK access,
                      const OBJECT_ATTRIBUTES *attributes,
                      IO_STATUS_BLOCK *iosb, uint32_t, uint32_t disposition,
                      uint32_t options)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    char name[OB_MAX_NAME];
    uintptr_t information = 0;

    NT_TRY(nt_capture_name(attributes, name));
    if (disposition > FILE_OVERWRITE_IF ||
        (options & FILE_DIRECTORY_FILE && options & FILE_NON_DIRECTORY_FILE) ||
        (options & FO_SYNCHRONOUS_IO) == FO_SYNCHRONOUS_IO)
        return STATUS_INVALID_PARAMETER;
    access = ob_map_access(&io_file_type, access);
    NT_OWNED FILE_OBJECT *object = NULL;
    NT_TRY(io_create_file(name, access, disposition, options, &object,
                          &information));
    NT_TRY(nt_put_iosb(iosb, STATUS_SUCCESS, information));
    return ob_insert_for_user(object, access, file);
}

// Sends a request for information, and waits for it, whatever the handle is
// like; stores up to length bytes of what came, and the status.
static NTSTATUS ask(FILE_OBJECT *file, const IO_STACK_LOCATION *what,
                    void *information, size_t length, void *buffer,
                    IO_STATUS_BLOCK *iosb)
{
    uintptr_t size = 0;
    NTSTATUS status = io_request(file, what, NULL, information, &size);
    NT_TRY(status);
    size = MIN(size, length);
    NT_TRY(ke_copy_to_user(buffer, information, size));
    return nt_put_iosb(iosb, status, size);
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
                                FILE_INFORMATION_CLASS class)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    FILE_STANDARD_INFORMATION standard = { 0 };
    FILE_POSITION_INFORMATION position;
    bool is_position = class == FilePositionInformation;
    if (!is_position && class != FileStandardInformation)
        return STATUS_INVALID_INFO_CLASS;
    if (length < (is_position ? sizeof(position) : sizeof(standard)))
        return STATUS_INFO_LENGTH_MISMATCH;
    NT_REFERENCE(FILE_OBJECT, object, file, 0);
    if (!is_position)
        return ask(object, &(IO_STACK_LOCATION){
            .MajorFunction = IRP_MJ_QUERY_INFORMATION,
            .Parameters.QueryFile = { sizeof(standard), class }
        }, &standard, sizeof(standard), buffer, iosb);
    position.CurrentByteOffset = object->CurrentByteOffset;
    NT_TRY(ke_copy_to_user(buffer, &position, sizeof(position)));
    return nt_put_iosb(iosb, STATUS_SUCCESS, sizeof(position));
}

static NTSTATUS bind_port(FILE_OBJECT *file,
                          const FILE_COMPLETION_INFORMATION *completion)
{
    NT_REFERENCE(KQUEUE, port, completion->Port, IO_COMPLETION_MODIFY_STATE);
    return io_bind_port(file, port, completion->Key);
}

// Modes can only be added (IOCP-23).
static NTSTATUS add_modes(FILE_OBJECT *file, uint32_t modes)
{
    if (file->Flags & FO_SYNCHRONOUS_IO ||
        modes & ~(FO_SKIP_PORT | FO_SKIP_EVENT))
        return STATUS_INVALID_PARAMETER;
    __atomic_or_fetch(&file->Flags, modes, __ATOMIC_RELAXED);
    return STATUS_SUCCESS;
}

static NTSTATUS set_position(FILE_OBJECT *file, uint64_t offset)
{
    if ((int64_t)offset < 0 || !file->DeviceObject->seekable)
        return STATUS_INVALID_PARAMETER;
    NT_TRY(io_begin_turn(file, false));
    file->CurrentByteOffset = offset;
    io_end_turn(file);
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
                              FILE_INFORMATION_CLASS class)
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
    } information;
    if ((size_t)class >= ARRAY_SIZE(sizes) || !sizes[class])
        return STATUS_INVALID_INFO_CLASS;
    if (length < sizes[class])
        return STATUS_INFO_LENGTH_MISMATCH;
    NT_TRY(ke_copy_from_user(&information, buffer, sizes[class]));
    NT_REFERENCE(FILE_OBJECT, object, file, 0);
    NT_TRY(NT_PROBE(iosb));    // a port stays bound
    NT_TRY(class == FilePositionInformation
               ? set_position(object, information.position.CurrentByteOffset)
           : class == FileCompletionInformation
               ? bind_port(object, &information.completion)
               : add_modes(object, information.modes.Flags));
    return nt_put_iosb(iosb, STATUS_SUCCESS, 0);
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
    NT_REFERENCE(FILE_OBJECT, object, file, FILE_LIST_DIRECTORY);
    NT_POOL(void, names, length);
    return ask(object, &(IO_STACK_LOCATION){
        .MajorFunction = IRP_MJ_DIRECTORY_CONTROL,
        .Parameters.QueryDirectory = { length, nt_bool(restart) }
    }, names, length, buffer, iosb);
}
