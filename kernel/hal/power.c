// power.c - how a kernel without a machine to go back to ends.

#include "kernel/hal/halp.h"

enum {
    DEBUG_EXIT = 0xF4,         // QEMU's isa-debug-exit
    PM1A_CONTROL = 0x604,      // QEMU's PIIX4, where SeaBIOS puts it
    PM1_SLEEP = 1 << 13,       // sleep type 0 is S5 there
};

void (*hal_before_exit)(void);

// Leaves QEMU with status 2 * code + 1; without that device powers off by
// ACPI; else stops this processor.
//
// IRQL:    any level
void hal_exit(uint8_t code)
{
    if (hal_before_exit && code != HAL_EXIT_BUGCHECK)
        hal_before_exit();
    hal_out8(DEBUG_EXIT, code);
    hal_out16(PM1A_CONTROL, PM1_SLEEP);
    for (;;)
        __asm__ volatile("cli; hlt");
}
