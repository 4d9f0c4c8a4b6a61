// dpc.c - rules of the DPC queue (NT-SEMANTICS 2).

#include "tests/kernel/ktest.h"

#include "tests/kernel/driver.h"

enum { DEVICE = 6, DEPTH_THRESHOLD = 4 };

static int runs;
static void *seen1, *seen2;
static KIRQL seen_irql;
static bool seen_active;

static void note(KDPC *dpc, void *context, void *a, void *b)
{
    (void)dpc, (void)context;
    runs++;
    seen1 = a;
    seen2 = b;
    seen_irql = KeGetCurrentIrql();
    seen_active = KeGetCurrentPrcb()->dpc_active;
}

// The context is the letter.
static void log_letter(KDPC *dpc, void *context, void *a, void *b)
{
    (void)dpc, (void)a, (void)b;
    ktest_log((char)(uintptr_t)context);
}

static void initialize_logging(KDPC *dpc, char letter,
                               KDPC_IMPORTANCE importance)
{
    KeInitializeDpc(dpc, log_letter, (void *)(uintptr_t)letter);
    KeSetImportanceDpc(dpc, importance);
}

KTEST(dpc_initialize, "DPC-01")
{
    KDPC dpc;
    KeInitializeDpc(&dpc, NULL, NULL);
    EXPECT(dpc.Importance == MediumImportance);
    EXPECT(dpc.Number == 0);
    EXPECT(dpc.DpcData == NULL);
}

KTEST(dpc_runs_before_insert_returns, "DPC-02 DPC-06 DPC-08")
{
    KDPC dpc;
    KIRQL old;
    KeInitializeDpc(&dpc, note, NULL);
    runs = 0;
    EXPECT(KeInsertQueueDpc(&dpc, (void *)1, (void *)2));
    EXPECT(runs == 1 && seen1 == (void *)1 && seen2 == (void *)2);
    EXPECT(seen_irql == DISPATCH_LEVEL && seen_active);
    EXPECT(!KeGetCurrentPrcb()->dpc_active);
    KeRaiseIrql(APC_LEVEL, &old);
    EXPECT(KeInsertQueueDpc(&dpc, NULL, NULL));
    EXPECT(runs == 2);
    KeLowerIrql(old);
    for (KDPC_IMPORTANCE i = MediumImportance; i <= MediumHighImportance; i++) {
        runs = 0;
        KeSetImportanceDpc(&dpc, i);
        EXPECT(KeInsertQueueDpc(&dpc, NULL, NULL) && runs == 1);
    }
}

KTEST(dpc_waits_until_below_dispatch, "DPC-03 DPC-04")
{
    KDPC dpc;
    KIRQL old, dispatch;
    KeInitializeDpc(&dpc, note, NULL);
    runs = 0;
    KeRaiseIrql(DISPATCH_LEVEL, &old);
    KeRaiseIrql(HIGH_LEVEL, &dispatch);
    EXPECT(KeInsertQueueDpc(&dpc, (void *)1, NULL));
    EXPECT(!KeInsertQueueDpc(&dpc, (void *)2, NULL));
    EXPECT(runs == 0);
    KeLowerIrql(dispatch);
    EXPECT(runs == 0);
    KeLowerIrql(old);
    EXPECT(runs == 1 && seen1 == (void *)1);
}

KTEST(dpc_inserted_at_every_level, "DPC-03")
{
    for (KIRQL level = DISPATCH_LEVEL; level <= HIGH_LEVEL; level++) {
        KDPC dpc;
        KIRQL old;
        KeInitializeDpc(&dpc, note, NULL);
        runs = 0;
        KeRaiseIrql(level, &old);
        bool inserted = KeInsertQueueDpc(&dpc, NULL, NULL);
        int above = runs;
        KeLowerIrql(APC_LEVEL);
        int below = runs;
        KeLowerIrql(old);
        EXPECT(inserted && above == 0 && below == 1 && runs == 1);
    }
}

