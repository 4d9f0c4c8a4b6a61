// init.c - finds NVMe controllers, and gives each its memory and interrupts.
//
// The only place where the driver polls. Rings must be contiguous in memory,
// which frames are as long as nobody has used them.

#include "drivers/nvme/nvme.h"

#define POLL_LIMIT 100000000ull    // 10 s, in 100 ns; for all steps of a start
#define POLL_EVERY 1000              // 100 us, asleep

enum {
    FIRST_IRQL = 5,
    ADMIN_PAGES = 4,
    MAXIMUM_TRANSFER = 9,    // 2 ^ 9 pages: what one page of PRPs can list
    SMALLEST_SECTOR_SHIFT = 9,
};

// PCI: the function's class, its BAR 0 and its capability MSI-X (PCI 3.0,
// sections 6.1, 6.7, 6.8.2). Messages go to a local APIC.
enum {
    PCI_CLASS_NVME = 0x010802,
    PCI_BAR0 = 0x10, PCI_BAR_FLAGS = 0xF, PCI_BAR_64_BITS = 0x4,
    PCI_CAPABILITIES = 0x34, PCI_CAPABILITY_MSIX = 0x11,
    PCI_NEXT_SHIFT = 8, PCI_POINTER_MASK = 0xFC, PCI_ID_MASK = 0xFF,
    MSIX_SIZE_SHIFT = 16, MSIX_SIZE_MASK = 0x7FF,    // less one
    MSIX_TABLE = 4, MSIX_BAR_MASK = 7, MSIX_APIC_SHIFT = 12,
};
#define MSIX_ENABLE  (1u << 31)
#define MSIX_ADDRESS 0xFEE00000u

typedef struct msix_entry {
    uint32_t address, address_high, data, masked;
} msix_entry;

// The capabilities register (3.1.1), and what Identify says (5.15.2).
enum {
    CAP_ENTRIES_MASK = 0xFFFF,    // of a queue, less one
    CAP_STRIDE_MASK = 0xF, DOORBELLS = 0x1000,
    ID_MAX_TRANSFER = 77,         // 2 ^ n pages; 0: no limit
    ID_FORMAT_IN_USE = 26, ID_FORMAT_MASK = 0xF,
    ID_FORMATS = 128, ID_FORMAT_SIZE = 4, ID_FORMAT_SECTOR = 2,
};

static nvme_controller *controllers;    // for their shutdown

// ---- Memory ---------------------------------------------------------------

// Takes frames until so many follow each other. At boot nearly all do: the few
// others are not worth giving back.
static void *allocate_contiguous(uint64_t pages)
{
    PFN_NUMBER first = 0, run = 0, frame;
    while (run < pages && (frame = mm_allocate_frame(0)) != 0) {
        if (frame != first + run) {
            first = frame;
            run = 0;
        }
        run++;
    }
    return run == pages ? mm_frame_to_virt(first) : NULL;
}

static NTSTATUS prepare_queue(nvme_controller *c, uint32_t index,
                              uint32_t depth, msix_entry *message)
{
    nvme_queue *q = &c->queues[index];
    uint64_t sq_pages = BYTES_TO_PAGES(depth * sizeof(*q->sq));
    uint64_t cq_pages = BYTES_TO_PAGES(depth * sizeof(*q->cq));
    q->controller = c;
    q->last = depth - 1;
    q->sq = allocate_contiguous(2 * sq_pages + cq_pages);
    q->slots = mm_allocate_system_pages(
        (uint32_t)BYTES_TO_PAGES(depth * sizeof(*q->slots)));
    uint8_t vector = 0;
    for (KIRQL irql = FIRST_IRQL; !vector && irql <= DEVICE_LEVEL_MAX; irql++)
        vector = ke_allocate_vector(irql);
    if (!q->sq || !q->slots || !vector)
        return STATUS_INSUFFICIENT_RESOURCES;
    for (uint32_t i = 0; i < depth; i++)
        q->sq[i].namespace = NVME_NAMESPACE;    // in all commands
    q->cq = (nvme_completion *)((char *)q->sq + 2 * sq_pages * PAGE_SIZE);
    q->sq_doorbell = c->doorbells + 2 * (index + 1) * c->stride;
    q->cq_doorbell = q->sq_doorbell + c->stride;
    q->phase = NVME_PHASE;
    KeInitializeSpinLock(&q->lock);
    InitializeListHead(&q->waiting);
    KeInitializeDpc(&q->dpc, nvme_dpc, q);
    KeInitializeDpc(&q->timeout_dpc, nvme_timeout_dpc, q);
    KeSetTargetProcessorDpc(&q->timeout_dpc, (uint8_t)index);
    ke_register_watchdog(&q->watchdog, io_request_timeout, &q->timeout_dpc);
    ke_connect_interrupt(&q->interrupt, nvme_isr, q, vector, false);
    *message = (msix_entry){
        .address = MSIX_ADDRESS |
                   ki_processor[index]->apic_id << MSIX_APIC_SHIFT,
        .data = vector,
    };
    return STATUS_SUCCESS;
}

