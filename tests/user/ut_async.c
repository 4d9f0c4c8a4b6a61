// ut_async.c - asynchronous I/O on the raw disk: event, APC routine, port.
// options: port=apc
// options: port=direct
// bus: nvme

#include "tests/user/ktap.h"

#define BLOCK     4096u
#define REQUESTS  64
#define DISK_SIZE (16ull << 20)

static uint8_t out[REQUESTS][BLOCK] __attribute__((aligned(4096)));
static uint8_t in[REQUESTS][BLOCK] __attribute__((aligned(4096)));
static IO_STATUS_BLOCK iosbs[REQUESTS];
static uint32_t apc_runs[REQUESTS];
static HANDLE asking;

static void note(void *context, IO_STATUS_BLOCK *iosb, uint32_t reserved)
{
    uint64_t i = (uint64_t)context - 1;
    CHECK(i < REQUESTS && iosb == &iosbs[i] && reserved == 0);
    CHECK_OK(iosb->Status);
    CHECK_EQ(iosb->Information, BLOCK);
    apc_runs[i]++;
}

static bool is_set(HANDLE event)
{
    EVENT_BASIC_INFORMATION basic = { .EventState = -1 };
    CHECK_OK(NtQueryEvent(event, &basic));
    return basic.EventState;
}

static void reset_iosb(uint32_t i)
{
    iosbs[i] = (IO_STATUS_BLOCK){ .Pointer = (void *)0x103, 77 };
}

static void by_event(void)
{
    HANDLE disk = open_disk(0);
    HANDLE event = new_event(NotificationEvent, true);
    IO_STATUS_BLOCK iosb = { .Pointer = (void *)0x103, 77 };

    rule("CMP-01: the event is reset whatever happens next");
    CHECK_STATUS(NtReadFile(disk, event, NULL, NULL, &iosb, in, BLOCK,
                            1ull << 63), STATUS_INVALID_PARAMETER);
    CHECK(!is_set(event));
    NtSetEvent(event, NULL);
    CHECK_STATUS(NtReadFile(disk, event, NULL, NULL, (void *)8, in, BLOCK, 0),
                 STATUS_ACCESS_VIOLATION);
    CHECK(!is_set(event));
    rule("CMP-01: a bad file handle leaves it alone");
    NtSetEvent(event, NULL);
    CHECK_STATUS(NtReadFile((HANDLE)0x123450, event, NULL, NULL, &iosb, in,
                            BLOCK, 0), STATUS_INVALID_HANDLE);
    CHECK(is_set(event));
    rule("a bad event handle");
    CHECK_STATUS(NtReadFile(disk, disk, NULL, NULL, &iosb, in, BLOCK, 0),
                 STATUS_OBJECT_TYPE_MISMATCH);

    rule("CMP-02: an error inside the call leaves IOSB and event alone");
    CHECK_STATUS(NtReadFile(disk, event, NULL, NULL, &iosb, in, BLOCK,
                            DISK_SIZE), STATUS_END_OF_FILE);
    CHECK(!is_set(event) && iosb.Status == STATUS_PENDING &&
          iosb.Information == 77);
    rule("CMP-03: success inside the call sets both");
    CHECK_OK(NtReadFile(disk, event, NULL, NULL, &iosb, in, 0, 0));
    CHECK(is_set(event) && iosb.Status == STATUS_SUCCESS &&
          iosb.Information == 0);

    rule("CMP-04: pending is said even if it is done by then");
    CHECK_STATUS(NtWriteFile(disk, event, NULL, NULL, &iosb, out, BLOCK, 0),
                 STATUS_PENDING);
    CHECK_OK(wait(event));
    rule("IRP-09: event set implies IOSB filled");
    CHECK(iosb.Status == STATUS_SUCCESS && iosb.Information == BLOCK);

    rule("CMP-05: with an event the file object stays unsignalled");
    CHECK_STATUS(NtWaitForSingleObject(disk, false, POLL), STATUS_TIMEOUT);
    rule("CMP-05: without one the file object is signalled");
    CHECK_STATUS(NtReadFile(disk, NULL, NULL, NULL, &iosb, in, BLOCK, 0),
                 STATUS_PENDING);
    CHECK_OK(wait(disk));
    CHECK(iosb.Status == STATUS_SUCCESS);

    rule("OVL-02: several requests, an event each");
    HANDLE events[REQUESTS];
    for (uint32_t i = 0; i < REQUESTS; i++) {
        memset(out[i], (int)i + 1, BLOCK);
        reset_iosb(i);
        events[i] = new_event(NotificationEvent, i & 1);
        CHECK_STATUS(NtWriteFile(disk, events[i], NULL, NULL, &iosbs[i],
                                 out[i], BLOCK, (uint64_t)i * BLOCK),
                     STATUS_PENDING);
    }
    CHECK_OK(NtWaitForMultipleObjects(REQUESTS, events, WaitAll, false, LONG));
    for (uint32_t i = 0; i < REQUESTS; i++) {
        CHECK(iosbs[i].Status == STATUS_SUCCESS &&
              iosbs[i].Information == BLOCK);
        CHECK_STATUS(NtReadFile(disk, events[i], NULL, NULL, &iosbs[i], in[i],
                                BLOCK, (uint64_t)i * BLOCK), STATUS_PENDING);
    }
    CHECK_OK(NtWaitForMultipleObjects(REQUESTS, events, WaitAll, false, LONG));
    CHECK(memcmp(in, out, sizeof(in)) == 0);
    for (uint32_t i = 0; i < REQUESTS; i++)
        NtClose(events[i]);
    rule("event and file may go while the request is on its way");
    static IO_STATUS_BLOCK late;    // it is stored to when we have returned
    CHECK_STATUS(NtWriteFile(disk, event, NULL, NULL, &late, out, BLOCK, 0),
                 STATUS_PENDING);
    CHECK_OK(NtClose(event));
    CHECK_OK(NtClose(disk));
}

