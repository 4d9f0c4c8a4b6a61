// complete.c - how a completion reaches who asked (NT-SEMANTICS 7, 8, 10, 11),
// as far as ring 0 sees it: the IOSB is ring 3's.

#include "tests/kernel/ktest.h"

#include "tests/kernel/driver.h"

static const int64_t no_wait = 0;
static void *const key = (void *)0x1234567890ull;
static void *const tag = (void *)0xABCDEF;

static IRP *held;
static NTSTATUS immediate;       // what the lower driver completes with
static bool marks;               // ... after marking it pending

static NTSTATUS hold(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    IoMarkIrpPending(irp);
    held = irp;
    return STATUS_PENDING;
}

static NTSTATUS finish_now(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    if (marks)
        IoMarkIrpPending(irp);
    irp->IoStatus.Status = immediate;
    irp->IoStatus.Information = 99;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return marks ? STATUS_PENDING : immediate;
}

static void complete_held(NTSTATUS status, uintptr_t information)
{
    IRP *irp = held;
    held = NULL;
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = information;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
}

static bool is_set(const FILE_OBJECT *file)
{
    return file->Event.Header.SignalState != 0;
}

static KQUEUE *open_port(FILE_OBJECT *file)
{
    KQUEUE *port = NULL;
    ktest_create_port(0, &port);
    EXPECT(io_bind_port(file, port, key) == STATUS_SUCCESS);
    return port;
}

static void close_port(KQUEUE *port)
{
    io_port_type.close(NULL, port, 0);
    ObDereferenceObject(port);
}

static bool takes(KQUEUE *port, NTSTATUS status, uintptr_t information)
{
    FILE_IO_COMPLETION_INFORMATION entry;
    uint32_t taken;
    return io_remove_completion(port, false, &no_wait, &entry, 1, &taken) ==
               STATUS_SUCCESS &&
           taken == 1 && entry.KeyContext == key && entry.ApcContext == tag &&
           (NTSTATUS)(uintptr_t)entry.IoStatusBlock.Pointer == status &&
           entry.IoStatusBlock.Information == information;
}

static bool finds_nothing(KQUEUE *port)
{
    FILE_IO_COMPLETION_INFORMATION entry;
    uint32_t taken;
    return io_remove_completion(port, false, &no_wait, &entry, 1, &taken) ==
           STATUS_TIMEOUT;
}

static NTSTATUS send_tagged(FILE_OBJECT *file)
{
    IRP *irp = ktest_build_read(file);
    irp->UserApcContext = tag;
    return io_send(file, irp);
}

// ---- Inline, or by an APC -------------------------------------------------

KTEST(completion_inline, "IRP-08 CMP-03")
{
    ktest_driver.lower = finish_now;
    marks = false;
    immediate = STATUS_SUCCESS;
    FILE_OBJECT *file = ktest_open(0);
    uint64_t before = io_irp_count();
    KeEnterGuardedRegion();    // no APC could come
    EXPECT(io_send(file, ktest_build_read(file)) == STATUS_SUCCESS);
    EXPECT(is_set(file) && io_irp_count() == before);
    KeLeaveGuardedRegion();
    EXPECT(KeGetCurrentThread()->io.count == 0);
    ktest_close(file);
}

KTEST(completion_by_a_special_apc, "IRP-08 CMP-04")
{
    ktest_driver.lower = hold;
    FILE_OBJECT *file = ktest_open(0);
    uint64_t before = io_irp_count();
    KeSetEvent(&file->Event, IO_NO_INCREMENT);
    EXPECT(io_send(file, ktest_build_read(file)) == STATUS_PENDING);
    EXPECT(!is_set(file) && KeGetCurrentThread()->io.count == 1);
    KeEnterGuardedRegion();
    complete_held(STATUS_SUCCESS, 1);
    EXPECT(!is_set(file) && KeGetCurrentThread()->io.count == 1);
    KeLeaveGuardedRegion();
    EXPECT(is_set(file) && KeGetCurrentThread()->io.count == 0);
    EXPECT(io_irp_count() == before);

    EXPECT(io_send(file, ktest_build_read(file)) == STATUS_PENDING);
    KeEnterCriticalRegion();    // it is a special one
    complete_held(STATUS_UNSUCCESSFUL, 0);
    EXPECT(is_set(file));
    KeLeaveCriticalRegion();
    ktest_close(file);
}

