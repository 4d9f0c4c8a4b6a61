// volley.c - sends many writes of a sector in one call, and waits for all:
//
//     volley DISK COUNT
//
// Write i fills sector i with the low byte of i + 1.

#include <flow.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512u
#define MOST   256

static NT_ARRAY_WRITE writes[MOST];

int main(int argc, char **argv)
{
    struct rtl_flow flow;
    uint32_t sent = 0, count = argc > 2 ? (uint32_t)atoi(argv[2]) : 0;
    if (count < 1 || count > MOST ||
        !NT_SUCCESS(rtl_open_flow(&flow, (uint32_t)atoi(argv[1]), count)))
        return 2;
    for (uint32_t i = 0; i < count; i++) {
        writes[i].ApcContext = writes[i].IoStatusBlock = &flow.iosbs[i];
        writes[i].Buffer = flow.buffers + i * RTL_FLOW_BLOCK;
        writes[i].ByteOffset = (uint64_t)i * SECTOR;
        writes[i].Length = SECTOR;
        memset(flow.buffers + i * RTL_FLOW_BLOCK, (int)i + 1, SECTOR);
    }
    if (!NT_SUCCESS(nt_write_array(flow.disk, writes, count, &sent)) ||
        sent != count)
        return 3;
    flow.issued = sent;
    if (!NT_SUCCESS(rtl_drain_flow(&flow)))
        return 4;
    printf("volley: %u writes\n", count);
    return 0;
}
