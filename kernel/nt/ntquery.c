// ntquery.c - NtQuerySystemInformation: what the system is, what it has in
// use, and what everybody is doing at this moment.
//
// The snapshot is what shows that there is no thread. It is made in a pool
// buffer, under each list's own lock in turn, and holds ids and names only:
// ring 3 never sees an address. Elements that do not fit are counted all the
// same, so that one pass also tells how much room is needed.

#include "kernel/nt/ntp.h"

#include "kernel/ex/ex.h"
#include "kernel/hal/hal.h"
#include "kernel/io/io.h"
#include "kernel/mm/mm.h"
#include "kernel/ps/ps.h"
#include "kernel/rtl/rtl.h"

#define MAXIMUM_SNAPSHOT 0x100000u

const char *nt_version = "";

static NTSTATUS query_basic(void *buffer, uint32_t length, uint32_t *returned)
{
    NT_SOLID(SYSTEM_BASIC_INFORMATION, 72);
    SYSTEM_BASIC_INFORMATION basic = {
        .PageSize = PAGE_SIZE,
        .NumberOfProcessors = KeNumberProcessors,
        .NumberOfPhysicalPages = mm_total_frames,
        .MinimumUserModeAddress = MM_LOWEST_USER_ADDRESS,
        .MaximumUserModeAddress = MM_HIGHEST_USER_ADDRESS,
        .NumberOfDisks = io_disk_count(),
        .Checked = DBG,
    };
    rtl_strcpy(basic.Version, nt_version, sizeof(basic.Version));
    return nt_return_information(buffer, length, returned, &basic,
                                 sizeof(basic));
}

static NTSTATUS query_performance(void *buffer, uint32_t length,
                                  uint32_t *returned)
{
    ps_settle();    // whose end was seen is gone, with all that it had
    NT_SOLID(SYSTEM_PERFORMANCE_INFORMATION, 88);
    SYSTEM_PERFORMANCE_INFORMATION counts = {
        .AvailablePages = mm_available_frames(),
        .PoolBytes = ex_pool_bytes, .PoolBlocks = ex_pool_blocks,
        .Handles = ob_handle_count, .Objects = ob_object_count,
        .Irps = io_irp_count(),
        .Threads = ps_thread_count, .Processes = ps_process_count,
        .PoolPages = ex_pool_pages,
    };
    for (uint32_t i = 0; i < KeNumberProcessors; i++) {
        counts.SpuriousInterrupts += ki_processor[i]->spurious_count;
        counts.UnknownInterrupts += ki_processor[i]->unknown_count;
    }
    return nt_return_information(buffer, length, returned, &counts,
                                 sizeof(counts));
}

// ---- The snapshot ---------------------------------------------------------

// The elements lie behind the header in one piece: processors, threads, IRPs.
// What fits is what comes before the first one that does not.
typedef struct snapshot {
    SYSTEM_SNAPSHOT *header;
    size_t room;
    size_t needed;               // also for what did not fit
} snapshot;

// Room for the next element, zeroed; NULL if there is none. If there is, there
// was for all that came before.
static void *append(snapshot *snap, uint32_t *count, size_t size)
{
    char *element = (char *)snap->header + snap->needed;
    snap->needed += size;
    ++*count;
    return snap->needed <= snap->room ? element : NULL;
}

static void add_processors(snapshot *snap)
{
    for (uint32_t i = 0; i < KeNumberProcessors; i++) {
        const KPRCB *prcb = ki_processor[i];
        SNAPSHOT_PROCESSOR *to =
            append(snap, &snap->header->Processors, sizeof(*to));
        if (to)
            *to = (SNAPSHOT_PROCESSOR){
                .Number = i, .HaltedSince = prcb->halted_since,
                .Interrupts = prcb->interrupt_count, .Dpcs = prcb->dpc.count };
    }
}

// From ps_for_each_thread.
static void add_thread(ETHREAD *thread, void *context)
{
    static const char *const names[] = {
        [EventNotificationObject] = "Event",
        [EventSynchronizationObject] = "Event",
        [MutantObject] = "Mutant", [ProcessObject] = "Process",
        [QueueObject] = "IoCompletion", [SemaphoreObject] = "Semaphore",
        [ThreadObject] = "Thread", [TimerNotificationObject] = "Timer",
        [TimerSynchronizationObject] = "Timer",
    };
    snapshot *snap = context;
    KTHREAD *tcb = &thread->Tcb;
    SNAPSHOT_THREAD *to = append(snap, &snap->header->Threads, sizeof(*to));
    if (!to)
        return;
    uint8_t type = 0;
    uint32_t objects = ke_query_wait(tcb, &type);
    *to = (SNAPSHOT_THREAD){
        .ThreadId = tcb->id, .ProcessId = (uint32_t)thread->Cid.UniqueProcess,
        .State = tcb->State, .WaitReason = tcb->WaitReason,
        .Priority = (uint8_t)tcb->Priority,
        .BasePriority = (uint8_t)tcb->BasePriority,
        .WaitObjects = objects, .IrpId = tcb->irp_id,
        .RunTime = tcb->run_time, .Switches = tcb->ContextSwitches,
    };
    rtl_strcpy(to->Image, thread->process->ImageFileName, sizeof(to->Image));
    if (objects && type < ARRAY_SIZE(names))
        rtl_strcpy(to->WaitObject, names[type], sizeof(to->WaitObject));
    if (to->State == Running) {
        SNAPSHOT_PROCESSOR *processors = (void *)(snap->header + 1);
        processors[tcb->processor].CurrentThread = tcb->id;
        to->RunTime += hal_read_tsc() - tcb->switched_in;
    }
}

