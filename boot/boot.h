// boot.h - what the files of boot/ share.
//
// While boot/ runs, the first 4 GiB of physical memory are mapped at their own
// address and at MM_DIRECT_MAP, and the first 1 GiB at BOOT_KERNEL_BASE.

#ifndef TINT_BOOT_BOOT_H
#define TINT_BOOT_BOOT_H

#include "kernel/nt.h"

// Virtual minus physical address of the kernel; linker.ld says the same.
#define BOOT_KERNEL_BASE 0xFFFFFFFF80000000ull

// What entry.asm passes on: which loader started the kernel.
#define BOOT_MULTIBOOT2 0x36D76289u    // EAX of a multiboot2 loader
#define BOOT_PVH        0x336EC578u    // the first word of hvm_start_info

enum { BOOT_RSDP_SIZE = 36 };    // of ACPI 2.0; ACPI 1.0 has 20 bytes

// A piece of the memory map, in the form that both loaders took from the
// BIOS (E820).
enum { BOOT_MEMORY_RAM = 1 };

struct boot_memory {
    uint64_t base;
    uint64_t length;
    uint32_t type;
    uint32_t reserved;
};

extern LOADER_PARAMETER_BLOCK boot_loader_block;

// What lies at a physical address below 4 GiB.
static inline const void *boot_physical(uint64_t address)
{
    return (const void *)(MM_DIRECT_MAP + address);
}

// entry.asm calls these two.
_Noreturn void boot_start64(uint32_t magic, uint32_t info);
_Noreturn void boot_trap(uint64_t vector, uint64_t error, uint64_t rip,
                         uint64_t cr2);

// The readers of what the loaders left at a physical address.
void boot_read_multiboot2(uint32_t info);
void boot_read_pvh(uint32_t info);

// What the readers found.
void boot_add_memory(const struct boot_memory *memory);
void boot_set_command_line(const char *text, size_t size);

// COM1, by polling.
void boot_print(const char *text);
// Says what is missing and leaves QEMU.
_Noreturn void boot_refuse(const char *missing);

#endif
