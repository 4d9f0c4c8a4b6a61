// space.c - the user half of an address space: allocations and their pages.
//
// A space has a list of regions, sorted by address: one per allocation. What
// ring 3 may do with a page is in its entry alone (pages.c), so protecting a
// part of a region splits nothing. The mutex guards both. It is taken only by
// threads, so these services need the scheduler.

#include "kernel/mm/mmp.h"

#define PAGE_BITS (MM_PTE_PRESENT | MM_PTE_USER | MM_PTE_TOUCHED)
#define USER_END  (MM_HIGHEST_USER_ADDRESS + 1)

// Allocations that are placed here begin at multiples of this, as in NT, and
// leave a page free below: a stack that overflows meets nobody.
#define GRANULARITY 65536u

// Lives at the start of each frame of regions.
typedef struct region_page {
    LIST_ENTRY entry;    // on mm_space.region_pages
    mm_region regions[];
} region_page;

#define REGIONS_PER_PAGE ((PAGE_SIZE - sizeof(region_page)) / sizeof(mm_region))

// What the software bits of an entry say: its index here.
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
        if (protections[i].protect != protect)
            continue;
        *bits = protections[i].bits | (uint64_t)i << MM_PTE_SOFTWARE;
        return true;
    }
    return false;
}

static uint32_t page_protection(mm_space *space, uint64_t address)
{
    uint64_t entry = *mm_find_entry(space->cr3, address, 1);
    uint64_t index = entry >> MM_PTE_SOFTWARE & 7;
    ASSERT(index < ARRAY_SIZE(protections));
    return protections[index].protect;
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

static uint64_t region_end(const mm_region *region)
{
    return region->start + region->pages * PAGE_SIZE;
}

static mm_region *region_at(LIST_ENTRY *entry)
{
    return CONTAINING_RECORD(entry, mm_region, entry);
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

// ---- Regions ---------------------------------------------------------------
// Takes an unused region; NULL if there is no memory for more.
static mm_region *take_region(mm_space *space)
{
    if (IsListEmpty(&space->free_regions)) {
        PFN_NUMBER frame = mm_take_frame(MM_RESERVED_FRAMES);
        if (!frame)
            return NULL;
        region_page *page = mm_frame_to_virt(frame);
        InsertTailList(&space->region_pages, &page->entry);
        for (uint32_t i = 0; i < REGIONS_PER_PAGE; i++)
            InsertTailList(&space->free_regions, &page->regions[i].entry);
        space->frames++;
    }
    return region_at(RemoveHeadList(&space->free_regions));
}

// The first region that ends above address, or NULL.
static mm_region *find_above(mm_space *space, uint64_t address)
{
    RTL_FOR_EACH(entry, &space->regions)
    if (region_end(region_at(entry)) > address)
        return region_at(entry);
    return NULL;
}

// The region that holds all of base..base+size, or NULL.
static mm_region *find_holder(mm_space *space, uint64_t base, uint64_t size)
{
    mm_region *region = find_above(space, base);
    return region && region->start <= base && size <= region_end(region) - base
               ? region
               : NULL;
}

// Finds room for size bytes, lowest first.
static bool find_room(mm_space *space, uint64_t size, uint64_t *base)
{
    uint64_t at = MM_LOWEST_USER_ADDRESS;
    RTL_FOR_EACH(entry, &space->regions)
    {
        if (region_at(entry)->start >= at &&
            region_at(entry)->start - at >= size)
            break;
        uint64_t end = region_end(region_at(entry)) + PAGE_SIZE;
        at = MAX(at, (end + GRANULARITY - 1) & ~(uint64_t)(GRANULARITY - 1));
    }
    *base = at;
    return at < USER_END && size <= USER_END - at;
}

static void insert_region(mm_space *space, mm_region *region)
{
    mm_region *above = find_above(space, region->start);
    InsertTailList(above ? &above->entry : &space->regions, &region->entry);
}

// ---- The services ----------------------------------------------------------
static NTSTATUS allocate_locked(mm_space *space, uint64_t *base, uint64_t size,
                                uint64_t bits)
{
    if (!*base) {
        if (!find_room(space, size, base))
            return STATUS_NO_MEMORY;
    } else {
        mm_region *above = find_above(space, *base);
        if (above && above->start < *base + size)
            return STATUS_CONFLICTING_ADDRESSES;
    }
    // Spares everybody the attempt; commit looks at each frame.
    if (size >> PAGE_SHIFT > mm_available_frames())
        return STATUS_NO_MEMORY;

    mm_region *region = take_region(space);
    if (!region)
        return STATUS_NO_MEMORY;
    region->start = *base;
    region->pages = size >> PAGE_SHIFT;
    if (!mm_commit(space, *base, region->pages, bits)) {
        InsertHeadList(&space->free_regions, &region->entry);
        return STATUS_NO_MEMORY;
    }
    insert_region(space, region);
    return STATUS_SUCCESS;
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

    uint64_t bits;
    if (!find_protection(protect, &bits))
        return STATUS_INVALID_PAGE_PROTECTION;
    uint64_t start = *base ? *base : MM_LOWEST_USER_ADDRESS;
    uint64_t length = *size;
    if (!round_range(&start, &length))
        return STATUS_INVALID_PARAMETER;
    if (!*base)
        start = 0;

    lock_space(space);
    NTSTATUS status = allocate_locked(space, &start, length, bits);
    unlock_space(space);
    if (NT_SUCCESS(status)) {
        *base = start;
        *size = length;
    }
    return status;
}

static NTSTATUS free_locked(mm_space *space, mm_region *region, uint64_t base,
                            uint64_t size)
{
    uint64_t pages = size >> PAGE_SHIFT;
    uint64_t above = (region_end(region) - (base + size)) >> PAGE_SHIFT;
    if (pages == region->pages) {
        RemoveEntryList(&region->entry);
        InsertHeadList(&space->free_regions, &region->entry);
    } else if (base == region->start) {
        region->start += size;
        region->pages -= pages;
    } else {
        if (above) {
            mm_region *rest = take_region(space);
            if (!rest)
                return STATUS_NO_MEMORY;
            rest->start = base + size;
            rest->pages = above;
            InsertHeadList(&region->entry, &rest->entry);
        }
        region->pages -= pages + above;
    }
    mm_decommit(space, base, pages);
    return STATUS_SUCCESS;
}

// Frees the allocation that begins at *base if *size is 0, else whole pages
// of one; what remains on both sides is then an allocation each.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_INVALID_PARAMETER       not a range of ring 3, or *size is 0
//                                         and *base inside an allocation
//          STATUS_CONFLICTING_ADDRESSES   not all of it is one allocation's
//          STATUS_NO_MEMORY               to note what remains
NTSTATUS mm_free(mm_space *space, uint64_t *base, uint64_t *size)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    uint64_t start = *base;
    uint64_t length = *size ? *size : 1;
    if (!round_range(&start, &length))
        return STATUS_INVALID_PARAMETER;

    lock_space(space);
    NTSTATUS status = STATUS_CONFLICTING_ADDRESSES;
    mm_region *region = find_holder(space, start, length);
    if (region && !*size) {
        length = region->pages * PAGE_SIZE;
        status = STATUS_INVALID_PARAMETER;
    }
    if (region && (*size || region->start == start))
        status = free_locked(space, region, start, length);
    unlock_space(space);
    if (NT_SUCCESS(status)) {
        *base = start;
        *size = length;
    }
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

    uint64_t bits;
    if (!find_protection(protect, &bits))
        return STATUS_INVALID_PAGE_PROTECTION;
    uint64_t start = *base;
    uint64_t length = *size;
    if (!round_range(&start, &length))
        return STATUS_INVALID_PARAMETER;

    lock_space(space);
    mm_region *region = find_holder(space, start, length);
    if (region) {
        *old = page_protection(space, start);
        for (uint64_t at = start; at < start + length; at += PAGE_SIZE) {
            volatile uint64_t *entry = mm_find_entry(space->cr3, at, 1);
            *entry = mm_frame_entry(mm_entry_frame(*entry), bits);
        }
        mm_flush(space, start, length >> PAGE_SHIFT);
        *base = start;
        *size = length;
    }
    unlock_space(space);
    return region ? STATUS_SUCCESS : STATUS_CONFLICTING_ADDRESSES;
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
    uint64_t start = PAGE_ALIGN_DOWN(address);
    *information = (MEMORY_BASIC_INFORMATION){ .BaseAddress = (void *)start,
                                               .State = MEM_FREE,
                                               .Protect = PAGE_NOACCESS };

    lock_space(space);
    mm_region *region = find_above(space, start);
    uint64_t end = region ? region->start : USER_END;
    if (region && region->start <= start) {
        uint32_t protect = page_protection(space, start);
        end = start;
        do {
            end += PAGE_SIZE;
        } while (end < region_end(region) &&
                 page_protection(space, end) == protect);
        information->AllocationBase = (void *)region->start;
        information->State = MEM_COMMIT;
        information->Protect = protect;
    }
    unlock_space(space);
    information->RegionSize = end - start;
    return STATUS_SUCCESS;
}
