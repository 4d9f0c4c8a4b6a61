// hexdump.c - shows a range of a disk or a file, byte by byte.
//
// A disk gives whole sectors only, so whole sectors are read around the range.

#include <ctype.h>
#include <ntdll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROW            16
#define CHUNK          4096u
#define DEFAULT_LENGTH 256

static const char usage[] =
    "usage: hexdump DISK|FILE [OFFSET [LENGTH]]\n"
    "  DISK    a number: 0 is \\\\.\\PhysicalDrive0\n"
    "  OFFSET  in bytes, 0x... for hexadecimal; 0 by default\n"
    "  LENGTH  in bytes; 256 by default for a disk, the whole of a file\n";

static void print_row(uint64_t offset, const uint8_t *bytes, size_t count)
{
    printf("%010lx ", offset);
    for (size_t i = 0; i < ROW; i++) {
        printf("%s", i % 8 == 0 ? " " : "");
        if (i < count)
            printf("%02x ", bytes[i]);
        else
            printf("   ");
    }
    printf("|");
    for (size_t i = 0; i < count; i++)
        putchar(isprint(bytes[i]) ? bytes[i] : '.');
    printf("|\n");
}

// Prints rows as they fill up; equal ones are one '*'.
static void print_bytes(uint64_t offset, const uint8_t *bytes, size_t count)
{
    static uint8_t last[ROW];
    static bool have_last, starred;
    for (; count > 0; offset += ROW) {
        size_t row = count < ROW ? count : ROW;
        bool same = have_last && row == ROW && memcmp(last, bytes, ROW) == 0;
        if (!same)
            print_row(offset, bytes, row);
        else if (!starred)
            printf("*\n");
        starred = same;
        have_last = row == ROW;
        memcpy(last, bytes, row);
        bytes += row;
        count -= row;
    }
}

static int dump(HANDLE file, uint64_t offset, uint64_t length, uint32_t sector)
{
    char text[RTL_STATUS_SIZE];
    uint8_t *buffer = nt_allocate_pages(2 * CHUNK);
    NTSTATUS status = buffer ? STATUS_SUCCESS : STATUS_NO_MEMORY;
    while (NT_SUCCESS(status) && length > 0) {
        uint64_t wanted = length < CHUNK ? length : CHUNK;
        uint64_t first = offset / sector * sector;
        uint64_t end = (offset + wanted + sector - 1) / sector * sector;
        uint32_t done;
        status = nt_read(file, buffer, (uint32_t)(end - first), first, &done);
        if (!NT_SUCCESS(status) || first + done <= offset)
            break;
        if (first + done < offset + wanted)
            wanted = length = first + done - offset;
        print_bytes(offset, buffer + (offset - first), wanted);
        offset += wanted;
        length -= wanted;
    }
    fflush(stdout);
    if (NT_SUCCESS(status) || status == STATUS_END_OF_FILE)
        return 0;
    fprintf(stderr, "hexdump: offset 0x%lx: %s\n", offset,
            rtl_status_text(status, text));
    return 1;
}

static int dump_disk(const char *name, uint64_t offset, uint64_t length)
{
    char text[RTL_STATUS_SIZE];
    DISK_GEOMETRY geometry;
    HANDLE disk;
    NTSTATUS status = nt_open_disk((uint32_t)atoi(name), FILE_READ_DATA,
                                   FILE_SYNCHRONOUS_IO_NONALERT, &disk,
                                   &geometry);
    if (!NT_SUCCESS(status)) {
        fprintf(stderr, "hexdump: disk %s: %s\n", name,
                rtl_status_text(status, text));
        return 1;
    }
    if (offset >= geometry.DiskSize) {
        fprintf(stderr, "hexdump: disk %s ends at byte 0x%lx\n", name,
                geometry.DiskSize);
        return 1;
    }
    if (length > geometry.DiskSize - offset)
        length = geometry.DiskSize - offset;
    return dump(disk, offset, length, geometry.BytesPerSector);
}

static int dump_file(const char *name, uint64_t offset, uint64_t length)
{
    char text[RTL_STATUS_SIZE];
    HANDLE file;
    NTSTATUS status = nt_open_file(name, FILE_READ_DATA | SYNCHRONIZE,
                                   FILE_OPEN, FILE_SYNCHRONOUS_IO_NONALERT,
                                   &file);
    if (!NT_SUCCESS(status)) {
        fprintf(stderr, "hexdump: %s: %s\n", name,
                rtl_status_text(status, text));
        return 1;
    }
    return dump(file, offset, length, 512);
}

int main(int argc, char **argv)
{
    uint64_t offset = 0;
    uint64_t length = DEFAULT_LENGTH;
    if (argc < 2 || argc > 4 ||
        (argc > 2 && !rtl_parse_number(argv[2], &offset)) ||
        (argc > 3 && !rtl_parse_number(argv[3], &length))) {
        fprintf(stderr, "%s", usage);
        return 2;
    }
    if (length > UINT64_MAX / 2 - offset)
        length = UINT64_MAX / 2 - offset;
    const char *name = argv[1];
    if (*name && strlen(name) < 3 && strspn(name, "0123456789") == strlen(name))
        return dump_disk(name, offset, length);
    return dump_file(name, offset, argc > 3 ? length : UINT64_MAX / 4);
}
