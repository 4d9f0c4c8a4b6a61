// init.c - finds the IDE controller, its channels and their disks.
//
// The only place where the driver polls: nothing else runs yet, and the disks'
// interrupts are off. Every loop has a bound, so that a missing or broken disk
// costs seconds at most, and no boot.

#include "drivers/ide/ide.h"

#define POLL_LIMIT 50000000ull    // 5 s, in 100 ns
#define RESET_HOLD 50ull          // 5 us at least (ATA/ATAPI-6, clause 9.2)
#define RESET_WAIT 20000ull       // 2 ms until BSY may be trusted

#define SECTOR_WORDS (IDE_SECTOR_SIZE / sizeof(uint16_t))

// PCI configuration (PCI 3.0, section 6.2); a programming interface that has
// a bus master and both channels at their ISA addresses (PIIX3, 2.3.6).
enum {
    PCI_COMMAND = 0x04,
    PCI_COMMAND_IO = 0x0001,
    PCI_COMMAND_MASTER = 0x0004,
    PCI_COMMAND_MASK = 0xFFFF,    // above it: status, where 1 clears
    PCI_BAR4 = 0x20,
    PCI_BAR_IO_MASK = 0xFFFC,
    PCI_CLASS_STORAGE = 0x01,
    PCI_SUBCLASS_IDE = 0x01,
    PCI_IDE_MODE_MASK = 0x85,
    PCI_IDE_BUS_MASTER = 0x80,
};

// Words of IDENTIFY DEVICE (ATA/ATAPI-6, clause 8.15), and their bits.
enum {
    ID_CAPABILITIES = 49,
    ID_DMA_AND_LBA = 0x0300,
    ID_SECTORS28 = 60,    // 2 words
    ID_COMMAND_SETS = 83,
    ID_LBA48 = 0x0400,
    ID_FLUSH_CACHE = 0x1000,
    ID_FLUSH_CACHE_EXT = 0x2000,
    ID_SECTORS48 = 100,    // 4 words
};

// A boot sector that begins a FAT or NTFS volume (FAT specification 1.03,
// section 3.1): a jump, a plausible sector size, the signature.
enum {
    BOOT_JUMP_SHORT = 0xEB,
    BOOT_JUMP_NEAR = 0xE9,
    BOOT_SECTOR_SIZE = 11,
    BOOT_MAX_SECTOR_SIZE = 4096,
    BOOT_SIGNATURE_WORD = 255,
    BOOT_SIGNATURE = 0xAA55,
};

// Where a PC has the channels in compatibility mode.
static const struct channel_place {
    const char *name;
    uint16_t command, control;
    uint8_t irq;
} channel_places[IDE_CHANNELS] = {
    { "\\Device\\Ide\\IdePort0", 0x1F0, 0x3F6, 14 },
    { "\\Device\\Ide\\IdePort1", 0x170, 0x376, 15 },
};

// In the order in which the disks are found.
static const char *const disk_names[IDE_CHANNELS * IDE_UNITS] = {
    "\\Device\\Harddisk0\\DR0",
    "\\Device\\Harddisk1\\DR1",
    "\\Device\\Harddisk2\\DR2",
    "\\Device\\Harddisk3\\DR3",
};

static uint32_t disk_count;

// ---- Polling --------------------------------------------------------------

static void stall(uint64_t interval)
{
    uint64_t end = KeQueryInterruptTime() + interval;
    while (KeQueryInterruptTime() < end)
        __builtin_ia32_pause();
}

// Waits until the selected disk is not busy.
//
// Returns: its status; with IDE_STATUS_BUSY if it hangs, or there is no bus
static uint8_t wait_ready(const ide_channel *channel)
{
    uint64_t end = KeQueryInterruptTime() + POLL_LIMIT;
    uint8_t status;
    do {
        status = hal_in8(channel->control);
    } while (status & IDE_STATUS_BUSY && status != IDE_STATUS_FLOATING &&
             KeQueryInterruptTime() < end);
    return status;
}

// Resets both disks and leaves their interrupts off. Disk 0 is selected
// first: a place without a disk does not show that it is busy, and what is
// written to the registers meanwhile gets lost.
static void reset(const ide_channel *channel)
{
    hal_out8(channel->command + IDE_DEVICE, IDE_DEVICE_LBA);
    hal_out8(channel->control, IDE_CONTROL_NO_INTERRUPT | IDE_CONTROL_RESET);
    stall(RESET_HOLD);
    hal_out8(channel->control, IDE_CONTROL_NO_INTERRUPT);
    stall(RESET_WAIT);
    wait_ready(channel);
}

