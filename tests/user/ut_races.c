// ut_races.c - what a service was shown changes while it looks.
// args: 1 [stress]
// bus: nvme
// cpus: 1
// cpus: 2
// cpus: 4
//
// Two callers make system calls. A thief unmaps the pages that the arguments
// point to, protects and maps them again; changes what lies there; and closes
// handles and puts objects of other types in their places. Each seed has a
// process of its own, which must come through it: every call gives a status.

#include "tests/user/call.h"
#include "tests/user/neighbour.h"
#include "tests/user/random.h"

#define PAGE    4096u
#define PAGES   8u
#define HANDLES 12u
#define CALLS   4000u
#define SEEDS   4u

static uint8_t *pages;                 // are unmapped, and come back
static uint64_t words[512] __attribute__((aligned(4096)));    // change
static HANDLE volatile handles[HANDLES];
static volatile bool done;
static volatile uint32_t good, faults;    // calls that gave that
static int64_t soon = -1000, now = 0;
static OBJECT_ATTRIBUTES attributes;
static RTL_USER_PROCESS_PARAMETERS parameters;

static uint64_t below(uint64_t *state, uint64_t n)
{
    return random_from(state) % n;
}

// ---- The thief --------------------------------------------------------------

static HANDLE make_any(uint64_t *state)
{
    HANDLE made = NULL;
    DISK_GEOMETRY geometry;
    switch (below(state, 8)) {
    case 0: case 1:
        NtCreateEvent(&made, ALL_ACCESS, NULL, SynchronizationEvent, true);
        break;
    case 2: NtCreateSemaphore(&made, ALL_ACCESS, NULL, 1, 9); break;
    case 3: NtCreateMutant(&made, ALL_ACCESS, NULL, false); break;
    case 4: NtCreateTimer(&made, ALL_ACCESS, NULL, NotificationTimer); break;
    case 5: NtCreateIoCompletion(&made, ALL_ACCESS, NULL, 1); break;
    default:
        nt_open_disk(0, FILE_READ_DATA | FILE_WRITE_DATA, 0, &made,
                     &geometry);
    }
    return made;
}

static void change_page(uint64_t *state)
{
    static const uint32_t protections[] = { PAGE_NOACCESS, PAGE_READONLY,
                                            PAGE_READWRITE, PAGE_READWRITE };
    void *base = pages + below(state, PAGES) * PAGE;
    size_t size = PAGE * (1 + below(state, 2));
    uint32_t old;
    switch (below(state, 4)) {
    case 0:
        NtFreeVirtualMemory(NtCurrentProcess(), &base, &size, MEM_RELEASE);
        break;
    case 1:
        NtProtectVirtualMemory(NtCurrentProcess(), &base, &size,
                               protections[below(state, 4)], &old);
        break;
    default:    // more often there than not
        NtAllocateVirtualMemory(NtCurrentProcess(), &base, &size, MEM_COMMIT,
                                PAGE_READWRITE);
    }
}

// Copies what the kernel should see over it, or spoils a word of it.
static void change_words(uint64_t *state)
{
    static const uint64_t hostile[] = {
        0, 1, 8, 0xFFFF, 0xFFFFFFFF, 0x0000800000000000ull, UINT64_MAX,
        0xFFFF800000100000ull, 0xFFFFFFFF80200000ull, INT64_MAX,
    };
    uint64_t at = below(state, 64);
    if (below(state, 3) == 0) {
        words[at] = hostile[below(state, 10)];
        return;
    }
    memcpy(words, &attributes, sizeof(attributes));
    memcpy(words + 8, &parameters, sizeof(parameters));
    for (int i = 0; i < 8; i++)
        words[40 + i] = (uint64_t)handles[i];
}

static NTSTATUS steal(void *argument)
{
    uint64_t state = (uint64_t)argument;
    while (!done) {
        uint64_t place = below(&state, HANDLES);
        switch (below(&state, 16)) {
        case 0:
            NtClose(handles[place]);
            handles[place] = make_any(&state);
            break;
        case 1: NtDelayExecution(false, &soon); break;
        case 2: NtYieldExecution(); break;
        case 3: case 4: case 5: case 6: change_words(&state); break;
        default: change_page(&state);
        }
    }
    return STATUS_SUCCESS;
}

// ---- The callers ------------------------------------------------------------

// A pointer to what changes, or close to the end of a page that may be gone.
static void *somewhere(uint64_t *state)
{
    switch (below(state, 4)) {
    case 0: return &words[below(state, 64)];
    case 1: return pages + (1 + below(state, PAGES - 1)) * PAGE -
                   below(state, 8) * 8;
    default: return pages + below(state, PAGES * PAGE / 8) * 8;
    }
}

