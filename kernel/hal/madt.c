// madt.c - the one ACPI table that TINT reads: processors and I/O APICs.
//
// ACPI specification 6, chapter 5.2. Firmware is input like any other: a table
// counts only if it lies in the low 4 GiB, says a sane length and sums up to
// zero, and no entry reaches past its table.

#include "kernel/hal/halp.h"

#include "kernel/rtl/rtl.h"

#define PACKED __attribute__((packed))

enum {
    BIOS_AREA = 0xE0000,
    BIOS_AREA_END = 0x100000,
    RSDP_ALIGN = 16,
    RSDP_1_SIZE = 20,    // what its first checksum covers
    TABLE_MAX = 1 << 16,
    SIGNATURE_SIZE = 4,

    MADT_PROCESSOR = 0,
    MADT_IO_APIC = 1,
    MADT_OVERRIDE = 2,
    MADT_LAPIC_ADDRESS = 5,
    PROCESSOR_ENABLED = 1 << 0,
};

#define ADDRESS_LIMIT (1ull << 32)

struct PACKED rsdp {
    char signature[8];
    uint8_t checksum;
    char oem[6];
    uint8_t revision;    // from 2 on there is an XSDT
    uint32_t rsdt;
    uint32_t length;
    uint64_t xsdt;
};

struct PACKED table {
    char signature[SIGNATURE_SIZE];
    uint32_t length;
    uint8_t revision;
    uint8_t checksum;
    char oem[26];
};

struct PACKED madt {
    struct table table;
    uint32_t lapic;
    uint32_t flags;
};

struct PACKED madt_entry {
    uint8_t type;
    uint8_t length;
    union PACKED {
        struct PACKED {
            uint8_t acpi_id;
            uint8_t apic_id;
            uint32_t flags;
        } processor;
        struct PACKED {
            uint16_t id;
            uint32_t address;
            uint32_t gsi_base;
        } io_apic;
        struct PACKED {
            uint8_t bus;
            uint8_t irq;
            uint32_t gsi;
            uint16_t flags;
        } override;
        struct PACKED {
            uint16_t reserved;
            uint64_t address;
        } lapic;
    };
};

static uint8_t apic_ids[MAXIMUM_PROCESSORS];
static uint32_t processor_count;
static uint64_t lapic_physical;

// length bytes at a physical address; NULL if they reach too far.
static const void *physical(uint64_t address, uint32_t length)
{
    if (!address || address > ADDRESS_LIMIT - length)
        return NULL;
    return (const void *)(MM_DIRECT_MAP + address);
}

static bool sums_to_zero(const void *data, uint32_t length)
{
    uint8_t sum = 0;
    for (uint32_t i = 0; i < length; i++)
        sum += ((const uint8_t *)data)[i];
    return sum == 0;
}

static const struct rsdp *valid_rsdp(uint64_t address)
{
    const struct rsdp *rsdp = physical(address, sizeof(*rsdp));
    if (!rsdp || memcmp(rsdp->signature, "RSD PTR ", sizeof(rsdp->signature)))
        return NULL;
    return sums_to_zero(rsdp, RSDP_1_SIZE) ? rsdp : NULL;
}

static const struct rsdp *find_rsdp(uint64_t address)
{
    const struct rsdp *rsdp = valid_rsdp(address);
    for (address = BIOS_AREA; !rsdp && address < BIOS_AREA_END;
         address += RSDP_ALIGN)
        rsdp = valid_rsdp(address);
    return rsdp;
}

static const struct table *valid_table(uint64_t address, const char *signature)
{
    const struct table *table = physical(address, sizeof(*table));
    if (!table || memcmp(table->signature, signature, SIGNATURE_SIZE))
        return NULL;
    if (table->length < sizeof(*table) || table->length > TABLE_MAX ||
        !physical(address, table->length))
        return NULL;
    return sums_to_zero(table, table->length) ? table : NULL;
}

// The MADT, by way of the XSDT or, before ACPI 2.0, the RSDT.
static const struct madt *find_madt(const struct rsdp *rsdp)
{
    bool wide = rsdp->revision >= 2;
    uint32_t size = wide ? sizeof(uint64_t) : sizeof(uint32_t);
    const struct table *root = wide ? valid_table(rsdp->xsdt, "XSDT")
                                    : valid_table(rsdp->rsdt, "RSDT");
    for (uint32_t at = sizeof(*root); root && at + size <= root->length;
         at += size) {
        uint64_t address = 0;
        memcpy(&address, (const char *)root + at, size);
        const struct table *madt = valid_table(address, "APIC");
        if (madt && madt->length >= sizeof(struct madt))
            return (const struct madt *)madt;
    }
    return NULL;
}

static void read_entry(const struct madt_entry *entry)
{
    switch (entry->type) {
    case MADT_PROCESSOR:
        if (entry->processor.flags & PROCESSOR_ENABLED &&
            processor_count < MAXIMUM_PROCESSORS)
            apic_ids[processor_count++] = entry->processor.apic_id;
        break;
    case MADT_IO_APIC:
        halp_add_io_apic(entry->io_apic.address, entry->io_apic.gsi_base);
        break;
    case MADT_OVERRIDE:
        halp_add_override(entry->override.irq, entry->override.gsi,
                          entry->override.flags);
        break;
    case MADT_LAPIC_ADDRESS:
        lapic_physical = entry->lapic.address;
        break;
    }
}

// Reads the MADT through the direct map; rsdp is its root's physical address,
// or 0 to search the BIOS area for it. Once.
//
// IRQL:    any level
// Returns: STATUS_SUCCESS
//          STATUS_NOT_FOUND  no valid MADT, or it names no processor or no
//                            I/O APIC
NTSTATUS hal_parse_acpi(uint64_t rsdp)
{
    static const uint8_t sizes[] = {
        [MADT_PROCESSOR] = 8,
        [MADT_IO_APIC] = 12,
        [MADT_OVERRIDE] = 10,
        [MADT_LAPIC_ADDRESS] = 12,
    };
    const struct rsdp *root = find_rsdp(rsdp);
    const struct madt *madt = root ? find_madt(root) : NULL;
    if (!madt)
        return STATUS_NOT_FOUND;

    lapic_physical = madt->lapic;
    uint32_t at = sizeof(*madt);
    while (at + 2 <= madt->table.length) {
        const struct madt_entry *entry =
            (const void *)((const char *)madt + at);
        if (entry->length < 2 || entry->length > madt->table.length - at)
            break;
        if (entry->type < sizeof(sizes) && entry->length >= sizes[entry->type])
            read_entry(entry);
        at += entry->length;
    }
    return processor_count && hal_io_apic_count() ? STATUS_SUCCESS
                                                  : STATUS_NOT_FOUND;
}

// Where the local APIC's registers are in physical memory.
//
// IRQL:    any level
uint64_t hal_lapic_physical(void)
{
    return lapic_physical;
}

// The number of processors that can be started, at most MAXIMUM_PROCESSORS.
//
// IRQL:    any level
uint32_t hal_processor_count(void)
{
    return processor_count;
}

// The local APIC's id of a processor, in the order of the MADT.
//
// IRQL:    any level
uint32_t hal_processor_apic_id(uint32_t index)
{
    return apic_ids[index];
}
