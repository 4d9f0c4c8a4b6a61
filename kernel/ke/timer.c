// timer.c - timers, and the tickless clock that serves them.
//
// A timer lies in the heap of the processor that set it, guarded by the
// dispatcher lock. The local APIC is armed once, for the nearest of: the first
// timer, the end of a contested quantum, a low DPC's patience, a watchdog.
// The clock's ISR only says that something is due; expiry is handled in the
// drain, at DISPATCH_LEVEL (TMR-02).

#include "kernel/ke/kep.h"

enum { UNITS_PER_MS = 10000, POKE_DELAY = 10 * UNITS_PER_MS };

static uint64_t system_time_at_boot;
uint64_t ki_quantum_ticks;

// Sets the calendar and the length of a quantum; after hal_calibrate_clock.
//
// IRQL:    == PASSIVE_LEVEL
void ke_init_time(void)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    system_time_at_boot = hal_read_rtc() - KeQueryInterruptTime();
    ki_quantum_ticks = hal_100ns_to_tsc(KI_QUANTUM);
}

// The time since the processor started, in 100 ns.
//
// IRQL:    any level
// NT:      KeQueryInterruptTime (WDK).
uint64_t KeQueryInterruptTime(void)
{
    return hal_tsc_to_100ns(hal_read_tsc());
}

// The time since 1601 (UTC), in 100 ns.
//
// IRQL:    any level
int64_t ke_query_system_time(void)
{
    return (int64_t)(system_time_at_boot + KeQueryInterruptTime());
}

// ---- The clock of one processor -------------------------------------------

// Arms the clock if it would come later than tsc. Interrupts off.
//
// IRQL:    any level
void ki_clock_at_latest(KPRCB *prcb, uint64_t tsc)
{
    if (tsc >= prcb->clock_deadline)
        return;
    uint64_t now = hal_read_tsc();
    prcb->clock_deadline = tsc;
    hal_arm_timer(tsc > now ? tsc - now : 1);
}

static uint64_t deadline(const ki_watchdog *watchdog)
{
    return watchdog->busy ? watchdog->due : KI_FOREVER;
}

// When the first timer or watchdog of this processor is due.
static uint64_t next_expiry(const KPRCB *prcb)
{
    uint64_t next = MAX(prcb->timer_deadline, prcb->timer_rest);
    for (const ki_watchdog *w = prcb->watchdogs; w; w = w->next) {
        uint64_t due = deadline(w);
        next = MIN(next, due);
    }
    return next;
}

// Arms the clock for the nearest deadline, or not at all. Interrupts off.
// The mark goes first: whoever gives us a new deadline stores it, then looks
// at the mark, and sends an IPI if we might not have seen it.
//
// IRQL:    any level
void ki_arm_clock(KPRCB *prcb)
{
    uint64_t before = __atomic_exchange_n(&prcb->clock_deadline, KI_FOREVER,
                                          __ATOMIC_SEQ_CST);
    uint64_t next = MIN(prcb->quantum_deadline, prcb->poke_deadline);
    uint64_t expiry = next_expiry(prcb);
    next = MIN(next, expiry);
    if (next == before)
        prcb->clock_deadline = before;
    else if (next == KI_FOREVER)
        hal_disarm_timer();
    else
        ki_clock_at_latest(prcb, next);
}

// Reminds the processors whose DPCs still wait.
static void run_pokes(KPRCB *prcb)
{
    for (uint32_t mask = prcb->poke_mask; mask; mask &= mask - 1) {
        KPRCB *target = ki_processor[__builtin_ctz(mask)];
        if (target->dpc.depth == 0)
            continue;
        if (target == prcb)
            prcb->dpc_requested = true;
        else
            hal_send_ipi(target->apic_id, HAL_VECTOR_DPC);
    }
    prcb->poke_mask = 0;
    prcb->poke_deadline = KI_FOREVER;
}

// The one-shot came: notes what is due, and arms for what is next.
//
// IRQL:    == CLOCK_LEVEL
void ki_clock_interrupt(KPRCB *prcb)
{
    ASSERT_IRQL(==, CLOCK_LEVEL);
    uint64_t now = hal_read_tsc();
    prcb->clock_deadline = KI_FOREVER;
    if (prcb->quantum_deadline <= now) {
        prcb->quantum_deadline = KI_FOREVER;
        prcb->quantum_expired = true;
        prcb->reschedule = true;
    }
    if (prcb->poke_deadline <= now)
        run_pokes(prcb);
    if (next_expiry(prcb) <= now)
        prcb->timer_expired = true;
    if (!prcb->timer_expired)    // else when the expired ones are gone
        ki_arm_clock(prcb);
}

