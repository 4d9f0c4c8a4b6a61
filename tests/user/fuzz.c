// fuzz.c - random system calls: fuzz [SEED [CALLS]] [stress]
// args: 1 10000 [stress]
//
// Workers make the calls, so that one may die: its parent counts that, and
// starts another with the next seed. What a worker does is decided by its seed
// alone. At the end the system must still do its work; leaks looks for what
// was not given back.

#include "tests/user/call.h"
#include "tests/user/ktap.h"

#define SLOTS   64
#define ARENA   (64u * 1024)
#define PATIENCE MS(200)    // without a sign of life a worker hangs
#define REPORT   8          // calls from one report to the next

// What the arguments of each service are, one letter each; see choose().
static const struct {
    const char *name, *arguments;
} services[NT_SERVICE_COUNT] = {
#define FUZZ(name, arguments) [NT_SERVICE_##name] = { #name, arguments }
    FUZZ(NtClose, "h"), FUZZ(NtCreateFile, "oxaifdO"),
    FUZZ(NtReadFile, "FerpipLn"), FUZZ(NtWriteFile, "FerpipLn"),
    FUZZ(NtFlushBuffersFile, "Fi"),
    FUZZ(NtDeviceIoControlFile, "FerpiCpLpL"), FUZZ(NtCancelIoFile, "Fi"),
    FUZZ(NtCancelIoFileEx, "Fzi"), FUZZ(NtCancelSynchronousIoFile, "Hzi"),
    FUZZ(NtQueryInformationFile, "Fiplj"),
    FUZZ(NtSetInformationFile, "Fiplj"), FUZZ(NtQueryDirectoryFile, "FipLd"),
    FUZZ(NtDuplicateObject, "RhRoxnd"), FUZZ(NtCreateIoCompletion, "oxad"),
    FUZZ(NtSetIoCompletion, "Pppnn"), FUZZ(NtRemoveIoCompletion, "Pppit"),
    FUZZ(NtRemoveIoCompletionEx, "Ppdptd"), FUZZ(NtQueryIoCompletion, "Pp"),
    FUZZ(NtCreateEvent, "oxadd"), FUZZ(NtSetEvent, "Ez"),
    FUZZ(NtResetEvent, "Ez"), FUZZ(NtPulseEvent, "Ez"),
    FUZZ(NtQueryEvent, "Ep"), FUZZ(NtCreateSemaphore, "oxadd"),
    FUZZ(NtReleaseSemaphore, "Sdz"), FUZZ(NtCreateMutant, "oxad"),
    FUZZ(NtReleaseMutant, "Mz"), FUZZ(NtCreateTimer, "oxad"),
    FUZZ(NtSetTimer, "Ttrpddz"), FUZZ(NtCancelTimer, "Tz"),
    FUZZ(NtWaitForSingleObject, "hdt"),
    FUZZ(NtWaitForMultipleObjects, "dsddt"), FUZZ(NtDelayExecution, "dt"),
    FUZZ(NtYieldExecution, ""), FUZZ(NtQueueApcThread, "Hrppp"),
    FUZZ(NtTestAlert, ""), FUZZ(NtAlertThread, "H"), FUZZ(NtContinue, "pd"),
    FUZZ(NtCreateThreadEx, "oxaRrpdL"), FUZZ(NtTerminateThread, "Hn"),
    FUZZ(NtSuspendThread, "Hz"), FUZZ(NtResumeThread, "Hz"),
    FUZZ(NtOpenThread, "oxac"), FUZZ(NtQueryInformationThread, "Hgplz"),
    FUZZ(NtSetInformationThread, "Hgpl"),
    FUZZ(NtCreateUserProcess, "oNxxNu"), FUZZ(NtOpenProcess, "oxac"),
    FUZZ(NtTerminateProcess, "Rn"), FUZZ(NtQueryInformationProcess, "Rgplz"),
    FUZZ(NtAllocateVirtualMemory, "RBZAm"),
    FUZZ(NtFreeVirtualMemory, "RBZA"),
    FUZZ(NtProtectVirtualMemory, "RBZmp"),
    FUZZ(NtQueryVirtualMemory, "Rpp"),
    FUZZ(NtQuerySystemInformation, "qplz"),
    FUZZ(NtQueryPerformanceCounter, "pz"), FUZZ(NtQuerySystemTime, "p"),
    FUZZ(nt_set_thread_base, "p"), FUZZ(nt_trace_mask, "nz"),
    FUZZ(nt_trace_read, "gDpLpp"), FUZZ(nt_shutdown, NULL),
};

static uint64_t state;

static uint64_t any(void)
{
    uint64_t z = state += 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
}

static uint64_t below(uint64_t n)
{
    return any() % n;
}

#define PICK(array) ((array)[below(sizeof(array) / sizeof(*(array)))])

