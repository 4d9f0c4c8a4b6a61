// multiboot2.c - what GRUB says: a list of tags.
//
// See the Multiboot2 Specification, 3.6 "Boot information format". GRUB puts a
// copy of the RSDP into its list; as the list is in free memory, it is copied
// once more, into the kernel.

#include "boot/boot.h"

enum {
    TAG_END = 0,
    TAG_COMMAND_LINE = 1,
    TAG_MODULE = 3,
    TAG_MEMORY_MAP = 6,
    TAG_ACPI_1 = 14,
    TAG_ACPI_2 = 15,
    TAG_ALIGN = 8,
};

struct tag {
    uint32_t type;
    uint32_t size;    // with this head, without padding
    uint8_t data[];
};

struct tag_module {
    uint32_t start;
    uint32_t end;
};

struct tag_memory_map {
    uint32_t entry_size;
    uint32_t version;
    uint8_t entries[];
};

static void read_memory_map(const struct tag_memory_map *map, uint32_t size)
{
    uint32_t at = sizeof(*map);
    if (map->entry_size < sizeof(struct boot_memory))
        return;
    for (; at <= size && map->entry_size <= size - at; at += map->entry_size)
        boot_add_memory((const void *)((const uint8_t *)map + at));
}

static void copy_rsdp(const uint8_t *rsdp, uint32_t size)
{
    static uint8_t copy[BOOT_RSDP_SIZE];
    for (uint32_t i = 0; i < MIN(size, BOOT_RSDP_SIZE); i++)
        copy[i] = rsdp[i];
    boot_loader_block.rsdp = (uintptr_t)copy - BOOT_KERNEL_BASE;
}

static void read_tag(const struct tag *tag)
{
    uint32_t size = tag->size - (uint32_t)sizeof(*tag);
    const void *data = tag->data;
    switch (tag->type) {
    case TAG_COMMAND_LINE:
        boot_set_command_line(data, size);
        break;
    case TAG_MODULE: {
        const struct tag_module *module = data;
        if (!boot_loader_block.initrd.length && module->start < module->end)
            boot_loader_block.initrd =
                (MEMORY_RANGE){ module->start, module->end - module->start };
        break;
    }
    case TAG_MEMORY_MAP:
        read_memory_map(data, size);
        break;
    case TAG_ACPI_1:
        if (!boot_loader_block.rsdp)
            copy_rsdp(data, size);
        break;
    case TAG_ACPI_2:
        copy_rsdp(data, size);
        break;
    }
}

// Copies what the list at info says into boot_loader_block.
void boot_read_multiboot2(uint32_t info)
{
    boot_loader_block.loader = "multiboot2";
    const uint32_t *total_size = boot_physical(info);
    uint64_t at = info + TAG_ALIGN;
    uint64_t end = info + (uint64_t)*total_size;
    while (at + sizeof(struct tag) <= end) {
        const struct tag *tag = boot_physical(at);
        if (tag->type == TAG_END || tag->size < sizeof(*tag) ||
            tag->size > end - at)
            return;
        read_tag(tag);
        at += (tag->size + TAG_ALIGN - 1ull) & ~(TAG_ALIGN - 1ull);
    }
}