static void by_apc(void)
{
    HANDLE disk = open_disk(0);
    rule("APC-18, OVL-07: a completion routine runs once, alertably only");
    memset(apc_runs, 0, sizeof(apc_runs));
    for (uint32_t i = 0; i < REQUESTS; i++)
        CHECK_STATUS(NtWriteFile(disk, NULL, note,
                                 (void *)(uint64_t)(i + 1), &iosbs[i], out[i],
                                 BLOCK, (uint64_t)i * BLOCK), STATUS_PENDING);
    NtDelayExecution(false, MS(50));
    for (uint32_t i = 0; i < REQUESTS; i++)
        CHECK_EQ(apc_runs[i], 0);
    for (uint32_t done = 0; done < REQUESTS;) {
        if (!CHECK_STATUS(NtDelayExecution(true, LONG), STATUS_USER_APC))
            break;
        done = 0;
        for (uint32_t i = 0; i < REQUESTS; i++)
            done += apc_runs[i];
    }
    for (uint32_t i = 0; i < REQUESTS; i++)
        CHECK_EQ(apc_runs[i], 1);
    rule("CMP-02: an error inside the call runs no routine");
    CHECK_STATUS(NtReadFile(disk, NULL, note, (void *)1, &iosbs[0], in,
                            BLOCK, DISK_SIZE), STATUS_END_OF_FILE);
    CHECK_OK(NtDelayExecution(true, MS(20)));
    rule("CMP-03: success inside the call does");
    HANDLE file = NULL;
    CHECK_OK(nt_open_file("B:\\bin\\sh", FILE_READ_DATA, FILE_OPEN, 0, &file));
    memset(apc_runs, 0, sizeof(apc_runs));
    NTSTATUS status = NtReadFile(file, NULL, note, (void *)1, &iosbs[0],
                                 in, BLOCK, 0);
    CHECK(NT_SUCCESS(status));
    CHECK_STATUS(NtDelayExecution(true, LONG), STATUS_USER_APC);
    CHECK_EQ(apc_runs[0], 1);
    NtClose(file);
    rule("a routine that is still due goes with the process");
    CHECK_STATUS(NtWriteFile(disk, NULL, note, (void *)1, &iosbs[0], out,
                             BLOCK, 0), STATUS_PENDING);
    CHECK_OK(NtClose(disk));
    CHECK_STATUS(NtDelayExecution(true, LONG), STATUS_USER_APC);
}

