// ioapic.c - which interrupt reaches which processor as what: MADT, I/O APIC.
//
// ACPI specification 6, chapter 5.2; Intel 82093AA data sheet, "Register
// description". Firmware is input like any other: an address is mapped before
// it is read, a table counts only if its length is sane and it sums up to zero,
// and no entry reaches past its table. Pins are numbered by their global system
// interrupt (GSI); the MADT says which ISA interrupts do not arrive where their
// number says. Of I/O APICs the one with GSI 0 is used: QEMU's machines have no
// other.

#include "kernel/hal/halp.h"

#include "kernel/rtl/rtl.h"

#define PACKED __attribute__((packed))

enum {
    BIOS_AREA = 0xE0000, BIOS_AREA_SIZE = 0x20000, RSDP_SIZE = 20,
    RSDP_ALIGN = 16, RSDP_RSDT = 16,    // where it names the RSDT
    TABLE_MAX = 1 << 16,
    MADT_PROCESSOR = 0, MADT_IO_APIC = 1, MADT_OVERRIDE = 2,
    PROCESSOR_ENABLED = 1 << 0,
    // Flags of an override; 0 in a field: as the bus has it.
    MADT_POLARITY = 3 << 0, MADT_ACTIVE_LOW = 3 << 0,
    MADT_TRIGGER = 3 << 2, MADT_LEVEL = 3 << 2,

    // I/O APIC: indices of its words, and what is in them; two for each pin.
    SELECT = 0x00 / 4, WINDOW = 0x10 / 4, VERSION = 0x01, PIN = 0x10,
    VERSION_LAST_PIN_SHIFT = 16, VERSION_LAST_PIN_MASK = 0xFF,
    PIN_ACTIVE_LOW = 1 << 13, PIN_LEVEL = 1 << 15, PIN_MASKED = 1 << 16,
    PIN_TARGET_SHIFT = 24,

    PIC1_DATA = 0x21, PIC2_DATA = 0xA1, PIC_MASK_ALL = 0xFF,
    ISA_IRQS = 16,
};

struct PACKED table {
    char signature[4];
    uint32_t length;
    char rest[28];
    uint32_t body[2];    // the first two words: of the RSDT, tables; of the
};                       // MADT, local APIC and flags

// All entries that count have this form.
struct PACKED madt_entry {
    uint8_t type, length, not_used;
    uint8_t id;        // of a local APIC; of an override: the ISA interrupt
    uint32_t value;    // processor: flags; I/O APIC: address; override: GSI
    uint32_t more;     // I/O APIC: its first GSI; override: 16 bits of flags
};

uint32_t hal_processor_count;
uint8_t hal_processor_apic_id[MAXIMUM_PROCESSORS];

static volatile uint32_t *io_apic;
static uint32_t io_apic_physical, pin_count;
static struct {
    uint32_t pin;
    uint16_t flags;
} isa[ISA_IRQS];

static void write(uint32_t index, uint32_t value)
{
    io_apic[SELECT] = index;
    io_apic[WINDOW] = value;
}

// Firmware aligns nothing.
static uint32_t word_at(const char *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof(word));
    return word;
}

// Does something begin here with signature whose size bytes sum up to zero?
static bool is_valid(const char *at, const char *signature, uint32_t size)
{
    for (uint32_t i = 0; signature[i]; i++)
        if (at[i] != signature[i])
            return false;
    uint8_t sum = 0;
    for (uint32_t i = 0; i < size; i++)
        sum += (uint8_t)at[i];
    return sum == 0;
}

// The table at a physical address if it is valid, and this one.
static const struct table *find_table(hal_map *map, uint32_t address,
                                      const char *signature)
{
    const struct table *table = map(address, TABLE_MAX);
    bool found = table && table->length >= sizeof(*table) &&
                 table->length <= TABLE_MAX &&
                 is_valid(table->signature, signature, table->length);
    return found ? table : NULL;
}

