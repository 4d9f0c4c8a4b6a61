// ut_greed.c - one process takes all that there is, of each kind; others live.
// cpus: 1
// cpus: 4
// memory: 40M
//
// The greedy process gets a status in the end, says so and keeps what it has.
// Meanwhile a neighbour goes on with its I/O, its timers and its memory. Then
// the greedy one is ended, with all that it holds, and everything is back:
// processes and threads can be made again, and leaks counts.

#include "tests/user/neighbour.h"

#define MOST 4000000u    // no machine of ours has so much of anything

static HANDLE port, console, disk, event, sleeper;
static uint8_t byte;
static IO_STATUS_BLOCK iosb;

static NTSTATUS sleep_long(void *argument)
{
    (void)argument;
    return NtDelayExecution(false, MS(3600000));
}

static void never(void *a, void *b, void *c)
{
    (void)a, (void)b, (void)c;
}

static NTSTATUS take_memory(uint64_t n)
{
    static size_t size = 1u << 20;
    void *base = NULL;
    size_t wanted = size;
    (void)n;
    NTSTATUS status;
    while ((status = NtAllocateVirtualMemory(
                NtCurrentProcess(), &base, &wanted, MEM_COMMIT,
                PAGE_READWRITE)) == STATUS_NO_MEMORY && size > 4096)
        wanted = size /= 2;
    return status;
}

static NTSTATUS take_handle(uint64_t n)
{
    HANDLE more;
    (void)n;
    return NtDuplicateObject(NtCurrentProcess(), event, NtCurrentProcess(),
                             &more, 0, 0, DUPLICATE_SAME_ACCESS);
}

static NTSTATUS take_thread(uint64_t n)
{
    HANDLE thread;
    (void)n;
    return NtCreateThreadEx(&thread, ALL_ACCESS, NULL, NtCurrentProcess(),
                            (void *)sleep_long, NULL, 0, 4096);
}

static NTSTATUS take_packet(uint64_t n)
{
    return NtSetIoCompletion(port, (void *)n, NULL, 0, 0);
}

static NTSTATUS take_packets_of_many_ports(uint64_t n)
{
    static HANDLE one;
    NTSTATUS status = n % 200 ? STATUS_SUCCESS
                              : NtCreateIoCompletion(&one, ALL_ACCESS, NULL, 1);
    return NT_ERROR(status) ? status
                            : NtSetIoCompletion(one, (void *)n, NULL, 0, 0);
}

static NTSTATUS take_apc(uint64_t n)
{
    return NtQueueApcThread(sleeper, never, (void *)n, NULL, NULL);
}

static NTSTATUS take_request(uint64_t n)
{
    (void)n;
    return NtReadFile(console, NULL, NULL, NULL, &iosb, &byte, 1, 0);
}

static NTSTATUS take_large_request(void)
{
    static uint8_t large[1900];
    return NtReadFile(console, NULL, NULL, NULL, &iosb, large, sizeof(large),
                      0);
}

// Of all memory the rest, by what pending requests need, and by finished ones
// that nobody takes out of their port.
static NTSTATUS take_memory_and_buffers(uint64_t n)
{
    NTSTATUS status = take_memory(n);
    return NT_ERROR(status) ? take_large_request() : status;
}

// The memory is page tables here: the pages themselves are given back.
static NTSTATUS take_tables_and_buffers(uint64_t n)
{
    void *base = (void *)((4ull << 30) + (n << 21));
    size_t size = 4096;
    if (NT_ERROR(NtAllocateVirtualMemory(NtCurrentProcess(), &base, &size,
                                         MEM_COMMIT, PAGE_READWRITE)))
        return take_large_request();
    return NtFreeVirtualMemory(NtCurrentProcess(), &base, &size, MEM_RELEASE);
}

static NTSTATUS take_result(uint64_t n)
{
    (void)n;
    return NtWriteFile(disk, NULL, NULL, &iosb, &iosb, &byte, 0, 0);
}

static NTSTATUS take_memory_and_results(uint64_t n)
{
    NTSTATUS status = take_memory(n);
    return NT_ERROR(status) ? take_result(n) : status;
}

static void never_done(void *context, IO_STATUS_BLOCK *result, uint32_t zero)
{
    (void)context, (void)result, (void)zero;
}

// Finished as well, but their thread never waits alertably.
static NTSTATUS take_routine(uint64_t n)
{
    (void)n;
    return NtWriteFile(console, NULL, never_done, NULL, &iosb, &byte, 0, 0);
}

