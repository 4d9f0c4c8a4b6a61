// ut_exhaust.c - when there is no more: handles, memory, threads, packets.
// memory: 40M
//
// Each is used up, gives a status, is given back, and then works again.

#include "tests/user/ktap.h"

static HANDLE handles[70000];

static void give_back(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        CHECK_OK(NtClose(handles[i]));
}

static void full_table(void)
{
    const uint32_t maximum = sizeof(handles) / sizeof(*handles);
    uint32_t count = 0;
    NTSTATUS status = STATUS_SUCCESS;
    HANDLE event = new_event(NotificationEvent, false), more = NULL;
    rule("a full handle table");
    while (count < maximum && NT_SUCCESS(status)) {
        status = NtDuplicateObject(NtCurrentProcess(), event,
                                   NtCurrentProcess(), &handles[count], 0, 0,
                                   DUPLICATE_SAME_ACCESS);
        count += NT_SUCCESS(status);
    }
    CHECK_STATUS(status, STATUS_INSUFFICIENT_RESOURCES);
    CHECK(count > 1000);
    CHECK_STATUS(NtCreateEvent(&more, ALL_ACCESS, NULL, NotificationEvent,
                               false), STATUS_INSUFFICIENT_RESOURCES);
    CHECK_STATUS(NtCreateThreadEx(&more, ALL_ACCESS, NULL, NtCurrentProcess(),
                                  (void *)full_table, NULL, 0, 0),
                 STATUS_INSUFFICIENT_RESOURCES);
    CHECK_STATUS(nt_open_file("B:\\bin\\sh", FILE_READ_DATA, FILE_OPEN, 0,
                              &more), STATUS_INSUFFICIENT_RESOURCES);
    char *words[] = { "true" };
    CHECK_STATUS(nt_start_program(1, words, 0, &more, NULL),
                 STATUS_INSUFFICIENT_RESOURCES);
    CHECK_OK(NtSetEvent(handles[count - 1], NULL));
    CHECK_OK(wait(event));
    rule("one closed is one to have");
    CHECK_OK(NtClose(handles[--count]));
    CHECK_OK(NtCreateEvent(&handles[count], ALL_ACCESS, NULL,
                           NotificationEvent, false));
    give_back(count + 1);
    CHECK_OK(NtClose(event));
}

static NTSTATUS sleep_long(void *argument)
{
    (void)argument;
    return NtDelayExecution(false, MS(3600000));
}

static NTSTATUS allocate(void **base, size_t size)
{
    *base = NULL;
    return NtAllocateVirtualMemory(NtCurrentProcess(), base, &size, MEM_COMMIT,
                                   PAGE_READWRITE);
}

// Opens a disk, has it read, closes it while it reads, and never waits: the
// last reference to each file goes in an APC, and no processor need go idle.
static void close_behind_requests(uint32_t rounds)
{
    static uint8_t sector[4096] __attribute__((aligned(4096)));
    static volatile IO_STATUS_BLOCK iosb;
    DISK_GEOMETRY geometry;
    for (uint32_t i = 0; i < rounds; i++) {
        HANDLE disk = NULL;
        NTSTATUS status = nt_open_disk(0, FILE_READ_DATA, 0, &disk, &geometry);
        if (!NT_SUCCESS(status)) {
            printf("# round %u\n", i);
            CHECK_OK(status);
            return;
        }
        iosb.Status = STATUS_PENDING;
        status = NtReadFile(disk, NULL, NULL, NULL, (IO_STATUS_BLOCK *)&iosb,
                            sector, sizeof(sector), 0);
        NtClose(disk);
        if (!CHECK_STATUS(status, STATUS_PENDING))
            return;
        while (iosb.Status == STATUS_PENDING)
            continue;
    }
}

