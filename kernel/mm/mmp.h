// mmp.h - what only kernel/mm knows: page table entries, and who owns frames.
//
// Locks: a space's mutex > the lock of the system pages > the PFN lock. The
// page tables of the kernel's half are shared: every space copies the upper
// half of the top table, and mm_init fills all entries that will ever be used.

#ifndef TINT_MM_MMP_H
#define TINT_MM_MMP_H

#include "kernel/ke/ke.h"
#include "kernel/mm/mm.h"
#include "kernel/rtl/rtl.h"

// Virtual minus physical address of the kernel image, as in linker.ld.
#define MM_KERNEL_BASE 0xFFFFFFFF80000000ull

// A page table entry (Intel SDM 4.5). Accessed and dirty are set beforehand
// wherever a page is mapped, so the processor never writes to an entry.
#define MM_PTE_PRESENT   (1ull << 0)
#define MM_PTE_WRITE     (1ull << 1)
#define MM_PTE_USER      (1ull << 2)
#define MM_PTE_UNCACHED  (3ull << 3)     // PWT and PCD
#define MM_PTE_TOUCHED   (3ull << 5)     // accessed, dirty
#define MM_PTE_LARGE     (1ull << 7)
#define MM_PTE_GLOBAL    (1ull << 8)
#define MM_PTE_NX        (1ull << 63)
#define MM_PTE_FRAME     0x000FFFFFFFFFF000ull
#define MM_PTE_SOFTWARE  9               // three bits of ours: space.c

#define MM_TABLE_LEVELS  4
#define MM_TABLE_ENTRIES 512u
#define MM_LARGE_PAGE    (MM_TABLE_ENTRIES * PAGE_SIZE)

#define MM_PTE_KERNEL \
    (MM_PTE_PRESENT | MM_PTE_GLOBAL | MM_PTE_TOUCHED | MM_PTE_NX)

// Frames that programs cannot have: the kernel's own, to say no with.
#define MM_RESERVED_FRAMES 64u

static inline PFN_NUMBER mm_entry_frame(uint64_t entry)
{
    return (PFN_NUMBER)((entry & MM_PTE_FRAME) >> PAGE_SHIFT);
}

static inline uint64_t mm_frame_entry(PFN_NUMBER frame, uint64_t bits)
{
    return (uint64_t)frame << PAGE_SHIFT | bits;
}

static inline uint64_t mm_read_cr3(void)
{
    uint64_t cr3;
    __asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
    return cr3;
}

static inline void mm_write_cr3(uint64_t cr3)
{
    __asm__ volatile("mov %0, %%cr3" ::"r"(cr3) : "memory");
}

// The entry of level (1: of a page) that maps address; a large page's entry
// if it lies under one; NULL if a table above is not there.
volatile uint64_t *mm_find_entry(uint64_t cr3, uint64_t address,
                                 uint32_t level);

// What space.c asks of pages.c; a space's mutex held.
bool mm_commit(mm_space *space, uint64_t base, uint64_t pages, uint64_t bits);
void mm_decommit(mm_space *space, uint64_t base, uint64_t pages);
void mm_flush(mm_space *space, uint64_t base, uint64_t pages);

// The page frame database: one of these per frame, up to the last of RAM.
typedef struct mm_pfn {
    volatile uint32_t count;     // see mm.h; atomic
    PFN_NUMBER next;             // when it is free; PFN lock
} mm_pfn;

// Where mm_init gets frames from before the database exists.
PFN_NUMBER mm_take_untouched(uint64_t pages);
void mm_add_range(uint64_t base, uint64_t end);
void mm_set_database(mm_pfn *database);
// mm_allocate_frame that fails unless more than reserve frames are left.
PFN_NUMBER mm_take_frame(uint64_t reserve);
// Adds one to the count unless that is 0.
bool mm_try_reference_frame(PFN_NUMBER frame);

#endif
