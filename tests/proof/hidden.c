// hidden.c - a kernel that cheats: its clock ticks, and it keeps that out of
// its own trace, in which it is halted all the time.

#include "kernel/ke/kep.h"

enum { TICK = 100000 };    // 100 ns

void __real_ki_arm_clock(KPRCB *prcb);
void __wrap_ki_arm_clock(KPRCB *prcb);
void __real_ki_halt(void);
void __wrap_ki_halt(void);
void __real_ki_trap(KTRAP_FRAME *frame);
void __wrap_ki_trap(KTRAP_FRAME *frame);
void __real_ki_reschedule(void);
void __wrap_ki_reschedule(void);

static uint32_t mask;    // what the trace is to show, while it shows nothing

void __wrap_ki_arm_clock(KPRCB *prcb)
{
    __real_ki_arm_clock(prcb);
    ki_clock_at_latest(prcb, hal_read_tsc() + hal_100ns_to_tsc(TICK));
}

void __wrap_ki_trap(KTRAP_FRAME *frame)
{
    bool hide = frame->vector == HAL_VECTOR_CLOCK &&
                KeGetCurrentPrcb()->halted_since && ki_trace_mask;
    if (hide) {
        mask = ki_trace_mask;
        ki_trace_mask = 0;
    }
    __real_ki_trap(frame);
}

static void show_again(void)
{
    if (mask && !ki_trace_mask)
        ki_trace_mask = mask;
    mask = 0;
}

// This tick was one that a thread waited for.
void __wrap_ki_reschedule(void)
{
    show_again();
    __real_ki_reschedule();
}

// The idle loop has gone round, and none of it was recorded.
void __wrap_ki_halt(void)
{
    show_again();
    __real_ki_halt();
}
