// queue.c - KQUEUE, the kernel's half of a completion port (NT-SEMANTICS 11).

#include "tests/kernel/ktest.h"

enum { PACKETS = 8, MS = 10000 };

static const int64_t no_wait = 0;
static const int64_t moment = -1ll * MS;

typedef struct packet {
    LIST_ENTRY entry;
    char letter;
} packet;

static KQUEUE queue;
static packet packets[PACKETS];

static void initialize(uint32_t concurrency)
{
    KeInitializeQueue(&queue, concurrency);
    for (int i = 0; i < PACKETS; i++)
        packets[i].letter = (char)('a' + i);
}

static int32_t insert(int i)
{
    return KeInsertQueue(&queue, &packets[i].entry);
}

static char letter_of(LIST_ENTRY *entry)
{
    return CONTAINING_RECORD(entry, packet, entry)->letter;
}

static NTSTATUS take(const int64_t *timeout, char *letter)
{
    LIST_ENTRY *entry = NULL;
    uint32_t taken = 7;
    NTSTATUS status = ke_remove_queue(&queue, KernelMode, false, timeout,
                                      &entry, 1, &taken);
    *letter = taken == 1 ? letter_of(entry) : '-';
    EXPECT((taken == 1) == (status == STATUS_SUCCESS) && taken <= 1);
    return status;
}

static bool takes(char expected)
{
    char letter;
    return take(&no_wait, &letter) == STATUS_SUCCESS && letter == expected;
}

static bool finds_nothing(void)
{
    char letter;
    return take(&no_wait, &letter) == STATUS_TIMEOUT;
}

static uint32_t run_down(void)
{
    uint32_t left = 0;
    LIST_ENTRY *first = KeRundownQueue(&queue);
    for (LIST_ENTRY *entry = first; entry; left++)
        entry = entry->Flink == first ? NULL : entry->Flink;
    return left;
}

KTEST(queue_first_in_first_out, "IOCP-02 IOCP-01")
{
    initialize(0);
    EXPECT(finds_nothing());
    for (int i = 0; i < 4; i++)
        EXPECT(insert(i) == i);
    EXPECT(queue.Header.SignalState == 4);
    EXPECT(takes('a') && takes('b'));
    EXPECT(insert(4) == 2);
    EXPECT(takes('c') && takes('d') && takes('e') && finds_nothing());
    EXPECT(run_down() == 0);
}

KTEST(queue_takes_many, "IOCP-08")
{
    LIST_ENTRY *entries[PACKETS];
    uint32_t taken;
    initialize(0);
    for (int i = 0; i < 5; i++)
        insert(i);
    EXPECT(ke_remove_queue(&queue, KernelMode, false, &ktest_bound, entries, 3,
                           &taken) == STATUS_SUCCESS);
    EXPECT(taken == 3 && letter_of(entries[0]) == 'a' &&
           letter_of(entries[2]) == 'c');
    EXPECT(ke_remove_queue(&queue, KernelMode, false, &ktest_bound, entries,
                           PACKETS, &taken) == STATUS_SUCCESS);
    EXPECT(taken == 2 && letter_of(entries[1]) == 'e');
    EXPECT(ke_remove_queue(&queue, KernelMode, false, &no_wait, entries,
                           PACKETS, &taken) == STATUS_TIMEOUT);
    EXPECT(taken == 0);
    EXPECT(run_down() == 0);
}

KTEST(queue_times_out, "IOCP-04")
{
    char letter;
    initialize(0);
    EXPECT(finds_nothing());
    uint64_t start = KeQueryInterruptTime();
    EXPECT(take(&moment, &letter) == STATUS_TIMEOUT);
    EXPECT(KeQueryInterruptTime() - start >= MS);
    EXPECT(IsListEmpty(&queue.waiters) && queue.CurrentCount == 1);
    insert(0);
    EXPECT(takes('a'));
    EXPECT(run_down() == 0);
    EXPECT(queue.CurrentCount == 0);
}

// ---- Waiters: each takes packets until it is told to end ------------------

typedef struct worker {
    ktest_thread thread;
    char letter;                 // capital
    int packets;                 // how many it takes before it ends
    bool alertable;
    KPROCESSOR_MODE mode;
    KEVENT *block;               // waits for it after each, or NULL
    bool blocks_again;           // and once more
    NTSTATUS status;             // of the last removal
} worker;

