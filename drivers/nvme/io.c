// io.c - a request's way through a queue pair: dispatch, interrupt, DPC.
//
// All of it belongs to one processor: its threads put commands into its ring
// with the interrupts off, and its interrupt's DPC takes the answers out. The
// queue's lock is there for others who cancel, reset, or share the queue, and
// for a thread that is moved to another processor when it has found the queue.
//
// A request is one command after the other, if it moves more than the device
// takes at once. It allocates before it is accepted, and never afterwards.

#include "drivers/nvme/nvme.h"

static inline nvme_request *request_of(IRP *irp)
{
    _Static_assert(sizeof(nvme_request) <= sizeof(irp->Tail.DriverContext),
                   "a request does not fit");
    return (nvme_request *)irp->Tail.DriverContext;
}

static IRP *take_first(LIST_ENTRY *list)
{
    return CONTAINING_RECORD(RemoveHeadList(list), IRP, Tail.ListEntry);
}

// Ends a request, whose IoStatus is there.
static inline void end(IRP *irp)
{
    const nvme_request *request = request_of(irp);
    if (request->list)
        mm_release_frame(request->list);
    IoCompleteRequest(irp, IO_DISK_INCREMENT);
}

static void end_cancelled(IRP *irp)
{
    irp->IoStatus = (IO_STATUS_BLOCK){ .Status = STATUS_CANCELLED };
    end(irp);
}

// ---- Into the ring: the queue's lock is held ------------------------------

// Says where a command's bytes are in memory (section 4.3), from offset in the
// first of these frames on: up to two pages by their addresses, more by those
// of the first and of a list of the others. What the device does not look at is
// not written.
static FORCEINLINE void write_prps(const nvme_queue *q, nvme_command *command,
                                   const PFN_NUMBER *frame, uint32_t offset,
                                   const nvme_request *request)
{
    const uint32_t end = offset + request->bytes;
    command->prp1 = (uint64_t)frame[0] << PAGE_SHIFT | offset;
    if (end <= PAGE_SIZE)
        return;
    command->prp2 = (uint64_t)frame[1] << PAGE_SHIFT;
    if (end <= 2 * PAGE_SIZE)
        return;
    uint64_t count = BYTES_TO_PAGES(end) - 1;
    uint64_t *list = count <= NVME_SHORT_LIST
                         ? (uint64_t *)(command + q->last + 1)
                         : mm_frame_to_virt(request->list);
    command->prp2 = nvme_physical(list);
    for (uint64_t i = 0; i < count; i++)
        list[i] = (uint64_t)frame[i + 1] << PAGE_SHIFT;
}

static inline uint32_t next_place(const nvme_queue *q, uint32_t place)
{
    return (place + 1) & q->last;
}

// A command's place in the ring is its id, and free again when the answer is
// there. One place stays free: a full ring would look like an empty one.
static FORCEINLINE bool has_room(const nvme_queue *q)
{
    return !q->slots[next_place(q, q->sq_tail)] && !q->stopped;
}

// Writes the command that moves the request's bytes from done on. Of an entry,
// what is not written here is always as it was made.
static FORCEINLINE void put(nvme_queue *q, IRP *irp, const nvme_disk *disk,
                            const IO_STACK_LOCATION *stack, uint32_t length,
                            uint32_t done)
{
    nvme_request *request = request_of(irp);
    uint32_t place = q->sq_tail;
    nvme_command *command = &q->sq[place];

    q->sq_tail = next_place(q, place);
    q->slots[place] = irp;
    command->id = (uint16_t)place;
    if (length) {
        uint8_t shift = disk->sector_shift;
        uint32_t bytes = MIN(length - done, disk->max_bytes);
        request->bytes = bytes;
        command->opcode = stack->MajorFunction == IRP_MJ_WRITE ? NVME_WRITE
                                                               : NVME_READ;
        command->argument = (stack->Parameters.Read.ByteOffset + done) >> shift;
        command->sectors = (bytes >> shift) - 1;
        const MDL *mdl = irp->MdlAddress;
        uint64_t at = (uint64_t)mdl->ByteOffset + done;
        if (done)
            write_prps(q, command, &mdl->frames[at >> PAGE_SHIFT],
                       BYTE_OFFSET(at), request);
        else
            write_prps(q, command, mdl->frames, mdl->ByteOffset, request);
    } else {
        request->bytes = 0;
        command->opcode = NVME_FLUSH;
        command->prp1 = command->argument = command->sectors = 0;
    }
    hal_stamp(&request->started);
    if (place == q->oldest) {
        q->since = request->started;
        q->is_behind = false;
        ke_watchdog_progress(&q->watchdog);
    }
    io_irp_at_device(irp, disk->disk.number);
}

