// ut_process.c - processes: arguments, handles, exit status, every death.

#include "tests/user/ktap.h"

static HANDLE start(int count, char *const *words, uint32_t flags,
                    HANDLE *thread)
{
    HANDLE process = NULL;
    CHECK_OK(nt_start_program(count, words, flags, &process, thread));
    return process;
}

static uint32_t hash(int count, char *const *words)
{
    uint32_t value = 2166136261u;
    for (int i = 0; i < count; i++)
        for (const char *c = words[i];; c++) {
            value = (value ^ (uint8_t)*c) * 16777619u;
            if (!*c)
                break;
        }
    return value >> 1;
}

static void arguments(void)
{
    static char *sets[][9] = {
        { "child", "hash", "one", "two", "three" },
        { "child", "hash", "with blank", "", "\"quoted\"", "'single'" },
        { "child", "hash", "back\\slash", "B:\\files\\x y", "\\\\", "\\\"" },
        { "child", "hash", "tab\there", "*?<>|&;", "--", "-x", "\\" },
        { "child", "hash" },
    };
    rule("a child gets exactly its parent's words");
    for (int i = 0; i < 5; i++) {
        int count = 0;
        while (count < 9 && sets[i][count])
            count++;
        CHECK_STATUS(run(count, sets[i]),
                     (NTSTATUS)hash(count - 2, sets[i] + 2));
    }
    static char lengthy[3000];
    char *words[] = { "child", "hash", lengthy };
    memset(lengthy, 'x', sizeof(lengthy) - 1);
    CHECK_STATUS(run(3, words), (NTSTATUS)hash(1, words + 2));
    static char *many[1002] = { "child", "hash" };
    for (int i = 2; i < 1002; i++)
        many[i] = &"0123456789"[9 - i % 5];
    CHECK_STATUS(run(1002, many), (NTSTATUS)hash(1000, many + 2));
    rule("a line that is too long");
    static char huge[65000];
    memset(huge, 'y', sizeof(huge) - 1);
    RTL_USER_PROCESS_PARAMETERS parameters = NtCurrentPeb()->ProcessParameters;
    HANDLE process = NULL;
    RtlInitString(&parameters.ImagePathName, "\\??\\B:\\bin\\child");
    RtlInitString(&parameters.CommandLine, huge);
    CHECK_STATUS(NtCreateUserProcess(&process, NULL, ALL_ACCESS, ALL_ACCESS, 0,
                                     &parameters), STATUS_INVALID_PARAMETER);
}

static volatile bool enough;

static NTSTATUS allocate_in(void *process)
{
    NTSTATUS status = STATUS_SUCCESS;
    while (!enough && NT_SUCCESS(status)) {
        void *base = NULL;
        size_t size = 24u << 20;
        status = NtAllocateVirtualMemory(process, &base, &size, MEM_COMMIT,
                                         PAGE_READWRITE);
        size = 0;
        NtFreeVirtualMemory(process, &base, &size, MEM_RELEASE);
    }
    return STATUS_SUCCESS;
}

static void status(void)
{
    char *zero[] = { "true" }, *one[] = { "false" };
    char *some[] = { "child", "exit", "0xC0001234" };
    rule("the exit status is what main returned");
    CHECK_STATUS(run(1, zero), 0);
    CHECK_STATUS(run(1, one), 1);
    CHECK_STATUS(run(3, some), (NTSTATUS)0xC0001234);
    rule("THR-03: main's end ends the process, other threads or not");
    char *threads[] = { "child", "threads" };
    CHECK_STATUS(run(2, threads), 5);
    char *stream[] = { "child", "stream" };
    CHECK_STATUS(run(2, stream), 5);
    rule("CAN-11: its I/O in flight comes first");
    char *reads[] = { "child", "reads" };
    for (int i = 0; i < 5; i++)
        CHECK_OK(run(2, reads));
}

