// trace.c - writing a record into the processor's own ring.

#include "kernel/ke/kep.h"

ki_trace_ring ki_trace_rings[MAXIMUM_PROCESSORS];
volatile uint32_t ki_trace_mask;
uint32_t ke_default_trace_mask, ke_trace_owner;

// Gives the processor its ring. records: count of them, a power of two.
//
// IRQL:    any level
void ke_init_trace(uint32_t processor, TRACE_RECORD *records, uint64_t count)
{
    ki_trace_rings[processor] = (ki_trace_ring){ .mask = count - 1,
                                                 .records = records };
}

// Writes one record. An interrupt takes its slot before or after us, so each
// gets one of its own. Locked, since a thread may move between the two lines:
// its record then goes into the ring of the processor that it has just left.
//
// IRQL:    any level
void ki_trace_write(uint32_t event, uint32_t aux, uint32_t id)
{
    enum { IRQL_SHIFT = 8 };
    ki_trace_ring *ring = &ki_trace_rings[KeGetCurrentProcessorNumber()];
    uint64_t slot = 1;
    __asm__ volatile("lock xaddq %0, %1"
                     : "+r"(slot), "+m"(ring->next)::"memory");
    ring->records[slot & ring->mask] = (TRACE_RECORD){
        .Time = hal_read_tsc(),
        .Event = (uint16_t)(event | (uint32_t)KeGetCurrentIrql() << IRQL_SHIFT),
        .Aux = (uint16_t)aux,
        .Id = id,
    };
}
