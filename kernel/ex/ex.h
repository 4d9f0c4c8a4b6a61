// ex.h - pool: the kernel's memory in small pieces.
//
// Sizes up to half a page come from pages cut into equal blocks, one list per
// size class; larger ones are whole system pages. Usable up to
// DISPATCH_LEVEL; every block is 16-aligned and not cleared. Freeing a large
// one flushes TLBs: then no spin lock may be held.

#ifndef TINT_EX_EX_H
#define TINT_EX_EX_H

#include "kernel/nt.h"

typedef enum POOL_TYPE { NonPagedPool } POOL_TYPE;

#define EX_POOL_LARGE 2000u      // larger blocks are whole pages

// Four characters that name the owner.
#define EX_TAG(a, b, c, d)                                        \
    ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 |   \
     (uint32_t)(d) << 24)

// The checked build may look at each block of size bytes when it is handed out
// (live) and when it comes back.
extern void (*ex_pool_hook)(void *block, size_t size, bool live);
extern uint64_t ex_pool_bytes;   // of live blocks, as asked for
extern uint64_t ex_pool_blocks;
extern uint64_t ex_pool_pages;   // that are cut into blocks, used or not

void ex_init_pool(void);
void *ExAllocatePoolWithTag(POOL_TYPE type, size_t size, uint32_t tag);
void ExFreePoolWithTag(void *block, uint32_t tag);

#endif
