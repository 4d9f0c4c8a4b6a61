// results.c - what a completion leaves in the memory of who asked, and in which
// order (NT-SEMANTICS 7, 8): IOSB, buffered output, then the news of it.
//
// The test lends its thread a user address space of its own, so that there is
// an IOSB; the test driver answers with any status, at once or later.

#include "tests/kernel/ktest.h"

#include "tests/kernel/driver.h"

enum { LENGTH = 16, COPIED = 11, UNTOUCHED = 0x77 };

#define UNTOUCHED_STATUS ((NTSTATUS)0x7EADBEEF)

// What lies in the page of ring 3.
typedef struct user_page {
    IO_STATUS_BLOCK iosb;
    uint8_t output[LENGTH];
} user_page;

typedef struct user {
    KPROCESS process;
    mm_space space;
    user_page *page;             // in ring 3
} user;

static NTSTATUS answer;          // of the lower driver
static bool at_once, marks;
static IRP *held;

// ---- An address space -----------------------------------------------------

static bool enter_user(user *u)
{
    uint64_t base = 0, size = PAGE_SIZE;
    NTSTATUS status = mm_create_space(&u->space, &u->process);
    EXPECT(status == STATUS_SUCCESS);
    if (status != STATUS_SUCCESS)
        return false;
    ke_initialize_process(&u->process, u->space.cr3);
    ke_attach_process(&u->process);
    EXPECT(mm_allocate(&u->space, &base, &size, PAGE_READWRITE) ==
           STATUS_SUCCESS);
    u->page = (user_page *)base;
    return true;
}

static void leave_user(user *u)
{
    ke_attach_process(&PsInitialSystemProcess->Pcb);
    mm_delete_space(&u->space);
}

static user_page look(const user *u)
{
    user_page page;
    EXPECT(ke_get_user(&page, u->page) == STATUS_SUCCESS);
    return page;
}

static void reset(user *u)
{
    user_page page = { .iosb = { .Status = UNTOUCHED_STATUS,
                                 .Information = UNTOUCHED } };
    memset(page.output, UNTOUCHED, LENGTH);
    EXPECT(ke_put_user(u->page, &page) == STATUS_SUCCESS);
}

// ---- A driver with buffered output ----------------------------------------

static void give_answer(IRP *irp)
{
    memset(irp->SystemBuffer, 'x', LENGTH);
    irp->IoStatus.Status = answer;
    irp->IoStatus.Information = COPIED;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
}

static NTSTATUS read(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    if (marks)
        IoMarkIrpPending(irp);
    if (at_once)
        give_answer(irp);
    else
        held = irp;
    return marks ? STATUS_PENDING : answer;
}

static IRP *build(FILE_OBJECT *file, const user *u)
{
    IRP *irp = ktest_build_read(file);
    irp->UserIosb = &u->page->iosb;
    irp->UserBuffer = u->page->output;
    irp->UserBufferLength = LENGTH;
    irp->SystemBuffer = ExAllocatePoolWithTag(NonPagedPool, LENGTH,
                                              IO_TAG);
    return irp;
}

static bool is_untouched(const user_page *page)
{
    bool same = page->iosb.Status == UNTOUCHED_STATUS &&
                page->iosb.Information == UNTOUCHED;
    for (int i = 0; i < LENGTH; i++)
        same &= page->output[i] == UNTOUCHED;
    return same;
}

// The status and COPIED bytes, none beyond; copied: the output, too.
static bool is_stored(const user_page *page, NTSTATUS status, bool copied)
{
    bool same = page->iosb.Status == status &&
                page->iosb.Information == COPIED;
    for (int i = 0; i < LENGTH; i++)
        same &= page->output[i] ==
                (copied && i < COPIED ? 'x' : UNTOUCHED);
    return same;
}

static const NTSTATUS statuses[] = { STATUS_SUCCESS, STATUS_ALERTED,
                                     KTEST_INFORMATIONAL,
                                     STATUS_BUFFER_OVERFLOW,
                                     STATUS_END_OF_FILE };

KTEST(result_of_an_immediate_answer, "CMP-02 CMP-03")
{
    user u;
    if (!enter_user(&u))
        return;
    FILE_OBJECT *file = ktest_open(0);
    ktest_driver.lower = read;
    at_once = true;
    marks = false;
    for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
        reset(&u);
        answer = statuses[i];
        KeClearEvent(&file->Event);
        EXPECT(io_send(file, build(file, &u)) == answer);
        user_page page = look(&u);
        bool error = answer == STATUS_END_OF_FILE;
        EXPECT(error ? is_untouched(&page) : is_stored(&page, answer, true));
        EXPECT((file->Event.Header.SignalState != 0) == !error);
    }
    ktest_close(file);
    leave_user(&u);
}

KTEST(result_of_a_pended_answer, "CMP-04 CMP-08")
{
    user u;
    if (!enter_user(&u))
        return;
    FILE_OBJECT *file = ktest_open(0);
    ktest_driver.lower = read;
    marks = true;
    for (int late = 0; late <= 1; late++) {
        at_once = !late;
        for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
            reset(&u);
            answer = statuses[i];
            EXPECT(io_send(file, build(file, &u)) == STATUS_PENDING);
            if (late) {
                user_page before = look(&u);
                EXPECT(is_untouched(&before));
                EXPECT(file->Event.Header.SignalState == 0);
                give_answer(held);
            }
            user_page page = look(&u);
            EXPECT(is_stored(&page, answer, answer != STATUS_END_OF_FILE));
            EXPECT(file->Event.Header.SignalState != 0);
        }
    }
    ktest_close(file);
    leave_user(&u);
}

