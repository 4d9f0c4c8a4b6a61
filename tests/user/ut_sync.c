// ut_sync.c - events, semaphores, mutants, timers, and waits for them.

#include "tests/user/ktap.h"

static bool is_signalled(HANDLE object)
{
    return NtWaitForSingleObject(object, false, POLL) == STATUS_WAIT_0;
}

static void events(void)
{
    int32_t before = 99;
    HANDLE event = new_event(SynchronizationEvent, false);
    rule("SYN-01: the previous state is returned");
    CHECK_OK(NtSetEvent(event, &before));
    CHECK_EQ(before, 0);
    CHECK_OK(NtSetEvent(event, &before));
    CHECK_EQ(before, 1);
    rule("WAIT-01: one wait takes it, set twice is set once");
    CHECK(is_signalled(event));
    CHECK(!is_signalled(event));
    rule("resetting and pulsing");
    NtSetEvent(event, NULL);
    CHECK_OK(NtResetEvent(event, &before));
    CHECK(before == 1 && !is_signalled(event));
    CHECK_OK(NtPulseEvent(event, &before));
    CHECK(before == 0 && !is_signalled(event));
    NtClose(event);
    rule("WAIT-01: a notification event stays until it is reset");
    event = new_event(NotificationEvent, true);
    CHECK(is_signalled(event) && is_signalled(event));
    CHECK_OK(NtResetEvent(event, NULL));
    CHECK(!is_signalled(event));
    EVENT_BASIC_INFORMATION basic;
    CHECK_OK(NtQueryEvent(event, &basic));
    CHECK(basic.EventType == NotificationEvent && basic.EventState == 0);
    rule("a type that does not exist");
    HANDLE other = NULL;
    CHECK_STATUS(NtCreateEvent(&other, ALL_ACCESS, NULL, (EVENT_TYPE)2, false),
                 STATUS_INVALID_PARAMETER);
    rule("an object has no name");
    OBJECT_ATTRIBUTES attributes = { .Length = sizeof(attributes) };
    CHECK_OK(NtCreateEvent(&other, ALL_ACCESS, &attributes, NotificationEvent,
                           false));
    NtClose(other);
    RtlInitString(&attributes.ObjectName, "\\name");
    CHECK_STATUS(NtCreateEvent(&other, ALL_ACCESS, &attributes,
                               NotificationEvent, false),
                 STATUS_OBJECT_NAME_INVALID);
    attributes.Length = 4;
    CHECK_STATUS(NtCreateEvent(&other, ALL_ACCESS, &attributes,
                               NotificationEvent, false),
                 STATUS_INVALID_PARAMETER);
    rule("rights");
    CHECK_OK(NtDuplicateObject(NtCurrentProcess(), event, NtCurrentProcess(),
                               &other, SYNCHRONIZE, 0, 0));
    CHECK_STATUS(NtSetEvent(other, NULL), STATUS_ACCESS_DENIED);
    CHECK_STATUS(NtQueryEvent(other, &basic), STATUS_ACCESS_DENIED);
    CHECK(!is_signalled(other));
    NtClose(other);
    NtClose(event);
}

static void semaphores(void)
{
    HANDLE semaphore = NULL;
    int32_t before = 99;
    rule("semaphores: counts");
    CHECK_OK(NtCreateSemaphore(&semaphore, ALL_ACCESS, NULL, 2, 3));
    CHECK(is_signalled(semaphore) && is_signalled(semaphore));
    CHECK(!is_signalled(semaphore));
    CHECK_OK(NtReleaseSemaphore(semaphore, 2, &before));
    CHECK_EQ(before, 0);
    rule("semaphores: beyond the limit nothing is changed");
    CHECK_STATUS(NtReleaseSemaphore(semaphore, 2, &before),
                 STATUS_SEMAPHORE_LIMIT_EXCEEDED);
    CHECK_STATUS(NtReleaseSemaphore(semaphore, INT32_MAX, NULL),
                 STATUS_SEMAPHORE_LIMIT_EXCEEDED);
    CHECK_OK(NtReleaseSemaphore(semaphore, 1, &before));
    CHECK_EQ(before, 2);
    CHECK_STATUS(NtReleaseSemaphore(semaphore, 0, NULL),
                 STATUS_INVALID_PARAMETER);
    CHECK_STATUS(NtReleaseSemaphore(semaphore, -1, NULL),
                 STATUS_INVALID_PARAMETER);
    NtClose(semaphore);
    rule("semaphores: counts that make none");
    CHECK_STATUS(NtCreateSemaphore(&semaphore, ALL_ACCESS, NULL, 0, 0),
                 STATUS_INVALID_PARAMETER);
    CHECK_STATUS(NtCreateSemaphore(&semaphore, ALL_ACCESS, NULL, -1, 1),
                 STATUS_INVALID_PARAMETER);
    CHECK_STATUS(NtCreateSemaphore(&semaphore, ALL_ACCESS, NULL, 4, 3),
                 STATUS_INVALID_PARAMETER);
}

