// processors.c - what only several processors show of the rules of IRQLs,
// DPCs, timers and APCs (NT-SEMANTICS 1, 2, 3, 5).
//
// The test is on processor 0; helpers compute on processor 1 until they are
// told to stop. Where the test has its interrupts off, its clock cannot remind
// processor 1 of a DPC that may wait: what happens there then, an interrupt
// has caused.

#include "tests/kernel/ktest.h"

enum { OTHER = 1, DEVICE = 6, DEPTH_THRESHOLD = 4, MOMENT = 3,
       ROUNDS = 1000 };

// ---- Who computes elsewhere -----------------------------------------------

typedef struct busy {
    ktest_thread thread;
    KIRQL level;
    bool guarded;
    volatile uint32_t running, stop;
} busy;

static void compute(void *context)
{
    busy *b = context;
    KIRQL old;
    if (b->guarded)
        KeEnterGuardedRegion();
    KeRaiseIrql(b->level, &old);
    b->running = 1;
    ktest_spin_until(&b->stop);
    KeLowerIrql(old);
    if (b->guarded)
        KeLeaveGuardedRegion();
    ktest_log('e');
}

static void start_busy(busy *b, KIRQL level, bool guarded)
{
    *b = (busy){ .level = level, .guarded = guarded };
    ktest_start_on(&b->thread, OTHER, compute, b);
    EXPECT(ktest_spin_until(&b->running));
}

static void stop_busy(busy *b)
{
    b->stop = 1;
    ktest_join(&b->thread);
}

// ---- IRQL and spin locks --------------------------------------------------

typedef struct adder {
    ktest_thread thread;
    KSPIN_LOCK *lock;
    volatile uint64_t *sum;      // guarded by lock; its addition is no atom
} adder;

enum { ADDITIONS = 20000 };

static void add(void *context)
{
    adder *a = context;
    for (int i = 0; i < ADDITIONS; i++) {
        KIRQL old;
        KeAcquireSpinLock(a->lock, &old);
        uint64_t before = *a->sum;
        __builtin_ia32_pause();
        *a->sum = before + 1;
        KeReleaseSpinLock(a->lock, old);
    }
}

KTEST(spin_lock_excludes_other_processors, "IRQL-06")
{
    if (!ktest_has_processors(2))
        return;
    KSPIN_LOCK lock;
    volatile uint64_t sum = 0;
    adder adders[MAXIMUM_PROCESSORS];
    KeInitializeSpinLock(&lock);
    for (uint32_t i = 0; i < KeNumberProcessors; i++) {
        adders[i] = (adder){ .lock = &lock, .sum = &sum };
        ktest_start_on(&adders[i].thread, i, add, &adders[i]);
    }
    for (uint32_t i = 0; i < KeNumberProcessors; i++)
        ktest_join(&adders[i].thread);
    EXPECT(sum == (uint64_t)ADDITIONS * KeNumberProcessors);
}

typedef struct late {
    ktest_thread thread;
    KEVENT event;
    volatile uint32_t ran;
} late;

static void wait_and_note(void *context)
{
    late *l = context;
    KeWaitForSingleObject(&l->event, Executive, KernelMode, false, NULL);
    l->ran = 1;
}

KTEST(dispatch_holds_a_switch_back_elsewhere, "IRQL-04")
{
    if (!ktest_has_processors(2))
        return;
    late l = { .ran = 0 };
    busy b;
    KeInitializeEvent(&l.event, NotificationEvent, false);
    ktest_start_on(&l.thread, OTHER, wait_and_note, &l);
    EXPECT(ktest_until_waiting(&l.thread));
    KeSetPriorityThread(l.thread.thread, KTEST_ABOVE);
    start_busy(&b, DISPATCH_LEVEL, false);
    KeSetEvent(&l.event, IO_NO_INCREMENT);
    ktest_spin(MOMENT);
    EXPECT(!l.ran);
    b.stop = 1;
    EXPECT(ktest_spin_until(&l.ran));
    ktest_join(&b.thread);
    ktest_join(&l.thread);
}