// Has a disk return one sector's worth of words by programmed I/O.
static bool read_words(const ide_disk *disk, uint8_t command, uint16_t *words)
{
    ide_send_command(disk, command, 0, 1, false);
    uint8_t status = wait_ready(disk->channel);
    if (status & IDE_STATUS_BUSY)
        reset(disk->channel);    // or the other disk would be lost as well
    if ((status & (IDE_STATUS_BUSY | IDE_STATUS_DATA_REQUEST |
                   IDE_STATUS_ERROR)) != IDE_STATUS_DATA_REQUEST)
        return false;
    for (size_t i = 0; i < SECTOR_WORDS; i++)
        words[i] = hal_in16(disk->channel->command + IDE_DATA);
    return true;
}

// ---- Disks ----------------------------------------------------------------

// Fills in disk from what it says about itself. No disk at all, an ATAPI
// drive, one without LBA or DMA and one without a sector are none of ours.
static bool identify(ide_disk *disk)
{
    uint16_t id[SECTOR_WORDS];
    if (!read_words(disk, IDE_IDENTIFY_DEVICE, id) ||
        (id[ID_CAPABILITIES] & ID_DMA_AND_LBA) != ID_DMA_AND_LBA)
        return false;

    uint16_t sets = id[ID_COMMAND_SETS];
    if (sets & ID_LBA48) {
        memcpy(&disk->sectors, &id[ID_SECTORS48], sizeof(uint64_t));
        disk->max_bytes = IDE_LBA48_MAX_SECTORS * IDE_SECTOR_SIZE;
    } else {
        memcpy(&disk->sectors, &id[ID_SECTORS28], sizeof(uint32_t));
        disk->max_bytes = IDE_LBA28_MAX_SECTORS * IDE_SECTOR_SIZE;
    }
    disk->flush_command = sets & ID_FLUSH_CACHE_EXT ? IDE_FLUSH_CACHE_EXT
                          : sets & ID_FLUSH_CACHE   ? IDE_FLUSH_CACHE
                                                    : 0;
    return disk->sectors != 0;
}

// Whether the disk begins with a file system, which a program that looks for
// scratch space must leave alone.
static bool has_volume(const ide_disk *disk)
{
    uint16_t words[SECTOR_WORDS];
    if (!read_words(disk, IDE_READ_SECTORS, words) ||
        words[BOOT_SIGNATURE_WORD] != BOOT_SIGNATURE)
        return false;
    const uint8_t *boot = (const uint8_t *)words;
    uint32_t size = boot[BOOT_SECTOR_SIZE] | boot[BOOT_SECTOR_SIZE + 1] << 8;
    return (boot[0] == BOOT_JUMP_SHORT || boot[0] == BOOT_JUMP_NEAR) &&
           size >= IDE_SECTOR_SIZE && size <= BOOT_MAX_SECTOR_SIZE &&
           (size & (size - 1)) == 0;
}

static NTSTATUS create_disk(DRIVER_OBJECT *driver, const ide_disk *found)
{
    DEVICE_OBJECT *device;
    const char *name = disk_names[disk_count];
    NTSTATUS status = IoCreateDevice(driver, sizeof(ide_disk), name,
                                     FILE_DEVICE_DISK, &device);
    if (!NT_SUCCESS(status))
        return status;
    device->Flags |= DO_DIRECT_IO;
    device->SectorSize = IDE_SECTOR_SIZE;
    device->seekable = true;

    ide_disk *disk = device->DeviceExtension;
    *disk = *found;
    disk->has_volume = has_volume(disk);
    disk->number = disk_count++;
    return io_register_disk(device, name);
}

// ---- Channels -------------------------------------------------------------

