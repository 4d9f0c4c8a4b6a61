// nvme.h - disks that take thousands of requests at once: controllers, queues.
//
// A controller is a PCI function and one disk. Each processor has a queue pair
// and an interrupt of its own, so that processors share nothing but a disk:
//
//   dispatch --room in the ring--> command --doorbell--> at device
//      '--no room--> waiting, can be cancelled --DPC--> command
//   at device --completion, MSI-X--> ISR --> DPC --more to move--> command
//                                             '---done--> IoCompleteRequest
//   at device --time-out--> all queues stop, reset, a look per tick,
//      restart: what is too old --> STATUS_IO_TIMEOUT, all others --> command
//
// Left out: namespaces other than 1, metadata, shadow doorbells, and Abort,
// which may do nothing, where a reset always helps.
// References are to NVM Express 1.4.

#pragma once

#include "drivers/disk/disk.h"
#include "kernel/wdm.h"

// Registers, of 32 bits, and their bits (section 3.1).
enum {
    NVME_CAP = 0, NVME_CC = 5, NVME_CSTS = 7, NVME_AQA = 9, NVME_ASQ = 10,
    NVME_ACQ = 12, NVME_CC_SHUTDOWN = 0x4000,
    NVME_CC_ENABLE = 0x460001,    // entries of 64 and 16 bytes, EN
    NVME_CSTS_READY = 0x01, NVME_CSTS_SHUT_DOWN = 0x08,
};

// Commands (sections 5 and 6).
enum {
    NVME_CREATE_SQ = 0x01, NVME_CREATE_CQ = 0x05, NVME_IDENTIFY = 0x06,
    NVME_SET_FEATURES = 0x09,
    NVME_FLUSH = 0x00, NVME_WRITE = 0x01, NVME_READ = 0x02,
};

#define NVME_NAMESPACE 1u

// An entry of a submission queue (section 4.2).
typedef struct nvme_command {
    uint8_t opcode, flags;
    uint16_t id;
    uint32_t namespace;
    uint64_t reserved, metadata;
    uint64_t prp1, prp2;    // where in memory; see write_prps
    uint64_t argument;      // CDW 10 and 11; the first sector
    uint32_t sectors;       // CDW 12; less one
    uint32_t others[3];
} nvme_command;

// An entry of a completion queue (section 4.6).
typedef struct nvme_completion {
    uint32_t result, reserved;
    uint16_t sq_head, sq_id, id;
    uint16_t status;    // bit 0, the phase, tells a new entry from an old one
} nvme_completion;

#define NVME_PHASE 0x01u

// So many pages behind the first need no memory of their own for their list: it
// lies as far behind the command as the ring is long.
#define NVME_SHORT_LIST (sizeof(nvme_command) / sizeof(uint64_t))

// What the driver knows about a request: IRP.Tail.DriverContext.
typedef struct nvme_request {
    uint32_t length;     // bytes in all; 0: a flush
    uint32_t bytes;      // of the present command
    uint32_t done;       // of all, moved by earlier commands
    PFN_NUMBER list;     // the page for a long PRP list, or 0
    uint64_t started;    // TSC, of the present command
    union {
        struct nvme_queue *queue;    // while it waits for its ring
        IRP *next;                   // when it is done
    };
} nvme_request;

typedef struct nvme_queue {
    // Set at initialisation.
    struct nvme_controller *controller;
    uint32_t last;           // place in the rings, whose depth is a power of 2
    nvme_command *sq;        // and as much again, for short lists of PRPs
    nvme_completion *cq;
    volatile uint32_t *sq_doorbell, *cq_doorbell;
    KINTERRUPT interrupt;
    KDPC dpc, timeout_dpc;
    ki_watchdog watchdog;    // for the oldest command

    // Guarded by the lock, a leaf.
    KSPIN_LOCK lock;
    bool stopped;              // the controller is being reset
    bool in_dpc;               // which rings at its end for all
    bool is_behind;            // the oldest waits for other queues
    uint16_t phase;            // of new completions
    uint32_t sq_tail, cq_head;
    uint32_t rung;             // the tail that the device knows
    IRP **slots;               // by the place of their command in the ring
    uint32_t oldest;           // the first place that is not free, or the tail
    uint64_t since;            // TSC, when the oldest became that
    uint64_t answered;         // TSC, when one that was the oldest ended
    uint32_t answers;          // how many, of all
    uint32_t patience;         // of others' answers, while it is behind them
    LIST_ENTRY waiting;        // IRP.Tail.ListEntry, with cancel routines
} __attribute__((aligned(64))) nvme_queue;

typedef struct nvme_controller {
    // Set at initialisation.
    struct nvme_controller *next;
    hal_pci_function pci;
    volatile uint32_t *registers;
    volatile uint32_t *doorbells;    // per queue its tail, then its head
    uint32_t stride;                 // from one to the next, in elements
    nvme_command *admin_sq;          // a page each
    nvme_completion *admin_cq;
    uint8_t *identity[2];            // of controller and namespace
    uint32_t queue_count;
    nvme_queue *queue_of[MAXIMUM_PROCESSORS];

    // Owned by the initialisation, or by the reset that goes on.
    uint32_t step;             // see nvme_next_step
    uint32_t ticks;
    uint64_t noticed;          // TSC, when a command was found to be late
    volatile bool resetting;
    KTIMER timer;
    KDPC timer_dpc;

    nvme_queue queues[];
} nvme_controller;

typedef struct nvme_disk {
    disk_common disk;    // first: the common part
    nvme_controller *controller;
    uint32_t max_bytes;    // of one command
    uint8_t sector_shift;
} nvme_disk;

// The status of a completion as an NTSTATUS: behind the phase a code of 8 bits
// and its type. The device has not written the completion if the phase is not
// that of this pass, so the status is read first.
static inline NTSTATUS nvme_status(uint16_t answer)
{
    enum { CODE_SHIFT = 1, TYPE_SHIFT = 9, TYPE_MASK = 7 };
    if (answer >> CODE_SHIFT == 0)
        return STATUS_SUCCESS;
    return io_status_from_nvme(answer >> TYPE_SHIFT & TYPE_MASK,
                               (uint8_t)(answer >> CODE_SHIFT));
}

static inline uint64_t nvme_physical(const void *memory)
{
    return (uintptr_t)memory - MM_DIRECT_MAP;
}

// init.c
NTSTATUS nvme_driver_entry(DRIVER_OBJECT *driver);

// start.c
NTSTATUS nvme_next_step(nvme_controller *c);
void nvme_begin_reset(nvme_controller *c, uint64_t now);
KDEFERRED_ROUTINE nvme_timer_dpc;

// io.c
NTSTATUS nvme_send(DEVICE_OBJECT *device, IRP *irp);
void nvme_ring(DEVICE_OBJECT *device);
bool nvme_isr(KINTERRUPT *interrupt, void *context);
KDEFERRED_ROUTINE nvme_dpc, nvme_timeout_dpc;
void nvme_restart(nvme_queue *q, uint64_t noticed);
