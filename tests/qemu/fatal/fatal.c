// fatal.c - what must stop the kernel; one boot each, as none comes back.
//
// Not linked into the kernel that `make test` builds for the in-kernel tests:
// tests/qemu/test_bugcheck.py adds it by KTESTS and knows what each must say.

#include "tests/kernel/ktest.h"

#define NOWHERE ((volatile int *)0xFFFFDEAD00000000ull)

// Calls must stay calls, or the backtrace has nothing to name.
#ifdef __clang__
#define OUT_OF_LINE __attribute__((noinline))
#else
#define OUT_OF_LINE __attribute__((noinline, noclone))
#endif

static DEVICE_OBJECT *device;

static OUT_OF_LINE void fatal_read(volatile int *address)
{
    // gdb takes the first instruction of a function for its caller's last.
    __asm__ volatile("nop");
    (void)*address;
    __asm__ volatile("" ::: "memory");
}

KTEST(fatal_page_fault, "")
{
    fatal_read(NOWHERE);
}

static OUT_OF_LINE void fatal_jump(void (*volatile routine)(void))
{
    routine();
    __asm__ volatile("" ::: "memory");
}

KTEST(fatal_call_of_null, "")
{
    fatal_jump(NULL);
}

static volatile bool deep_enough;    // never, but the compiler cannot know

static OUT_OF_LINE uint64_t fatal_recurse(uint64_t depth)
{
    if (deep_enough)
        return depth;
    volatile uint64_t room[32];
    room[0] = depth;
    return fatal_recurse(depth + 1) + room[0];
}

KTEST(fatal_stack_overflow, "")
{
    EXPECT(fatal_recurse(0));
}

KTEST(fatal_assertion, "")
{
    ASSERT(device != NULL);
}

KTEST(fatal_invalid_opcode, "")
{
    __asm__ volatile("ud2");
}

KTEST(fatal_raise_to_lower, "IRQL-03")
{
    KIRQL old;
    KeRaiseIrql(DISPATCH_LEVEL, &old);
    KeRaiseIrql(APC_LEVEL, &old);
}

KTEST(fatal_raise_to_dpc_level_from_above, "IRQL-03 IRQL-02")
{
    KIRQL old;
    KeRaiseIrql(DEVICE_LEVEL_MIN, &old);
    KeRaiseIrqlToDpcLevel();
}

KTEST(fatal_lower_to_higher, "IRQL-03")
{
    KeLowerIrql(DISPATCH_LEVEL);
}

KTEST(fatal_release_of_a_free_lock, "IRQL-06")
{
    KSPIN_LOCK lock;
    KeInitializeSpinLock(&lock);
    KIRQL old = KeRaiseIrqlToDpcLevel();
    KeReleaseSpinLock(&lock, old);
}

KTEST(fatal_at_dpc_level_below_it, "IRQL-06")
{
    KSPIN_LOCK lock;
    KeInitializeSpinLock(&lock);
    KeAcquireSpinLockAtDpcLevel(&lock);
}

KTEST(fatal_lowered_with_a_lock, "IRQL-06")
{
    KSPIN_LOCK lock;
    KeInitializeSpinLock(&lock);
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&lock);
    KeLowerIrql(old);
    KeReleaseSpinLockFromDpcLevel(&lock);
}

KTEST(fatal_lock_taken_twice, "IRQL-06")
{
    KSPIN_LOCK lock;
    KeInitializeSpinLock(&lock);
    KeAcquireSpinLockRaiseToDpc(&lock);
    KeAcquireSpinLockAtDpcLevel(&lock);
}

// ---- Waits ----------------------------------------------------------------

static KEVENT unset;

static void raise_to_wait(void)
{
    KIRQL old;
    KeInitializeEvent(&unset, NotificationEvent, false);
    KeRaiseIrql(DISPATCH_LEVEL, &old);
}

KTEST(fatal_wait_at_dispatch, "IRQL-05")
{
    raise_to_wait();
    KeWaitForSingleObject(&unset, Executive, KernelMode, false, NULL);
}

KTEST(fatal_timed_wait_at_dispatch, "IRQL-05")
{
    raise_to_wait();
    KeWaitForSingleObject(&unset, Executive, KernelMode, false, &ktest_bound);
}

