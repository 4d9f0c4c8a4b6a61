// poll.c - a kernel that cheats: idle does not halt, it looks and looks.

#include "kernel/ke/kep.h"

void __wrap_ki_halt(void);

void __wrap_ki_halt(void)
{
    const KPRCB *prcb = KeGetCurrentPrcb();
    uint32_t seen = prcb->interrupt_count;
    ki_enable();
    while (*(const volatile uint32_t *)&prcb->interrupt_count == seen)
        __builtin_ia32_pause();
}
