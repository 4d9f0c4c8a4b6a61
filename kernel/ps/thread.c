// thread.c - a thread's birth and its death.
//
// A thread is made (object, stacks) and then started; only then is it visible
// to others. It ends itself, always: whoever wants it to end queues its exit
// APC, which it meets on its way to ring 3. While it lives it is on the list,
// holds its process and has a reference to itself; when it is off its stack
// for ever, ob_reap frees that and drops the reference.
//
//   made --start--> on the list --ps_exit_thread--> off it, dying
//     |                                               ps_thread_dead
//     '--failed--> freed  <-------- ob_reap <-------------'

#include "kernel/ps/psp.h"

#include "kernel/ps/ps.h"

enum { DEFAULT_STACK = 0x10000, MAXIMUM_STACK = 0x800000,
       THREAD_RIGHTS = THREAD_TERMINATE | THREAD_SUSPEND_RESUME |
                       THREAD_ALERT | THREAD_SET_CONTEXT |
                       THREAD_SET_INFORMATION | THREAD_QUERY_INFORMATION };

volatile uint32_t ps_thread_count;

// ---- Birth ----------------------------------------------------------------

static void free_stack(ETHREAD *thread)
{
    if (thread->Tcb.StackLimit)
        mm_free_system_pages(thread->Tcb.StackLimit, MM_STACK_PAGES);
    thread->Tcb.StackLimit = NULL;
}

static void delete_thread(void *object)
{
    free_stack(object);
    ObDereferenceObject(((ETHREAD *)object)->process);
}

OBJECT_TYPE ps_thread_type = {
    .name = "Thread",
    .generic_read = THREAD_QUERY_INFORMATION | SYNCHRONIZE,
    .generic_write = THREAD_RIGHTS & ~THREAD_QUERY_INFORMATION,
    .valid_access = STANDARD_RIGHTS_ALL | THREAD_RIGHTS,
    .delete = delete_thread,
};

// What a user thread does first, still in ring 0.
static void start_user_thread(void *context)
{
    ETHREAD *thread = context;
    bool first = !thread->start_routine;    // of its process
    ke_enter_user(thread->process->Pcb.user_entry,
                  (uint64_t)thread->Tcb.user_stack_pointer,
                  first ? NT_ENTRY_PROCESS : NT_ENTRY_THREAD,
                  first ? thread->process->peb : thread->start_routine,
                  thread->start_argument);
}

static void start_system_thread(void *context)
{
    ETHREAD *thread = context;
    ((KSTART_ROUTINE *)thread->start_routine)((void *)thread->start_argument);
    ps_exit_thread(STATUS_SUCCESS);
}

// The exit APC, a part of its thread: nothing to run down. It never returns:
// from here the thread goes on to its end.
static void exit_kernel(KAPC *, KNORMAL_ROUTINE **, void **, void **, void **)
{
    KeLowerIrql(PASSIVE_LEVEL);
    ps_exit_thread(PsGetCurrentThread()->ExitStatus);
}

// Only makes the exit APC one of user mode (APC-01); never called.
static void exit_normal(void *, void *, void *)
{
}

// Gives a new thread what ring 0 needs. user: it will enter ring 3.
static NTSTATUS prepare(ETHREAD *thread, EPROCESS *process,
                        KSTART_ROUTINE *start, bool user)
{
    ObReferenceObject(process);
    thread->process = process;
    char *stack = mm_allocate_system_pages(MM_STACK_PAGES);
    if (!stack)
        return STATUS_INSUFFICIENT_RESOURCES;
    ke_initialize_thread(&thread->Tcb, &process->Pcb,
                         stack + MM_STACK_PAGES * PAGE_SIZE, stack, start,
                         thread, user ? thread->fpu : NULL);
    KeInitializeApc(&thread->exit_apc, &thread->Tcb, exit_kernel,
                    ke_keep_apc, exit_normal, UserMode, NULL);
    thread->exit_apc.at_head = true;    // APC-03
    thread->ExitStatus = STATUS_PENDING;
    return STATUS_SUCCESS;
}

