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
// One lock, psp_lock, guards all of this, and the list of threads, on which
// processes are found as well: what is on it holds its process.

#include "kernel/ps/psp.h"

#include "kernel/ps/ps.h"

enum { ID_STEP = 4, PEB_PAGES = 8,
       PROCESS_RIGHTS = PROCESS_TERMINATE | PROCESS_CREATE_THREAD |
                        PROCESS_VM_OPERATION | PROCESS_DUP_HANDLE |
                        PROCESS_QUERY_INFORMATION };

OBJECT_TYPE ps_process_type = {
    .name = "Process",
    .generic_read = PROCESS_QUERY_INFORMATION | SYNCHRONIZE,
    .generic_write = PROCESS_RIGHTS & ~PROCESS_QUERY_INFORMATION,
    .valid_access = STANDARD_RIGHTS_ALL | PROCESS_RIGHTS,
};

EPROCESS *PsInitialSystemProcess;
uint32_t ps_first_process_id;
volatile uint32_t ps_process_count;

KSPIN_LOCK psp_lock;
LIST_ENTRY psp_threads = { &psp_threads, &psp_threads };

static uint32_t last_id;    // atomic

// The next id of a process or a thread; they share the numbers.
//
// IRQL:    any level
uint32_t psp_allocate_id(void)
{
    return __atomic_add_fetch(&last_id, ID_STEP, __ATOMIC_RELAXED);
}

// ---- Holding a process ----------------------------------------------------

// Keeps a process's address space and handle table from going. Once exiting is
// set no hold is given any more: the count that falls to 0 stays there.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: false if the process is ending; else ps_release_process follows
bool ps_acquire_process(EPROCESS *process)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    KIRQL old = KeAcquireSpinLockRaiseToDpc(&psp_lock);
    bool alive = !process->exiting;
    process->holds += alive;
    KeReleaseSpinLock(&psp_lock, old);
    return alive;
}

// Takes one hold back. The last one takes down what nobody holds any more:
// nobody has the address space loaded then, as each thread leaves it before it
// lets go. thread: the current one, if it is its hold; with it it leaves the
// list, so that whoever finds it there finds its process alive.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: true for the last one, who has to signal the process
bool psp_let_go(EPROCESS *process, ETHREAD *thread)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    KIRQL old = KeAcquireSpinLockRaiseToDpc(&psp_lock);
    if (thread) {
        RemoveEntryList(&thread->process_entry);
        RemoveEntryList(&thread->ThreadListEntry);
        InitializeListHead(&thread->ThreadListEntry);    // ps_cancel_io looks
        if (!process->exiting)
            process->ExitStatus = thread->ExitStatus;
        process->exiting |= IsListEmpty(&process->threads);    // whoever holds
    }
    bool last = --process->holds == 0;
    process->exiting |= last;
    KeReleaseSpinLock(&psp_lock, old);
    if (!last)
        return false;
    ob_close_all_handles(&process->ObjectTable);
    io_rundown_process(&process->Pcb);    // CAN-11
    ke_want_trace(&process->trace_mask, 0);
    mm_delete_space(&process->space);
    __atomic_sub_fetch(&ps_process_count, 1, __ATOMIC_RELAXED);
    return true;
}

// Undoes ps_acquire_process; the last one to let go ends the process.
//
// IRQL:    == PASSIVE_LEVEL
void ps_release_process(EPROCESS *process)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    if (psp_let_go(process, NULL))
        ke_signal_process(&process->Pcb);
}

// Ends a process: its threads end on their way to ring 3, with this status;
// a second call changes nothing. A thread that is being made comes on the list
// before exiting is set, and is met here, or sees exiting (start_thread).
//
// IRQL:    <= DISPATCH_LEVEL
void ps_terminate_process(EPROCESS *process, NTSTATUS status)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    KIRQL old = KeAcquireSpinLockRaiseToDpc(&psp_lock);
    if (!process->exiting) {
        process->exiting = true;
        process->ExitStatus = status;
        RTL_FOR_EACH_RECORD(ETHREAD, thread, &process->threads, process_entry)
            psp_end_thread(thread, status);
    }
    KeReleaseSpinLock(&psp_lock, old);
}

