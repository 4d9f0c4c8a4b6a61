// ut_cancel.c - asking requests to end.
// options: port=apc
// options: port=direct
//
// A read of the console pends for as long as nobody types, so what happens to
// it is certain; writes to the disk race with the device, as in real life.

#include "tests/user/ktap.h"

#define WRITES 32
#define SIZE   65536u

static uint8_t buffer[SIZE] __attribute__((aligned(4096)));
static IO_STATUS_BLOCK iosbs[WRITES];
static uint32_t runs[WRITES];

static void note(void *context, IO_STATUS_BLOCK *iosb, uint32_t reserved)
{
    (void)reserved;
    CHECK(iosb == &iosbs[(uint64_t)context]);
    CHECK_STATUS(iosb->Status, STATUS_CANCELLED);
    runs[(uint64_t)context]++;
}

static NTSTATUS ask(HANDLE file, HANDLE event, uint32_t i)
{
    iosbs[i] = (IO_STATUS_BLOCK){ .Pointer = (void *)0x103, 77 };
    return NtReadFile(file, event, NULL, NULL, &iosbs[i], buffer, 8, 0);
}

static void by_file(void)
{
    HANDLE file = open_console(0);
    HANDLE event = new_event(NotificationEvent, false);
    IO_STATUS_BLOCK iosb;
    rule("CAN-01: nothing pending");
    CHECK_OK(NtCancelIoFile(file, &iosb));
    CHECK_STATUS(NtCancelIoFileEx(file, NULL, &iosb), STATUS_NOT_FOUND);
    CHECK_STATUS(NtCancelIoFileEx(file, &iosbs[0], &iosb), STATUS_NOT_FOUND);
    rule("CAN-03: a cancelled request completes with STATUS_CANCELLED");
    CHECK_STATUS(ask(file, event, 0), STATUS_PENDING);
    CHECK_OK(NtCancelIoFile(file, &iosb));
    CHECK_OK(wait(event));
    CHECK(iosbs[0].Status == STATUS_CANCELLED && iosbs[0].Information == 0);
    rule("CAN-01: it is finished by now");
    CHECK_STATUS(NtCancelIoFileEx(file, &iosbs[0], &iosb), STATUS_NOT_FOUND);
    rule("CAN-06: the one with this IOSB only");
    HANDLE other = new_event(NotificationEvent, false);
    CHECK_STATUS(ask(file, event, 0), STATUS_PENDING);
    CHECK_STATUS(ask(file, other, 1), STATUS_PENDING);
    CHECK_OK(NtCancelIoFileEx(file, &iosbs[1], &iosb));
    CHECK_OK(wait(other));
    CHECK_STATUS(NtWaitForSingleObject(event, false, MS(20)), STATUS_TIMEOUT);
    rule("CAN-06: through a duplicate; closing one of two cancels nothing");
    HANDLE same = NULL;
    CHECK_OK(NtDuplicateObject(NtCurrentProcess(), file, NtCurrentProcess(),
                               &same, 0, 0, DUPLICATE_SAME_ACCESS));
    CHECK_OK(NtClose(file));
    CHECK_STATUS(NtWaitForSingleObject(event, false, MS(20)), STATUS_TIMEOUT);
    CHECK_OK(NtCancelIoFileEx(same, &iosbs[0], &iosb));
    CHECK_OK(wait(event));
    CHECK_STATUS(iosbs[0].Status, STATUS_CANCELLED);
    rule("CAN-06: one IOSB for two requests: both");
    CHECK_STATUS(ask(same, event, 0), STATUS_PENDING);
    CHECK_STATUS(ask(same, other, 0), STATUS_PENDING);
    CHECK_OK(NtCancelIoFileEx(same, &iosbs[0], &iosb));
    CHECK_OK(wait(event));
    CHECK_OK(wait(other));
    rule("CAN-11: the last close cancels");
    CHECK_STATUS(ask(same, event, 0), STATUS_PENDING);
    CHECK_OK(NtClose(same));
    CHECK_OK(wait(event));
    CHECK_STATUS(iosbs[0].Status, STATUS_CANCELLED);
    rule("CAN-03: a routine runs, in an alertable wait only");
    file = open_console(0);
    CHECK_STATUS(NtReadFile(file, NULL, note, (void *)2, &iosbs[2], buffer, 8,
                            0), STATUS_PENDING);
    CHECK_OK(NtCancelIoFile(file, &iosb));
    CHECK_OK(NtDelayExecution(false, MS(20)));
    CHECK_EQ(runs[2], 0);
    CHECK_STATUS(NtDelayExecution(true, LONG), STATUS_USER_APC);
    CHECK_EQ(runs[2], 1);
    NtClose(file);
    NtClose(event);
    NtClose(other);
}

