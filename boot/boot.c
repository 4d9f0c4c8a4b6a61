// boot.c - the first C that runs: an IDT, the processor, what the loader said.
//
// Everything that the loader left is copied into boot_loader_block here, as it
// lies in memory that its own map calls free. The map keeps what is in use:
// mm takes out the kernel (ki_image_*, boot_low_*) and the initrd. Nothing here
// is used again once kernel_main runs, but the stack.

#include "boot/boot.h"

enum {
    COM1_DATA = 0x3F8,
    COM1_STATUS = 0x3FD,
    COM1_READY = 0x20,    // transmitter holding register empty
    COM1_PATIENCE = 100000,
    EXIT_PORT = 0xF4,
    EXIT_BUGCHECK = 0x12,

    EXCEPTIONS = 32,
    STUB_SIZE = 16,
    CODE64 = 0x08,            // selector in entry.asm's GDT
    INTERRUPT_GATE = 0x8E,    // present, 64 bits, IF off

    CPUID_STANDARD = 1,
    MSR_EFER = 0xC0000080,
    EFER_SCE = 1 << 0,     // SYSCALL
    EFER_NXE = 1 << 11,    // no-execute pages

    LOWEST_RAM = 0x10000,    // below are the BIOS's variables
};

#define CPUID_EXTENDED  0x80000001u
#define STOP_EARLY_TRAP "0x0000007F"    // UNEXPECTED_KERNEL_MODE_TRAP

struct gate {
    uint16_t offset_low;
    uint16_t selector;
    uint8_t stack;
    uint8_t type;
    uint16_t offset_middle;
    uint32_t offset_high;
    uint32_t reserved;
};

struct __attribute__((packed)) idt_pointer {
    uint16_t limit;
    const struct gate *base;
};

extern const char boot_trap_stubs[];

LOADER_PARAMETER_BLOCK boot_loader_block;

static void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}

static void print_char(char c)
{
    uint8_t status = 0;
    for (uint32_t i = 0; i < COM1_PATIENCE && !(status & COM1_READY); i++)
        __asm__ volatile("inb %1, %0"
                         : "=a"(status)
                         : "Nd"((uint16_t)COM1_STATUS));
    out8(COM1_DATA, (uint8_t)c);
}

// Prints on COM1; does not wait long for one that is not there.
void boot_print(const char *text)
{
    for (; *text; text++) {
        if (*text == '\n')
            print_char('\r');
        print_char(*text);
    }
}

static void print_hex(uint64_t value)
{
    boot_print("0x");
    for (uint32_t i = 0; i < 2 * sizeof(value); i++, value <<= 4)
        print_char("0123456789ABCDEF"[value >> 60]);
}

static _Noreturn void leave(void)
{
    out8(EXIT_PORT, EXIT_BUGCHECK);
    for (;;)
        __asm__ volatile("cli; hlt");
}

// Says what is missing, and leaves QEMU.
void boot_refuse(const char *missing)
{
    boot_print("TINT cannot start. Missing: ");
    boot_print(missing);
    boot_print("\n");
    leave();
}

// An exception before ke has its own IDT: prints it, and leaves QEMU.
void boot_trap(uint64_t vector, uint64_t error, uint64_t rip, uint64_t cr2)
{
    uint64_t parameters[] = { vector, error, rip, cr2 };
    boot_print("\n*** STOP " STOP_EARLY_TRAP " (");
    for (size_t i = 0; i < ARRAY_SIZE(parameters); i++) {
        boot_print(i ? ", " : "");
        print_hex(parameters[i]);
    }
    boot_print(")\n");
    leave();
}

static void load_idt(void)
{
    static struct gate idt[EXCEPTIONS];
    for (uint32_t i = 0; i < EXCEPTIONS; i++) {
        uint64_t stub = (uintptr_t)boot_trap_stubs + i * STUB_SIZE;
        idt[i] = (struct gate){ .offset_low = (uint16_t)stub,
                                .selector = CODE64,
                                .type = INTERRUPT_GATE,
                                .offset_middle = (uint16_t)(stub >> 16),
                                .offset_high = (uint32_t)(stub >> 32) };
    }
    struct idt_pointer pointer = { sizeof(idt) - 1, idt };
    __asm__ volatile("lidt %0" ::"m"(pointer), "m"(idt));
}

