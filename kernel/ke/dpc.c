// dpc.c - the DPC queue of each processor, and its drain.
//
// Who starts a drain: the outermost interrupt exit below DISPATCH; a thread
// below DISPATCH that inserts, at once and by itself; and for an insert made
// at DISPATCH, a self-IPI that waits in the local APIC until CR8 falls.

#include "kernel/ke/kep.h"

// Prepares a DPC: Medium, for the processor that will insert it (DPC-01).
//
// IRQL:    any level
// NT:      KeInitializeDpc (WDK).
void KeInitializeDpc(KDPC *dpc, KDEFERRED_ROUTINE *routine, void *context)
{
    *dpc = (KDPC){ .Importance = MediumImportance, .DeferredRoutine = routine,
                   .DeferredContext = context };
}

// Says where in the queue the next insert puts the DPC (DPC-07).
//
// IRQL:    any level
// NT:      KeSetImportanceDpc (WDK).
void KeSetImportanceDpc(KDPC *dpc, KDPC_IMPORTANCE importance)
{
    dpc->Importance = (uint8_t)importance;
}

// Says on which processor the next insert lets the DPC run (DPC-09).
//
// IRQL:    any level
// NT:      KeSetTargetProcessorDpc (WDK).
void KeSetTargetProcessorDpc(KDPC *dpc, uint8_t number)
{
    dpc->Number = (uint16_t)(number + 1);
}

// Puts the DPC on the queue unless it is on one. DpcData is taken by an atomic
// exchange with the queue's lock held: two processors may insert one DPC into
// their own queues at once, and whoever finds it taken changes nothing; a
// remover that sees DpcData and gets the lock also finds the entry linked.
static bool enqueue(ki_dpc_queue *queue, KDPC *dpc, void *argument1,
                    void *argument2)
{    // lab 1
    KeAcquireSpinLockAtDpcLevel(&queue->lock);
    ki_dpc_queue *expected = NULL;
    bool inserted = __atomic_compare_exchange_n(
        &dpc->DpcData, &expected, queue, false, __ATOMIC_ACQ_REL,
        __ATOMIC_RELAXED);
    if (inserted) {
        dpc->SystemArgument1 = argument1;
        dpc->SystemArgument2 = argument2;
        if (dpc->Importance == HighImportance)
            InsertHeadList(&queue->list, &dpc->DpcListEntry);
        else
            InsertTailList(&queue->list, &dpc->DpcListEntry);
        queue->depth++;
    }
    KeReleaseSpinLockFromDpcLevel(&queue->lock);
    return inserted;
}

// It is on no queue; who sees that may insert it elsewhere, with another lock:
// what we did to its links comes before. Who does not see it, and leaves the
// work to this run, was quicker: what the routine reads comes after.
static void set_free(KDPC *dpc)
{    // lab 1
    __atomic_store_n(&dpc->DpcData, NULL, __ATOMIC_SEQ_CST);
}

// Sees to it that the target drains (DPC-08). A Low one, and a Medium one of
// another processor that is awake, may wait: for another drain, for depth, or
// for 10 ms, after which this processor's clock pokes.
// For one that is about to halt: we queue, then look whether it is halted; it
// says that it is, then looks at its queue (ke_idle). One sees the other.
// True if it is this thread itself that drains now.
static inline bool request_drain(KPRCB *self, KPRCB *target, uint8_t importance)
{    // lab 1
    if (target != self)
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    bool now = (target == self ? importance != LowImportance
                               : importance >= HighImportance ||
                                     target->halted_since) ||
               target->dpc.depth >= KI_MAXIMUM_DPC_DEPTH;
    if (!now) {
        ki_poke_later(self, target->Number);
    } else if (target != self) {
        hal_send_ipi(target->apic_id, HAL_VECTOR_DPC);
    } else {
        self->dpc_requested = true;
        if (self->interrupt_depth)    // its exit drains, or asks for it
            return false;
        if (KeGetCurrentIrql() < DISPATCH_LEVEL)
            return true;
        ki_interrupt_self(self, HAL_VECTOR_DPC);
    }
    return false;
}

// Queues a DPC. Below DISPATCH_LEVEL, for the own processor and unless it is
// Low, it has run when this returns (DPC-02).
//
// IRQL:    any level
// Returns: false if it is queued already (DPC-04)
// NT:      KeInsertQueueDpc (WDK).
bool KeInsertQueueDpc(KDPC *dpc, void *argument1, void *argument2)
{    // lab 1
    uint64_t flags = ki_disable_interrupts();
    KPRCB *self = KeGetCurrentPrcb();
    KPRCB *target = dpc->Number ? ki_processor[dpc->Number - 1] : self;
    uint8_t importance = dpc->Importance;    // queued, it may run and be freed
    bool inserted = enqueue(&target->dpc, dpc, argument1, argument2);
    bool run = inserted && request_drain(self, target, importance);
    ki_restore_interrupts(flags);
    if (run)
        ki_run_held_back(KeGetCurrentIrql());
    return inserted;
}

