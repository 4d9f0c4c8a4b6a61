// error.c - what a disk says, as the NTSTATUS that Windows would give.
//
// The one place that knows: drivers look it up, programs can rely on it. QEMU
// reports most errors of the host as ABRT (IDE) and as Write Fault or
// Unrecovered Read Error (NVMe).

#include "kernel/io/iop.h"

#include "kernel/io/device.h"

// Status and error register (ATA/ATAPI-6, clauses 7.15 and 7.8). Bit 6 of the
// error register means "uncorrectable data" on a read and, on removable media
// only, "write protected" on a write; fixed disks know the first.
enum {
    ATA_STATUS_ERROR = 0x01,
    ATA_STATUS_FAULT = 0x20,
    ATA_NO_MEDIA = 0x02,
    ATA_ABORTED = 0x04,
    ATA_ID_NOT_FOUND = 0x10,
    ATA_UNCORRECTABLE = 0x40,
    ATA_INTERFACE_CRC = 0x80,
};

// The first bit that is set decides: the cause stands before ABRT, which a
// disk may set with any of them.
static const struct {
    uint8_t bit;
    NTSTATUS status;
} ata_errors[] = {
    { ATA_INTERFACE_CRC, STATUS_CRC_ERROR },
    { ATA_UNCORRECTABLE, STATUS_DEVICE_DATA_ERROR },
    { ATA_ID_NOT_FOUND, STATUS_NONEXISTENT_SECTOR },
    { ATA_NO_MEDIA, STATUS_NO_MEDIA_IN_DEVICE },
    { ATA_ABORTED, STATUS_IO_DEVICE_ERROR },
};

// Status code types and codes (NVMe 1.4, section 4.6.1).
enum {
    NVME_GENERIC = 0,
    NVME_MEDIA = 2,
};

enum {
    NVME_SUCCESS = 0x00,
    NVME_INVALID_OPCODE = 0x01,
    NVME_INVALID_FIELD = 0x02,
    NVME_ABORT_REQUESTED = 0x07,
    NVME_WRITE_PROTECTED = 0x20,
    NVME_LBA_OUT_OF_RANGE = 0x80,
    NVME_CAPACITY_EXCEEDED = 0x81,
    NVME_NOT_READY = 0x82,
    NVME_WRITE_FAULT = 0x80,    // from here on: media errors
    NVME_UNRECOVERED_READ = 0x81,
    NVME_GUARD_CHECK = 0x82,
    NVME_APPLICATION_TAG = 0x83,
    NVME_REFERENCE_TAG = 0x84,
    NVME_ACCESS_DENIED = 0x86,
};

static const struct {
    uint8_t type, code;
    NTSTATUS status;
} nvme_errors[] = {
    { NVME_GENERIC, NVME_SUCCESS, STATUS_SUCCESS },
    { NVME_GENERIC, NVME_INVALID_OPCODE, STATUS_INVALID_DEVICE_REQUEST },
    { NVME_GENERIC, NVME_INVALID_FIELD, STATUS_INVALID_DEVICE_REQUEST },
    { NVME_GENERIC, NVME_ABORT_REQUESTED, STATUS_CANCELLED },
    { NVME_GENERIC, NVME_WRITE_PROTECTED, STATUS_MEDIA_WRITE_PROTECTED },
    { NVME_GENERIC, NVME_LBA_OUT_OF_RANGE, STATUS_NONEXISTENT_SECTOR },
    { NVME_GENERIC, NVME_CAPACITY_EXCEEDED, STATUS_DISK_FULL },
    { NVME_GENERIC, NVME_NOT_READY, STATUS_DEVICE_NOT_READY },
    { NVME_MEDIA, NVME_WRITE_FAULT, STATUS_DEVICE_DATA_ERROR },
    { NVME_MEDIA, NVME_UNRECOVERED_READ, STATUS_DEVICE_DATA_ERROR },
    { NVME_MEDIA, NVME_GUARD_CHECK, STATUS_CRC_ERROR },
    { NVME_MEDIA, NVME_APPLICATION_TAG, STATUS_CRC_ERROR },
    { NVME_MEDIA, NVME_REFERENCE_TAG, STATUS_CRC_ERROR },
    { NVME_MEDIA, NVME_ACCESS_DENIED, STATUS_ACCESS_DENIED },
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
        if (error & ata_errors[i].bit)
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
