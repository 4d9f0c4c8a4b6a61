// portlist.c - random operations on completion ports, written down on COM2:
//
//     portlist SEED LISTS OPERATIONS
//
// tests/harness/portmodel.py reads what was done and what came of it, and says
// what should have. One operation at a time: the next begins when every worker
// is either blocked or back from its call, so that the outcome is certain on
// any number of processors.
//
// A worker that is back spins, for it must go on running to count for its port.
// Priorities see to it that it is in nobody's way: this thread sleeps above
// all workers, and whoever gets an order goes first.

#include <ntdll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORKERS 6
#define PORTS   2
#define BATCH   4
#define SPINS   20000
#define MS(n)   (&(int64_t){ (n) * -10000LL })
#define MOMENT  (&(int64_t){ -500 })    // 50 us

enum { CONTROLLER_PRIORITY = 2, CHOSEN_PRIORITY = 1, WORKER_PRIORITY = -2 };

typedef enum order { NONE, REMOVE, BLOCK, END } order;

typedef struct worker {
    HANDLE thread, event;
    uint64_t id;
    volatile order order;        // NONE again: it is done
    bool busy;                   // it has one, as this thread knows it
    bool pausing;                // a time-out will end it
    volatile bool started;

    // The order's arguments and results.
    HANDLE port;
    uint32_t count, taken;
    const int64_t *timeout;
    bool alertable, old;         // old: by NtRemoveIoCompletion
    NTSTATUS status;
    FILE_IO_COMPLETION_INFORMATION entries[BATCH];
    volatile uint32_t apcs;
} worker;

static worker workers[WORKERS];
static HANDLE ports[PORTS], dummy, log_file;
static uint64_t state, next_value;
static char text[65536];
static size_t length;

static void flush_log(void)
{
    uint32_t done;
    nt_write(log_file, text, (uint32_t)length, 0, &done);
    length = 0;
}

#define LOG(...) \
    (length += (size_t)snprintf(text + length, sizeof(text) - length, \
                                __VA_ARGS__))

static uint32_t draw(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32) % below;
}

static void set_priority(HANDLE thread, int32_t priority)
{
    NtSetInformationThread(thread, ThreadBasePriority, &priority,
                           sizeof(priority));
}

// ---- Workers ----------------------------------------------------------------

static void count_apc(void *argument, void *b, void *c)
{
    (void)b, (void)c;
    ((worker *)argument)->apcs++;
}

// Yields now and then only: each call takes QEMU's big lock, which its timers
// need as well.
static void spin(const worker *w)
{
    for (int i = 0; i < SPINS && w->order == NONE; i++)
        continue;
    NtYieldExecution();
}

static void remove_one(worker *w)
{
    FILE_IO_COMPLETION_INFORMATION *entry = &w->entries[0];
    w->status = NtRemoveIoCompletion(w->port, &entry->KeyContext,
                                     &entry->ApcContext, &entry->IoStatusBlock,
                                     w->timeout);
    w->taken = w->status == STATUS_SUCCESS;
}

static NTSTATUS work(void *argument)
{
    worker *w = argument;
    w->started = true;
    for (;;) {
        switch (w->order) {
        case NONE:
            spin(w);
            continue;
        case REMOVE:
            w->taken = 0;
            if (w->old)
                remove_one(w);
            else
                w->status = NtRemoveIoCompletionEx(w->port, w->entries,
                                                   w->count, &w->taken,
                                                   w->timeout, w->alertable);
            break;
        case BLOCK:
            w->status = NtWaitForSingleObject(w->event, false, NULL);
            break;
        case END:
            return STATUS_SUCCESS;
        }
        // No boost, no preference: whoever is not back yet goes before us.
        set_priority(NtCurrentThread(), WORKER_PRIORITY);
        __atomic_store_n(&w->order, NONE, __ATOMIC_RELEASE);
    }
}

