// iop.h - what only kernel/io knows.

#pragma once

#include "kernel/assert.h"
#include "kernel/ex/ex.h"
#include "kernel/io/io.h"
#include "kernel/rtl/rtl.h"

// A post (NtSetIoCompletion) in a port's queue.
typedef struct iop_mini_packet {
    io_packet packet;
    FILE_IO_COMPLETION_INFORMATION information;
} iop_mini_packet;

// Takes a request off its file's or its thread's list.
void iop_unlink_irp(IRP *irp);
// Stage 10. skip_packet: an immediate success that wants none (IOCP-21).
void iop_finish_irp(IRP *irp, bool skip_packet);
void iop_copy_output(IRP *irp);    // there is some
void iop_discard_buffers(IRP *irp);
bool iop_call_cancel_routine(IRP *irp, DRIVER_CANCEL *routine, KIRQL irql);

// Stores what the request came to, in the address space of the asking process:
// the last that ring 3 sees change. IRQL: <= APC_LEVEL
static FORCEINLINE void iop_store_results(IRP *irp)
{
    if (irp->SystemBuffer && irp->UserBuffer)
        iop_copy_output(irp);
    // Information goes first: whoever polls sees Status change last.
    ki_put_user_pair(irp->UserIosb, (uint32_t)irp->IoStatus.Status,
                     irp->IoStatus.Information);
    irp->flags |= IRP_STORED;
}

// Unpins and frees the MDL that there is: the device is done with the pages.
static FORCEINLINE void iop_release_mdl(IRP *irp)
{
    MDL *mdl = irp->MdlAddress;
    irp->MdlAddress = NULL;
    MmUnlockPages(mdl);
    if (mdl->from_pool)
        ExFreePoolWithTag(mdl, IO_TAG);
}

// Does a port hear of its end, and nobody else?
static inline bool iop_will_be_packet(const FILE_OBJECT *file, const IRP *irp)
{
    return file->CompletionPort && !irp->UserApcRoutine && irp->UserApcContext;
}

// Keeps an IRP for the next (irp.h says how it must be), or frees it.
// IRQL: <= DISPATCH_LEVEL
static FORCEINLINE void iop_free_irp(IRP *irp)
{
    ASSERT(irp->CurrentLocation == irp->StackCount + 1 &&
           irp->location == irp->stack + irp->StackCount &&
           !irp->MdlAddress && !irp->SystemBuffer && !irp->CancelRoutine &&
           !((MDL *)irp->short_mdl)->locked);
    ki_disable();
    bool kept = irp->StackCount <= IO_KEPT_LOCATIONS &&
                ke_keep(&KeGetCurrentPrcb()->kept[KE_KEPT_IRPS], irp);
    ki_enable();
    if (!kept)
        IoFreeIrp(irp);
}

static FORCEINLINE void iop_discard_irp(IRP *irp)
{
    // One test for the usual case, which has none of them.
    if ((uintptr_t)irp->MdlAddress | (uintptr_t)irp->SystemBuffer |
        (uintptr_t)irp->UserEvent)
        iop_discard_buffers(irp);
    if (irp->flags & IRP_ON_FILE)
        ObDereferenceObject(irp->Thread);
    ObDereferenceObject(irp->OriginalFileObject);
    iop_free_irp(irp);
}