typedef struct synchronized {
    ktest_device device;
    ktest_thread thread;
    volatile uint32_t inside, interrupted;
} synchronized;

// Stays until processor 0 has been interrupted and waits for our lock.
static bool stay_inside(void *context)
{
    synchronized *s = context;
    ktest_log('s');
    s->inside = 1;
    ktest_spin_until(&s->interrupted);
    ktest_spin_until(&ki_processor[0]->interrupt_depth);
    ktest_spin(MOMENT);
    ktest_log('e');
    return true;
}

static void synchronize(void *context)
{
    synchronized *s = context;
    EXPECT(KeSynchronizeExecution(&s->device.interrupt, stay_inside, s));
}

KTEST(synchronize_execution_keeps_an_isr_elsewhere_out, "IRQL-07")
{
    if (!ktest_has_processors(2))
        return;
    synchronized s = { .inside = 0 };
    ktest_connect(&s.device, DEVICE, 'I');
    ktest_start_on(&s.thread, OTHER, synchronize, &s);
    EXPECT(ktest_spin_until(&s.inside));
    s.interrupted = 1;
    ktest_interrupt(&s.device);
    ktest_join(&s.thread);
    EXPECT(s.device.count == 1 && ktest_logged("seI"));
    ktest_disconnect(&s.device);
}

// ---- DPCs of another processor --------------------------------------------

typedef struct remote {
    KDPC dpc;
    volatile uint32_t ran;
    volatile uint32_t processor;
} remote;

static void note_processor(KDPC *dpc, void *context, void *a, void *b)
{
    (void)dpc, (void)a, (void)b;
    remote *r = context;
    r->processor = KeGetCurrentProcessorNumber();
    __atomic_store_n(&r->ran, 1, __ATOMIC_RELEASE);
}

static void initialize(remote *r, uint8_t processor,
                       KDPC_IMPORTANCE importance)
{
    *r = (remote){ .processor = MAXIMUM_PROCESSORS };
    KeInitializeDpc(&r->dpc, note_processor, r);
    KeSetTargetProcessorDpc(&r->dpc, processor);
    KeSetImportanceDpc(&r->dpc, importance);
}

// Waits until it has run; it lies on the test's stack and must not stay.
static bool runs_there(remote *r, uint32_t processor)
{
    bool ran = ktest_spin_until(&r->ran);
    if (!ran)
        KeRemoveQueueDpc(&r->dpc);
    return ran && r->processor == processor;
}

KTEST(dpc_high_interrupts_another_processor, "DPC-08 DPC-09")
{
    static const KDPC_IMPORTANCE urgent[] = { HighImportance,
                                              MediumHighImportance };
    if (!ktest_has_processors(2))
        return;
    busy b;
    start_busy(&b, PASSIVE_LEVEL, false);
    // Often: an interrupt that came by chance may do it once.
    for (size_t i = 0; i < 10 * ARRAY_SIZE(urgent); i++) {
        remote r;
        initialize(&r, OTHER, urgent[i % ARRAY_SIZE(urgent)]);
        uint64_t flags = ki_disable_interrupts();
        bool inserted = KeInsertQueueDpc(&r.dpc, NULL, NULL);
        bool ran = runs_there(&r, OTHER);
        ki_restore_interrupts(flags);
        EXPECT(inserted && ran);
    }
    stop_busy(&b);
}

