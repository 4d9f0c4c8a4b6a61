// interrupts.c - a disk whose interrupts get lost or come twice: each request
// ends in the right status, and the next one works.
//
// Run by tests/qemu/test_device_faults.py with iotimeout=1, on a scratch disk.

#include "tests/kernel/faults.h"
#include "tests/kernel/ktest.h"

enum { WRITES = 16, SECTOR = 512, DISK_IRQL = 5 };

static uint8_t buffer[SECTOR] __attribute__((aligned(SECTOR)));

static FILE_OBJECT *open_disk(void)
{
    FILE_OBJECT *file = NULL;
    uintptr_t information;
    EXPECT(io_create_file("\\??\\PhysicalDrive0",
                          FILE_READ_DATA | FILE_WRITE_DATA, FILE_OPEN,
                          FILE_SYNCHRONOUS_IO_NONALERT, &file,
                          &information) == STATUS_SUCCESS);
    return file;
}

static NTSTATUS transfer(FILE_OBJECT *file, uint8_t major, uint32_t sector)
{
    union {
        MDL mdl;
        uint8_t room[sizeof(MDL) + 2 * sizeof(PFN_NUMBER)];
    } memory = { 0 };
    MmBuildMdlForNonPagedPool(&memory.mdl, buffer, sizeof(buffer));
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
        memset(buffer, (int)(i + 1), sizeof(buffer));
        NTSTATUS status = transfer(file, IRP_MJ_WRITE, i);
        EXPECT(status == (ktest_fault.lost != before ? STATUS_IO_TIMEOUT
                                                     : STATUS_SUCCESS));
    }
    ktest_fault.irql = 0;
}

// A write that timed out may have reached the disk or not: never foreign bytes.
static void read_all(FILE_OBJECT *file)
{
    for (uint32_t i = 0; i < WRITES; i++) {
        memset(buffer, 0xFF, sizeof(buffer));
        EXPECT(transfer(file, IRP_MJ_READ, i) == STATUS_SUCCESS);
        EXPECT(buffer[0] == i + 1 || buffer[0] == 0);
        EXPECT(!memcmp(buffer, buffer + 1, sizeof(buffer) - 1));
    }
}

KTEST(faults_lost_interrupts, "")
{
    FILE_OBJECT *file = open_disk();
    start_faults(3, 0);
    write_all(file);
    EXPECT(ktest_fault.lost > 0 && ktest_fault.lost < WRITES);
    read_all(file);
    ObDereferenceObject(file);
}

KTEST(faults_spurious_interrupts, "")
{
    FILE_OBJECT *file = open_disk();
    uint32_t before = ki_processor[0]->spurious_count;
    start_faults(0, 2);
    write_all(file);
    EXPECT(ktest_fault.repeated > 0);
    EXPECT(ki_processor[0]->spurious_count - before == ktest_fault.repeated);
    read_all(file);
    ObDereferenceObject(file);
}
