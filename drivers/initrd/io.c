// io.c - the initrd as a file device: open, read, query, list.

#include "drivers/initrd/initrd.h"

#define INITRD_TAG EX_TAG('I', 'n', 'r', 'd')

// One open of a file or directory: FILE_OBJECT.FsContext.
struct opened {
    initrd_entry entry;
    size_t next;    // where the listing goes on
};

static const uint8_t *archive;
static size_t archive_length;

static struct opened *opened_of(IRP *irp)
{
    return IoGetCurrentIrpStackLocation(irp)->FileObject->FsContext;
}

// Finds what path names; "" is the root, which has no entry.
static bool find(const char *path, initrd_entry *found)
{
    size_t at = 0;
    *found = (initrd_entry){ .directory = true };
    bool same = !*path;
    while (!same && initrd_next_entry(archive, archive_length, &at, found))
        same = rtl_same_name(path, found->name, INITRD_MAX_NAME);
    return same;
}

// Whether what was found may be opened like this.
static NTSTATUS check_open(const IO_STACK_LOCATION *stack, bool directory)
{
    uint8_t disposition = stack->Parameters.Create.disposition;
    uint32_t options = stack->Parameters.Create.Options;
    if ((disposition != FILE_OPEN && disposition != FILE_OPEN_IF) ||
        stack->Parameters.Create.access & (FILE_WRITE_DATA | FILE_APPEND_DATA))
        return STATUS_MEDIA_WRITE_PROTECTED;
    if (directory && options & FILE_NON_DIRECTORY_FILE)
        return STATUS_FILE_IS_A_DIRECTORY;
    if (!directory && options & FILE_DIRECTORY_FILE)
        return STATUS_NOT_A_DIRECTORY;
    return STATUS_SUCCESS;
}

// IRP_MJ_CREATE.
static NTSTATUS create(DEVICE_OBJECT *, IRP *irp)
{
    const IO_STACK_LOCATION *stack = IoGetCurrentIrpStackLocation(irp);
    FILE_OBJECT *file = stack->FileObject;
    char path[INITRD_MAX_NAME];
    initrd_entry found;
    if (rtl_strlen(file->FileName) >= sizeof(path))
        return io_complete(irp, STATUS_OBJECT_NAME_NOT_FOUND, 0);
    initrd_clean_name(path, file->FileName);
    if (!find(path, &found))
        return io_complete(irp, STATUS_OBJECT_NAME_NOT_FOUND, 0);
    NTSTATUS status = check_open(stack, found.directory);
    if (!NT_SUCCESS(status))
        return io_complete(irp, status, 0);

    struct opened *opened =
        ExAllocatePoolWithTag(NonPagedPool, sizeof(*opened), INITRD_TAG);
    if (!opened)
        return io_complete(irp, STATUS_INSUFFICIENT_RESOURCES, 0);
    *opened = (struct opened){ .entry = found };
    file->FsContext = opened;
    return io_complete(irp, STATUS_SUCCESS, FILE_OPENED);
}

// IRP_MJ_CLOSE: the last reference to the file object is gone.
static NTSTATUS close(DEVICE_OBJECT *, IRP *irp)
{
    ExFreePoolWithTag(opened_of(irp), INITRD_TAG);
    return io_complete(irp, STATUS_SUCCESS, 0);
}

// IRP_MJ_READ: copies to the caller's pinned pages.
static NTSTATUS read(DEVICE_OBJECT *, IRP *irp)
{
    const IO_STACK_LOCATION *stack = IoGetCurrentIrpStackLocation(irp);
    const initrd_entry *file = &opened_of(irp)->entry;
    uint64_t offset = stack->Parameters.Read.ByteOffset;
    uint32_t length = stack->Parameters.Read.Length;
    if (file->directory)
        return io_complete(irp, STATUS_INVALID_DEVICE_REQUEST, 0);
    if (!length)
        return io_complete(irp, STATUS_SUCCESS, 0);
    if (offset >= file->size)
        return io_complete(irp, STATUS_END_OF_FILE, 0);
    length = (uint32_t)MIN(length, file->size - offset);
    mm_copy_to_mdl(irp->MdlAddress, 0, file->data + offset, length);
    return io_complete(irp, STATUS_SUCCESS, length);
}