// ---- Controllers ----------------------------------------------------------

// Where the memory of a base address register lies.
static uint64_t read_bar(const hal_pci_function *pci, uint32_t number)
{
    uint8_t at = (uint8_t)(PCI_BAR0 + number * sizeof(uint32_t));
    uint64_t bar = hal_pci_read(pci, at);
    if (bar & PCI_BAR_64_BITS)
        bar |= (uint64_t)hal_pci_read(pci, at + sizeof(uint32_t)) << 32;
    return bar & ~(uint64_t)PCI_BAR_FLAGS;
}

// Maps registers and interrupt table, and prepares all queues.
static NTSTATUS prepare(nvme_controller *c, uint8_t msix)
{
    uint64_t base = read_bar(&c->pci, 0);
    uint32_t table = hal_pci_read(&c->pci, msix + MSIX_TABLE);
    msix_entry *messages = MmMapIoSpace(
        read_bar(&c->pci, table & MSIX_BAR_MASK) + (table & ~MSIX_BAR_MASK),
        (c->queue_count + 1) * sizeof(*messages));
    c->registers = MmMapIoSpace(base, DOORBELLS);
    uint8_t *admin = allocate_contiguous(ADMIN_PAGES);
    if (!messages || !c->registers || !admin)
        return STATUS_INSUFFICIENT_RESOURCES;
    uint32_t depth = (c->registers[NVME_CAP] & CAP_ENTRIES_MASK) + 1;
    depth = 1u << (31 - __builtin_clz(depth));    // see next_place
    c->stride = 1u << (c->registers[NVME_CAP + 1] & CAP_STRIDE_MASK);
    c->doorbells = MmMapIoSpace(base + DOORBELLS, 2 * (c->queue_count + 1) *
                                                      c->stride *
                                                      sizeof(uint32_t));
    if (!c->doorbells)
        return STATUS_INSUFFICIENT_RESOURCES;
    c->admin_sq = (nvme_command *)admin;
    c->admin_cq = (nvme_completion *)(admin + PAGE_SIZE);
    c->identity[0] = admin + 2 * PAGE_SIZE;
    c->identity[1] = admin + 3 * PAGE_SIZE;
    KeInitializeTimerEx(&c->timer, NotificationTimer);
    KeInitializeDpc(&c->timer_dpc, nvme_timer_dpc, c);
    KeSetTargetProcessorDpc(&c->timer_dpc, 0);    // PCI: controllers take turns
    for (uint32_t i = 0; i < c->queue_count; i++)
        NT_TRY(prepare_queue(c, i, depth, &messages[i + 1]));
    hal_pci_write(&c->pci, msix, hal_pci_read(&c->pci, msix) | MSIX_ENABLE);
    return STATUS_SUCCESS;
}

// From whatever firmware left to queues that work.
static NTSTATUS start(nvme_controller *c)
{
    uint64_t end = KeQueryInterruptTime() + POLL_LIMIT;
    NTSTATUS status;
    c->registers[NVME_CC] = 0;
    while ((status = nvme_next_step(c)) == STATUS_PENDING &&
           KeQueryInterruptTime() < end)
        KeDelayExecutionThread(KernelMode, false, &(int64_t){ -POLL_EVERY });
    if (status != STATUS_SUCCESS)
        return STATUS_DEVICE_NOT_READY;
    for (uint32_t i = 0; i < KeNumberProcessors; i++)
        c->queue_of[i] = &c->queues[i % c->queue_count];
    c->next = controllers;
    controllers = c;
    return STATUS_SUCCESS;
}

