// poolguard.h - what tests may ask the checked build's pool.

#ifndef TINT_TESTS_KERNEL_POOLGUARD_H
#define TINT_TESTS_KERNEL_POOLGUARD_H

#include "kernel/ex/ex.h"
#include "kernel/ke/ke.h"

// Whether a byte of the kernel's half can be read.
// IRQL: any level
static inline bool poolguard_can_read(const void *address)
{
    char byte;
    return (uintptr_t)address >= MM_DIRECT_MAP &&
           NT_SUCCESS(ki_copy_user(&byte, address, 1));
}

// Stops if any block was written to beside its body, or after it was freed.
// IRQL: <= DISPATCH_LEVEL
void poolguard_check(void);
// A number that grows with each allocation.
uint64_t poolguard_mark(void);
// Says a line for each owner (tag and callers) of live blocks that were
// allocated after this mark; 0: of all. One call at a time.
void poolguard_report(uint64_t mark, void (*say)(const char *line));

#endif