static void work(void *context)
{
    worker *w = context;
    for (int i = 0; i < w->packets; i++) {
        LIST_ENTRY *entry = NULL;
        uint32_t taken;
        w->status = ke_remove_queue(&queue, w->mode, w->alertable,
                                    &ktest_bound, &entry, 1, &taken);
        ktest_log(w->letter);
        ktest_log(taken ? letter_of(entry) : '-');
        for (int j = 0; w->block && j <= w->blocks_again; j++)
            KeWaitForSingleObject(w->block, Executive, KernelMode, false,
                                  NULL);
    }
}

static void start_worker(worker *w, char letter, int count, KEVENT *block)
{
    *w = (worker){ .letter = letter, .packets = count, .block = block,
                   .status = STATUS_PENDING };
    ktest_start(&w->thread, work, w, KTEST_ABOVE);
    EXPECT(ktest_is_waiting(&w->thread));
}

KTEST(queue_newest_waiter_first, "IOCP-11 IOCP-01")
{
    worker w[3];
    initialize(PACKETS);
    for (int i = 0; i < 3; i++)
        start_worker(&w[i], (char)('A' + i), 1, NULL);
    EXPECT(insert(0) == 0);
    EXPECT(ktest_logged("Ca") && finds_nothing());
    EXPECT(insert(1) == 0 && insert(2) == 0);
    EXPECT(ktest_logged("CaBbAc"));
    EXPECT(insert(3) == 0);
    EXPECT(takes('d'));
    for (int i = 0; i < 3; i++)
        ktest_join(&w[i].thread);
    EXPECT(run_down() == 0);
}

KTEST(queue_hands_the_packet_over_at_once, "IOCP-11")
{
    worker w;
    initialize(PACKETS);
    start_worker(&w, 'A', 1, NULL);
    KIRQL old = KeRaiseIrqlToDpcLevel();    // the waiter cannot run yet
    insert(0);
    int32_t left = queue.Header.SignalState;
    KeLowerIrql(old);
    EXPECT(left == 0 && ktest_logged("Aa"));
    ktest_join(&w.thread);
    EXPECT(run_down() == 0);
}

KTEST(queue_next_packet_without_a_switch, "IOCP-11")
{
    worker w;
    initialize(1);
    start_worker(&w, 'A', 3, NULL);
    uint64_t before = w.thread.thread->ContextSwitches;
    KIRQL old = KeRaiseIrqlToDpcLevel();
    for (int i = 0; i < 3; i++)
        insert(i);
    KeLowerIrql(old);
    EXPECT(ktest_logged("AaAbAc"));
    EXPECT(w.thread.thread->ContextSwitches == before + 1);
    ktest_join(&w.thread);
    EXPECT(run_down() == 0);
}

// What a thread's wait cannot take away: the count of those that run.
KTEST(queue_limit_is_kept, "IOCP-09 IOCP-10")
{
    worker first, second;
    KEVENT block;
    KeInitializeEvent(&block, SynchronizationEvent, false);
    initialize(1);
    start_worker(&second, 'B', 2, &block);
    start_worker(&first, 'A', 2, &block);
    KIRQL old = KeRaiseIrqlToDpcLevel();
    insert(0);
    insert(1);    // the limit is reached: it stays
    EXPECT(queue.CurrentCount == 1 && queue.Header.SignalState == 1);
    KeLowerIrql(old);
    // A took its packet and blocked elsewhere: B was let go.
    EXPECT(ktest_logged("AaBb"));
    EXPECT(queue.CurrentCount == 0 && queue.Header.SignalState == 0);
    insert(2);
    EXPECT(queue.Header.SignalState == 1);    // nobody waits for it here
    KeSetEvent(&block, IO_NO_INCREMENT);    // A runs again, and takes it
    EXPECT(ktest_logged("AaBbAc"));
    KeSetEvent(&block, IO_NO_INCREMENT);    // B: in its queue wait again
    EXPECT(ktest_logged("AaBbAc") && queue.CurrentCount == 0);
    insert(3);
    EXPECT(ktest_logged("AaBbAcBd"));
    KeSetEvent(&block, IO_NO_INCREMENT);
    KeSetEvent(&block, IO_NO_INCREMENT);
    ktest_join(&first.thread);
    ktest_join(&second.thread);
    EXPECT(queue.CurrentCount == 0 && run_down() == 0);
}

KTEST(queue_limit_holds_packets_back, "IOCP-09 IOCP-10")
{
    worker w;
    initialize(1);
    insert(0);
    EXPECT(takes('a'));    // the test's own thread is the one that may run
    start_worker(&w, 'A', 1, NULL);
    EXPECT(insert(1) == 0);
    EXPECT(ktest_is_waiting(&w.thread) && queue.Header.SignalState == 1);
    EXPECT(ktest_logged(""));
    ktest_sleep(1);    // blocks: gives its place back
    EXPECT(ktest_logged("Ab") && queue.CurrentCount == 1);
    ktest_join(&w.thread);
    EXPECT(run_down() == 0);
}

