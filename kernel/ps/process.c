// process.c - processes: what a program's threads share, and who holds it.
//
// Address space and handle table live as long as somebody holds the process:
// each thread does, and, for the time of a call, whoever creates it or acts on
// it from outside (ps_acquire_process). The last one to let go runs it down.
// So a process that fails half-way through its creation, one that its last
// thread leaves, and one that another process still works on all end here, in
// the same way.
//
//   made, held once --first thread--> running --last hold--> run down, ended
//
// The list of processes has ps_lock, outside each process's own lock. What is
// on the list has a thread, so whoever finds it there can take a reference.

#include "kernel/ps/psp.h"

#include "kernel/ex/ex.h"
#include "kernel/io/io.h"
#include "kernel/ps/ps.h"
#include "kernel/rtl/rtl.h"

enum { ID_STEP = 4, STANDARD_HANDLES = 3,
       PROCESS_RIGHTS = PROCESS_TERMINATE | PROCESS_CREATE_THREAD |
                        PROCESS_VM_OPERATION | PROCESS_DUP_HANDLE |
                        PROCESS_QUERY_INFORMATION };

static void delete_process(void *object);

OBJECT_TYPE ps_process_type = {
    .name = "Process",
    .generic_read = PROCESS_QUERY_INFORMATION | SYNCHRONIZE,
    .generic_write = PROCESS_RIGHTS & ~PROCESS_QUERY_INFORMATION,
    .valid_access = STANDARD_RIGHTS_ALL | PROCESS_RIGHTS,
    .delete = delete_process,
};

EPROCESS *PsInitialSystemProcess;
uint32_t ps_first_process_id;

static KSPIN_LOCK ps_lock;    // guards the list
static LIST_ENTRY process_list = { &process_list, &process_list };
static volatile uint32_t process_count;    // likewise

static volatile uint32_t last_id;

// The next id of a process or a thread; they share the numbers.
//
// IRQL:    any level
uint32_t psp_allocate_id(void)
{
    return __atomic_add_fetch(&last_id, ID_STEP, __ATOMIC_RELAXED);
}

static void delete_process(void *object)
{
    EPROCESS *process = object;
    if (process->ObjectTable)
        ob_delete_handle_table(process->ObjectTable);
}

// Makes a process with an empty handle table and an empty address space, held
// once by the caller.
static NTSTATUS create_object(const char *name, uint32_t parent,
                              EPROCESS **result)
{
    EPROCESS *process;
    NT_TRY(ob_create_object(&ps_process_type, sizeof(*process),
                            (void **)&process));
    process->ObjectTable = ob_create_handle_table(process);
    NTSTATUS status = process->ObjectTable
                          ? mm_create_space(&process->space, &process->Pcb)
                          : STATUS_INSUFFICIENT_RESOURCES;
    if (!NT_SUCCESS(status)) {
        ObDereferenceObject(process);
        return status;
    }
    ke_initialize_process(&process->Pcb, process->space.cr3);
    process->UniqueProcessId = psp_allocate_id();
    process->parent_id = parent;
    process->ExitStatus = STATUS_PENDING;
    process->ActiveThreads = 1;
    InitializeListHead(&process->ThreadListHead);
    InitializeListHead(&process->ActiveProcessLinks);
    const char *last = name;
    for (const char *c = name; *c; c++)
        if (*c == '\\' || *c == '/')
            last = c + 1;
    rtl_strcpy(process->ImageFileName, last, sizeof(process->ImageFileName));
    *result = process;
    return STATUS_SUCCESS;
}

static void publish(EPROCESS *process)
{
    KIRQL old;
    KeAcquireSpinLock(&ps_lock, &old);
    InsertTailList(&process_list, &process->ActiveProcessLinks);
    process_count++;
    KeReleaseSpinLock(&ps_lock, old);
}

// ---- Holding a process ----------------------------------------------------

// Keeps a process's address space and handle table from going.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: false if the process is ending; else ps_release_process follows
bool ps_acquire_process(EPROCESS *process)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    KIRQL old;
    KeAcquireSpinLock(&process->lock, &old);
    bool alive = !process->exiting;
    process->ActiveThreads += alive;
    KeReleaseSpinLock(&process->lock, old);
    return alive;
}

// Takes one hold back. The last one takes down what nobody holds any more:
// nobody has the address space loaded then, as each thread leaves it before it
// lets go.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: true for the last one, who has to signal the process
bool psp_drop_process(EPROCESS *process)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    KIRQL old;
    KeAcquireSpinLock(&process->lock, &old);
    bool last = --process->ActiveThreads == 0;
    process->exiting |= last;
    KeReleaseSpinLock(&process->lock, old);
    if (!last)
        return false;
    ob_close_all_handles(process->ObjectTable);
    io_rundown_process(&process->Pcb);    // CAN-11
    if (ke_trace_owner == process->UniqueProcessId) {
        ke_trace_owner = 0;
        ki_trace_mask = ke_default_trace_mask;
    }
    KeAcquireSpinLock(&ps_lock, &old);
    if (!IsListEmpty(&process->ActiveProcessLinks))
        process_count--;
    RemoveEntryList(&process->ActiveProcessLinks);
    KeReleaseSpinLock(&ps_lock, old);
    mm_delete_space(&process->space);
    return true;
}

