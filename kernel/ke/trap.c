// trap.c - what happens between an interrupt's first and last instruction.
//
// The outermost exit to a level below DISPATCH does all that was held back:
// it drains the DPCs on the processor's DPC stack, switches threads on the
// interrupted thread's own stack, delivers kernel APCs, in this order, until
// nothing is left (ki_lower_irql). An exit to DISPATCH or above leaves it to
// whoever lowers from there; a self-IPI makes sure that somebody does.

#include "kernel/ke/kep.h"

enum {
    VECTOR_DIVIDE = 0, VECTOR_DEBUG = 1, VECTOR_NMI = 2, VECTOR_BREAKPOINT = 3,
    VECTOR_OVERFLOW = 4, VECTOR_INVALID_OPCODE = 6,
    VECTOR_PROTECTION = 13, VECTOR_PAGE_FAULT = 14,
    VECTOR_X87 = 16, VECTOR_ALIGNMENT = 17, VECTOR_MACHINE_CHECK = 18,
    VECTOR_SIMD = 19, EXCEPTION_VECTORS = 32, VECTOR_CLASS_SHIFT = 4,
};

// ---- Exceptions -----------------------------------------------------------

// Which opcodes only ring 0 may execute: hlt, cli, sti, in, out and the like;
// behind the escape lldt, lgdt, invlpg, clts, sysret, wbinvd, mov cr and dr,
// wrmsr, rdmsr, rdpmc. And what may stand before (Intel SDM 2, A.3).
enum opcode { ORDINARY, PREFIX, ONE_BYTE, AFTER_ESCAPE, ESCAPE = 0x0F };

static const uint8_t opcodes[256] = {
    [0x40 ... 0x4F] = PREFIX, [0x66 ... 0x67] = PREFIX,
    [0xF2 ... 0xF3] = PREFIX, [0x6C ... 0x6F] = ONE_BYTE,
    [0xE4 ... 0xE7] = ONE_BYTE, [0xEC ... 0xEF] = ONE_BYTE,
    [0xF4] = ONE_BYTE, [0xFA ... 0xFB] = ONE_BYTE,
    [0x00 ... 0x01] = AFTER_ESCAPE, [0x06 ... 0x09] = AFTER_ESCAPE,
    [0x20 ... 0x23] = AFTER_ESCAPE, [0x30] = AFTER_ESCAPE,
    [0x32 ... 0x33] = AFTER_ESCAPE,
};

// Is it such an instruction? Else it named a bad address or selector.
static bool is_privileged(uint64_t rip)
{
    enum { LONGEST_INSTRUCTION = 15 };
    enum opcode wanted = ONE_BYTE;
    uint8_t byte;
    for (int i = 0; i < LONGEST_INSTRUCTION; i++) {
        if (!NT_SUCCESS(ke_get_user(&byte, (uint8_t *)rip + i)))
            return false;
        if (byte == ESCAPE && wanted == ONE_BYTE)
            wanted = AFTER_ESCAPE;
        else if (wanted == AFTER_ESCAPE || opcodes[byte] != PREFIX)
            return opcodes[byte] == wanted;
    }
    return false;
}

// Which floating-point exception it is: one that is flagged and not masked, as
// the x87 status and control words say, or MXCSR, with its masks 7 bits higher.
static NTSTATUS status_of_float(uint64_t vector)
{
    static const NTSTATUS statuses[] = {    // by bit (Intel SDM 1, 8.1.3)
        STATUS_FLOAT_INVALID_OPERATION, STATUS_FLOAT_DENORMAL_OPERAND,
        STATUS_FLOAT_DIVIDE_BY_ZERO, STATUS_FLOAT_OVERFLOW,
        STATUS_FLOAT_UNDERFLOW, STATUS_FLOAT_INEXACT_RESULT,
    };
    uint16_t masked, flagged;
    uint32_t mxcsr;
    __asm__ volatile("fnstcw %0\n fnstsw %1\n stmxcsr %2"
                     : "=m"(masked), "=m"(flagged), "=m"(mxcsr));
    uint32_t raised = vector == VECTOR_X87 ? flagged & ~(uint32_t)masked
                                           : mxcsr & ~(mxcsr >> 7);
    return statuses[__builtin_ctz(raised | 1u << (ARRAY_SIZE(statuses) - 1))];
}