// Makes the disk that the controller's namespace is.
static NTSTATUS create_disk(DRIVER_OBJECT *driver, nvme_controller *c)
{
    const uint8_t *namespace = c->identity[1];
    const uint8_t *format = &namespace[ID_FORMATS];
    format += (namespace[ID_FORMAT_IN_USE] & ID_FORMAT_MASK) * ID_FORMAT_SIZE;
    uint8_t shift = format[ID_FORMAT_SECTOR];
    uint8_t transfer = c->identity[0][ID_MAX_TRANSFER];
    uint64_t sectors;
    memcpy(&sectors, namespace, sizeof(sectors));
    // It begins with the bytes of metadata that go with each sector, which the
    // device would move behind the buffer.
    if (!sectors || shift < SMALLEST_SECTOR_SHIFT || shift > PAGE_SHIFT ||
        format[0] || format[1])
        return STATUS_DEVICE_NOT_READY;
    if (!transfer || transfer > MAXIMUM_TRANSFER)
        transfer = MAXIMUM_TRANSFER;
    nvme_disk disk = {
        .disk = { .size = sectors << shift, .alignment = sizeof(uint32_t) - 1,
                  .send = nvme_send },
        .controller = c, .max_bytes = PAGE_SIZE << transfer,
        .sector_shift = shift,
    };
    return disk_create(driver, &disk.disk, sizeof(disk), 1u << shift);
}

static NTSTATUS create_controller(DRIVER_OBJECT *driver,
                                  const hal_pci_function *pci)
{
    uint8_t msix = hal_pci_read(pci, PCI_CAPABILITIES) & PCI_POINTER_MASK;
    while (msix && (hal_pci_read(pci, msix) & PCI_ID_MASK) !=
                       PCI_CAPABILITY_MSIX)
        msix = hal_pci_read(pci, msix) >> PCI_NEXT_SHIFT & PCI_POINTER_MASK;
    uint32_t others =
        msix ? hal_pci_read(pci, msix) >> MSIX_SIZE_SHIFT & MSIX_SIZE_MASK : 0;
    if (!others)    // than the admin queue's interrupt
        return STATUS_DEVICE_NOT_READY;
    uint32_t count = MIN(KeNumberProcessors, others);
    nvme_controller *c = mm_allocate_system_pages((uint32_t)BYTES_TO_PAGES(
        sizeof(*c) + count * sizeof(c->queues[0])));
    if (!c)
        return STATUS_INSUFFICIENT_RESOURCES;
    c->queue_count = count;
    c->pci = *pci;
    disk_set_bus_master(pci, true);
    NT_TRY(prepare(c, msix));
    NT_TRY(start(c));
    return create_disk(driver, c);
}

// ---- The driver -----------------------------------------------------------

// What the controllers have in a cache goes to the disks: before the machine is
// turned off. The device is told to, and looked at until it has.
static void shut_down(void)
{
    uint64_t end = KeQueryInterruptTime() + POLL_LIMIT;
    for (nvme_controller *c = controllers; c; c = c->next) {
        c->registers[NVME_CC] = NVME_CC_ENABLE | NVME_CC_SHUTDOWN;
        while (!(c->registers[NVME_CSTS] & NVME_CSTS_SHUT_DOWN) &&
               KeQueryInterruptTime() < end)
            continue;
    }
}

// Entry routine: makes \Device\HarddiskN\DRN and \??\PhysicalDriveN for each
// controller. Polls for as long as they take to start.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, also without a controller
//          STATUS_DEVICE_NOT_READY        one that does not start, has no MSI-X
//                                         or is no disk
//          STATUS_INSUFFICIENT_RESOURCES  no memory, vector or name; the disks
//                                         that were made work in any case
NTSTATUS nvme_driver_entry(DRIVER_OBJECT *driver)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    hal_pci_function pci = { 0 };
    NTSTATUS status, failure = STATUS_SUCCESS;
    driver->ring = nvme_ring;
    while (hal_pci_next(&pci))
        if (pci.class >> 8 == PCI_CLASS_NVME &&
            !NT_SUCCESS(status = create_controller(driver, &pci)))
            failure = status;
    hal_before_exit = shut_down;
    return failure;    // of the last that does not work
}
