// irql.c - rules of IRQL and spin locks (NT-SEMANTICS 1).

#include "tests/kernel/ktest.h"

enum { LOWER_DEVICE = 4, DEVICE = 6, HIGHER_DEVICE = 9 };

KTEST(irql_raise_and_lower, "IRQL-01")
{
    for (KIRQL level = PASSIVE_LEVEL; level <= HIGH_LEVEL; level++) {
        KIRQL old = HIGH_LEVEL, again = HIGH_LEVEL, same = PASSIVE_LEVEL;
        KeRaiseIrql(level, &old);
        KIRQL now = KeGetCurrentIrql();
        KeRaiseIrql(level, &again);
        same = KeGetCurrentIrql();
        KeLowerIrql(again);
        KIRQL unchanged = KeGetCurrentIrql();
        KeLowerIrql(old);
        EXPECT(old == PASSIVE_LEVEL && now == level);
        EXPECT(again == level && same == level && unchanged == level);
        EXPECT(KeGetCurrentIrql() == PASSIVE_LEVEL);
    }
}

KTEST(irql_raises_in_steps, "IRQL-01")
{
    KIRQL old[HIGH_LEVEL + 1];
    uint32_t wrong = 0;
    for (KIRQL level = APC_LEVEL; level <= HIGH_LEVEL; level++)
        KeRaiseIrql(level, &old[level]);
    for (KIRQL level = HIGH_LEVEL; level >= APC_LEVEL; level--) {
        wrong += old[level] != level - 1 || KeGetCurrentIrql() != level;
        KeLowerIrql(old[level]);
    }
    EXPECT(wrong == 0);
}

KTEST(irql_raise_to_dpc_level, "IRQL-02")
{
    KIRQL first = KeRaiseIrqlToDpcLevel();
    KIRQL second = KeRaiseIrqlToDpcLevel();
    KIRQL now = KeGetCurrentIrql();
    KeLowerIrql(first);
    EXPECT(first == PASSIVE_LEVEL);
    EXPECT(second == DISPATCH_LEVEL && now == DISPATCH_LEVEL);
}

KTEST(spin_lock_raises_to_dispatch, "IRQL-06")
{
    for (KIRQL level = PASSIVE_LEVEL; level <= DISPATCH_LEVEL; level++) {
        KSPIN_LOCK lock;
        KIRQL outer, old;
        KeInitializeSpinLock(&lock);
        KeRaiseIrql(level, &outer);
        KeAcquireSpinLock(&lock, &old);
        KIRQL held_at = KeGetCurrentIrql();
        bool held = lock;
        KeReleaseSpinLock(&lock, old);
        KIRQL after = KeGetCurrentIrql();
        bool free = !lock;
        KeLowerIrql(outer);
        EXPECT(old == level && held_at == DISPATCH_LEVEL && held);
        EXPECT(after == level && free);
    }
}

KTEST(spin_lock_at_dpc_level, "IRQL-06")
{
    KSPIN_LOCK lock;
    KeInitializeSpinLock(&lock);
    KIRQL old = KeRaiseIrqlToDpcLevel();
    KeAcquireSpinLockAtDpcLevel(&lock);
    KIRQL held_at = KeGetCurrentIrql();
    KeReleaseSpinLockFromDpcLevel(&lock);
    KIRQL after = KeGetCurrentIrql();
    KeLowerIrql(old);
    EXPECT(held_at == DISPATCH_LEVEL && after == DISPATCH_LEVEL);
}

// ---- What a level holds back ----------------------------------------------

static void log_dpc(KDPC *dpc, void *context, void *a, void *b)
{
    (void)dpc, (void)context, (void)a, (void)b;
    ktest_log('D');
}

static void log_apc(KAPC *apc, KNORMAL_ROUTINE **normal, void **context,
                    void **a, void **b)
{
    (void)apc, (void)normal, (void)context, (void)a, (void)b;
    ktest_log('A');
}

static void log_thread(void *context)
{
    KeWaitForSingleObject(context, Executive, KernelMode, false, NULL);
    ktest_log('T');
}

