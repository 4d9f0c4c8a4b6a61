// ut_arguments.c - every service with every kind of wrong argument.
//
// A table says what each argument of each service is. Each pointer in turn is
// made NULL, the kernel's, unmapped, read-only, half mapped or misaligned,
// with all others good; a pointer that has to be there gives
// STATUS_ACCESS_VIOLATION, and whatever the result, the system goes on.

#include "tests/user/call.h"
#include "tests/user/ktap.h"

// What an argument is, and what a bad pointer must give.
enum kind {
    END, VALUE, IN, OUT, OPTIONAL_IN, OPTIONAL_OUT,
    BUFFER_IN, BUFFER_OUT,                             // pinned or copied
    EVENT, SEMAPHORE, MUTANT, TIMER, PORT, THREAD, PROCESS, DISK, DIRECTORY,
};

struct argument {
    enum kind kind;
    uint64_t value;    // or the size of what is pointed at
};

#define STATUS_BLOCK { OUT, sizeof(IO_STATUS_BLOCK) }
#define V(n)         { VALUE, (uint64_t)(n) }

static struct {
    const char *name;
    uint32_t number;
    struct argument arguments[10];
} services[] = {
#define SERVICE(name, ...) { #name, NT_SERVICE_##name, { __VA_ARGS__ } }
    SERVICE(NtCreateFile, { OUT, 8 }, V(1), { IN, 24 + 8 }, STATUS_BLOCK, V(0),
            V(FILE_OPEN), V(0)),
    SERVICE(NtReadFile, { DISK, 0 }, V(0), V(0), V(0), STATUS_BLOCK,
            { BUFFER_OUT, 512 }, V(512), V(0)),
    SERVICE(NtWriteFile, { DISK, 0 }, V(0), V(0), V(0), STATUS_BLOCK,
            { BUFFER_IN, 512 }, V(512), V(0)),
    SERVICE(NtFlushBuffersFile, { DISK, 0 }, STATUS_BLOCK),
    SERVICE(NtDeviceIoControlFile, { DISK, 0 }, V(0), V(0), V(0), STATUS_BLOCK,
            V(IOCTL_DISK_GET_DRIVE_GEOMETRY), { BUFFER_IN, 16 }, V(16),
            { BUFFER_OUT, 16 }, V(16)),
    SERVICE(NtCancelIoFile, { DISK, 0 }, STATUS_BLOCK),
    SERVICE(NtCancelIoFileEx, { DISK, 0 }, V(0), STATUS_BLOCK),
    SERVICE(NtCancelSynchronousIoFile, { THREAD, 0 }, V(0), STATUS_BLOCK),
    SERVICE(NtQueryInformationFile, { DISK, 0 }, STATUS_BLOCK, { OUT, 8 },
            V(8), V(FilePositionInformation)),
    SERVICE(NtSetInformationFile, { DISK, 0 }, STATUS_BLOCK, { IN, 8 }, V(8),
            V(FilePositionInformation)),
    SERVICE(NtQueryDirectoryFile, { DIRECTORY, 0 }, STATUS_BLOCK,
            { OUT, sizeof(FILE_NAMES_INFORMATION) },
            V(sizeof(FILE_NAMES_INFORMATION)), V(1)),
    SERVICE(NtDuplicateObject, V(-1), { EVENT, 0 }, V(-1), { OUT, 8 }, V(0),
            V(0), V(DUPLICATE_SAME_ACCESS)),
    SERVICE(NtCreateIoCompletion, { OUT, 8 }, V(ALL_ACCESS),
            { OPTIONAL_IN, 24 }, V(0)),
    SERVICE(NtRemoveIoCompletion, { PORT, 0 }, { OUT, 8 }, { OUT, 8 },
            STATUS_BLOCK, { IN, 8 }),
    SERVICE(NtRemoveIoCompletionEx, { PORT, 0 }, { OUT, 32 }, V(1),
            { OUT, 4 }, { IN, 8 }, V(0)),
    SERVICE(NtQueryIoCompletion, { PORT, 0 }, { OUT, 4 }),
    SERVICE(NtCreateEvent, { OUT, 8 }, V(ALL_ACCESS), { OPTIONAL_IN, 24 },
            V(0), V(0)),
    SERVICE(NtSetEvent, { EVENT, 0 }, { OPTIONAL_OUT, 4 }),
    SERVICE(NtResetEvent, { EVENT, 0 }, { OPTIONAL_OUT, 4 }),
    SERVICE(NtPulseEvent, { EVENT, 0 }, { OPTIONAL_OUT, 4 }),
    SERVICE(NtQueryEvent, { EVENT, 0 }, { OUT, 8 }),
    SERVICE(NtCreateSemaphore, { OUT, 8 }, V(ALL_ACCESS), { OPTIONAL_IN, 24 },
            V(0), V(1)),
    SERVICE(NtReleaseSemaphore, { SEMAPHORE, 0 }, V(1), { OPTIONAL_OUT, 4 }),
    SERVICE(NtCreateMutant, { OUT, 8 }, V(ALL_ACCESS), { OPTIONAL_IN, 24 },
            V(0)),
    SERVICE(NtReleaseMutant, { MUTANT, 0 }, { OPTIONAL_OUT, 4 }),
    SERVICE(NtCreateTimer, { OUT, 8 }, V(ALL_ACCESS), { OPTIONAL_IN, 24 },
            V(0)),
    SERVICE(NtSetTimer, { TIMER, 0 }, { IN, 8 }, V(0), V(0), V(0), V(0),
            { OPTIONAL_OUT, 1 }),
    SERVICE(NtCancelTimer, { TIMER, 0 }, { OPTIONAL_OUT, 1 }),
    SERVICE(NtWaitForSingleObject, { EVENT, 0 }, V(0), { IN, 8 }),
    SERVICE(NtWaitForMultipleObjects, V(1), { IN, 8 }, V(WaitAny), V(0),
            { IN, 8 }),
    SERVICE(NtDelayExecution, V(0), { IN, 8 }),
    SERVICE(NtContinue, { IN, sizeof(CONTEXT) }, V(0)),
    SERVICE(NtCreateThreadEx, { OUT, 8 }, V(ALL_ACCESS), { OPTIONAL_IN, 24 },
            V(-1), V(0), V(0), V(0), V(0)),
    SERVICE(NtSuspendThread, { THREAD, 0 }, { OPTIONAL_OUT, 4 }),
    SERVICE(NtResumeThread, { THREAD, 0 }, { OPTIONAL_OUT, 4 }),
    SERVICE(NtOpenThread, { OUT, 8 }, V(ALL_ACCESS), { OPTIONAL_IN, 24 },
            { IN, 16 }),
    SERVICE(NtQueryInformationThread, { THREAD, 0 }, V(0),
            { OUT, sizeof(THREAD_BASIC_INFORMATION) },
            V(sizeof(THREAD_BASIC_INFORMATION)), { OPTIONAL_OUT, 4 }),
    SERVICE(NtSetInformationThread, { THREAD, 0 }, V(ThreadBasePriority),
            { IN, 4 }, V(4)),
    SERVICE(NtCreateUserProcess, { OUT, 8 }, { OPTIONAL_OUT, 8 },
            V(ALL_ACCESS), V(ALL_ACCESS), V(0),
            { IN, sizeof(RTL_USER_PROCESS_PARAMETERS) }),
    SERVICE(NtOpenProcess, { OUT, 8 }, V(ALL_ACCESS), { OPTIONAL_IN, 24 },
            { IN, 16 }),
    SERVICE(NtQueryInformationProcess, { PROCESS, 0 }, V(0),
            { OUT, sizeof(PROCESS_BASIC_INFORMATION) },
            V(sizeof(PROCESS_BASIC_INFORMATION)), { OPTIONAL_OUT, 4 }),
    SERVICE(NtAllocateVirtualMemory, V(-1), { OUT, 8 }, { OUT, 8 },
            V(MEM_COMMIT), V(PAGE_READWRITE)),
    SERVICE(NtFreeVirtualMemory, V(-1), { IN, 8 }, { IN, 8 }, V(MEM_RELEASE)),
    SERVICE(NtProtectVirtualMemory, V(-1), { IN, 8 }, { IN, 8 },
            V(PAGE_READWRITE), { OUT, 4 }),
    SERVICE(NtQueryVirtualMemory, V(-1), V(1ull << 32),
            { OUT, sizeof(MEMORY_BASIC_INFORMATION) }),
    SERVICE(NtQuerySystemInformation, V(SystemBasicInformation),
            { OUT, sizeof(SYSTEM_BASIC_INFORMATION) },
            V(sizeof(SYSTEM_BASIC_INFORMATION)), { OPTIONAL_OUT, 4 }),
    SERVICE(NtQueryPerformanceCounter, { OUT, 8 }, { OPTIONAL_OUT, 8 }),
    SERVICE(NtQuerySystemTime, { OUT, 8 }),
    SERVICE(nt_trace_mask, V(0), { OPTIONAL_OUT, 4 }),
    SERVICE(nt_set_road, V(0), { OPTIONAL_OUT, 4 }),
    SERVICE(nt_trace_read, V(0), { OUT, 8 }, { OUT, 16 }, V(1), { OUT, 4 },
            { OUT, 4 }),
};