KTEST(queue_limit_may_be_exceeded, "IOCP-10 IOCP-09")
{
    worker first, second;
    KEVENT block[2];
    KeInitializeEvent(&block[0], SynchronizationEvent, false);
    KeInitializeEvent(&block[1], SynchronizationEvent, false);
    initialize(1);
    start_worker(&first, 'A', 2, &block[0]);
    insert(0);
    EXPECT(ktest_logged("Aa") && queue.CurrentCount == 0);
    start_worker(&second, 'B', 2, &block[1]);
    insert(1);
    EXPECT(ktest_logged("AaBb") && queue.CurrentCount == 0);
    insert(2);
    insert(3);
    KIRQL old = KeRaiseIrqlToDpcLevel();
    KeSetEvent(&block[0], IO_NO_INCREMENT);
    KeSetEvent(&block[1], IO_NO_INCREMENT);
    uint32_t running = queue.CurrentCount;
    KeLowerIrql(old);
    // Both run. A asks first, while there is one too many: it waits and gets
    // its packet when B, which may take one, has blocked again.
    EXPECT(running == 2);
    EXPECT(ktest_logged("AaBbBcAd"));
    KeSetEvent(&block[0], IO_NO_INCREMENT);
    KeSetEvent(&block[1], IO_NO_INCREMENT);
    ktest_join(&first.thread);
    ktest_join(&second.thread);
    EXPECT(queue.CurrentCount == 0 && run_down() == 0);
}

// One of two runs too many blocks: that makes no room yet.
KTEST(queue_limit_is_kept_when_one_too_many_blocks, "IOCP-09 IOCP-10")
{
    worker asleep, below, twice;
    KEVENT block;
    KeInitializeEvent(&block, SynchronizationEvent, false);
    initialize(1);
    start_worker(&asleep, 'C', 1, NULL);
    below = (worker){ .letter = 'B', .packets = 1 };
    ktest_start(&below.thread, work, &below, KTEST_BELOW);
    EXPECT(ktest_until_waiting(&below.thread));
    start_worker(&twice, 'A', 1, &block);
    twice.blocks_again = true;
    insert(0);    // A blocks, but not in the queue
    insert(1);    // B is to run, but below us
    insert(2);
    EXPECT(ktest_logged("Aa") && queue.CurrentCount == 1);
    KeSetEvent(&block, IO_NO_INCREMENT);    // A runs, too, and blocks again
    EXPECT(ktest_logged("Aa") && queue.CurrentCount == 1);
    EXPECT(ktest_is_waiting(&twice.thread) && queue.Header.SignalState == 1);
    KeSetEvent(&block, IO_NO_INCREMENT);
    ktest_join(&twice.thread);
    ktest_join(&below.thread);    // its end makes room
    ktest_join(&asleep.thread);
    EXPECT(ktest_logged("AaBbCc") && run_down() == 0);
}

KTEST(queue_place_is_given_back_at_the_end, "IOCP-09")
{
    worker first, second;
    initialize(1);
    start_worker(&second, 'B', 1, NULL);
    start_worker(&first, 'A', 1, NULL);
    KIRQL old = KeRaiseIrqlToDpcLevel();
    insert(0);
    insert(1);
    KeLowerIrql(old);
    ktest_join(&first.thread);
    ktest_join(&second.thread);
    EXPECT(ktest_logged("AaBb") && queue.CurrentCount == 0);
    EXPECT(IsListEmpty(&queue.ThreadListHead));
    EXPECT(run_down() == 0);
}

// ---- A limit of 0: as many as there are processors ------------------------

typedef struct computer {
    ktest_thread thread;
    volatile uint32_t *stop;
    uint32_t taken;
} computer;

static void take_and_compute(void *context)
{
    computer *c = context;
    LIST_ENTRY *entry;
    ke_remove_queue(&queue, KernelMode, false, &ktest_bound, &entry, 1,
                    &c->taken);
    ktest_spin_until(c->stop);
}

KTEST(queue_limit_of_0_is_one_a_processor, "IOCP-09")
{
    computer c[MAXIMUM_PROCESSORS + 1];
    packet many[MAXIMUM_PROCESSORS + 1];
    volatile uint32_t stop = 0;
    uint32_t count = KeNumberProcessors + 1;
    initialize(0);
    for (uint32_t i = 0; i < count; i++) {
        c[i] = (computer){ .stop = &stop };
        ktest_start_on(&c[i].thread, i % KeNumberProcessors, take_and_compute,
                       &c[i]);
        EXPECT(ktest_until_waiting(&c[i].thread));
    }
    for (uint32_t i = 0; i < count; i++)
        KeInsertQueue(&queue, &many[i].entry);
    ktest_spin(1);
    EXPECT(queue.CurrentCount == KeNumberProcessors);
    EXPECT(queue.Header.SignalState == 1);    // although one waits for it
    EXPECT(ktest_is_waiting(&c[0].thread));
    stop = 1;
    for (uint32_t i = 0; i < count; i++) {
        ktest_join(&c[i].thread);
        EXPECT(c[i].taken == 1);
    }
    EXPECT(run_down() == 0);
}

