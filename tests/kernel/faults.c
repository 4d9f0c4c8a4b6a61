// faults.c - a layer of faults between a device's vector and its ISRs: some
// interrupts get lost, some come twice, as a seed decides.
//
// The linker puts it in front of ki_dispatch_device in the checked kernel
// (--wrap in the Makefile). It does nothing until a test asks for faults.

#include "tests/kernel/faults.h"

volatile ktest_faults ktest_fault;

void ki_dispatch_device(uint32_t vector);
void __real_ki_dispatch_device(uint32_t vector);
void __wrap_ki_dispatch_device(uint32_t vector);

// One in `most`; 0: never.
static bool draw(uint32_t most)
{
    uint64_t state = ktest_fault.state;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    ktest_fault.state = state;
    return most && state % most == 0;
}

void __wrap_ki_dispatch_device(uint32_t vector)
{
    bool chosen = KeGetCurrentIrql() == ktest_fault.irql;
    if (chosen)
        ktest_fault.vector = vector;
    if (chosen && draw(ktest_fault.lose)) {
        ktest_fault.lost++;
        hal_end_of_interrupt();
        return;
    }
    __real_ki_dispatch_device(vector);
    if (chosen && draw(ktest_fault.repeat)) {
        ktest_fault.repeated++;
        __real_ki_dispatch_device(vector);
    }
}
