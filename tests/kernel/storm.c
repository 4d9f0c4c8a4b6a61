// storm.c - everything at once, at random: DPCs, APCs, events, queues, timers,
// affinities and priorities, on all processors; and in the end each count must
// be exactly what it should be.
//
// Each worker draws from numbers of its own, so the seed decides what is done;
// when it is done the processors decide. Names begin with storm_, so that a
// stress run can boot with nothing else: ktest=storm_* seed=N.

#include "tests/kernel/ktest.h"

#include "kernel/ke/kep.h"

enum {
    MAXIMUM_WORKERS = 8, OPERATIONS = 1500, DPCS = 8, PACKETS = 24,
    QUEUE_LIMIT = 2,
    SHORT = -10000,              // 1 ms
};

#define TAG 0x6D726F74u    // "torm"

typedef struct dpc_record {
    KDPC dpc;
    volatile uint32_t inserted, removed, ran;
    int8_t target;               // a processor; -1: any
} dpc_record;

typedef struct apc_record {
    KAPC apc;
    bool normal;
} apc_record;

typedef struct packet {
    LIST_ENTRY entry;
    volatile uint32_t queued;    // it is in the queue: 1
} packet;

typedef struct worker {
    ktest_thread thread;
    uint64_t random;
    KTIMER timer;
    dpc_record timer_dpc;
    dpc_record dpcs[DPCS];
    uint32_t timer_sets, timer_cancels, timer_dpcs_removed;
} worker;

static worker workers[MAXIMUM_WORKERS];
static uint32_t worker_count;
static KEVENT begin, all_done;
static volatile uint32_t still_there;

static KSEMAPHORE semaphore;
static volatile uint32_t released, acquired;
static KEVENT event;                   // of synchronization
static volatile uint32_t events_set, events_taken;
static KMUTANT mutant;
static uint32_t guarded;               // by the mutant
static volatile uint32_t guarded_should;
static KQUEUE queue;
static packet packets[PACKETS];
static volatile uint32_t packets_in, packets_out;
static volatile uint32_t queue_users;
static volatile uint32_t apcs_sent, apcs_run, apcs_normal, apcs_normal_should,
    apcs_run_down;

#define COUNT(variable) __atomic_add_fetch(&(variable), 1, __ATOMIC_SEQ_CST)

// ---- DPCs and timers --------------------------------------------------------

static void count_dpc(KDPC *dpc, void *context, void *argument1,
                      void *argument2)
{
    (void)dpc, (void)argument2;
    dpc_record *record = context;
    COUNT(record->ran);
    EXPECT(KeGetCurrentIrql() == DISPATCH_LEVEL && !argument1);
    EXPECT(record->target < 0 ||
           KeGetCurrentProcessorNumber() == (uint32_t)record->target);
}

static void prepare_dpc(worker *w, dpc_record *record, bool choose)
{
    *record = (dpc_record){ .target = -1 };
    KeInitializeDpc(&record->dpc, count_dpc, record);
    if (!choose)
        return;
    KeSetImportanceDpc(&record->dpc,
                       (KDPC_IMPORTANCE)(ktest_draw(&w->random) % 4));
    if (ktest_draw(&w->random) % 4) {
        record->target = (int8_t)(ktest_draw(&w->random) % KeNumberProcessors);
        KeSetTargetProcessorDpc(&record->dpc, (uint8_t)record->target);
    }
}

static void queue_dpc(worker *w)
{
    // Anybody's: several may queue and remove the same one at once.
    worker *of = &workers[ktest_draw(&w->random) % worker_count];
    dpc_record *record = &of->dpcs[ktest_draw(&w->random) % DPCS];
    if (ktest_draw(&w->random) % 5 == 0) {
        if (KeRemoveQueueDpc(&record->dpc))
            COUNT(record->removed);
    } else if (KeInsertQueueDpc(&record->dpc, NULL, NULL)) {
        COUNT(record->inserted);
    }
}

