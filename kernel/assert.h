// assert.h - bugchecks and assertions; free for every file of the kernel.
//
// The checked build (DBG) stops at a broken assertion with the line that
// broke; the free build does not even evaluate it.

#ifndef TINT_ASSERT_H
#define TINT_ASSERT_H

#include "kernel/nt.h"

// Bugcheck codes, Windows' own.
enum {
    IRQL_NOT_LESS_OR_EQUAL = 0x0A,
    PHASE1_INITIALIZATION_FAILED = 0x32,
    MULTIPLE_IRP_COMPLETE_REQUESTS = 0x44,
    CANCEL_STATE_IN_COMPLETED_IRP = 0x48,
    KMODE_EXCEPTION_NOT_HANDLED = 0x1E,
    NO_MORE_IRP_STACK_LOCATIONS = 0x35,
    PAGE_FAULT_IN_NONPAGED_AREA = 0x50,
    UNEXPECTED_KERNEL_MODE_TRAP = 0x7F,
    NMI_HARDWARE_FAILURE = 0x80,
    MACHINE_CHECK_EXCEPTION = 0x9C,
    BAD_POOL_CALLER = 0xC2,
    DRIVER_IRQL_VIOLATION = 0xC4,
    MANUALLY_INITIATED_CRASH = 0xE2,
    REFERENCE_BY_POINTER = 0x18,
    INVALID_DATA_ACCESS_TRAP = 0x04,
    ASSERTION_FAILED = 0xC0000420u,    // STATUS_ASSERTION_FAILURE
};

// Stops the machine: prints the code, its four parameters, the registers and
// the backtrace, and leaves QEMU.
_Noreturn void KeBugCheckEx(uint32_t code, uintptr_t parameter1,
                            uintptr_t parameter2, uintptr_t parameter3,
                            uintptr_t parameter4);

// The same, with the text of an assertion. expression, file: static strings.
_Noreturn void ke_assertion_failed(const char *expression, const char *file,
                                   uint32_t line);

static inline KIRQL KeGetCurrentIrql(void)
{
    uint64_t irql;
    __asm__ volatile("mov %%cr8, %0" : "=r"(irql));
    return (KIRQL)irql;
}

#if DBG
#define ASSERT(condition)                                          \
    ((condition) ? (void)0                                         \
                 : ke_assertion_failed(#condition, __FILE__, __LINE__))
#else
#define ASSERT(condition) ((void)sizeof(!(condition)))
#endif

// The twin of a docstring's "IRQL:" line.
#define ASSERT_IRQL(relation, level) ASSERT(KeGetCurrentIrql() relation (level))

#endif