static NTSTATUS one_call(uint64_t *state)
{
#define H handles[below(state, HANDLES)]
#define P somewhere(state)
    HANDLE self = NtCurrentProcess();
    uint32_t length = (uint32_t)below(state, 4) * 512;
    switch (below(state, 28)) {
    case 0: return NtReadFile(H, H, NULL, NULL, P, P, length, 0);
    case 1: return NtReadFile(H, NULL, NULL, NULL, P, pages, 4 * PAGE, 0);
    case 2: return NtWriteFile(H, H, NULL, P, P, P, length, 1u << 20);
    case 3: return NtWriteFile(H, NULL, NULL, P, P, pages, PAGE, 1u << 20);
    case 4: return NtFlushBuffersFile(H, P);
    case 5: return NtDeviceIoControlFile(H, H, NULL, NULL, P,
                                         IOCTL_DISK_GET_DRIVE_GEOMETRY, P, 16,
                                         P, (uint32_t)below(state, 9000));
    case 6: return NtCancelIoFileEx(H, P, P);
    case 7: return NtQueryInformationFile(H, P, P, 64,
                                          FilePositionInformation);
    case 8: return NtSetInformationFile(H, P, &words[40], 16,
                                        FileCompletionInformation);
    case 9: return NtDuplicateObject(self, H, self, P, 0, 0,
                                     DUPLICATE_SAME_ACCESS |
                                     (uint32_t)below(state, 2));
    case 10: return NtSetIoCompletion(H, P, P, 0, 0);
    case 11: return NtRemoveIoCompletion(H, P, P, P, below(state, 9) ? &now
                                                                     : &soon);
    case 12: return NtRemoveIoCompletionEx(H, P, (uint32_t)below(state, 80), P,
                                           &now, true);
    case 13: return NtQueryEvent(H, P);
    case 14: return NtSetEvent(H, P);
    case 15: return NtReleaseSemaphore(H, 1, P);
    case 16: return NtReleaseMutant(H, P);
    case 17: return NtSetTimer(H, &soon, NULL, NULL, false,
                               (int32_t)below(state, 2), P);
    case 18: return NtCancelTimer(H, P);
    case 19: return NtWaitForMultipleObjects(1 + (uint32_t)below(state, 8),
                                             (const HANDLE *)&words[40],
                                             (WAIT_TYPE)below(state, 2), true,
                                             below(state, 9) ? &now : &soon);
    case 20: return NtWaitForSingleObject(H, true, &now);
    case 21: return NtQuerySystemInformation(SystemSnapshotInformation, P,
                                             8192, P);
    case 22: {
        void *base = P;    // only what is the thief's
        size_t size = 1;
        return NtProtectVirtualMemory(self, &base, &size, PAGE_READWRITE, P);
    }
    case 23: return nt_trace_read(0, P, P, 200, P, P);
    case 24: return NtQueryVirtualMemory(self, P, P);
    case 25: {
        HANDLE file = NULL;
        NTSTATUS status = NtCreateFile(below(state, 2) ? P : &file,
                                       FILE_READ_DATA, (void *)words, P, 0,
                                       FILE_OPEN, 0);
        if (file)
            NtClose(file);
        return status;
    }
    case 26: {
        HANDLE process = NULL;
        if (below(state, 16))
            return STATUS_SUCCESS;    // it takes long
        NTSTATUS status = NtCreateUserProcess(&process, NULL, ALL_ACCESS,
                                              ALL_ACCESS, 0,
                                              (void *)(words + 8));
        if (process) {
            // The handle's number may be stolen too: of what is never set.
            NtWaitForSingleObject(process, false, MS(1000));
            NtClose(process);
        }
        return status;
    }
    default: return NtClose(below(state, 4) ? P : H);
    }
}

static NTSTATUS make_calls(void *argument)
{
    uint64_t state = (uint64_t)argument;
    char text[RTL_STATUS_SIZE];
    for (uint32_t i = 0; i < CALLS; i++) {
        NTSTATUS status = one_call(&state);
        ktap_checks++;
        good += NT_SUCCESS(status);
        faults += status == STATUS_ACCESS_VIOLATION;
        if (NT_ERROR(status) && !rtl_status_name(status)) {
            printf("not ok - a call gave %s\n", rtl_status_text(status, text));
            return STATUS_UNSUCCESSFUL;
        }
    }
    return STATUS_SUCCESS;
}

static int work(uint64_t seed)
{
    pages = nt_allocate_pages(PAGES * PAGE);
    attributes.Length = sizeof(attributes);
    RtlInitString(&attributes.ObjectName, "\\??\\B:\\bin\\true");
    RtlInitString(&parameters.ImagePathName, "\\??\\B:\\bin\\true");
    RtlInitString(&parameters.CommandLine, "true");
    for (uint32_t i = 0; i < HANDLES; i++)
        handles[i] = make_any(&seed);
    // Both have their handles before anybody closes what may just have got the
    // number of one that is being replaced.
    HANDLE thief = new_thread(steal, (void *)(seed + 1),
                              THREAD_CREATE_FLAGS_CREATE_SUSPENDED);
    HANDLE caller = new_thread(make_calls, (void *)(seed + 2),
                               THREAD_CREATE_FLAGS_CREATE_SUSPENDED);
    CHECK_OK(NtResumeThread(thief, NULL));
    CHECK_OK(NtResumeThread(caller, NULL));
    CHECK_OK(make_calls((void *)(seed + 3)));
    CHECK_OK(NtWaitForSingleObject(caller, false, NULL));
    done = true;
    CHECK_OK(NtWaitForSingleObject(thief, false, NULL));
    printf("races: %u calls, %u good, %u faults\n", ktap_checks, good, faults);
    CHECK(good > CALLS / 20 && faults > 0);    // it was a race
    return ktap_failures || !ktap_checks;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "work") == 0)
        return work(strtoull(argv[2], NULL, 0));
    bool stress = argc > 1 && strcmp(argv[argc - 1], "stress") == 0;
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    neighbour beside = start_neighbour("all");
    rule("what is shown changes");
    for (uint64_t last = seed + SEEDS * (stress ? 50 : 1); seed < last;
         seed++) {
        char number[24];
        char *line[] = { "ut_races", "work", number };
        HANDLE process = NULL;
        snprintf(number, sizeof(number), "%llu", (unsigned long long)seed);
        CHECK_OK(nt_start_program(3, line, 0, &process, NULL));
        bool ended = CHECK_OK(NtWaitForSingleObject(process, false,
                                                    MS(120000))) &&
                     CHECK_OK(process_status(process));
        if (!ended)
            printf("again: make run ARGS='ut_races work %s'\n", number);
        NtTerminateProcess(process, 1);
        NtClose(process);
    }
    stop_neighbour(beside);
    return ktap_end();
}
