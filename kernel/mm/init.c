// init.c - takes over physical memory: final page tables, frames, reserves.
//
// boot/ has mapped the first 4 GiB at MM_DIRECT_MAP, and this file builds on
// that: page tables come from frames below 4 GiB that nobody uses, and become
// valid all at once when CR3 is written. After that nothing is both writable
// and executable, through no alias, and address 0 is nobody's.

#include "kernel/mm/mmp.h"

#include "kernel/hal/hal.h"

enum { RESERVED_MAX = 3, MESSAGE_SIZE = 80 };

#define MIB           (1024ull * 1024)
#define LOW_END       MIB    // BIOS, and the pages that APs start in
#define FOUR_GIB      (4096 * MIB)
#define NEEDED        (30 * MIB)    // a little less than 32 reaches us
#define NEEDED_TEXT   "32"
#define LARGE_DOWN(a) ((a) & ~(uint64_t)(MM_LARGE_PAGE - 1))
#define LARGE_UP(a)   LARGE_DOWN((a) + MM_LARGE_PAGE - 1)

extern char ki_image_start[], ki_text_start[], ki_text_end[];
extern char ki_rodata_start[], ki_rodata_end[], ki_image_end[];
extern char boot_low_start[], boot_low_end[];

uint64_t mm_kernel_cr3;

static uint64_t image_physical(const char *address)
{
    return (uintptr_t)address - MM_KERNEL_BASE;
}

static _Noreturn void refuse(uint64_t found)
{
    char text[MESSAGE_SIZE];
    rtl_snprintf(text, sizeof(text),
                 "TINT needs " NEEDED_TEXT " MiB of memory; %lu KiB were "
                 "found.\n",
                 found / 1024);
    for (const char *c = text; *c; c++)
        hal_put_char(*c);
    hal_exit(HAL_EXIT_BUGCHECK);
}

// Hands base..end to frames.c, but for what lies in the reserved ranges.
static void add_range(uint64_t base, uint64_t end, const MEMORY_RANGE *reserved)
{
    while (base < end) {
        const MEMORY_RANGE *first = NULL;    // the lowest that is in the way
        for (uint32_t i = 0; i < RESERVED_MAX; i++)
            if (reserved[i].base < end &&
                reserved[i].base + reserved[i].length > base &&
                (!first || reserved[i].base < first->base))
                first = &reserved[i];
        uint64_t stop = first ? first->base : end;
        if (base < stop)
            mm_add_range(base, stop);
        base = first ? first->base + first->length : end;
    }
}

// Finds the frames that nobody uses; the page tables of boot/, in boot_low,
// are still in use.
static void add_ranges(const LOADER_PARAMETER_BLOCK *loader)
{
    uint64_t low = (uintptr_t)boot_low_start;
    uint64_t initrd = PAGE_ALIGN_DOWN(loader->initrd.base);
    const MEMORY_RANGE reserved[RESERVED_MAX] = {
        { 0, LOW_END },
        { low, image_physical(ki_image_end) - low },
        { initrd,
          PAGE_ALIGN_UP(loader->initrd.base + loader->initrd.length) - initrd },
    };
    uint64_t found = 0;
    for (uint32_t i = 0; i < loader->range_count; i++)
        found += loader->ranges[i].length;
    if (found < NEEDED)
        refuse(found);
    mm_total_frames = found >> PAGE_SHIFT;
    for (uint32_t i = 0; i < loader->range_count; i++) {
        const MEMORY_RANGE *range = &loader->ranges[i];
        add_range(PAGE_ALIGN_UP(range->base),
                  PAGE_ALIGN_DOWN(range->base + range->length), reserved);
    }
}

static PFN_NUMBER take(uint64_t pages)
{
    PFN_NUMBER first = mm_take_untouched(pages);
    if (!first)
        KeBugCheckEx(PHASE1_INITIALIZATION_FAILED, pages, mm_available_frames(),
                     0, 0);
    return first;
}

// Frames are taken from the lowest range first: boot/ maps what this returns.
static PFN_NUMBER take_table(void)
{
    PFN_NUMBER frame = take(1);
    ASSERT((uint64_t)frame << PAGE_SHIFT < FOUR_GIB);
    memset(mm_frame_to_virt(frame), 0, PAGE_SIZE);
    return frame;
}

