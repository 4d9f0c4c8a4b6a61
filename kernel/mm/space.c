// space.c - the user half of an address space: allocations and their pages.
//
// The page tables are the only record: a page's entry says what ring 3 may do
// with it, whether it is allocated at all (it is not 0) and whether it is the
// first one of its allocation. The mutex guards them. It is taken only by
// threads, so these services need the scheduler.

#include "kernel/mm/mmp.h"

#define PAGE_BITS (MM_PTE_PRESENT | MM_PTE_USER | MM_PTE_TOUCHED)
#define USER_END  (MM_HIGHEST_USER_ADDRESS + 1)

// Allocations that are placed here begin at multiples of this, as in NT.
#define GRANULARITY 65536u

// The bits of an entry with this protection, which itself is among them; 0 if
// there is none: PAGE_EXECUTE_READWRITE, and everything that NT does not know.
static uint64_t protection_bits(uint32_t protect)
{
    uint64_t bits = (uint64_t)protect << MM_PTE_PROTECTION;
    switch (protect) {
    case PAGE_NOACCESS:
        return bits;
    case PAGE_READONLY:
        return bits | PAGE_BITS | MM_PTE_NX;
    case PAGE_READWRITE:
        return bits | PAGE_BITS | MM_PTE_WRITE | MM_PTE_NX;
    case PAGE_EXECUTE:
    case PAGE_EXECUTE_READ:
        return bits | PAGE_BITS;
    default:
        return 0;
    }
}

static uint32_t protection(mm_space *space, uint64_t address)
{
    uint64_t entry = *mm_page_entry(space->cr3, address);
    return entry >> MM_PTE_PROTECTION & MM_PROTECTIONS;
}

// A thread must not be suspended while it owns the mutex: others of its
// process would wait for it.
static void lock_space(mm_space *space)
{
    KeEnterCriticalRegion();
    KeWaitForSingleObject(&space->mutex, Executive, KernelMode, false, NULL);
}

static void unlock_space(mm_space *space)
{
    ke_release_mutant(&space->mutex, 0, NULL);
    KeLeaveCriticalRegion();
}

// Makes whole pages of ring 3 of base and size; false if they are not.
static bool find_pages(uint64_t base, uint64_t size, MEMORY_RANGE *pages)
{
    if (base < MM_LOWEST_USER_ADDRESS || base >= USER_END || !size ||
        size > USER_END - base)
        return false;
    pages->start = PAGE_ALIGN_DOWN(base);
    pages->end = PAGE_ALIGN_UP(base + size);
    return true;
}

// Is the page at address allocated and, unless begin, not where an allocation
// begins?
static bool goes_on(mm_space *space, uint64_t address, bool begin)
{
    volatile uint64_t *entry = mm_page_entry(space->cr3, address);
    return *entry && (begin || !(*entry & MM_PTE_FIRST));
}

// Where the allocation ends that address lies in; address if in none.
static uint64_t allocation_end(mm_space *space, uint64_t address)
{
    bool begin = true;
    for (; goes_on(space, address, begin); address += PAGE_SIZE)
        begin = false;
    return address;
}

// What the caller gets to know: the whole pages that it named.
static void tell(MEMORY_RANGE pages, uint64_t *base, uint64_t *size)
{
    *base = pages.start;
    *size = pages.end - pages.start;
}

// Allocates zeroed pages at *base, or where there is room if that is 0; both
// are rounded to whole pages.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_INVALID_PAGE_PROTECTION  no such protection, or W and X
//          STATUS_INVALID_PARAMETER        not a range of ring 3
//          STATUS_CONFLICTING_ADDRESSES    something is there already
//          STATUS_NO_MEMORY                of frames or of addresses
NTSTATUS mm_allocate(mm_space *space, uint64_t *base, uint64_t *size,
                     uint32_t protect)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    const MEMORY_RANGE all = { MM_LOWEST_USER_ADDRESS, USER_END };
    MEMORY_RANGE pages;
    uint64_t bits = protection_bits(protect);
    if (!bits)
        return STATUS_INVALID_PAGE_PROTECTION;
    if (!find_pages(*base ? *base : all.start, *size, &pages))
        return STATUS_INVALID_PARAMETER;

    lock_space(space);
    uint64_t length = pages.end - pages.start;
    if (!*base)
        pages.start = mm_find_room(space->cr3, &space->room, all, length,
                                   GRANULARITY);
    pages.end = pages.start + length;
    NTSTATUS status = STATUS_NO_MEMORY;
    if (*base && mm_next_used(space->cr3, pages.start, pages.end) != pages.end)
        status = STATUS_CONFLICTING_ADDRESSES;
    // The number of frames spares everybody the attempt.
    else if (pages.start && length >> PAGE_SHIFT <= mm_available_frames &&
             mm_commit(space->cr3, pages, bits, &space->process->pages)) {
        *mm_page_entry(space->cr3, pages.start) |= MM_PTE_FIRST;
        space->process->pages += length >> PAGE_SHIFT;
        tell(pages, base, size);
        status = STATUS_SUCCESS;
    }
    unlock_space(space);
    return status;
}