static void death(void)
{
    HANDLE thread = NULL;
    char *wait_words[] = { "child", "wait" };
    HANDLE event = new_event(SynchronizationEvent, false);
    rule("a child is killed by its parent");
    HANDLE child = start_child("signal", event, NULL);
    CHECK_OK(wait(event));
    CHECK_STATUS(process_status(child), STATUS_PENDING);
    CHECK_STATUS(NtWaitForSingleObject(child, false, POLL), STATUS_TIMEOUT);
    CHECK_OK(NtTerminateProcess(child, 0x321));
    CHECK_OK(wait(child));
    CHECK_OK(wait(child));
    CHECK_STATUS(process_status(child), 0x321);
    rule("what has ended stays as it is");
    NtTerminateProcess(child, 0x322);
    CHECK_STATUS(process_status(child), 0x321);
    CHECK_STATUS(NtCreateThreadEx(&thread, ALL_ACCESS, NULL, child,
                                  (void *)death, NULL, 0, 0),
                 STATUS_PROCESS_IS_TERMINATING);
    void *base = NULL;
    size_t size = 4096;
    CHECK_STATUS(NtAllocateVirtualMemory(child, &base, &size, MEM_COMMIT,
                                         PAGE_READWRITE),
                 STATUS_PROCESS_IS_TERMINATING);
    HANDLE copy = NULL;
    CHECK_STATUS(NtDuplicateObject(NtCurrentProcess(), event, child, &copy, 0,
                                   0, DUPLICATE_SAME_ACCESS),
                 STATUS_PROCESS_IS_TERMINATING);
    NtClose(child);

    rule("a child that never ran");
    child = start(2, wait_words, THREAD_CREATE_FLAGS_CREATE_SUSPENDED,
                  &thread);
    CHECK_OK(NtTerminateProcess(child, 7));
    CHECK_OK(wait(child));
    CHECK_STATUS(process_status(child), 7);
    CHECK_OK(wait(thread));
    NtClose(thread);
    NtClose(child);

    rule("the end of the only thread is the process's");
    child = start(2, wait_words, 0, &thread);
    CHECK_OK(NtTerminateThread(thread, 8));
    CHECK_OK(wait(child));
    CHECK_STATUS(process_status(child), 8);
    NtClose(thread);
    NtClose(child);

    rule("and it takes no further one, whoever is at work on it");
    for (int i = 0; i < 10; i++) {
        HANDLE late = NULL;
        child = start(2, wait_words, 0, &thread);
        enough = false;
        HANDLE busy = new_thread(allocate_in, child, 0);
        NtDelayExecution(false, MS(2));
        CHECK_OK(NtTerminateThread(thread, 8));
        CHECK_OK(wait(thread));
        CHECK_STATUS(NtCreateThreadEx(&late, ALL_ACCESS, NULL, child,
                                      (void *)start, NULL, 0, 0),
                     STATUS_PROCESS_IS_TERMINATING);
        enough = true;
        CHECK_OK(join(busy));
        CHECK_OK(wait(child));
        CHECK_STATUS(process_status(child), 8);
        NtClose(thread);
        NtClose(child);
    }

    rule("at any moment of its life");
    for (int i = 0; i < 20; i++) {
        child = start(2, wait_words, 0, NULL);
        for (int j = 0; j < i; j++)
            NtYieldExecution();
        CHECK_OK(NtTerminateProcess(child, i));
        CHECK_OK(wait(child));
        CHECK_STATUS(process_status(child), i);
        NtClose(child);
    }
    rule("a process goes on without any handle to it");
    child = start_child("set", event, NULL);
    NtClose(child);
    CHECK_OK(wait(event));
    NtClose(event);
}

