// irp.c - IRPs on their way down and up a stack of two devices, as a driver
// sees them (NT-SEMANTICS 7).

#include "tests/kernel/ktest.h"

#include "tests/kernel/driver.h"

enum { MAXIMUM_LOCATIONS = 6 };

// What a completion routine saw, and what it does.
typedef struct level {
    char letter;
    NTSTATUS result;
    bool marks;                  // calls IoMarkIrpPending if it must
    DEVICE_OBJECT *device;
    bool pending;
    uint32_t calls;
} level;

static level originator, upper;
static bool on_success, on_error, on_cancel;    // of the upper one's routine
static IRP *held;                // what the lower driver has not completed
static NTSTATUS final;           // what the lower driver completes with

static NTSTATUS completion(DEVICE_OBJECT *device, IRP *irp, void *context)
{
    level *l = context;
    ktest_log(l->letter);
    l->calls++;
    l->device = device;
    l->pending = irp->PendingReturned;
    if (l->marks && irp->PendingReturned)
        IoMarkIrpPending(irp);
    return l->result;
}

static NTSTATUS call_with_routine(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    IoCopyCurrentIrpStackLocationToNext(irp);
    IoSetCompletionRoutine(irp, completion, &upper, on_success, on_error,
                           on_cancel);
    return IoCallDriver(ktest_lower, irp);
}

static NTSTATUS complete_now(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    return ktest_complete(irp, final);
}

static NTSTATUS hold(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    IoMarkIrpPending(irp);
    held = irp;
    return STATUS_PENDING;
}

static NTSTATUS mark_and_complete(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    IoMarkIrpPending(irp);
    ktest_complete(irp, final);
    return STATUS_PENDING;
}

// An IRP of the test's own, which its completion routine keeps.
static IRP *build(void)
{
    originator = (level){ .letter = 'o',
                          .result = STATUS_MORE_PROCESSING_REQUIRED };
    upper = (level){ .letter = 'u', .result = STATUS_SUCCESS };
    on_success = on_error = on_cancel = true;
    final = STATUS_SUCCESS;
    ktest_driver.upper = call_with_routine;
    ktest_driver.lower = complete_now;
    IRP *irp = IoAllocateIrp(ktest_upper->StackSize);
    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_READ;
    IoSetCompletionRoutine(irp, completion, &originator, true, true, true);
    return irp;
}

KTEST(irp_fresh, "IRP-01")
{
    uint64_t before = io_irp_count();
    for (int8_t i = 0; i < 2 * MAXIMUM_LOCATIONS; i++) {
        int8_t n = i / 2 + 1;
        IRP *irp = IoAllocateIrp(n);
        EXPECT(irp->StackCount == n && irp->CurrentLocation == n + 1);
        EXPECT(IoGetNextIrpStackLocation(irp) == &irp->stack[n - 1]);
        EXPECT(!irp->PendingReturned && !irp->Cancel && !irp->CancelRoutine);
        EXPECT(!irp->Thread && !irp->IoStatus.Status &&
               !irp->Tail.DriverContext[3]);
        EXPECT(io_irp_count() == before + 1);
        irp->Thread = KeGetCurrentThread();    // for who gets it next
        irp->IoStatus.Status = STATUS_CANCELLED;
        irp->Tail.DriverContext[3] = irp;
        IoFreeIrp(irp);
        EXPECT(io_irp_count() == before);
    }
}

static IO_STACK_LOCATION *seen[2];
static int8_t seen_location[2];

static NTSTATUS note_upper(DEVICE_OBJECT *device, IRP *irp)
{
    EXPECT(device == ktest_upper);
    seen[0] = IoGetCurrentIrpStackLocation(irp);
    seen_location[0] = irp->CurrentLocation;
    IoCopyCurrentIrpStackLocationToNext(irp);
    IoGetNextIrpStackLocation(irp)->Parameters.Read.Length = 7;
    return IoCallDriver(ktest_lower, irp);
}

static NTSTATUS note_lower(DEVICE_OBJECT *device, IRP *irp)
{
    EXPECT(device == ktest_lower);
    seen[1] = IoGetCurrentIrpStackLocation(irp);
    seen_location[1] = irp->CurrentLocation;
    return ktest_complete(irp, STATUS_SUCCESS);
}

