// space.c - the user half of an address space: allocations and their pages.
//
// The page tables are the only record: a page's entry says what ring 3 may do
// with it, whether it is allocated at all (it is not 0) and whether it is the
// first one of its allocation. The mutex guards them. It is taken only by
// threads, so these services need the scheduler.

#include "kernel/mm/mmp.h"

#define PAGE_BITS (MM_PTE_PRESENT | MM_PTE_USER | MM_PTE_TOUCHED)
#define USER_END  (MM_HIGHEST_USER_ADDRESS + 1)

// Allocations that are placed here begin at multiples of this, as in NT, and
// leave a page free below: a stack that overflows meets nobody.
#define GRANULARITY 65536u

// What the protection bits of an entry say: its index here.
static const struct {
    uint32_t protect;
    uint64_t bits;
} protections[] = {
    { PAGE_NOACCESS, 0 },
    { PAGE_READONLY, PAGE_BITS | MM_PTE_NX },
    { PAGE_READWRITE, PAGE_BITS | MM_PTE_WRITE | MM_PTE_NX },
    { PAGE_EXECUTE, PAGE_BITS },
    { PAGE_EXECUTE_READ, PAGE_BITS },
};

// The bits of an entry with this protection, in *bits; false if there is none:
// PAGE_EXECUTE_READWRITE, and everything that NT does not know.
static bool find_protection(uint32_t protect, uint64_t *bits)
{
    for (uint32_t i = 0; i < ARRAY_SIZE(protections); i++) {
        *bits = protections[i].bits | (uint64_t)i << MM_PTE_PROTECTION;
        if (protections[i].protect == protect)
            return true;
    }
    return false;
}

static uint32_t protection(mm_space *space, uint64_t address)
{
    uint64_t entry = *mm_page_entry(space->cr3, address);
    return protections[entry >> MM_PTE_PROTECTION & 7].protect;
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

// Rounds *base and *size to whole pages of ring 3.
static bool round_range(uint64_t *base, uint64_t *size)
{
    uint64_t start = PAGE_ALIGN_DOWN(*base);
    if (start < MM_LOWEST_USER_ADDRESS || start >= USER_END ||
        *size > USER_END - *base || !*size)
        return false;
    *size = PAGE_ALIGN_UP(*base + *size) - start;
    *base = start;
    return true;
}

// The first page from address on that is allocated, or end.
static uint64_t next_used(mm_space *space, uint64_t address, uint64_t end)
{
    uint32_t shift;
    while (address < end && !*mm_find_entry(space->cr3, address, &shift))
        address = ((address >> shift) + 1) << shift;
    return MIN(address, end);
}

// Finds room for size bytes from start on, lowest first; 0 if there is none.
static uint64_t find_room(mm_space *space, uint64_t start, uint64_t size)
{
    while (start < USER_END && size <= USER_END - start) {
        uint64_t used = next_used(space, start, start + size);
        if (used == start + size)
            return start;
        start = (used + 2 * PAGE_SIZE + GRANULARITY - 1) &
                ~(uint64_t)(GRANULARITY - 1);
    }
    return 0;
}

// Is the page at address allocated and, unless begin, not where an allocation
// begins?
static bool goes_on(mm_space *space, uint64_t address, bool begin)
{
    volatile uint64_t *entry = mm_page_entry(space->cr3, address);
    return entry && *entry && (begin || !(*entry & MM_PTE_FIRST));
}

// Where the allocation ends that address lies in; address if in none.
static uint64_t allocation_end(mm_space *space, uint64_t address)
{
    bool begin = true;
    for (; goes_on(space, address, begin); address += PAGE_SIZE)
        begin = false;
    return address;
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

    uint64_t bits, start = *base ? *base : MM_LOWEST_USER_ADDRESS;
    uint64_t length = *size;
    if (!find_protection(protect, &bits))
        return STATUS_INVALID_PAGE_PROTECTION;
    if (!round_range(&start, &length))
        return STATUS_INVALID_PARAMETER;

    lock_space(space);
    NTSTATUS status = STATUS_NO_MEMORY;
    if (*base) {
        if (next_used(space, start, start + length) != start + length)
            status = STATUS_CONFLICTING_ADDRESSES;
    } else {
        // To begin at the bottom each time would cost more with each one.
        start = find_room(space, space->room, length);
        if (!start)
            start = find_room(space, MM_LOWEST_USER_ADDRESS, length);
        space->room = start ? start : space->room;
    }
    // The number of frames spares everybody the attempt.
    if (start && status == STATUS_NO_MEMORY &&
        length >> PAGE_SHIFT <= mm_available_frames() &&
        mm_commit(space->cr3, &space->process->ActiveProcessors, start,
                  length >> PAGE_SHIFT, bits)) {
        *mm_page_entry(space->cr3, start) |= MM_PTE_FIRST;
        *base = start;
        *size = length;
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

    uint64_t start = *base, length = *size ? *size : 1;
    if (!round_range(&start, &length))
        return STATUS_INVALID_PARAMETER;

    lock_space(space);
    uint64_t end = allocation_end(space, start);
    NTSTATUS status = STATUS_SUCCESS;
    if (length > end - start)
        status = STATUS_CONFLICTING_ADDRESSES;
    else if (!*size && goes_on(space, start, false))
        status = STATUS_INVALID_PARAMETER;
    if (NT_SUCCESS(status)) {
        length = *size ? length : end - start;
        if (start + length < end)
            *mm_page_entry(space->cr3, start + length) |= MM_PTE_FIRST;
        mm_decommit(space->cr3, &space->process->ActiveProcessors, start,
                    length >> PAGE_SHIFT);
        space->room = MIN(space->room, start & ~(uint64_t)(GRANULARITY - 1));
        *base = start;
        *size = length;
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

    uint64_t bits, start = *base, length = *size;
    if (!find_protection(protect, &bits))
        return STATUS_INVALID_PAGE_PROTECTION;
    if (!round_range(&start, &length))
        return STATUS_INVALID_PARAMETER;

    lock_space(space);
    bool found = length <= allocation_end(space, start) - start;
    if (found) {
        *old = protection(space, start);
        for (uint64_t at = start; at < start + length; at += PAGE_SIZE) {
            volatile uint64_t *entry = mm_page_entry(space->cr3, at);
            *entry = (*entry & (MM_PTE_FRAME | MM_PTE_FIRST)) | bits;
        }
        mm_flush(&space->process->ActiveProcessors, start,
                 length >> PAGE_SHIFT);
        *base = start;
        *size = length;
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
        end = next_used(space, start, USER_END);
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
