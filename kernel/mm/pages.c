// pages.c - page tables: walking, filling and emptying them; address spaces.
//
// Memory is committed when it is allocated, so a page's entry that is not 0
// always names a frame of this space; without access it just lacks the present
// bit. Tables go only with the space: pin.c walks them without the mutex. What
// an entry loses is flushed from all processors before its frame is free.

#include "kernel/mm/mmp.h"

#define TABLE_BITS (MM_PTE_PRESENT | MM_PTE_WRITE | MM_PTE_USER)

// Finds the entry of level that maps address, from the table that cr3 names.
//
// IRQL:    any level
// Returns: a large page's entry if address lies under one; NULL if a table
//          above is not there
volatile uint64_t *mm_find_entry(uint64_t cr3, uint64_t address, uint32_t level)
{
    uint64_t table = cr3;
    for (uint32_t l = MM_TABLE_LEVELS;; l--) {
        uint32_t shift = PAGE_SHIFT + 9 * (l - 1);
        volatile uint64_t *entry = mm_phys_to_virt(table & MM_PTE_FRAME);
        entry += address >> shift & (MM_TABLE_ENTRIES - 1);
        if (l == level || *entry & MM_PTE_LARGE)
            return entry;
        if (!(*entry & MM_PTE_PRESENT))
            return NULL;
        table = *entry;
    }
}

static volatile uint64_t *page_entry(mm_space *space, uint64_t address)
{
    return mm_find_entry(space->cr3, address, 1);
}

static PFN_NUMBER take_user_frame(mm_space *space)
{
    PFN_NUMBER frame = mm_take_frame(MM_RESERVED_FRAMES);
    space->frames += frame != 0;
    return frame;
}

// The entry of the page at address, with the tables above it; NULL if there
// is no memory for them.
static volatile uint64_t *make_page_entry(mm_space *space, uint64_t address)
{
    volatile uint64_t *entry = page_entry(space, address);
    if (entry)
        return entry;
    for (uint32_t level = MM_TABLE_LEVELS; level > 1; level--) {
        entry = mm_find_entry(space->cr3, address, level);
        if (*entry)
            continue;
        PFN_NUMBER frame = take_user_frame(space);
        if (!frame)
            return NULL;
        *entry = mm_frame_entry(frame, TABLE_BITS);
    }
    return page_entry(space, address);
}

// Drops pages of a space from the TLBs of the processors that have it loaded.
//
// IRQL:    <= APC_LEVEL
void mm_flush(mm_space *space, uint64_t base, uint64_t pages)
{
    ASSERT_IRQL(<=, APC_LEVEL);

    // A processor that enters the mask after this has read it must see the
    // entries as they are now.
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    ke_flush_tlb(space->process->ActiveProcessors, (void *)base, pages);
}

// Unmaps pages. An entry keeps its frame until all processors have forgotten
// the page, and becomes 0 before the frame is free. Mutex held.
//
// IRQL:    <= APC_LEVEL
void mm_decommit(mm_space *space, uint64_t base, uint64_t pages)
{
    ASSERT_IRQL(<=, APC_LEVEL);

    uint64_t end = base + pages * PAGE_SIZE;
    for (uint64_t at = base; at < end; at += PAGE_SIZE)
        *page_entry(space, at) &= ~MM_PTE_PRESENT;
    mm_flush(space, base, pages);
    for (uint64_t at = base; at < end; at += PAGE_SIZE) {
        volatile uint64_t *entry = page_entry(space, at);
        PFN_NUMBER frame = mm_entry_frame(*entry);
        *entry = 0;
        mm_release_frame(frame);
    }
    space->frames -= pages;
}

// Maps new pages with these bits in their entries, all or none. Mutex held.
//
// IRQL:    <= APC_LEVEL
// Returns: false if there is no memory
bool mm_commit(mm_space *space, uint64_t base, uint64_t pages, uint64_t bits)
{
    ASSERT_IRQL(<=, APC_LEVEL);

    for (uint64_t i = 0; i < pages; i++) {
        volatile uint64_t *entry = make_page_entry(space, base + i * PAGE_SIZE);
        PFN_NUMBER frame = entry ? take_user_frame(space) : 0;
        if (!frame) {
            mm_decommit(space, base, i);
            return false;
        }
        ASSERT(!*entry);
        *entry = mm_frame_entry(frame, bits);
    }
    return true;
}

// Makes an empty address space for process.
//
// IRQL:    <= APC_LEVEL
// Returns: STATUS_SUCCESS or STATUS_NO_MEMORY
NTSTATUS mm_create_space(mm_space *space, KPROCESS *process)
{
    ASSERT_IRQL(<=, APC_LEVEL);

    PFN_NUMBER frame = mm_take_frame(MM_RESERVED_FRAMES);
    if (!frame)
        return STATUS_NO_MEMORY;
    space->cr3 = (uint64_t)frame << PAGE_SHIFT;
    space->frames = 1;
    space->process = process;
    ke_initialize_mutant(&space->mutex, false);
    InitializeListHead(&space->regions);
    InitializeListHead(&space->free_regions);
    InitializeListHead(&space->region_pages);
    uint64_t *table = mm_frame_to_virt(frame);
    const uint64_t *kernel = mm_phys_to_virt(mm_kernel_cr3);
    memcpy(table + MM_TABLE_ENTRIES / 2, kernel + MM_TABLE_ENTRIES / 2,
           PAGE_SIZE / 2);
    return STATUS_SUCCESS;
}

// Releases the first count entries of a table of level, with all below.
static void release_table(uint64_t table, uint32_t level, uint32_t count)
{
    volatile uint64_t *entry = mm_phys_to_virt(table & MM_PTE_FRAME);
    for (uint32_t i = 0; i < count; i++) {
        if (!entry[i])
            continue;
        if (level > 1)
            release_table(entry[i], level - 1, MM_TABLE_ENTRIES);
        else
            mm_release_frame(mm_entry_frame(entry[i]));
    }
    mm_release_frame(mm_entry_frame(table));
}

// Releases all frames of a space that no processor has loaded and nobody
// will use again; no lock. Pages under DMA live on until they are unpinned.
//
// IRQL:    <= DISPATCH_LEVEL
void mm_delete_space(mm_space *space)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    while (!IsListEmpty(&space->region_pages)) {
        LIST_ENTRY *entry = RemoveHeadList(&space->region_pages);
        mm_release_frame(
            (PFN_NUMBER)(((uintptr_t)entry - MM_DIRECT_MAP) >> PAGE_SHIFT));
    }
    release_table(space->cr3, MM_TABLE_LEVELS, MM_TABLE_ENTRIES / 2);
    space->cr3 = 0;
}
