// apic.c - the local APIC: end of interrupt and IPIs. Its timer: clock.c.
//
// CR8 is its task priority; nothing here touches that.

#include "kernel/hal/halp.h"

enum { ID_SHIFT = 24, SPURIOUS_ENABLE = 1 << 8, LVT_NMI = 4 << 8,
       LVT_MASKED = 1 << 16, COMMAND_PENDING = 1 << 12,
       COMMAND_ASSERT = 1 << 14, COMMAND_SELF = 1 << 18 };

volatile uint32_t *halp_lapic;

// Enables this processor's local APIC: nothing arrives but IPIs, what the I/O
// APIC sends, the timer once it is armed, and the NMI button (LINT1). Firmware
// has left the PIC at LINT0; all else is masked since the reset.
//
// IRQL:    any level
void hal_init_lapic(void)
{
    halp_lapic[LAPIC_SPURIOUS] = SPURIOUS_ENABLE | HAL_VECTOR_SPURIOUS;
    halp_lapic[LAPIC_LVT_LINT0] = LVT_MASKED;
    halp_lapic[LAPIC_LVT_LINT1] = LVT_NMI;
    hal_disarm_timer();
    halp_lapic[LAPIC_LVT_TIMER] = HAL_VECTOR_CLOCK;
}

// The id of this processor's local APIC.
//
// IRQL:    any level
uint32_t hal_lapic_id(void)
{
    return halp_lapic[LAPIC_ID] >> ID_SHIFT;
}

// Tells this processor's local APIC that its newest interrupt is served.
//
// IRQL:    any level
void hal_end_of_interrupt(void)
{
    halp_lapic[LAPIC_EOI] = 0;
}

// Sends a vector, an NMI, INIT, or a start-up at a page to one processor.
//
// IRQL:    any level
void hal_send_ipi(uint32_t apic_id, uint32_t command)
{
    // An interrupt between the two halves might send an IPI of its own.
    uint64_t flags;
    __asm__ volatile("pushfq; popq %0; cli" : "=r"(flags)::"memory");
    halp_lapic[LAPIC_COMMAND_HIGH] = apic_id << ID_SHIFT;
    halp_lapic[LAPIC_COMMAND_LOW] = COMMAND_ASSERT | command;
    // The register takes no new command while one is on its way: so nobody
    // ever finds one in it.
    while (halp_lapic[LAPIC_COMMAND_LOW] & COMMAND_PENDING)
        __asm__ volatile("pause");
    __asm__ volatile("pushq %0; popfq" ::"r"(flags) : "memory", "cc");
}

// Sends vector to this processor; the other half says nothing then.
//
// IRQL:    any level
void hal_send_self_ipi(uint8_t vector)
{
    halp_lapic[LAPIC_COMMAND_LOW] = COMMAND_ASSERT | COMMAND_SELF | vector;
}
