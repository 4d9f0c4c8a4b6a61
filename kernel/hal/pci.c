// pci.c - PCI configuration space, by mechanism 1 (ports 0xCF8 and 0xCFC).
//
// PCI Local Bus Specification 3.0, 3.2.2.3.2 and chapter 6. The two ports are
// an index and a window: callers take turns, as they do at initialisation.

#include "kernel/hal/halp.h"

enum {
    CONFIG_ADDRESS = 0xCF8, CONFIG_DATA = 0xCFC,
    FUNCTION_SHIFT = 8, OFFSET_MASK = 0xFC,
    HEADER_SIZE = 16,      // of what hal_pci_function has of it
    HEADER_MULTI_FUNCTION = 1 << 7, VENDOR_NONE = 0xFFFF,
    HEADER_TYPE_MASK = 0x7F, HEADER_BRIDGE = 1,
    BRIDGE_BUSES = 0x18, BRIDGE_LAST_BUS_SHIFT = 16,    // of those behind it
    FUNCTIONS = 8,         // of a device; a bus has 32 devices
    FUNCTIONS_OF_BUS = 256,
};

#define CONFIG_ENABLE (1u << 31)

// Reads the 32 bits at offset, a multiple of 4. Callers take turns.
//
// IRQL:    any level
uint32_t hal_pci_read(const hal_pci_function *pci, uint8_t offset)
{
    hal_out32(CONFIG_ADDRESS, CONFIG_ENABLE | pci->number << FUNCTION_SHIFT |
                                  (offset & OFFSET_MASK));
    return hal_in32(CONFIG_DATA);
}

// Writes the 32 bits at offset, a multiple of 4. Callers take turns.
//
// IRQL:    any level
void hal_pci_write(const hal_pci_function *pci, uint8_t offset, uint32_t value)
{
    hal_pci_read(pci, offset);    // leaves the window there
    hal_out32(CONFIG_DATA, value);
}

// Finds the function behind *pci, or the first if that is zeroed, of all buses,
// which the firmware has numbered from 0 on: the last one lies behind some
// bridge, or is the first. Callers take turns.
//
// IRQL:    any level
// Returns: false if there are no more
bool hal_pci_next(hal_pci_function *pci)
{
    do {
        uint32_t at = pci->next, last_bus = pci->last_bus;
        if (at / FUNCTIONS_OF_BUS > last_bus)
            return false;
        *pci = (hal_pci_function){ .number = at };
        uint32_t *header = (uint32_t *)&pci->vendor_id;
        for (uint8_t offset = 0;
             offset < HEADER_SIZE && pci->vendor_id != VENDOR_NONE; offset += 4)
            *header++ = hal_pci_read(pci, offset);
        if ((pci->header_type & HEADER_TYPE_MASK) == HEADER_BRIDGE) {
            uint32_t buses = hal_pci_read(pci, BRIDGE_BUSES);
            last_bus = MAX(last_bus, (uint8_t)(buses >> BRIDGE_LAST_BUS_SHIFT));
        }
        bool more = at % FUNCTIONS || pci->header_type & HEADER_MULTI_FUNCTION;
        pci->next = at + (more ? 1 : FUNCTIONS);
        pci->last_bus = last_bus;
    } while (pci->vendor_id == VENDOR_NONE);
    return true;
}
