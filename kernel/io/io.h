// io.h - the I/O manager as the layers above use it: files, ports, sending.

#pragma once

#include "kernel/io/device.h"
#include "kernel/io/irp.h"
#include "kernel/nt.h"
#include "kernel/ob/ob.h"

// FILE_OBJECT.Flags: ring 3's own bits, of the modes (1, 2) and of the create
// options (0x10, 0x20), and two more. FO_SYNCHRONOUS_IO is both of the latter,
// of which a synchronous file has one.
#define FO_SKIP_PORT      FILE_SKIP_COMPLETION_PORT_ON_SUCCESS
#define FO_SKIP_EVENT     FILE_SKIP_SET_EVENT_ON_HANDLE
#define FO_ALERTABLE_IO   FILE_SYNCHRONOUS_IO_ALERT
#define FO_SYNCHRONOUS_IO (FO_ALERTABLE_IO | FILE_SYNCHRONOUS_IO_NONALERT)
#define FO_CLEANUP_DONE   0x04u
#define FO_OPENED         0x08u    // the driver agreed to IRP_MJ_CREATE

// One open of a file or device; what a handle refers to. Itself waitable:
// Event is its first member (DESIGN: file is a dispatcher object).
struct FILE_OBJECT {
    KEVENT Event;                // signalled by requests without an event
    DEVICE_OBJECT *DeviceObject; // the top of the stack it was opened on
    void *FsContext;             // the driver's
    uint32_t Flags;
    NTSTATUS FinalStatus;        // of the last synchronous request
    char *FileName;              // what remained of the name; behind us

    // Set once; guarded by io.lock while it is being set.
    KQUEUE *CompletionPort;      // referenced
    void *CompletionKey;

    // Synchronous handles: a request at a time, and the position.
    KEVENT Lock;                 // synchronization event, set = free
    uint64_t CurrentByteOffset;  // guarded by Lock

    ke_io_slot io;               // pending, port-bound, without APC routine
    LIST_ENTRY all_entry;        // on io_files; guarded by io_files_lock
};

extern OBJECT_TYPE io_file_type, io_port_type;
extern KSPIN_LOCK io_files_lock;
extern LIST_ENTRY io_files;
extern bool io_direct_road;      // port=direct

// Opens an NT name. IRQL PASSIVE; waits for the driver.
// Returns: the driver's status, or STATUS_OBJECT_NAME_NOT_FOUND,
//          STATUS_OBJECT_NAME_INVALID, STATUS_INSUFFICIENT_RESOURCES
NTSTATUS io_create_file(const char *name, ACCESS_MASK access,
                        uint32_t disposition, uint32_t options,
                        FILE_OBJECT **file, uintptr_t *information);

// Allocates an IRP for a request on file with the next stack location filled
// in (major, flags, FileObject; the parameters are the caller's to write, and
// what io_take_irp says). It takes over the caller's reference to file. NULL:
// no pool. IRQL: <= DISPATCH_LEVEL
static FORCEINLINE IRP *io_build_irp(FILE_OBJECT *file, uint8_t major,
                                     uint8_t flags, IO_STACK_LOCATION **next)
{
    enum { FLAGS_SHIFT = 16 };
    const int8_t size = file->DeviceObject->StackSize;
    bool transfer = major == IRP_MJ_READ || major == IRP_MJ_WRITE;
    IRP *irp = io_take_irp(size, transfer ? IRP_TRANSFER : 0);
    if (!irp)
        return NULL;
    ki_trace(TRACE_IRP_BUILT, major, irp->id);
    if (size > 1)
        memset(irp->stack, 0, (size_t)(size - 1) * sizeof(*irp->stack));
    IO_STACK_LOCATION *location = *next = IoGetNextIrpStackLocation(irp);
    location->first_word = major | (uint32_t)flags << FLAGS_SHIFT;
    location->DeviceObject = NULL;
    location->FileObject = file;
    location->CompletionRoutine = NULL;
    irp->OriginalFileObject = file;
    return irp;
}

