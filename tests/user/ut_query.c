// ut_query.c - what the system tells about itself, and what it never tells.
//
// Every buffer that a service fills is filled with a pattern first, and then
// searched for a word that could be an address of the kernel.

#include "tests/user/ktap.h"

static uint8_t buffer[1 << 18] __attribute__((aligned(4096)));

// The upper bits of a word, which the compiler knows nothing of: what a word is
// compared with must not look like what is searched for, for the compiler may
// keep it on the very stack that is searched.
static uint64_t top_of(uint64_t word, int below)
{
    word >>= below;
    __asm__("" : "+r"(word));
    return word;
}

// What lies in the kernel's half: memory as such, system pages, the image.
static bool is_kernel_address(uint64_t word)
{
    return top_of(word, 30) == 0xFFFF800000000000ull >> 30 ||
           top_of(word, 28) == 0xFFFFC00000000000ull >> 28 ||
           top_of(word, 30) == 0xFFFFFFFF80000000ull >> 30;
}

// No address of the kernel begins at any byte of length bytes, and nothing
// that looks like one where an address would be aligned.
static void search(const char *what, const void *in, size_t length)
{
    for (size_t i = 0; i + 8 <= length; i++) {
        uint64_t word;
        memcpy(&word, (const char *)in + i, 8);
        bool aligned = ((uint64_t)in + i) % 8 == 0;
        // Small negative numbers are none.
        if (is_kernel_address(word) ||
            (aligned && top_of(word, 32) >= KERNEL_BEGINS >> 32 &&
             top_of(word, 32) < UINT32_MAX)) {
            printf("not ok - %s: 0x%llx at %zu\n", what,
                   (unsigned long long)word, i);
            ktap_failures++;
            return;
        }
    }
    ktap_checks++;
}

static void fill(void)
{
    memset(buffer, 0x11, sizeof(buffer));
}

static void sleeper_body(void)
{
    NtDelayExecution(false, LONG);
}

static NTSTATUS sleeper(void *argument)
{
    (void)argument;
    sleeper_body();
    return 0;
}

static void system_information(void)
{
    uint32_t returned = 0;
    rule("system information");
    SYSTEM_BASIC_INFORMATION basic;
    CHECK_OK(NtQuerySystemInformation(SystemBasicInformation, &basic,
                                      sizeof(basic), &returned));
    CHECK_EQ(returned, sizeof(basic));
    CHECK(basic.PageSize == 4096 && basic.NumberOfProcessors >= 1 &&
          basic.NumberOfDisks == 1 && basic.Version[0] &&
          basic.NumberOfPhysicalPages > 8000 &&
          basic.MinimumUserModeAddress >= 1ull << 32);
    search("basic", &basic, sizeof(basic));
    CHECK_STATUS(NtQuerySystemInformation(SystemBasicInformation, &basic, 4,
                                          &returned),
                 STATUS_INFO_LENGTH_MISMATCH);
    CHECK_STATUS(NtQuerySystemInformation((SYSTEM_INFORMATION_CLASS)12345,
                                          &basic, 4, &returned),
                 STATUS_INVALID_INFO_CLASS);
    SYSTEM_PERFORMANCE_INFORMATION performance;
    CHECK_OK(NtQuerySystemInformation(SystemPerformanceInformation,
                                      &performance, sizeof(performance),
                                      NULL));
    CHECK(performance.Threads >= 2 && performance.Processes >= 2 &&
          performance.Handles && performance.PoolBytes &&
          performance.AvailablePages < basic.NumberOfPhysicalPages);
    search("performance", &performance, sizeof(performance));
}

