// ntps.c - threads and processes as ring 3 has them.
//
// What is created is created suspended, given its handle, and only then let
// go: if the handle cannot be stored, nothing of it has run yet, and it ends
// without a trace. The system process may be looked at and nothing else.

#include "kernel/nt/ntp.h"

enum { MAXIMUM_COMMAND_LINE = 8192,    // with the final zero
       PRIORITY_SPAN = 2 };            // ThreadBasePriority: -2 .. 2

// Lets a suspended newcomer go on, or ends it before its first instruction if
// status says that nobody has a handle to it. Returns status.
static NTSTATUS release_newcomer(ETHREAD *thread, uint32_t flags,
                                 NTSTATUS status)
{
    if (!NT_SUCCESS(status))
        ps_terminate_thread(thread, status);
    else if (!(flags & THREAD_CREATE_FLAGS_CREATE_SUSPENDED))
        KeResumeThread(&thread->Tcb);
    return status;
}

// Opens the thread, or the process, that is called *user_id. query is all that
// is allowed with those of the system process, as they are the kernel's.
static NTSTATUS open(bool is_thread, ACCESS_MASK query, HANDLE *handle,
                     ACCESS_MASK access, const OBJECT_ATTRIBUTES *attributes,
                     const CLIENT_ID *user_id)
{
    CLIENT_ID id;
    NT_TRY(nt_check_unnamed(attributes));
    NT_TRY(ke_get_user(&id, user_id));
    NT_OWNED ETHREAD *thread = ps_reference_by_id(&id, is_thread);
    if (!thread)
        return STATUS_INVALID_CID;
    if (thread->process == PsInitialSystemProcess &&
        access & ~(query | SYNCHRONIZE))
        return STATUS_ACCESS_DENIED;
    return ob_insert_for_user(is_thread ? (void *)thread : thread->process,
                              access, handle);
}

// ---- Threads --------------------------------------------------------------

// Makes a thread that begins at start_routine(argument). stack_size 0: the
// default.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_INVALID_PARAMETER    flags, stack_size, or start_routine is
//                                      no address of ring 3
//          STATUS_INVALID_HANDLE, STATUS_ACCESS_DENIED,
//          STATUS_OBJECT_TYPE_MISMATCH, STATUS_PROCESS_IS_TERMINATING,
//          STATUS_OBJECT_NAME_INVALID, STATUS_NO_MEMORY,
//          STATUS_INSUFFICIENT_RESOURCES, STATUS_ACCESS_VIOLATION
// NT:      NtCreateThreadEx (native). Left out: ZeroBits, MaximumStackSize,
//          AttributeList; flags but for CREATE_SUSPENDED (THR-02).
NTSTATUS NtCreateThreadEx(HANDLE *handle, ACCESS_MASK access,
                          const OBJECT_ATTRIBUTES *attributes,
                          HANDLE process_handle, void *start_routine,
                          void *argument, uint32_t flags, size_t stack_size)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    if (flags & ~THREAD_CREATE_FLAGS_CREATE_SUSPENDED ||
        !ke_is_user_range(start_routine, 1))
        return STATUS_INVALID_PARAMETER;
    NT_TRY(nt_check_unnamed(attributes));
    NT_OWNED ETHREAD *thread = NULL;
    NT_ACQUIRE(process, process_handle, PROCESS_CREATE_THREAD);
    NT_TRY(ps_create_thread(process, (uint64_t)start_routine,
                            (uint64_t)argument, stack_size, &thread));
    return release_newcomer(thread, flags,
                            ob_insert_for_user(thread, access, handle));
}

// Ends a thread, on its way to ring 3; so this does not return to the current
// one.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INVALID_HANDLE, STATUS_ACCESS_DENIED,
//          STATUS_OBJECT_TYPE_MISMATCH
// NT:      NtTerminateThread (native). Left out: NULL for the current thread.
NTSTATUS NtTerminateThread(HANDLE handle, NTSTATUS exit_status)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    NT_REFERENCE(ETHREAD, thread, handle, THREAD_TERMINATE);
    ps_terminate_thread(thread, exit_status);
    return STATUS_SUCCESS;
}

