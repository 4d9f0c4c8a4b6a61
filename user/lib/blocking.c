// blocking.c - the other way: a thread for each write, which waits in it. Only
// to compare: what so many threads cost, and that they can be seen.

#include <road.h>

#include <stdio.h>
#include <stdlib.h>

#define STACK_SIZE 16384

static volatile uint32_t begun;    // threads that are about to call

static NTSTATUS write_and_wait(void *context)
{
    struct rtl_blocking *write = context;
    __atomic_add_fetch(&begun, 1, __ATOMIC_SEQ_CST);
    write->status = NtWriteFile(write->file, NULL, NULL, NULL, &write->iosb,
                                write->buffer, write->length, write->offset);
    return write->status;
}

// Each has its own handle: two threads on one synchronous handle take turns.
static NTSTATUS start(struct rtl_blocking *write, uint32_t disk)
{
    DISK_GEOMETRY geometry;
    NTSTATUS status = nt_open_disk(disk, FILE_WRITE_DATA,
                                   FILE_SYNCHRONOUS_IO_NONALERT, &write->file,
                                   &geometry);
    if (!NT_SUCCESS(status))
        return status;
    status = NtCreateThreadEx(&write->thread, ALL_ACCESS, NULL,
                              NtCurrentProcess(), (void *)write_and_wait,
                              write, 0, STACK_SIZE);
    if (!NT_SUCCESS(status))
        NtClose(write->file);
    return status;
}

// Returns: how many threads write; *status says why the next one does not
size_t rtl_start_blocking(struct rtl_blocking *writes, size_t count,
                          uint32_t disk, NTSTATUS *status)
{
    size_t started = 0;
    *status = STATUS_SUCCESS;
    for (; started < count; started++) {
        *status = start(&writes[started], disk);
        if (!NT_SUCCESS(*status))
            break;
    }
    // Without a timer, whose interrupt would be no part of any write.
    while (begun < started)
        NtYieldExecution();
    NtYieldExecution();
    return started;
}

void rtl_end_blocking(struct rtl_blocking *writes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        NtWaitForSingleObject(writes[i].thread, false, NULL);
        NtClose(writes[i].thread);
        NtClose(writes[i].file);
    }
}

// ---- What it costs --------------------------------------------------------

void rtl_look_at_cost(struct rtl_cost *cost)
{
    SYSTEM_PERFORMANCE_INFORMATION now = { 0 };
    NtQuerySystemInformation(SystemPerformanceInformation, &now, sizeof(now),
                             NULL);
    cost->threads[cost->looks & 1] = now.Threads;
    // What the pool has used counts, not the pages that it keeps.
    cost->bytes[cost->looks & 1] =
        now.PoolBytes - (now.AvailablePages + now.PoolPages) * 4096;
    cost->looks++;
}

void rtl_print_cost(const struct rtl_cost *cost, const struct rtl_trace *trace,
                    size_t writes)
{
    char number[RTL_GROUPED_SIZE];
    uint64_t threads = cost->threads[1] - cost->threads[0];
    uint64_t switches = 0;
    for (uint32_t p = 0; p < trace->processors; p++) {
        for (size_t i = 0; i < trace->rings[p].count; i++)
            switches += TRACE_CODE(trace->rings[p].records[i].Event) ==
                        TRACE_SWITCH;
    }
    rtl_print_title("What it cost");
    printf("  threads, all in flight  %12s\n", rtl_grouped(threads, number));
    printf("  their stacks            %12s  one in ring 3 and one in ring 0 for"
           " each thread\n", rtl_grouped(2 * threads, number));
    printf("  memory, all in flight   %12s KiB, stacks and requests\n",
           rtl_grouped((cost->bytes[1] - cost->bytes[0] + 1023) / 1024,
                       number));
    printf("  switches of threads     %12s  ", rtl_grouped(switches, number));
    printf("%lu.%lu for each write%s\n", switches / writes,
           switches * 10 / writes % 10,
           trace->lost ? ", without those that were lost" : "");
}
