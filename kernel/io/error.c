// error.c - what a disk says, as the NTSTATUS that Windows would give.
//
// The one place that knows: drivers look it up, programs can rely on it. QEMU
// reports most errors of the host as ABRT (IDE) and as Write Fault or
// Unrecovered Read Error (NVMe).

#include "kernel/io/iop.h"

// Bits of the status register (ATA/ATAPI-6, clause 7.15).
enum { ATA_STATUS_ERROR = 0x01, ATA_STATUS_FAULT = 0x20 };

typedef struct device_error {
    uint8_t type, code;
    NTSTATUS status;
} device_error;

// Bits of the error register (ATA/ATAPI-6, clause 7.8). The first that is set
// decides; ABRT, which a disk may set with any of them, alone is
// STATUS_IO_DEVICE_ERROR. Bit 6 means "uncorrectable data" on a read and, on
// removable media only, "write protected" on a write; fixed disks know the
// first.
static const device_error ata_errors[] = {
    { 0, 0x80, STATUS_CRC_ERROR },             // ICRC
    { 0, 0x40, STATUS_DEVICE_DATA_ERROR },     // UNC
    { 0, 0x10, STATUS_NONEXISTENT_SECTOR },    // IDNF
    { 0, 0x02, STATUS_NO_MEDIA_IN_DEVICE },    // NM
};

// Status code types and codes (NVMe 1.4, section 4.6.1).
static const device_error nvme_errors[] = {
    { 0, 0x00, STATUS_SUCCESS },
    { 0, 0x01, STATUS_INVALID_DEVICE_REQUEST },    // Invalid Command Opcode
    { 0, 0x02, STATUS_INVALID_DEVICE_REQUEST },    // Invalid Field in Command
    { 0, 0x07, STATUS_CANCELLED },                 // Command Abort Requested
    { 0, 0x20, STATUS_MEDIA_WRITE_PROTECTED },     // Namespace Write Protected
    { 0, 0x80, STATUS_NONEXISTENT_SECTOR },        // LBA Out of Range
    { 0, 0x81, STATUS_DISK_FULL },                 // Capacity Exceeded
    { 0, 0x82, STATUS_DEVICE_NOT_READY },          // Namespace Not Ready
    { 2, 0x80, STATUS_DEVICE_DATA_ERROR },         // Write Fault
    { 2, 0x81, STATUS_DEVICE_DATA_ERROR },         // Unrecovered Read Error
    { 2, 0x82, STATUS_CRC_ERROR },                 // Guard Check
    { 2, 0x83, STATUS_CRC_ERROR },                 // Application Tag Check
    { 2, 0x84, STATUS_CRC_ERROR },                 // Reference Tag Check
    { 2, 0x86, STATUS_ACCESS_DENIED },             // Access Denied
};

// Translates the status and, if that says error, the error register of an ATA
// disk.
//
// IRQL:    any level
// Returns: STATUS_SUCCESS, or what the table says; STATUS_IO_DEVICE_ERROR for
//          a device fault and for anything unknown
NTSTATUS io_status_from_ata(uint8_t status, uint8_t error)
{
    if (!(status & (ATA_STATUS_ERROR | ATA_STATUS_FAULT)))
        return STATUS_SUCCESS;
    if (status & ATA_STATUS_FAULT)
        return STATUS_IO_DEVICE_ERROR;
    for (size_t i = 0; i < ARRAY_SIZE(ata_errors); i++)
        if (error & ata_errors[i].code)
            return ata_errors[i].status;
    return STATUS_IO_DEVICE_ERROR;
}

// Translates the status code type and status code of an NVMe completion.
//
// IRQL:    any level
// Returns: STATUS_SUCCESS, or what the table says; STATUS_IO_DEVICE_ERROR for
//          anything unknown
NTSTATUS io_status_from_nvme(uint8_t type, uint8_t code)
{
    for (size_t i = 0; i < ARRAY_SIZE(nvme_errors); i++)
        if (nvme_errors[i].type == type && nvme_errors[i].code == code)
            return nvme_errors[i].status;
    return STATUS_IO_DEVICE_ERROR;
}
