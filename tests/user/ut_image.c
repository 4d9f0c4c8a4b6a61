// ut_image.c - programs that are none: each gets a status, nothing is left.
//
// The raw disk is a file like any other to the loader of images. So this
// writes a good program there, starts it, and then breaks it in many ways.

#include "tests/user/ktap.h"

#define DISK "\\??\\PhysicalDrive0"

static HANDLE disk;
static uint8_t *good;
static uint64_t size;
static uint8_t bad[65536 * 4] __attribute__((aligned(4096)));

static NTSTATUS start(const char *image, NTSTATUS *ended)
{
    RTL_USER_PROCESS_PARAMETERS parameters = NtCurrentPeb()->ProcessParameters;
    HANDLE process = NULL;
    RtlInitString(&parameters.ImagePathName, image);
    RtlInitString(&parameters.CommandLine, "image");
    NTSTATUS status = NtCreateUserProcess(&process, NULL, ALL_ACCESS,
                                          ALL_ACCESS, 0, &parameters);
    *ended = STATUS_PENDING;
    if (!NT_SUCCESS(status))
        return status;
    if (NtWaitForSingleObject(process, false, MS(200)) == STATUS_TIMEOUT) {
        NtTerminateProcess(process, STATUS_TIMEOUT);    // it runs for ever
        wait(process);
    }
    *ended = process_status(process);
    NtClose(process);
    return status;
}

// Writes the program with one field changed, and starts that.
static NTSTATUS start_changed(uint64_t at, const void *bytes, size_t length,
                              NTSTATUS *ended)
{
    uint32_t done;
    memcpy(bad, good, size);
    memcpy(bad + at, bytes, length);
    uint32_t rounded = (uint32_t)(size + 511) & ~511u;
    CHECK_OK(nt_write(disk, bad, at < 4096 ? 4096 : rounded, 0, &done));
    return start(DISK, ended);
}

static void refuse(const char *what, uint64_t at, uint64_t value,
                   size_t length)
{
    NTSTATUS ended;
    if (!CHECK_STATUS(start_changed(at, &value, length, &ended),
                      STATUS_INVALID_IMAGE_FORMAT))
        printf("    %s\n", what);
}

static void broken_headers(void)
{
    enum { PHOFF = 64, FLAGS = 4, OFFSET = 8, VADDR = 16, FILESZ = 32,
           MEMSZ = 40, ALIGN = 48 };
    NTSTATUS ended = 1;
    rule("a program on a raw disk is a program");
    CHECK_OK(start_changed(0, "\x7F", 1, &ended));
    CHECK_STATUS(ended, 0);
    rule("a broken header");
    refuse("magic", 0, 0, 4);
    refuse("32 bits", 4, 1, 1);
    refuse("big endian", 5, 2, 1);
    refuse("version", 6, 0, 1);
    refuse("shared object", 16, 3, 2);
    refuse("machine", 18, 3, 2);
    refuse("entry in the kernel", 24, 0xFFFFFFFF80000000ull, 8);
    refuse("entry at 0", 24, 0, 8);
    refuse("headers beyond the file", 32, UINT64_MAX - 8, 8);
    refuse("headers beyond the first page", 32, 4096, 8);
    refuse("size of a header", 54, 55, 2);
    refuse("no headers", 56, 0, 2);
    refuse("65535 headers", 56, 65535, 2);
    rule("a broken segment");
    refuse("an interpreter", PHOFF, 3, 4);
    refuse("W and X", PHOFF + FLAGS, 3, 4);
    refuse("offset beyond the file", PHOFF + OFFSET, 1ull << 40, 8);
    refuse("offset that wraps", PHOFF + OFFSET, UINT64_MAX - 4095, 8);
    refuse("in the kernel", PHOFF + VADDR, 0xFFFFFFFF80000000ull, 8);
    refuse("below 4 GiB", PHOFF + VADDR, 0x400000, 8);
    refuse("at the end of ring 3", PHOFF + VADDR, 0x00007FFFFFFFF000ull, 8);
    refuse("more in the file than in memory", PHOFF + MEMSZ, 1, 8);
    refuse("a size that wraps", PHOFF + MEMSZ, UINT64_MAX, 8);
    refuse("larger than the file", PHOFF + FILESZ, UINT64_MAX, 8);
    refuse("alignment", PHOFF + ALIGN, 3, 8);
    rule("more memory than there is");
    uint64_t much = 1ull << 40;
    CHECK_STATUS(start_changed(PHOFF + MEMSZ, &much, 8, &ended),
                 STATUS_INVALID_IMAGE_FORMAT);    // meets the next segment
}

