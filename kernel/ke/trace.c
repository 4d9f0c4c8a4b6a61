// trace.c - the trace rings; trace.h writes into them.

#include "kernel/ke/kep.h"

ki_trace_ring ki_trace_rings[MAXIMUM_PROCESSORS];
volatile uint32_t ki_trace_mask;
uint32_t ke_default_trace_mask, ke_trace_owner;

// Gives the processor its ring. records: count of them, a power of two.
//
// IRQL:    any level
void ke_init_trace(uint32_t processor, TRACE_RECORD *records, uint64_t count)
{
    ki_trace_ring *ring = &ki_trace_rings[processor];
    *ring = (ki_trace_ring){ .mask = count - 1, .records = records };
}

// From ki_system_call: the only event that assembler writes.
//
// IRQL:    == PASSIVE_LEVEL
void ki_trace_service(uint32_t number)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    ki_trace_write(TRACE_SERVICE, 0, number);
}