static void take(HANDLE port, uint64_t key, void *context, NTSTATUS final,
                 uint64_t bytes)
{
    void *got_key = NULL, *got_context = NULL;
    IO_STATUS_BLOCK iosb = { 0 };
    if (!CHECK_OK(NtRemoveIoCompletion(port, &got_key, &got_context, &iosb,
                                       LONG)))
        return;
    CHECK_EQ(got_key, key);
    if (context)
        CHECK_EQ(got_context, context);
    CHECK_STATUS(iosb.Status, final);
    CHECK_EQ(iosb.Information, bytes);
}

static void expect_empty(HANDLE port)
{
    void *key, *context;
    IO_STATUS_BLOCK iosb;
    CHECK_STATUS(NtRemoveIoCompletion(port, &key, &context, &iosb, MS(30)),
                 STATUS_TIMEOUT);
}

static NTSTATUS issue_and_end(void *disk)
{
    for (uint32_t i = 0; i < REQUESTS; i++)
        CHECK_STATUS(NtWriteFile(disk, NULL, NULL, &iosbs[i], &iosbs[i],
                                 out[i], BLOCK, (uint64_t)i * BLOCK),
                     STATUS_PENDING);
    return 0;
}

static void by_port(void)
{
    HANDLE disk = open_disk(0), port = new_port(0);
    HANDLE event = new_event(NotificationEvent, false);
    IO_STATUS_BLOCK iosb;
    CHECK_OK(bind(disk, port, (void *)0x1234567890ABCDEFull));

    rule("CMP-07: a packet has key, context, status and length");
    CHECK_STATUS(NtWriteFile(disk, NULL, NULL, (void *)42, &iosbs[0], out[0],
                             BLOCK, 0), STATUS_PENDING);
    take(port, 0x1234567890ABCDEFull, (void *)42, STATUS_SUCCESS, BLOCK);
    rule("IOCP-26: once it is taken, the IOSB is valid");
    CHECK(iosbs[0].Status == STATUS_SUCCESS && iosbs[0].Information == BLOCK);
    rule("CMP-07: without a context no packet");
    CHECK_STATUS(NtReadFile(disk, NULL, NULL, NULL, &iosbs[0], in[0], BLOCK,
                            0), STATUS_PENDING);
    CHECK_OK(wait(disk));
    expect_empty(port);
    rule("CMP-07, IOCP-24: port and routine exclude each other");
    iosbs[0].Information = 77;
    memset(apc_runs, 0, sizeof(apc_runs));
    NtSetEvent(event, NULL);
    CHECK_STATUS(NtReadFile(disk, event, note, (void *)1, &iosbs[0],
                            in[0], BLOCK, 0), STATUS_INVALID_PARAMETER);
    CHECK(!is_set(event));    // CMP-01
    CHECK_OK(NtDelayExecution(true, MS(20)));
    CHECK(apc_runs[0] == 0 && iosbs[0].Information == 77);    // not issued
    expect_empty(port);
    rule("IOCP-20: event and packet");
    CHECK_STATUS(NtReadFile(disk, event, NULL, (void *)7, &iosbs[0], in[0],
                            BLOCK, 0), STATUS_PENDING);
    CHECK_OK(wait(event));
    take(port, 0x1234567890ABCDEFull, (void *)7, STATUS_SUCCESS, BLOCK);
    CHECK(memcmp(in[0], out[0], BLOCK) == 0);
    rule("IOCP-07: an immediate success queues one, an immediate error none");
    CHECK_OK(NtReadFile(disk, NULL, NULL, (void *)8, &iosb, in[0], 0, 0));
    take(port, 0x1234567890ABCDEFull, (void *)8, STATUS_SUCCESS, 0);
    CHECK_STATUS(NtReadFile(disk, NULL, NULL, (void *)8, &iosb, in[0], BLOCK,
                            DISK_SIZE), STATUS_END_OF_FILE);
    expect_empty(port);
    rule("IOCP-21: that mode leaves out immediate successes only");
    FILE_IO_COMPLETION_NOTIFICATION_INFORMATION modes = {
        FILE_SKIP_COMPLETION_PORT_ON_SUCCESS
    };
    CHECK_OK(NtSetInformationFile(disk, &iosb, &modes, sizeof(modes),
                                  FileIoCompletionNotificationInformation));
    CHECK_OK(NtReadFile(disk, NULL, NULL, (void *)9, &iosb, in[0], 0, 0));
    expect_empty(port);
    CHECK_STATUS(NtReadFile(disk, NULL, NULL, (void *)9, &iosbs[0], in[0],
                            BLOCK, 0), STATUS_PENDING);
    take(port, 0x1234567890ABCDEFull, (void *)9, STATUS_SUCCESS, BLOCK);

    rule("IOCP-01: one packet a request");
    uint32_t seen[REQUESTS] = { 0 };
    issue_and_end(disk);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        void *key, *context = NULL;
        if (!CHECK_OK(NtRemoveIoCompletion(port, &key, &context, &iosb, LONG)))
            break;
        uint64_t n = (uint64_t)((IO_STATUS_BLOCK *)context - iosbs);
        if (CHECK(n < REQUESTS))
            seen[n]++;
    }
    for (uint32_t i = 0; i < REQUESTS; i++)
        CHECK_EQ(seen[i], 1);
    expect_empty(port);

    rule("CAN-08: port-bound requests outlive their thread");
    join(new_thread(issue_and_end, disk, 0));
    for (uint32_t i = 0; i < REQUESTS; i++)
        take(port, 0x1234567890ABCDEFull, NULL, STATUS_SUCCESS, BLOCK);

    rule("IOCP-18, IOCP-19: a duplicate posts, packets outlive the file");
    HANDLE same;
    CHECK_OK(NtDuplicateObject(NtCurrentProcess(), disk, NtCurrentProcess(),
                               &same, 0, 0, DUPLICATE_SAME_ACCESS |
                                                DUPLICATE_CLOSE_SOURCE));
    CHECK_STATUS(NtWriteFile(same, event, NULL, (void *)5, &iosbs[0], out[0],
                             BLOCK, 0), STATUS_PENDING);
    CHECK_OK(wait(event));
    CHECK_OK(NtClose(same));
    take(port, 0x1234567890ABCDEFull, (void *)5, STATUS_SUCCESS, BLOCK);

    rule("packets that nobody takes go with the port");
    disk = open_disk(0);
    CHECK_OK(bind(disk, port, NULL));
    issue_and_end(disk);
    CHECK_OK(NtClose(port));
    rule("and a completion to a port without handles goes nowhere");
    CHECK_STATUS(NtWriteFile(disk, event, NULL, (void *)5, &iosbs[0], out[0],
                             BLOCK, 0), STATUS_PENDING);
    CHECK_OK(wait(event));
    NtClose(disk);
    NtClose(event);
}

