// ut_ports.c - completion ports by themselves: packets, waiters, the limit.
// options: port=apc
// options: port=direct

#include "tests/user/ktap.h"

#define NUMBER(n) ((void *)(uint64_t)(n))

static NTSTATUS post(HANDLE port, uint64_t n)
{
    return NtSetIoCompletion(port, NUMBER(n), NUMBER(n + 1), (NTSTATUS)n + 2,
                             n + 3);
}

// Takes one packet; its key, or 0.
static uint64_t take(HANDLE port, const int64_t *timeout, NTSTATUS *status)
{
    void *key = NULL, *context = NULL;
    IO_STATUS_BLOCK iosb;
    *status = NtRemoveIoCompletion(port, &key, &context, &iosb, timeout);
    return *status == STATUS_SUCCESS ? (uint64_t)key : 0;
}

static uint32_t depth(HANDLE port)
{
    uint32_t packets = 99;
    CHECK_OK(NtQueryIoCompletion(port, &packets));
    return packets;
}

static void packets(void)
{
    HANDLE port = new_port(0);
    NTSTATUS status;
    void *key, *context;
    IO_STATUS_BLOCK iosb;
    rule("IOCP-04: nothing there: the time-out, at once or later");
    CHECK_EQ(take(port, POLL, &status), 0);
    CHECK_STATUS(status, STATUS_TIMEOUT);
    CHECK_EQ(take(port, MS(30), &status), 0);
    CHECK_STATUS(status, STATUS_TIMEOUT);
    rule("IOCP-03: all values pass through unread");
    CHECK_OK(NtSetIoCompletion(port, (void *)0xFEDCBA9876543210ull,
                               KERNEL_TEXT, (NTSTATUS)0xC0FFEE00u,
                               0x8877665544332211ull));
    CHECK_OK(NtRemoveIoCompletion(port, &key, &context, &iosb, POLL));
    CHECK_EQ(key, 0xFEDCBA9876543210ull);
    CHECK_EQ(context, KERNEL_TEXT);
    CHECK_EQ(iosb.Information, 0x8877665544332211ull);
    CHECK_EQ(iosb.Pointer, 0xC0FFEE00u);
    rule("IOCP-03: an all-zero post is a packet");
    CHECK_OK(NtSetIoCompletion(port, NULL, NULL, 0, 0));
    CHECK_EQ(depth(port), 1);
    CHECK_OK(NtRemoveIoCompletion(port, &key, &context, &iosb, POLL));
    CHECK(key == NULL && context == NULL && iosb.Information == 0);
    rule("IOCP-02: first in, first out");
    for (uint64_t i = 1; i <= 1000; i++)
        CHECK_OK(post(port, i));
    CHECK_EQ(depth(port), 1000);
    for (uint64_t i = 1; i <= 500; i++)
        CHECK_EQ(take(port, POLL, &status), i);
    rule("IOCP-08: many at a time, in order, not more than there are");
    static FILE_IO_COMPLETION_INFORMATION entries[600];
    uint32_t removed = 99;
    for (uint64_t next = 501; next <= 1000; next += removed) {
        uint32_t there = (uint32_t)(1001 - next), count = next == 501 ? 16
                                   : next == 517 ? 100 : 600;
        CHECK_OK(NtRemoveIoCompletionEx(port, entries, count, &removed, LONG,
                                        false));
        if (!CHECK_EQ(removed, count < there ? count : there))
            break;
        for (uint32_t i = 0; i < removed; i++) {
            CHECK_EQ(entries[i].KeyContext, next + i);
            CHECK_EQ(entries[i].ApcContext, next + i + 1);
            CHECK_EQ(entries[i].IoStatusBlock.Information, next + i + 3);
        }
    }
    for (uint64_t i = 1; i <= 16; i++)
        post(port, i);
    CHECK_OK(NtRemoveIoCompletionEx(port, entries, 20, &removed, LONG, false));
    CHECK_EQ(removed, 16);    // and no wait for more
    removed = 99;
    CHECK_STATUS(NtRemoveIoCompletionEx(port, entries, 600, &removed, MS(10),
                                        false), STATUS_TIMEOUT);
    CHECK_EQ(removed, 0);
    CHECK_STATUS(NtRemoveIoCompletionEx(port, entries, 0, &removed, POLL,
                                        false), STATUS_INVALID_PARAMETER);
    for (uint64_t i = 1; i <= 5; i++)
        post(port, i);
    CHECK_OK(NtRemoveIoCompletionEx(port, entries, 3, &removed, NULL, false));
    CHECK_EQ(removed, 3);
    CHECK_EQ(depth(port), 2);
    rule("packets that nobody takes go with the port");
    CHECK_OK(NtClose(port));
}