static void wild_headers(void)
{
    uint32_t random = 12345;
    rule("random bytes in the headers: a status, and all goes on");
    for (int i = 0; i < 300; i++) {
        NTSTATUS ended;
        random = random * 1664525u + 1013904223u;
        uint32_t at = (random >> 8) % 288;
        random = random * 1664525u + 1013904223u;
        uint8_t bytes[8] = { (uint8_t)(random >> 24), (uint8_t)(random >> 16),
                             0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF };
        NTSTATUS status = start_changed(at, bytes, 1 + (random >> 12) % 8,
                                        &ended);
        if (status != STATUS_INVALID_IMAGE_FORMAT &&
            status != STATUS_NO_MEMORY &&
            status != STATUS_INVALID_PARAMETER)    // the disk's: no sector
            CHECK_OK(status);
    }
}

static void no_programs(void)
{
    NTSTATUS ended;
    rule("what is no program at all");
    CHECK_STATUS(start("\\??\\B:\\bin\\nobody", &ended),
                 STATUS_OBJECT_NAME_NOT_FOUND);
    CHECK_STATUS(start("\\??\\B:\\bin", &ended), STATUS_FILE_IS_A_DIRECTORY);
    CHECK_STATUS(start("\\??\\B:\\files\\README.md", &ended),
                 STATUS_INVALID_IMAGE_FORMAT);
    CHECK_STATUS(start("", &ended), STATUS_OBJECT_NAME_INVALID);
    CHECK(!NT_SUCCESS(start("\\??\\CON", &ended)));
    CHECK(!NT_SUCCESS(start("\\Device", &ended)));
    static char lengthy[1000];
    memset(lengthy, '\\', sizeof(lengthy) - 1);
    CHECK_STATUS(start(lengthy, &ended), STATUS_OBJECT_NAME_INVALID);
    memset(bad, 0, 4096);
    uint32_t done;
    CHECK_OK(nt_write(disk, bad, 4096, 0, &done));
    CHECK_STATUS(start(DISK, &ended), STATUS_INVALID_IMAGE_FORMAT);
}

// Makes segments whole sectors, as the disk wants them; what is behind a
// segment in the file is debug information.
static void round_segments(void)
{
    for (uint32_t i = 0; i < good[56]; i++) {
        uint64_t *part = (uint64_t *)(good + 64 + i * 56);    // program header
        uint64_t offset = part[1], length = part[4];
        part[4] = (length + 511) & ~511ull;
        if (part[5] < part[4])
            part[5] = part[4];
        if (offset + part[4] <= size)
            memset(good + offset + length, 0, part[4] - length);
    }
}

int main(void)
{
    disk = open_disk(FILE_SYNCHRONOUS_IO_NONALERT);
    rule("set-up");
    if (!CHECK_OK(nt_load_file("B:\\bin\\true", &good, &size)) ||
        !CHECK(size < sizeof(bad)))
        return ktap_end();
    uint32_t done;
    round_segments();
    memcpy(bad, good, size);
    CHECK_OK(nt_write(disk, bad, (uint32_t)(size + 511) & ~511u, 0, &done));
    broken_headers();
    wild_headers();
    no_programs();
    return ktap_end();
}
