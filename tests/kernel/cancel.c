// cancel.c - cancelling IRPs, the driver's side (NT-SEMANTICS 9, 10).

#include "tests/kernel/ktest.h"

#include "tests/kernel/driver.h"

enum { REQUESTS = 4 };

static IRP *held[REQUESTS];
static uint32_t held_count;

// ---- One IRP --------------------------------------------------------------

static DEVICE_OBJECT *cancel_device;
static KIRQL cancel_at, cancel_irql;
static bool cancel_flag, cancel_taken_out;

static void note_cancel(DEVICE_OBJECT *device, IRP *irp)
{
    ktest_log('c');
    cancel_device = device;
    cancel_at = KeGetCurrentIrql();
    cancel_irql = irp->CancelIrql;
    cancel_flag = irp->Cancel;
    cancel_taken_out = !irp->CancelRoutine;
    IoReleaseCancelSpinLock(irp->CancelIrql);    // asserts that it is held
    ktest_complete(irp, STATUS_CANCELLED);
}

static NTSTATUS hold(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    IoMarkIrpPending(irp);
    IoSetCancelRoutine(irp, note_cancel);
    held[held_count++] = irp;
    return STATUS_PENDING;
}

static NTSTATUS keep(DEVICE_OBJECT *device, IRP *irp, void *context)
{
    (void)device, (void)irp, (void)context;
    ktest_log('o');
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static IRP *build(void)
{
    IRP *irp = IoAllocateIrp(ktest_lower->StackSize);
    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_READ;
    IoSetCompletionRoutine(irp, keep, NULL, true, true, true);
    return irp;
}

KTEST(cancel_calls_the_routine_once, "CAN-09 CAN-10")
{
    ktest_driver.lower = hold;
    for (KIRQL level = PASSIVE_LEVEL; level <= DISPATCH_LEVEL; level++) {
        held_count = 0;
        ktest_log_reset();
        IRP *irp = build();
        EXPECT(IoCallDriver(ktest_lower, irp) == STATUS_PENDING);
        KIRQL old;
        KeRaiseIrql(level, &old);
        bool first = IoCancelIrp(irp);
        KIRQL after = KeGetCurrentIrql();
        bool second = IoCancelIrp(irp);
        KeLowerIrql(old);
        EXPECT(first && !second && after == level);
        EXPECT(cancel_device == ktest_lower && cancel_at == DISPATCH_LEVEL);
        EXPECT(cancel_irql == level && cancel_flag && cancel_taken_out);
        EXPECT(irp->IoStatus.Status == STATUS_CANCELLED &&
               irp->IoStatus.Information == 0);
        EXPECT(ktest_logged("co"));
        IoFreeIrp(irp);
    }
}

KTEST(cancel_without_a_routine, "CAN-09")
{
    IRP *irp = build();
    EXPECT(!irp->Cancel);
    EXPECT(!IoCancelIrp(irp) && irp->Cancel);
    EXPECT(!IoCancelIrp(irp) && irp->Cancel);
    EXPECT(KeGetCurrentIrql() == PASSIVE_LEVEL);
    KIRQL irql;
    IoAcquireCancelSpinLock(&irql);    // it was let go
    IoReleaseCancelSpinLock(irql);
    IoFreeIrp(irp);
}

static void let_go(DEVICE_OBJECT *device, IRP *irp)
{
    cancel_device = device;
    held_count++;
    IoReleaseCancelSpinLock(irp->CancelIrql);
}

KTEST(cancel_of_what_was_never_sent, "CAN-09")
{
    held_count = 0;
    cancel_device = ktest_lower;
    IRP *irp = build();
    IoSetCancelRoutine(irp, let_go);
    EXPECT(IoCancelIrp(irp) && irp->Cancel && held_count == 1);
    EXPECT(!cancel_device && KeGetCurrentIrql() == PASSIVE_LEVEL);
    IoFreeIrp(irp);
}

static void other_cancel(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device, (void)irp;
}

KTEST(cancel_routine_is_exchanged, "CAN-10")
{
    ktest_driver.lower = hold;
    held_count = 0;
    IRP *irp = build();
    EXPECT(!IoSetCancelRoutine(irp, other_cancel));
    EXPECT(IoSetCancelRoutine(irp, note_cancel) == other_cancel);
    EXPECT(IoSetCancelRoutine(irp, NULL) == note_cancel);
    EXPECT(!IoSetCancelRoutine(irp, NULL));
    IoCallDriver(ktest_lower, irp);
    IoCancelIrp(irp);
    EXPECT(!IoSetCancelRoutine(irp, NULL));    // cancellation was first
    IoFreeIrp(irp);
}

// ---- A driver with StartIo ------------------------------------------------

static IRP *irps[REQUESTS];
static bool queued_in_routine;

static void log_irp(const IRP *irp, char base)
{
    for (int i = 0; i < REQUESTS; i++)
        if (irps[i] == irp)
            ktest_log((char)(base + i));
}

// Small letters: started; capitals: cancelled; digits: completed in time.
static void finish(IRP *irp, NTSTATUS status)
{
    log_irp(irp, status == STATUS_CANCELLED ? 'A' : '0');
    ktest_complete(irp, status);
}

// CAN-10, DVQ-04: one that is in line is taken out of it, the current one
// makes room for the next.
static void start_io_cancel(DEVICE_OBJECT *device, IRP *irp)
{
    KIRQL irql = irp->CancelIrql;
    queued_in_routine = irp->Tail.DeviceQueueEntry.Inserted;
    bool current = device->CurrentIrp == irp;
    if (!current)
        KeRemoveEntryDeviceQueue(&device->DeviceQueue,
                                 &irp->Tail.DeviceQueueEntry);
    IoReleaseCancelSpinLock(current ? DISPATCH_LEVEL : irql);
    if (current) {
        IoStartNextPacket(device, true);
        KeLowerIrql(irql);
    }
    finish(irp, STATUS_CANCELLED);
}

// Leaves the routine in: what is at this device may still be cancelled. One
// that was cancelled on its way is not started (DVQ-04).
static void start_io(DEVICE_OBJECT *device, IRP *irp)
{
    KIRQL irql;
    IoAcquireCancelSpinLock(&irql);
    bool cancelled = irp->Cancel;
    bool ours = cancelled && IoSetCancelRoutine(irp, NULL);
    IoReleaseCancelSpinLock(irql);
    if (!cancelled) {
        log_irp(irp, 'a');
    } else if (ours) {
        IoStartNextPacket(device, true);
        finish(irp, STATUS_CANCELLED);
    }
}

static NTSTATUS start(DEVICE_OBJECT *device, IRP *irp)
{
    IoMarkIrpPending(irp);
    IoStartPacket(device, irp, NULL, start_io_cancel);
    return STATUS_PENDING;
}

static NTSTATUS keep_quietly(DEVICE_OBJECT *device, IRP *irp, void *context)
{
    (void)device, (void)irp, (void)context;
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static void build_requests(void)
{
    ktest_driver.lower = start;
    ktest_driver.start_io = start_io;
    for (int i = 0; i < REQUESTS; i++) {
        irps[i] = build();
        IoSetCompletionRoutine(irps[i], keep_quietly, NULL, true, true, true);
    }
}

static void send(int i)
{
    EXPECT(IoCallDriver(ktest_lower, irps[i]) == STATUS_PENDING);
}

// The device has done the current one: as its DPC would.
static void complete_current(void)
{
    KIRQL old = KeRaiseIrqlToDpcLevel();
    IRP *irp = ktest_lower->CurrentIrp;
    bool ours = IoSetCancelRoutine(irp, NULL);
    EXPECT(ours);
    IoStartNextPacket(ktest_lower, true);
    finish(irp, STATUS_SUCCESS);
    KeLowerIrql(old);
}

static void free_requests(void)
{
    EXPECT(!ktest_lower->CurrentIrp && !ktest_lower->DeviceQueue.Busy);
    for (int i = 0; i < REQUESTS; i++)
        IoFreeIrp(irps[i]);
}

KTEST(cancel_one_in_line, "DVQ-04 CAN-09 CAN-10")
{
    build_requests();
    for (int i = 0; i < REQUESTS; i++)
        send(i);
    EXPECT(ktest_logged("a"));
    EXPECT(IoCancelIrp(irps[2]));
    EXPECT(queued_in_routine);    // IoCancelIrp took nothing off
    EXPECT(ktest_logged("aC"));
    EXPECT(!irps[2]->Tail.DeviceQueueEntry.Inserted);
    complete_current();
    complete_current();
    complete_current();
    EXPECT(ktest_logged("aCb0d13"));
    free_requests();
}

KTEST(cancel_the_current_one, "DVQ-04 CAN-09 CAN-10")
{
    build_requests();
    send(0);
    send(1);
    EXPECT(IoCancelIrp(irps[0]));
    EXPECT(!queued_in_routine && ktest_logged("abA"));
    EXPECT(ktest_lower->CurrentIrp == irps[1]);
    EXPECT(!IoCancelIrp(irps[0]));
    complete_current();
    EXPECT(ktest_logged("abA1"));
    free_requests();
}

KTEST(cancelled_before_it_was_queued, "DVQ-04 CAN-10")
{
    build_requests();
    IoCancelIrp(irps[0]);    // no routine yet: only the mark
    send(0);                 // the device is idle: StartIo copes
    EXPECT(ktest_logged("A"));
    send(1);
    IoCancelIrp(irps[2]);
    send(2);                 // in line: looked at again
    EXPECT(ktest_logged("AbC") && queued_in_routine);
    complete_current();
    EXPECT(ktest_logged("AbC1"));
    free_requests();
}

// ---- By list --------------------------------------------------------------

static uint32_t cancelled_count(int count)
{
    uint32_t cancelled = 0;
    for (int i = 0; i < count; i++)
        cancelled += held[i]->Cancel;
    return cancelled;
}

// Leaves the request alone: it is only marked.
static NTSTATUS hold_stubbornly(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    IoMarkIrpPending(irp);
    held[held_count++] = irp;
    return STATUS_PENDING;
}

static bool cancel_mine(FILE_OBJECT *file, IO_STATUS_BLOCK *iosb)
{
    return io_cancel(&KeGetCurrentThread()->io,
                     &(io_filter){ .file = file, .iosb = iosb });
}

KTEST(cancel_by_file_and_iosb, "CAN-05 CAN-06")
{
    ktest_driver.lower = hold_stubbornly;
    held_count = 0;
    FILE_OBJECT *files[] = { ktest_open(0), ktest_open(0) };
    IO_STATUS_BLOCK *iosbs[] = { (void *)0x10, (void *)0x20, (void *)0x20,
                                 (void *)0x30 };
    for (int i = 0; i < REQUESTS; i++) {
        FILE_OBJECT *file = files[i / 3];    // three on the first one
        IRP *irp = ktest_build_read(file);
        irp->UserIosb = iosbs[i];
        EXPECT(io_send(file, irp) == STATUS_PENDING);
    }
    EXPECT(!cancel_mine(files[0], iosbs[3]));
    EXPECT(cancelled_count(REQUESTS) == 0);
    EXPECT(cancel_mine(files[0], iosbs[1]));    // both
    EXPECT(held[1]->Cancel && held[2]->Cancel && !held[0]->Cancel);
    EXPECT(cancel_mine(files[0], NULL));
    EXPECT(cancelled_count(REQUESTS) == 3 && !held[3]->Cancel);
    for (int i = 0; i < REQUESTS; i++) {
        held[i]->UserIosb = NULL;    // there is no ring 3 behind it
        ktest_complete(held[i], STATUS_SUCCESS);    // asked is not done
    }
    EXPECT(!cancel_mine(NULL, NULL));
    ktest_close(files[0]);
    ktest_close(files[1]);
}

typedef struct dying {
    ktest_thread thread;
    FILE_OBJECT *file;
    KEVENT go;
} dying;

static void issue_and_end(void *context)
{
    dying *d = context;
    io_send(d->file, ktest_build_read(d->file));
}

static void request(void *context)
{
    dying *d = context;
    EXPECT(io_request(d->file, &(IO_STACK_LOCATION){
               .MajorFunction = IRP_MJ_READ }, NULL, NULL, NULL) ==
           STATUS_CANCELLED);
}

// As NtFlushBuffersFile waits.
KTEST(cancel_of_what_a_service_waits_for, "CAN-07")
{
    dying d = { .file = ktest_open(0) };
    held_count = 0;
    ktest_driver.lower = hold;
    ktest_start(&d.thread, request, &d, KTEST_ABOVE);
    bool asked = io_cancel(&d.thread.thread->io,
                           &(io_filter){ .synchronous = true });
    EXPECT(asked || !IoCancelIrp(held[0]));
    ktest_join(&d.thread);
    ktest_close(d.file);
}

KTEST(ending_thread_cancels_and_waits, "CAN-08 CAN-11")
{
    dying d = { .file = ktest_open(0) };
    held_count = 0;
    ktest_driver.lower = hold;    // with a cancel routine
    ktest_start(&d.thread, issue_and_end, &d, KTEST_ABOVE);
    ktest_join(&d.thread);
    EXPECT(ktest_logged("c"));
    EXPECT(cancel_irql == DISPATCH_LEVEL);    // not to be suspended in there

    held_count = 0;
    ktest_driver.lower = hold_stubbornly;
    ktest_start(&d.thread, issue_and_end, &d, KTEST_ABOVE);
    EXPECT(ktest_is_waiting(&d.thread) && held[0]->Cancel);
    ktest_complete(held[0], STATUS_SUCCESS);
    ktest_join(&d.thread);
    ktest_close(d.file);
}

static void issue_and_wait(void *context)
{
    dying *d = context;
    io_send(d->file, ktest_build_read(d->file));
    KeWaitForSingleObject(&d->go, Executive, KernelMode, false, NULL);
    // Its handle went while this thread was on its way.
    held_count = 0;
    EXPECT(io_send(d->file, ktest_build_read(d->file)) == STATUS_PENDING);
    EXPECT(held[0]->Cancel);
    ktest_complete(held[0], STATUS_CANCELLED);
}

KTEST(last_close_cancels_what_others_wait_for, "CAN-11")
{
    dying d = { .file = ktest_open(0) };
    KeInitializeEvent(&d.go, NotificationEvent, false);
    held_count = 0;
    ktest_driver.lower = hold;    // with a cancel routine
    ktest_start(&d.thread, issue_and_wait, &d, KTEST_ABOVE);
    EXPECT(ktest_is_waiting(&d.thread) && !held[0]->Cancel);
    ObReferenceObject(d.file);
    ktest_close(d.file);
    EXPECT(ktest_logged("c"));
    ktest_driver.lower = hold_stubbornly;
    KeSetEvent(&d.go, 0);
    ktest_join(&d.thread);
    ObDereferenceObject(d.file);
}

KTEST(last_close_cancels_what_waits, "CAN-11")
{
    FILE_OBJECT *file = ktest_open(0);
    held_count = 0;
    ktest_driver.lower = hold;    // with a cancel routine
    EXPECT(io_send(file, ktest_build_read(file)) == STATUS_PENDING);
    ktest_close(file);
    EXPECT(ktest_logged("c") && cancel_irql == DISPATCH_LEVEL);
}
