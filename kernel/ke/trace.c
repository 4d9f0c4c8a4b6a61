// trace.c - the trace rings, reading them, and their way out through port 0xe9;
// trace.h writes into them.
//
// The export is a stream of 16-byte units: records, and between them notes,
// which look like a record whose event code is 0 (trace.h). A new thread is
// told at once; the records, by whoever ends the system: so nothing of it is
// part of what is seen. The rings are large then (kernel/main.c).

#include "kernel/ke/kep.h"

enum { EXPORT_PORT = 0xE9,    // QEMU's debugcon, which reads as its number
       BATCH = 32 };          // records copied out of a ring at a time

ki_trace_ring ki_trace_rings[MAXIMUM_PROCESSORS];
volatile uint32_t ki_trace_mask;
volatile uint32_t ki_plain_services;
uint32_t ke_default_trace_mask;
static KSPIN_LOCK mask_lock;
static uint32_t wishes[32];      // how many processes want the event

static bool exporting;
static KSPIN_LOCK port_lock;     // for units that belong together

// Somebody wants these events from now on, beside the default ones and those
// that others want. wanted: its own, 0 at first; 0 again when it ends.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: what it wanted before
uint32_t ke_want_trace(uint32_t *wanted, uint32_t mask)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    uint32_t before, all = ke_default_trace_mask;
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&mask_lock);
    before = *wanted;
    *wanted = mask;
    for (uint32_t i = 0; i < ARRAY_SIZE(wishes); i++) {
        wishes[i] += (mask >> i & 1) - (before >> i & 1);
        all |= (uint32_t)(wishes[i] != 0) << i;
    }
    ki_trace_mask = all;
    ki_plain_services = all >> TRACE_SERVICE & 1 ? 0 : ke_hook.service_count;
    KeReleaseSpinLock(&mask_lock, old);
    return before;
}

// See trace.h.
//
// IRQL:    any level
__attribute__((no_caller_saved_registers, used))
void ki_trace_aside(uint32_t event, uint32_t aux, uint32_t id)
{
    ki_trace_write(event, KI_PRESENT_LEVEL, aux, id);
}

// From ki_system_call: the only event that assembler writes.
//
// IRQL:    == PASSIVE_LEVEL
__attribute__((no_caller_saved_registers))
void ki_trace_service(uint32_t number)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    ki_trace(TRACE_SERVICE, 0, number);
}

// Copies up to count records from *position on and moves that behind the last
// one. It skips those that have been overwritten: a record counts only if its
// slot has not been reserved anew when it has been copied. The newest ones of
// another processor may be read before they are complete.
//
// IRQL:    any level
// Returns: how many were copied; as many as *position moved further are lost
uint32_t ke_read_trace(const ki_trace_ring *ring, uint64_t *position,
                       TRACE_RECORD *records, uint32_t count)
{
    const uint64_t size = (ring->mask + 1) / sizeof(*records);
    uint32_t done = 0;
    while (done < count && *position < ke_trace_count(ring)) {
        records[done] = *ki_trace_record(ring, *position * sizeof(*records));
        __atomic_thread_fence(__ATOMIC_ACQUIRE);    // copied before we look
        uint64_t next = ke_trace_count(ring);
        if (next - *position > size) {
            *position = next - size;
            continue;
        }
        done++;
        ++*position;
    }
    return done;
}

// ---- The export -----------------------------------------------------------

static void put(const void *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        hal_out8(EXPORT_PORT, ((const uint8_t *)bytes)[i]);
}

static void put_note(uint16_t kind, uint32_t id, uint64_t value)
{
    const TRACE_RECORD note = { .Time = value, .Aux = kind, .Id = id };
    put(&note, sizeof(note));
}

// Begins the export if it was asked for and somebody listens.
//
// IRQL:    == PASSIVE_LEVEL
void ke_init_export(void)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    exporting = ke_default_trace_mask & KI_TRACE_EXPORT &&
                hal_in8(EXPORT_PORT) == EXPORT_PORT;
    if (exporting)
        put_note(KI_NOTE_START, (uint32_t)(ki_trace_rings[0].mask + 1) /
                                    sizeof(TRACE_RECORD), hal_tsc_frequency);
}

// Tells the stream whose a new thread is.
//
// IRQL:    == PASSIVE_LEVEL
void ke_export_thread(uint32_t id, uint32_t process, const char name[16])
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    if (!exporting)
        return;
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&port_lock);
    put_note(KI_NOTE_THREAD, id, process);
    put(name, sizeof(TRACE_RECORD));
    KeReleaseSpinLock(&port_lock, old);
}

// Writes out what is new in every ring; what comes meanwhile is for the next
// time, else a busy processor would have no end.
//
// IRQL:    == PASSIVE_LEVEL
void ke_export_trace(void)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    static uint64_t positions[MAXIMUM_PROCESSORS];
    TRACE_RECORD batch[BATCH];
    if (!exporting)
        return;
    for (uint32_t i = 0, got; i < KeNumberProcessors; i++)
        for (uint64_t end = ke_trace_count(&ki_trace_rings[i]);
             positions[i] < end;) {
            KIRQL old = KeAcquireSpinLockRaiseToDpc(&port_lock);
            uint64_t lost = -positions[i];
            got = ke_read_trace(&ki_trace_rings[i], &positions[i], batch,
                                BATCH);
            lost += positions[i] - got;
            put_note(KI_NOTE_RECORDS, i, lost << 32 | got);
            put(batch, got * sizeof(*batch));
            KeReleaseSpinLock(&port_lock, old);
        }
}
