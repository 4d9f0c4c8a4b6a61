// reap.c - idle processors that clear up what was deferred, and threads that
// hurry: neither is in anybody's way.

#include "kernel/ob/ob.h"
#include "tests/kernel/ktest.h"

enum { REAPER = 1, TRIES = 100 };

static OBJECT_TYPE reap_type = { .name = "Reap" };
static volatile uint32_t reaping;     // the processor, plus 1
static volatile uint32_t finish;      // reap_slowly may return
static volatile uint32_t reaped;

static void reap_slowly(void *object)
{
    reaping = KeGetCurrentProcessorNumber() + 1;
    EXPECT(ktest_spin_until(&finish));
    ObDereferenceObject(object);
}

static void reap_quickly(void *object)
{
    reaped = 1;
    ObDereferenceObject(object);
}

static void defer(void (*routine)(void *object))
{
    void *object = NULL;
    EXPECT(ob_create_object(&reap_type, sizeof(uint64_t), &object) ==
           STATUS_SUCCESS);
    __atomic_add_fetch(&ob_pending, 1, __ATOMIC_SEQ_CST);
    ob_defer(object, routine);
}

static void do_nothing(KDPC *dpc, void *context, void *argument1,
                       void *argument2)
{
    (void)dpc, (void)context, (void)argument1, (void)argument2;
}

// An idle processor looks for what was deferred behind each interrupt.
static void poke(uint32_t processor)
{
    static KDPC dpcs[MAXIMUM_PROCESSORS];
    KDPC *dpc = &dpcs[processor];
    KeRemoveQueueDpc(dpc);
    KeInitializeDpc(dpc, do_nothing, NULL);
    KeSetImportanceDpc(dpc, HighImportance);
    KeSetTargetProcessorDpc(dpc, (uint8_t)processor);
    KeInsertQueueDpc(dpc, NULL, NULL);
    ktest_spin(1);    // it has run by then, or will be removed
}

static struct {
    ktest_thread thread;
    KEVENT event;
    volatile uint32_t runs, stop;
} sleeper;

static void sleep_then_compute(void *context)
{
    (void)context;
    EXPECT(ktest_wait(&sleeper.event));
    sleeper.runs = 1;
    ktest_spin_until(&sleeper.stop);
}

// Someone waits who ran on REAPER last, and its idle thread reaps until finish
// is set.
static void start_reaping(void)
{
    reaped = sleeper.runs = sleeper.stop = 0;
    KeInitializeEvent(&sleeper.event, SynchronizationEvent, false);
    ktest_start_on(&sleeper.thread, REAPER, sleep_then_compute, NULL);
    EXPECT(ktest_until_waiting(&sleeper.thread));
    for (int i = 0; i < TRIES; i++) {
        reaping = finish = 0;
        defer(reap_slowly);
        for (int j = 0; j < TRIES && !reaping; j++)
            poke(REAPER);
        if (reaping == REAPER + 1)
            return;
        finish = 1;    // another one was awake, and quicker
        ps_settle();
    }
    ktest_fail("never reaped there", __FILE__, __LINE__);
}

static void stop_sleeper(void)
{
    sleeper.stop = finish = 1;
    ktest_join(&sleeper.thread);
}

KTEST(reap_while_a_thread_becomes_ready, "")
{
    if (!ktest_has_processors(3))
        return;
    start_reaping();
    KeSetAffinityThread(sleeper.thread.thread, 1u << REAPER | 1u << 2);
    KeSetEvent(&sleeper.event, IO_NO_INCREMENT);
    EXPECT(ktest_spin_until(&sleeper.runs));    // on the idle one, at once
    EXPECT(!finish);
    stop_sleeper();
}

KTEST(reap_beside_one_that_was_interrupted, "")
{
    if (!ktest_has_processors(3))
        return;
    start_reaping();
    KeSetEvent(&sleeper.event, IO_NO_INCREMENT);
    finish = 1;
    EXPECT(ktest_spin_until(&sleeper.runs));    // instead of the idle thread
    defer(reap_quickly);
    for (int i = 0; i < TRIES && !reaped; i++)
        poke(2);
    EXPECT(reaped);
    stop_sleeper();
}

static volatile uint32_t competed;

static void compete(void *context)
{
    (void)context;
    competed = 1;
}

KTEST(hurry_does_not_wear_off, "")
{
    ktest_thread other;
    competed = 0;
    ke_hurry(true);
    KPRIORITY before = KeGetCurrentThread()->Priority;
    ktest_start(&other, compete, NULL, KTEST_PRIORITY);
    ktest_spin(100);    // some quanta
    EXPECT(KeGetCurrentThread()->Priority == before && !competed);
    ke_hurry(false);
    ktest_join(&other);
}