KTEST(completion_of_an_array, "CMP-04 CMP-05")
{
    ktest_driver.lower = hold;
    FILE_OBJECT *file = ktest_open(0);
    IRP *irp = ktest_build_read(file);
    uint32_t sent;
    KeSetEvent(&file->Event, IO_NO_INCREMENT);
    file->DeviceObject->Flags |= DO_SHORT_SEND;
    EXPECT(io_send_array(file, &irp, 1, &sent) == STATUS_SUCCESS && sent == 1);
    file->DeviceObject->Flags &= ~DO_SHORT_SEND;
    EXPECT(!is_set(file));
    complete_held(STATUS_SUCCESS, 1);
    EXPECT(is_set(file));
    ktest_close(file);
}

static bool moves_to(FILE_OBJECT *file, NTSTATUS status, uint64_t position)
{
    IRP *irp = ktest_build_read(file);
    irp->flags |= IRP_TRANSFER;
    immediate = status;
    return io_send(file, irp) == status && file->CurrentByteOffset == position;
}

KTEST(completion_moves_the_position, "OVL-09")
{
    ktest_driver.lower = finish_now;
    FILE_OBJECT *file = ktest_open(FILE_SYNCHRONOUS_IO_NONALERT);
    file->DeviceObject->seekable = true;
    for (int i = 0; i < 2; i++) {
        marks = i;
        file->CurrentByteOffset = 7;
        EXPECT(moves_to(file, STATUS_UNSUCCESSFUL, 7));
        EXPECT(moves_to(file, STATUS_SUCCESS, 99));
    }
    file->DeviceObject->seekable = false;
    ktest_close(file);
}

typedef struct issuer {
    ktest_thread thread;
    FILE_OBJECT *file;
    KEVENT end;
    IO_APC_ROUTINE *apc;
    KPROCESSOR_MODE mode;
    NTSTATUS sent, waited;
} issuer;

static void issue(void *context)
{
    issuer *i = context;
    IRP *irp = ktest_build_read(i->file);
    irp->UserApcContext = tag;
    irp->UserApcRoutine = i->apc;
    i->sent = io_send(i->file, irp);
    i->waited = KeWaitForSingleObject(&i->end, Executive, i->mode, i->mode,
                                      NULL);
}

static void start_issuer(issuer *i, FILE_OBJECT *file)
{
    i->file = file;
    i->sent = i->waited = STATUS_UNSUCCESSFUL;
    KeInitializeEvent(&i->end, NotificationEvent, false);
    ktest_start(&i->thread, issue, i, KTEST_ABOVE);
    EXPECT(i->sent == STATUS_PENDING && ktest_is_waiting(&i->thread));
}

KTEST(completion_borrows_the_issuing_thread, "IRP-08 SYN-04")
{
    ktest_driver.lower = hold;
    FILE_OBJECT *file = ktest_open(0);
    issuer i = { .mode = KernelMode };
    start_issuer(&i, file);
    uint64_t switches = i.thread.thread->ContextSwitches;
    KIRQL old = KeRaiseIrqlToDpcLevel();
    complete_held(STATUS_SUCCESS, 1);
    bool early = is_set(file);
    KeLowerIrql(old);
    EXPECT(!early && is_set(file));
    EXPECT(ktest_is_waiting(&i.thread) &&
           i.thread.thread->ContextSwitches == switches + 1);
    KeSetEvent(&i.end, IO_NO_INCREMENT);
    ktest_join(&i.thread);
    EXPECT(i.waited == STATUS_SUCCESS);
    ktest_close(file);
}

KTEST(completion_queues_the_user_apc, "CMP-04 APC-10 APC-13")
{
    static const NTSTATUS finals[] = { STATUS_SUCCESS, STATUS_CANCELLED };
    ktest_driver.lower = hold;
    for (size_t n = 0; n < ARRAY_SIZE(finals); n++) {
        FILE_OBJECT *file = ktest_open(0);
        issuer i = { .mode = UserMode,
                     .apc = (IO_APC_ROUTINE *)MM_LOWEST_USER_ADDRESS };
        start_issuer(&i, file);
        complete_held(finals[n], 0);
        ktest_join(&i.thread);    // its end runs the APC down
        EXPECT(i.waited == STATUS_USER_APC && is_set(file));
        ktest_close(file);
    }
}

