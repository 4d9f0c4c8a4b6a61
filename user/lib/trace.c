// trace.c - collects what the processors' trace rings say during a run.

#include <road.h>

#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 1024
#define SETTLE_TIME    (-(int64_t)20 * 10000)    // 20 ms, in 100 ns

uint64_t rtl_ticks(void)
{
    int64_t counter = 0;
    NtQueryPerformanceCounter(&counter, NULL);
    return (uint64_t)counter;
}

uint64_t rtl_ticks_to_us(uint64_t ticks)
{
    static uint64_t frequency;
    if (frequency == 0) {
        int64_t counter = 0;
        int64_t per_second = 0;
        NtQueryPerformanceCounter(&counter, &per_second);
        frequency = per_second > 0 ? (uint64_t)per_second : 1;
    }
    return ticks / frequency * 1000000 +
           ticks % frequency * 1000000 / frequency;
}

static bool make_room(struct rtl_ring *ring)
{
    if (ring->count < ring->capacity)
        return true;
    size_t capacity = ring->capacity ? 2 * ring->capacity : FIRST_CAPACITY;
    TRACE_RECORD *records = realloc(ring->records,
                                    capacity * sizeof(*records));
    if (!records)
        return false;
    ring->records = records;
    ring->capacity = capacity;
    return true;
}

// Without memory for more records the rest is counted as lost.
static void drain_ring(struct rtl_trace *trace, uint32_t processor)
{
    struct rtl_ring *ring = &trace->rings[processor];
    TRACE_RECORD spill[64];
    for (;;) {
        bool room = make_room(ring);
        TRACE_RECORD *to = room ? ring->records + ring->count : spill;
        size_t count = room ? ring->capacity - ring->count : 64;
        uint32_t copied = 0;
        uint32_t lost = 0;
        NTSTATUS status = nt_trace_read(processor, &ring->position, to,
                                        (uint32_t)count, &copied, &lost);
        if (!NT_SUCCESS(status))
            return;
        trace->lost += lost;
        if (room)
            ring->count += copied;
        else
            trace->lost += copied;
        if (copied < count)
            return;
    }
}

void rtl_trace_drain(struct rtl_trace *trace)
{
    for (uint32_t i = 0; i < trace->processors; i++)
        drain_ring(trace, i);
}

// Forgets what happened before, but for the thread that runs now.
static void forget(struct rtl_ring *ring)
{
    for (size_t i = 0; i < ring->count; i++) {
        if (TRACE_CODE(ring->records[i].Event) == TRACE_SWITCH)
            ring->first_thread = ring->records[i].Id;
    }
    ring->count = 0;
}

// Returns: STATUS_NO_MEMORY  no room for the first records
//          or what the services say; the mask is then as it was
NTSTATUS rtl_trace_begin(struct rtl_trace *trace, uint32_t mask)
{
    SYSTEM_BASIC_INFORMATION system;
    memset(trace, 0, sizeof(*trace));
    NTSTATUS status = NtQuerySystemInformation(SystemBasicInformation, &system,
                                               sizeof(system), NULL);
    if (!NT_SUCCESS(status))
        return status;
    trace->processors = system.NumberOfProcessors;
    if (trace->processors > RTL_PROCESSORS)
        trace->processors = RTL_PROCESSORS;
    for (uint32_t i = 0; i < trace->processors; i++) {
        if (!make_room(&trace->rings[i]))
            return STATUS_NO_MEMORY;
    }
    status = nt_trace_mask(mask, &trace->old_mask);
    if (!NT_SUCCESS(status))
        return status;

    // While this thread sleeps, the console's last interrupts pass, and its
    // switches away and back tell each ring who runs.
    int64_t pause = SETTLE_TIME;
    NtDelayExecution(false, &pause);
    rtl_trace_drain(trace);
    for (uint32_t i = 0; i < trace->processors; i++)
        forget(&trace->rings[i]);
    trace->lost = 0;
    return STATUS_SUCCESS;
}

void rtl_trace_end(struct rtl_trace *trace)
{
    rtl_trace_drain(trace);
    nt_trace_mask(trace->old_mask, NULL);
}
