// pool.c - the pool: one allocator for all small things of the kernel.
//
// A page is cut into as many equal blocks as the size allows, and that number
// is its class. Pages with a free block are on their class's list; one that
// becomes empty goes back to mm unless it is the only one there. They lie in
// the direct map, so no TLB is ever flushed for them. A block that no page has
// room for is system pages. Each class has a lock, a leaf but for mm's.
//
// What a process has had allocated, and is not freed, is on its account, but
// for system pages that are no block (stacks). While there is little memory,
// who has much gets no more. Accounts have no lock: each change is atomic, and
// who reads one a moment too early gets a block more, of frames still there.

#include "kernel/ex/ex.h"

#include "kernel/mm/mm.h"

typedef struct pool_block {
    uint32_t tag;          // 0: free
    uint32_t size;         // as asked for
    union {
        struct pool_block *next;    // while it is free
        uint64_t account;           // [of] accounts, while it is not
    };
    char body[];
} pool_block;

typedef struct pool_class {
    KSPIN_LOCK lock;       // guards the list and its pages
    LIST_ENTRY pages;
} pool_class;

// A body is 16-aligned, and so are both headers and the distance of blocks.
typedef struct pool_page {
    LIST_ENTRY entry;      // on its class's list while a block is free
    pool_class *class;
    pool_block *free;
    uint64_t used, pad;
} pool_page;

enum { ALIGNMENT = 16, ROOM = PAGE_SIZE - sizeof(pool_page) };
_Static_assert(EX_POOL_LARGE == ROOM - sizeof(pool_block), "one in a page");

static pool_class classes[ROOM / ALIGNMENT + 1];    // [blocks of a page]

static uint64_t accounts[EX_POOL_ACCOUNTS];         // bytes as asked for

uint64_t ex_pool_bytes, ex_pool_blocks, ex_pool_pages;

// Makes an empty pool.
//
// IRQL:    <= DISPATCH_LEVEL
void ex_init_pool(void)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    for (size_t i = 0; i < ARRAY_SIZE(classes); i++)
        InitializeListHead(&classes[i].pages);
}

static void push_free(pool_page *page, pool_block *block)
{
    block->tag = 0;
    block->next = page->free;
    page->free = block;
}

// A frame for I/O, as mm_allocate_frame gives them: the very last are for
// processes that have little.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: its number; 0: there is none to spare
// Owns:    the caller, until mm_release_frame
PFN_NUMBER ex_allocate_io_frame(void)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    bool has_little = KeGetCurrentThread()->Process->pages <= MM_LAST_FRAMES;
    return mm_allocate_frame(has_little ? 0 : MM_FRAMES_FOR_IO);
}

// Cuts a page into blocks and puts it on its class's list. Lock held.
static bool add_page(pool_class *class, POOL_TYPE type)
{
    PFN_NUMBER frame = type == ex_pool_for_io
                           ? ex_allocate_io_frame()
                           : mm_allocate_frame(MM_FRAMES_FOR_IO);
    if (!frame)
        return false;
    pool_page *page = mm_frame_to_virt(frame);
    size_t count = (size_t)(class - classes);
    size_t stride = ROOM / count / ALIGNMENT * ALIGNMENT;
    page->class = class;
    for (char *at = (char *)(page + 1); count--; at += stride)
        push_free(page, (pool_block *)at);
    InsertHeadList(&class->pages, &page->entry);
    __atomic_fetch_add(&ex_pool_pages, 1, __ATOMIC_RELAXED);
    return true;
}

static pool_block *take_small(size_t size, POOL_TYPE type)
{
    size_t stride = sizeof(pool_block) + size + ALIGNMENT - 1;
    pool_class *class = &classes[ROOM / (stride / ALIGNMENT * ALIGNMENT)];
    pool_block *block = NULL;
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&class->lock);
    if (!IsListEmpty(&class->pages) || add_page(class, type)) {
        pool_page *page = CONTAINING_RECORD(class->pages.Flink, pool_page,
                                            entry);
        block = page->free;
        page->free = block->next;
        page->used++;
        if (!page->free)
            RemoveEntryList(&page->entry);
    }
    KeReleaseSpinLock(&class->lock, old);
    return block;
}

