// flood.c - sends many writes of a sector before it takes one packet:
//
//     flood DISK COUNT [cancel | move N]
//
// Write i fills sector i with the low byte of i + 1. With cancel, asks all of
// them to end as soon as the last is sent, and says how many did so at once.
// With move, sends the first N from processor 0 and the others from 1. At the
// end says how many ended how.

#include <ntdll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR  512u
#define LETTERS 255u
#define MOST    16384

static uint8_t sectors[LETTERS][SECTOR] __attribute__((aligned(4096)));
static IO_STATUS_BLOCK iosbs[MOST];

struct result {
    int success, cancelled, timeout, other;
};

// Takes one packet; false if none comes in time.
static bool take(HANDLE port, const int64_t *timeout, struct result *result)
{
    void *key, *context;
    IO_STATUS_BLOCK iosb;
    if (NtRemoveIoCompletion(port, &key, &context, &iosb, timeout) !=
        STATUS_SUCCESS)
        return false;
    switch (iosb.Status) {
    case STATUS_SUCCESS: result->success++; break;
    case STATUS_CANCELLED: result->cancelled++; break;
    case STATUS_IO_TIMEOUT: result->timeout++; break;
    default: result->other++; break;
    }
    return true;
}

static void go_to(uint32_t processor)
{
    uint64_t mask = 1ull << processor;
    NtSetInformationThread(NtCurrentThread(), ThreadAffinityMask, &mask,
                           sizeof(mask));
}

int main(int argc, char **argv)
{
    DISK_GEOMETRY geometry;
    HANDLE disk, port;
    IO_STATUS_BLOCK iosb;
    struct result result = { 0 };
    const int64_t now = 0;
    int count = argc > 2 ? atoi(argv[2]) : 0;
    if (count < 1 || count > MOST ||
        !NT_SUCCESS(nt_open_disk((uint32_t)atoi(argv[1]), FILE_WRITE_DATA, 0,
                                 &disk, &geometry)) ||
        !NT_SUCCESS(NtCreateIoCompletion(&port, ALL_ACCESS, NULL, 0)))
        return 2;
    FILE_COMPLETION_INFORMATION information = { port, NULL };
    NtSetInformationFile(disk, &iosb, &information, sizeof(information),
                         FileCompletionInformation);
    for (uint32_t i = 0; i < LETTERS; i++)
        memset(sectors[i], (int)i + 1, SECTOR);    // none is empty
    bool cancel = argc == 4 && strcmp(argv[3], "cancel") == 0;
    int moves = argc == 5 && strcmp(argv[3], "move") == 0 ? atoi(argv[4]) : -1;
    if (moves >= 0)
        go_to(0);
    for (int i = 0; i < count; i++) {
        if (i == moves)
            go_to(1);
        if (NtWriteFile(disk, NULL, NULL, &iosbs[i], &iosbs[i],
                        sectors[(unsigned)i % LETTERS], SECTOR,
                        (uint64_t)i * SECTOR) != STATUS_PENDING)
            return 3;
    }
    if (cancel)
        NtCancelIoFileEx(disk, NULL, &iosb);
    while (take(port, &now, &result))
        continue;
    printf("flood: sent %d, %d cancelled at once\n", count, result.cancelled);
    fflush(stdout);
    while (result.success + result.cancelled + result.timeout + result.other <
           count)
        if (!take(port, NULL, &result))
            return 4;
    printf("flood: %d success, %d cancelled, %d timeout, %d other\n",
           result.success, result.cancelled, result.timeout, result.other);
    return 0;
}