// A timer whose DPC is still queued when it expires again queues none: so that
// each set has one end, the one before is done with first.
static void use_timer(worker *w)
{
    int64_t due = -(int64_t)(ktest_draw(&w->random) % 20000);
    w->timer_cancels += KeCancelTimer(&w->timer);
    w->timer_dpcs_removed += KeRemoveQueueDpc(&w->timer_dpc.dpc);
    w->timer_sets++;
    w->timer_cancels += KeSetTimerEx(&w->timer, due, 0, &w->timer_dpc.dpc);
    if (ktest_draw(&w->random) % 2)
        w->timer_cancels += KeCancelTimer(&w->timer);
    else if (ktest_draw(&w->random) % 2)
        EXPECT(ktest_wait(&w->timer));
}

// ---- APCs -------------------------------------------------------------------

static void apc_normal(void *context, void *argument1, void *argument2)
{
    (void)context, (void)argument1, (void)argument2;
    EXPECT(KeGetCurrentIrql() == PASSIVE_LEVEL);
    COUNT(apcs_normal);
}

static void apc_kernel(KAPC *apc, KNORMAL_ROUTINE **normal, void **context,
                       void **argument1, void **argument2)
{
    (void)context, (void)argument1, (void)argument2;
    apc_record *record = CONTAINING_RECORD(apc, apc_record, apc);
    EXPECT(KeGetCurrentIrql() == APC_LEVEL);
    EXPECT(apc->Thread == KeGetCurrentThread());
    EXPECT(!*normal == !record->normal);
    COUNT(apcs_run);
    if (record->normal)
        COUNT(apcs_normal_should);
    ExFreePoolWithTag(record, TAG);
}

static void apc_rundown(KAPC *apc)
{
    COUNT(apcs_run_down);
    ExFreePoolWithTag(CONTAINING_RECORD(apc, apc_record, apc), TAG);
}

static void send_apc(worker *w, KTHREAD *target)
{
    apc_record *record =
        ExAllocatePoolWithTag(NonPagedPool, sizeof(*record), TAG);
    if (!record)
        return;
    record->normal = ktest_draw(&w->random) % 2;
    KeInitializeApc(&record->apc, target, apc_kernel, apc_rundown,
                    record->normal ? apc_normal : NULL, KernelMode, NULL);
    if (KeInsertQueueApc(&record->apc, NULL, NULL, IO_NO_INCREMENT))
        COUNT(apcs_sent);
    else
        ExFreePoolWithTag(record, TAG);    // it has ended
}

// A thread that soon ends, with APCs on their way to it.
typedef struct mayfly {
    KEVENT alive;
    KTHREAD *thread;
    uint32_t turns;
} mayfly;

static void flutter(void *context)
{
    mayfly *fly = context;
    uint32_t turns = fly->turns;
    fly->thread = KeGetCurrentThread();
    ObReferenceObject(fly->thread);
    KeSetEvent(&fly->alive, IO_NO_INCREMENT);    // fly may be gone
    while (turns--)
        ke_yield();
}

static void bother_mayfly(worker *w)
{
    mayfly fly = { .turns = (uint32_t)(ktest_draw(&w->random) % 4) };
    KeInitializeEvent(&fly.alive, NotificationEvent, false);
    if (!NT_SUCCESS(ps_create_system_thread(flutter, &fly)))
        return;
    EXPECT(ktest_wait(&fly.alive));
    for (int i = 0; i < 4; i++)
        send_apc(w, fly.thread);
    if (ktest_draw(&w->random) % 2)
        EXPECT(ktest_wait(fly.thread));
    send_apc(w, fly.thread);
    ObDereferenceObject(fly.thread);
}

// ---- Waits ------------------------------------------------------------------

static NTSTATUS wait_a_moment(void *object)
{
    static const int64_t moment = SHORT;
    return KeWaitForSingleObject(object, Executive, KernelMode, false, &moment);
}

static void use_semaphore(worker *w)
{
    if (ktest_draw(&w->random) % 2) {
        if (ke_release_semaphore(&semaphore, EVENT_INCREMENT, 1, NULL))
            COUNT(released);
    } else if (wait_a_moment(&semaphore) == STATUS_SUCCESS) {
        COUNT(acquired);
    }
}

