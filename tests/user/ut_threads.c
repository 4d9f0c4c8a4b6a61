// ut_threads.c - threads: birth, end, exit status, suspension, priority.

#include "tests/user/ktap.h"
#include "tests/user/random.h"

static volatile uint32_t started;

static NTSTATUS give_back(void *argument)
{
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    return (NTSTATUS)(uintptr_t)argument;
}

static NTSTATUS end_itself(void *argument)
{
    NtTerminateThread(NtCurrentThread(), (NTSTATUS)(uintptr_t)argument);
    CHECK(!"a thread went on after its end");
    return 0;
}

static NTSTATUS sleep_long(void *argument)
{
    (void)argument;
    started++;
    return NtDelayExecution(false, LONG);
}

static NTSTATUS spin(void *argument)
{
    while (!*(volatile bool *)argument)
        started++;
    return 0;
}

static NTSTATUS exit_status(HANDLE thread)
{
    THREAD_BASIC_INFORMATION basic = { .ExitStatus = 1 };
    CHECK_OK(NtQueryInformationThread(thread, ThreadBasicInformation, &basic,
                                      sizeof(basic), NULL));
    return basic.ExitStatus;
}

static void ends(void)
{
    rule("THR-01: what the routine returns is the exit status");
    CHECK_STATUS(join(new_thread(give_back, (void *)0x1234, 0)), 0x1234);
    CHECK_STATUS(join(new_thread(give_back, (void *)0xC0000005, 0)),
                 STATUS_ACCESS_VIOLATION);
    rule("THR-01: or what it ends itself with");
    CHECK_STATUS(join(new_thread(end_itself, (void *)0x77, 0)), 0x77);
    rule("THR-01: while it runs it is pending, then signalled for ever");
    HANDLE thread = new_thread(sleep_long, NULL, 0);
    CHECK_STATUS(exit_status(thread), STATUS_PENDING);
    CHECK_STATUS(NtWaitForSingleObject(thread, false, POLL), STATUS_TIMEOUT);
    CHECK_OK(NtTerminateThread(thread, 55));
    CHECK_OK(wait(thread));
    CHECK_OK(wait(thread));
    CHECK_STATUS(exit_status(thread), 55);
    rule("ending what has ended changes nothing");
    NtTerminateThread(thread, 56);
    CHECK_STATUS(exit_status(thread), 55);
    CHECK_STATUS(NtSuspendThread(thread, NULL), STATUS_THREAD_IS_TERMINATING);
    CHECK_OK(NtAlertThread(thread));
    NtClose(thread);
    rule("THR-03: closing a thread's handle does not end it");
    HANDLE event = new_event(NotificationEvent, false);
    thread = new_thread((NTSTATUS(*)(void *))(void *)wait, event, 0);
    HANDLE same;
    CHECK_OK(NtDuplicateObject(NtCurrentProcess(), thread, NtCurrentProcess(),
                               &same, 0, 0, DUPLICATE_SAME_ACCESS |
                                                DUPLICATE_CLOSE_SOURCE));
    NtSetEvent(event, NULL);
    CHECK_OK(join(same));
    NtClose(event);
    rule("a thread that never blocks is ended as well");
    static bool stop = false;
    thread = new_thread(spin, &stop, 0);
    NtDelayExecution(false, MS(5));
    CHECK_OK(NtTerminateThread(thread, 8));
    CHECK_STATUS(join(thread), 8);
    rule("many threads, many times");
    started = 0;
    for (int round = 0; round < 10; round++) {
        HANDLE threads[32];
        for (int i = 0; i < 32; i++)
            threads[i] = new_thread(give_back, (void *)(uintptr_t)i, 0);
        CHECK_OK(NtWaitForMultipleObjects(32, threads, WaitAll, false, LONG));
        for (int i = 0; i < 32; i++)
            CHECK_STATUS(join(threads[i]), i);
    }
    CHECK_EQ(started, 320);
}

