// sched.c - who runs: priorities, preemption, quantum, boost, suspension.

#include "tests/kernel/ktest.h"

enum { TURNS = 3, SECOND = 10000000 };

static void log_letter(void *context)
{
    ktest_log((char)(uintptr_t)context);
}

typedef struct sleeper {
    ktest_thread thread;
    KEVENT event;
    char letter;
    int rounds;
    KPRIORITY priority[2];       // when it woke
} sleeper;

static void sleep_and_log(void *context)
{
    sleeper *s = context;
    for (int i = 0; i < s->rounds; i++) {
        KeWaitForSingleObject(&s->event, Executive, KernelMode, false, NULL);
        s->priority[i] = KeGetCurrentThread()->Priority;
        ktest_log(s->letter);
    }
}

static void start_sleeper(sleeper *s, char letter, int rounds,
                          KPRIORITY priority)
{
    *s = (sleeper){ .letter = letter, .rounds = rounds };
    KeInitializeEvent(&s->event, SynchronizationEvent, false);
    ktest_start(&s->thread, sleep_and_log, s, KTEST_ABOVE);
    EXPECT(ktest_is_waiting(&s->thread));
    KeSetPriorityThread(s->thread.thread, priority);
}

// The worse one is ready first; starting a helper may let others run.
KTEST(better_thread_preempts_at_once, "")
{
    sleeper above;
    ktest_thread below;
    start_sleeper(&above, 'a', 1, KTEST_ABOVE);
    ktest_start(&below, log_letter, (void *)'b', KTEST_BELOW);
    ktest_log('1');
    KeSetEvent(&above.event, IO_NO_INCREMENT);
    ktest_log('2');
    EXPECT(ktest_logged("1a2"));
    ktest_join(&above.thread);
    ktest_join(&below);
    EXPECT(ktest_logged("1a2b"));
}

KTEST(best_ready_thread_runs_first, "")
{
    enum { LEVELS = 5 };
    static const KPRIORITY priorities[LEVELS] = { 9, 31, 12, 16, 10 };
    sleeper s[LEVELS];
    for (int i = 0; i < LEVELS; i++)
        start_sleeper(&s[i], (char)('a' + i), 1, priorities[i]);
    KIRQL old = KeRaiseIrqlToDpcLevel();
    for (int i = 0; i < LEVELS; i++)
        KeSetEvent(&s[i].event, IO_NO_INCREMENT);
    ktest_log('1');
    KeLowerIrql(old);
    ktest_log('2');
    EXPECT(ktest_logged("1bdcea2"));
    for (int i = 0; i < LEVELS; i++)
        ktest_join(&s[i].thread);
}

KTEST(worse_thread_waits_for_the_processor, "")
{
    sleeper s;
    start_sleeper(&s, 'a', 1, KTEST_BELOW);
    KeSetEvent(&s.event, IO_NO_INCREMENT);
    ktest_log('1');
    ke_yield();    // only to equals
    ktest_log('2');
    EXPECT(ktest_logged("12") && s.thread.thread->State == Ready);
    ktest_join(&s.thread);
    EXPECT(ktest_logged("12a"));
}

KTEST(priority_of_a_ready_thread, "")
{
    sleeper s;
    start_sleeper(&s, 'a', 1, KTEST_BELOW);
    KeSetEvent(&s.event, IO_NO_INCREMENT);
    ktest_log('1');
    EXPECT(KeSetPriorityThread(s.thread.thread, KTEST_ABOVE) == KTEST_BELOW);
    ktest_log('2');
    EXPECT(ktest_logged("1a2"));
    ktest_join(&s.thread);
}

KTEST(priority_of_the_running_thread, "")
{
    sleeper s;
    KTHREAD *self = KeGetCurrentThread();
    start_sleeper(&s, 'a', 1, KTEST_BELOW);
    KeSetEvent(&s.event, IO_NO_INCREMENT);
    ktest_log('1');
    KeSetPriorityThread(self, KTEST_BELOW - 1);
    ktest_log('2');
    KeSetPriorityThread(self, KTEST_PRIORITY);
    EXPECT(ktest_logged("1a2"));
    ktest_join(&s.thread);
}

