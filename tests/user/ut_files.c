// ut_files.c - files and disks: opening, reading, writing, position, end.
//
// The raw disk of the test is 16 MiB; the initrd is the read-only file system.

#include "tests/user/ktap.h"

#define SECTOR    512u
#define DISK_SIZE (16ull << 20)

static uint8_t out[16384] __attribute__((aligned(4096)));
static uint8_t in[16384] __attribute__((aligned(4096)));

static NTSTATUS create(const char *name, ACCESS_MASK access,
                       uint32_t disposition, uint32_t options, HANDLE *file,
                       IO_STATUS_BLOCK *iosb)
{
    OBJECT_ATTRIBUTES attributes = { .Length = sizeof(attributes) };
    RtlInitString(&attributes.ObjectName, name);
    return NtCreateFile(file, access, &attributes, iosb, FILE_SHARE_READ,
                        disposition, options);
}

static void names(void)
{
    HANDLE file = NULL;
    IO_STATUS_BLOCK iosb = { .Information = 99 };
    rule("opening by name");
    CHECK_OK(create("\\??\\B:\\files\\README.md", FILE_READ_DATA, FILE_OPEN, 0,
                    &file, &iosb));
    CHECK_EQ(iosb.Information, FILE_OPENED);
    CHECK_OK(NtClose(file));
    rule("OVL-14: a missing file");
    CHECK_STATUS(create("\\??\\B:\\no\\such", FILE_READ_DATA, FILE_OPEN, 0,
                        &file, &iosb), STATUS_OBJECT_NAME_NOT_FOUND);
    CHECK_STATUS(create("\\??\\Q:", FILE_READ_DATA, FILE_OPEN, 0, &file,
                        &iosb), STATUS_OBJECT_NAME_NOT_FOUND);
    rule("names that are none");
    CHECK_STATUS(create("", FILE_READ_DATA, FILE_OPEN, 0, &file, &iosb),
                 STATUS_OBJECT_NAME_INVALID);
    CHECK_STATUS(create("relative", FILE_READ_DATA, FILE_OPEN, 0, &file,
                        &iosb), STATUS_OBJECT_NAME_INVALID);
    static char lengthy[4000];
    memset(lengthy, 'a', sizeof(lengthy) - 1);
    memcpy(lengthy, "\\??\\B:\\", 7);
    CHECK_STATUS(create(lengthy, FILE_READ_DATA, FILE_OPEN, 0, &file, &iosb),
                 STATUS_OBJECT_NAME_INVALID);
    CHECK_STATUS(NtCreateFile(&file, FILE_READ_DATA, NULL, &iosb, 0, FILE_OPEN,
                              0), STATUS_OBJECT_NAME_INVALID);
    rule("a device exists, is no directory, and has nothing below it");
    static const char *const devices[] = { "\\??\\PhysicalDrive0",
                                           "\\??\\CON" };
    for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
        char below[64];
        snprintf(below, sizeof(below), "%s\\no\\such", devices[i]);
        CHECK_STATUS(create(below, FILE_READ_DATA, FILE_OPEN, 0, &file, &iosb),
                     STATUS_OBJECT_NAME_NOT_FOUND);
        CHECK_STATUS(create(devices[i], FILE_READ_DATA, FILE_CREATE, 0, &file,
                            &iosb), STATUS_OBJECT_NAME_COLLISION);
        CHECK_STATUS(create(devices[i], FILE_READ_DATA, FILE_OPEN,
                            FILE_DIRECTORY_FILE, &file, &iosb),
                     STATUS_NOT_A_DIRECTORY);
        CHECK_OK(create(devices[i], FILE_READ_DATA, FILE_OPEN_IF, 0, &file,
                        &iosb));
        CHECK_EQ(iosb.Information, FILE_OPENED);
        CHECK_OK(NtClose(file));
    }
    rule("a file is no directory, and the other way round");
    CHECK_STATUS(create("\\??\\B:\\bin", FILE_READ_DATA, FILE_OPEN,
                        FILE_NON_DIRECTORY_FILE, &file, &iosb),
                 STATUS_FILE_IS_A_DIRECTORY);
    CHECK_STATUS(create("\\??\\B:\\bin\\sh", FILE_READ_DATA, FILE_OPEN,
                        FILE_DIRECTORY_FILE, &file, &iosb),
                 STATUS_NOT_A_DIRECTORY);
    rule("options that exclude each other");
    CHECK_STATUS(create("\\??\\B:\\bin\\sh", FILE_READ_DATA, FILE_OPEN,
                        FILE_NON_DIRECTORY_FILE | FILE_DIRECTORY_FILE, &file,
                        &iosb), STATUS_INVALID_PARAMETER);
    CHECK_STATUS(create("\\??\\B:\\bin\\sh", FILE_READ_DATA, FILE_OPEN,
                        FILE_SYNCHRONOUS_IO_ALERT |
                            FILE_SYNCHRONOUS_IO_NONALERT, &file, &iosb),
                 STATUS_INVALID_PARAMETER);
    rule("the initrd cannot be written");
    CHECK(!NT_SUCCESS(create("\\??\\B:\\bin\\sh", FILE_WRITE_DATA, FILE_OPEN,
                             0, &file, &iosb)));
    CHECK(!NT_SUCCESS(create("\\??\\B:\\new", FILE_READ_DATA, FILE_CREATE, 0,
                             &file, &iosb)));
    CHECK(!NT_SUCCESS(create("\\??\\B:\\bin\\sh", FILE_READ_DATA,
                             FILE_SUPERSEDE, 0, &file, &iosb)));
    rule("a disposition that does not exist");
    CHECK_STATUS(create("\\??\\B:\\bin\\sh", FILE_READ_DATA, 6, 0, &file,
                        &iosb), STATUS_INVALID_PARAMETER);
}