KTEST(immediate_statuses_and_the_routine, "CMP-02 CMP-03")
{
    static const NTSTATUS finals[] = { STATUS_SUCCESS, STATUS_ALERTED,
                                       KTEST_INFORMATIONAL,
                                       STATUS_BUFFER_OVERFLOW,
                                       STATUS_END_OF_FILE };
    ktest_driver.lower = finish_now;
    marks = false;
    for (size_t n = 0; n < ARRAY_SIZE(finals); n++) {
        bool told = finals[n] != STATUS_END_OF_FILE;
        issuer i = { .mode = UserMode,
                     .apc = (IO_APC_ROUTINE *)MM_LOWEST_USER_ADDRESS,
                     .file = ktest_open(0), .waited = STATUS_PENDING };
        immediate = finals[n];
        KeInitializeEvent(&i.end, NotificationEvent, false);
        ktest_start(&i.thread, issue, &i, KTEST_ABOVE);
        EXPECT(i.sent == finals[n]);
        EXPECT(ktest_is_waiting(&i.thread) == !told);
        KeSetEvent(&i.end, IO_NO_INCREMENT);
        ktest_join(&i.thread);
        EXPECT(i.waited == (told ? STATUS_USER_APC : STATUS_SUCCESS));
        ktest_close(i.file);
    }
}

// ---- Who is told ----------------------------------------------------------

KTEST(completion_sets_the_given_event_only, "CMP-05")
{
    FILE_OBJECT *file = ktest_open(0);
    KEVENT *event = ktest_create_event();
    for (int pending = 0; pending <= 1; pending++) {
        marks = false;
        immediate = STATUS_SUCCESS;
        ktest_driver.lower = pending ? hold : finish_now;
        IRP *irp = ktest_build_read(file);
        KeResetEvent(event);
        ObReferenceObject(event);
        irp->UserEvent = event;
        EXPECT(io_send(file, irp) ==
               (pending ? STATUS_PENDING : STATUS_SUCCESS));
        if (pending) {
            EXPECT(!event->Header.SignalState);
            complete_held(STATUS_SUCCESS, 0);
        }
        EXPECT(event->Header.SignalState && !is_set(file));
    }
    ObDereferenceObject(event);
    ktest_close(file);
}

// Both roads, DESIGN.md 1.
static void on_both_roads(void (*test)(void))
{
    bool before = io_direct_road;
    io_direct_road = false;
    test();
    io_direct_road = true;
    test();
    io_direct_road = before;
}

// No APC can come: only the direct road reaches the port.
static void port_bound_road(void)
{
    ktest_driver.lower = hold;
    FILE_OBJECT *file = ktest_open(0);
    KQUEUE *port = open_port(file);
    KeEnterGuardedRegion();
    EXPECT(send_tagged(file) == STATUS_PENDING);
    complete_held(STATUS_SUCCESS, 5);
    EXPECT(port->Header.SignalState == (io_direct_road ? 1 : 0));
    KeLeaveGuardedRegion();
    EXPECT(takes(port, STATUS_SUCCESS, 5));
    ktest_close(file);
    close_port(port);
}

KTEST(completion_of_a_port_bound_request_takes_its_road, "IRP-08 CMP-04")
{
    on_both_roads(port_bound_road);
}

static void immediate_statuses(void)
{
    static const struct {
        NTSTATUS status;
        bool told;
    } cases[] = { { STATUS_SUCCESS, true }, { STATUS_ALERTED, true },
                  { KTEST_INFORMATIONAL, true },
                  { STATUS_BUFFER_OVERFLOW, true },
                  { STATUS_END_OF_FILE, false } };
    marks = false;
    ktest_driver.lower = finish_now;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        FILE_OBJECT *file = ktest_open(0);
        KQUEUE *port = open_port(file);
        immediate = cases[i].status;
        EXPECT(send_tagged(file) == immediate);
        EXPECT(is_set(file) == cases[i].told);
        EXPECT(takes(port, immediate, 99) == cases[i].told);
        EXPECT(finds_nothing(port));
        ktest_close(file);
        close_port(port);
    }
}

KTEST(immediate_statuses_and_the_port, "CMP-02 CMP-03 CMP-07 IOCP-07")
{
    on_both_roads(immediate_statuses);
}