static void by_port(void)
{
    HANDLE file = open_console(0), port = new_port(0);
    IO_STATUS_BLOCK iosb = { 0 };
    void *key = NULL, *context = NULL;
    rule("CAN-03, IOCP-06: the packet of a cancelled request");
    CHECK_OK(bind(file, port, (void *)11));
    CHECK_STATUS(NtReadFile(file, NULL, NULL, (void *)12, &iosbs[0], buffer, 8,
                            0), STATUS_PENDING);
    CHECK_OK(NtCancelIoFileEx(file, NULL, &iosb));
    CHECK_OK(NtRemoveIoCompletion(port, &key, &context, &iosb, LONG));
    CHECK(key == (void *)11 && context == (void *)12 &&
          iosb.Status == STATUS_CANCELLED && iosb.Information == 0);
    rule("CAN-11: closing the file posts what was pending");
    CHECK_STATUS(NtReadFile(file, NULL, NULL, (void *)13, &iosbs[0], buffer, 8,
                            0), STATUS_PENDING);
    CHECK_OK(NtClose(file));
    CHECK_OK(NtRemoveIoCompletion(port, &key, &context, &iosb, LONG));
    CHECK(context == (void *)13 && iosb.Status == STATUS_CANCELLED);
    NtClose(port);
}

// A write is cancelled half-way: some of it is out, and yet it is 0 bytes.
static void on_its_way(void)
{
    HANDLE file = NULL, event = new_event(NotificationEvent, false);
    IO_STATUS_BLOCK iosb;
    uint32_t cancelled = 0;
    rule("CAN-03: a cancelled write of the console has written 0 bytes");
    CHECK_OK(nt_open_file("CON", FILE_WRITE_DATA, FILE_OPEN, 0, &file));
    for (int i = 0; i < 20 && !cancelled; i++) {
        iosbs[0].Information = 77;
        CHECK_STATUS(NtWriteFile(file, event, NULL, NULL, &iosbs[0], buffer,
                                 SIZE, 0), STATUS_PENDING);
        CHECK_OK(NtCancelIoFile(file, &iosb));
        CHECK_OK(wait(event));
        cancelled += iosbs[0].Status == STATUS_CANCELLED;
        CHECK_EQ(iosbs[0].Information, cancelled ? 0 : SIZE);
    }
    CHECK(cancelled);
    NtClose(file);
    NtClose(event);
}

struct shared {
    HANDLE file, event, go;
    uint32_t i;
};

static NTSTATUS ask_and_stay(void *argument)
{
    struct shared *shared = argument;
    CHECK_STATUS(ask(shared->file, shared->event, shared->i), STATUS_PENDING);
    NtSetEvent(shared->go, NULL);
    return NtDelayExecution(true, LONG);    // until it is alerted
}