KTEST(fatal_wait_for_many_at_dispatch, "IRQL-05")
{
    void *objects[] = { &unset, &unset };
    raise_to_wait();
    KeWaitForMultipleObjects(2, objects, WaitAny, Executive, KernelMode, false,
                             NULL, NULL);
}

// Not even a look: the level is not one at which dispatcher objects are safe.
KTEST(fatal_poll_at_device_level, "IRQL-05")
{
    static const int64_t no_wait = 0;
    KIRQL old;
    KeInitializeEvent(&unset, NotificationEvent, true);
    KeRaiseIrql(DEVICE_LEVEL_MIN, &old);
    KeWaitForSingleObject(&unset, Executive, KernelMode, false, &no_wait);
}

KTEST(fatal_delay_at_dispatch, "IRQL-05")
{
    raise_to_wait();
    ktest_sleep(1);
}

KTEST(fatal_dequeue_at_dispatch, "IRQL-05")
{
    KQUEUE queue;
    LIST_ENTRY *entry;
    uint32_t taken;
    KeInitializeQueue(&queue, 1);
    raise_to_wait();
    ke_remove_queue(&queue, KernelMode, false, NULL, &entry, 1, &taken);
}

// ---- Regions, DPCs, device queues -----------------------------------------

KTEST(fatal_leave_a_critical_region, "REG-01")
{
    KeEnterGuardedRegion();    // another kind does not help
    KeLeaveCriticalRegion();
}

KTEST(fatal_leave_a_guarded_region, "REG-01")
{
    KeEnterCriticalRegion();
    KeLeaveGuardedRegion();
}

static void stay_raised(KDPC *dpc, void *context, void *a, void *b)
{
    (void)dpc, (void)a, (void)b;
    KeRaiseIrql(DEVICE_LEVEL_MIN, context);
}

KTEST(fatal_dpc_at_another_level, "DPC-06")
{
    KDPC dpc;
    KIRQL old;
    KeInitializeDpc(&dpc, stay_raised, &old);
    KeInsertQueueDpc(&dpc, NULL, NULL);
}

KTEST(fatal_next_of_an_idle_device, "DVQ-02")
{
    KDEVICE_QUEUE queue;
    KeInitializeDeviceQueue(&queue);
    KeRemoveDeviceQueue(&queue);
}

// ---- IRPs -----------------------------------------------------------------

static DRIVER_DISPATCH *dispatch;    // what a request does at the device
static DRIVER_CANCEL *cancel;        // what leave_pending sets

static NTSTATUS leave_pending(DEVICE_OBJECT *to, IRP *irp)
{
    (void)to;
    IoMarkIrpPending(irp);
    IoSetCancelRoutine(irp, cancel);
    return STATUS_PENDING;
}

static NTSTATUS call_dispatch(DEVICE_OBJECT *to, IRP *irp)
{
    return dispatch(to, irp);
}

static NTSTATUS driver_entry(DRIVER_OBJECT *driver)
{
    driver->MajorFunction[IRP_MJ_READ] = call_dispatch;
    return IoCreateDevice(driver, 0, "\\Device\\Fatal", FILE_DEVICE_DISK,
                          &device);
}

static KEVENT ended;
static IO_STATUS_BLOCK result;

// A kernel caller's request to the test's own device.
static IRP *build_request(DRIVER_DISPATCH *routine)
{
    dispatch = routine;
    io_load_driver("fatal", driver_entry);
    IRP *irp = IoAllocateIrp(device->StackSize);
    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_READ;
    KeInitializeEvent(&ended, NotificationEvent, false);
    irp->flags |= IRP_KERNEL_WAIT;
    irp->UserEvent = &ended;
    irp->UserIosb = &result;
    return irp;
}

// One that is pending there.
static IRP *send_request(void)
{
    IRP *irp = build_request(leave_pending);
    IoCallDriver(device, irp);
    return irp;
}

static OUT_OF_LINE void fatal_complete(IRP *irp, NTSTATUS status)
{
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = 0;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    __asm__ volatile("" ::: "memory");
}

KTEST(fatal_complete_twice, "IRP-07")
{
    IRP *irp = send_request();
    fatal_complete(irp, STATUS_SUCCESS);
    fatal_complete(irp, STATUS_SUCCESS);
}

static NTSTATUS keep(DEVICE_OBJECT *from, IRP *irp, void *context)
{
    (void)from, (void)irp, (void)context;
    return STATUS_MORE_PROCESSING_REQUIRED;
}

