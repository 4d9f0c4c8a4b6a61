// elf.c - says whether a file is a program for TINT, and where its parts go.
//
// Pure arithmetic on a buffer, so that it can be tested on the build machine.
// A program is a static ELF64 executable for x86-64 above 4 GiB whose segments
// are whole pages apart; nothing in the file is believed. Structures: System V
// ABI, chapters 4 and 5.

#include "kernel/ps/psp.h"

enum {
    ELFCLASS64 = 2, ELFDATA2LSB = 1, EV_CURRENT = 1,
    ET_EXEC = 2, EM_X86_64 = 62,
    PT_LOAD = 1, PT_DYNAMIC = 2, PT_INTERP = 3,
};

typedef struct elf_header {
    uint8_t e_ident[16];
    uint16_t e_type, e_machine;
    uint32_t e_version;
    uint64_t e_entry, e_phoff, e_shoff;
    uint32_t e_flags;
    uint16_t e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx;
} elf_header;

// True if length bytes at offset lie inside size bytes.
static bool is_inside(uint64_t offset, uint64_t length, uint64_t size)
{
    return offset <= size && length <= size - offset;
}

static bool is_ours(const elf_header *elf)
{
    static const uint8_t ident[] = { 0x7F, 'E', 'L', 'F', ELFCLASS64,
                                     ELFDATA2LSB, EV_CURRENT };
    return __builtin_memcmp(elf->e_ident, ident, sizeof(ident)) == 0 &&
           elf->e_version == EV_CURRENT && elf->e_type == ET_EXEC &&
           elf->e_machine == EM_X86_64 && elf->e_ehsize == sizeof(elf_header) &&
           elf->e_phentsize == sizeof(psp_segment) &&
           elf->e_phnum >= 1 && elf->e_phnum <= PSP_MAX_SEGMENTS;
}

// Alignment is as the ABI wants it: a power of two (or none), and the same
// remainder in the file as in memory.
static bool is_loadable(const psp_segment *part, uint64_t file_size)
{
    const uint32_t both = PSP_WRITABLE | PSP_EXECUTABLE;
    uint64_t mask = part->p_align ? part->p_align - 1 : 0;
    return part->p_vaddr >= MM_LOWEST_USER_ADDRESS &&
           is_inside(part->p_vaddr, part->p_memsz,
                     MM_HIGHEST_USER_ADDRESS + 1) &&
           part->p_filesz <= part->p_memsz &&
           is_inside(part->p_offset, part->p_filesz, file_size) &&
           (part->p_flags & both) != both && !(part->p_align & mask) &&
           !((part->p_vaddr ^ part->p_offset) & mask);
}

// True if a and b have a page in common: a page has one set of rights.
static bool share_page(const psp_segment *a, const psp_segment *b)
{
    return PAGE_ALIGN_DOWN(a->p_vaddr) <
               PAGE_ALIGN_UP(b->p_vaddr + b->p_memsz) &&
           PAGE_ALIGN_DOWN(b->p_vaddr) < PAGE_ALIGN_UP(a->p_vaddr + a->p_memsz);
}

// Checks the headers of a program. header: the first size bytes of a file of
// file_size bytes; all program headers have to lie in it. Segments that are
// empty are left out; what is in image after a failure means nothing.
//
// IRQL:    any level
// Returns: STATUS_SUCCESS or STATUS_INVALID_IMAGE_FORMAT
NTSTATUS psp_check_elf(const void *header, size_t size, uint64_t file_size,
                       psp_image *image)
{
    const NTSTATUS bad = STATUS_INVALID_IMAGE_FORMAT;
    const elf_header *elf = header;
    if (size > file_size || size < sizeof(*elf) || !is_ours(elf) ||
        !is_inside(elf->e_phoff, elf->e_phnum * sizeof(psp_segment), size))
        return bad;
    image->entry = elf->e_entry;
    image->count = 0;
    bool has_entry = false;
    for (uint32_t i = 0; i < elf->e_phnum; i++) {
        psp_segment *part = &image->segments[image->count];
        __builtin_memcpy(
            part, (const char *)header + elf->e_phoff + i * sizeof(*part),
            sizeof(*part));
        if (part->p_type == PT_INTERP || part->p_type == PT_DYNAMIC)
            return bad;    // it wants a linker that TINT does not have
        if (part->p_type != PT_LOAD || (!part->p_memsz && !part->p_filesz))
            continue;
        if (!is_loadable(part, file_size))
            return bad;
        for (uint32_t other = 0; other < image->count; other++)
            if (share_page(&image->segments[other], part))
                return bad;
        // An entry below it wraps around, and is far above its size.
        has_entry |= part->p_flags & PSP_EXECUTABLE &&
                     image->entry - part->p_vaddr < part->p_memsz;
        image->count++;
    }
    return has_entry ? STATUS_SUCCESS : bad;
}
