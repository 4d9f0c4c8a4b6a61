// apc.c - asynchronous procedure calls inside the kernel (NT-SEMANTICS 5).
//
// Each APC logs its letter: the capital in its KernelRoutine, the small one in
// its NormalRoutine, 'x' and its capital when it is run down.

#include "tests/kernel/ktest.h"

#include "kernel/ke/kep.h"

#define TAG EX_TAG('K', 't', 's', 't')

enum { SMALL = 'a' - 'A', MS = 10000 };

static const int64_t moment = -1ll * MS;
static const int64_t no_wait = 0;

typedef struct test_apc {
    KAPC apc;
    char letter;
    KIRQL kernel_irql, normal_irql;
    bool was_inserted;           // while its KernelRoutine ran
    KTHREAD *thread;             // that ran it
    void (*more)(struct test_apc *apc);    // in its KernelRoutine, or NULL
} test_apc;

static void kernel_routine(KAPC *apc, KNORMAL_ROUTINE **normal, void **context,
                           void **a, void **b)
{
    (void)normal, (void)context, (void)a, (void)b;
    test_apc *t = CONTAINING_RECORD(apc, test_apc, apc);
    ktest_log(t->letter);
    t->kernel_irql = KeGetCurrentIrql();
    t->was_inserted = apc->Inserted;
    t->thread = KeGetCurrentThread();
    if (t->more)
        t->more(t);
}

static void normal_routine(void *context, void *a, void *b)
{
    (void)a, (void)b;
    test_apc *t = context;
    ktest_log((char)(t->letter + SMALL));
    t->normal_irql = KeGetCurrentIrql();
}

static void rundown_routine(KAPC *apc)
{
    ktest_log('x');
    ktest_log(CONTAINING_RECORD(apc, test_apc, apc)->letter);
}

// normal NULL: special. mode: of the others.
static void initialize(test_apc *t, KTHREAD *thread, char letter,
                       KNORMAL_ROUTINE *normal, KPROCESSOR_MODE mode)
{
    *t = (test_apc){ .letter = letter, .kernel_irql = HIGH_LEVEL,
                     .normal_irql = HIGH_LEVEL };
    KeInitializeApc(&t->apc, thread, kernel_routine, rundown_routine, normal,
                    mode, t);
}

static bool insert(test_apc *t)
{
    return KeInsertQueueApc(&t->apc, NULL, NULL, IO_NO_INCREMENT);
}

KTEST(apc_kinds, "APC-01")
{
    test_apc special, normal, user;
    KTHREAD *thread = KeGetCurrentThread();
    initialize(&special, thread, 'S', NULL, UserMode);
    initialize(&normal, thread, 'N', normal_routine, KernelMode);
    initialize(&user, thread, 'U', normal_routine, UserMode);
    EXPECT(special.apc.ApcMode == KernelMode);
    EXPECT(normal.apc.ApcMode == KernelMode && user.apc.ApcMode == UserMode);
    EXPECT(!special.apc.Inserted && special.apc.Thread == thread);
    EXPECT(insert(&special));    // a kernel one: it has run
    EXPECT(insert(&user));       // this thread never enters ring 3
    EXPECT(ktest_logged("S"));
    EXPECT(KeRemoveQueueApc(&user.apc));
}

KTEST(apc_is_queued_once, "APC-02")
{
    test_apc t;
    initialize(&t, KeGetCurrentThread(), 'N', normal_routine, KernelMode);
    KeEnterCriticalRegion();
    EXPECT(insert(&t));
    EXPECT(!insert(&t));
    EXPECT(KeRemoveQueueApc(&t.apc));
    EXPECT(!KeRemoveQueueApc(&t.apc));
    KeLeaveCriticalRegion();
    EXPECT(ktest_logged(""));
    EXPECT(insert(&t));
    EXPECT(ktest_logged("Nn"));
}

static void end_at_once(void *context)
{
    (void)context;
}

KTEST(apc_to_an_ended_thread, "APC-02")
{
    ktest_thread thread;
    test_apc special, user;
    ktest_start(&thread, end_at_once, NULL, KTEST_ABOVE);
    EXPECT(ktest_wait(thread.thread));
    initialize(&special, thread.thread, 'S', NULL, KernelMode);
    initialize(&user, thread.thread, 'U', normal_routine, UserMode);
    EXPECT(!insert(&special) && !insert(&user));
    EXPECT(!special.apc.Inserted && !user.apc.Inserted);
    EXPECT(ktest_logged(""));
    ktest_join(&thread);
}

