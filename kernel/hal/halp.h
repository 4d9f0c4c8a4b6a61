// halp.h - what the files of kernel/hal share: the local APIC's registers.
//
// Intel SDM volume 3, "Advanced Programmable Interrupt Controller". Every
// processor sees its own registers at the same address.

#pragma once

#include "kernel/hal/hal.h"

#define HALP_UNITS 10000000u    // of 100 ns, in a second

// Indices of halp_lapic: each register is the first word of 16 bytes.
enum {
    LAPIC_ID = 0x020 / 4, LAPIC_EOI = 0x0B0 / 4, LAPIC_SPURIOUS = 0x0F0 / 4,
    LAPIC_COMMAND_LOW = 0x300 / 4, LAPIC_COMMAND_HIGH = 0x310 / 4,
    LAPIC_LVT_TIMER = 0x320 / 4, LAPIC_LVT_LINT0 = 0x350 / 4,
    LAPIC_LVT_LINT1 = 0x360 / 4,
    LAPIC_TIMER_INITIAL = 0x380 / 4, LAPIC_TIMER_CURRENT = 0x390 / 4,
    LAPIC_TIMER_DIVIDE = 0x3E0 / 4,
};

extern volatile uint32_t *halp_lapic;
