// pin.c - MDLs: frames that a device may reach while ring 3 does what it likes.
//
// Pinning reads the page tables without the space's mutex, which only a thread
// at PASSIVE_LEVEL could take. It may, because
//   - tables go only with the space, and the space not before its last thread:
//     where MM_PTE_BASE shows one, it stays;
//   - an entry changes by one store of 8 bytes;
//   - interrupts are off from the look at the entry until the frame is
//     counted, and whoever unmaps a page waits, before it lets the frame go,
//     until every processor that has the space has answered an interrupt, or
//     is idle (mm_decommit). One that loads the space too late to be asked
//     finds the entry changed already.

#include "kernel/mm/mmp.h"

_Static_assert(MM_PIN_READ == (MM_PTE_PRESENT | MM_PTE_TOUCHED | MM_PTE_USER) &&
               MM_PIN_WRITE == (MM_PIN_READ | MM_PTE_WRITE),
               "what ring 3 may read, and write");

static DECLSPEC_NOINLINE NTSTATUS give_up(MDL *mdl)
{
    MmUnlockPages(mdl);
    return STATUS_ACCESS_VIOLATION;
}

// Pins what mdl, in which nothing is locked, is to name. rights: of each page;
// space: NULL is the current one.
static FORCEINLINE NTSTATUS pin(MDL *mdl, const mm_space *space,
                                uint64_t address, uint32_t length,
                                uint64_t rights)
{
    mdl->ByteCount = length;
    mdl->ByteOffset = (uint16_t)BYTE_OFFSET(address);
    const uint64_t end = address + length;
    size_t done = 0;
    if (address > MM_HIGHEST_USER_ADDRESS)    // of the other half none is
        return STATUS_ACCESS_VIOLATION;       // ring 3's
    do {
        ki_disable();
        uint64_t seen = space ? *mm_page_entry(space->cr3, address)
                              : mm_current_entry(address);
        if (__builtin_expect((seen & rights) != rights, 0)) {
            ki_enable();
            return give_up(mdl);
        }
        PFN_NUMBER frame = mm_entry_frame(seen);
        __atomic_fetch_add(&mm_pfn_database[frame].count, 1, __ATOMIC_RELAXED);
        ASSERT(mm_pfn_database[frame].count > 1);
        ki_enable();
        mdl->frames[done] = frame;
        mdl->locked = (uint32_t)++done;
        address = PAGE_ALIGN_DOWN(address) + PAGE_SIZE;
    } while (address < end);
    return STATUS_SUCCESS;
}

// Describes length bytes, not 0, at address in mdl, which has room for its
// frames and nothing locked, and pins their frames: of the current process, as
// ring 3 may use them (MM_PIN_...: to be read by a device, or written).
//
// IRQL:    <= APC_LEVEL
// Returns: STATUS_SUCCESS, or STATUS_ACCESS_VIOLATION with nothing pinned
// Owns:    the MDL, one count of each frame, until MmUnlockPages
FORCEINLINE NTSTATUS mm_lock_user_buffer(MDL *mdl, uint64_t address,
                                         uint32_t length, uint64_t rights)
{
    ASSERT_IRQL(<=, APC_LEVEL);

    return pin(mdl, NULL, address, length, rights);
}

// The same for a space that is being built, whatever ring 3 may do there.
//
// IRQL:    <= APC_LEVEL
// Returns: as mm_lock_user_buffer
NTSTATUS mm_lock_space(MDL *mdl, const mm_space *space, uint64_t address,
                       uint32_t length)
{
    ASSERT_IRQL(<=, APC_LEVEL);

    ASSERT(ke_is_user_range((void *)address, length));
    return pin(mdl, space, address, length, MM_PTE_PRESENT);
}

// Describes length bytes of pool, stack, system pages or kernel image, which
// their owner keeps while the MDL is in use.
//
// IRQL:    <= DISPATCH_LEVEL
// NT:      MmBuildMdlForNonPagedPool (WDK). address and length are arguments,
//          as there is no MmInitializeMdl.
void MmBuildMdlForNonPagedPool(MDL *mdl, const void *address, uint32_t length)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    mdl->ByteCount = length;
    mdl->ByteOffset = (uint16_t)BYTE_OFFSET((uintptr_t)address);
    mdl->locked = 0;
    uint64_t count = BYTES_TO_PAGES((uint64_t)mdl->ByteOffset + length);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t at = (uintptr_t)address + i * PAGE_SIZE;
        mdl->frames[i] = mm_entry_frame(*mm_page_entry(mm_kernel_cr3, at));
        ASSERT(mdl->frames[i]);    // else nothing is mapped there
    }
}

// Copies length bytes to offset of the described memory.
//
// IRQL:    <= DISPATCH_LEVEL
void mm_copy_to_mdl(MDL *mdl, uint32_t offset, const void *from,
                    uint32_t length)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    ASSERT((uint64_t)offset + length <= mdl->ByteCount);
    uint64_t at = (uint64_t)mdl->ByteOffset + offset;
    for (uint32_t size; length; length -= size) {
        size = MIN(length, PAGE_SIZE - BYTE_OFFSET(at));
        char *page = mm_frame_to_virt(mdl->frames[at >> PAGE_SHIFT]);
        memcpy(page + BYTE_OFFSET(at), from, size);
        from = (const char *)from + size;
        at += size;
    }
}