KTEST(apc_order, "APC-03 APC-04")
{
    KTHREAD *thread = KeGetCurrentThread();
    test_apc n, s, m, t;
    initialize(&n, thread, 'N', normal_routine, KernelMode);
    initialize(&s, thread, 'S', NULL, KernelMode);
    initialize(&m, thread, 'M', normal_routine, KernelMode);
    initialize(&t, thread, 'T', NULL, KernelMode);
    KeEnterGuardedRegion();
    EXPECT(insert(&n) && insert(&s) && insert(&m) && insert(&t));
    KeLeaveGuardedRegion();
    EXPECT(ktest_logged("STNnMm"));
    EXPECT(s.kernel_irql == APC_LEVEL && n.kernel_irql == APC_LEVEL);
    EXPECT(n.normal_irql == PASSIVE_LEVEL && m.normal_irql == PASSIVE_LEVEL);
    EXPECT(s.thread == thread && KeGetCurrentIrql() == PASSIVE_LEVEL);
}

static void change_arguments(KAPC *apc, KNORMAL_ROUTINE **normal,
                             void **context, void **a, void **b)
{
    EXPECT(*normal == apc->NormalRoutine && *context == (void *)1);
    EXPECT(*a == (void *)2 && *b == (void *)3);
    *context = (void *)11;
    *a = (void *)12;
    *b = (void *)13;
}

static void suppress(KAPC *apc, KNORMAL_ROUTINE **normal, void **context,
                     void **a, void **b)
{
    (void)apc, (void)context, (void)a, (void)b;
    ktest_log('S');
    *normal = NULL;
}

static void *normal_got[3];

static void note_arguments(void *context, void *a, void *b)
{
    ktest_log('n');
    normal_got[0] = context;
    normal_got[1] = a;
    normal_got[2] = b;
}

static void add_normal(KAPC *apc, KNORMAL_ROUTINE **normal, void **context,
                       void **a, void **b)
{
    (void)apc, (void)context, (void)a, (void)b;
    ktest_log('A');
    EXPECT(*normal == NULL);
    *normal = note_arguments;
}

KTEST(apc_kernel_routine_decides, "APC-05")
{
    KAPC apc;
    KeInitializeApc(&apc, KeGetCurrentThread(), change_arguments, NULL,
                    note_arguments, KernelMode, (void *)1);
    EXPECT(KeInsertQueueApc(&apc, (void *)2, (void *)3, IO_NO_INCREMENT));
    EXPECT(ktest_logged("n"));
    EXPECT(normal_got[0] == (void *)11 && normal_got[1] == (void *)12 &&
           normal_got[2] == (void *)13);
    KeInitializeApc(&apc, KeGetCurrentThread(), suppress, NULL, note_arguments,
                    KernelMode, NULL);
    EXPECT(KeInsertQueueApc(&apc, NULL, NULL, IO_NO_INCREMENT));
    EXPECT(ktest_logged("nS"));
    // It takes the second half away; a special one has none to give.
    KeInitializeApc(&apc, KeGetCurrentThread(), add_normal, NULL, NULL,
                    KernelMode, NULL);
    EXPECT(KeInsertQueueApc(&apc, NULL, NULL, IO_NO_INCREMENT));
    EXPECT(ktest_logged("nSA"));
}

static int rounds;

static void insert_again(test_apc *t)
{
    if (--rounds > 0)
        EXPECT(insert(t));
}

static void free_it(test_apc *t)
{
    ExFreePoolWithTag(t, TAG);
}

KTEST(apc_is_off_the_list_when_it_runs, "APC-06")
{
    test_apc special, normal;
    initialize(&special, KeGetCurrentThread(), 'S', NULL, KernelMode);
    initialize(&normal, KeGetCurrentThread(), 'N', normal_routine, KernelMode);
    special.more = normal.more = insert_again;
    special.was_inserted = normal.was_inserted = true;
    rounds = 3;
    EXPECT(insert(&special));
    EXPECT(ktest_logged("SSS") && !special.was_inserted);
    ktest_log_reset();
    rounds = 2;
    EXPECT(insert(&normal));
    EXPECT(ktest_logged("NnNn") && !normal.was_inserted);
}

KTEST(apc_is_freed_by_its_routine, "APC-06")
{
    for (int kind = 0; kind < 2; kind++) {
        test_apc *t = ExAllocatePoolWithTag(NonPagedPool, sizeof(*t), TAG);
        EXPECT(t);
        if (!t)
            return;
        initialize(t, KeGetCurrentThread(), 'F',
                   kind ? note_arguments : NULL, KernelMode);
        t->more = free_it;
        EXPECT(KeInsertQueueApc(&t->apc, (void *)5, NULL, IO_NO_INCREMENT));
    }
    EXPECT(ktest_logged("FFn") && normal_got[1] == (void *)5);
}

static test_apc inner_special, inner_normal;