static void transfers(void)
{
    HANDLE disk = open_disk(FILE_SYNCHRONOUS_IO_NONALERT);
    IO_STATUS_BLOCK iosb = { 0 };
    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = (uint8_t)(i * 7 + i / 256);

    rule("what was written is read");
    CHECK_OK(NtWriteFile(disk, NULL, NULL, NULL, &iosb, out, sizeof(out),
                         8192));
    CHECK_EQ(iosb.Information, sizeof(out));
    CHECK_OK(iosb.Status);
    CHECK_OK(NtFlushBuffersFile(disk, &iosb));
    CHECK_OK(NtReadFile(disk, NULL, NULL, NULL, &iosb, in, sizeof(in), 8192));
    CHECK_EQ(iosb.Information, sizeof(in));
    CHECK(memcmp(in, out, sizeof(in)) == 0);

    rule("a buffer at any even place in a page");
    for (uint32_t at = 2; at < 4096; at += 510) {
        memset(in, 0, sizeof(in));
        CHECK_OK(NtReadFile(disk, NULL, NULL, NULL, &iosb, in + at, 8192,
                            8192 + SECTOR));
        CHECK(memcmp(in + at, out + SECTOR, 8192) == 0);
        CHECK(in[at - 1] == 0 && in[at + 8192] == 0);
    }

    rule("a raw disk takes whole sectors only");
    CHECK_STATUS(NtWriteFile(disk, NULL, NULL, NULL, &iosb, out, 100, 0),
                 STATUS_INVALID_PARAMETER);
    CHECK_STATUS(NtWriteFile(disk, NULL, NULL, NULL, &iosb, out, SECTOR, 100),
                 STATUS_INVALID_PARAMETER);
    CHECK_STATUS(NtReadFile(disk, NULL, NULL, NULL, &iosb, in, SECTOR + 1, 0),
                 STATUS_INVALID_PARAMETER);

    rule("OVL-11: nothing to transfer");
    CHECK_OK(NtWriteFile(disk, NULL, NULL, NULL, &iosb, out, 0, 0));
    CHECK_EQ(iosb.Information, 0);
    CHECK_OK(NtReadFile(disk, NULL, NULL, NULL, &iosb, NULL, 0, 0));

    rule("OVL-06: across the end, at it, and beyond");
    CHECK_OK(NtReadFile(disk, NULL, NULL, NULL, &iosb, in, 4 * SECTOR,
                        DISK_SIZE - SECTOR));
    CHECK_EQ(iosb.Information, SECTOR);
    CHECK_STATUS(NtReadFile(disk, NULL, NULL, NULL, &iosb, in, SECTOR,
                            DISK_SIZE), STATUS_END_OF_FILE);
    CHECK_STATUS(NtReadFile(disk, NULL, NULL, NULL, &iosb, in, SECTOR,
                            1ull << 62), STATUS_END_OF_FILE);
    CHECK(NT_ERROR(NtWriteFile(disk, NULL, NULL, NULL, &iosb, out, 2 * SECTOR,
                               DISK_SIZE - SECTOR)));
    CHECK(NT_ERROR(NtWriteFile(disk, NULL, NULL, NULL, &iosb, out, SECTOR,
                               DISK_SIZE)));
    rule("OVL-12: offsets that are none");
    CHECK_STATUS(NtReadFile(disk, NULL, NULL, NULL, &iosb, in, SECTOR,
                            (uint64_t)-3), STATUS_INVALID_PARAMETER);
    CHECK_STATUS(NtReadFile(disk, NULL, NULL, NULL, &iosb, in, SECTOR,
                            1ull << 63), STATUS_INVALID_PARAMETER);
    CHECK_STATUS(NtReadFile(disk, NULL, NULL, NULL, &iosb, in, SECTOR,
                            FILE_WRITE_TO_END_OF_FILE),
                 STATUS_INVALID_PARAMETER);
    rule("OVL-12: a handle that may only append writes nowhere on a disk");
    HANDLE append = NULL;
    uint32_t sent = 0;
    DISK_GEOMETRY geometry;
    CHECK_OK(nt_open_disk(0, FILE_APPEND_DATA, 0, &append, &geometry));
    CHECK_STATUS(NtWriteFile(append, NULL, NULL, NULL, &iosb, out, SECTOR, 0),
                 STATUS_INVALID_PARAMETER);
    CHECK_STATUS(nt_write_array(append, &(NT_ARRAY_WRITE){ 0 }, 1, &sent),
                 STATUS_ACCESS_DENIED);
    CHECK_OK(NtClose(append));
    CHECK_OK(NtReadFile(disk, NULL, NULL, NULL, &iosb, in, SECTOR, 0));
    CHECK(memcmp(in, out, SECTOR) != 0);
    rule("OVL-12: what has no places takes its bytes");
    CHECK_OK(nt_open_file("CON", FILE_APPEND_DATA, FILE_OPEN,
                          FILE_SYNCHRONOUS_IO_NONALERT, &append));
    CHECK_OK(NtWriteFile(append, NULL, NULL, NULL, &iosb, "\n", 1, 0));
    CHECK_OK(NtClose(append));
    rule("what failed has moved nothing");
    memset(in, 0x5A, SECTOR);
    CHECK_STATUS(NtReadFile(disk, NULL, NULL, NULL, &iosb, in, SECTOR,
                            DISK_SIZE), STATUS_END_OF_FILE);
    CHECK(in[0] == 0x5A && in[SECTOR - 1] == 0x5A);
    NtClose(disk);
}

