// frames.c - the frames of physical memory: free ones, and counts.
//
// Frames that were never used lie in ranges, and are taken from their front;
// what comes back goes to a list through the PFN database. So nothing has to
// be done per frame at boot, and an entry of the database means nothing until
// its frame has been handed out once. The PFN lock, a leaf, guards ranges and
// list; counts are atomic.

#include "kernel/mm/mmp.h"

// Ranges of the loader, cut by what is reserved in them.
#define MAX_RANGES (LOADER_MAX_RANGES + 8u)

static KSPIN_LOCK pfn_lock;    // guards the four below
static struct {
    PFN_NUMBER first, end;
} untouched[MAX_RANGES];
static uint32_t range_count;
static PFN_NUMBER free_list;    // 0: empty
static volatile uint64_t available;
static mm_pfn *pfn_database;

uint64_t mm_total_frames;

// How many frames are free.
//
// IRQL:    any level
uint64_t mm_available_frames(void)
{
    return __atomic_load_n(&available, __ATOMIC_RELAXED);
}

// Gives frames from base to end (physical, whole pages) to this file. Boot
// only: no lock.
//
// IRQL:    <= DISPATCH_LEVEL
void mm_add_range(uint64_t base, uint64_t end)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    ASSERT(base < end && range_count < MAX_RANGES);
    untouched[range_count].first = (PFN_NUMBER)(base >> PAGE_SHIFT);
    untouched[range_count].end = (PFN_NUMBER)(end >> PAGE_SHIFT);
    range_count++;
    available += (end - base) >> PAGE_SHIFT;
}

// Names the PFN database, which has room for every frame of every range.
//
// IRQL:    <= DISPATCH_LEVEL
void mm_set_database(mm_pfn *database)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    pfn_database = database;
}

// Takes contiguous frames that were never used; PFN lock held, or boot.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: the first frame, 0 if no range has so many
PFN_NUMBER mm_take_untouched(uint64_t pages)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    for (uint32_t i = 0; i < range_count; i++) {
        PFN_NUMBER first = untouched[i].first;
        if (untouched[i].end - first < pages)
            continue;
        untouched[i].first += (PFN_NUMBER)pages;
        available -= pages;
        return first;
    }
    return 0;
}

static PFN_NUMBER take_free(void)
{
    PFN_NUMBER frame = free_list;
    if (!frame)
        return mm_take_untouched(1);
    free_list = pfn_database[frame].next;
    available--;
    return frame;
}

// Returns a frame with count 1, filled with zeros; none of the last reserve.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: 0 when there is none
PFN_NUMBER mm_take_frame(uint64_t reserve)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    KIRQL old;
    KeAcquireSpinLock(&pfn_lock, &old);
    PFN_NUMBER frame = available > reserve ? take_free() : 0;
    KeReleaseSpinLock(&pfn_lock, old);
    if (!frame)
        return 0;

    // It is ours alone: nobody else knows its number. But a pin that lost its
    // race may still look at the count, see pin.c.
    memset(mm_frame_to_virt(frame), 0, PAGE_SIZE);
    __atomic_store_n(&pfn_database[frame].count, 1, __ATOMIC_RELEASE);
    return frame;
}

// Returns a frame with count 1, filled with zeros.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: 0 when there is none
// Owns:    the caller, one count
PFN_NUMBER mm_allocate_frame(void)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    return mm_take_frame(0);
}

// Adds one to the count of a frame that the caller knows to be in use.
//
// IRQL:    <= DISPATCH_LEVEL
void mm_reference_frame(PFN_NUMBER frame)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    uint32_t count =
        __atomic_fetch_add(&pfn_database[frame].count, 1, __ATOMIC_SEQ_CST);
    ASSERT(count);
    (void)count;
}

// Adds one to the count of a frame that may be freed meanwhile.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: false if the count is 0
bool mm_try_reference_frame(PFN_NUMBER frame)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    volatile uint32_t *count = &pfn_database[frame].count;
    uint32_t seen = *count;
    while (seen)
        if (__atomic_compare_exchange_n(count, &seen, seen + 1, false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return true;
    return false;
}

// Takes one from the count of a frame, and frees it at 0.
//
// IRQL:    <= DISPATCH_LEVEL
void mm_release_frame(PFN_NUMBER frame)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    mm_pfn *pfn = &pfn_database[frame];
    uint32_t count = __atomic_fetch_sub(&pfn->count, 1, __ATOMIC_SEQ_CST);
    ASSERT(count);
    if (count != 1)
        return;

    KIRQL old;
    KeAcquireSpinLock(&pfn_lock, &old);
    pfn->next = free_list;
    free_list = frame;
    available++;
    KeReleaseSpinLock(&pfn_lock, old);
}
