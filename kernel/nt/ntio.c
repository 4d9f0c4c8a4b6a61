// ntio.c - NtReadFile, NtWriteFile, NtDeviceIoControlFile: where a thread lets
// go of its I/O; NtFlushBuffersFile; and the three NtCancel...File.
//
// Each checks what ring 3 passed, pins or copies the buffer, sends one IRP and
// returns. After STATUS_PENDING no thread waits for the device: the request is
// an entry in a device queue and nothing else. io/complete.c goes on.

#include "kernel/nt/ntp.h"

enum { MAXIMUM_CONTROL_BUFFER = 65536, MAXIMUM_ARRAY = 64u };

// Who hears of a request's end, and how.
typedef struct nt_reply {
    HANDLE event;
    IO_APC_ROUTINE *apc;
    void *apc_context;
    IO_STATUS_BLOCK *iosb;
} nt_reply;

static NTSTATUS take_event(HANDLE handle, KEVENT **event)
{
    NT_TRY(ob_reference_by_handle(handle, EVENT_MODIFY_STATE, &nt_event_type,
                                  (void **)event, NULL));
    KeResetEvent(*event);
    return STATUS_SUCCESS;
}

// Takes the references, which the caller owns even after a failure, and checks
// what concerns them. The event is reset as soon as the file's handle is known
// to be good, whatever comes next (CMP-01). access: one of these is enough; 0:
// any handle. granted: what the handle has, or NULL.
static FORCEINLINE NTSTATUS reference_targets(HANDLE handle, ACCESS_MASK access,
                                          nt_reply reply, FILE_OBJECT **file,
                                          KEVENT **event, ACCESS_MASK *granted)
{
    ACCESS_MASK mask;
    NT_TRY(ob_reference_by_handle(handle, 0, &io_file_type, (void **)file,
                                  &mask));
    if (access && !(mask & access))
        return STATUS_ACCESS_DENIED;
    if (granted)
        *granted = mask;
    if (reply.event) {
        KEVENT *taken = NULL;    // so that the caller's can stay in a register
        NT_TRY(take_event(reply.event, &taken));
        *event = taken;
    }
    NT_TRY(NT_PROBE(reply.iosb));
    // Routine and port exclude each other (CMP-07).
    return reply.apc && (*file)->CompletionPort ? STATUS_INVALID_PARAMETER
                                                : STATUS_SUCCESS;
}

// Says whether a transfer's offset is a place in the file, or one of two
// special values; on what has no places it means nothing (OVL-12).
static FORCEINLINE bool is_valid_offset(const FILE_OBJECT *file, uint8_t major,
                                    uint64_t offset)
{
    if ((int64_t)offset >= 0 || !file->DeviceObject->seekable)
        return true;
    return offset == FILE_USE_FILE_POINTER_POSITION
               ? file->Flags & FO_SYNCHRONOUS_IO
               : offset == FILE_WRITE_TO_END_OF_FILE && major == IRP_MJ_WRITE;
}

// An IRP that owns file and event; NULL: no pool. Its reply is not set.
static FORCEINLINE IRP *build(FILE_OBJECT **file, uint8_t major, uint8_t flags,
                              KEVENT **event, IO_STACK_LOCATION **location)
{
    KEVENT *owned = *event;
    IRP *irp = io_build_irp(*file, major, flags, location);
    if (!irp)
        return NULL;
    irp->UserEvent = owned;
    *file = NULL;
    *event = NULL;
    return irp;
}

static inline void set_reply(IRP *irp, nt_reply reply)
{
    irp->UserIosb = reply.iosb;
    irp->UserApcRoutine = reply.apc;
    irp->UserApcContext = reply.apc_context;
}

// Copies what goes in now; complete.c copies what came out, to pages that are
// known to be there.
static NTSTATUS attach_copy(IRP *irp, void *input, uint32_t input_length,
                            void *output, uint32_t output_length)
{
    if (!ke_is_user_range(input, input_length) ||
        !ke_is_user_range(output, output_length))
        return STATUS_ACCESS_VIOLATION;
    NT_TRY(nt_probe_output(output, output_length));
    size_t size = MAX(input_length, output_length);
    irp->SystemBuffer = ExAllocatePoolWithTag(ex_pool_for_io, size, IO_TAG);
    if (!irp->SystemBuffer)
        return STATUS_INSUFFICIENT_RESOURCES;
    memset(irp->SystemBuffer, 0, size);
    irp->UserBuffer = output;
    irp->UserBufferLength = output_length;
    return ke_copy_from_user(irp->SystemBuffer, input, input_length);
}

