// ioapic.c - the I/O APICs: which pin reaches which processor as what.
//
// Intel 82093AA data sheet, "Register description". A pin is numbered by its
// global system interrupt (GSI); the MADT says where each I/O APIC starts, and
// which ISA interrupts do not arrive where their number says. The two
// registers are an index and a window: callers take turns.

#include "kernel/hal/halp.h"

enum {
    IO_APIC_SELECT = 0x00,
    IO_APIC_WINDOW = 0x10,
    IO_APIC_VERSION = 0x01,
    IO_APIC_PIN = 0x10,    // the low half of pin 0; two for each pin
    VERSION_LAST_PIN_SHIFT = 16,
    VERSION_LAST_PIN_MASK = 0xFF,

    PIN_ACTIVE_LOW = 1 << 13,
    PIN_LEVEL = 1 << 15,
    PIN_MASKED = 1 << 16,
    PIN_TARGET_SHIFT = 24,

    MADT_POLARITY = 3 << 0,    // 0: as the bus has it
    MADT_ACTIVE_LOW = 3 << 0,
    MADT_TRIGGER = 3 << 2,
    MADT_LEVEL = 3 << 2,

    ISA_IRQS = 16,
    MAX_IO_APICS = 8,
};

static struct io_apic {
    uint64_t physical;
    uint32_t gsi_base;
    uint32_t pins;    // 0 until it is mapped
    volatile uint32_t *registers;
} io_apics[MAX_IO_APICS];
static uint32_t io_apic_count;

static struct override {
    bool present;
    uint32_t gsi;
    uint16_t flags;
} overrides[ISA_IRQS];

static uint32_t read(const struct io_apic *io, uint32_t index)
{
    io->registers[IO_APIC_SELECT / sizeof(uint32_t)] = index;
    return io->registers[IO_APIC_WINDOW / sizeof(uint32_t)];
}

static void write(const struct io_apic *io, uint32_t index, uint32_t value)
{
    io->registers[IO_APIC_SELECT / sizeof(uint32_t)] = index;
    io->registers[IO_APIC_WINDOW / sizeof(uint32_t)] = value;
}

// Notes an I/O APIC of the MADT, if there is room.
//
// IRQL:    any level
void halp_add_io_apic(uint64_t address, uint32_t gsi_base)
{
    if (io_apic_count < MAX_IO_APICS)
        io_apics[io_apic_count++] =
            (struct io_apic){ .physical = address, .gsi_base = gsi_base };
}

// Notes that ISA interrupt irq arrives at gsi; flags as in the MADT.
//
// IRQL:    any level
void halp_add_override(uint32_t irq, uint32_t gsi, uint16_t flags)
{
    if (irq < ISA_IRQS)
        overrides[irq] = (struct override){ true, gsi, flags };
}

// The number of I/O APICs that the MADT has.
//
// IRQL:    any level
uint32_t hal_io_apic_count(void)
{
    return io_apic_count;
}

// Where an I/O APIC is in physical memory.
//
// IRQL:    any level
uint64_t hal_io_apic_physical(uint32_t index)
{
    return io_apics[index].physical;
}

// Says where an I/O APIC is mapped, uncached, and masks all of its pins.
//
// IRQL:    any level
void hal_set_io_apic(uint32_t index, volatile void *registers)
{
    struct io_apic *io = &io_apics[index];
    io->registers = registers;
    io->pins = (read(io, IO_APIC_VERSION) >> VERSION_LAST_PIN_SHIFT &
                VERSION_LAST_PIN_MASK) +
               1;
    for (uint32_t pin = 0; pin < io->pins; pin++)
        write(io, IO_APIC_PIN + 2 * pin, PIN_MASKED);
}

// Sets both halves of a pin, masked while they do not fit together. A GSI that
// no I/O APIC has is nobody's: nothing will ever arrive from it.
static void set_pin(uint32_t gsi, uint32_t low, uint32_t high)
{
    for (uint32_t i = 0; i < io_apic_count; i++) {
        const struct io_apic *io = &io_apics[i];
        uint32_t pin = gsi - io->gsi_base;
        if (pin >= io->pins)
            continue;
        write(io, IO_APIC_PIN + 2 * pin, PIN_MASKED);
        write(io, IO_APIC_PIN + 2 * pin + 1, high);
        write(io, IO_APIC_PIN + 2 * pin, low);
    }
}

// Routes an ISA interrupt, as the MADT overrides it, or a GSI above 15 to a
// vector on one processor. Callers take turns.
//
// IRQL:    any level
void hal_connect_irq(uint32_t irq, uint8_t vector, uint32_t apic_id,
                     bool level_triggered, bool active_low)
{
    uint32_t gsi = irq;
    if (irq < ISA_IRQS && overrides[irq].present) {
        uint16_t flags = overrides[irq].flags;
        gsi = overrides[irq].gsi;
        if (flags & MADT_POLARITY)
            active_low = (flags & MADT_POLARITY) == MADT_ACTIVE_LOW;
        if (flags & MADT_TRIGGER)
            level_triggered = (flags & MADT_TRIGGER) == MADT_LEVEL;
    }
    set_pin(gsi,
            vector | (level_triggered ? PIN_LEVEL : 0) |
                (active_low ? PIN_ACTIVE_LOW : 0),
            apic_id << PIN_TARGET_SHIFT);
}

// Masks what hal_connect_irq connected. Callers take turns.
//
// IRQL:    any level
void hal_disconnect_irq(uint32_t irq)
{
    bool moved = irq < ISA_IRQS && overrides[irq].present;
    set_pin(moved ? overrides[irq].gsi : irq, PIN_MASKED, 0);
}
