// mm.h - frames, address spaces, system pages, and pinning for DMA.
//
// The map of the kernel's half, the same in every address space but for the
// page tables:
//   MM_DIRECT_MAP      all RAM and the initrd, NX; RW but for the initrd and
//                      the image's text and rodata
//   MM_SYSTEM_PAGES    pages handed out in runs: kernel stacks, large pool
//                      blocks, device registers
//   MM_PTE_BASE        the tables of this address space, R, NX (mmp.h)
//   -2 GiB             the kernel image: text R-X, rodata R, data RW
//
// A frame is free, or has a count: one for being mapped or owned, one more
// for each MDL that pins it. It becomes free when the count falls to 0, so a
// page under DMA outlives its mapping and even its process.
//
//   free --mm_allocate_frame--> count 1 --pin--> 2.. --unpin, unmap--> 0: free

#pragma once

#include "kernel/ke/wait.h"
#include "kernel/nt.h"

#define MM_SYSTEM_PAGES 0xFFFFC00000000000ull
#define MM_SYSTEM_PAGE_COUNT 65536u        // 256 MiB of addresses

static inline void *mm_phys_to_virt(uint64_t physical)
{
    return (void *)(MM_DIRECT_MAP + physical);
}

static inline void *mm_frame_to_virt(PFN_NUMBER frame)
{
    return mm_phys_to_virt((uint64_t)frame << PAGE_SHIFT);
}

// Takes over the memory map: builds the final page tables (W^X, NX, direct
// map, no identity map), the PFN database and the free list; keeps the kernel
// image and the initrd. False below 32 MiB or so.
bool mm_init(const LOADER_PARAMETER_BLOCK *loader);
extern uint64_t mm_total_frames;           // RAM that was found
extern uint64_t mm_kernel_cr3;             // page tables without a user half
extern volatile uint64_t mm_available_frames;
#define MM_LAST_FRAMES 256u    // are for those who have little
#define MM_FRAMES_FOR_IO 32u   // of them: the very last

// ---- Frames: any level up to DISPATCH --------------------------------------
// Returns a frame with count 1, filled with zeros; 0 when there is none but
// the last reserve ones.
PFN_NUMBER mm_allocate_frame(uint64_t reserve);
void mm_release_frame(PFN_NUMBER frame);   // frees it at 0

// ---- System pages ----------------------------------------------------------
// pages contiguous pages of address space backed by zeroed frames, NULL if
// there are none left. Below and above them one stays unmapped. <= DISPATCH.
void *mm_allocate_system_pages(uint32_t pages);
void mm_free_system_pages(void *address, uint32_t pages);
// Maps device registers, uncached; for ever. NULL: no address space left.
void *MmMapIoSpace(uint64_t physical, size_t length);

#define MM_STACK_PAGES 3                   // of a kernel stack

// ---- Address spaces --------------------------------------------------------
typedef struct mm_space {
    uint64_t cr3;
    KMUTANT mutex;               // guards the page tables, room; PASSIVE
    uint64_t room;               // where to look for room first
    KPROCESS *process;           // whose ActiveProcessors a flush goes to
} mm_space;

NTSTATUS mm_create_space(mm_space *space, KPROCESS *process);
// Releases all; no processor may have it loaded. Pages under DMA live on.
void mm_delete_space(mm_space *space);

// Maps the page at this physical address there as well, for ring 0 to execute:
// what starts another processor. It is nobody's, and stays that. False: no
// memory.
bool mm_map_page(mm_space *space, uint64_t physical);

// IRQL PASSIVE. *base 0: chosen here, else exactly there. Committed, zeroed.
// Returns: STATUS_SUCCESS, STATUS_CONFLICTING_ADDRESSES, STATUS_NO_MEMORY,
//          STATUS_INVALID_PARAMETER (range), STATUS_INVALID_PAGE_PROTECTION
NTSTATUS mm_allocate(mm_space *space, uint64_t *base, uint64_t *size,
                     uint32_t protect);
// *size 0: the whole allocation at *base; else whole pages inside one.
NTSTATUS mm_free(mm_space *space, uint64_t *base, uint64_t *size);
NTSTATUS mm_protect(mm_space *space, uint64_t *base, uint64_t *size,
                    uint32_t protect, uint32_t *old);
NTSTATUS mm_query(mm_space *space, uint64_t address,
                  MEMORY_BASIC_INFORMATION *information);

// ---- MDLs: pinned memory, as a device sees it ------------------------------
struct MDL {
    uint32_t ByteCount;
    uint16_t ByteOffset;         // in the first frame
    bool from_pool;              // not inside an IRP
    uint32_t locked;             // so many frames are pinned: MmUnlockPages
    PFN_NUMBER frames[];         // BYTES_TO_PAGES(ByteOffset + ByteCount)
};

// Describes a buffer of the caller in mdl (with room for its frames; zeroed, or
// all unlocked) and pins it, for a device to read, or to write, which ring 3
// must be able to do, too. No lock: see pin.c for why that is safe against a
// thread that unmaps.
// Returns: STATUS_SUCCESS or STATUS_ACCESS_VIOLATION (nothing is pinned then)
enum { MM_PIN_READ = 0x65, MM_PIN_WRITE = 0x67 };    // of the pages' entries
NTSTATUS mm_lock_user_buffer(MDL *mdl, uint64_t address, uint32_t length,
                             uint64_t rights);
// The same for a space that is being built.
NTSTATUS mm_lock_space(MDL *mdl, const mm_space *space, uint64_t address,
                       uint32_t length);
// Describes kernel memory (pool, stack, system pages); nothing is pinned.
void MmBuildMdlForNonPagedPool(MDL *mdl, const void *address, uint32_t length);
// Takes back what pinning did. IRQL: <= DISPATCH_LEVEL
static inline void MmUnlockPages(MDL *mdl)
{
    while (mdl->locked)
        mm_release_frame(mdl->frames[--mdl->locked]);
}

// Copies length bytes at offset of the described memory. IRQL: <= DISPATCH.
void mm_copy_to_mdl(MDL *mdl, uint32_t offset, const void *from,
                    uint32_t length);