static void bound_in_flight(void)
{
    rule("IOCP-25: bound in flight, a request without routine posts");
    HANDLE disk = open_disk(0), port = new_port(0);
    static uint8_t large[1 << 20] __attribute__((aligned(4096)));
    memset(apc_runs, 0, sizeof(apc_runs));
    IO_STATUS_BLOCK iosb = { 0 };
    CHECK_STATUS(NtReadFile(disk, NULL, NULL, (void *)3, &iosb, large,
                            sizeof(large), 0), STATUS_PENDING);
    CHECK_STATUS(NtReadFile(disk, NULL, note, (void *)1, &iosbs[0],
                            in[0], BLOCK, 0), STATUS_PENDING);
    CHECK_OK(bind(disk, port, (void *)6));
    // It may have been done before it was bound; then there is no packet.
    void *key = NULL, *context = NULL;
    IO_STATUS_BLOCK taken = { 0 };
    NTSTATUS status = NtRemoveIoCompletion(port, &key, &context, &taken,
                                           MS(500));
    CHECK(status == STATUS_TIMEOUT ||
          (key == (void *)6 && context == (void *)3 &&
           taken.Information == sizeof(large)));
    CHECK_STATUS(NtDelayExecution(true, LONG), STATUS_USER_APC);
    CHECK_EQ(apc_runs[0], 1);
    expect_empty(port);
    NtClose(disk);
    NtClose(port);
}

