// pin.c - MDLs: frames that a device may reach while ring 3 does what it likes.
//
// Pinning walks the page tables without the space's mutex, which only a thread
// at PASSIVE_LEVEL could take. It may, because
//   - tables go only with the space, and the space not before its last thread;
//   - an entry changes by one store of 8 bytes;
//   - a count can be raised only while it is not 0, so no free frame is ever
//     pinned; and after that the entry is read again. If it still names the
//     frame with the same rights, then the frame was mapped there while our
//     count was on it: whoever unmaps it now leaves it to us. If not, the
//     count may have gone to a frame that is another's by now: it gets it
//     back, and the last one to let go frees it, whoever that is.

#include "kernel/mm/mmp.h"

#define RIGHTS (MM_PTE_PRESENT | MM_PTE_USER | MM_PTE_WRITE)

// Pins the frame that is mapped at address with these rights; 0 if none is.
static inline PFN_NUMBER pin_page(uint64_t cr3, uint64_t address,
                                  uint64_t rights)
{
    volatile uint64_t *entry = mm_page_entry(cr3, address);
    for (;;) {
        uint64_t seen = entry ? *entry : 0;
        if (!seen || (seen & rights) != rights)
            return 0;
        PFN_NUMBER frame = mm_entry_frame(seen);
        if (mm_try_reference_frame(frame)) {
            if (((*entry ^ seen) & (MM_PTE_FRAME | RIGHTS)) == 0)
                return frame;
            mm_drop_frame(frame);
        }
    }
}

// Pins one page of the current process; see mm.h.
//
// IRQL:    <= APC_LEVEL
// Returns: 0 if ring 3 may not use it, or, for a device that writes, not write
PFN_NUMBER mm_pin_user_page(uint64_t address, bool write)
{
    ASSERT_IRQL(<=, APC_LEVEL);

    if (!ke_is_user_range((void *)address, 1))
        return 0;
    return pin_page(mm_read_cr3(), address,
                    write ? RIGHTS : RIGHTS & ~MM_PTE_WRITE);
}

// How many frames an MDL names.
static inline uint32_t frame_count(const MDL *mdl)
{
    return (uint32_t)BYTES_TO_PAGES((uint64_t)mdl->ByteOffset + mdl->ByteCount);
}

static inline void describe(MDL *mdl, uint64_t address, uint32_t length)
{
    mdl->ByteCount = length;
    mdl->ByteOffset = (uint16_t)BYTE_OFFSET(address);
    mdl->locked = false;
}

// Pins what mdl, which is not filled in yet, is to name.
static inline NTSTATUS pin(MDL *mdl, uint64_t cr3, uint64_t address,
                           uint32_t length, uint64_t rights)
{
    mdl->ByteCount = length;
    mdl->ByteOffset = (uint16_t)BYTE_OFFSET(address);
    PFN_NUMBER *frame = mdl->frames;
    int64_t left = (int64_t)mdl->ByteOffset + length;
    do {
        *frame = pin_page(cr3, address, rights);
        if (!*frame) {
            while (frame-- > mdl->frames)
                mm_drop_frame(*frame);
            return STATUS_ACCESS_VIOLATION;
        }
        frame++;
        address += PAGE_SIZE;
        left -= PAGE_SIZE;
    } while (left > 0);
    mdl->locked = true;
    return STATUS_SUCCESS;
}

// Describes length bytes, not 0, at address in mdl, which has mm_mdl_size bytes,
// and pins their frames: of the current process, as ring 3 may use them; write:
// a device will write there, so ring 3 must be able to. It must begin in ring
// 3's half; of the other one no page is ring 3's.
//
// IRQL:    <= APC_LEVEL
// Returns: STATUS_SUCCESS, or STATUS_ACCESS_VIOLATION with nothing pinned
// Owns:    the MDL, one count of each frame, until MmUnlockPages
NTSTATUS mm_lock_user_pages(MDL *mdl, uint64_t address, uint32_t length,
                            bool write)
{
    ASSERT_IRQL(<=, APC_LEVEL);

    mdl->locked = false;
    if (!ke_is_user_range((void *)address, 1))
        return STATUS_ACCESS_VIOLATION;
    return pin(mdl, mm_read_cr3(), address, length,
               MM_PTE_PRESENT | MM_PTE_USER | (write ? MM_PTE_WRITE : 0));
}

// The same for a space that is being built, whatever its pages' protection.
//
// IRQL:    <= APC_LEVEL
// Returns: as mm_lock_user_buffer
NTSTATUS mm_lock_space(MDL *mdl, const mm_space *space, uint64_t address,
                       uint32_t length)
{
    ASSERT_IRQL(<=, APC_LEVEL);

    mdl->locked = false;
    return ke_is_user_range((void *)address, length)
               ? pin(mdl, space->cr3, address, length, 0)
               : STATUS_ACCESS_VIOLATION;
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

    describe(mdl, (uintptr_t)address, length);
    for (uint32_t i = 0; i < frame_count(mdl); i++) {
        uint64_t at = (uintptr_t)address + (uint64_t)i * PAGE_SIZE;
        mdl->frames[i] = mm_entry_frame(*mm_page_entry(mm_kernel_cr3, at));
    }
}

// Takes back what pinning did.
//
// IRQL:    <= DISPATCH_LEVEL
void mm_unlock_pages(MDL *mdl)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    for (uint32_t i = 0; i < frame_count(mdl); i++)
        mm_drop_frame(mdl->frames[i]);
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