KTEST(irp_steps_down, "IRP-01")
{
    IRP *irp = build();
    ktest_driver.upper = note_upper;
    ktest_driver.lower = note_lower;
    IO_STACK_LOCATION *filled = IoGetNextIrpStackLocation(irp);
    filled->Parameters.Read.Length = 5;
    EXPECT(IoCallDriver(ktest_upper, irp) == STATUS_SUCCESS);
    EXPECT(seen[0] == filled && seen[1] == &irp->stack[0]);
    EXPECT(seen_location[0] == 2 && seen_location[1] == 1);
    EXPECT(seen[0]->DeviceObject == ktest_upper);
    EXPECT(seen[1]->DeviceObject == ktest_lower);
    EXPECT(seen[0]->Parameters.Read.Length == 5);
    EXPECT(seen[1]->Parameters.Read.Length == 7);
    EXPECT(seen[1]->MajorFunction == IRP_MJ_READ);
    EXPECT(!seen[1]->CompletionRoutine);    // not inherited
    IoFreeIrp(irp);
}

static NTSTATUS skip(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    seen[0] = IoGetCurrentIrpStackLocation(irp);
    IoSkipCurrentIrpStackLocation(irp);
    return IoCallDriver(ktest_lower, irp);
}

KTEST(irp_skips_a_location, "IRP-01 IRP-02")
{
    IRP *irp = build();
    ktest_driver.upper = skip;
    ktest_driver.lower = note_lower;
    IoCallDriver(ktest_upper, irp);
    EXPECT(seen[1] == seen[0] && seen_location[1] == 2);
    EXPECT(ktest_logged("o") && originator.device == NULL);
    IoFreeIrp(irp);
}

KTEST(completion_routines_run_upwards, "IRP-02")
{
    IRP *irp = build();
    final = STATUS_END_OF_FILE;
    EXPECT(IoCallDriver(ktest_upper, irp) == STATUS_END_OF_FILE);
    EXPECT(ktest_logged("uo"));
    EXPECT(upper.calls == 1 && upper.device == ktest_upper);
    EXPECT(originator.calls == 1 && originator.device == NULL);
    EXPECT(irp->IoStatus.Status == STATUS_END_OF_FILE);
    IoFreeIrp(irp);
}

KTEST(completion_conditions_are_ored, "IRP-03")
{
    static const NTSTATUS finals[] = { STATUS_SUCCESS, STATUS_CANCELLED,
                                       STATUS_BUFFER_OVERFLOW,
                                       KTEST_INFORMATIONAL, STATUS_ALERTED };
    enum { ON_SUCCESS = 1, ON_ERROR = 2, ON_CANCEL = 4, CANCELLED = 8,
           COMBINATIONS = 16 };
    for (size_t i = 0; i < ARRAY_SIZE(finals); i++) {
        for (int bits = 0; bits < COMBINATIONS; bits++) {
            IRP *irp = build();
            final = finals[i];
            on_success = bits & ON_SUCCESS;
            on_error = bits & ON_ERROR;
            on_cancel = bits & ON_CANCEL;
            if (bits & CANCELLED)
                EXPECT(!IoCancelIrp(irp));    // there is no cancel routine
            IoCallDriver(ktest_upper, irp);
            bool expected = (final >= 0 && on_success) ||
                            (final < 0 && on_error) ||
                            (bits & CANCELLED && on_cancel);
            EXPECT(upper.calls == expected && originator.calls == 1);
            IoFreeIrp(irp);
        }
    }
}

// ---- The pending bit ------------------------------------------------------

static void complete_held(NTSTATUS status)
{
    ktest_complete(held, status);
    held = NULL;
}

KTEST(pending_bit_passes_a_level_without_routine, "IRP-04 IRP-05")
{
    IRP *irp = build();
    on_success = on_error = on_cancel = false;
    ktest_driver.lower = hold;
    EXPECT(IoCallDriver(ktest_upper, irp) == STATUS_PENDING);
    EXPECT(ktest_logged(""));
    complete_held(STATUS_SUCCESS);
    EXPECT(ktest_logged("o") && originator.pending);
    IoFreeIrp(irp);
}

KTEST(pending_bit_passes_a_routine_that_marks, "IRP-04 IRP-05")
{
    for (int marks = 0; marks <= 1; marks++) {
        IRP *irp = build();
        upper.marks = marks;
        ktest_driver.lower = hold;
        EXPECT(IoCallDriver(ktest_upper, irp) == STATUS_PENDING);
        complete_held(STATUS_SUCCESS);
        EXPECT(upper.pending && originator.calls == 1);
        EXPECT(originator.pending == marks);
        IoFreeIrp(irp);
    }
}

