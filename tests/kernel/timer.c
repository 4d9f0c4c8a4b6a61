// timer.c - rules of timers (NT-SEMANTICS 3).

#include "tests/kernel/ktest.h"

enum { MS = 10000, TIMERS = 16 };

static const int64_t hour = -3600ll * 1000 * MS;
static const int64_t moment = -1ll * MS;    // 1 ms
static const int64_t past = 1;              // 1601
static const int64_t no_wait = 0;

static bool is_signalled(KTIMER *timer)
{
    return timer->Header.SignalState != 0;
}

static NTSTATUS poll(KTIMER *timer)
{
    return KeWaitForSingleObject(timer, Executive, KernelMode, false,
                                 &no_wait);
}

static void log_letter(KDPC *dpc, void *context, void *a, void *b)
{
    (void)dpc, (void)a, (void)b;
    ktest_log((char)(uintptr_t)context);
}

static void set_event(KDPC *dpc, void *context, void *a, void *b)
{
    (void)dpc, (void)a, (void)b;
    KeSetEvent(context, IO_NO_INCREMENT);
}

KTEST(timer_set_replaces, "TMR-01")
{
    KTIMER timer;
    KDPC old, new;
    KeInitializeTimerEx(&timer, NotificationTimer);
    KeInitializeDpc(&old, log_letter, (void *)'o');
    KeInitializeDpc(&new, log_letter, (void *)'n');
    EXPECT(!KeSetTimerEx(&timer, moment, 0, &old));
    EXPECT(ktest_wait(&timer));
    EXPECT(ktest_logged("o") && is_signalled(&timer));
    EXPECT(!KeSetTimerEx(&timer, hour, 0, &old));
    EXPECT(!is_signalled(&timer));
    EXPECT(KeSetTimerEx(&timer, moment, 0, &new));
    EXPECT(ktest_wait(&timer));
    EXPECT(ktest_logged("on"));
    EXPECT(!KeCancelTimer(&timer));
}

KTEST(timer_in_the_past, "TMR-01")
{
    KTIMER timer;
    KDPC dpc;
    KeInitializeTimerEx(&timer, NotificationTimer);
    KeInitializeDpc(&dpc, log_letter, (void *)'d');
    EXPECT(!KeSetTimerEx(&timer, past, 0, &dpc));
    EXPECT(is_signalled(&timer));
    EXPECT(ktest_logged("d"));
    EXPECT(!KeSetTimerEx(&timer, 0, 0, NULL));
    EXPECT(is_signalled(&timer));
    EXPECT(!KeSetTimerEx(&timer, past, 60000, NULL));    // and goes on
    EXPECT(is_signalled(&timer) && KeCancelTimer(&timer));
}

KTEST(timer_in_the_past_from_dispatch, "TMR-01 TMR-02")
{
    KTIMER timer;
    KDPC dpc;
    KeInitializeTimerEx(&timer, NotificationTimer);
    KeInitializeDpc(&dpc, log_letter, (void *)'d');
    KIRQL old = KeRaiseIrqlToDpcLevel();
    KeSetTimerEx(&timer, past, 0, &dpc);
    bool early = is_signalled(&timer);
    ktest_log('1');
    KeLowerIrql(old);
    ktest_log('2');
    EXPECT(!early && is_signalled(&timer));
    EXPECT(ktest_logged("1d2"));
}

KTEST(timer_absolute, "TMR-01")
{
    KTIMER timer;
    KeInitializeTimerEx(&timer, NotificationTimer);
    int64_t due = ke_query_system_time() + 2 * MS;
    KeSetTimerEx(&timer, due, 0, NULL);
    EXPECT(ktest_wait(&timer));
    EXPECT(ke_query_system_time() >= due);
}

KTEST(timer_is_not_early, "TMR-01")
{
    KTIMER timer;
    KeInitializeTimerEx(&timer, NotificationTimer);
    uint64_t start = KeQueryInterruptTime();
    KeSetTimerEx(&timer, 3 * moment, 0, NULL);
    EXPECT(ktest_wait(&timer));
    EXPECT(KeQueryInterruptTime() - start >= 3 * MS);
}

// ---- Who expires it, and when ---------------------------------------------

typedef struct expiry {
    KTIMER timer;
    KDPC dpc;
    ktest_thread waiter;
    bool signalled, waiter_released, as_dpc;
} expiry;

static void wait_for_timer(void *context)
{
    KeWaitForSingleObject(context, Executive, KernelMode, false, NULL);
    ktest_log('T');
}