KTEST(dpc_low_and_medium_wait_elsewhere, "DPC-08")
{
    if (!ktest_has_processors(2))
        return;
    busy b;
    KPRCB *other = ki_processor[OTHER];
    start_busy(&b, PASSIVE_LEVEL, false);
    for (int i = LowImportance; i <= MediumImportance; i++) {
        remote r;
        initialize(&r, OTHER, (KDPC_IMPORTANCE)i);
        uint64_t flags = ki_disable_interrupts();
        uint32_t interrupts = other->interrupt_count;
        bool inserted = KeInsertQueueDpc(&r.dpc, NULL, NULL);
        ktest_spin(MOMENT);
        bool waits = !r.ran && r.dpc.DpcData == &other->dpc &&
                     other->interrupt_count == interrupts;
        ki_restore_interrupts(flags);
        EXPECT(inserted && waits);
        EXPECT(runs_there(&r, OTHER));    // our clock reminds it at last
    }
    stop_busy(&b);
}

KTEST(dpc_depth_interrupts_another_processor, "DPC-08")
{
    if (!ktest_has_processors(2))
        return;
    busy b;
    remote r[DEPTH_THRESHOLD];
    start_busy(&b, PASSIVE_LEVEL, false);
    uint64_t flags = ki_disable_interrupts();
    for (int i = 0; i < DEPTH_THRESHOLD; i++) {
        initialize(&r[i], OTHER, LowImportance);
        KeInsertQueueDpc(&r[i].dpc, NULL, NULL);
    }
    bool ran = true;
    for (int i = 0; i < DEPTH_THRESHOLD; i++)
        ran &= runs_there(&r[i], OTHER);
    ki_restore_interrupts(flags);
    EXPECT(ran);
    stop_busy(&b);
}

static bool until_halted(const KPRCB *prcb)
{
    for (int i = 0; i < ROUNDS && !prcb->halted_since; i++)
        ktest_sleep(1);
    return prcb->halted_since;
}

// Should it have been woken since, it looks at its queue before it halts.
KTEST(dpc_medium_wakes_a_halted_processor, "DPC-08")
{
    if (!ktest_has_processors(2))
        return;
    remote r;
    initialize(&r, OTHER, MediumImportance);
    EXPECT(until_halted(ki_processor[OTHER]));
    uint64_t flags = ki_disable_interrupts();
    KeInsertQueueDpc(&r.dpc, NULL, NULL);
    bool ran = runs_there(&r, OTHER);
    ki_restore_interrupts(flags);
    EXPECT(ran);
}

KTEST(dpc_target_is_taken_at_the_insert, "DPC-09")
{
    if (!ktest_has_processors(2))
        return;
    busy b;
    remote r;
    start_busy(&b, DISPATCH_LEVEL, false);    // it cannot run yet
    initialize(&r, OTHER, MediumHighImportance);
    EXPECT(KeInsertQueueDpc(&r.dpc, NULL, NULL));
    KeSetTargetProcessorDpc(&r.dpc, 0);    // too late for this run
    EXPECT(r.dpc.DpcData == &ki_processor[OTHER]->dpc);
    EXPECT(!KeInsertQueueDpc(&r.dpc, NULL, NULL));
    EXPECT(!r.ran);
    stop_busy(&b);
    EXPECT(runs_there(&r, OTHER));
    r.ran = 0;
    EXPECT(KeInsertQueueDpc(&r.dpc, NULL, NULL));
    EXPECT(r.ran && r.processor == 0);
}

typedef struct inserter {
    ktest_thread thread;
    remote remote;
    bool at_once;
} inserter;

static void insert_here(void *context)
{
    inserter *i = context;
    KeInsertQueueDpc(&i->remote.dpc, NULL, NULL);
    i->at_once = i->remote.ran;
}

KTEST(dpc_runs_where_it_was_inserted, "DPC-09 DPC-02")
{
    if (!ktest_has_processors(2))
        return;
    inserter i = { .at_once = false };
    i.remote.processor = MAXIMUM_PROCESSORS;
    KeInitializeDpc(&i.remote.dpc, note_processor, &i.remote);
    ktest_start_on(&i.thread, OTHER, insert_here, &i);
    ktest_join(&i.thread);
    EXPECT(i.at_once && i.remote.processor == OTHER);
}

