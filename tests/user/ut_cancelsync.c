// ut_cancelsync.c - NtCancelSynchronousIoFile, and what one process's last
// close ends.
// options: port=apc
// options: port=direct

#include "tests/user/ktap.h"

#define FLUSHES 3
#define WRITES  24
#define SIZE    65536u

static uint8_t buffer[SIZE] __attribute__((aligned(4096)));
static IO_STATUS_BLOCK iosbs[WRITES];

struct call {
    HANDLE file, event;
    IO_STATUS_BLOCK iosb;
};

static NTSTATUS read_synchronously(void *context)
{
    struct call *call = context;
    return NtReadFile(call->file, NULL, NULL, NULL, &call->iosb, buffer, 8, 0);
}

static NTSTATUS ask_and_wait(void *context)
{
    struct call *call = context;
    CHECK_STATUS(NtReadFile(call->file, NULL, NULL, NULL, &call->iosb, buffer,
                            8, 0), STATUS_PENDING);
    return NtWaitForSingleObject(call->event, false, LONG);
}

static void wrong_handles(HANDLE file)
{
    IO_STATUS_BLOCK iosb = { .Status = 7 };
    HANDLE weak = NULL;
    rule("CAN-07: what is no thread, or may not be ended");
    CHECK_STATUS(NtCancelSynchronousIoFile(NULL, NULL, &iosb),
                 STATUS_INVALID_HANDLE);
    CHECK_STATUS(NtCancelSynchronousIoFile((HANDLE)0x7F000, NULL, &iosb),
                 STATUS_INVALID_HANDLE);
    CHECK_STATUS(NtCancelSynchronousIoFile(file, NULL, &iosb),
                 STATUS_OBJECT_TYPE_MISMATCH);
    CHECK_OK(NtDuplicateObject(NtCurrentProcess(), NtCurrentThread(),
                               NtCurrentProcess(), &weak,
                               THREAD_QUERY_INFORMATION, 0, 0));
    CHECK_STATUS(NtCancelSynchronousIoFile(weak, NULL, &iosb),
                 STATUS_ACCESS_DENIED);
    CHECK_STATUS(iosb.Status, 7);
    CHECK_STATUS(NtCancelSynchronousIoFile(NtCurrentThread(), NULL, UNMAPPED),
                 STATUS_ACCESS_VIOLATION);
    NtClose(weak);
}

static void in_a_call(uint32_t options)
{
    struct call call = { .file = open_console(options) };
    IO_STATUS_BLOCK iosb = { 0 }, other;
    wrong_handles(call.file);
    HANDLE thread = new_thread(read_synchronously, &call, 0);
    until_waiting(thread, Executive);
    rule("CAN-07: another IOSB is not this call's");
    CHECK_STATUS(NtCancelSynchronousIoFile(thread, &other, &iosb),
                 STATUS_NOT_FOUND);
    CHECK_STATUS(NtWaitForSingleObject(thread, false, MS(20)), STATUS_TIMEOUT);
    rule("CAN-07: the call fails with STATUS_CANCELLED");
    CHECK_OK(NtCancelSynchronousIoFile(thread, &call.iosb, &iosb));
    CHECK_OK(iosb.Status);
    CHECK_STATUS(join(thread), STATUS_CANCELLED);
    CHECK_STATUS(call.iosb.Status, STATUS_CANCELLED);
    CHECK_EQ(call.iosb.Information, 0);
    thread = new_thread(read_synchronously, &call, 0);
    until_waiting(thread, Executive);
    CHECK_OK(NtCancelSynchronousIoFile(thread, NULL, &iosb));
    CHECK_STATUS(join(thread), STATUS_CANCELLED);
    NtClose(call.file);
}

