// region.c - critical and guarded regions (NT-SEMANTICS 4).

#include "tests/kernel/ktest.h"

static bool disabled_are(bool normal, bool all)
{
    return KeAreApcsDisabled() == normal && KeAreAllApcsDisabled() == all;
}

KTEST(regions_count_downwards, "REG-01")
{
    KTHREAD *thread = KeGetCurrentThread();
    EXPECT(thread->KernelApcDisable == 0 && thread->SpecialApcDisable == 0);
    KeEnterCriticalRegion();
    EXPECT(thread->KernelApcDisable == -1 && thread->SpecialApcDisable == 0);
    KeEnterGuardedRegion();
    EXPECT(thread->KernelApcDisable == -1 && thread->SpecialApcDisable == -1);
    KeEnterCriticalRegion();
    KeEnterGuardedRegion();
    EXPECT(thread->KernelApcDisable == -2 && thread->SpecialApcDisable == -2);
    KeLeaveCriticalRegion();    // in any order
    KeLeaveGuardedRegion();
    KeLeaveCriticalRegion();
    EXPECT(thread->KernelApcDisable == 0 && thread->SpecialApcDisable == -1);
    KeLeaveGuardedRegion();
    EXPECT(thread->KernelApcDisable == 0 && thread->SpecialApcDisable == 0);
}

KTEST(regions_and_levels_tell, "REG-02")
{
    KSPIN_LOCK lock;
    KIRQL old;
    EXPECT(disabled_are(false, false));
    KeEnterCriticalRegion();
    EXPECT(disabled_are(true, false));
    KeEnterGuardedRegion();
    EXPECT(disabled_are(true, true));
    KeLeaveCriticalRegion();
    EXPECT(disabled_are(true, true));
    KeLeaveGuardedRegion();
    EXPECT(disabled_are(false, false));
    KeRaiseIrql(APC_LEVEL, &old);
    EXPECT(disabled_are(false, true));
    KeLowerIrql(old);
    KeRaiseIrql(DISPATCH_LEVEL, &old);
    EXPECT(disabled_are(false, true));
    KeLowerIrql(old);
    KeInitializeSpinLock(&lock);
    KeAcquireSpinLock(&lock, &old);
    EXPECT(disabled_are(false, true));
    KeReleaseSpinLock(&lock, old);
    KeEnterCriticalRegion();
    KeRaiseIrql(APC_LEVEL, &old);
    EXPECT(disabled_are(true, true));
    KeLowerIrql(old);
    KeLeaveCriticalRegion();
    EXPECT(disabled_are(false, false));
}

// ---- What arrives inside --------------------------------------------------

static void kernel_routine(KAPC *apc, KNORMAL_ROUTINE **normal, void **context,
                           void **a, void **b)
{
    (void)apc, (void)context, (void)a, (void)b;
    ktest_log(*normal ? 'N' : 'S');
}

static void normal_routine(void *context, void *a, void *b)
{
    (void)context, (void)a, (void)b;
    ktest_log('n');
}

typedef struct apcs {
    KAPC special, normal;
} apcs;

static void queue_both(apcs *two)
{
    KTHREAD *thread = KeGetCurrentThread();
    KeInitializeApc(&two->special, thread, kernel_routine, NULL, NULL,
                    KernelMode, NULL);
    KeInitializeApc(&two->normal, thread, kernel_routine, NULL, normal_routine,
                    KernelMode, NULL);
    EXPECT(KeInsertQueueApc(&two->normal, NULL, NULL, IO_NO_INCREMENT));
    ktest_log('1');
    EXPECT(KeInsertQueueApc(&two->special, NULL, NULL, IO_NO_INCREMENT));
    ktest_log('2');
}

KTEST(critical_region_lets_specials_in, "REG-03 REG-04")
{
    apcs two;
    KeEnterCriticalRegion();
    KeEnterCriticalRegion();
    queue_both(&two);
    KeLeaveCriticalRegion();    // not the outermost
    ktest_log('3');
    EXPECT(two.normal.Inserted);
    KeLeaveCriticalRegion();
    ktest_log('4');
    EXPECT(ktest_logged("1S23Nn4"));
}

KTEST(guarded_region_lets_nothing_in, "REG-03 REG-04")
{
    apcs two;
    KeEnterGuardedRegion();
    queue_both(&two);
    ktest_log('3');
    KeLeaveGuardedRegion();
    ktest_log('4');
    EXPECT(ktest_logged("123SNn4"));
}

KTEST(apc_level_lets_nothing_in, "REG-03 APC-08")
{
    for (KIRQL level = APC_LEVEL; level <= DISPATCH_LEVEL; level++) {
        apcs two;
        KIRQL old;
        ktest_log_reset();
        KeRaiseIrql(level, &old);
        queue_both(&two);
        KeLowerIrql(APC_LEVEL);
        ktest_log('3');
        KeLowerIrql(old);
        ktest_log('4');
        EXPECT(ktest_logged("123SNn4"));
    }
}

KTEST(nested_regions_deliver_by_kind, "REG-03 REG-04")
{
    apcs two;
    KeEnterCriticalRegion();
    KeEnterGuardedRegion();
    queue_both(&two);
    KeLeaveGuardedRegion();    // specials may come, normals may not
    ktest_log('3');
    KeLeaveCriticalRegion();
    ktest_log('4');
    EXPECT(ktest_logged("12S3Nn4"));
    ktest_log_reset();
    KeEnterCriticalRegion();
    KeEnterGuardedRegion();
    queue_both(&two);
    KeLeaveCriticalRegion();
    ktest_log('3');
    KeLeaveGuardedRegion();
    ktest_log('4');
    EXPECT(ktest_logged("123SNn4"));
}

KTEST(region_left_at_apc_level, "REG-04")
{
    apcs two;
    KIRQL old;
    KeEnterGuardedRegion();
    queue_both(&two);
    KeRaiseIrql(APC_LEVEL, &old);
    KeLeaveGuardedRegion();
    ktest_log('3');
    KeLowerIrql(old);
    ktest_log('4');
    EXPECT(ktest_logged("123SNn4"));
}
