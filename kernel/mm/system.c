// system.c - system pages: kernel addresses by number, with frames behind.
//
// A bitmap says which pages are taken; the search goes on where the last one
// ended, so an address that was freed is not used again at once. Page tables
// are made as the area is first needed, and stay. A run belongs to its owner
// from the moment its bits are set: entries are written without the lock.

#include "kernel/mm/mmp.h"

#define NOT_FOUND UINT32_MAX
#define WORD_BITS 64u

extern char ki_image_start[], ki_image_end[];

static KSPIN_LOCK system_lock;    // guards all below
static uint64_t bitmap[MM_SYSTEM_PAGE_COUNT / WORD_BITS];
static uint32_t limit;    // pages that have a page table
static uint32_t next;     // where to search

static volatile uint64_t *page_entry(uint64_t address)
{
    return mm_find_entry(mm_kernel_cr3, address, 1);
}

// Sets or clears the bits of pages pages from first on.
static void mark(uint32_t first, uint32_t pages, bool taken)
{
    for (uint32_t i = first; i < first + pages; i++) {
        uint64_t bit = 1ull << i % WORD_BITS;
        ASSERT(!(bitmap[i / WORD_BITS] & bit) == taken);
        bitmap[i / WORD_BITS] ^= bit;
    }
}

// Looks for a free run once around, from next on.
static uint32_t find_run(uint32_t pages)
{
    uint32_t run = 0;
    for (uint32_t i = 0; limit && i < limit + pages; i++) {
        uint32_t at = (next + i) % limit;
        if (at == 0)
            run = 0;
        if (bitmap[at / WORD_BITS] >> at % WORD_BITS & 1)
            run = 0;
        else if (++run == pages)
            return at + 1 - pages;
    }
    return NOT_FOUND;
}

// Adds one page table to the area.
static bool grow(void)
{
    if (limit == MM_SYSTEM_PAGE_COUNT)
        return false;
    PFN_NUMBER frame = mm_allocate_frame();
    if (!frame)
        return false;
    uint64_t address = MM_SYSTEM_PAGES + (uint64_t)limit * PAGE_SIZE;
    *mm_find_entry(mm_kernel_cr3, address, 2) =
        mm_frame_entry(frame, MM_PTE_PRESENT | MM_PTE_WRITE);
    limit += MM_TABLE_ENTRIES;
    return true;
}

// Takes a run of addresses.
static uint32_t reserve_run(uint32_t pages)
{
    KIRQL old;
    KeAcquireSpinLock(&system_lock, &old);
    uint32_t first = NOT_FOUND;
    do {
        first = find_run(pages);
    } while (first == NOT_FOUND && pages <= MM_SYSTEM_PAGE_COUNT && grow());
    if (first != NOT_FOUND) {
        mark(first, pages, true);
        next = first + pages;
    }
    KeReleaseSpinLock(&system_lock, old);
    return first;
}

static void release_run(uint32_t first, uint32_t pages)
{
    KIRQL old;
    KeAcquireSpinLock(&system_lock, &old);
    mark(first, pages, false);
    KeReleaseSpinLock(&system_lock, old);
}

// Returns pages contiguous pages, zeroed; with guard, an unmapped one lies
// below them.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: NULL if frames or addresses are used up
void *mm_allocate_system_pages(uint32_t pages, bool guard)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    if (!pages || pages > mm_available_frames())
        return NULL;
    uint32_t first = reserve_run(pages + guard);
    if (first == NOT_FOUND)
        return NULL;
    uint64_t base = MM_SYSTEM_PAGES + (uint64_t)(first + guard) * PAGE_SIZE;
    for (uint32_t i = 0; i < pages; i++) {
        PFN_NUMBER frame = mm_allocate_frame();
        if (!frame) {
            // Nobody has seen these addresses: there is nothing to flush.
            while (i--) {
                volatile uint64_t *entry = page_entry(base + i * PAGE_SIZE);
                mm_release_frame(mm_entry_frame(*entry));
                *entry = 0;
            }
            release_run(first, pages + guard);
            return NULL;
        }
        *page_entry(base + (uint64_t)i * PAGE_SIZE) =
            mm_frame_entry(frame, MM_PTE_KERNEL | MM_PTE_WRITE);
    }
    return (void *)base;
}

// Gives back what mm_allocate_system_pages returned, with the same pages and
// guard. Interrupts other processors: no spin lock held.
//
// IRQL:    <= DISPATCH_LEVEL
void mm_free_system_pages(void *address, uint32_t pages, bool guard)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    uint64_t base = (uintptr_t)address;
    for (uint32_t i = 0; i < pages; i++) {
        volatile uint64_t *entry = page_entry(base + (uint64_t)i * PAGE_SIZE);
        ASSERT(*entry & MM_PTE_PRESENT);
        *entry &= ~MM_PTE_PRESENT;
    }
    uint32_t processors = (uint32_t)((1ull << MAX(KeNumberProcessors, 1u)) - 1);
    ke_flush_tlb(processors, address, pages);

    // Now no processor reaches the frames through these addresses any more.
    for (uint32_t i = 0; i < pages; i++) {
        volatile uint64_t *entry = page_entry(base + (uint64_t)i * PAGE_SIZE);
        mm_release_frame(mm_entry_frame(*entry));
        *entry = 0;
    }
    uint32_t first = (uint32_t)((base - MM_SYSTEM_PAGES) >> PAGE_SHIFT);
    release_run(first - guard, pages + guard);
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
    if (!length || pages > MM_SYSTEM_PAGE_COUNT)
        return NULL;
    uint32_t first = reserve_run((uint32_t)pages);
    if (first == NOT_FOUND)
        return NULL;
    uint64_t base = MM_SYSTEM_PAGES + (uint64_t)first * PAGE_SIZE;
    for (uint64_t offset = 0; offset < pages * PAGE_SIZE; offset += PAGE_SIZE)
        *page_entry(base + offset) = (PAGE_ALIGN_DOWN(physical) + offset) |
                                     MM_PTE_KERNEL | MM_PTE_WRITE |
                                     MM_PTE_UNCACHED;
    return (char *)base + BYTE_OFFSET(physical);
}

// Makes a stack of MM_STACK_PAGES above a guard page.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: its lowest byte, or NULL
// NT:      MmCreateKernelStack (symbol). Left out: size and node, one size.
void *MmCreateKernelStack(void)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    return mm_allocate_system_pages(MM_STACK_PAGES, true);
}

// Frees a stack that no processor runs on.
//
// IRQL:    <= DISPATCH_LEVEL, no spin lock held
// NT:      MmDeleteKernelStack (symbol). Left out: the size. limit is its
//          lowest byte, as MmCreateKernelStack returned it.
void MmDeleteKernelStack(void *limit_of_stack)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    mm_free_system_pages(limit_of_stack, MM_STACK_PAGES, true);
}

// Can address be read without a fault? For bugchecks: takes no lock.
//
// IRQL:    any level
bool mm_is_kernel_address_valid(const void *address)
{
    if (!mm_kernel_cr3)    // before mm_init: the image, and no tables yet
        return (char *)address >= ki_image_start &&
               (char *)address < ki_image_end;
    uint64_t at = (uintptr_t)address;
    if (at < MM_DIRECT_MAP)
        return false;
    volatile uint64_t *entry = mm_find_entry(mm_kernel_cr3, at, 1);
    return entry && *entry & MM_PTE_PRESENT;
}
