// rawio.c - single requests to raw disks, all sent before one is waited for:
//
//     rawio DISK OPERATION OFFSET LENGTH [DISK OPERATION OFFSET LENGTH]...
//
// OPERATION: w write, r read, o write from an odd address, q from one that is
// only a multiple of 4, f flush (which waits for its end before the next is
// sent), s the same when all requests before it have ended. Says for each how
// it ended. The bytes written are 'A' for the first request, 'B' for the
// second, and so on.

#include <ntdll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUESTS 16

struct request {
    HANDLE disk;
    HANDLE event;
    IO_STATUS_BLOCK iosb;
    NTSTATUS status;
    char *buffer;
};

static NTSTATUS start(struct request *r, int letter, char *const *words)
{
    uint64_t disk, offset, length;
    DISK_GEOMETRY geometry;
    if (!rtl_parse_number(words[0], &disk) ||
        !rtl_parse_number(words[2], &offset) ||
        !rtl_parse_number(words[3], &length))
        return STATUS_INVALID_PARAMETER;
    NTSTATUS status = nt_open_disk((uint32_t)disk,
                                   FILE_READ_DATA | FILE_WRITE_DATA, 0,
                                   &r->disk, &geometry);
    if (NT_SUCCESS(status))
        status = NtCreateEvent(&r->event, ALL_ACCESS, NULL, NotificationEvent,
                               false);
    if (!NT_SUCCESS(status))
        return status;
    r->buffer = nt_allocate_pages(length + 4);
    if (!r->buffer)
        return STATUS_NO_MEMORY;
    char what = words[1][0];
    if (what == 'f' || what == 's')
        return NtFlushBuffersFile(r->disk, &r->iosb);
    if (what == 'r')
        return NtReadFile(r->disk, r->event, NULL, NULL, &r->iosb, r->buffer,
                          (uint32_t)length, offset);
    memset(r->buffer, letter, length + 4);
    return NtWriteFile(r->disk, r->event, NULL, NULL, &r->iosb,
                       r->buffer + (what == 'o' ? 1 : what == 'q' ? 4 : 0),
                       (uint32_t)length, offset);
}

static void finish(struct request *r)
{
    if (r->status != STATUS_PENDING)
        return;
    NtWaitForSingleObject(r->event, false, NULL);
    r->status = r->iosb.Status;
}

int main(int argc, char **argv)
{
    static struct request requests[REQUESTS];
    char text[RTL_STATUS_SIZE];
    int count = (argc - 1) / 4, failed = 0;
    if (count < 1 || count > REQUESTS || argc != 1 + 4 * count)
        return 2;
    for (int i = 0; i < count; i++) {
        for (int j = 0; j < i && argv[2 + 4 * i][0] == 's'; j++)
            finish(&requests[j]);
        requests[i].status = start(&requests[i], 'A' + i, argv + 1 + 4 * i);
    }
    for (int i = 0; i < count; i++) {
        struct request *r = &requests[i];
        finish(r);
        failed |= !NT_SUCCESS(r->status);
        printf("%s %s %s %s: %s %lu\n", argv[1 + 4 * i], argv[2 + 4 * i],
               argv[3 + 4 * i], argv[4 + 4 * i],
               rtl_status_text(r->status, text),
               NT_SUCCESS(r->status) ? r->iosb.Information : 0);
    }
    return failed;
}
