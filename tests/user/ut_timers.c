// ut_timers.c - timers' routines, where threads and processors differ.
// cpus: 1
// cpus: 4
//
// Threads set and cancel the same few timers, whose routines are thereby queued
// to whoever was the last one, which may be about to take it, or to end.

#include "tests/user/ktap.h"
#include "tests/user/random.h"

#define TIMERS  3
#define THREADS 6
#define ROUNDS  200
#define CALLS   200u

static HANDLE timers[TIMERS];
static volatile uint32_t runs, wrong;

static void routine(void *context, uint32_t low, int32_t high)
{
    (void)low;
    if (context != timers || high == 0)
        wrong++;
    __atomic_add_fetch(&runs, 1, __ATOMIC_RELAXED);
}

// ---- One after the other ----------------------------------------------------

static NTSTATUS set(void *apc)
{
    return NtSetTimer(timers[0], MS(1), (TIMER_APC_ROUTINE *)apc, timers, false,
                      0, NULL);
}

// Its routine is queued to this thread, which never takes it.
static NTSTATUS set_and_end(void *apc)
{
    NTSTATUS status = set(apc);
    return NT_SUCCESS(status) ? wait(timers[0]) : status;
}

static void in_turns(void)
{
    rule("who sets a timer withdraws another thread's routine");
    CHECK_OK(set((void *)routine));
    CHECK_OK(wait(timers[0]));
    CHECK_OK(join(new_thread(set_and_end, NULL, 0)));
    CHECK_OK(NtDelayExecution(true, MS(5)));
    CHECK_EQ(runs, 0);
    rule("the end of who set it takes the routine along");
    CHECK_OK(join(new_thread(set_and_end, (void *)routine, 0)));
    CHECK_OK(NtDelayExecution(true, MS(5)));
    CHECK_EQ(runs, 0);
    rule("and the timer can be set by another one");
    CHECK_OK(set((void *)routine));
    CHECK_STATUS(NtDelayExecution(true, LONG), STATUS_USER_APC);
    CHECK_EQ(runs, 1);
}

// ---- All at once ------------------------------------------------------------

static NTSTATUS play(void *seed)
{
    uint64_t state = (uint64_t)seed;
    for (uint32_t i = 0; i < CALLS; i++) {
        HANDLE timer = timers[random_from(&state) % TIMERS];
        int64_t due = -(int64_t)(random_from(&state) % 3000);
        switch (random_from(&state) % 6) {
        case 0: NtCancelTimer(timer, NULL); break;
        case 1: NtDelayExecution(true, &(int64_t){ -1000 }); break;
        case 2: NtWaitForSingleObject(timer, true, &(int64_t){ -2000 }); break;
        default:
            NtSetTimer(timer, &due, routine, timers, false,
                       (int32_t)(random_from(&state) % 3), NULL);
        }
    }
    return STATUS_SUCCESS;
}

static void at_once(void)
{
    HANDLE threads[THREADS] = { NULL };
    rule("set, cancelled and expired at once, by threads that end");
    for (uintptr_t i = 0; i < ROUNDS; i++) {
        HANDLE *thread = &threads[i % THREADS];
        if (*thread && i % 5 == 0)
            NtTerminateThread(*thread, STATUS_SUCCESS);
        if (*thread)
            CHECK_OK(join(*thread));
        *thread = new_thread(play, (void *)(i + 1), 0);
    }
    for (int i = 0; i < THREADS; i++)
        CHECK_OK(join(threads[i]));
    CHECK(runs > 1 && wrong == 0);
}

int main(void)
{
    for (int i = 0; i < TIMERS; i++)
        CHECK_OK(NtCreateTimer(&timers[i], ALL_ACCESS, NULL,
                               NotificationTimer));
    in_turns();
    at_once();
    return ktap_end();
}