KTEST(dpc_is_removed_from_another_processor, "DPC-05")
{
    if (!ktest_has_processors(2))
        return;
    busy b;
    remote r, after;
    start_busy(&b, DISPATCH_LEVEL, false);
    initialize(&r, OTHER, MediumHighImportance);
    initialize(&after, OTHER, MediumHighImportance);
    EXPECT(KeInsertQueueDpc(&r.dpc, NULL, NULL));
    EXPECT(KeInsertQueueDpc(&after.dpc, NULL, NULL));
    EXPECT(KeRemoveQueueDpc(&r.dpc) && !KeRemoveQueueDpc(&r.dpc));
    stop_busy(&b);
    EXPECT(runs_there(&after, OTHER) && !r.ran);
}

// ---- Flushing -------------------------------------------------------------

typedef struct slow {
    KDPC dpc;
    volatile uint32_t started, go, finished;
} slow;

static void run_slowly(KDPC *dpc, void *context, void *a, void *b)
{
    (void)dpc, (void)a, (void)b;
    slow *s = context;
    s->started = 1;
    ktest_spin_until(&s->go);
    s->finished = 1;
}

// Whoever did not wait for it comes back while it still spins.
static void note_late(KDPC *dpc, void *context, void *a, void *b)
{
    ktest_spin(MOMENT);
    note_processor(dpc, context, a, b);
}

typedef struct flusher {
    ktest_thread thread;
    slow *slow;
    remote *low;                 // one a processor
    bool finished;
    uint32_t ran;
} flusher;

static void flush(void *context)
{
    flusher *f = context;
    KeFlushQueuedDpcs();
    f->finished = f->slow->finished;
    for (uint32_t i = 0; i < KeNumberProcessors; i++)
        f->ran += f->low[i].ran;
}

KTEST(dpc_flush_waits_for_all_processors, "DPC-10")
{
    if (!ktest_has_processors(2))
        return;
    slow s = { .started = 0 };
    remote low[MAXIMUM_PROCESSORS];
    flusher f = { .slow = &s, .low = low };
    KeInitializeDpc(&s.dpc, run_slowly, &s);
    KeSetTargetProcessorDpc(&s.dpc, OTHER);
    KeSetImportanceDpc(&s.dpc, HighImportance);
    EXPECT(KeInsertQueueDpc(&s.dpc, NULL, NULL));
    EXPECT(ktest_spin_until(&s.started));
    for (uint32_t i = 0; i < KeNumberProcessors; i++) {
        initialize(&low[i], (uint8_t)i, LowImportance);
        low[i].dpc.DeferredRoutine = note_late;
        KeInsertQueueDpc(&low[i].dpc, NULL, NULL);
    }
    ktest_start(&f.thread, flush, &f, KTEST_ABOVE);
    ktest_spin(MOMENT);
    EXPECT(ktest_is_waiting(&f.thread) && !f.finished);
    s.go = 1;
    ktest_join(&f.thread);
    EXPECT(f.finished && f.ran == KeNumberProcessors);
}

// ---- A DPC beside its ISR, and beside itself ------------------------------

typedef struct beside {
    ktest_device device;
    KDPC dpc;
    volatile uint32_t started, interrupted, finished;
    bool inserted;               // by the ISR, while the DPC ran
    uint32_t runs, active, most;
} beside;

static void queue_in_isr(ktest_device *device)
{
    beside *s = CONTAINING_RECORD(device, beside, device);
    s->inserted = KeInsertQueueDpc(&s->dpc, NULL, NULL);
    s->interrupted = 1;
}

// The first run stays until the ISR was there and, if it let the DPC run on
// processor 0, until that one is there as well.
static void run_beside(KDPC *dpc, void *context, void *a, void *b)
{
    (void)dpc, (void)a, (void)b;
    beside *s = context;
    uint32_t run = __atomic_add_fetch(&s->runs, 1, __ATOMIC_SEQ_CST);
    uint32_t now = __atomic_add_fetch(&s->active, 1, __ATOMIC_SEQ_CST);
    if (run == 1) {
        s->started = 1;
        ktest_spin_until(&s->interrupted);
        if (s->dpc.Number == 1)
            ktest_spin_until(&s->finished);
    } else {
        s->most = now;
        s->finished = 1;
    }
    __atomic_sub_fetch(&s->active, 1, __ATOMIC_SEQ_CST);
}

