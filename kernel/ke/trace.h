// trace.h - the trace ring: one per processor, always on.
//
// A record is 16 bytes; see TRACE_RECORD. The slot is reserved by a single
// instruction, so that an interrupt may write in the middle of a record of
// what it interrupted, and no lock is needed.

#pragma once

#include "kernel/assert.h"
#include "kernel/hal/hal.h"
#include "kernel/ke/thread.h"
#include "kernel/nt.h"

typedef struct ki_trace_ring {
    volatile uint64_t next;      // bytes ever reserved
    uint64_t mask;               // bytes in the ring - 1; a power of two
    TRACE_RECORD *records;
} ki_trace_ring;

extern ki_trace_ring ki_trace_rings[MAXIMUM_PROCESSORS];
extern volatile uint32_t ki_trace_mask;
extern volatile uint32_t ki_plain_services;    // none of whose calls is traced
extern uint32_t ke_default_trace_mask;    // trace= of the command line
uint32_t ke_want_trace(uint32_t *wanted, uint32_t mask);

// The bit of no event: the rings are also written to port 0xe9.
#define KI_TRACE_EXPORT  1u
#define KI_TRACE_DEFAULT                                          \
    (1u << TRACE_SWITCH | 1u << TRACE_DMA_START | 1u << TRACE_ISR_IN | \
     1u << TRACE_IRP_COMPLETE | 1u << TRACE_PORT_REMOVE)

// What the stream of port 0xe9 holds beside records: notes, that is records
// with code 0, whose Aux is
//   START    Id: records of a ring, Time: ticks of the TSC a second
//   RECORDS  Id: processor, Time: so many of its records follow; above bit 32,
//            how many were lost before them
//   THREAD   Id: a thread, Time: its process; 16 bytes follow, the program
enum { KI_NOTE_START, KI_NOTE_RECORDS, KI_NOTE_THREAD };

enum { KI_PRESENT_LEVEL = 0xFF };    // of a trace's irql: what CR8 says

// How many records it has ever had.
static inline uint64_t ke_trace_count(const ki_trace_ring *ring)
{
    return ring->next / sizeof(TRACE_RECORD);
}

// The record at a position in bytes.
static inline TRACE_RECORD *ki_trace_record(const ki_trace_ring *ring,
                                            uint64_t at)
{
    return (TRACE_RECORD *)((char *)ring->records + (at & ring->mask));
}

// Writes one record. An interrupt takes its slot before or after us, so each
// gets one of its own. Locked, since a thread may move meanwhile: its record
// then goes into the ring of the processor that it has just left. Any level.
static FORCEINLINE void ki_trace_write(uint32_t event, uint32_t irql,
                                       uint32_t aux, uint32_t id)
{
    enum { IRQL_SHIFT = 8, AUX_SHIFT = 16 };
    ki_trace_ring *ring = KI_PRCB_FIELD(trace);
    uint64_t at = __atomic_fetch_add(&ring->next, sizeof(TRACE_RECORD),
                                     __ATOMIC_RELAXED);
    TRACE_RECORD *record = ki_trace_record(ring, at);
    hal_stamp(&record->Time);
    if (irql == KI_PRESENT_LEVEL)
        irql = KeGetCurrentIrql();
    // Event and Aux, in one store.
    *(uint32_t *)(void *)&record->Event =
        event | irql << IRQL_SHIFT | aux << AUX_SHIFT;
    record->Id = id;
}

uint32_t ke_read_trace(const ki_trace_ring *ring, uint64_t *position,
                       TRACE_RECORD *records, uint32_t count);

void ke_init_export(void);
void ke_export_thread(uint32_t id, uint32_t process, const char name[16]);
void ke_export_trace(void);

// ki_trace_write, but it leaves all registers alone.
__attribute__((no_caller_saved_registers))
void ki_trace_aside(uint32_t event, uint32_t aux, uint32_t id);

// Writes a record if its event is in the mask; irql: the level, where it is
// known; DISPATCH_LEVEL also where interrupts are off instead. What rarely is
// takes a call of which the compiler knows nothing: where it is not made, it
// costs no more than the look at the mask.
static FORCEINLINE void ki_trace_at(TRACE_EVENT event, uint32_t irql,
                                    uint32_t aux, uint32_t id)
{
    ASSERT(irql == KI_PRESENT_LEVEL || irql == KeGetCurrentIrql() ||
           !(__builtin_ia32_readeflags_u64() & 1u << 9));    // IF
    bool wanted;    // the compiler would load the mask first
    __asm__ volatile("testl %2, %1" : "=@ccnz"(wanted)
                     : "m"(ki_trace_mask), "ri"(1u << event));
    if (!wanted)
        return;
    if (KI_TRACE_DEFAULT >> event & 1)
        ki_trace_write(event, irql, aux, id);
    else
        __asm__ volatile("call ki_trace_aside" ::"D"(event), "S"(aux), "d"(id)
                         : "memory", "cc");
}

// The same at any level.
static FORCEINLINE void ki_trace(TRACE_EVENT event, uint32_t aux, uint32_t id)
{
    ki_trace_at(event, KI_PRESENT_LEVEL, aux, id);
}
