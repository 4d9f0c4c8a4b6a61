// pages.c - page tables: walking, filling and emptying them; address spaces.
//
// Memory is committed when it is allocated, so a page's entry that is not 0
// always names a frame of this space; without access it just lacks the present
// bit. Tables go only with the space: pin.c walks them without the mutex. What
// an entry loses is flushed from all processors before its frame is free.

#include "kernel/mm/mmp.h"

// Walks from the table that cr3 names to the entry of the page at address, or
// to the entry above it that is 0; an entry maps 1 << *shift bytes.
static volatile uint64_t *find_entry(uint64_t cr3, uint64_t address,
                                     uint32_t *shift)
{
    uint64_t table = cr3;
    for (*shift = MM_TOP_SHIFT;; *shift -= MM_LEVEL_SHIFT) {
        volatile uint64_t *entry = mm_phys_to_virt(table & MM_PTE_FRAME);
        entry += address >> *shift & (MM_TABLE_ENTRIES - 1);
        table = *entry;
        if (*shift == PAGE_SHIFT || !table)
            return entry;
    }
}

// The entry of the page at address; where a table above it is not there, that
// table's own entry, which is 0, too, until somebody makes the table.
//
// IRQL:    any level
volatile uint64_t *mm_page_entry(uint64_t cr3, uint64_t address)
{
    return find_entry(cr3, address, &(uint32_t){ 0 });
}

// Programs cannot have the last frames: the kernel needs them to say no with.
static PFN_NUMBER take_frame(uint64_t address)
{
    return mm_allocate_frame(address < MM_DIRECT_MAP ? MM_RESERVED_FRAMES : 0);
}

// The entry of the page at address, with the tables above it; NULL if there
// is no memory for them. tables counts those that are made here, if not NULL.
//
// IRQL:    <= DISPATCH_LEVEL
volatile uint64_t *mm_make_entry(uint64_t cr3, uint64_t address,
                                 volatile uint64_t *tables)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    for (;;) {
        uint32_t shift;
        volatile uint64_t *entry = find_entry(cr3, address, &shift);
        if (shift == PAGE_SHIFT)
            return entry;
        PFN_NUMBER frame = take_frame(address);
        if (!frame)
            return NULL;
        *entry = (uint64_t)frame << PAGE_SHIFT | MM_PTE_PRESENT | MM_PTE_WRITE |
                 (address < MM_DIRECT_MAP ? MM_PTE_USER : 0);
        if (tables)
            ++*tables;
    }
}

// The first page from address on that is taken, or end.
//
// IRQL:    any level
uint64_t mm_next_used(uint64_t cr3, uint64_t address, uint64_t end)
{
    uint32_t shift;
    while (address < end && !*find_entry(cr3, address, &shift))
        address = ((address >> shift) + 1) << shift;
    return MIN(address, end);
}

// Finds size bytes that begin at a multiple of grain, with a free page on both
// sides: who overflows meets nobody. *room is where to look first (to begin at
// the bottom each time would cost more with each allocation), and then where
// room was found.
//
// IRQL:    any level; whoever takes pages in that range takes turns
// Returns: 0 if there is none
uint64_t mm_find_room(uint64_t cr3, uint64_t *room, MEMORY_RANGE within,
                      uint64_t size, uint64_t grain)
{
    uint64_t start = *room;
    for (int pass = 0; pass < 2; pass++, start = within.start)
        while (start < within.end && size <= within.end - start) {
            uint64_t end = start + size + PAGE_SIZE;
            uint64_t used = mm_next_used(cr3, start - PAGE_SIZE, end);
            if (used == end) {
                *room = start;
                return start;
            }
            start = (used + 2 * PAGE_SIZE + grain - 1) & ~(grain - 1);
        }
    return 0;
}

// Maps physical memory at address and beyond in the kernel's half, with these
// bits; what is there has no count.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: false if there is no memory for page tables
bool mm_map(uint64_t address, MEMORY_RANGE physical, uint64_t bits)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    while (physical.start < physical.end) {
        volatile uint64_t *entry = mm_make_entry(mm_kernel_cr3, address, NULL);
        if (!entry)
            return false;
        uint64_t room = (PAGE_SIZE - BYTE_OFFSET(entry)) / sizeof(*entry);
        uint64_t size = MIN(room * PAGE_SIZE, physical.end - physical.start);
        uint64_t page = physical.start | bits, end = page + size;
        for (; page != end; page += PAGE_SIZE, entry++)
            *entry = page;
        physical.start += size;
        address += size;
    }
    return true;
}