// Remembers that a processor has a DPC that may wait, but not for ever.
// Interrupts off.
//
// IRQL:    any level
void ki_poke_later(KPRCB *prcb, uint32_t processor)
{
    prcb->poke_mask |= 1u << processor;
    if (prcb->poke_deadline == KI_FOREVER) {
        prcb->poke_deadline = hal_read_tsc() + hal_100ns_to_tsc(POKE_DELAY);
        ki_clock_at_latest(prcb, prcb->poke_deadline);
    }
}

// A drain took this processor's own ones along. Interrupts off.
//
// IRQL:    any level
void ki_forget_pokes(KPRCB *prcb)
{
    prcb->poke_mask &= ~(1u << prcb->Number);
    if (!prcb->poke_mask)
        prcb->poke_deadline = KI_FOREVER;
}

// ---- Watchdogs ------------------------------------------------------------

// Registers a device's time-out (zeroed) for ever; see interrupt.h. Its
// processor is the DPC's target, or the boot processor.
//
// IRQL:    == PASSIVE_LEVEL
void ke_register_watchdog(ki_watchdog *watchdog, uint64_t timeout_100ns,
                          KDPC *dpc)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    watchdog->timeout = hal_100ns_to_tsc(timeout_100ns);
    watchdog->dpc = dpc;
    watchdog->processor = dpc->Number ? dpc->Number - 1u : 0;
    KPRCB *prcb = ki_processor[watchdog->processor];
    watchdog->next = prcb->watchdogs;
    __atomic_store_n(&prcb->watchdogs, watchdog, __ATOMIC_RELEASE);
}

// A request begins, or the next one follows, and is the oldest: makes sure that
// the clock comes in time even if its processor never goes idle, or already
// has.
//
// IRQL:    <= DISPATCH_LEVEL
void ke_watchdog_progress(ki_watchdog *watchdog)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    ke_watchdog_note(watchdog, hal_read_tsc());
    if (!watchdog->busy)    // seen before we look at the mark: ki_arm_clock
        __atomic_store_n(&watchdog->busy, true, __ATOMIC_SEQ_CST);
    KPRCB *owner = ki_processor[watchdog->processor];
    if (owner->clock_deadline <= deadline(watchdog))
        return;
    uint64_t flags = ki_disable_interrupts();
    if (owner == KeGetCurrentPrcb())
        ki_clock_at_latest(owner, deadline(watchdog));
    else
        hal_send_ipi(owner->apic_id, HAL_VECTOR_IPI);
    ki_restore_interrupts(flags);
}

// If this comes late, by a small part of the period, the machine may have stood
// still (its QEMU was suspended), and its devices, too: they get one more. Only
// one: on a host that always lets us come late, time-outs come all the same.
static void expire_watchdogs(const KPRCB *prcb, uint64_t now)
{
    for (ki_watchdog *w = prcb->watchdogs; w; w = w->next) {
        uint64_t due = deadline(w);
        if (due > now)
            continue;
        ke_watchdog_note(w, now);    // once a period, until it is served
        if (now - due < w->timeout / 64 || due == w->excused)
            KeInsertQueueDpc(w->dpc, NULL, NULL);
        else
            w->excused = w->due;
    }
}

// ---- Timers ---------------------------------------------------------------

// Prepares a timer.
//
// IRQL:    any level
// NT:      KeInitializeTimerEx (WDK).
void KeInitializeTimerEx(KTIMER *timer, TIMER_TYPE type)
{
    _Static_assert(TimerSynchronizationObject - TimerNotificationObject ==
                   (int)SynchronizationTimer, "NT numbers both alike");
    memset(timer, 0, sizeof(*timer));
    ki_initialize_header(&timer->Header, TimerNotificationObject + type, 0);
}

// The clock's interrupt and idle look at this instead of the heap.
static void note_first(KPRCB *prcb)
{
    const rtl_heap_node *first = prcb->timers.root;
    prcb->timer_deadline = first ? hal_100ns_to_tsc(first->key) : KI_FOREVER;
}