static void start_beside(beside *s)
{
    *s = (beside){ .started = 0 };
    ktest_connect(&s->device, DEVICE, 0);
    s->device.isr = queue_in_isr;
    KeInitializeDpc(&s->dpc, run_beside, s);
    KeSetImportanceDpc(&s->dpc, HighImportance);
    KeSetTargetProcessorDpc(&s->dpc, OTHER);
    EXPECT(KeInsertQueueDpc(&s->dpc, NULL, NULL));
    EXPECT(ktest_spin_until(&s->started));
}

static void end_beside(beside *s, uint32_t most)
{
    EXPECT(ktest_spin_until(&s->finished));
    KeFlushQueuedDpcs();
    EXPECT(s->inserted && s->runs == 2 && s->most == most && !s->active);
    ktest_disconnect(&s->device);
}

KTEST(dpc_runs_beside_its_isr, "DPC-11 DPC-06")
{
    if (!ktest_has_processors(2))
        return;
    beside s;
    start_beside(&s);
    ktest_interrupt(&s.device);    // here, while the DPC runs there
    end_beside(&s, 1);             // and it runs once more, there
}

KTEST(dpc_runs_beside_itself, "DPC-11")
{
    if (!ktest_has_processors(2))
        return;
    beside s;
    start_beside(&s);
    KeSetTargetProcessorDpc(&s.dpc, 0);
    ktest_interrupt(&s.device);
    end_beside(&s, 2);
}

// ---- Timers ---------------------------------------------------------------

typedef struct setter {
    ktest_thread thread;
    KTIMER timer;
    remote remote;
    bool came;
} setter;

static void set_here(void *context)
{
    static const int64_t moment = -10000;
    setter *s = context;
    KeSetTimerEx(&s->timer, moment, 0, &s->remote.dpc);
    s->came = ktest_wait(&s->timer);
    KeFlushQueuedDpcs();
}

KTEST(timer_expires_where_it_was_set, "TMR-02")
{
    if (!ktest_has_processors(2))
        return;
    setter s = { .came = false };
    s.remote.processor = MAXIMUM_PROCESSORS;
    KeInitializeTimerEx(&s.timer, NotificationTimer);
    KeInitializeDpc(&s.remote.dpc, note_processor, &s.remote);
    ktest_start_on(&s.thread, OTHER, set_here, &s);
    ktest_join(&s.thread);
    EXPECT(s.came && s.remote.ran && s.remote.processor == OTHER);
}

static void set_far_off(void *context)
{
    static const int64_t hour = -36000000000ll;
    KeSetTimerEx(context, hour, 0, NULL);
}

KTEST(timer_is_cancelled_from_elsewhere, "TMR-04 TMR-01")
{
    if (!ktest_has_processors(2))
        return;
    ktest_thread thread;
    KTIMER timer;
    KeInitializeTimerEx(&timer, NotificationTimer);
    ktest_start_on(&thread, OTHER, set_far_off, &timer);
    ktest_join(&thread);
    EXPECT(timer.processor == OTHER);
    EXPECT(KeCancelTimer(&timer) && !KeCancelTimer(&timer));
    ktest_start_on(&thread, OTHER, set_far_off, &timer);
    ktest_join(&thread);
    EXPECT(KeSetTimerEx(&timer, 1, 0, NULL));    // past: it comes here
    EXPECT(timer.Header.SignalState && !KeCancelTimer(&timer));
}

// What a driver does before it frees a timer: cancels it, takes its DPC back,
// and flushes, as that may run.
typedef struct freed_timer {
    KTIMER timer;
    KDPC dpc;
    volatile uint32_t runs;
} freed_timer;

