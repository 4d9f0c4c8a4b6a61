// ipi.c - what one processor asks of the others.

#include "kernel/ke/kep.h"

// Drops the TLB entries of pages pages from address on: here, and on the other
// processors in the mask, once those are started.
//
// IRQL:    <= DISPATCH_LEVEL
void ke_flush_tlb(uint32_t processors, const void *address, uint64_t pages)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    enum { FLUSH_ALL_ABOVE = 64 };
    (void)processors;
    if (pages > FLUSH_ALL_ABOVE) {
        ki_flush_whole_tlb();
        return;
    }
    const char *page = address;
    for (uint64_t i = 0; i < pages; i++)
        __asm__ volatile("invlpg (%0)" ::"r"(page + i * PAGE_SIZE) : "memory");
}