// Frees the allocation that begins at *base if *size is 0, else whole pages
// of one; what remains on both sides is then an allocation each.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_INVALID_PARAMETER       not a range of ring 3, or *size is 0
//                                         and *base inside an allocation
//          STATUS_CONFLICTING_ADDRESSES   not all of it is one allocation's
NTSTATUS mm_free(mm_space *space, uint64_t *base, uint64_t *size)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    MEMORY_RANGE pages;
    if (!find_pages(*base, *size ? *size : 1, &pages))
        return STATUS_INVALID_PARAMETER;

    lock_space(space);
    uint64_t end = allocation_end(space, pages.start);
    NTSTATUS status = STATUS_SUCCESS;
    if (pages.end > end)
        status = STATUS_CONFLICTING_ADDRESSES;
    else if (!*size && goes_on(space, pages.start, false))
        status = STATUS_INVALID_PARAMETER;
    if (NT_SUCCESS(status)) {
        pages.end = *size ? pages.end : end;
        if (pages.end < end)
            *mm_page_entry(space->cr3, pages.end) |= MM_PTE_FIRST;
        mm_decommit(space->cr3, &space->process->ActiveProcessors, pages);
        space->room = MIN(space->room,
                          pages.start & ~(uint64_t)(GRANULARITY - 1));
        space->process->pages -= (pages.end - pages.start) >> PAGE_SHIFT;
        tell(pages, base, size);
    }
    unlock_space(space);
    return status;
}

// Changes what ring 3 may do with whole pages of one allocation; *old is what
// it could do with the first one. A buffer that is pinned stays pinned.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INVALID_PAGE_PROTECTION,
//          STATUS_INVALID_PARAMETER, STATUS_CONFLICTING_ADDRESSES
NTSTATUS mm_protect(mm_space *space, uint64_t *base, uint64_t *size,
                    uint32_t protect, uint32_t *old)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    MEMORY_RANGE pages;
    uint64_t bits = protection_bits(protect);
    if (!bits)
        return STATUS_INVALID_PAGE_PROTECTION;
    if (!find_pages(*base, *size, &pages))
        return STATUS_INVALID_PARAMETER;

    lock_space(space);
    bool found = pages.end <= allocation_end(space, pages.start);
    if (found) {
        *old = protection(space, pages.start);
        mm_change(space->cr3, &space->process->ActiveProcessors, pages,
                  MM_PTE_FRAME | MM_PTE_FIRST, bits);
        tell(pages, base, size);
    }
    unlock_space(space);
    return found ? STATUS_SUCCESS : STATUS_CONFLICTING_ADDRESSES;
}

// Describes the pages from address on that are alike.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, or STATUS_INVALID_PARAMETER above ring 3's half
NTSTATUS mm_query(mm_space *space, uint64_t address,
                  MEMORY_BASIC_INFORMATION *information)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    if (address >= USER_END)
        return STATUS_INVALID_PARAMETER;
    uint64_t start = PAGE_ALIGN_DOWN(address), first = start;
    *information = (MEMORY_BASIC_INFORMATION){ .BaseAddress = (void *)start,
                                               .State = MEM_FREE,
                                               .Protect = PAGE_NOACCESS };
    lock_space(space);
    uint64_t end = allocation_end(space, start);
    if (end == start) {
        end = mm_next_used(space->cr3, start, USER_END);
    } else {
        while (goes_on(space, first, false))
            first -= PAGE_SIZE;
        information->AllocationBase = (void *)first;
        information->State = MEM_COMMIT;
        information->Protect = protection(space, start);
        for (uint64_t at = start; at < end; at += PAGE_SIZE)
            if (protection(space, at) != information->Protect)
                end = at;
    }
    unlock_space(space);
    information->RegionSize = end - start;
    return STATUS_SUCCESS;
}