static void pended_statuses(void)
{
    static const NTSTATUS finals[] = { STATUS_SUCCESS, STATUS_CANCELLED,
                                       KTEST_INFORMATIONAL,
                                       STATUS_BUFFER_OVERFLOW,
                                       STATUS_END_OF_FILE };
    for (int at_once = 0; at_once <= 1; at_once++) {
        marks = true;
        ktest_driver.lower = at_once ? finish_now : hold;
        for (size_t i = 0; i < ARRAY_SIZE(finals); i++) {
            FILE_OBJECT *file = ktest_open(0);
            KQUEUE *port = open_port(file);
            immediate = finals[i];
            EXPECT(send_tagged(file) == STATUS_PENDING);
            if (!at_once) {
                EXPECT(finds_nothing(port) && !is_set(file));
                complete_held(finals[i], 99);
            }
            EXPECT(is_set(file));
            EXPECT(takes(port, finals[i], 99) && finds_nothing(port));
            ktest_close(file);
            close_port(port);
        }
    }
}

KTEST(pended_statuses_and_the_port, "CMP-04 CMP-07 IRP-05 IOCP-01")
{
    on_both_roads(pended_statuses);
}

static void no_context(void)
{
    marks = true;
    immediate = STATUS_SUCCESS;
    ktest_driver.lower = finish_now;
    FILE_OBJECT *file = ktest_open(0);
    KQUEUE *port = open_port(file);
    EXPECT(io_send(file, ktest_build_read(file)) == STATUS_PENDING);
    EXPECT(is_set(file) && finds_nothing(port));
    ktest_close(file);
    close_port(port);
}

KTEST(no_context_no_packet, "CMP-07")
{
    on_both_roads(no_context);
}

static void skip_on_success(void)
{
    FILE_OBJECT *file = ktest_open(0);
    KQUEUE *port = open_port(file);
    file->Flags |= FO_SKIP_PORT;
    ktest_driver.lower = finish_now;
    marks = false;
    immediate = STATUS_SUCCESS;
    EXPECT(send_tagged(file) == STATUS_SUCCESS && finds_nothing(port));
    immediate = STATUS_BUFFER_OVERFLOW;    // IOCP-22
    EXPECT(send_tagged(file) == immediate && takes(port, immediate, 99));
    marks = true;
    immediate = STATUS_SUCCESS;
    EXPECT(send_tagged(file) == STATUS_PENDING);
    EXPECT(takes(port, STATUS_SUCCESS, 99) && finds_nothing(port));
    ktest_close(file);
    close_port(port);
}

KTEST(skip_port_on_success, "IOCP-21 IOCP-22")
{
    on_both_roads(skip_on_success);
}

KTEST(skip_event_on_handle, "IOCP-22 CMP-05")
{
    FILE_OBJECT *file = ktest_open(0);
    KEVENT *event = ktest_create_event();
    file->Flags |= FO_SKIP_EVENT;
    ktest_driver.lower = finish_now;
    immediate = STATUS_SUCCESS;
    for (int pended = 0; pended <= 1; pended++) {
        marks = pended;
        EXPECT(NT_SUCCESS(io_send(file, ktest_build_read(file))));
        EXPECT(!is_set(file));
        IRP *irp = ktest_build_read(file);
        KeResetEvent(event);
        ObReferenceObject(event);
        irp->UserEvent = event;
        EXPECT(NT_SUCCESS(io_send(file, irp)));
        EXPECT(event->Header.SignalState && !is_set(file));
    }
    ObDereferenceObject(event);
    ktest_close(file);
}

KTEST(port_is_bound_once, "IOCP-16 IOCP-17")
{
    FILE_OBJECT *file = ktest_open(0);
    FILE_OBJECT *synchronous = ktest_open(FILE_SYNCHRONOUS_IO_NONALERT);
    KQUEUE *port = open_port(file);
    EXPECT(io_bind_port(file, port, tag) == STATUS_INVALID_PARAMETER);
    EXPECT(file->CompletionKey == key);
    EXPECT(io_bind_port(synchronous, port, key) == STATUS_INVALID_PARAMETER);
    ktest_close(file);
    ktest_close(synchronous);
    close_port(port);
}

KTEST(posts_pass_through, "IOCP-03 IOCP-02")
{
    enum { POSTS = IO_PORT_BATCH + 1 };
    FILE_IO_COMPLETION_INFORMATION entries[POSTS];
    KQUEUE *port;
    uint32_t taken;
    ktest_create_port(0, &port);
    for (uintptr_t i = 0; i < POSTS; i++)
        EXPECT(io_post(port, (void *)(i << 40), (void *)i, (NTSTATUS)i,
                       i << 33) == STATUS_SUCCESS);
    EXPECT(io_remove_completion(port, false, &no_wait, entries, POSTS,
                                &taken) == STATUS_SUCCESS);
    EXPECT(taken == IO_PORT_BATCH);
    EXPECT(io_remove_completion(port, false, &no_wait,
                                &entries[IO_PORT_BATCH], 1,
                                &taken) == STATUS_SUCCESS);
    for (uintptr_t i = 0; i < POSTS; i++)
        EXPECT(entries[i].KeyContext == (void *)(i << 40) &&
               entries[i].ApcContext == (void *)i &&
               (uintptr_t)entries[i].IoStatusBlock.Pointer == i &&
               entries[i].IoStatusBlock.Information == i << 33);
    io_post(port, NULL, NULL, STATUS_SUCCESS, 0);    // dropped with the port
    close_port(port);
}