static void use_event(worker *w)
{
    if (ktest_draw(&w->random) % 2) {
        if (KeSetEvent(&event, EVENT_INCREMENT) == 0)    // it was not set
            COUNT(events_set);
    } else if (wait_a_moment(&event) == STATUS_SUCCESS) {
        COUNT(events_taken);
    }
}

static void use_mutant(void)
{
    if (wait_a_moment(&mutant) != STATUS_SUCCESS)
        return;
    uint32_t before = guarded;
    ke_yield();
    guarded = before + 1;
    COUNT(guarded_should);
    EXPECT(ke_release_mutant(&mutant, EVENT_INCREMENT, NULL) ==
           STATUS_SUCCESS);
}

static void use_queue(worker *w)
{
    static const int64_t moment = SHORT;
    packet *one = &packets[ktest_draw(&w->random) % PACKETS];
    if (ktest_draw(&w->random) % 2) {
        // Whoever takes it out of 0 owns it until it is in the queue.
        if (__atomic_exchange_n(&one->queued, 1, __ATOMIC_SEQ_CST) == 0) {
            COUNT(packets_in);
            EXPECT(KeInsertQueue(&queue, &one->entry) >= 0);
        }
        return;
    }
    LIST_ENTRY *entries[3];
    uint32_t taken;
    if (ke_remove_queue(&queue, KernelMode, false, &moment, entries, 3,
                        &taken) == STATUS_SUCCESS) {
        // Until it waits for anything, who took counts as running (IOCP-09).
        EXPECT(COUNT(queue_users) <= QUEUE_LIMIT);
        uint64_t pauses = ktest_draw(&w->random) % 200;
        while (pauses--)
            __builtin_ia32_pause();
        __atomic_sub_fetch(&queue_users, 1, __ATOMIC_SEQ_CST);
    }
    for (uint32_t i = 0; i < taken; i++) {
        packet *got = CONTAINING_RECORD(entries[i], packet, entry);
        COUNT(packets_out);
        EXPECT(__atomic_exchange_n(&got->queued, 0, __ATOMIC_SEQ_CST) == 1);
    }
}

// ---- The scheduler ----------------------------------------------------------

// Somebody, wherever it is, and whatever it does.
static void move(worker *w)
{
    KTHREAD *one =
        workers[ktest_draw(&w->random) % worker_count].thread.thread;
    uint64_t all = (1ull << KeNumberProcessors) - 1;
    uint64_t mask = ktest_draw(&w->random) & all;
    KeSetAffinityThread(one, mask ? mask : all);
    KeSetPriorityThread(one, (KPRIORITY)(5 + ktest_draw(&w->random) % 8));
}

// Whoever looks is where it may be, or about to leave. An affinity and the word
// to look at it are one step under the dispatcher lock.
static void look_where(void)
{
    KIRQL old = ki_lock_dispatcher();
    const KPRCB *prcb = KeGetCurrentPrcb();
    bool allowed = KeGetCurrentThread()->Affinity >> prcb->Number & 1;
    bool good = allowed || prcb->reschedule;
    ki_unlock_dispatcher(old);
    EXPECT(good);
}

// Freeing system pages makes every processor flush its TLB. Content is drawn:
// through a stale entry another one would be found, at the same address.
static void use_pages(worker *w)
{
    volatile uint64_t *pages = mm_allocate_system_pages(2);
    uint64_t content = ktest_draw(&w->random);
    if (!pages)
        return;
    *pages = content;
    ke_yield();
    EXPECT(*pages == content);
    mm_free_system_pages((void *)pages, 2);
}

static void operate(worker *w)
{
    uint64_t what = ktest_draw(&w->random) % 100;
    look_where();
    if (what < 30)
        queue_dpc(w);
    else if (what < 45)
        send_apc(w, workers[ktest_draw(&w->random) % worker_count]
                        .thread.thread);
    else if (what < 55)
        use_semaphore(w);
    else if (what < 60)
        use_mutant();
    else if (what < 66)
        use_event(w);
    else if (what < 80)
        use_queue(w);
    else if (what < 88)
        use_timer(w);
    else if (what < 94)
        move(w);
    else if (what < 97)
        use_pages(w);
    else
        bother_mayfly(w);
}