// The features that the kernel cannot do without: bits of CPUID's EDX.
static const struct {
    uint32_t leaf;
    uint32_t bit;
    const char *name;
} needed[] = {
    { CPUID_STANDARD, 4, "a time stamp counter (TSC)" },
    { CPUID_STANDARD, 9, "a local APIC (APIC)" },
    { CPUID_STANDARD, 24, "a way to save SSE registers (FXSR)" },
    { CPUID_STANDARD, 26, "SSE2" },
    { CPUID_EXTENDED, 11, "system calls (SYSCALL)" },
    { CPUID_EXTENDED, 20, "pages that cannot be executed (NX)" },
};

// Refuses a processor that lacks something, and turns on what its page tables
// and system calls need. Long mode is known to be there, so both leaves are.
static void check_processor(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
        uint32_t eax = needed[i].leaf, ebx, ecx, edx;
        __asm__("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
        if (!(edx >> needed[i].bit & 1))
            boot_refuse(needed[i].name);
    }
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(MSR_EFER));
    low |= EFER_SCE | EFER_NXE;
    __asm__ volatile("wrmsr" ::"a"(low), "d"(high), "c"(MSR_EFER));
}

// Notes free RAM: whole pages above the first 64 KiB, sorted by address.
void boot_add_memory(const struct boot_memory *memory)
{
    MEMORY_RANGE *ranges = boot_loader_block.ranges;
    uint32_t at = boot_loader_block.range_count;
    uint64_t base = PAGE_ALIGN_UP(MAX(memory->base, LOWEST_RAM));
    uint64_t end = PAGE_ALIGN_DOWN(memory->base + memory->length);
    if (memory->type != BOOT_MEMORY_RAM || base >= end)
        return;
    if (at == LOADER_MAX_RANGES) {
        boot_print("boot: too many pieces of memory, one is not used\n");
        return;
    }
    for (; at && ranges[at - 1].base > base; at--)
        ranges[at] = ranges[at - 1];
    ranges[at] = (MEMORY_RANGE){ base, end - base };
    boot_loader_block.range_count++;
}

// Joins ranges that touch or overlap.
static void merge_ranges(void)
{
    MEMORY_RANGE *into = boot_loader_block.ranges;
    MEMORY_RANGE *end = into + boot_loader_block.range_count;
    if (into == end)
        boot_refuse("a memory map with free memory");
    for (MEMORY_RANGE *next = into + 1; next < end; next++) {
        if (next->base > into->base + into->length)
            *++into = *next;
        else
            into->length =
                MAX(into->base + into->length, next->base + next->length) -
                into->base;
    }
    boot_loader_block.range_count =
        (uint32_t)(into + 1 - boot_loader_block.ranges);
}

// Copies the command line, which ends with a zero or after size characters.
void boot_set_command_line(const char *text, size_t size)
{
    char *to = boot_loader_block.command_line;
    size_t n = 0;
    for (; n < size && n < LOADER_COMMAND_LINE - 1 && text[n]; n++)
        to[n] = text[n];
    to[n] = 0;
    if (n < size && text[n])
        boot_print("boot: the command line is too long and was cut\n");
}

// Forgets an initrd that is not all in memory.
static void check_initrd(void)
{
    MEMORY_RANGE *initrd = &boot_loader_block.initrd;
    for (uint32_t i = 0; i < boot_loader_block.range_count; i++) {
        const MEMORY_RANGE *range = &boot_loader_block.ranges[i];
        uint64_t offset = initrd->base - range->base;
        if (initrd->base >= range->base && offset <= range->length &&
            initrd->length <= range->length - offset)
            return;
    }
    if (initrd->length)
        boot_print("boot: the initrd is not in memory and is not used\n");
    initrd->length = 0;
}

// Where entry.asm leads: reads what the loader left at the physical address
// info, and starts the kernel.
void boot_start64(uint32_t magic, uint32_t info)
{
    load_idt();
    check_processor();
    if (magic == BOOT_MULTIBOOT2)
        boot_read_multiboot2(info);
    else if (magic == BOOT_PVH)
        boot_read_pvh(info);
    else
        boot_refuse("a boot loader that knows multiboot2 or PVH");
    merge_ranges();
    check_initrd();
    kernel_main(&boot_loader_block);
}