KTEST(queue_of_another_takes_the_thread, "IOCP-10")
{
    KQUEUE other;
    LIST_ENTRY *entry;
    uint32_t taken;
    KeInitializeQueue(&other, 1);
    initialize(1);
    insert(0);
    EXPECT(takes('a') && queue.CurrentCount == 1);
    EXPECT(ke_remove_queue(&other, KernelMode, false, &no_wait, &entry, 1,
                           &taken) == STATUS_TIMEOUT);
    EXPECT(queue.CurrentCount == 0 && other.CurrentCount == 1);
    EXPECT(KeGetCurrentThread()->Queue == &other);
    EXPECT(run_down() == 0 && KeRundownQueue(&other) == NULL);
}

// ---- The end of the queue -------------------------------------------------

KTEST(queue_rundown_ends_the_waits, "IOCP-12")
{
    worker w[2];
    char letter;
    initialize(0);
    start_worker(&w[0], 'A', 1, NULL);
    start_worker(&w[1], 'B', 1, NULL);
    EXPECT(run_down() == 0);
    for (int i = 0; i < 2; i++) {
        EXPECT(w[i].status == STATUS_ABANDONED_WAIT_0);
        ktest_join(&w[i].thread);
    }
    EXPECT(ktest_logged("B-A-"));
    EXPECT(insert(0) == -1);
    EXPECT(take(&ktest_bound, &letter) == STATUS_ABANDONED_WAIT_0);
    EXPECT(queue.CurrentCount == 0 && !KeGetCurrentThread()->Queue);
}

// One that blocks elsewhere wakes when the queue may be gone.
KTEST(queue_rundown_lets_blocked_threads_go, "IOCP-12 IOCP-10")
{
    worker w;
    KEVENT block;
    KeInitializeEvent(&block, SynchronizationEvent, false);
    initialize(1);
    start_worker(&w, 'A', 1, &block);
    insert(0);
    EXPECT(ktest_logged("Aa") && w.thread.thread->Queue == &queue);
    EXPECT(run_down() == 0 && !w.thread.thread->Queue);
    KeSetEvent(&block, IO_NO_INCREMENT);
    ktest_join(&w.thread);
    EXPECT(queue.CurrentCount == 0);
}

KTEST(queue_rundown_returns_the_packets, "IOCP-12")
{
    initialize(0);
    for (int i = 0; i < 3; i++)
        insert(i);
    LIST_ENTRY *first = KeRundownQueue(&queue);
    EXPECT(first == &packets[0].entry);
    EXPECT(first->Flink == &packets[1].entry);
    EXPECT(first->Flink->Flink == &packets[2].entry);
    EXPECT(first->Flink->Flink->Flink == first);
}

static void wait_directly(void *context)
{
    worker *w = context;
    w->status = KeWaitForSingleObject(&queue, Executive, KernelMode, false,
                                      NULL);
    ktest_log(w->letter);
}

static void start_direct(worker *w, char letter)
{
    *w = (worker){ .letter = letter, .status = STATUS_PENDING };
    ktest_start(&w->thread, wait_directly, w, KTEST_ABOVE);
}

KTEST(queue_is_waitable, "IOCP-27")
{
    worker a, b, dequeuer;
    initialize(PACKETS);
    start_direct(&a, 'A');
    start_direct(&b, 'B');
    EXPECT(ktest_is_waiting(&a.thread) && ktest_is_waiting(&b.thread));
    insert(0);
    EXPECT(ktest_logged("AB") && queue.Header.SignalState == 1);
    EXPECT(ktest_wait(&queue) && queue.Header.SignalState == 1);
    EXPECT(takes('a'));
    ktest_join(&a.thread);
    ktest_join(&b.thread);
    ktest_log_reset();

    start_direct(&a, 'A');
    start_worker(&dequeuer, 'D', 1, NULL);
    insert(1);    // a dequeuer comes first: direct waiters sleep on
    EXPECT(ktest_logged("Db") && ktest_is_waiting(&a.thread));
    ktest_join(&dequeuer.thread);
    EXPECT(run_down() == 0);    // and the end satisfies them
    EXPECT(ktest_logged("DbA") && a.status == STATUS_SUCCESS);
    ktest_join(&a.thread);
    EXPECT(ktest_wait(&queue));    // nor does anyone who comes later wait
}