KTEST(base_priority_is_relative_and_bounded, "")
{
    KTHREAD *self = KeGetCurrentThread();
    EXPECT(KeSetBasePriorityThread(self, 2) == 0);
    EXPECT(self->BasePriority == KTEST_PRIORITY + 2);
    EXPECT(KeSetBasePriorityThread(self, 100) == 2);
    EXPECT(self->BasePriority == LOW_REALTIME_PRIORITY - 1);
    KeSetBasePriorityThread(self, -100);
    EXPECT(self->BasePriority == 1);
    KeSetBasePriorityThread(self, 0);
    EXPECT(self->Priority == KTEST_PRIORITY);
}

// ---- Boost ----------------------------------------------------------------

KTEST(boost_lifts_and_wears_off, "")
{
    enum { BOOST = 4 };
    sleeper s;
    start_sleeper(&s, 'a', 2, KTEST_BELOW);
    KeSetEvent(&s.event, BOOST);    // above us now
    ktest_log('1');
    EXPECT(ktest_logged("a1"));
    EXPECT(s.priority[0] == KTEST_BELOW + BOOST);
    EXPECT(s.thread.thread->BasePriority == KTEST_BELOW);
    KeSetEvent(&s.event, IO_NO_INCREMENT);
    ktest_join(&s.thread);
    EXPECT(s.priority[1] < KTEST_BELOW + BOOST);
    EXPECT(s.priority[1] >= KTEST_BELOW);
}

KTEST(boost_ends_below_real_time, "")
{
    sleeper s;
    start_sleeper(&s, 'a', 1, LOW_REALTIME_PRIORITY - 2);
    KeSetEvent(&s.event, 6);
    EXPECT(s.priority[0] == LOW_REALTIME_PRIORITY - 1);
    ktest_join(&s.thread);
    start_sleeper(&s, 'a', 1, LOW_REALTIME_PRIORITY);
    KeSetEvent(&s.event, 6);
    EXPECT(s.priority[0] == LOW_REALTIME_PRIORITY);
    ktest_join(&s.thread);
}

// ---- Quantum --------------------------------------------------------------

typedef struct spinner {
    ktest_thread thread;
    struct spinner *other;
    volatile uint32_t count;
    volatile uint32_t turns;     // times that it saw the other one go on
    bool in_time;
} spinner;

// Never waits: whoever sees the other one go on has lost the processor to it.
// Both go on until both have seen enough: the host may take a whole turn away.
static void spin(void *context)
{
    spinner *s = context;
    uint64_t start = KeQueryInterruptTime();
    uint32_t seen = s->other->count;
    s->in_time = true;
    while ((s->turns < TURNS || s->other->turns < TURNS) && s->in_time) {
        s->count++;
        if (s->other->count != seen) {
            seen = s->other->count;
            s->turns++;
        }
        s->in_time = KeQueryInterruptTime() - start <
                     (uint64_t)KTEST_BOUND_SECONDS * SECOND;
    }
}

KTEST(equals_take_turns, "")
{
    spinner second, first = { .other = &second };
    second = (spinner){ .other = &first };
    ktest_start(&first.thread, spin, &first, KTEST_BELOW);
    ktest_start(&second.thread, spin, &second, KTEST_BELOW);
    ktest_join(&first.thread);
    ktest_join(&second.thread);
    EXPECT(first.in_time && second.in_time);
    EXPECT(first.turns >= TURNS && second.turns >= TURNS);
}

KTEST(alone_needs_no_quantum, "")
{
    sleeper s;
    KPRCB *prcb = KeGetCurrentPrcb();
    EXPECT(prcb->quantum_deadline == ~0ull);
    start_sleeper(&s, 'a', 1, KTEST_PRIORITY);
    KIRQL old = KeRaiseIrqlToDpcLevel();
    KeSetEvent(&s.event, IO_NO_INCREMENT);
    bool armed = prcb->quantum_deadline != ~0ull;
    KeLowerIrql(old);
    EXPECT(armed);
    ktest_join(&s.thread);
    EXPECT(prcb->quantum_deadline == ~0ull);
}