static HANDLE handles[DIRECTORY + 1];
static uint8_t good[10][2048] __attribute__((aligned(4096)));
static uint8_t *read_only, *lonely;    // lonely: nothing behind its page

static bool is_pointer(enum kind kind)
{
    return kind >= IN && kind <= BUFFER_OUT;
}

static bool is_output(enum kind kind)
{
    return kind == OUT || kind == OPTIONAL_OUT || kind == BUFFER_OUT;
}

static bool may_be_null(enum kind kind)
{
    return kind == OPTIONAL_IN || kind == OPTIONAL_OUT;
}

static void prepare(const struct argument *arguments, uint64_t *values)
{
    memset(values, 0, 10 * sizeof(*values));
    memset(good, 0, sizeof(good));
    for (int i = 0; i < 10 && arguments[i].kind != END; i++) {
        if (arguments[i].kind == VALUE)
            values[i] = arguments[i].value;
        else if (is_pointer(arguments[i].kind))
            values[i] = (uint64_t)good[i];
        else
            values[i] = (uint64_t)handles[arguments[i].kind];
    }
}

// Whether a call with this argument wrong gave what it should.
static void try_pointer(size_t service, int i, uint64_t wrong, bool must_fail,
                        const char *what)
{
    char text[RTL_STATUS_SIZE];
    uint64_t values[10];
    prepare(services[service].arguments, values);
    values[i] = wrong;
    NTSTATUS status = call_service(services[service].number, values);
    if (status == STATUS_PENDING)
        wait(handles[DISK]);
    ktap_checks++;
    if (must_fail && NT_SUCCESS(status)) {
        printf("not ok - %s with %s as argument %d gave %s\n",
               services[service].name, what, i + 1,
               rtl_status_text(status, text));
        ktap_failures++;
    }
}

