// io.c - a disk's request: dispatch, StartIo, interrupt, DPC.
//
// Read it in this order, it is the order in which things happen. No function
// here waits, and none polls. The channel's device queue makes sure that only
// one request is between StartIo and the end of its DPC, so the fields of the
// channel that such a request uses need no lock; see ide.h.

#include "drivers/ide/ide.h"

// A request that is still in line is cancelled; one at the device ends with
// its present command. Whoever takes a request off the queue ends it: if
// StartIo was quicker, it finds the cancel routine gone and leaves the device
// alone. The device is the channel or the disk, as the caller knows it.
static void cancel_queued(DEVICE_OBJECT *, IRP *irp)
{
    const ide_disk *disk =
        IoGetCurrentIrpStackLocation(irp)->DeviceObject->DeviceExtension;
    bool queued = KeRemoveEntryDeviceQueue(&disk->channel->device->DeviceQueue,
                                           &irp->Tail.DeviceQueueEntry);
    IoReleaseCancelSpinLock(irp->CancelIrql);    // last look at irp, if !queued
    if (queued)
        io_complete(irp, STATUS_CANCELLED, 0);
}

// A checked read or write, or IRP_MJ_FLUSH_BUFFERS: what was written lies on
// the disk, not in its cache. The queue brings it behind every write that was
// sent before it.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: STATUS_PENDING
NTSTATUS ide_send(DEVICE_OBJECT *device, IRP *irp)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    // From the first line on another processor may complete and free irp.
    const ide_disk *disk = device->DeviceExtension;
    IoMarkIrpPending(irp);
    IoStartPacket(disk->channel->device, irp, NULL, cancel_queued);
    return STATUS_PENDING;
}

// ---- At the device --------------------------------------------------------

// The four registers that name sectors, each written once.
static void write_address(uint16_t port, uint64_t lba, uint32_t sectors)
{
    hal_out8(port + IDE_SECTOR_COUNT, (uint8_t)sectors);    // LBA28: 256 is 0
    hal_out8(port + IDE_LBA_LOW, (uint8_t)lba);
    hal_out8(port + IDE_LBA_MID, (uint8_t)(lba >> 8));
    hal_out8(port + IDE_LBA_HIGH, (uint8_t)(lba >> 16));
}

// Gives the disk a command. With LBA48 each register of the address holds two
// bytes, the upper written first; with LBA28 the device register holds what
// the address lacks, and four port accesses are saved.
//
// IRQL:    <= DISPATCH_LEVEL
void ide_send_command(const ide_disk *disk, uint8_t command, uint64_t lba,
                      uint32_t sectors, bool lba48)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    uint16_t port = disk->channel->command;
    uint8_t device =
        (uint8_t)(IDE_DEVICE_LBA | disk->unit << IDE_DEVICE_UNIT_SHIFT);

    hal_out8(port + IDE_DEVICE, lba48 ? device : (uint8_t)(device | lba >> 24));
    if (lba48)
        write_address(port, lba >> 24, sectors >> 8);
    write_address(port, lba, sectors);
    hal_out8(port + IDE_COMMAND, command);
}

// Sends the request's next command. DISPATCH_LEVEL.
//
// Returns: STATUS_PENDING                 it is out; irp may be gone by now
//          STATUS_INSUFFICIENT_RESOURCES  memory that the device cannot reach
static NTSTATUS start_command(ide_channel *channel, IRP *irp)
{
    static const uint8_t transfer_commands[2][2] = {
        { IDE_READ_DMA, IDE_WRITE_DMA },            // [lba48][write]
        { IDE_READ_DMA_EXT, IDE_WRITE_DMA_EXT },
    };
    const IO_STACK_LOCATION *stack = IoGetCurrentIrpStackLocation(irp);
    const ide_disk *disk = stack->DeviceObject->DeviceExtension;
    bool write = stack->MajorFunction == IRP_MJ_WRITE;
    bool lba48 = false;
    uint8_t command = IDE_FLUSH_CACHE_EXT;
    uint64_t lba = 0;
    uint32_t bytes = MIN(channel->length - channel->done, IDE_MAX_BYTES);
    uint32_t sectors = bytes / IDE_SECTOR_SIZE;

    if (bytes) {    // not a flush
        lba = (stack->Parameters.Read.ByteOffset + channel->done) /
              IDE_SECTOR_SIZE;
        lba48 = sectors > IDE_LBA28_MAX_SECTORS ||
                lba + sectors > IDE_LBA28_SECTORS;
        command = transfer_commands[lba48][write];
        if (!ide_build_prds(irp->MdlAddress, channel->done, bytes,
                            channel->prds))
            return STATUS_INSUFFICIENT_RESOURCES;
    }
    channel->command_bytes = bytes;

    // started comes before armed, so that a time-out never sees an old one. And
    // the command comes last, although the data sheet starts the bus master
    // behind it: the disk may answer at once, on another processor, and then
    // of ours only the lock may still touch the channel. Until it has a
    // command the disk asks for no data.
    KeAcquireSpinLockAtDpcLevel(&channel->starting);
    channel->started = hal_read_tsc();
    ke_watchdog_progress(&channel->watchdog);
    channel->armed = true;
    io_irp_at_device(irp, disk->disk.number);
    if (bytes)
        hal_out8(channel->bus_master + IDE_BM_COMMAND,
                 write ? IDE_BM_START : IDE_BM_START | IDE_BM_TO_MEMORY);
    ide_send_command(disk, command, lba, sectors, lba48);
    KeReleaseSpinLockFromDpcLevel(&channel->starting);
    return STATUS_PENDING;
}