// With the limit reached packets stay; the dequeuer comes first all the same,
// and direct waiters hear of what it leaves.
KTEST(queue_returned_packets_keep_their_order, "IOCP-02 IOCP-11 IOCP-27")
{
    LIST_ENTRY *entries[PACKETS];
    uint32_t taken;
    worker waiter, direct;
    initialize(PACKETS);
    for (int i = 0; i < 3; i++)
        insert(i);
    EXPECT(ke_remove_queue(&queue, KernelMode, false, &no_wait, entries, 3,
                           &taken) == STATUS_SUCCESS && taken == 3);
    start_worker(&waiter, 'W', 1, NULL);
    start_direct(&direct, 'D');
    EXPECT(ke_return_entries(&queue, entries, 3));
    EXPECT(ktest_logged("WaD"));    // the waiter gets the first of them
    EXPECT(insert(3) == 2);
    EXPECT(takes('b') && takes('c') && takes('d') && finds_nothing());
    ktest_join(&waiter.thread);
    ktest_join(&direct.thread);
    EXPECT(run_down() == 0);
    EXPECT(!ke_return_entries(&queue, entries, 3));
    EXPECT(IsListEmpty(&queue.EntryListHead));
}

KTEST(queue_at_its_limit_serves_dequeuers_first, "IOCP-27 IOCP-09")
{
    worker dequeuer, direct;
    initialize(1);
    insert(0);
    EXPECT(takes('a'));
    start_worker(&dequeuer, 'D', 1, NULL);
    start_direct(&direct, 'A');
    insert(1);
    ktest_sleep(1);    // blocks: gives its place back
    EXPECT(ktest_logged("Db") && ktest_is_waiting(&direct.thread));
    ktest_join(&dequeuer.thread);
    start_worker(&dequeuer, 'D', 1, NULL);
    insert(2);
    insert(3);
    EXPECT(ktest_logged("Db"));
    ktest_join(&direct.thread);
    ktest_join(&dequeuer.thread);
    EXPECT(queue.Header.SignalState == 1 && run_down() == 1);
}

static void give_up(void *context)
{
    worker *direct = context;
    LIST_ENTRY *entry;
    uint32_t taken;
    EXPECT(ke_remove_queue(&queue, UserMode, true, &ktest_bound, &entry, 1,
                           &taken) == STATUS_ALERTED);
    EXPECT(!ktest_is_waiting(&direct->thread));    // ready: it has heard
}

// What a dequeuer that gives up leaves, they hear of at once as well.
KTEST(queue_direct_waiters_hear_when_a_dequeuer_gives_up, "IOCP-27 IOCP-09")
{
    worker direct;
    ktest_thread dequeuer;
    initialize(1);
    insert(0);
    EXPECT(takes('a'));
    ktest_start(&dequeuer, give_up, &direct, KTEST_ABOVE);
    start_direct(&direct, 'A');
    insert(1);    // the limit: it stays
    EXPECT(ktest_logged("") && !KeAlertThread(dequeuer.thread, UserMode));
    ktest_join(&dequeuer);
    ktest_join(&direct.thread);
    EXPECT(ktest_logged("A") && run_down() == 1);
}

static void take_many(void *context)
{
    LIST_ENTRY *entries[PACKETS];
    ke_remove_queue(&queue, KernelMode, false, &ktest_bound, entries, PACKETS,
                    context);
}

// Handed the first, it takes what has come until it runs.
KTEST(queue_takes_many_behind_a_wait, "IOCP-08")
{
    ktest_thread thread;
    uint32_t taken = 0;
    initialize(1);
    ktest_start(&thread, take_many, &taken, KTEST_BELOW);
    EXPECT(ktest_until_waiting(&thread));
    for (int i = 0; i < 4; i++)
        insert(i);
    ktest_join(&thread);
    EXPECT(taken == 4 && run_down() == 0);
}

static void insert_and_wake(KDPC *, void *event, void *, void *)
{
    insert(1);
    KeSetEvent(event, IO_NO_INCREMENT);
}