static void pointers(void)
{
    rule("bad pointers");
    for (size_t s = 0; s < sizeof(services) / sizeof(*services); s++) {
        const struct argument *arguments = services[s].arguments;
        for (int i = 0; i < 10 && arguments[i].kind != END; i++) {
            enum kind kind = arguments[i].kind;
            if (!is_pointer(kind))
                continue;
            uint64_t size = arguments[i].value;
            // An input that is not looked at may be anything.
            bool strict = !(services[s].number ==
                                NT_SERVICE_NtDeviceIoControlFile &&
                            kind == BUFFER_IN);
            // A wait without a time would last.
            bool timeout = kind == IN && (services[s].number ==
                               NT_SERVICE_NtRemoveIoCompletion ||
                           services[s].number ==
                               NT_SERVICE_NtRemoveIoCompletionEx ||
                           services[s].number ==
                               NT_SERVICE_NtWaitForSingleObject ||
                           (services[s].number ==
                                NT_SERVICE_NtWaitForMultipleObjects &&
                            i == 4));
            if (!timeout)
                try_pointer(s, i, 0, strict && !may_be_null(kind), "NULL");
            try_pointer(s, i, (uint64_t)KERNEL_TEXT, true, "kernel text");
            try_pointer(s, i, (uint64_t)KERNEL_DIRECT, true, "kernel memory");
            try_pointer(s, i, UINT64_MAX, true, "-1");
            try_pointer(s, i, UINT64_MAX - size, true, "-size");
            try_pointer(s, i, 0x0000800000000000ull, true, "a hole");
            try_pointer(s, i, 0x00007FFFFFFFFFFFull, true, "ring 3's end");
            try_pointer(s, i, 0x00007FFFFFFFF000ull, true, "its last page");
            try_pointer(s, i, (uint64_t)UNMAPPED, true, "unmapped");
            try_pointer(s, i, 0x1000, true, "page 1");
            if (size > 1)
                try_pointer(s, i, (uint64_t)lonely + 4096 - size / 2, true,
                            "half mapped");
            try_pointer(s, i, (uint64_t)read_only, is_output(kind),
                        "read-only");
            for (uint64_t odd = 1; odd < 8; odd += 3)
                try_pointer(s, i, (uint64_t)lonely + odd, false, "misaligned");
        }
    }
}