// A suspends B while B is ended, and is suspended itself in that moment: that
// keeps B no longer. As often as it takes to meet the moment.
struct meeting {
    HANDLE volatile victim;
    volatile uint32_t round;    // 0: the end
};

static NTSTATUS yield_forever(void *argument)
{
    (void)argument;
    while (NtYieldExecution() != STATUS_TIMEOUT)    // which it never is
        continue;
    return STATUS_SUCCESS;
}

static NTSTATUS suspend_victims(void *argument)
{
    struct meeting *meeting = argument;
    for (uint32_t seen = 1; meeting->round;) {
        if (meeting->round == seen) {
            NtYieldExecution();
            continue;
        }
        seen = meeting->round;
        for (int i = 0; i < 20; i++)
            if (NT_SUCCESS(NtSuspendThread(meeting->victim, NULL)))
                NtResumeThread(meeting->victim, NULL);
    }
    return STATUS_SUCCESS;
}

static void pause_for(uint64_t turns)
{
    for (volatile uint64_t i = 0; i < turns; i++)
        continue;
}

static void suspended_suspender(void)
{
    rule("APC-10: who suspends it, and is suspended, keeps no thread alive");
    struct meeting meeting = { .round = 1 };
    uint64_t state = 1;
    bool ended = true;
    HANDLE suspender = new_thread(suspend_victims, &meeting, 0);
    for (uint32_t round = 2; round < 400 && ended; round++) {
        HANDLE victim = new_thread(yield_forever, NULL, 0);
        meeting.victim = victim;
        meeting.round = round;
        pause_for(random_from(&state) % 600);
        NtTerminateThread(victim, 1);
        pause_for(random_from(&state) % 400);
        NtSuspendThread(suspender, NULL);
        ended = CHECK_OK(NtWaitForSingleObject(victim, false, MS(10000)));
        NtResumeThread(suspender, NULL);
        NtClose(victim);
    }
    meeting.round = 0;
    CHECK_OK(join(suspender));
}

static void suspension(void)
{
    uint32_t before = 99;
    rule("THR-02: created suspended, it runs nothing");
    started = 0;
    HANDLE thread = new_thread(give_back, (void *)3,
                               THREAD_CREATE_FLAGS_CREATE_SUSPENDED);
    NtDelayExecution(false, MS(20));
    CHECK_EQ(started, 0);
    rule("THR-02: the previous count is returned");
    CHECK_OK(NtSuspendThread(thread, &before));
    CHECK_EQ(before, 1);
    CHECK_OK(NtResumeThread(thread, &before));
    CHECK_EQ(before, 2);
    CHECK_EQ(started, 0);
    CHECK_OK(NtResumeThread(thread, &before));
    CHECK_EQ(before, 1);
    CHECK_STATUS(join(thread), 3);
    rule("a running thread stops, and goes on");
    static bool stop = false;
    stop = false;
    thread = new_thread(spin, &stop, 0);
    NtDelayExecution(false, MS(5));
    CHECK_OK(NtSuspendThread(thread, &before));
    CHECK_EQ(before, 0);
    until_waiting(thread, Suspended);
    uint32_t seen = started;
    NtDelayExecution(false, MS(20));
    CHECK_EQ(started, seen);
    CHECK_OK(NtResumeThread(thread, &before));
    CHECK_OK(NtResumeThread(thread, &before));
    CHECK_EQ(before, 0);
    NtDelayExecution(false, MS(20));
    CHECK(started != seen);
    stop = true;
    CHECK_OK(join(thread));
    rule("the count has an end");
    thread = new_thread(sleep_long, NULL, 0);
    for (uint32_t i = 0; i < 127; i++)
        CHECK_OK(NtSuspendThread(thread, NULL));
    CHECK_STATUS(NtSuspendThread(thread, NULL), STATUS_SUSPEND_COUNT_EXCEEDED);
    rule("a suspended thread can be ended");
    CHECK_OK(NtTerminateThread(thread, 12));
    CHECK_STATUS(join(thread), 12);
    rule("one that never ran as well");
    thread = new_thread(give_back, NULL, THREAD_CREATE_FLAGS_CREATE_SUSPENDED);
    CHECK_OK(NtTerminateThread(thread, 13));
    CHECK_STATUS(join(thread), 13);
}

