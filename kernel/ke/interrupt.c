// interrupt.c - device vectors and the chains of ISRs behind them.
//
// A chain changes only while a driver starts or stops, one driver at a time,
// and by one store: whoever walks it needs no lock. An ISR runs at its vector's
// level with interrupts on, so that higher ones nest, and holds its
// KINTERRUPT's lock (KeSynchronizeExecution).

#include "kernel/ke/kep.h"

enum { VECTORS_PER_IRQL = 16 };

KINTERRUPT *ki_chains[HAL_VECTOR_DEVICE_LAST + 1];

// Finds a device vector of the given IRQL that has no ISR yet.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: 0 when none is left
uint8_t ke_allocate_vector(KIRQL irql)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    ASSERT(irql >= DEVICE_LEVEL_MIN && irql <= DEVICE_LEVEL_MAX);
    uint32_t first = irql * VECTORS_PER_IRQL;
    for (uint32_t i = first; i < first + VECTORS_PER_IRQL; i++)
        if (!ki_chains[i])
            return (uint8_t)i;
    return 0;
}

// Puts an ISR on its vector's chain. The line itself is the caller's to
// unmask afterwards.
//
// IRQL:    == PASSIVE_LEVEL
void ke_connect_interrupt(KINTERRUPT *interrupt, KSERVICE_ROUTINE *routine,
                          void *context, uint8_t vector, bool level_triggered)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    *interrupt = (KINTERRUPT){
        .next = ki_chains[vector], .ServiceRoutine = routine,
        .ServiceContext = context, .Vector = vector,
        .LevelTriggered = level_triggered,
        .SynchronizeIrql = vector / VECTORS_PER_IRQL,
    };
    __atomic_store_n(&ki_chains[vector], interrupt, __ATOMIC_RELEASE);
}

// Connects an ISR to a line, which shares its vector if it has one already;
// a new one interrupts the boot processor from now on.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INSUFFICIENT_RESOURCES (no vector is left)
NTSTATUS ke_connect_line(KINTERRUPT *interrupt, uint32_t irq, KIRQL irql,
                         bool level_triggered, KSERVICE_ROUTINE *routine,
                         void *context)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    uint8_t vector = 0;
    for (uint32_t i = 0; i < ARRAY_SIZE(ki_chains); i++)
        if (ki_chains[i] && ki_chains[i]->line == irq + 1)
            vector = (uint8_t)i;
    bool shared = vector != 0;
    if (!shared)
        vector = ke_allocate_vector(irql);
    if (!vector)
        return STATUS_INSUFFICIENT_RESOURCES;
    ke_connect_interrupt(interrupt, routine, context, vector, level_triggered);
    interrupt->line = irq + 1;
    if (!shared)
        hal_connect_irq(irq, vector, ki_processor[0]->apic_id, level_triggered,
                        level_triggered);
    return STATUS_SUCCESS;
}

// Runs the chain of a device vector at its level. An edge is acknowledged
// first, or one that comes while the ISR runs would be lost; a level last,
// while CR8 still holds its class, or it would interrupt again at once.
// One that nobody claims is counted.
//
// vector:  <= HAL_VECTOR_DEVICE_LAST
// IRQL:    the vector's; interrupts off, and off again
void ki_dispatch_device(uint32_t vector)
{
    ASSERT_IRQL(==, vector / VECTORS_PER_IRQL);
    KINTERRUPT *i = ki_chains[vector];
    bool level_triggered = i && i->LevelTriggered, claimed = false;
    if (!level_triggered)
        hal_end_of_interrupt();
    if (!i) {
        KeGetCurrentPrcb()->unknown_count++;
        return;
    }
    ki_enable();
    do {
        KeAcquireSpinLockAtDpcLevel(&i->SpinLock);
        claimed |= i->ServiceRoutine(i, i->ServiceContext);
        KeReleaseSpinLockFromDpcLevel(&i->SpinLock);
        i = i->next;
    } while (i);
    ki_disable();
    if (level_triggered)
        hal_end_of_interrupt();
    if (!claimed)
        KeGetCurrentPrcb()->spurious_count++;
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