// And it does so although a thread that blocked elsewhere runs again meanwhile:
// the limit is for threads that are released, and it is.
KTEST(queue_takes_many_beyond_the_limit, "IOCP-08 IOCP-10")
{
    ktest_thread thread;
    uint32_t taken = 0;
    KEVENT event;
    KTIMER timer;
    KDPC dpc;
    initialize(1);
    insert(0);
    EXPECT(takes('a'));
    ktest_start(&thread, take_many, &taken, KTEST_BELOW);
    EXPECT(ktest_until_waiting(&thread));
    KeInitializeEvent(&event, NotificationEvent, false);
    KeInitializeDpc(&dpc, insert_and_wake, &event);
    KeInitializeTimerEx(&timer, NotificationTimer);
    KeSetTimerEx(&timer, -10000, 0, &dpc);
    EXPECT(ktest_wait(&event) && queue.CurrentCount == 2);
    for (int i = 2; i < 5; i++)
        insert(i);
    KTHREAD *self = KeGetCurrentThread();
    KPRIORITY before = KeSetPriorityThread(self, KTEST_BELOW - 1);
    KeSetPriorityThread(self, before);    // it has run while we were ready
    ktest_join(&thread);
    EXPECT(taken == 4);
    run_down();
}

// They hear of it when the packet before it is handed over, not when the
// thread that got that one runs.
KTEST(queue_direct_waiters_hear_at_once, "IOCP-27")
{
    worker dequeuer, direct;
    KQUEUE other;
    LIST_ENTRY *entry;
    uint32_t taken;
    KeInitializeQueue(&other, 1);
    initialize(1);
    insert(0);
    EXPECT(takes('a'));
    dequeuer = (worker){ .letter = 'D', .packets = 1 };
    ktest_start(&dequeuer.thread, work, &dequeuer, KTEST_BELOW);
    EXPECT(ktest_until_waiting(&dequeuer.thread));
    start_direct(&direct, 'A');
    insert(1);
    insert(2);
    EXPECT(ktest_logged(""));
    EXPECT(ke_remove_queue(&other, KernelMode, false, &no_wait, &entry, 1,
                           &taken) == STATUS_TIMEOUT);    // leaves this one
    EXPECT(ktest_logged("A"));
    ktest_join(&direct.thread);
    ktest_join(&dequeuer.thread);
    EXPECT(ktest_logged("ADb") && run_down() == 1);
    EXPECT(!KeRundownQueue(&other));
}

// ---- APCs and alerts ------------------------------------------------------

// Inserts from packet *a on as many as *b says.
static void insert_apc(KAPC *apc, KNORMAL_ROUTINE **normal, void **context,
                       void **a, void **b)
{
    (void)apc, (void)normal, (void)context;
    for (uint64_t i = 0; i < (uint64_t)*b; i++)
        insert((int)((uint64_t)*a + i));
}

static void insert_in(worker *w, uint64_t first, uint64_t count)
{
    KAPC apc;
    KeInitializeApc(&apc, w->thread.thread, insert_apc, NULL, NULL, KernelMode,
                    NULL);
    EXPECT(KeInsertQueueApc(&apc, (void *)first, (void *)count,
                            IO_NO_INCREMENT));
}

// What a thread's own APC brings while it waits in the queue it takes itself;
// what it leaves is for the next waiter, if the limit lets it go, and else for
// the direct waiters to know of.
KTEST(queue_takes_and_passes_on_what_its_own_apc_brought, "IOCP-27 IOCP-09")
{
    worker a, b, direct;
    initialize(2);
    start_direct(&direct, 'X');
    start_worker(&b, 'B', 1, NULL);
    start_worker(&a, 'A', 1, NULL);
    insert_in(&a, 0, 2);
    ktest_join(&a.thread);
    ktest_join(&b.thread);
    EXPECT(a.status == STATUS_SUCCESS && b.status == STATUS_SUCCESS);
    EXPECT(ktest_is_waiting(&direct.thread));

    start_worker(&a, 'A', 1, NULL);
    insert_in(&a, 2, 1);
    ktest_join(&a.thread);
    EXPECT(ktest_is_waiting(&direct.thread));

    start_worker(&a, 'A', 1, NULL);
    insert_in(&a, 3, 2);
    ktest_join(&a.thread);
    ktest_join(&direct.thread);
    EXPECT(queue.Header.SignalState == 1 && run_down() == 1);
}

static KEVENT proceed;

static void block(void *context, void *a, void *b)
{
    (void)context, (void)a, (void)b;
    EXPECT(ktest_wait(&proceed));
}