static uint32_t miscounted;

static void count_run(KDPC *dpc, void *context, void *a, void *b)
{
    (void)dpc, (void)a, (void)b;
    ((freed_timer *)context)->runs++;
}

static void free_timers(void *seed)
{
    enum { TIMERS = 300, LONGEST = 3000, LONGEST_PAUSE = 20000 };
    uint64_t state = (uintptr_t)seed | 1;
    for (int i = 0; i < TIMERS; i++) {
        freed_timer *t = ExAllocatePoolWithTag(NonPagedPool, sizeof(*t),
                                               EX_TAG('T', 'e', 's', 't'));
        t->runs = 0;
        KeInitializeTimerEx(&t->timer, NotificationTimer);
        KeInitializeDpc(&t->dpc, count_run, t);
        if (ktest_draw(&state) & 1)
            KeSetTargetProcessorDpc(
                &t->dpc, (uint8_t)(ktest_draw(&state) % KeNumberProcessors));
        KeSetImportanceDpc(&t->dpc, (KDPC_IMPORTANCE)(ktest_draw(&state) % 4));
        KeSetTimerEx(&t->timer, -(int64_t)(ktest_draw(&state) % LONGEST), 0,
                     &t->dpc);
        for (uint64_t n = ktest_draw(&state) % LONGEST_PAUSE; n; n--)
            __asm__ volatile("");
        uint32_t taken = KeCancelTimer(&t->timer);
        taken += KeRemoveQueueDpc(&t->dpc);
        KeFlushQueuedDpcs();
        if (taken + t->runs != 1)
            __atomic_add_fetch(&miscounted, 1, __ATOMIC_RELAXED);
        ExFreePoolWithTag(t, 0);
    }
}

KTEST(timer_and_dpc_are_freed_behind_a_flush, "TMR-04 DPC-05 DPC-10")
{
    if (!ktest_has_processors(2))
        return;
    ktest_thread other;
    miscounted = 0;
    ktest_start_on(&other, 1, free_timers, (void *)(uintptr_t)ktest_random());
    free_timers((void *)(uintptr_t)ktest_random());
    ktest_join(&other);
    EXPECT(miscounted == 0);
}

// ---- APCs to a thread that runs elsewhere ---------------------------------

typedef struct noted_apc {
    KAPC apc;
    volatile uint32_t ran;
    KIRQL irql;
    KTHREAD *thread;
    uint32_t processor;
} noted_apc;

static void note_apc(KAPC *apc, KNORMAL_ROUTINE **normal, void **context,
                     void **a, void **b)
{
    (void)normal, (void)context, (void)a, (void)b;
    noted_apc *n = CONTAINING_RECORD(apc, noted_apc, apc);
    n->irql = KeGetCurrentIrql();
    n->thread = KeGetCurrentThread();
    n->processor = KeGetCurrentProcessorNumber();
    ktest_log('A');
    __atomic_store_n(&n->ran, 1, __ATOMIC_RELEASE);
}

static void send_apc(noted_apc *n, const busy *b)
{
    *n = (noted_apc){ .irql = HIGH_LEVEL };
    KeInitializeApc(&n->apc, b->thread.thread, note_apc, NULL, NULL,
                    KernelMode, NULL);
    EXPECT(KeInsertQueueApc(&n->apc, NULL, NULL, IO_NO_INCREMENT));
}

KTEST(apc_interrupts_a_thread_elsewhere, "APC-08 APC-04")
{
    if (!ktest_has_processors(2))
        return;
    busy b;
    noted_apc n;
    start_busy(&b, PASSIVE_LEVEL, false);
    send_apc(&n, &b);
    EXPECT(ktest_spin_until(&n.ran));    // it computes: only an interrupt can
    EXPECT(n.irql == APC_LEVEL && n.thread == b.thread.thread &&
           n.processor == OTHER);
    stop_busy(&b);
    EXPECT(ktest_logged("Ae"));
}