static void by_thread(void)
{
    IO_STATUS_BLOCK iosb;
    struct shared shared = { open_console(0),
                             new_event(NotificationEvent, false),
                             new_event(NotificationEvent, false), 3 };
    HANDLE thread = new_thread(ask_and_stay, &shared, 0);
    CHECK_OK(wait(shared.go));
    rule("CAN-04: NtCancelIoFile leaves other threads' requests alone");
    CHECK_OK(NtCancelIoFile(shared.file, &iosb));
    CHECK_STATUS(NtWaitForSingleObject(shared.event, false, MS(20)),
                 STATUS_TIMEOUT);
    rule("CAN-04: NtCancelIoFileEx does not");
    CHECK_OK(NtCancelIoFileEx(shared.file, NULL, &iosb));
    CHECK_OK(wait(shared.event));
    NtAlertThread(thread);
    CHECK_STATUS(join(thread), STATUS_ALERTED);
    rule("CAN-08: a thread's end cancels what it asked for");
    NtResetEvent(shared.go, NULL);
    thread = new_thread(ask_and_stay, &shared, 0);
    CHECK_OK(wait(shared.go));
    CHECK_OK(NtTerminateThread(thread, 9));
    CHECK_STATUS(join(thread), 9);
    CHECK_OK(wait(shared.event));
    CHECK_STATUS(iosbs[3].Status, STATUS_CANCELLED);
    NtClose(shared.file);
    NtClose(shared.event);
    NtClose(shared.go);
}

static NTSTATUS ask_and_end(void *argument)
{
    struct shared *shared = argument;
    return NtReadFile(shared->file, shared->event, NULL, (void *)14,
                      &iosbs[shared->i], buffer, 8, 0);
}

static void without_thread(void)
{
    IO_STATUS_BLOCK iosb;
    void *key = NULL, *context = NULL;
    HANDLE port = new_port(0);
    struct shared shared = { open_console(0),
                             new_event(NotificationEvent, false), NULL, 1 };
    CHECK_OK(bind(shared.file, port, (void *)15));
    rule("CAN-08: what is bound to a port outlives its thread");
    CHECK_STATUS(join(new_thread(ask_and_end, &shared, 0)), STATUS_PENDING);
    CHECK_STATUS(NtWaitForSingleObject(shared.event, false, MS(20)),
                 STATUS_TIMEOUT);
    rule("IRP-09: and who hears its event finds its status");
    iosbs[1].Status = STATUS_PENDING;
    CHECK_OK(NtCancelIoFile(shared.file, &iosb));    // CAN-04: not ours
    CHECK_STATUS(NtWaitForSingleObject(shared.event, false, MS(20)),
                 STATUS_TIMEOUT);
    CHECK_OK(NtCancelIoFileEx(shared.file, NULL, &iosb));
    CHECK_OK(wait(shared.event));
    CHECK_STATUS(iosbs[1].Status, STATUS_CANCELLED);
    CHECK_OK(NtRemoveIoCompletion(port, &key, &context, &iosb, LONG));
    CHECK(key == (void *)15 && context == (void *)14 &&
          iosb.Status == STATUS_CANCELLED);
    NtClose(shared.file);
    NtClose(shared.event);
    NtClose(port);
}

static NTSTATUS read_synchronously(void *file)
{
    IO_STATUS_BLOCK iosb = { 0 };
    return NtReadFile(file, NULL, NULL, NULL, &iosb, buffer, 8, 0);
}

static volatile uint32_t apcs;

static void count_apc(void *a, void *b, void *c)
{
    (void)a, (void)b, (void)c;
    apcs++;
}

static void synchronous(void)
{
    rule("APC-27: alertable synchronous: an APC ends the request, and runs");
    HANDLE file = open_console(FILE_SYNCHRONOUS_IO_ALERT);
    HANDLE thread = new_thread(read_synchronously, file, 0);
    until_waiting(thread, Executive);
    CHECK_OK(NtQueueApcThread(thread, count_apc, NULL, NULL, NULL));
    CHECK_STATUS(join(thread), STATUS_CANCELLED);
    CHECK_EQ(apcs, 1);
    NtClose(file);
    rule("APC-27: also one whose turn has not come");
    file = open_console(FILE_SYNCHRONOUS_IO_ALERT);
    HANDLE first = new_thread(read_synchronously, file, 0);
    until_waiting(first, Executive);
    thread = new_thread(read_synchronously, file, 0);
    until_waiting(thread, Executive);
    CHECK_OK(NtQueueApcThread(thread, count_apc, NULL, NULL, NULL));
    CHECK_STATUS(join(thread), STATUS_CANCELLED);
    CHECK_OK(NtTerminateThread(first, 4));
    CHECK_STATUS(join(first), 4);
    CHECK_EQ(apcs, 2);
    NtClose(file);
    rule("APC-27: the other kind goes on, and runs none");
    file = open_console(FILE_SYNCHRONOUS_IO_NONALERT);
    thread = new_thread(read_synchronously, file, 0);
    until_waiting(thread, Executive);
    CHECK_OK(NtQueueApcThread(thread, count_apc, NULL, NULL, NULL));
    CHECK_STATUS(NtWaitForSingleObject(thread, false, MS(30)), STATUS_TIMEOUT);
    CHECK_EQ(apcs, 2);
    rule("CAN-04: another thread's synchronous request is cancelled as well");
    IO_STATUS_BLOCK iosb;
    CHECK_OK(NtCancelIoFileEx(file, NULL, &iosb));
    CHECK_STATUS(join(thread), STATUS_CANCELLED);
    rule("terminating a thread in a synchronous request");
    thread = new_thread(read_synchronously, file, 0);
    until_waiting(thread, Executive);
    CHECK_OK(NtTerminateThread(thread, 4));
    CHECK_STATUS(join(thread), 4);
    NtClose(file);
}

