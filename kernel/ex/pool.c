// pool.c - the pool: one allocator for all small things of the kernel.
//
// A page of small blocks has a header, which knows the size class and the free
// blocks; each block has one too, for the size and the tag it was asked with.
// Pages with a free block are on their class's list; one that becomes empty
// goes back to mm unless it is the only one there. Small blocks lie in the
// direct map, so no TLB is ever flushed for them. Blocks above EX_POOL_LARGE
// are system pages with a note in the pool. One lock, a leaf but for mm's.

#include "kernel/ex/ex.h"

#include "kernel/ke/irql.h"
#include "kernel/mm/mm.h"
#include "kernel/rtl/rtl.h"

enum { ALIGNMENT = 16, STATE_LIVE = 0xA11E, STATE_FREE = 0xF4EE };

#define PAGE_MAGIC 0x6C6F6F50u    // "Pool"
#define LARGE_TAG  EX_TAG('P', 'o', 'o', 'L')

typedef struct pool_block {
    uint32_t tag;
    uint16_t size;    // as asked for
    uint16_t state;
    char body[];    // 16-aligned; of a free block: next free one
} pool_block;

typedef struct pool_page {
    LIST_ENTRY entry;    // on its class's list while one is free
    pool_block *free;
    uint32_t magic;
    uint16_t class;
    uint16_t used;
    uint64_t pad;    // the first block's body is 16-aligned
} pool_page;

typedef struct large_block {
    LIST_ENTRY entry;
    void *address;
    size_t size;
    uint32_t tag;
} large_block;

// Distances of blocks; most divide what a page has without a rest.
static const uint16_t strides[] = { 32,  48,  64,   80,   96,  112, 128,
                                    160, 192, 224,  256,  336, 448, 576,
                                    672, 800, 1008, 1344, 2016 };

static KSPIN_LOCK pool_lock;    // guards all below
static LIST_ENTRY partial[ARRAY_SIZE(strides)];
static LIST_ENTRY large_blocks;
static ex_pool_counts pool_counts;
// Which class a block of so many times ALIGNMENT belongs to; constant.
static uint8_t class_of[EX_POOL_LARGE / ALIGNMENT + 2];

void (*ex_pool_hook)(void *block, size_t size, size_t room, bool live);

// Makes an empty pool.
//
// IRQL:    <= DISPATCH_LEVEL
void ex_init_pool(void)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    InitializeListHead(&large_blocks);
    for (uint32_t i = 0; i < ARRAY_SIZE(strides); i++)
        InitializeListHead(&partial[i]);
    for (uint32_t units = 0, class = 0; units < sizeof(class_of); units++) {
        class += units * ALIGNMENT > strides[class];
        class_of[units] = (uint8_t) class;
    }
}

static pool_block **next_free(pool_block *block)
{
    return (pool_block **)block->body;
}

// Cuts a page into blocks and puts it on its class's list. Lock held.
static bool add_page(uint32_t class)
{
    PFN_NUMBER frame = mm_allocate_frame();
    if (!frame)
        return false;
    pool_page *page = mm_frame_to_virt(frame);
    *page = (pool_page){ .magic = PAGE_MAGIC, .class = (uint16_t) class };
    for (uint32_t at = sizeof(*page); at + strides[class] <= PAGE_SIZE;
         at += strides[class]) {
        pool_block *block = (pool_block *)((char *)page + at);
        block->state = STATE_FREE;
        *next_free(block) = page->free;
        page->free = block;
    }
    InsertHeadList(&partial[class], &page->entry);
    return true;
}

// Lock held.
static pool_block *take_small(size_t size, uint32_t tag)
{
    uint32_t class =
        class_of[(size + sizeof(pool_block) + ALIGNMENT - 1) / ALIGNMENT];
    if (IsListEmpty(&partial[class]) && !add_page(class))
        return NULL;
    pool_page *page = CONTAINING_RECORD(partial[class].Flink, pool_page, entry);
    pool_block *block = page->free;
    page->free = *next_free(block);
    page->used++;
    if (!page->free)
        RemoveEntryList(&page->entry);
    block->tag = tag;
    block->size = (uint16_t)size;
    block->state = STATE_LIVE;
    return block;
}

static pool_page *page_of(const void *block)
{
    return (pool_page *)PAGE_ALIGN_DOWN(block);
}

// Lock held.
static void give_small(pool_block *block)
{
    pool_page *page = page_of(block);
    LIST_ENTRY *list = &partial[page->class];
    if (!page->free)
        InsertHeadList(list, &page->entry);
    block->state = STATE_FREE;
    *next_free(block) = page->free;
    page->free = block;
    if (--page->used || list->Flink == list->Blink)
        return;
    RemoveEntryList(&page->entry);
    page->magic = 0;
    mm_release_frame(
        (PFN_NUMBER)(((uintptr_t)page - MM_DIRECT_MAP) >> PAGE_SHIFT));
}

