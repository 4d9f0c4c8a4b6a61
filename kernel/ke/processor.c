// processor.c - the other processors: their start, and what one asks of them.
//
// Two questions go to a processor by HAL_VECTOR_IPI: "forget these pages" and
// "look at your clock again". The first is answered before the one who asks
// goes on. It waits at DISPATCH_LEVEL with interrupts on and holds nothing but
// flush.lock; whoever waits for that lock answers meanwhile. So two processors
// that ask each other at once both get their answers. One that is halted is not
// woken: it forgets all that it knows when it wakes.

#include "kernel/ke/kep.h"

static struct {
    KSPIN_LOCK lock;             // one question at a time
    const char *address;
    uint64_t pages;
    volatile uint32_t pending;   // who has not answered
} flush;

static volatile bool decided;    // it came, or is given up: who sets it first
static KEVENT started;

const size_t ke_processor_size = sizeof(ki_processor_block);

static void flush_here(const char *page, uint64_t pages)
{
    enum { FLUSH_ALL_ABOVE = 64 };
    if (pages > FLUSH_ALL_ABOVE)
        ki_flush_whole_tlb();
    else
        for (; pages; pages--, page += PAGE_SIZE)
            __asm__ volatile("invlpg (%0)" ::"r"(page) : "memory");
}

// True if a processor is halted and will flush when it wakes. We leave word,
// then look again; it says that it is awake, then looks for word (ki_wake_up):
// either it is still halted now, or it gets an IPI that it did not need.
static bool flushes_later(KPRCB *prcb)
{
    if (!prcb->halted_since)
        return false;
    __atomic_store_n(&prcb->tlb_stale, true, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&prcb->halted_since, __ATOMIC_SEQ_CST) != 0;
}

// The first interrupt after hlt; interrupts are off.
//
// IRQL:    any level
void ki_wake_up(KPRCB *prcb)
{
    prcb->halted_time += hal_read_tsc() - prcb->halted_since;
    __atomic_store_n(&prcb->halted_since, 0, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&prcb->tlb_stale, __ATOMIC_SEQ_CST)) {
        prcb->tlb_stale = false;
        ki_flush_whole_tlb();
    }
}

// Drops the TLB entries of pages pages from address on: here, and on the
// processors in the mask.
//
// IRQL:    <= DISPATCH_LEVEL, no spin lock held
void ke_flush_tlb(uint32_t processors, const void *address, uint64_t pages)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    KIRQL old = KeRaiseIrqlToDpcLevel();
    flush_here(address, pages);
    processors &= ~(1u << KeGetCurrentProcessorNumber());
    for (uint32_t mask = processors; mask; mask &= mask - 1)
        if (flushes_later(ki_processor[__builtin_ctz(mask)]))
            processors &= ~(mask & -mask);
    if (processors) {
        KeAcquireSpinLockAtDpcLevel(&flush.lock);
        flush.address = address;
        flush.pages = pages;
        __atomic_store_n(&flush.pending, processors, __ATOMIC_RELEASE);
        for (; processors; processors &= processors - 1)
            hal_send_ipi(ki_processor[__builtin_ctz(processors)]->apic_id,
                         HAL_VECTOR_IPI);
        while (flush.pending)
            __builtin_ia32_pause();
        KeReleaseSpinLockFromDpcLevel(&flush.lock);
    }
    KeLowerIrql(old);
}

// From HAL_VECTOR_IPI, interrupts off.
//
// IRQL:    == IPI_LEVEL
void ki_answer_ipi(KPRCB *prcb)
{
    ASSERT_IRQL(==, IPI_LEVEL);
    uint32_t me = 1u << prcb->Number;
    if (__atomic_load_n(&flush.pending, __ATOMIC_ACQUIRE) & me) {
        flush_here(flush.address, flush.pages);
        __atomic_and_fetch(&flush.pending, ~me, __ATOMIC_RELEASE);
    }
    ki_arm_clock(prcb);
}

// ---- Start ----------------------------------------------------------------

// The first of a processor's own C, from boot/second.asm: interrupts off, on
// the stack that its idle thread keeps. A latecomer that nobody waits for any
// more sleeps for ever.
//
// IRQL:    any level (PASSIVE, before there are any)
void ke_enter_processor(KPRCB *prcb)
{
    if (__atomic_exchange_n(&decided, true, __ATOMIC_SEQ_CST))
        ki_stop_processor();
    ki_load_processor(prcb);
    ke_init_features();
    KI_WRITE_CR(3, prcb->idle_thread->attached->DirectoryTableBase);
    hal_init_lapic();
    KeSetEvent(&started, IO_NO_INCREMENT);
    ke_idle();
}

// Starts a prepared processor, which comes to ke_enter_processor by the code at
// the physical address page, and waits until it is there. One at a time. It
// counts from then on.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: false if it did not come; it will not do so later either
bool ke_start_processor(KPRCB *prcb, uint32_t page)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);
    // Intel SDM 3, "MP Initialization": 10 ms between INIT and start-up.
    const int64_t pause = -10 * 10000, patience = -10 * 10000000ll;
    decided = false;
    KeInitializeEvent(&started, NotificationEvent, false);
    hal_send_ipi(prcb->apic_id, HAL_IPI_INIT);
    KeDelayExecutionThread(KernelMode, false, &pause);
    hal_send_ipi(prcb->apic_id, HAL_IPI_STARTUP | page >> PAGE_SHIFT);
    if (KeWaitForSingleObject(&started, Executive, KernelMode, false,
                              &patience) == STATUS_TIMEOUT &&
        !__atomic_exchange_n(&decided, true, __ATOMIC_SEQ_CST)) {
        hal_send_ipi(prcb->apic_id, HAL_IPI_INIT);    // it waits again
        return false;
    }
    KeWaitForSingleObject(&started, Executive, KernelMode, false, NULL);
    KeNumberProcessors++;
    return true;
}

// Halts for good; an NMI, which stops processors for a bugcheck, changes
// nothing about that.
//
// IRQL:    any level
void ki_stop_processor(void)
{
    for (;;)
        __asm__ volatile("cli; hlt");
}
