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
    PF_X = 1, PF_W = 2,
};

typedef struct elf_header {
    uint8_t e_ident[16];
    uint16_t e_type, e_machine;
    uint32_t e_version;
    uint64_t e_entry, e_phoff, e_shoff;
    uint32_t e_flags;
    uint16_t e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx;
} elf_header;

typedef struct elf_program_header {
    uint32_t p_type, p_flags;
    uint64_t p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align;
} elf_program_header;

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
           elf->e_machine == EM_X86_64 &&
           elf->e_ehsize == sizeof(elf_header) &&
           elf->e_phentsize == sizeof(elf_program_header) &&
           elf->e_phnum >= 1 && elf->e_phnum <= PSP_MAX_SEGMENTS;
}

// Alignment as the ABI wants it: a power of two (or none), and the same
// remainder in the file as in memory.
static bool is_aligned(const elf_program_header *part)
{
    uint64_t align = part->p_align;
    if (align <= 1)
        return true;
    return (align & (align - 1)) == 0 &&
           ((part->p_vaddr ^ part->p_offset) & (align - 1)) == 0;
}

static bool is_loadable(const elf_program_header *part, uint64_t file_size)
{
    const uint32_t both = PF_W | PF_X;
    return part->p_vaddr >= MM_LOWEST_USER_ADDRESS &&
           is_inside(part->p_vaddr, part->p_memsz,
                     MM_HIGHEST_USER_ADDRESS + 1) &&
           part->p_filesz <= part->p_memsz &&
           is_inside(part->p_offset, part->p_filesz, file_size) &&
           (part->p_flags & both) != both && is_aligned(part);
}

// True if a and b have a page in common: a page has one set of rights.
static bool share_page(const psp_segment *a, const psp_segment *b)
{
    return PAGE_ALIGN_DOWN(a->address) < PAGE_ALIGN_UP(b->address + b->size) &&
           PAGE_ALIGN_DOWN(b->address) < PAGE_ALIGN_UP(a->address + a->size);
}

static bool add_segment(psp_image *image, const elf_program_header *part)
{
    psp_segment *segment = &image->segments[image->count];
    *segment = (psp_segment){
        .address = part->p_vaddr, .size = part->p_memsz,
        .file_offset = part->p_offset, .file_size = part->p_filesz,
        .protect = part->p_flags & PF_X   ? PAGE_EXECUTE_READ
                   : part->p_flags & PF_W ? PAGE_READWRITE
                                          : PAGE_READONLY,
    };
    for (uint32_t i = 0; i < image->count; i++)
        if (share_page(&image->segments[i], segment))
            return false;
    image->count++;
    return true;
}

static bool has_entry(const psp_image *image)
{
    for (uint32_t i = 0; i < image->count; i++) {
        const psp_segment *segment = &image->segments[i];
        if (segment->protect == PAGE_EXECUTE_READ &&
            image->entry >= segment->address &&
            image->entry - segment->address < segment->size)
            return true;
    }
    return false;
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
    elf_header elf;
    if (size > file_size || size < sizeof(elf))
        return bad;
    __builtin_memcpy(&elf, header, sizeof(elf));
    if (!is_ours(&elf))
        return bad;
    uint64_t length = elf.e_phnum * sizeof(elf_program_header);
    if (!is_inside(elf.e_phoff, length, size))
        return bad;

    image->entry = elf.e_entry;
    image->count = 0;
    for (uint32_t i = 0; i < elf.e_phnum; i++) {
        elf_program_header part;
        __builtin_memcpy(&part,
                         (const char *)header + elf.e_phoff + i * sizeof(part),
                         sizeof(part));
        if (part.p_type == PT_INTERP || part.p_type == PT_DYNAMIC)
            return bad;    // it wants a linker that TINT does not have
        if (part.p_type != PT_LOAD || (!part.p_memsz && !part.p_filesz))
            continue;
        if (!is_loadable(&part, file_size) || !add_segment(image, &part))
            return bad;
    }
    return has_entry(image) ? STATUS_SUCCESS : bad;
}