static void note_cancelled(void *context, IO_STATUS_BLOCK *iosb,
                           uint32_t reserved)
{
    (void)reserved;
    CHECK(context == (void *)1 && iosb == &iosbs[0]);
    CHECK_STATUS(iosb->Status, STATUS_CANCELLED);
    apc_runs[0]++;
}

// Of the console it is certain that they are in flight.
static void bound_before_the_end(void)
{
    rule("IOCP-25: a packet for the one, its routine for the other");
    HANDLE file = open_console(0), port = new_port(0);
    IO_STATUS_BLOCK iosb = { 0 };
    memset(apc_runs, 0, sizeof(apc_runs));
    CHECK_STATUS(NtReadFile(file, NULL, NULL, (void *)3, &iosb, in[1], BLOCK,
                            0), STATUS_PENDING);
    CHECK_STATUS(NtReadFile(file, NULL, note_cancelled, (void *)1, &iosbs[0],
                            in[0], BLOCK, 0), STATUS_PENDING);
    CHECK_OK(bind(file, port, (void *)6));
    CHECK_OK(NtCancelIoFile(file, &(IO_STATUS_BLOCK){ 0 }));
    take(port, 6, (void *)3, STATUS_CANCELLED, 0);
    CHECK_STATUS(NtDelayExecution(true, LONG), STATUS_USER_APC);
    CHECK_EQ(apc_runs[0], 1);
    expect_empty(port);
    NtClose(file);
    NtClose(port);
}

static NTSTATUS take_turns(void *disk)
{
    static uint8_t buffers[4][BLOCK] __attribute__((aligned(4096)));
    static uint32_t next;
    uint32_t me = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED) % 4;
    for (uint32_t i = 0; i < 50; i++) {
        IO_STATUS_BLOCK iosb = { 0 };
        CHECK_OK(NtReadFile(disk, NULL, NULL, NULL, &iosb, buffers[me], BLOCK,
                            (uint64_t)me * BLOCK));
        CHECK_EQ(iosb.Information, BLOCK);
        CHECK(memcmp(buffers[me], out[me], BLOCK) == 0);
    }
    return 0;
}

static void synchronous(void)
{
    rule("CMP-06: a synchronous handle waits; threads take turns on it");
    asking = open_disk(FILE_SYNCHRONOUS_IO_NONALERT);
    IO_STATUS_BLOCK iosb = { .Pointer = (void *)0x103, 77 };
    for (uint32_t i = 0; i < 4; i++)
        CHECK_OK(NtWriteFile(asking, NULL, NULL, NULL, &iosb, out[i], BLOCK,
                             (uint64_t)i * BLOCK));
    HANDLE threads[4];
    for (uint32_t i = 0; i < 4; i++)
        threads[i] = new_thread(take_turns, asking, 0);
    for (uint32_t i = 0; i < 4; i++)
        join(threads[i]);
    rule("CMP-06: an error that was never pended leaves the IOSB");
    iosb = (IO_STATUS_BLOCK){ .Pointer = (void *)0x103, 77 };
    CHECK_STATUS(NtReadFile(asking, NULL, NULL, NULL, &iosb, in, BLOCK,
                            DISK_SIZE), STATUS_END_OF_FILE);
    CHECK(iosb.Status == STATUS_PENDING && iosb.Information == 77);
    rule("IOCP-17: a synchronous file cannot be bound");
    HANDLE port = new_port(0);
    CHECK_STATUS(bind(asking, port, NULL), STATUS_INVALID_PARAMETER);
    NtClose(port);
    NtClose(asking);
}