static void give_small(pool_block *block)
{
    pool_page *page = (pool_page *)PAGE_ALIGN_DOWN(block);
    pool_class *class = page->class;
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&class->lock);
    if (!page->free)
        InsertHeadList(&class->pages, &page->entry);
    push_free(page, block);
    if (--page->used == 0 && class->pages.Flink != class->pages.Blink) {
        RemoveEntryList(&page->entry);
        __atomic_fetch_sub(&ex_pool_pages, 1, __ATOMIC_RELAXED);
        mm_release_frame((PFN_NUMBER)(((uintptr_t)page - MM_DIRECT_MAP) >>
                                      PAGE_SHIFT));
    }
    KeReleaseSpinLock(&class->lock, old);
}

// System pages of a large block. More than there can be stays more.
static uint32_t large_pages(size_t size)
{
    size = MIN(size, (size_t)MM_SYSTEM_PAGE_COUNT * PAGE_SIZE);
    return (uint32_t)BYTES_TO_PAGES(sizeof(pool_block) + size);
}

// Allocates size bytes, 16-aligned, not cleared.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: NULL when there is no memory, or little and the process has much
// NT:      ExAllocatePoolWithTag (WDK). There are two types of pool,
//          and both are never paged.
void *ExAllocatePoolWithTag(POOL_TYPE type, size_t size, uint32_t tag)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    ASSERT(tag);
    const KTHREAD *thread = KeGetCurrentThread();
    const uint8_t account = thread->Process->pool_account;
    // One of ring 3 whose process has much leaves the last to the others: what
    // is there behind this block and its page tables (a 32nd is plenty).
    if (thread->fpu && accounts[account] + size >
                           MM_LAST_FRAMES / 2 * PAGE_SIZE &&
        mm_available_frames <
            MM_LAST_FRAMES + BYTES_TO_PAGES(size) * 33 / 32)
        return NULL;
    pool_block *block = size <= EX_POOL_LARGE
                            ? take_small(size, type)
                            : mm_allocate_system_pages(large_pages(size));
    if (!block)
        return NULL;
    block->tag = tag;
    block->size = (uint32_t)size;
    block->account = account;
    __atomic_fetch_add(&accounts[account], size, __ATOMIC_RELAXED);
    __atomic_fetch_add(&ex_pool_bytes, size, __ATOMIC_RELAXED);
    __atomic_fetch_add(&ex_pool_blocks, 1, __ATOMIC_RELAXED);
    return block->body;
}

// Frees a block; tag is the one that it was allocated with, or 0: any. A second
// time, or with another tag, is a bugcheck. A block above EX_POOL_LARGE must
// not be freed with a spin lock held.
//
// IRQL:    <= DISPATCH_LEVEL
// NT:      ExFreePoolWithTag (WDK)
void ExFreePoolWithTag(void *body, uint32_t tag)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    pool_block *block = CONTAINING_RECORD(body, pool_block, body);
    if (!block->tag || (tag && block->tag != tag))
        KeBugCheckEx(BAD_POOL_CALLER, (uintptr_t)body, tag, block->tag, 0);
    __atomic_fetch_sub(&accounts[block->account], block->size,
                       __ATOMIC_RELAXED);
    __atomic_fetch_sub(&ex_pool_bytes, block->size, __ATOMIC_RELAXED);
    __atomic_fetch_sub(&ex_pool_blocks, 1, __ATOMIC_RELAXED);
    if (block->size > EX_POOL_LARGE)
        mm_free_system_pages(block, large_pages(block->size));
    else
        give_small(block);
}