static void look_at_expiry(KDPC *dpc, void *context, void *a, void *b)
{
    (void)dpc, (void)a, (void)b;
    expiry *e = context;
    ktest_log('D');
    e->signalled = is_signalled(&e->timer);
    e->waiter_released = !ktest_is_waiting(&e->waiter);
    e->as_dpc = KeGetCurrentPrcb()->dpc_active &&
                KeGetCurrentPrcb()->interrupt_depth == 0;
}

KTEST(timer_expires_at_dispatch, "TMR-02 DPC-13")
{
    expiry e = { .signalled = false };
    KeInitializeTimerEx(&e.timer, NotificationTimer);
    KeInitializeDpc(&e.dpc, look_at_expiry, &e);
    ktest_start(&e.waiter, wait_for_timer, &e.timer, KTEST_ABOVE);

    KIRQL old = KeRaiseIrqlToDpcLevel();
    KeSetTimerEx(&e.timer, moment, 0, &e.dpc);
    // Until the clock came: that it was here is what the processor notes.
    uint64_t start = KeQueryInterruptTime();
    bool came = false;
    while (!came && KeQueryInterruptTime() - start <
                        (uint64_t)KTEST_BOUND_SECONDS * 1000 * MS)
        came = KeGetCurrentPrcb()->timer_expired;
    bool early = is_signalled(&e.timer);
    ktest_log('1');
    KeLowerIrql(old);
    ktest_log('2');
    EXPECT(came && !early);
    EXPECT(ktest_logged("1DT2"));
    EXPECT(e.signalled && e.waiter_released && e.as_dpc);
    ktest_join(&e.waiter);
}

static bool is_among(uint64_t key, const uint64_t *keys, int count)
{
    for (int i = 0; i < count; i++)
        if (keys[i] == key)
            return true;
    return false;
}

KTEST(timers_expire_in_order, "TMR-02")
{
    KTIMER timers[TIMERS];
    KDPC dpcs[TIMERS];
    char expected[TIMERS + 1] = "";
    uint64_t key[TIMERS], seen = 0;
    KIRQL old = KeRaiseIrqlToDpcLevel();
    for (int i = 0; i < TIMERS; i++) {
        KeInitializeTimerEx(&timers[i], NotificationTimer);
        KeInitializeDpc(&dpcs[i], log_letter, (void *)(uintptr_t)('a' + i));
        do {    // equal ones would prove nothing
            KeSetTimerEx(&timers[i],
                         moment - (int64_t)(ktest_random() % (5 * MS)), 0,
                         &dpcs[i]);
            key[i] = timers[i].node.key;
        } while (is_among(key[i], key, i));
    }
    KeLowerIrql(old);
    for (int n = 0; n < TIMERS; n++) {
        int first = 0;
        for (int i = 1; i < TIMERS; i++)
            first = key[i] < key[first] ? i : first;
        expected[n] = (char)('a' + first);
        EXPECT(key[first] > seen);
        seen = key[first];
        key[first] = ~0ull;
    }
    for (int i = 0; i < TIMERS; i++)
        EXPECT(ktest_wait(&timers[i]));
    KeFlushQueuedDpcs();    // the last one may run on another processor
    EXPECT(ktest_logged(expected));
}

// ---- Kinds ----------------------------------------------------------------

typedef struct waiters {
    KTIMER timer;
    KDPC dpc;
    KEVENT expired;
    ktest_thread threads[2];
} waiters;

static void start_waiters(waiters *w, TIMER_TYPE type)
{
    KeInitializeTimerEx(&w->timer, type);
    KeInitializeEvent(&w->expired, SynchronizationEvent, false);
    KeInitializeDpc(&w->dpc, set_event, &w->expired);
    for (size_t i = 0; i < ARRAY_SIZE(w->threads); i++)
        ktest_start(&w->threads[i], wait_for_timer, &w->timer, KTEST_ABOVE);
}

KTEST(timer_notification, "TMR-03")
{
    waiters w;
    start_waiters(&w, NotificationTimer);
    KeSetTimerEx(&w.timer, moment, 0, &w.dpc);
    EXPECT(ktest_wait(&w.expired));
    EXPECT(ktest_logged("TT"));
    EXPECT(poll(&w.timer) == STATUS_SUCCESS);
    EXPECT(poll(&w.timer) == STATUS_SUCCESS);
    ktest_join(&w.threads[0]);
    ktest_join(&w.threads[1]);
}