static uint64_t position(HANDLE file)
{
    IO_STATUS_BLOCK iosb;
    FILE_POSITION_INFORMATION at = { .CurrentByteOffset = 0 };
    CHECK_OK(NtQueryInformationFile(file, &iosb, &at, sizeof(at),
                                    FilePositionInformation));
    return at.CurrentByteOffset;
}

static NTSTATUS set_position(HANDLE file, uint64_t offset)
{
    IO_STATUS_BLOCK iosb;
    FILE_POSITION_INFORMATION at = { .CurrentByteOffset = offset };
    return NtSetInformationFile(file, &iosb, &at, sizeof(at),
                                FilePositionInformation);
}

static void positions(void)
{
    const uint64_t here = FILE_USE_FILE_POINTER_POSITION;
    IO_STATUS_BLOCK iosb;
    HANDLE disk = open_disk(FILE_SYNCHRONOUS_IO_NONALERT);
    HANDLE other = open_disk(FILE_SYNCHRONOUS_IO_NONALERT);
    HANDLE same = NULL;
    CHECK_OK(NtDuplicateObject(NtCurrentProcess(), disk, NtCurrentProcess(),
                               &same, 0, 0, DUPLICATE_SAME_ACCESS));
    rule("OVL-09: the position follows each transfer");
    CHECK_EQ(position(disk), 0);
    CHECK_OK(NtReadFile(disk, NULL, NULL, NULL, &iosb, in, 1024, here));
    CHECK_EQ(position(disk), 1024);
    CHECK_OK(NtWriteFile(disk, NULL, NULL, NULL, &iosb, in, 512, 8192));
    CHECK_EQ(position(disk), 8192 + 512);
    rule("OVL-09: duplicates share it, another open does not");
    CHECK_EQ(position(same), 8192 + 512);
    CHECK_EQ(position(other), 0);
    rule("setting the position");
    CHECK_OK(set_position(disk, 4096));
    CHECK_EQ(position(same), 4096);
    CHECK_STATUS(set_position(disk, 1ull << 63), STATUS_INVALID_PARAMETER);
    CHECK_EQ(position(disk), 4096);
    CHECK_OK(NtWriteFile(disk, NULL, NULL, NULL, &iosb, in, 0,
                         FILE_WRITE_TO_END_OF_FILE));    // which moves nothing
    CHECK_EQ(position(disk), 4096);
    rule("a failed transfer leaves it");
    CHECK_STATUS(NtReadFile(disk, NULL, NULL, NULL, &iosb, in, 512, DISK_SIZE),
                 STATUS_END_OF_FILE);
    CHECK_EQ(position(disk), 4096);
    rule("OVL-05: an overlapped handle has no position");
    HANDLE overlapped = open_disk(0);
    CHECK_STATUS(NtReadFile(overlapped, NULL, NULL, NULL, &iosb, in, 512,
                            here), STATUS_INVALID_PARAMETER);
    NtClose(overlapped);
    NtClose(disk);
    NtClose(same);
    NtClose(other);
}

