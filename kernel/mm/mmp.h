// mmp.h - what only kernel/mm knows: page table entries, and who owns frames.
//
// Locks: a space's mutex > the lock of the system pages > the PFN lock. Ranges
// of addresses are MEMORY_RANGEs, too, of whole pages. The page tables of the
// kernel's half are shared: every space copies the upper half of the top table,
// and mm_init fills all entries that will ever be used. All pages are small.

#pragma once

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
#define MM_PTE_GLOBAL    (1ull << 8)
#define MM_PTE_NX        (1ull << 63)
#define MM_PTE_FRAME     0x000FFFFFFFFFF000ull
#define MM_PTE_FIRST     (1ull << 52)    // ours: an allocation begins here
#define MM_PTE_PROTECTION 53             // ours: NT's protection begins here
#define MM_PTE_KERNEL    (MM_PTE_PRESENT | MM_PTE_GLOBAL | MM_PTE_TOUCHED)

#define MM_TABLE_ENTRIES 512u
#define MM_PROTECTIONS   0x3Fu           // all bits that a protection has

// Frames that programs cannot have: the kernel's own, to say no with.
#define MM_RESERVED_FRAMES 64u

static inline PFN_NUMBER mm_entry_frame(uint64_t entry)
{
    return (PFN_NUMBER)((entry & MM_PTE_FRAME) >> PAGE_SHIFT);
}

enum { MM_TOP_SHIFT = 39, MM_LEVEL_SHIFT = 9 };    // of an address, by level

// An entry of the top table names that table itself, so that the tables of the
// current space lie side by side here, too (NT's PTE_BASE); read-only.
#define MM_PTE_BASE   0xFFFFF68000000000ull
#define MM_SELF_ENTRY (MM_PTE_BASE >> MM_TOP_SHIFT & (MM_TABLE_ENTRIES - 1))

// The entry of a page of the current space, by one load; 0, what it was before,
// where that faults, since there is no table (ki_find_fixup).
static inline uint64_t mm_current_entry(uint64_t address)
{
    const uint64_t *entries = (const uint64_t *)MM_PTE_BASE;
    uint64_t entry = 0;
    __asm__ volatile("1: mov %1, %0\n"
                     "2:\n"
                     ".pushsection .fixups, \"a\"\n"
                     ".quad 1b, 2b, 2b\n"
                     ".popsection"
                     : "+r"(entry) : "m"(entries[address >> PAGE_SHIFT])
                     : "memory");
    return entry;
}

// What is made of a walk through the tables; see pages.c.
volatile uint64_t *mm_page_entry(uint64_t cr3, uint64_t address);
volatile uint64_t *mm_make_entry(uint64_t cr3, uint64_t address,
                                 volatile uint64_t *tables);
uint64_t mm_next_used(uint64_t cr3, uint64_t address, uint64_t end);
uint64_t mm_find_room(uint64_t cr3, uint64_t *room, MEMORY_RANGE within,
                      uint64_t size, uint64_t grain);
bool mm_map(uint64_t address, MEMORY_RANGE physical, uint64_t bits);
bool mm_commit(uint64_t cr3, MEMORY_RANGE pages, uint64_t bits,
               volatile uint64_t *tables);
// users: the mask of processors that may know the pages, read when entries
// have changed; NULL: all.
void mm_change(uint64_t cr3, const volatile uint32_t *users,
               MEMORY_RANGE pages, uint64_t keep, uint64_t set);
void mm_decommit(uint64_t cr3, const volatile uint32_t *users,
                 MEMORY_RANGE pages);

// The page frame database: one of these per frame, up to the last of RAM.
typedef struct mm_pfn {
    volatile uint32_t count;     // see mm.h; atomic
    PFN_NUMBER skip;             // when it is free: the next free one lies so
} mm_pfn;                        // many behind its neighbour; PFN lock

extern mm_pfn *mm_pfn_database;
// Puts neighbours on the free list; boot, or lock held.
void mm_add_frames(PFN_NUMBER first, PFN_NUMBER count);