static void snapshot(void)
{
    HANDLE threads[4];
    HANDLE console = NULL, disk = open_disk(0), port = new_port(0);
    static uint8_t data[65536] __attribute__((aligned(4096)));
    static IO_STATUS_BLOCK iosbs[16];
    rule("a snapshot of a busy system");
    for (int i = 0; i < 4; i++)
        threads[i] = new_thread(sleeper, NULL, 0);
    CHECK_OK(nt_open_file("CON", FILE_READ_DATA, FILE_OPEN, 0, &console));
    CHECK_OK(bind(console, port, NULL));
    for (int i = 0; i < 4; i++)
        CHECK_STATUS(NtReadFile(console, NULL, NULL, &iosbs[i], &iosbs[i],
                                data, 8, 0), STATUS_PENDING);
    for (int i = 4; i < 16; i++)
        CHECK_STATUS(NtReadFile(disk, NULL, NULL, NULL, &iosbs[i], data,
                                sizeof(data), 0), STATUS_PENDING);
    fill();
    uint32_t returned = 0;
    CHECK_OK(NtQuerySystemInformation(SystemSnapshotInformation, buffer,
                                      sizeof(buffer), &returned));
    const SYSTEM_SNAPSHOT *header = (void *)buffer;
    size_t needed = sizeof(*header) +
                    header->Processors * sizeof(SNAPSHOT_PROCESSOR) +
                    header->Threads * sizeof(SNAPSHOT_THREAD) +
                    header->Irps * sizeof(SNAPSHOT_IRP);
    CHECK_EQ(returned, needed);
    CHECK(header->Irps >= 4 && header->Threads >= 6);
    CHECK_EQ(buffer[returned], 0x11);
    search("snapshot", buffer, returned);
    rule("too small a buffer: how much is needed, nothing is written");
    fill();
    CHECK_STATUS(NtQuerySystemInformation(SystemSnapshotInformation, buffer,
                                          sizeof(*header), &returned),
                 STATUS_INFO_LENGTH_MISMATCH);
    CHECK(returned > sizeof(*header) && buffer[0] == 0x11);
    CHECK_STATUS(NtQuerySystemInformation(SystemSnapshotInformation, NULL, 0,
                                          &returned),
                 STATUS_INFO_LENGTH_MISMATCH);
    for (int i = 0; i < 4; i++) {
        NtTerminateThread(threads[i], 0);
        join(threads[i]);
    }
    IO_STATUS_BLOCK iosb;
    NtCancelIoFileEx(disk, NULL, &iosb);
    NtClose(console);
    NtClose(disk);
    NtClose(port);
}

static void trace(void)
{
    rule("the trace ring");
    uint64_t position = 0;
    uint32_t copied = 0, lost = 0, old = 0, again = 0, total = 0;
    CHECK_OK(nt_trace_mask(0xFFFFFFFF, &old));
    for (int i = 0; i < 100; i++)
        NtYieldExecution();
    do {
        fill();
        if (!CHECK_OK(nt_trace_read(0, &position, (void *)buffer,
                                    sizeof(buffer) / sizeof(TRACE_RECORD),
                                    &copied, &lost)))
            break;
        for (uint32_t i = 0; i < copied; i++) {
            const TRACE_RECORD *record = (TRACE_RECORD *)buffer + i;
            if (!CHECK(TRACE_CODE(record->Event) < TRACE_EVENTS &&
                       record->Time < KERNEL_BEGINS))
                break;
        }
        total += copied;
    } while (copied > 1000 && total < 1000000);
    CHECK(total > 100);
    CHECK_OK(nt_trace_mask(0, &again));
    CHECK_STATUS(nt_trace_read(99, &position, (void *)buffer, 1, &copied,
                               &lost), STATUS_INVALID_PARAMETER);
    position = UINT64_MAX;
    CHECK_STATUS(nt_trace_read(0, &position, (void *)buffer, 1, &copied,
                               &lost), STATUS_INVALID_PARAMETER);
}

