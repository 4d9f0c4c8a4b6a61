// ntio.c - NtReadFile, NtWriteFile, NtDeviceIoControlFile: where a thread lets
// go of its I/O; NtFlushBuffersFile; and the three NtCancel...File.
//
// Each checks what ring 3 passed, pins or copies the buffer, sends one IRP and
// returns. After STATUS_PENDING no thread waits for the device: the request is
// an entry in a device queue and nothing else. io/complete.c goes on.

#include "kernel/nt/ntp.h"

enum { MAXIMUM_CONTROL_BUFFER = 65536 };

// What all the calls that send a request have in common. A buffer that the
// device reads is input, one that it fills is output.
typedef struct nt_request {
    HANDLE file, event;
    IO_APC_ROUTINE *apc;
    void *apc_context;
    IO_STATUS_BLOCK *iosb;
    ACCESS_MASK access;          // one of these is enough; 0: any handle
    IO_STACK_LOCATION what;      // major function and parameters
    void *input, *output;
    uint32_t input_length, output_length;
} nt_request;

// Takes the references, which the caller owns even after a failure, and checks
// what concerns them. The event is reset as soon as the file's handle is known
// to be good, whatever comes next (CMP-01).
static NTSTATUS reference_targets(const nt_request *request,
                                  FILE_OBJECT **file, KEVENT **event)
{
    ACCESS_MASK granted;
    NT_TRY(ob_reference_by_handle(request->file, 0, &io_file_type,
                                  (void **)file, &granted));
    if (request->access && !(granted & request->access))
        return STATUS_ACCESS_DENIED;
    if (request->event) {
        NT_TRY(ob_reference_by_handle(request->event, EVENT_MODIFY_STATE,
                                      &nt_event_type, (void **)event, NULL));
        KeResetEvent(*event);
    }
    NT_TRY(NT_PROBE(request->iosb));
    // Routine and port exclude each other (CMP-07).
    return request->apc && (*file)->CompletionPort ? STATUS_INVALID_PARAMETER
                                                   : STATUS_SUCCESS;
}

// Says whether a transfer's offset is a place in the file, or one of two
// special values; on what has no places it means nothing (OVL-12).
static bool is_valid_offset(const FILE_OBJECT *file,
                            const IO_STACK_LOCATION *what)
{
    uint64_t offset = what->Parameters.Read.ByteOffset;
    if (!file->DeviceObject->seekable || (int64_t)offset >= 0)
        return true;
    return offset == FILE_USE_FILE_POINTER_POSITION
               ? file->Flags & FO_SYNCHRONOUS_IO
               : offset == FILE_WRITE_TO_END_OF_FILE &&
                     what->MajorFunction == IRP_MJ_WRITE;
}

// Says whether what the request says of itself makes sense.
static NTSTATUS check(const FILE_OBJECT *file, const nt_request *request)
{
    enum { METHOD_MASK = 3 };
    const IO_STACK_LOCATION *what = &request->what;
    if (what->MajorFunction != IRP_MJ_DEVICE_CONTROL)
        return is_valid_offset(file, what) ? STATUS_SUCCESS
                                           : STATUS_INVALID_PARAMETER;
    if ((what->Parameters.DeviceIoControl.IoControlCode & METHOD_MASK) !=
        METHOD_BUFFERED)
        return STATUS_INVALID_DEVICE_REQUEST;
    return MAX(request->input_length, request->output_length) <=
                   MAXIMUM_CONTROL_BUFFER ? STATUS_SUCCESS
                                          : STATUS_INVALID_PARAMETER;
}

// Pins the buffer of a transfer, unless its device wants it copied, as it is
// for every control: then what goes in is copied now, and complete.c copies
// what came out, to pages that are known to be there.
static NTSTATUS attach_buffers(IRP *irp, const nt_request *request)
{
    uint32_t length = MAX(request->input_length, request->output_length);
    if (length == 0)
        return STATUS_SUCCESS;
    if (!ke_is_user_range(request->input, request->input_length) ||
        !ke_is_user_range(request->output, request->output_length))
        return STATUS_ACCESS_VIOLATION;
    if (request->what.MajorFunction == IRP_MJ_DEVICE_CONTROL ||
        irp->OriginalFileObject->DeviceObject->Flags & DO_BUFFERED_IO) {
        if (!io_allocate_system_buffer(irp, length))
            return STATUS_INSUFFICIENT_RESOURCES;
        irp->UserBuffer = request->output;
        irp->UserBufferLength = request->output_length;
        NT_TRY(nt_probe_output(request->output, request->output_length));
        return ke_copy_from_user(irp->SystemBuffer, request->input,
                                 request->input_length);
    }
    bool fills = request->output_length;
    uint64_t buffer = (uint64_t)(fills ? request->output : request->input);
    irp->MdlAddress = IoAllocateMdl(buffer, length);
    if (!irp->MdlAddress)
        return STATUS_INSUFFICIENT_RESOURCES;
    return mm_lock_user_buffer(irp->MdlAddress, NULL, buffer, length, fills);
}