// ---- A worker ---------------------------------------------------------------

static HANDLE report, slots[SLOTS];
static HANDLE files[5], event, semaphore, mutant, timer, port;
static uint8_t *arena;
static OBJECT_ATTRIBUTES names[6];
static RTL_USER_PROCESS_PARAMETERS programs[4];
static CLIENT_ID own_id;
static HANDLE thread;
static uint64_t bases[8], sizes[8], start_of_trace;
static int64_t times[] = { 0, -1, -10000, -50000, 1, INT64_MIN, INT64_MAX };

static void benign(void *a, void *b, void *c)
{
    (void)a, (void)b, (void)c;
}

static NTSTATUS benign_thread(void *argument)
{
    (void)argument;
    return 0;
}

static bool clean;    // this call's arguments are all what they should be

static uint64_t hostile(void)
{
    static const uint64_t values[] = {
        0, 1, 2, 3, 7, 0x1000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
        0x100000000ull, 0x00007FFFFFFFFFFFull, 0x00007FFFFFFFF000ull,
        0x0000800000000000ull, 0xFFFF800000000000ull, 0xFFFF800000100000ull,
        0xFFFFC00000000000ull, 0xFFFFFFFF80000000ull, 0xFFFFFFFF80200000ull,
        INT64_MAX, 1ull << 63, UINT64_MAX - 7, UINT64_MAX - 1, UINT64_MAX,
    };
    return below(4) ? PICK(values) : any() >> below(64);
}

static uint64_t pointer(void)
{
    switch (below(8)) {
    case 0: return hostile();
    case 1: return (uint64_t)arena + ARENA - below(64);    // across its end
    case 2: return (uint64_t)arena + below(ARENA);
    default: return (uint64_t)arena + below(ARENA / 8) * 8;
    }
}

static uint64_t handle(char kind)
{
    static const int64_t pseudo[] = { -1, -2, -3, -4 };
    uint64_t how = clean ? 15 : below(16);
    if (how == 0)
        return (uint64_t)PICK(pseudo);
    if (how == 1)
        return below(400);
    if (how < 5)
        return (uint64_t)slots[below(SLOTS)];
    if (kind == 'h')
        kind = "FESMTPH"[below(7)];
    switch (kind) {
    case 'F': return (uint64_t)PICK(files);
    case 'E': return (uint64_t)event;
    case 'S': return (uint64_t)semaphore;
    case 'M': return (uint64_t)mutant;
    case 'T': return (uint64_t)timer;
    case 'P': return (uint64_t)port;
    case 'R': return (uint64_t)-1;
    default: return (uint64_t)thread;
    }
}

static uint64_t choose(char kind)
{
    static const uint32_t protections[] = { 1, 2, 4, 16, 32, 64 };
    static const uint32_t types[] = { MEM_COMMIT, MEM_COMMIT | MEM_RESERVE,
                                      MEM_RELEASE, MEM_RESERVE };
    static const uint32_t codes[] = { IOCTL_CONSOLE_SET_FOREGROUND,
                                      IOCTL_DISK_GET_DRIVE_GEOMETRY };
    static const uint32_t classes[] = { 5, 14, 20, 30, 41 };
    static const uint32_t lengths[] = { 4, 8, 16, 24, 40, 88, 4096, 65536 };
    if (!clean && below(8) == 0 && kind != 'N')
        return hostile();
    switch (kind) {
    case 'z': return below(2) ? 0 : pointer();
    case 'p': case 'i':
        return clean ? (uint64_t)arena + below(16) * 4096 : pointer();
    case 'B': return (uint64_t)&PICK(bases);
    case 'Z': return (uint64_t)&PICK(sizes);
    case 'D': return (uint64_t)(start_of_trace = 0, &start_of_trace);
    case 'g': return below(3) ? 0 : 3 + below(2);
    case 'j': return PICK(classes);
    case 'l': return PICK(lengths);
    case 'o': return (uint64_t)&slots[below(SLOTS)];
    case 's': return (uint64_t)slots;
    case 'e': return below(2) ? 0 : (uint64_t)event;
    case 'x': return below(4) ? ALL_ACCESS : any();
    case 'a': return below(2) ? (uint64_t)&PICK(names) : 0;
    case 'u': return (uint64_t)&PICK(programs);
    case 'c': return below(2) ? (uint64_t)&own_id : pointer();
    case 't': return (uint64_t)&times[below(8) ? below(4) : below(7)];
    case 'r': return below(3) ? (uint64_t)(below(2) ? (void *)benign
                                                    : (void *)benign_thread)
                              : 0;
    case 'L': return below(2) ? below(64) * 512 : below(256);
    case 'd': return below(6);
    case 'q': return below(2) ? 0x1000 : below(4);
    case 'O': return below(4) * 16;
    case 'C': return PICK(codes);
    case 'A': return PICK(types);
    case 'm': return PICK(protections);
    case 'N': return 0;
    case 'n': case 'f': return below(2) ? below(64) * 512 : any();
    default: return handle(kind);
    }
}

