// malloc.c - the heap: a list of free blocks, in the order of their addresses.
//
// The first block that is large enough is taken; a freed block is joined with
// its free neighbours. Memory for small blocks comes from the kernel in pieces
// and stays; a large block is a piece of its own and goes back when freed.
// heap_lock guards the list.

#include <stdlib.h>

#include <ntdll.h>
#include <stdint.h>
#include <string.h>

#define UNIT        sizeof(struct block)
#define PAGE        ((size_t)4096)
#define PIECE_SIZE  ((size_t)256 * 1024)
#define LARGE_BLOCK ((size_t)128 * 1024)

// Stands before the caller's bytes. size counts both and is a multiple of 16.
struct block {
    size_t size;
    struct block *next;    // in the free list; NULL while it is in use
};

static rtl_lock heap_lock;
static struct block free_list;    // its head; size 0

void *nt_allocate_pages(size_t size)
{
    void *base = NULL;
    NTSTATUS status = NtAllocateVirtualMemory(NtCurrentProcess(), &base, &size,
                                              MEM_RESERVE | MEM_COMMIT,
                                              PAGE_READWRITE);
    return NT_SUCCESS(status) ? base : NULL;
}

static struct block *get_piece(size_t size)
{
    size = (size + PAGE - 1) / PAGE * PAGE;    // all of it can be used
    struct block *block = nt_allocate_pages(size);
    if (block)
        block->size = size;
    return block;
}

static bool touches(const struct block *block, const struct block *next)
{
    return (const char *)block + block->size == (const char *)next;
}

static void insert_free(struct block *block)
{
    struct block *before = &free_list;
    while (before->next && before->next < block)
        before = before->next;

    block->next = before->next;
    before->next = block;
    if (touches(block, block->next)) {
        block->size += block->next->size;
        block->next = block->next->next;
    }
    if (touches(before, block)) {
        before->size += block->size;
        before->next = block->next;
    }
}

// Takes size bytes from the end of the first free block that has them.
static struct block *take_free(size_t size)
{
    for (struct block *before = &free_list; before->next;
         before = before->next) {
        struct block *block = before->next;
        if (block->size < size)
            continue;
        if (block->size == size) {
            before->next = block->next;
        } else {
            block->size -= size;
            block = (struct block *)((char *)block + block->size);
            block->size = size;
        }
        block->next = NULL;
        return block;
    }
    return NULL;
}

void *malloc(size_t size)
{
    if (size > PTRDIFF_MAX)
        return NULL;
    size = (size + UNIT + 15) & ~(size_t)15;
    if (size >= LARGE_BLOCK) {
        struct block *block = get_piece(size);
        return block ? block + 1 : NULL;
    }

    rtl_acquire(&heap_lock);
    struct block *block = take_free(size);
    if (!block) {
        struct block *piece = get_piece(PIECE_SIZE);
        if (piece) {
            insert_free(piece);
            block = take_free(size);
        }
    }
    rtl_release(&heap_lock);
    return block ? block + 1 : NULL;
}

void free(void *memory)
{
    if (!memory)
        return;
    struct block *block = (struct block *)memory - 1;
    if (block->size >= LARGE_BLOCK) {
        void *base = block;
        size_t size = 0;
        NtFreeVirtualMemory(NtCurrentProcess(), &base, &size, MEM_RELEASE);
        return;
    }
    rtl_acquire(&heap_lock);
    insert_free(block);
    rtl_release(&heap_lock);
}

void *calloc(size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    void *memory = malloc(total);
    return memory ? memset(memory, 0, total) : NULL;
}

void *realloc(void *memory, size_t size)
{
    if (!memory)
        return malloc(size);
    size_t old = ((struct block *)memory - 1)->size - UNIT;
    if (size <= old)
        return memory;
    void *larger = malloc(size);
    if (larger) {
        memcpy(larger, memory, old);
        free(memory);
    }
    return larger;
}