// Suspends a thread.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS    *previous: how often it was before (THR-02)
//          STATUS_SUSPEND_COUNT_EXCEEDED, STATUS_THREAD_IS_TERMINATING,
//          STATUS_INVALID_HANDLE, STATUS_ACCESS_DENIED,
//          STATUS_OBJECT_TYPE_MISMATCH, STATUS_ACCESS_VIOLATION
// NT:      NtSuspendThread (native).
NTSTATUS NtSuspendThread(HANDLE handle, uint32_t *previous)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    uint32_t count;
    NT_TRY(NT_PROBE_OPTIONAL(previous));
    NT_REFERENCE(ETHREAD, thread, handle, THREAD_SUSPEND_RESUME);
    NT_TRY(ps_suspend_thread(thread, &count));
    return NT_PUT_OPTIONAL(previous, &count);
}

// Takes one suspension back.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS    *previous: how often it was before, or 0
//          or as NtSuspendThread
// NT:      NtResumeThread (native).
NTSTATUS NtResumeThread(HANDLE handle, uint32_t *previous)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    NT_TRY(NT_PROBE_OPTIONAL(previous));
    NT_REFERENCE(ETHREAD, thread, handle, THREAD_SUSPEND_RESUME);
    uint32_t count = KeResumeThread(&thread->Tcb);
    return NT_PUT_OPTIONAL(previous, &count);
}

// Opens a thread that has not ended by its id.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_INVALID_CID      there is none, or in another process
//          STATUS_ACCESS_DENIED    it is the kernel's
//          STATUS_OBJECT_NAME_INVALID, STATUS_INSUFFICIENT_RESOURCES,
//          STATUS_ACCESS_VIOLATION
// NT:      NtOpenThread (native). UniqueProcess 0: any.
NTSTATUS NtOpenThread(HANDLE *handle, ACCESS_MASK access,
                      const OBJECT_ATTRIBUTES *attributes, const CLIENT_ID *id)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    return open(true, THREAD_QUERY_INFORMATION, handle, access, attributes, id);
}

// Tells how a thread is. Its exit status counts from its end on (THR-01).
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INVALID_INFO_CLASS,
//          STATUS_INFO_LENGTH_MISMATCH, STATUS_INVALID_HANDLE,
//          STATUS_ACCESS_DENIED, STATUS_OBJECT_TYPE_MISMATCH,
//          STATUS_ACCESS_VIOLATION
// NT:      NtQueryInformationThread (WDK). Left out: all classes but one.
NTSTATUS NtQueryInformationThread(HANDLE handle, THREADINFOCLASS class,
                                  void *buffer, uint32_t length,
                                  uint32_t *returned)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    if (class != ThreadBasicInformation)
        return STATUS_INVALID_INFO_CLASS;
    NT_REFERENCE(ETHREAD, thread, handle, THREAD_QUERY_INFORMATION);
    const KTHREAD *tcb = &thread->Tcb;
    THREAD_BASIC_INFORMATION basic = {
        .ExitStatus =
            tcb->Header.SignalState ? thread->ExitStatus : STATUS_PENDING,
        .Priority = tcb->Priority, .BasePriority = tcb->BasePriority,
        .SuspendCount = tcb->SuspendCount, .ClientId = thread->Cid,
        .AffinityMask = tcb->Affinity,
    };
    return nt_answer(&basic, sizeof(basic), buffer, length, returned);
}

// Sets a thread's base priority, around its process's, or its processors.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_INVALID_PARAMETER    beyond -2..2, or no such processors
//          or as NtQueryInformationThread
// NT:      NtSetInformationThread (WDK). Left out: all classes but two.
NTSTATUS NtSetInformationThread(HANDLE handle, THREADINFOCLASS class,
                                const void *buffer, uint32_t length)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    if (class != ThreadBasePriority && class != ThreadAffinityMask)
        return STATUS_INVALID_INFO_CLASS;
    bool is_priority = class == ThreadBasePriority;
    int32_t increment = 0;
    uint64_t mask = 0, all = (1ull << KeNumberProcessors) - 1;
    if (length != (is_priority ? sizeof(increment) : sizeof(mask)))
        return STATUS_INFO_LENGTH_MISMATCH;
    NT_TRY(is_priority ? ke_get_user(&increment, buffer)
                       : ke_get_user(&mask, buffer));
    NT_REFERENCE(ETHREAD, thread, handle, THREAD_SET_INFORMATION);
    if (is_priority ? increment < -PRIORITY_SPAN || increment > PRIORITY_SPAN
                    : !mask || mask & ~all)
        return STATUS_INVALID_PARAMETER;
    if (is_priority)
        KeSetBasePriorityThread(&thread->Tcb, (KPRIORITY)increment);
    else
        KeSetAffinityThread(&thread->Tcb, mask);
    return STATUS_SUCCESS;
}

