// clock.c - how fast the clocks are.
//
// Nothing says how often TSC and local APIC timer tick, so both are measured
// against the PIT, whose frequency is fixed. The processor sleeps meanwhile:
// under QEMU a loop that polls would be slow, and wrong.

#include "kernel/hal/halp.h"

#include "kernel/assert.h"

enum {
    ROUNDS = 3,
    ROUND_TICKS = HALP_PIT_HZ / 100,    // 10 ms
    PIT_IRQ = 0,
    UNITS = 10000000,    // of 100 ns, in a second
    TO_UNITS_SHIFT = 40,
    TO_TICKS_SHIFT = 30,
    RATE_SHIFT = 32,
};

static uint64_t tsc_frequency;
static uint64_t units_per_tick;    // times 2^TO_UNITS_SHIFT
static uint64_t ticks_per_unit;    // times 2^TO_TICKS_SHIFT

// Measures once, and keeps the smaller result. Whatever delays us makes both
// too large, never too small, even if it outlasts the PIT's count: the clocks
// are read before the PIT starts, and again after its count is. Inlined three
// times, it would be slow three times: QEMU translates code when it first runs.
static __attribute__((noinline)) void measure(uint64_t *tsc_hz,
                                              uint64_t *timer_hz)
{
    hal_arm_timer(UINT32_MAX);    // seconds, as the rate is still 1
    uint32_t timer = halp_timer_count();
    uint64_t tsc = hal_read_tsc();
    halp_start_pit(ROUND_TICKS);

    // Any interrupt may wake us, and the PIT's may come before we sleep: what
    // counts is its output, looked at while nothing can arrive.
    __asm__ volatile("cli" ::: "memory");
    while (!halp_pit_expired())
        __asm__ volatile("sti; hlt; cli" ::: "memory");

    uint64_t elapsed = ROUND_TICKS + (uint16_t)-halp_pit_count();
    tsc = hal_read_tsc() - tsc;
    timer -= halp_timer_count();
    *tsc_hz = MIN(*tsc_hz, tsc * HALP_PIT_HZ / elapsed);
    *timer_hz = MIN(*timer_hz, timer * (uint64_t)HALP_PIT_HZ / elapsed);
}

// Measures TSC and local APIC timer, asleep; takes 30 ms, and the first device
// vector, which needs no handler of its own. PIT and timer are silent again
// afterwards.
//
// IRQL:    <= DISPATCH_LEVEL
void hal_calibrate_clock(void)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    uint64_t timer_hz = UINT32_MAX;
    uint64_t flags;
    __asm__ volatile("pushfq; popq %0" : "=r"(flags));
    tsc_frequency = UINT64_MAX;
    hal_connect_irq(PIT_IRQ, HAL_VECTOR_DEVICE_FIRST, hal_lapic_id(), false,
                    false);
    for (uint32_t i = 0; i < ROUNDS; i++)
        measure(&tsc_frequency, &timer_hz);
    hal_disconnect_irq(PIT_IRQ);
    halp_stop_pit();
    hal_disarm_timer();

    units_per_tick = ((uint64_t)UNITS << TO_UNITS_SHIFT) / tsc_frequency;
    ticks_per_unit = (tsc_frequency << TO_TICKS_SHIFT) / UNITS;
    halp_set_timer_rate((timer_hz << RATE_SHIFT) / tsc_frequency);
    __asm__ volatile("pushq %0; popfq" ::"r"(flags) : "memory", "cc");
}

// TSC ticks in a second.
//
// IRQL:    any level
uint64_t hal_tsc_frequency(void)
{
    return tsc_frequency;
}

// TSC ticks in units of 100 ns.
//
// IRQL:    any level
uint64_t hal_tsc_to_100ns(uint64_t ticks)
{
    return (uint64_t)((unsigned __int128)ticks * units_per_tick >>
                      TO_UNITS_SHIFT);
}

// Units of 100 ns in TSC ticks, or UINT64_MAX if they are more.
//
// IRQL:    any level
uint64_t hal_100ns_to_tsc(uint64_t interval)
{
    unsigned __int128 ticks =
        (unsigned __int128)interval * ticks_per_unit >> TO_TICKS_SHIFT;
    return ticks > UINT64_MAX ? UINT64_MAX : (uint64_t)ticks;
}