static uint32_t apc_runs;

static void note(void *a, void *b, void *c)
{
    (void)a, (void)b, (void)c;
    apc_runs++;
}

static NTSTATUS stranger(void *port)
{
    FILE_IO_COMPLETION_INFORMATION entry;
    uint32_t removed = 99;
    NtQueueApcThread(NtCurrentThread(), note, NULL, NULL, NULL);
    CHECK_STATUS(NtRemoveIoCompletionEx(port, &entry, 1, &removed, POLL, true),
                 STATUS_USER_APC);
    CHECK_EQ(removed, 0);
    CHECK_OK(NtRemoveIoCompletionEx(port, &entry, 1, &removed, POLL, true));
    CHECK_EQ(removed, 1);
    return 0;
}

static void alertable(void)
{
    HANDLE port = new_port(0);
    FILE_IO_COMPLETION_INFORMATION entry;
    uint32_t removed = 99;
    NTSTATUS status;
    rule("IOCP-13: a dequeue that is not alertable runs no APC");
    NtQueueApcThread(NtCurrentThread(), note, NULL, NULL, NULL);
    CHECK_EQ(take(port, MS(20), &status), 0);
    CHECK_STATUS(status, STATUS_TIMEOUT);
    CHECK_STATUS(NtRemoveIoCompletionEx(port, &entry, 1, &removed, MS(20),
                                        false), STATUS_TIMEOUT);
    CHECK_EQ(apc_runs, 0);
    rule("IOCP-14: an alertable one does, also with time-out 0");
    CHECK_STATUS(NtRemoveIoCompletionEx(port, &entry, 1, &removed, POLL, true),
                 STATUS_USER_APC);
    CHECK_EQ(apc_runs, 1);
    CHECK_EQ(removed, 0);
    rule("IOCP-14: a thread of the port gets the packet first");
    post(port, 1);
    CHECK_EQ(take(port, POLL, &status), 1);
    post(port, 2);
    NtQueueApcThread(NtCurrentThread(), note, NULL, NULL, NULL);
    CHECK_OK(NtRemoveIoCompletionEx(port, &entry, 1, &removed, POLL, true));
    CHECK_EQ(entry.KeyContext, 2);
    CHECK_EQ(apc_runs, 1);
    CHECK_STATUS(NtDelayExecution(true, LONG), STATUS_USER_APC);
    rule("IOCP-14: any other thread its APC, and the packet stays");
    post(port, 3);
    apc_runs = 0;
    join(new_thread(stranger, port, 0));
    CHECK_EQ(apc_runs, 1);
    NtClose(port);
}

struct taker {
    HANDLE port, thread, again;
    uint64_t key;
    NTSTATUS status;
};

static NTSTATUS take_once(void *argument)
{
    struct taker *taker = argument;
    taker->key = take(taker->port, LONG, &taker->status);
    return 0;
}

static NTSTATUS take_and_block(void *argument)
{
    struct taker *taker = argument;
    taker->key = take(taker->port, LONG, &taker->status);
    return wait(taker->again);
}

static void start(struct taker *taker, HANDLE port,
                  NTSTATUS (*routine)(void *))
{
    *taker = (struct taker){ .port = port, .again = taker->again };
    taker->thread = new_thread(routine, taker, 0);
    until_waiting(taker->thread, WrQueue);
}

