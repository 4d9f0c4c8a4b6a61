// frames.c - the frames of physical memory: a list of free ones, and counts.
//
// The PFN database has an entry for each frame up to the last of RAM. What is
// no RAM, or the kernel's own from the start, has count 0 (the page of
// mm_map_page: 1) and is on no list: nobody ever gets it. The PFN lock, a leaf,
// guards the list; counts are atomic.

#include "kernel/mm/mmp.h"

static KSPIN_LOCK pfn_lock;    // guards the list and the skip fields
static PFN_NUMBER free_list;    // 0: empty

mm_pfn *mm_pfn_database;
volatile uint64_t mm_available_frames;

// Puts count frames, neighbours, on the free list. Entries that are all 0 are a
// chain already, so that the boot's many cost no more than one. Lock held, or
// boot.
//
// IRQL:    <= DISPATCH_LEVEL
void mm_add_frames(PFN_NUMBER first, PFN_NUMBER count)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    PFN_NUMBER behind = first + count;
    mm_pfn_database[behind - 1].skip = free_list - behind;
    free_list = first;
    mm_available_frames += count;
}

// Returns a frame with count 1, filled with zeros; none of the last reserve.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: 0 when there is none
// Owns:    the caller, one count
PFN_NUMBER mm_allocate_frame(uint64_t reserve)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    KIRQL old = KeAcquireSpinLockRaiseToDpc(&pfn_lock);
    PFN_NUMBER frame = mm_available_frames > reserve ? free_list : 0;
    if (frame) {
        free_list = frame + 1 + mm_pfn_database[frame].skip;
        mm_available_frames--;
    }
    KeReleaseSpinLock(&pfn_lock, old);
    if (!frame)
        return 0;

    // It is ours alone: nobody else knows its number. But a pin that lost its
    // race may still look at the count, see pin.c.
    memset(mm_frame_to_virt(frame), 0, PAGE_SIZE);
    __atomic_store_n(&mm_pfn_database[frame].count, 1, __ATOMIC_RELEASE);
    return frame;
}

static DECLSPEC_NOINLINE void free_frame(PFN_NUMBER frame)
{
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&pfn_lock);
    mm_add_frames(frame, 1);
    KeReleaseSpinLock(&pfn_lock, old);
}

// Takes one from the count of a frame, and frees it at 0.
//
// IRQL:    <= DISPATCH_LEVEL
void mm_release_frame(PFN_NUMBER frame)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    uint32_t left = __atomic_sub_fetch(&mm_pfn_database[frame].count, 1,
                                       __ATOMIC_SEQ_CST);
    ASSERT(left != UINT32_MAX);
    if (__builtin_expect(!left, 0))
        free_frame(frame);
}