// The entry of level for address in the new tables, with those above it.
static volatile uint64_t *make_entry(uint64_t address, uint32_t level)
{
    for (uint32_t above = MM_TABLE_LEVELS; above > level; above--) {
        volatile uint64_t *entry = mm_find_entry(mm_kernel_cr3, address, above);
        if (!*entry)
            *entry =
                mm_frame_entry(take_table(), MM_PTE_PRESENT | MM_PTE_WRITE);
    }
    return mm_find_entry(mm_kernel_cr3, address, level);
}

static bool is_read_only(uint64_t physical)
{
    return physical >= image_physical(ki_text_start) &&
           physical < image_physical(ki_rodata_end);
}

// Maps base..end (of large pages) at MM_DIRECT_MAP. The alias of the kernel's
// text and constants is in small pages, for it must not be writable.
static void map_direct(uint64_t base, uint64_t end)
{
    uint64_t split = LARGE_DOWN(image_physical(ki_text_start));
    for (; base < end; base += MM_LARGE_PAGE) {
        uint64_t address = MM_DIRECT_MAP + base;
        if (base < split || base >= image_physical(ki_rodata_end)) {
            *make_entry(address, 2) =
                base | MM_PTE_KERNEL | MM_PTE_WRITE | MM_PTE_LARGE;
            continue;
        }
        volatile uint64_t *entry = make_entry(address, 1);
        for (uint32_t i = 0; i < MM_TABLE_ENTRIES; i++) {
            uint64_t physical = base + i * PAGE_SIZE;
            entry[i] = physical | MM_PTE_KERNEL |
                       (is_read_only(physical) ? 0 : MM_PTE_WRITE);
        }
    }
}

// Below 4 GiB one span from 0 to the end of RAM, in which the BIOS area and,
// in the last large page, ACPI's tables lie; above 4 GiB only RAM.
static void map_memory(const LOADER_PARAMETER_BLOCK *loader)
{
    uint64_t low_end = 0;
    for (uint32_t i = 0; i < loader->range_count; i++) {
        uint64_t base = loader->ranges[i].base;
        uint64_t end = base + loader->ranges[i].length;
        if (base < FOUR_GIB)
            low_end = MAX(low_end, MIN(end, FOUR_GIB));
        if (end > FOUR_GIB)
            map_direct(LARGE_DOWN(MAX(base, FOUR_GIB)), LARGE_UP(end));
    }
    map_direct(0, LARGE_UP(low_end));
}

static void map_image(void)
{
    uint64_t end = (uintptr_t)ki_image_end;
    for (uint64_t at = (uintptr_t)ki_image_start; at < end; at += PAGE_SIZE) {
        uint64_t physical = at - MM_KERNEL_BASE;
        uint64_t bits = MM_PTE_KERNEL;
        if (!is_read_only(physical))
            bits |= MM_PTE_WRITE;
        else if (at < (uintptr_t)ki_text_end)
            bits &= ~MM_PTE_NX;
        *make_entry(at, 1) = physical | bits;
    }
}

// Makes room for an entry of each frame up to the last of RAM.
static void make_database(const LOADER_PARAMETER_BLOCK *loader)
{
    uint64_t end = 0;
    for (uint32_t i = 0; i < loader->range_count; i++)
        end = MAX(end, loader->ranges[i].base + loader->ranges[i].length);
    uint64_t size = (end >> PAGE_SHIFT) * sizeof(mm_pfn);
    mm_set_database(mm_frame_to_virt(take(BYTES_TO_PAGES(size))));
}

// Takes over the memory map. Needs the GDT and the stack to be in the kernel
// image, and the page tables of boot/ loaded. Afterwards those, boot_low, are
// free memory. Leaves QEMU with a message if there is too little.
//
// IRQL:    <= DISPATCH_LEVEL
void mm_init(LOADER_PARAMETER_BLOCK *loader)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    add_ranges(loader);
    mm_kernel_cr3 = (uint64_t)take_table() << PAGE_SHIFT;
    map_memory(loader);
    map_image();
    make_entry(MM_SYSTEM_PAGES, 2);    // within one entry of the top table
    mm_write_cr3(mm_kernel_cr3);

    make_database(loader);
    mm_add_range((uintptr_t)boot_low_start, (uintptr_t)boot_low_end);
}
