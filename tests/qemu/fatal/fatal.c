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
    (void)*address;
    __asm__ volatile("" ::: "memory");
}

KTEST(fatal_page_fault, "")
{
    fatal_read(NOWHERE);
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

KTEST(fatal_lower_to_higher, "IRQL-03")
{
    KeLowerIrql(DISPATCH_LEVEL);
}

KTEST(fatal_wait_at_dispatch, "IRQL-05")
{
    KEVENT event;
    KIRQL old;
    KeInitializeEvent(&event, NotificationEvent, false);
    KeRaiseIrql(DISPATCH_LEVEL, &old);
    KeWaitForSingleObject(&event, Executive, KernelMode, false, NULL);
}

KTEST(fatal_delay_at_dispatch, "IRQL-05")
{
    KIRQL old;
    KeRaiseIrql(DISPATCH_LEVEL, &old);
    ktest_sleep(1);
}

// ---- IRPs -----------------------------------------------------------------

static NTSTATUS leave_pending(DEVICE_OBJECT *to, IRP *irp)
{
    (void)to;
    IoMarkIrpPending(irp);
    return STATUS_PENDING;
}

static NTSTATUS driver_entry(DRIVER_OBJECT *driver)
{
    driver->MajorFunction[IRP_MJ_READ] = leave_pending;
    return IoCreateDevice(driver, 0, "\\Device\\Fatal", FILE_DEVICE_DISK,
                          &device);
}

static KEVENT ended;
static IO_STATUS_BLOCK result;

// A kernel caller's request that is pending at the test's own device.
static IRP *send_request(void)
{
    io_load_driver("fatal", driver_entry);
    IRP *irp = IoAllocateIrp(device->StackSize);
    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_READ;
    KeInitializeEvent(&ended, NotificationEvent, false);
    irp->flags |= IRP_KERNEL_WAIT;
    irp->UserEvent = &ended;
    irp->UserIosb = &result;
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

KTEST(fatal_complete_pending, "IRP-07")
{
    fatal_complete(send_request(), STATUS_PENDING);
}

KTEST(fatal_no_more_locations, "IRP-01")
{
    IRP *irp = send_request();
    EXPECT(IoCallDriver(device, irp) == STATUS_SUCCESS);
}