// An MDL for a buffer, not yet filled in, for an IRP; NULL: no pool.
MDL *IoAllocateMdl(uint64_t address, uint32_t length);

// Gives the IRP one: its own, if that is large enough. False: no pool.
static inline bool io_attach_mdl(IRP *irp, uint64_t address, uint32_t length)
{
    irp->MdlAddress = (MDL *)irp->short_mdl;
    if (BYTE_OFFSET(address) + (uint64_t)length > IRP_SHORT_MDL * PAGE_SIZE)
        irp->MdlAddress = IoAllocateMdl(address, length);
    return irp->MdlAddress;
}

// Frees an IRP of io_build_irp that is on no list, with all that it owns: MDL
// (unpinned), buffers, references to event and file.
void io_discard_irp(IRP *irp);
// Sends it. Takes over irp, and with it file. Waits only for a synchronous
// handle (CMP-06).
// Returns: what the service returns, CMP-02..CMP-04
NTSTATUS io_send(FILE_OBJECT *file, IRP *irp);
// One thread at a time on a synchronous handle. PASSIVE.
NTSTATUS io_begin_turn(FILE_OBJECT *file, bool alertable);
void io_end_turn(FILE_OBJECT *file);
// Sends many at once, asynchronously, which say that more follow; *sent: how
// many were accepted.
NTSTATUS io_send_array(FILE_OBJECT *file, IRP **irps, uint32_t count,
                       uint32_t *sent);
// For kernel callers: sends a request (what: major function and parameters)
// and waits in any case. mdl, buffer: the caller's, or NULL; information too.
NTSTATUS io_request(FILE_OBJECT *file, const IO_STACK_LOCATION *what, MDL *mdl,
                    void *buffer, uintptr_t *information);

// ---- Cancellation and rundown ---------------------------------------------

typedef struct io_filter {        // NULL: any
    const FILE_OBJECT *file;
    const KTHREAD *thread;
    const KPROCESS *process;
    const IO_STATUS_BLOCK *iosb;
    bool synchronous;            // only those that their thread waits for
    bool by_packet;              // only those that nothing else tells of
} io_filter;

// Asks the pending requests that hang on a file's or a thread's slot and match
// the filter to end.
// Returns: whether there was one
bool io_cancel(ke_io_slot *slot, const io_filter *filter);
// The same for the slots of all threads, or of filter->process's. PASSIVE.
extern bool (*io_cancel_of_threads)(const io_filter *filter);    // main.c
// ps_try_threads: tries a process's threads until one will do; a lock is held.
typedef bool io_try_thread(ETHREAD *thread, void *context);
extern bool (*io_try_threads)(KPROCESS *process, io_try_thread *try,
                              void *context);
// A dying thread: cancels what hangs on it and waits until that is done.
// PASSIVE, special APCs enabled.
void io_rundown_thread(void);
// The last thread of a process, handles closed: cancels its port-bound
// requests and waits until they are done.
void io_rundown_process(KPROCESS *process);

// ---- Completion ports -----------------------------------------------------

NTSTATUS io_bind_port(FILE_OBJECT *file, KQUEUE *port, void *key);
NTSTATUS io_post(KQUEUE *port, void *key, void *context, NTSTATUS status,
                 uintptr_t information);
// Takes a completion; for an IRP it finishes stage 10 where the direct road
// left it to us. As ke_remove_queue otherwise. All pointers but timeout are
// ring 3's, below the hole.
NTSTATUS io_remove_one(KQUEUE *port, const int64_t *timeout, void **key,
                       void **context, IO_STATUS_BLOCK *iosb);
enum { IO_PORT_BATCH = 64 };    // packets taken off a port in one go
// The same for up to count, no more than that; what *taken does not count stays
// in the port.
NTSTATUS io_remove_completion(KQUEUE *port, bool alertable,
                              const int64_t *timeout,
                              FILE_IO_COMPLETION_INFORMATION *entries,
                              uint32_t count, uint32_t *taken);