// The same for one that waited.
static void put_again(nvme_queue *q, IRP *irp)
{
    const nvme_request *request = request_of(irp);
    const IO_STACK_LOCATION *stack = IoGetCurrentIrpStackLocation(irp);
    put(q, irp, stack->DeviceObject->DeviceExtension, stack, request->length,
        request->done);
}

// Tells the device of commands that it does not know yet. The same value twice
// would be an invalid doorbell write (Asynchronous Event Information).
static inline void ring(nvme_queue *q)
{
    uint32_t tail = q->sq_tail;
    if (q->rung == tail)
        return;
    __atomic_thread_fence(__ATOMIC_RELEASE);    // the commands come first
    *q->sq_doorbell = q->rung = tail;
}

// Rings, unless more commands follow or the DPC rings at its end.
static inline void ring_unless(nvme_queue *q, bool more)
{
    if (!more && !q->in_dpc)
        ring(q);
}

// ---- Waiting for the ring -------------------------------------------------

// Whoever takes the cancel routine out has the request. If the queue was
// quicker to unlink it, it has left it linked to itself.
static void cancel_waiting(DEVICE_OBJECT *, IRP *irp)
{
    nvme_queue *q = request_of(irp)->queue;
    IoReleaseCancelSpinLock(irp->CancelIrql);
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&q->lock);
    RemoveEntryList(&irp->Tail.ListEntry);
    KeReleaseSpinLock(&q->lock, old);
    end_cancelled(irp);
}

// Puts a request in line, before the entry there. False: it was cancelled on
// its way here, and is the caller's to end.
static bool wait_in_line(nvme_queue *q, IRP *irp, LIST_ENTRY *there)
{
    request_of(irp)->queue = q;
    irp->state = IrpQueued;
    ki_trace(TRACE_IRP_QUEUED, 0, irp->id);
    IoSetCancelRoutine(irp, cancel_waiting);
    if (irp->Cancel && IoSetCancelRoutine(irp, NULL))
        return false;
    InsertTailList(there, &irp->Tail.ListEntry);
    return true;
}

// As many as there is room for go to the device: whenever the lock is let go,
// nothing waits, or there is no room.
static FORCEINLINE void start_waiting(nvme_queue *q)
{
    while (has_room(q) && !IsListEmpty(&q->waiting)) {
        IRP *irp = take_first(&q->waiting);
        if (IoSetCancelRoutine(irp, NULL))
            put_again(q, irp);
        else    // cancel_waiting is about to come
            InitializeListHead(&irp->Tail.ListEntry);
    }
    ring(q);
}

// ---- Requests -------------------------------------------------------------

// A checked read or write, or IRP_MJ_FLUSH_BUFFERS, which covers what was
// completed before.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: STATUS_PENDING
//          STATUS_INSUFFICIENT_RESOURCES  no page for a long list
NTSTATUS nvme_send(DEVICE_OBJECT *device, IRP *irp)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    const nvme_disk *disk = device->DeviceExtension;
    IO_STACK_LOCATION *stack = IoGetCurrentIrpStackLocation(irp);
    nvme_request *request = request_of(irp);
    uint32_t length = stack->MajorFunction == IRP_MJ_FLUSH_BUFFERS
                          ? 0 : stack->Parameters.Read.Length;
    request->length = length;
    request->done = request->list = 0;
    if (__builtin_expect(length > PAGE_SIZE, 0) &&
        irp->MdlAddress->ByteOffset + (uint64_t)length >
            (1 + NVME_SHORT_LIST) * PAGE_SIZE &&
        !(request->list = ex_allocate_io_frame()))
        return io_complete(irp, STATUS_INSUFFICIENT_RESOURCES, 0);

    // When the lock is let go another processor may complete and free irp.
    IoMarkIrpPending(irp);
    nvme_queue *q = disk->controller->queue_of[KeGetCurrentProcessorNumber()];
    ki_lock_leaf(&q->lock);
    if (has_room(q)) {    // then nothing waits: see start_waiting
        put(q, irp, disk, stack, length, 0);
        ring_unless(q, stack->Flags & SL_MORE_FOLLOWS);
        ki_unlock_leaf(&q->lock);
        return STATUS_PENDING;
    }
    bool accepted = wait_in_line(q, irp, &q->waiting);
    ring_unless(q, stack->Flags & SL_MORE_FOLLOWS);    // for those before it
    ki_unlock_leaf(&q->lock);
    if (!accepted)
        end_cancelled(irp);
    return STATUS_PENDING;
}