// Pins the buffer of a transfer, unless its device wants it copied. A read
// fills it.
static FORCEINLINE NTSTATUS attach_buffer(IRP *irp, const DEVICE_OBJECT *device,
                                          uint8_t major, void *buffer,
                                          uint32_t length)
{
    bool fills = major == IRP_MJ_READ;
    if (length == 0)
        return STATUS_SUCCESS;
    if (device->Flags & DO_BUFFERED_IO)
        return attach_copy(irp, fills ? NULL : buffer, fills ? 0 : length,
                           fills ? buffer : NULL, fills ? length : 0);
    if (length > PAGE_SIZE && !ke_is_user_range(buffer, length))
        return STATUS_ACCESS_VIOLATION;    // no MDL for what cannot be
    if (!io_attach_mdl(irp, (uint64_t)buffer, length))
        return STATUS_INSUFFICIENT_RESOURCES;
    return mm_lock_user_buffer(irp->MdlAddress, (uint64_t)buffer, length,
                               fills ? MM_PIN_WRITE : MM_PIN_READ);
}

// Builds the IRP of a transfer, which owns file and event, without its reply.
static FORCEINLINE NTSTATUS prepare(FILE_OBJECT **file, uint8_t major,
                                    uint8_t flags, KEVENT **event, void *buffer,
                                    uint32_t length, uint64_t offset,
                                    IRP **result)
{
    const DEVICE_OBJECT *device = (*file)->DeviceObject;
    IO_STACK_LOCATION *location;
    if (!is_valid_offset(*file, major, offset))
        return STATUS_INVALID_PARAMETER;
    IRP *irp = build(file, major, flags, event, &location);
    if (!irp)
        return STATUS_INSUFFICIENT_RESOURCES;
    location->Parameters.Read.Length = length;
    location->Parameters.Read.ByteOffset = offset;
    NTSTATUS status = attach_buffer(irp, device, major, buffer, length);
    *result = irp;
    if (!NT_SUCCESS(status))
        io_discard_irp(irp);
    return status;
}

// One transfer, from the handles to io_send.
static FORCEINLINE NTSTATUS transfer(HANDLE handle, ACCESS_MASK access,
                                 uint8_t major, nt_reply reply, void *buffer,
                                 uint32_t length, uint64_t offset)
{
    NT_OWNED FILE_OBJECT *file = NULL;
    NT_OWNED KEVENT *event = NULL;
    ACCESS_MASK granted;
    IRP *irp;
    NT_TRY(reference_targets(handle, access, reply, &file, &event, &granted));
    if (major == IRP_MJ_WRITE && !(granted & FILE_WRITE_DATA))
        offset = FILE_WRITE_TO_END_OF_FILE;    // it may only append (OVL-12)
    NT_TRY(prepare(&file, major, 0, &event, buffer, length, offset, &irp));
    set_reply(irp, reply);
    // Another processor may complete and free it before io_send returns.
    return io_send(irp->OriginalFileObject, irp);
}

// Starts a read of length bytes at offset; never waits for the device when
// the file was opened for overlapped I/O.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_PENDING                 accepted: iosb, event, APC or port
//                                         follow
//          STATUS_INVALID_HANDLE, STATUS_OBJECT_TYPE_MISMATCH,
//          STATUS_ACCESS_DENIED           file or event is not what it must be
//          STATUS_ACCESS_VIOLATION        buffer or iosb is not ring 3's to
//                                         write
//          STATUS_INVALID_PARAMETER       offset; or an APC routine on a file
//                                         that is bound to a port
//          STATUS_INSUFFICIENT_RESOURCES  no pool
//          or what the driver answered at once
// NT:      NtReadFile (WDK). Left out: Key. ByteOffset is by value.
NTSTATUS NtReadFile(HANDLE file, HANDLE event, IO_APC_ROUTINE *apc,
                    void *apc_context, IO_STATUS_BLOCK *iosb, void *buffer,
                    uint32_t length, uint64_t offset)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    return transfer(file, FILE_READ_DATA, IRP_MJ_READ,
                    (nt_reply){ event, apc, apc_context, iosb }, buffer,
                    length, offset);
}

// Starts a write of length bytes at offset; otherwise as NtReadFile.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: as NtReadFile; the buffer need only be readable
// NT:      NtWriteFile (WDK). Left out: Key. ByteOffset is by value.
NTSTATUS NtWriteFile(HANDLE file, HANDLE event, IO_APC_ROUTINE *apc,
                     void *apc_context, IO_STATUS_BLOCK *iosb, void *buffer,
                     uint32_t length, uint64_t offset)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    return transfer(file, FILE_WRITE_DATA | FILE_APPEND_DATA, IRP_MJ_WRITE,
                    (nt_reply){ event, apc, apc_context, iosb }, buffer,
                    length, offset);
}