KTEST(apc_waits_for_a_level_elsewhere, "APC-08 REG-03")
{
    if (!ktest_has_processors(2))
        return;
    for (KIRQL level = PASSIVE_LEVEL; level <= DISPATCH_LEVEL; level++) {
        busy b;
        noted_apc n;
        ktest_log_reset();
        start_busy(&b, level, level == PASSIVE_LEVEL);
        send_apc(&n, &b);
        ktest_spin(MOMENT);
        EXPECT(!n.ran && n.apc.Inserted);
        stop_busy(&b);
        // Delivered before the lowering, or the leaving, returned there.
        EXPECT(ktest_logged("Ae") && n.irql == APC_LEVEL);
        EXPECT(n.thread == b.thread.thread);
    }
}

// ---- Who runs where ---------------------------------------------------------

static KEVENT spread_now;
static volatile uint32_t spread_count, spread_all;

// At DISPATCH_LEVEL nobody else gets its processor.
static void be_there(void *context)
{
    bool *met = context;
    KIRQL old;
    KeSetAffinityThread(KeGetCurrentThread(), (1ull << KeNumberProcessors) - 1);
    EXPECT(ktest_wait(&spread_now));
    KeRaiseIrql(DISPATCH_LEVEL, &old);
    if (__atomic_add_fetch(&spread_count, 1, __ATOMIC_SEQ_CST) ==
        KeNumberProcessors)
        spread_all = 1;
    *met = ktest_spin_until(&spread_all);
    KeLowerIrql(old);
}

KTEST(threads_spread, "")
{
    ktest_thread threads[MAXIMUM_PROCESSORS];
    bool met[MAXIMUM_PROCESSORS] = { 0 };
    KeInitializeEvent(&spread_now, NotificationEvent, false);
    spread_count = spread_all = 0;
    for (uint32_t i = 0; i < KeNumberProcessors; i++)
        ktest_start(&threads[i], be_there, &met[i], KTEST_BELOW);
    for (uint32_t i = 0; i < KeNumberProcessors; i++)
        EXPECT(ktest_until_waiting(&threads[i]));
    KeSetEvent(&spread_now, IO_NO_INCREMENT);
    for (uint32_t i = 0; i < KeNumberProcessors; i++) {
        ktest_join(&threads[i]);
        EXPECT(met[i]);
    }
}

enum { TURNS = 1000 };

static KEVENT turns[2];

static void take_turns(void *context)
{
    (void)context;
    for (int i = 0; i < TURNS; i++) {
        EXPECT(ktest_wait(&turns[0]));
        KeSetEvent(&turns[1], IO_NO_INCREMENT);
    }
}

static void say_where(void *context)
{
    *(volatile uint32_t *)context = KeGetCurrentProcessorNumber() + 1;
}

void __real_hal_send_ipi(uint32_t apic_id, uint32_t command);
void __wrap_hal_send_ipi(uint32_t apic_id, uint32_t command);

static volatile uint32_t sent[UINT8_MAX + 1];    // to whom, of all IPIs
static void *volatile sender[UINT8_MAX + 1];     // of the last one

void __wrap_hal_send_ipi(uint32_t apic_id, uint32_t command)
{
    sender[(uint8_t)apic_id] = __builtin_return_address(0);
    __atomic_fetch_add(&sent[(uint8_t)apic_id], 1, __ATOMIC_RELAXED);
    __real_hal_send_ipi(apic_id, command);
}

