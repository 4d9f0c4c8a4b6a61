// nt.h - base types, IRQLs, and a name for every object of the kernel.
//
// Every file may include it. It declares objects forward, so that a header
// needs another one only to embed its struct by value.

#pragma once

#include "kernel/ntabi.h"

typedef uint8_t KIRQL;
typedef uint8_t KPROCESSOR_MODE;
typedef uint32_t PFN_NUMBER;    // a frame; 32 bits reach 16 TiB
typedef volatile uint32_t KSPIN_LOCK;
typedef int8_t KPRIORITY;

enum { KernelMode, UserMode };

// The levels of an x64 processor. A level is the class of the vectors that it
// holds back: vector >> 4, which the local APIC compares with CR8.
enum {
    PASSIVE_LEVEL = 0,
    APC_LEVEL = 1,
    DISPATCH_LEVEL = 2,
    DEVICE_LEVEL_MIN = 3,
    DEVICE_LEVEL_MAX = 11,
    SYNCH_LEVEL = 12,
    CLOCK_LEVEL = 13,
    IPI_LEVEL = 14,
    HIGH_LEVEL = 15,
};

#define MAXIMUM_PROCESSORS 32

#define PAGE_SHIFT 12
#define PAGE_SIZE  4096u
#define BYTES_TO_PAGES(n) (((uint64_t)(n) + PAGE_SIZE - 1) >> PAGE_SHIFT)
#define PAGE_ALIGN_DOWN(a) ((uint64_t)(a) & ~(uint64_t)(PAGE_SIZE - 1))
#define PAGE_ALIGN_UP(a)   PAGE_ALIGN_DOWN((uint64_t)(a) + PAGE_SIZE - 1)
#define BYTE_OFFSET(a)     ((uint32_t)((uintptr_t)(a) & (PAGE_SIZE - 1)))

// Ring 3 lies between these. Below 4 GiB nothing is ever mapped; the last
// page before the hole is left out, so that no return address is
// non-canonical.
#define MM_LOWEST_USER_ADDRESS  0x0000000100000000ull
#define MM_HIGHEST_USER_ADDRESS 0x00007FFFFFFEFFFFull

// All RAM, and the initrd, appears from here on.
#define MM_DIRECT_MAP 0xFFFF800000000000ull

// Where what is common and what is rare should not share a stack frame, and
// what each write calls becomes a part of its caller (docs/INSTRUCTIONS.md).
#define FORCEINLINE inline __attribute__((always_inline))
#define DECLSPEC_NOINLINE __attribute__((noinline))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINING_RECORD(address, type, field) \
    ((type *)((char *)(address) - offsetof(type, field)))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

// Returns from a function that has nothing to undo with what went wrong, if
// anything did.
#define NT_TRY(expression)                               \
    do {                                                 \
        NTSTATUS nt_status = (expression);               \
        if (__builtin_expect(!NT_SUCCESS(nt_status), 0)) \
            return nt_status;                            \
    } while (0)

typedef struct LIST_ENTRY LIST_ENTRY;
struct LIST_ENTRY {
    LIST_ENTRY *Flink;
    LIST_ENTRY *Blink;
};

typedef struct DEVICE_OBJECT DEVICE_OBJECT;
typedef struct DRIVER_OBJECT DRIVER_OBJECT;
typedef struct EPROCESS EPROCESS;
typedef struct ETHREAD ETHREAD;
typedef struct FILE_OBJECT FILE_OBJECT;
typedef struct IO_STACK_LOCATION IO_STACK_LOCATION;
typedef struct IRP IRP;
typedef struct KAPC KAPC;
typedef struct KDPC KDPC;
typedef struct KEVENT KEVENT;
typedef struct KINTERRUPT KINTERRUPT;
typedef struct KPRCB KPRCB;
typedef struct KPROCESS KPROCESS;
typedef struct KQUEUE KQUEUE;
typedef struct KTHREAD KTHREAD;
typedef struct KTIMER KTIMER;
typedef struct KTRAP_FRAME KTRAP_FRAME;
typedef struct MDL MDL;
typedef struct OBJECT_TYPE OBJECT_TYPE;

// One stretch of physical memory, from start up to end.
typedef struct MEMORY_RANGE {
    uint64_t start, end;
} MEMORY_RANGE;

#define LOADER_MAX_RANGES 32
#define LOADER_COMMAND_LINE 2048

// What either boot loader told, copied before any frame is used.
typedef struct LOADER_PARAMETER_BLOCK {
    uint32_t range_count;
    MEMORY_RANGE ranges[LOADER_MAX_RANGES];    // free RAM: whole pages, sorted;
                                               // may hold kernel and initrd
    MEMORY_RANGE initrd;                       // below 4 GiB
    char command_line[LOADER_COMMAND_LINE];
} LOADER_PARAMETER_BLOCK;

// second.asm: what another processor runs first, copied to this address, and
// what it must be told there.
#define BOOT_SECOND_PAGE 0x10000u
typedef struct boot_parameters {
    uint64_t cr3;    // below 4 GiB; maps BOOT_SECOND_PAGE at its own address
    void *stack;     // its top, 16-aligned
    void *argument;
    void *entry;     // is called with the argument
} boot_parameters;
extern const char boot_second_start[], boot_second_parameters[];
extern const char boot_second_end[];

// Where entry.asm leads to; kernel/main.c.
_Noreturn void kernel_main(uint32_t magic, uint32_t info);
// Reads what the loader with this magic left at the physical address info.
// Returns why the kernel cannot start, or NULL.
const char *boot_read_loader(uint32_t magic, uint32_t info,
                             LOADER_PARAMETER_BLOCK *to);
