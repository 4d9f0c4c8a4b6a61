// late.c - a kernel that cheats: before idle halts it polls for a while, in
// the hope that the disk is done by then. What it waits for takes longer.

#include "kernel/ke/kep.h"

enum { LOOKS = 40000 };

void __real_ki_halt(void);
void __wrap_ki_halt(void);

void __wrap_ki_halt(void)
{
    const KPRCB *prcb = KeGetCurrentPrcb();
    uint32_t seen = prcb->interrupt_count;
    ki_enable();
    for (uint32_t i = 0; i < LOOKS; i++) {
        if (*(const volatile uint32_t *)&prcb->interrupt_count != seen)
            return;
        __builtin_ia32_pause();
    }
    ki_disable();
    if (*(const volatile uint32_t *)&prcb->interrupt_count == seen)
        __real_ki_halt();
}