static void waiters(void)
{
    struct taker takers[4] = { 0 };
    rule("IOCP-11: waiters are released newest first");
    HANDLE port = new_port(64);
    for (int i = 0; i < 4; i++)
        start(&takers[i], port, take_once);
    for (int i = 3; i >= 0; i--) {
        CHECK_OK(post(port, 100 + (uint64_t)i));
        CHECK_EQ(depth(port), 0);    // handed over at once
        join(takers[i].thread);
        CHECK_EQ(takers[i].key, 100 + i);
    }
    NtClose(port);

    rule("IOCP-12: closing the port lets waiters go");
    port = new_port(0);
    for (int i = 0; i < 4; i++)
        start(&takers[i], port, take_once);
    CHECK_OK(NtClose(port));
    for (int i = 0; i < 4; i++) {
        join(takers[i].thread);
        CHECK_STATUS(takers[i].status, STATUS_ABANDONED_WAIT_0);
    }
    rule("terminating a waiter");
    port = new_port(1);
    start(&takers[0], port, take_once);
    start(&takers[1], port, take_once);
    CHECK_OK(NtTerminateThread(takers[1].thread, 3));
    CHECK_STATUS(join(takers[1].thread), 3);
    post(port, 5);
    join(takers[0].thread);
    CHECK_EQ(takers[0].key, 5);
    NtClose(port);
}

static volatile uint32_t stop_spinning;

static NTSTATUS take_and_spin(void *argument)
{
    struct taker *taker = argument;
    NTSTATUS status;
    taker->key = take(taker->port, LONG, &status);
    while (!stop_spinning)
        NtYieldExecution();    // runs: it blocks in nothing
    return 0;
}

static void limit(void)
{
    struct taker takers[2] = { 0 };
    rule("IOCP-09: at the limit a packet stays, although a thread waits");
    HANDLE port = new_port(1);
    stop_spinning = 0;
    start(&takers[0], port, take_and_spin);
    start(&takers[1], port, take_and_spin);
    post(port, 1);
    for (int i = 0; i < 20000 && !takers[1].key; i++)
        NtDelayExecution(false, MS(1));
    CHECK_EQ(takers[1].key, 1);
    post(port, 2);
    for (int i = 0; i < 100; i++)
        NtYieldExecution();
    CHECK_EQ(takers[0].key, 0);
    CHECK_EQ(depth(port), 1);
    stop_spinning = 1;    // its end gives the place back
    join(takers[1].thread);
    join(takers[0].thread);
    CHECK_EQ(takers[0].key, 2);
    NtClose(port);

    rule("IOCP-10: a released thread that blocks elsewhere makes room");
    port = new_port(1);
    for (int i = 0; i < 2; i++) {
        takers[i].again = new_event(NotificationEvent, false);
        start(&takers[i], port, take_and_block);
    }
    post(port, 1);
    until_waiting(takers[1].thread, UserRequest);
    post(port, 2);
    until_waiting(takers[0].thread, UserRequest);
    CHECK_EQ(takers[1].key, 1);
    CHECK_EQ(takers[0].key, 2);
    for (int i = 0; i < 2; i++) {
        NtSetEvent(takers[i].again, NULL);
        join(takers[i].thread);
        NtClose(takers[i].again);
    }
    NtClose(port);
}

static NTSTATUS wait_for(void *object)
{
    return wait(object);
}

