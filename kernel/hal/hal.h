// hal.h - the processor's surroundings: ports, APICs, clocks, PCI, COM1.

#pragma once

#include "kernel/nt.h"

// ---- Port I/O --------------------------------------------------------------

// hal_in8 and hal_out8, and so on.
#define HAL_PORT(bits, suffix)                                              \
    static inline uint##bits##_t hal_in##bits(uint16_t port)                \
    {                                                                       \
        uint##bits##_t value;                                               \
        __asm__ volatile("in" suffix " %1, %0" : "=a"(value) : "Nd"(port)   \
                         : "memory");                                       \
        return value;                                                       \
    }                                                                       \
    static inline void hal_out##bits(uint16_t port, uint##bits##_t value)   \
    {                                                                       \
        __asm__ volatile("out" suffix " %0, %1" ::"a"(value), "Nd"(port)    \
                         : "memory");                                       \
    }

HAL_PORT(8, "b")
HAL_PORT(16, "w")
HAL_PORT(32, "l")

static inline uint64_t hal_read_tsc(void)
{
    uint64_t tsc;
    __asm__ volatile("rdtsc; shl $32, %%rdx; or %%rdx, %0" : "=a"(tsc)::"rdx");
    return tsc;
}

// The same to memory, where its halves need not be put together.
static inline void hal_stamp(uint64_t *time)
{
    uint32_t *half = (uint32_t *)(void *)time;
    __asm__ volatile("rdtsc" : "=a"(half[0]), "=d"(half[1]));
}

static inline uint64_t hal_read_msr(uint32_t msr)
{
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (uint64_t)high << 32 | low;
}

static inline void hal_write_msr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)value),
                     "d"((uint32_t)(value >> 32)) : "memory");
}

// ---- Vectors: the class (vector >> 4) is the IRQL --------------------------

enum {
    HAL_VECTOR_APC = 0x1F,
    HAL_VECTOR_DPC = 0x2F,          // also the reschedule IPI
    HAL_VECTOR_DEVICE_FIRST = 0x30,
    HAL_VECTOR_DEVICE_LAST = 0xBF,
    HAL_VECTOR_CLOCK = 0xD1,
    HAL_VECTOR_IPI = 0xE1,
    HAL_VECTOR_SPURIOUS = 0xFF,
};

// ---- Set-up, in this order -------------------------------------------------

// Masks PIC and I/O APIC, and enables this processor's local APIC. Reads the
// MADT; map: MmMapIoSpace.
// Returns: STATUS_SUCCESS, or STATUS_NOT_FOUND without a usable MADT
typedef void *hal_map(uint64_t physical, size_t length);
NTSTATUS hal_init_apics(hal_map *map);
extern uint32_t hal_processor_count;           // in the MADT, usable, <= 32
extern uint8_t hal_processor_apic_id[MAXIMUM_PROCESSORS];
// Enables the local APIC of another processor.
void hal_init_lapic(void);
uint32_t hal_lapic_id(void);                   // of this processor
// Measures TSC and local APIC timer against the PIT, asleep in hlt. Interrupts
// are off before and after; ends with the PIT silent. false: there is none.
bool hal_calibrate_clock(void);

// ---- Local APIC ------------------------------------------------------------

void hal_end_of_interrupt(void);
// command: a vector, or one of these (Intel SDM 3, 11.6.1).
enum { HAL_IPI_NMI = 4 << 8, HAL_IPI_INIT = 5 << 8, HAL_IPI_STARTUP = 6 << 8 };
void hal_send_ipi(uint32_t apic_id, uint32_t command);
void hal_send_self_ipi(uint8_t vector);
// Arms this processor's one-shot timer (HAL_VECTOR_CLOCK) for ticks of the TSC
// from now; it may come early by the divider's grain or when the delay is
// longer than the counter reaches, never late by more than that grain.
void hal_arm_timer(uint64_t tsc_ticks);
void hal_disarm_timer(void);

// ---- I/O APIC --------------------------------------------------------------

// Routes an ISA interrupt (overrides applied) or, for a number above 15, a
// global system interrupt to a vector on one processor, and unmasks it; vector
// 0: masks it.
void hal_connect_irq(uint32_t irq, uint8_t vector, uint32_t apic_id,
                     bool level_triggered, bool active_low);

// ---- Clocks ----------------------------------------------------------------

extern uint64_t hal_tsc_frequency;              // Hz
uint64_t hal_tsc_to_100ns(uint64_t ticks);
uint64_t hal_100ns_to_tsc(uint64_t interval);   // saturates
// The battery clock, in 100 ns since 1601 (UTC).
uint64_t hal_read_rtc(void);

// ---- PCI -------------------------------------------------------------------

typedef struct hal_pci_function {
    uint32_t number;    // bus * 256 + device * 8 + function
    // The first 16 bytes of its configuration space.
    uint16_t vendor_id, device_id, command, status;
    uint32_t class;     // class, subclass, interface, revision: 8 bits each
    uint8_t cache_line, latency, header_type, self_test;
    uint32_t next, last_bus;    // how hal_pci_next goes on
} hal_pci_function;

uint32_t hal_pci_read(const hal_pci_function *pci, uint8_t offset);
void hal_pci_write(const hal_pci_function *pci, uint8_t offset, uint32_t value);
// Finds the function behind *pci, or, that zeroed, the first; false: no more.
bool hal_pci_next(hal_pci_function *pci);

// ---- COM1 by polling: boot and bugcheck only -------------------------------

// Formats as rtl_snprintf; '\n' becomes CR LF.
void hal_print(const char *format, ...) __attribute__((format(printf, 1, 2)));

// ---- The end ---------------------------------------------------------------

enum {
    HAL_EXIT_SUCCESS = 0x10,    // QEMU's status 33
    HAL_EXIT_FAILURE = 0x11,    // 35
    HAL_EXIT_BUGCHECK = 0x12,   // 37
};

// Called by hal_exit, unless it ends a bugcheck; NULL: nothing.
extern void (*hal_before_exit)(void);
// Leaves QEMU through port 0xf4, else powers off by ACPI, else halts.
_Noreturn void hal_exit(uint8_t code);
