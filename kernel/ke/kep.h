// kep.h - what only kernel/ke knows: the dispatcher lock, the trap path, the
// processor's tables.
//
// How a thread switches. The dispatcher lock is taken, the state of the
// current thread is changed, and ki_swap_thread picks the next one. The lock
// stays held across the switch: the thread that comes in releases it, where
// it went to sleep or, a new one, in ki_thread_start.

#pragma once

#include "kernel/assert.h"
#include "kernel/hal/hal.h"
#include "kernel/ke/ke.h"
#include "kernel/rtl/rtl.h"

// ---- Selectors, registers, features (Intel SDM 2.5, 3.4, 5.8.8) -----------

enum { KI_KERNEL_CS = 0x08, KI_KERNEL_SS = 0x10, KI_USER_SS = 0x23,
       KI_USER_CS = 0x2B, KI_TSS = 0x30 };

enum { MSR_EFER = 0xC0000080u, MSR_STAR, MSR_LSTAR,
       MSR_SFMASK = 0xC0000084u,
       MSR_FS_BASE = 0xC0000100u, MSR_GS_BASE, MSR_KERNEL_GS_BASE,
       EFER_SCE = 1 << 0, EFER_NXE = 1 << 11 };

enum { CR4_PGE = 1 << 7, CR4_OSFXSR = 1 << 9, CR4_OSXMMEXCPT = 1 << 10,
       CR4_UMIP = 1 << 11, CR4_SMEP = 1 << 20, CR4_SMAP = 1 << 21 };

enum { EFLAGS_FIXED = 1 << 1, EFLAGS_TF = 1 << 8, EFLAGS_IF = 1 << 9,
       EFLAGS_DF = 1 << 10, EFLAGS_NT = 1 << 14, EFLAGS_AC = 1 << 18 };
// What ring 3 may choose: CF PF AF ZF SF TF DF OF AC.
#define EFLAGS_USER  0x40DD5u

// The exceptions that need a stack of their own, and their IST slots.
enum { KI_IST_DOUBLE_FAULT = 1, KI_IST_NMI, KI_IST_MACHINE_CHECK,
       KI_IST_DEBUG, KI_IST_COUNT = 4 };
#define KI_IST_BYTES 4096u

#define KI_STACK_ARGUMENTS 4     // of a service, beyond the sixth
#define KI_SERVICE_FRAME \
    (sizeof(KTRAP_FRAME) + KI_STACK_ARGUMENTS * sizeof(uint64_t))
#define KI_QUANTUM 200000u       // 20 ms in 100 ns
#define KI_FOREVER (~0ull)
#define KI_MAXIMUM_DPC_DEPTH 4   // Low DPCs wait no longer than this

// Intel SDM 8.7: only the stacks and the I/O map are used in long mode.
typedef struct ki_tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3;
    uint16_t io_map;
} __attribute__((packed)) ki_tss;

typedef struct ki_exception_stack {
    uint8_t bytes[KI_IST_BYTES - 2 * sizeof(KPRCB *)];
    KPRCB *owner;    // the processor; ki_fatal_common reads it from here
} __attribute__((aligned(KI_IST_BYTES))) ki_exception_stack;

typedef struct ki_descriptors {
    uint64_t gdt[8];
    ki_tss tss;
    ki_exception_stack ist[KI_IST_COUNT];
} ki_descriptors;

// What a processor has besides its stacks.
typedef struct ki_processor_block {
    KPRCB prcb;
    KTHREAD idle;
    ki_descriptors descriptors;
} ki_processor_block;

// ---- The dispatcher lock --------------------------------------------------

extern KSPIN_LOCK ki_dispatcher_lock;

static inline KIRQL ki_lock_dispatcher(void)
{
    return KeAcquireSpinLockRaiseToDpc(&ki_dispatcher_lock);
}

// Releases it and lowers to old, after doing what was held back meanwhile:
// DPCs, a switch, APCs.
void ki_unlock_dispatcher(KIRQL old);

// From DISPATCH_LEVEL with interrupts off to irql, with interrupts off: drains
// DPCs, switches, delivers kernel APCs, until there is nothing left to do.
void ki_lower_irql(KIRQL irql);
// The same, called with interrupts on; what a thread below DISPATCH does when
// it made a request that must be over before it goes on (DPC-02, APC-08).
void ki_run_held_back(KIRQL irql);

void ki_initialize_header(DISPATCHER_HEADER *header, KOBJECTS type,
                          int32_t state);

// All of these: dispatcher lock held.
void ki_ready_thread(KTHREAD *thread);
void ki_swap_thread(void);       // away from the current thread, and back
void ki_finish_switch(void);
void ki_wait_with_timer(KTHREAD *thread, uint64_t due);
void ki_unwait(KTHREAD *thread, NTSTATUS status, KPRIORITY increment);
void ki_signal(DISPATCHER_HEADER *object, KPRIORITY increment);
void ki_insert_timer(KTIMER *timer, uint64_t due);
bool ki_remove_timer(KTIMER *timer);
void ki_deactivate_queue(KQUEUE *queue);     // one of its threads blocks
void ki_leave_queue(KTHREAD *thread);        // ... ends, or takes another
void ki_update_quantum(KPRCB *prcb);
NTSTATUS ki_test_alert(KTHREAD *thread);    // the current one

