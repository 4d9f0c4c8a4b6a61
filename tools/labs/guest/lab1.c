// lab1.c - the guest's half of grading lab 1: does to the DPC queue what the
// script says, from threads, from ISRs and from inside of DPCs.

#include "kernel/ke/kep.h"
#include "tools/labs/guest/probe.h"

enum { DPCS = 8, DEVICE_IRQL = 6, SPIN_MS = 5000 };

enum op {
    RESET = 1,                   // all DPCs are fresh
    INSERT,                      // a DPC, its two arguments
    REMOVE,                      // a DPC
    RAISE, LOWER,                // to a level
    IMPORTANCE,                  // of a DPC
    TARGET,                      // of a DPC, a processor
    INSIDE,                      // of a DPC, once: the steps from b on
    INTERRUPT,                   // a device does; its ISR: the steps from a on
    WAKE,                        // the thread above us
    CLOSE, OPEN,                 // the processor to interrupts
    AWAIT,                       // until a DPC has run b times since RESET, or
                                 // c ms are over
    RACE,                        // two processors insert DPC 0, a times each
    BUSY,                        // processor 1, with a thread; or no more
};

static KDPC dpcs[DPCS];
static uint32_t inside[DPCS], runs[DPCS], isr_steps, race_rounds;
static uint32_t race_inserted;
static ktest_device device;
static KEVENT wake;
static volatile bool ending;
static ktest_thread spinning;
static uint32_t busy;

static void step(uint32_t number, const probe_step *s);

// ---- What is watched ------------------------------------------------------

KDEFERRED_ROUTINE lab1_dpc;
void lab1_dpc_seen(KDPC *dpc, void *context, void *a, void *b);
PROBE_ROUTINE(lab1_dpc);

void lab1_dpc_seen(KDPC *dpc, void *context, void *a, void *b)
{
    (void)dpc, (void)a, (void)b;
    uint32_t which = (uint32_t)(uintptr_t)context % DPCS, first = inside[which];
    inside[which] = 0;
    if (first)
        probe_run(first, step);
    probe_see(PROBE_EXIT, which, 0, 0);
    __atomic_add_fetch(&runs[which], 1, __ATOMIC_SEQ_CST);
}

static void race_dpc(KDPC *dpc, void *context, void *a, void *b)
{
    (void)dpc, (void)context, (void)a, (void)b;
    __atomic_add_fetch(&runs[0], 1, __ATOMIC_SEQ_CST);
}

static void isr(ktest_device *self)
{
    (void)self;
    probe_run(isr_steps, step);
}

// Above the thread that runs the script: it goes on as soon as it may.
static void sleeper(void *context)
{
    (void)context;
    for (;;) {
        KeWaitForSingleObject(&wake, Executive, KernelMode, false, NULL);
        if (ending)
            return;
        probe_see(PROBE_WOKE, 0, 0, 0);
    }
}

static void spinner(void *context)
{
    (void)context;
    for (busy = 2; __atomic_load_n(&busy, __ATOMIC_SEQ_CST);)
        __builtin_ia32_pause();
}

// ---- The steps ------------------------------------------------------------

static void reset(void)
{
    for (uint32_t i = 0; i < DPCS; i++) {
        KeInitializeDpc(&dpcs[i], lab1_dpc, (void *)(uintptr_t)i);
        inside[i] = runs[i] = 0;
    }
}

static void keep_busy(bool on)
{
    __atomic_store_n(&busy, on, __ATOMIC_SEQ_CST);
    if (!on)
        return ktest_join(&spinning);
    ktest_start_on(&spinning, 1, spinner, NULL);
    while (__atomic_load_n(&busy, __ATOMIC_SEQ_CST) != 2)
        __builtin_ia32_pause();
}

// With interrupts off the clock stays off, but the other processor is answered:
// it may want us to forget a TLB entry, and drains nothing before we have.
static void await(uint32_t which, uint32_t count, uint64_t bound)
{
    uint64_t start = KeQueryInterruptTime(), flags = ki_disable_interrupts();
    KIRQL old = KeGetCurrentIrql();
    bool closed = !(flags & EFLAGS_IF);
    ki_set_irql(closed ? CLOCK_LEVEL : old);
    ki_enable();
    while (__atomic_load_n(&runs[which], __ATOMIC_SEQ_CST) < count &&
           KeQueryInterruptTime() - start < bound * 10000)
        __builtin_ia32_pause();
    if (closed) {
        (void)ki_disable_interrupts();
        ki_set_irql(old);
    }
}

static void insert_many(void *context)
{
    (void)context;
    for (uint32_t i = 0; i < race_rounds; i++)
        if (KeInsertQueueDpc(&dpcs[0], NULL, NULL))
            __atomic_add_fetch(&race_inserted, 1, __ATOMIC_SEQ_CST);
}

static void race(uint32_t number, uint32_t rounds)
{
    ktest_thread other;
    reset();
    KeInitializeDpc(&dpcs[0], race_dpc, NULL);
    race_rounds = rounds;
    race_inserted = 0;
    ktest_start_on(&other, 1, insert_many, NULL);
    insert_many(NULL);
    ktest_join(&other);
    KeFlushQueuedDpcs();
    probe_see(PROBE_RESULT, number, race_inserted, runs[0]);
}

static void step(uint32_t number, const probe_step *s)
{
    KDPC *dpc = &dpcs[s->a % DPCS];
    KIRQL old;
    switch (s->op) {
    case RESET: reset(); return;
    case INSERT:
        probe_see(PROBE_RESULT, number,
                  KeInsertQueueDpc(dpc, (void *)s->b, (void *)s->c), 0);
        return;
    case REMOVE:
        probe_see(PROBE_RESULT, number, KeRemoveQueueDpc(dpc), 0);
        return;
    case RAISE: KeRaiseIrql((KIRQL)s->a, &old); return;
    case LOWER:
        KeLowerIrql((KIRQL)s->a);
        probe_see(PROBE_RESULT, number, 0, 0);
        return;
    case IMPORTANCE:
        KeSetImportanceDpc(dpc, (KDPC_IMPORTANCE)s->b);
        return;
    case TARGET: KeSetTargetProcessorDpc(dpc, (uint8_t)s->b); return;
    case INSIDE: inside[s->a % DPCS] = (uint32_t)s->b; return;
    case INTERRUPT:
        isr_steps = (uint32_t)s->a;
        ktest_interrupt(&device);
        return;
    case WAKE: KeSetEvent(&wake, IO_NO_INCREMENT); return;
    case CLOSE: __asm__ volatile("cli" ::: "memory"); return;
    case OPEN: __asm__ volatile("sti" ::: "memory"); return;
    case AWAIT:
        await((uint32_t)s->a % DPCS, (uint32_t)s->b, s->c ? s->c : SPIN_MS);
        return;
    case BUSY: keep_busy(s->a); return;
    case RACE: race(number, (uint32_t)s->a); return;
    }
}

KTEST(lab_1, "")
{
    ktest_thread helper;
    KeInitializeEvent(&wake, SynchronizationEvent, false);
    ktest_connect(&device, DEVICE_IRQL, 0);
    device.isr = isr;
    ktest_start(&helper, sleeper, NULL, KTEST_ABOVE);
    while (probe_next())
        probe_run(0, step);
    ending = true;
    KeSetEvent(&wake, IO_NO_INCREMENT);
    ktest_join(&helper);
    ktest_disconnect(&device);
}
