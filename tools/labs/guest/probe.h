// probe.h - how the guest's half of a grader does what the other half says.
//
// The grader outside writes a script into probe_script, step by step what to
// call, and watches what the processors then do: it stops them, by breakpoints
// of QEMU, at probe_see and at every PROBE_ROUTINE, and reads their registers.
// Nothing here reports anything by itself.

#ifndef TINT_LABS_PROBE_H
#define TINT_LABS_PROBE_H

#include "tests/kernel/ktest.h"

enum { PROBE_STEPS = 512, PROBE_END = 0 };

typedef struct probe_step {
    uint64_t op;                 // PROBE_END ends the script, or a routine
    uint64_t a, b, c;
} probe_step;

extern probe_step probe_script[PROBE_STEPS];

// What probe_see may have seen.
enum { PROBE_READY = 1,          // for the next script
       PROBE_STEP,               // a step begins: its number
       PROBE_RESULT,             // of a step: its number, what it returned
       PROBE_EXIT,               // from a watched routine: whose
       PROBE_WOKE };             // a thread goes on: which, with what

void probe_see(uint64_t what, uint64_t a, uint64_t b, uint64_t c);

// Runs the steps from first on up to the next PROBE_END.
void probe_run(uint32_t first, void (*step)(uint32_t number,
                                            const probe_step *step));
// Waits for the grader's next script; false: that was all.
bool probe_next(void);

// Defines name, which is seen when it is called, and goes on to name##_seen.
#define PROBE_ROUTINE(name)                                  \
    __asm__(".pushsection .text\n.globl " #name "\n"         \
            ".type " #name ", @function\n"                   \
            #name ": nop\njmp " #name "_seen\n.popsection")

#endif