static void start_worker(worker *w)
{
    *w = (worker){ .order = NONE };
    NtCreateEvent(&w->event, ALL_ACCESS, NULL, SynchronizationEvent, false);
    NtCreateThreadEx(&w->thread, ALL_ACCESS, NULL, NtCurrentProcess(),
                     (void *)work, w, THREAD_CREATE_FLAGS_CREATE_SUSPENDED, 0);
    THREAD_BASIC_INFORMATION basic;
    NtQueryInformationThread(w->thread, ThreadBasicInformation, &basic,
                             sizeof(basic), NULL);
    w->id = basic.ClientId.UniqueThread;
    set_priority(w->thread, WORKER_PRIORITY);
    NtResumeThread(w->thread, NULL);
    while (!w->started)      // else an APC would run first of all
        NtDelayExecution(false, MOMENT);
}

static void wait_for_end(worker *w)
{
    NtWaitForSingleObject(w->thread, false, NULL);
    NtClose(w->thread);
    NtClose(w->event);
}

// ---- Packets ----------------------------------------------------------------

// All fields of a packet tell its number, which is not 0.
static void post(HANDLE port, uint64_t n)
{
    NtSetIoCompletion(port, (void *)n, (void *)~n, (NTSTATUS)(n * 2654435761u),
                      n << 32);
}

// The number; 0: a field is not what was posted.
static uint64_t number_of(const FILE_IO_COMPLETION_INFORMATION *entry)
{
    uint64_t n = (uintptr_t)entry->KeyContext;
    bool good = (uintptr_t)entry->ApcContext == ~n &&
                entry->IoStatusBlock.Status == (NTSTATUS)(n * 2654435761u) &&
                entry->IoStatusBlock.Information == n << 32;
    return good ? n : 0;
}

// ---- Until nothing moves ----------------------------------------------------

static bool waits(const SYSTEM_SNAPSHOT *snapshot, const worker *w)
{
    const SNAPSHOT_PROCESSOR *processors = (const void *)(snapshot + 1);
    const SNAPSHOT_THREAD *threads =
        (const void *)(processors + snapshot->Processors);
    for (uint32_t i = 0; i < snapshot->Threads; i++)
        if (threads[i].ThreadId == w->id)
            return threads[i].State == Waiting &&
                   threads[i].WaitReason ==
                       (w->order == BLOCK ? UserRequest : WrQueue);
    return false;
}

// Whether each worker is blocked in its order, for good, or done with it.
static bool look(void)
{
    static uint8_t buffer[65536] __attribute__((aligned(8)));
    NtQuerySystemInformation(SystemSnapshotInformation, buffer, sizeof(buffer),
                             NULL);
    for (uint32_t i = 0; i < WORKERS; i++) {
        worker *w = &workers[i];
        if (w->busy && __atomic_load_n(&w->order, __ATOMIC_ACQUIRE) &&
            (w->pausing || !waits((void *)buffer, w)))
            return false;
    }
    return true;
}

// A worker that is seen to block may be about to let another go, in the same
// step under the dispatcher lock. Setting an event takes that lock: then the
// step is over, and a second look sees all that came of it.
static void settle(void)
{
    for (;;) {
        while (!look())
            NtDelayExecution(false, MOMENT);
        NtSetEvent(dummy, NULL);
        if (look())
            return;
    }
}

static void report(void)
{
    settle();
    for (uint32_t i = 0; i < WORKERS; i++) {
        worker *w = &workers[i];
        if (!w->busy || w->order)
            continue;
        w->busy = w->pausing = false;
        LOG("  got %u %08X %u", i, (uint32_t)w->status, w->apcs);
        w->apcs = 0;
        for (uint32_t e = 0; e < w->taken; e++)
            LOG(" %llu", (unsigned long long)number_of(&w->entries[e]));
        w->taken = 0;
        LOG("\n");
    }
    if (length > sizeof(text) / 2)
        flush_log();
}

// ---- Operations -------------------------------------------------------------

static void give(worker *w, order what)
{
    w->busy = true;
    set_priority(w->thread, CHOSEN_PRIORITY);
    __atomic_store_n(&w->order, what, __ATOMIC_RELEASE);
}

static worker *any(bool busy, order what)
{
    uint32_t from = draw(WORKERS);
    for (uint32_t i = 0; i < WORKERS; i++) {
        worker *w = &workers[(from + i) % WORKERS];
        if (w->busy == busy && w->order == what)
            return w;
    }
    return NULL;
}

