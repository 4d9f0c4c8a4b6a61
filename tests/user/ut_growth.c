// ut_growth.c - what one thing costs beside many others.
// cpus: 1
//
// The same is done beside few and beside many, and the ticks of both are
// compared: the least of several tries each. What grows with the product of
// two numbers misses these bounds by far.

#include "tests/user/ktap.h"

#define MOST  500
#define READS 5000

static HANDLE threads[MOST];
static uint8_t byte;
static IO_STATUS_BLOCK iosb;

static int64_t now(void)
{
    int64_t ticks = 0;
    CHECK_OK(NtQueryPerformanceCounter(&ticks, NULL));
    return ticks;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void start(uint32_t first, uint32_t count, NTSTATUS (*routine)(void *),
                  void *argument)
{
    for (uint32_t i = first; i < first + count; i++)
        CHECK_OK(NtCreateThreadEx(&threads[i], ALL_ACCESS, NULL,
                                  NtCurrentProcess(), (void *)routine,
                                  argument, 0, 4096));
}

static void end(uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        CHECK_OK(NtTerminateThread(threads[i], 0));
        CHECK_OK(join(threads[i]));
    }
}

static void ask(HANDLE file, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        CHECK_STATUS(NtReadFile(file, NULL, NULL, NULL, &iosb, &byte, 1, 0),
                     STATUS_PENDING);
}

// To cancel READS of one file, behind as many of another one.
static int64_t to_cancel(uint32_t others)
{
    int64_t least = INT64_MAX;
    for (int try = 0; try < 3; try++) {
        IO_STATUS_BLOCK done;
        HANDLE files[] = { open_console(0), open_console(0) };
        ask(files[0], others);
        ask(files[1], READS);
        int64_t begin = now();
        CHECK_OK(NtCancelIoFile(files[1], &done));
        least = smaller(least, now() - begin);
        NtClose(files[0]);
        NtClose(files[1]);
    }
    return least;
}

static NTSTATUS sleep_long(void *argument)
{
    (void)argument;
    return NtDelayExecution(false, LONG);
}

// To cancel a file's one request beside threads that sleep.
static int64_t beside_threads(uint32_t count)
{
    int64_t least = INT64_MAX;
    HANDLE console = open_console(0);
    start(0, count, sleep_long, NULL);
    for (int try = 0; try < 5; try++) {
        IO_STATUS_BLOCK done;
        ask(console, 1);
        int64_t begin = now();
        CHECK_OK(NtCancelIoFileEx(console, NULL, &done));
        least = smaller(least, now() - begin);
    }
    end(0, count);
    NtClose(console);
    return least;
}

// ---- Who waits for an event -------------------------------------------------

static HANDLE all[MAXIMUM_WAIT_OBJECTS];    // the last is never signalled
static volatile uint32_t came;

static NTSTATUS wait_for_all(void *argument)
{
    (void)argument;
    return NtWaitForMultipleObjects(MAXIMUM_WAIT_OBJECTS, all, WaitAll, false,
                                    NULL);
}

static NTSTATUS wait_for_one(void *event)
{
    NTSTATUS status = NtWaitForSingleObject(event, false, NULL);
    __atomic_add_fetch(&came, 1, __ATOMIC_RELAXED);
    return status;
}

// To signal an event that WAITERS wait for, behind others who wait for more.
static int64_t to_signal(uint32_t others)
{
    enum { WAITERS = 200 };
    int64_t least = INT64_MAX;
    start(0, others, wait_for_all, NULL);
    for (uint32_t i = 0; i < others; i++)
        until_waiting(threads[i], UserRequest);
    for (int try = 0; try < 3; try++) {
        came = 0;
        start(others, WAITERS, wait_for_one, all[0]);
        for (uint32_t i = 0; i < WAITERS; i++)
            until_waiting(threads[others + i], UserRequest);
        int64_t begin = now();
        CHECK_OK(NtSetEvent(all[0], NULL));
        least = smaller(least, now() - begin);
        for (uint32_t i = 0; i < WAITERS; i++)
            CHECK_OK(join(threads[others + i]));
        CHECK_EQ(came, WAITERS);
        CHECK_OK(NtResetEvent(all[0], NULL));
    }
    end(0, others);
    return least;
}

static void signalling(void)
{
    rule("to release many does not mean to look at all others for each");
    for (uint32_t i = 0; i < MAXIMUM_WAIT_OBJECTS; i++)
        all[i] = new_event(NotificationEvent,
                           i && i < MAXIMUM_WAIT_OBJECTS - 1);
    // Those who are released run when we wait for their ends.
    CHECK_OK(NtSetInformationThread(NtCurrentThread(), ThreadBasePriority,
                                    &(int32_t){ 2 }, sizeof(int32_t)));
    int64_t alone = to_signal(0), behind = to_signal(200);
    CHECK(behind < 12 * alone);
    for (uint32_t i = 0; i < MAXIMUM_WAIT_OBJECTS; i++)
        NtClose(all[i]);
}

int main(void)
{
    rule("to cancel many does not mean to look at all others for each");
    int64_t alone = to_cancel(0), behind = to_cancel(READS);
    CHECK(behind < 10 * alone);
    rule("nor does it mean to look at all threads for each thread");
    int64_t few = beside_threads(100), many = beside_threads(MOST);
    CHECK(many < 12 * few);
    signalling();
    return ktap_end();
}