static void insert_inside(void *context, void *a, void *b)
{
    (void)context, (void)a, (void)b;
    ktest_log('1');
    insert(&inner_normal);
    ktest_log('2');
    insert(&inner_special);
    ktest_log('3');
    // Nor does a turn on a handle, or a wait, inside let a normal one in.
    ke_hold_suspension();
    ke_allow_suspension();
    KeDelayExecutionThread(KernelMode, false, &moment);
    ktest_log('4');
}

KTEST(apc_one_normal_at_a_time, "APC-07 APC-08")
{
    test_apc outer;
    initialize(&outer, KeGetCurrentThread(), 'O', insert_inside, KernelMode);
    initialize(&inner_normal, KeGetCurrentThread(), 'N', normal_routine,
               KernelMode);
    initialize(&inner_special, KeGetCurrentThread(), 'S', NULL, KernelMode);
    EXPECT(insert(&outer));
    EXPECT(ktest_logged("O12S34Nn"));
}

static KEVENT set_inside;

static void set_it(test_apc *)
{
    KeSetEvent(&set_inside, IO_NO_INCREMENT);
}

// Queued from elsewhere, and its interrupt is still on its way when a wait
// begins: it comes first, as the wait may be for what it does.
KTEST(apc_that_is_pending_comes_before_the_wait, "APC-09 APC-08")
{
    test_apc t;
    KeInitializeEvent(&set_inside, NotificationEvent, false);
    initialize(&t, KeGetCurrentThread(), 'S', NULL, KernelMode);
    t.more = set_it;
    KeEnterGuardedRegion();
    insert(&t);
    KeGetCurrentThread()->SpecialApcDisable = 0;    // without looking
    EXPECT(KeWaitForSingleObject(&set_inside, Executive, KernelMode, false,
                                 &moment) == STATUS_SUCCESS);
    EXPECT(ktest_logged("S"));
}

KTEST(apc_to_oneself, "APC-08")
{
    test_apc t;
    KIRQL old;
    initialize(&t, KeGetCurrentThread(), 'S', NULL, KernelMode);
    insert(&t);
    ktest_log('1');
    for (KIRQL level = APC_LEVEL; level <= DISPATCH_LEVEL; level++) {
        KeRaiseIrql(level, &old);
        insert(&t);
        ktest_log('2');
        KeLowerIrql(APC_LEVEL);
        ktest_log('3');
        KeLowerIrql(old);
        ktest_log('4');
    }
    EXPECT(ktest_logged("S123S423S4"));
    EXPECT(t.kernel_irql == APC_LEVEL);
}

static void insert_from_dpc(KDPC *dpc, void *context, void *a, void *b)
{
    (void)dpc, (void)a, (void)b;
    insert(context);
    ktest_log('d');
}

KTEST(apc_from_a_dpc, "APC-08 IRQL-04")
{
    test_apc t;
    KDPC dpc;
    KIRQL old;
    initialize(&t, KeGetCurrentThread(), 'S', NULL, KernelMode);
    KeInitializeDpc(&dpc, insert_from_dpc, &t);
    KeInsertQueueDpc(&dpc, NULL, NULL);
    ktest_log('1');
    KeRaiseIrql(APC_LEVEL, &old);
    KeInsertQueueDpc(&dpc, NULL, NULL);
    ktest_log('2');
    KeLowerIrql(old);
    ktest_log('3');
    KeRaiseIrql(DISPATCH_LEVEL, &old);
    KeInsertQueueDpc(&dpc, NULL, NULL);
    ktest_log('4');
    KeLowerIrql(APC_LEVEL);
    ktest_log('5');
    KeLowerIrql(old);
    ktest_log('6');
    EXPECT(ktest_logged("dS1d2S34d5S6"));
}

// ---- To a thread that waits -----------------------------------------------

typedef struct waiter {
    ktest_thread thread;
    KEVENT event;
    KIRQL irql;                  // the wait begins at
    bool critical, guarded;
    KPROCESSOR_MODE mode;
    bool alertable;
    const int64_t *timeout;
    NTSTATUS status, second;
    int waits;                   // how many, one after the other
} waiter;

static void wait_somehow(void *context)
{
    waiter *w = context;
    KIRQL old;
    if (w->critical)
        KeEnterCriticalRegion();
    if (w->guarded)
        KeEnterGuardedRegion();
    KeRaiseIrql(w->irql, &old);
    NTSTATUS *status[] = { &w->status, &w->second };
    for (int i = 0; i < w->waits; i++) {
        *status[i] = KeWaitForSingleObject(&w->event, Executive, w->mode,
                                           w->alertable, w->timeout);
        ktest_log('w');
    }
    KeLowerIrql(old);
    if (w->guarded)
        KeLeaveGuardedRegion();
    if (w->critical)
        KeLeaveCriticalRegion();
}

