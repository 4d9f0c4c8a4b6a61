// print_test.c - printing: every conversion, flag and length, and what is cut.
//
// link: kernel/rtl/print.c kernel/rtl/string.c

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernel/rtl/rtl.h"

enum {
    TEXT = 128,
    ROUNDS = 20000,
    SEED = 20260101,
};

// Ours must say what the host's printf says, and return the same length.
#define SAME(...)                                                       \
    do {                                                                \
        char ours[TEXT], theirs[TEXT];                                  \
        int our_length = rtl_snprintf(ours, sizeof(ours), __VA_ARGS__); \
        int length = snprintf(theirs, sizeof(theirs), __VA_ARGS__);     \
        assert_string_equal(ours, theirs);                              \
        assert_int_equal(our_length, length);                           \
    } while (0)

static void text_and_percent(void **state)
{
    (void)state;
    SAME("%s", "");
    SAME("plain");
    SAME("100%% %s%c%s", "a", 'b', "c");
    SAME("[%5s] [%-5s] [%2s] [%s]", "abc", "abc", "abc", "abc");
    SAME("[%3c] [%-3c]", 'x', 'y');
}

static void decimal_numbers(void **state)
{
    (void)state;
    SAME("%d %i %u", 0, 0, 0u);
    SAME("%d %d %u", INT_MIN, INT_MAX, UINT_MAX);
    SAME("%ld %lld %lu", LONG_MIN, LLONG_MAX, ULONG_MAX);
    SAME("%zu %llu", SIZE_MAX, ULLONG_MAX);
    SAME("[%6d] [%-6d] [%06d] [%1d]", -42, -42, -42, -42);
}

static void hexadecimal_numbers(void **state)
{
    (void)state;
    SAME("%x %X %x", 0xdeadbeefu, 0xdeadbeefu, 0u);
    SAME("%lx %llX %zx", ULONG_MAX, 0x123456789abcdefull, (size_t)0xabc);
    SAME("[%8x] [%08x] [%-8x] [%02x]", 0xabcu, 0xabcu, 0xabcu, 0xabcu);
    SAME("%016llx", 0xffffffff80100000ull);
}

static void numbers_as_the_host_prints_them(void **state)
{
    (void)state;
    srand(SEED);
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t wide = 0;
        for (int n = 0; n < 4; n++)
            wide = wide << 16 ^ (uint64_t)rand();
        wide >>= rand() % 64;
        SAME("%lld %llu %llx %llX", (long long)wide, (unsigned long long)wide,
             (unsigned long long)wide, (unsigned long long)wide);
        SAME("%d %u %x", (int)wide, (unsigned)wide, (unsigned)wide);
    }
}

static void pointers_have_sixteen_digits(void **state)
{
    (void)state;
    char text[TEXT];
    rtl_snprintf(text, sizeof(text), "%p", (void *)0xffffffff80100abcull);
    assert_string_equal(text, "FFFFFFFF80100ABC");
    rtl_snprintf(text, sizeof(text), "%p", NULL);
    assert_string_equal(text, "0000000000000000");
}

static void no_string_is_said_to_be_none(void **state)
{
    (void)state;
    char text[TEXT];
    const char *volatile none = NULL;
    assert_int_equal(rtl_snprintf(text, sizeof(text), "<%s>", none), 8);
    assert_string_equal(text, "<(null)>");
}

static void what_does_not_fit_is_cut(void **state)
{
    (void)state;
    const char *volatile format = "%s-%08x";    // the host's gcc sees the cut
    for (size_t size = 0; size < 24; size++) {
        char ours[32], theirs[32];
        memset(ours, '#', sizeof(ours));
        memset(theirs, '#', sizeof(theirs));
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        assert_int_equal(rtl_snprintf(ours, size, format, "abc", 0x1234u), 12);
        snprintf(theirs, size, format, "abc", 0x1234u);
#pragma GCC diagnostic pop
        assert_memory_equal(ours, theirs, size);
        for (size_t i = size; i < sizeof(ours); i++)
            assert_int_equal(ours[i], '#');
    }
    assert_int_equal(rtl_snprintf(NULL, 0, "%d", 12345), 5);
}

static void a_broken_format_does_no_harm(void **state)
{
    (void)state;
    char text[TEXT];
    const char *formats[] = { "%", "a%", "%-", "%08", "%l", "%5" };
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        const char *volatile format = formats[i];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-security"
        assert_in_range(rtl_snprintf(text, sizeof(text), format), 0, 2);
#pragma GCC diagnostic pop
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_and_percent),
        cmocka_unit_test(decimal_numbers),
        cmocka_unit_test(hexadecimal_numbers),
        cmocka_unit_test(numbers_as_the_host_prints_them),
        cmocka_unit_test(pointers_have_sixteen_digits),
        cmocka_unit_test(no_string_is_said_to_be_none),
        cmocka_unit_test(what_does_not_fit_is_cut),
        cmocka_unit_test(a_broken_format_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
