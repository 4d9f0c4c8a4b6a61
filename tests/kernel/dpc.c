// dpc.c - rules of the DPC queue (NT-SEMANTICS 2).

#include "tests/kernel/ktest.h"

static int runs;
static void *seen1, *seen2;
static KIRQL seen_irql;
static bool seen_active;

static void note(KDPC *dpc, void *context, void *a, void *b)
{
    (void)dpc, (void)context;
    runs++;
    seen1 = a;
    seen2 = b;
    seen_irql = KeGetCurrentIrql();
    seen_active = KeGetCurrentPrcb()->dpc_active;
}

KTEST(dpc_initialize, "DPC-01")
{
    KDPC dpc;
    KeInitializeDpc(&dpc, NULL, NULL);
    EXPECT(dpc.Importance == MediumImportance);
    EXPECT(dpc.Number == 0);
    EXPECT(dpc.DpcData == NULL);
}

KTEST(dpc_runs_before_insert_returns, "DPC-02 DPC-06")
{
    KDPC dpc;
    KIRQL old;
    KeInitializeDpc(&dpc, note, NULL);
    runs = 0;
    EXPECT(KeInsertQueueDpc(&dpc, (void *)1, (void *)2));
    EXPECT(runs == 1 && seen1 == (void *)1 && seen2 == (void *)2);
    EXPECT(seen_irql == DISPATCH_LEVEL && seen_active);
    KeRaiseIrql(APC_LEVEL, &old);
    EXPECT(KeInsertQueueDpc(&dpc, NULL, NULL));
    EXPECT(runs == 2);
    KeLowerIrql(old);
}

KTEST(dpc_waits_until_below_dispatch, "DPC-03 DPC-04")
{
    KDPC dpc;
    KIRQL old, dispatch;
    KeInitializeDpc(&dpc, note, NULL);
    runs = 0;
    KeRaiseIrql(DISPATCH_LEVEL, &old);
    KeRaiseIrql(HIGH_LEVEL, &dispatch);
    EXPECT(KeInsertQueueDpc(&dpc, (void *)1, NULL));
    EXPECT(!KeInsertQueueDpc(&dpc, (void *)2, NULL));
    EXPECT(runs == 0);
    KeLowerIrql(dispatch);
    EXPECT(runs == 0);
    KeLowerIrql(old);
    EXPECT(runs == 1 && seen1 == (void *)1);
}
