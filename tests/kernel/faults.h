// faults.h - interrupts that get lost or come twice; see faults.c.

#ifndef TINT_TESTS_KERNEL_FAULTS_H
#define TINT_TESTS_KERNEL_FAULTS_H

#include "kernel/wdm.h"

typedef struct ktest_faults {
    KIRQL irql;                  // of the interrupts that it is about; 0: none
    uint32_t lose, repeat;       // one in so many; 0: none
    uint64_t state;              // of the random numbers; not 0
    uint32_t lost, repeated;     // so far
    uint8_t vector;              // of the newest
} ktest_faults;

extern volatile ktest_faults ktest_fault;

#endif