// Tells the device of commands that came with word that more follow.
//
// IRQL:    == DISPATCH_LEVEL
void nvme_ring(DEVICE_OBJECT *device)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);

    const nvme_disk *disk = device->DeviceExtension;
    nvme_queue *q = disk->controller->queue_of[KeGetCurrentProcessorNumber()];
    KeAcquireSpinLockAtDpcLevel(&q->lock);
    ring(q);
    KeReleaseSpinLockFromDpcLevel(&q->lock);
}

// The device has answers: the DPC takes them, all at once.
//
// IRQL:    >= DEVICE_LEVEL_MIN
// Returns: true: the vector is this queue's alone
bool nvme_isr(KINTERRUPT *, void *context)
{
    ASSERT_IRQL(>=, DEVICE_LEVEL_MIN);

    nvme_queue *q = context;
    KeInsertQueueDpc(&q->dpc, NULL, NULL);
    return true;
}

// Takes the answer at head. Its request is done and goes behind the last one,
// or is the first in line for its next command; one to no command of ours is
// passed over. mask: of places, and ids. False: the device has written none.
static FORCEINLINE bool take_answer(nvme_queue *q, uint32_t mask, uint32_t head,
                                    IRP ***last)
{
    const nvme_completion *entry = &q->cq[head];
    uint16_t answer = __atomic_load_n(&entry->status, __ATOMIC_ACQUIRE);
    if ((answer & NVME_PHASE) != q->phase)
        return false;
    IRP **slot = &q->slots[entry->id & mask], *irp = *slot;
    if (!irp)
        return true;
    nvme_request *request = request_of(irp);
    NTSTATUS status = nvme_status(answer);
    *slot = NULL;
    uint32_t done = request->done + request->bytes;
    if (NT_SUCCESS(status) && done < request->length) {
        request->done = done;
        if (wait_in_line(q, irp, q->waiting.Flink))
            return true;
        status = STATUS_CANCELLED;
    }
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = NT_SUCCESS(status) ? done : 0;
    **last = irp;
    *last = &request->next;
    return true;
}

// The end of each stay in the queue: if another command is the oldest now
// (anew: all are), its time begins; what waits goes to the device, the watchdog
// hears of progress; then, outside the lock, what is done is completed. What
// that sends is rung for once.
static FORCEINLINE void leave(nvme_queue *q, IRP *done, bool anew)
{
    uint32_t oldest = q->oldest;
    while (oldest != q->sq_tail && !q->slots[oldest])
        oldest = next_place(q, oldest);
    if (oldest != q->oldest || anew) {
        q->oldest = oldest;
        q->since = q->answered = hal_read_tsc();
        q->is_behind = false;
    }
    start_waiting(q);
    q->watchdog.busy = q->oldest != q->sq_tail && !q->stopped;
    if (q->watchdog.busy)
        ke_watchdog_note(&q->watchdog, q->since);
    q->in_dpc = true;
    KeReleaseSpinLockFromDpcLevel(&q->lock);
    for (IRP *irp = done, *next; irp; irp = next) {
        next = request_of(irp)->next;
        end(irp);
    }
    KeAcquireSpinLockAtDpcLevel(&q->lock);
    q->in_dpc = false;
    ring(q);
    KeReleaseSpinLockFromDpcLevel(&q->lock);
}