// How many of these events, about that, came to the rings since the last look.
static uint32_t new_records(uint32_t event, uint32_t id)
{
    enum { PROCESSORS = 32 };    // those that there are not are refused
    static uint64_t positions[PROCESSORS];
    static TRACE_RECORD records[256];
    uint32_t found = 0, lost;
    for (uint32_t p = 0; p < PROCESSORS; p++) {
        uint32_t copied = 256;    // that it reads is recorded, too
        while (copied == 256 &&
               NT_SUCCESS(nt_trace_read(p, &positions[p], records, 256, &copied,
                                        &lost)))
            for (uint32_t i = 0; i < copied; i++)
                found += TRACE_CODE(records[i].Event) == event &&
                         records[i].Id == id;
    }
    return found;
}

// More requests than a megabyte has room for.
static void large_snapshot(void)
{
    enum { COUNT = 34000, SIZE = 2 << 20 };
    static IO_STATUS_BLOCK iosb;
    IO_STATUS_BLOCK done;
    HANDLE console = open_console(0);
    SYSTEM_SNAPSHOT *snapshot = nt_allocate_pages(SIZE);
    uint32_t returned = 0;
    rule("a snapshot of a great many requests");
    if (!CHECK(snapshot))
        return;
    for (uint32_t i = 0; i < COUNT; i++)
        if (!CHECK_STATUS(NtReadFile(console, NULL, NULL, NULL, &iosb, buffer,
                                     1, 0), STATUS_PENDING))
            break;
    CHECK_OK(NtQuerySystemInformation(SystemSnapshotInformation, snapshot, SIZE,
                                      &returned));
    CHECK(snapshot->Irps >= COUNT && returned > 1 << 20);
    CHECK_OK(NtCancelIoFile(console, &done));
    CHECK_OK(NtClose(console));
    size_t size = 0;
    CHECK_OK(NtFreeVirtualMemory(NtCurrentProcess(), (void **)&snapshot, &size,
                                 MEM_RELEASE));
}

static void what_is_recorded(void)
{
    HANDLE port = new_port(0);
    void *key, *context;
    IO_STATUS_BLOCK iosb;
    for (int wanted = 0; wanted < 2; wanted++) {
        rule(wanted ? "the end of a post is recorded where its beginning is"
                    : "by default neither end of a post is recorded");
        CHECK_OK(nt_trace_mask(wanted ? 1u << TRACE_PORT_INSERT : 0, NULL));
        new_records(0, 0);
        CHECK_OK(NtSetIoCompletion(port, NULL, NULL, 0, 0));
        CHECK_EQ(new_records(TRACE_PORT_INSERT, 0), wanted);
        CHECK_OK(NtRemoveIoCompletion(port, &key, &context, &iosb, NULL));
        CHECK_EQ(new_records(TRACE_PORT_REMOVE, 0), wanted);
    }
    NtClose(port);
    for (int wanted = 1; wanted >= 0; wanted--) {
        rule(wanted ? "system calls are recorded when they are asked for"
                    : "and only then");
        CHECK_OK(nt_trace_mask(wanted ? 1u << TRACE_SERVICE : 0, NULL));
        new_records(0, 0);
        for (int i = 0; i < 10; i++)
            NtTestAlert();
        CHECK_EQ(new_records(TRACE_SERVICE, NT_SERVICE_NtTestAlert),
                 wanted ? 10 : 0);
    }
}

