// fuzzer.c - makes random system calls: fuzzer SLOT SEED CALLS
// helper: started by fuzz
//
// Two threads make them. What each does is decided by the seed alone; what
// comes of it also depends on the other one. One call in three has arguments
// which all are what they should be, so that others meet objects that are in
// use; the rest is wrong in every way that a list or chance can find.

#include "tests/user/call.h"
#include "tests/user/context.h"
#include "tests/user/fuzz.h"
#include "tests/user/random.h"

#define SLOTS   8u
#define ARENA   (64u * 1024)
#define AREA    0x200000000000ull
#define AREA_STEP 0x40000u    // less than the largest allocation
#define SMALL_NUMBERS 800u    // are most handles
#define DELAYED MS(5000)

// What the arguments of each service are, one letter each; see choose().
// What it makes, if anything, is of the kind behind the colon.
static const char *const services[NT_SERVICE_COUNT] = {
#define FUZZ(name, arguments) [NT_SERVICE_##name] = arguments
    FUZZ(NtClose, "h"), FUZZ(NtCreateFile, "oxaifdO:F"),
    FUZZ(NtReadFile, "FerpipLn"), FUZZ(NtWriteFile, "FerpipLn"),
    FUZZ(nt_write_array, "FWdp"),
    FUZZ(NtFlushBuffersFile, "Fi"),
    FUZZ(NtDeviceIoControlFile, "FerpiCpLpL"), FUZZ(NtCancelIoFile, "Fi"),
    FUZZ(NtCancelIoFileEx, "Fzi"), FUZZ(NtCancelSynchronousIoFile, "Hzi"),
    FUZZ(NtQueryInformationFile, "Fiplj"),
    FUZZ(NtSetInformationFile, "Fiylj"), FUZZ(NtQueryDirectoryFile, "DipLd"),
    FUZZ(NtDuplicateObject, "RhRoxnd"), FUZZ(NtCreateIoCompletion, "oxad:P"),
    FUZZ(NtSetIoCompletion, "Pppnn"), FUZZ(NtRemoveIoCompletion, "Pppit"),
    FUZZ(NtRemoveIoCompletionEx, "Ppdptd"), FUZZ(NtQueryIoCompletion, "Pp"),
    FUZZ(NtCreateEvent, "oxadd:E"), FUZZ(NtSetEvent, "Ez"),
    FUZZ(NtResetEvent, "Ez"), FUZZ(NtPulseEvent, "Ez"),
    FUZZ(NtQueryEvent, "Ep"), FUZZ(NtCreateSemaphore, "oxadd:S"),
    FUZZ(NtReleaseSemaphore, "Sdz"), FUZZ(NtCreateMutant, "oxad:M"),
    FUZZ(NtReleaseMutant, "Mz"), FUZZ(NtCreateTimer, "oxad:T"),
    FUZZ(NtSetTimer, "Ttrpddz"), FUZZ(NtCancelTimer, "Tz"),
    FUZZ(NtWaitForSingleObject, "hdt"),
    FUZZ(NtWaitForMultipleObjects, "dsddt"), FUZZ(NtDelayExecution, "dt"),
    FUZZ(NtYieldExecution, ""), FUZZ(NtQueueApcThread, "Hrppp"),
    FUZZ(NtTestAlert, ""), FUZZ(NtAlertThread, "H"), FUZZ(NtContinue, "pd"),
    FUZZ(NtCreateThreadEx, "oxaRrpdL:H"), FUZZ(NtTerminateThread, "Hn"),
    FUZZ(NtSuspendThread, "Hz"), FUZZ(NtResumeThread, "Hz"),
    FUZZ(NtOpenThread, "oxac:H"), FUZZ(NtQueryInformationThread, "Hgplz"),
    FUZZ(NtSetInformationThread, "Hvyk"),
    FUZZ(NtCreateUserProcess, "oNxxNu:R"), FUZZ(NtOpenProcess, "oxac:R"),
    FUZZ(NtTerminateProcess, "Rn"), FUZZ(NtQueryInformationProcess, "Rgplz"),
    FUZZ(NtAllocateVirtualMemory, "RBZAm"),
    FUZZ(NtFreeVirtualMemory, "RBZX"),
    FUZZ(NtProtectVirtualMemory, "RBZmp"),
    FUZZ(NtQueryVirtualMemory, "Rpp"),
    FUZZ(NtQuerySystemInformation, "qplz"),
    FUZZ(NtQueryPerformanceCounter, "pz"), FUZZ(NtQuerySystemTime, "p"),
    FUZZ(nt_set_thread_base, "p"), FUZZ(nt_trace_mask, "nz"),
    FUZZ(nt_trace_read, "gIpLpp"), FUZZ(nt_set_road, "dz"),
};

