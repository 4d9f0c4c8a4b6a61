// interrupts.c - a disk whose interrupts get lost or come when nothing is done:
// each request ends once and in the right status, and the next one works.
//
// Run by tests/qemu/test_device_faults.py with iotimeout=1, on a scratch disk.

#include "tests/kernel/driver.h"
#include "tests/kernel/faults.h"
#include "tests/kernel/ktest.h"

enum { WRITES = 16, AT_ONCE = 8, ROUNDS = 2, SECTOR = 512, DISK_IRQL = 5,
       SPINS = 20000 };

static uint8_t buffers[WRITES][SECTOR] __attribute__((aligned(PAGE_SIZE)));

static struct outcome {
    volatile uint32_t completions;
    NTSTATUS status;
    KEVENT *event;
} outcomes[WRITES];

static FILE_OBJECT *open_disk(uint32_t options)
{
    FILE_OBJECT *file = NULL;
    uintptr_t information;
    EXPECT(io_create_file(KTEST_DISK,
                          FILE_READ_DATA | FILE_WRITE_DATA, FILE_OPEN,
                          options, &file, &information) == STATUS_SUCCESS);
    return file;
}

// An IDE channel has one request at a time, with an interrupt of its own; the
// answers of NVMe are there for whichever interrupt comes.
static bool is_ide(const FILE_OBJECT *file)
{
    return *file->DeviceObject->DriverObject->DriverName == 'i';
}

static NTSTATUS transfer(FILE_OBJECT *file, uint8_t major, uint32_t sector)
{
    union {
        MDL mdl;
        uint8_t room[sizeof(MDL) + 2 * sizeof(PFN_NUMBER)];
    } memory = { 0 };
    MmBuildMdlForNonPagedPool(&memory.mdl, buffers[sector], SECTOR);
    return io_request(file, &(IO_STACK_LOCATION){
        .MajorFunction = major,
        .Parameters.Write = { SECTOR, (uint64_t)sector * SECTOR } },
        &memory.mdl, NULL, NULL);
}

static void start_faults(uint32_t lose, uint32_t repeat)
{
    ktest_fault.state = ktest_random() | 1;
    ktest_fault.lost = ktest_fault.repeated = 0;
    ktest_fault.lose = lose;
    ktest_fault.repeat = repeat;
    ktest_fault.irql = DISK_IRQL;
}

// Each write's status is what became of its own interrupt.
static void write_all(FILE_OBJECT *file)
{
    for (uint32_t i = 0; i < WRITES; i++) {
        uint32_t before = ktest_fault.lost;
        memset(buffers[i], (int)(i + 1), SECTOR);
        outcomes[i].status = transfer(file, IRP_MJ_WRITE, i);
        EXPECT(outcomes[i].status ==
               (ktest_fault.lost != before ? STATUS_IO_TIMEOUT
                                           : STATUS_SUCCESS));
    }
    ktest_fault.irql = 0;
}

// What was written is there. A write that timed out may have reached the disk
// or not: never foreign bytes.
static void read_all(FILE_OBJECT *file, uint32_t count, uint8_t before)
{
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *buffer = buffers[i], written = buffer[0];
        memset(buffer, 0xFF, SECTOR);
        EXPECT(transfer(file, IRP_MJ_READ, i) == STATUS_SUCCESS);
        EXPECT(buffer[0] == written ||
               (outcomes[i].status != STATUS_SUCCESS && buffer[0] == before));
        EXPECT(!memcmp(buffer, buffer + 1, SECTOR - 1));
    }
}

static void erase_all(FILE_OBJECT *file)
{
    memset(buffers, 0, sizeof(buffers));
    for (uint32_t i = 0; i < WRITES; i++)
        EXPECT(transfer(file, IRP_MJ_WRITE, i) == STATUS_SUCCESS);
}

KTEST(faults_lost_interrupts, "")
{
    FILE_OBJECT *file = open_disk(FILE_SYNCHRONOUS_IO_NONALERT);
    erase_all(file);
    do {    // a seed may lose none
        start_faults(3, 0);
        write_all(file);
    } while (!ktest_fault.lost);
    read_all(file, WRITES, 0);
    ObDereferenceObject(file);
}