static void call_hook(void *block, size_t size, bool live)
{
    if (!ex_pool_hook)
        return;
    size_t room = size > EX_POOL_LARGE
                      ? PAGE_ALIGN_UP(size)
                      : strides[page_of(block)->class] - sizeof(pool_block);
    ex_pool_hook(block, size, room, live);
}

static void *allocate_small(size_t size, uint32_t tag)
{
    KIRQL old;
    KeAcquireSpinLock(&pool_lock, &old);
    pool_block *block = take_small(size, tag);
    if (block) {
        pool_counts.bytes += size;
        pool_counts.blocks++;
    }
    KeReleaseSpinLock(&pool_lock, old);
    return block ? block->body : NULL;
}

static void *allocate_large(size_t size, uint32_t tag)
{
    if (size > (uint64_t)MM_SYSTEM_PAGE_COUNT * PAGE_SIZE)
        return NULL;
    KIRQL old;
    KeAcquireSpinLock(&pool_lock, &old);
    pool_block *note = take_small(sizeof(large_block), LARGE_TAG);
    KeReleaseSpinLock(&pool_lock, old);
    if (!note)
        return NULL;
    // The pages come last: giving them back would flush TLBs, and the caller
    // may hold a spin lock.
    void *address =
        mm_allocate_system_pages((uint32_t)BYTES_TO_PAGES(size), false);
    KeAcquireSpinLock(&pool_lock, &old);
    if (address) {
        large_block *large = (large_block *)note->body;
        *large = (large_block){ .address = address, .size = size, .tag = tag };
        InsertHeadList(&large_blocks, &large->entry);
        pool_counts.bytes += size;
        pool_counts.blocks++;
    } else {
        give_small(note);
    }
    KeReleaseSpinLock(&pool_lock, old);
    return address;
}

// Allocates size bytes, 16-aligned, not cleared. Above EX_POOL_LARGE they are
// whole pages.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: NULL when there is no memory
// NT:      ExAllocatePoolWithTag (WDK). There is one type of pool.
void *ExAllocatePoolWithTag(POOL_TYPE type, size_t size, uint32_t tag)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    ASSERT(type == NonPagedPool);
    (void)type;
    void *block = size > EX_POOL_LARGE ? allocate_large(size, tag)
                                       : allocate_small(size, tag);
    if (block)
        call_hook(block, size, true);
    return block;
}

// Stops if block is not a live small block with this tag.
static pool_block *check_small(void *body, uint32_t tag)
{
    pool_page *page = page_of(body);
    pool_block *block = CONTAINING_RECORD(body, pool_block, body);
    uint32_t offset = BYTE_OFFSET(block) - (uint32_t)sizeof(*page);
    if ((uintptr_t)body < MM_DIRECT_MAP || (uintptr_t)body >= MM_SYSTEM_PAGES ||
        page->magic != PAGE_MAGIC || page->class >= ARRAY_SIZE(strides) ||
        offset % strides[page->class] || block->state != STATE_LIVE ||
        block->tag != tag)
        KeBugCheckEx(BAD_POOL_CALLER, (uintptr_t)body, tag, 0, 0);
    return block;
}

static void free_small(void *body, uint32_t tag)
{
    pool_block *block = check_small(body, tag);
    call_hook(body, block->size, false);
    KIRQL old;
    KeAcquireSpinLock(&pool_lock, &old);
    pool_counts.bytes -= block->size;
    pool_counts.blocks--;
    give_small(block);
    KeReleaseSpinLock(&pool_lock, old);
}

static void free_large(void *address, uint32_t tag)
{
    KIRQL old;
    KeAcquireSpinLock(&pool_lock, &old);
    large_block *large = NULL;
    RTL_FOR_EACH(entry, &large_blocks)
    {
        large = CONTAINING_RECORD(entry, large_block, entry);
        if (large->address == address)
            break;
        large = NULL;
    }
    if (!large || large->tag != tag)
        KeBugCheckEx(BAD_POOL_CALLER, (uintptr_t)address, tag, 1, 0);
    size_t size = large->size;
    RemoveEntryList(&large->entry);
    give_small(CONTAINING_RECORD(large, pool_block, body));
    pool_counts.bytes -= size;
    pool_counts.blocks--;
    KeReleaseSpinLock(&pool_lock, old);
    call_hook(address, size, false);
    mm_free_system_pages(address, (uint32_t)BYTES_TO_PAGES(size), false);
}

// Frees a block; tag is the one that it was allocated with. A second time, or
// with another tag, is a bugcheck. A block above EX_POOL_LARGE must not be
// freed with a spin lock held.
//
// IRQL:    <= DISPATCH_LEVEL
// NT:      ExFreePoolWithTag (WDK)
void ExFreePoolWithTag(void *block, uint32_t tag)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    if (BYTE_OFFSET(block))
        free_small(block, tag);
    else
        free_large(block, tag);
}

// What is allocated and not freed.
//
// IRQL:    <= DISPATCH_LEVEL
void ex_query_pool(ex_pool_counts *counts)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    KIRQL old;
    KeAcquireSpinLock(&pool_lock, &old);
    *counts = pool_counts;
    KeReleaseSpinLock(&pool_lock, old);
}