static uint8_t sector[512];
static volatile bool enough;

static NTSTATUS write_on(void *file)
{
    IO_STATUS_BLOCK iosb;
    while (!enough)
        NtWriteFile(file, NULL, NULL, NULL, &iosb, sector, sizeof(sector), 0);
    return STATUS_SUCCESS;
}

static NTSTATUS write_once(void *file)
{
    IO_STATUS_BLOCK iosb;
    return NtWriteFile(file, NULL, NULL, NULL, &iosb, sector, sizeof(sector),
                       0);
}

static NTSTATUS read_once(void *file)
{
    IO_STATUS_BLOCK iosb;
    return NtReadFile(file, NULL, NULL, NULL, &iosb, sector, sizeof(sector),
                      0);
}

static void suspended_in_its_turn(void)
{
    rule("who has its turn on a synchronous handle is suspended behind it");
    HANDLE file = open_disk(FILE_SYNCHRONOUS_IO_NONALERT);
    HANDLE writer = new_thread(write_on, file, 0);
    for (uint32_t round = 0; round < 100 && !ktap_failures; round++) {
        int64_t moment = -(int64_t)(5000 + 777 * (round % 13));
        NtDelayExecution(false, &moment);
        CHECK_OK(NtSuspendThread(writer, NULL));
        CHECK_OK(join(new_thread(write_once, file, 0)));
        CHECK_OK(NtResumeThread(writer, NULL));
    }
    enough = true;
    CHECK_OK(join(writer));
    rule("and one that waits is open to its end");
    HANDLE console = open_console(FILE_SYNCHRONOUS_IO_NONALERT);
    writer = new_thread(read_once, console, 0);
    CHECK_STATUS(NtWaitForSingleObject(writer, false, MS(20)), STATUS_TIMEOUT);
    CHECK_OK(NtSuspendThread(writer, NULL));
    CHECK_OK(NtTerminateThread(writer, 14));
    CHECK_STATUS(join(writer), 14);
    NtClose(console);
    NtClose(file);
}