static void wrong_handles(void)
{
    static const uint64_t wild[] = { 0, 1, 3, 0x7FFF0, UINT64_MAX - 8,
                                     1ull << 40, 0xFFFF800000000000ull,
                                     INT64_MAX, (uint64_t)-3 };
    rule("handles that are none, or of another type");
    for (size_t s = 0; s < sizeof(services) / sizeof(*services); s++) {
        for (int i = 0; i < 10 && services[s].arguments[i].kind; i++) {
            enum kind kind = services[s].arguments[i].kind;
            if (kind < EVENT)
                continue;
            for (size_t w = 0; w < sizeof(wild) / sizeof(*wild); w++)
                try_pointer(s, i, wild[w], true, "no handle");
            bool any = services[s].number == NT_SERVICE_NtDuplicateObject ||
                       services[s].number == NT_SERVICE_NtWaitForSingleObject;
            for (int other = EVENT; other <= DIRECTORY && !any; other++)
                if (other != (int)kind && (kind < DISK || other < DISK))
                    try_pointer(s, i, (uint64_t)handles[other], true,
                                "another type");
        }
    }
}

// ---- Arguments beyond the sixth ---------------------------------------------

static NTSTATUS call_on_stack(uint64_t number, uint64_t stack)
{
    uint64_t result = number, keep;
    __asm__ volatile("mov %%rsp, %1\n mov %2, %%rsp\n syscall\n mov %1, %%rsp"
                     : "+a"(result), "=&r"(keep)
                     : "r"(stack), "D"(0), "S"(0), "d"(0)
                     : "rcx", "r8", "r9", "r10", "r11", "memory", "cc");
    return (NTSTATUS)result;
}

