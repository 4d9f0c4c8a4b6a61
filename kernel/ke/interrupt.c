// interrupt.c - device vectors and the chains of ISRs behind them.
//
// A chain only grows, and only while drivers start, one after the other: a
// new ISR becomes its head in one store, so that whoever walks it needs no
// lock. An ISR runs at its vector's level with interrupts on, so that higher
// ones nest, and holds its KINTERRUPT's lock (KeSynchronizeExecution).

#include "kernel/ke/kep.h"

enum { VECTORS_PER_IRQL = 16 };

static KINTERRUPT *chains[HAL_VECTOR_DEVICE_LAST + 1];    // by vector

// Finds the vector of a line that is connected already, or a free one.
static uint8_t choose_vector(uint32_t irq, KIRQL irql)
{
    uint8_t first = (uint8_t)(irql * VECTORS_PER_IRQL);
    for (uint32_t i = HAL_VECTOR_DEVICE_FIRST; i < ARRAY_SIZE(chains); i++)
        if (chains[i] && irq != KE_NO_LINE && chains[i]->line == irq)
            return (uint8_t)i;
    for (uint8_t i = 0; i < VECTORS_PER_IRQL; i++)
        if (!chains[first + i])
            return (uint8_t)(first + i);
    return 0;
}

// Connects an ISR to a vector of the given IRQL, or, if its line has one, to
// that one's chain, and unmasks the line, which then interrupts the boot
// processor. irq: KE_NO_LINE for a device that sends its vector by itself.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INSUFFICIENT_RESOURCES (no vector is left)
NTSTATUS ke_connect_line(KINTERRUPT *interrupt, uint32_t irq, KIRQL irql,
                         bool level_triggered, KSERVICE_ROUTINE *routine,
                         void *context)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    ASSERT(irql >= DEVICE_LEVEL_MIN && irql <= DEVICE_LEVEL_MAX);
    uint8_t vector = choose_vector(irq, irql);
    if (!vector)
        return STATUS_INSUFFICIENT_RESOURCES;
    *interrupt = (KINTERRUPT){
        .next = chains[vector], .ServiceRoutine = routine,
        .ServiceContext = context, .line = irq, .Vector = vector,
        .LevelTriggered = level_triggered,
        .SynchronizeIrql = vector / VECTORS_PER_IRQL,
    };
    __atomic_store_n(&chains[vector], interrupt, __ATOMIC_RELEASE);
    if (irq != KE_NO_LINE && !interrupt->next)
        hal_connect_irq(irq, vector, ki_processor[0]->apic_id, level_triggered,
                        level_triggered);
    return STATUS_SUCCESS;
}

// Runs the chain of a device vector at its level. An edge is acknowledged
// first, or one that comes while the ISR runs would be lost; a level last,
// while CR8 still holds its class, or it would interrupt again at once.
// One that nobody claims is counted.
//
// IRQL:    the vector's; interrupts off, and off again
void ki_dispatch_device(uint8_t vector)
{
    ASSERT_IRQL(==, vector / VECTORS_PER_IRQL);
    KPRCB *prcb = KeGetCurrentPrcb();
    KINTERRUPT *first = vector < ARRAY_SIZE(chains) ? chains[vector] : NULL;
    bool level_triggered = first && first->LevelTriggered;
    if (!level_triggered)
        hal_end_of_interrupt();
    if (!first) {
        prcb->unknown_count++;
        return;
    }
    ki_enable();
    bool claimed = false;
    for (KINTERRUPT *i = first; i; i = i->next) {
        KeAcquireSpinLockAtDpcLevel(&i->SpinLock);
        claimed |= i->ServiceRoutine(i, i->ServiceContext);
        KeReleaseSpinLockFromDpcLevel(&i->SpinLock);
    }
    ki_disable();
    if (level_triggered)
        hal_end_of_interrupt();
    if (!claimed)
        prcb->spurious_count++;
}

// Runs routine(context) so that the interrupt's ISR cannot run meanwhile.
//
// IRQL:    <= the interrupt's SynchronizeIrql
// Returns: what the routine returns
// NT:      KeSynchronizeExecution (WDK).
bool KeSynchronizeExecution(KINTERRUPT *interrupt,
                            KSYNCHRONIZE_ROUTINE *routine, void *context)
{
    ASSERT_IRQL(<=, interrupt->SynchronizeIrql);
    KIRQL old;
    KeRaiseIrql(interrupt->SynchronizeIrql, &old);
    KeAcquireSpinLockAtDpcLevel(&interrupt->SpinLock);
    bool result = routine(context);
    KeReleaseSpinLockFromDpcLevel(&interrupt->SpinLock);
    KeLowerIrql(old);
    return result;
}
