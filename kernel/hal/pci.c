// pci.c - PCI configuration space, by mechanism 1 (ports 0xCF8 and 0xCFC).
//
// PCI Local Bus Specification 3.0, 3.2.2.3.2 and chapter 6. The two ports are
// an index and a window: callers take turns, as they do at initialisation.

#include "kernel/hal/halp.h"

enum {
    CONFIG_ADDRESS = 0xCF8,
    CONFIG_DATA = 0xCFC,
    BUS_SHIFT = 16,
    DEVICE_SHIFT = 11,
    FUNCTION_SHIFT = 8,
    OFFSET_MASK = 0xFC,

    REGISTER_ID = 0x00,
    REGISTER_CLASS = 0x08,
    REGISTER_HEADER = 0x0C,
    REGISTER_BUSES = 0x18,    // of a bridge
    REGISTER_INTERRUPT = 0x3C,
    HEADER_MULTI_FUNCTION = 1 << 23,
    HEADER_TYPE_SHIFT = 16,
    HEADER_TYPE_MASK = 0x7F,
    HEADER_BRIDGE = 1,
    BUSES_LAST_SHIFT = 16,
    VENDOR_NONE = 0xFFFF,

    DEVICES = 32,
    FUNCTIONS = 8,
    BUS_AT_SHIFT = 8,    // DEVICES * FUNCTIONS is 1 << that
};

#define CONFIG_ENABLE (1u << 31)

static void select(const hal_pci_function *pci, uint8_t offset)
{
    hal_out32(CONFIG_ADDRESS, CONFIG_ENABLE | (uint32_t)pci->bus << BUS_SHIFT |
                                  (uint32_t)pci->device << DEVICE_SHIFT |
                                  (uint32_t)pci->function << FUNCTION_SHIFT |
                                  (offset & OFFSET_MASK));
}

// Reads the 32 bits at offset, a multiple of 4. Callers take turns.
//
// IRQL:    any level
uint32_t hal_pci_read(const hal_pci_function *pci, uint8_t offset)
{
    select(pci, offset);
    return hal_in32(CONFIG_DATA);
}

// Writes the 32 bits at offset, a multiple of 4. Callers take turns.
//
// IRQL:    any level
void hal_pci_write(const hal_pci_function *pci, uint8_t offset, uint32_t value)
{
    select(pci, offset);
    hal_out32(CONFIG_DATA, value);
}

// Fills in what a function is; false if there is none.
static bool identify(hal_pci_function *pci)
{
    uint32_t id = hal_pci_read(pci, REGISTER_ID);
    uint32_t class = hal_pci_read(pci, REGISTER_CLASS);
    pci->vendor_id = (uint16_t)id;
    pci->device_id = (uint16_t)(id >> 16);
    pci->class_code = (uint8_t)(class >> 24);
    pci->subclass = (uint8_t)(class >> 16);
    pci->programming_interface = (uint8_t)(class >> 8);
    pci->interrupt_line = (uint8_t)hal_pci_read(pci, REGISTER_INTERRUPT);
    return pci->vendor_id != VENDOR_NONE;
}

// Calls each for all functions, bus by bus, until it returns true. The
// firmware has numbered the buses, and a bridge says which is the last behind
// it. Callers take turns.
//
// IRQL:    any level, if each says so too
void hal_pci_scan(bool (*each)(const hal_pci_function *pci, void *context),
                  void *context)
{
    uint32_t last_bus = 0;
    for (uint32_t at = 0; at >> BUS_AT_SHIFT <= last_bus; at++) {
        hal_pci_function pci = { .bus = (uint8_t)(at >> BUS_AT_SHIFT),
                                 .device = at / FUNCTIONS % DEVICES,
                                 .function = at % FUNCTIONS };
        bool present = identify(&pci);
        uint32_t header = present ? hal_pci_read(&pci, REGISTER_HEADER) : 0;
        if ((header >> HEADER_TYPE_SHIFT & HEADER_TYPE_MASK) == HEADER_BRIDGE) {
            uint8_t last = (uint8_t)(hal_pci_read(&pci, REGISTER_BUSES) >>
                                     BUSES_LAST_SHIFT);
            last_bus = MAX(last_bus, last);
        }
        if (present && each(&pci, context))
            return;
        if (!pci.function && !(header & HEADER_MULTI_FUNCTION))
            at += FUNCTIONS - 1;
    }
}
