// irp.h - the I/O request packet and its stack locations.
//
// The life of an IRP, and who owns it:
//
//   IoAllocateIrp          the caller
//     IoCallDriver         the driver, until it completes or passes it on
//       IoMarkIrpPending   ... beyond the return from its dispatch routine
//     IoCompleteRequest    walks the completion routines upwards, then
//       nothing pending:   the issuing call finishes it inline (io_send)
//       apc road:          special kernel APC in the issuing thread
//       direct road:       the port's queue; the taker finishes it
//   IoFreeIrp
//
// While it is pending it hangs on its FILE_OBJECT's list if that file is
// bound to a port and the caller gave no APC routine, else on its thread's.
// Lock order: cancel lock > IRP lists > dispatcher lock.

#pragma once

#include "kernel/ex/ex.h"
#include "kernel/ke/ke.h"
#include "kernel/mm/mm.h"
#include "kernel/nt.h"

enum {
    IRP_MJ_CREATE = 0x00, IRP_MJ_CLOSE = 0x02,
    IRP_MJ_READ = 0x03, IRP_MJ_WRITE = 0x04, IRP_MJ_FLUSH_BUFFERS = 0x09,
    IRP_MJ_QUERY_INFORMATION = 0x05, IRP_MJ_SET_INFORMATION = 0x06,
    IRP_MJ_DIRECTORY_CONTROL = 0x0C, IRP_MJ_DEVICE_CONTROL = 0x0E,
    IRP_MJ_CLEANUP = 0x12, IRP_MJ_MAXIMUM_FUNCTION = 0x1B,
};

// IO_STACK_LOCATION.Flags
#define SL_MORE_FOLLOWS      0x01u    // at once: the device may hear of it then

// IO_STACK_LOCATION.Control
#define SL_PENDING_RETURNED  0x01u
#define SL_INVOKE_ON_CANCEL  0x20u
#define SL_INVOKE_ON_SUCCESS 0x40u
#define SL_INVOKE_ON_ERROR   0x80u

typedef NTSTATUS IO_COMPLETION_ROUTINE(DEVICE_OBJECT *device, IRP *irp,
                                       void *context);
typedef void DRIVER_CANCEL(DEVICE_OBJECT *device, IRP *irp);

struct IO_STACK_LOCATION {
    union {
        struct {
            uint8_t MajorFunction;
            uint8_t MinorFunction;
            uint8_t Flags;
            uint8_t Control;
        };
        uint32_t first_word;     // all four in one store
    };
    union {
        struct {
            uint32_t Length;
            uint64_t ByteOffset;
        } Read, Write;           // the same layout: drivers may share code
        struct {
            uint32_t Options;
            ACCESS_MASK access;
            uint8_t disposition;    // the name is in FileObject->FileName
        } Create;
        struct {
            uint32_t Length;     // of SystemBuffer
            uint32_t information_class;
        } QueryFile, SetFile;
        struct {
            uint32_t Length;     // of SystemBuffer
            bool restart;
        } QueryDirectory;
        struct {
            uint32_t OutputBufferLength;
            uint32_t InputBufferLength;
            uint32_t IoControlCode;
        } DeviceIoControl;
    } Parameters;
    DEVICE_OBJECT *DeviceObject;
    FILE_OBJECT *FileObject;
    IO_COMPLETION_ROUTINE *CompletionRoutine;
    void *Context;
};

// What a port's queue holds: an IRP, or a packet of its own (a post).
typedef struct io_packet {
    LIST_ENTRY entry;
    bool is_irp;
} io_packet;

#define IRP_SHORT_MDL 2u
#define IO_TAG 0x20706F49u    // "Iop "

