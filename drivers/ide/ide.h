// ide.h - disks on a PIIX controller in compatibility mode: channels, disks.
//
// A channel is a device object without a name that does one request at a time
// for its two disks (\Device\Harddisk0\DR0 ...). What becomes of a request,
// and who owns the channel meanwhile:
//
//   dispatch --IoStartPacket--> queued --.
//                  '---------------------+--> StartIo --command--> at device
//   at device --ISR--> DPC --more to do--> at device
//                       '---done--> next StartIo, then IoCompleteRequest
//   at device --time-out--> reset, a look per tick --> DPC, STATUS_IO_TIMEOUT
//
// Left out: programming transfer modes, which QEMU does not time and which
// firmware sets elsewhere; ATAPI; sectors that are not of 512 bytes; disks of
// before 2002, which do not know 48-bit addresses.

#pragma once

#include "drivers/disk/disk.h"
#include "kernel/wdm.h"

// IDE_UNITS: disks on a channel.
enum { IDE_SECTOR_SIZE = 512, IDE_IRQL = 5, IDE_CHANNELS = 2, IDE_UNITS = 2 };

// Registers behind the command block's base (ATA/ATAPI-6, clause 7). Reading
// STATUS takes the interrupt back.
enum {
    IDE_DATA, IDE_ERROR, IDE_SECTOR_COUNT,
    IDE_LBA_LOW, IDE_LBA_MID, IDE_LBA_HIGH, IDE_DEVICE,
    IDE_STATUS, IDE_COMMAND = IDE_STATUS,
};

enum {
    IDE_STATUS_ERROR = 0x01, IDE_STATUS_DATA_REQUEST = 0x08,
    IDE_STATUS_BUSY = 0x80,
    IDE_STATUS_FLOATING = 0xFF,    // nothing drives the bus
    IDE_DEVICE_LBA = 0x40, IDE_DEVICE_UNIT_SHIFT = 4,
};

// The control block has one register: Device Control when written, of which
// this bit is SRST; Alternate Status, which acknowledges nothing, when read.
#define IDE_CONTROL_RESET 0x04u

// Commands (ATA/ATAPI-6, clause 8).
enum {
    IDE_READ_DMA = 0xC8, IDE_READ_DMA_EXT = 0x25,
    IDE_WRITE_DMA = 0xCA, IDE_WRITE_DMA_EXT = 0x35,
    IDE_FLUSH_CACHE_EXT = 0xEA, IDE_IDENTIFY_DEVICE = 0xEC,
};

#define IDE_LBA28_SECTORS     (1ull << 28)    // that LBA28 can name
#define IDE_LBA28_MAX_SECTORS 256u            // of one command
#define IDE_MAX_BYTES         (1u << 20)      // ours: fits IDE_MAX_PRDS

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
    uint16_t length;
    uint16_t flags;
} ide_prd;

#define IDE_PRD_LAST 0x8000u
#define IDE_MAX_PRDS (PAGE_SIZE / sizeof(ide_prd))    // one page a channel

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

    // Between StartIo and ISR or time-out: whoever clears armed goes on. A
    // time-out does so behind the lock only, which StartIo holds until the
    // command is out: else the device would get it when its pages are gone.
    KSPIN_LOCK starting;
    volatile uint64_t started;    // TSC when the present command went out
    volatile bool armed;          // a command is out
    uint8_t bm_status;            // the ISR's finds, for the DPC
    uint8_t status;
    uint8_t error;

    // Owned by the reset, while one goes on.
    KTIMER reset_timer;
    KDPC reset_dpc;
    uint32_t reset_ticks;
} ide_channel;

typedef struct ide_disk {
    disk_common disk;    // first: the common part
    ide_channel *channel;
    uint8_t unit;    // 0 or 1
} ide_disk;

// init.c
NTSTATUS ide_driver_entry(DRIVER_OBJECT *driver);

// io.c
NTSTATUS ide_send(DEVICE_OBJECT *device, IRP *irp);
void ide_send_command(const ide_disk *disk, uint8_t command, uint64_t lba,
                      uint32_t sectors, bool lba48);
void ide_start_io(DEVICE_OBJECT *device, IRP *irp);
bool ide_isr(KINTERRUPT *interrupt, void *context);
void ide_dpc(KDPC *dpc, DEVICE_OBJECT *device, IRP *irp, void *context);

// recover.c
KDEFERRED_ROUTINE ide_timeout_dpc, ide_reset_dpc;

// prd.c
uint32_t ide_build_prds(const MDL *mdl, uint32_t offset, uint32_t length,
                        ide_prd *table);
