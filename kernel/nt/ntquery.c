// ntquery.c - NtQuerySystemInformation: what the system is, what it has in
// use, and what everybody is doing at this moment.
//
// The snapshot is what shows that there is no thread. It is made in a pool
// buffer, under each list's own lock in turn, and holds ids and names only:
// ring 3 never sees an address. Elements that do not fit are counted all the
// same, so that one pass also tells how much room is needed.

#include "kernel/nt/ntp.h"

#define MAXIMUM_SNAPSHOT 0x1000000u    // some 500,000 IRPs

// ---- The snapshot ---------------------------------------------------------

// The elements lie behind the header in one piece: processors, threads, IRPs.
// What fits is what comes before the first one that does not.
typedef struct snapshot {
    SYSTEM_SNAPSHOT *header;
    size_t room;
    size_t needed;               // also for what did not fit
} snapshot;

// Adds an element, if there is room for it. If there is, there was for all that
// came before.
static void append(snapshot *snap, uint32_t *count, const void *element,
                   size_t size)
{
    if (snap->needed + size <= snap->room)
        memcpy((char *)snap->header + snap->needed, element, size);
    snap->needed += size;
    ++*count;
}

static void add_processors(snapshot *snap)
{
    for (uint32_t i = 0; i < KeNumberProcessors; i++) {
        const KPRCB *prcb = ki_processor[i];
        // Of one that wakes just now, this halt is seen the next time.
        uint64_t halted = prcb->halted_time;
        SNAPSHOT_PROCESSOR element = {
            .Number = i, .CurrentThread = prcb->current_id,
            .HaltedSince = prcb->halted_since, .HaltedTime = halted,
            .IsrTime = prcb->isr_time, .DpcTime = prcb->dpc_time,
            .Interrupts = prcb->interrupt_count, .Dpcs = prcb->dpc.count };
        append(snap, &snap->header->Processors, &element, sizeof(element));
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
    uint8_t type = 0;
    uint32_t objects = ke_query_wait(tcb, &type);
    SNAPSHOT_THREAD element = {
        .ThreadId = tcb->id, .ProcessId = (uint32_t)thread->Cid.UniqueProcess,
        .State = tcb->State, .WaitReason = tcb->WaitReason,
        .Priority = (uint8_t)tcb->Priority,
        .BasePriority = (uint8_t)tcb->BasePriority,
        .WaitObjects = objects, .IrpId = tcb->irp_id,
        .RunTime = tcb->run_time, .Switches = tcb->ContextSwitches,
    };
    rtl_strcpy(element.Image, thread->process->ImageFileName,
               sizeof(element.Image));
    if (objects && type < ARRAY_SIZE(names))
        rtl_strcpy(element.WaitObject, names[type], sizeof(element.WaitObject));
    if (element.State == Running)
        element.RunTime += hal_read_tsc() - tcb->switched_in;
    append(snap, &snap->header->Threads, &element, sizeof(element));
}

// Adds a pending IRP; its list's lock is held. Its thread is there: it waits
// for the IRP, or the IRP holds a reference to it (CAN-08).
static void add_irp(snapshot *snap, const IRP *irp)
{
    const CLIENT_ID *owner = &CONTAINING_RECORD(irp->Thread, ETHREAD, Tcb)->Cid;
    // Where it is now, or where it will go first.
    int8_t level = MIN(irp->CurrentLocation, irp->StackCount);
    const IO_STACK_LOCATION *location = &irp->stack[MAX(level, 1) - 1];
    const DEVICE_OBJECT *device =
        location->DeviceObject ? location->DeviceObject
                               : irp->OriginalFileObject->DeviceObject;
    SNAPSHOT_IRP element = {
        .IrpId = irp->id, .ThreadId = (uint32_t)owner->UniqueThread,
        .ProcessId = (uint32_t)owner->UniqueProcess,
        .MajorFunction = location->MajorFunction, .State = irp->state,
    };
    rtl_strcpy(element.Device, device->name, sizeof(element.Device));
    append(snap, &snap->header->Irps, &element, sizeof(element));
}

// Adds what hangs on a thread or a file.
//
// IRQL:    == DISPATCH_LEVEL
static void add_irps(snapshot *snap, ke_io_slot *slot)
{
    KeAcquireSpinLockAtDpcLevel(&slot->lock);
    RTL_FOR_EACH_RECORD(IRP, irp, &slot->irps, ThreadListEntry)
        add_irp(snap, irp);
    KeReleaseSpinLockFromDpcLevel(&slot->lock);
}

// From ps_for_each_thread.
static void add_thread_irps(ETHREAD *thread, void *context)
{
    add_irps(context, &thread->Tcb.io);
}

static void add_file_irps(snapshot *snap)
{
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&io_files_lock);
    RTL_FOR_EACH_RECORD(FILE_OBJECT, file, &io_files, all_entry)
        add_irps(snap, &file->io);
    KeReleaseSpinLock(&io_files_lock, old);
}

static NTSTATUS query_snapshot(void *buffer, uint32_t length,
                               uint32_t *returned)
{
    size_t room = MIN(MAX(length, sizeof(SYSTEM_SNAPSHOT)), MAXIMUM_SNAPSHOT);
    NT_POOL(SYSTEM_SNAPSHOT, header, room);
    snapshot snap = { header, room, .needed = sizeof(*header) };
    header->Time = hal_read_tsc();
    add_processors(&snap);
    ps_for_each_thread(add_thread, &snap);
    ps_for_each_thread(add_thread_irps, &snap);
    add_file_irps(&snap);

    uint32_t needed = (uint32_t)snap.needed;
    NT_TRY(NT_PUT_OPTIONAL(returned, &needed));
    return needed > length      ? STATUS_INFO_LENGTH_MISMATCH
           : needed > snap.room ? STATUS_INSUFFICIENT_RESOURCES
                                : ke_copy_to_user(buffer, header, needed);
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
    case SystemBasicInformation: {
        SYSTEM_BASIC_INFORMATION basic = {
            .PageSize = PAGE_SIZE, .NumberOfProcessors = KeNumberProcessors,
            .NumberOfPhysicalPages = mm_total_frames,
            .MinimumUserModeAddress = MM_LOWEST_USER_ADDRESS,
            .MaximumUserModeAddress = MM_HIGHEST_USER_ADDRESS,
            .NumberOfDisks = io_disk_count, .Checked = DBG,
        };
        rtl_strcpy(basic.Version, TINT_VERSION, sizeof(basic.Version));
        return nt_answer(&basic, sizeof(basic), buffer, length, returned);
    }
    case SystemPerformanceInformation: {
        ps_settle();    // whose end was seen is gone, with all that it had
        uint64_t kept, kept_bytes;
        io_count_kept(&kept, &kept_bytes);
        SYSTEM_PERFORMANCE_INFORMATION counts = {
            .AvailablePages = mm_available_frames,
            .PoolBytes = ex_pool_bytes - kept_bytes,
            .PoolBlocks = ex_pool_blocks - kept,
            .Handles = ob_handle_count, .Objects = ob_object_count,
            .Irps = io_irp_count(), .Threads = ps_thread_count,
            .Processes = ps_process_count, .PoolPages = ex_pool_pages,
        };
        return nt_answer(&counts, sizeof(counts), buffer, length, returned);
    }
    case SystemSnapshotInformation:
        return query_snapshot(buffer, length, returned);
    default:
        return STATUS_INVALID_INFO_CLASS;
    }
}
