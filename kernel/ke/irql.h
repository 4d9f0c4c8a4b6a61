// irql.h - IRQL and spin locks: who may interrupt whom.
//
// IRQL is CR8. Raising and lowering are one instruction each; what was held
// back arrives by itself when CR8 falls, because requests made at DISPATCH or
// above are real self-IPIs.

#pragma once

#include "kernel/assert.h"
#include "kernel/nt.h"

static inline void ki_set_irql(KIRQL irql)
{
    __asm__ volatile("mov %0, %%cr8" ::"r"((uint64_t)irql) : "memory");
}

// A write to CR8 is dear where a hypervisor, or QEMU, has to look at it: one
// that would change nothing is left out.
static inline void KeRaiseIrql(KIRQL irql, KIRQL *old)
{
    *old = KeGetCurrentIrql();
    ASSERT_RULE("IRQL-03", irql >= *old && irql <= HIGH_LEVEL);
    if (irql != *old)
        ki_set_irql(irql);
}

static inline KIRQL KeRaiseIrqlToDpcLevel(void)
{
    KIRQL old;
    KeRaiseIrql(DISPATCH_LEVEL, &old);
    return old;
}

static inline void KeLowerIrql(KIRQL irql)
{
    ASSERT_RULE("IRQL-03", irql <= KeGetCurrentIrql());
    if (irql < DISPATCH_LEVEL || irql != KeGetCurrentIrql())
        ki_set_irql(irql);
}

// ---- Spin locks: held at DISPATCH_LEVEL, short ----------------------------

static inline void KeInitializeSpinLock(KSPIN_LOCK *lock)
{
    *lock = 0;
}

static inline void KeAcquireSpinLockAtDpcLevel(KSPIN_LOCK *lock)
{
    ke_note_spin_lock(lock, true);
    while (__builtin_expect(__atomic_fetch_or(lock, 1, __ATOMIC_ACQUIRE) & 1,
                            0))    // lock bts
        while (*lock)
            __builtin_ia32_pause();
}

static inline void KeReleaseSpinLockFromDpcLevel(KSPIN_LOCK *lock)
{
    ASSERT_RULE("IRQL-06", *lock);
    ke_note_spin_lock(lock, false);
    __atomic_store_n(lock, 0, __ATOMIC_RELEASE);
}

static inline KIRQL KeAcquireSpinLockRaiseToDpc(KSPIN_LOCK *lock)
{
    KIRQL old = KeRaiseIrqlToDpcLevel();
    KeAcquireSpinLockAtDpcLevel(lock);
    return old;
}

// The same as the WDK has it: a macro.
#define KeAcquireSpinLock(lock, old) \
    (*(old) = KeAcquireSpinLockRaiseToDpc(lock))

static inline void KeReleaseSpinLock(KSPIN_LOCK *lock, KIRQL old)
{
    KeReleaseSpinLockFromDpcLevel(lock);
    KeLowerIrql(old);
}

// ---- The interrupt flag, for the few leaves at HIGH -----------------------

static inline void ki_enable(void)
{
    __asm__ volatile("sti" ::: "memory");
}

static inline void ki_disable(void)
{
    __asm__ volatile("cli" ::: "memory");
}

// What is short under a spin lock may run with the interrupts off instead, at
// any level up to DISPATCH_LEVEL; afterwards they are on. Whoever holds it at
// DISPATCH_LEVEL meanwhile waits for nobody, so the spinning ends.
static inline void ki_lock_leaf(KSPIN_LOCK *lock)
{
    ki_disable();
    KeAcquireSpinLockAtDpcLevel(lock);
}

static inline void ki_unlock_leaf(KSPIN_LOCK *lock)
{
    KeReleaseSpinLockFromDpcLevel(lock);
    ki_enable();
}

static inline uint64_t ki_disable_interrupts(void)
{
    uint64_t flags;
    __asm__ volatile("pushfq; popq %0; cli" : "=r"(flags)::"memory");
    return flags;
}

static inline void ki_restore_interrupts(uint64_t flags)
{
    __asm__ volatile("pushq %0; popfq" ::"r"(flags) : "memory", "cc");
}

// ---- Control registers -----------------------------------------------------

#define KI_READ_CR(n)                                     \
    ({                                                    \
        uint64_t cr_value;                                \
        __asm__ volatile("mov %%cr" #n ", %0"             \
                         : "=r"(cr_value)::"memory");     \
        cr_value;                                         \
    })
#define KI_WRITE_CR(n, value) \
    __asm__ volatile("mov %0, %%cr" #n ::"r"((uint64_t)(value)) : "memory")
