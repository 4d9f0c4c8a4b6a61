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
    PIT_READ_STATUS0 = 0xE2,
    PIT_OUTPUT = 0x80,            // in the status: zero was reached
    PIT_HZ = 1193182, ROUNDS = 3, ROUND_TICKS = PIT_HZ / 100,    // 10 ms
    DIVIDE_SHIFT_MAX = 7,         // by 128
};

uint64_t hal_tsc_frequency;
static uint64_t timer_frequency;    // of the local APIC's, undivided

// value * to / from, rounded up: who waits for the result does not wake before
// its time. UINT64_MAX if it is more than that.
static uint64_t scale(uint64_t value, uint64_t to, uint64_t from)
{
    unsigned __int128 product = (unsigned __int128)value * to + from - 1;
    uint64_t quotient, rest = (uint64_t)(product >> 64);
    if (rest >= from)
        return UINT64_MAX;
    __asm__("divq %3" : "=a"(quotient), "+d"(rest)
            : "a"((uint64_t)product), "r"(from) : "cc");
    return quotient;
}

static void start_timer(uint64_t count, uint32_t shift)
{
    // The code of 2^shift: 1 is 1011b, 2 is 0000b, 4 is 0001b, and so on.
    uint32_t code = (shift - 1) & DIVIDE_SHIFT_MAX;
    halp_lapic[LAPIC_TIMER_DIVIDE] = (code & 3) | (code & 4) << 1;
    halp_lapic[LAPIC_TIMER_INITIAL] = (uint32_t)MIN(count, UINT32_MAX);
}

// Arms this processor's timer for ticks of the TSC from now, with the smallest
// divider that reaches so far.
//
// IRQL:    any level
void hal_arm_timer(uint64_t tsc_ticks)
{
    uint64_t count = scale(tsc_ticks, timer_frequency, hal_tsc_frequency);
    uint32_t shift = 0;
    for (; count > UINT32_MAX && shift < DIVIDE_SHIFT_MAX; shift++)
        count >>= 1;
    start_timer(MAX(count, 1u), shift);
}

// Stops this processor's timer.
//
// IRQL:    any level
void hal_disarm_timer(void)
{
    halp_lapic[LAPIC_TIMER_INITIAL] = 0;
}

// Measures once, and keeps the smaller result. Whatever delays us makes both
// too large, never too small, even if it outlasts the PIT's count: the clocks
// are read before the PIT starts, and again after its count is. Inlined three
// times, it would be slow three times: QEMU translates code when it first runs.
static __attribute__((noinline)) void measure(void)
{
    start_timer(UINT32_MAX, 0);    // more than it will count in a round
    uint32_t timer = halp_lapic[LAPIC_TIMER_CURRENT];
    uint64_t tsc = hal_read_tsc();
    hal_out8(PIT_COMMAND, PIT_MODE0);
    hal_out8(PIT_CHANNEL0, (uint8_t)ROUND_TICKS);
    hal_out8(PIT_CHANNEL0, (uint8_t)(ROUND_TICKS >> 8));

    // Any interrupt may wake us, and the PIT's may come before we sleep: what
    // counts is its output, looked at while nothing can arrive. Its count runs
    // on beneath zero.
    uint8_t status;
    uint16_t count;
    do {
        __asm__ volatile("sti; hlt; cli" ::: "memory");
        hal_out8(PIT_COMMAND, PIT_READ_BACK0);
        status = hal_in8(PIT_CHANNEL0);
        count = hal_in8(PIT_CHANNEL0);
        count |= (uint16_t)(hal_in8(PIT_CHANNEL0) << 8);
    } while (!(status & PIT_OUTPUT));
    uint64_t elapsed = ROUND_TICKS + (uint16_t)-count;
    tsc = hal_read_tsc() - tsc;
    timer -= halp_lapic[LAPIC_TIMER_CURRENT];
    hal_tsc_frequency = MIN(hal_tsc_frequency, tsc * PIT_HZ / elapsed);
    timer_frequency = MIN(timer_frequency, (uint64_t)timer * PIT_HZ / elapsed);
}

// Measures TSC and local APIC timer, asleep; takes 30 ms, and the first device
// vector, which needs no handler of its own. Called with interrupts off, which
// they are again afterwards, as PIT and timer.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: false if there is no PIT, whose interrupt would never come
bool hal_calibrate_clock(void)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    hal_out8(PIT_COMMAND, PIT_READ_STATUS0);
    if (hal_in8(PIT_CHANNEL0) == 0xFF)    // nobody answers: no status is that
        return false;
    hal_tsc_frequency = timer_frequency = UINT64_MAX;
    hal_connect_irq(PIT_IRQ, HAL_VECTOR_DEVICE_FIRST, hal_lapic_id(), false,
                    false);
    for (uint32_t i = 0; i < ROUNDS; i++)
        measure();
    hal_connect_irq(PIT_IRQ, 0, 0, false, false);
    hal_out8(PIT_COMMAND, PIT_MODE0);    // a mode without a count: stopped
    hal_disarm_timer();
    return true;
}

// TSC ticks in units of 100 ns.
//
// IRQL:    any level
uint64_t hal_tsc_to_100ns(uint64_t ticks)
{
    return scale(ticks, HALP_UNITS, hal_tsc_frequency);
}

// Units of 100 ns in TSC ticks, or UINT64_MAX if they are more.
//
// IRQL:    any level
uint64_t hal_100ns_to_tsc(uint64_t interval)
{
    return scale(interval, hal_tsc_frequency, HALP_UNITS);
}