// One of the threads.
typedef struct fuzzer {
    uint64_t seed, state, calls;
    bool clean;                  // this call's arguments are all good
    uint8_t *arena;
    uint64_t position, base, size;
    NT_ARRAY_WRITE writes[6];
    union {
        uint8_t bytes[FUZZ_BATCH];
        uint64_t word;
    } batch;
    uint32_t batched;
} fuzzer;

static HANDLE report;

static int32_t slot;
static const char kinds[] = "FDESMTPHR";
static HANDLE volatile made[sizeof(kinds)][SLOTS];    // by kind
static HANDLE waitables[SLOTS];
static OBJECT_ATTRIBUTES names[7];
static RTL_USER_PROCESS_PARAMETERS programs[4];
static CLIENT_ID own_id;
static const char *const name_texts[] = {
    "\\??\\PhysicalDrive0", "\\??\\B:\\bin\\true", "\\??\\B:\\bin",
    "\\??\\COM2", "\\Device", "\\??\\B:\\nothing\\there", "",
};
static int64_t times[] = { 0, -1, -10000, -30000, 1, INT64_MIN, INT64_MAX };
static FILE_COMPLETION_INFORMATION binding;
static uint64_t small[] = { 1, 0, 2, 1, UINT32_MAX, UINT32_MAX - 1, 512 };

static uint64_t any(fuzzer *f)
{
    return random_from(&f->state);
}

static uint64_t below(fuzzer *f, uint64_t n)
{
    return any(f) % n;
}

#define PICK(f, array) ((array)[below(f, sizeof(array) / sizeof(*(array)))])

static void benign(void *a, void *b, void *c)
{
    (void)a, (void)b, (void)c;
}

static NTSTATUS benign_thread(void *argument)
{
    (void)argument;
    return STATUS_SUCCESS;
}

// Waits in a synchronous request, for somebody to cancel it.
static NTSTATUS read_console(void *argument)
{
    static uint8_t byte;
    static IO_STATUS_BLOCK iosb;
    HANDLE console = NULL;
    (void)argument;
    nt_open_file("CON", FILE_READ_DATA | SYNCHRONIZE, FILE_OPEN,
                 FILE_SYNCHRONOUS_IO_NONALERT, &console);
    while (NtReadFile(console, NULL, NULL, NULL, &iosb, &byte, 1, 0) ==
           STATUS_CANCELLED)
        continue;
    return STATUS_SUCCESS;    // its file was closed, most likely
}

// ---- Arguments --------------------------------------------------------------

static uint64_t hostile(fuzzer *f)
{
    static const uint64_t values[] = {
        0, 1, 2, 3, 7, 0x1000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
        0x100000000ull, 0x00007FFFFFFFFFFFull, 0x00007FFFFFFEFFF8ull,
        0x0000800000000000ull, 0xFFFF800000000000ull, 0xFFFF800000100000ull,
        0xFFFFC00000000000ull, 0xFFFFFFFF80000000ull, 0xFFFFFFFF80200000ull,
        INT64_MAX, 1ull << 63, UINT64_MAX - 7, UINT64_MAX - 1, UINT64_MAX,
    };
    return below(f, 4) ? PICK(f, values) : any(f) >> below(f, 64);
}

static uint64_t pointer(fuzzer *f)
{
    if (f->clean)
        return (uint64_t)f->arena + below(f, 8) * 4096;
    switch (below(f, 8)) {
    case 0: return hostile(f);
    case 1: return (uint64_t)f->arena + ARENA - below(f, 64);    // half mapped
    case 2: return (uint64_t)f->arena + below(f, ARENA);
    case 3: return (uint64_t)kinds;    // read-only
    default: return (uint64_t)f->arena + below(f, ARENA / 8) * 8;
    }
}

static size_t index_of(char kind)
{
    return (size_t)(strchr(kinds, kind) - kinds);
}