// The status that a fault of ring 3 ends its process with.
static NTSTATUS status_of_fault(const KTRAP_FRAME *frame)
{
    switch (frame->vector) {
    case VECTOR_DIVIDE: return STATUS_INTEGER_DIVIDE_BY_ZERO;
    case VECTOR_DEBUG: return STATUS_SINGLE_STEP;
    case VECTOR_BREAKPOINT: return STATUS_BREAKPOINT;
    case VECTOR_OVERFLOW: return STATUS_INTEGER_OVERFLOW;
    case VECTOR_INVALID_OPCODE: return STATUS_ILLEGAL_INSTRUCTION;
    case VECTOR_PROTECTION:
        return !frame->ErrorCode && is_privileged(frame->Rip)
                   ? STATUS_PRIVILEGED_INSTRUCTION : STATUS_ACCESS_VIOLATION;
    case VECTOR_ALIGNMENT: return STATUS_DATATYPE_MISALIGNMENT;
    case VECTOR_X87: case VECTOR_SIMD: return status_of_float(frame->vector);
    default: return STATUS_ACCESS_VIOLATION;    // #PF, #SS, #NP, ...
    }
}

static DECLSPEC_NOINLINE void dispatch_exception(KTRAP_FRAME *frame)
{
    if (frame->SegCs & 3) {
        ki_enable();
        ke_hook.user_fault(status_of_fault(frame));
        return;
    }
    uint64_t fixup = ki_find_fixup(frame->Rip);    // #PF, #GP, #SS
    if (fixup) {
        frame->Rip = fixup;
        frame->EFlags &= ~EFLAGS_AC;    // its clac is left out
        return;
    }
    if (frame->vector == VECTOR_PAGE_FAULT)
        ki_bugcheck_trap(PAGE_FAULT_IN_NONPAGED_AREA, frame, KI_READ_CR(2));
    ki_bugcheck_trap(KMODE_EXCEPTION_NOT_HANDLED, frame, frame->vector);
}

// NMI, #DF, #MC, and #DB in ring 0: nothing can be saved. An NMI may also mean
// that another processor has found something broken.
//
// IRQL:    any level
void ki_fatal_trap(KTRAP_FRAME *frame)
{
    KPRCB *owner = ki_bugcheck_owner;
    if (frame->vector == VECTOR_NMI && owner && owner != KeGetCurrentPrcb())
        ki_stop_processor();
    uint32_t code = frame->vector == VECTOR_NMI ? NMI_HARDWARE_FAILURE
                    : frame->vector == VECTOR_MACHINE_CHECK
                        ? MACHINE_CHECK_EXCEPTION
                        : UNEXPECTED_KERNEL_MODE_TRAP;
    ki_bugcheck_trap(code, frame, frame->vector);
}

// ---- Interrupts -----------------------------------------------------------

static void run_interrupt(KPRCB *prcb, uint32_t vector)
{
    ki_trace(TRACE_ISR_IN, 0, vector);
    if (vector <= HAL_VECTOR_DEVICE_LAST) {
        ki_dispatch_device(vector);
    } else if (vector == HAL_VECTOR_SPURIOUS) {
        prcb->spurious_count++;    // the local APIC expects no EOI for it
    } else {
        hal_end_of_interrupt();
        if (vector == HAL_VECTOR_CLOCK)
            ki_clock_interrupt(prcb);
        else if (vector == HAL_VECTOR_IPI)
            ki_answer_ipi(prcb);
        else
            prcb->unknown_count++;
    }
    ki_trace(TRACE_ISR_OUT, 0, vector);
}