struct IRP {
    IO_STATUS_BLOCK IoStatus;
    uint32_t id;                 // what ring 3 sees of it
    int8_t StackCount;
    KIRQL CancelIrql;
    int8_t CurrentLocation;      // StackCount + 1: not yet sent
    bool Cancel;                 // this and the next three: one store
    bool PendingReturned;
    uint8_t state;               // SNAPSHOT_IRP_STATE
    uint8_t flags;               // IRP_... below
    MDL *MdlAddress;             // &short_mdl, or in pool
    void *SystemBuffer;          // AssociatedIrp.SystemBuffer
    void *UserBuffer;            // ring 3's output of a buffered request
    uint32_t UserBufferLength;
    IO_STATUS_BLOCK *UserIosb;
    KEVENT *UserEvent;           // referenced
    IO_APC_ROUTINE *UserApcRoutine;
    void *UserApcContext;
    DRIVER_CANCEL *CancelRoutine;
    IO_STACK_LOCATION *location; // &stack[CurrentLocation - 1]
    LIST_ENTRY ThreadListEntry;  // on the thread's or the file's list
    KTHREAD *Thread;             // that asked
    FILE_OBJECT *OriginalFileObject;    // referenced
    union {
        struct {
            KDEVICE_QUEUE_ENTRY DeviceQueueEntry;
            LIST_ENTRY ListEntry;       // for the driver that owns it
            void *DriverContext[4];
        };
        KAPC Apc;
        io_packet packet;
    } Tail;
    // An MDL for buffers that touch so few pages; not from pool.
    _Alignas(MDL) uint8_t short_mdl[sizeof(MDL) +
                                    IRP_SHORT_MDL * sizeof(PFN_NUMBER)];
    IO_STACK_LOCATION stack[];   // [0] is the lowest driver's
};

#define IRP_KERNEL_WAIT 0x01u    // io_request waits on UserEvent; no stage 10
#define IRP_ON_FILE     0x02u    // it hangs, or hung, on the file's slot
#define IRP_STORED      0x04u    // stage 10 is over but for the packet
#define IRP_SYNCHRONOUS 0x08u    // its thread waits for it in the same call
#define IRP_TRANSFER    0x10u    // a read or write that a thread asked for

static inline IO_STACK_LOCATION *IoGetCurrentIrpStackLocation(IRP *irp)
{
    ASSERT_RULE("IRP-01", irp->CurrentLocation <= irp->StackCount);
    return irp->location;
}

static inline IO_STACK_LOCATION *IoGetNextIrpStackLocation(IRP *irp)
{
    ASSERT_RULE("IRP-01", irp->CurrentLocation > 1);
    return irp->location - 1;
}

static inline void IoMarkIrpPending(IRP *irp)
{
    IoGetCurrentIrpStackLocation(irp)->Control |= SL_PENDING_RETURNED;
}

static inline void IoSkipCurrentIrpStackLocation(IRP *irp)
{
    ASSERT_RULE("IRP-01", irp->CurrentLocation <= irp->StackCount);
    irp->CurrentLocation++;
    irp->location++;
}

static inline void IoCopyCurrentIrpStackLocationToNext(IRP *irp)
{
    IO_STACK_LOCATION *next = IoGetNextIrpStackLocation(irp);
    *next = *IoGetCurrentIrpStackLocation(irp);
    next->CompletionRoutine = NULL;
    next->Control = 0;
}

static inline void IoSetCompletionRoutine(IRP *irp,
                                          IO_COMPLETION_ROUTINE *routine,
                                          void *context, bool on_success,
                                          bool on_error, bool on_cancel)
{
    IO_STACK_LOCATION *next = IoGetNextIrpStackLocation(irp);
    next->CompletionRoutine = routine;
    next->Context = context;
    next->Control = (uint8_t)((on_success ? SL_INVOKE_ON_SUCCESS : 0) |
                              (on_error ? SL_INVOKE_ON_ERROR : 0) |
                              (on_cancel ? SL_INVOKE_ON_CANCEL : 0));
}