// How many of these writes could be copied; only what lies before a page that
// is missing, if one is.
static uint32_t copy_array(NT_ARRAY_WRITE *copy, const NT_ARRAY_WRITE *writes,
                           uint32_t count)
{
    if (NT_SUCCESS(ke_copy_from_user(copy, writes, count * sizeof(*copy))))
        return count;
    for (uint32_t i = 0; i < count; i++)
        if (!NT_SUCCESS(ke_get_user(&copy[i], KE_USER_ELEMENT(writes, i))))
            return i;
    return count;    // another thread has just mapped it
}

// Builds one that says that more follow.
static FORCEINLINE NTSTATUS prepare_one(FILE_OBJECT *file,
                                        const NT_ARRAY_WRITE *w, IRP **irp)
{
    NT_TRY(NT_PROBE(w->IoStatusBlock));
    NT_OWNED FILE_OBJECT *owned = file;
    KEVENT *none = NULL;
    ObReferenceObject(file);
    NT_TRY(prepare(&owned, IRP_MJ_WRITE, SL_MORE_FOLLOWS, &none, w->Buffer,
                   w->Length, w->ByteOffset, irp));
    set_reply(*irp, (nt_reply){ .apc_context = w->ApcContext,
                                .iosb = w->IoStatusBlock });
    return STATUS_SUCCESS;
}

// Builds the IRPs of up to MAXIMUM_ARRAY writes, and says how many; the status
// is that of the next one, if that is not all.
static NTSTATUS prepare_array(FILE_OBJECT *file, const NT_ARRAY_WRITE *writes,
                              uint32_t count, IRP **irps, uint32_t *built)
{
    NT_ARRAY_WRITE copy[MAXIMUM_ARRAY];
    const NT_ARRAY_WRITE *w = copy, *end = w + copy_array(copy, writes, count);
    NTSTATUS status = STATUS_SUCCESS;
    while (w < end && NT_SUCCESS(status = prepare_one(file, w, irps))) {
        w++;
        irps++;
    }
    *built = (uint32_t)(w - copy);
    return *built < count && NT_SUCCESS(status) ? STATUS_ACCESS_VIOLATION
                                                : status;
}

// Starts count writes: up to MAXIMUM_ARRAY are built, then sent in one stay at
// DISPATCH_LEVEL, where the last one rings for all.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS               all *sent were accepted
//          STATUS_ACCESS_DENIED         it may not write, or only append
//          STATUS_INVALID_PARAMETER     the handle is synchronous
//          or as NtWriteFile for number *sent, behind which nothing was done
NTSTATUS nt_write_array(HANDLE handle, const NT_ARRAY_WRITE *writes,
                        uint32_t count, uint32_t *sent)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    NT_OWNED FILE_OBJECT *file = NULL;
    ACCESS_MASK granted;
    uint32_t done = 0;
    NT_TRY(ke_put_user(sent, &done));
    NT_TRY(ob_reference_by_handle(handle, 0, &io_file_type, (void **)&file,
                                  &granted));
    if (!(granted & FILE_WRITE_DATA))
        return STATUS_ACCESS_DENIED;
    if (file->Flags & FO_SYNCHRONOUS_IO)
        return STATUS_INVALID_PARAMETER;
    NTSTATUS status = STATUS_SUCCESS;
    while (done < count && NT_SUCCESS(status) &&
           !PsGetCurrentThread()->terminating) {
        IRP *irps[MAXIMUM_ARRAY];
        uint32_t built, accepted, wanted = MIN(count - done, MAXIMUM_ARRAY);
        status = prepare_array(file, KE_USER_ELEMENT(writes, done), wanted,
                               irps, &built);
        NTSTATUS sending = io_send_array(file, irps, built, &accepted);
        done += accepted;
        if (!NT_SUCCESS(sending))
            status = sending;
    }
    NT_TRY(ke_put_user(sent, &done));
    return status;
}

