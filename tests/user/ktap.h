// ktap.h - how a ring-3 test program checks, and what it says.
//
// rule() names what is tested next, beginning with the rule's ID where there
// is one; each failed check is a line `not ok - ...` that repeats the name.
// main ends with `return ktap_end();`.

#ifndef TINT_TESTS_USER_KTAP_H
#define TINT_TESTS_USER_KTAP_H

#include <ntdll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KTAP_SKIPPED 77
#define KTAP_UNUSED  __attribute__((unused))

#define KERNEL_BEGINS 0xFFFF800000000000ull
#define UNMAPPED      ((void *)0x0000700000000000ull)
#define KERNEL_TEXT   ((void *)0xFFFFFFFF80200000ull)
#define KERNEL_DIRECT ((void *)0xFFFF800000100000ull)

// A time-out of so many milliseconds.
#define MS(n) (&(int64_t){ (n) * -10000LL })
#define POLL  MS(0)
// What only a broken kernel lets pass.
#define LONG  MS(100000)

static const char *ktap_rule = "";
static volatile uint32_t ktap_checks, ktap_failures;

KTAP_UNUSED static void rule(const char *name)
{
    ktap_rule = name;
}

KTAP_UNUSED static bool ktap_check(bool good, const char *file, int line,
                                   const char *what)
{
    __atomic_add_fetch(&ktap_checks, 1, __ATOMIC_RELAXED);
    if (good)
        return true;
    __atomic_add_fetch(&ktap_failures, 1, __ATOMIC_RELAXED);
    printf("not ok - %s: %s (%s:%d)\n", ktap_rule, what, file, line);
    fflush(stdout);
    return false;
}

KTAP_UNUSED static bool ktap_equal(uint64_t actual, uint64_t expected,
                                   const char *file, int line,
                                   const char *what)
{
    __atomic_add_fetch(&ktap_checks, 1, __ATOMIC_RELAXED);
    if (actual == expected)
        return true;
    __atomic_add_fetch(&ktap_failures, 1, __ATOMIC_RELAXED);
    printf("not ok - %s: %s is 0x%llx, not 0x%llx (%s:%d)\n", ktap_rule, what,
           (unsigned long long)actual, (unsigned long long)expected, file,
           line);
    fflush(stdout);
    return false;
}

KTAP_UNUSED static bool ktap_status(NTSTATUS actual, NTSTATUS expected,
                                    const char *file, int line,
                                    const char *what)
{
    char is[RTL_STATUS_SIZE], should[RTL_STATUS_SIZE];
    __atomic_add_fetch(&ktap_checks, 1, __ATOMIC_RELAXED);
    if (actual == expected)
        return true;
    __atomic_add_fetch(&ktap_failures, 1, __ATOMIC_RELAXED);
    printf("not ok - %s: %s\n    is %s, not %s (%s:%d)\n", ktap_rule, what,
           rtl_status_text(actual, is), rtl_status_text(expected, should),
           file, line);
    fflush(stdout);
    return false;
}