static uint64_t handle(fuzzer *f, char kind)
{
    static const int64_t pseudo[] = { -1, -2, -3, -4 };
    uint64_t how = f->clean ? 15 : below(f, 16);
    if (how == 0)
        return (uint64_t)PICK(f, pseudo);
    if (how == 1)
        return below(f, SMALL_NUMBERS);    // of anything, or stale
    if (kind == 'h' || how < 4)
        kind = kinds[below(f, sizeof(kinds) - 1)];
    if (kind == 'R' && below(f, 4))
        return (uint64_t)-1;
    return (uint64_t)made[index_of(kind)][below(f, SLOTS)];
}

static uint64_t choose(fuzzer *f, char kind)
{
    static const uint32_t protections[] = { 1, 2, 4, 16, 32, 64 };
    static const uint32_t types[] = { MEM_COMMIT, MEM_COMMIT | MEM_RESERVE,
                                      MEM_RELEASE, MEM_RESERVE };
    static const uint32_t codes[] = { IOCTL_CONSOLE_SET_FOREGROUND,
                                      IOCTL_DISK_GET_DRIVE_GEOMETRY };
    static const uint32_t classes[] = { 5, 14, 20, 30, 41 };
    static const uint32_t lengths[] = { 4, 8, 16, 24, 40, 72, 88, 65536 };
    static void *const routines[] = { (void *)benign, (void *)benign_thread,
                                      NULL };
    // A wild routine is the end of most workers, a wild time of all calls.
    uint64_t often = kind == 'r' || kind == 't' ? 250 : 8;
    if (!f->clean && below(f, often) == 0 && kind != 'N')
        return hostile(f);
    switch (kind) {
    case 'z': return below(f, 2) ? 0 : pointer(f);
    case 'p': case 'i': return pointer(f);
    case 'y': return below(f, 4) == 0 ? (uint64_t)&binding
                                      : (uint64_t)&PICK(f, small);
    case 'B':    // apart from stacks, which would be freed in their place
        f->base = below(f, 16) ? AREA + below(f, 8) * AREA_STEP : 0;
        return (uint64_t)&f->base;
    case 'Z':
        f->size = below(f, 4) ? 4096ull << below(f, 8) : 0;
        return (uint64_t)&f->size;
    case 'W':
        for (size_t i = 0; i < sizeof(f->writes) / sizeof(*f->writes); i++)
            f->writes[i] = (NT_ARRAY_WRITE){
                (void *)below(f, 2), (void *)pointer(f), (void *)pointer(f),
                below(f, 64) * 512, (uint32_t)below(f, 8) * 512, 0 };
        return below(f, 8) ? (uint64_t)f->writes : pointer(f);
    case 'I':
        f->position = below(f, 4) ? 0 : any(f);
        return (uint64_t)&f->position;
    case 'g': return below(f, 3) ? 0 : 3 + below(f, 2);
    case 'j': return PICK(f, classes);
    case 'l': return PICK(f, lengths);
    case 'v': return 3 + below(f, 2);
    case 'k': return below(f, 2) ? 4 : 8;
    case 'o': return (uint64_t)&f->position;
    case 's': return (uint64_t)(f->clean ? waitables : (HANDLE *)made);
    case 'e': return below(f, 2) ? 0 : handle(f, 'E');
    case 'x': return below(f, 4) ? ALL_ACCESS : any(f);
    case 'a': return below(f, 2) ? (uint64_t)&PICK(f, names) : 0;
    case 'u': return (uint64_t)&programs[below(f, 3) ? 0 : below(f, 4)];
    case 'c': return below(f, 2) ? (uint64_t)&own_id : pointer(f);
    case 't':
        return (uint64_t)&times[below(f, 200) ? below(f, 5) : below(f, 7)];
    case 'r': return (uint64_t)PICK(f, routines);
    case 'L': return below(f, 2) ? below(f, 64) * 512 : below(f, 256);
    case 'd': return below(f, 6);
    case 'q': return below(f, 2) ? 0x1000 : below(f, 4);
    case 'O': return below(f, 4) * 16;
    case 'C': return PICK(f, codes);
    case 'A': return PICK(f, types);
    case 'X': return below(f, 8) ? MEM_RELEASE : PICK(f, types);
    case 'm': return PICK(f, protections);
    case 'N': return 0;
    case 'n': case 'f': return below(f, 2) ? below(f, 64) * 512 : any(f);
    default: return handle(f, kind);
    }
}

