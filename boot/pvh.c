// pvh.c - what `qemu -kernel` says: the hvm_start_info of Xen's PVH.
//
// See Xen's public/arch-x86/hvm/start_info.h. All addresses are physical.

#include "boot/boot.h"

struct hvm_start_info {
    uint32_t magic;
    uint32_t version;    // from 1 on there is a memory map
    uint32_t flags;
    uint32_t module_count;
    uint64_t modules;
    uint64_t command_line;
    uint64_t rsdp;
    uint64_t memory_map;
    uint32_t memory_map_count;
    uint32_t reserved;
};

struct hvm_module {
    uint64_t base;
    uint64_t length;
    uint64_t command_line;
    uint64_t reserved;
};

// Copies what the structure at info says into boot_loader_block.
void boot_read_pvh(uint32_t info)
{
    const struct hvm_start_info *start = boot_physical(info);
    boot_loader_block.loader = "PVH";
    boot_loader_block.rsdp = start->rsdp;

    const struct boot_memory *memory = boot_physical(start->memory_map);
    for (uint32_t i = 0; start->version && i < start->memory_map_count; i++)
        boot_add_memory(&memory[i]);

    if (start->command_line)
        boot_set_command_line(boot_physical(start->command_line), SIZE_MAX);
    if (start->module_count) {
        const struct hvm_module *module = boot_physical(start->modules);
        boot_loader_block.initrd =
            (MEMORY_RANGE){ module->base, module->length };
    }
}
