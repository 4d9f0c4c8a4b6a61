// init.c - finds the IDE controller, its channels and their disks.
//
// The only place where the driver polls, for what a disk says about itself:
// firmware has left the channels idle. Every loop has a bound, so that a broken
// disk costs seconds at most, and no boot. ide_isr finds no command of its own
// then, and only says thank you.

#include "drivers/ide/ide.h"

#define POLL_LIMIT 50000000ull    // 5 s, in 100 ns

// PCI configuration (PCI 3.0, section 6.2): storage, IDE, and a programming
// interface that has a bus master and both channels at their ISA addresses
// (PIIX3, 2.3.6).
enum {
    PCI_BAR4 = 0x20, PCI_BAR_IO_MASK = 0xFFFC,
    PCI_IDE_MASK = 0xFFFF85, PCI_IDE_BUS_MASTER = 0x010180,
};

// Words of IDENTIFY DEVICE (ATA/ATAPI-6, clause 8.15), and their bits.
enum {
    ID_CAPABILITIES = 49, ID_DMA_AND_LBA = 0x0300,
    ID_COMMAND_SETS = 83, ID_LBA48 = 0x0400,
    ID_SECTORS48 = 100,    // 4 words
};

// Where a PC has the channels in compatibility mode.
static const struct channel_place {
    uint16_t command, control;
    uint8_t irq;
} channel_places[IDE_CHANNELS] = { { 0x1F0, 0x3F6, 14 }, { 0x170, 0x376, 15 } };

// ---- Disks ----------------------------------------------------------------

// Fills in disk from what it says about itself, by programmed I/O. No disk at
// all, an ATAPI drive, one without DMA or 48-bit addresses (and the flush that
// comes with them), and one without a sector are none of ours.
static bool identify(ide_disk *disk)
{
    const ide_channel *channel = disk->channel;
    uint16_t id[IDE_SECTOR_SIZE / sizeof(uint16_t)];
    uint8_t status;
    uint64_t end = KeQueryInterruptTime() + POLL_LIMIT;
    ide_send_command(disk, IDE_IDENTIFY_DEVICE, 0, 1, false);
    do {
        status = hal_in8(channel->control);
    } while (status & IDE_STATUS_BUSY && status != IDE_STATUS_FLOATING &&
             KeQueryInterruptTime() < end);
    if ((status & (IDE_STATUS_BUSY | IDE_STATUS_DATA_REQUEST |
                   IDE_STATUS_ERROR)) != IDE_STATUS_DATA_REQUEST)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(id); i++)
        id[i] = hal_in16(channel->command + IDE_DATA);
    memcpy(&disk->disk.size, &id[ID_SECTORS48], sizeof(disk->disk.size));
    disk->disk.size *= IDE_SECTOR_SIZE;
    return (id[ID_CAPABILITIES] & ID_DMA_AND_LBA) == ID_DMA_AND_LBA &&
           id[ID_COMMAND_SETS] & ID_LBA48 && disk->disk.size;
}

// Makes the disk at this place of a channel, if there is one.
static NTSTATUS create_disk(DRIVER_OBJECT *driver, ide_channel *channel,
                            uint8_t unit)
{
    ide_disk found = { .channel = channel, .unit = unit,
                       .disk = { .alignment = sizeof(uint16_t) - 1,
                                 .send = ide_send } };
    return identify(&found) ? disk_create(driver, &found.disk, sizeof(found),
                                          IDE_SECTOR_SIZE)
                            : STATUS_SUCCESS;
}

// ---- Channels -------------------------------------------------------------

// Makes the device of one channel, with all that its first request needs, and
// its disks. The PRD table, as one frame, crosses no boundary.
static NTSTATUS create_channel(DRIVER_OBJECT *driver,
                               const struct channel_place *place,
                               uint16_t bus_master)
{
    DEVICE_OBJECT *device;
    NT_TRY(IoCreateDevice(driver, sizeof(ide_channel), NULL, FILE_DEVICE_DISK,
                          &device));
    ide_channel *channel = device->DeviceExtension;
    PFN_NUMBER frame = mm_allocate_frame(0);
    uint64_t table = (uint64_t)frame << PAGE_SHIFT;
    if (!frame || table > UINT32_MAX)
        return STATUS_INSUFFICIENT_RESOURCES;
    channel->device = device;
    channel->command = place->command;
    channel->control = place->control;
    channel->bus_master = bus_master;
    channel->prds = mm_frame_to_virt(frame);
    hal_out32(bus_master + IDE_BM_PRD_TABLE, (uint32_t)table);
    hal_out8(bus_master + IDE_BM_STATUS, IDE_BM_INTERRUPT | IDE_BM_ERROR);
    hal_out8(channel->control, 0);    // interrupts on

    KeInitializeSpinLock(&channel->starting);
    KeInitializeTimerEx(&channel->reset_timer, NotificationTimer);
    KeInitializeDpc(&channel->reset_dpc, ide_reset_dpc, channel);
    KeInitializeDpc(&channel->timeout_dpc, ide_timeout_dpc, channel);
    ke_register_watchdog(&channel->watchdog, io_request_timeout,
                         &channel->timeout_dpc);
    IoInitializeDpcRequest(device, ide_dpc);
    NT_TRY(ke_connect_line(&channel->interrupt, place->irq, IDE_IRQL, false,
                           ide_isr, channel));
    for (uint8_t unit = 0; unit < IDE_UNITS; unit++)
        NT_TRY(create_disk(driver, channel, unit));
    return STATUS_SUCCESS;
}

// Entry routine: makes \Device\HarddiskN\DRN and \??\PhysicalDriveN. Polls for
// as long as the disks take to answer.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, also without any disk
//          STATUS_NO_SUCH_DEVICE          no controller of this kind
//          STATUS_INSUFFICIENT_RESOURCES  no memory, vector or name; the disks
//                                         that were made before work
NTSTATUS ide_driver_entry(DRIVER_OBJECT *driver)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    hal_pci_function pci = { 0 };
    driver->DriverStartIo = ide_start_io;
    do {
        if (!hal_pci_next(&pci))
            return STATUS_NO_SUCH_DEVICE;
    } while ((pci.class >> 8 & PCI_IDE_MASK) != PCI_IDE_BUS_MASTER);
    disk_set_bus_master(&pci, true);
    uint16_t bus_master = hal_pci_read(&pci, PCI_BAR4) & PCI_BAR_IO_MASK;
    for (uint16_t i = 0; i < IDE_CHANNELS; i++)
        NT_TRY(create_channel(
            driver, &channel_places[i],
            (uint16_t)(bus_master + i * IDE_BM_CHANNEL_SIZE)));
    return STATUS_SUCCESS;
}
