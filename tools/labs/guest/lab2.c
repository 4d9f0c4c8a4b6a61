// lab2.c - the guest's half of grading lab 2: queues kernel APCs to itself, to
// a thread that waits and to one that runs on another processor.

#include "tools/labs/guest/probe.h"

enum { APCS = 8, SPIN_MS = 5000 };

enum op {
    PREPARE = 1,                 // an APC, of a kind, for a thread
    INSERT,                      // an APC, its two arguments
    REMOVE,                      // an APC
    RAISE, LOWER,                // to a level
    ENTER, LEAVE,                // a region
    SUPPRESS,                    // an APC: no normal routine, once
    INSIDE,                      // of a routine of an APC, once: the steps from
                                 // b on; c: its normal routine
    SIGNAL,                      // the other thread; how it waits next
    AWAIT,                       // until an APC has run b times since PREPARE
};

enum { SELF, OTHER, ELSEWHERE };             // whose APC
enum { SPECIAL, NORMAL };
enum { CRITICAL = 1, GUARDED = 2, RAISED = 4 };    // how a thread waits

KAPC lab2_apcs[APCS];
const uint64_t lab2_stride = sizeof(KAPC);
static uint32_t inside[APCS][2], runs[APCS];
static bool suppressed[APCS];
static KTHREAD *threads[3];
static KEVENT go;
static volatile uint32_t how, ending;

static void step(uint32_t number, const probe_step *s);

// ---- What is watched ------------------------------------------------------

static void run_inside(uint32_t which, uint32_t normal)
{
    uint32_t first = inside[which][normal];
    inside[which][normal] = 0;
    if (first)
        probe_run(first, step);
    probe_see(PROBE_EXIT, which, normal, 0);
}

KKERNEL_ROUTINE lab2_kernel;
void lab2_kernel_seen(KAPC *apc, KNORMAL_ROUTINE **normal, void **context,
                      void **argument1, void **argument2);
PROBE_ROUTINE(lab2_kernel);

void lab2_kernel_seen(KAPC *apc, KNORMAL_ROUTINE **normal, void **context,
                      void **argument1, void **argument2)
{
    (void)context, (void)argument1;
    *argument2 = (char *)*argument2 + 1;
    uint32_t which = (uint32_t)(apc - lab2_apcs) % APCS;
    bool last = !*normal || suppressed[which];
    if (suppressed[which])
        *normal = NULL;
    suppressed[which] = false;
    run_inside(which, SPECIAL);
    if (last)
        __atomic_add_fetch(&runs[which], 1, __ATOMIC_SEQ_CST);
}

KNORMAL_ROUTINE lab2_normal;
void lab2_normal_seen(void *context, void *argument1, void *argument2);
PROBE_ROUTINE(lab2_normal);

void lab2_normal_seen(void *context, void *argument1, void *argument2)
{
    (void)argument1, (void)argument2;
    uint32_t which = (uint32_t)(uintptr_t)context % APCS;
    run_inside(which, NORMAL);
    __atomic_add_fetch(&runs[which], 1, __ATOMIC_SEQ_CST);
}

// ---- The other threads ----------------------------------------------------

static void enter(uint32_t way, KIRQL *old)
{
    if (way & CRITICAL)
        KeEnterCriticalRegion();
    if (way & GUARDED)
        KeEnterGuardedRegion();
    if (way & RAISED)
        KeRaiseIrql(APC_LEVEL, old);
}

static void leave(uint32_t way, KIRQL old)
{
    if (way & RAISED)
        KeLowerIrql(old);
    if (way & GUARDED)
        KeLeaveGuardedRegion();
    if (way & CRITICAL)
        KeLeaveCriticalRegion();
}

// Above the thread that runs the script: it goes on as soon as it may.
static void waiter(void *context)
{
    (void)context;
    threads[OTHER] = KeGetCurrentThread();
    while (!ending) {
        KIRQL old = PASSIVE_LEVEL;
        uint32_t way = how;
        enter(way, &old);
        uint64_t before = threads[OTHER]->ContextSwitches;
        KeWaitForSingleObject(&go, Executive, KernelMode, false, NULL);
        probe_see(PROBE_WOKE, way,
                  threads[OTHER]->ContextSwitches - before > 1, 0);
        leave(way, old);
    }
}

// On another processor, where it always runs.
static void spinner(void *context)
{
    (void)context;
    __atomic_store_n(&threads[ELSEWHERE], KeGetCurrentThread(),
                     __ATOMIC_RELEASE);
    while (!ending)
        __builtin_ia32_pause();
}

// ---- The steps ------------------------------------------------------------

static void prepare(uint32_t which, bool normal, KTHREAD *thread)
{
    inside[which][SPECIAL] = inside[which][NORMAL] = runs[which] = 0;
    suppressed[which] = false;
    KeInitializeApc(&lab2_apcs[which], thread, lab2_kernel, NULL,
                    normal ? lab2_normal : NULL, KernelMode,
                    (void *)(uintptr_t)which);
}

static void await(uint32_t which, uint32_t count)
{
    uint64_t start = KeQueryInterruptTime();
    while (__atomic_load_n(&runs[which], __ATOMIC_SEQ_CST) < count &&
           KeQueryInterruptTime() - start < SPIN_MS * 10000ull)
        __builtin_ia32_pause();
}

static void step(uint32_t number, const probe_step *s)
{
    uint32_t which = (uint32_t)s->a % APCS;
    KAPC *apc = &lab2_apcs[which];
    KIRQL old;
    switch (s->op) {
    case PREPARE: prepare(which, s->b == NORMAL, threads[s->c % 3]); return;
    case INSERT:
        probe_see(PROBE_RESULT, number,
                  KeInsertQueueApc(apc, (void *)s->b, (void *)s->c,
                                   IO_NO_INCREMENT), 0);
        return;
    case REMOVE:
        probe_see(PROBE_RESULT, number, KeRemoveQueueApc(apc), 0);
        return;
    case RAISE: KeRaiseIrql((KIRQL)s->a, &old); return;
    case LOWER: KeLowerIrql((KIRQL)s->a); break;
    case ENTER: enter((uint32_t)s->a, &old); return;
    case LEAVE: leave((uint32_t)s->a, PASSIVE_LEVEL); break;
    case SUPPRESS: suppressed[which] = true; return;
    case INSIDE: inside[which][s->c & 1] = (uint32_t)s->b; return;
    case SIGNAL:
        how = (uint32_t)s->a;
        KeSetEvent(&go, IO_NO_INCREMENT);
        break;
    case AWAIT: await(which, (uint32_t)s->b); return;
    }
    probe_see(PROBE_RESULT, number, 0, 0);
}

KTEST(lab_2, "")
{
    ktest_thread other, elsewhere;
    KeInitializeEvent(&go, SynchronizationEvent, false);
    threads[SELF] = threads[ELSEWHERE] = KeGetCurrentThread();
    ktest_start(&other, waiter, NULL, KTEST_ABOVE);
    if (KeNumberProcessors > 1) {
        threads[ELSEWHERE] = NULL;
        ktest_start_on(&elsewhere, 1, spinner, NULL);
        while (!__atomic_load_n(&threads[ELSEWHERE], __ATOMIC_ACQUIRE))
            __builtin_ia32_pause();
    }
    while (probe_next())
        probe_run(0, step);
    ending = true;
    KeSetEvent(&go, IO_NO_INCREMENT);
    ktest_join(&other);
    if (KeNumberProcessors > 1)
        ktest_join(&elsewhere);
}
