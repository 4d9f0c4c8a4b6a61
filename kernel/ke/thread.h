// thread.h - KTHREAD, KPROCESS and KPRCB: who runs, in which address space,
// on which processor.

#pragma once

#include "kernel/ke/apc.h"
#include "kernel/ke/dpc.h"
#include "kernel/ke/wait.h"
#include "kernel/nt.h"

enum {
    LOW_REALTIME_PRIORITY = 16,
    MAXIMUM_PRIORITY = 32,
    KI_NORMAL_PRIORITY = 8,
    KI_IDLE_PRIORITY = -1,
};

// Priority boosts, as Windows gives them.
enum { IO_NO_INCREMENT = 0, IO_DISK_INCREMENT = 1, EVENT_INCREMENT = 1,
       IO_SERIAL_INCREMENT = 2 };

typedef void KSTART_ROUTINE(void *context);

// A slot for the I/O manager, which lives higher up. IRPs hang on the slot of
// their file or of their thread; the threads and, for what hangs on files, the
// processes count them.
typedef struct ke_io_slot {
    KSPIN_LOCK lock;             // guards irps
    LIST_ENTRY irps;             // of IRP.ThreadListEntry; files and threads
    uint32_t count;              // atomic; threads and processes
    KEVENT none;                 // whoever waits for count 0 clears it;
                                 // whoever gets there sets it
} ke_io_slot;

// Blocks that one processor keeps for itself; touched with interrupts off. The
// first word of each leads to the next.
typedef struct ke_lookaside {
    void *first;
    uint32_t depth;
} ke_lookaside;
enum { KE_KEPT_IRPS, KE_KEPT_PACKETS, KE_KEPT_APCS, KE_KEPT_LISTS };

struct KPROCESS {
    DISPATCHER_HEADER Header;    // signalled when the process has ended
    uint64_t DirectoryTableBase; // CR3
    uint64_t user_entry;         // the image's entry point, for user APCs
    volatile uint32_t ActiveProcessors;    // whose CR3 is ours
    KPRIORITY BasePriority;

    // For what lives higher up; ke never looks inside.
    struct ob_handle_table *handles;    // copied to its threads
    volatile uint64_t pages;     // of ring 3, and tables; the space is locked
    uint8_t pool_account;        // with ex
    ke_io_slot io;
};

struct KTHREAD {
    DISPATCHER_HEADER Header;    // signalled when the thread has ended
    KPROCESS *Process;           // that it belongs to
    KPROCESS *attached;          // whose address space it runs in
    void *kernel_rsp;            // of a thread that does not run
    void *InitialStack;          // its top; a system call begins here
    void *StackLimit;            // its lowest byte
    void *user_stack_pointer;    // that ring 3 begins with
    uint64_t fs_base;            // ring 3's thread-local storage
    void *fpu;                   // FXSAVE area (512 bytes, 16-aligned); NULL:
                                 // a thread that never leaves ring 0

    // Guarded by the dispatcher lock.
    uint8_t State;               // KTHREAD_STATE
    KPRIORITY Priority;
    KPRIORITY BasePriority;
    bool hurries;                // stays above all others (ke_hurry)
    uint8_t processor;           // where it runs, or whose ready queue it is on
    uint8_t fpu_processor;       // who holds its newest FPU state, + 1
    uint32_t Affinity;
    LIST_ENTRY ready_entry;
    LIST_ENTRY MutantListHead;   // mutants that it owns
    uint64_t run_time;           // TSC ticks
    uint64_t switched_in;        // TSC
    uint64_t ContextSwitches;

    // The wait; guarded by the dispatcher lock.
    NTSTATUS WaitStatus;
    KIRQL WaitIrql;
    KPROCESSOR_MODE WaitMode;
    bool Alertable;
    uint8_t WaitReason;          // KWAIT_REASON
    uint8_t WaitCount;           // objects, without the timer
    KWAIT_BLOCK *WaitBlockList;
    KWAIT_BLOCK WaitBlock[THREAD_WAIT_OBJECTS];
    KWAIT_BLOCK timer_block;
    KTIMER Timer;
    KQUEUE *Queue;               // the port that it is associated with
    LIST_ENTRY QueueListEntry;   // on that queue's ThreadListHead
    LIST_ENTRY *queue_packet;    // handed over by KeInsertQueue