KTEST(dispatch_holds_back_all_but_devices, "IRQL-04")
{
    ktest_device device;
    ktest_thread thread;
    KEVENT event;
    KDPC dpc;
    KAPC apc;
    KeInitializeEvent(&event, SynchronizationEvent, false);
    ktest_start(&thread, log_thread, &event, KTEST_ABOVE);
    ktest_connect(&device, DEVICE, 'I');
    KeInitializeDpc(&dpc, log_dpc, NULL);
    KeInitializeApc(&apc, KeGetCurrentThread(), log_apc, NULL, NULL,
                    KernelMode, NULL);

    KIRQL old = KeRaiseIrqlToDpcLevel();
    KeInsertQueueApc(&apc, NULL, NULL, IO_NO_INCREMENT);
    KeSetEvent(&event, IO_NO_INCREMENT);
    KeInsertQueueDpc(&dpc, NULL, NULL);
    ktest_log('1');
    ktest_interrupt(&device);
    ktest_log('2');
    KeLowerIrql(old);
    ktest_log('3');
    EXPECT(ktest_logged("1I2DTA3"));
    EXPECT(device.isr_irql == DEVICE);
    ktest_join(&thread);
    ktest_disconnect(&device);
}

KTEST(lowering_delivers_the_highest_first, "IRQL-04")
{
    ktest_device low, middle, high;
    KDPC dpc;
    KAPC apc;
    KIRQL passive, dispatch;
    ktest_connect(&low, LOWER_DEVICE, 'l');
    ktest_connect(&middle, DEVICE, 'm');
    ktest_connect(&high, HIGHER_DEVICE, 'h');
    KeInitializeDpc(&dpc, log_dpc, NULL);
    KeInitializeApc(&apc, KeGetCurrentThread(), log_apc, NULL, NULL,
                    KernelMode, NULL);

    KeRaiseIrql(DISPATCH_LEVEL, &passive);
    KeInsertQueueApc(&apc, NULL, NULL, IO_NO_INCREMENT);
    KeRaiseIrql(HIGH_LEVEL, &dispatch);
    KeInsertQueueDpc(&dpc, NULL, NULL);
    ktest_interrupt(&low);
    ktest_interrupt(&high);
    ktest_interrupt(&middle);
    ktest_log('1');
    KeLowerIrql(passive);
    ktest_log('2');
    EXPECT(ktest_logged("1hmlDA2"));
    ktest_disconnect(&low);
    ktest_disconnect(&middle);
    ktest_disconnect(&high);
}

static ktest_device nested_low, nested_high, *nested_equal;

static void interrupt_from_equal(ktest_device *device)
{
    (void)device;
    ktest_log('1');
    ktest_interrupt(nested_equal);
    ktest_log('2');
}

static void interrupt_from_isr(ktest_device *device)
{
    (void)device;
    ktest_interrupt(&nested_low);
    ktest_log('1');
    ktest_interrupt(&nested_high);
    ktest_log('2');
}

KTEST(only_higher_devices_interrupt_an_isr, "IRQL-04")
{
    ktest_device device;
    ktest_connect(&device, DEVICE, 'm');
    ktest_connect(&nested_low, LOWER_DEVICE, 'l');
    ktest_connect(&nested_high, HIGHER_DEVICE, 'h');
    device.isr = interrupt_from_isr;
    ktest_interrupt(&device);
    EXPECT(ktest_logged("m1h2l"));
    EXPECT(device.isr_irql == DEVICE && nested_low.isr_irql == LOWER_DEVICE &&
           nested_high.isr_irql == HIGHER_DEVICE);
    ktest_disconnect(&device);
    ktest_disconnect(&nested_low);
    ktest_disconnect(&nested_high);
}

KTEST(a_level_holds_its_equals_back, "IRQL-04")
{
    ktest_device device, equal, low, high;
    KIRQL old;
    ktest_connect(&device, DEVICE, 'm');
    ktest_connect(&equal, DEVICE, 'e');
    ktest_connect(&low, LOWER_DEVICE, 'l');
    ktest_connect(&high, HIGHER_DEVICE, 'h');
    KeRaiseIrql(DEVICE, &old);
    ktest_interrupt(&low);
    ktest_interrupt(&equal);
    ktest_log('1');
    ktest_interrupt(&high);
    ktest_log('2');
    KeLowerIrql(old);
    EXPECT(ktest_logged("1h2el"));
    ktest_log_reset();
    nested_equal = &equal;
    device.isr = interrupt_from_equal;
    ktest_interrupt(&device);
    EXPECT(ktest_logged("m12e"));
    ktest_disconnect(&device);
    ktest_disconnect(&equal);
    ktest_disconnect(&low);
    ktest_disconnect(&high);
}