static void start_waiter(waiter *w)
{
    KeInitializeEvent(&w->event, SynchronizationEvent, false);
    w->status = w->second = STATUS_PENDING;
    w->waits = MAX(w->waits, 1);
    ktest_start(&w->thread, wait_somehow, w, KTEST_ABOVE);
    EXPECT(ktest_is_waiting(&w->thread));
}

static void end_waiter(waiter *w)
{
    KeSetEvent(&w->event, IO_NO_INCREMENT);
    ktest_join(&w->thread);
}

// True if the thread is where it was, not even woken for nothing: that would
// have cost it its place among the waiters.
static bool slept_on(const waiter *w, uint64_t switches)
{
    return ktest_is_waiting(&w->thread) &&
           w->thread.thread->ContextSwitches == switches;
}

KTEST(apc_wakes_a_waiter_for_itself, "APC-09 APC-04")
{
    waiter w = { .mode = KernelMode };
    test_apc special, normal;
    start_waiter(&w);
    initialize(&special, w.thread.thread, 'S', NULL, KernelMode);
    initialize(&normal, w.thread.thread, 'N', normal_routine, KernelMode);
    EXPECT(insert(&special));
    EXPECT(ktest_logged("S") && ktest_is_waiting(&w.thread));
    EXPECT(insert(&normal));
    EXPECT(ktest_logged("SNn") && ktest_is_waiting(&w.thread));
    EXPECT(special.thread == w.thread.thread);
    EXPECT(special.kernel_irql == APC_LEVEL &&
           normal.normal_irql == PASSIVE_LEVEL);
    end_waiter(&w);
    EXPECT(w.status == STATUS_SUCCESS && ktest_logged("SNnw"));
}

KTEST(apc_leaves_a_wait_at_apc_level, "APC-09")
{
    waiter w = { .irql = APC_LEVEL };
    test_apc special;
    start_waiter(&w);
    initialize(&special, w.thread.thread, 'S', NULL, KernelMode);
    uint64_t switches = w.thread.thread->ContextSwitches;
    EXPECT(insert(&special));
    EXPECT(ktest_logged("") && slept_on(&w, switches));
    end_waiter(&w);
    EXPECT(ktest_logged("wS"));
}

KTEST(apc_leaves_a_wait_in_a_guarded_region, "APC-09 REG-03")
{
    waiter w = { .guarded = true };
    test_apc special;
    start_waiter(&w);
    initialize(&special, w.thread.thread, 'S', NULL, KernelMode);
    uint64_t switches = w.thread.thread->ContextSwitches;
    EXPECT(insert(&special));
    EXPECT(ktest_logged("") && slept_on(&w, switches));
    end_waiter(&w);
    EXPECT(ktest_logged("wS"));
}

KTEST(apc_in_a_critical_region_is_special, "APC-09 REG-03")
{
    waiter w = { .critical = true };
    test_apc special, normal;
    start_waiter(&w);
    initialize(&special, w.thread.thread, 'S', NULL, KernelMode);
    initialize(&normal, w.thread.thread, 'N', normal_routine, KernelMode);
    uint64_t switches = w.thread.thread->ContextSwitches;
    EXPECT(insert(&normal));
    EXPECT(ktest_logged("") && slept_on(&w, switches));
    EXPECT(insert(&special));
    EXPECT(ktest_logged("S") && ktest_is_waiting(&w.thread));
    end_waiter(&w);
    EXPECT(ktest_logged("SwNn"));
}

static KEVENT inner_event;

static void wait_inside(void *context, void *a, void *b)
{
    (void)context, (void)a, (void)b;
    ktest_log('1');
    KeWaitForSingleObject(&inner_event, Executive, KernelMode, false, NULL);
    ktest_log('2');
}

KTEST(apc_waits_for_a_normal_in_progress, "APC-09 APC-07 SYN-04")
{
    waiter w = { .mode = KernelMode };
    test_apc outer, special, normal;
    KeInitializeEvent(&inner_event, SynchronizationEvent, false);
    start_waiter(&w);
    initialize(&outer, w.thread.thread, 'O', wait_inside, KernelMode);
    initialize(&special, w.thread.thread, 'S', NULL, KernelMode);
    initialize(&normal, w.thread.thread, 'N', normal_routine, KernelMode);
    EXPECT(insert(&outer));
    EXPECT(ktest_logged("O1") && ktest_is_waiting(&w.thread));
    uint64_t switches = w.thread.thread->ContextSwitches;
    EXPECT(insert(&normal));
    EXPECT(ktest_logged("O1") && slept_on(&w, switches));
    EXPECT(insert(&special));
    EXPECT(ktest_logged("O1S") && ktest_is_waiting(&w.thread));
    KeSetEvent(&inner_event, IO_NO_INCREMENT);
    EXPECT(ktest_logged("O1S2Nn") && ktest_is_waiting(&w.thread));
    end_waiter(&w);
    EXPECT(w.status == STATUS_SUCCESS && ktest_logged("O1S2Nnw"));
}

