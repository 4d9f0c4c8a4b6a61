// ps.h - processes, threads, program images.

#pragma once

#include "kernel/io/io.h"
#include "kernel/ke/ke.h"
#include "kernel/mm/mm.h"
#include "kernel/nt.h"
#include "kernel/ob/ob.h"

struct EPROCESS {
    KPROCESS Pcb;
    LIST_ENTRY threads;            // psp_lock
    uint32_t UniqueProcessId, parent_id;
    char ImageFileName[16];
    mm_space space;
    ob_handle_table ObjectTable;
    uint64_t peb;
    uint32_t trace_mask;         // see ke_want_trace

    // Guarded by psp_lock.
    volatile NTSTATUS ExitStatus;
    uint32_t holds;              // of threads, and by ps_acquire_process
    bool exiting;                // nobody gets another one
};

struct ETHREAD {
    KTHREAD Tcb;
    CLIENT_ID Cid;
    EPROCESS *process;
    uint64_t start_routine, start_argument;    // 0: the process's entry
    uint64_t user_stack;         // its allocation, freed with the thread
    KAPC exit_apc;               // embedded: ending a thread never fails
    uint8_t fpu[512] __attribute__((aligned(16)));    // for Tcb.fpu

    // Guarded by psp_lock.
    LIST_ENTRY ThreadListEntry;
    LIST_ENTRY process_entry;      // on its process's list
    volatile NTSTATUS ExitStatus;
    volatile bool terminating;   // ExitStatus is what it will be
};

extern OBJECT_TYPE ps_process_type, ps_thread_type;
extern EPROCESS *PsInitialSystemProcess;
extern uint32_t ps_first_process_id;    // of the program that main.c started
extern volatile uint32_t ps_process_count;    // the system process included
extern volatile uint32_t ps_thread_count;     // not off their stack for ever

static inline ETHREAD *PsGetCurrentThread(void)
{
    return (ETHREAD *)KeGetCurrentThread();
}

static inline EPROCESS *PsGetCurrentProcess(void)
{
    return PsGetCurrentThread()->process;
}

void ps_init(void);
// A thread of the system process, in ring 0; main.c needs one.
NTSTATUS ps_create_system_thread(KSTART_ROUTINE *routine, void *context);

// Starts image (an NT name) with a command line. standard: three handles of
// the current process that are duplicated into the new one.
typedef struct ps_start {
    const char *image, *command_line;    // together less than 28 KiB
    HANDLE standard[3];          // in the current process; NULL: none
    bool first_program;
    bool restarts;
} ps_start;

// The new thread, or the first one of the new process, is suspended once.
NTSTATUS ps_create_process(const ps_start *start, EPROCESS **process,
                           ETHREAD **thread);
NTSTATUS ps_create_thread(EPROCESS *process, uint64_t routine,
                          uint64_t argument, uint64_t stack_size,
                          ETHREAD **thread);
// Keeps a process's address space and handle table until ps_release_process,
// which must follow; false: it is ending.
bool ps_acquire_process(EPROCESS *process);
void ps_release_process(EPROCESS *process);
// Any level up to DISPATCH; the threads end on their way to ring 3.
void ps_terminate_process(EPROCESS *process, NTSTATUS status);
void ps_terminate_thread(ETHREAD *thread, NTSTATUS status);
// Up to DISPATCH. STATUS_SUCCESS: *before is how often it was suspended.
NTSTATUS ps_suspend_thread(ETHREAD *thread, uint32_t *before);
_Noreturn void ps_exit_thread(NTSTATUS status);    // the current one
// The thread of this id, with a reference; or, not is_thread, any of that
// process. NULL: there is none.
ETHREAD *ps_reference_by_id(const CLIENT_ID *id, bool is_thread);
// The hook of io: asks what hangs on threads, and matches, to end.
bool ps_cancel_io(const io_filter *filter);
// The hook of io: tries a process's threads until one will do; DISPATCH_LEVEL.
bool ps_try_threads(KPROCESS *process, io_try_thread *try, void *context);
// Calls each() for every thread, a spin lock held at DISPATCH_LEVEL.
typedef void ps_each_thread(ETHREAD *thread, void *context);
void ps_for_each_thread(ps_each_thread *each, void *context);

// ---- The hooks of ke that main.c wires ------------------------------------

void ps_user_fault(NTSTATUS status);    // a fault of ring 3: ends the process
void ps_thread_dead(KTHREAD *thread);
// Waits until whoever is past the point of no return is gone, and reaps: then
// all counts are honest.
void ps_settle(void);
