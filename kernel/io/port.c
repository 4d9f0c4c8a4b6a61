// port.c - completion ports: a KQUEUE whose packets are IRPs and posts.

#include "kernel/io/iop.h"

OBJECT_TYPE io_port_type = {
    .name = "IoCompletion", .generic_read = IO_COMPLETION_QUERY_STATE,
    .generic_write = IO_COMPLETION_MODIFY_STATE | SYNCHRONIZE,
    .valid_access = ALL_ACCESS, .close = iop_close_port,
};

bool io_direct_road;

static void discard_packet(LIST_ENTRY *entry)
{
    io_packet *packet = CONTAINING_RECORD(entry, io_packet, entry);
    if (packet->is_irp)
        io_discard_irp(CONTAINING_RECORD(packet, IRP, Tail.packet));
    else
        ExFreePoolWithTag(packet, IOP_TAG);
}

// The last handle runs the port down: waiters return, packets are dropped.
// Bound files keep the object itself alive (IOCP-12).
//
// IRQL:    == PASSIVE_LEVEL
void iop_close_port(EPROCESS *process, void *object, uint32_t handles)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    (void)process;
    if (handles)
        return;
    LIST_ENTRY *first = KeRundownQueue(object);
    LIST_ENTRY *entry = first;
    while (entry) {
        LIST_ENTRY *next = entry->Flink == first ? NULL : entry->Flink;
        discard_packet(entry);
        entry = next;
    }
}

// Binds a file to a port for good.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS; STATUS_INVALID_PARAMETER: it is bound (IOCP-16), or
//          not asynchronous (IOCP-17)
NTSTATUS io_bind_port(FILE_OBJECT *file, KQUEUE *port, void *key)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    if (file->Flags & FO_SYNCHRONOUS_IO)
        return STATUS_INVALID_PARAMETER;
    KIRQL old;
    KeAcquireSpinLock(&file->io.lock, &old);
    bool bound = file->CompletionPort;
    if (!bound) {
        ObReferenceObject(port);
        file->CompletionKey = key;
        __atomic_store_n(&file->CompletionPort, port, __ATOMIC_RELEASE);
    }
    KeReleaseSpinLock(&file->io.lock, old);
    return bound ? STATUS_INVALID_PARAMETER : STATUS_SUCCESS;
}

static inline void complete_entry(FILE_IO_COMPLETION_INFORMATION *entry,
                                  void *key, void *context, NTSTATUS status,
                                  uintptr_t information)
{
    entry->KeyContext = key;
    entry->ApcContext = context;
    entry->IoStatusBlock.Pointer = (void *)(uint64_t)(uint32_t)status;
    entry->IoStatusBlock.Information = information;
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
    iop_mini_packet *post = ex_take(KE_KEPT_PACKETS, sizeof(*post), IOP_TAG);
    if (!post)
        return STATUS_INSUFFICIENT_RESOURCES;
    post->packet.is_irp = false;
    complete_entry(&post->information, key, context, status, information);
    int32_t before = KeInsertQueue(port, &post->packet.entry);
    ki_trace(TRACE_PORT_INSERT, (uint32_t)before, 0);
    if (before < 0) {
        ex_give(KE_KEPT_PACKETS, post, IOP_TAG);
        return STATUS_INVALID_HANDLE;
    }
    return STATUS_SUCCESS;
}

// Turns an IRP into what the taker gets. On the direct road the status is
// stored only now, in the taker's context; a taker of another process gets
// the packet without that.
static inline void unpack_irp(IRP *irp, FILE_IO_COMPLETION_INFORMATION *entry)
{
    ki_trace_at(TRACE_PORT_REMOVE, PASSIVE_LEVEL, 0, irp->id);
    if (!(irp->flags & IRP_STORED) &&
        irp->Thread->Process == KeGetCurrentThread()->Process) {
        iop_store_results(irp);
        ki_trace(TRACE_IRP_DONE, 0, irp->id);
    }
    complete_entry(entry, irp->OriginalFileObject->CompletionKey,
                   irp->UserApcContext, irp->IoStatus.Status,
                   irp->IoStatus.Information);
    iop_discard_irp(irp);
}

static inline void unpack(LIST_ENTRY *entry,
                          FILE_IO_COMPLETION_INFORMATION *out)
{
    io_packet *packet = CONTAINING_RECORD(entry, io_packet, entry);
    if (packet->is_irp) {
        unpack_irp(CONTAINING_RECORD(packet, IRP, Tail.packet), out);
        return;
    }
    iop_mini_packet *post = CONTAINING_RECORD(packet, iop_mini_packet, packet);
    *out = post->information;
    ki_trace_at(TRACE_PORT_REMOVE, PASSIVE_LEVEL, 0, 0);
    ex_give(KE_KEPT_PACKETS, post, IOP_TAG);
}

// Takes a completion off a port (stage 11), waiting for it. entry: kernel
// memory.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: as ke_remove_queue
NTSTATUS io_remove_one(KQUEUE *port, const int64_t *timeout,
                       FILE_IO_COMPLETION_INFORMATION *entry)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    NTSTATUS status = STATUS_SUCCESS;
    uint32_t taken;
    LIST_ENTRY *packet = ke_poll_queue(port);
    if (!packet)
        status = ke_remove_queue(port, UserMode, false, timeout, &packet, 1,
                                 &taken);
    if (status == STATUS_SUCCESS)
        unpack(packet, entry);
    return status;
}

// The same for up to count, but no more than IO_PORT_BATCH, waiting for the
// first.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: as ke_remove_queue
NTSTATUS io_remove_completion(KQUEUE *port, bool alertable,
                              const int64_t *timeout,
                              FILE_IO_COMPLETION_INFORMATION *entries,
                              uint32_t count, uint32_t *taken)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    LIST_ENTRY *batch[IO_PORT_BATCH];
    count = MIN(count, (uint32_t)IO_PORT_BATCH);
    NTSTATUS status = ke_remove_queue(port, UserMode, alertable, timeout, batch,
                                      count, taken);
    for (uint32_t i = 0; i < *taken; i++)
        unpack(batch[i], &entries[i]);
    return status;
}