static NTSTATUS own(void *mutant)
{
    CHECK_OK(wait(mutant));
    return 0;    // without giving it up
}

static NTSTATUS release(void *mutant)
{
    return NtReleaseMutant(mutant, NULL);
}

static void mutants(void)
{
    HANDLE mutant = NULL, second = NULL;
    int32_t before = 99;
    rule("mutants: owned as often as taken");
    CHECK_OK(NtCreateMutant(&mutant, ALL_ACCESS, NULL, true));
    CHECK(is_signalled(mutant));
    CHECK_STATUS(join(new_thread(release, mutant, 0)),
                 STATUS_MUTANT_NOT_OWNED);
    CHECK_OK(NtReleaseMutant(mutant, &before));
    CHECK_EQ(before, -1);
    CHECK_OK(NtReleaseMutant(mutant, &before));
    CHECK_EQ(before, 0);
    CHECK_STATUS(NtReleaseMutant(mutant, NULL), STATUS_MUTANT_NOT_OWNED);
    rule("mutants: the end of its owner abandons one");
    join(new_thread(own, mutant, 0));
    CHECK_STATUS(NtWaitForSingleObject(mutant, false, POLL),
                 STATUS_ABANDONED_WAIT_0);
    rule("mutants: that is said once");
    CHECK_OK(NtReleaseMutant(mutant, NULL));
    CHECK_OK(NtWaitForSingleObject(mutant, false, POLL));
    CHECK_OK(NtReleaseMutant(mutant, NULL));
    rule("mutants: abandoned among several");
    CHECK_OK(NtCreateMutant(&second, ALL_ACCESS, NULL, false));
    join(new_thread(own, second, 0));
    HANDLE both[] = { mutant, second };
    CHECK_STATUS(NtWaitForMultipleObjects(2, both, WaitAll, false, POLL),
                 STATUS_ABANDONED_WAIT_0);
    CHECK_OK(NtReleaseMutant(mutant, NULL));
    CHECK_OK(NtReleaseMutant(second, NULL));
    rule("mutants: the end of its process abandons one");
    RTL_USER_PROCESS_PARAMETERS *own_parameters =
        &NtCurrentPeb()->ProcessParameters;
    HANDLE input = own_parameters->StandardInput;
    own_parameters->StandardInput = mutant;
    char *words[] = { "child", "own" };
    CHECK_OK(run(2, words));
    own_parameters->StandardInput = input;
    CHECK_STATUS(NtWaitForSingleObject(mutant, false, POLL),
                 STATUS_ABANDONED_WAIT_0);
    rule("mutants: one that is owned may be closed");
    NtClose(mutant);
    CHECK_OK(NtWaitForSingleObject(second, false, POLL));
    NtClose(second);
}

static uint32_t timer_runs;

static void timer_routine(void *context, uint32_t low, int32_t high)
{
    int64_t now = 0, then = (int64_t)((uint64_t)(uint32_t)high << 32 | low);
    NtQuerySystemTime(&now);
    CHECK(context == &timer_runs);
    CHECK(then <= now && now - then < 600000000);
    timer_runs++;
}

