// stages.c - a cancel at each stage of a request's road (NT-SEMANTICS 9): it
// ends in exactly one completion, cancelled or not.
//
// The device is the test's own, its interrupt is raised by hand, so that the
// road stops where the test wants it to. Two kinds of driver: one that lets go
// of what is at the device (its cancel routine stays in until the DPC), and
// one, like ide, that does not.

#include "tests/kernel/ktest.h"

#include "tests/kernel/driver.h"

enum { DRAWN = 200, STAGE_IRQL = 5, KEY = 11, PACKET = 12 };

typedef enum stage {
    BEFORE_QUEUE,     // in a dispatch routine; the device is idle
    BEFORE_LINE,      // the same, and it is busy
    IN_LINE,
    AT_DEVICE,
    IN_ISR,
    BEFORE_DPC,
    BEFORE_APC,       // completed; direct road: the packet is in the port
    IN_PORT,          // or the event set
    STAGES
} stage;

typedef enum ending { BY_EVENT, BY_PORT_APC, BY_PORT_DIRECT, ENDINGS } ending;

static const char *const stage_names[] = {
    "before queueing", "before standing in line", "in line", "at the device",
    "in the ISR", "before the DPC", "before the APC", "in the port",
};

static stage at;
static bool lets_go;              // the kind of driver
static bool armed;                // guarded by the cancel lock
static ktest_device line;
static FILE_OBJECT *file;
static volatile bool in_isr, cancelled_meanwhile;

static struct outcome {
    uint32_t completions;
    NTSTATUS status;
} outcome;

// Addresses that nothing can be stored at, to tell the request from the one in
// front of it.
static IO_STATUS_BLOCK *const iosb_ours = (void *)0x10;
static IO_STATUS_BLOCK *const iosb_front = (void *)0x20;

// Port-bound requests hang on the file, the others on their thread.
static bool cancel_from(KTHREAD *asking)
{
    io_filter filter = { .file = file, .iosb = iosb_ours };
    bool on_file = io_cancel(&file->io, &filter);
    return io_cancel(&asking->io, &filter) || on_file;
}

static bool cancel_now(void)
{
    return cancel_from(KeGetCurrentThread());
}

// ---- The driver -------------------------------------------------------------

static NTSTATUS count_completion(DEVICE_OBJECT *device, IRP *irp,
                                 void *context)
{
    (void)device;
    struct outcome *to = context;
    to->completions++;
    to->status = irp->IoStatus.Status;
    if (irp->PendingReturned)
        IoMarkIrpPending(irp);
    return STATUS_SUCCESS;
}

static struct outcome other;    // of the request in front
static bool is_other;

static NTSTATUS stage_upper(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    IoCopyCurrentIrpStackLocationToNext(irp);
    IoSetCompletionRoutine(irp, count_completion, is_other ? &other : &outcome,
                           true, true, true);
    if (!is_other && (at == BEFORE_QUEUE || at == BEFORE_LINE))
        EXPECT(cancel_now());
    return IoCallDriver(ktest_lower, irp);
}

// As in ide, or as in cancel.c, where this routine is explained.
static void stage_cancel(DEVICE_OBJECT *device, IRP *irp)
{
    KIRQL irql = irp->CancelIrql;
    bool queued = KeRemoveEntryDeviceQueue(&device->DeviceQueue,
                                           &irp->Tail.DeviceQueueEntry);
    bool current = !queued && lets_go;
    if (current)
        armed = false;    // the DPC has nothing to do
    IoReleaseCancelSpinLock(current ? DISPATCH_LEVEL : irql);
    if (current) {
        if (at == IN_ISR)
            ktest_interrupt(&line);    // beneath this routine
        IoStartNextPacket(device, true);
        KeLowerIrql(irql);
    }
    if (queued || current)
        ktest_complete(irp, STATUS_CANCELLED);
}

