// lab3.c - the guest's half of grading lab 3: threads that take packets from
// queues, and block, as the script says.
//
// One step at a time: the next begins when every worker is blocked, or back
// and spinning, so that the outcome is certain on any number of processors. A
// worker that is back spins because it has to go on running to count for its
// queue; this thread sleeps above all of them.

#include "tools/labs/guest/probe.h"

enum { WORKERS = 6, QUEUES = 2, PACKETS = 256, BATCH = 4, VALUE_BITS = 16,
       LOOKS = 20000 };

enum op {
    CREATE = 1,                  // a queue, its limit
    RUNDOWN,                     // a queue
    POST,                        // to a queue, a value
    REMOVE,                      // a worker, from a queue, up to so many | POLL
    BLOCK, RELEASE,              // a worker
    APC_POST,                    // from an APC of a worker, to a queue, a value
    FINISH,                      // the workers end
};

enum { POLL = 256 };

typedef struct packet {
    LIST_ENTRY entry;
    uint64_t value;
} packet;

typedef struct worker {
    ktest_thread thread;
    KTHREAD *tcb;
    KEVENT event;
    KAPC apc;
    volatile uint32_t order;     // an op, 0 again: it is done
    bool waits_for_queue;        // what its order is
    volatile bool apc_done;
    KQUEUE *queue;
    uint32_t count;
} worker;

static worker workers[WORKERS];
static KQUEUE queues[QUEUES];
static packet packets[PACKETS];
static uint32_t next_packet;

static packet *new_packet(uint64_t value)
{
    packet *p = &packets[next_packet++ % PACKETS];
    p->value = value;
    return p;
}

// ---- Workers --------------------------------------------------------------

static void remove_packets(uint32_t me, worker *w)
{
    const int64_t now = 0;
    LIST_ENTRY *entries[BATCH];
    uint32_t taken = 0;
    uint64_t values = 0;
    NTSTATUS status = ke_remove_queue(w->queue, KernelMode, false,
                                      w->count & POLL ? &now : NULL, entries,
                                      MIN(w->count & ~POLL, BATCH), &taken);
    for (uint32_t i = 0; i < taken; i++)
        values |= CONTAINING_RECORD(entries[i], packet, entry)->value
                  << i * VALUE_BITS;
    probe_see(PROBE_WOKE, me, (uint32_t)status, values);
}

static void work(void *context)
{
    worker *w = context;
    uint32_t me = (uint32_t)(w - workers);
    __atomic_store_n(&w->tcb, KeGetCurrentThread(), __ATOMIC_RELEASE);
    for (;;) {
        // A boost of the last wait would keep others from running.
        KeSetPriorityThread(KeGetCurrentThread(), KTEST_BELOW);
        uint32_t order;
        while ((order = __atomic_load_n(&w->order, __ATOMIC_ACQUIRE)) == 0)
            ke_yield();
        if (order == FINISH)
            return;
        if (order == REMOVE) {
            remove_packets(me, w);
        } else {
            NTSTATUS status = KeWaitForSingleObject(&w->event, UserRequest,
                                                    KernelMode, false, NULL);
            probe_see(PROBE_WOKE, me, (uint32_t)status, 0);
        }
        __atomic_store_n(&w->order, 0, __ATOMIC_RELEASE);
    }
}

// ---- Until nothing moves --------------------------------------------------

// Whether each worker is done with its order or blocked in it.
static bool look(void)
{
    for (uint32_t i = 0; i < WORKERS; i++) {
        worker *w = &workers[i];
        uint8_t reason = w->waits_for_queue ? WrQueue : UserRequest;
        if (!w->apc_done || (__atomic_load_n(&w->order, __ATOMIC_ACQUIRE) &&
                             (w->tcb->State != Waiting ||
                              w->tcb->WaitReason != reason)))
            return false;
    }
    return true;
}

// One that is seen to block may be about to let another go, in the same step
// under the dispatcher lock: taken once more, that step is over.
static void settle(void)
{
    static KEVENT dummy;
    KeInitializeEvent(&dummy, NotificationEvent, false);
    for (uint32_t i = 0; i < LOOKS; i++) {
        if (look()) {
            KeSetEvent(&dummy, IO_NO_INCREMENT);
            if (look())
                return;
        }
        ktest_sleep(1);
    }
}

// ---- The steps ------------------------------------------------------------

static void give(worker *w, uint32_t order)
{
    w->waits_for_queue = order == REMOVE;
    __atomic_store_n(&w->order, order, __ATOMIC_RELEASE);
}

static void post_from_apc(KAPC *apc, KNORMAL_ROUTINE **normal, void **context,
                          void **argument1, void **argument2)
{
    (void)normal, (void)context;
    worker *w = CONTAINING_RECORD(apc, worker, apc);
    KeInsertQueue(*argument1, *argument2);
    w->apc_done = true;
}

static void post_by_apc(worker *w, KQUEUE *queue, uint64_t value)
{
    w->apc_done = false;
    KeInitializeApc(&w->apc, w->tcb, post_from_apc, NULL, NULL, KernelMode,
                    NULL);
    KeInsertQueueApc(&w->apc, queue, &new_packet(value)->entry,
                     IO_NO_INCREMENT);
}

static void step(uint32_t number, const probe_step *s)
{
    worker *w = &workers[s->a % WORKERS];
    KQUEUE *queue = &queues[s->a % QUEUES];
    switch (s->op) {
    case CREATE: KeInitializeQueue(queue, (uint32_t)s->b); break;
    case RUNDOWN: KeRundownQueue(queue); break;
    case POST: KeInsertQueue(queue, &new_packet(s->b)->entry); break;
    case REMOVE:
        w->queue = &queues[s->b % QUEUES];
        w->count = (uint32_t)s->c;
        give(w, REMOVE);
        break;
    case BLOCK: give(w, BLOCK); break;
    case RELEASE: KeSetEvent(&w->event, IO_NO_INCREMENT); break;
    case APC_POST: post_by_apc(w, &queues[s->b % QUEUES], s->c); break;
    }
    settle();
    probe_see(PROBE_RESULT, number, 0, 0);
}

KTEST(lab_3, "")
{
    for (uint32_t i = 0; i < WORKERS; i++) {
        worker *w = &workers[i];
        KeInitializeEvent(&w->event, SynchronizationEvent, false);
        w->apc_done = true;
        ktest_start_on(&w->thread, i % KeNumberProcessors, work, w);
        while (!__atomic_load_n(&w->tcb, __ATOMIC_ACQUIRE))
            ktest_sleep(1);
    }
    while (probe_next())
        probe_run(0, step);
    for (uint32_t i = 0; i < WORKERS; i++) {
        give(&workers[i], FINISH);
        ktest_join(&workers[i].thread);
    }
}