static void timers(void)
{
    HANDLE timer = NULL;
    bool was = true;
    rule("TMR-01: set, expired, set again");
    CHECK_OK(NtCreateTimer(&timer, ALL_ACCESS, NULL, NotificationTimer));
    CHECK(!is_signalled(timer));
    CHECK_OK(NtSetTimer(timer, MS(10), NULL, NULL, false, 0, &was));
    CHECK(!was);
    CHECK_OK(wait(timer));
    rule("TMR-03: a notification timer stays");
    CHECK(is_signalled(timer));
    CHECK_OK(NtSetTimer(timer, MS(100000), NULL, NULL, false, 0, &was));
    CHECK(was && !is_signalled(timer));
    rule("TMR-04: a cancelled one never comes");
    CHECK_OK(NtCancelTimer(timer, &was));
    CHECK(!was && !is_signalled(timer));
    CHECK_OK(NtSetTimer(timer, MS(20), NULL, NULL, false, 0, NULL));
    CHECK_OK(NtCancelTimer(timer, NULL));
    CHECK_STATUS(NtWaitForSingleObject(timer, false, MS(60)), STATUS_TIMEOUT);
    rule("TMR-01: a time in the past expires at once");
    int64_t past = 1;
    CHECK_OK(NtSetTimer(timer, &past, NULL, NULL, false, 0, NULL));
    CHECK_OK(wait(timer));
    rule("TMR-01: an absolute time");
    int64_t soon;
    CHECK_OK(NtQuerySystemTime(&soon));
    soon += 200000;
    CHECK_OK(NtSetTimer(timer, &soon, NULL, NULL, false, 0, NULL));
    CHECK_OK(wait(timer));
    int64_t now;
    CHECK_OK(NtQuerySystemTime(&now));
    CHECK(now >= soon);
    rule("the extremes of time");
    int64_t extremes[] = { INT64_MIN, INT64_MIN + 1, INT64_MAX };
    for (int i = 0; i < 3; i++) {
        CHECK_OK(NtSetTimer(timer, &extremes[i], NULL, NULL, false, 0, NULL));
        CHECK(!is_signalled(timer));
    }
    CHECK_STATUS(NtSetTimer(timer, MS(1), NULL, NULL, false, -1, NULL),
                 STATUS_INVALID_PARAMETER);
    NtClose(timer);

    rule("TMR-03: a synchronization timer is taken by one wait");
    CHECK_OK(NtCreateTimer(&timer, ALL_ACCESS, NULL, SynchronizationTimer));
    CHECK_OK(NtSetTimer(timer, MS(1), NULL, NULL, false, 0, NULL));
    CHECK_OK(wait(timer));
    CHECK(!is_signalled(timer));
    rule("a periodic timer goes on until it is cancelled");
    CHECK_OK(NtSetTimer(timer, MS(5), NULL, NULL, false, 5, NULL));
    for (int i = 0; i < 5; i++)
        CHECK_OK(wait(timer));
    CHECK_OK(NtCancelTimer(timer, NULL));
    NtWaitForSingleObject(timer, false, POLL);
    CHECK_STATUS(NtWaitForSingleObject(timer, false, MS(40)), STATUS_TIMEOUT);
    rule("a timer's routine runs in an alertable wait of who set it");
    CHECK_OK(NtSetTimer(timer, MS(1), timer_routine, &timer_runs, false, 0,
                        NULL));
    CHECK_OK(wait(timer));
    CHECK_EQ(timer_runs, 0);
    CHECK_STATUS(NtDelayExecution(true, LONG), STATUS_USER_APC);
    CHECK_EQ(timer_runs, 1);
    rule("cancelling withdraws a routine that did not run yet");
    CHECK_OK(NtSetTimer(timer, MS(1), timer_routine, &timer_runs, false, 0,
                        NULL));
    CHECK_OK(wait(timer));
    CHECK_OK(NtCancelTimer(timer, NULL));
    CHECK_OK(NtDelayExecution(true, MS(10)));
    CHECK_EQ(timer_runs, 1);
    rule("closing an armed timer");
    CHECK_OK(NtSetTimer(timer, MS(5), timer_routine, &timer_runs, false, 5,
                        NULL));
    CHECK_OK(NtClose(timer));
    CHECK_OK(NtDelayExecution(true, MS(20)));
    CHECK_EQ(timer_runs, 1);
}

static NTSTATUS wait_for(void *object)
{
    return wait(object);
}