// ---- Creation -------------------------------------------------------------

// Makes a process with no handle and an empty address space, held once by the
// caller.
static NTSTATUS create_object(const char *name, EPROCESS **result)
{
    EPROCESS *process;
    NT_TRY(ob_create_object(&ps_process_type, sizeof(*process),
                            (void **)&process));
    NTSTATUS status = mm_create_space(&process->space, &process->Pcb);
    if (!NT_SUCCESS(status)) {
        ObDereferenceObject(process);
        return status;
    }
    InitializeListHead(&process->threads);
    ke_initialize_process(&process->Pcb, process->space.cr3);
    process->ObjectTable.process = process;
    process->Pcb.handles = &process->ObjectTable;
    process->UniqueProcessId = psp_allocate_id();
    process->Pcb.pool_account =
        process->UniqueProcessId / ID_STEP % EX_POOL_ACCOUNTS;
    process->ExitStatus = STATUS_PENDING;
    process->holds = 1;
    const char *last = name;
    for (const char *c = name; *c; c++)
        if (*c == '\\' || *c == '/')
            last = c + 1;
    rtl_strcpy(process->ImageFileName, last, sizeof(process->ImageFileName));
    __atomic_add_fetch(&ps_process_count, 1, __ATOMIC_RELAXED);
    *result = process;
    return STATUS_SUCCESS;
}

// Puts the PEB, with the texts of its two strings behind it, into the new
// process, which lets the strings name them.
static NTSTATUS write_peb(EPROCESS *process, const ps_start *start,
                          const PEB *peb)
{
    uint32_t image = (uint32_t)rtl_strlen(start->image) + 1;
    uint32_t line = (uint32_t)rtl_strlen(start->command_line) + 1;
    uint64_t size = sizeof(*peb) + image + line;
    NT_TRY(mm_allocate(&process->space, &process->peb, &size, PAGE_READWRITE));
    _Alignas(MDL) uint8_t room[sizeof(MDL) +
                               PEB_PAGES * sizeof(PFN_NUMBER)] = { 0 };
    MDL *mdl = (MDL *)room;
    ASSERT(size <= PEB_PAGES * PAGE_SIZE);
    NT_TRY(mm_lock_space(mdl, &process->space, process->peb, (uint32_t)size));
    mm_copy_to_mdl(mdl, 0, peb, sizeof(*peb));
    mm_copy_to_mdl(mdl, sizeof(*peb), start->image, image);
    mm_copy_to_mdl(mdl, sizeof(*peb) + image, start->command_line, line);
    MmUnlockPages(mdl);
    return STATUS_SUCCESS;
}

// Gives a new, empty process all it needs to run but a thread. Its standard
// handles are duplicates of the creator's.
static NTSTATUS fill_process(EPROCESS *process, const ps_start *start)
{
    NT_TRY(psp_load_image(process, start->image));
    PEB peb;
    memset(&peb, 0, sizeof(peb));    // gaps included: ring 3 sees all of it
    peb.FirstProgram = start->first_program;
    peb.Restarts = start->restarts;
    HANDLE *handles = &peb.ProcessParameters.StandardInput;
    for (uint32_t i = 0; i < ARRAY_SIZE(start->standard); i++)
        if (start->standard[i])
            NT_TRY(ob_duplicate_handle(
                ob_current_table(), start->standard[i], &process->ObjectTable,
                0, DUPLICATE_SAME_ACCESS, &handles[i]));
    NT_TRY(write_peb(process, start, &peb));
    if (start->first_program)
        ps_first_process_id = process->UniqueProcessId;
    return STATUS_SUCCESS;
}

// Starts a program in a new process; its first thread is suspended, once.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INSUFFICIENT_RESOURCES, STATUS_NO_MEMORY,
//          STATUS_INVALID_HANDLE (a standard handle), or as psp_load_image
// Owns:    the caller, one reference to *process and one to *thread
NTSTATUS ps_create_process(const ps_start *start, EPROCESS **process,
                           ETHREAD **thread)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    ob_reap();
    EPROCESS *made = NULL;
    NT_TRY(create_object(start->image, &made));
    made->parent_id = PsGetCurrentProcess()->UniqueProcessId;
    NTSTATUS status = fill_process(made, start);
    // From its first thread on others find it. Were we suspended while we hold
    // it, nobody could end it.
    KeEnterCriticalRegion();
    if (NT_SUCCESS(status))
        status = ps_create_thread(made, 0, 0, 0, thread);
    ps_release_process(made);    // without a thread this ends it
    KeLeaveCriticalRegion();
    if (NT_SUCCESS(status))
        *process = made;
    else
        ObDereferenceObject(made);
    return status;
}