#define CHECK(condition) ktap_check(condition, __FILE__, __LINE__, #condition)
#define CHECK_EQ(actual, expected)                                          \
    ktap_equal((uint64_t)(actual), (uint64_t)(expected), __FILE__, __LINE__, \
               #actual)
#define CHECK_STATUS(actual, expected) \
    ktap_status(actual, expected, __FILE__, __LINE__, #actual)
#define CHECK_OK(actual) CHECK_STATUS(actual, STATUS_SUCCESS)

KTAP_UNUSED static int ktap_end(void)
{
    printf("%u checks, %u failed\n", ktap_checks, ktap_failures);
    return ktap_failures || !ktap_checks;
}

// ---- What most programs need ------------------------------------------------

KTAP_UNUSED static HANDLE new_event(EVENT_TYPE type, bool state)
{
    HANDLE event = NULL;
    CHECK_OK(NtCreateEvent(&event, ALL_ACCESS, NULL, type, state));
    return event;
}

KTAP_UNUSED static HANDLE new_thread(NTSTATUS (*routine)(void *),
                                     void *argument, uint32_t flags)
{
    HANDLE thread = NULL;
    CHECK_OK(NtCreateThreadEx(&thread, ALL_ACCESS, NULL, NtCurrentProcess(),
                              (void *)routine, argument, flags, 0));
    return thread;
}

KTAP_UNUSED static NTSTATUS wait(HANDLE object)
{
    return NtWaitForSingleObject(object, false, LONG);
}

// Waits for a thread's end, and closes its handle.
KTAP_UNUSED static NTSTATUS join(HANDLE thread)
{
    THREAD_BASIC_INFORMATION basic = { .ExitStatus = STATUS_UNSUCCESSFUL };
    CHECK_OK(wait(thread));
    CHECK_OK(NtQueryInformationThread(thread, ThreadBasicInformation, &basic,
                                      sizeof(basic), NULL));
    CHECK_OK(NtClose(thread));
    return basic.ExitStatus;
}

KTAP_UNUSED static NTSTATUS process_status(HANDLE process)
{
    PROCESS_BASIC_INFORMATION basic = { .ExitStatus = STATUS_UNSUCCESSFUL };
    CHECK_OK(NtQueryInformationProcess(process, ProcessBasicInformation,
                                       &basic, sizeof(basic), NULL));
    return basic.ExitStatus;
}

// Runs a program to its end; its exit status, or why it did not start.
KTAP_UNUSED static NTSTATUS run(int count, char *const *words)
{
    HANDLE process;
    NTSTATUS status = nt_start_program(count, words, 0, &process, NULL);
    if (!NT_SUCCESS(status))
        return status;
    CHECK_OK(wait(process));
    status = process_status(process);
    NtClose(process);
    return status;
}

// Where child has a page of its own.
#define CHILD_PAGE      ((void *)(1ull << 40))
#define CHILD_PAGE_SIZE 4096u

// Starts `child WHAT` with these as its input and output; NULL: our own.
KTAP_UNUSED static HANDLE start_child(char *what, HANDLE input, HANDLE output)
{
    RTL_USER_PROCESS_PARAMETERS *own = &NtCurrentPeb()->ProcessParameters;
    RTL_USER_PROCESS_PARAMETERS before = *own;
    HANDLE process = NULL;
    own->StandardInput = input ? input : before.StandardInput;
    own->StandardOutput = output ? output : before.StandardOutput;
    CHECK_OK(nt_start_program(2, (char *[]){ "child", what }, 0, &process,
                              NULL));
    *own = before;
    return process;
}

KTAP_UNUSED static HANDLE open_disk(uint32_t options)
{
    HANDLE disk = NULL;
    DISK_GEOMETRY geometry;
    CHECK_OK(nt_open_disk(0, FILE_READ_DATA | FILE_WRITE_DATA, options, &disk,
                          &geometry));
    return disk;
}

KTAP_UNUSED static HANDLE open_console(uint32_t options)
{
    HANDLE file = NULL;
    CHECK_OK(nt_open_file("CON", FILE_READ_DATA | SYNCHRONIZE, FILE_OPEN,
                          options, &file));
    return file;
}

KTAP_UNUSED static HANDLE new_port(uint32_t concurrency)
{
    HANDLE port = NULL;
    CHECK_OK(NtCreateIoCompletion(&port, ALL_ACCESS, NULL, concurrency));
    return port;
}

KTAP_UNUSED static NTSTATUS bind(HANDLE file, HANDLE port, void *key)
{
    IO_STATUS_BLOCK iosb;
    FILE_COMPLETION_INFORMATION completion = { .Port = port, .Key = key };
    return NtSetInformationFile(file, &iosb, &completion, sizeof(completion),
                                FileCompletionInformation);
}

// The state of a thread as a snapshot shows it; Terminated if it is gone.
KTAP_UNUSED static KTHREAD_STATE thread_state(HANDLE thread,
                                              KWAIT_REASON *reason)
{
    static uint8_t buffer[65536];
    THREAD_BASIC_INFORMATION basic = { .ExitStatus = 0 };
    const SYSTEM_SNAPSHOT *snapshot = (void *)buffer;
    NtQueryInformationThread(thread, ThreadBasicInformation, &basic,
                             sizeof(basic), NULL);
    if (!CHECK_OK(NtQuerySystemInformation(SystemSnapshotInformation, buffer,
                                           sizeof(buffer), NULL)))
        return Terminated;
    const SNAPSHOT_PROCESSOR *processors = (const void *)(snapshot + 1);
    const SNAPSHOT_THREAD *threads =
        (const void *)(processors + snapshot->Processors);
    for (uint32_t i = 0; i < snapshot->Threads; i++) {
        if (threads[i].ThreadId != basic.ClientId.UniqueThread)
            continue;
        *reason = threads[i].WaitReason;
        return threads[i].State;
    }
    return Terminated;
}

// Lets others run until thread waits for this reason: then it is in its wait,
// however long it took to get there.
KTAP_UNUSED static void until_waiting(HANDLE thread, KWAIT_REASON reason)
{
    for (int i = 0; i < 10000; i++) {
        KWAIT_REASON is = MaximumWaitReason;
        KTHREAD_STATE state = thread_state(thread, &is);
        if ((state == Waiting && is == reason) || state == Terminated)
            return;
        NtDelayExecution(false, MS(1));
    }
    CHECK(!"the thread never came to wait");
}

#endif