static void remove_some(uint32_t port)
{
    worker *w = any(false, NONE);
    if (!w)
        return;
    uint32_t kind = draw(3);    // 0: poll; 1: a moment; 2: for ever
    w->port = ports[port];
    w->count = 1 + draw(BATCH);
    w->alertable = draw(3) == 0;
    w->old = w->count == 1 && !w->alertable && draw(2) == 0;
    w->pausing = kind <= 1;
    w->timeout = kind == 0 ? MS(0) : kind == 1 ? MS(1) : NULL;
    LOG("remove %u %u %u %u %u\n", (uint32_t)(w - workers), port, w->count,
        w->alertable, kind > 1);
    give(w, REMOVE);
}

static void block_or_release(bool release)
{
    worker *w = any(release, release ? BLOCK : NONE);
    if (!w)
        return;
    LOG(release ? "release %u\n" : "block %u\n", (uint32_t)(w - workers));
    if (release)
        NtSetEvent(w->event, NULL);
    else
        give(w, BLOCK);
    if (release)    // what it is in may end at any moment now
        w->pausing = true;
}

static void create(uint32_t port)
{
    uint32_t limit = draw(4);    // 0: the number of processors
    NtCreateIoCompletion(&ports[port], ALL_ACCESS, NULL, limit);
    LOG("create %u %u\n", port, limit);
}

// Ends a worker, whatever it is in, and has another take its place.
static void kill(worker *w)
{
    LOG("kill %u\n", (uint32_t)(w - workers));
    NtTerminateThread(w->thread, STATUS_UNSUCCESSFUL);
    wait_for_end(w);
    start_worker(w);
}

static void operate(void)
{
    uint32_t port = draw(10) < 7 ? 0 : 1, what = draw(100), depth = 0;
    if (what < 40) {
        LOG("post %u %llu\n", port, (unsigned long long)++next_value);
        post(ports[port], next_value);
    } else if (what < 78) {
        remove_some(port);
    } else if (what < 82) {
        block_or_release(false);
    } else if (what < 91) {
        block_or_release(true);
    } else if (what < 95) {
        worker *w = &workers[draw(WORKERS)];
        LOG("apc %u\n", (uint32_t)(w - workers));
        NtQueueApcThread(w->thread, count_apc, w, NULL, NULL);
    } else if (what < 97) {
        kill(&workers[draw(WORKERS)]);
    } else if (what < 98) {
        NtQueryIoCompletion(ports[port], &depth);
        LOG("depth %u %u\n", port, depth);
    } else {
        LOG("close %u\n", port);
        NtClose(ports[port]);
        report();
        create(port);
    }
    report();
}

static void end_list(void)
{
    for (uint32_t port = 0; port < PORTS; port++) {
        LOG("close %u\n", port);
        NtClose(ports[port]);
        report();
    }
    while (any(true, BLOCK)) {
        block_or_release(true);
        report();
    }
    for (uint32_t i = 0; i < WORKERS; i++) {
        give(&workers[i], END);
        wait_for_end(&workers[i]);
    }
}

int main(int argc, char **argv)
{
    uint64_t seed, lists, operations;
    if (argc != 4 || !rtl_parse_number(argv[1], &seed) ||
        !rtl_parse_number(argv[2], &lists) ||
        !rtl_parse_number(argv[3], &operations) ||
        !NT_SUCCESS(nt_open_file("COM2", FILE_WRITE_DATA | SYNCHRONIZE,
                                 FILE_OPEN, 0, &log_file)))
        return 2;
    NtCreateEvent(&dummy, ALL_ACCESS, NULL, NotificationEvent, false);
    set_priority(NtCurrentThread(), CONTROLLER_PRIORITY);
    for (uint64_t n = seed; n < seed + lists; n++) {
        state = (n + 1) * 0x9E3779B97F4A7C15ull;
        next_value = 0;
        LOG("list %llu\n", (unsigned long long)n);
        for (uint32_t i = 0; i < WORKERS; i++)
            start_worker(&workers[i]);
        for (uint32_t port = 0; port < PORTS; port++)
            create(port);
        for (uint64_t i = 0; i < operations; i++)
            operate();
        end_list();
        LOG("end %llu\n", (unsigned long long)n);
        flush_log();
    }
    return 0;
}