static void information(void)
{
    THREAD_BASIC_INFORMATION basic, other;
    rule("a thread's ids, and opening by them");
    CHECK_OK(NtQueryInformationThread(NtCurrentThread(),
                                      ThreadBasicInformation, &basic,
                                      sizeof(basic), NULL));
    CHECK_EQ(basic.ClientId.UniqueProcess,
             NtCurrentPeb()->ClientId.UniqueProcess);
    CHECK_EQ(basic.ClientId.UniqueThread,
             NtCurrentPeb()->ClientId.UniqueThread);
    HANDLE self = NULL;
    CHECK_OK(NtOpenThread(&self, ALL_ACCESS, NULL, &basic.ClientId));
    CHECK_OK(NtQueryInformationThread(self, ThreadBasicInformation, &other,
                                      sizeof(other), NULL));
    CHECK_EQ(other.ClientId.UniqueThread, basic.ClientId.UniqueThread);
    NtClose(self);
    CLIENT_ID wrong = { .UniqueThread = basic.ClientId.UniqueThread,
                        .UniqueProcess = 0xFFFFFFF0 };
    CHECK_STATUS(NtOpenThread(&self, ALL_ACCESS, NULL, &wrong),
                 STATUS_INVALID_CID);
    wrong = (CLIENT_ID){ .UniqueThread = 0x123456789ull };
    CHECK_STATUS(NtOpenThread(&self, ALL_ACCESS, NULL, &wrong),
                 STATUS_INVALID_CID);
    wrong = (CLIENT_ID){ 0, 0 };
    CHECK_STATUS(NtOpenThread(&self, ALL_ACCESS, NULL, &wrong),
                 STATUS_INVALID_CID);
    rule("priorities around the process's");
    for (int32_t i = -2; i <= 2; i++) {
        CHECK_OK(NtSetInformationThread(NtCurrentThread(), ThreadBasePriority,
                                        &i, sizeof(i)));
        CHECK_OK(NtQueryInformationThread(NtCurrentThread(),
                                          ThreadBasicInformation, &other,
                                          sizeof(other), NULL));
        CHECK_EQ(other.BasePriority, 8 + i);
    }
    int32_t normal = 0;
    NtSetInformationThread(NtCurrentThread(), ThreadBasePriority, &normal,
                           sizeof(normal));
    static const int32_t wild[] = { 3, -3, INT32_MAX, INT32_MIN };
    for (int i = 0; i < 4; i++)
        CHECK_STATUS(NtSetInformationThread(NtCurrentThread(),
                                            ThreadBasePriority, &wild[i], 4),
                     STATUS_INVALID_PARAMETER);
    rule("the higher priority runs first");
    static bool stop;
    stop = false;
    HANDLE low = new_thread(spin, &stop,
                            THREAD_CREATE_FLAGS_CREATE_SUSPENDED);
    HANDLE high = new_thread(give_back, NULL,
                             THREAD_CREATE_FLAGS_CREATE_SUSPENDED);
    int32_t up = 2;
    CHECK_OK(NtSetInformationThread(high, ThreadBasePriority, &up, 4));
    NtResumeThread(low, NULL);
    NtResumeThread(high, NULL);
    CHECK_OK(join(high));
    stop = true;
    CHECK_OK(join(low));
    rule("affinity: only processors that there are");
    SYSTEM_BASIC_INFORMATION system;
    CHECK_OK(NtQuerySystemInformation(SystemBasicInformation, &system,
                                      sizeof(system), NULL));
    uint64_t mask = 1;
    CHECK_OK(NtSetInformationThread(NtCurrentThread(), ThreadAffinityMask,
                                    &mask, sizeof(mask)));
    mask = (1ull << system.NumberOfProcessors) - 1;
    CHECK_OK(NtSetInformationThread(NtCurrentThread(), ThreadAffinityMask,
                                    &mask, sizeof(mask)));
    mask = 0;
    CHECK_STATUS(NtSetInformationThread(NtCurrentThread(), ThreadAffinityMask,
                                        &mask, sizeof(mask)),
                 STATUS_INVALID_PARAMETER);
    mask = 1ull << 63;
    CHECK_STATUS(NtSetInformationThread(NtCurrentThread(), ThreadAffinityMask,
                                        &mask, sizeof(mask)),
                 STATUS_INVALID_PARAMETER);
    rule("classes and lengths that are wrong");
    CHECK_STATUS(NtQueryInformationThread(NtCurrentThread(),
                                          (THREADINFOCLASS)77, &basic,
                                          sizeof(basic), NULL),
                 STATUS_INVALID_INFO_CLASS);
    uint32_t returned = 0;
    CHECK_STATUS(NtQueryInformationThread(NtCurrentThread(),
                                          ThreadBasicInformation, &basic, 3,
                                          &returned),
                 STATUS_INFO_LENGTH_MISMATCH);
    CHECK_EQ(returned, sizeof(basic));
    CHECK_STATUS(NtSetInformationThread(NtCurrentThread(), ThreadBasePriority,
                                        &normal, 8),
                 STATUS_INFO_LENGTH_MISMATCH);
}

