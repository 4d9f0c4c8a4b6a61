// pool.c - the pool: one allocator for all small things of the kernel.
//
// Every block has a header with the size and the tag it was asked with. Small
// ones share a page, whose own header knows their size class and the free ones
// among them. Pages with a free block are on their class's list; one that
// becomes empty goes back to mm unless it is the only one there. They lie in
// the direct map, so no TLB is ever flushed for them. Blocks above
// EX_POOL_LARGE are system pages. One lock, a leaf but for mm's.

#include "kernel/ex/ex.h"

#include "kernel/ke/irql.h"
#include "kernel/mm/mm.h"
#include "kernel/rtl/rtl.h"

typedef struct pool_block {
    uint32_t tag;     // 0: free
    uint32_t size;    // as asked for
    char body[];      // 16-aligned; of a free block: the next free one
} pool_block;

typedef struct pool_page {
    LIST_ENTRY entry;    // on its class's list while one is free
    pool_block *free;
    uint32_t class, used;
    uint64_t pad;        // the first block's body is 16-aligned
} pool_page;

// Distances of blocks; most divide what a page has without a rest.
static const uint16_t strides[] = { 32,  48,  64,  80,  96,  128,  160,
                                    192, 256, 336, 448, 576, 672,  800,
                                    1008, 1344, 2016 };

static KSPIN_LOCK pool_lock;    // guards the lists and their pages
static LIST_ENTRY partial[ARRAY_SIZE(strides)];

uint64_t ex_pool_bytes, ex_pool_blocks, ex_pool_pages;
void (*ex_pool_hook)(void *block, size_t size, bool live);

// Makes an empty pool.
//
// IRQL:    <= DISPATCH_LEVEL
void ex_init_pool(void)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    for (uint32_t i = 0; i < ARRAY_SIZE(strides); i++)
        InitializeListHead(&partial[i]);
}

static void push_free(pool_page *page, pool_block *block)
{
    block->tag = 0;
    *(pool_block **)block->body = page->free;
    page->free = block;
}

// Cuts a page into blocks and puts it on its class's list. Lock held.
static bool add_page(uint32_t class)
{
    PFN_NUMBER frame = mm_allocate_frame(0);
    if (!frame)
        return false;
    pool_page *page = mm_frame_to_virt(frame);
    page->class = class;
    for (uint32_t at = sizeof(*page); at + strides[class] <= PAGE_SIZE;
         at += strides[class])
        push_free(page, (pool_block *)((char *)page + at));
    InsertHeadList(&partial[class], &page->entry);
    ex_pool_pages++;
    return true;
}

static pool_block *take_small(size_t size)
{
    uint32_t class = 0;
    while (strides[class] < size + sizeof(pool_block))
        class++;
    pool_block *block = NULL;
    KIRQL old;
    KeAcquireSpinLock(&pool_lock, &old);
    LIST_ENTRY *list = &partial[class];
    if (!IsListEmpty(list) || add_page(class)) {
        pool_page *page = CONTAINING_RECORD(list->Flink, pool_page, entry);
        block = page->free;
        page->free = *(pool_block **)block->body;
        page->used++;
        if (!page->free)
            RemoveEntryList(&page->entry);
    }
    KeReleaseSpinLock(&pool_lock, old);
    return block;
}

static void give_small(pool_block *block)
{
    pool_page *page = (pool_page *)PAGE_ALIGN_DOWN(block);
    KIRQL old;
    KeAcquireSpinLock(&pool_lock, &old);
    LIST_ENTRY *list = &partial[page->class];
    if (!page->free)
        InsertHeadList(list, &page->entry);
    push_free(page, block);
    bool empty = !--page->used && list->Flink != list->Blink;
    if (empty) {
        RemoveEntryList(&page->entry);
        ex_pool_pages--;
    }
    KeReleaseSpinLock(&pool_lock, old);
    if (empty)
        mm_release_frame(
            (PFN_NUMBER)(((uintptr_t)page - MM_DIRECT_MAP) >> PAGE_SHIFT));
}

// Pages of a large block, which begins where the first block of a page may.
static uint32_t large_pages(size_t size)
{
    return (uint32_t)BYTES_TO_PAGES(size + 2 * sizeof(pool_block));
}

static pool_block *take_large(size_t size)
{
    if (size > (size_t)MM_SYSTEM_PAGE_COUNT * PAGE_SIZE)
        return NULL;
    pool_block *pages = mm_allocate_system_pages(large_pages(size));
    return pages ? pages + 1 : NULL;
}

// Allocates size bytes, 16-aligned, not cleared.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: NULL when there is no memory
// NT:      ExAllocatePoolWithTag (WDK). There is one type of pool.
void *ExAllocatePoolWithTag(POOL_TYPE type, size_t size, uint32_t tag)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    ASSERT(type == NonPagedPool && tag);
    (void)type;
    pool_block *block = size > EX_POOL_LARGE ? take_large(size)
                                             : take_small(size);
    if (!block)
        return NULL;
    block->tag = tag;
    block->size = (uint32_t)size;
    __atomic_fetch_add(&ex_pool_bytes, size, __ATOMIC_RELAXED);
    __atomic_fetch_add(&ex_pool_blocks, 1, __ATOMIC_RELAXED);
    if (ex_pool_hook)
        ex_pool_hook(block->body, size, true);
    return block->body;
}

// Frees a block; tag is the one that it was allocated with. A second time, or
// with another tag, is a bugcheck. A block above EX_POOL_LARGE must not be
// freed with a spin lock held.
//
// IRQL:    <= DISPATCH_LEVEL
// NT:      ExFreePoolWithTag (WDK)
void ExFreePoolWithTag(void *body, uint32_t tag)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    pool_block *block = CONTAINING_RECORD(body, pool_block, body);
    if (block->tag != tag)
        KeBugCheckEx(BAD_POOL_CALLER, (uintptr_t)body, tag, block->tag, 0);
    if (ex_pool_hook)
        ex_pool_hook(body, block->size, false);
    __atomic_fetch_sub(&ex_pool_bytes, block->size, __ATOMIC_RELAXED);
    __atomic_fetch_sub(&ex_pool_blocks, 1, __ATOMIC_RELAXED);
    if (block->size > EX_POOL_LARGE)
        mm_free_system_pages(block - 1, large_pages(block->size));
    else
        give_small(block);
}
