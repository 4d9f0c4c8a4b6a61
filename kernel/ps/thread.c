// thread.c - a thread's two births and its one death.
//
// A thread is made (object, stacks) and then started; only the second half is
// visible to others. It ends itself, always: whoever wants it to end queues
// its exit APC, which it meets on its way to ring 3. While it lives it is on
// its process's list and holds a reference to itself; when it is off its
// stack for ever the scheduler puts it on the reap list, and the next thread
// creation, or idle, frees the stack and drops that reference.
//
//   made --start--> on the list --ps_exit_thread--> off it, dying
//     |                                               ps_thread_dead
//     '--failed--> freed  <--ps_reap-- reap list <-------'

#include "kernel/ps/psp.h"

#include "kernel/ex/ex.h"
#include "kernel/io/io.h"
#include "kernel/ps/ps.h"
#include "kernel/rtl/rtl.h"

#define DEFAULT_STACK 0x10000u
#define MAXIMUM_STACK 0x800000u

enum { THREAD_RIGHTS = THREAD_TERMINATE | THREAD_SUSPEND_RESUME |
                       THREAD_ALERT | THREAD_SET_CONTEXT |
                       THREAD_SET_INFORMATION | THREAD_QUERY_INFORMATION };

static void delete_thread(void *object);

OBJECT_TYPE ps_thread_type = {
    .name = "Thread",
    .generic_read = THREAD_QUERY_INFORMATION | SYNCHRONIZE,
    .generic_write = THREAD_RIGHTS & ~THREAD_QUERY_INFORMATION,
    .valid_access = STANDARD_RIGHTS_ALL | THREAD_RIGHTS,
    .delete = delete_thread,
};

static KSPIN_LOCK reap_lock;    // guards the list; a leaf
static LIST_ENTRY reap_list = { &reap_list, &reap_list };
static volatile uint32_t thread_count;
static volatile uint32_t dying;    // past the point of no return, not yet on
                                   // the list
static volatile uint32_t reaping;    // are taking things off it

// ---- Birth ----------------------------------------------------------------

static void free_stack(ETHREAD *thread)
{
    if (thread->Tcb.StackLimit)
        mm_free_system_pages(thread->Tcb.StackLimit, MM_STACK_PAGES);
    if (thread->Tcb.fpu)
        ExFreePoolWithTag(thread->Tcb.fpu, PSP_POOL_TAG);
    thread->Tcb.StackLimit = NULL;
    thread->Tcb.fpu = NULL;
}

static void delete_thread(void *object)
{
    free_stack(object);
    ObDereferenceObject(((ETHREAD *)object)->process);
}

// What a user thread does first, still in ring 0.
static void start_user_thread(void *context)
{
    ETHREAD *thread = context;
    uint64_t top = (uint64_t)thread->Tcb.user_stack_pointer;
    uint64_t entry = thread->process->Pcb.user_entry;
    PEB *peb = (PEB *)thread->process->peb;
    if (thread->start_routine)
        ke_enter_user(entry, top, NT_ENTRY_THREAD, thread->start_routine,
                      thread->start_argument);
    ke_put_user(&peb->ClientId, &thread->Cid);    // there if ring 3 let it be
    ke_enter_user(entry, top, NT_ENTRY_PROCESS, (uint64_t)peb, 0);
}

static void start_system_thread(void *context)
{
    ETHREAD *thread = context;
    ((KSTART_ROUTINE *)thread->start_routine)((void *)thread->start_argument);
    ps_exit_thread(STATUS_SUCCESS);
}

// The exit APC, a part of its thread: nothing to run down. It never returns:
// from here the thread goes on to its end.
static void exit_kernel(KAPC *apc, KNORMAL_ROUTINE **normal, void **context,
                        void **argument1, void **argument2)
{
    (void)apc, (void)normal, (void)context, (void)argument1, (void)argument2;
    KeLowerIrql(PASSIVE_LEVEL);
    ps_exit_thread(PsGetCurrentThread()->ExitStatus);
}

// Only makes the exit APC one of user mode (APC-01); never called.
static void exit_normal(void *context, void *argument1, void *argument2)
{
    (void)context, (void)argument1, (void)argument2;
}