static void as_an_object(void)
{
    NTSTATUS status;
    rule("IOCP-27: a port is signalled while a packet is queued");
    HANDLE port = new_port(0);
    CHECK_STATUS(NtWaitForSingleObject(port, false, POLL), STATUS_TIMEOUT);
    post(port, 1);
    CHECK_OK(NtWaitForSingleObject(port, false, POLL));
    CHECK_OK(NtWaitForSingleObject(port, false, POLL));    // takes nothing
    CHECK_EQ(take(port, POLL, &status), 1);
    CHECK_STATUS(NtWaitForSingleObject(port, false, POLL), STATUS_TIMEOUT);
    rule("IOCP-27: all direct waiters wake");
    HANDLE threads[3];
    for (int i = 0; i < 3; i++) {
        threads[i] = new_thread(wait_for, port, 0);
        until_waiting(threads[i], UserRequest);
    }
    post(port, 2);
    for (int i = 0; i < 3; i++)
        CHECK_OK(join(threads[i]));
    take(port, POLL, &status);
    rule("IOCP-27: a thread in a dequeue is served first");
    struct taker taker = { 0 };
    start(&taker, port, take_once);
    threads[0] = new_thread(wait_for, port, 0);
    until_waiting(threads[0], UserRequest);
    post(port, 3);
    join(taker.thread);
    CHECK_EQ(taker.key, 3);
    CHECK_STATUS(NtWaitForSingleObject(threads[0], false, MS(30)),
                 STATUS_TIMEOUT);
    rule("IOCP-27: closing satisfies direct waiters");
    CHECK_OK(NtClose(port));
    CHECK_OK(join(threads[0]));
}

static void binding(void)
{
    static uint8_t sector[512] __attribute__((aligned(512)));
    IO_STATUS_BLOCK iosb;
    NTSTATUS status;
    HANDLE port = new_port(0), other = new_port(0);
    HANDLE disk = open_disk(0), second = open_disk(0);
    rule("IOCP-16: a file is bound once; the first key stays");
    CHECK_OK(bind(disk, port, NUMBER(21)));
    CHECK_STATUS(bind(disk, port, NUMBER(22)), STATUS_INVALID_PARAMETER);
    CHECK_STATUS(bind(disk, other, NUMBER(23)), STATUS_INVALID_PARAMETER);
    rule("IOCP-05: several files share a port");
    CHECK_OK(bind(second, port, NUMBER(24)));
    NtReadFile(disk, NULL, NULL, sector, &iosb, sector, 512, 0);
    CHECK_EQ(take(port, LONG, &status), 21);
    NtReadFile(second, NULL, NULL, sector, &iosb, sector, 512, 0);
    CHECK_EQ(take(port, LONG, &status), 24);
    rule("IOCP-18: opening again gives an unbound file");
    NtClose(second);
    second = open_disk(0);
    CHECK_OK(bind(second, other, NUMBER(25)));
    rule("binding what is no file, or to what is no port");
    CHECK_STATUS(bind(port, other, NULL), STATUS_OBJECT_TYPE_MISMATCH);
    NtClose(second);
    second = open_disk(0);
    CHECK_STATUS(bind(second, disk, NULL), STATUS_OBJECT_TYPE_MISMATCH);
    CHECK_STATUS(bind(second, NULL, NULL), STATUS_INVALID_HANDLE);
    CHECK_OK(bind(second, other, NULL));
    rule("IOCP-23: modes only ever add");
    FILE_IO_COMPLETION_NOTIFICATION_INFORMATION modes = {
        FILE_SKIP_COMPLETION_PORT_ON_SUCCESS
    };
    const FILE_INFORMATION_CLASS class =
        FileIoCompletionNotificationInformation;
    CHECK_OK(NtSetInformationFile(disk, &iosb, &modes, sizeof(modes), class));
    modes.Flags = 0;
    CHECK_OK(NtSetInformationFile(disk, &iosb, &modes, sizeof(modes), class));
    CHECK_OK(NtReadFile(disk, NULL, NULL, sector, &iosb, sector, 0, 0));
    CHECK_EQ(depth(port), 0);
    rule("IOCP-22: FILE_SKIP_SET_EVENT_ON_HANDLE, but not an explicit event");
    HANDLE event = new_event(NotificationEvent, false);
    HANDLE plain = open_disk(0);
    modes.Flags = FILE_SKIP_SET_EVENT_ON_HANDLE;
    CHECK_OK(NtReadFile(plain, NULL, NULL, NULL, &iosb, sector, 0, 0));
    CHECK_OK(NtWaitForSingleObject(plain, false, POLL));
    CHECK_OK(NtSetInformationFile(plain, &iosb, &modes, sizeof(modes), class));
    CHECK_OK(NtReadFile(plain, event, NULL, NULL, &iosb, sector, 0, 0));
    CHECK_OK(NtWaitForSingleObject(event, false, POLL));
    CHECK_STATUS(NtReadFile(plain, event, NULL, NULL, &iosb, sector, 512, 0),
                 STATUS_PENDING);
    CHECK_OK(wait(event));
    CHECK_OK(NtReadFile(plain, NULL, NULL, NULL, &iosb, sector, 0, 0));
    CHECK_STATUS(NtWaitForSingleObject(plain, false, POLL), STATUS_TIMEOUT);
    NtClose(plain);
    NtClose(event);
    rule("IOCP-23: a mode that there is not");
    modes.Flags = 0x80;
    CHECK_STATUS(NtSetInformationFile(disk, &iosb, &modes, sizeof(modes),
                                      class), STATUS_INVALID_PARAMETER);
    rule("a port handle's rights");
    HANDLE weak = NULL;
    CHECK_OK(NtDuplicateObject(NtCurrentProcess(), port, NtCurrentProcess(),
                               &weak, IO_COMPLETION_QUERY_STATE, 0, 0));
    CHECK_STATUS(post(weak, 1), STATUS_ACCESS_DENIED);
    CHECK_EQ(depth(weak), 0);
    NtClose(weak);
    NtClose(disk);
    NtClose(second);
    NtClose(port);
    NtClose(other);
}