KTEST(result_of_a_synchronous_handle, "CMP-06")
{
    user u;
    if (!enter_user(&u))
        return;
    FILE_OBJECT *file = ktest_open(FILE_SYNCHRONOUS_IO_NONALERT);
    ktest_driver.lower = read;
    at_once = true;
    for (int pended = 0; pended <= 1; pended++) {
        marks = pended;
        for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
            reset(&u);
            answer = statuses[i];
            EXPECT(io_send(file, build(file, &u)) == answer);
            user_page page = look(&u);
            bool error = answer == STATUS_END_OF_FILE;
            EXPECT(error && !pended ? is_untouched(&page)
                                    : is_stored(&page, answer, !error));
        }
    }
    ktest_close(file);
    leave_user(&u);
}

// ---- The order ------------------------------------------------------------

// Wakes at the event, above whoever stores the results, and looks round.
typedef struct observer {
    ktest_thread thread;
    user *user;
    FILE_OBJECT *file;
    KEVENT *event;
    KTHREAD *issuer;
    KQUEUE *port;
    user_page page;
    bool linked, told;           // still on its list; packet or APC is there
    bool linked_when_told;       // as the packet came
    FILE_IO_COMPLETION_INFORMATION packet;
} observer;

static bool is_linked(const observer *o)
{
    return !IsListEmpty(o->port ? &o->file->io.irps : &o->issuer->io.irps);
}

static void observe(void *context)
{
    observer *o = context;
    ke_attach_process(&o->user->process);
    KeWaitForSingleObject(o->event, Executive, KernelMode, false, NULL);
    o->page = look(o->user);
    o->linked = is_linked(o);
    o->told = o->port ? o->port->Header.SignalState != 0
                      : !IsListEmpty(
                            &o->issuer->ApcState.ApcListHead[UserMode]);
    if (o->port) {
        uint32_t taken;
        EXPECT(io_remove_completion(o->port, false, &ktest_bound, &o->packet,
                                    1, &taken) == STATUS_SUCCESS);
        o->linked_when_told = is_linked(o);
    }
    ke_attach_process(&PsInitialSystemProcess->Pcb);
}

// event NULL: the file object is what is waited for.
static void expect_order(observer *o, KEVENT *event, IRP *irp)
{
    o->event = event ? event : &o->file->Event;
    irp->UserEvent = event;
    if (event)
        ObReferenceObject(event);
    reset(o->user);
    ktest_start(&o->thread, observe, o, KTEST_ABOVE);
    EXPECT(ktest_is_waiting(&o->thread));
    EXPECT(io_send(o->file, irp) == STATUS_PENDING);
    EXPECT(ktest_is_waiting(&o->thread));
    give_answer(held);
    ktest_join(&o->thread);
    EXPECT(is_stored(&o->page, STATUS_SUCCESS, true));
    EXPECT(o->linked && !o->told && !o->linked_when_told);
    EXPECT(IsListEmpty(&o->file->io.irps) &&
           IsListEmpty(&o->issuer->io.irps));
}

static void prepare(void)
{
    ktest_driver.lower = read;
    answer = STATUS_SUCCESS;
    marks = true;
    at_once = false;
}

static void event_and_packet(void)
{
    user u;
    if (!enter_user(&u))
        return;
    prepare();
    observer o = { .user = &u, .file = ktest_open(0),
                   .issuer = KeGetCurrentThread() };
    KEVENT *event = ktest_create_event();
    ktest_create_port(0, &o.port);
    EXPECT(io_bind_port(o.file, o.port, NULL) == STATUS_SUCCESS);
    IRP *irp = build(o.file, &u);
    irp->UserApcContext = &u;
    expect_order(&o, event, irp);
    EXPECT(o.port->Header.SignalState == 0);
    EXPECT(o.packet.ApcContext == &u &&
           o.packet.IoStatusBlock.Information == COPIED);
    ktest_close(o.file);
    io_port_type.close(NULL, o.port, 0);
    ObDereferenceObject(o.port);
    ObDereferenceObject(event);
    leave_user(&u);
}

// On either road: with an event even the direct one goes by the thread.
KTEST(results_come_before_event_and_packet, "IRP-09 IOCP-26 IOCP-20")
{
    bool before = io_direct_road;
    io_direct_road = false;
    event_and_packet();
    io_direct_road = true;
    event_and_packet();
    io_direct_road = before;
}

static void never(void *context, IO_STATUS_BLOCK *iosb, uint32_t reserved)
{
    (void)context, (void)iosb, (void)reserved;
}

static void issue_with_routine(void *context)
{
    observer *o = context;
    KEVENT *event = ktest_create_event();
    ke_attach_process(&o->user->process);
    o->issuer = KeGetCurrentThread();
    LIST_ENTRY *apcs = &o->issuer->ApcState.ApcListHead[UserMode];
    IRP *irp = build(o->file, o->user);
    expect_order(o, NULL, irp);
    EXPECT(IsListEmpty(apcs));
    irp = build(o->file, o->user);
    irp->UserApcRoutine = never;    // run down with this thread
    expect_order(o, event, irp);
    EXPECT(!IsListEmpty(apcs));
    ke_attach_process(&PsInitialSystemProcess->Pcb);
    ObDereferenceObject(event);
}

KTEST(results_come_before_event_and_routine, "IRP-09 CMP-05")
{
    user u;
    ktest_thread issuer;
    if (!enter_user(&u))
        return;
    prepare();
    observer o = { .user = &u, .file = ktest_open(0) };
    ktest_start(&issuer, issue_with_routine, &o, KTEST_PRIORITY);
    ktest_join(&issuer);
    ktest_close(o.file);
    leave_user(&u);
}