static void not_in_a_call(void)
{
    struct call call = { .file = open_console(0),
                         .event = new_event(NotificationEvent, false) };
    IO_STATUS_BLOCK iosb = { 0 };
    rule("CAN-07: a thread that does nothing of the kind");
    CHECK_STATUS(NtCancelSynchronousIoFile(NtCurrentThread(), NULL, &iosb),
                 STATUS_NOT_FOUND);
    rule("CAN-07: asynchronous requests go on, an event wait is no I/O");
    HANDLE thread = new_thread(ask_and_wait, &call, 0);
    until_waiting(thread, UserRequest);
    CHECK_STATUS(NtCancelSynchronousIoFile(thread, NULL, &iosb),
                 STATUS_NOT_FOUND);
    CHECK_STATUS(NtCancelSynchronousIoFile(thread, &call.iosb, &iosb),
                 STATUS_NOT_FOUND);
    CHECK_STATUS(NtWaitForSingleObject(call.file, false, MS(20)),
                 STATUS_TIMEOUT);
    CHECK_OK(NtSetEvent(call.event, NULL));
    CHECK_STATUS(join(thread), STATUS_SUCCESS);
    NtClose(call.event);
    NtClose(call.file);
}

// ---- A flush behind writes --------------------------------------------------

static NTSTATUS flush(void *context)
{
    struct call *call = context;
    return NtFlushBuffersFile(call->file, &call->iosb);
}

// Writes in front of it keep the flush in line for a while.
static HANDLE start_flush(struct call *call)
{
    for (uint32_t i = 0; i < WRITES; i++)
        CHECK_STATUS(NtWriteFile(call->file, NULL, NULL, NULL, &iosbs[i],
                                 buffer, SIZE, (uint64_t)i * SIZE),
                     STATUS_PENDING);
    HANDLE thread = new_thread(flush, call, 0);
    NtYieldExecution();
    return thread;
}

static void end_writes(struct call *call)
{
    IO_STATUS_BLOCK iosb;
    NtCancelIoFile(call->file, &iosb);
    for (uint32_t i = 0; i < WRITES; i++)
        while (*(volatile NTSTATUS *)&iosbs[i].Status == STATUS_PENDING)
            NtDelayExecution(false, MS(1));
}

static void at_the_disk(void)
{
    struct call call = { .file = open_disk(0) };
    rule("CAN-07: a flush that stands in line");
    for (int round = 0; round < FLUSHES; round++) {
        IO_STATUS_BLOCK iosb;
        for (uint32_t i = 0; i < WRITES; i++)
            iosbs[i].Status = STATUS_PENDING;
        HANDLE thread = start_flush(&call);
        NTSTATUS asked = NtCancelSynchronousIoFile(thread, NULL, &iosb);
        CHECK(asked == STATUS_SUCCESS || asked == STATUS_NOT_FOUND);
        NTSTATUS ended = join(thread);
        CHECK(ended == STATUS_SUCCESS ||
              (ended == STATUS_CANCELLED && asked == STATUS_SUCCESS));
        end_writes(&call);
    }
    rule("a thread that is ended while its flush stands in line");
    uint32_t in_line = 0;    // not where the disk was quicker
    for (int round = 0; round < 10 * FLUSHES && !in_line; round++) {
        for (uint32_t i = 0; i < WRITES; i++)
            iosbs[i].Status = STATUS_PENDING;
        HANDLE thread = start_flush(&call);
        CHECK_OK(NtTerminateThread(thread, 3));
        NTSTATUS ended = join(thread);
        CHECK(ended == 3 || ended == STATUS_SUCCESS);
        in_line += ended == 3;
        end_writes(&call);
    }
    CHECK(in_line);
    NtClose(call.file);
}

// ---- A process's last handle ------------------------------------------------

static volatile bool tired;

static NTSTATUS ask_again(void *context)
{
    struct call *call = context;
    NTSTATUS status = STATUS_CANCELLED;
    while (!tired && status == STATUS_CANCELLED)
        status = NtReadFile(call->file, NULL, NULL, NULL, &call->iosb, buffer,
                            8, 0);
    return status;
}

