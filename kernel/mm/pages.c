// pages.c - page tables: walking, filling and emptying them; address spaces.
//
// Memory is committed when it is allocated, so a page's entry that is not 0
// always names a frame of this space; without access it just lacks the present
// bit. Tables go only with the space: pin.c walks them without the mutex. What
// an entry loses is flushed from all processors before its frame is free.

#include "kernel/mm/mmp.h"

enum { TOP_SHIFT = 39, LEVEL_SHIFT = 9 };    // bits of an address, by level

// Walks from the table that cr3 names to the entry of the page at address, or
// to the entry above it that is 0; an entry maps 1 << *shift bytes.
//
// IRQL:    any level
volatile uint64_t *mm_find_entry(uint64_t cr3, uint64_t address,
                                 uint32_t *shift)
{
    uint64_t table = cr3;
    for (*shift = TOP_SHIFT;; *shift -= LEVEL_SHIFT) {
        volatile uint64_t *entry = mm_phys_to_virt(table & MM_PTE_FRAME);
        entry += address >> *shift & (MM_TABLE_ENTRIES - 1);
        table = *entry;
        if (*shift == PAGE_SHIFT || !table)
            return entry;
    }
}

// The entry of the page at address; NULL if a table above it is not there.
//
// IRQL:    any level
volatile uint64_t *mm_page_entry(uint64_t cr3, uint64_t address)
{
    uint32_t shift;
    volatile uint64_t *entry = mm_find_entry(cr3, address, &shift);
    return shift == PAGE_SHIFT ? entry : NULL;
}

// Programs cannot have the last frames: the kernel needs them to say no with.
static PFN_NUMBER take_frame(uint64_t address)
{
    return mm_allocate_frame(address < MM_DIRECT_MAP ? MM_RESERVED_FRAMES : 0);
}

// The entry of the page at address, with the tables above it; NULL if there
// is no memory for them.
//
// IRQL:    <= DISPATCH_LEVEL
volatile uint64_t *mm_make_entry(uint64_t cr3, uint64_t address)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    for (;;) {
        uint32_t shift;
        volatile uint64_t *entry = mm_find_entry(cr3, address, &shift);
        if (shift == PAGE_SHIFT)
            return entry;
        PFN_NUMBER frame = take_frame(address);
        if (!frame)
            return NULL;
        *entry = mm_frame_entry(frame, MM_PTE_PRESENT | MM_PTE_WRITE |
                                (address < MM_DIRECT_MAP ? MM_PTE_USER : 0));
    }
}

// Unmaps pages. An entry keeps its frame until all processors in *users have
// forgotten the page, and becomes 0 before the frame is free.
//
// IRQL:    <= DISPATCH_LEVEL, no spin lock held if *users is not 0
void mm_decommit(uint64_t cr3, const volatile uint32_t *users, uint64_t base,
                 uint64_t pages)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    uint64_t end = base + pages * PAGE_SIZE;
    for (uint64_t at = base; at < end; at += PAGE_SIZE)
        *mm_page_entry(cr3, at) &= ~MM_PTE_PRESENT;
    mm_flush(users, base, pages);
    for (uint64_t at = base; at < end; at += PAGE_SIZE) {
        volatile uint64_t *entry = mm_page_entry(cr3, at);
        PFN_NUMBER frame = mm_entry_frame(*entry);
        *entry = 0;
        mm_release_frame(frame);
    }
}

// Drops pages from the TLBs of the processors in *users.
//
// IRQL:    <= DISPATCH_LEVEL
void mm_flush(const volatile uint32_t *users, uint64_t base, uint64_t pages)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    // A processor that enters the mask after this has read it must see the
    // entries as they are now.
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (*users)
        ke_flush_tlb(*users, (void *)base, pages);
}

// Maps new pages with these bits in their entries, all or none.
//
// IRQL:    <= DISPATCH_LEVEL, as mm_decommit
// Returns: false if there is no memory
bool mm_commit(uint64_t cr3, const volatile uint32_t *users, uint64_t base,
               uint64_t pages, uint64_t bits)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    for (uint64_t i = 0; i < pages; i++) {
        volatile uint64_t *entry = mm_make_entry(cr3, base + i * PAGE_SIZE);
        PFN_NUMBER frame = entry ? take_frame(base) : 0;
        if (!frame) {
            mm_decommit(cr3, users, base, i);
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

    PFN_NUMBER frame = take_frame(0);
    if (!frame)
        return STATUS_NO_MEMORY;
    space->cr3 = (uint64_t)frame << PAGE_SHIFT;
    space->process = process;
    space->room = MM_LOWEST_USER_ADDRESS;
    ke_initialize_mutant(&space->mutex, false);
    uint64_t *table = mm_frame_to_virt(frame);
    const uint64_t *kernel = mm_phys_to_virt(mm_kernel_cr3);
    memcpy(table + MM_TABLE_ENTRIES / 2, kernel + MM_TABLE_ENTRIES / 2,
           PAGE_SIZE / 2);
    return STATUS_SUCCESS;
}

// Maps the page at this physical address there as well, for ring 0 to execute,
// in a space that only processors which are being started have loaded.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: false if there is no memory
bool mm_map_page(mm_space *space, uint64_t physical)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    volatile uint64_t *entry = mm_make_entry(space->cr3, physical);
    if (entry)
        *entry = physical | MM_PTE_PRESENT | MM_PTE_TOUCHED;
    return entry;
}

// Undoes that: the page has no frame of its own to give back.
//
// IRQL:    <= DISPATCH_LEVEL
void mm_unmap_page(mm_space *space, uint64_t physical)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    volatile uint64_t *entry = mm_page_entry(space->cr3, physical);
    if (entry)
        *entry = 0;
}

// Releases the first count entries of a table, with all below, and the table.
static void release_table(uint64_t table, uint32_t shift, uint32_t count)
{
    volatile uint64_t *entry = mm_phys_to_virt(table & MM_PTE_FRAME);
    for (uint32_t i = 0; i < count; i++)
        if (entry[i] && shift > PAGE_SHIFT)
            release_table(entry[i], shift - LEVEL_SHIFT, MM_TABLE_ENTRIES);
        else if (entry[i])
            mm_release_frame(mm_entry_frame(entry[i]));
    mm_release_frame(mm_entry_frame(table));
}

// Releases all frames of a space that no processor has loaded and nobody
// will use again; no lock. Pages under DMA live on until they are unpinned.
//
// IRQL:    <= DISPATCH_LEVEL
void mm_delete_space(mm_space *space)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    release_table(space->cr3, TOP_SHIFT, MM_TABLE_ENTRIES / 2);
    space->cr3 = 0;
}
