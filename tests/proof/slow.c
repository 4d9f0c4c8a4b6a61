// slow.c - a kernel that cheats: its clock ticks, but so rarely that it would
// have to be watched for long to see it.

#include "kernel/ke/kep.h"

enum { TICK = 30000000 };    // 100 ns

void __real_ki_arm_clock(KPRCB *prcb);
void __wrap_ki_arm_clock(KPRCB *prcb);

void __wrap_ki_arm_clock(KPRCB *prcb)
{
    __real_ki_arm_clock(prcb);
    ki_clock_at_latest(prcb, hal_read_tsc() + hal_100ns_to_tsc(TICK));
}
