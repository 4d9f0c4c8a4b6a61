// boot.c - what the boot loader said, copied to where it is safe.
//
// The loader's own structures lie in memory that its map calls free, so this
// runs before the first frame is used. The map keeps what is in use: mm takes
// out the kernel (ki_image_*, boot_low_*) and the initrd. While boot/ runs, the
// first 4 GiB of physical memory are mapped at MM_DIRECT_MAP.

#include "kernel/nt.h"

// Which loader started the kernel: entry.asm passes its magic on.
#define MULTIBOOT2        0x36D76289u
#define PVH               0x336EC578u    // the first word of hvm_start_info
#define CPUID_STANDARD    1u
#define CPUID_EXTENDED    0x80000001u
#define LOWEST_RAM        0x10000u       // below are the BIOS's variables
#define HIGHEST_RAM       (1ull << (32 + PAGE_SHIFT))    // of a PFN_NUMBER
#define FOUR_GIB          (1ull << 32)

// A piece of the memory map, in the form that both loaders took from the
// BIOS (E820).
enum { MEMORY_RAM = 1 };
typedef struct memory_entry {
    uint64_t base, length;
    uint32_t type, reserved;
} memory_entry;

// Xen's public/arch-x86/hvm/start_info.h; there is a memory map from version 1
// on.
typedef struct hvm_start_info {
    uint32_t magic, version, flags, module_count;
    uint64_t modules, command_line, rsdp, memory_map;
    uint32_t memory_map_count, reserved;
} hvm_start_info;

// Multiboot2 Specification, 3.6 "Boot information format".
enum { TAG_END = 0, TAG_COMMAND_LINE = 1, TAG_MODULE = 3, TAG_MEMORY_MAP = 6,
       TAG_ALIGN = 8 };
typedef struct boot_tag {
    uint32_t type, size;    // size: with this head, without padding
    union {
        char command_line[0];
        struct { uint32_t start, end; } module;
        struct { uint32_t entry_size, version; char entries[]; } memory;
    };
} boot_tag;

static LOADER_PARAMETER_BLOCK *block;

static const void *physical(uint64_t address)
{
    return (const void *)(MM_DIRECT_MAP + address);
}

// The features that the kernel cannot do without: bits of CPUID's EDX.
static const struct {
    uint32_t leaf, bit;
    const char *name;
} needed[] = {
    { CPUID_STANDARD, 4, "no time stamp counter (TSC)" },
    { CPUID_STANDARD, 9, "no local APIC (APIC)" },
    { CPUID_STANDARD, 24, "no way to save SSE registers (FXSR)" },
    { CPUID_STANDARD, 25, "no SSE" },
    { CPUID_STANDARD, 26, "no SSE2" },
    { CPUID_EXTENDED, 11, "no system calls (SYSCALL)" },
    { CPUID_EXTENDED, 20, "no pages that cannot be executed (NX)" },
};

// What the processor lacks, or NULL. Long mode is there, so both leaves are.
static const char *missing_feature(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
        uint32_t eax = needed[i].leaf, ebx, ecx, edx;
        __asm__("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
        if (!(edx >> needed[i].bit & 1))
            return needed[i].name;
    }
    return NULL;
}

// Notes the whole pages of free RAM. The map comes sorted; of pieces that are
// not, or overlap, only what lies above the last is used: no page ever twice.
static void add_memory(const memory_entry *memory)
{
    if (memory->type != MEMORY_RAM || memory->base >= HIGHEST_RAM ||
        block->range_count == LOADER_MAX_RANGES)
        return;
    MEMORY_RANGE *next = &block->ranges[block->range_count];
    uint64_t lowest = block->range_count ? next[-1].end : LOWEST_RAM;
    uint64_t length = MIN(memory->length, HIGHEST_RAM - memory->base);
    next->start = PAGE_ALIGN_UP(MAX(memory->base, lowest));
    next->end = PAGE_ALIGN_DOWN(memory->base + length);
    if (next->start < next->end)
        block->range_count++;
}

// The command line ends with a zero, or after size characters.
static void set_command_line(const char *text, size_t size)
{
    for (size_t n = 0; n < size && n < LOADER_COMMAND_LINE && text[n]; n++)
        block->command_line[n] = text[n];
}

static void read_pvh(const hvm_start_info *info)
{
    const memory_entry *memory = physical(info->memory_map);
    for (uint32_t i = 0; info->version && i < info->memory_map_count; i++)
        add_memory(&memory[i]);
    if (info->command_line)
        set_command_line(physical(info->command_line), SIZE_MAX);
    // An hvm_modlist_entry begins with base and length, as well.
    const memory_entry *module = physical(info->modules);
    if (info->module_count)
        block->initrd = (MEMORY_RANGE){ module->base,
                                        module->base + module->length };
}

static void read_tag(const boot_tag *tag)
{
    const char *end = (const char *)tag + tag->size;
    if (tag->type == TAG_COMMAND_LINE)
        set_command_line(tag->command_line, (size_t)(end - tag->command_line));
    if (tag->type == TAG_MODULE && !block->initrd.end)
        block->initrd = (MEMORY_RANGE){ tag->module.start, tag->module.end };
    if (tag->type == TAG_MEMORY_MAP)
        for (const char *at = tag->memory.entries;
             at + sizeof(memory_entry) <= end;
             at += MAX(tag->memory.entry_size, sizeof(memory_entry)))
            add_memory((const memory_entry *)at);
}

static void read_multiboot2(const uint32_t *total_size)
{
    const boot_tag *tag;
    for (uint64_t at = TAG_ALIGN; at + TAG_ALIGN <= *total_size;
         at += ((uint64_t)tag->size + TAG_ALIGN - 1) & ~(TAG_ALIGN - 1ull)) {
        tag = (const void *)((const char *)total_size + at);
        if (tag->type == TAG_END || tag->size < TAG_ALIGN ||
            tag->size > *total_size - at)
            return;
        read_tag(tag);
    }
}

// Copies what the loader left at the physical address info into to.
//
// Returns: why the kernel cannot start, or NULL
const char *boot_read_loader(uint32_t magic, uint32_t info,
                             LOADER_PARAMETER_BLOCK *to)
{
    block = to;
    if (magic == MULTIBOOT2)
        read_multiboot2(physical(info));
    else if (magic == PVH)
        read_pvh(physical(info));
    else
        return "no boot loader that knows multiboot2 or PVH";
    if (block->command_line[LOADER_COMMAND_LINE - 1])
        return "the command line is too long";
    if (!block->range_count)
        return "no memory map with free memory";
    // It may lie in RAM that the map does not call free: QEMU puts it where
    // the firmware keeps what it needs for a disk that it knows (NVMe).
    if (block->initrd.start >= block->initrd.end ||
        block->initrd.end > FOUR_GIB)
        return "no initrd (qemu -initrd build/initrd.tar, GRUB module2)";
    return missing_feature();
}