// Undoes ps_acquire_process; the last one to let go ends the process.
//
// IRQL:    == PASSIVE_LEVEL
void ps_release_process(EPROCESS *process)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    if (psp_drop_process(process))
        ke_signal_process(&process->Pcb);
}

// Ends a process: its threads end on their way to ring 3, with this status;
// a second call changes nothing.
//
// IRQL:    <= DISPATCH_LEVEL
void ps_terminate_process(EPROCESS *process, NTSTATUS status)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    KIRQL old;
    KeAcquireSpinLock(&process->lock, &old);
    if (!process->exiting) {
        process->exiting = true;
        process->ExitStatus = status;
        RTL_FOR_EACH(entry, &process->ThreadListHead)
            psp_end_thread(CONTAINING_RECORD(entry, ETHREAD, ThreadListEntry),
                           status);
    }
    KeReleaseSpinLock(&process->lock, old);
}

// ---- Creation -------------------------------------------------------------

// Gives the new process its standard handles: duplicates of the creator's, or
// for the first program the console, opened once for each, so that nobody who
// reads keeps another from writing.
static NTSTATUS give_handles(EPROCESS *process, const ps_start *start,
                             HANDLE *handles)
{
    const ACCESS_MASK access = FILE_READ_DATA | FILE_WRITE_DATA | SYNCHRONIZE;
    for (int i = 0; i < STANDARD_HANDLES; i++) {
        if (start->first_program) {
            FILE_OBJECT *file = NULL;
            uintptr_t information;
            NT_TRY(io_create_file("\\??\\CON", access, FILE_OPEN,
                                  FILE_SYNCHRONOUS_IO_NONALERT, &file,
                                  &information));
            NT_TRY(ob_insert_handle(process->ObjectTable, file, access,
                                    &handles[i]));
        } else if (start->standard[i]) {
            NT_TRY(ob_duplicate_handle(
                PsGetCurrentProcess()->ObjectTable, start->standard[i],
                process->ObjectTable, 0, DUPLICATE_SAME_ACCESS, &handles[i]));
        }
    }
    return STATUS_SUCCESS;
}

// Field by field: the gaps of a structure must not carry the kernel's stack to
// ring 3.
static void set_string(STRING *string, const char *address, uint16_t length)
{
    string->Length = length;
    string->MaximumLength = (uint16_t)(length + 1);
    string->Buffer = address;
}

// Puts the PEB, with its strings behind it, into the new process; the first
// thread will add who it is.
static NTSTATUS write_peb(EPROCESS *process, const ps_start *start,
                          const HANDLE *handles)
{
    uint16_t image = (uint16_t)rtl_strlen(start->image);
    uint16_t line = (uint16_t)rtl_strlen(start->command_line);
    uint64_t base = 0, size = sizeof(PEB) + image + 1 + line + 1;
    NT_TRY(mm_allocate(&process->space, &base, &size, PAGE_READWRITE));
    process->peb = base;
    char *image_at = (char *)base + sizeof(PEB);
    char *line_at = image_at + image + 1;
    PEB peb;
    memset(&peb, 0, sizeof(peb));
    RTL_USER_PROCESS_PARAMETERS *parameters = &peb.ProcessParameters;
    set_string(&parameters->ImagePathName, image_at, image);
    set_string(&parameters->CommandLine, line_at, line);
    parameters->StandardInput = handles[0];
    parameters->StandardOutput = handles[1];
    parameters->StandardError = handles[2];
    peb.FirstProgram = start->first_program;
    peb.Restarts = start->restarts;

    // For a moment we are in the new space. No APC may come meanwhile: it would
    // store the result of our own I/O there.
    EPROCESS *self = PsGetCurrentProcess();
    KeEnterGuardedRegion();
    ke_attach_process(&process->Pcb);
    NTSTATUS status = ke_put_user((PEB *)base, &peb);
    if (NT_SUCCESS(status))
        status = ke_copy_to_user(image_at, start->image, image + 1);
    if (NT_SUCCESS(status))
        status = ke_copy_to_user(line_at, start->command_line, line + 1);
    ke_attach_process(&self->Pcb);
    KeLeaveGuardedRegion();
    return status;
}