static void crashes(void)
{
    static const struct {
        char *kind;
        NTSTATUS status, or;
    } kinds[] = {
        { "read", STATUS_ACCESS_VIOLATION, 0 },
        { "write", STATUS_ACCESS_VIOLATION, 0 },
        { "text", STATUS_ACCESS_VIOLATION, 0 },
        { "const", STATUS_ACCESS_VIOLATION, 0 },
        { "exec", STATUS_ACCESS_VIOLATION, 0 },
        { "xstack", STATUS_ACCESS_VIOLATION, 0 },
        { "kread", STATUS_ACCESS_VIOLATION, 0 },
        { "kwrite", STATUS_ACCESS_VIOLATION, 0 },
        { "kjump", STATUS_ACCESS_VIOLATION, 0 },
        { "jump", STATUS_ACCESS_VIOLATION, 0 },
        { "canon", STATUS_ACCESS_VIOLATION, 0 },
        { "divide", STATUS_INTEGER_DIVIDE_BY_ZERO, 0 },
        { "overflow", STATUS_INTEGER_OVERFLOW, STATUS_INTEGER_DIVIDE_BY_ZERO },
        { "ill", STATUS_ILLEGAL_INSTRUCTION, 0 },
        { "hlt", STATUS_PRIVILEGED_INSTRUCTION, 0 },
        { "cli", STATUS_PRIVILEGED_INSTRUCTION, 0 },
        { "cr3", STATUS_PRIVILEGED_INSTRUCTION, 0 },
        { "in", STATUS_PRIVILEGED_INSTRUCTION, 0 },
        { "int", STATUS_ACCESS_VIOLATION, 0 },
        { "int3", STATUS_BREAKPOINT, 0 },
        { "step", STATUS_SINGLE_STEP, 0 },
        { "stack", STATUS_STACK_OVERFLOW, STATUS_ACCESS_VIOLATION },
        { "abort", STATUS_ASSERTION_FAILURE, 0 },
        { "assert", STATUS_ASSERTION_FAILURE, 0 },
    };
    rule("a fault ends the process with a status that names it");
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        char *words[] = { "crash", kinds[i].kind };
        NTSTATUS is = run(2, words);
        if (kinds[i].or && is == kinds[i].or)
            continue;
        if (!CHECK_STATUS(is, kinds[i].status))
            printf("    crash %s\n", kinds[i].kind);
    }
    // QEMU's TCG does not check these two: caught, or reported by crash.
    static char *unchecked[] = { "align", "sse" };
    for (int i = 0; i < 2; i++) {
        char *words[] = { "crash", unchecked[i] };
        NTSTATUS is = run(2, words);
        CHECK(is == 1 || is == STATUS_DATATYPE_MISALIGNMENT ||
              is == STATUS_FLOAT_DIVIDE_BY_ZERO ||
              is == STATUS_FLOAT_INVALID_OPERATION);
    }
}