enum { MANY = 400000 };

static uint32_t sent;

static NTSTATUS write_many(void *disk)
{
    static IO_STATUS_BLOCK iosb;
    NT_ARRAY_WRITE *writes = nt_allocate_pages(MANY * sizeof(*writes));
    for (uint32_t i = 0; i < MANY; i++)
        writes[i].IoStatusBlock = &iosb;    // no bytes: each ends in the call
    return nt_write_array(disk, writes, MANY, &sent);
}

static void in_an_array(void)
{
    rule("terminating a thread in an array of writes: no further one is sent");
    HANDLE disk = open_disk(0);
    sent = MANY;
    HANDLE thread = new_thread(write_many, disk, 0);
    while (*(volatile uint32_t *)&sent == MANY &&    // the call says 0 first
           NtWaitForSingleObject(thread, false, MS(1)) == STATUS_TIMEOUT)
        continue;
    CHECK_OK(NtTerminateThread(thread, 5));
    CHECK_STATUS(join(thread), 5);
    CHECK(sent < MANY);
    NtClose(disk);
}

static void at_the_disk(void)
{
    rule("CAN-05: each request completes once, in full or cancelled");
    HANDLE disk = open_disk(0), port = new_port(0);
    CHECK_OK(bind(disk, port, NULL));
    uint32_t cancelled = 0;
    for (uint32_t round = 0; round < 20; round++) {
        IO_STATUS_BLOCK iosb;
        uint32_t seen[WRITES] = { 0 };
        for (uint32_t i = 0; i < WRITES; i++)
            CHECK_STATUS(NtWriteFile(disk, NULL, NULL, &iosbs[i], &iosbs[i],
                                     buffer, SIZE, (uint64_t)i * SIZE),
                         STATUS_PENDING);
        if (round & 1)
            NtCancelIoFile(disk, &iosb);
        else
            for (uint32_t i = 0; i < WRITES; i++)
                NtCancelIoFileEx(disk, &iosbs[WRITES - 1 - i], &iosb);
        for (uint32_t i = 0; i < WRITES; i++) {
            void *key, *context = NULL;
            if (!CHECK_OK(NtRemoveIoCompletion(port, &key, &context, &iosb,
                                               LONG)))
                return;
            seen[(IO_STATUS_BLOCK *)context - iosbs]++;
            bool gone = iosb.Status == STATUS_CANCELLED;
            cancelled += gone;
            CHECK(gone ? iosb.Information == 0
                       : iosb.Status == STATUS_SUCCESS &&
                             iosb.Information == SIZE);
        }
        for (uint32_t i = 0; i < WRITES; i++)
            CHECK_EQ(seen[i], 1);
    }
    CHECK(cancelled > 0);    // 640 writes: not all were quicker than we
    NtClose(disk);
    NtClose(port);
}

int main(void)
{
    by_file();
    by_port();
    on_its_way();
    by_thread();
    without_thread();
    synchronous();
    in_an_array();
    at_the_disk();
    return ktap_end();
}