// IRP_MJ_QUERY_INFORMATION: FileStandardInformation.
static NTSTATUS query_information(DEVICE_OBJECT *, IRP *irp)
{
    const initrd_entry *file = &opened_of(irp)->entry;
    return disk_complete_query(irp, file->size, file->directory);
}

// Describes entry if it is a child of directory: its name continues that of
// the directory by one part.
static bool describe(const initrd_entry *directory, const initrd_entry *entry,
                     FILE_NAMES_INFORMATION *out)
{
    size_t length = rtl_strlen(directory->name);
    const char *child = entry->name + length;
    if (!rtl_same_name(directory->name, entry->name, length) ||
        (length && *child++ != '/'))
        return false;
    for (const char *c = child; *c; c++)
        if (*c == '/')
            return false;
    memset(out, 0, sizeof(*out));
    rtl_strcpy(out->FileName, child, sizeof(out->FileName));
    out->Directory = entry->directory;
    out->EndOfFile = entry->size;
    return true;
}

// IRP_MJ_DIRECTORY_CONTROL: as many children as fit, from where the last call
// on this file object stopped.
static NTSTATUS directory_control(DEVICE_OBJECT *, IRP *irp)
{
    const IO_STACK_LOCATION *stack = IoGetCurrentIrpStackLocation(irp);
    struct opened *opened = opened_of(irp);
    FILE_NAMES_INFORMATION *out = irp->SystemBuffer;
    size_t room = stack->Parameters.QueryDirectory.Length / sizeof(*out);
    size_t count = 0;
    initrd_entry entry;
    if (!opened->entry.directory)
        return io_complete(irp, STATUS_INVALID_PARAMETER, 0);
    if (!room)
        return io_complete(irp, STATUS_BUFFER_TOO_SMALL, 0);
    if (stack->Parameters.QueryDirectory.restart)
        opened->next = 0;
    // Two calls at once may list a child twice, no worse: next is only ever
    // the offset of a header, and stored last.
    size_t at = opened->next;
    while (count < room &&
           initrd_next_entry(archive, archive_length, &at, &entry))
        count += describe(&opened->entry, &entry, &out[count]);
    opened->next = at;
    return io_complete(irp, count ? STATUS_SUCCESS : STATUS_NO_MORE_FILES,
                    count * sizeof(*out));
}

// ---- Initialisation -------------------------------------------------------

// Says where the archive lies. Before initrd_driver_entry.
//
// IRQL:    any level
void initrd_set_archive(const void *base, size_t length)
{
    archive = base;
    archive_length = length;
}

// Entry routine: checks the archive and makes \Device\Initrd (\??\B:).
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_DATA_ERROR              no archive, empty, or damaged
//          STATUS_INSUFFICIENT_RESOURCES  no pool for the device
NTSTATUS initrd_driver_entry(DRIVER_OBJECT *driver)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    size_t at = 0, count = 0;
    initrd_entry entry;
    while (initrd_next_entry(archive, archive_length, &at, &entry))
        count++;
    if (at != archive_length || !count)
        return STATUS_DATA_ERROR;

    driver->MajorFunction[IRP_MJ_CREATE] = create;
    driver->MajorFunction[IRP_MJ_CLOSE] = close;
    driver->MajorFunction[IRP_MJ_READ] = read;
    driver->MajorFunction[IRP_MJ_QUERY_INFORMATION] = query_information;
    driver->MajorFunction[IRP_MJ_DIRECTORY_CONTROL] = directory_control;
    DEVICE_OBJECT *device;
    NT_TRY(IoCreateDevice(driver, 0, "\\Device\\Initrd", FILE_DEVICE_DISK,
                          &device));
    device->Flags |= DO_DIRECT_IO;
    device->seekable = true;
    return IoCreateSymbolicLink("\\??\\B:", "\\Device\\Initrd");
}