// Of an array some bring no packet, some have no bytes, one does not fit.
static void mixed_array(HANDLE disk, HANDLE port, NT_ARRAY_WRITE *writes)
{
    enum { SENT = 12, EMPTY = 7 };
    uint32_t sent, packets = 0, empty = 0;
    IO_STATUS_BLOCK iosb;
    rule("CMP-07: a write of an array without a context brings no packet");
    for (uint32_t i = 0; i < SENT; i++) {
        reset_iosb(i);
        writes[i].ApcContext = i % 3 ? &iosbs[i] : NULL;
        writes[i].Buffer = out[i];
        writes[i].Length = i == EMPTY ? 0 : BLOCK;
        writes[i].ByteOffset = (uint64_t)i * BLOCK;
    }
    writes[SENT].ByteOffset = DISK_SIZE;
    CHECK_STATUS(nt_write_array(disk, writes, SENT + 2, &sent),
                 STATUS_INVALID_PARAMETER);
    CHECK_EQ(sent, SENT);
    for (uint32_t i = 0; i < SENT; i++) {
        const volatile IO_STATUS_BLOCK *one = &iosbs[i];
        if (writes[i].ApcContext) {
            void *key, *context;
            CHECK_OK(NtRemoveIoCompletion(port, &key, &context, &iosb, LONG));
            packets += (uint32_t)(1u << ((IO_STATUS_BLOCK *)context - iosbs));
            empty += iosb.Information == 0;
        }
        while (!writes[i].ApcContext && one->Status == STATUS_PENDING)
            NtDelayExecution(false, MS(1));
    }
    CHECK_EQ(packets, 0xDB6);    // all but 0, 3, 6, 9
    CHECK_EQ(empty, 1);
    for (uint32_t i = 0; i < SENT; i++)
        CHECK(iosbs[i].Status == STATUS_SUCCESS &&
              iosbs[i].Information == writes[i].Length);
    expect_empty(port);
    rule("CMP-07: the device hears of those before one that it never gets");
    writes[0].ApcContext = writes[1].ApcContext = port;
    writes[1].ByteOffset = 1;
    CHECK_STATUS(nt_write_array(disk, writes, 2, &sent),
                 STATUS_INVALID_PARAMETER);
    CHECK_EQ(sent, 1);
    take(port, 9, port, STATUS_SUCCESS, BLOCK);
    writes[1].Length = 0;
    CHECK_OK(nt_write_array(disk, writes, 2, &sent));
    CHECK_EQ(sent, 2);
    uint64_t bytes = 0;    // of both, in any order
    for (int i = 0; i < 2; i++, bytes += iosb.Information) {
        void *key, *context;
        CHECK_OK(NtRemoveIoCompletion(port, &key, &context, &iosb, LONG));
        CHECK_OK(iosb.Status);
    }
    CHECK_EQ(bytes, BLOCK);
}