// StartIo of a channel: its device is idle and this request is next.
//
// IRQL:    == DISPATCH_LEVEL
void ide_start_io(DEVICE_OBJECT *device, IRP *irp)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);

    ide_channel *channel = device->DeviceExtension;
    const IO_STACK_LOCATION *stack = IoGetCurrentIrpStackLocation(irp);

    channel->done = channel->length = 0;
    if (stack->MajorFunction != IRP_MJ_FLUSH_BUFFERS)
        channel->length = stack->Parameters.Read.Length;
    channel->failure = STATUS_SUCCESS;
    if (!IoSetCancelRoutine(irp, NULL)) {
        // cancel_queued runs and leaves the request to us. It holds the cancel
        // lock for as long as it looks at irp: wait for that.
        KIRQL irql;
        IoAcquireCancelSpinLock(&irql);
        IoReleaseCancelSpinLock(irql);
        channel->failure = STATUS_CANCELLED;
    } else {
        NTSTATUS status = start_command(channel, irp);
        if (status == STATUS_PENDING)
            return;    // and the channel is the interrupt's
        channel->failure = status;
    }
    // The DPC ends it, not we: it starts the next request, which would nest
    // StartIo in StartIo for as many requests as fail in a row.
    IoRequestDpc(device, irp, NULL);
}

// The disk has an answer. Takes it, says thank you, and leaves the rest to
// the DPC. Interrupts of the two channels come on lines of their own.
//
// IRQL:    == IDE_IRQL
// Returns: true if the interrupt was this channel's
bool ide_isr(KINTERRUPT *, void *context)
{
    ASSERT_IRQL(==, IDE_IRQL);

    ide_channel *channel = context;
    uint8_t bm_status = hal_in8(channel->bus_master + IDE_BM_STATUS);
    if (!(bm_status & IDE_BM_INTERRUPT))
        return false;
    uint8_t status = hal_in8(channel->command + IDE_STATUS);    // acknowledges
    hal_out8(channel->bus_master + IDE_BM_COMMAND, 0);
    hal_out8(channel->bus_master + IDE_BM_STATUS,
             IDE_BM_INTERRUPT | IDE_BM_ERROR);
    if (!channel->armed)
        return true;    // the late answer to a request that has timed out

    channel->armed = false;
    channel->bm_status = bm_status;
    channel->status = status;
    channel->error =
        status & IDE_STATUS_ERROR ? hal_in8(channel->command + IDE_ERROR) : 0;
    IoRequestDpc(channel->device, channel->device->CurrentIrp, NULL);
    return true;
}

// Behind an interrupt, a reset, or a StartIo that could not start: goes on
// with the request, or ends it and starts the next.
//
// IRQL:    == DISPATCH_LEVEL
void ide_dpc(KDPC *, DEVICE_OBJECT *device, IRP *irp, void *)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);

    ide_channel *channel = device->DeviceExtension;
    NTSTATUS status = channel->failure;
    if (NT_SUCCESS(status))
        status = io_status_from_ata(channel->status, channel->error);
    if (NT_SUCCESS(status) && channel->bm_status & IDE_BM_ERROR)
        status = STATUS_IO_DEVICE_ERROR;    // the bus failed, not the disk
    if (NT_SUCCESS(status)) {
        channel->done += channel->command_bytes;
        if (channel->done < channel->length) {
            status = irp->Cancel ? STATUS_CANCELLED
                                 : start_command(channel, irp);
            if (status == STATUS_PENDING)
                return;
        }
    }
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = NT_SUCCESS(status) ? channel->done : 0;
    channel->watchdog.busy = false;

    // The disk first: it works on the next request while we complete this
    // one. From here on the channel is the next one's, and this DPC may run
    // for it on another processor.
    IoStartNextPacket(device, true);
    IoCompleteRequest(irp, IO_DISK_INCREMENT);
}