// Makes the object with what ring 0 needs. user: it will enter ring 3.
static NTSTATUS create_object(EPROCESS *process, bool user, ETHREAD **result)
{
    ETHREAD *thread;
    NT_TRY(ob_create_object(&ps_thread_type, sizeof(*thread),
                            (void **)&thread));
    ObReferenceObject(process);
    thread->process = process;

    const size_t fpu_size = sizeof(((CONTEXT *)0)->FltSave);
    char *stack = mm_allocate_system_pages(MM_STACK_PAGES);
    void *fpu = user ? ExAllocatePoolWithTag(NonPagedPool, fpu_size,
                                             PSP_POOL_TAG) : NULL;
    thread->Tcb.StackLimit = stack;    // for delete_thread
    thread->Tcb.fpu = fpu;
    if (!stack || (user && !fpu)) {
        ObDereferenceObject(thread);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    ke_initialize_thread(&thread->Tcb, &process->Pcb,
                         stack + MM_STACK_PAGES * PAGE_SIZE, stack,
                         user ? start_user_thread : start_system_thread,
                         thread, fpu);
    KeInitializeApc(&thread->exit_apc, &thread->Tcb, exit_kernel,
                    NULL, exit_normal, UserMode, NULL);
    thread->exit_apc.at_head = true;    // APC-03
    thread->ExitStatus = STATUS_PENDING;
    thread->Tcb.id = psp_allocate_id();
    thread->Cid.UniqueProcess = process->UniqueProcessId;
    thread->Cid.UniqueThread = thread->Tcb.id;
    *result = thread;
    return STATUS_SUCCESS;
}

static void free_user_stack(ETHREAD *thread)
{
    uint64_t size = 0;
    if (thread->user_stack)
        mm_free(&thread->process->space, &thread->user_stack, &size);
    thread->user_stack = 0;
}

// Lets a thread run that was made for it, unless its process is ending;
// suspended first if flags say so (THR-02), before anybody can see it.
static NTSTATUS start_thread(ETHREAD *thread, uint32_t flags)
{
    EPROCESS *process = thread->process;
    if (flags & THREAD_CREATE_FLAGS_CREATE_SUSPENDED)
        KeSuspendThread(&thread->Tcb);
    KIRQL old;
    KeAcquireSpinLock(&process->lock, &old);
    bool exiting = process->exiting;
    if (!exiting) {
        ObReferenceObject(thread);    // its own, until ps_reap
        process->ActiveThreads++;
        InsertTailList(&process->ThreadListHead, &thread->ThreadListEntry);
    }
    KeReleaseSpinLock(&process->lock, old);
    if (exiting)
        return STATUS_PROCESS_IS_TERMINATING;
    __atomic_add_fetch(&thread_count, 1, __ATOMIC_RELAXED);
    ke_start_thread(&thread->Tcb);
    return STATUS_SUCCESS;
}

// Makes a thread of process and starts it. It enters ring 3 at the image's
// entry point, with rsp % 16 == 0 and nothing on its stack, and goes on to
// routine(argument); routine 0: as the first thread of its process. stack_size
// 0: the default; mm leaves a page free below it, which is the guard page.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_INVALID_PARAMETER          stack_size is not sane
//          STATUS_PROCESS_IS_TERMINATING
//          STATUS_INSUFFICIENT_RESOURCES, STATUS_NO_MEMORY
// Owns:    the caller, one reference to *result
NTSTATUS ps_create_thread(EPROCESS *process, uint64_t routine,
                          uint64_t argument, uint64_t stack_size,
                          uint32_t flags, ETHREAD **result)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    if (stack_size > MAXIMUM_STACK)
        return STATUS_INVALID_PARAMETER;
    ps_reap();
    if (!ps_acquire_process(process))
        return STATUS_PROCESS_IS_TERMINATING;
    ETHREAD *thread = NULL;
    NTSTATUS status = create_object(process, true, &thread);
    uint64_t base = 0, size = stack_size ? stack_size : DEFAULT_STACK;
    if (NT_SUCCESS(status))
        status = mm_allocate(&process->space, &base, &size, PAGE_READWRITE);
    if (NT_SUCCESS(status)) {
        thread->user_stack = base;
        thread->Tcb.user_stack_pointer = (void *)(base + size);
        thread->start_routine = routine;
        thread->start_argument = argument;
        status = start_thread(thread, flags);
    }
    if (NT_SUCCESS(status)) {
        *result = thread;
    } else if (thread) {
        free_user_stack(thread);
        ObDereferenceObject(thread);
    }
    ps_release_process(process);
    return status;
}