KTEST(apc_to_a_ready_thread, "APC-08")
{
    waiter w = { .mode = KernelMode };
    test_apc special;
    start_waiter(&w);
    initialize(&special, w.thread.thread, 'S', NULL, KernelMode);
    KIRQL old = KeRaiseIrqlToDpcLevel();
    KeSetEvent(&w.event, IO_NO_INCREMENT);    // ready, but cannot run yet
    insert(&special);
    ktest_log('1');
    KeLowerIrql(old);
    EXPECT(ktest_logged("1Sw"));
    ktest_join(&w.thread);
}

// ---- User APCs and alerts -------------------------------------------------

static void expect_user_apc(KPROCESSOR_MODE mode, bool alertable, bool at_head,
                            bool ends)
{
    waiter w = { .mode = mode, .alertable = alertable };
    test_apc user;
    start_waiter(&w);
    initialize(&user, w.thread.thread, 'U', normal_routine, UserMode);
    user.apc.at_head = at_head;
    EXPECT(insert(&user));
    EXPECT(ktest_is_waiting(&w.thread) == !ends);
    EXPECT(user.apc.Inserted || ends);    // the thread has ended with it
    end_waiter(&w);
    EXPECT(w.status == (ends ? STATUS_USER_APC : STATUS_SUCCESS));
    EXPECT(ktest_logged("wxU"));    // it never ran: ring 0 has no such way
    ktest_log_reset();
}

KTEST(user_apc_ends_an_alertable_user_wait, "APC-10")
{
    expect_user_apc(UserMode, true, false, true);
    expect_user_apc(UserMode, false, false, false);
    expect_user_apc(KernelMode, true, false, false);
    expect_user_apc(KernelMode, false, false, false);
}

KTEST(exit_apc_ends_any_user_wait, "APC-10")
{
    expect_user_apc(UserMode, true, true, true);
    expect_user_apc(UserMode, false, true, true);
    expect_user_apc(KernelMode, true, true, false);
    expect_user_apc(KernelMode, false, true, false);
}

KTEST(user_apc_before_the_wait, "APC-10")
{
    test_apc user;
    KEVENT event;
    KeInitializeEvent(&event, NotificationEvent, false);
    initialize(&user, KeGetCurrentThread(), 'U', normal_routine, UserMode);
    EXPECT(insert(&user));
    EXPECT(KeWaitForSingleObject(&event, Executive, KernelMode, true,
                                 &no_wait) == STATUS_TIMEOUT);
    EXPECT(KeWaitForSingleObject(&event, Executive, UserMode, false,
                                 &no_wait) == STATUS_TIMEOUT);
    EXPECT(KeWaitForSingleObject(&event, Executive, UserMode, true,
                                 &no_wait) == STATUS_USER_APC);
    EXPECT(KeRemoveQueueApc(&user.apc));
    EXPECT(!KeGetCurrentThread()->ApcState.UserApcPending);
}

// On the way to ring 3, which this thread only pretends to be on: nothing is
// to run there, and the next one gets its turn.
KTEST(user_apc_suppressed_by_its_kernel_routine, "APC-05 APC-14")
{
    KTHREAD *thread = KeGetCurrentThread();
    test_apc first, second;
    KTRAP_FRAME frame, before;
    KIRQL old;
    initialize(&first, thread, 'U', normal_routine, UserMode);
    initialize(&second, thread, 'V', normal_routine, UserMode);
    first.apc.KernelRoutine = second.apc.KernelRoutine = suppress;
    EXPECT(insert(&first) && insert(&second));
    memset(&frame, 0, sizeof(frame));
    before = frame;
    KeRaiseIrql(APC_LEVEL, &old);
    KiDeliverApc(UserMode, &frame);
    EXPECT(ktest_logged("S") && thread->ApcState.UserApcPending);
    KiDeliverApc(UserMode, &frame);
    EXPECT(ktest_logged("SS"));
    KiDeliverApc(UserMode, &frame);    // no more, and nothing pending
    EXPECT(ktest_logged("SS") && !thread->ApcState.UserApcPending);
    KeLowerIrql(old);
    EXPECT(!memcmp(&frame, &before, sizeof(frame)));
}

KTEST(alert_ends_one_alertable_wait, "APC-11")
{
    for (int mode = KernelMode; mode <= UserMode; mode++) {
        waiter w = { .mode = (KPROCESSOR_MODE)mode, .alertable = true,
                     .waits = 2 };
        start_waiter(&w);
        EXPECT(!KeAlertThread(w.thread.thread, (KPROCESSOR_MODE)mode));
        EXPECT(w.status == STATUS_ALERTED && ktest_is_waiting(&w.thread));
        end_waiter(&w);
        EXPECT(w.second == STATUS_SUCCESS);    // once
    }
}