static void stack_arguments(void)
{
    rule("arguments beyond the sixth reach the service");
    static uint8_t sector[512] __attribute__((aligned(512)));
    static IO_STATUS_BLOCK iosb;
    uint64_t arguments[10] = { (uint64_t)handles[DISK], 0, 0, 0,
                               (uint64_t)&iosb, (uint64_t)sector, 512, 1024 };
    memset(sector, 0x42, sizeof(sector));
    NTSTATUS status = call_service(NT_SERVICE_NtWriteFile, arguments);
    if (CHECK_STATUS(status, STATUS_PENDING))
        wait(handles[DISK]);
    CHECK_EQ(iosb.Information, 512);
    memset(sector, 0, sizeof(sector));
    status = call_service(NT_SERVICE_NtReadFile, arguments);
    if (CHECK_STATUS(status, STATUS_PENDING))
        wait(handles[DISK]);
    CHECK(sector[0] == 0x42 && sector[511] == 0x42);
    rule("a stack that is none");
    static const uint64_t stacks[] = {
        0, 8, 0x1000, 0x00007FFFFFFFFFF8ull, 0x00007FFFFFFFFFC0ull,
        0x00007FFFFFFFF000ull, 0x0000800000000000ull, 0xFFFFFFFF80200000ull,
        0xFFFF800000000000ull, UINT64_MAX - 7, UINT64_MAX - 63, UINT64_MAX,
    };
    for (size_t i = 0; i < sizeof(stacks) / sizeof(*stacks); i++) {
        CHECK_STATUS(call_on_stack(NT_SERVICE_NtReadFile, stacks[i]),
                     STATUS_ACCESS_VIOLATION);
        CHECK_STATUS(call_on_stack(NT_SERVICE_NtDeviceIoControlFile,
                                   stacks[i]), STATUS_ACCESS_VIOLATION);
        CHECK_OK(call_on_stack(NT_SERVICE_NtYieldExecution, stacks[i]));
    }
    CHECK_STATUS(call_on_stack(NT_SERVICE_NtReadFile,
                               (uint64_t)lonely + 4096 - 16),
                 STATUS_ACCESS_VIOLATION);
    rule("a service that does not exist");
    static const uint64_t numbers[] = { NT_SERVICE_COUNT, 0x1000, 0x7FFFFFFF,
                                        0x80000000, 0xFFFFFFFF };
    for (int i = 0; i < 5; i++)
        CHECK_STATUS(call_service(numbers[i], arguments),
                     STATUS_INVALID_SYSTEM_SERVICE);
}

int main(void)
{
    void *base = NULL;
    size_t size = 4096;
    uint32_t old;
    handles[EVENT] = new_event(NotificationEvent, false);
    CHECK_OK(NtCreateSemaphore(&handles[SEMAPHORE], ALL_ACCESS, NULL, 0,
                               INT32_MAX));
    CHECK_OK(NtCreateMutant(&handles[MUTANT], ALL_ACCESS, NULL, true));
    CHECK_OK(NtCreateTimer(&handles[TIMER], ALL_ACCESS, NULL,
                           NotificationTimer));
    handles[PORT] = new_port(0);
    handles[THREAD] = new_thread((NTSTATUS(*)(void *))(void *)wait,
                                 handles[EVENT],
                                 THREAD_CREATE_FLAGS_CREATE_SUSPENDED);
    handles[PROCESS] = NtCurrentProcess();
    handles[DISK] = open_disk(0);
    CHECK_OK(nt_open_file("B:\\bin", FILE_LIST_DIRECTORY, FILE_OPEN, 0,
                          &handles[DIRECTORY]));
    CHECK_OK(NtAllocateVirtualMemory(NtCurrentProcess(), &base, &size,
                                     MEM_COMMIT, PAGE_READWRITE));
    lonely = base;
    base = NULL;
    CHECK_OK(NtAllocateVirtualMemory(NtCurrentProcess(), &base, &size,
                                     MEM_COMMIT, PAGE_READWRITE));
    CHECK_OK(NtProtectVirtualMemory(NtCurrentProcess(), &base, &size,
                                    PAGE_READONLY, &old));
    read_only = base;
    pointers();
    wrong_handles();
    stack_arguments();
    return ktap_end();
}
