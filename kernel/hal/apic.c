// apic.c - the local APIC: end of interrupt, IPIs, the one-shot timer.
//
// Intel SDM volume 3, "Advanced Programmable Interrupt Controller". Every
// processor sees its own registers at the same address. CR8 is its task
// priority; nothing here touches that.

#include "kernel/hal/halp.h"

enum {
    LAPIC_ID = 0x020,
    LAPIC_EOI = 0x0B0,
    LAPIC_SPURIOUS = 0x0F0,
    LAPIC_COMMAND_LOW = 0x300,
    LAPIC_COMMAND_HIGH = 0x310,
    LAPIC_LVT_TIMER = 0x320,
    LAPIC_LVT_THERMAL = 0x330,
    LAPIC_LVT_COUNTERS = 0x340,
    LAPIC_LVT_LINT0 = 0x350,
    LAPIC_LVT_LINT1 = 0x360,
    LAPIC_LVT_ERROR = 0x370,
    LAPIC_TIMER_INITIAL = 0x380,
    LAPIC_TIMER_CURRENT = 0x390,
    LAPIC_TIMER_DIVIDE = 0x3E0,

    ID_SHIFT = 24,
    SPURIOUS_ENABLE = 1 << 8,
    LVT_NMI = 4 << 8,
    LVT_MASKED = 1 << 16,
    COMMAND_PENDING = 1 << 12,
    COMMAND_ASSERT = 1 << 14,
    COMMAND_SELF = 1 << 18,
    COMMAND_TARGET_SHIFT = 24,
    DIVIDE_SHIFT_MAX = 7,    // by 128
    RATE_SHIFT = 32,
};

static volatile uint32_t *lapic;
// Timer ticks per TSC tick, times 2^RATE_SHIFT; clock.c sets it once.
static uint64_t timer_rate = 1ull << RATE_SHIFT;

static uint32_t read(uint32_t offset)
{
    return lapic[offset / sizeof(*lapic)];
}

static void write(uint32_t offset, uint32_t value)
{
    lapic[offset / sizeof(*lapic)] = value;
}

// Says where the registers are mapped, uncached.
//
// IRQL:    any level
void hal_set_lapic(volatile void *registers)
{
    lapic = registers;
}

// Enables this processor's local APIC: nothing arrives but IPIs, what the I/O
// APICs send, the timer once it is armed, and the NMI button (LINT1).
//
// IRQL:    any level
void hal_init_lapic(void)
{
    write(LAPIC_SPURIOUS, SPURIOUS_ENABLE | HAL_VECTOR_SPURIOUS);
    write(LAPIC_LVT_THERMAL, LVT_MASKED);
    write(LAPIC_LVT_COUNTERS, LVT_MASKED);
    write(LAPIC_LVT_LINT0, LVT_MASKED);
    write(LAPIC_LVT_LINT1, LVT_NMI);
    write(LAPIC_LVT_ERROR, LVT_MASKED);
    hal_disarm_timer();
    write(LAPIC_LVT_TIMER, HAL_VECTOR_CLOCK);
}

// The id of this processor's local APIC.
//
// IRQL:    any level
uint32_t hal_lapic_id(void)
{
    return read(LAPIC_ID) >> ID_SHIFT;
}

// Tells this processor's local APIC that its newest interrupt is served.
//
// IRQL:    any level
void hal_end_of_interrupt(void)
{
    write(LAPIC_EOI, 0);
}

// The command register takes no new command while one is on its way.
static void wait_until_sent(void)
{
    while (read(LAPIC_COMMAND_LOW) & COMMAND_PENDING)
        __asm__ volatile("pause");
}

// Sends vector to one processor.
//
// IRQL:    any level
void hal_send_ipi(uint32_t apic_id, uint8_t vector)
{
    // An interrupt between the two halves might send an IPI of its own.
    uint64_t flags;
    __asm__ volatile("pushfq; popq %0; cli" : "=r"(flags)::"memory");
    wait_until_sent();
    write(LAPIC_COMMAND_HIGH, apic_id << COMMAND_TARGET_SHIFT);
    write(LAPIC_COMMAND_LOW, COMMAND_ASSERT | vector);
    __asm__ volatile("pushq %0; popfq" ::"r"(flags) : "memory", "cc");
}

// Sends vector to this processor.
//
// IRQL:    any level
void hal_send_self_ipi(uint8_t vector)
{
    wait_until_sent();
    write(LAPIC_COMMAND_LOW, COMMAND_SELF | COMMAND_ASSERT | vector);
}

// Arms this processor's timer for ticks of the TSC from now, with the smallest
// divider that reaches so far.
//
// IRQL:    any level
void hal_arm_timer(uint64_t tsc_ticks)
{
    unsigned __int128 count =
        (unsigned __int128)tsc_ticks * timer_rate >> RATE_SHIFT;
    uint32_t shift = 0;
    while (count > UINT32_MAX && shift < DIVIDE_SHIFT_MAX) {
        count >>= 1;
        shift++;
    }
    // The code of 2^shift: 1 is 1011b, 2 is 0000b, 4 is 0001b, and so on.
    uint32_t code = (shift - 1) & DIVIDE_SHIFT_MAX;
    write(LAPIC_TIMER_DIVIDE, (code & 3) | (code & 4) << 1);
    write(LAPIC_TIMER_INITIAL, (uint32_t)MAX(MIN(count, UINT32_MAX), 1));
}

// Stops this processor's timer.
//
// IRQL:    any level
void hal_disarm_timer(void)
{
    write(LAPIC_TIMER_INITIAL, 0);
}

// What is left of the timer's count.
//
// IRQL:    any level
uint32_t halp_timer_count(void)
{
    return read(LAPIC_TIMER_CURRENT);
}

// Takes timer ticks per TSC tick, times 2^32.
//
// IRQL:    any level
void halp_set_timer_rate(uint64_t rate)
{
    timer_rate = rate;
}