// The first completion gave it back to who had sent it.
KTEST(fatal_complete_after_more_processing, "IRP-07 IRP-06")
{
    IRP *irp = build_request(leave_pending);
    IoSetCompletionRoutine(irp, keep, NULL, true, true, true);
    IoCallDriver(device, irp);
    fatal_complete(irp, STATUS_SUCCESS);
    fatal_complete(irp, STATUS_SUCCESS);
}

KTEST(fatal_complete_pending, "IRP-07")
{
    fatal_complete(send_request(), STATUS_PENDING);
}

KTEST(fatal_complete_with_a_lock, "IRP-07")
{
    KSPIN_LOCK lock;
    KIRQL old;
    IRP *irp = send_request();
    KeInitializeSpinLock(&lock);
    KeAcquireSpinLock(&lock, &old);
    fatal_complete(irp, STATUS_SUCCESS);
}

KTEST(fatal_complete_above_dispatch, "IRP-07")
{
    KIRQL old;
    IRP *irp = send_request();
    KeRaiseIrql(DEVICE_LEVEL_MIN, &old);
    fatal_complete(irp, STATUS_SUCCESS);
}

KTEST(fatal_no_more_locations, "IRP-01")
{
    IRP *irp = send_request();
    EXPECT(IoCallDriver(device, irp) == STATUS_SUCCESS);
}

KTEST(fatal_no_next_location, "IRP-01")
{
    IoCopyCurrentIrpStackLocationToNext(send_request());
}

KTEST(fatal_skip_of_what_was_never_sent, "IRP-01")
{
    IoSkipCurrentIrpStackLocation(build_request(leave_pending));
}

KTEST(fatal_nobody_keeps_a_drivers_own_irp, "IRP-06")
{
    IRP *irp = send_request();
    irp->flags = 0;
    fatal_complete(irp, STATUS_SUCCESS);
}

// ---- What a dispatch routine returns --------------------------------------

static NTSTATUS forget_the_mark(DEVICE_OBJECT *to, IRP *irp)
{
    (void)to, (void)irp;
    return STATUS_PENDING;
}

static NTSTATUS complete_and_say_pending(DEVICE_OBJECT *to, IRP *irp)
{
    (void)to;
    fatal_complete(irp, STATUS_SUCCESS);
    return STATUS_PENDING;
}

static NTSTATUS mark_and_succeed(DEVICE_OBJECT *to, IRP *irp)
{
    (void)to;
    IoMarkIrpPending(irp);
    return STATUS_SUCCESS;
}

static NTSTATUS mark_complete_and_succeed(DEVICE_OBJECT *to, IRP *irp)
{
    (void)to;
    IoMarkIrpPending(irp);
    fatal_complete(irp, STATUS_SUCCESS);
    return STATUS_SUCCESS;
}

static NTSTATUS keep_and_succeed(DEVICE_OBJECT *to, IRP *irp)
{
    (void)to, (void)irp;
    return STATUS_SUCCESS;
}

static OUT_OF_LINE void fatal_call(DRIVER_DISPATCH *routine)
{
    IoCallDriver(device, build_request(routine));
    __asm__ volatile("" ::: "memory");
}

KTEST(fatal_pending_without_the_mark, "IRP-05")
{
    fatal_call(forget_the_mark);
}

KTEST(fatal_pending_completed_without_the_mark, "IRP-05")
{
    fatal_call(complete_and_say_pending);
}

KTEST(fatal_marked_but_success, "IRP-05")
{
    fatal_call(mark_and_succeed);
}

KTEST(fatal_marked_completed_but_success, "IRP-05")
{
    fatal_call(mark_complete_and_succeed);
}

KTEST(fatal_kept_but_success, "IRP-05")
{
    fatal_call(keep_and_succeed);
}

static DRIVER_DISPATCH *below;       // what the filter's lower driver does
static NTSTATUS claim;               // what the filter returns
static bool skips;

static NTSTATUS filter(DEVICE_OBJECT *to, IRP *irp)
{
    if (dispatch == below)
        return below(to, irp);
    dispatch = below;
    if (skips)
        IoSkipCurrentIrpStackLocation(irp);
    else
        IoCopyCurrentIrpStackLocationToNext(irp);
    IoCallDriver(device, irp);
    return claim;
}