// Gives a new, empty process all it needs to run, and starts its first thread.
static NTSTATUS fill_process(EPROCESS *process, const ps_start *start,
                             ETHREAD **thread)
{
    HANDLE handles[STANDARD_HANDLES] = { NULL };
    NT_TRY(psp_load_image(process, start->image));
    NT_TRY(give_handles(process, start, handles));
    NT_TRY(write_peb(process, start, handles));
    if (start->first_program)
        ps_first_process_id = process->UniqueProcessId;
    publish(process);
    return ps_create_thread(process, 0, 0, 0, start->thread_flags, thread);
}

// Starts a program in a new process.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INSUFFICIENT_RESOURCES, STATUS_NO_MEMORY,
//          STATUS_INVALID_HANDLE (a standard handle), or as psp_load_image
// Owns:    the caller, one reference to *process and one to *thread
NTSTATUS ps_create_process(const ps_start *start, EPROCESS **process,
                           ETHREAD **thread)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    ps_reap();
    EPROCESS *made = NULL;
    NT_TRY(create_object(start->image, PsGetCurrentProcess()->UniqueProcessId,
                         &made));
    NTSTATUS status = fill_process(made, start, thread);
    ps_release_process(made);    // without a thread this ends it
    if (!NT_SUCCESS(status))
        ObDereferenceObject(made);
    else
        *process = made;
    return status;
}

static ob_handle_table *current_table(void)
{
    return PsGetCurrentProcess()->ObjectTable;
}

static void *pseudo_handle(HANDLE handle)
{
    if (handle == NtCurrentProcess())
        return PsGetCurrentProcess();
    return handle == NtCurrentThread() ? PsGetCurrentThread() : NULL;
}

// Makes the system process, which no thread's end ever ends.
//
// IRQL:    == PASSIVE_LEVEL
void ps_init(void)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    ob_current_table = current_table;
    ob_pseudo_handle = pseudo_handle;
    NTSTATUS status = create_object("System", 0, &PsInitialSystemProcess);
    if (!NT_SUCCESS(status))
        KeBugCheckEx(PHASE1_INITIALIZATION_FAILED, (uintptr_t)status, 0, 0, 0);
    publish(PsInitialSystemProcess);
}

// ---- Finding them ---------------------------------------------------------

// Finds a process that has not ended.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: STATUS_SUCCESS or STATUS_INVALID_CID
// Owns:    the caller, one reference
// NT:      PsLookupProcessByProcessId (WDK). The id is a number, no HANDLE;
//          ended processes are not found.
NTSTATUS PsLookupProcessByProcessId(uint64_t id, EPROCESS **process)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    NTSTATUS status = STATUS_INVALID_CID;
    KIRQL old;
    KeAcquireSpinLock(&ps_lock, &old);
    RTL_FOR_EACH(entry, &process_list) {
        EPROCESS *each =
            CONTAINING_RECORD(entry, EPROCESS, ActiveProcessLinks);
        if (each->UniqueProcessId != id)
            continue;
        ObReferenceObject(each);
        *process = each;
        status = STATUS_SUCCESS;
    }
    KeReleaseSpinLock(&ps_lock, old);
    return status;
}

// Calls each for every thread; it must not block or take ps_lock.
//
// IRQL:    <= DISPATCH_LEVEL
void ps_for_each_thread(void (*each)(ETHREAD *thread, void *context),
                        void *context)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    KIRQL old;
    KeAcquireSpinLock(&ps_lock, &old);
    RTL_FOR_EACH(link, &process_list) {
        EPROCESS *process =
            CONTAINING_RECORD(link, EPROCESS, ActiveProcessLinks);
        KeAcquireSpinLockAtDpcLevel(&process->lock);
        RTL_FOR_EACH(entry, &process->ThreadListHead)
            each(CONTAINING_RECORD(entry, ETHREAD, ThreadListEntry), context);
        KeReleaseSpinLockFromDpcLevel(&process->lock);
    }
    KeReleaseSpinLock(&ps_lock, old);
}

struct lookup {
    uint64_t id;
    ETHREAD *found;
};

static void match_id(ETHREAD *thread, void *context)
{
    struct lookup *lookup = context;
    if (thread->Tcb.id != lookup->id)
        return;
    ObReferenceObject(thread);
    lookup->found = thread;
}

// Finds a thread that has not ended.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: STATUS_SUCCESS or STATUS_INVALID_CID
// Owns:    the caller, one reference
NTSTATUS ps_lookup_thread(uint64_t id, ETHREAD **thread)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    struct lookup lookup = { .id = id };
    ps_for_each_thread(match_id, &lookup);
    if (!lookup.found)
        return STATUS_INVALID_CID;
    *thread = lookup.found;
    return STATUS_SUCCESS;
}

// How many processes there are, the system process included.
//
// IRQL:    any level
uint32_t ps_process_count(void)
{
    return process_count;
}