// The MADT, by way of RSDP and RSDT.
static const struct table *find_madt(hal_map *map)
{
    const char *bios = map(BIOS_AREA, BIOS_AREA_SIZE);
    uint32_t at = 0;
    while (at < BIOS_AREA_SIZE && !is_valid(bios + at, "RSD PTR ", RSDP_SIZE))
        at += RSDP_ALIGN;
    const struct table *rsdt = NULL, *madt = NULL;
    if (at < BIOS_AREA_SIZE)
        rsdt = find_table(map, word_at(bios + at + RSDP_RSDT), "RSDT");
    for (at = offsetof(struct table, body); rsdt && !madt &&
         at + sizeof(uint32_t) <= rsdt->length; at += sizeof(uint32_t))
        madt = find_table(map, word_at((const char *)rsdt + at), "APIC");
    return madt;
}

static void read_entry(const struct madt_entry *e)
{
    if (e->type == MADT_PROCESSOR && e->value & PROCESSOR_ENABLED &&
        hal_processor_count < MAXIMUM_PROCESSORS)
        hal_processor_apic_id[hal_processor_count++] = e->id;
    if (e->type == MADT_IO_APIC && e->more == 0)
        io_apic_physical = e->value;
    if (e->type == MADT_OVERRIDE && e->id < ISA_IRQS) {
        isa[e->id].pin = e->value;
        isa[e->id].flags = (uint16_t)e->more;
    }
}

// Takes over the interrupts: masks the PICs and all pins of the I/O APIC, and
// enables this processor's local APIC. map makes what lies at a physical
// address visible (MmMapIoSpace). Once.
//
// IRQL:    any level
// Returns: STATUS_SUCCESS
//          STATUS_NOT_FOUND  no valid MADT, or it names no processor or no
//                            I/O APIC
NTSTATUS hal_init_apics(hal_map *map)
{
    hal_out8(PIC1_DATA, PIC_MASK_ALL);
    hal_out8(PIC2_DATA, PIC_MASK_ALL);
    for (uint32_t irq = 0; irq < ISA_IRQS; irq++)
        isa[irq].pin = irq;
    const struct table *madt = find_madt(map);
    uint32_t length;    // of one entry, at least its head
    for (uint32_t at = sizeof(*madt); madt && at + 2 <= madt->length;
         at += length) {
        struct madt_entry entry = { 0 };
        memcpy(&entry, (const char *)madt + at,
               MIN(madt->length - at, sizeof(entry)));
        length = MAX(entry.length, 2u);
        if (length <= madt->length - at)
            read_entry(&entry);
    }
    if (!hal_processor_count || !io_apic_physical)
        return STATUS_NOT_FOUND;

    halp_lapic = map(madt->body[0], PAGE_SIZE);
    io_apic = map(io_apic_physical, PAGE_SIZE);
    io_apic[SELECT] = VERSION;
    pin_count = (io_apic[WINDOW] >> VERSION_LAST_PIN_SHIFT &
                 VERSION_LAST_PIN_MASK) + 1;
    for (uint32_t pin = 0; pin < pin_count; pin++)
        write(PIN + 2 * pin, PIN_MASKED);
    hal_init_lapic();
    return STATUS_SUCCESS;
}

// Routes an ISA interrupt, as the MADT overrides it, or a GSI above 15 to a
// vector on one processor; vector 0: its pin stays masked. A pin that is not
// there is nobody's: nothing will ever arrive from it. Callers take turns.
//
// IRQL:    any level
void hal_connect_irq(uint32_t irq, uint8_t vector, uint32_t apic_id,
                     bool level_triggered, bool active_low)
{
    uint32_t pin = irq < ISA_IRQS ? isa[irq].pin : irq;
    uint16_t flags = irq < ISA_IRQS ? isa[irq].flags : 0;
    if (flags & MADT_POLARITY)
        active_low = (flags & MADT_POLARITY) == MADT_ACTIVE_LOW;
    if (flags & MADT_TRIGGER)
        level_triggered = (flags & MADT_TRIGGER) == MADT_LEVEL;
    if (pin >= pin_count)
        return;
    write(PIN + 2 * pin, PIN_MASKED);    // while both halves do not fit
    write(PIN + 2 * pin + 1, apic_id << PIN_TARGET_SHIFT);
    if (vector)
        write(PIN + 2 * pin, vector | (level_triggered ? PIN_LEVEL : 0) |
                                 (active_low ? PIN_ACTIVE_LOW : 0));
}