static void the_rest(void)
{
    rule("no other service tells an address of the kernel");
    HANDLE disk = open_disk(FILE_SYNCHRONOUS_IO_NONALERT), other = NULL;
    HANDLE event = new_event(NotificationEvent, false);
    IO_STATUS_BLOCK *iosb = (void *)(buffer + 4096);
    search("PEB", (void *)((uint64_t)NtCurrentPeb() & ~4095ull), 4096);

    fill();
    CHECK_OK(NtQueryInformationProcess(NtCurrentProcess(),
                                       ProcessBasicInformation, buffer,
                                       sizeof(PROCESS_BASIC_INFORMATION),
                                       (uint32_t *)(buffer + 2048)));
    search("process", buffer, sizeof(buffer));
    fill();
    CHECK_OK(NtQueryInformationThread(NtCurrentThread(),
                                      ThreadBasicInformation, buffer,
                                      sizeof(THREAD_BASIC_INFORMATION), NULL));
    search("thread", buffer, sizeof(buffer));
    fill();
    CHECK_OK(NtQueryInformationFile(disk, iosb, buffer,
                                    sizeof(FILE_STANDARD_INFORMATION),
                                    FileStandardInformation));
    search("file size", buffer, sizeof(buffer));
    fill();
    CHECK_OK(NtQueryInformationFile(disk, iosb, buffer,
                                    sizeof(FILE_POSITION_INFORMATION),
                                    FilePositionInformation));
    search("file position", buffer, sizeof(buffer));
    fill();
    CHECK_OK(NtDeviceIoControlFile(disk, NULL, NULL, NULL, iosb,
                                   IOCTL_DISK_GET_DRIVE_GEOMETRY, NULL, 0,
                                   buffer, sizeof(DISK_GEOMETRY)));
    search("geometry", buffer, sizeof(buffer));
    rule("a control's output is as long as the driver says");
    fill();
    CHECK_OK(NtDeviceIoControlFile(disk, NULL, NULL, NULL, iosb,
                                   IOCTL_DISK_GET_DRIVE_GEOMETRY, NULL, 0,
                                   buffer, 2048));
    CHECK_EQ(iosb->Information, sizeof(DISK_GEOMETRY));
    CHECK_EQ(buffer[sizeof(DISK_GEOMETRY)], 0x11);
    rule("no other service tells an address of the kernel");
    fill();
    CHECK_OK(NtQueryEvent(event, (void *)buffer));
    search("event", buffer, sizeof(buffer));
    fill();
    CHECK_OK(NtQueryVirtualMemory(NtCurrentProcess(), buffer,
                                  (void *)buffer));
    search("memory", buffer, sizeof(buffer));
    fill();
    CHECK_OK(nt_open_file("B:\\bin", FILE_LIST_DIRECTORY, FILE_OPEN, 0,
                          &other));
    CHECK_OK(NtQueryDirectoryFile(other, (void *)(buffer + 131072), buffer,
                                  65536, true));
    search("directory", buffer, sizeof(buffer));
    NtClose(other);
    fill();
    CHECK_OK(NtReadFile(disk, NULL, NULL, NULL, iosb, buffer + 65536, 65536,
                        8 << 20));
    search("sectors", buffer, sizeof(buffer));
    CHECK_OK(NtSetEvent(event, (void *)buffer));
    CHECK_OK(NtQuerySystemTime((void *)buffer));
    CHECK_OK(NtQueryPerformanceCounter((void *)buffer, (void *)(buffer + 8)));
    search("clocks", buffer, 64);
    rule("a handle is a small number");
    CHECK((uint64_t)disk < 1 << 20 && (uint64_t)event < 1 << 20);
    NtClose(disk);
    NtClose(event);
}

// A dirty user stack would hide what the kernel left: this one is fresh, and
// what lies below the stack pointer after each call is searched.
static NTSTATUS search_stack(void *argument)
{
    (void)argument;
    NtTestAlert();
    char *here = __builtin_frame_address(0);
    search("the stack", here - 4096, 4096);
    return 0;
}

static void note(void *a, void *b, void *c)
{
    (void)a, (void)b, (void)c;
    char *here = __builtin_frame_address(0);
    search("the stack of an APC", here, 1200);
}

int main(void)
{
    system_information();
    snapshot();
    large_snapshot();
    trace();
    what_is_recorded();
    the_rest();
    rule("stacks");
    join(new_thread(search_stack, NULL, 0));
    NtQueueApcThread(NtCurrentThread(), note, NULL, NULL, NULL);
    CHECK_STATUS(NtDelayExecution(true, LONG), STATUS_USER_APC);
    return ktap_end();
}
