// system.c - system pages: kernel addresses with frames or devices behind.
//
// An address is free if its page table entry is 0: there is no other record.
// Page tables are made as the area is first needed, and stay. A page below and
// one above every run stay unmapped, so who overflows meets nobody.

#include "kernel/mm/mmp.h"

static KSPIN_LOCK system_lock;    // guards entries that become taken

// The lowest pages with a free one on both sides; 0 if there are none, or no
// memory for a page table. Lock held.
static uint64_t find_run(uint64_t pages)
{
    uint64_t run = 0;
    volatile uint64_t *entry = NULL;
    for (uint64_t i = 0; i < MM_SYSTEM_PAGE_COUNT; i++, entry++) {
        uint64_t address = MM_SYSTEM_PAGES + i * PAGE_SIZE;
        if (i % MM_TABLE_ENTRIES == 0)
            entry = mm_make_entry(mm_kernel_cr3, address);
        if (!entry)
            return 0;
        run = *entry ? 0 : run + 1;
        if (run == pages + 2)
            return address - pages * PAGE_SIZE;
    }
    return 0;
}

// Returns contiguous pages, zeroed.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: NULL if frames or addresses are used up
void *mm_allocate_system_pages(uint32_t pages)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    static const uint32_t nobody;    // has seen pages that do not come about
    if (pages > mm_available_frames())
        return NULL;
    KIRQL old;
    KeAcquireSpinLock(&system_lock, &old);
    uint64_t base = find_run(pages);
    if (base && !mm_commit(mm_kernel_cr3, &nobody, base, pages,
                           MM_PTE_KERNEL | MM_PTE_WRITE | MM_PTE_NX))
        base = 0;
    KeReleaseSpinLock(&system_lock, old);
    return (void *)base;
}

// Gives back what mm_allocate_system_pages returned, with the same pages.
// Interrupts other processors: no spin lock held.
//
// IRQL:    <= DISPATCH_LEVEL
void mm_free_system_pages(void *address, uint32_t pages)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    uint32_t all = (uint32_t)((1ull << KeNumberProcessors) - 1);
    mm_decommit(mm_kernel_cr3, &all, (uintptr_t)address, pages);
}

// Maps device registers, uncached, for ever.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: NULL when no addresses are left
// NT:      MmMapIoSpace (WDK). Left out: CacheType, always MmNonCached.
void *MmMapIoSpace(uint64_t physical, size_t length)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    uint64_t pages = BYTES_TO_PAGES(BYTE_OFFSET(physical) + length);
    KIRQL old;
    KeAcquireSpinLock(&system_lock, &old);
    uint64_t base = find_run(pages);
    for (uint64_t i = 0; base && i < pages; i++)
        *mm_page_entry(mm_kernel_cr3, base + i * PAGE_SIZE) =
            (PAGE_ALIGN_DOWN(physical) + i * PAGE_SIZE) | MM_PTE_KERNEL |
            MM_PTE_WRITE | MM_PTE_NX | MM_PTE_UNCACHED;
    KeReleaseSpinLock(&system_lock, old);
    return base ? (char *)base + BYTE_OFFSET(physical) : NULL;
}

// Can address be read without a fault? For bugchecks: takes no lock.
//
// IRQL:    any level
bool mm_is_kernel_address_valid(const void *address)
{
    uint64_t at = (uintptr_t)address;
    volatile uint64_t *entry = mm_page_entry(mm_kernel_cr3, at);
    return at >= MM_DIRECT_MAP && entry && *entry & MM_PTE_PRESENT;
}
