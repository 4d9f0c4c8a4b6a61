// wait.c - how a thread waits (NT-SEMANTICS 3).

#include "tests/kernel/ktest.h"

enum { MS = 10000, MANY = 16 };

static const int64_t no_wait = 0;
static const int64_t moment = -1ll * MS;

typedef struct waiter {
    ktest_thread thread;
    void **objects;
    uint32_t count;
    WAIT_TYPE type;
    const int64_t *timeout;
    NTSTATUS status;
} waiter;

static void wait_for_all(void *context)
{
    waiter *w = context;
    w->status = KeWaitForMultipleObjects(w->count, w->objects, w->type,
                                         Executive, KernelMode, false,
                                         w->timeout, NULL);
    ktest_log('w');
}

static void start_waiter(waiter *w, void **objects, uint32_t count,
                         WAIT_TYPE type, const int64_t *timeout)
{
    *w = (waiter){ .objects = objects, .count = count, .type = type,
                   .timeout = timeout, .status = STATUS_PENDING };
    ktest_start(&w->thread, wait_for_all, w, KTEST_ABOVE);
}

static NTSTATUS poll(uint32_t count, void **objects, WAIT_TYPE type)
{
    return KeWaitForMultipleObjects(count, objects, type, Executive,
                                    KernelMode, false, &no_wait, NULL);
}

KTEST(wait_any_takes_the_lowest, "SYN-03")
{
    KEVENT a, b, c;
    void *objects[] = { &a, &b, &c };
    KeInitializeEvent(&a, SynchronizationEvent, false);
    KeInitializeEvent(&b, SynchronizationEvent, true);
    KeInitializeEvent(&c, SynchronizationEvent, true);
    EXPECT(poll(3, objects, WaitAny) == STATUS_WAIT_0 + 1);
    EXPECT(b.Header.SignalState == 0 && c.Header.SignalState == 1);
    EXPECT(poll(3, objects, WaitAny) == STATUS_WAIT_0 + 2);
    EXPECT(poll(3, objects, WaitAny) == STATUS_TIMEOUT);
}

KTEST(wait_any_is_woken_by_one, "SYN-03")
{
    KEVENT a, b, c;
    void *objects[] = { &a, &b, &c };
    waiter w;
    KeInitializeEvent(&a, SynchronizationEvent, false);
    KeInitializeEvent(&b, SynchronizationEvent, false);
    KeInitializeEvent(&c, SynchronizationEvent, false);
    start_waiter(&w, objects, 3, WaitAny, NULL);
    EXPECT(ktest_is_waiting(&w.thread));
    KeSetEvent(&c, IO_NO_INCREMENT);
    EXPECT(w.status == STATUS_WAIT_0 + 2 && c.Header.SignalState == 0);
    EXPECT(IsListEmpty(&a.Header.WaitListHead) &&
           IsListEmpty(&b.Header.WaitListHead));
    ktest_join(&w.thread);
}

KTEST(wait_all_takes_all_or_none, "SYN-03")
{
    KEVENT a;
    KSEMAPHORE b;
    void *objects[] = { &a, &b };
    waiter w;
    KeInitializeEvent(&a, SynchronizationEvent, false);
    KeInitializeSemaphore(&b, 0, 2);
    start_waiter(&w, objects, 2, WaitAll, NULL);
    KeSetEvent(&a, IO_NO_INCREMENT);
    EXPECT(ktest_is_waiting(&w.thread) && a.Header.SignalState == 1);
    EXPECT(poll(1, objects, WaitAny) == STATUS_SUCCESS);    // taken away
    ke_release_semaphore(&b, IO_NO_INCREMENT, 2, NULL);
    EXPECT(ktest_is_waiting(&w.thread) && b.Header.SignalState == 2);
    KeSetEvent(&a, IO_NO_INCREMENT);
    EXPECT(w.status == STATUS_SUCCESS);
    EXPECT(a.Header.SignalState == 0 && b.Header.SignalState == 1);
    ktest_join(&w.thread);
    EXPECT(poll(2, objects, WaitAll) == STATUS_TIMEOUT);
    EXPECT(b.Header.SignalState == 1);
}

KTEST(wait_all_passes_a_signal_on, "SYN-03 SYN-02")
{
    KEVENT a, b;
    void *both[] = { &a, &b }, *one[] = { &a };
    waiter all, any;
    KeInitializeEvent(&a, SynchronizationEvent, false);
    KeInitializeEvent(&b, SynchronizationEvent, false);
    start_waiter(&all, both, 2, WaitAll, NULL);
    start_waiter(&any, one, 1, WaitAny, NULL);
    KeSetEvent(&a, IO_NO_INCREMENT);    // the older waiter cannot use it
    EXPECT(ktest_is_waiting(&all.thread) && any.status == STATUS_SUCCESS);
    KeSetEvent(&b, IO_NO_INCREMENT);
    EXPECT(ktest_is_waiting(&all.thread));
    KeSetEvent(&a, IO_NO_INCREMENT);
    EXPECT(all.status == STATUS_SUCCESS);
    ktest_join(&all.thread);
    ktest_join(&any.thread);
}

