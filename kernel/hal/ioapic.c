// ioapic.c - which interrupt reaches which processor as what: MADT, I/O APIC.
//
// ACPI specification 6, chapter 5.2; Intel 82093AA data sheet, "Register
// description". Firmware is input like any other: a table counts only if it
// lies in the low 4 GiB, says a sane length and sums up to zero, and no entry
// reaches past its table. Pins are numbered by their global system interrupt
// (GSI); the MADT says which ISA interrupts do not arrive where their number
// says. Of I/O APICs the one with GSI 0 is used: QEMU's machines have no other.

#include "kernel/hal/halp.h"

#include "kernel/rtl/rtl.h"

#define PACKED __attribute__((packed))

enum {
    BIOS_AREA = 0xE0000, BIOS_AREA_END = 0x100000, RSDP_ALIGN = 16,
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

struct PACKED rsdp {
    char signature[8];
    uint8_t checksum, oem[6], revision;
    uint32_t rsdt;
};

struct PACKED table {
    char signature[4];
    uint32_t length;
    char rest[28];
};

struct PACKED rsdt {
    struct table table;
    uint32_t tables[];
};

struct PACKED madt {
    struct table table;
    uint32_t lapic, flags;
};

struct PACKED madt_entry {
    uint8_t type, length;
    union PACKED {
        struct PACKED { uint8_t acpi_id, id; uint32_t flags; } processor;
        struct PACKED { uint16_t id; uint32_t address, gsi_base; } io_apic;
        struct PACKED { uint8_t bus, irq; uint32_t gsi; uint16_t flags; } isa;
    };
};

uint32_t hal_processor_count;
uint8_t hal_processor_apic_id[MAXIMUM_PROCESSORS];

static uint32_t io_apic_physical;
static volatile uint32_t *io_apic;
static uint32_t pin_count;
static struct {
    uint32_t pin;
    uint16_t flags;
} isa[ISA_IRQS];

static void write(uint32_t index, uint32_t value)
{
    io_apic[SELECT] = index;
    io_apic[WINDOW] = value;
}

// What lies at a physical address, if it begins with signature and its length
// bytes sum up to zero; length 0: it is a table, which says its own.
static const void *find(uint32_t address, const char *signature,
                        uint32_t length)
{
    const struct table *table = (const void *)(MM_DIRECT_MAP + address);
    if (!address || address > UINT32_MAX - TABLE_MAX ||
        memcmp(table, signature, rtl_strlen(signature)))
        return NULL;
    uint32_t size = length ? length : table->length;
    if (!length && (size < sizeof(*table) || size > TABLE_MAX))
        return NULL;
    uint8_t sum = 0;
    for (uint32_t i = 0; i < size; i++)
        sum += ((const uint8_t *)table)[i];
    return sum ? NULL : table;
}

// The MADT, by way of the RSDT.
static const struct madt *find_madt(void)
{
    const struct rsdp *rsdp = NULL;
    for (uint32_t at = BIOS_AREA; !rsdp && at < BIOS_AREA_END; at += RSDP_ALIGN)
        rsdp = find(at, "RSD PTR ", sizeof(*rsdp));
    const struct rsdt *rsdt = rsdp ? find(rsdp->rsdt, "RSDT", 0) : NULL;
    const struct madt *madt = NULL;
    for (size_t i = 0; rsdt && !madt && offsetof(struct rsdt, tables[i + 1]) <=
                                            rsdt->table.length; i++)
        madt = find(rsdt->tables[i], "APIC", 0);
    return madt;
}

static void read_entry(const struct madt_entry *e)
{
    if (e->type == MADT_PROCESSOR && e->processor.flags & PROCESSOR_ENABLED &&
        hal_processor_count < MAXIMUM_PROCESSORS)
        hal_processor_apic_id[hal_processor_count++] = e->processor.id;
    if (e->type == MADT_IO_APIC && e->io_apic.gsi_base == 0)
        io_apic_physical = e->io_apic.address;
    if (e->type == MADT_OVERRIDE && e->isa.irq < ISA_IRQS) {
        isa[e->isa.irq].pin = e->isa.gsi;
        isa[e->isa.irq].flags = e->isa.flags;
    }
}

// Takes over the interrupts: masks the PICs and all pins of the I/O APIC, and
// enables this processor's local APIC. The MADT is read through the direct
// map; map makes device registers visible (MmMapIoSpace). Once.
//
// IRQL:    any level
// Returns: STATUS_SUCCESS
//          STATUS_NOT_FOUND  no valid MADT, or it names no processor or no
//                            I/O APIC
NTSTATUS hal_init_apics(void *(*map)(uint64_t physical, size_t length))
{
    hal_out8(PIC1_DATA, PIC_MASK_ALL);
    hal_out8(PIC2_DATA, PIC_MASK_ALL);
    for (uint32_t irq = 0; irq < ISA_IRQS; irq++)
        isa[irq].pin = irq;
    const struct madt *madt = find_madt();
    if (!madt)
        return STATUS_NOT_FOUND;
    uint32_t length = 0;    // of one entry, at least its head
    for (uint32_t at = sizeof(*madt); at + 2 <= madt->table.length;
         at += length) {
        const char *from = (const char *)madt + at;
        length = MAX((uint8_t)from[1], 2u);
        struct madt_entry entry = { 0 };
        memcpy(&entry, from, MIN(length, sizeof(entry)));
        if (length <= madt->table.length - at)
            read_entry(&entry);
    }
    if (!hal_processor_count || !io_apic_physical)
        return STATUS_NOT_FOUND;

    halp_lapic = map(madt->lapic, PAGE_SIZE);
    io_apic = map(io_apic_physical, PAGE_SIZE);
    io_apic[SELECT] = VERSION;
    pin_count = (io_apic[WINDOW] >> VERSION_LAST_PIN_SHIFT &
                 VERSION_LAST_PIN_MASK) + 1;
    for (uint32_t pin = 0; pin < pin_count; pin++)
        write(PIN + 2 * pin, PIN_MASKED);
    hal_init_lapic();
    return STATUS_SUCCESS;
}

// Sets both halves of the pin of an ISA interrupt or, above 15, of a GSI,
// masked while they do not fit together. A pin that is not there is nobody's:
// nothing will ever arrive from it.
static void set_pin(uint32_t irq, uint32_t low, uint32_t high)
{
    uint32_t pin = irq < ISA_IRQS ? isa[irq].pin : irq;
    if (pin >= pin_count)
        return;
    write(PIN + 2 * pin, PIN_MASKED);
    write(PIN + 2 * pin + 1, high);
    write(PIN + 2 * pin, low);
}

// Routes an ISA interrupt, as the MADT overrides it, or a GSI above 15 to a
// vector on one processor. Callers take turns.
//
// IRQL:    any level
void hal_connect_irq(uint32_t irq, uint8_t vector, uint32_t apic_id,
                     bool level_triggered, bool active_low)
{
    uint16_t flags = irq < ISA_IRQS ? isa[irq].flags : 0;
    if (flags & MADT_POLARITY)
        active_low = (flags & MADT_POLARITY) == MADT_ACTIVE_LOW;
    if (flags & MADT_TRIGGER)
        level_triggered = (flags & MADT_TRIGGER) == MADT_LEVEL;
    set_pin(irq, vector | (level_triggered ? PIN_LEVEL : 0) |
                     (active_low ? PIN_ACTIVE_LOW : 0),
            apic_id << PIN_TARGET_SHIFT);
}

// Masks what hal_connect_irq connected. Callers take turns.
//
// IRQL:    any level
void hal_disconnect_irq(uint32_t irq)
{
    set_pin(irq, PIN_MASKED, 0);
}