// nt_write_array: many writes in one call, and what stops it.
static void by_array(void)
{
    static NT_ARRAY_WRITE writes[3 * REQUESTS];
    const uint32_t count = sizeof(writes) / sizeof(*writes);
    HANDLE disk = open_disk(0), port = new_port(0);
    uint32_t sent = 77;
    CHECK_OK(bind(disk, port, (void *)9));
    rule("CMP-07: an array of writes is as many writes, each with its packet");
    for (uint32_t i = 0; i < count; i++) {
        memset(out[i % REQUESTS], (int)(i % REQUESTS) + 1, BLOCK);
        writes[i] = (NT_ARRAY_WRITE){
            .ApcContext = (void *)(i + 1ull), .Buffer = out[i % REQUESTS],
            .IoStatusBlock = &iosbs[i % REQUESTS], .Length = BLOCK,
            .ByteOffset = (uint64_t)(i % REQUESTS) * BLOCK };
    }
    CHECK_OK(nt_write_array(disk, writes, count, &sent));
    CHECK_EQ(sent, count);
    for (uint32_t i = 0; i < count; i++)
        take(port, 9, NULL, STATUS_SUCCESS, BLOCK);
    expect_empty(port);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        CHECK_STATUS(NtReadFile(disk, NULL, NULL, (void *)1, &iosbs[0], in[0],
                                BLOCK, (uint64_t)i * BLOCK), STATUS_PENDING);
        take(port, 9, (void *)1, STATUS_SUCCESS, BLOCK);
        CHECK(memcmp(in[0], out[i], BLOCK) == 0);
    }
    rule("CMP-02: the first that cannot be sent ends it");
    writes[5].ByteOffset = 1;
    CHECK_STATUS(nt_write_array(disk, writes, count, &sent),
                 STATUS_INVALID_PARAMETER);
    CHECK_EQ(sent, 5);
    writes[5].ByteOffset = 0;
    writes[4].Buffer = (void *)0x1000;
    CHECK_STATUS(nt_write_array(disk, writes, count, &sent),
                 STATUS_ACCESS_VIOLATION);
    CHECK_EQ(sent, 4);
    for (uint32_t i = 0; i < 9; i++)
        take(port, 9, NULL, STATUS_SUCCESS, BLOCK);
    expect_empty(port);
    CHECK_STATUS(nt_write_array(disk, (void *)0x1000, 1, &sent),
                 STATUS_ACCESS_VIOLATION);
    CHECK_EQ(sent, 0);
    CHECK_OK(nt_write_array(disk, NULL, 0, &sent));
    uint8_t *pages = nt_allocate_pages(2 * BLOCK);
    void *second = pages + BLOCK;
    size_t size = BLOCK;
    CHECK_OK(NtFreeVirtualMemory(NtCurrentProcess(), &second, &size,
                                 MEM_RELEASE));
    NT_ARRAY_WRITE *edge = (NT_ARRAY_WRITE *)(void *)(pages + BLOCK) - 3;
    memcpy(edge, writes, 3 * sizeof(*edge));
    CHECK_STATUS(nt_write_array(disk, edge, 5, &sent),
                 STATUS_ACCESS_VIOLATION);
    CHECK_EQ(sent, 3);
    for (uint32_t i = 0; i < 3; i++)
        take(port, 9, NULL, STATUS_SUCCESS, BLOCK);
    expect_empty(port);
    mixed_array(disk, port, writes);
    HANDLE waiting = open_disk(FILE_SYNCHRONOUS_IO_NONALERT);
    CHECK_STATUS(nt_write_array(waiting, writes, 1, &sent),
                 STATUS_INVALID_PARAMETER);
    NtClose(waiting);
    NtClose(port);
    NtClose(disk);
}

static void cannot_be_pinned(HANDLE disk, uint8_t *buffer, uint32_t length)
{
    iosbs[0] = (IO_STATUS_BLOCK){ .Status = 7 };
    CHECK_STATUS(NtWriteFile(disk, NULL, NULL, NULL, &iosbs[0], buffer, length,
                             0), STATUS_ACCESS_VIOLATION);
    CHECK_STATUS(NtReadFile(disk, NULL, NULL, NULL, &iosbs[0], buffer, length,
                            0), STATUS_ACCESS_VIOLATION);
    CHECK_EQ(iosbs[0].Status, 7);
}

