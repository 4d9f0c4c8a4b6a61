// start.c - from a controller that is off to one whose queues work.
//
// Done in steps, none of which waits: an admin command is sent in one, and the
// next looks whether it is through. At boot one step follows the other; after a
// reset at run time there is one per tick of a timer, so nobody polls.

#include "drivers/nvme/nvme.h"

#define RESET_TICK      100000ll    // 10 ms, in 100 ns
#define RESET_MAX_TICKS 1000u       // 10 s; QEMU needs a tick a step

enum { ADMIN_ENTRIES = PAGE_SIZE / sizeof(nvme_command) };

// The admin commands, in their order: then one for each queue's completion
// ring, and one for its submission ring.
enum { IDENTIFY_CONTROLLER, IDENTIFY_NAMESPACE, SET_QUEUES, FIRST_QUEUE };

enum { CNS_CONTROLLER = 1, FEATURE_QUEUES = 7 };

static void enable(const nvme_controller *c)
{
    uint32_t last = ADMIN_ENTRIES - 1;
    disk_set_bus_master(&c->pci, true);    // a reset may have given it up
    memset(c->admin_cq, 0, PAGE_SIZE);
    c->registers[NVME_AQA] = last << 16 | last;
    *(volatile uint64_t *)&c->registers[NVME_ASQ] = nvme_physical(c->admin_sq);
    *(volatile uint64_t *)&c->registers[NVME_ACQ] = nvme_physical(c->admin_cq);
    c->registers[NVME_CC] = NVME_CC_ENABLE;
}

// Takes the answer to an admin command, if it is there.
static NTSTATUS take_admin(nvme_controller *c, uint32_t number)
{
    const nvme_completion *entry = &c->admin_cq[number % ADMIN_ENTRIES];
    uint16_t answer = __atomic_load_n(&entry->status, __ATOMIC_ACQUIRE);
    if ((answer & NVME_PHASE) != (number / ADMIN_ENTRIES % 2 ? 0 : NVME_PHASE))
        return STATUS_PENDING;
    c->doorbells[c->stride] = (number + 1) % ADMIN_ENTRIES;
    // It says how many it has of either, less one. A reset leaves us with those
    // that we have: whatever waits, waits in one of them.
    if (number == SET_QUEUES && !c->resetting)
        c->queue_count = MIN(c->queue_count, MIN(entry->result & UINT16_MAX,
                                                 entry->result >> 16) + 1);
    return nvme_status(answer);
}

static void send_admin(const nvme_controller *c, uint32_t number,
                       uint8_t opcode, const void *memory, uint64_t argument)
{
    c->admin_sq[number % ADMIN_ENTRIES] = (nvme_command){
        .opcode = opcode, .id = (uint16_t)number,
        .namespace = number == IDENTIFY_NAMESPACE ? NVME_NAMESPACE : 0,
        .prp1 = memory ? nvme_physical(memory) : 0, .argument = argument,
    };
    __atomic_thread_fence(__ATOMIC_RELEASE);    // the command comes first
    c->doorbells[0] = (number + 1) % ADMIN_ENTRIES;
}

// Makes the device know a ring, of commands or of completions. Its id is also
// that of its interrupt.
static void send_ring(const nvme_controller *c, uint32_t number)
{
    enum { CONTIGUOUS = 1, INTERRUPTS = 2 };
    uint64_t index = (number - FIRST_QUEUE) % c->queue_count, id = index + 1;
    const nvme_queue *q = &c->queues[index];
    uint64_t argument = id | (uint64_t)q->last << 16 | id << 48;
    if (number < FIRST_QUEUE + c->queue_count)
        send_admin(c, number, NVME_CREATE_CQ, q->cq,
                   argument | (uint64_t)(CONTIGUOUS | INTERRUPTS) << 32);
    else
        send_admin(c, number, NVME_CREATE_SQ, q->sq,
                   argument | (uint64_t)CONTIGUOUS << 32);
}

// Step 0 waits until the controller is off, step 1 until it is on, step n + 2
// for the answer to admin command n; then each begins the next thing.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: STATUS_PENDING   look again, or take the next step
//          STATUS_SUCCESS   all queues work
//          or what the device says
NTSTATUS nvme_next_step(nvme_controller *c)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    bool ready = c->registers[NVME_CSTS] & NVME_CSTS_READY;
    uint64_t others = c->queue_count - 1;
    NTSTATUS status = STATUS_SUCCESS;
    if (c->step > 1)
        status = take_admin(c, c->step - 2);
    else if (ready != (c->step == 1))
        status = STATUS_PENDING;
    if (status != STATUS_SUCCESS ||
        c->step == 1 + FIRST_QUEUE + 2 * c->queue_count)
        return status;
    uint32_t number = c->step - 1;
    if (c->step == 0)
        enable(c);
    else if (number == SET_QUEUES)
        send_admin(c, number, NVME_SET_FEATURES, NULL,
                   FEATURE_QUEUES | others << 32 | others << 48);
    else if (number >= FIRST_QUEUE)
        send_ring(c, number);
    else
        send_admin(c, number, NVME_IDENTIFY, c->identity[number],
                   number == IDENTIFY_CONTROLLER ? CNS_CONTROLLER : 0);
    c->step++;
    return STATUS_PENDING;
}

// ---- At run time ----------------------------------------------------------

// A command was late at the time now. Stops all queues, so that nothing goes to
// the controller and nothing comes, and turns it off; unless that was done.
//
// IRQL:    == DISPATCH_LEVEL
void nvme_begin_reset(nvme_controller *c, uint64_t now)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);

    if (__atomic_exchange_n(&c->resetting, true, __ATOMIC_ACQ_REL))
        return;
    for (nvme_queue *q = c->queues; q < c->queues + c->queue_count; q++) {
        KeAcquireSpinLockAtDpcLevel(&q->lock);
        q->stopped = true;
        q->rung = q->sq_tail;    // nobody rings before nvme_restart
        q->watchdog.busy = false;
        KeReleaseSpinLockFromDpcLevel(&q->lock);
    }
    c->noticed = now;
    c->step = c->ticks = 0;
    c->registers[NVME_CC] = 0;
    KeSetTimerEx(&c->timer, -RESET_TICK, 0, &c->timer_dpc);
}

// A tick of the reset. When the controller works, or never will, the queues go
// on: what is sent to a dead one times out as well. One that does not turn off
// may still have commands, whose pages are about to be unpinned: it loses its
// way to memory.
//
// IRQL:    == DISPATCH_LEVEL
void nvme_timer_dpc(KDPC *, void *context, void *, void *)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);

    nvme_controller *c = context;
    if (nvme_next_step(c) == STATUS_PENDING &&
        c->ticks++ < RESET_MAX_TICKS) {
        KeSetTimerEx(&c->timer, -RESET_TICK, 0, &c->timer_dpc);
        return;
    }
    if (c->step == 0)
        disk_set_bus_master(&c->pci, false);
    for (uint32_t i = 0; i < c->queue_count; i++)
        nvme_restart(&c->queues[i], c->noticed);
    __atomic_store_n(&c->resetting, false, __ATOMIC_RELEASE);
}
