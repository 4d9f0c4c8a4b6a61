// volley.c - sends many writes of a sector in one call, and waits for all:
//
//     volley DISK COUNT
//
// Write i fills sector i with the low byte of i + 1.

#include <ntdll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512u
#define MOST   256

static uint8_t sectors[MOST][SECTOR] __attribute__((aligned(4096)));
static IO_STATUS_BLOCK iosbs[MOST];
static NT_ARRAY_WRITE writes[MOST];

int main(int argc, char **argv)
{
    DISK_GEOMETRY geometry;
    HANDLE disk, port;
    IO_STATUS_BLOCK iosb;
    uint32_t sent = 0, count = argc > 2 ? (uint32_t)atoi(argv[2]) : 0;
    if (count < 1 || count > MOST ||
        !NT_SUCCESS(nt_open_disk((uint32_t)atoi(argv[1]), FILE_WRITE_DATA, 0,
                                 &disk, &geometry)) ||
        !NT_SUCCESS(NtCreateIoCompletion(&port, ALL_ACCESS, NULL, 0)))
        return 2;
    FILE_COMPLETION_INFORMATION information = { port, NULL };
    NtSetInformationFile(disk, &iosb, &information, sizeof(information),
                         FileCompletionInformation);
    for (uint32_t i = 0; i < count; i++) {
        memset(sectors[i], (int)i + 1, SECTOR);
        writes[i].ApcContext = writes[i].IoStatusBlock = &iosbs[i];
        writes[i].Buffer = sectors[i];
        writes[i].ByteOffset = (uint64_t)i * SECTOR;
        writes[i].Length = SECTOR;
    }
    if (!NT_SUCCESS(nt_write_array(disk, writes, count, &sent)) ||
        sent != count)
        return 3;
    for (uint32_t i = 0; i < count; i++) {
        void *key, *context;
        if (NtRemoveIoCompletion(port, &key, &context, &iosb, NULL) ||
            iosb.Status != STATUS_SUCCESS)
            return 4;
    }
    printf("volley: %u writes\n", count);
    return 0;
}