KTEST(dpc_remove, "DPC-05")
{
    KDPC dpc, other;
    initialize_logging(&dpc, 'x', MediumImportance);
    initialize_logging(&other, 'o', MediumImportance);
    EXPECT(!KeRemoveQueueDpc(&dpc));
    KIRQL old = KeRaiseIrqlToDpcLevel();
    KeInsertQueueDpc(&dpc, NULL, NULL);
    KeInsertQueueDpc(&other, NULL, NULL);
    EXPECT(KeRemoveQueueDpc(&dpc));
    EXPECT(!KeRemoveQueueDpc(&dpc) && dpc.DpcData == NULL);
    KeLowerIrql(old);
    EXPECT(ktest_logged("o"));
    KeInsertQueueDpc(&dpc, NULL, NULL);
    EXPECT(ktest_logged("ox"));
    EXPECT(!KeRemoveQueueDpc(&dpc));
}

static bool removed_inside;

static void remove_itself(KDPC *dpc, void *context, void *a, void *b)
{
    (void)context, (void)a, (void)b;
    removed_inside = KeRemoveQueueDpc(dpc);
}

KTEST(dpc_remove_once_started, "DPC-05")
{
    KDPC dpc;
    KeInitializeDpc(&dpc, remove_itself, NULL);
    removed_inside = true;
    KeInsertQueueDpc(&dpc, NULL, NULL);
    EXPECT(!removed_inside);
}

typedef struct requeue {
    KDPC *dpc;
    int left;
    bool off_the_queue, inserted, inserted_twice;
    void *arguments[2];
} requeue;

static void requeue_itself(KDPC *dpc, void *context, void *a, void *b)
{
    requeue *r = context;
    ktest_log('r');
    r->dpc = dpc;
    r->off_the_queue &= dpc->DpcData == NULL;
    if (r->left-- == 0) {
        r->arguments[0] = a;
        r->arguments[1] = b;
        return;
    }
    r->inserted &= KeInsertQueueDpc(dpc, (void *)7, (void *)8);
    r->inserted_twice |= KeInsertQueueDpc(dpc, NULL, NULL);
    ktest_log('e');
}

KTEST(dpc_requeued_from_inside, "DPC-06 DPC-04")
{
    KDPC dpc;
    requeue r = { .left = 2, .off_the_queue = true, .inserted = true };
    KeInitializeDpc(&dpc, requeue_itself, &r);
    KeInsertQueueDpc(&dpc, (void *)1, (void *)2);
    EXPECT(r.dpc == &dpc && r.off_the_queue && r.inserted);
    EXPECT(!r.inserted_twice);
    EXPECT(r.arguments[0] == (void *)7 && r.arguments[1] == (void *)8);
    EXPECT(ktest_logged("rerer"));
}

static void free_itself(KDPC *dpc, void *context, void *a, void *b)
{
    (void)context, (void)a, (void)b;
    ExFreePoolWithTag(dpc, EX_TAG('K', 't', 's', 't'));
}

KTEST(dpc_freed_by_its_routine, "DPC-06")
{
    KDPC *dpc = ExAllocatePoolWithTag(NonPagedPool, sizeof(*dpc),
                                      EX_TAG('K', 't', 's', 't'));
    EXPECT(dpc);
    if (!dpc)
        return;
    KeInitializeDpc(dpc, free_itself, NULL);
    EXPECT(KeInsertQueueDpc(dpc, NULL, NULL));
    // The leak check counts it.
}

KTEST(dpc_importance_decides_the_place, "DPC-07")
{
    KDPC l1, m2, h3, h4, mh5;
    initialize_logging(&l1, '1', LowImportance);
    initialize_logging(&m2, '2', MediumImportance);
    initialize_logging(&h3, '3', HighImportance);
    initialize_logging(&h4, '4', HighImportance);
    initialize_logging(&mh5, '5', MediumHighImportance);
    KIRQL old = KeRaiseIrqlToDpcLevel();
    KeInsertQueueDpc(&l1, NULL, NULL);
    KeInsertQueueDpc(&m2, NULL, NULL);
    KeInsertQueueDpc(&h3, NULL, NULL);
    KeInsertQueueDpc(&h4, NULL, NULL);
    KeInsertQueueDpc(&mh5, NULL, NULL);
    KeSetImportanceDpc(&m2, HighImportance);    // too late for this run
    KeLowerIrql(old);
    EXPECT(ktest_logged("43125"));
    ktest_log_reset();
    old = KeRaiseIrqlToDpcLevel();
    KeInsertQueueDpc(&l1, NULL, NULL);
    KeInsertQueueDpc(&m2, NULL, NULL);
    KeLowerIrql(old);
    EXPECT(ktest_logged("21"));
}