// Adds a pending IRP; its list's lock is held. Its thread is there: it waits
// for the IRP, or the IRP holds a reference to it (CAN-08).
static void add_irp(snapshot *snap, const IRP *irp)
{
    SNAPSHOT_IRP *to = append(snap, &snap->header->Irps, sizeof(*to));
    if (!to)
        return;
    const CLIENT_ID *owner =
        &CONTAINING_RECORD(irp->Thread, ETHREAD, Tcb)->Cid;
    SNAPSHOT_PROCESSOR *processors = (void *)(snap->header + 1);
    SNAPSHOT_THREAD *thread = (void *)(processors + snap->header->Processors);
    for (uint32_t i = 0; i < snap->header->Threads; i++, thread++)
        thread->IrpsIssued += thread->ThreadId == owner->UniqueThread;
    // Where it is now, or where it will go first.
    int8_t level = MIN(irp->CurrentLocation, irp->StackCount);
    const IO_STACK_LOCATION *location = &irp->stack[MAX(level, 1) - 1];
    const DEVICE_OBJECT *device = location->DeviceObject;
    if (!device && irp->OriginalFileObject)
        device = irp->OriginalFileObject->DeviceObject;
    *to = (SNAPSHOT_IRP){
        .IrpId = irp->id, .ThreadId = (uint32_t)owner->UniqueThread,
        .ProcessId = (uint32_t)owner->UniqueProcess,
        .MajorFunction = location->MajorFunction, .State = irp->state,
    };
    if (device && device->name)
        rtl_strcpy(to->Device, device->name, sizeof(to->Device));
    if (location->MajorFunction == IRP_MJ_READ ||
        location->MajorFunction == IRP_MJ_WRITE) {
        to->Offset = location->Parameters.Write.ByteOffset;
        to->Length = location->Parameters.Write.Length;
    }
}

// From ps_for_each_thread: the IRPs that hang on their thread.
static void add_thread_irps(ETHREAD *thread, void *context)
{
    ke_io_slot *slot = &thread->Tcb.io;
    KeAcquireSpinLockAtDpcLevel(&slot->lock);
    RTL_FOR_EACH(entry, &slot->irps)
        add_irp(context, CONTAINING_RECORD(entry, IRP, ThreadListEntry));
    KeReleaseSpinLockFromDpcLevel(&slot->lock);
}

// The IRPs that hang on their file.
static void add_file_irps(snapshot *snap)
{
    KIRQL old;
    KeAcquireSpinLock(&io_files_lock, &old);
    RTL_FOR_EACH(link, &io_files) {
        FILE_OBJECT *file = CONTAINING_RECORD(link, FILE_OBJECT, all_entry);
        KeAcquireSpinLockAtDpcLevel(&file->io.lock);
        RTL_FOR_EACH(entry, &file->io.irps)
            add_irp(snap, CONTAINING_RECORD(entry, IRP, ThreadListEntry));
        KeReleaseSpinLockFromDpcLevel(&file->io.lock);
    }
    KeReleaseSpinLock(&io_files_lock, old);
}

static NTSTATUS query_snapshot(void *buffer, uint32_t length,
                               uint32_t *returned)
{
    NT_SOLID(SNAPSHOT_PROCESSOR, 24);
    NT_SOLID(SNAPSHOT_THREAD, 72);
    NT_SOLID(SNAPSHOT_IRP, 48);
    size_t room = MAX(length, sizeof(SYSTEM_SNAPSHOT));
    snapshot snap = { .room = MIN(room, MAXIMUM_SNAPSHOT),
                      .needed = sizeof(SYSTEM_SNAPSHOT) };
    snap.header = ExAllocatePoolWithTag(NonPagedPool, snap.room, NT_POOL_TAG);
    if (!snap.header)
        return STATUS_INSUFFICIENT_RESOURCES;
    memset(snap.header, 0, snap.room);
    snap.header->Time = hal_read_tsc();
    add_processors(&snap);
    ps_for_each_thread(add_thread, &snap);
    ps_for_each_thread(add_thread_irps, &snap);
    add_file_irps(&snap);

    uint32_t needed = (uint32_t)snap.needed;
    NTSTATUS status = NT_PUT_OPTIONAL(returned, &needed);
    if (NT_SUCCESS(status))
        status = needed > length || needed > snap.room
                     ? STATUS_INFO_LENGTH_MISMATCH
                     : ke_copy_to_user(buffer, snap.header, needed);
    ExFreePoolWithTag(snap.header, NT_POOL_TAG);
    return status;
}

// Tells about the system. *returned: how much was stored, or is needed.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_INVALID_INFO_CLASS
//          STATUS_INFO_LENGTH_MISMATCH    another length is needed; for the
//                                         snapshot: the buffer is too small
//          STATUS_INSUFFICIENT_RESOURCES, STATUS_ACCESS_VIOLATION
// NT:      NtQuerySystemInformation (native). Left out: most classes, and most
//          of their fields. SystemSnapshotInformation is ours.
NTSTATUS NtQuerySystemInformation(SYSTEM_INFORMATION_CLASS class, void *buffer,
                                  uint32_t length, uint32_t *returned)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    switch (class) {
    case SystemBasicInformation:
        return query_basic(buffer, length, returned);
    case SystemPerformanceInformation:
        return query_performance(buffer, length, returned);
    case SystemSnapshotInformation:
        return query_snapshot(buffer, length, returned);
    default:
        return STATUS_INVALID_INFO_CLASS;
    }
}
