// assert.h - bugchecks and assertions; free for every file of the kernel.
//
// The checked build (DBG) stops at a broken assertion with the line that
// broke; the free build does not even evaluate it.

#pragma once

#include "kernel/nt.h"

// Bugcheck codes, Windows' own: X(name, code, the broken rule of
// docs/NT-SEMANTICS.md if it is always the same).
#define BUGCHECK_CODES(X)                              \
    X(REFERENCE_BY_POINTER, 0x18, "")                  \
    X(KMODE_EXCEPTION_NOT_HANDLED, 0x1E, "")           \
    X(PHASE1_INITIALIZATION_FAILED, 0x32, "")          \
    X(NO_MORE_IRP_STACK_LOCATIONS, 0x35, "IRP-01")     \
    X(MULTIPLE_IRP_COMPLETE_REQUESTS, 0x44, "IRP-07")  \
    X(CANCEL_STATE_IN_COMPLETED_IRP, 0x48, "CAN-10")   \
    X(PAGE_FAULT_IN_NONPAGED_AREA, 0x50, "")           \
    X(UNEXPECTED_KERNEL_MODE_TRAP, 0x7F, "")           \
    X(NMI_HARDWARE_FAILURE, 0x80, "")                  \
    X(MACHINE_CHECK_EXCEPTION, 0x9C, "")               \
    X(BAD_POOL_CALLER, 0xC2, "")                       \
    X(STATUS_ASSERTION_FAILURE_CODE, 0xC0000420u, "")

#define BUGCHECK_ENUM(name, code, rule) name = code,
enum { BUGCHECK_CODES(BUGCHECK_ENUM) };

// Stops the machine: prints the code, its four parameters, the registers and
// the backtrace, and leaves QEMU.
_Noreturn void KeBugCheckEx(uint32_t code, uintptr_t parameter1,
                            uintptr_t parameter2, uintptr_t parameter3,
                            uintptr_t parameter4);

// What it shall say beyond its parameters, or NULL; set just before.
extern const char *ke_bugcheck_note;

static inline KIRQL KeGetCurrentIrql(void)
{
    uint64_t irql;
    __asm__ volatile("mov %%cr8, %0" : "=r"(irql));
    if (irql > 15)    // it has four bits
        __builtin_unreachable();
    return (KIRQL)irql;
}

#if DBG
// The same, with the text of an assertion (tests/kernel/verify.c).
_Noreturn void ke_assertion_failed(const char *expression, const char *file,
                                   uint32_t line);
#define ASSERT_TEXT(condition, text) \
    ((condition) ? (void)0 : ke_assertion_failed(text, __FILE__, __LINE__))
// The checked kernel notes the spin locks that each processor takes and holds.
void ke_note_spin_lock(KSPIN_LOCK *lock, bool taken);
#else
#define ASSERT_TEXT(condition, text) ((void)sizeof(!(condition)))
#define ke_note_spin_lock(lock, taken) ((void)0)
#endif

#define ASSERT(condition) ASSERT_TEXT(condition, #condition)
// For what a rule of docs/NT-SEMANTICS.md calls fatal: names it.
#define ASSERT_RULE(rule, condition) \
    ASSERT_TEXT(condition, rule ": " #condition)

// The twin of a docstring's "IRQL:" line.
#define ASSERT_IRQL(relation, level) ASSERT(KeGetCurrentIrql() relation (level))
#define ASSERT_IRQL_RULE(rule, relation, level) \
    ASSERT_RULE(rule, KeGetCurrentIrql() relation (level))
