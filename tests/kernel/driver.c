// driver.c - the tests' driver: two devices, one on top of the other.

#include "tests/kernel/driver.h"

ktest_routines ktest_driver;
DEVICE_OBJECT *ktest_upper, *ktest_lower;

static OBJECT_TYPE event_type = { .name = "Event" };

NTSTATUS ktest_complete(IRP *irp, NTSTATUS status)
{
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = 0;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return status;
}

static NTSTATUS pass_down(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    IoSkipCurrentIrpStackLocation(irp);
    return IoCallDriver(ktest_lower, irp);
}

static NTSTATUS succeed(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    return ktest_complete(irp, STATUS_SUCCESS);
}

static NTSTATUS read(DEVICE_OBJECT *device, IRP *irp)
{
    return (device == ktest_upper ? ktest_driver.upper
                                  : ktest_driver.lower)(device, irp);
}

static NTSTATUS closing(DEVICE_OBJECT *device, IRP *irp)
{
    return ktest_driver.closing(device, irp);
}

static void start_io(DEVICE_OBJECT *device, IRP *irp)
{
    ktest_driver.start_io(device, irp);
}

static NTSTATUS entry(DRIVER_OBJECT *driver)
{
    driver->MajorFunction[IRP_MJ_READ] = read;
    driver->MajorFunction[IRP_MJ_CLEANUP] = closing;
    driver->MajorFunction[IRP_MJ_CLOSE] = closing;
    driver->DriverStartIo = start_io;
    NTSTATUS status = IoCreateDevice(driver, 0, KTEST_DEVICE, 0, &ktest_lower);
    if (NT_SUCCESS(status))
        status = IoCreateDevice(driver, 0, NULL, 0, &ktest_upper);
    if (NT_SUCCESS(status))
        IoAttachDeviceToDeviceStack(ktest_upper, ktest_lower);
    return status;
}

bool ktest_driver_load(void)
{
    return NT_SUCCESS(io_load_driver("ktest", entry));
}

void ktest_driver_reset(void)
{
    ktest_driver = (ktest_routines){ .upper = pass_down, .lower = succeed,
                                     .closing = succeed };
}

FILE_OBJECT *ktest_open(uint32_t options)
{
    FILE_OBJECT *file = NULL;
    io_create_file(KTEST_DEVICE, FILE_READ_DATA, FILE_OPEN, options, &file,
                   NULL);
    return file;
}

void ktest_close(FILE_OBJECT *file)
{
    io_file_type.close(NULL, file, 0);
    ObDereferenceObject(file);
}

IRP *ktest_build_read(FILE_OBJECT *file)
{
    ObReferenceObject(file);
    IO_STACK_LOCATION *location;
    IRP *irp = io_build_irp(file, IRP_MJ_READ, 0, &location);
    irp->UserIosb = NULL;
    irp->UserEvent = NULL;
    irp->UserApcRoutine = NULL;
    irp->UserApcContext = NULL;
    location->Parameters.Read.Length = 0;
    location->Parameters.Read.ByteOffset = 0;
    return irp;
}

NTSTATUS ktest_create_port(uint32_t count, KQUEUE **port)
{
    NT_TRY(ob_create_object(&io_port_type, sizeof(KQUEUE), (void **)port));
    KeInitializeQueue(*port, count);
    return STATUS_SUCCESS;
}

KEVENT *ktest_create_event(void)
{
    void *event = NULL;
    if (NT_SUCCESS(ob_create_object(&event_type, sizeof(KEVENT), &event)))
        KeInitializeEvent(event, NotificationEvent, false);
    return event;
}