static void ends(void)
{
    IO_STATUS_BLOCK iosb;
    FILE_STANDARD_INFORMATION standard;
    HANDLE file = NULL;
    rule("the size of a file, and its end");
    CHECK_OK(nt_open_file("B:\\files\\README.md", FILE_READ_DATA | SYNCHRONIZE,
                          FILE_OPEN, FILE_SYNCHRONOUS_IO_NONALERT, &file));
    CHECK_OK(NtQueryInformationFile(file, &iosb, &standard, sizeof(standard),
                                    FileStandardInformation));
    uint64_t size = standard.EndOfFile;
    CHECK(size > 1 && !standard.Directory);
    CHECK_OK(NtReadFile(file, NULL, NULL, NULL, &iosb, in, 512, size - 1));
    CHECK_EQ(iosb.Information, 1);
    CHECK_STATUS(NtReadFile(file, NULL, NULL, NULL, &iosb, in, 512, size),
                 STATUS_END_OF_FILE);
    rule("IOCP-23, CMP-02: no notification mode on a synchronous handle");
    FILE_IO_COMPLETION_NOTIFICATION_INFORMATION modes = { .Flags = 1 };
    CHECK_STATUS(NtSetInformationFile(file, &iosb, &modes, sizeof(modes),
                                      FileIoCompletionNotificationInformation),
                 STATUS_INVALID_PARAMETER);
    NtClose(file);
    rule("a directory is listed once from its start");
    static FILE_NAMES_INFORMATION entries[4];
    bool found = false;
    uint32_t count = 0;
    CHECK_OK(nt_open_file("B:\\bin", FILE_LIST_DIRECTORY | SYNCHRONIZE,
                          FILE_OPEN, FILE_DIRECTORY_FILE, &file));
    NTSTATUS status;
    for (bool first = true;; first = false) {
        status = NtQueryDirectoryFile(file, &iosb, entries, sizeof(entries),
                                      first);
        if (!NT_SUCCESS(status))
            break;
        for (size_t i = 0; i < iosb.Information / sizeof(*entries); i++) {
            found |= strcmp(entries[i].FileName, "ut_files") == 0;
            count++;
        }
    }
    CHECK_STATUS(status, STATUS_NO_MORE_FILES);
    CHECK(found && count > 10);
    CHECK_OK(NtQueryDirectoryFile(file, &iosb, entries, sizeof(entries),
                                  true));
    CHECK_STATUS(NtQueryDirectoryFile(file, &iosb, entries, 8, true),
                 STATUS_BUFFER_TOO_SMALL);
    NtClose(file);
}

