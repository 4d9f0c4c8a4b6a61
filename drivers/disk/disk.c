// disk.c - a disk without its hardware: names, checks, questions.
//
// Written once for all drivers of disks. Nothing here changes after a disk has
// been started, so nothing is locked.

#include "drivers/disk/disk.h"

enum { MAXIMUM_DISKS = 10, NAME_LENGTH = 32 };

// PCI configuration (PCI 3.0, section 6.2).
enum {
    PCI_COMMAND = 0x04,
    PCI_COMMAND_PORTS = 1, PCI_COMMAND_MEMORY = 2, PCI_COMMAND_MASTER = 4,
    PCI_COMMAND_MASK = 0xFFFF,    // above it: status, where 1 clears
};

static char names[MAXIMUM_DISKS][NAME_LENGTH];

// ---- Requests -------------------------------------------------------------

// IRP_MJ_READ, IRP_MJ_WRITE. A read across the end of the disk is shortened.
//
// Returns: STATUS_PENDING            it is queued, or at the device
//          STATUS_SUCCESS            nothing to move
//          STATUS_INVALID_PARAMETER  not whole sectors, a write across the
//                                    end, or a buffer at an odd address
//          STATUS_END_OF_FILE        a read beyond the end
//          or what the driver answered at once
static NTSTATUS read_write(DEVICE_OBJECT *device, IRP *irp)
{
    const disk_common *disk = device->DeviceExtension;
    IO_STACK_LOCATION *stack = IoGetCurrentIrpStackLocation(irp);
    uint64_t offset = stack->Parameters.Read.ByteOffset;
    uint32_t length = stack->Parameters.Read.Length;
    uint64_t end;

    if (length == 0)
        return io_complete(irp, STATUS_SUCCESS, 0);
    if ((offset | length) & (device->SectorSize - 1) ||
        irp->MdlAddress->ByteOffset & disk->alignment)
        return io_complete(irp, STATUS_INVALID_PARAMETER, 0);
    if (__builtin_add_overflow(offset, length, &end) || end > disk->size) {
        if (stack->MajorFunction == IRP_MJ_WRITE)
            return io_complete(irp, STATUS_INVALID_PARAMETER, 0);
        if (offset >= disk->size)
            return io_complete(irp, STATUS_END_OF_FILE, 0);
        stack->Parameters.Read.Length = (uint32_t)(disk->size - offset);
    }
    return disk->send(device, irp);
}

// Answers IRP_MJ_QUERY_INFORMATION, FileStandardInformation, for something of
// this size.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INVALID_INFO_CLASS,
//          STATUS_INFO_LENGTH_MISMATCH
NTSTATUS disk_complete_query(IRP *irp, uint64_t size, bool directory)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    const IO_STACK_LOCATION *stack = IoGetCurrentIrpStackLocation(irp);
    FILE_STANDARD_INFORMATION *out = irp->SystemBuffer;
    if (stack->Parameters.QueryFile.information_class !=
        FileStandardInformation)
        return io_complete(irp, STATUS_INVALID_INFO_CLASS, 0);
    if (stack->Parameters.QueryFile.Length < sizeof(*out))
        return io_complete(irp, STATUS_INFO_LENGTH_MISMATCH, 0);
    memset(out, 0, sizeof(*out));    // ring 3 sees the padding, too
    out->AllocationSize = out->EndOfFile = size;
    out->NumberOfLinks = 1;
    out->Directory = directory;
    return io_complete(irp, STATUS_SUCCESS, sizeof(*out));
}

static NTSTATUS query_information(DEVICE_OBJECT *device, IRP *irp)
{
    const disk_common *disk = device->DeviceExtension;
    return disk_complete_query(irp, disk->size, false);
}

// IRP_MJ_DEVICE_CONTROL: IOCTL_DISK_GET_DRIVE_GEOMETRY.
static NTSTATUS device_control(DEVICE_OBJECT *device, IRP *irp)
{
    const disk_common *disk = device->DeviceExtension;
    const IO_STACK_LOCATION *stack = IoGetCurrentIrpStackLocation(irp);
    DISK_GEOMETRY *out = irp->SystemBuffer;
    if (stack->Parameters.DeviceIoControl.IoControlCode !=
        IOCTL_DISK_GET_DRIVE_GEOMETRY)
        return io_complete(irp, STATUS_INVALID_DEVICE_REQUEST, 0);
    if (stack->Parameters.DeviceIoControl.OutputBufferLength < sizeof(*out))
        return io_complete(irp, STATUS_BUFFER_TOO_SMALL, 0);
    out->DiskSize = disk->size;
    out->BytesPerSector = device->SectorSize;
    return io_complete(irp, STATUS_SUCCESS, sizeof(*out));
}

// ---- Initialisation -------------------------------------------------------

// Lets a controller answer on its ports and in memory; and reach RAM itself, or
// no longer. Callers take turns.
//
// IRQL:    <= DISPATCH_LEVEL
void disk_set_bus_master(const hal_pci_function *pci, bool on)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    uint32_t command = hal_pci_read(pci, PCI_COMMAND) & PCI_COMMAND_MASK;
    command |= PCI_COMMAND_PORTS | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    hal_pci_write(pci, PCI_COMMAND,
                  on ? command : command ^ PCI_COMMAND_MASTER);
}

// Makes \Device\HarddiskN\DRN, also called \??\PhysicalDriveN. The extension
// begins with a copy of what; its rest is the driver's to fill in: nobody sends
// a request before all drivers are loaded.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INSUFFICIENT_RESOURCES
NTSTATUS disk_create(DRIVER_OBJECT *driver, const disk_common *what,
                     uint32_t extension_size, uint32_t sector_size)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    DEVICE_OBJECT *device;
    char link[NAME_LENGTH];
    uint32_t number = io_disk_count;
    if (number == MAXIMUM_DISKS)
        return STATUS_INSUFFICIENT_RESOURCES;
    rtl_snprintf(names[number], NAME_LENGTH, "\\Device\\Harddisk%u\\DR%u",
                 number, number);
    NT_TRY(IoCreateDevice(driver, extension_size, names[number],
                          FILE_DEVICE_DISK, &device));
    device->Flags |= DO_DIRECT_IO | DO_SHORT_SEND;
    device->SectorSize = sector_size;
    device->seekable = true;
    disk_common *disk = memcpy(device->DeviceExtension, what, extension_size);
    disk->number = number;
    driver->MajorFunction[IRP_MJ_READ] = read_write;
    driver->MajorFunction[IRP_MJ_WRITE] = read_write;
    driver->MajorFunction[IRP_MJ_FLUSH_BUFFERS] = disk->send;
    driver->MajorFunction[IRP_MJ_QUERY_INFORMATION] = query_information;
    driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = device_control;
    rtl_snprintf(link, sizeof(link), "\\??\\PhysicalDrive%u", number);
    NT_TRY(IoCreateSymbolicLink(link, names[number]));
    io_disk_count++;
    return STATUS_SUCCESS;
}