// The first waiter takes the mutant along when it ends.
KTEST(wait_all_is_woken_by_what_was_abandoned, "SYN-03")
{
    KMUTANT mutant;
    KEVENT event;
    void *both[] = { &event, &mutant };
    waiter any, all;
    KeInitializeEvent(&event, SynchronizationEvent, true);
    ke_initialize_mutant(&mutant, true);
    start_waiter(&any, &both[1], 1, WaitAny, NULL);
    start_waiter(&all, both, 2, WaitAll, NULL);
    ke_release_mutant(&mutant, IO_NO_INCREMENT, NULL);
    ktest_join(&any.thread);
    EXPECT(all.status == STATUS_ABANDONED_WAIT_0);
    EXPECT(event.Header.SignalState == 0);
    ktest_join(&all.thread);
}

enum { ROUNDS = 20000, DRAWS = 256 };

typedef struct racing_waiter {
    ktest_thread thread;
    KEVENT event;
    volatile uint32_t begun, done;
    uint32_t lost;
} racing_waiter;

static void wait_often(void *context)
{
    racing_waiter *w = context;
    uint64_t enough = KeQueryInterruptTime() + 3000 * MS;    // one host core
    for (uint32_t i = 1; i <= ROUNDS && !w->lost &&
                         KeQueryInterruptTime() < enough; i++) {
        w->begun = i;
        w->lost += !ktest_wait(&w->event);
        KeClearEvent(&w->event);
        w->done = i;
    }
    w->done = ROUNDS;
}

// Who sets it looks for waiters without the lock; who begins to wait looks
// again behind its own entry.
KTEST(lasting_event_and_a_wait_that_begins, "SYN-02")
{
    if (!ktest_has_processors(2))
        return;
    racing_waiter w = { .lost = 0 };
    KeInitializeEvent(&w.event, NotificationEvent, false);
    ktest_start_on(&w.thread, 1, wait_often, &w);
    for (uint32_t i = 1; i <= ROUNDS && w.done < ROUNDS; i++) {
        while (w.begun < i && w.done < ROUNDS)
            __builtin_ia32_pause();
        for (uint64_t n = ktest_random() % DRAWS; n; n--)
            __asm__ volatile("");
        ke_set_lasting_event(&w.event, IO_NO_INCREMENT);
        while (w.done < i)
            __builtin_ia32_pause();
    }
    ktest_join(&w.thread);
    EXPECT(!w.lost);
}

KTEST(wait_for_many, "SYN-03")
{
    KEVENT events[MANY];
    void *objects[MANY];
    KWAIT_BLOCK blocks[MANY];
    for (int i = 0; i < MANY; i++) {
        KeInitializeEvent(&events[i], SynchronizationEvent, false);
        objects[i] = &events[i];
    }
    for (int i = MANY - 1; i >= 0; i--) {
        KeSetEvent(&events[i], IO_NO_INCREMENT);
        EXPECT(KeWaitForMultipleObjects(MANY, objects, WaitAny, Executive,
                                        KernelMode, false, &ktest_bound,
                                        blocks) == STATUS_WAIT_0 + i);
        KeSetEvent(&events[i], IO_NO_INCREMENT);
    }
    EXPECT(KeWaitForMultipleObjects(MANY, objects, WaitAll, Executive,
                                    KernelMode, false, &ktest_bound,
                                    blocks) == STATUS_SUCCESS);
    EXPECT(KeWaitForMultipleObjects(MANY, objects, WaitAny, Executive,
                                    KernelMode, false, &moment,
                                    blocks) == STATUS_TIMEOUT);
    for (int i = 0; i < MANY; i++)
        EXPECT(IsListEmpty(&events[i].Header.WaitListHead));
}