static void many(void)
{
    HANDLE events[MAXIMUM_WAIT_OBJECTS + 1];
    HANDLE copies[4];
    rule("WAIT-06: 64 objects are fine, 0 and 65 are not");
    for (int i = 0; i <= MAXIMUM_WAIT_OBJECTS; i++)
        events[i] = new_event(SynchronizationEvent, false);
    CHECK_STATUS(NtWaitForMultipleObjects(64, events, WaitAny, false, POLL),
                 STATUS_TIMEOUT);
    CHECK_STATUS(NtWaitForMultipleObjects(0, events, WaitAny, false, POLL),
                 STATUS_INVALID_PARAMETER);
    CHECK_STATUS(NtWaitForMultipleObjects(65, events, WaitAny, false, POLL),
                 STATUS_INVALID_PARAMETER);
    CHECK_STATUS(NtWaitForMultipleObjects(2, events, (WAIT_TYPE)2, false,
                                          POLL), STATUS_INVALID_PARAMETER);
    rule("WAIT-02: any: the lowest that is signalled, and only that");
    NtSetEvent(events[63], NULL);
    NtSetEvent(events[7], NULL);
    CHECK_STATUS(NtWaitForMultipleObjects(64, events, WaitAny, false, POLL),
                 STATUS_WAIT_0 + 7);
    CHECK_STATUS(NtWaitForMultipleObjects(64, events, WaitAny, false, POLL),
                 STATUS_WAIT_0 + 63);
    rule("WAIT-03: all: nothing is taken before all are there");
    NtSetEvent(events[0], NULL);
    NtSetEvent(events[1], NULL);
    CHECK_STATUS(NtWaitForMultipleObjects(3, events, WaitAll, false, MS(10)),
                 STATUS_TIMEOUT);
    CHECK(is_signalled(events[0]));
    NtSetEvent(events[0], NULL);
    NtSetEvent(events[2], NULL);
    CHECK_OK(NtWaitForMultipleObjects(3, events, WaitAll, false, POLL));
    CHECK(!is_signalled(events[0]) && !is_signalled(events[1]) &&
          !is_signalled(events[2]));
    rule("WAIT-05: a bad handle anywhere: the whole call fails");
    NtSetEvent(events[0], NULL);
    for (int i = 0; i < 3; i++) {
        memcpy(copies, events, sizeof(copies));
        copies[i] = (HANDLE)0x7FFF0;
        CHECK_STATUS(NtWaitForMultipleObjects(3, copies, WaitAny, false, POLL),
                     STATUS_INVALID_HANDLE);
    }
    CHECK(is_signalled(events[0]));
    rule("WAIT-07: one twice in a wait for all; pseudo handles");
    memcpy(copies, events, sizeof(copies));
    copies[1] = copies[0];
    CHECK_STATUS(NtWaitForMultipleObjects(2, copies, WaitAll, false, POLL),
                 STATUS_INVALID_PARAMETER);
    copies[1] = NtCurrentThread();
    CHECK_STATUS(NtWaitForMultipleObjects(2, copies, WaitAny, false, POLL),
                 STATUS_INVALID_HANDLE);
    CHECK_STATUS(NtWaitForSingleObject(NtCurrentThread(), false, POLL),
                 STATUS_TIMEOUT);
    CHECK_STATUS(NtWaitForSingleObject(NtCurrentProcess(), false, POLL),
                 STATUS_TIMEOUT);
    rule("WAIT-05: none, closed");
    CHECK_STATUS(NtWaitForSingleObject(NULL, false, POLL),
                 STATUS_INVALID_HANDLE);
    rule("SYN-02: a synchronization event releases the longest waiter");
    HANDLE threads[3];
    for (int i = 0; i < 3; i++) {
        threads[i] = new_thread(wait_for, events[5], 0);
        until_waiting(threads[i], UserRequest);
    }
    for (int i = 0; i < 3; i++) {
        NtSetEvent(events[5], NULL);
        CHECK_OK(join(threads[i]));
    }
    rule("SYN-02: a notification event releases all, pulsed or set");
    HANDLE gate = new_event(NotificationEvent, false);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 3; i++) {
            threads[i] = new_thread(wait_for, gate, 0);
            until_waiting(threads[i], UserRequest);
        }
        CHECK_OK(round ? NtSetEvent(gate, NULL) : NtPulseEvent(gate, NULL));
        for (int i = 0; i < 3; i++)
            CHECK_OK(join(threads[i]));
        CHECK_EQ(is_signalled(gate), round);
    }
    rule("an event may be closed while somebody waits for it");
    threads[0] = new_thread(wait_for, events[9], 0);
    until_waiting(threads[0], UserRequest);
    HANDLE same;
    CHECK_OK(NtDuplicateObject(NtCurrentProcess(), events[9],
                               NtCurrentProcess(), &same, 0, 0,
                               DUPLICATE_SAME_ACCESS |
                                   DUPLICATE_CLOSE_SOURCE));
    events[9] = same;
    NtSetEvent(same, NULL);
    CHECK_OK(join(threads[0]));
    NtClose(gate);
    for (int i = 0; i <= MAXIMUM_WAIT_OBJECTS; i++)
        CHECK_OK(NtClose(events[i]));
}

static void times(void)
{
    HANDLE event = new_event(NotificationEvent, false);
    int64_t before, after, hertz = 0;
    rule("WAIT-04: a time-out, and time itself");
    CHECK_OK(NtQueryPerformanceCounter(&before, &hertz));
    CHECK(hertz > 1000);
    CHECK_STATUS(NtWaitForSingleObject(event, false, MS(20)), STATUS_TIMEOUT);
    CHECK_OK(NtQueryPerformanceCounter(&after, NULL));
    CHECK(after - before >= hertz / 50);
    rule("an absolute time-out");
    int64_t soon;
    CHECK_OK(NtQuerySystemTime(&soon));
    soon += 100000;
    CHECK_STATUS(NtWaitForSingleObject(event, false, &soon), STATUS_TIMEOUT);
    CHECK_OK(NtQuerySystemTime(&after));
    CHECK(after >= soon);
    CHECK_STATUS(NtWaitForSingleObject(event, false, &soon), STATUS_TIMEOUT);
    rule("delays");
    CHECK_OK(NtDelayExecution(false, POLL));
    CHECK_OK(NtDelayExecution(false, MS(5)));
    CHECK_OK(NtYieldExecution());
    NtClose(event);
}

int main(void)
{
    events();
    semaphores();
    mutants();
    timers();
    many();
    times();
    return ktap_end();
}
