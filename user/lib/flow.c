// flow.c - many writes in flight, one thread.
//
// The thread that takes a packet sends its buffer out again at once, so that
// the disk always has depth writes. No lock: a flow belongs to its thread.

#include <flow.h>
#include <string.h>

#define TAKE 64    // packets taken at once, writes sent in an array
#define SEED 88172645463325252u
#define FILL 0x5A

static NTSTATUS bind(struct rtl_flow *flow)
{
    IO_STATUS_BLOCK iosb;
    NTSTATUS status = NtCreateIoCompletion(&flow->port, ALL_ACCESS, NULL, 0);
    if (!NT_SUCCESS(status))
        return status;
    FILE_COMPLETION_INFORMATION completion = { .Port = flow->port };
    FILE_IO_COMPLETION_NOTIFICATION_INFORMATION quiet = {
        .Flags = FILE_SKIP_SET_EVENT_ON_HANDLE
    };    // nobody waits for the file itself
    NtSetInformationFile(flow->disk, &iosb, &quiet, sizeof(quiet),
                         FileIoCompletionNotificationInformation);
    return NtSetInformationFile(flow->disk, &iosb, &completion,
                                sizeof(completion), FileCompletionInformation);
}

NTSTATUS rtl_open_flow(struct rtl_flow *flow, uint32_t disk, uint32_t depth)
{
    DISK_GEOMETRY geometry;
    size_t bytes = (size_t)depth * RTL_FLOW_BLOCK;
    *flow = (struct rtl_flow){ .depth = depth, .random = SEED,
                               .limit = UINT64_MAX };
    NTSTATUS status = nt_open_disk(disk, FILE_WRITE_DATA, 0, &flow->disk,
                                   &geometry);
    if (NT_SUCCESS(status))
        status = bind(flow);
    if (NT_SUCCESS(status)) {
        flow->blocks = (geometry.DiskSize < RTL_FLOW_SPAN ? geometry.DiskSize
                                                          : RTL_FLOW_SPAN) /
                       RTL_FLOW_BLOCK;
        flow->buffers = nt_allocate_pages(bytes);
        flow->iosbs = nt_allocate_pages(depth * sizeof(*flow->iosbs));
        if (!flow->buffers || !flow->iosbs)
            status = STATUS_NO_MEMORY;
    }
    if (NT_SUCCESS(status))
        memset(flow->buffers, FILL, bytes);
    else
        rtl_close_flow(flow);
    return status;
}

static void free_pages(void *base)
{
    size_t size = 0;
    if (base)
        NtFreeVirtualMemory(NtCurrentProcess(), &base, &size, MEM_RELEASE);
}

void rtl_close_flow(struct rtl_flow *flow)
{
    if (flow->disk)
        NtClose(flow->disk);
    if (flow->port)
        NtClose(flow->port);
    free_pages(flow->buffers);
    free_pages(flow->iosbs);
}

// Knuth's linear congruence for MMIX; its upper half, scaled, is the block.
static inline uint64_t random_block(struct rtl_flow *flow)
{
    flow->random = flow->random * 6364136223846793005u + 1442695040888963407u;
    return (flow->random >> 32) * flow->blocks >> 32;
}

static inline void issue(struct rtl_flow *flow, IO_STATUS_BLOCK *iosb)
{
    size_t i = (size_t)(iosb - flow->iosbs);
    NTSTATUS status = NtWriteFile(flow->disk, NULL, NULL, iosb, iosb,
                                  flow->buffers + i * RTL_FLOW_BLOCK,
                                  RTL_FLOW_BLOCK,
                                  random_block(flow) * RTL_FLOW_BLOCK);
    if (NT_ERROR(status))    // no packet will come
        flow->failed = status;
    else
        flow->issued++;
}

static inline bool may_issue(const struct rtl_flow *flow)
{
    return flow->issued < flow->limit && !flow->failed;
}

// The same for up to TAKE buffers, those of these packets.
static void issue_array(struct rtl_flow *flow,
                        const FILE_IO_COMPLETION_INFORMATION *entries,
                        uint32_t count)
{
    NT_ARRAY_WRITE writes[TAKE];
    uint32_t sent = 0;
    for (uint32_t i = 0; i < count; i++) {
        IO_STATUS_BLOCK *iosb = entries[i].ApcContext;
        writes[i].ApcContext = writes[i].IoStatusBlock = iosb;
        writes[i].Buffer = flow->buffers +
                           (size_t)(iosb - flow->iosbs) * RTL_FLOW_BLOCK;
        writes[i].ByteOffset = random_block(flow) * RTL_FLOW_BLOCK;
        writes[i].Length = RTL_FLOW_BLOCK;
    }
    NTSTATUS status = nt_write_array(flow->disk, writes, count, &sent);
    if (!NT_SUCCESS(status))
        flow->failed = status;
    flow->issued += sent;
}

void rtl_fill_flow(struct rtl_flow *flow)
{
    for (uint32_t i = 0; i < flow->depth && may_issue(flow); i++)
        issue(flow, &flow->iosbs[i]);
}

static uint32_t take(struct rtl_flow *flow,
                     FILE_IO_COMPLETION_INFORMATION *entries)
{
    uint32_t count = 1;
    NTSTATUS status =
        flow->depth == 1    // there is no second one
            ? NtRemoveIoCompletion(flow->port, &entries->KeyContext,
                                   &entries->ApcContext,
                                   &entries->IoStatusBlock, NULL)
            : NtRemoveIoCompletionEx(flow->port, entries, TAKE, &count, NULL,
                                     false);
    if (status != STATUS_SUCCESS) {
        flow->failed = status;
        count = 0;
    }
    for (uint32_t i = 0; i < count; i++)
        if (NT_ERROR(entries[i].IoStatusBlock.Status))
            flow->failed = entries[i].IoStatusBlock.Status;
    flow->taken += count;
    return count;
}

void rtl_turn_flow(struct rtl_flow *flow)
{
    FILE_IO_COMPLETION_INFORMATION entries[TAKE];
    uint32_t count = take(flow, entries);
    if (flow->array && may_issue(flow)) {
        uint64_t room = flow->limit - flow->issued;
        issue_array(flow, entries, room < count ? (uint32_t)room : count);
        return;
    }
    for (uint32_t i = 0; i < count && may_issue(flow); i++)
        issue(flow, entries[i].ApcContext);
}

NTSTATUS rtl_drain_flow(struct rtl_flow *flow)
{
    FILE_IO_COMPLETION_INFORMATION entries[TAKE];
    while (flow->taken < flow->issued && take(flow, entries))
        continue;
    return flow->failed;
}

NTSTATUS rtl_run_flow(struct rtl_flow *flow, uint64_t n)
{
    flow->limit = flow->issued + n;
    rtl_fill_flow(flow);
    while (may_issue(flow))
        rtl_turn_flow(flow);
    flow->limit = UINT64_MAX;
    return rtl_drain_flow(flow);
}