// Lets a prepared thread run. If its process has begun to end meanwhile, it
// ends before it sees ring 3: ps_terminate_process either finds it on the list
// or has set exiting before we look, as both do so under the lock.
static void start_thread(ETHREAD *thread)
{
    EPROCESS *process = thread->process;
    ObReferenceObject(thread);    // its own, until it is reaped
    __atomic_add_fetch(&ps_thread_count, 1, __ATOMIC_RELAXED);
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&psp_lock);
    thread->Tcb.id = psp_allocate_id();    // the list is sorted by them
    thread->Cid.UniqueProcess = process->UniqueProcessId;
    thread->Cid.UniqueThread = thread->Tcb.id;
    InsertTailList(&psp_threads, &thread->ThreadListEntry);
    InsertTailList(&process->threads, &thread->process_entry);
    if (process->exiting)
        psp_end_thread(thread, process->ExitStatus);
    KeReleaseSpinLock(&psp_lock, old);
    ke_export_thread(thread->Tcb.id, (uint32_t)process->UniqueProcessId,
                     process->ImageFileName);
    ke_start_thread(&thread->Tcb);
}

// Makes a thread, with stack_size bytes of stack in ring 3 or, if that is 0, of
// ring 0 alone, and starts it; the former suspended, before anybody can see it.
static NTSTATUS create_thread(EPROCESS *process, KSTART_ROUTINE *start,
                              uint64_t routine, uint64_t argument,
                              uint64_t stack_size, ETHREAD **result)
{
    ob_reap();
    if (!ps_acquire_process(process))    // from now on the thread's hold
        return STATUS_PROCESS_IS_TERMINATING;
    ETHREAD *thread = NULL;
    NTSTATUS status = ob_create_object(&ps_thread_type, sizeof(*thread),
                                       (void **)&thread);
    if (NT_SUCCESS(status))
        status = prepare(thread, process, start, stack_size != 0);
    if (NT_SUCCESS(status) && stack_size) {
        status = mm_allocate(&process->space, &thread->user_stack, &stack_size,
                             PAGE_READWRITE);
        thread->Tcb.user_stack_pointer =
            (void *)(thread->user_stack + stack_size);
        KeSuspendThread(&thread->Tcb);
    }
    if (!NT_SUCCESS(status)) {
        if (thread)
            ObDereferenceObject(thread);
        ps_release_process(process);
        return status;
    }
    thread->start_routine = routine;
    thread->start_argument = argument;
    start_thread(thread);
    *result = thread;
    return STATUS_SUCCESS;
}

// Makes a thread of process, suspended once (THR-02). It enters ring 3 at the
// image's entry point, with rsp % 16 == 0 and nothing on its stack, and goes on
// to routine(argument); routine 0: as the first thread of its process.
// stack_size 0: the default; mm leaves a page free below it, which is the guard
// page.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_INVALID_PARAMETER          stack_size is not sane
//          STATUS_PROCESS_IS_TERMINATING
//          STATUS_INSUFFICIENT_RESOURCES, STATUS_NO_MEMORY
// Owns:    the caller, one reference to *result
NTSTATUS ps_create_thread(EPROCESS *process, uint64_t routine,
                          uint64_t argument, uint64_t stack_size,
                          ETHREAD **result)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    if (stack_size > MAXIMUM_STACK)
        return STATUS_INVALID_PARAMETER;
    return create_thread(process, start_user_thread, routine, argument,
                         stack_size ? stack_size : DEFAULT_STACK, result);
}

// Starts a thread of the system process that runs routine(context) in ring 0.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS or STATUS_INSUFFICIENT_RESOURCES
NTSTATUS ps_create_system_thread(KSTART_ROUTINE *routine, void *context)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    ETHREAD *thread;
    NT_TRY(create_thread(PsInitialSystemProcess, start_system_thread,
                         (uint64_t)routine, (uint64_t)context, 0, &thread));
    ObDereferenceObject(thread);
    return STATUS_SUCCESS;
}

// ---- Death ----------------------------------------------------------------

// Asks a thread to end with status; the first status wins. psp_lock is held.
//
// A suspended thread must run to end: it is resumed here, and from here on
// ps_suspend_thread, which takes the same lock, refuses.
//
// IRQL:    == DISPATCH_LEVEL
void psp_end_thread(ETHREAD *thread, NTSTATUS status)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);

    if (thread->terminating)
        return;
    thread->ExitStatus = status;
    thread->terminating = true;
    KeInsertQueueApc(&thread->exit_apc, NULL, NULL, IO_NO_INCREMENT);
    while (thread->Tcb.SuspendCount)
        KeResumeThread(&thread->Tcb);
}

