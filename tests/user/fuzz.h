// fuzz.h - what the fuzzer and its workers have in common.

#ifndef TINT_TESTS_USER_FUZZ_H
#define TINT_TESTS_USER_FUZZ_H

#include "tests/user/ktap.h"

// A worker reports so many calls in one packet: a byte each, the service's
// number and, above it, whether it succeeded. The packet's status says whose.
#define FUZZ_BATCH 8u
#define FUZZ_GOOD  0x80u

_Static_assert(NT_SERVICE_COUNT < FUZZ_GOOD, "a byte says which");

#endif
