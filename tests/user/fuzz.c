// fuzz.c - random system calls: fuzz [SEED [CALLS]] [stress]
// args: 0 50000 [stress]
// bus: nvme
// cpus: 1
// cpus: 4
//
// Several workers at once make the calls (fuzzer.c), so that some may die or
// hang: those are replaced, with the next seed. They have an event and a port
// in common. At the end each service must have succeeded, and the system must
// still do its work; leaks looks for what was not given back. Seed 0 is another
// one in each of leaks' runs, of which there are at least two: 100,000 calls on
// each number of processors, ten million with `stress`.

#include "tests/user/fuzz.h"
#include "tests/user/neighbour.h"

#define WORKERS   4u
#define SHARE     10000u    // calls of one worker
#define PATIENCE  300u      // ms without a sign of life: the worker hangs
#define GLANCE    MS(50)
#define STRESS_BY 100u

static struct {
    uint64_t calls, of[NT_SERVICE_COUNT], good[NT_SERVICE_COUNT];
    uint32_t workers, died, hung;
} total;

static struct worker {
    HANDLE process;
    uint64_t seed;
    int64_t seen;            // its last sign of life
} workers[WORKERS];

static HANDLE reports, shared_event, shared_port;
static uint64_t seed;

static const char *const names[NT_SERVICE_COUNT] = {
#define FUZZ_NAME(name, count, arguments) #name,
    NT_SERVICES(FUZZ_NAME)
};

static int64_t milliseconds(void)
{
    int64_t now = 0, hertz = 1000;
    NtQueryPerformanceCounter(&now, &hertz);
    return now / (hertz / 1000);
}

static void start_worker(uint32_t n)
{
    char slot[12], seed_text[24], calls[12];
    char *words[] = { "fuzzer", slot, seed_text, calls };
    RTL_USER_PROCESS_PARAMETERS *parameters =
        &NtCurrentPeb()->ProcessParameters;
    RTL_USER_PROCESS_PARAMETERS mine = *parameters;
    snprintf(slot, sizeof(slot), "%u", n);
    snprintf(seed_text, sizeof(seed_text), "%llu", (unsigned long long)seed);
    snprintf(calls, sizeof(calls), "%u", SHARE);
    parameters->StandardOutput = shared_event;
    parameters->StandardError = shared_port;
    CHECK_OK(start_with(4, words, reports, &workers[n].process));
    *parameters = mine;
    workers[n].seed = seed++;
    workers[n].seen = milliseconds();
    total.workers++;
}

// Takes all reports that are there.
static void take_reports(void)
{
    FILE_IO_COMPLETION_INFORMATION entries[64];
    uint32_t count = 0;
    while (NtRemoveIoCompletionEx(reports, entries, 64, &count, POLL, false) ==
           STATUS_SUCCESS)
        for (uint32_t i = 0; i < count; i++) {
            uint64_t batch = (uint64_t)entries[i].ApcContext;
            uint32_t slot = (uint32_t)entries[i].IoStatusBlock.Status;
            for (uint32_t j = 0; j < FUZZ_BATCH; j++, batch >>= 8) {
                uint32_t number = batch & (FUZZ_GOOD - 1);
                if (number >= NT_SERVICE_COUNT)
                    continue;
                total.calls++;
                total.of[number]++;
                total.good[number] += (batch & FUZZ_GOOD) != 0;
            }
            if (slot < WORKERS)
                workers[slot].seen = milliseconds();
        }
}

// What they posted to each other is nobody's.
static void empty_shared_port(void)
{
    FILE_IO_COMPLETION_INFORMATION entries[64];
    uint32_t count;
    while (NtRemoveIoCompletionEx(shared_port, entries, 64, &count, POLL,
                                  false) == STATUS_SUCCESS)
        continue;
}

static void end_worker(uint32_t n, bool kill)
{
    HANDLE process = workers[n].process;
    if (kill) {
        CHECK_OK(NtTerminateProcess(process, STATUS_TIMEOUT));
        if (!CHECK_OK(wait(process)))
            printf("again: make run ARGS='fuzzer 0 %llu %u'\n",
                   (unsigned long long)workers[n].seed, SHARE);
    }
    NTSTATUS status = process_status(process);
    total.hung += status == STATUS_TIMEOUT;
    total.died += status != STATUS_TIMEOUT && status != STATUS_SUCCESS;
    NtClose(process);
    workers[n].process = NULL;
}

// Replaces whoever has ended, or hangs.
static void look_at_workers(void)
{
    for (uint32_t n = 0; n < WORKERS; n++) {
        bool ended = NtWaitForSingleObject(workers[n].process, false, POLL) ==
                     STATUS_SUCCESS;
        if (!ended && milliseconds() - workers[n].seen < PATIENCE)
            continue;
        end_worker(n, !ended);
        start_worker(n);
    }
}

static void fuzz(uint64_t calls)
{
    rule("workers");
    reports = new_port(0);
    shared_event = new_event(SynchronizationEvent, false);
    shared_port = new_port(0);
    for (uint32_t n = 0; n < WORKERS; n++)
        start_worker(n);
    while (total.calls < calls && !ktap_failures) {
        HANDLE any[WORKERS + 1] = { reports };
        for (uint32_t n = 0; n < WORKERS; n++)
            any[n + 1] = workers[n].process;
        NtWaitForMultipleObjects(WORKERS + 1, any, WaitAny, false, GLANCE);
        take_reports();
        empty_shared_port();
        look_at_workers();
    }
    for (uint32_t n = 0; n < WORKERS; n++)
        end_worker(n, true);
    take_reports();
    nt_set_foreground(NULL);    // a worker may have been
    NtClose(reports);
    NtClose(shared_event);
    NtClose(shared_port);
}

static void still_works(void)
{
    char *words[] = { "child", "exit", "12" };
    rule("after the last call the system works");
    CHECK_STATUS(run(3, words), 12);
    stop_neighbour(start_neighbour("all"));
}

static void tell(void)
{
    printf("fuzz: %llu calls, %u workers, %u died, %u hung\n",
           (unsigned long long)total.calls, total.workers, total.died,
           total.hung);
    rule("each service succeeds");
    for (int i = 0; i < NT_SERVICE_COUNT; i++) {
        printf("%26s %6llu/%-6llu%s", names[i],
               (unsigned long long)total.good[i],
               (unsigned long long)total.of[i], i % 3 == 2 ? "\n" : "");
        if (i == NT_SERVICE_nt_shutdown)
            continue;
        if (!CHECK(total.good[i] > 0))
            printf("    %s never did\n", names[i]);
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    bool stress = argc > 1 && strcmp(argv[argc - 1], "stress") == 0;
    argc -= stress;
    seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 0;
    if (!seed)    // far from that of another process
        seed = NtCurrentPeb()->ClientId.UniqueProcess << 20;
    uint64_t calls = argc > 2 ? strtoull(argv[2], NULL, 0) : 50000;
    calls *= stress ? STRESS_BY : 1;
    SYSTEM_BASIC_INFORMATION basic = { 0 };
    NtQuerySystemInformation(SystemBasicInformation, &basic, sizeof(basic),
                             NULL);
    printf("fuzz: again: make run ARGS='fuzz %llu %llu' CPUS=%u\n",
           (unsigned long long)seed, (unsigned long long)calls,
           basic.NumberOfProcessors);
    fflush(stdout);
    fuzz(calls);
    still_works();
    tell();
    return ktap_end();
}