    // APCs; the counts are the thread's own.
    KSPIN_LOCK ApcQueueLock;     // see apc.h
    KAPC_STATE ApcState;
    int16_t KernelApcDisable;    // counts down from 0 (REG-01)
    int16_t SpecialApcDisable;
    bool ApcQueueable;
    bool Alerted[2];
    uint8_t SuspendCount;
    KAPC SuspendApc;
    KSEMAPHORE SuspendSemaphore;

    // For what lives higher up; ke never looks inside.
    struct ob_handle_table *handles;    // its process's
    uint32_t id;
    volatile uint32_t irp_id;    // the IRP that its call or APC belongs to
    ke_io_slot io;
};

// One per processor, reached through GS.
struct KPRCB {
    KPRCB *self;                 // gs:0
    KTHREAD *CurrentThread;      // gs:8
    uint64_t service_stack;      // gs:16, where the current thread's system
                                 // calls begin: below room for a trap frame
    uint64_t user_stack;         // gs:24, ring 3's rsp while stacks change
    uint32_t Number;
    volatile uint32_t current_id;    // of CurrentThread, for onlookers
    uint32_t apic_id;

    // This processor's own; touched with interrupts off, or at DISPATCH. What
    // is not volatile is looked at once behind each lock, cli, sti or CR8.
    uint32_t interrupt_depth;
    bool dpc_requested;          // an interrupt queued one: drain on exit
    volatile bool dpc_active;    // the drain loop runs
    bool timer_expired;          // the clock came: look at the heap
    volatile bool quantum_expired;
    bool reschedule;             // ready_summary beats the current thread
    volatile uint64_t halted_since;  // TSC; 0: not halted
    volatile bool tlb_stale;         // flush it after that
    void *dpc_stack;
    ki_dpc_queue dpc;
    volatile uint64_t clock_deadline;    // TSC, when the clock comes; ~0: never
    uint64_t quantum_deadline;   // TSC; ~0: nobody waits for this quantum
    uint64_t timer_rest;         // TSC; no timer expires before: threads' turn
    uint64_t poke_deadline;      // TSC; ~0: no DPC of low urgency waits
    uint32_t poke_mask;          // processors to remind of one then
    struct ki_watchdog *watchdogs;       // grows only
    volatile uint64_t halted_time;       // TSC ticks; of halts that are over
    uint64_t isr_time;           // of outermost ISRs, without the way out
    uint64_t dpc_time;           // of drains, without interrupts
    uint32_t interrupt_count;
    uint32_t spurious_count;
    uint32_t unknown_count;

    // Guarded by the dispatcher lock.
    volatile uint32_t ready_summary;
    LIST_ENTRY ready[MAXIMUM_PRIORITY];
    rtl_heap timers;
    volatile uint64_t timer_deadline;    // TSC of the first one; ~0: none
    KTHREAD *idle_thread;
    KTHREAD *fpu_owner;          // whose state is in the registers
    KTHREAD *dead;               // just left for ever; its stack is in use
                                 // until the switch is over

    // Higher up: blocks that are kept, the sequence of the IRPs' ids (io).
    ke_lookaside kept[KE_KEPT_LISTS];
    uint32_t next_irp_id;

    struct ki_trace_ring *trace;
};

extern KPRCB *ki_processor[MAXIMUM_PROCESSORS];
extern uint32_t KeNumberProcessors;

static inline KPRCB *KeGetCurrentPrcb(void)
{
    KPRCB *prcb;
    __asm__ volatile("mov %%gs:0, %0" : "=r"(prcb));
    return prcb;
}