// One request, from the handles to io_send.
static NTSTATUS send(const nt_request *request)
{
    NT_OWNED FILE_OBJECT *file = NULL;
    NT_OWNED KEVENT *event = NULL;
    NT_TRY(reference_targets(request, &file, &event));
    NT_TRY(check(file, request));
    IRP *irp = io_build_irp(file, request->what.MajorFunction);
    if (!irp)
        return STATUS_INSUFFICIENT_RESOURCES;
    IoGetNextIrpStackLocation(irp)->Parameters = request->what.Parameters;
    irp->UserEvent = event;    // the IRP owns it now
    event = NULL;
    irp->UserIosb = request->iosb;
    irp->UserApcRoutine = request->apc;
    irp->UserApcContext = request->apc_context;
    NTSTATUS status = attach_buffers(irp, request);
    // Another processor may complete and free the IRP before io_send returns:
    // from here on it must not be touched.
    if (NT_SUCCESS(status))
        return io_send(file, irp);
    io_discard_irp(irp);
    return status;
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
    return send(&(nt_request){
        file, event, apc, apc_context, iosb, .access = FILE_READ_DATA,
        .what = { IRP_MJ_READ, .Parameters.Read = { length, offset } },
        .output = buffer, .output_length = length });
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
    return send(&(nt_request){
        file, event, apc, apc_context, iosb,
        .access = FILE_WRITE_DATA | FILE_APPEND_DATA,
        .what = { IRP_MJ_WRITE, .Parameters.Write = { length, offset } },
        .input = buffer, .input_length = length });
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
    return send(&(nt_request){
        file, event, apc, apc_context, iosb,
        .what = { IRP_MJ_DEVICE_CONTROL,
                  .Parameters.DeviceIoControl = { output_length, input_length,
                                                  code } },
        .input = input, .input_length = input_length,
        .output = output, .output_length = output_length });
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
    NT_TRY(reference_targets(
        &(nt_request){ .access = FILE_WRITE_DATA | FILE_APPEND_DATA,
                       .file = file, .iosb = iosb }, &object, NULL));
    uintptr_t information = 0;
    NTSTATUS status = io_request(
        object, &(IO_STACK_LOCATION){ .MajorFunction = IRP_MJ_FLUSH_BUFFERS },
        NULL, NULL, &information);
    return nt_put_iosb(iosb, status, information);
}

// ---- Cancellation ---------------------------------------------------------

typedef struct cancel_request {
    io_filter filter;
    bool found;
} cancel_request;

static NTSTATUS cancel(HANDLE handle, IO_STATUS_BLOCK *iosb,
                       cancel_request *request)
{
    NT_OWNED FILE_OBJECT *file = NULL;
    NT_TRY(reference_targets(&(nt_request){ .file = handle, .iosb = iosb },
                             &file, NULL));
    request->filter.file = file;
    request->filter.process = &PsGetCurrentProcess()->Pcb;
    request->found = io_cancel(&file->io, &request->filter);
    // With no lock held: cancelling completes (IRP-07).
    ETHREAD *thread = NULL;
    if (request->filter.thread)
        request->found |= io_cancel(&PsGetCurrentThread()->Tcb.io,
                                    &request->filter);
    else
        while ((thread = ps_next_thread(PsGetCurrentProcess(), thread)) != NULL)
            request->found |= io_cancel(&thread->Tcb.io, &request->filter);
    bool done = request->found || request->filter.thread;    // CAN-01
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
    return cancel(file, iosb, &(cancel_request){
                                  .filter.thread = KeGetCurrentThread() });
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
    return cancel(file, iosb, &(cancel_request){ .filter.iosb = request });
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