// A thread that blocks before it takes what its own APC brought leaves it to
// the direct waiters to know of.
KTEST(queue_thread_that_blocks_before_it_takes, "IOCP-27 IOCP-09")
{
    worker a, direct;
    KAPC apc;
    initialize(1);
    KeInitializeEvent(&proceed, NotificationEvent, false);
    start_direct(&direct, 'X');
    start_worker(&a, 'A', 1, NULL);
    KeInitializeApc(&apc, a.thread.thread, insert_apc, NULL, block, KernelMode,
                    NULL);
    EXPECT(KeInsertQueueApc(&apc, (void *)0, (void *)1, IO_NO_INCREMENT));
    EXPECT(ktest_logged("X") && queue.CurrentCount == 0);
    KeSetEvent(&proceed, IO_NO_INCREMENT);
    EXPECT(ktest_logged("XAa"));
    ktest_join(&direct.thread);
    ktest_join(&a.thread);
    EXPECT(run_down() == 0);
}

static void log_apc(KAPC *apc, KNORMAL_ROUTINE **normal, void **context,
                    void **a, void **b)
{
    (void)apc, (void)normal, (void)context, (void)a, (void)b;
    ktest_log('!');
    if (*a)
        insert(7);
}

static void never(void *context, void *a, void *b)
{
    (void)context, (void)a, (void)b;
    ktest_log('?');
}

KTEST(queue_wait_survives_a_kernel_apc, "SYN-04 IOCP-11 IOCP-13")
{
    worker a, b;
    KAPC apc;
    initialize(1);
    start_worker(&a, 'A', 1, NULL);
    start_worker(&b, 'B', 1, NULL);
    KeInitializeApc(&apc, a.thread.thread, log_apc, NULL, NULL, KernelMode,
                    NULL);
    uint64_t due = a.thread.thread->Timer.node.key;
    EXPECT(KeInsertQueueApc(&apc, NULL, NULL, IO_NO_INCREMENT));
    EXPECT(ktest_logged("!") && ktest_is_waiting(&a.thread));
    EXPECT(a.thread.thread->Timer.node.key == due);
    EXPECT(queue.CurrentCount == 0);
    insert(0);    // A has become the newest
    EXPECT(ktest_logged("!Aa"));
    insert(1);
    EXPECT(ktest_logged("!AaBb"));
    ktest_join(&a.thread);
    ktest_join(&b.thread);
    EXPECT(run_down() == 0);
}

KTEST(queue_insert_from_ones_own_wait, "IOCP-09 IOCP-11")
{
    worker a, b;
    KAPC apc;
    initialize(2);
    start_worker(&a, 'A', 1, NULL);
    start_worker(&b, 'B', 1, NULL);
    KeInitializeApc(&apc, a.thread.thread, log_apc, NULL, NULL, KernelMode,
                    NULL);
    EXPECT(KeInsertQueueApc(&apc, (void *)1, NULL, IO_NO_INCREMENT));
    EXPECT(ktest_logged("!Ah") && ktest_is_waiting(&b.thread));
    ktest_join(&a.thread);
    insert(0);
    EXPECT(ktest_logged("!AhBa"));
    ktest_join(&b.thread);
    EXPECT(run_down() == 0);
}

static void expect_user_apc(bool alertable)
{
    worker w = { .letter = 'A', .packets = 1, .alertable = alertable,
                 .mode = UserMode, .status = STATUS_PENDING };
    KAPC apc;
    initialize(0);
    ktest_start(&w.thread, work, &w, KTEST_ABOVE);
    KeInitializeApc(&apc, w.thread.thread, log_apc, ke_keep_apc, never,
                    UserMode, NULL);
    EXPECT(KeInsertQueueApc(&apc, NULL, NULL, IO_NO_INCREMENT));
    EXPECT(ktest_is_waiting(&w.thread) == !alertable);
    insert(0);
    ktest_join(&w.thread);
    EXPECT(w.status == (alertable ? STATUS_USER_APC : STATUS_SUCCESS));
    EXPECT(run_down() == alertable);
}

KTEST(queue_wait_ends_for_a_user_apc, "IOCP-13 IOCP-14 APC-10")
{
    expect_user_apc(true);
    expect_user_apc(false);
    EXPECT(ktest_logged("A-Aa"));
}

KTEST(queue_packet_or_user_apc, "IOCP-14")
{
    KTHREAD *thread = KeGetCurrentThread();
    LIST_ENTRY *entry;
    uint32_t taken;
    KAPC apc;
    initialize(0);
    KeInitializeApc(&apc, thread, log_apc, ke_keep_apc, never, UserMode, NULL);
    EXPECT(KeInsertQueueApc(&apc, NULL, NULL, IO_NO_INCREMENT));
    EXPECT(ke_remove_queue(&queue, UserMode, true, &no_wait, &entry, 1,
                           &taken) == STATUS_USER_APC);
    insert(0);
    insert(1);
    EXPECT(ke_remove_queue(&queue, UserMode, true, &no_wait, &entry, 1,
                           &taken) == STATUS_USER_APC);
    EXPECT(!thread->Queue && queue.Header.SignalState == 2);
    thread->ApcState.UserApcPending = false;    // as if it had run
    EXPECT(takes('a'));    // from now on the port comes first
    EXPECT(ke_remove_queue(&queue, UserMode, true, &no_wait, &entry, 1,
                           &taken) == STATUS_SUCCESS);
    EXPECT(taken == 1 && letter_of(entry) == 'b' && apc.Inserted);
    EXPECT(ke_remove_queue(&queue, UserMode, true, &no_wait, &entry, 1,
                           &taken) == STATUS_USER_APC);
    EXPECT(KeRemoveQueueApc(&apc));
    EXPECT(run_down() == 0);
}