static void stage_start_io(DEVICE_OBJECT *device, IRP *irp)
{
    KIRQL irql;
    IoAcquireCancelSpinLock(&irql);
    bool gone = lets_go && irp->Cancel && IoSetCancelRoutine(irp, NULL);
    if (!lets_go)
        IoSetCancelRoutine(irp, NULL);
    armed = !gone;
    IoReleaseCancelSpinLock(irql);
    if (gone) {
        IoStartNextPacket(device, true);
        ktest_complete(irp, STATUS_CANCELLED);
    }
}

static NTSTATUS stage_lower(DEVICE_OBJECT *device, IRP *irp)
{
    IoMarkIrpPending(irp);
    IoStartPacket(device, irp, NULL, stage_cancel);
    return STATUS_PENDING;
}

static void stage_dpc(KDPC *dpc, DEVICE_OBJECT *device, IRP *irp,
                      void *context)
{
    (void)dpc, (void)irp, (void)context;
    KIRQL irql;
    IoAcquireCancelSpinLock(&irql);
    IRP *done = armed ? device->CurrentIrp : NULL;
    if (done && lets_go && !IoSetCancelRoutine(done, NULL))
        done = NULL;
    armed = armed && !done;
    IoReleaseCancelSpinLock(irql);
    if (!done)
        return;
    IoStartNextPacket(device, true);
    ktest_complete(done, STATUS_SUCCESS);
}

// On more than one processor a second one cancels while this runs.
static void stage_isr(ktest_device *device)
{
    (void)device;
    in_isr = true;
    while (at == IN_ISR && !lets_go && !cancelled_meanwhile)
        __builtin_ia32_pause();
    IoRequestDpc(ktest_lower, NULL, NULL);
}

static void cancel_elsewhere(void *context)
{
    KTHREAD *asking = context;
    KeSetAffinityThread(KeGetCurrentThread(), 2);
    while (!in_isr)
        __builtin_ia32_pause();
    EXPECT(cancel_from(asking));
    cancelled_meanwhile = true;
}

// ---- One road ---------------------------------------------------------------

static void send(ending how, KEVENT **event, bool front)
{
    IRP *irp = ktest_build_read(file);
    irp->UserIosb = front ? iosb_front : iosb_ours;
    if (how == BY_EVENT) {
        *event = irp->UserEvent = ktest_create_event();
        ObReferenceObject(*event);
    } else {
        irp->UserApcContext = (void *)(uintptr_t)(PACKET + front);
    }
    is_other = front;
    EXPECT(io_send(file, irp) == STATUS_PENDING);
}

// From the device to the end, with the cancel where it belongs.
static void go_on(void)
{
    KIRQL old;
    ktest_thread canceller;
    bool two = at == IN_ISR && !lets_go;
    if (two)
        ktest_start(&canceller, cancel_elsewhere, KeGetCurrentThread(),
                    KTEST_ABOVE);
    if (at == AT_DEVICE || (at == IN_ISR && lets_go))
        EXPECT(cancel_now());
    KeRaiseIrql(at == BEFORE_DPC ? DISPATCH_LEVEL : APC_LEVEL, &old);
    if (armed)
        ktest_interrupt(&line);
    if (at == BEFORE_DPC)
        EXPECT(outcome.completions == 0 && cancel_now());
    if (at == BEFORE_APC) {
        EXPECT(outcome.completions == 1);
        EXPECT(cancel_now() == !io_direct_road);    // on a list till the APC
    }
    KeLowerIrql(old);
    if (two)
        ktest_join(&canceller);
    if (at == IN_PORT)
        EXPECT(!cancel_now());
}

// Exactly one packet for each request.
static void take_packets(KQUEUE *port, uint32_t requests, NTSTATUS status)
{
    static const int64_t no_wait = 0;
    FILE_IO_COMPLETION_INFORMATION entries[4];
    uint32_t taken = 0;
    EXPECT(io_remove_completion(port, false, &no_wait, entries, 4, &taken) ==
           STATUS_SUCCESS);
    EXPECT(taken == requests);
    for (uint32_t i = 0; i < taken; i++) {
        bool front = entries[i].ApcContext != (void *)PACKET;
        EXPECT(entries[i].KeyContext == (void *)KEY);
        EXPECT(entries[i].IoStatusBlock.Status ==
               (front ? STATUS_SUCCESS : status));
    }
}