// A thread stays itself: the compiler need not ask again.
static inline KTHREAD *KeGetCurrentThread(void)
{
    KTHREAD *thread;
    __asm__("mov %%gs:8, %0" : "=r"(thread));
    return thread;
}

// A field of this processor's KPRCB, in one instruction.
#define KI_PRCB_FIELD(field)                                              \
    ({                                                                    \
        __typeof__(((KPRCB *)0)->field) prcb_field;                       \
        __asm__ volatile("mov %%gs:%c1, %0" : "=r"(prcb_field)            \
                         : "i"(offsetof(KPRCB, field)));                  \
        prcb_field;                                                       \
    })

static inline uint32_t KeGetCurrentProcessorNumber(void)
{
    return KI_PRCB_FIELD(Number);
}

// Takes a block that is kept; NULL: there is none. Interrupts off.
static inline void *ke_take_kept(ke_lookaside *list)
{
    void **block = list->first;
    if (block) {
        list->first = *block;
        list->depth--;
    }
    return block;
}

// Keeps a block, unless there are enough; the checked build keeps none: its
// pool sees who uses a free one. Interrupts off.
static inline bool ke_keep(ke_lookaside *list, void *block)
{
    enum { MAXIMUM_DEPTH = 256 };
    if (DBG || list->depth >= MAXIMUM_DEPTH)
        return false;
    *(void **)block = list->first;
    list->first = block;
    list->depth++;
    return true;
}

// Prepares a thread that will run start(context) at PASSIVE_LEVEL in ring 0.
// fpu: see KTHREAD. The stack stays the caller's to free after
// ke_hook.thread_dead.
void ke_initialize_thread(KTHREAD *thread, KPROCESS *process, void *stack_top,
                          void *stack_limit, KSTART_ROUTINE *start,
                          void *context, void *fpu);
void ke_initialize_io_slot(ke_io_slot *slot);
void ke_initialize_process(KPROCESS *process, uint64_t cr3);
void ke_start_thread(KTHREAD *thread);
// Ends the current thread: signals it and never returns.
_Noreturn void ke_terminate_thread(void);
void ke_signal_process(KPROCESS *process);
// The current thread goes on in this process's address space (a dying thread
// leaves its own). IRQL: == PASSIVE_LEVEL.
void ke_attach_process(KPROCESS *process);
// How many objects a thread waits for (0: it does not wait); *type: KOBJECTS
// of the first. IRQL: <= DISPATCH_LEVEL.
uint32_t ke_query_wait(KTHREAD *thread, uint8_t *type);
#define MAXIMUM_SUSPEND_COUNT 127u
uint32_t KeSuspendThread(KTHREAD *thread);
uint32_t KeResumeThread(KTHREAD *thread);
KPRIORITY KeSetPriorityThread(KTHREAD *thread, KPRIORITY priority);
KPRIORITY KeSetBasePriorityThread(KTHREAD *thread, KPRIORITY increment);
uint64_t KeSetAffinityThread(KTHREAD *thread, uint64_t affinity);
void ke_yield(void);
void ke_hurry(bool on);
// Enters ring 3 for the first time in this thread; rdi, rsi, rdx as given.
// A pending user APC is delivered first (APC-23).
_Noreturn void ke_enter_user(uint64_t rip, uint64_t rsp, uint64_t rdi,
                             uint64_t rsi, uint64_t rdx);

// Hooks that main.c wires: what ke cannot do because it lives higher up.
typedef struct ke_hooks {
    const struct ke_service *services;    // ke knows none
    uint32_t service_count;
    // A fault of ring 3: ends the process; does not return to it.
    void (*user_fault)(NTSTATUS status);
    // A thread is off its stack for ever (DISPATCH, dispatcher lock held).
    void (*thread_dead)(KTHREAD *thread);
    // Idle at PASSIVE: frees what the dead left; must not wait. True if there
    // was something.
    bool (*reap)(void);
    // Frees an APC that is run down and has no routine for that (<= DISPATCH).
    void (*free_apc)(KAPC *apc);
} ke_hooks;

extern ke_hooks ke_hook;