// Gives the channel what its first request needs: the PRD table, which as one
// frame crosses no boundary, the watchdog and the interrupt.
static NTSTATUS prepare_channel(ide_channel *channel, uint8_t irq)
{
    PFN_NUMBER frame = mm_allocate_frame(0);
    uint64_t table = (uint64_t)frame << PAGE_SHIFT;
    if (!frame || table > UINT32_MAX)
        return STATUS_INSUFFICIENT_RESOURCES;
    channel->prds = mm_frame_to_virt(frame);
    hal_out32(channel->bus_master + IDE_BM_PRD_TABLE, (uint32_t)table);
    hal_out8(channel->bus_master + IDE_BM_STATUS,
             IDE_BM_INTERRUPT | IDE_BM_ERROR);

    KeInitializeTimerEx(&channel->reset_timer, NotificationTimer);
    KeInitializeDpc(&channel->reset_dpc, ide_reset_dpc, channel);
    KeInitializeDpc(&channel->timeout_dpc, ide_timeout_dpc, channel);
    ke_register_watchdog(&channel->watchdog, io_request_timeout(),
                         &channel->timeout_dpc);
    IoInitializeDpcRequest(channel->device, ide_dpc);
    return ke_connect_line(&channel->interrupt, irq, IDE_IRQL, false, ide_isr,
                           channel);
}

// Makes the devices of one channel and its disks.
static NTSTATUS create_channel(DRIVER_OBJECT *driver,
                               const struct channel_place *place,
                               uint16_t bus_master)
{
    DEVICE_OBJECT *device;
    NTSTATUS status = IoCreateDevice(driver, sizeof(ide_channel), place->name,
                                     FILE_DEVICE_DISK, &device);
    if (!NT_SUCCESS(status))
        return status;
    ide_channel *channel = device->DeviceExtension;
    channel->device = device;
    channel->command = place->command;
    channel->control = place->control;
    channel->bus_master = bus_master;
    status = prepare_channel(channel, place->irq);
    if (!NT_SUCCESS(status))
        return status;

    reset(channel);
    for (uint8_t unit = 0; unit < IDE_UNITS && NT_SUCCESS(status); unit++) {
        ide_disk found = { .channel = channel, .unit = unit };
        if (identify(&found))
            status = create_disk(driver, &found);
    }
    hal_out8(channel->control, 0);    // interrupts on
    return status;
}

// ---- The controller -------------------------------------------------------

static bool is_controller(const hal_pci_function *pci, void *context)
{
    if (pci->class_code != PCI_CLASS_STORAGE ||
        pci->subclass != PCI_SUBCLASS_IDE ||
        (pci->programming_interface & PCI_IDE_MODE_MASK) != PCI_IDE_BUS_MASTER)
        return false;
    *(hal_pci_function *)context = *pci;
    return true;
}

// Entry routine: makes \Device\Ide\IdePortN, \Device\HarddiskN\DRN and
// \??\PhysicalDriveN. Polls for as long as the disks take to answer.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, also without any disk
//          STATUS_NO_SUCH_DEVICE          no controller of this kind
//          STATUS_INSUFFICIENT_RESOURCES  no memory, vector or name; the disks
//                                         that were made before work
NTSTATUS ide_driver_entry(DRIVER_OBJECT *driver)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    driver->DriverStartIo = ide_start_io;    // only channels start packets
    driver->MajorFunction[IRP_MJ_CREATE] = ide_create;
    driver->MajorFunction[IRP_MJ_READ] = ide_read_write;
    driver->MajorFunction[IRP_MJ_WRITE] = ide_read_write;
    driver->MajorFunction[IRP_MJ_FLUSH_BUFFERS] = ide_flush;
    driver->MajorFunction[IRP_MJ_QUERY_INFORMATION] = ide_query_information;
    driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = ide_device_control;

    hal_pci_function pci = { 0 };
    hal_pci_scan(is_controller, &pci);
    if (pci.class_code != PCI_CLASS_STORAGE)
        return STATUS_NO_SUCH_DEVICE;
    uint32_t command = hal_pci_read(&pci, PCI_COMMAND) & PCI_COMMAND_MASK;
    hal_pci_write(&pci, PCI_COMMAND,
                  command | PCI_COMMAND_IO | PCI_COMMAND_MASTER);
    uint16_t bus_master = hal_pci_read(&pci, PCI_BAR4) & PCI_BAR_IO_MASK;

    NTSTATUS status = STATUS_SUCCESS;
    for (uint16_t i = 0; i < IDE_CHANNELS && NT_SUCCESS(status); i++)
        status =
            create_channel(driver, &channel_places[i],
                           (uint16_t)(bus_master + i * IDE_BM_CHANNEL_SIZE));
    return status;
}