// It has taken a packet from another one since: the APC comes first again.
KTEST(queue_after_another_one, "IOCP-14")
{
    KQUEUE other;
    LIST_ENTRY *entry;
    uint32_t taken;
    KAPC apc;
    initialize(0);
    KeInitializeQueue(&other, 0);
    insert(0);
    EXPECT(takes('a'));
    KeInsertQueue(&other, &packets[1].entry);
    EXPECT(ke_remove_queue(&other, KernelMode, false, &no_wait, &entry, 1,
                           &taken) == STATUS_SUCCESS);
    insert(2);
    KeInitializeApc(&apc, KeGetCurrentThread(), log_apc, ke_keep_apc, never,
                    UserMode, NULL);
    EXPECT(KeInsertQueueApc(&apc, NULL, NULL, IO_NO_INCREMENT));
    EXPECT(ke_remove_queue(&queue, UserMode, true, &no_wait, &entry, 1,
                           &taken) == STATUS_USER_APC);
    EXPECT(queue.Header.SignalState == 1 && KeRemoveQueueApc(&apc));
    EXPECT(KeGetCurrentThread()->Queue == &other);    // still
    EXPECT(takes('c') && run_down() == 0);
    EXPECT(KeRundownQueue(&other) == NULL);
}

KTEST(queue_wait_ends_for_an_alert, "APC-11")
{
    worker w = { .letter = 'A', .packets = 2, .alertable = true,
                 .mode = UserMode, .status = STATUS_PENDING };
    initialize(0);
    ktest_start(&w.thread, work, &w, KTEST_ABOVE);
    EXPECT(!KeAlertThread(w.thread.thread, UserMode));
    EXPECT(w.status == STATUS_ALERTED && ktest_is_waiting(&w.thread));
    insert(0);
    EXPECT(w.status == STATUS_SUCCESS && ktest_logged("A-Aa"));
    ktest_join(&w.thread);
    EXPECT(run_down() == 0);
}

// ---- A wait that was satisfied finds the packet ---------------------------

enum { PROMISES = 20000 };

typedef struct promises {
    ktest_thread feeder, both;
    KEVENT never;
    volatile uint32_t taken;
} promises;

// Listed as a direct waiter for as long as the event is not set.
static void wait_for_both(void *context)
{
    promises *p = context;
    void *objects[] = { &queue, &p->never };
    EXPECT(KeWaitForMultipleObjects(2, objects, WaitAll, Executive, KernelMode,
                                    false, &ktest_bound, NULL) ==
           STATUS_SUCCESS);
}

static void feed(void *context)
{
    promises *p = context;
    for (uint32_t i = 0; i < PROMISES; i++) {
        while (__atomic_load_n(&p->taken, __ATOMIC_ACQUIRE) != i)
            __builtin_ia32_pause();
        insert(0);
    }
}

// Nobody else takes, so what the wait saw cannot go before we look.
KTEST(queue_packet_is_there_for_who_waited, "IOCP-27")
{
    if (!ktest_has_processors(2))
        return;
    promises p = { .taken = 0 };
    uint32_t missing = 0;
    char letter;
    initialize(0);
    KeInitializeEvent(&p.never, NotificationEvent, false);
    ktest_start(&p.both, wait_for_both, &p, KTEST_ABOVE);
    ktest_start_on(&p.feeder, 1, feed, &p);
    for (uint32_t got = 0; got < PROMISES;) {
        if (KeWaitForSingleObject(&queue, Executive, KernelMode, false,
                                  &no_wait) != STATUS_SUCCESS)
            continue;
        if (take(&no_wait, &letter) == STATUS_SUCCESS)
            __atomic_store_n(&p.taken, ++got, __ATOMIC_RELEASE);
        else
            missing++;
    }
    EXPECT(missing == 0);
    ktest_join(&p.feeder);
    insert(0);
    KeSetEvent(&p.never, IO_NO_INCREMENT);
    ktest_join(&p.both);
    EXPECT(run_down() == 1);
}