// ---- Outputs that cannot be written ---------------------------------------

struct outputs {
    HANDLE port;
    FILE_IO_COMPLETION_INFORMATION *entries;
    uint32_t count, removed;
};

// Takes count packets, or one by the other service.
static NTSTATUS take_to(void *argument)
{
    struct outputs *to = argument;
    FILE_IO_COMPLETION_INFORMATION *first = to->entries;
    return to->count ? NtRemoveIoCompletionEx(to->port, first, to->count,
                                              &to->removed, LONG, false)
                     : NtRemoveIoCompletion(to->port, &first->KeyContext,
                                            &first->ApcContext,
                                            &first->IoStatusBlock, LONG);
}

static void protect(void *page, uint32_t protect)
{
    size_t size = 4096;
    uint32_t old;
    CHECK_OK(NtProtectVirtualMemory(NtCurrentProcess(), &page, &size, protect,
                                    &old));
}

// Packets 1 to 3 come while a thread waits for them, whose outputs, begun in
// page, cannot be written by then. Returns what it got.
static NTSTATUS take_in_vain(struct outputs *to, void *page)
{
    HANDLE thread = new_thread(take_to, to, 0);
    until_waiting(thread, WrQueue);
    CHECK_OK(NtSuspendThread(thread, NULL));
    protect(page, PAGE_READONLY);
    for (uint64_t i = 1; i <= 3; i++)
        post(to->port, i);
    CHECK_OK(NtResumeThread(thread, NULL));
    NTSTATUS status = join(thread);
    protect(page, PAGE_READWRITE);
    return status;
}