static NTSTATUS complete_now(DEVICE_OBJECT *to, IRP *irp)
{
    (void)to;
    return io_complete(irp, STATUS_SUCCESS, 0);
}

// Through a filter that has no completion routine, and so must return what the
// driver below it does.
static OUT_OF_LINE void fatal_filter(bool skip, DRIVER_DISPATCH *lower,
                                     NTSTATUS status)
{
    IRP *irp = build_request(filter);
    IRP *larger = IoAllocateIrp(2);
    IoGetNextIrpStackLocation(larger)->MajorFunction = IRP_MJ_READ;
    larger->flags = irp->flags;
    larger->UserEvent = irp->UserEvent;
    larger->UserIosb = irp->UserIosb;
    skips = skip;
    below = lower;
    claim = status;
    IoCallDriver(device, larger);
    __asm__ volatile("" ::: "memory");
}

KTEST(fatal_filter_hides_pending, "IRP-05")
{
    fatal_filter(false, leave_pending, STATUS_SUCCESS);
}

KTEST(fatal_filter_that_skips_hides_pending, "IRP-05")
{
    fatal_filter(true, leave_pending, STATUS_SUCCESS);
}

KTEST(fatal_filter_makes_pending_up, "IRP-05")
{
    fatal_filter(false, complete_now, STATUS_PENDING);
}

static NTSTATUS stay_raised_and_complete(DEVICE_OBJECT *to, IRP *irp)
{
    KeRaiseIrqlToDpcLevel();
    return complete_now(to, irp);
}

KTEST(fatal_dispatch_stays_raised, "IRQL-01")
{
    fatal_call(stay_raised_and_complete);
}

static NTSTATUS keep_raised(DEVICE_OBJECT *from, IRP *irp, void *context)
{
    KeRaiseIrqlToDpcLevel();
    return keep(from, irp, context);
}

KTEST(fatal_completion_stays_raised, "IRQL-01")
{
    IRP *irp = build_request(leave_pending);
    IoSetCompletionRoutine(irp, keep_raised, NULL, true, true, true);
    IoCallDriver(device, irp);
    fatal_complete(irp, STATUS_SUCCESS);
}

// ---- Cancel routines ------------------------------------------------------

static void complete_with_the_lock(DEVICE_OBJECT *from, IRP *irp)
{
    (void)from;
    fatal_complete(irp, STATUS_CANCELLED);
}

static void keep_the_lock(DEVICE_OBJECT *from, IRP *irp)
{
    (void)from, (void)irp;
}

static void release_at_another_level(DEVICE_OBJECT *from, IRP *irp)
{
    (void)from;
    IoReleaseCancelSpinLock(DISPATCH_LEVEL);
    fatal_complete(irp, STATUS_CANCELLED);
}

static void release_twice(DEVICE_OBJECT *from, IRP *irp)
{
    (void)from;
    IoReleaseCancelSpinLock(DISPATCH_LEVEL);
    IoReleaseCancelSpinLock(irp->CancelIrql);
}

static OUT_OF_LINE void fatal_cancel(DRIVER_CANCEL *routine)
{
    cancel = routine;
    IoCancelIrp(send_request());
    __asm__ volatile("" ::: "memory");
}

KTEST(fatal_complete_still_cancelable, "CAN-10")
{
    cancel = keep_the_lock;
    fatal_complete(send_request(), STATUS_SUCCESS);
}

KTEST(fatal_cancel_completes_with_the_lock, "CAN-10 IRP-07")
{
    fatal_cancel(complete_with_the_lock);
}

KTEST(fatal_cancel_keeps_the_lock, "CAN-10")
{
    fatal_cancel(keep_the_lock);
}

// As NtCancelIoFile, a close and a thread's end do it.
KTEST(fatal_cancel_by_list_keeps_the_lock, "CAN-10")
{
    ke_io_slot slot;
    cancel = keep_the_lock;
    KeInitializeSpinLock(&slot.lock);
    InitializeListHead(&slot.irps);
    InsertTailList(&slot.irps, &send_request()->ThreadListEntry);
    io_cancel(&slot, &(io_filter){ 0 });
}

KTEST(fatal_cancel_stays_raised, "CAN-10")
{
    fatal_cancel(release_at_another_level);
}

KTEST(fatal_cancel_releases_twice, "IRQL-06 CAN-10")
{
    fatal_cancel(release_twice);
}