// Twice each: what is not acknowledged does not come again. The spurious vector
// comes as it does from the local APIC, which has nothing in service then.
KTEST(vectors_of_nobody_are_counted, "")
{
    enum { NO_DEVICE = 0xC5 };
    const uint8_t vectors[] = { ke_allocate_vector(LOWER_DEVICE), NO_DEVICE };
    KIRQL old = KeRaiseIrqlToDpcLevel();
    KPRCB *prcb = KeGetCurrentPrcb();
    uint32_t unknown = prcb->unknown_count, spurious = prcb->spurious_count;
    uint32_t came = 0;
    for (uint32_t sent = 0; sent < 4; sent++) {
        prcb->unknown_count = 0;
        hal_send_self_ipi(vectors[sent % 2]);
        came += ktest_spin_until(&prcb->unknown_count);
    }
    prcb->unknown_count = unknown + came;
    __asm__ volatile("int %0" ::"i"(HAL_VECTOR_SPURIOUS) : "memory");
    spurious = prcb->spurious_count - spurious;
    KeLowerIrql(old);
    EXPECT(came == 4 && spurious == 1);
}

KTEST(zero_timeout_is_legal_at_dispatch, "IRQL-05")
{
    const int64_t no_wait = 0;
    KEVENT set, unset;
    void *both[] = { &unset, &set };
    KeInitializeEvent(&set, NotificationEvent, true);
    KeInitializeEvent(&unset, NotificationEvent, false);
    KIRQL old = KeRaiseIrqlToDpcLevel();
    NTSTATUS there = KeWaitForSingleObject(&set, Executive, KernelMode, false,
                                           &no_wait);
    NTSTATUS missing = KeWaitForSingleObject(&unset, Executive, KernelMode,
                                             false, &no_wait);
    NTSTATUS any = KeWaitForMultipleObjects(2, both, WaitAny, Executive,
                                            KernelMode, false, &no_wait, NULL);
    NTSTATUS all = KeWaitForMultipleObjects(2, both, WaitAll, Executive,
                                            KernelMode, false, &no_wait, NULL);
    KIRQL after = KeGetCurrentIrql();
    KeLowerIrql(old);
    EXPECT(there == STATUS_SUCCESS && missing == STATUS_TIMEOUT);
    EXPECT(any == STATUS_WAIT_0 + 1 && all == STATUS_TIMEOUT);
    EXPECT(after == DISPATCH_LEVEL);
}

typedef struct synchronized {
    ktest_device device;
    KIRQL irql;
    uint32_t before, inside;     // interrupts seen around the routine's body
    bool locked;
    bool result;
} synchronized;

static bool synchronized_routine(void *context)
{
    synchronized *s = context;
    s->irql = KeGetCurrentIrql();
    s->locked = s->device.interrupt.SpinLock;
    s->before = s->device.count;
    ktest_interrupt(&s->device);
    s->inside = s->device.count;
    return s->result;
}

KTEST(synchronize_execution_keeps_the_isr_out, "IRQL-07")
{
    synchronized s;
    ktest_connect(&s.device, DEVICE, 'I');
    for (KIRQL level = PASSIVE_LEVEL; level <= DISPATCH_LEVEL; level++) {
        s.result = level != APC_LEVEL;
        s.device.count = 0;
        KIRQL old;
        KeRaiseIrql(level, &old);
        bool result = KeSynchronizeExecution(&s.device.interrupt,
                                             synchronized_routine, &s);
        uint32_t count = s.device.count;
        KIRQL after = KeGetCurrentIrql();
        KeLowerIrql(old);
        EXPECT(result == s.result && after == level);
        EXPECT(s.irql == DEVICE && s.locked);
        EXPECT(s.before == 0 && s.inside == 0 && count == 1);
    }
    EXPECT(!s.device.interrupt.SpinLock);
    ktest_disconnect(&s.device);
}
