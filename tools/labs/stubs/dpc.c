// dpc.c - lab 1: what stands where the student's DPC queue belongs.

bool KeInsertQueueDpc(KDPC *dpc, void *argument1, void *argument2)
{
    (void)dpc, (void)argument1, (void)argument2;
    LAB_TODO("KeInsertQueueDpc");
    return false;
}

bool KeRemoveQueueDpc(KDPC *dpc)
{
    (void)dpc;
    LAB_TODO("KeRemoveQueueDpc");
    return false;
}

void ki_retire_dpc_list(KPRCB *prcb)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    // The timers are done. The DPCs, and what others want to know of the
    // drain - that it runs, that it is over - are yours.
    prcb->dpc_requested = false;
    if (prcb->timer_expired) {
        prcb->timer_expired = false;
        ki_enable();
        ki_expire_timers(prcb);
        ki_disable();
    }
    LAB_TODO("ki_retire_dpc_list");
}
