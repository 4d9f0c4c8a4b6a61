// interrupt.c - device vectors and the chains of ISRs behind them.
//
// A chain changes only while a driver starts or stops; its lock is a leaf at
// HIGH. An ISR runs at its vector's level with interrupts on, so that higher
// ones nest, and holds its KINTERRUPT's lock (KeSynchronizeExecution).

#include "kernel/ke/kep.h"

enum { VECTORS_PER_IRQL = 16,
       DEVICE_VECTORS = HAL_VECTOR_DEVICE_LAST - HAL_VECTOR_DEVICE_FIRST + 1 };

typedef struct ki_chain {
    LIST_ENTRY interrupts;       // of KINTERRUPT; NULL links: never used
    bool level_triggered;
} ki_chain;

static KSPIN_LOCK chain_lock;    // guards all below
static ki_chain chains[DEVICE_VECTORS];
static uint8_t next_in_class[DEVICE_LEVEL_MAX + 1];

static ki_chain *chain_of(uint8_t vector)
{
    if (vector < HAL_VECTOR_DEVICE_FIRST || vector > HAL_VECTOR_DEVICE_LAST)
        return NULL;
    return &chains[vector - HAL_VECTOR_DEVICE_FIRST];
}

// Allocates a device vector of the given IRQL.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: the vector, or 0 when none is left
uint8_t ke_allocate_vector(KIRQL irql)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    ASSERT(irql >= DEVICE_LEVEL_MIN && irql <= DEVICE_LEVEL_MAX);
    uint64_t flags = ki_disable_interrupts();
    KeAcquireSpinLockAtDpcLevel(&chain_lock);
    uint8_t vector = 0;
    if (next_in_class[irql] < VECTORS_PER_IRQL)
        vector = (uint8_t)(irql * VECTORS_PER_IRQL + next_in_class[irql]++);
    KeReleaseSpinLockFromDpcLevel(&chain_lock);
    ki_restore_interrupts(flags);
    return vector;
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
        .ServiceRoutine = routine, .ServiceContext = context,
        .Vector = vector, .LevelTriggered = level_triggered,
        .SynchronizeIrql = vector / VECTORS_PER_IRQL,
    };
    ki_chain *chain = chain_of(vector);
    uint64_t flags = ki_disable_interrupts();
    KeAcquireSpinLockAtDpcLevel(&chain_lock);
    if (!chain->interrupts.Flink)
        InitializeListHead(&chain->interrupts);
    InsertTailList(&chain->interrupts, &interrupt->InterruptListEntry);
    chain->level_triggered = level_triggered;
    KeReleaseSpinLockFromDpcLevel(&chain_lock);
    ki_restore_interrupts(flags);
}

// Allocates a vector, connects the ISR and unmasks the line, which then
// interrupts the boot processor.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INSUFFICIENT_RESOURCES (no vector is left)
NTSTATUS ke_connect_line(KINTERRUPT *interrupt, uint32_t irq, KIRQL irql,
                         bool level_triggered, KSERVICE_ROUTINE *routine,
                         void *context)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    uint8_t vector = ke_allocate_vector(irql);
    if (!vector)
        return STATUS_INSUFFICIENT_RESOURCES;
    ke_connect_interrupt(interrupt, routine, context, vector,
                         level_triggered);
    hal_connect_irq(irq, vector, ki_processor[0]->apic_id, level_triggered,
                    level_triggered);
    return STATUS_SUCCESS;
}

// Takes an ISR off its chain; the line must be masked.
//
// IRQL:    == PASSIVE_LEVEL
void ke_disconnect_interrupt(KINTERRUPT *interrupt)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    uint64_t flags = ki_disable_interrupts();
    KeAcquireSpinLockAtDpcLevel(&chain_lock);
    RemoveEntryList(&interrupt->InterruptListEntry);
    KeReleaseSpinLockFromDpcLevel(&chain_lock);
    ki_restore_interrupts(flags);
}

static bool call_isr(KINTERRUPT *interrupt)
{
    KeAcquireSpinLockAtDpcLevel(&interrupt->SpinLock);
    bool ours = interrupt->ServiceRoutine(interrupt,
                                          interrupt->ServiceContext);
    KeReleaseSpinLockFromDpcLevel(&interrupt->SpinLock);
    return ours;
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
    ki_chain *chain = chain_of(vector);
    if (!chain || !chain->interrupts.Flink) {
        hal_end_of_interrupt();
        prcb->unknown_count++;
        return;
    }
    if (!chain->level_triggered)
        hal_end_of_interrupt();
    ki_enable();
    bool claimed = false;
    RTL_FOR_EACH(entry, &chain->interrupts)
        claimed |= call_isr(CONTAINING_RECORD(entry, KINTERRUPT,
                                              InterruptListEntry));
    ki_disable();
    if (chain->level_triggered)
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