KTEST(alert_waits_for_an_alertable_wait, "APC-11")
{
    KTHREAD *thread = KeGetCurrentThread();
    KEVENT event;
    KeInitializeEvent(&event, NotificationEvent, false);
    for (int mode = KernelMode; mode <= UserMode; mode++) {
        KPROCESSOR_MODE m = (KPROCESSOR_MODE)mode;
        EXPECT(!KeAlertThread(thread, m));
        EXPECT(KeAlertThread(thread, m));    // already
        EXPECT(KeWaitForSingleObject(&event, Executive, m, false, &no_wait) ==
               STATUS_TIMEOUT);
        EXPECT(KeWaitForSingleObject(&event, Executive, m, true,
                                     &ktest_bound) == STATUS_ALERTED);
        EXPECT(KeWaitForSingleObject(&event, Executive, m, true, &no_wait) ==
               STATUS_TIMEOUT);
        EXPECT(!KeAlertThread(thread, m));
        EXPECT(KeTestAlertThread(m));
        EXPECT(!KeTestAlertThread(m));
    }
}

// A kernel alert ends waits of either mode, a user alert only UserMode ones; it
// waits for one that it may end.
KTEST(alert_of_one_mode_and_wait_of_another, "APC-11")
{
    for (int mode = KernelMode; mode <= UserMode; mode++) {
        waiter w = { .mode = (KPROCESSOR_MODE)!mode, .alertable = true,
                     .waits = 2 };
        bool ends = mode == KernelMode;
        start_waiter(&w);
        EXPECT(!KeAlertThread(w.thread.thread, (KPROCESSOR_MODE)mode));
        EXPECT(w.status == (ends ? STATUS_ALERTED : STATUS_PENDING));
        EXPECT(w.thread.thread->Alerted[mode] == !ends);
        KeSetEvent(&w.event, IO_NO_INCREMENT);
        if (!ends)
            KeSetEvent(&w.event, IO_NO_INCREMENT);
        ktest_join(&w.thread);
        EXPECT((ends ? w.second : w.status) == STATUS_SUCCESS);
    }
    KTHREAD *thread = KeGetCurrentThread();
    KEVENT event;
    KeInitializeEvent(&event, NotificationEvent, false);
    EXPECT(!KeAlertThread(thread, UserMode));
    EXPECT(KeWaitForSingleObject(&event, Executive, KernelMode, true,
                                 &no_wait) == STATUS_TIMEOUT);
    EXPECT(!KeAlertThread(thread, KernelMode));
    for (int i = 0; i < 2; i++)
        EXPECT(KeWaitForSingleObject(&event, Executive, UserMode, true,
                                     &no_wait) == STATUS_ALERTED);
    EXPECT(KeWaitForSingleObject(&event, Executive, UserMode, true,
                                 &no_wait) == STATUS_TIMEOUT);
}

KTEST(alert_leaves_a_plain_wait, "APC-11")
{
    waiter w = { .mode = UserMode };
    start_waiter(&w);
    KeAlertThread(w.thread.thread, UserMode);
    EXPECT(ktest_is_waiting(&w.thread));
    end_waiter(&w);
    EXPECT(w.status == STATUS_SUCCESS);
}

KTEST(alert_comes_before_a_user_apc, "APC-11")
{
    KTHREAD *thread = KeGetCurrentThread();
    test_apc user;
    KEVENT event;
    KeInitializeEvent(&event, NotificationEvent, false);
    initialize(&user, thread, 'U', normal_routine, UserMode);
    EXPECT(insert(&user));
    KeAlertThread(thread, UserMode);
    EXPECT(KeWaitForSingleObject(&event, Executive, UserMode, true,
                                 &no_wait) == STATUS_ALERTED);
    EXPECT(KeWaitForSingleObject(&event, Executive, UserMode, true,
                                 &no_wait) == STATUS_USER_APC);
    EXPECT(KeRemoveQueueApc(&user.apc));
    EXPECT(!thread->ApcState.UserApcPending);
}

KTEST(alert_of_a_delay, "APC-11")
{
    KeAlertThread(KeGetCurrentThread(), KernelMode);
    EXPECT(KeDelayExecutionThread(KernelMode, true, &ktest_bound) ==
           STATUS_ALERTED);
    EXPECT(KeDelayExecutionThread(KernelMode, true, &moment) ==
           STATUS_SUCCESS);
}

// ---- A critical region holds back what would end or stop the thread --------

static void wait_in_a_region(void *context)
{
    waiter *w = context;
    KeEnterCriticalRegion();
    ktest_log('1');
    KeWaitForSingleObject(&w->event, Executive, KernelMode, true, NULL);
    ktest_log('2');
    KeLeaveCriticalRegion();    // stops here until it is resumed
    ktest_log('3');
}

