// devqueue.c - device queues and StartIo (NT-SEMANTICS 9).

#include "tests/kernel/ktest.h"

#include "tests/kernel/driver.h"

enum { REQUESTS = 4 };

KTEST(device_queue_idle_and_busy, "DVQ-01 DVQ-02")
{
    KDEVICE_QUEUE queue;
    KDEVICE_QUEUE_ENTRY a = { .Inserted = true }, b, c;
    KeInitializeDeviceQueue(&queue);
    EXPECT(!queue.Busy && IsListEmpty(&queue.DeviceListHead));
    EXPECT(!KeInsertDeviceQueue(&queue, &a));
    EXPECT(queue.Busy && !a.Inserted && IsListEmpty(&queue.DeviceListHead));
    EXPECT(KeInsertDeviceQueue(&queue, &b) && b.Inserted);
    EXPECT(KeInsertDeviceQueue(&queue, &c) && c.Inserted);
    EXPECT(KeRemoveDeviceQueue(&queue) == &b && !b.Inserted && queue.Busy);
    EXPECT(KeRemoveDeviceQueue(&queue) == &c && queue.Busy);
    EXPECT(KeRemoveDeviceQueue(&queue) == NULL && !queue.Busy);
    EXPECT(!KeInsertDeviceQueue(&queue, &b));
    EXPECT(KeRemoveDeviceQueue(&queue) == NULL && !queue.Busy);
}

KTEST(device_queue_by_key, "DVQ-02")
{
    static const uint32_t keys[] = { 30, 10, 20, 10, 30, 0 };
    static const int order[] = { 5, 1, 3, 2, 0, 4 };
    KDEVICE_QUEUE queue;
    KDEVICE_QUEUE_ENTRY first, entries[ARRAY_SIZE(keys)];
    KeInitializeDeviceQueue(&queue);
    EXPECT(!KeInsertByKeyDeviceQueue(&queue, &first, 5));
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        EXPECT(KeInsertByKeyDeviceQueue(&queue, &entries[i], keys[i]));
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        EXPECT(KeRemoveDeviceQueue(&queue) == &entries[order[i]]);
    EXPECT(KeRemoveDeviceQueue(&queue) == NULL);
}

KTEST(device_queue_remove_entry, "DVQ-02")
{
    KDEVICE_QUEUE queue;
    KDEVICE_QUEUE_ENTRY a, b, c, never = { .Inserted = false };
    KeInitializeDeviceQueue(&queue);
    KeInsertDeviceQueue(&queue, &a);
    KeInsertDeviceQueue(&queue, &b);
    KeInsertDeviceQueue(&queue, &c);
    EXPECT(!KeRemoveEntryDeviceQueue(&queue, &a));    // it is at the device
    EXPECT(!KeRemoveEntryDeviceQueue(&queue, &never));
    EXPECT(KeRemoveEntryDeviceQueue(&queue, &b) && queue.Busy);
    EXPECT(!KeRemoveEntryDeviceQueue(&queue, &b));
    EXPECT(KeRemoveEntryDeviceQueue(&queue, &c) && queue.Busy);
    EXPECT(KeRemoveDeviceQueue(&queue) == NULL && !queue.Busy);
}

// ---- StartIo --------------------------------------------------------------

static IRP *irps[REQUESTS];
static KIRQL start_irql;
static bool start_saw_current;

static void log_start(DEVICE_OBJECT *device, IRP *irp)
{
    for (int i = 0; i < REQUESTS; i++)
        if (irps[i] == irp)
            ktest_log((char)('a' + i));
    start_irql = KeGetCurrentIrql();
    start_saw_current = device->CurrentIrp == irp;
}

static void allocate_irps(void)
{
    ktest_driver.start_io = log_start;
    for (int i = 0; i < REQUESTS; i++)
        irps[i] = IoAllocateIrp(1);
}

static void free_irps(void)
{
    for (int i = 0; i < REQUESTS; i++)
        IoFreeIrp(irps[i]);
}

static void start_next(void)
{
    KIRQL old = KeRaiseIrqlToDpcLevel();
    IoStartNextPacket(ktest_lower, false);
    KeLowerIrql(old);
}

KTEST(start_packet_one_at_a_time, "DVQ-03")
{
    allocate_irps();
    IoStartPacket(ktest_lower, irps[0], NULL, NULL);
    EXPECT(ktest_logged("a"));
    EXPECT(start_irql == DISPATCH_LEVEL && start_saw_current);
    EXPECT(KeGetCurrentIrql() == PASSIVE_LEVEL);
    IoStartPacket(ktest_lower, irps[1], NULL, NULL);
    IoStartPacket(ktest_lower, irps[2], NULL, NULL);
    EXPECT(ktest_logged("a") && ktest_lower->CurrentIrp == irps[0]);
    start_next();
    EXPECT(ktest_logged("ab") && ktest_lower->CurrentIrp == irps[1]);
    EXPECT(start_saw_current);
    start_next();
    EXPECT(ktest_logged("abc"));
    start_next();
    EXPECT(ktest_lower->CurrentIrp == NULL && !ktest_lower->DeviceQueue.Busy);
    IoStartPacket(ktest_lower, irps[3], NULL, NULL);
    EXPECT(ktest_logged("abcd"));
    start_next();
    EXPECT(ktest_lower->CurrentIrp == NULL && ktest_logged("abcd"));
    free_irps();
}

KTEST(start_packet_by_key, "DVQ-03 DVQ-02")
{
    static const uint32_t keys[REQUESTS] = { 9, 5, 3, 4 };
    allocate_irps();
    for (int i = 0; i < REQUESTS; i++)
        IoStartPacket(ktest_lower, irps[i], &keys[i], NULL);
    for (int i = 0; i < REQUESTS; i++)
        start_next();
    EXPECT(ktest_logged("acdb"));
    EXPECT(ktest_lower->CurrentIrp == NULL && !ktest_lower->DeviceQueue.Busy);
    free_irps();
}

// ---- Two processors at one device -----------------------------------------

enum { ROUNDS = 100000 };

static volatile uint32_t started[2];
static uint64_t draws[2];
static uint32_t not_current;

static void note_start(DEVICE_OBJECT *device, IRP *irp)
{
    not_current += device->CurrentIrp != irp;
    __atomic_store_n(&started[irp == irps[1]], 1, __ATOMIC_RELEASE);
}

// Sends its request again and again, after a drawn pause; each time it has had
// the device, it hands it on.
static void send_and_hand_on(void *context)
{
    uint32_t me = (uint32_t)(uintptr_t)context;
    uint64_t state = draws[me];
    for (uint32_t i = 0; i < ROUNDS; i++) {
        started[me] = 0;
        for (uint64_t pause = ktest_draw(&state) % 256; pause; pause--)
            __asm__ volatile("");
        IoStartPacket(ktest_lower, irps[me], NULL, NULL);
        if (!ktest_spin_until(&started[me]))
            return;
        start_next();
    }
}

KTEST(start_packet_on_two_processors, "DVQ-03")
{
    if (!ktest_has_processors(2))
        return;
    ktest_thread other;
    allocate_irps();
    ktest_driver.start_io = note_start;
    not_current = 0;
    for (int i = 0; i < 2; i++)
        draws[i] = ktest_random();
    ktest_start_on(&other, 1, send_and_hand_on, (void *)1);
    send_and_hand_on(NULL);
    ktest_join(&other);
    EXPECT(not_current == 0);
    EXPECT(ktest_lower->CurrentIrp == NULL && !ktest_lower->DeviceQueue.Busy);
    free_irps();
}
