// ide.h - disks on a PIIX controller in compatibility mode: channels, disks.
//
// A channel (\Device\Ide\IdePort0, 1) is a device object that does one
// request at a time for its two disks (\Device\Harddisk0\DR0 ...). What
// becomes of a request, and who owns the channel meanwhile:
//
//   dispatch --IoStartPacket--> queued --.
//                  '---------------------+--> StartIo --command--> at device
//   at device --ISR--> DPC --more to do--> at device
//                       '---done--> next StartIo, then IoCompleteRequest
//   at device --time-out--> reset, a look per tick --> DPC, STATUS_IO_TIMEOUT
//
// Left out: programming transfer modes, which QEMU does not time and which
// firmware sets elsewhere; ATAPI; sectors that are not of 512 bytes.

#ifndef TINT_DRIVERS_IDE_IDE_H
#define TINT_DRIVERS_IDE_IDE_H

#include "kernel/wdm.h"

#define IDE_SECTOR_SIZE 512u
#define IDE_IRQL        5
#define IDE_CHANNELS    2
#define IDE_UNITS       2    // disks on a channel

// Registers behind the command block's base (ATA/ATAPI-6, clause 7). Reading
// STATUS takes the interrupt back.
enum {
    IDE_DATA,
    IDE_ERROR,
    IDE_SECTOR_COUNT,
    IDE_LBA_LOW,
    IDE_LBA_MID,
    IDE_LBA_HIGH,
    IDE_DEVICE,
    IDE_STATUS,
    IDE_COMMAND = IDE_STATUS
};

enum {
    IDE_STATUS_ERROR = 0x01,
    IDE_STATUS_DATA_REQUEST = 0x08,
    IDE_STATUS_BUSY = 0x80,
    IDE_STATUS_FLOATING = 0xFF,    // nothing drives the bus
    IDE_DEVICE_LBA = 0x40,
    IDE_DEVICE_UNIT_SHIFT = 4,
};

// The control block has one register: Device Control when written, Alternate
// Status, which acknowledges nothing, when read.
enum {
    IDE_CONTROL_NO_INTERRUPT = 0x02,    // nIEN
    IDE_CONTROL_RESET = 0x04,           // SRST
};

// Commands (ATA/ATAPI-6, clause 8).
enum {
    IDE_READ_SECTORS = 0x20,
    IDE_READ_DMA_EXT = 0x25,
    IDE_WRITE_DMA_EXT = 0x35,
    IDE_READ_DMA = 0xC8,
    IDE_WRITE_DMA = 0xCA,
    IDE_FLUSH_CACHE = 0xE7,
    IDE_FLUSH_CACHE_EXT = 0xEA,
    IDE_IDENTIFY_DEVICE = 0xEC,
};

#define IDE_LBA28_SECTORS     (1ull << 28)    // that LBA28 can name
#define IDE_LBA28_MAX_SECTORS 256u            // of one command
#define IDE_LBA48_MAX_SECTORS 2048u           // ours: fits IDE_MAX_PRDS

// Bus master registers, one block a channel (PIIX3 data sheet, 2.7).
enum {
    IDE_BM_COMMAND = 0,
    IDE_BM_START = 0x01,
    IDE_BM_TO_MEMORY = 0x08,    // the disk is read
    IDE_BM_STATUS = 2,
    IDE_BM_ERROR = 0x02,    // this and the next: written 1 to clear
    IDE_BM_INTERRUPT = 0x04,
    IDE_BM_PRD_TABLE = 4,
    IDE_BM_CHANNEL_SIZE = 8,
};

// A physical region descriptor, 8 bytes: a piece of memory that crosses no
// 64 KiB boundary (PIIX3 data sheet, 2.7.3). The device reads it.
typedef struct ide_prd {
    uint32_t base;
    uint16_t length;    // 0: 64 KiB
    uint16_t flags;
} ide_prd;

#define IDE_PRD_LAST     0x8000u
#define IDE_PRD_BOUNDARY 0x10000u
#define IDE_MAX_PRDS     (PAGE_SIZE / sizeof(ide_prd))    // one page a channel

typedef struct ide_channel {
    // Set at initialisation.
    DEVICE_OBJECT *device;
    uint16_t command;    // ports
    uint16_t control;
    uint16_t bus_master;
    ide_prd *prds;    // its address is in the device for good
    KINTERRUPT interrupt;
    ki_watchdog watchdog;
    KDPC timeout_dpc;

    // Owned by the request at the device: its StartIo, then its DPC.
    uint32_t length;           // bytes in all; 0 for a flush
    uint32_t done;             // of them, moved by earlier commands
    uint32_t command_bytes;    // moved by the present one
    NTSTATUS failure;          // why it ends without an answer of the device

    // Between StartIo and ISR or time-out: whoever clears armed goes on.
    volatile uint64_t started;    // TSC when the present command went out
    volatile bool armed;          // a command is out
    uint8_t bm_status;            // the ISR's finds, for the DPC
    uint8_t status;
    uint8_t error;

    // Owned by the reset, while one goes on.
    KTIMER reset_timer;
    KDPC reset_dpc;
    uint32_t reset_ticks;
    bool dead;    // a reset never ended
} ide_channel;

typedef struct ide_disk {
    ide_channel *channel;
    uint8_t unit;             // 0 or 1
    uint8_t flush_command;    // 0: there is no cache to flush
    bool has_volume;
    uint32_t max_bytes;    // of one command
    uint32_t number;       // among the IDE disks
    uint64_t sectors;
} ide_disk;

// init.c
NTSTATUS ide_driver_entry(DRIVER_OBJECT *driver);

// io.c
NTSTATUS ide_create(DEVICE_OBJECT *device, IRP *irp);
NTSTATUS ide_read_write(DEVICE_OBJECT *device, IRP *irp);
NTSTATUS ide_flush(DEVICE_OBJECT *device, IRP *irp);
NTSTATUS ide_query_information(DEVICE_OBJECT *device, IRP *irp);
NTSTATUS ide_device_control(DEVICE_OBJECT *device, IRP *irp);
void ide_send_command(const ide_disk *disk, uint8_t command, uint64_t lba,
                      uint32_t sectors, bool lba48);
void ide_start_io(DEVICE_OBJECT *device, IRP *irp);
bool ide_isr(KINTERRUPT *interrupt, void *context);
void ide_dpc(KDPC *dpc, DEVICE_OBJECT *device, IRP *irp, void *context);

// recover.c
void ide_timeout_dpc(KDPC *dpc, void *context, void *argument1,
                     void *argument2);
void ide_reset_dpc(KDPC *dpc, void *context, void *argument1, void *argument2);

// prd.c
uint32_t ide_build_prds(const MDL *mdl, uint32_t offset, uint32_t length,
                        ide_prd *table, uint32_t max);

#endif