KTEST(faults_repeated_interrupts, "")
{
    FILE_OBJECT *file = open_disk(FILE_SYNCHRONOUS_IO_NONALERT);
    uint32_t before = ki_processor[0]->spurious_count;
    erase_all(file);
    start_faults(0, 2);
    write_all(file);
    EXPECT(ktest_fault.repeated > 0);
    if (is_ide(file))
        EXPECT(ki_processor[0]->spurious_count - before ==
               ktest_fault.repeated);
    read_all(file, WRITES, 0);
    ObDereferenceObject(file);
}

// ---- Many at once -----------------------------------------------------------

static NTSTATUS note_outcome(DEVICE_OBJECT *device, IRP *irp, void *context)
{
    (void)device;
    struct outcome *outcome = context;
    outcome->status = irp->IoStatus.Status;
    __atomic_add_fetch(&outcome->completions, 1, __ATOMIC_SEQ_CST);
    return STATUS_SUCCESS;
}

static void send_write(FILE_OBJECT *file, uint32_t i)
{
    IRP *irp = ktest_build_read(file);
    irp->MdlAddress = IoAllocateMdl((uintptr_t)buffers[i], SECTOR);
    MmBuildMdlForNonPagedPool(irp->MdlAddress, buffers[i], SECTOR);
    irp->MdlAddress->from_pool = true;
    IO_STACK_LOCATION *stack = IoGetNextIrpStackLocation(irp);
    stack->MajorFunction = IRP_MJ_WRITE;
    stack->Parameters.Write.Length = SECTOR;
    stack->Parameters.Write.ByteOffset = (uint64_t)i * SECTOR;
    outcomes[i] = (struct outcome){ .event = ktest_create_event() };
    irp->UserEvent = outcomes[i].event;
    ObReferenceObject(irp->UserEvent);
    IoSetCompletionRoutine(irp, note_outcome, &outcomes[i], true, true, true);
    EXPECT(io_send(file, irp) == STATUS_PENDING);
}

// Sends writes of `value`, raises the disk's interrupt while they are under way
// if that is asked for, and gives the number that timed out.
static uint32_t write_at_once(FILE_OBJECT *file, uint8_t value, bool raises)
{
    uint32_t timed_out = 0;
    memset(buffers, value, sizeof(buffers));
    for (uint32_t i = 0; i < AT_ONCE; i++)
        send_write(file, i);
    for (uint32_t i = 0; i < AT_ONCE; i++) {
        while (raises && !outcomes[i].completions) {
            hal_send_self_ipi(ktest_fault.vector);
            for (volatile uint64_t n = ktest_random() % SPINS; n; n--)
                continue;
        }
        EXPECT(ktest_wait(outcomes[i].event));
        ObDereferenceObject(outcomes[i].event);
        EXPECT(outcomes[i].completions == 1);
        EXPECT(outcomes[i].status == STATUS_SUCCESS ||
               outcomes[i].status == STATUS_IO_TIMEOUT);
        timed_out += outcomes[i].status == STATUS_IO_TIMEOUT;
    }
    return timed_out;
}

KTEST(faults_interrupts_for_nothing, "")
{
    FILE_OBJECT *file = open_disk(0);
    uint32_t before = ki_processor[0]->spurious_count;
    start_faults(0, 2);
    EXPECT(transfer(file, IRP_MJ_READ, 0) == STATUS_SUCCESS);    // the vector
    hal_send_self_ipi(ktest_fault.vector);
    for (uint8_t round = 1; round <= ROUNDS; round++) {
        EXPECT(write_at_once(file, round, true) == 0);
        read_all(file, AT_ONCE, 0);
    }
    if (is_ide(file))
        EXPECT(ki_processor[0]->spurious_count - before >
               ktest_fault.repeated);
    ktest_fault.irql = 0;
    ktest_close(file);
}

KTEST(faults_some_of_many_lost, "")
{
    FILE_OBJECT *file = open_disk(0);
    erase_all(file);
    for (uint8_t round = 1; round <= ROUNDS; round++) {
        start_faults(3, 0);
        uint32_t timed_out = write_at_once(file, round, false);
        ktest_fault.irql = 0;
        if (is_ide(file))    // the reset that a loss leads to interrupts, too
            EXPECT(timed_out <= ktest_fault.lost &&
                   (timed_out > 0) == (ktest_fault.lost > 0));
        else
            EXPECT(!timed_out || ktest_fault.lost > 0);
        read_all(file, AT_ONCE, (uint8_t)(round - 1));
        write_at_once(file, round, false);
    }
    ktest_close(file);
}