static inline DRIVER_CANCEL *IoSetCancelRoutine(IRP *irp,
                                                DRIVER_CANCEL *routine)
{
    return __atomic_exchange_n(&irp->CancelRoutine, routine, __ATOMIC_SEQ_CST);
}

// A new id. Interrupts off.
static inline uint32_t io_next_irp_id(KPRCB *prcb)
{
    uint32_t id = prcb->next_irp_id;
    prcb->next_irp_id += KeNumberProcessors;
    return id;
}

// Makes an IRP, with an id and nothing else in it, of memory that holds so many
// locations (IRP-01). IRQL: <= DISPATCH_LEVEL
static inline void io_initialize_irp(IRP *irp, int8_t stack_size)
{
    memset(irp, 0, sizeof(*irp) + (size_t)stack_size * sizeof(*irp->stack));
    ki_disable();
    irp->id = io_next_irp_id(KeGetCurrentPrcb());
    ki_enable();
    irp->StackCount = stack_size;
    irp->CurrentLocation = (int8_t)(stack_size + 1);
    irp->location = irp->stack + stack_size;
}

// The IRPs of services come from a list per processor, touched with interrupts
// off and thus without a lock, and from pool when it is empty. Those of up to
// IO_KEPT_LOCATIONS locations are kept there, all of a size.
//
// A kept one was completed, or never sent, and who discarded it took out what
// it owned: so CurrentLocation and location say "not yet sent" for StackCount,
// MdlAddress, SystemBuffer and CancelRoutine are NULL, and in its short MDL
// nothing is locked. (UserBuffer has no meaning without SystemBuffer.)
enum { IO_KEPT_LOCATIONS = 2, IO_KEPT_IRP_BYTES = sizeof(IRP) +
           IO_KEPT_LOCATIONS * sizeof(IO_STACK_LOCATION) };
extern volatile uint64_t io_irps_from_pool;    // kept ones included
IRP *io_make_irp(IRP *kept, int8_t stack_size);
// Such an IRP, with a new id; Thread, OriginalFileObject, UserIosb, UserEvent,
// UserApcRoutine, UserApcContext and the locations are the caller's to write.
// NULL: no pool.
static inline IRP *io_take_irp(int8_t stack_size, uint8_t flags)
{
    ki_disable();
    KPRCB *prcb = KeGetCurrentPrcb();
    IRP *irp = ke_take_kept(&prcb->kept[KE_KEPT_IRPS]);
    if (irp)    // else it gets one when it is made
        irp->id = io_next_irp_id(prcb);
    ki_enable();
    if (__builtin_expect(!irp || irp->StackCount != stack_size, 0)) {
        irp = io_make_irp(irp, stack_size);
        if (!irp)
            return NULL;
    }
    irp->Cancel = irp->PendingReturned = false;
    irp->state = IrpCreated;
    irp->flags = flags;
    irp->IoStatus.Information = 0;
    irp->Tail.DeviceQueueEntry.Inserted = false;
    return irp;
}

IRP *IoAllocateIrp(int8_t stack_size);    // IRQL: <= DISPATCH_LEVEL
void IoFreeIrp(IRP *irp);
NTSTATUS IoCallDriver(DEVICE_OBJECT *device, IRP *irp);
void IoCompleteRequest(IRP *irp, KPRIORITY boost);
bool IoCancelIrp(IRP *irp);
void IoAcquireCancelSpinLock(KIRQL *irql);
void IoReleaseCancelSpinLock(KIRQL irql);
// The driver hands the request to the hardware: state and trace (stage 4).
static inline void io_irp_at_device(IRP *irp, uint32_t unit)
{
    irp->state = IrpAtDevice;
    ki_trace_at(TRACE_DMA_START, DISPATCH_LEVEL, unit, irp->id);
}

uint64_t io_irp_count(void);
// What is kept for the next request: free, and so not in use.
void io_count_kept(uint64_t *blocks, uint64_t *bytes);