static void handles(void)
{
    HANDLE disk = open_disk(FILE_SYNCHRONOUS_IO_NONALERT);
    HANDLE reader = NULL, bad = NULL;
    IO_STATUS_BLOCK iosb;
    rule("OVL-13: a right that the handle lacks");
    CHECK_OK(NtDuplicateObject(NtCurrentProcess(), disk, NtCurrentProcess(),
                               &reader, FILE_READ_DATA, 0, 0));
    CHECK_OK(NtReadFile(reader, NULL, NULL, NULL, &iosb, in, 512, 0));
    iosb = (IO_STATUS_BLOCK){ .Information = 77 };
    CHECK_STATUS(NtWriteFile(reader, NULL, NULL, NULL, &iosb, in, 512, 0),
                 STATUS_ACCESS_DENIED);
    CHECK_STATUS(NtFlushBuffersFile(reader, &iosb), STATUS_ACCESS_DENIED);
    CHECK_EQ(iosb.Information, 77);
    CHECK_STATUS(NtWaitForSingleObject(reader, false, POLL),
                 STATUS_ACCESS_DENIED);
    rule("a duplicate has no more rights than its source");
    CHECK_STATUS(NtDuplicateObject(NtCurrentProcess(), reader,
                                   NtCurrentProcess(), &bad,
                                   FILE_WRITE_DATA, 0, 0),
                 STATUS_ACCESS_DENIED);
    rule("a duplicate outlives its source, which may go on the way");
    CHECK_OK(NtDuplicateObject(NtCurrentProcess(), disk, NtCurrentProcess(),
                               &bad, 0, 0, DUPLICATE_SAME_ACCESS |
                                               DUPLICATE_CLOSE_SOURCE));
    CHECK_STATUS(NtReadFile(disk, NULL, NULL, NULL, &iosb, in, 512, 0),
                 STATUS_INVALID_HANDLE);
    CHECK_OK(NtReadFile(bad, NULL, NULL, NULL, &iosb, in, 512, 0));
    CHECK_OK(NtClose(bad));
    rule("closing twice, and what never was open");
    CHECK_STATUS(NtClose(bad), STATUS_INVALID_HANDLE);
    CHECK_STATUS(NtClose(NULL), STATUS_INVALID_HANDLE);
    CHECK_STATUS(NtClose((HANDLE)0x7FFFFFF0), STATUS_INVALID_HANDLE);
    CHECK_STATUS(NtClose((HANDLE)-9), STATUS_INVALID_HANDLE);
    rule("a handle of another type");
    HANDLE event = new_event(NotificationEvent, false);
    CHECK_STATUS(NtReadFile(event, NULL, NULL, NULL, &iosb, in, 512, 0),
                 STATUS_OBJECT_TYPE_MISMATCH);
    CHECK_STATUS(NtSetEvent(reader, NULL), STATUS_OBJECT_TYPE_MISMATCH);
    NtClose(event);
    NtClose(reader);
}

int main(void)
{
    names();
    transfers();
    positions();
    ends();
    handles();
    return ktap_end();
}