// Starts a thread of the system process that runs routine(context) in ring 0.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS or STATUS_INSUFFICIENT_RESOURCES
NTSTATUS ps_create_system_thread(KSTART_ROUTINE *routine, void *context)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    ETHREAD *thread = NULL;
    NT_TRY(create_object(PsInitialSystemProcess, false, &thread));
    thread->start_routine = (uint64_t)routine;
    thread->start_argument = (uint64_t)context;
    NTSTATUS status = start_thread(thread, 0);
    ObDereferenceObject(thread);
    return status;
}

// ---- Death ----------------------------------------------------------------

// Asks a thread to end with status; the first status wins. Its process's lock
// is held. A suspended thread must run to end: NtSuspendThread looks at
// terminating after it has suspended, so one of the two sees the other.
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

// Asks any thread to end with status, on its way to ring 3; a user-mode wait
// ends at once (APC-10). A thread of the system process never goes there.
//
// IRQL:    <= DISPATCH_LEVEL
void ps_terminate_thread(ETHREAD *thread, NTSTATUS status)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    KIRQL old;
    KeAcquireSpinLock(&thread->process->lock, &old);
    psp_end_thread(thread, status);
    KeReleaseSpinLock(&thread->process->lock, old);
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
    KIRQL old;
    KeAcquireSpinLock(&process->lock, &old);
    if (!thread->terminating)
        thread->ExitStatus = status;
    thread->terminating = true;
    KeReleaseSpinLock(&process->lock, old);

    io_rundown_thread();    // CAN-08
    free_user_stack(thread);
    ke_rundown_apcs(&thread->Tcb);    // APC-13

    KeAcquireSpinLock(&process->lock, &old);
    RemoveEntryList(&thread->ThreadListEntry);
    if (!process->exiting)
        process->ExitStatus = thread->ExitStatus;
    KeReleaseSpinLock(&process->lock, old);

    ke_attach_process(&PsInitialSystemProcess->Pcb);
    bool last = psp_drop_process(process);
    // Nothing below blocks. From the signal on, somebody may look whether all
    // is back where it was: ps_settle waits for what is counted here.
    __atomic_add_fetch(&dying, 1, __ATOMIC_SEQ_CST);
    if (last)
        ke_signal_process(&process->Pcb);
    ke_terminate_thread(thread->ExitStatus);
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

// The hook of the scheduler: thread is off its stack for ever, and the
// dispatcher lock is held.
//
// IRQL:    == DISPATCH_LEVEL
void ps_thread_dead(KTHREAD *dead)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);

    ETHREAD *thread = CONTAINING_RECORD(dead, ETHREAD, Tcb);
    KeAcquireSpinLockAtDpcLevel(&reap_lock);
    InsertTailList(&reap_list, &thread->reap_entry);
    KeReleaseSpinLockFromDpcLevel(&reap_lock);
    __atomic_sub_fetch(&thread_count, 1, __ATOMIC_RELAXED);
    __atomic_sub_fetch(&dying, 1, __ATOMIC_SEQ_CST);
}

// How many threads there are that have not gone for ever.
//
// IRQL:    any level
uint32_t ps_thread_count(void)
{
    return thread_count;
}

// Frees what dead threads left, and the objects that wait for PASSIVE_LEVEL.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: true if there was something
bool ps_reap(void)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    __atomic_add_fetch(&reaping, 1, __ATOMIC_SEQ_CST);
    bool any = false;
    // Idle asks often: a look without the lock first.
    while (*(LIST_ENTRY *volatile *)&reap_list.Flink != &reap_list) {
        KIRQL old;
        KeAcquireSpinLock(&reap_lock, &old);
        LIST_ENTRY *entry =
            IsListEmpty(&reap_list) ? NULL : RemoveHeadList(&reap_list);
        KeReleaseSpinLock(&reap_lock, old);
        if (!entry)
            break;
        ETHREAD *thread = CONTAINING_RECORD(entry, ETHREAD, reap_entry);
        free_stack(thread);
        ObDereferenceObject(thread);
        any = true;
    }
    any |= ob_reap();
    __atomic_sub_fetch(&reaping, 1, __ATOMIC_SEQ_CST);
    return any;
}

// Waits until whoever has signalled its end is really gone, and frees what
// such threads left.
//
// IRQL:    == PASSIVE_LEVEL
void ps_settle(void)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    const int64_t moment = -10000;    // 1 ms
    for (;;) {
        while (ps_reap())
            continue;
        // Idle may have been interrupted with a dead thread in its hands.
        if (!__atomic_load_n(&dying, __ATOMIC_SEQ_CST) &&
            !__atomic_load_n(&reaping, __ATOMIC_SEQ_CST))
            return;
        KeDelayExecutionThread(KernelMode, false, &moment);
    }
}