static NTSTATUS take_memory_and_routines(uint64_t n)
{
    NTSTATUS status = take_memory(n);
    return NT_ERROR(status) ? take_routine(n) : status;
}

// With their handles' table, which is full before memory is.
static NTSTATUS take_object(uint64_t n)
{
    HANDLE more;
    switch (n % 4) {
    case 0: return NtCreateIoCompletion(&more, ALL_ACCESS, NULL, 1);
    case 1: return NtCreateTimer(&more, ALL_ACCESS, NULL, NotificationTimer);
    case 2: return nt_open_file("B:\\bin\\true", FILE_READ_DATA, FILE_OPEN, 0,
                                &more);
    default: return NtCreateMutant(&more, ALL_ACCESS, NULL, true);
    }
}

static NTSTATUS take_process(uint64_t n)
{
    HANDLE process;
    (void)n;
    // It ends with the event; so do those that nobody ends.
    return start_with(2, (char *[]){ "neighbour", "wait" }, event, &process);
}

static const struct {
    char *name;
    NTSTATUS (*take)(uint64_t n);
    uint32_t at_least;
} kinds[] = {
    { "memory", take_memory, 5 }, { "handles", take_handle, 1000 },
    { "threads", take_thread, 100 }, { "packets", take_packet, 10000 },
    { "apcs", take_apc, 10000 }, { "requests", take_request, 1000 },
    { "objects", take_object, 1000 }, { "processes", take_process, 20 },
    { "ports", take_packets_of_many_ports, 10000 },
    { "results", take_result, 1000 },
    { "memory, buffers", take_memory_and_buffers, 5 },
    { "tables, buffers", take_tables_and_buffers, 1000 },
    { "memory, results", take_memory_and_results, 5 },
    { "routines", take_routine, 1000 },
    { "memory, routines", take_memory_and_routines, 5 },
};

// ---- The greedy one ---------------------------------------------------------

static int be_greedy(const char *name)
{
    const RTL_USER_PROCESS_PARAMETERS *given =
        &NtCurrentPeb()->ProcessParameters;
    NTSTATUS status = STATUS_NOT_FOUND;
    uint64_t taken = 0;
    port = new_port(0);
    event = given->StandardOutput;
    sleeper = new_thread(sleep_long, NULL, 0);
    nt_open_file("CON", FILE_READ_DATA | FILE_WRITE_DATA, FILE_OPEN, 0,
                 &console);
    disk = open_disk(0);
    bind(disk, port, &disk);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        if (strcmp(kinds[i].name, name) != 0)
            continue;
        while (taken < MOST && !NT_ERROR(status = kinds[i].take(taken)))
            taken++;
        if (taken < kinds[i].at_least)
            return 3;
    }
    if (status != STATUS_NO_MEMORY && status != STATUS_INSUFFICIENT_RESOURCES)
        return status ? status : 4;
    // Nothing is left, and what there is goes on working.
    NTSTATUS first = NtDelayExecution(false, MS(2));
    NtSetEvent(given->StandardInput, NULL);
    return first ? first : (int)sleep_long(NULL);
}

// ---- The others -------------------------------------------------------------

static void survive(char *name)
{
    char *words[] = { "ut_greed", name };
    RTL_USER_PROCESS_PARAMETERS *parameters =
        &NtCurrentPeb()->ProcessParameters;
    HANDLE output = parameters->StandardOutput, greedy = NULL;
    HANDLE full = new_event(NotificationEvent, false);
    HANDLE end = new_event(NotificationEvent, false);
    neighbour beside = start_neighbour("frugal");
    rule(name);
    parameters->StandardOutput = end;
    CHECK_OK(start_with(2, words, full, &greedy));
    parameters->StandardOutput = output;
    HANDLE both[] = { full, greedy };
    CHECK_STATUS(NtWaitForMultipleObjects(2, both, WaitAny, false, MS(120000)),
                 STATUS_WAIT_0);
    watch_neighbour(beside);
    CHECK_OK(NtTerminateProcess(greedy, 9));
    CHECK_STATUS(NtWaitForSingleObject(greedy, false, MS(60000)),
                 STATUS_SUCCESS);
    CHECK_STATUS(process_status(greedy), 9);
    NtSetEvent(end, NULL);
    NtClose(greedy);
    NtClose(full);
    stop_neighbour(beside);
    stop_neighbour(start_neighbour("all"));
    NtClose(end);
}

int main(int argc, char **argv)
{
    if (argc == 2)
        return be_greedy(argv[1]);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
        survive(kinds[i].name);
    return ktap_end();
}
