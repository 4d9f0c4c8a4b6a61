// io.c - the initrd as a file device: open, read, query, list.

#include "drivers/initrd/initrd.h"

#define INITRD_TAG ('I' | 'n' << 8 | 'r' << 16 | 'd' << 24)

// One open of a file or directory: FILE_OBJECT.FsContext.
struct opened {
    initrd_entry entry;
    size_t next;                   // where the listing goes on,
    char last[INITRD_MAX_NAME];    // and what it said last
};

static const uint8_t *archive;
static size_t archive_length;

static NTSTATUS complete(IRP *irp, NTSTATUS status, uintptr_t information)
{
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = information;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return status;
}

static struct opened *opened_of(IRP *irp)
{
    return IoGetCurrentIrpStackLocation(irp)->FileObject->FsContext;
}

// What of name lies below path: "sh" of "bin/sh" below "bin".
//
// Returns: that part, "" for path itself, or NULL
static const char *below(const char *path, const char *name)
{
    size_t length = rtl_strlen(path);
    if (!length)
        return name;
    if (!rtl_same_name(path, name, length))
        return NULL;
    return name[length] == '/' ? name + length + 1
           : name[length]      ? NULL
                               : name + length;
}

// Finds what path names. Names imply the directories that they lie in.
static bool find(const char *path, initrd_entry *found)
{
    size_t at = 0;
    while (initrd_next_entry(archive, archive_length, &at, found)) {
        const char *rest = below(path, found->name);
        if (!rest)
            continue;
        if (*rest) {
            *found = (initrd_entry){ .directory = true };
            rtl_strcpy(found->name, path, sizeof(found->name));
        }
        return true;
    }
    return false;
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
static NTSTATUS create(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    const IO_STACK_LOCATION *stack = IoGetCurrentIrpStackLocation(irp);
    FILE_OBJECT *file = stack->FileObject;
    char path[INITRD_MAX_NAME] = "";
    initrd_entry found;
    if (file->FileName) {
        if (rtl_strlen(file->FileName) >= sizeof(path))
            return complete(irp, STATUS_OBJECT_NAME_NOT_FOUND, 0);
        initrd_clean_name(path, file->FileName);
    }
    if (!find(path, &found))
        return complete(irp, STATUS_OBJECT_NAME_NOT_FOUND, 0);
    NTSTATUS status = check_open(stack, found.directory);
    if (!NT_SUCCESS(status))
        return complete(irp, status, 0);

    struct opened *opened =
        ExAllocatePoolWithTag(NonPagedPool, sizeof(*opened), INITRD_TAG);
    if (!opened)
        return complete(irp, STATUS_INSUFFICIENT_RESOURCES, 0);
    *opened = (struct opened){ .entry = found };
    file->FsContext = opened;
    if (found.directory)
        file->Flags |= FO_DIRECTORY;
    return complete(irp, STATUS_SUCCESS, FILE_OPENED);
}

// IRP_MJ_CLOSE: the last reference to the file object is gone.
static NTSTATUS close(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    ExFreePoolWithTag(opened_of(irp), INITRD_TAG);
    return complete(irp, STATUS_SUCCESS, 0);
}

// IRP_MJ_READ: copies to the caller's pinned pages.
static NTSTATUS read(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    const IO_STACK_LOCATION *stack = IoGetCurrentIrpStackLocation(irp);
    const initrd_entry *file = &opened_of(irp)->entry;
    uint64_t offset = stack->Parameters.Read.ByteOffset;
    uint32_t length = stack->Parameters.Read.Length;
    if (file->directory)
        return complete(irp, STATUS_INVALID_DEVICE_REQUEST, 0);
    if (!length)
        return complete(irp, STATUS_SUCCESS, 0);
    if (offset >= file->size)
        return complete(irp, STATUS_END_OF_FILE, 0);
    length = (uint32_t)MIN(length, file->size - offset);
    mm_copy_to_mdl(irp->MdlAddress, 0, file->data + offset, length);
    return complete(irp, STATUS_SUCCESS, length);
}

// IRP_MJ_QUERY_INFORMATION: FileStandardInformation.
static NTSTATUS query_information(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    const IO_STACK_LOCATION *stack = IoGetCurrentIrpStackLocation(irp);
    const initrd_entry *file = &opened_of(irp)->entry;
    FILE_STANDARD_INFORMATION *out = irp->SystemBuffer;
    if (stack->Parameters.QueryFile.information_class !=
        FileStandardInformation)
        return complete(irp, STATUS_INVALID_INFO_CLASS, 0);
    if (stack->Parameters.QueryFile.Length < sizeof(*out))
        return complete(irp, STATUS_INFO_LENGTH_MISMATCH, 0);
    memset(out, 0, sizeof(*out));    // ring 3 sees the padding, too
    out->AllocationSize = out->EndOfFile = file->size;
    out->NumberOfLinks = 1;
    out->Directory = file->directory;
    return complete(irp, STATUS_SUCCESS, sizeof(*out));
}

// Describes the child of the directory that entry is, or lies in. An archive
// keeps the files of a directory together, so that one look back tells whether
// the child was described before.
static bool describe(struct opened *directory, const initrd_entry *entry,
                     FILE_NAMES_INFORMATION *out)
{
    const char *rest = below(directory->entry.name, entry->name);
    char child[INITRD_MAX_NAME] = "";
    size_t length = 0;
    for (; rest && rest[length] && rest[length] != '/'; length++)
        child[length] = rest[length];
    if (!length || rtl_same_name(child, directory->last, sizeof(child)))
        return false;

    memset(out, 0, sizeof(*out));
    memcpy(out->FileName, child, sizeof(child));
    memcpy(directory->last, child, sizeof(child));
    out->Directory = rest[length] || entry->directory;
    out->EndOfFile = out->Directory ? 0 : entry->size;
    return true;
}

// IRP_MJ_DIRECTORY_CONTROL: as many children as fit, from where the last call
// on this file object stopped.
static NTSTATUS directory_control(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    const IO_STACK_LOCATION *stack = IoGetCurrentIrpStackLocation(irp);
    struct opened *opened = opened_of(irp);
    FILE_NAMES_INFORMATION *out = irp->SystemBuffer;
    size_t room = stack->Parameters.QueryDirectory.Length / sizeof(*out);
    size_t count = 0;
    initrd_entry entry;
    if (!opened->entry.directory)
        return complete(irp, STATUS_INVALID_PARAMETER, 0);
    if (!room)
        return complete(irp, STATUS_BUFFER_TOO_SMALL, 0);
    if (stack->Parameters.QueryDirectory.restart)
        opened->next = opened->last[0] = 0;
    // Two calls at once may list a child twice, no worse: next is only ever
    // the offset of a header, and stored last.
    size_t at = opened->next;
    while (count < room &&
           initrd_next_entry(archive, archive_length, &at, &entry))
        count += describe(opened, &entry, &out[count]);
    opened->next = at;
    return complete(irp, count ? STATUS_SUCCESS : STATUS_NO_MORE_FILES,
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

    size_t at = 0;
    size_t count = 0;
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
    NTSTATUS status = IoCreateDevice(driver, 0, "\\Device\\Initrd",
                                     FILE_DEVICE_DISK, &device);
    if (!NT_SUCCESS(status))
        return status;
    device->Flags |= DO_DIRECT_IO;
    device->seekable = true;
    return IoCreateSymbolicLink("\\??\\B:", "\\Device\\Initrd");
}