static void handles(void)
{
    rule("a standard handle is a duplicate of any object");
    HANDLE port = new_port(0);
    void *key = NULL, *context = NULL;
    IO_STATUS_BLOCK iosb = { 0 };
    HANDLE child = start_child("post", port, NULL);
    CHECK_OK(NtRemoveIoCompletion(port, &key, &context, &iosb, LONG));
    CHECK(key == (void *)1 && context == (void *)2 && iosb.Status == 3 &&
          iosb.Information == 4);
    CHECK_OK(wait(child));
    CHECK_OK(process_status(child));
    NtClose(child);
    NtClose(port);
    rule("a standard handle that is none");
    RTL_USER_PROCESS_PARAMETERS parameters = NtCurrentPeb()->ProcessParameters;
    RtlInitString(&parameters.ImagePathName, "\\??\\B:\\bin\\true");
    RtlInitString(&parameters.CommandLine, "true");
    parameters.StandardError = (HANDLE)0x7FFF0;
    CHECK_STATUS(NtCreateUserProcess(&child, NULL, ALL_ACCESS, ALL_ACCESS, 0,
                                     &parameters), STATUS_INVALID_HANDLE);
    rule("none at all");
    parameters.StandardInput = parameters.StandardOutput = NULL;
    parameters.StandardError = NULL;
    CHECK_OK(NtCreateUserProcess(&child, NULL, ALL_ACCESS, ALL_ACCESS, 0,
                                 &parameters));
    CHECK_OK(wait(child));
    CHECK_OK(process_status(child));
    NtClose(child);
    rule("a child that nobody can have a handle to is not there");
    CHECK_STATUS(NtCreateUserProcess(KERNEL_DIRECT, NULL, ALL_ACCESS,
                                     ALL_ACCESS, 0, &parameters),
                 STATUS_ACCESS_VIOLATION);
    CHECK_STATUS(NtCreateUserProcess(NULL, NULL, ALL_ACCESS, ALL_ACCESS, 0,
                                     &parameters), STATUS_ACCESS_VIOLATION);
    child = NULL;
    CHECK_STATUS(NtCreateUserProcess(&child, KERNEL_DIRECT, ALL_ACCESS,
                                     ALL_ACCESS, 0, &parameters),
                 STATUS_ACCESS_VIOLATION);
    if (child) {    // ring 3 has it already
        CHECK_OK(wait(child));
        NtClose(child);
    }
    rule("duplicating into a child, and out of it");
    char *words[] = { "child", "wait" };
    HANDLE event = new_event(NotificationEvent, false), there = NULL,
           back = NULL;
    child = start(2, words, 0, NULL);
    CHECK_OK(NtDuplicateObject(NtCurrentProcess(), event, child, &there, 0, 0,
                               DUPLICATE_SAME_ACCESS));
    CHECK_OK(NtDuplicateObject(child, there, NtCurrentProcess(), &back, 0, 0,
                               DUPLICATE_SAME_ACCESS |
                                   DUPLICATE_CLOSE_SOURCE));
    CHECK_STATUS(NtDuplicateObject(child, there, NtCurrentProcess(), &there, 0,
                                   0, DUPLICATE_SAME_ACCESS),
                 STATUS_INVALID_HANDLE);
    CHECK_OK(NtSetEvent(back, NULL));
    CHECK_OK(wait(event));
    rule("a handle of another process is none here");
    for (int i = 0; i < 100; i++)    // more than we have
        CHECK_OK(NtDuplicateObject(NtCurrentProcess(), event, child, &there, 0,
                                   0, DUPLICATE_SAME_ACCESS));
    CHECK_STATUS(NtSetEvent(there, NULL), STATUS_INVALID_HANDLE);
    CHECK_STATUS(NtWaitForSingleObject(there, false, POLL),
                 STATUS_INVALID_HANDLE);
    CHECK_STATUS(NtClose(there), STATUS_INVALID_HANDLE);
    NtClose(back);
    CHECK_OK(NtDuplicateObject(child, there, NtCurrentProcess(), &back, 0, 0,
                               DUPLICATE_SAME_ACCESS));
    rule("closing a handle of another process");
    CHECK_OK(NtDuplicateObject(child, there, NULL, NULL, 0, 0,
                               DUPLICATE_CLOSE_SOURCE));
    CHECK_STATUS(NtDuplicateObject(child, there, NULL, NULL, 0, 0,
                                   DUPLICATE_CLOSE_SOURCE),
                 STATUS_INVALID_HANDLE);
    rule("a thread in a child");
    HANDLE thread = NULL;
    void *base = NULL;
    size_t size = 10000;
    CHECK_OK(NtAllocateVirtualMemory(child, &base, &size, MEM_COMMIT,
                                     PAGE_EXECUTE_READ));
    CHECK_OK(NtCreateThreadEx(&thread, ALL_ACCESS, NULL, child, base, NULL, 0,
                              0));    // zeros: add %al, (%rax)
    CHECK_OK(wait(child));
    CHECK_STATUS(process_status(child), STATUS_ACCESS_VIOLATION);
    NtClose(thread);
    NtClose(child);
    NtClose(event);
    NtClose(back);
}