bool ki_insert_apc(KAPC *apc, void *argument1, void *argument2,
                   KPRIORITY increment, KIRQL old);
KIRQL ki_begin_wait(KWAIT_REASON reason, KPROCESSOR_MODE mode, bool alertable);
void ki_reschedule(void);        // DISPATCH_LEVEL, lock not held
void ki_retire_dpc_list(KPRCB *prcb);    // interrupts off, and off again
void ki_expire_timers(KPRCB *prcb);      // DISPATCH_LEVEL
uint64_t ki_due_time(const int64_t *timeout);    // 100 ns since boot
void KiDeliverApc(KPROCESSOR_MODE mode, KTRAP_FRAME *frame);

// Something waits for this processor to come below DISPATCH_LEVEL, or below
// APC_LEVEL: lowering CR8 alone would not look. The exit of an interrupt and
// the drain loop look by themselves.
static inline void ki_interrupt_self(const KPRCB *self, uint8_t vector)
{
    if (self->interrupt_depth == 0 && !self->dpc_active)
        hal_send_self_ipi(vector);
}

// ---- The clock; own processor, interrupts off -----------------------------

void ki_clock_interrupt(KPRCB *prcb);
void ki_arm_clock(KPRCB *prcb);              // for the nearest deadline
void ki_clock_at_latest(KPRCB *prcb, uint64_t tsc);
extern uint64_t ki_quantum_ticks;            // of the TSC
void ki_poke_later(KPRCB *prcb, uint32_t processor);
void ki_forget_pokes(KPRCB *prcb);

// ---- Traps ----------------------------------------------------------------

void ki_load_processor(KPRCB *prcb);
void ki_answer_ipi(KPRCB *prcb);
void ki_wake_up(KPRCB *prcb);
_Noreturn void ki_stop_processor(void);
extern KPRCB *volatile ki_bugcheck_owner;    // who prints; NULL: all is well
void ki_dispatch_device(uint32_t vector);
extern KINTERRUPT *ki_chains[HAL_VECTOR_DEVICE_LAST + 1];    // by vector
void ki_trap(KTRAP_FRAME *frame);            // from entry.asm
void ki_fatal_trap(KTRAP_FRAME *frame);      // from entry.asm, on an IST stack
void ki_user_exit(KTRAP_FRAME *frame);       // interrupts off
_Noreturn void ki_bugcheck_trap(uint32_t code, const KTRAP_FRAME *frame,
                                uintptr_t parameter);
void ki_call_user_apc(KTRAP_FRAME *frame, const KAPC *apc);
uint64_t ki_find_fixup(uint64_t rip);        // 0: no accessor of user memory

// ---- entry.asm, switch.asm ------------------------------------------------

extern const uint64_t ki_trap_stubs[256];
void ki_system_call(void);
__attribute__((no_caller_saved_registers))
void ki_trace_service(uint32_t number);
void ki_swap_context(void **save_rsp, void *load_rsp);
void ki_thread_startup(void);
void ki_call_on_stack(void (*routine)(KPRCB *prcb), KPRCB *prcb, void *stack);
_Noreturn void ki_return_to_user(KTRAP_FRAME *frame);
void ki_halt(void);
NTSTATUS ki_save_context(CONTEXT *to, const KTRAP_FRAME *from);
NTSTATUS ki_load_context(KTRAP_FRAME *to, const CONTEXT *from);
_Noreturn void ki_thread_start(KSTART_ROUTINE *start, void *context);

// Where a three-byte NOP becomes stac or clac.
typedef struct ki_smap_site {
    uint8_t *address;
    uint64_t opcode;
} ki_smap_site;
extern const ki_smap_site ki_smap_sites[], ki_smap_sites_end[];

// Where a page fault at begin, or behind it but before end, goes on.
typedef struct ki_fixup {
    uint64_t begin, end, target;
} ki_fixup;
extern const ki_fixup ki_fixups[], ki_fixups_end[];

// Has the thread's user APCs run on its next way to ring 3.
static inline void ki_look_for_user_apcs(KTHREAD *thread)
{
    if (!IsListEmpty(&thread->ApcState.ApcListHead[UserMode]))
        thread->ApcState.UserApcPending = true;
}

static inline KTRAP_FRAME *ki_user_frame(const KTHREAD *thread)
{
    return (KTRAP_FRAME *)thread->InitialStack - 1;
}

// Global pages included: toggling CR4.PGE drops everything.
static inline void ki_flush_whole_tlb(void)
{
    uint64_t cr4 = KI_READ_CR(4);
    KI_WRITE_CR(4, cr4 & ~CR4_PGE);
    KI_WRITE_CR(4, cr4);
}