// Takes a DPC off its queue again.
//
// IRQL:    any level
// Returns: true if it was queued: its routine will not run for it (DPC-05)
// NT:      KeRemoveQueueDpc (WDK).
bool KeRemoveQueueDpc(KDPC *dpc)
{    // lab 1
    bool removed = false;
    uint64_t flags = ki_disable_interrupts();
    ki_dpc_queue *queue = dpc->DpcData;
    if (queue) {
        KeAcquireSpinLockAtDpcLevel(&queue->lock);
        if (dpc->DpcData == queue) {
            RemoveEntryList(&dpc->DpcListEntry);
            queue->depth--;
            set_free(dpc);
            removed = true;
        }
        KeReleaseSpinLockFromDpcLevel(&queue->lock);
    }
    ki_restore_interrupts(flags);
    return removed;
}

// Runs one DPC; false when the queue is empty. The object is off the queue,
// and all that is needed of it copied, before its routine is called: that may
// insert it again, or free it (DPC-06).
static bool run_one(ki_dpc_queue *queue)
{    // lab 1
    if (!queue->depth)    // who inserts now also sees to the next drain
        return false;
    KeAcquireSpinLockAtDpcLevel(&queue->lock);
    if (IsListEmpty(&queue->list)) {    // one was removed
        KeReleaseSpinLockFromDpcLevel(&queue->lock);
        return false;
    }
    KDPC *dpc = CONTAINING_RECORD(RemoveHeadList(&queue->list), KDPC,
                                  DpcListEntry);
    KDEFERRED_ROUTINE *routine = dpc->DeferredRoutine;
    void *context = dpc->DeferredContext;
    void *argument1 = dpc->SystemArgument1, *argument2 = dpc->SystemArgument2;
    queue->depth--;
    queue->count++;
    set_free(dpc);
    KeReleaseSpinLockFromDpcLevel(&queue->lock);

    ki_enable();
    routine(dpc, context, argument1, argument2);
    ki_disable();
    ASSERT_IRQL_RULE("DPC-06", ==, DISPATCH_LEVEL);
    return true;
}

// Drains this processor's queue, expired timers first, on the DPC stack.
// Interrupts are off before and after, on in between.
//
// IRQL:    == DISPATCH_LEVEL
void ki_retire_dpc_list(KPRCB *prcb)
{    // lab 1
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    prcb->dpc_active = true;
    ki_trace(TRACE_DPC_IN, 0, 0);
    uint64_t start = 0;
    do {
        prcb->dpc_requested = false;
        if (prcb->timer_expired) {
            prcb->timer_expired = false;
            prcb->timer_rest = KI_FOREVER;
            start = start ? start : hal_read_tsc();
            ki_enable();
            ki_expire_timers(prcb);
            ki_disable();
        }
        while (run_one(&prcb->dpc))
            continue;
    } while (prcb->dpc_requested || prcb->timer_expired);
    // As long as this took it is the threads' turn, whatever timer is due:
    // more periodic ones than a period has time for must not have all of it.
    if (start) {
        uint64_t now = hal_read_tsc();
        prcb->timer_rest = now + (now - start);
        ki_arm_clock(prcb);
    }
    ki_forget_pokes(prcb);
    ki_trace(TRACE_DPC_OUT, 0, 0);
    prcb->dpc_active = false;
}

static void flush_routine(KDPC *, void *context, void *, void *)
{
    KeSetEvent(context, IO_NO_INCREMENT);
}

// Returns when every DPC that was queued before the call, on any processor,
// has finished: a DPC of ours goes behind them all, one processor at a time.
//
// IRQL:    == PASSIVE_LEVEL
// NT:      KeFlushQueuedDpcs (WDK).
void KeFlushQueuedDpcs(void)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    for (uint32_t i = 0; i < KeNumberProcessors; i++) {
        KEVENT done;
        KDPC dpc;
        KeInitializeEvent(&done, NotificationEvent, false);
        KeInitializeDpc(&dpc, flush_routine, &done);
        KeSetImportanceDpc(&dpc, MediumHighImportance);
        KeSetTargetProcessorDpc(&dpc, (uint8_t)i);
        KeInsertQueueDpc(&dpc, NULL, NULL);
        KeWaitForSingleObject(&done, Executive, KernelMode, false, NULL);
    }
}