static void prepare(void)
{
    static const char *const name_texts[] = {
        "\\??\\PhysicalDrive0", "\\??\\B:\\bin\\true", "\\??\\B:\\bin",
        "\\??\\COM2", "\\Device", "\\??\\B:\\nothing\\there",
    };
    static const char *const program_texts[] = {
        "\\??\\B:\\bin\\true", "\\??\\B:\\files\\README.md", "\\??\\B:\\bin",
        "\\??\\PhysicalDrive0",
    };
    report = NtCurrentPeb()->ProcessParameters.StandardInput;
    arena = nt_allocate_pages(ARENA);
    for (int i = 0; i < 6; i++) {
        names[i].Length = sizeof(names[i]);
        RtlInitString(&names[i].ObjectName, name_texts[i]);
    }
    for (int i = 0; i < 4; i++) {
        RtlInitString(&programs[i].ImagePathName, program_texts[i]);
        RtlInitString(&programs[i].CommandLine, "program");
    }
    own_id = NtCurrentPeb()->ClientId;
    files[0] = open_disk(0);
    files[1] = open_disk(FILE_SYNCHRONOUS_IO_NONALERT);
    nt_open_file("CON", FILE_READ_DATA | SYNCHRONIZE, FILE_OPEN, 0, &files[2]);
    nt_open_file("B:\\bin", FILE_LIST_DIRECTORY, FILE_OPEN, 0, &files[3]);
    files[4] = open_disk(0);
    event = new_event(SynchronizationEvent, false);
    NtCreateSemaphore(&semaphore, ALL_ACCESS, NULL, 1, 100);
    NtCreateMutant(&mutant, ALL_ACCESS, NULL, false);
    NtCreateTimer(&timer, ALL_ACCESS, NULL, NotificationTimer);
    thread = new_thread(benign_thread, NULL,
                        THREAD_CREATE_FLAGS_CREATE_SUSPENDED);
    for (int i = 0; i < 8; i++) {
        sizes[i] = 4096u << i;
        if (i & 1)
            bases[i] = (uint64_t)nt_allocate_pages(65536);
    }
    port = new_port(0);
    bind(files[4], port, NULL);
    // What it writes to the console nobody wants to read.
    NtClose(NtCurrentPeb()->ProcessParameters.StandardOutput);
    NtClose(NtCurrentPeb()->ProcessParameters.StandardError);
    for (uint32_t i = 0; i < ARENA; i += 8) {
        uint64_t word = below(3) ? below(below(2) ? 3 : 65536) : any();
        memcpy(arena + i, &word, sizeof(word));
    }
}

// The report must get through, and nobody else may be harmed.
static bool is_allowed(uint64_t number, const uint64_t *arguments)
{
    for (int i = 0; i < 10; i++)
        if (arguments[i] / 4 == (uint64_t)report / 4)
            return false;
    return number != NT_SERVICE_NtTerminateProcess ||
           arguments[0] != UINT64_MAX || below(16) == 0;
}

// A process or thread that is not the worker's own is let go at once; a
// program that was started is seen to its end.
static void tidy(uint64_t number, const uint64_t *arguments)
{
    HANDLE *opened = (HANDLE *)arguments[0];
    bool opens = number == NT_SERVICE_NtOpenProcess ||
                 number == NT_SERVICE_NtOpenThread;
    if (opens && arguments[3] != (uint64_t)&own_id)
        NtClose(*opened);
    if (number == NT_SERVICE_NtCreateUserProcess)
        NtWaitForSingleObject(*opened, false, MS(5000));
}

static int work(uint64_t seed, uint64_t calls)
{
    uint64_t arguments[10], reached = 0, good = 0;
    state = seed;
    prepare();
    for (uint64_t i = 1; i <= calls; i++) {
        uint64_t number = below(NT_SERVICE_COUNT);
        const char *kinds = services[number].arguments;
        if (!kinds)
            continue;
        clean = below(3) == 0;
        for (int j = 0; j < 10; j++)
            arguments[j] = *kinds ? choose(*kinds++) : any();
        if (number == NT_SERVICE_NtCreateUserProcess)
            arguments[1] = arguments[4] = 0;
        if (is_allowed(number, arguments)) {
            reached |= 1ull << number;
            NTSTATUS status = call_service(number, arguments);
            if (NT_SUCCESS(status)) {
                good |= 1ull << number;
                tidy(number, arguments);
            }
        }
        if (i % REPORT == 0 || i == calls)
            NtSetIoCompletion(report, (void *)i, (void *)reached, 0, good);
    }
    return 0;
}

