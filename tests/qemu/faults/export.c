// export.c - the trace leaves while a thread that tells the stream something is
// suspended, wherever it may be.

#include "tests/kernel/ktest.h"

enum { SUSPENDED = 200, TOLD_AS = 1 };

static const char teller_name[16] = "teller";
static volatile bool enough;
static volatile uint32_t told;

static void tell(void *context)
{
    (void)context;
    while (!enough) {
        ke_export_thread(TOLD_AS, 0, teller_name);
        told++;
    }
}

// Were it suspended while the port is its own we should wait for ever. Each
// time it has told something since, so that it is all over the place.
KTEST(export_goes_on_beside_a_suspended_thread, "")
{
    if (!ktest_has_processors(2))
        return;
    ktest_thread teller;
    ktest_start_on(&teller, 1, tell, NULL);
    for (uint32_t i = 0; i < SUSPENDED; i++) {
        for (uint32_t before = told; told == before;)
            __builtin_ia32_pause();
        KeSuspendThread(teller.thread);
        ke_export_thread(TOLD_AS, 0, teller_name);
        ke_export_trace();
        KeResumeThread(teller.thread);
    }
    enough = true;
    ktest_join(&teller);
    EXPECT(told >= SUSPENDED);
}