// Changes the entries of pages that are there: of the old bits only those in
// keep remain. When it returns, no processor uses the old ones. Those that may
// are in *users (NULL: all), which is read when the entries have changed: one
// that enters later loads CR3 afterwards, and so finds them as they are now.
//
// IRQL:    <= DISPATCH_LEVEL, no spin lock held if *users is not 0, as it waits
//          for the others
void mm_change(uint64_t cr3, const volatile uint32_t *users,
               MEMORY_RANGE pages, uint64_t keep, uint64_t set)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    for (uint64_t at = pages.start; at < pages.end; at += PAGE_SIZE) {
        volatile uint64_t *entry = mm_page_entry(cr3, at);
        *entry = (*entry & keep) | set;
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    uint32_t mask = users ? *users : (uint32_t)((1ull << KeNumberProcessors) -
                                                1);
    if (mask)
        ke_flush_tlb(mask, (void *)pages.start,
                     (pages.end - pages.start) >> PAGE_SHIFT);
}

static void release_pages(uint64_t cr3, MEMORY_RANGE pages)
{
    for (uint64_t at = pages.start; at < pages.end; at += PAGE_SIZE) {
        volatile uint64_t *entry = mm_page_entry(cr3, at);
        PFN_NUMBER frame = mm_entry_frame(*entry);
        *entry = 0;
        mm_release_frame(frame);
    }
}

// Maps new pages with these bits in their entries, all or none. None is present
// before all have their frames: no TLB has seen one that does not come about.
// tables is mm_make_entry's; they stay, also if there is no memory.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: false if there is no memory
bool mm_commit(uint64_t cr3, MEMORY_RANGE pages, uint64_t bits,
               volatile uint64_t *tables)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    static const uint32_t nobody;
    for (uint64_t at = pages.start; at < pages.end; at += PAGE_SIZE) {
        volatile uint64_t *entry = mm_make_entry(cr3, at, tables);
        PFN_NUMBER frame = entry ? take_frame(at) : 0;
        if (!frame) {
            release_pages(cr3, (MEMORY_RANGE){ pages.start, at });
            return false;
        }
        ASSERT(!*entry);
        *entry = (uint64_t)frame << PAGE_SHIFT | (bits & ~MM_PTE_PRESENT);
    }
    mm_change(cr3, &nobody, pages, UINT64_MAX, bits & MM_PTE_PRESENT);
    return true;
}

// Unmaps pages. An entry keeps its frame until all processors in *users have
// forgotten the page, and becomes 0 before the frame is free. So whoever finds
// a 0 may use the address again, and whoever gets the frame has it alone: but
// for those that pinned it, see pin.c.
//
// IRQL:    <= DISPATCH_LEVEL, no spin lock held
void mm_decommit(uint64_t cr3, const volatile uint32_t *users,
                 MEMORY_RANGE pages)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    mm_change(cr3, users, pages, ~MM_PTE_PRESENT, 0);
    release_pages(cr3, pages);
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
    table[MM_SELF_ENTRY] = space->cr3 | MM_PTE_PRESENT | MM_PTE_TOUCHED |
                           MM_PTE_NX;
    return STATUS_SUCCESS;
}

// Maps the page at this physical address there as well, for ring 0 to execute,
// in a space that only processors which are being started have loaded. The page
// is nobody's, and stays that.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: false if there is no memory
bool mm_map_page(mm_space *space, uint64_t physical)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    volatile uint64_t *entry = mm_make_entry(space->cr3, physical, NULL);
    if (!entry)
        return false;
    *entry = physical | MM_PTE_PRESENT | MM_PTE_TOUCHED;
    mm_pfn_database[physical >> PAGE_SHIFT].count = 2;    // one is the space's
    return true;
}

// Releases the first count entries of a table, with all below, and the table.
static void release_table(uint64_t table, uint32_t shift, uint32_t count)
{
    volatile uint64_t *entry = mm_phys_to_virt(table & MM_PTE_FRAME);
    for (uint32_t i = 0; i < count; i++)
        if (entry[i] && shift > PAGE_SHIFT)
            release_table(entry[i], shift - MM_LEVEL_SHIFT, MM_TABLE_ENTRIES);
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

    release_table(space->cr3, MM_TOP_SHIFT, MM_TABLE_ENTRIES / 2);
    space->cr3 = 0;
}
