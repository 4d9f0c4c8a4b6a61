// system.c - system pages: kernel addresses with frames or devices behind.
//
// An address is free if its page table entry is 0: there is no other record.
// Page tables are made as the area is first needed, and stay. Entries become
// taken under the lock; they become 0 without it, which at worst is seen late.

#include "kernel/mm/mmp.h"

#define WRITABLE (MM_PTE_KERNEL | MM_PTE_WRITE | MM_PTE_NX)

static KSPIN_LOCK system_lock;
static uint64_t room = MM_SYSTEM_PAGES;    // where to look first; lock

// Takes this many free bytes and maps them: to physical memory, uncached, or,
// NULL, to new frames. 0: addresses or memory are used up.
static uint64_t take(uint64_t size, const MEMORY_RANGE *physical)
{
    const MEMORY_RANGE area = {
        MM_SYSTEM_PAGES,
        MM_SYSTEM_PAGES + (uint64_t)MM_SYSTEM_PAGE_COUNT * PAGE_SIZE,
    };
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&system_lock);
    uint64_t base = mm_find_room(mm_kernel_cr3, &room, area, size, PAGE_SIZE);
    MEMORY_RANGE pages = { base, base + size };
    if (base &&
        !(physical ? mm_map(base, *physical, WRITABLE | MM_PTE_UNCACHED)
                   : mm_commit(mm_kernel_cr3, pages, WRITABLE, NULL)))
        base = 0;
    KeReleaseSpinLock(&system_lock, old);
    return base;
}

// Returns contiguous pages, zeroed.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: NULL if frames or addresses are used up
void *mm_allocate_system_pages(uint32_t pages)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    if (pages + MM_FRAMES_FOR_IO > mm_available_frames)
        return NULL;
    return (void *)take((uint64_t)pages * PAGE_SIZE, NULL);
}

// Gives back what mm_allocate_system_pages returned, with the same pages.
// Interrupts other processors: no spin lock held.
//
// IRQL:    <= DISPATCH_LEVEL
void mm_free_system_pages(void *address, uint32_t pages)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    uint64_t base = (uintptr_t)address;
    mm_decommit(mm_kernel_cr3, NULL, (MEMORY_RANGE){
        base, base + (uint64_t)pages * PAGE_SIZE });
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&system_lock);
    room = MIN(room, base);
    KeReleaseSpinLock(&system_lock, old);
}

// Maps device registers, uncached, for ever.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: NULL when no addresses are left, or no memory for page tables
// NT:      MmMapIoSpace (WDK). Left out: CacheType, always MmNonCached.
void *MmMapIoSpace(uint64_t physical, size_t length)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    const MEMORY_RANGE range = { PAGE_ALIGN_DOWN(physical),
                                 PAGE_ALIGN_UP(physical + length) };
    uint64_t base = take(range.end - range.start, &range);
    return base ? (char *)base + BYTE_OFFSET(physical) : NULL;
}