// ---- Calls ------------------------------------------------------------------

// The reports must get through, and nobody else may be harmed: what is not the
// worker's own may only be looked at.
static bool make_safe(fuzzer *f, uint64_t number, uint64_t *arguments)
{
    for (int i = 0; i < 10; i++)
        if (arguments[i] / 4 == (uint64_t)report / 4)
            return false;
    bool opens = number == NT_SERVICE_NtOpenProcess ||
                 number == NT_SERVICE_NtOpenThread;
    if (opens && arguments[3] != (uint64_t)&own_id)
        arguments[1] = SYNCHRONIZE;
    if (number == NT_SERVICE_NtCreateUserProcess) {
        arguments[1] = arguments[4] = 0;
        if (arguments[5] == (uint64_t)NtCurrentPeb())
            return false;    // its own parameters: that one would do the same
        return below(f, 8) == 0;    // it takes a hundred times as long
    }
    if (number == NT_SERVICE_NtCancelIoFileEx && f->clean) {    // something
        arguments[0] = (uint64_t)made[0][0];
        arguments[1] = 0;
        NtReadFile(made[0][0], NULL, NULL, NULL, (void *)f->arena, f->arena,
                   1, 0);
    }
    if (number == NT_SERVICE_NtCancelSynchronousIoFile && f->clean) {
        arguments[0] = (uint64_t)made[7][0];    // it reads from the console
        arguments[1] = 0;
    }
    if (number == NT_SERVICE_NtTerminateProcess)    // often its own
        return below(f, arguments[0] == UINT64_MAX ? 24 : 4) == 0;
    return number != NT_SERVICE_NtTerminateThread ||
           arguments[0] < UINT64_MAX - 1 || below(f, 64) == 0;
}

// Keeps what a call has made, in the place of an older one; a program is seen
// to its end.
static void keep(fuzzer *f, uint64_t number, HANDLE handle)
{
    const char *made_kind = strchr(services[number], ':');
    if (number == NT_SERVICE_NtCreateUserProcess)
        NtWaitForSingleObject(handle, false, DELAYED);
    if (!made_kind || handle == report)
        return;
    HANDLE volatile *place =
        &made[index_of(made_kind[1])][1 + below(f, SLOTS - 1)];
    HANDLE old = *place;
    *place = handle;
    NtClose(old);
}

static NTSTATUS make_call(fuzzer *f, uint64_t number, const uint64_t *arguments)
{
    if (number == NT_SERVICE_NtContinue && below(f, 16)) {
        CONTEXT context;
        uint64_t after[4];
        memcpy(&context, f->arena + below(f, 64) * 64, sizeof(context));
        context.EFlags &= 0xFF;
        return go_on(&context, after), STATUS_SUCCESS;
    }
    NTSTATUS status = call_service(number, arguments);
    if (NT_SUCCESS(status) && arguments[0] == (uint64_t)&f->position)
        keep(f, number, (HANDLE)f->position);
    return status;
}

static void tell(fuzzer *f, uint64_t number, bool good)
{
    f->batch.bytes[f->batched++] = (uint8_t)(number | (good ? FUZZ_GOOD : 0));
    if (f->batched < FUZZ_BATCH)
        return;
    NtSetIoCompletion(report, NULL, (void *)f->batch.word, slot, 0);
    f->batched = 0;
}

static void fill_arena(fuzzer *f)
{
    for (uint32_t i = 0; i < ARENA; i += 8) {
        uint64_t word = below(f, 3) ? below(f, below(f, 2) ? 3 : 65536)
                                    : any(f);
        memcpy(f->arena + i, &word, sizeof(word));
    }
}

static NTSTATUS run_fuzzer(void *argument)
{
    fuzzer *f = argument;
    uint64_t arguments[10];
    f->state = f->seed;
    f->arena = nt_allocate_pages(ARENA);
    if (!f->arena)
        return STATUS_NO_MEMORY;
    fill_arena(f);
    for (uint64_t i = 0; i < f->calls; i++) {
        uint64_t number = below(f, NT_SERVICE_COUNT);
        const char *letters = services[number];
        f->clean = below(f, 3) == 0;
        for (int j = 0; j < 10; j++)
            arguments[j] = letters && *letters && *letters != ':'
                               ? choose(f, *letters++) : any(f);
        if (letters && make_safe(f, number, arguments))
            tell(f, number, NT_SUCCESS(make_call(f, number, arguments)));
    }
    return STATUS_SUCCESS;
}

