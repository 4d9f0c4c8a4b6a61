// init.c - takes over physical memory: the frames, and the final page tables.
//
// boot/ has mapped the first 4 GiB at MM_DIRECT_MAP, and this file builds on
// that: the lowest frames are handed out first, so page tables come from there,
// and become valid all at once when CR3 is written. After that nothing is both
// writable and executable, through no alias, and address 0 is nobody's.

#include "kernel/mm/mmp.h"

#define MIB      (1024ull * 1024)
#define FOUR_GIB (4096 * MIB)
#define NEEDED   (30 * MIB)    // of 32, a little less reaches us

extern char ki_image_start[], ki_text_start[], ki_text_end[];
extern char ki_rodata_start[], ki_rodata_end[], ki_data_start[];
extern char ki_image_end[], boot_low_start[], boot_low_end[];

uint64_t mm_total_frames;
uint64_t mm_kernel_cr3;

static uint64_t end_of(const MEMORY_RANGE *range)
{
    return range->base + range->length;
}

static bool is_in(uint64_t address, const MEMORY_RANGE *range)
{
    return address >= range->base && address < end_of(range);
}

// Makes the PFN database, behind the kernel or behind the initrd, and frees
// what neither they nor the BIOS (all below the kernel) have; the page tables
// of boot/ are still in use.
static bool make_frames(const LOADER_PARAMETER_BLOCK *loader)
{
    const MEMORY_RANGE *ranges = loader->ranges;
    MEMORY_RANGE initrd = { PAGE_ALIGN_DOWN(loader->initrd.base), 0 };
    initrd.length = PAGE_ALIGN_UP(end_of(&loader->initrd)) - initrd.base;
    uint64_t size = 0;
    for (uint32_t i = 0; i < loader->range_count; i++)
        size += ranges[i].length;
    mm_total_frames = size >> PAGE_SHIFT;

    uint64_t kernel_end = (uintptr_t)ki_image_end - MM_KERNEL_BASE;
    size = end_of(&ranges[loader->range_count - 1]) >> PAGE_SHIFT;
    MEMORY_RANGE pfns = { kernel_end, PAGE_ALIGN_UP(size * sizeof(mm_pfn)) };
    if (initrd.base < end_of(&pfns) && end_of(&initrd) > pfns.base)
        pfns.base = end_of(&initrd);
    mm_pfn_database = mm_phys_to_virt(pfns.base);
    bool fits = false;
    for (uint32_t i = 0; i < loader->range_count; i++)
        fits |= is_in(pfns.base, &ranges[i]) &&
                end_of(&pfns) <= MIN(end_of(&ranges[i]), FOUR_GIB);
    if (!fits || mm_total_frames < NEEDED >> PAGE_SHIFT)
        return false;

    memset(mm_pfn_database, 0, pfns.length);
    for (uint32_t i = loader->range_count; i--;)
        for (uint64_t at = end_of(&ranges[i]); at > ranges[i].base;) {
            at -= PAGE_SIZE;
            if (at >= kernel_end && !is_in(at, &initrd) && !is_in(at, &pfns))
                mm_add_frame((PFN_NUMBER)(at >> PAGE_SHIFT));
        }
    return true;
}

// Maps what lies at physical there; without memory the kernel cannot start.
static void map(uint64_t address, uint64_t end, uint64_t physical,
                uint64_t bits)
{
    for (; address < end; address += PAGE_SIZE, physical += PAGE_SIZE) {
        volatile uint64_t *entry = mm_make_entry(mm_kernel_cr3, address);
        if (!entry)
            KeBugCheckEx(PHASE1_INITIALIZATION_FAILED, address, end, 0, 0);
        *entry = physical | MM_PTE_KERNEL | bits;
    }
}

// Maps a part of the image where it is linked, with these bits, and once more
// in the direct map: writable there only if it is here, and never executable.
static void map_image(const char *from, const char *to, uint64_t bits)
{
    uint64_t start = (uintptr_t)from, physical = start - MM_KERNEL_BASE;
    uint64_t size = (uintptr_t)to - start;
    map(start, start + size, physical, bits);
    map(MM_DIRECT_MAP + physical, MM_DIRECT_MAP + physical + size, physical,
        MM_PTE_NX | (bits & MM_PTE_WRITE));
}

// Below 4 GiB one span from 0 to the end of RAM, in which the BIOS area and,
// up to the next 2 MiB, ACPI's tables lie; above 4 GiB only RAM.
static void map_direct(const LOADER_PARAMETER_BLOCK *loader)
{
    uint64_t low_end = 0;
    for (uint32_t i = 0; i < loader->range_count; i++) {
        uint64_t base = MAX(loader->ranges[i].base, FOUR_GIB);
        uint64_t end = end_of(&loader->ranges[i]);
        map(MM_DIRECT_MAP + base, MM_DIRECT_MAP + end, base,
            MM_PTE_WRITE | MM_PTE_NX);
        low_end = MAX(low_end, MIN(end, FOUR_GIB));
    }
    low_end = (low_end + 2 * MIB - 1) & ~(2 * MIB - 1);
    map(MM_DIRECT_MAP, MM_DIRECT_MAP + low_end, 0, MM_PTE_WRITE | MM_PTE_NX);
}

// Takes over the memory map. Needs the GDT and the stack to be in the kernel
// image, and the page tables of boot/ loaded. Afterwards those, boot_low, are
// free memory.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: false if there is too little memory
bool mm_init(const LOADER_PARAMETER_BLOCK *loader)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    if (!make_frames(loader))
        return false;
    mm_kernel_cr3 = (uint64_t)mm_allocate_frame(0) << PAGE_SHIFT;
    map_direct(loader);
    map_image(ki_text_start, ki_text_end, 0);
    map_image(ki_rodata_start, ki_rodata_end, MM_PTE_NX);
    map_image(ki_data_start, ki_image_end, MM_PTE_WRITE | MM_PTE_NX);
    mm_make_entry(mm_kernel_cr3, MM_SYSTEM_PAGES);    // for all spaces to copy
    mm_write_cr3(mm_kernel_cr3);
    for (char *at = boot_low_start; at < boot_low_end; at += PAGE_SIZE)
        mm_add_frame((PFN_NUMBER)((uintptr_t)at >> PAGE_SHIFT));
    return true;
}
