// worker.c - a kernel that cheats: a thread of the system waits for each write,
// and works on nothing, if asked.

#include "kernel/io/iop.h"
#include "kernel/ps/ps.h"

NTSTATUS __real_io_send(FILE_OBJECT *file, IRP *irp);
NTSTATUS __wrap_io_send(FILE_OBJECT *file, IRP *irp);

static void wait_for_it(void *context)
{
    KEVENT done;
    (void)context;
    KeInitializeEvent(&done, NotificationEvent, false);
    KeWaitForSingleObject(&done, WrQueue, KernelMode, false, NULL);
}

NTSTATUS __wrap_io_send(FILE_OBJECT *file, IRP *irp)
{
    if (IoGetNextIrpStackLocation(irp)->MajorFunction == IRP_MJ_WRITE &&
        file->CompletionPort)
        ps_create_system_thread(wait_for_it, irp);
    return __real_io_send(file, irp);
}
