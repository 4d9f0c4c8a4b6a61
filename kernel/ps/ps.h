// ps.h - processes, threads, program images.

#ifndef TINT_PS_PS_H
#define TINT_PS_PS_H

#include "kernel/ke/ke.h"
#include "kernel/mm/mm.h"
#include "kernel/nt.h"
#include "kernel/ob/ob.h"

struct EPROCESS {
    KPROCESS Pcb;
    uint32_t UniqueProcessId, parent_id;
    char ImageFileName[16];
    mm_space space;
    ob_handle_table *ObjectTable;
    uint64_t peb;
    volatile NTSTATUS ExitStatus;
    LIST_ENTRY ActiveProcessLinks;    // guarded by ps_lock

    KSPIN_LOCK lock;             // guards the three below
    LIST_ENTRY ThreadListHead;
    uint32_t ActiveThreads;      // and who is inside ps_acquire_process
    bool exiting;
};

struct ETHREAD {
    KTHREAD Tcb;
    CLIENT_ID Cid;
    EPROCESS *process;
    LIST_ENTRY ThreadListEntry;
    volatile NTSTATUS ExitStatus;
    KAPC exit_apc;               // embedded: ending a thread never fails
    volatile bool terminating;
    uint64_t start_routine, start_argument;    // 0: the process's entry
    uint64_t user_stack;         // its allocation, freed with the thread
    LIST_ENTRY reap_entry;
};

extern OBJECT_TYPE ps_process_type, ps_thread_type;
extern EPROCESS *PsInitialSystemProcess;
extern uint32_t ps_first_process_id;    // of the program that main.c started

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
    const char *image, *command_line;
    HANDLE standard[3];          // in the current process; NULL: none
    uint32_t thread_flags;
    bool first_program;          // standard handles: the console, opened anew
    bool restarts;
} ps_start;

NTSTATUS ps_create_process(const ps_start *start, EPROCESS **process,
                           ETHREAD **thread);
NTSTATUS ps_create_thread(EPROCESS *process, uint64_t routine,
                          uint64_t argument, uint64_t stack_size,
                          uint32_t flags, ETHREAD **thread);
// Keeps a process's address space and handle table until ps_release_process,
// which must follow; false: it is ending.
bool ps_acquire_process(EPROCESS *process);
void ps_release_process(EPROCESS *process);
// Any level up to DISPATCH; the threads end on their way to ring 3.
void ps_terminate_process(EPROCESS *process, NTSTATUS status);
void ps_terminate_thread(ETHREAD *thread, NTSTATUS status);
_Noreturn void ps_exit_thread(NTSTATUS status);    // the current one
NTSTATUS PsLookupProcessByProcessId(uint64_t id, EPROCESS **process);
NTSTATUS ps_lookup_thread(uint64_t id, ETHREAD **thread);
uint32_t ps_process_count(void);
uint32_t ps_thread_count(void);
// Calls each() for every thread, ps_lock held at DISPATCH_LEVEL.
void ps_for_each_thread(void (*each)(ETHREAD *thread, void *context),
                        void *context);

// ---- The hooks of ke that main.c wires ------------------------------------

void ps_user_fault(NTSTATUS status);    // a fault of ring 3: ends the process
void ps_thread_dead(KTHREAD *thread);
bool ps_reap(void);    // frees what dead threads left, and calls ob_reap
// Waits until whoever is past the point of no return is gone, and reaps: then
// all counts are honest.
void ps_settle(void);

#endif