static void work(void *context)
{
    worker *w = context;
    KeSetAffinityThread(KeGetCurrentThread(), (1ull << KeNumberProcessors) - 1);
    EXPECT(ktest_wait(&begin));
    for (int i = 0; i < OPERATIONS; i++)
        operate(w);
    w->timer_cancels += KeCancelTimer(&w->timer);
    // The others may still send to this one: all end together.
    if (__atomic_sub_fetch(&still_there, 1, __ATOMIC_SEQ_CST) == 0)
        KeSetEvent(&all_done, IO_NO_INCREMENT);
    EXPECT(ktest_wait(&all_done));
}

// ---- What must be so in the end ---------------------------------------------

static void check_dpc(const dpc_record *record, uint32_t should)
{
    EXPECT(record->ran == should);
}

static void check_counts(void)
{
    for (uint32_t i = 0; i < worker_count; i++) {
        worker *w = &workers[i];
        for (int d = 0; d < DPCS; d++)
            check_dpc(&w->dpcs[d], w->dpcs[d].inserted - w->dpcs[d].removed);
        check_dpc(&w->timer_dpc, w->timer_sets - w->timer_cancels -
                                     w->timer_dpcs_removed);
        EXPECT(w->timer_dpc.ran > 0);
    }
    EXPECT(released == acquired + (uint32_t)semaphore.Header.SignalState);
    EXPECT(events_set == events_taken + (uint32_t)event.Header.SignalState &&
           events_taken > 0);
    EXPECT(guarded == guarded_should && guarded > 0);
    uint32_t left = 0;
    LIST_ENTRY *first = KeRundownQueue(&queue), *entry = first;
    for (; entry; entry = entry->Flink == first ? NULL : entry->Flink)
        left++;
    EXPECT(packets_in == packets_out + left && packets_out > 0);
    EXPECT(apcs_sent == apcs_run + apcs_run_down && apcs_run > 0);
    EXPECT(apcs_normal == apcs_normal_should);
}

static void prepare(void)
{
    worker_count = MIN(2 + 2 * KeNumberProcessors, (uint32_t)MAXIMUM_WORKERS);
    still_there = worker_count;
    released = acquired = guarded = guarded_should = 0;
    events_set = events_taken = queue_users = 0;
    packets_in = packets_out = apcs_sent = apcs_run = apcs_run_down = 0;
    apcs_normal = apcs_normal_should = 0;
    KeInitializeEvent(&begin, NotificationEvent, false);
    KeInitializeEvent(&all_done, NotificationEvent, false);
    KeInitializeSemaphore(&semaphore, 0, INT32_MAX);
    ke_initialize_mutant(&mutant, false);
    KeInitializeEvent(&event, SynchronizationEvent, false);
    KeInitializeQueue(&queue, QUEUE_LIMIT);
    memset((void *)packets, 0, sizeof(packets));
    for (uint32_t i = 0; i < worker_count; i++) {
        worker *w = &workers[i];
        w->random = ktest_random() | 1;
        w->timer_sets = w->timer_cancels = w->timer_dpcs_removed = 0;
        KeInitializeTimerEx(&w->timer, SynchronizationTimer);
        prepare_dpc(w, &w->timer_dpc, false);
        for (int d = 0; d < DPCS; d++)
            prepare_dpc(w, &w->dpcs[d], true);
    }
}

KTEST(storm_of_everything, "DPC-01 DPC-02 APC-08 APC-13 IOCP-01")
{
    prepare();
    // Nobody runs before all are there: they use each other's thread.
    for (uint32_t i = 0; i < worker_count; i++)
        ktest_start(&workers[i].thread, work, &workers[i], KTEST_BELOW);
    KeSetEvent(&begin, IO_NO_INCREMENT);
    for (uint32_t i = 0; i < worker_count; i++)
        ktest_join(&workers[i].thread);
    KeFlushQueuedDpcs();
    check_counts();
}
