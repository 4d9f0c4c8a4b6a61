// diskstorm.c - cancels at random moments, with the real disk: each request
// completes exactly once, and all that it held comes back.
//
// A worker sends reads and writes and collects what comes of them, on either
// road; the cancellers pick a file or a thread whenever they like, at any level
// up to DISPATCH. The seed decides what is tried, the disk and the processors
// when.

#include "tests/kernel/ktest.h"

#include "tests/kernel/driver.h"

enum { WORKERS = 3, CANCELLERS = 2, ROUNDS = 60, REQUESTS = 8, STORMS = 20,
       BUFFER_PAGES = 64, SECTOR = 512, DISK_BYTES = 8 << 20,
       MAXIMUM_SPINS = 20000 };

typedef struct disk_worker {
    ktest_thread thread;
    uint64_t random;
    KSPIN_LOCK lock;             // guards file, for the cancellers
    FILE_OBJECT *file;
    KQUEUE *port;                // NULL: events
    KEVENT *events[REQUESTS];
    struct disk_outcome {
        volatile uint32_t completions;
        IO_STATUS_BLOCK iosb;
    } outcomes[REQUESTS];
    uint32_t cancelled;
} disk_worker;

static disk_worker disk_workers[WORKERS];
static volatile bool storm_over;

static void spin(uint64_t *random, uint32_t most)
{
    uint64_t turns = ktest_draw(random) % most;
    for (volatile uint64_t i = 0; i < turns; i++)
        continue;
}

// ---- A worker's round -------------------------------------------------------

static void open_disk(disk_worker *w)
{
    FILE_OBJECT *file = NULL;
    w->port = NULL;
    EXPECT(io_create_file(KTEST_DISK, FILE_READ_DATA | FILE_WRITE_DATA,
                          FILE_OPEN, 0, &file, NULL) == STATUS_SUCCESS);
    if (ktest_draw(&w->random) % 3) {
        EXPECT(ktest_create_port(0, &w->port) == STATUS_SUCCESS);
        EXPECT(io_bind_port(file, w->port, w) == STATUS_SUCCESS);
    }
    KIRQL old;
    KeAcquireSpinLock(&w->lock, &old);
    w->file = file;
    KeReleaseSpinLock(&w->lock, old);
}

static void close_disk(disk_worker *w)
{
    KIRQL old;
    KeAcquireSpinLock(&w->lock, &old);
    FILE_OBJECT *file = w->file;
    w->file = NULL;
    KeReleaseSpinLock(&w->lock, old);
    ktest_close(file);
    if (w->port) {
        io_port_type.close(NULL, w->port, 0);
        ObDereferenceObject(w->port);
    }
}

static NTSTATUS count_outcome(DEVICE_OBJECT *device, IRP *irp, void *context)
{
    (void)device;
    struct disk_outcome *outcome = context;
    outcome->iosb = irp->IoStatus;
    __atomic_add_fetch(&outcome->completions, 1, __ATOMIC_SEQ_CST);
    return STATUS_SUCCESS;
}

static void send_request(disk_worker *w, uint64_t i)
{
    static uint8_t pages[BUFFER_PAGES * PAGE_SIZE]
        __attribute__((aligned(PAGE_SIZE)));
    uint32_t length = SECTOR * (1 + (uint32_t)(ktest_draw(&w->random) %
                                               (sizeof(pages) / SECTOR)));
    IRP *irp = ktest_build_read(w->file);
    irp->MdlAddress = IoAllocateMdl((uintptr_t)pages, length);
    MmBuildMdlForNonPagedPool(irp->MdlAddress, pages, length);
    irp->MdlAddress->from_pool = true;
    IO_STACK_LOCATION *stack = IoGetNextIrpStackLocation(irp);
    if (ktest_draw(&w->random) % 3 == 0)
        stack->MajorFunction = IRP_MJ_WRITE;    // its parameters are the same
    w->outcomes[i] = (struct disk_outcome){ 0 };
    IoSetCompletionRoutine(irp, count_outcome, &w->outcomes[i], true, true,
                           true);
    stack->Parameters.Read.Length = length;
    stack->Parameters.Read.ByteOffset =
        ktest_draw(&w->random) % (DISK_BYTES / SECTOR) * SECTOR;
    if (w->port) {
        irp->UserApcContext = (void *)(i + 1);
    } else {
        w->events[i] = irp->UserEvent = ktest_create_event();
        ObReferenceObject(w->events[i]);
    }
    EXPECT(io_send(w->file, irp) == STATUS_PENDING);
}

static void check_outcome(disk_worker *w, uint64_t i)
{
    const struct disk_outcome *outcome = &w->outcomes[i];
    bool gone = outcome->iosb.Status == STATUS_CANCELLED;
    EXPECT(outcome->completions == 1);
    EXPECT(gone ? outcome->iosb.Information == 0
                : outcome->iosb.Status == STATUS_SUCCESS &&
                      outcome->iosb.Information > 0);
    w->cancelled += gone;
}