// ---- Synchronous handles, ends --------------------------------------------

static void read_synchronously(void *context)
{
    issuer *i = context;
    i->sent = io_send(i->file, ktest_build_read(i->file));
}

KTEST(synchronous_handle_waits, "CMP-06")
{
    ktest_driver.lower = hold;
    FILE_OBJECT *file = ktest_open(FILE_SYNCHRONOUS_IO_NONALERT);
    issuer i = { .file = file, .sent = STATUS_PENDING };
    ktest_start(&i.thread, read_synchronously, &i, KTEST_ABOVE);
    EXPECT(ktest_is_waiting(&i.thread) && i.sent == STATUS_PENDING);
    EXPECT(i.thread.thread->irp_id == held->id);
    complete_held(STATUS_END_OF_FILE, 0);
    EXPECT(i.sent == STATUS_END_OF_FILE);
    ktest_join(&i.thread);

    ktest_driver.lower = finish_now;
    marks = false;
    immediate = STATUS_END_OF_FILE;
    EXPECT(io_send(file, ktest_build_read(file)) == STATUS_END_OF_FILE);
    ktest_close(file);
}

KTEST(synchronous_handle_takes_turns, "CMP-06")
{
    ktest_driver.lower = hold;
    FILE_OBJECT *file = ktest_open(FILE_SYNCHRONOUS_IO_NONALERT);
    issuer a = { .file = file }, b = { .file = file };
    a.sent = b.sent = STATUS_PENDING;
    ktest_start(&a.thread, read_synchronously, &a, KTEST_ABOVE);
    IRP *first = held;
    ktest_start(&b.thread, read_synchronously, &b, KTEST_ABOVE);
    EXPECT(held == first && ktest_is_waiting(&b.thread));
    complete_held(STATUS_SUCCESS, 0);
    EXPECT(a.sent == STATUS_SUCCESS && b.sent == STATUS_PENDING && held);
    complete_held(STATUS_END_OF_FILE, 0);
    EXPECT(b.sent == STATUS_END_OF_FILE);
    ktest_join(&a.thread);
    ktest_join(&b.thread);
    ktest_close(file);
}

static void issue_and_end(void *context)
{
    issuer *i = context;
    i->sent = send_tagged(i->file);
}

static void outlive(void)
{
    ktest_driver.lower = hold;
    FILE_OBJECT *file = ktest_open(0);
    KQUEUE *port = open_port(file);
    issuer i = { .file = file };
    ktest_start(&i.thread, issue_and_end, &i, KTEST_ABOVE);
    ktest_join(&i.thread);    // ended, its request did not
    EXPECT(i.sent == STATUS_PENDING && held && !held->Cancel);
    complete_held(STATUS_SUCCESS, 5);
    EXPECT(takes(port, STATUS_SUCCESS, 5) && finds_nothing(port));
    ktest_close(file);
    close_port(port);
}

KTEST(port_bound_request_outlives_its_thread, "CAN-08")
{
    on_both_roads(outlive);
}

static NTSTATUS log_closing(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    bool cleanup = IoGetCurrentIrpStackLocation(irp)->MajorFunction ==
                   IRP_MJ_CLEANUP;
    ktest_log(cleanup ? 'k' : 'z');
    return ktest_complete(irp, STATUS_SUCCESS);
}

KTEST(close_comes_after_the_last_request, "CAN-11")
{
    ktest_driver.lower = hold;
    ktest_driver.closing = log_closing;
    FILE_OBJECT *file = ktest_open(0);
    EXPECT(io_send(file, ktest_build_read(file)) == STATUS_PENDING);
    ktest_close(file);
    EXPECT(ktest_logged("k"));
    complete_held(STATUS_SUCCESS, 0);
    ps_settle();
    EXPECT(ktest_logged("kz"));
}
