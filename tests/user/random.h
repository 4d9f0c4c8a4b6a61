// random.h - random numbers that a seed decides: splitmix64.

#ifndef TINT_TESTS_USER_RANDOM_H
#define TINT_TESTS_USER_RANDOM_H

#include <stdint.h>

__attribute__((unused)) static uint64_t random_from(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
}

#endif