// ---- What there is at the start ---------------------------------------------

static void make_names(void)
{
    static const char *const program_texts[] = {
        "\\??\\B:\\bin\\true", "\\??\\B:\\files\\README.md", "\\??\\B:\\bin",
        "\\??\\PhysicalDrive0",
    };
    for (int i = 0; i < 7; i++) {
        names[i].Length = sizeof(names[i]);
        RtlInitString(&names[i].ObjectName, name_texts[i]);
    }
    for (int i = 0; i < 4; i++) {
        RtlInitString(&programs[i].ImagePathName, program_texts[i]);
        RtlInitString(&programs[i].CommandLine, "program");
    }
    own_id = NtCurrentPeb()->ClientId;
}

// One of each kind in each slot; the event and the port of slot 0 are shared
// with all other workers.
static void make_objects(void)
{
    RTL_USER_PROCESS_PARAMETERS *given = &NtCurrentPeb()->ProcessParameters;
    for (uint32_t i = 0; i < SLOTS; i++) {
        HANDLE all[9] = { NULL };
        all[0] = open_disk(i % 2 ? FILE_SYNCHRONOUS_IO_NONALERT : 0);
        nt_open_file("B:\\bin", FILE_LIST_DIRECTORY, FILE_OPEN, 0, &all[1]);
        all[2] = i ? new_event((EVENT_TYPE)(i % 2), false)
                   : given->StandardOutput;
        NtCreateSemaphore(&all[3], ALL_ACCESS, NULL, 1, 100);
        NtCreateMutant(&all[4], ALL_ACCESS, NULL, false);
        NtCreateTimer(&all[5], ALL_ACCESS, NULL, (TIMER_TYPE)(i % 2));
        all[6] = i ? new_port(i) : given->StandardError;
        all[7] = i ? new_thread(benign_thread, NULL,
                                THREAD_CREATE_FLAGS_CREATE_SUSPENDED)
                   : new_thread(read_console, NULL, 0);
        if (i < SLOTS / 2)
            NtOpenProcess(&all[8], ALL_ACCESS, NULL, &own_id);
        else    // one that has ended
            nt_start_program(1, (char *[]){ "true" }, 0, &all[8], NULL);
        waitables[i] = all[2 + i % 7];
        for (int kind = 0; kind < 9; kind++)
            made[kind][i] = all[kind];
    }
    // Here requests wait, and can be cancelled.
    nt_open_file("CON", FILE_READ_DATA | SYNCHRONIZE, FILE_OPEN, 0,
                 (HANDLE *)&made[0][0]);
    binding.Port = made[6][1];
}

// The port for the reports, by a handle that no small number hits: no call is
// made that has it among its arguments.
static HANDLE high_handle(HANDLE port)
{
    static HANDLE low[SMALL_NUMBERS / 4];
    const uint32_t count = sizeof(low) / sizeof(*low);
    for (uint32_t i = 0; i < count; i++)
        NtDuplicateObject(NtCurrentProcess(), port, NtCurrentProcess(),
                          &low[i], 0, 0, DUPLICATE_SAME_ACCESS);
    for (uint32_t i = 0; i < count - 1; i++)
        NtClose(low[i]);
    NtClose(port);
    return low[count - 1];
}

int main(int argc, char **argv)
{
    static fuzzer fuzzers[2];
    if (argc != 4)
        return 2;
    report = high_handle(NtCurrentPeb()->ProcessParameters.StandardInput);
    slot = (int32_t)strtoul(argv[1], NULL, 0);
    make_names();
    make_objects();
    for (int i = 0; i < 2; i++) {
        fuzzers[i].seed = strtoull(argv[2], NULL, 0) * 2 + (uint64_t)i;
        fuzzers[i].calls = strtoull(argv[3], NULL, 0) / 2;
    }
    HANDLE other = new_thread(run_fuzzer, &fuzzers[1], 0);
    run_fuzzer(&fuzzers[0]);
    NtWaitForSingleObject(other, false, NULL);
    return 0;
}