static void no_memory(void)
{
    static void *blocks[20000], *little;
    uint32_t count = 0;
    HANDLE more = NULL;
    char *words[] = { "true" };
    rule("no memory");
    // What the dead threads had must be back: asking for the counts sees to it.
    SYSTEM_PERFORMANCE_INFORMATION counts;
    CHECK_OK(NtQuerySystemInformation(SystemPerformanceInformation, &counts,
                                      sizeof(counts), NULL));
    CHECK_OK(allocate(&little, 256 << 10));
    for (size_t size = 16u << 20; size >= 4096; size /= 2)
        while (count < 20000 && NT_SUCCESS(allocate(&blocks[count], size)))
            count++;
    CHECK_STATUS(allocate(&blocks[count], 4096), STATUS_NO_MEMORY);
    NTSTATUS status = nt_start_program(1, words, 0, &more, NULL);
    if (status != STATUS_INSUFFICIENT_RESOURCES)
        CHECK_STATUS(status, STATUS_NO_MEMORY);
    status = NtCreateThreadEx(&more, ALL_ACCESS, NULL, NtCurrentProcess(),
                              (void *)sleep_long, NULL, 0, 0);
    if (status != STATUS_INSUFFICIENT_RESOURCES)
        CHECK_STATUS(status, STATUS_NO_MEMORY);
    rule("no memory: what exists goes on working");
    HANDLE event = NULL;
    uint32_t made = 0;
    while (made < 60000 &&
           NT_SUCCESS(NtCreateEvent(&handles[made], ALL_ACCESS, NULL,
                                    NotificationEvent, false)))
        made++;
    status = NtCreateEvent(&event, ALL_ACCESS, NULL, NotificationEvent, false);
    CHECK(status == STATUS_INSUFFICIENT_RESOURCES);
    CHECK_STATUS(NtDelayExecution(false, MS(2)), STATUS_SUCCESS);
    give_back(made);
    rule("little memory: what is closed behind a request is soon gone");
    size_t size = 0;
    CHECK_OK(NtFreeVirtualMemory(NtCurrentProcess(), &little, &size,
                                 MEM_RELEASE));
    close_behind_requests(3000);
    for (uint32_t i = 0; i < count; i++) {
        size = 0;
        CHECK_OK(NtFreeVirtualMemory(NtCurrentProcess(), &blocks[i], &size,
                                     MEM_RELEASE));
    }
    rule("no memory: given back, it is there again");
    CHECK_OK(run(1, words));
}

static void many_threads(void)
{
    uint32_t count = 0;
    NTSTATUS status = STATUS_SUCCESS;
    rule("threads until there is no room");
    while (count < 5000) {
        status = NtCreateThreadEx(&handles[count], ALL_ACCESS, NULL,
                                  NtCurrentProcess(), (void *)sleep_long, NULL,
                                  0, 4096);
        if (!NT_SUCCESS(status))
            break;
        count++;
    }
    CHECK(count > 100);
    CHECK(count == 5000 || status == STATUS_NO_MEMORY ||
          status == STATUS_INSUFFICIENT_RESOURCES);
    for (uint32_t i = 0; i < count; i++)
        CHECK_OK(NtTerminateThread(handles[i], 1));
    for (uint32_t i = 0; i < count; i++)
        CHECK_OK(wait(handles[i]));
    give_back(count);
}

static void many_packets(void)
{
    HANDLE port = new_port(0);
    uint64_t count = 0;
    rule("packets until there is no pool");
    while (count < 5000000 &&
           NT_SUCCESS(NtSetIoCompletion(port, (void *)count, NULL, 0, 0)))
        count++;
    CHECK(count > 1000);
    void *key = NULL, *context;
    IO_STATUS_BLOCK iosb;
    for (uint64_t i = 0; i < 100; i++) {
        CHECK_OK(NtRemoveIoCompletion(port, &key, &context, &iosb, POLL));
        CHECK_EQ(key, i);
    }
    CHECK_OK(NtClose(port));
}

static void many_requests(void)
{
    static uint8_t byte;
    static IO_STATUS_BLOCK iosb;
    IO_STATUS_BLOCK done;
    HANDLE console = NULL;
    uint32_t count = 0;
    rule("requests until there is no pool");
    CHECK_OK(nt_open_file("CON", FILE_READ_DATA, FILE_OPEN, 0, &console));
    while (count < 1000000 &&
           NtReadFile(console, NULL, NULL, NULL, &iosb, &byte, 1, 0) ==
               STATUS_PENDING)
        count++;
    CHECK(count > 1000);
    CHECK_OK(NtCancelIoFile(console, &done));
    CHECK_OK(NtClose(console));
}

// All of them come each millisecond: far more than a processor gets done in
// one.
static void many_timers(void)
{
    uint32_t count = 0;
    rule("more periodic timers than there is time for");
    for (; count < 5000; count++) {
        CHECK_OK(NtCreateTimer(&handles[count], ALL_ACCESS, NULL,
                               NotificationTimer));
        CHECK_OK(NtSetTimer(handles[count], &(int64_t){ -1000000 }, NULL,
                            NULL, false, 1, NULL));
    }
    for (uint32_t i = 0; i < 2; i++)
        CHECK_OK(NtDelayExecution(false, MS(50)));
    give_back(count);
}

int main(void)
{
    full_table();
    many_timers();
    many_threads();
    many_packets();
    many_requests();
    no_memory();
    return ktap_end();
}