// Makes the system process, which no thread's end ever ends.
//
// IRQL:    == PASSIVE_LEVEL
void ps_init(void)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    NTSTATUS status = create_object("System", &PsInitialSystemProcess);
    if (!NT_SUCCESS(status))
        KeBugCheckEx(PHASE1_INITIALIZATION_FAILED, (uintptr_t)status, 0, 0, 0);
}

// ---- Finding them ---------------------------------------------------------

// Finds the thread that is called id, in the process of which id says so (0:
// any), or some thread of a process; what has ended is not found. What is on
// the list has a reference, so another one can be taken.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: NULL if there is none
// Owns:    the caller, one reference
ETHREAD *ps_reference_by_id(const CLIENT_ID *id, bool is_thread)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    ETHREAD *found = NULL;
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&psp_lock);
    PSP_FOR_EACH_THREAD(thread)
        if (is_thread ? thread->Cid.UniqueThread == id->UniqueThread &&
                            (!id->UniqueProcess || thread->Cid.UniqueProcess ==
                                                       id->UniqueProcess)
                      : thread->Cid.UniqueProcess == id->UniqueProcess)
            found = thread;
    if (found)
        ObReferenceObject(found);
    KeReleaseSpinLock(&psp_lock, old);
    return found;
}

// Asks what any thread of filter->process, or of all, has pending, and the
// filter matches, to end: thread after thread in the order of their ids, which
// is that of the list, as no lock may be held where a request is completed
// (IRP-07).
//
// IRQL:    == PASSIVE_LEVEL
// Returns: whether there was one
bool ps_cancel_io(const io_filter *filter)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    bool found = false;
    const uint64_t newest = last_id;    // who comes later is not meant
    ETHREAD *thread = NULL;
    do {
        ETHREAD *next = NULL;
        KIRQL old = KeAcquireSpinLockRaiseToDpc(&psp_lock);
        // On from the last one; from the beginning, if that has ended.
        uint64_t after = thread ? thread->Cid.UniqueThread : 0;
        LIST_ENTRY *entry = thread && !IsListEmpty(&thread->ThreadListEntry)
                                ? &thread->ThreadListEntry : &psp_threads;
        while (!next && (entry = entry->Flink) != &psp_threads) {
            ETHREAD *at = CONTAINING_RECORD(entry, ETHREAD, ThreadListEntry);
            uint64_t id = at->Cid.UniqueThread;
            if ((!filter->process || at->Tcb.Process == filter->process) &&
                id > after && id <= newest)
                next = at;
        }
        if (next)
            ObReferenceObject(next);
        KeReleaseSpinLock(&psp_lock, old);
        if (thread)
            ObDereferenceObject(thread);
        thread = next;
        if (thread)
            found |= io_cancel(&thread->Tcb.io, filter);
    } while (thread);
    return found;
}

// Calls each for every thread; it must not block or take psp_lock.
//
// IRQL:    <= DISPATCH_LEVEL
void ps_for_each_thread(ps_each_thread *each, void *context)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    KIRQL old = KeAcquireSpinLockRaiseToDpc(&psp_lock);
    PSP_FOR_EACH_THREAD(thread)
        each(thread, context);
    KeReleaseSpinLock(&psp_lock, old);
}

// Tries the threads of a process until one will do; try must not block or take
// psp_lock.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: whether one did
bool ps_try_threads(KPROCESS *process, io_try_thread *try, void *context)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    bool done = false;
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&psp_lock);
    RTL_FOR_EACH_RECORD(ETHREAD, thread, &((EPROCESS *)process)->threads,
                        process_entry)
        if ((done = try(thread, context)) == true)
            break;
    KeReleaseSpinLock(&psp_lock, old);
    return done;
}