KTEST(wait_times_out, "")
{
    KEVENT event;
    KeInitializeEvent(&event, SynchronizationEvent, false);
    uint64_t start = KeQueryInterruptTime();
    EXPECT(KeWaitForSingleObject(&event, Executive, KernelMode, false,
                                 &moment) == STATUS_TIMEOUT);
    EXPECT(KeQueryInterruptTime() - start >= MS);
    EXPECT(IsListEmpty(&event.Header.WaitListHead));
    int64_t until = ke_query_system_time() + MS;
    EXPECT(KeWaitForSingleObject(&event, Executive, KernelMode, false,
                                 &until) == STATUS_TIMEOUT);
    EXPECT(ke_query_system_time() >= until);
    KeSetEvent(&event, IO_NO_INCREMENT);
    int64_t past = 1;
    EXPECT(KeWaitForSingleObject(&event, Executive, KernelMode, false,
                                 &past) == STATUS_SUCCESS);
    EXPECT(KeWaitForSingleObject(&event, Executive, KernelMode, false,
                                 &past) == STATUS_TIMEOUT);
    EXPECT(KeDelayExecutionThread(KernelMode, false, &moment) ==
           STATUS_SUCCESS);
}

KTEST(wait_below_dispatch_keeps_its_level, "IRQL-05")
{
    KEVENT event;
    KIRQL old;
    KeInitializeEvent(&event, NotificationEvent, false);
    KeRaiseIrql(APC_LEVEL, &old);
    NTSTATUS waited = KeWaitForSingleObject(&event, Executive, KernelMode,
                                            false, &moment);
    KIRQL after_wait = KeGetCurrentIrql();
    NTSTATUS delayed = KeDelayExecutionThread(KernelMode, false, &moment);
    KIRQL after_delay = KeGetCurrentIrql();
    KeLowerIrql(old);
    EXPECT(waited == STATUS_TIMEOUT && after_wait == APC_LEVEL);
    EXPECT(delayed == STATUS_SUCCESS && after_delay == APC_LEVEL);
}

static void end_at_once(void *context)
{
    (void)context;
}

KTEST(thread_object_stays_signalled, "")
{
    ktest_thread thread;
    ktest_start(&thread, end_at_once, NULL, KTEST_BELOW);
    void *object = thread.thread;
    EXPECT(poll(1, &object, WaitAny) == STATUS_TIMEOUT);
    EXPECT(ktest_wait(object) && ktest_wait(object));
    ktest_join(&thread);
}

// ---- A kernel APC in mid-wait ---------------------------------------------

static KEVENT *pulsed;

static void pulse_in_apc(KAPC *apc, KNORMAL_ROUTINE **normal, void **context,
                         void **a, void **b)
{
    (void)apc, (void)normal, (void)context, (void)a, (void)b;
    ktest_log('A');
    if (pulsed)
        KePulseEvent(pulsed, IO_NO_INCREMENT);
}

KTEST(wait_survives_a_kernel_apc, "SYN-04 APC-09")
{
    const int64_t timeout = 10 * ktest_bound;
    KEVENT event;
    void *objects[] = { &event };
    waiter w;
    KAPC apc;
    KeInitializeEvent(&event, SynchronizationEvent, false);
    start_waiter(&w, objects, 1, WaitAny, &timeout);
    KTHREAD *thread = w.thread.thread;
    uint64_t due = thread->Timer.node.key;
    KeInitializeApc(&apc, thread, pulse_in_apc, NULL, NULL, KernelMode, NULL);
    pulsed = NULL;
    EXPECT(KeInsertQueueApc(&apc, NULL, NULL, IO_NO_INCREMENT));
    EXPECT(ktest_logged("A") && ktest_is_waiting(&w.thread));
    EXPECT(thread->Timer.Header.Inserted && thread->Timer.node.key == due);
    pulsed = &event;    // while the thread is not on the event's list
    EXPECT(KeInsertQueueApc(&apc, NULL, NULL, IO_NO_INCREMENT));
    EXPECT(ktest_logged("AA") && ktest_is_waiting(&w.thread));
    EXPECT(event.Header.SignalState == 0);
    KePulseEvent(&event, IO_NO_INCREMENT);
    EXPECT(ktest_logged("AAw") && w.status == STATUS_SUCCESS);
    ktest_join(&w.thread);
}

KTEST(wait_times_out_after_an_apc, "SYN-04")
{
    const int64_t timeout = 20 * moment;
    KEVENT event;
    void *objects[] = { &event };
    waiter w;
    KAPC apc;
    pulsed = NULL;
    KeInitializeEvent(&event, SynchronizationEvent, false);
    start_waiter(&w, objects, 1, WaitAny, &timeout);
    KeInitializeApc(&apc, w.thread.thread, pulse_in_apc, NULL, NULL,
                    KernelMode, NULL);
    KeInsertQueueApc(&apc, NULL, NULL, IO_NO_INCREMENT);
    ktest_join(&w.thread);
    EXPECT(w.status == STATUS_TIMEOUT);
    EXPECT(IsListEmpty(&event.Header.WaitListHead));
}
