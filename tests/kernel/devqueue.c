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
