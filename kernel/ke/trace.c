// trace.c - writing a record into the processor's own ring, reading the rings,
// and their way out through port 0xe9.
//
// The export is a stream of 16-byte units: records, and between them notes,
// which look like a record whose event code is 0 (trace.h). A thread writes
// it, at PASSIVE_LEVEL: one of its own when a ring is half full, the one that
// ends the system for the rest. The DPC that wakes it does nothing else.

#include "kernel/ke/kep.h"

enum { EXPORT_PORT = 0xE9,    // QEMU's debugcon, which reads as its number
       BATCH = 32 };          // records copied out of a ring at a time

ki_trace_ring ki_trace_rings[MAXIMUM_PROCESSORS];
volatile uint32_t ki_trace_mask;
uint32_t ke_default_trace_mask, ke_trace_owner;

static bool exporting;
static KDPC wake_dpc;
static KEVENT half_full, port_free;

// Gives the processor its ring. records: count of them, a power of two.
//
// IRQL:    any level
void ke_init_trace(uint32_t processor, TRACE_RECORD *records, uint64_t count)
{
    ki_trace_rings[processor] = (ki_trace_ring){ .mask = count - 1,
                                                 .records = records };
}

// Writes one record. xadd without lock: another processor never writes here,
// and an interrupt comes before or after it, so each gets a slot of its own.
// A thread may move between the two lines; its record then lies in the ring
// of the processor that it came from, which it has just left.
//
// The DPC is a Low one, which never runs inside this call, wherever that is;
// the self-IPI has it run as soon as the level allows, and wakes an idle
// processor whose last word before the hlt this record is.
//
// IRQL:    any level
void ki_trace_write(uint32_t event, uint32_t aux, uint32_t id)
{
    enum { IRQL_SHIFT = 8 };
    ki_trace_ring *ring = &ki_trace_rings[KeGetCurrentProcessorNumber()];
    uint64_t slot = 1;
    __asm__ volatile("xaddq %0, %1" : "+r"(slot), "+m"(ring->next)::"memory");
    ring->records[slot & ring->mask] = (TRACE_RECORD){
        .Time = hal_read_tsc(),
        .Event = (uint16_t)(event | (uint32_t)KeGetCurrentIrql() << IRQL_SHIFT),
        .Aux = (uint16_t)aux,
        .Id = id,
    };
    if (!(slot & ring->mask >> 1) && exporting &&
        KeInsertQueueDpc(&wake_dpc, NULL, NULL))
        hal_send_self_ipi(HAL_VECTOR_DPC);
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
    uint32_t done = 0;
    while (done < count && *position < ring->next) {
        records[done] = ring->records[*position & ring->mask];
        __atomic_thread_fence(__ATOMIC_ACQUIRE);    // copied before we look
        uint64_t next = __atomic_load_n(&ring->next, __ATOMIC_ACQUIRE);
        if (next - *position > ring->mask + 1) {
            *position = next - ring->mask - 1;
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

static void on_half_full(KDPC *dpc, void *context, void *argument1,
                         void *argument2)
{
    (void)dpc, (void)context, (void)argument1, (void)argument2;
    KeSetEvent(&half_full, IO_NO_INCREMENT);
}

// Begins the export if it was asked for and somebody listens.
//
// IRQL:    == PASSIVE_LEVEL
bool ke_init_export(void)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    exporting = ke_default_trace_mask & KI_TRACE_EXPORT &&
                hal_in8(EXPORT_PORT) == EXPORT_PORT;
    KeInitializeEvent(&half_full, SynchronizationEvent, false);
    KeInitializeEvent(&port_free, SynchronizationEvent, true);
    KeInitializeDpc(&wake_dpc, on_half_full, NULL);
    KeSetImportanceDpc(&wake_dpc, LowImportance);
    if (exporting)
        put_note(KI_NOTE_START, (uint32_t)ki_trace_rings[0].mask + 1,
                 hal_tsc_frequency);
    return exporting;
}

// Tells the stream whose a new thread is. Nobody may be suspended while the
// port is his: the others, and the end, would wait for it.
//
// IRQL:    == PASSIVE_LEVEL
void ke_export_thread(uint32_t id, uint32_t process, const char name[16])
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    if (!exporting)
        return;
    KeEnterCriticalRegion();
    KeWaitForSingleObject(&port_free, Executive, KernelMode, false, NULL);
    put_note(KI_NOTE_THREAD, id, process);
    put(name, sizeof(TRACE_RECORD));
    KeSetEvent(&port_free, IO_NO_INCREMENT);
    KeLeaveCriticalRegion();
}

// Writes out what is new in every ring.
//
// IRQL:    == PASSIVE_LEVEL
void ke_export_trace(void)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    static uint64_t positions[MAXIMUM_PROCESSORS];
    TRACE_RECORD batch[BATCH];
    if (!exporting)
        return;
    KeEnterCriticalRegion();
    KeWaitForSingleObject(&port_free, Executive, KernelMode, false, NULL);
    for (uint32_t i = 0, got; i < KeNumberProcessors; i++)
        do {
            uint64_t lost = -positions[i];
            got = ke_read_trace(&ki_trace_rings[i], &positions[i], batch,
                                BATCH);
            lost += positions[i] - got;
            put_note(KI_NOTE_RECORDS, i, lost << 32 | got);
            put(batch, got * sizeof(*batch));
        } while (got == BATCH);
    KeSetEvent(&port_free, IO_NO_INCREMENT);
    KeLeaveCriticalRegion();
}

// The thread that writes when a ring is half full.
//
// IRQL:    == PASSIVE_LEVEL
void ke_run_export(void *context)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    (void)context;
    for (;;) {
        KeWaitForSingleObject(&half_full, Executive, KernelMode, false, NULL);
        ke_export_trace();
    }
}
