// clocks.c - how well the processors' time stamp counters agree.

#include "tests/kernel/ktest.h"

#include "kernel/hal/hal.h"

enum { ROUNDS = 20000 };

// Two processors take turns: odd is asked, even is answered.
static volatile uint32_t turn;
static volatile uint64_t answered_at;

static void answer(void *context)
{
    (void)context;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        while (turn != 2 * round + 1)
            __builtin_ia32_pause();
        answered_at = hal_read_tsc();
        __atomic_store_n(&turn, 2 * round + 2, __ATOMIC_SEQ_CST);
    }
}

// An answer that is not between its question and its return would show clocks
// that disagree; the quickest round bounds by how much they can.
KTEST(clocks_agree, "")
{
    if (!ktest_has_processors(2))
        return;
    ktest_thread other;
    uint64_t quickest = UINT64_MAX;
    uint32_t outside = 0;
    turn = 0;
    ktest_start_on(&other, 1, answer, NULL);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint64_t asked = hal_read_tsc();
        __atomic_store_n(&turn, 2 * round + 1, __ATOMIC_SEQ_CST);
        while (turn != 2 * round + 2)
            __builtin_ia32_pause();
        uint64_t back = hal_read_tsc();
        outside += answered_at < asked || answered_at > back;
        quickest = MIN(quickest, back - asked);
    }
    ktest_join(&other);
    EXPECT(outside == 0);
    hal_print("# the clocks of processors 0 and 1 agree within %u ns\n",
              (uint32_t)(quickest * 1000 / (hal_tsc_frequency / 1000000)));
}