// Nothing lies near these: page tables are missing there, on each level.
static void where_no_table_is(void)
{
    rule("CMP-02: a buffer without pages is refused, whatever table they lack");
    HANDLE disk = open_disk(0);
    static const uint64_t nowhere[] = {
        0x1000, 0x12345000, 0x7812345000, 0x456789ABC000, 0x7FFFFFFEF000,
        0x7FFFFFFFF000, 0x800000000000, 0xFFFFF68000000000, 0xFFFFF6FB7DBED000,
    };
    for (size_t i = 0; i < sizeof(nowhere) / sizeof(*nowhere); i++) {
        cannot_be_pinned(disk, (uint8_t *)nowhere[i], BLOCK);
        cannot_be_pinned(disk, (uint8_t *)nowhere[i], 16 * BLOCK);
    }
    // The last page of a table, of a table of these, and so on.
    static const uint64_t ends[] = { 0x500000200000, 0x500040000000,
                                     0x508000000000, 0x7FFFFFFF0000 };
    for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
        uint8_t *page = (uint8_t *)ends[i] - BLOCK;
        void *base = page;
        size_t size = BLOCK;
        CHECK_OK(NtAllocateVirtualMemory(NtCurrentProcess(), &base, &size,
                                         MEM_COMMIT | MEM_RESERVE,
                                         PAGE_READWRITE));
        CHECK_EQ(base, page);
        cannot_be_pinned(disk, page, 2 * BLOCK);
        cannot_be_pinned(disk, page - BLOCK, 2 * BLOCK);
        iosbs[0].Status = STATUS_PENDING;
        CHECK_STATUS(NtWriteFile(disk, NULL, NULL, NULL, &iosbs[0], page, BLOCK,
                                 0), STATUS_PENDING);
        CHECK_OK(NtWaitForSingleObject(disk, false, NULL));
        CHECK_EQ(iosbs[0].Information, BLOCK);
        size = 0;
        CHECK_OK(NtFreeVirtualMemory(NtCurrentProcess(), &base, &size,
                                     MEM_RELEASE));
        cannot_be_pinned(disk, page, BLOCK);
    }
    NtClose(disk);
}

// The library's own calls, with requests of others in flight on the handle.
static void waiting_among_others(void)
{
    HANDLE disk = open_disk(0);
    IO_STATUS_BLOCK iosb;
    FILE_IO_COMPLETION_NOTIFICATION_INFORMATION quiet = {
        .Flags = FILE_SKIP_SET_EVENT_ON_HANDLE
    };
    uint32_t done = 0;
    rule("nt_read waits for its own request, not for the first that ends");
    for (uint32_t i = 0; i < REQUESTS; i++) {    // long ones: some are left
        reset_iosb(i);
        CHECK_STATUS(NtWriteFile(disk, NULL, NULL, NULL, &iosbs[i], out,
                                 sizeof(out), 0), STATUS_PENDING);
    }
    CHECK_OK(nt_read(disk, in, sizeof(in), DISK_SIZE / 2, &done));
    CHECK_EQ(done, sizeof(in));
    for (uint32_t i = 0; i < REQUESTS; i++)
        while (*(volatile NTSTATUS *)&iosbs[i].Status == STATUS_PENDING)
            NtDelayExecution(false, MS(1));
    rule("nt_write, where the file is not signalled at all");
    CHECK_OK(NtSetInformationFile(disk, &iosb, &quiet, sizeof(quiet),
                                  FileIoCompletionNotificationInformation));
    CHECK_OK(nt_write(disk, out, BLOCK, 0, &done));
    CHECK_EQ(done, BLOCK);
    NtClose(disk);
}

int main(void)
{
    where_no_table_is();
    waiting_among_others();
    by_array();
    by_event();
    by_apc();
    by_port();
    bound_in_flight();
    bound_before_the_end();
    synchronous();
    return ktap_end();
}