// The fuzzer found it: the call never came back.
static void asked_again(void)
{
    struct call call = { .file = open_console(FILE_SYNCHRONOUS_IO_NONALERT) };
    IO_STATUS_BLOCK iosb;
    rule("CAN-07: what is asked after the cancel began is not cancelled");
    HANDLE thread = new_thread(ask_again, &call, 0);
    CHECK_OK(NtSetInformationThread(thread, ThreadBasePriority,
                                    &(int32_t){ 2 }, sizeof(int32_t)));
    for (int i = 0; i < 200; i++)
        NtCancelSynchronousIoFile(thread, NULL, &iosb);
    tired = true;
    while (NtWaitForSingleObject(thread, false, MS(1)) == STATUS_TIMEOUT)
        NtCancelSynchronousIoFile(thread, NULL, &iosb);
    CHECK_STATUS(join(thread), STATUS_CANCELLED);
    CHECK_OK(NtClose(call.file));
}

static uint32_t routines;

static void note(void *context, IO_STATUS_BLOCK *iosb, uint32_t reserved)
{
    (void)context, (void)iosb, (void)reserved;
    routines++;
}

static void last_of_a_process(void)
{
    HANDLE file = open_console(0), port = new_port(0);
    HANDLE event = new_event(NotificationEvent, false);
    IO_STATUS_BLOCK iosb = { 0 };
    void *key = NULL, *context = NULL;
    CHECK_STATUS(NtReadFile(file, NULL, NULL, (void *)9, &iosbs[4], buffer, 8,
                            0), STATUS_PENDING);    // not bound yet
    CHECK_STATUS(NtReadFile(file, NULL, note, (void *)8, &iosbs[5], buffer, 8,
                            0), STATUS_PENDING);
    CHECK_OK(bind(file, port, (void *)5));
    HANDLE child = start_child("wait", file, NULL);
    iosbs[3].Status = STATUS_PENDING;
    for (uint64_t i = 0; i < 4; i++)    // 1 has an event, 3 will be no packet
        CHECK_STATUS(NtReadFile(file, i == 1 ? event : NULL, NULL,
                                i == 3 ? NULL : (void *)(i + 1), &iosbs[i],
                                buffer, 8, 0), STATUS_PENDING);
    rule("CAN-12: what only the port would tell of is cancelled");
    CHECK_OK(NtClose(file));
    static void *const only[] = { (void *)1, (void *)3, (void *)9 };
    for (uint64_t i = 0; i < 3; i++) {
        CHECK_OK(NtRemoveIoCompletion(port, &key, &context, &iosb, LONG));
        CHECK(key == (void *)5 && context == only[i]);
        CHECK_STATUS(iosb.Status, STATUS_CANCELLED);
    }
    rule("CAN-12: with an event, or without a packet, they go on");
    CHECK_STATUS(NtWaitForSingleObject(event, false, MS(20)), STATUS_TIMEOUT);
    CHECK_STATUS(NtRemoveIoCompletion(port, &key, &context, &iosb, POLL),
                 STATUS_TIMEOUT);
    CHECK(iosbs[3].Status != STATUS_CANCELLED);
    CHECK_OK(NtDelayExecution(true, POLL));    // no routine either
    rule("CAN-11: the last handle of all, closed by another's end");
    CHECK_OK(NtTerminateProcess(child, 2));
    CHECK_OK(wait(child));
    CHECK_OK(wait(event));
    CHECK_OK(NtRemoveIoCompletion(port, &key, &context, &iosb, LONG));
    CHECK(context == (void *)2 && iosb.Status == STATUS_CANCELLED);
    CHECK_STATUS(NtDelayExecution(true, LONG), STATUS_USER_APC);
    CHECK(routines == 1 && iosbs[5].Status == STATUS_CANCELLED);
    CHECK_STATUS(NtRemoveIoCompletion(port, &key, &context, &iosb, POLL),
                 STATUS_TIMEOUT);
    NtClose(child);
    NtClose(event);
    NtClose(port);
}

