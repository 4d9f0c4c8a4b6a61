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

static bool overlap(uint64_t start, uint64_t end, MEMORY_RANGE range)
{
    return start < range.end && end > range.start;
}

// Frees the pages of a range, but for what lies in one of count others.
static void add_frames(MEMORY_RANGE pages, const MEMORY_RANGE *taken,
                       uint32_t count)
{
    for (; count--; taken++)
        if (overlap(pages.start, pages.end, *taken)) {
            add_frames((MEMORY_RANGE){ taken->end, pages.end }, taken + 1,
                       count);    // what comes last is handed out first
            pages.end = taken->start;
        }
    if (pages.start < pages.end)
        mm_add_frames((PFN_NUMBER)(pages.start >> PAGE_SHIFT),
                      (PFN_NUMBER)((pages.end - pages.start) >> PAGE_SHIFT));
}

// Makes the PFN database, behind the kernel or behind the initrd, and frees
// what neither they nor the BIOS (all below the kernel) have; the page tables
// of boot/ are still in use.
static bool make_frames(const LOADER_PARAMETER_BLOCK *loader,
                        MEMORY_RANGE initrd)
{
    const MEMORY_RANGE *first = loader->ranges;
    const MEMORY_RANGE *last = first + loader->range_count - 1;
    uint64_t kernel_end = (uintptr_t)ki_image_end - MM_KERNEL_BASE;
    uint64_t size = PAGE_ALIGN_UP((last->end >> PAGE_SHIFT) * sizeof(mm_pfn));
    uint64_t start = overlap(kernel_end, kernel_end + size, initrd)
                         ? initrd.end : kernel_end;
    MEMORY_RANGE pfns = { start, start + size };
    mm_pfn_database = mm_phys_to_virt(pfns.start);
    bool fits = false;
    for (const MEMORY_RANGE *ram = first; ram <= last; ram++) {
        mm_total_frames += (ram->end - ram->start) >> PAGE_SHIFT;
        fits |= ram->start <= pfns.start && pfns.end <= MIN(ram->end, FOUR_GIB);
    }
    if (!fits || mm_total_frames < NEEDED >> PAGE_SHIFT)
        return false;

    memset(mm_pfn_database, 0, size);
    const MEMORY_RANGE taken[] = { { 0, kernel_end }, initrd, pfns };
    for (const MEMORY_RANGE *ram = last; ram >= first; ram--)
        add_frames(*ram, taken, ARRAY_SIZE(taken));
    return true;
}

// Maps a range there; without memory for that the kernel cannot start.
static void map(uint64_t address, MEMORY_RANGE range, uint64_t bits)
{
    if (!mm_map(address, range, MM_PTE_KERNEL | bits))
        KeBugCheckEx(PHASE1_INITIALIZATION_FAILED, address, range.start,
                     range.end, 0);
}

// Maps a part of the image where it is linked, with these bits, and once more
// in the direct map: writable there only if it is here, and never executable.
static void map_image(const char *from, const char *to, uint64_t bits)
{
    MEMORY_RANGE range = { (uintptr_t)from - MM_KERNEL_BASE,
                           (uintptr_t)to - MM_KERNEL_BASE };
    map((uintptr_t)from, range, bits);
    map(MM_DIRECT_MAP + range.start, range, MM_PTE_NX | (bits & MM_PTE_WRITE));
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

    const MEMORY_RANGE initrd = { PAGE_ALIGN_DOWN(loader->initrd.start),
                                  PAGE_ALIGN_UP(loader->initrd.end) };
    if (!make_frames(loader, initrd))
        return false;
    mm_kernel_cr3 = (uint64_t)mm_allocate_frame(0) << PAGE_SHIFT;
    for (uint32_t i = 0; i < loader->range_count; i++)
        map(MM_DIRECT_MAP + loader->ranges[i].start, loader->ranges[i],
            MM_PTE_WRITE | MM_PTE_NX);
    map(MM_DIRECT_MAP + initrd.start, initrd, MM_PTE_NX);
    map_image(ki_text_start, ki_text_end, 0);
    map_image(ki_rodata_start, ki_rodata_end, MM_PTE_NX);
    map_image(ki_data_start, ki_image_end, MM_PTE_WRITE | MM_PTE_NX);
    // For all spaces to copy.
    mm_make_entry(mm_kernel_cr3, MM_SYSTEM_PAGES, NULL);
    KI_WRITE_CR(3, mm_kernel_cr3);
    add_frames((MEMORY_RANGE){ (uintptr_t)boot_low_start,
                               (uintptr_t)boot_low_end }, NULL, 0);
    return true;
}
