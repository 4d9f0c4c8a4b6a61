// files.c - whole steps with files and disks, for programs that want to wait.

#include <ntdll.h>

#include <stdio.h>
#include <stdlib.h>

#define CHUNK       65536u              // bytes of one read
#define MILLISECOND (-(int64_t)10000)    // in 100 ns, relative

// The IOSB lies in the caller's frame, so it must be filled in before that
// goes. The file only hints at it: it is signalled by whatever request ends on
// it, un-signalled by whatever begins, and not at all in one of its modes. So
// this waits for it once and for a moment only, which is enough where nobody
// else uses the file; then sleeps and looks, which cannot fail.
static NTSTATUS finish(HANDLE file, NTSTATUS status,
                       volatile IO_STATUS_BLOCK *iosb, uint32_t *done)
{
    int64_t pause = MILLISECOND;
    if (status == STATUS_PENDING)
        NtWaitForSingleObject(file, false, &pause);
    while (status == STATUS_PENDING &&
           (status = iosb->Status) == STATUS_PENDING)
        NtDelayExecution(false, &pause);
    *done = NT_SUCCESS(status) ? (uint32_t)iosb->Information : 0;
    return status;
}

// Returns: what NtReadFile says, or what the driver reported; never pending
NTSTATUS nt_read(HANDLE file, void *buffer, uint32_t length, uint64_t offset,
                 uint32_t *done)
{
    IO_STATUS_BLOCK iosb = { .Status = STATUS_PENDING };
    NTSTATUS status = NtReadFile(file, NULL, NULL, NULL, &iosb, buffer, length,
                                 offset);
    return finish(file, status, &iosb, done);
}

// Returns: what NtWriteFile says, or what the driver reported; never pending
NTSTATUS nt_write(HANDLE file, const void *buffer, uint32_t length,
                  uint64_t offset, uint32_t *done)
{
    IO_STATUS_BLOCK iosb = { .Status = STATUS_PENDING };
    NTSTATUS status = NtWriteFile(file, NULL, NULL, NULL, &iosb,
                                  (void *)buffer, length, offset);
    return finish(file, status, &iosb, done);
}

// ---- Whole files, disks ---------------------------------------------------

// Returns: what NtCreateFile or the driver says
// Owns:    the caller closes *file
NTSTATUS nt_open_disk(uint32_t disk, ACCESS_MASK access, uint32_t options,
                      HANDLE *file, DISK_GEOMETRY *geometry)
{
    char name[40];
    IO_STATUS_BLOCK iosb;
    snprintf(name, sizeof(name), "\\\\.\\PhysicalDrive%u", disk);
    NTSTATUS status = nt_open_file(name, access | SYNCHRONIZE, FILE_OPEN,
                                   options, file);
    if (!NT_SUCCESS(status))
        return status;
    status = NtDeviceIoControlFile(*file, NULL, NULL, NULL, &iosb,
                                   IOCTL_DISK_GET_DRIVE_GEOMETRY, NULL, 0,
                                   geometry, sizeof(*geometry));
    if (status == STATUS_PENDING) {
        NtWaitForSingleObject(*file, false, NULL);
        status = iosb.Status;
    }
    if (!NT_SUCCESS(status))
        NtClose(*file);
    return status;
}

// Reads a file into memory. An empty one gives NULL and 0.
//
// Returns: STATUS_NO_MEMORY   it does not fit
//          STATUS_END_OF_FILE it became shorter meanwhile
//          or what opening and reading say
// Owns:    the caller frees *content
NTSTATUS nt_load_file(const char *name, uint8_t **content, uint64_t *length)
{
    IO_STATUS_BLOCK iosb;
    FILE_STANDARD_INFORMATION standard = { 0 };
    HANDLE file;
    *content = NULL;
    NTSTATUS status = nt_open_file(name, FILE_READ_DATA | SYNCHRONIZE,
                                   FILE_OPEN,
                                   FILE_SYNCHRONOUS_IO_NONALERT |
                                       FILE_NON_DIRECTORY_FILE, &file);
    if (!NT_SUCCESS(status))
        return status;
    status = NtQueryInformationFile(file, &iosb, &standard, sizeof(standard),
                                    FileStandardInformation);
    *length = standard.EndOfFile;
    if (NT_SUCCESS(status) && *length > 0) {
        *content = malloc(*length);
        status = *content ? STATUS_SUCCESS : STATUS_NO_MEMORY;
    }
    for (uint64_t at = 0; NT_SUCCESS(status) && at < *length;) {
        uint64_t left = *length - at;
        uint32_t done = 0;
        status = nt_read(file, *content + at,
                         left < CHUNK ? (uint32_t)left : CHUNK, at, &done);
        if (NT_SUCCESS(status) && done == 0)
            status = STATUS_END_OF_FILE;
        at += done;
    }
    NtClose(file);
    if (NT_SUCCESS(status))
        return status;
    free(*content);
    *content = NULL;
    return status;
}

// Whether the disk begins with a file system, FAT or NTFS (FAT specification
// 1.03, section 3.1): a jump, a plausible sector size, the signature.
static bool has_volume(uint32_t disk)
{
    enum { SHORT_JUMP = 0xEB, NEAR_JUMP = 0xE9, SECTOR_SIZE = 11,
           SMALLEST = 512, LARGEST = 4096, SIGNATURE = 510,
           SIGNATURE_LOW = 0x55, SIGNATURE_HIGH = 0xAA };
    _Alignas(uint64_t) uint8_t boot[LARGEST] = { 0 };
    DISK_GEOMETRY geometry;
    HANDLE file;
    uint32_t done;
    if (!NT_SUCCESS(nt_open_disk(disk, FILE_READ_DATA,
                                 FILE_SYNCHRONOUS_IO_NONALERT, &file,
                                 &geometry)))
        return false;
    nt_read(file, boot, geometry.BytesPerSector, 0, &done);
    NtClose(file);
    uint32_t size = boot[SECTOR_SIZE] | boot[SECTOR_SIZE + 1] << 8;
    return done && (boot[0] == SHORT_JUMP || boot[0] == NEAR_JUMP) &&
           boot[SIGNATURE] == SIGNATURE_LOW &&
           boot[SIGNATURE + 1] == SIGNATURE_HIGH && size >= SMALLEST &&
           size <= LARGEST && (size & (size - 1)) == 0;
}

// A disk that a program may write on: programs that look for scratch space
// leave volumes alone.
//
// Returns: STATUS_NO_SUCH_DEVICE  every disk has a volume
//          or what opening says
// Owns:    the caller closes *file
NTSTATUS nt_open_free_disk(uint32_t *disk, ACCESS_MASK access,
                           uint32_t options, HANDLE *file,
                           DISK_GEOMETRY *geometry)
{
    SYSTEM_BASIC_INFORMATION system;
    NTSTATUS status = NtQuerySystemInformation(SystemBasicInformation, &system,
                                               sizeof(system), NULL);
    if (!NT_SUCCESS(status))
        return status;
    for (*disk = 0; *disk < system.NumberOfDisks; ++*disk) {
        status = nt_open_disk(*disk, access, options, file, geometry);
        if (!NT_SUCCESS(status))
            continue;
        if (!has_volume(*disk))
            return status;
        NtClose(*file);
    }
    return STATUS_NO_SUCH_DEVICE;
}
