// undefined.c - undefined behaviour, which must stop the checked kernel at the
// line that is marked; one boot each. tests/qemu/test_undefined.py knows what
// each must say.

#include "tests/kernel/ktest.h"

// The compiler must not see the values, or it would act on them.
static volatile int zero, one = 1, most = INT32_MAX, least = INT32_MIN,
                    many = 32;
static volatile uint8_t two = 2;
static volatile size_t far = 1ull << 62;
static IRP *volatile nobody;
static int table[4];

KTEST(undefined_overflow, "")
{
    most = most + one;                              // here
}

KTEST(undefined_difference, "")
{
    least = least - one;                            // here
}

KTEST(undefined_product, "")
{
    most = most * many;                             // here
}

KTEST(undefined_negation, "")
{
    most = -least;                                  // here
}

KTEST(undefined_division, "")
{
    most = one / zero;                              // here
}

KTEST(undefined_shift, "")
{
    most = one << many;                             // here
}

KTEST(undefined_index, "")
{
    EXPECT(table[many]);                            // here
}

KTEST(undefined_pointer, "")
{
    EXPECT((char *)table + far);                    // here
}

KTEST(undefined_null_member, "")
{
    EXPECT(nobody->Tail.DeviceQueueEntry.Inserted);    // here
}

KTEST(undefined_alignment, "")
{
    char *from = (char *)table + one;
    most = *(int *)(void *)from;                    // here
}

KTEST(undefined_bool, "")
{
    bool odd;
    memcpy(&odd, (const void *)&two, sizeof(odd));
    EXPECT(odd);                                    // here
}

KTEST(undefined_unreachable, "")
{
    if (one)
        __builtin_unreachable();                    // here
    EXPECT(zero);
}
