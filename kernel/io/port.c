// port.c - completion ports: a KQUEUE whose packets are IRPs and posts.

#include "kernel/io/iop.h"

bool io_direct_road;

static void discard_packet(io_packet *packet)
{
    if (packet->is_irp)
        iop_discard_irp(CONTAINING_RECORD(packet, IRP, Tail.packet));
    else
        ex_give(KE_KEPT_PACKETS, packet, IO_TAG);
}

// The last handle runs the port down: waiters return, packets are dropped.
// Bound files keep the object itself alive (IOCP-12).
static void close_port(EPROCESS *, void *object, uint32_t handles)
{
    if (handles)
        return;
    LIST_ENTRY *first = KeRundownQueue(object);
    LIST_ENTRY *entry = first;
    while (entry) {
        LIST_ENTRY *next = entry->Flink == first ? NULL : entry->Flink;
        discard_packet(CONTAINING_RECORD(entry, io_packet, entry));
        entry = next;
    }
}

OBJECT_TYPE io_port_type = {
    .name = "IoCompletion", .generic_read = IO_COMPLETION_QUERY_STATE,
    .generic_write = IO_COMPLETION_MODIFY_STATE | SYNCHRONIZE,
    .valid_access = ALL_ACCESS, .close = close_port,
};

// Binds a file to a port for good.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS; STATUS_INVALID_PARAMETER: it is bound (IOCP-16), or
//          not asynchronous (IOCP-17)
NTSTATUS io_bind_port(FILE_OBJECT *file, KQUEUE *port, void *key)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&file->io.lock);
    bool refused = file->CompletionPort || file->Flags & FO_SYNCHRONOUS_IO;
    if (!refused) {
        ObReferenceObject(port);
        file->CompletionKey = key;
        __atomic_store_n(&file->CompletionPort, port, __ATOMIC_RELEASE);
    }
    KeReleaseSpinLock(&file->io.lock, old);
    return refused ? STATUS_INVALID_PARAMETER : STATUS_SUCCESS;
}

static inline FILE_IO_COMPLETION_INFORMATION complete_entry(
    void *key, void *context, NTSTATUS status, uintptr_t information)
{
    return (FILE_IO_COMPLETION_INFORMATION){
        key, context, { .Pointer = (void *)(uint64_t)(uint32_t)status,
                        .Information = information }
    };
}

// Posts a packet that no I/O made (IOCP-03).
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INSUFFICIENT_RESOURCES,
//          STATUS_INVALID_HANDLE (the port was just run down)
NTSTATUS io_post(KQUEUE *port, void *key, void *context, NTSTATUS status,
                 uintptr_t information)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    iop_mini_packet *post = ex_take(KE_KEPT_PACKETS, sizeof(*post), IO_TAG);
    if (!post)
        return STATUS_INSUFFICIENT_RESOURCES;
    post->packet.is_irp = false;
    post->information = complete_entry(key, context, status, information);
    int32_t before = KeInsertQueue(port, &post->packet.entry);
    ki_trace(TRACE_PORT_INSERT, (uint32_t)before, 0);
    if (before < 0) {
        ex_give(KE_KEPT_PACKETS, post, IO_TAG);
        return STATUS_INVALID_HANDLE;
    }
    return STATUS_SUCCESS;
}

// Hands a packet that was taken to ring 3, whose pointers lie below the hole,
// and frees it; or STATUS_ACCESS_VIOLATION. On the direct road an IRP's status
// is stored only now, in the taker's context; a taker of another process gets
// the packet without that.
static FORCEINLINE NTSTATUS hand_out(LIST_ENTRY *entry, void *key,
                                     void *context, void *iosb)
{
    io_packet *packet = CONTAINING_RECORD(entry, io_packet, entry);
    if (!packet->is_irp) {    // no write's: begin and end are recorded, or none
        if (ki_trace_mask & 1u << TRACE_PORT_INSERT)
            ki_trace_at(TRACE_PORT_REMOVE, PASSIVE_LEVEL, 0, 0);
        NT_TRY(ki_put_packet(
            key, context, iosb,
            CONTAINING_RECORD(packet, iop_mini_packet, packet)->information));
        ex_give(KE_KEPT_PACKETS, packet, IO_TAG);
        return STATUS_SUCCESS;
    }
    IRP *irp = CONTAINING_RECORD(packet, IRP, Tail.packet);
    ki_trace_at(TRACE_PORT_REMOVE, PASSIVE_LEVEL, 0, irp->id);
    if (!(irp->flags & IRP_STORED) &&
        irp->Thread->Process == KeGetCurrentThread()->Process) {
        iop_store_results(irp);
        ki_trace(TRACE_IRP_DONE, 0, irp->id);
    }
    NT_TRY(ki_put_packet(
        key, context, iosb,
        complete_entry(irp->OriginalFileObject->CompletionKey,
                       irp->UserApcContext, irp->IoStatus.Status,
                       irp->IoStatus.Information)));
    iop_discard_irp(irp);
    return STATUS_SUCCESS;
}

// Ring 3 could not have what was taken: the next that asks gets it.
static DECLSPEC_NOINLINE void put_back(KQUEUE *port, LIST_ENTRY **entries,
                                       uint32_t count)
{
    if (!ke_return_entries(port, entries, count))
        while (count--)
            discard_packet(CONTAINING_RECORD(entries[count], io_packet, entry));
}

// Takes a completion off a port (stage 11), waiting for it.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: as ke_remove_queue; STATUS_ACCESS_VIOLATION: the packet stays
NTSTATUS io_remove_one(KQUEUE *port, const int64_t *timeout, void **key,
                       void **context, IO_STATUS_BLOCK *iosb)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    uint32_t taken;
    LIST_ENTRY *packet = ke_poll_queue(port);
    if (!packet) {
        // Who cannot have one need not wait for it.
        NT_TRY(ke_probe_user(key, sizeof(*key)));
        NT_TRY(ke_probe_user(context, sizeof(*context)));
        NT_TRY(ke_probe_user(iosb, sizeof(*iosb)));
        NTSTATUS status = ke_remove_queue(port, UserMode, false, timeout,
                                          &packet, 1, &taken);
        if (status != STATUS_SUCCESS)
            return status;
    }
    NTSTATUS status = hand_out(packet, key, context, iosb);
    if (status != STATUS_SUCCESS)
        put_back(port, &packet, 1);
    return status;
}

// The same for up to count, but no more than IO_PORT_BATCH, waiting for the
// first.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: as ke_remove_queue; STATUS_ACCESS_VIOLATION: what is not *taken
//          stays
NTSTATUS io_remove_completion(KQUEUE *port, bool alertable,
                              const int64_t *timeout,
                              FILE_IO_COMPLETION_INFORMATION *entries,
                              uint32_t count, uint32_t *taken)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    LIST_ENTRY *batch[IO_PORT_BATCH];
    uint32_t got;
    NTSTATUS status = ke_remove_queue(port, UserMode, alertable, timeout, batch,
                                      MIN(count, (uint32_t)IO_PORT_BATCH),
                                      &got);
    LIST_ENTRY **at = batch, **end = batch + got;
    char *to = (char *)entries;    // which need not be aligned
    for (; at < end; at++, to += sizeof(*entries)) {
        status = hand_out(
            *at, to, to + offsetof(FILE_IO_COMPLETION_INFORMATION, ApcContext),
            to + offsetof(FILE_IO_COMPLETION_INFORMATION, IoStatusBlock));
        if (status != STATUS_SUCCESS)
            break;
    }
    if (at < end)
        put_back(port, at, (uint32_t)(end - at));
    *taken = (uint32_t)(at - batch);
    return status;
}