// Sends a control code with buffers that are copied (METHOD_BUFFERED).
//
// IRQL:    == PASSIVE_LEVEL
// Returns: as NtReadFile; STATUS_INVALID_DEVICE_REQUEST: another method, or a
//          code that the driver does not know
// NT:      NtDeviceIoControlFile (WDK). Only METHOD_BUFFERED.
NTSTATUS NtDeviceIoControlFile(HANDLE file, HANDLE event, IO_APC_ROUTINE *apc,
                               void *apc_context, IO_STATUS_BLOCK *iosb,
                               uint32_t code, void *input,
                               uint32_t input_length, void *output,
                               uint32_t output_length)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    enum { METHOD_MASK = 3 };
    const nt_reply reply = { event, apc, apc_context, iosb };
    NT_OWNED FILE_OBJECT *object = NULL;
    NT_OWNED KEVENT *owned = NULL;
    NT_TRY(reference_targets(file, 0, reply, &object, &owned, NULL));
    if ((code & METHOD_MASK) != METHOD_BUFFERED)
        return STATUS_INVALID_DEVICE_REQUEST;
    if (MAX(input_length, output_length) > MAXIMUM_CONTROL_BUFFER)
        return STATUS_INVALID_PARAMETER;
    IO_STACK_LOCATION *location;
    IRP *irp = build(&object, IRP_MJ_DEVICE_CONTROL, 0, &owned, &location);
    if (!irp)
        return STATUS_INSUFFICIENT_RESOURCES;
    set_reply(irp, reply);
    location->Parameters.DeviceIoControl.OutputBufferLength = output_length;
    location->Parameters.DeviceIoControl.InputBufferLength = input_length;
    location->Parameters.DeviceIoControl.IoControlCode = code;
    NTSTATUS status = STATUS_SUCCESS;
    if (input_length || output_length)
        status = attach_copy(irp, input, input_length, output, output_length);
    if (NT_SUCCESS(status))
        return io_send(irp->OriginalFileObject, irp);
    io_discard_irp(irp);
    return status;
}

// Makes what was written durable; waits for the device.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: the driver's status, and as NtReadFile for handle and iosb
// NT:      NtFlushBuffersFile (WDK).
NTSTATUS NtFlushBuffersFile(HANDLE file, IO_STATUS_BLOCK *iosb)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    NT_OWNED FILE_OBJECT *object = NULL;
    NT_TRY(reference_targets(file, FILE_WRITE_DATA | FILE_APPEND_DATA,
                             (nt_reply){ .iosb = iosb }, &object, NULL, NULL));
    uintptr_t information = 0;
    NTSTATUS status = io_request(
        object, &(IO_STACK_LOCATION){ .MajorFunction = IRP_MJ_FLUSH_BUFFERS },
        NULL, NULL, &information);
    return nt_put_iosb(iosb, status, information);
}

// ---- Cancellation ---------------------------------------------------------

static NTSTATUS cancel(HANDLE handle, IO_STATUS_BLOCK *iosb, io_filter filter)
{
    NT_OWNED FILE_OBJECT *file = NULL;
    NT_TRY(reference_targets(handle, 0, (nt_reply){ .iosb = iosb }, &file,
                             NULL, NULL));
    filter.file = file;
    filter.process = &PsGetCurrentProcess()->Pcb;
    bool found = io_cancel(&file->io, &filter);
    found |= filter.thread ? io_cancel(&KeGetCurrentThread()->io, &filter)
                           : ps_cancel_io(&filter);
    bool done = found || filter.thread;    // CAN-01
    return nt_put_iosb(iosb, done ? STATUS_SUCCESS : STATUS_NOT_FOUND, 0);
}

// Asks what the calling thread issued on the file to end (CAN-04).
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, also with nothing pending (CAN-01); as NtReadFile
//          for handle and iosb
// NT:      NtCancelIoFile (native).
NTSTATUS NtCancelIoFile(HANDLE file, IO_STATUS_BLOCK *iosb)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    return cancel(file, iosb, (io_filter){ .thread = KeGetCurrentThread() });
}

// Asks what any thread of the process issued on the file to end; request: only
// the one with this IOSB.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS: at least one was asked; STATUS_NOT_FOUND: none is
//          pending (CAN-01, CAN-02); as NtReadFile for handle and iosb
// NT:      NtCancelIoFileEx (native).
NTSTATUS NtCancelIoFileEx(HANDLE file, IO_STATUS_BLOCK *request,
                          IO_STATUS_BLOCK *iosb)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    return cancel(file, iosb, (io_filter){ .iosb = request });
}

// Asks the call that a thread is in to end, if that waits for a request;
// request: only the one with this IOSB. What the thread sent and does not wait
// for goes on (CAN-07).
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS: it was asked, and fails with STATUS_CANCELLED unless
//          the device is quicker; STATUS_NOT_FOUND: it is in no such call;
//          STATUS_INVALID_HANDLE, STATUS_OBJECT_TYPE_MISMATCH,
//          STATUS_ACCESS_DENIED; STATUS_ACCESS_VIOLATION (iosb)
// NT:      NtCancelSynchronousIoFile (native).
NTSTATUS NtCancelSynchronousIoFile(HANDLE handle, IO_STATUS_BLOCK *request,
                                   IO_STATUS_BLOCK *iosb)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    NT_REFERENCE(ETHREAD, thread, handle, THREAD_TERMINATE);
    NT_TRY(NT_PROBE(iosb));
    bool found = io_cancel(&thread->Tcb.io, &(io_filter){
                               .iosb = request, .synchronous = true });
    return nt_put_iosb(iosb, found ? STATUS_SUCCESS : STATUS_NOT_FOUND, 0);
}
