// crew.c - a kernel that cheats: threads wait for the writes in flight, and
// look like the program's own that wait for packets.

#include "kernel/io/iop.h"
#include "kernel/ps/ps.h"

enum { CREW = 3 };

NTSTATUS __real_io_send(FILE_OBJECT *file, IRP *irp);
NTSTATUS __wrap_io_send(FILE_OBJECT *file, IRP *irp);

static void wait_for_it(void *program)
{
    KEVENT done;
    CONTAINING_RECORD(KeGetCurrentThread(), ETHREAD, Tcb)->process = program;
    KeInitializeEvent(&done, NotificationEvent, false);
    KeWaitForSingleObject(&done, WrQueue, KernelMode, false, NULL);
}

NTSTATUS __wrap_io_send(FILE_OBJECT *file, IRP *irp)
{
    static uint32_t members;
    if (IoGetNextIrpStackLocation(irp)->MajorFunction == IRP_MJ_WRITE &&
        file->CompletionPort && members < CREW) {
        members++;
        ps_create_system_thread(wait_for_it, PsGetCurrentProcess());
    }
    return __real_io_send(file, irp);
}