static void creation(void)
{
    HANDLE thread = NULL;
    rule("what makes no thread");
    CHECK_STATUS(NtCreateThreadEx(&thread, ALL_ACCESS, NULL,
                                  NtCurrentProcess(), KERNEL_TEXT, NULL, 0, 0),
                 STATUS_INVALID_PARAMETER);
    CHECK_STATUS(NtCreateThreadEx(&thread, ALL_ACCESS, NULL,
                                  NtCurrentProcess(), (void *)give_back, NULL,
                                  0x80, 0), STATUS_INVALID_PARAMETER);
    CHECK(!NT_SUCCESS(NtCreateThreadEx(&thread, ALL_ACCESS, NULL,
                                       NtCurrentProcess(), (void *)give_back,
                                       NULL, 0, SIZE_MAX)));
    CHECK(!NT_SUCCESS(NtCreateThreadEx(&thread, ALL_ACCESS, NULL,
                                       NtCurrentProcess(), (void *)give_back,
                                       NULL, 0, 1ull << 40)));
    CHECK_STATUS(NtCreateThreadEx(&thread, ALL_ACCESS, NULL, NtCurrentThread(),
                                  (void *)give_back, NULL, 0, 0),
                 STATUS_OBJECT_TYPE_MISMATCH);
    rule("a handle that cannot be stored: the thread never ran");
    started = 0;
    CHECK_STATUS(NtCreateThreadEx(KERNEL_DIRECT, ALL_ACCESS, NULL,
                                  NtCurrentProcess(), (void *)give_back, NULL,
                                  0, 0), STATUS_ACCESS_VIOLATION);
    NtDelayExecution(false, MS(10));
    CHECK_EQ(started, 0);
    rule("a large stack, and a small one");
    CHECK_OK(NtCreateThreadEx(&thread, ALL_ACCESS, NULL, NtCurrentProcess(),
                              (void *)give_back, (void *)1, 0, 1 << 20));
    CHECK_STATUS(join(thread), 1);
    CHECK_OK(NtCreateThreadEx(&thread, ALL_ACCESS, NULL, NtCurrentProcess(),
                              (void *)end_itself, (void *)2, 0, 4096));
    CHECK_STATUS(join(thread), 2);
    rule("a thread handle's rights");
    HANDLE event = new_event(NotificationEvent, false);
    thread = new_thread((NTSTATUS(*)(void *))(void *)wait, event, 0);
    HANDLE weak = NULL;
    CHECK_OK(NtDuplicateObject(NtCurrentProcess(), thread, NtCurrentProcess(),
                               &weak, SYNCHRONIZE, 0, 0));
    CHECK_STATUS(NtTerminateThread(weak, 1), STATUS_ACCESS_DENIED);
    CHECK_STATUS(NtSuspendThread(weak, NULL), STATUS_ACCESS_DENIED);
    CHECK_STATUS(NtAlertThread(weak), STATUS_ACCESS_DENIED);
    CHECK_STATUS(NtQueueApcThread(weak, NULL, NULL, NULL, NULL),
                 STATUS_ACCESS_DENIED);
    NtClose(weak);
    NtSetEvent(event, NULL);
    CHECK_OK(join(thread));
    NtClose(event);
}

static NTSTATUS local_storage(void *argument)
{
    uint64_t value, block[2] = { (uintptr_t)argument, 0 };
    CHECK_OK(nt_set_thread_base(block));
    for (int i = 0; i < 20; i++) {
        __asm__ volatile("mov %%fs:0, %0" : "=r"(value));
        CHECK_EQ(value, argument);
        NtYieldExecution();
    }
    return 0;
}

static void storage(void)
{
    rule("each thread has an FS base of its own");
    HANDLE threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = new_thread(local_storage, (void *)(uintptr_t)(i + 1), 0);
    for (int i = 0; i < 4; i++)
        CHECK_OK(join(threads[i]));
    CHECK_STATUS(nt_set_thread_base(KERNEL_TEXT), STATUS_INVALID_PARAMETER);
    CHECK_STATUS(nt_set_thread_base((void *)0x0000800000000000ull),
                 STATUS_INVALID_PARAMETER);
    CHECK_OK(nt_set_thread_base(NULL));
}

int main(void)
{
    ends();
    suspension();
    suspended_suspender();
    suspended_in_its_turn();
    information();
    creation();
    storage();
    return ktap_end();
}
