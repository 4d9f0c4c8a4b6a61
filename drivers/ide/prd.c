// prd.c - from the frames of an MDL to what the bus master can read.
//
// This is the address translation of the whole road: the pages of ring 3's
// own buffer, by physical address, in the device's format. Pure C, so that a
// host test can try it on any layout of frames.

#include "drivers/ide/ide.h"

// Describes length bytes at offset of the MDL's memory: one entry for each
// page. length is not 0, and it and the memory's address are even: the bus
// master moves words. IDE_MAX_BYTES always fit.
//
// The device has 32 address bits. QEMU's pc fills low memory first, so a frame
// above 4 GiB needs a guest of more than 3 GiB; map registers, which would
// copy such pages, are left out.
//
// IRQL:    any level
// Returns: the number of entries; 0 if a frame is out of the device's reach
uint32_t ide_build_prds(const MDL *mdl, uint32_t offset, uint32_t length,
                        ide_prd *table)
{
    uint64_t at = (uint64_t)mdl->ByteOffset + offset;
    uint32_t used = 0;

    while (length) {
        uint64_t address = (uint64_t)mdl->frames[at >> PAGE_SHIFT]
                               << PAGE_SHIFT |
                           BYTE_OFFSET(at);
        uint32_t piece = MIN(length, PAGE_SIZE - BYTE_OFFSET(at));
        if (address > UINT32_MAX)
            return 0;
        table[used++] = (ide_prd){ .base = (uint32_t)address,
                                   .length = (uint16_t)piece };
        at += piece;
        length -= piece;
    }
    table[used - 1].flags = IDE_PRD_LAST;
    return used;
}
