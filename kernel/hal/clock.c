// clock.c - the clocks: how fast they are, and this processor's timer.
//
// Nothing says how often TSC and local APIC timer tick, so both are measured
// against the PIT (Intel 231164, "Programming the 82C54"), whose frequency is
// fixed; afterwards it is stopped. The processor sleeps meanwhile: under QEMU
// a loop that polls would be slow, and wrong.

#include "kernel/hal/halp.h"

#include "kernel/assert.h"

enum {
    PIT_CHANNEL0 = 0x40, PIT_COMMAND = 0x43, PIT_IRQ = 0,
    PIT_MODE0 = 0x30,             // channel 0, both bytes, interrupt at zero
    PIT_READ_BACK0 = 0xC2,        // channel 0: status, then the count
    PIT_OUTPUT = 0x80,            // in the status: zero was reached
    PIT_HZ = 1193182, ROUNDS = 3, ROUND_TICKS = PIT_HZ / 100,    // 10 ms
    DIVIDE_SHIFT_MAX = 7,         // by 128
    TO_UNITS_SHIFT = 40, TO_TICKS_SHIFT = 30, RATE_SHIFT = 32,
};

uint64_t hal_tsc_frequency;
static uint64_t units_per_tick;    // times 2^TO_UNITS_SHIFT
static uint64_t ticks_per_unit;    // times 2^TO_TICKS_SHIFT
// Timer ticks per TSC tick, times 2^RATE_SHIFT.
static uint64_t timer_rate = 1ull << RATE_SHIFT;

static uint64_t multiply(uint64_t value, uint64_t rate, uint32_t shift)
{
    unsigned __int128 product = (unsigned __int128)value * rate >> shift;
    return product > UINT64_MAX ? UINT64_MAX : (uint64_t)product;
}

// Arms this processor's timer for ticks of the TSC from now, with the smallest
// divider that reaches so far.
//
// IRQL:    any level
void hal_arm_timer(uint64_t tsc_ticks)
{
    uint64_t count = multiply(tsc_ticks, timer_rate, RATE_SHIFT);
    uint32_t shift = 0;
    for (; count > UINT32_MAX && shift < DIVIDE_SHIFT_MAX; shift++)
        count >>= 1;
    // The code of 2^shift: 1 is 1011b, 2 is 0000b, 4 is 0001b, and so on.
    uint32_t code = (shift - 1) & DIVIDE_SHIFT_MAX;
    halp_lapic[LAPIC_TIMER_DIVIDE] = (code & 3) | (code & 4) << 1;
    halp_lapic[LAPIC_TIMER_INITIAL] = (uint32_t)MAX(MIN(count, UINT32_MAX), 1);
}

// Stops this processor's timer.
//
// IRQL:    any level
void hal_disarm_timer(void)
{
    halp_lapic[LAPIC_TIMER_INITIAL] = 0;
}

static uint8_t pit_status(uint16_t *count)
{
    hal_out8(PIT_COMMAND, PIT_READ_BACK0);
    uint8_t status = hal_in8(PIT_CHANNEL0);
    uint8_t low = hal_in8(PIT_CHANNEL0);
    *count = (uint16_t)(hal_in8(PIT_CHANNEL0) << 8 | low);
    return status;
}

// Measures once, and keeps the smaller result. Whatever delays us makes both
// too large, never too small, even if it outlasts the PIT's count: the clocks
// are read before the PIT starts, and again after its count is. Inlined three
// times, it would be slow three times: QEMU translates code when it first runs.
static __attribute__((noinline)) void measure(uint64_t *timer_hz)
{
    hal_arm_timer(UINT32_MAX);    // seconds, as the rate is still 1
    uint32_t timer = halp_lapic[LAPIC_TIMER_CURRENT];
    uint64_t tsc = hal_read_tsc();
    hal_out8(PIT_COMMAND, PIT_MODE0);
    hal_out8(PIT_CHANNEL0, (uint8_t)ROUND_TICKS);
    hal_out8(PIT_CHANNEL0, (uint8_t)(ROUND_TICKS >> 8));

    // Any interrupt may wake us, and the PIT's may come before we sleep: what
    // counts is its output, looked at while nothing can arrive. Its count runs
    // on beneath zero.
    uint16_t count;
    while (!(pit_status(&count) & PIT_OUTPUT))
        __asm__ volatile("sti; hlt; cli" ::: "memory");
    uint64_t elapsed = ROUND_TICKS + (uint16_t)-count;
    tsc = hal_read_tsc() - tsc;
    timer -= halp_lapic[LAPIC_TIMER_CURRENT];
    hal_tsc_frequency = MIN(hal_tsc_frequency, tsc * PIT_HZ / elapsed);
    *timer_hz = MIN(*timer_hz, (uint64_t)timer * PIT_HZ / elapsed);
}

// Measures TSC and local APIC timer, asleep; takes 30 ms, and the first device
// vector, which needs no handler of its own. Called with interrupts off, which
// they are again afterwards, as PIT and timer.
//
// IRQL:    <= DISPATCH_LEVEL
void hal_calibrate_clock(void)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    uint64_t timer_hz = UINT32_MAX;
    hal_tsc_frequency = UINT64_MAX;
    hal_connect_irq(PIT_IRQ, HAL_VECTOR_DEVICE_FIRST, hal_lapic_id(), false,
                    false);
    for (uint32_t i = 0; i < ROUNDS; i++)
        measure(&timer_hz);
    hal_disconnect_irq(PIT_IRQ);
    hal_out8(PIT_COMMAND, PIT_MODE0);    // a mode without a count: stopped
    hal_disarm_timer();

    units_per_tick =
        ((uint64_t)HALP_UNITS << TO_UNITS_SHIFT) / hal_tsc_frequency;
    ticks_per_unit = (hal_tsc_frequency << TO_TICKS_SHIFT) / HALP_UNITS;
    timer_rate = (timer_hz << RATE_SHIFT) / hal_tsc_frequency;
}

// TSC ticks in units of 100 ns.
//
// IRQL:    any level
uint64_t hal_tsc_to_100ns(uint64_t ticks)
{
    return multiply(ticks, units_per_tick, TO_UNITS_SHIFT);
}

// Units of 100 ns in TSC ticks, or UINT64_MAX if they are more.
//
// IRQL:    any level
uint64_t hal_100ns_to_tsc(uint64_t interval)
{
    return multiply(interval, ticks_per_unit, TO_TICKS_SHIFT);
}