// Threads of processor 0 that come and go are nothing to it; a thread that
// would have to wait there is. What is sent counts, not what arrives: a helper
// that starts may have been meant for the other, whose interrupt is slow, and
// taken by us when we waited for it.
KTEST(idle_processor_is_left_alone, "")
{
    if (!ktest_has_processors(2))
        return;
    ktest_thread other, third;
    volatile uint32_t where = 0;
    const KPRCB *idle = ki_processor[OTHER];
    volatile uint32_t *interrupts = &sent[idle->apic_id];
    for (int i = 0; i < 2; i++)
        KeInitializeEvent(&turns[i], SynchronizationEvent, false);
    ktest_start(&other, take_turns, NULL, KTEST_BELOW);
    EXPECT(until_halted(idle));
    uint32_t before = *interrupts;
    for (int i = 0; i < TURNS; i++) {
        KeSetEvent(&turns[0], IO_NO_INCREMENT);
        EXPECT(ktest_wait(&turns[1]));
    }
    ktest_join(&other);
    if (*interrupts != before) {    // then it is of interest whose that was
        char text[64];
        rtl_snprintf(text, sizeof(text), "an IPI of 0x%016llx",
                     (unsigned long long)sender[idle->apic_id]);
        ktest_fail(text, __FILE__, __LINE__);
    }
    EXPECT(until_halted(idle));
    ktest_start_on(&third, OTHER, say_where, (void *)&where);
    EXPECT(ktest_spin_until(&where) && where == OTHER + 1);
    EXPECT(*interrupts != before);
    ktest_join(&third);
}

KTEST(better_thread_preempts_elsewhere, "")
{
    if (!ktest_has_processors(2))
        return;
    for (int i = 0; i < 10; i++) {    // once may be a chance interrupt's
        late l = { .ran = 0 };
        busy b;
        KeInitializeEvent(&l.event, NotificationEvent, false);
        ktest_start_on(&l.thread, OTHER, wait_and_note, &l);
        EXPECT(ktest_until_waiting(&l.thread));
        KeSetPriorityThread(l.thread.thread, KTEST_ABOVE);
        start_busy(&b, PASSIVE_LEVEL, false);
        uint64_t flags = ki_disable_interrupts();
        KeSetEvent(&l.event, IO_NO_INCREMENT);
        bool ran = ktest_spin_until(&l.ran);
        ki_restore_interrupts(flags);
        EXPECT(ran);
        stop_busy(&b);
        ktest_join(&l.thread);
    }
}

typedef struct roamer {
    ktest_thread thread;
    volatile uint32_t where, stop;    // where: a processor, and 1
} roamer;

static void roam(void *context)
{
    roamer *r = context;
    while (!r->stop) {
        KIRQL old = KeRaiseIrqlToDpcLevel();    // else it may be moved between
        r->where = KeGetCurrentProcessorNumber() + 1;
        KeLowerIrql(old);
    }
}

static bool until_there(const roamer *r, uint32_t processor)
{
    for (int i = 0; i < ROUNDS && r->where != processor + 1; i++)
        ktest_sleep(1);
    return r->where == processor + 1;
}

KTEST(affinity_of_one_that_runs_elsewhere, "")
{
    if (!ktest_has_processors(2))
        return;
    roamer r = { .stop = 0 };
    ktest_start_on(&r.thread, OTHER, roam, &r);
    for (int i = 0; i < 10; i++) {
        uint32_t to = i % 2 ? OTHER : 0;
        EXPECT(until_there(&r, OTHER - to));
        EXPECT(KeSetAffinityThread(r.thread.thread, 1ull << to) ==
               1ull << (OTHER - to));
        EXPECT(until_there(&r, to));
    }
    r.stop = 1;
    ktest_join(&r.thread);
}

// It stands behind us; the other processor is idle and has to be told.
KTEST(affinity_of_one_that_is_ready, "")
{
    if (!ktest_has_processors(2))
        return;
    roamer r = { .stop = 0 };
    ktest_start(&r.thread, roam, &r, KTEST_BELOW);
    ktest_spin(MOMENT);
    EXPECT(!r.where && r.thread.thread->State == Ready);
    KeSetAffinityThread(r.thread.thread, 1ull << OTHER);
    EXPECT(ktest_spin_until(&r.where) && r.where == OTHER + 1);
    r.stop = 1;
    ktest_join(&r.thread);
}