// ---- Processes ------------------------------------------------------------

// Starts a program in a new process; see ntabi.h.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_INVALID_PARAMETER      flags, or a command line too long
//          STATUS_OBJECT_NAME_INVALID    the image's path is too long
//          STATUS_INVALID_IMAGE_FORMAT   that is no program for TINT
//          STATUS_INVALID_HANDLE         of the standard handles
//          STATUS_NO_MEMORY, STATUS_INSUFFICIENT_RESOURCES,
//          STATUS_ACCESS_VIOLATION, or why the image cannot be opened
// NT:      NtCreateUserProcess (native). Left out: object attributes, process
//          flags, CreateInfo, AttributeList. thread may be NULL.
NTSTATUS NtCreateUserProcess(HANDLE *process_handle, HANDLE *thread_handle,
                             ACCESS_MASK process_access,
                             ACCESS_MASK thread_access, uint32_t thread_flags,
                             const RTL_USER_PROCESS_PARAMETERS *parameters)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    RTL_USER_PROCESS_PARAMETERS copy;
    NT_TRY(ke_get_user(&copy, parameters));
    if (thread_flags & ~THREAD_CREATE_FLAGS_CREATE_SUSPENDED ||
        copy.CommandLine.Length >= MAXIMUM_COMMAND_LINE)
        return STATUS_INVALID_PARAMETER;
    char image[OB_MAX_NAME];
    NT_TRY(nt_capture_string(&copy.ImagePathName, image, sizeof(image)));
    NT_POOL(char, line, MAXIMUM_COMMAND_LINE);
    NT_TRY(nt_capture_string(&copy.CommandLine, line, MAXIMUM_COMMAND_LINE));
    NT_OWNED EPROCESS *process = NULL;
    NT_OWNED ETHREAD *thread = NULL;
    NT_TRY(ps_create_process(&(ps_start){
        .image = image, .command_line = line,
        .standard = { copy.StandardInput, copy.StandardOutput,
                      copy.StandardError } },
        &process, &thread));
    // If the second handle cannot be stored the first stays: ring 3 has it.
    NTSTATUS status = ob_insert_for_user(process, process_access,
                                         process_handle);
    if (NT_SUCCESS(status) && thread_handle)
        status = ob_insert_for_user(thread, thread_access, thread_handle);
    return release_newcomer(thread, thread_flags, status);
}

// Opens a process that has not ended by its id.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: as NtOpenThread
// NT:      NtOpenProcess (WDK). Left out: to find it by a thread's id.
NTSTATUS NtOpenProcess(HANDLE *handle, ACCESS_MASK access,
                       const OBJECT_ATTRIBUTES *attributes, const CLIENT_ID *id)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    return open(false, PROCESS_QUERY_INFORMATION, handle, access, attributes,
                id);
}

// Ends a process (THR-03): its threads end on their way to ring 3, the current
// one when this returns.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INVALID_HANDLE, STATUS_ACCESS_DENIED,
//          STATUS_OBJECT_TYPE_MISMATCH
// NT:      NtTerminateProcess (WDK). Left out: NULL for all threads but this.
NTSTATUS NtTerminateProcess(HANDLE handle, NTSTATUS exit_status)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    NT_REFERENCE(EPROCESS, process, handle, PROCESS_TERMINATE);
    ps_terminate_process(process, exit_status);
    return STATUS_SUCCESS;
}

// Tells how a process is. Its exit status counts from its end on.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: as NtQueryInformationThread
// NT:      NtQueryInformationProcess (WDK). Left out: all classes but one.
NTSTATUS NtQueryInformationProcess(HANDLE handle, PROCESSINFOCLASS class,
                                   void *buffer, uint32_t length,
                                   uint32_t *returned)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    if (class != ProcessBasicInformation)
        return STATUS_INVALID_INFO_CLASS;
    NT_REFERENCE(EPROCESS, process, handle, PROCESS_QUERY_INFORMATION);
    PROCESS_BASIC_INFORMATION basic = {
        .ExitStatus = process->Pcb.Header.SignalState ? process->ExitStatus
                                                      : STATUS_PENDING,
        .HandleCount = process->ObjectTable.count,
        .UniqueProcessId = process->UniqueProcessId,
        .InheritedFromUniqueProcessId = process->parent_id,
    };
    return nt_answer(&basic, sizeof(basic), buffer, length, returned);
}