static void outputs(void)
{
    static uint8_t pages[2][4096] __attribute__((aligned(4096)));
    static const uint64_t nowhere[] = { 0, 0x1000, 0x7FFFFFFFFFF8,
                                        0x4000000000000000,
                                        0x8000000000000000 };
    HANDLE port = new_port(0);
    NTSTATUS status;
    void *word;
    IO_STATUS_BLOCK iosb;
    FILE_IO_COMPLETION_INFORMATION *last = (void *)pages[1];
    struct outputs to = { .port = port, .entries = --last };
    rule("an output that is nowhere: the packet stays, and its place");
    CHECK_EQ(take(port, POLL, &status), 0);    // from now on it is our port
    for (uint64_t i = 1; i <= 2; i++)
        post(port, i);
    for (size_t i = 0; i < sizeof(nowhere) / sizeof(*nowhere); i++) {
        void *bad = (void *)nowhere[i];
        CHECK_STATUS(NtRemoveIoCompletion(port, bad, &word, &iosb, POLL),
                     STATUS_ACCESS_VIOLATION);
        CHECK_STATUS(NtRemoveIoCompletion(port, &word, bad, &iosb, POLL),
                     STATUS_ACCESS_VIOLATION);
        CHECK_STATUS(NtRemoveIoCompletion(port, &word, &word, bad, POLL),
                     STATUS_ACCESS_VIOLATION);
        CHECK_STATUS(NtRemoveIoCompletionEx(port, bad, 2, &to.removed, POLL,
                                            false), STATUS_ACCESS_VIOLATION);
        CHECK_EQ(depth(port), 2);
    }
    CHECK_EQ(take(port, POLL, &status), 1);
    CHECK_EQ(take(port, POLL, &status), 2);
    rule("and nobody waits for what it cannot have");
    CHECK_STATUS(NtRemoveIoCompletion(port, NULL, &word, &iosb, NULL),
                 STATUS_ACCESS_VIOLATION);
    rule("an output that goes while its thread waits: all packets stay");
    CHECK_STATUS(take_in_vain(&to, pages[0]), STATUS_ACCESS_VIOLATION);
    CHECK_EQ(take(port, POLL, &status), 1);
    CHECK_EQ(depth(port), 2);
    CHECK_EQ(take(port, POLL, &status), 2);
    CHECK_EQ(take(port, POLL, &status), 3);
    to.count = 3;
    CHECK_STATUS(take_in_vain(&to, pages[0]), STATUS_ACCESS_VIOLATION);
    CHECK_EQ(to.removed, 0);
    for (uint64_t i = 1; i <= 3; i++)
        CHECK_EQ(take(port, POLL, &status), i);
    rule("a part of them goes: those that it had no room for stay");
    CHECK_OK(take_in_vain(&to, pages[1]));
    CHECK_EQ(to.removed, 1);
    CHECK_EQ(last->KeyContext, 1);
    CHECK_EQ(depth(port), 2);
    CHECK_EQ(take(port, POLL, &status), 2);
    CHECK_EQ(take(port, POLL, &status), 3);
    rule("the same with a request's packet, whose status is stored once");
    HANDLE disk = open_disk(0);
    CHECK_OK(bind(disk, port, NUMBER(21)));
    to.count = 0;
    HANDLE thread = new_thread(take_to, &to, 0);
    until_waiting(thread, WrQueue);
    protect(pages[0], PAGE_READONLY);
    iosb.Status = STATUS_PENDING;
    CHECK_STATUS(NtReadFile(disk, NULL, NULL, &word, &iosb, pages[1], 512, 0),
                 STATUS_PENDING);
    CHECK_STATUS(join(thread), STATUS_ACCESS_VIOLATION);
    protect(pages[0], PAGE_READWRITE);
    CHECK_OK(iosb.Status);
    CHECK_EQ(iosb.Information, 512);
    iosb.Information = 99;
    CHECK_OK(take_to(&to));
    CHECK_EQ(last->KeyContext, 21);
    CHECK_EQ(last->ApcContext, &word);
    CHECK_OK(last->IoStatusBlock.Status);
    CHECK_EQ(last->IoStatusBlock.Information, 512);
    CHECK_EQ(iosb.Information, 99);
    CHECK_EQ(depth(port), 0);
    rule("and they go with the port if nobody else comes");
    CHECK_STATUS(take_in_vain(&to, pages[0]), STATUS_ACCESS_VIOLATION);
    NtClose(disk);
    NtClose(port);
}

int main(void)
{
    packets();
    alertable();
    waiters();
    limit();
    as_an_object();
    binding();
    outputs();
    return ktap_end();
}
