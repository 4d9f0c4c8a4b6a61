// halp.h - what the files of kernel/hal share.

#ifndef TINT_HAL_HALP_H
#define TINT_HAL_HALP_H

#include "kernel/hal/hal.h"

// ---- apic.c, for clock.c ---------------------------------------------------

uint32_t halp_timer_count(void);    // what is left of hal_arm_timer's count
// Local APIC timer ticks per TSC tick, times 2^32.
void halp_set_timer_rate(uint64_t rate);

// ---- ioapic.c, told by madt.c ----------------------------------------------

void halp_add_io_apic(uint64_t address, uint32_t gsi_base);
// ISA interrupt irq arrives at gsi; flags as in the MADT.
void halp_add_override(uint32_t irq, uint32_t gsi, uint16_t flags);

// ---- legacy.c: channel 0 of the PIT, for clock.c ---------------------------

#define HALP_PIT_HZ 1193182u

// Counts down from count once, and interrupts at zero.
void halp_start_pit(uint16_t count);
bool halp_pit_expired(void);      // has it reached zero?
uint16_t halp_pit_count(void);    // what is left; it runs on beneath zero
void halp_stop_pit(void);

#endif
