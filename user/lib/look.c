// look.c - the machine at one moment, to be compared with another one.

#include <road.h>

#include <stdlib.h>

#define FIRST_SIZE   (64 * 1024u)    // of a snapshot
#define LARGEST_SIZE (16 * 1024 * 1024u)
#define RECORDS      2048

static uint64_t positions[RTL_PROCESSORS];    // in the trace rings
static TRACE_RECORD records[RECORDS];

// Returns: STATUS_NO_MEMORY
//          STATUS_INFO_LENGTH_MISMATCH  there is more than any snapshot holds
// Owns:    the caller frees *snapshot, which may be NULL at first
NTSTATUS rtl_take_snapshot(SYSTEM_SNAPSHOT **snapshot, uint32_t *size)
{
    for (;;) {
        NTSTATUS status = *snapshot
            ? NtQuerySystemInformation(SystemSnapshotInformation, *snapshot,
                                       *size, NULL)
            : STATUS_INFO_LENGTH_MISMATCH;
        if (status != STATUS_INFO_LENGTH_MISMATCH || *size >= LARGEST_SIZE)
            return status;
        free(*snapshot);
        *size = *size ? 2 * *size : FIRST_SIZE;
        *snapshot = malloc(*size);
        if (!*snapshot)
            return STATUS_NO_MEMORY;
    }
}

// A processor may have woken as the snapshot was made: that halt is then
// missing here, but not in the next one.
uint64_t rtl_halted_time(const SYSTEM_SNAPSHOT *snapshot, uint32_t processor)
{
    const SNAPSHOT_PROCESSOR *it =
        &rtl_snapshot_processors(snapshot)[processor];
    uint64_t since = it->HaltedSince;
    return it->HaltedTime +
           (since && since < snapshot->Time ? snapshot->Time - since : 0);
}

// Counts what the rings got since the last look.
static void read_trace(struct rtl_look *look, bool count)
{
    uint32_t processors = look->snapshot->Processors;
    for (uint32_t i = 0; i < processors && i < RTL_PROCESSORS; i++) {
        uint32_t copied = RECORDS, lost;
        while (copied == RECORDS &&
               NT_SUCCESS(nt_trace_read(i, &positions[i], records, RECORDS,
                                        &copied, &lost))) {
            look->lost += count ? lost : 0;
            for (uint32_t r = 0; count && r < copied; r++) {
                uint32_t code = TRACE_CODE(records[r].Event);
                look->apcs += code == TRACE_APC_IN || code == TRACE_USER_APC;
                look->packets += code == TRACE_PORT_REMOVE;
                look->switches += code == TRACE_SWITCH;
            }
        }
    }
}

NTSTATUS rtl_look_at(struct rtl_look *look, const struct rtl_look *before)
{
    NTSTATUS status = rtl_take_snapshot(&look->snapshot, &look->size);
    if (!NT_SUCCESS(status))
        return status;
    if (before) {
        look->apcs = before->apcs;
        look->packets = before->packets;
        look->switches = before->switches;
        look->lost = before->lost;
    }
    read_trace(look, before != NULL);
    return status;
}

void rtl_widen_trace(void)
{
    nt_trace_mask(1u << TRACE_APC_IN | 1u << TRACE_USER_APC |
                      1u << TRACE_PORT_INSERT | 1u << TRACE_PORT_REMOVE |
                      1u << TRACE_SWITCH, NULL);
}