// ---- Low ones: interrupts are off where the test says "not yet", so that no
// clock can have come in between ------------------------------------------

KTEST(dpc_low_waits_for_another_drain, "DPC-08")
{
    KDPC low, medium;
    initialize_logging(&low, 'l', LowImportance);
    initialize_logging(&medium, 'm', MediumImportance);
    uint64_t flags = ki_disable_interrupts();
    KeInsertQueueDpc(&low, NULL, NULL);
    ktest_log('1');
    KeInsertQueueDpc(&medium, NULL, NULL);
    ktest_log('2');
    ki_restore_interrupts(flags);
    EXPECT(ktest_logged("1lm2"));
}

KTEST(dpc_low_runs_at_depth, "DPC-08")
{
    KDPC low[DEPTH_THRESHOLD];
    for (int i = 0; i < DEPTH_THRESHOLD; i++)
        initialize_logging(&low[i], (char)('a' + i), LowImportance);
    uint64_t flags = ki_disable_interrupts();
    for (int i = 0; i < DEPTH_THRESHOLD; i++) {
        ktest_log((char)('1' + i));
        KeInsertQueueDpc(&low[i], NULL, NULL);
    }
    ki_restore_interrupts(flags);
    EXPECT(ktest_logged("1234abcd"));
}

static void set_event(KDPC *dpc, void *context, void *a, void *b)
{
    (void)dpc, (void)a, (void)b;
    KeSetEvent(context, IO_NO_INCREMENT);
}

KTEST(dpc_low_runs_at_last, "DPC-08")
{
    KDPC low;
    KEVENT ran;
    KeInitializeEvent(&ran, NotificationEvent, false);
    KeInitializeDpc(&low, set_event, &ran);
    KeSetImportanceDpc(&low, LowImportance);
    KeInsertQueueDpc(&low, NULL, NULL);
    EXPECT(ktest_wait(&ran));
}

KTEST(dpc_targets_this_processor, "DPC-09")
{
    KDPC dpc;
    KeInitializeDpc(&dpc, note, NULL);
    KeSetTargetProcessorDpc(&dpc, (uint8_t)KeGetCurrentProcessorNumber());
    runs = 0;
    EXPECT(KeInsertQueueDpc(&dpc, NULL, NULL));
    EXPECT(runs == 1);
}

KTEST(dpc_flush_waits_for_low_ones, "DPC-10")
{
    KDPC low;
    initialize_logging(&low, 'l', LowImportance);
    uint64_t flags = ki_disable_interrupts();
    KeInsertQueueDpc(&low, NULL, NULL);
    ktest_log('1');
    ki_restore_interrupts(flags);
    KeFlushQueuedDpcs();
    ktest_log('2');
    EXPECT(ktest_logged("1l2"));
    EXPECT(low.DpcData == NULL);
}

// ---- Interrupts and threads -----------------------------------------------

typedef struct collecting_device {
    ktest_device device;
    KDPC dpc;
    uint32_t refused;
    uint32_t pending;            // what the ISR accumulates
    uint32_t runs, served;
} collecting_device;

static void collecting_isr(ktest_device *device)
{
    collecting_device *c = CONTAINING_RECORD(device, collecting_device,
                                             device);
    c->pending++;
    c->refused += !KeInsertQueueDpc(&c->dpc, NULL, NULL);
}

static void collecting_dpc(KDPC *dpc, void *context, void *a, void *b)
{
    (void)dpc, (void)a, (void)b;
    collecting_device *c = context;
    c->runs++;
    c->served += c->pending;
    c->pending = 0;
}