// Behind an interrupt: takes all answers, and says so once.
//
// IRQL:    == DISPATCH_LEVEL
void nvme_dpc(KDPC *, void *context, void *, void *)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);

    nvme_queue *q = context;
    IRP *done, **last = &done;
    KeAcquireSpinLockAtDpcLevel(&q->lock);
    uint32_t head = q->cq_head;
    const uint32_t mask = q->last;
    if (!q->stopped)
        while (take_answer(q, mask, head, &last)) {
            head = (head + 1) & mask;
            if (head == 0)
                q->phase ^= NVME_PHASE;
        }
    *last = NULL;
    if (q->cq_head != head) {
        q->answers += (head - q->cq_head) & q->last;    // never a whole ring
        *q->cq_doorbell = q->cq_head = head;
    }
    leave(q, done, false);
}

// ---- Time-out and reset ---------------------------------------------------

// Was the device's time for something that began then over at the time now?
// Signed: another processor's clock may be a moment ahead.
static bool is_over(const nvme_queue *q, uint64_t began, uint64_t now)
{
    return (int64_t)(now - began) >= (int64_t)q->watchdog.timeout;
}

// Are there commands, of which the oldest has been that for too long? A device
// that is slow, but goes on, finishes it, and then has its time for the next.
static bool is_stuck(const nvme_queue *q, uint64_t now)
{
    return q->oldest != q->sq_tail && is_over(q, q->since, now);
}

// How many answers the device gave to the other queues, and whether lately.
static uint32_t answers_to_others(const nvme_queue *q, uint64_t now,
                                  bool *lately)
{
    nvme_controller *c = q->controller;
    uint32_t answers = 0;
    for (nvme_queue *other = c->queues; other < c->queues + c->queue_count;
         other++) {
        if (other == q)
            continue;
        KeAcquireSpinLockAtDpcLevel(&other->lock);
        answers += other->answers;
        *lately |= other->answered && !is_over(q, other->answered, now);
        KeReleaseSpinLockFromDpcLevel(&other->lock);
    }
    return answers;
}

// The watchdog: the queue's oldest command may be late. While the device is at
// other queues' commands it only waits; but its turn comes at the latest after
// as many of them as a ring holds.
//
// IRQL:    == DISPATCH_LEVEL
void nvme_timeout_dpc(KDPC *, void *context, void *, void *)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);

    nvme_queue *q = context;
    uint64_t now = hal_read_tsc();
    bool lately = false;
    uint32_t answers = answers_to_others(q, now, &lately);
    KeAcquireSpinLockAtDpcLevel(&q->lock);
    bool late = is_stuck(q, now);
    if (late && lately) {
        if (!q->is_behind)
            q->patience = answers + q->last + 1;
        q->is_behind = true;
        late = (int32_t)(answers - q->patience) >= 0;
        if (!late)
            q->since = now;    // its time begins anew
    }
    KeReleaseSpinLockFromDpcLevel(&q->lock);
    if (late)
        nvme_begin_reset(q->controller, now);
}

// The controller works again: if the queue was stuck when that was noticed,
// fails what had been out for too long then; sends the rest again, in order.
//
// IRQL:    == DISPATCH_LEVEL
void nvme_restart(nvme_queue *q, uint64_t noticed)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);

    LIST_ENTRY again;
    IRP *late, **last = &late;
    InitializeListHead(&again);
    KeAcquireSpinLockAtDpcLevel(&q->lock);
    bool stuck = is_stuck(q, noticed);
    for (uint32_t i = q->oldest; i != q->sq_tail; i = next_place(q, i)) {
        IRP *irp = q->slots[i];
        if (!irp)
            continue;
        if (!stuck || !is_over(q, request_of(irp)->started, noticed)) {
            InsertTailList(&again, &irp->Tail.ListEntry);
            continue;
        }
        irp->IoStatus = (IO_STATUS_BLOCK){ .Status = STATUS_IO_TIMEOUT };
        *last = irp;
        last = &request_of(irp)->next;
    }
    *last = NULL;
    memset(q->slots, 0, (q->last + 1) * sizeof(*q->slots));
    memset(q->cq, 0, (q->last + 1) * sizeof(*q->cq));
    q->sq_tail = q->rung = q->cq_head = q->oldest = 0;
    q->phase = NVME_PHASE;
    q->stopped = false;
    while (!IsListEmpty(&again))
        put_again(q, take_first(&again));
    leave(q, late, true);
}