// Suspends a thread, unless it was asked to end. To look and to count is one
// step under psp_lock, so that no suspension, or starvation, of the caller can
// come between, and the thread outlive its end.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: STATUS_SUCCESS    *before: how often it was suspended (THR-02)
//          STATUS_THREAD_IS_TERMINATING, STATUS_SUSPEND_COUNT_EXCEEDED
NTSTATUS ps_suspend_thread(ETHREAD *thread, uint32_t *before)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    NTSTATUS status = STATUS_THREAD_IS_TERMINATING;
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&psp_lock);
    if (!thread->terminating) {
        *before = KeSuspendThread(&thread->Tcb);
        status = *before < MAXIMUM_SUSPEND_COUNT
                     ? STATUS_SUCCESS : STATUS_SUSPEND_COUNT_EXCEEDED;
    }
    KeReleaseSpinLock(&psp_lock, old);
    return status;
}

// Asks any thread to end with status, on its way to ring 3; a user-mode wait
// ends at once (APC-10). A thread of the system process never goes there.
//
// IRQL:    <= DISPATCH_LEVEL
void ps_terminate_thread(ETHREAD *thread, NTSTATUS status)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    KIRQL old = KeAcquireSpinLockRaiseToDpc(&psp_lock);
    psp_end_thread(thread, status);
    KeReleaseSpinLock(&psp_lock, old);
}

// Ends the current thread with status, unless somebody said another one
// before. Its I/O comes first, while its address space is still there for it.
// Then it leaves that address space, which the last thread of the process, or
// whoever holds the process last, takes down.
//
// IRQL:    == PASSIVE_LEVEL
void ps_exit_thread(NTSTATUS status)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    ETHREAD *thread = PsGetCurrentThread();
    EPROCESS *process = thread->process;
    // By the same road as others end it: so no suspension can outlast this,
    // not even one that another processor is just telling us of. The exit APC,
    // if it is queued now, ends in the rundown.
    ps_terminate_thread(thread, status);
    // While no processor idles nobody else frees what the dead before us had,
    // and the living may be short of it.
    ob_reap();
    io_rundown_thread();    // CAN-08
    if (thread->user_stack)
        mm_free(&process->space, &thread->user_stack, &(uint64_t){ 0 });
    ke_rundown_apcs(&thread->Tcb);    // APC-13
    ke_attach_process(&PsInitialSystemProcess->Pcb);
    bool last = psp_let_go(process, thread);
    // Nothing below blocks. From the signal on, somebody may look whether all
    // is back where it was: ps_settle waits until we have been reaped. So
    // nobody may preempt us, least of all whom the signal wakes.
    ke_hurry(true);
    __atomic_add_fetch(&ob_pending, 1, __ATOMIC_SEQ_CST);
    if (last)
        ke_signal_process(&process->Pcb);
    ke_terminate_thread();
}

// A fault of ring 3: the process ends with the status that names it.
//
// IRQL:    == PASSIVE_LEVEL
void ps_user_fault(NTSTATUS status)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    ps_terminate_process(PsGetCurrentProcess(), status);
    ps_exit_thread(status);
}

static void reap_thread(void *object)
{
    free_stack(object);
    ObDereferenceObject(object);
}

// The hook of the scheduler: thread is off its stack for ever, and the
// dispatcher lock is held.
//
// IRQL:    == DISPATCH_LEVEL
void ps_thread_dead(KTHREAD *thread)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);

    __atomic_sub_fetch(&ps_thread_count, 1, __ATOMIC_RELAXED);
    ob_defer(thread, reap_thread);
}

// Waits until whoever has signalled its end is really gone, with all that it
// had, or until the caller itself is to end, as others may go on ending without
// a pause. It may be in the hands of an idle thread that was interrupted.
//
// IRQL:    == PASSIVE_LEVEL
void ps_settle(void)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    const int64_t moment = -10000;    // 1 ms
    while (__atomic_load_n(&ob_pending, __ATOMIC_SEQ_CST))
        if (!ob_reap() && KeDelayExecutionThread(UserMode, false, &moment) !=
                              STATUS_SUCCESS)
            return;
}
