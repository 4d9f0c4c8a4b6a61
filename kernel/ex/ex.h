// ex.h - pool: the kernel's memory in small pieces.
//
// Sizes that a page has room for come from pages cut into equal blocks; larger
// ones are whole system pages. Usable up to DISPATCH_LEVEL; every block is
// 16-aligned and not cleared. Freeing a large one flushes TLBs: then no spin
// lock may be held. In the checked build tests/kernel/poolguard.c stands in
// front of both functions: it fences and poisons blocks.

#pragma once

#include "kernel/ke/irql.h"
#include "kernel/ke/thread.h"
#include "kernel/nt.h"

// Requests for I/O may come from the very last pages, nothing else may: whoever
// floods the pool with something does not stop the others' I/O.
typedef enum POOL_TYPE { NonPagedPool, ex_pool_for_io } POOL_TYPE;

#define EX_POOL_LARGE 4032u      // larger blocks are system pages
#define EX_POOL_ACCOUNTS 256u    // two processes rarely share one

// Four characters that name the owner.
#define EX_TAG(a, b, c, d)                                        \
    ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 |   \
     (uint32_t)(d) << 24)

extern uint64_t ex_pool_bytes;   // of live blocks, as asked for
extern uint64_t ex_pool_blocks;
extern uint64_t ex_pool_pages;   // that are cut into blocks, used or not

void ex_init_pool(void);
void *ExAllocatePoolWithTag(POOL_TYPE type, size_t size, uint32_t tag);
void ExFreePoolWithTag(void *block, uint32_t tag);
PFN_NUMBER ex_allocate_io_frame(void);

// A block of size bytes of this processor's own list, or else of pool.
static inline void *ex_take(uint32_t list, size_t size, uint32_t tag)
{
    ki_disable();
    void *block = ke_take_kept(&KeGetCurrentPrcb()->kept[list]);
    ki_enable();
    return block ? block : ExAllocatePoolWithTag(NonPagedPool, size, tag);
}

static inline void ex_give(uint32_t list, void *block, uint32_t tag)
{
    ki_disable();
    bool kept = ke_keep(&KeGetCurrentPrcb()->kept[list], block);
    ki_enable();
    if (!kept)
        ExFreePoolWithTag(block, tag);
}