KTEST(timer_synchronization, "TMR-03")
{
    waiters w;
    start_waiters(&w, SynchronizationTimer);
    KeSetTimerEx(&w.timer, moment, 0, &w.dpc);
    EXPECT(ktest_wait(&w.expired));
    EXPECT(ktest_logged("T"));
    EXPECT(!ktest_is_waiting(&w.threads[0]) && ktest_is_waiting(&w.threads[1]));
    EXPECT(poll(&w.timer) == STATUS_TIMEOUT);
    KeSetTimerEx(&w.timer, moment, 0, &w.dpc);
    EXPECT(ktest_wait(&w.expired));
    EXPECT(ktest_logged("TT"));
    KeSetTimerEx(&w.timer, moment, 0, &w.dpc);    // nobody waits
    EXPECT(ktest_wait(&w.expired));
    EXPECT(poll(&w.timer) == STATUS_SUCCESS);
    EXPECT(poll(&w.timer) == STATUS_TIMEOUT);
    ktest_join(&w.threads[0]);
    ktest_join(&w.threads[1]);
}

KTEST(timer_periodic, "TMR-04 TMR-03")
{
    enum { ROUNDS = 4 };
    KTIMER timer;
    KeInitializeTimerEx(&timer, SynchronizationTimer);
    KeSetTimerEx(&timer, moment, 1, NULL);
    for (int i = 0; i < ROUNDS; i++)
        EXPECT(ktest_wait(&timer));
    EXPECT(KeCancelTimer(&timer));
    EXPECT(!KeCancelTimer(&timer));
}

KTEST(timer_no_longer_periodic, "TMR-04 TMR-01")
{
    KTIMER timer;
    KDPC dpc;
    KEVENT expired;
    KeInitializeTimerEx(&timer, NotificationTimer);
    KeInitializeEvent(&expired, SynchronizationEvent, false);
    KeInitializeDpc(&dpc, set_event, &expired);
    KeSetTimerEx(&timer, moment, 1, &dpc);
    EXPECT(ktest_wait(&expired));
    KIRQL old = KeRaiseIrqlToDpcLevel();
    bool was_set = KeSetTimerEx(&timer, moment, 0, &dpc);
    KeClearEvent(&expired);
    KeLowerIrql(old);
    EXPECT(was_set);
    EXPECT(ktest_wait(&expired));
    EXPECT(!timer.Header.Inserted && !KeCancelTimer(&timer));
}

KTEST(timer_cancel, "TMR-04")
{
    KTIMER timer, later;
    KDPC dpc;
    KeInitializeTimerEx(&timer, NotificationTimer);
    KeInitializeTimerEx(&later, NotificationTimer);
    KeInitializeDpc(&dpc, log_letter, (void *)'d');
    EXPECT(!KeCancelTimer(&timer));
    KIRQL old = KeRaiseIrqlToDpcLevel();
    KeSetTimerEx(&timer, moment, 0, &dpc);
    KeSetTimerEx(&later, 2 * moment, 0, NULL);
    bool was_set = KeCancelTimer(&timer);
    KeLowerIrql(old);
    EXPECT(was_set);
    EXPECT(ktest_wait(&later));    // its time is over, too
    EXPECT(!is_signalled(&timer) && ktest_logged(""));
    EXPECT(!KeCancelTimer(&timer));
    EXPECT(!KeCancelTimer(&later));    // expired
}

static KTIMER cancelled_inside;
static bool cancel_result;

static void cancel_timer(KDPC *dpc, void *context, void *a, void *b)
{
    (void)dpc, (void)context, (void)a, (void)b;
    ktest_log('c');
    cancel_result = KeCancelTimer(&cancelled_inside);
}

KTEST(timer_cancel_leaves_a_queued_dpc, "TMR-04")
{
    KDPC first, dpc;
    KeInitializeTimerEx(&cancelled_inside, NotificationTimer);
    KeInitializeDpc(&first, cancel_timer, NULL);
    KeInitializeDpc(&dpc, log_letter, (void *)'d');
    cancel_result = true;
    // Both go in one drain: the timer expires, its DPC comes second.
    KIRQL old = KeRaiseIrqlToDpcLevel();
    KeInsertQueueDpc(&first, NULL, NULL);
    KeSetTimerEx(&cancelled_inside, past, 0, &dpc);
    KeLowerIrql(old);
    EXPECT(!cancel_result && is_signalled(&cancelled_inside));
    EXPECT(ktest_logged("cd"));
}
