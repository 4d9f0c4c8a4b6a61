// apc.h - asynchronous procedure calls: work for one particular thread.
//
// APCs belong to threads. Two lists per thread: kernel (specials ahead of
// normals) and user. A kernel APC interrupts whatever its thread does below
// APC_LEVEL; a user APC waits until the thread waits alertably in user mode,
// and runs on its way out.
//
// Lists, their pending flags and ApcQueueable change under the thread's
// ApcQueueLock. Whoever queues an APC to another thread has the dispatcher
// lock besides, for he may have to end its wait. To the current thread he does
// not need it: that one runs, or was interrupted below DISPATCH_LEVEL, and
// neither waits nor begins to. So a thread that begins to wait, at DISPATCH
// with the dispatcher lock, sees all that was queued: others had the lock
// before it, and on its own processor nobody comes in between.
//
//   idle --KeInsertQueueApc--> inserted --KiDeliverApc--> routines run
//                                 '--thread exit--> RundownRoutine, or freed

#pragma once

#include "kernel/nt.h"

typedef void KNORMAL_ROUTINE(void *context, void *argument1, void *argument2);
typedef void KKERNEL_ROUTINE(KAPC *apc, KNORMAL_ROUTINE **normal,
                             void **context, void **argument1,
                             void **argument2);
typedef void KRUNDOWN_ROUTINE(KAPC *apc);

struct KAPC {
    KPROCESSOR_MODE ApcMode;
    bool Inserted;
    bool at_head;                // the thread-exit APC alone (APC-03)
    KTHREAD *Thread;
    LIST_ENTRY ApcListEntry;
    KKERNEL_ROUTINE *KernelRoutine;
    KRUNDOWN_ROUTINE *RundownRoutine;
    KNORMAL_ROUTINE *NormalRoutine;
    void *NormalContext;
    void *SystemArgument1;
    void *SystemArgument2;
};

typedef struct KAPC_STATE {
    LIST_ENTRY ApcListHead[2];   // by KPROCESSOR_MODE
    uint8_t KernelApcInProgress; // NormalRoutines of kernel APCs that run, and
                                 // ke_hold_suspension
    bool KernelApcPending;
    bool UserApcPending;
} KAPC_STATE;

// Prepares an APC; its kind follows from normal and mode (APC-01).
//
// IRQL:    any level
// NT:      KeInitializeApc (ntifs). Left out: Environment.
static inline void KeInitializeApc(KAPC *apc, KTHREAD *thread,
                                   KKERNEL_ROUTINE *kernel,
                                   KRUNDOWN_ROUTINE *rundown,
                                   KNORMAL_ROUTINE *normal,
                                   KPROCESSOR_MODE mode, void *context)
{
    apc->ApcMode = normal ? mode : KernelMode;
    apc->Inserted = apc->at_head = false;
    apc->Thread = thread;
    apc->KernelRoutine = kernel;
    apc->RundownRoutine = rundown;
    apc->NormalRoutine = normal;
    apc->NormalContext = normal ? context : NULL;
}

bool KeInsertQueueApc(KAPC *apc, void *argument1, void *argument2,
                      KPRIORITY increment);
bool KeRemoveQueueApc(KAPC *apc);
void KeEnterCriticalRegion(void);
void KeLeaveCriticalRegion(void);
void KeEnterGuardedRegion(void);
void KeLeaveGuardedRegion(void);
bool KeAreApcsDisabled(void);
void ke_hold_suspension(void);
void ke_allow_suspension(void);
bool KeAreAllApcsDisabled(void);
bool KeTestAlertThread(KPROCESSOR_MODE mode);
bool KeAlertThread(KTHREAD *thread, KPROCESSOR_MODE mode);
// KernelRoutine and RundownRoutine of an APC that is part of something else.
KKERNEL_ROUTINE ke_leave_apc;
void ke_keep_apc(KAPC *apc);

// Refuses further APCs; calls each APC's rundown, or frees it (APC-13).
void ke_rundown_apcs(KTHREAD *thread);