// ---- The parent -------------------------------------------------------------

static struct {
    uint64_t calls, reached, good;
    uint32_t workers, died, hung;
} total;

// Takes all reports that are there; the worker's calls by the last of them.
static uint64_t take_reports(HANDLE from, uint64_t calls)
{
    void *key, *context;
    IO_STATUS_BLOCK iosb;
    while (NtRemoveIoCompletion(from, &key, &context, &iosb, POLL) ==
           STATUS_SUCCESS) {
        calls = (uint64_t)key;
        total.reached |= (uint64_t)context;
        total.good |= iosb.Information;
    }
    return calls;
}

// Runs one worker to its end, which we bring about if it hangs.
static void run_worker(HANDLE from, uint64_t seed, uint64_t calls)
{
    char seed_text[24], calls_text[24];
    char *words[] = { "fuzz", "worker", seed_text, calls_text };
    RTL_USER_PROCESS_PARAMETERS *parameters =
        &NtCurrentPeb()->ProcessParameters;
    HANDLE input = parameters->StandardInput, worker = NULL;
    snprintf(seed_text, sizeof(seed_text), "%llu", (unsigned long long)seed);
    snprintf(calls_text, sizeof(calls_text), "%llu",
             (unsigned long long)calls);
    parameters->StandardInput = from;
    NTSTATUS status = nt_start_program(4, words, 0, &worker, NULL);
    parameters->StandardInput = input;
    if (!CHECK_OK(status))
        return;
    uint64_t done = 0;
    HANDLE both[] = { worker, from };
    do {
        status = NtWaitForMultipleObjects(2, both, WaitAny, false, PATIENCE);
        done = take_reports(from, done);
    } while (status == STATUS_WAIT_0 + 1);
    if (status == STATUS_TIMEOUT) {
        total.hung++;
        CHECK_OK(NtTerminateProcess(worker, STATUS_TIMEOUT));
        CHECK_OK(wait(worker));
        done = take_reports(from, done);
    } else if (process_status(worker) != STATUS_SUCCESS) {
        total.died++;
    }
    NtClose(worker);
    total.calls += done;
    total.workers++;
}

static void still_works(void)
{
    static uint8_t out[4096] __attribute__((aligned(4096)));
    static uint8_t in[4096] __attribute__((aligned(4096)));
    char *words[] = { "child", "exit", "12" };
    uint32_t done = 0;
    rule("after the last call the system works");
    CHECK_STATUS(run(3, words), 12);
    HANDLE disk = open_disk(0);
    memset(out, 0xA5, sizeof(out));
    CHECK_OK(nt_write(disk, out, sizeof(out), 65536, &done));
    CHECK_OK(nt_read(disk, in, sizeof(in), 65536, &done));
    CHECK(memcmp(in, out, sizeof(in)) == 0);
    CHECK_OK(NtDelayExecution(false, MS(2)));
    CHECK_OK(join(new_thread(benign_thread, NULL, 0)));
    NtClose(disk);
}

static uint32_t count_bits(uint64_t mask)
{
    uint32_t bits = 0;
    for (; mask; mask &= mask - 1)
        bits++;
    return bits;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "worker") == 0)
        return work(strtoull(argv[2], NULL, 0), strtoull(argv[3], NULL, 0));
    bool stress = argc > 1 && strcmp(argv[argc - 1], "stress") == 0;
    argc -= stress;
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    uint64_t calls = argc > 2 ? strtoull(argv[2], NULL, 0) : 10000;
    calls *= stress ? 20 : 1;
    printf("fuzz: seed %llu; again: make run ARGS='fuzz %llu %llu'\n",
           (unsigned long long)seed, (unsigned long long)seed,
           (unsigned long long)calls);
    HANDLE from = new_port(0);
    rule("workers");
    while (total.calls < calls && !ktap_failures) {
        printf("fuzz: worker %llu\n",
               (unsigned long long)(seed + total.workers));
        fflush(stdout);
        run_worker(from, seed + total.workers, calls - total.calls);
    }
    nt_set_foreground(NULL);    // a worker may have been
    NtClose(from);
    still_works();
    printf("fuzz: %llu calls, %u workers, %u died, %u hung\n",
           (unsigned long long)total.calls, total.workers, total.died,
           total.hung);
    printf("fuzz: %u of %d services reached, %u succeeded at least once\n",
           count_bits(total.reached), NT_SERVICE_COUNT,
           count_bits(total.good));
    for (int i = 0; i < NT_SERVICE_COUNT; i++)
        if (!(total.good >> i & 1))
            printf("fuzz: %s never succeeded\n", services[i].name);
    CHECK_EQ(count_bits(total.reached), NT_SERVICE_COUNT - 1);
    return ktap_end();
}