static void dispatch_interrupt(uint32_t vector)
{
    KPRCB *prcb = KeGetCurrentPrcb();
    KIRQL old = KeGetCurrentIrql();
    if (prcb->halted_since) {
        ki_wake_up(prcb);
        ki_trace(TRACE_IDLE_OUT, 0, 0);
    }
    prcb->interrupt_count++;
    if (vector == HAL_VECTOR_DPC || vector == HAL_VECTOR_APC) {
        // All the work is done on the way out, from DISPATCH_LEVEL: such a
        // vector never comes at that level or above, and needs none of its own.
        hal_end_of_interrupt();
        prcb->dpc_requested |= prcb->dpc.depth != 0;
    } else {
        ki_set_irql((KIRQL)(vector >> VECTOR_CLASS_SHIFT));
        uint64_t start = hal_read_tsc();
        prcb->interrupt_depth++;
        run_interrupt(prcb, vector);
        if (--prcb->interrupt_depth == 0)
            prcb->isr_time += hal_read_tsc() - start;
    }
    if (old < DISPATCH_LEVEL) {
        ki_set_irql(DISPATCH_LEVEL);
        ki_lower_irql(old);
        return;
    }
    // Outermost, over code that raised to DISPATCH or above by itself.
    if (prcb->dpc_requested || prcb->timer_expired || prcb->reschedule ||
        prcb->CurrentThread->ApcState.KernelApcPending)
        ki_interrupt_self(prcb, HAL_VECTOR_DPC);
    ki_set_irql(old);
}

// Everything but the fatal ones; from ki_trap_common, interrupts off.
//
// IRQL:    any level
void ki_trap(KTRAP_FRAME *frame)
{
    if (frame->vector < EXCEPTION_VECTORS && frame->vector != HAL_VECTOR_APC)
        dispatch_exception(frame);
    else
        dispatch_interrupt((uint32_t)frame->vector);
}

// ---- The way down ---------------------------------------------------------

// Runs the DPCs, and counts how long, without the interrupts in between; on
// their stack.
static void drain(KPRCB *prcb)
{
    uint64_t start = hal_read_tsc() - prcb->isr_time;
    ki_retire_dpc_list(prcb);
    prcb->dpc_time += hal_read_tsc() - prcb->isr_time - start;
}

// Interrupts off, and off again; leaves at this IRQL.
static inline void deliver(KPROCESSOR_MODE mode, KTRAP_FRAME *frame, KIRQL irql)
{
    ki_set_irql(APC_LEVEL);
    ki_enable();
    KiDeliverApc(mode, frame);
    ki_set_irql(irql);    // a kernel APC that has come now has its IPI
    ki_disable();
}

// From DISPATCH_LEVEL to irql, interrupts off before and after; does on the
// way all that was held back. The processor may be another one afterwards.
//
// IRQL:    == DISPATCH_LEVEL
void ki_lower_irql(KIRQL irql)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    for (;;) {
        KPRCB *prcb = KeGetCurrentPrcb();
        if (prcb->dpc_requested || prcb->timer_expired)
            ki_call_on_stack(drain, prcb, prcb->dpc_stack);
        KTHREAD *thread = KeGetCurrentThread();
        if (KeGetCurrentPrcb()->reschedule) {
            ki_enable();
            ki_reschedule();
            ki_disable();
        } else if (!thread->ApcState.KernelApcPending) {
            break;
        } else if (irql < APC_LEVEL && thread->SpecialApcDisable == 0) {
            deliver(KernelMode, NULL, DISPATCH_LEVEL);
        } else {
            if (irql == APC_LEVEL)
                hal_send_self_ipi(HAL_VECTOR_APC);
            break;
        }
    }
    ki_set_irql(irql);
}

// Does what was held back, for a thread below DISPATCH_LEVEL that made the
// request itself and may not go on before it is done (DPC-02, APC-08).
//
// IRQL:    <= DISPATCH_LEVEL
void ki_run_held_back(KIRQL irql)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    ki_disable();
    ki_set_irql(DISPATCH_LEVEL);
    ki_lower_irql(irql);
    ki_enable();
}

// Called before every way into ring 3, interrupts off: user APCs, and the end
// of the thread, which is one of them.
//
// IRQL:    == PASSIVE_LEVEL
void ki_user_exit(KTRAP_FRAME *frame)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    while (KeGetCurrentThread()->ApcState.UserApcPending)
        deliver(UserMode, frame, PASSIVE_LEVEL);
}