static void one_road(ending how, NTSTATUS expected)
{
    KQUEUE *port = NULL;
    KEVENT *event = NULL, *front_event = NULL;
    bool front = at == BEFORE_LINE || at == IN_LINE;
    io_direct_road = how == BY_PORT_DIRECT;
    outcome = other = (struct outcome){ 0 };
    in_isr = cancelled_meanwhile = armed = false;
    file = ktest_open(0);
    if (how != BY_EVENT) {
        EXPECT(ktest_create_port(1, &port) == STATUS_SUCCESS);
        EXPECT(io_bind_port(file, port, (void *)KEY) == STATUS_SUCCESS);
    }
    if (front)
        send(how, &front_event, true);
    send(how, &event, false);
    if (at == IN_LINE)
        EXPECT(cancel_now());
    go_on();
    if (front && other.completions == 0)
        ktest_interrupt(&line);
    EXPECT(outcome.completions == 1 && outcome.status == expected);
    EXPECT(!front || other.completions == 1);
    EXPECT(!event || event->Header.SignalState == 1);
    if (how != BY_EVENT)
        take_packets(port, 1 + front, expected);
    if (outcome.completions != 1 || outcome.status != expected)
        ktest_fail(stage_names[at], __FILE__, (uint32_t)how);
    EXPECT(!cancel_now() && !ktest_lower->CurrentIrp);
    ktest_close(file);
    if (event)
        ObDereferenceObject(event);
    if (front_event)
        ObDereferenceObject(front_event);
    if (port) {
        io_port_type.close(NULL, port, 0);
        ObDereferenceObject(port);
    }
}

// A request that is at the device ends there, unless the driver lets go; one
// that is in line never gets there.
static void one_stage(ending how)
{
    bool cancelled = at == BEFORE_LINE || at == IN_LINE ||
                     (lets_go && at <= BEFORE_DPC);
    if (at == IN_ISR && !lets_go && KeNumberProcessors == 1)
        return;    // nobody could cancel meanwhile
    one_road(how, cancelled ? STATUS_CANCELLED : STATUS_SUCCESS);
}

static void each_stage(void)
{
    for (at = 0; at < STAGES; at++)
        for (ending how = 0; how < ENDINGS; how++)
            one_stage(how);
}

static void drawn_stages(void)
{
    for (int i = 0; i < DRAWN; i++) {
        at = (stage)(ktest_random() % STAGES);
        lets_go = ktest_random() % 2;
        one_stage((ending)(ktest_random() % ENDINGS));
    }
}

static void at_the_device(void (*stages)(void))
{
    bool before = io_direct_road;
    ktest_driver.upper = stage_upper;
    ktest_driver.lower = stage_lower;
    ktest_driver.start_io = stage_start_io;
    IoInitializeDpcRequest(ktest_lower, stage_dpc);
    ktest_connect(&line, STAGE_IRQL, 0);
    line.isr = stage_isr;
    stages();
    ktest_disconnect(&line);
    io_direct_road = before;
}

KTEST(cancel_at_each_stage, "CAN-05 CAN-09 CAN-10 DVQ-04 IOCP-01")
{
    lets_go = false;
    at_the_device(each_stage);
}

KTEST(cancel_at_each_stage_of_a_driver_that_lets_go,
      "CAN-05 CAN-09 CAN-10 DVQ-04 IOCP-01")
{
    lets_go = true;
    at_the_device(each_stage);
}

// Any stage may follow any other.
KTEST(storm_of_stages, "CAN-05 CAN-09 CAN-10 DVQ-04 IOCP-01")
{
    at_the_device(drawn_stages);
}