KTEST(pending_bit_is_not_there_by_itself, "IRP-04")
{
    IRP *irp = build();
    originator.pending = upper.pending = true;
    IoCallDriver(ktest_upper, irp);
    EXPECT(!upper.pending && !originator.pending);
    IoFreeIrp(irp);
}

KTEST(pending_bit_of_a_request_completed_at_once, "IRP-04 IRP-05")
{
    IRP *irp = build();
    upper.marks = true;
    ktest_driver.lower = mark_and_complete;
    EXPECT(IoCallDriver(ktest_upper, irp) == STATUS_PENDING);
    EXPECT(ktest_logged("uo") && upper.pending && originator.pending);
    IoFreeIrp(irp);
}

// ---- More processing ------------------------------------------------------

KTEST(more_processing_stops_the_walk, "IRP-06")
{
    IRP *irp = build();
    upper.result = STATUS_MORE_PROCESSING_REQUIRED;
    IoCallDriver(ktest_upper, irp);
    EXPECT(ktest_logged("u"));
    EXPECT(IoGetCurrentIrpStackLocation(irp) == &irp->stack[1]);
    ktest_complete(irp, STATUS_UNSUCCESSFUL);
    EXPECT(ktest_logged("uo") && upper.calls == 1);
    EXPECT(irp->IoStatus.Status == STATUS_UNSUCCESSFUL);
    IoFreeIrp(irp);
}

KTEST(more_processing_and_send_again, "IRP-06 IRP-02")
{
    IRP *irp = build();
    upper.result = STATUS_MORE_PROCESSING_REQUIRED;
    IoCallDriver(ktest_upper, irp);
    upper.result = STATUS_SUCCESS;    // the upper driver retries
    EXPECT(call_with_routine(ktest_upper, irp) == STATUS_SUCCESS);
    EXPECT(ktest_logged("uuo"));
    IoFreeIrp(irp);
}

// The second time without a routine.
KTEST(a_location_forgets_its_first_trip, "IRP-02")
{
    IRP *irp = build();
    upper.result = STATUS_MORE_PROCESSING_REQUIRED;
    IoCallDriver(ktest_upper, irp);
    EXPECT(ktest_logged("u"));
    EXPECT(IoCallDriver(ktest_lower, irp) == STATUS_SUCCESS);
    EXPECT(ktest_logged("uo") && upper.calls == 1 && !originator.pending);
    IoFreeIrp(irp);
}

KTEST(other_results_of_a_routine_go_on, "IRP-06")
{
    static const NTSTATUS results[] = { STATUS_SUCCESS, STATUS_PENDING,
                                        STATUS_UNSUCCESSFUL, STATUS_TIMEOUT };
    for (size_t i = 0; i < ARRAY_SIZE(results); i++) {
        IRP *irp = build();
        upper.result = results[i];
        IoCallDriver(ktest_upper, irp);
        EXPECT(upper.calls == 1 && originator.calls == 1);
        EXPECT(irp->IoStatus.Status == STATUS_SUCCESS);
        IoFreeIrp(irp);
    }
}

KTEST(completed_at_dispatch, "IRP-07 IRP-02")
{
    IRP *irp = build();
    ktest_driver.lower = hold;
    IoCallDriver(ktest_upper, irp);
    KIRQL old = KeRaiseIrqlToDpcLevel();
    complete_held(STATUS_SUCCESS);
    KIRQL after = KeGetCurrentIrql();
    KeLowerIrql(old);
    EXPECT(ktest_logged("uo") && after == DISPATCH_LEVEL);
    IoFreeIrp(irp);
}

// A kernel caller's request lies on its stack, with a location for each device.
KTEST(stack_is_bounded, "IRP-01")
{
    static DEVICE_OBJECT filters[IO_MAXIMUM_STACK];
    int32_t count = 0;
    for (bool on = true; on && count < IO_MAXIMUM_STACK; count += on) {
        filters[count].DriverObject = ktest_lower->DriverObject;
        on = IoAttachDeviceToDeviceStack(&filters[count], ktest_lower);
        FILE_OBJECT *file = ktest_open(0);
        EXPECT(file && file->DeviceObject->StackSize == 2 + count + on);
        ktest_close(file);
    }
    EXPECT(count == IO_MAXIMUM_STACK - 2);
    ktest_upper->AttachedDevice = NULL;
}

KTEST(unknown_major_functions_fail, "")
{
    IRP *irp = build();
    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_DEVICE_CONTROL;
    EXPECT(IoCallDriver(ktest_upper, irp) == STATUS_INVALID_DEVICE_REQUEST);
    EXPECT(ktest_logged("o"));
    IoFreeIrp(irp);
}