KTEST(critical_region_holds_back_the_end, "APC-12 REG-03 APC-10")
{
    waiter w = { .waits = 1 };
    test_apc user, end;
    KeInitializeEvent(&w.event, SynchronizationEvent, false);
    ktest_start(&w.thread, wait_in_a_region, &w, KTEST_ABOVE);
    KTHREAD *thread = w.thread.thread;
    initialize(&user, thread, 'U', normal_routine, UserMode);
    initialize(&end, thread, 'E', normal_routine, UserMode);
    end.apc.at_head = true;    // termination
    uint64_t switches = thread->ContextSwitches;
    EXPECT(insert(&user) && insert(&end));
    EXPECT(KeSuspendThread(thread) == 0);
    EXPECT(ktest_logged("1") && slept_on(&w, switches));
    KeSetEvent(&w.event, IO_NO_INCREMENT);
    EXPECT(ktest_logged("12") && ktest_is_waiting(&w.thread));
    EXPECT(user.apc.Inserted && end.apc.Inserted);
    EXPECT(KeResumeThread(thread) == 1);
    ktest_join(&w.thread);
    EXPECT(ktest_logged("123xExU"));
}

// Not even a UserMode wait ends, alertable or not, where kernel APCs are held
// back; what came meanwhile ends the next one outside.
KTEST(regions_hold_back_user_apcs_and_the_end, "APC-12 REG-03 APC-10")
{
    enum { OUTSIDE, CRITICAL, GUARDED, RAISED, PLACES };
    for (int i = 0; i < PLACES * 4; i++) {
        int place = i / 4;
        bool ends = i & 1;
        waiter w = { .mode = UserMode, .alertable = i & 2,
                     .critical = place == CRITICAL,
                     .guarded = place == GUARDED,
                     .irql = place == RAISED ? APC_LEVEL : PASSIVE_LEVEL };
        test_apc user;
        start_waiter(&w);
        initialize(&user, w.thread.thread, 'U', normal_routine, UserMode);
        user.apc.at_head = ends;
        EXPECT(insert(&user));
        bool arrives = place == OUTSIDE && (w.alertable || ends);
        EXPECT(w.status == (arrives ? STATUS_USER_APC : STATUS_PENDING));
        KeSetEvent(&w.event, IO_NO_INCREMENT);
        ktest_join(&w.thread);
        EXPECT(w.status == (arrives ? STATUS_USER_APC : STATUS_SUCCESS));
    }
}

KTEST(critical_region_and_a_user_apc_before_the_wait, "APC-12 APC-10")
{
    KTHREAD *thread = KeGetCurrentThread();
    for (int end = 0; end < 2; end++) {
        test_apc user;
        KEVENT event;
        KeInitializeEvent(&event, NotificationEvent, false);
        initialize(&user, thread, 'U', normal_routine, UserMode);
        user.apc.at_head = end;
        EXPECT(insert(&user));
        KeEnterCriticalRegion();
        EXPECT(KeWaitForSingleObject(&event, Executive, UserMode, !end,
                                     &no_wait) == STATUS_TIMEOUT);
        KeLeaveCriticalRegion();
        EXPECT(KeWaitForSingleObject(&event, Executive, UserMode, !end,
                                     &no_wait) == STATUS_USER_APC);
        EXPECT(KeRemoveQueueApc(&user.apc));
        EXPECT(!thread->ApcState.UserApcPending);
    }
}

// ---- The end of the thread ------------------------------------------------

static test_apc left_over[5];
static KAPC *pooled[2];          // without a RundownRoutine: freed, or leaked

// Ends with all of them queued: the regions keep the kernel ones out.
static void end_with_apcs(void *context)
{
    (void)context;
    KTHREAD *thread = KeGetCurrentThread();
    KeEnterCriticalRegion();
    KeEnterGuardedRegion();
    initialize(&left_over[0], thread, 'N', normal_routine, KernelMode);
    initialize(&left_over[1], thread, 'S', NULL, KernelMode);
    initialize(&left_over[2], thread, 'U', normal_routine, UserMode);
    initialize(&left_over[3], thread, 'V', normal_routine, UserMode);
    initialize(&left_over[4], thread, 'E', normal_routine, UserMode);
    left_over[4].apc.at_head = true;    // as the thread-exit APC
    for (int i = 0; i < 5; i++)
        EXPECT(insert(&left_over[i]));
    for (KPROCESSOR_MODE mode = KernelMode; mode <= UserMode; mode++) {
        KeInitializeApc(pooled[mode], thread, kernel_routine, NULL,
                        normal_routine, mode, NULL);
        EXPECT(KeInsertQueueApc(pooled[mode], NULL, NULL, IO_NO_INCREMENT));
    }
}