// Puts a timer into this processor's heap. due: 100 ns since boot.
//
// IRQL:    == DISPATCH_LEVEL
void ki_insert_timer(KTIMER *timer, uint64_t due)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    KPRCB *prcb = KeGetCurrentPrcb();
    timer->node.key = due;
    timer->processor = (uint8_t)prcb->Number;
    timer->Header.Inserted = true;
    rtl_heap_insert(&prcb->timers, &timer->node);
    if (prcb->timers.root != &timer->node)
        return;
    note_first(prcb);
    uint64_t flags = ki_disable_interrupts();
    ki_clock_at_latest(prcb, MAX(prcb->timer_deadline, prcb->timer_rest));
    ki_restore_interrupts(flags);
}

// Takes a timer out of its heap. A processor that sleeps until this one was
// due would wake for nothing then: it looks at its clock again now.
//
// IRQL:    == DISPATCH_LEVEL
// Returns: whether it was in one
bool ki_remove_timer(KTIMER *timer)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    if (!timer->Header.Inserted)
        return false;
    KPRCB *prcb = ki_processor[timer->processor];
    bool first = prcb->timers.root == &timer->node;
    rtl_heap_remove(&prcb->timers, &timer->node);
    timer->Header.Inserted = false;
    if (first)
        note_first(prcb);
    if (first && prcb->halted_since && prcb != KeGetCurrentPrcb())
        hal_send_ipi(prcb->apic_id, HAL_VECTOR_IPI);
    return true;
}

static void expire_timer(KTIMER *timer, uint64_t now)
{
    ki_remove_timer(timer);
    if (!timer->Header.SignalState) {    // else who waits lacks something else
        timer->Header.SignalState = 1;
        ki_signal(&timer->Header, IO_NO_INCREMENT);
    }
    if (timer->Period) {
        uint64_t due = timer->node.key + (uint64_t)timer->Period * UNITS_PER_MS;
        ki_insert_timer(timer, MAX(due, now));
    }
    if (timer->Dpc)
        KeInsertQueueDpc(timer->Dpc, NULL, NULL);
    if (timer->apc) {    // its routine gets the time in two halves
        uint64_t time = (uint64_t)ke_query_system_time();
        ki_insert_apc(timer->apc, (void *)(time & UINT32_MAX),
                      (void *)(time >> 32), EVENT_INCREMENT, DISPATCH_LEVEL);
    }
}

// Signals all timers of this processor that are due, waiters first, then each
// one's DPC and APC (TMR-02); part of the drain, most of which have none: so
// that is spared the registers.
//
// IRQL:    == DISPATCH_LEVEL
DECLSPEC_NOINLINE void ki_expire_timers(KPRCB *prcb)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    KeAcquireSpinLockAtDpcLevel(&ki_dispatcher_lock);
    uint64_t now = KeQueryInterruptTime();
    while (prcb->timers.root && prcb->timers.root->key <= now)
        expire_timer(CONTAINING_RECORD(prcb->timers.root, KTIMER, node), now);
    KeReleaseSpinLockFromDpcLevel(&ki_dispatcher_lock);
    expire_watchdogs(prcb, hal_read_tsc());
    uint64_t flags = ki_disable_interrupts();
    ki_arm_clock(prcb);
    ki_restore_interrupts(flags);
}

// Sets a timer; one that is set already is replaced (TMR-01).
// due: 100 ns; negative: from now; else system time, perhaps past.
// period_ms: 0 for once.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: whether it was set already
// NT:      KeSetTimerEx (WDK).
bool KeSetTimerEx(KTIMER *timer, int64_t due, uint32_t period_ms, KDPC *dpc)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KIRQL old = ki_lock_dispatcher();
    bool was_set = ki_remove_timer(timer);
    timer->Header.SignalState = 0;
    timer->Period = period_ms;
    timer->Dpc = dpc;
    uint64_t at = ki_due_time(&due);
    ki_insert_timer(timer, at ? at : KeQueryInterruptTime());
    if (at == 0) {    // past: expires before we are below DISPATCH again
        KPRCB *prcb = KeGetCurrentPrcb();
        prcb->timer_expired = true;
        prcb->dpc_requested = true;
        if (old >= DISPATCH_LEVEL)
            ki_interrupt_self(prcb, HAL_VECTOR_DPC);
    }
    ki_unlock_dispatcher(old);
    return was_set;
}

// Takes a timer back: it will not become signalled (TMR-04).
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: whether it was set
// NT:      KeCancelTimer (WDK).
bool KeCancelTimer(KTIMER *timer)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KIRQL old = ki_lock_dispatcher();
    bool was_set = ki_remove_timer(timer);
    ki_unlock_dispatcher(old);
    return was_set;
}