KTEST(dpc_once_for_several_interrupts, "DPC-11 DPC-04")
{
    enum { INTERRUPTS = 3 };
    collecting_device c = { .refused = 0 };
    ktest_connect(&c.device, DEVICE, 0);
    c.device.isr = collecting_isr;
    KeInitializeDpc(&c.dpc, collecting_dpc, &c);
    KIRQL old = KeRaiseIrqlToDpcLevel();
    for (int i = 0; i < INTERRUPTS; i++)
        ktest_interrupt(&c.device);
    EXPECT(c.device.count == INTERRUPTS && c.runs == 0);
    KeLowerIrql(old);
    EXPECT(c.refused == INTERRUPTS - 1 && c.runs == 1);
    EXPECT(c.served == INTERRUPTS);
    ktest_interrupt(&c.device);
    EXPECT(c.runs == 2 && c.served == INTERRUPTS + 1);
    ktest_disconnect(&c.device);
}

static void *request_seen[4];

static void device_dpc(KDPC *dpc, DEVICE_OBJECT *device, IRP *irp,
                       void *context)
{
    runs++;
    request_seen[0] = dpc;
    request_seen[1] = device;
    request_seen[2] = irp;
    request_seen[3] = context;
}

KTEST(dpc_of_a_device, "DPC-12")
{
    IRP *irp = (IRP *)0x1000;
    runs = 0;
    IoInitializeDpcRequest(ktest_lower, device_dpc);
    KIRQL old = KeRaiseIrqlToDpcLevel();
    IoRequestDpc(ktest_lower, irp, (void *)1);
    IoRequestDpc(ktest_lower, NULL, (void *)2);    // one at a time
    EXPECT(runs == 0);
    KeLowerIrql(old);
    EXPECT(runs == 1);
    EXPECT(request_seen[0] == &ktest_lower->Dpc);
    EXPECT(request_seen[1] == ktest_lower && request_seen[2] == irp);
    EXPECT(request_seen[3] == (void *)1);
}

static void log_when_woken(void *context)
{
    KeWaitForSingleObject(context, Executive, KernelMode, false, NULL);
    ktest_log('T');
}

static KDPC second;

// The second one is queued when the thread is ready already.
static void wake_then_queue(KDPC *dpc, void *context, void *a, void *b)
{
    (void)dpc, (void)a, (void)b;
    ktest_log('1');
    KeSetEvent(context, IO_NO_INCREMENT);
    KeInsertQueueDpc(&second, NULL, NULL);
    ktest_log('e');
}

KTEST(dpc_before_any_thread, "DPC-13")
{
    ktest_thread thread;
    KDPC first, third;
    KEVENT event;
    KeInitializeEvent(&event, SynchronizationEvent, false);
    KeInitializeDpc(&first, wake_then_queue, &event);
    initialize_logging(&second, '2', MediumImportance);
    initialize_logging(&third, '3', MediumImportance);
    ktest_start(&thread, log_when_woken, &event, KTEST_ABOVE);
    KIRQL old = KeRaiseIrqlToDpcLevel();
    KeInsertQueueDpc(&first, NULL, NULL);
    KeInsertQueueDpc(&third, NULL, NULL);
    KeLowerIrql(old);
    EXPECT(ktest_logged("1e32T"));
    ktest_join(&thread);
}

// A switch that is due by then waits as well: the DPCs are higher (IRQL-04).
KTEST(dpc_before_a_thread_that_was_woken_first, "DPC-13 IRQL-04")
{
    ktest_thread thread;
    KDPC dpc;
    KEVENT event;
    KeInitializeEvent(&event, SynchronizationEvent, false);
    initialize_logging(&dpc, 'd', MediumImportance);
    ktest_start(&thread, log_when_woken, &event, KTEST_ABOVE);
    KIRQL old = KeRaiseIrqlToDpcLevel();
    KeSetEvent(&event, IO_NO_INCREMENT);
    KeInsertQueueDpc(&dpc, NULL, NULL);
    KeLowerIrql(old);
    EXPECT(ktest_logged("dT"));
    ktest_join(&thread);
}

static void insert_high(KDPC *dpc, void *context, void *a, void *b)
{
    (void)dpc, (void)a, (void)b;
    ktest_log('1');
    KeInsertQueueDpc(context, NULL, NULL);
    ktest_log('e');
}

KTEST(dpcs_do_not_preempt_one_another, "DPC-13")
{
    KDPC first, high;
    initialize_logging(&high, 'h', HighImportance);
    KeInitializeDpc(&first, insert_high, &high);
    KeInsertQueueDpc(&first, NULL, NULL);
    EXPECT(ktest_logged("1eh"));
}