static void without_a_port(void)
{
    HANDLE file = open_console(0);
    volatile IO_STATUS_BLOCK *iosb = &iosbs[0];
    iosb->Status = STATUS_PENDING;
    rule("CAN-12: a file that is not bound: its requests go on");
    HANDLE child = start_child("wait", file, NULL);
    CHECK_STATUS(NtReadFile(file, NULL, NULL, (void *)1, &iosbs[0], buffer, 8,
                            0), STATUS_PENDING);
    CHECK_OK(NtClose(file));
    NtDelayExecution(false, MS(20));
    CHECK_STATUS(iosb->Status, STATUS_PENDING);
    CHECK_OK(NtTerminateProcess(child, 2));
    while (iosb->Status == STATUS_PENDING)
        NtDelayExecution(false, MS(1));
    CHECK_STATUS(iosb->Status, STATUS_CANCELLED);
    CHECK_OK(wait(child));
    NtClose(child);
}

// Two processes ask on one file.
static void of_another_process(void)
{
    HANDLE file = open_console(0), port = new_port(0);
    HANDLE asked = new_event(SynchronizationEvent, false);
    IO_STATUS_BLOCK iosb = { 0 };
    void *key = NULL, *context = NULL;
    CHECK_OK(bind(file, port, (void *)5));
    rule("CAN-11: a process's end cancels what it asked, the file lives on");
    HANDLE child = start_child("asks", file, asked);
    CHECK_OK(wait(asked));
    CHECK_OK(wait(child));
    CHECK_STATUS(process_status(child), STATUS_PENDING);    // the read's
    CHECK_OK(NtRemoveIoCompletion(port, &key, &context, &iosb, POLL));
    CHECK(context == (void *)1 && iosb.Status == STATUS_CANCELLED);
    NtClose(child);
    rule("CAN-04: another process's requests on the same file are not meant");
    child = start_child("stays", file, asked);
    CHECK_OK(wait(asked));
    CHECK_STATUS(NtCancelIoFileEx(file, NULL, &iosb), STATUS_NOT_FOUND);
    CHECK_OK(NtCancelIoFile(file, &iosb));
    CHECK_STATUS(NtRemoveIoCompletion(port, &key, &context, &iosb, MS(20)),
                 STATUS_TIMEOUT);
    rule("CAN-12: nor by one's own last close");
    CHECK_OK(NtClose(file));
    CHECK_STATUS(NtRemoveIoCompletion(port, &key, &context, &iosb, MS(20)),
                 STATUS_TIMEOUT);
    CHECK_OK(NtTerminateProcess(child, 2));
    CHECK_OK(wait(child));
    CHECK_OK(NtRemoveIoCompletion(port, &key, &context, &iosb, POLL));
    CHECK(context == (void *)1 && iosb.Status == STATUS_CANCELLED);
    NtClose(child);
    NtClose(asked);
    NtClose(port);
}

static void taken_by_another_process(void)
{
    HANDLE file = open_disk(0), port = new_port(0);
    IO_STATUS_BLOCK iosb = { 0 };
    void *key = NULL, *context = NULL;
    char *base = CHILD_PAGE;    // where the child's IOSB is
    size_t size = CHILD_PAGE_SIZE;
    CHECK_OK(bind(file, port, (void *)5));
    rule("who takes the packet of another process's request gets no IOSB");
    CHECK_OK(NtAllocateVirtualMemory(NtCurrentProcess(), (void **)&base, &size,
                                     MEM_COMMIT, PAGE_READWRITE));
    memset(base, 'P', size);
    HANDLE child = start_child("sector", file, NULL);
    CHECK_OK(NtRemoveIoCompletion(port, &key, &context, &iosb, LONG));
    CHECK(context == (void *)1 && iosb.Status == STATUS_SUCCESS);
    for (size_t i = 0; i < size; i++)
        if (!CHECK(base[i] == 'P'))
            break;
    CHECK_OK(NtTerminateProcess(child, 2));
    CHECK_OK(wait(child));
    NtClose(child);
    NtClose(port);
    NtClose(file);
    size = 0;
    NtFreeVirtualMemory(NtCurrentProcess(), (void **)&base, &size, MEM_RELEASE);
}

int main(void)
{
    in_a_call(FILE_SYNCHRONOUS_IO_NONALERT);
    in_a_call(FILE_SYNCHRONOUS_IO_ALERT);
    not_in_a_call();
    at_the_disk();
    asked_again();
    last_of_a_process();
    without_a_port();
    of_another_process();
    taken_by_another_process();
    return ktap_end();
}