KTEST(yield_to_an_equal, "")
{
    sleeper s;
    start_sleeper(&s, 'a', 1, KTEST_PRIORITY);
    KIRQL old = KeRaiseIrqlToDpcLevel();
    KeSetEvent(&s.event, IO_NO_INCREMENT);
    ktest_log('1');
    KeLowerIrql(old);
    ke_yield();
    ktest_log('2');
    EXPECT(ktest_logged("1a2"));
    ktest_join(&s.thread);
}

static void yield_once(void *event)
{
    ktest_wait(event);
    ke_yield();    // to the other one
    EXPECT(KeGetCurrentThread()->Priority == KTEST_BELOW);
}

static void wait_only(void *event)
{
    ktest_wait(event);
}

KTEST(yield_gives_a_boost_up, "")
{
    ktest_thread yielding, other;
    KEVENT event;
    KeInitializeEvent(&event, NotificationEvent, false);
    ktest_start(&yielding, yield_once, &event, KTEST_BELOW);
    EXPECT(ktest_until_waiting(&yielding));
    ktest_start(&other, wait_only, &event, KTEST_BELOW);
    EXPECT(ktest_until_waiting(&other));
    KeSetEvent(&event, EVENT_INCREMENT);
    ktest_join(&yielding);
    ktest_join(&other);
}

// ---- Suspension -----------------------------------------------------------

KTEST(suspended_thread_stays_where_it_is, "THR-02")
{
    sleeper s;
    start_sleeper(&s, 'a', 1, KTEST_ABOVE);
    KTHREAD *thread = s.thread.thread;
    EXPECT(KeSuspendThread(thread) == 0);
    EXPECT(KeSuspendThread(thread) == 1);
    KeSetEvent(&s.event, IO_NO_INCREMENT);
    EXPECT(ktest_logged("") && ktest_is_waiting(&s.thread));
    EXPECT(KeResumeThread(thread) == 2);
    EXPECT(ktest_logged("") && ktest_is_waiting(&s.thread));
    EXPECT(KeResumeThread(thread) == 1);
    EXPECT(ktest_logged("a"));
    EXPECT(KeResumeThread(thread) == 0);
    ktest_join(&s.thread);
}

static void make_ready(sleeper *s)
{
    KeSetPriorityThread(s->thread.thread, KTEST_BELOW);
    KeSetEvent(&s->event, IO_NO_INCREMENT);
    EXPECT(s->thread.thread->State == Ready);
}

static void suspend_itself(void *context)
{
    KIRQL old = KeRaiseIrqlToDpcLevel();    // as ps_suspend_thread does
    KeSuspendThread(KeGetCurrentThread());
    KeLowerIrql(old);
    ktest_log(*(char *)context);
}

KTEST(suspended_by_itself_it_goes_no_further, "THR-02 APC-08")
{
    ktest_thread thread;
    ktest_start(&thread, suspend_itself, "s", KTEST_ABOVE);
    EXPECT(ktest_logged("") && ktest_is_waiting(&thread));
    EXPECT(KeResumeThread(thread.thread) == 1 && ktest_logged("s"));
    ktest_join(&thread);
}

KTEST(suspended_and_resumed_before_it_ran, "THR-02")
{
    sleeper s;
    start_sleeper(&s, 'a', 2, KTEST_ABOVE);
    KTHREAD *thread = s.thread.thread;
    make_ready(&s);
    EXPECT(KeSuspendThread(thread) == 0 && KeResumeThread(thread) == 1);
    KeSetPriorityThread(thread, KTEST_ABOVE);
    EXPECT(ktest_logged("a"));    // it was taken back: nobody waits for it
    make_ready(&s);
    EXPECT(KeSuspendThread(thread) == 0 && KeResumeThread(thread) == 1);
    EXPECT(KeSuspendThread(thread) == 0);
    KeSetPriorityThread(thread, KTEST_ABOVE);
    EXPECT(ktest_logged("a") && ktest_is_waiting(&s.thread));
    EXPECT(KeResumeThread(thread) == 1);
    EXPECT(ktest_logged("aa"));
    ktest_join(&s.thread);
}
