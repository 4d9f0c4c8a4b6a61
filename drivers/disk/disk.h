// disk.h - what all disks have in common, whatever bus they are on.
//
// A disk driver says what it found and gets a device for it; from then on the
// routines here answer what needs no hardware, and refuse what the hardware
// could not do:
//
//   read, write --checked--> the driver's `send` --> queue, device, interrupt
//   flush ------------------------'
//   size, geometry --> answered here
//
// Any driver may include this header.

#pragma once

#include "kernel/wdm.h"

// The first member of the device's extension; set at initialisation.
typedef struct disk_common {
    uint64_t size;            // bytes
    uint32_t alignment;       // bits that a buffer's address may not have
    uint32_t number;          // of \??\PhysicalDriveN; disk_create sets it
    DRIVER_DISPATCH *send;    // takes checked reads and writes, and flushes
} disk_common;

NTSTATUS disk_create(DRIVER_OBJECT *driver, const disk_common *what,
                     uint32_t extension_size, uint32_t sector_size);
// Completes IRP_MJ_QUERY_INFORMATION for something of this size.
NTSTATUS disk_complete_query(IRP *irp, uint64_t size, bool directory);
// Lets a controller answer on its ports or in memory; and read and write RAM,
// or no longer.
void disk_set_bus_master(const hal_pci_function *pci, bool on);