static void memory(void)
{
    HANDLE filled = new_event(NotificationEvent, false);
    HANDLE look = new_event(NotificationEvent, false);
    HANDLE disk = open_disk(0);
    IO_STATUS_BLOCK iosb = { 0 };
    char *base = CHILD_PAGE;
    size_t size = CHILD_PAGE_SIZE;
    rule("another process's memory is none here");
    HANDLE child = start_child("owns", filled, look);
    CHECK_OK(wait(filled));
    CHECK_STATUS(NtWriteFile(disk, NULL, NULL, NULL, &iosb, base, 512, 0),
                 STATUS_ACCESS_VIOLATION);
    CHECK_STATUS(NtReadFile(disk, NULL, NULL, NULL, &iosb, base, 512, 0),
                 STATUS_ACCESS_VIOLATION);
    CHECK_STATUS(NtQuerySystemTime((int64_t *)base), STATUS_ACCESS_VIOLATION);
    CHECK_STATUS(NtDelayExecution(false, (int64_t *)base),
                 STATUS_ACCESS_VIOLATION);
    rule("at the same address each has its own");
    CHECK_OK(NtAllocateVirtualMemory(NtCurrentProcess(), (void **)&base, &size,
                                     MEM_COMMIT, PAGE_READWRITE));
    CHECK(base == CHILD_PAGE && base[0] == 0 && base[4095] == 0);
    memset(base, 'P', size);
    CHECK_OK(NtSetEvent(look, NULL));
    CHECK_OK(wait(child));
    CHECK_OK(process_status(child));
    CHECK(base[0] == 'P' && base[4095] == 'P');
    NtClose(child);
    NtClose(disk);
    NtClose(filled);
    NtClose(look);
}

static void opening(void)
{
    PROCESS_BASIC_INFORMATION basic = { 0 };
    HANDLE self = NULL, system = NULL;
    rule("a process's ids, and opening by them");
    CHECK_OK(NtQueryInformationProcess(NtCurrentProcess(),
                                       ProcessBasicInformation, &basic,
                                       sizeof(basic), NULL));
    CHECK_EQ(basic.UniqueProcessId, NtCurrentPeb()->ClientId.UniqueProcess);
    CHECK(basic.InheritedFromUniqueProcessId != 0);
    CLIENT_ID id = { .UniqueProcess = basic.UniqueProcessId };
    CHECK_OK(NtOpenProcess(&self, ALL_ACCESS, NULL, &id));
    CHECK_STATUS(process_status(self), STATUS_PENDING);
    NtClose(self);
    id.UniqueProcess = 0xFFFFFFFC;
    CHECK_STATUS(NtOpenProcess(&self, ALL_ACCESS, NULL, &id),
                 STATUS_INVALID_CID);
    rule("the system process may be looked at, nothing else");
    uint64_t i = 0;
    for (; i < 64; i += 4) {
        id.UniqueProcess = i;
        if (NT_SUCCESS(NtOpenProcess(&system, PROCESS_QUERY_INFORMATION, NULL,
                                     &id)))
            break;
    }
    CHECK(i < 64);
    CHECK_STATUS(NtTerminateProcess(system, 0), STATUS_ACCESS_DENIED);
    void *base = NULL;
    size_t size = 4096;
    CHECK_STATUS(NtAllocateVirtualMemory(system, &base, &size, MEM_COMMIT,
                                         PAGE_READWRITE),
                 STATUS_ACCESS_DENIED);
    HANDLE more = NULL;
    NTSTATUS duplicated = NtDuplicateObject(NtCurrentProcess(), system,
                                            NtCurrentProcess(), &more,
                                            ALL_ACCESS, 0, 0);
    CHECK(!NT_SUCCESS(duplicated));
    CHECK_STATUS(NtOpenProcess(&more, ALL_ACCESS, NULL, &id),
                 STATUS_ACCESS_DENIED);
    CHECK_STATUS(NtOpenProcess(&more, GENERIC_ALL, NULL, &id),
                 STATUS_ACCESS_DENIED);
    CHECK_STATUS(NtOpenProcess(&more, MAXIMUM_ALLOWED, NULL, &id),
                 STATUS_ACCESS_DENIED);
    CHECK_STATUS(NtOpenProcess(&more, GENERIC_WRITE, NULL, &id),
                 STATUS_ACCESS_DENIED);
    NtClose(system);
}

int main(void)
{
    arguments();
    status();
    death();
    crashes();
    handles();
    memory();
    opening();
    return ktap_end();
}