static void collect_packets(disk_worker *w)
{
    static const int64_t no_wait = 0;
    FILE_IO_COMPLETION_INFORMATION entry;
    uint32_t seen[REQUESTS] = { 0 }, taken;
    for (uint32_t i = 0; i < REQUESTS; i++) {
        if (io_remove_completion(w->port, false, &ktest_bound, &entry, 1,
                                 &taken) != STATUS_SUCCESS) {
            ktest_fail("a packet never came", __FILE__, i);
            return;
        }
        uint64_t n = (uintptr_t)entry.ApcContext - 1;
        EXPECT(n < REQUESTS && entry.KeyContext == w);
        if (n >= REQUESTS)
            continue;
        seen[n]++;
        const IO_STATUS_BLOCK *iosb = &w->outcomes[n].iosb;
        EXPECT(entry.IoStatusBlock.Status == iosb->Status &&
               entry.IoStatusBlock.Information == iosb->Information);
        check_outcome(w, n);
    }
    for (uint32_t i = 0; i < REQUESTS; i++)
        EXPECT(seen[i] == 1);
    EXPECT(io_remove_completion(w->port, false, &no_wait, &entry, 1,
                                &taken) == STATUS_TIMEOUT);
}

static void collect_events(disk_worker *w)
{
    for (uint32_t i = 0; i < REQUESTS; i++) {
        EXPECT(ktest_wait(w->events[i]));
        ObDereferenceObject(w->events[i]);
        check_outcome(w, i);
    }
}

static void disk_work(void *context)
{
    disk_worker *w = context;
    KeSetAffinityThread(KeGetCurrentThread(), (1ull << KeNumberProcessors) - 1);
    for (int round = 0; round < ROUNDS; round++) {
        open_disk(w);
        for (uint64_t i = 0; i < REQUESTS; i++) {
            send_request(w, i);
            spin(&w->random, MAXIMUM_SPINS / 10);
        }
        if (ktest_draw(&w->random) % 4 == 0) {
            const io_filter ours = { .file = w->file };
            io_cancel(&w->file->io, &ours);
            io_cancel(&KeGetCurrentThread()->io, &ours);
        }
        if (w->port)
            collect_packets(w);
        else
            collect_events(w);
        close_disk(w);
    }
}

// ---- Cancellers -------------------------------------------------------------

typedef struct canceller {
    ktest_thread thread;
    uint64_t random;
} canceller;

static void cancel_something(canceller *c)
{
    disk_worker *w = &disk_workers[ktest_draw(&c->random) % WORKERS];
    bool high = ktest_draw(&c->random) % 2;
    KIRQL old;
    KeAcquireSpinLock(&w->lock, &old);
    FILE_OBJECT *file = w->file;
    KTHREAD *thread = w->thread.thread;
    if (file) {    // then the worker is still at work
        ObReferenceObject(file);
        ObReferenceObject(thread);
    }
    KeReleaseSpinLock(&w->lock, old);
    if (!file)
        return;
    KeRaiseIrql(high ? DISPATCH_LEVEL : PASSIVE_LEVEL, &old);
    if (ktest_draw(&c->random) % 2)
        io_cancel(&file->io, &(io_filter){ 0 });
    io_cancel(&thread->io, &(io_filter){ .file = file });
    KeLowerIrql(old);
    ObDereferenceObject(thread);
    ObDereferenceObject(file);
}

static void cancel_all_the_time(void *context)
{
    static const int64_t moment = -1000;    // 100 us
    canceller *c = context;
    KeSetAffinityThread(KeGetCurrentThread(), (1ull << KeNumberProcessors) - 1);
    while (!storm_over) {
        spin(&c->random, MAXIMUM_SPINS);
        cancel_something(c);
        if (ktest_draw(&c->random) % 2)
            KeDelayExecutionThread(KernelMode, false, &moment);
    }
}

// Returns how many requests were cancelled.
static uint32_t disk_storm(void)
{
    canceller cancellers[CANCELLERS];
    uint32_t cancelled = 0;
    storm_over = false;
    for (uint32_t i = 0; i < WORKERS; i++)
        disk_workers[i] = (disk_worker){ .random = ktest_random() | 1 };
    for (uint32_t i = 0; i < WORKERS; i++)
        ktest_start(&disk_workers[i].thread, disk_work, &disk_workers[i],
                    KTEST_BELOW);
    for (uint32_t i = 0; i < CANCELLERS; i++) {
        cancellers[i].random = ktest_random() | 1;
        ktest_start(&cancellers[i].thread, cancel_all_the_time, &cancellers[i],
                    KTEST_BELOW);
    }
    for (uint32_t i = 0; i < WORKERS; i++) {
        ktest_join(&disk_workers[i].thread);
        cancelled += disk_workers[i].cancelled;
    }
    storm_over = true;
    for (uint32_t i = 0; i < CANCELLERS; i++)
        ktest_join(&cancellers[i].thread);
    return cancelled;
}

// A storm that cancelled nothing, on a quick disk and a slow host, was none.
static void disk_storms(bool direct)
{
    bool before = io_direct_road;
    uint32_t cancelled = 0;
    if (!ktest_has_disk())
        return;
    io_direct_road = direct;
    for (int i = 0; i < STORMS && !cancelled; i++)
        cancelled = disk_storm();
    io_direct_road = before;
    EXPECT(cancelled > 0);
}

KTEST(storm_of_cancels_apc, "CAN-05 CAN-09 IOCP-01")
{
    disk_storms(false);
}

KTEST(storm_of_cancels_direct, "CAN-05 CAN-09 IOCP-01")
{
    disk_storms(true);
}