KTEST(apcs_of_an_ended_thread_are_run_down, "APC-13 APC-03 APC-02")
{
    ktest_thread thread;
    for (int i = 0; i < 2; i++)
        pooled[i] = ExAllocatePoolWithTag(NonPagedPool, sizeof(KAPC),
                                          EX_TAG('K', 't', 's', 't'));
    EXPECT(pooled[0] && pooled[1]);
    ktest_start(&thread, end_with_apcs, NULL, KTEST_ABOVE);
    EXPECT(ktest_wait(thread.thread));
    EXPECT(ktest_logged("xSxNxExUxV"));
    for (int i = 0; i < 5; i++)
        EXPECT(!left_over[i].apc.Inserted && !insert(&left_over[i]));
    ktest_join(&thread);
}

// ---- From all sides ---------------------------------------------------------

// One thread's lists change on several processors at once: a DPC of its own and
// the thread itself queue APCs without the dispatcher lock, a thread elsewhere
// with it, and takes some off again. What was queued runs once, or was removed.
enum { STORM = 4, ROUNDS = 5000 };

typedef struct storm {
    ktest_thread other;
    KTHREAD *target;
    KEVENT never;
    uint64_t draws;              // of the other's random numbers
    volatile uint32_t go, stop, ran;
    uint32_t queued, removed;    // by the other
    KAPC apcs[3][STORM];         // queued by the DPC, the thread, the other
} storm;

static void storm_apc(KAPC *, KNORMAL_ROUTINE **, void **, void **argument,
                      void **)
{
    storm *s = *argument;
    s->ran++;                    // of one thread only, at APC_LEVEL
}

static void storm_half(void *, void *, void *)
{
}

static uint32_t storm_queue(storm *s, KAPC *apcs)
{
    uint32_t queued = 0;
    for (int i = 0; i < STORM; i++)
        queued += KeInsertQueueApc(&apcs[i], s, NULL, IO_NO_INCREMENT);
    return queued;
}

static void storm_other(void *context)
{
    storm *s = context;
    s->go = true;
    while (!s->stop) {
        s->queued += storm_queue(s, s->apcs[2]);
        uint64_t draw = ktest_draw(&s->draws);
        for (int i = 0; i < STORM; i++)
            if (draw >> i & 1)
                s->removed += KeRemoveQueueApc(&s->apcs[2][i]);
    }
}

static void storm_dpc(KDPC *, void *context, void *queued, void *)
{
    *(uint32_t *)queued += storm_queue(context, ((storm *)context)->apcs[0]);
}

static void apcs_from_all_sides(bool elsewhere)
{
    storm s = { .target = KeGetCurrentThread(), .draws = ktest_random() };
    uint32_t queued = 0;
    KDPC dpc;
    KeInitializeDpc(&dpc, storm_dpc, &s);
    KeInitializeEvent(&s.never, NotificationEvent, false);
    for (int i = 0; i < 3 * STORM; i++)
        KeInitializeApc(&s.apcs[0][0] + i, s.target, storm_apc, NULL,
                        i & 1 ? storm_half : NULL, KernelMode, NULL);
    if (elsewhere) {
        ktest_start_on(&s.other, 1, storm_other, &s);
        EXPECT(ktest_spin_until(&s.go));
    }
    for (int round = 0; round < ROUNDS; round++) {
        KIRQL old;
        switch (ktest_random() % 4) {
        case 0:    // looks, with the dispatcher lock
            KeWaitForSingleObject(&s.never, Executive, KernelMode, false,
                                  &no_wait);
            break;
        case 1:
            queued += storm_queue(&s, s.apcs[1]);
            break;
        case 2:
            KeRaiseIrql(APC_LEVEL, &old);
            queued += storm_queue(&s, s.apcs[1]);
            KeInsertQueueDpc(&dpc, &queued, NULL);
            KeLowerIrql(old);
            break;
        default:
            KeInsertQueueDpc(&dpc, &queued, NULL);
        }
    }
    s.stop = true;
    if (elsewhere)
        ktest_join(&s.other);
    KeEnterCriticalRegion();
    KeLeaveCriticalRegion();     // delivers what is left
    EXPECT(s.ran == queued + s.queued - s.removed);
    EXPECT(queued > ROUNDS / 4 && (!elsewhere || s.removed));
    EXPECT(IsListEmpty(&s.target->ApcState.ApcListHead[KernelMode]));
}

KTEST(apcs_from_the_thread_and_its_dpc, "APC-02 APC-08")
{
    apcs_from_all_sides(false);
}

KTEST(apcs_from_all_sides, "APC-02 APC-08")
{
    if (ktest_has_processors(2))
        apcs_from_all_sides(true);
}
