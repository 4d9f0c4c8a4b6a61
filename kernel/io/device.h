// device.h - drivers, devices and their queues: what a driver fills in.

#pragma once

#include "kernel/io/irp.h"
#include "kernel/nt.h"

typedef NTSTATUS DRIVER_DISPATCH(DEVICE_OBJECT *device, IRP *irp);
typedef void DRIVER_STARTIO(DEVICE_OBJECT *device, IRP *irp);
typedef NTSTATUS DRIVER_INITIALIZE(DRIVER_OBJECT *driver);
typedef void IO_DPC_ROUTINE(KDPC *dpc, DEVICE_OBJECT *device, IRP *irp,
                            void *context);

struct DRIVER_OBJECT {
    const char *DriverName;
    DEVICE_OBJECT *DeviceObject;          // first of its devices
    DRIVER_STARTIO *DriverStartIo;
    // Ours: tells the device of what came with SL_MORE_FOLLOWS; NULL: it knows.
    void (*ring)(DEVICE_OBJECT *device);
    // Entries that the driver leaves alone fail with
    // STATUS_INVALID_DEVICE_REQUEST; create, cleanup and close succeed.
    DRIVER_DISPATCH *MajorFunction[IRP_MJ_MAXIMUM_FUNCTION + 1];
};

// DEVICE_OBJECT.Flags: how NtReadFile and NtWriteFile hand the buffer over.
#define DO_BUFFERED_IO 0x04u     // SystemBuffer, copied at the border
#define DO_DIRECT_IO   0x10u     // MdlAddress, pinned
// Ours: its driver takes any request in a moment, at DISPATCH_LEVEL.
#define DO_SHORT_SEND  0x20u

struct DEVICE_OBJECT {
    DRIVER_OBJECT *DriverObject;
    DEVICE_OBJECT *NextDevice;            // of the same driver
    DEVICE_OBJECT *AttachedDevice;        // the one above, or NULL
    DEVICE_OBJECT *attached_to;           // the one below, or NULL
    const char *name;                     // the last part, for people: "ide0"
    uint32_t Flags;
    uint32_t DeviceType;
    uint32_t SectorSize;                  // 0: bytes; else offsets, lengths of
                                          // transfers are multiples of it
    bool seekable;                        // has offsets; a console has none
    int8_t StackSize;
    KDEVICE_QUEUE DeviceQueue;
    IRP *volatile CurrentIrp;             // what StartIo is busy with
    KDPC Dpc;                             // IoRequestDpc
    void *DeviceExtension;
};

// name: "\\Device\\X" for ever, or NULL; extension: zeroed bytes.
NTSTATUS IoCreateDevice(DRIVER_OBJECT *driver, uint32_t extension_size,
                        const char *name, uint32_t device_type,
                        DEVICE_OBJECT **device);
NTSTATUS IoCreateSymbolicLink(const char *link, const char *target);
enum { IO_MAXIMUM_STACK = 8 };    // devices, one on top of the other
// Puts source on top of target's stack; returns the device it lies on now, or
// NULL: there are IO_MAXIMUM_STACK already.
DEVICE_OBJECT *IoAttachDeviceToDeviceStack(DEVICE_OBJECT *source,
                                           DEVICE_OBJECT *target);
// Calls a driver's entry routine with its new DRIVER_OBJECT.
NTSTATUS io_load_driver(const char *name, DRIVER_INITIALIZE *entry);
// Disks in the order found, as \??\PhysicalDriveN and for the boot line.
extern uint32_t io_disk_count;

// Ends a request inside its dispatch routine, or without any device's answer.
NTSTATUS io_complete(IRP *irp, NTSTATUS status, uintptr_t information);

// ---- One request at a time ------------------------------------------------

// Starts the request (StartIo at DISPATCH_LEVEL) or queues it behind the
// current one. cancel may be NULL. IRQL: <= DISPATCH_LEVEL.
void IoStartPacket(DEVICE_OBJECT *device, IRP *irp, const uint32_t *key,
                   DRIVER_CANCEL *cancel);
// cancelable: requests have cancel routines. IRQL: == DISPATCH_LEVEL.
void IoStartNextPacket(DEVICE_OBJECT *device, bool cancelable);
void IoInitializeDpcRequest(DEVICE_OBJECT *device, IO_DPC_ROUTINE *routine);
void IoRequestDpc(DEVICE_OBJECT *device, IRP *irp, void *context);

// ---- Errors ---------------------------------------------------------------

// What a device says, as an NTSTATUS: the one table for all disk drivers.
NTSTATUS io_status_from_ata(uint8_t status, uint8_t error);
NTSTATUS io_status_from_nvme(uint8_t type, uint8_t code);
extern uint64_t io_request_timeout;        // 100 ns; iotimeout= or 30 s
