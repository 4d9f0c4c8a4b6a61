// format_test.c - ring 3's printf, beside the C library's.
//
// link: user/lib/format.c kernel/rtl/string.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "user/lib/format.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static void append(void *context, const char *text, size_t length)
{
    strncat(context, text, length);
}

static void same(const char *format, ...)
{
    char expected[200], found[200] = "";
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(expected, sizeof(expected), format, arguments);
    assert_int_equal(rtl_format(append, found, format, again), length);
    assert_string_equal(found, expected);
    va_end(again);
    va_end(arguments);
}

static void fractions(void **state)
{
    (void)state;
    static const double values[] = {
        0.0, -0.0, 0.005, 0.05, 0.5, 1.5, 2.5, 0.25, 0.125, 0.375, 1.005,
        2.675, 0.9999999995, 999.9995, 1e-9, 5e-10, 4.9e-10, 1e-300,
        DBL_TRUE_MIN, DBL_MIN, 1e15 + 0.5, 123456789.987654321, 9.1e18, 1e-28,
    };
    for (size_t i = 0; i < COUNT(values); i++)
        for (int precision = 0; precision <= 9; precision++) {
            same("%.*f", precision, values[i]);
            same("%+012.*f|", precision, -values[i]);
        }
    srand48(1);
    for (int i = 0; i < 20000; i++) {
        double value = drand48() * (double)(1 << i % 20);
        same("%.*f", i % 10, value);
        same("%.2f", (double)(i - 10000) / 200);    // many a tie, or nearly
    }
}

static void words(void **state)
{
    (void)state;
    static const char *const flags[] = { "", "-", "+", " ", "0", "#", "-#" };
    static const char *const kinds[] = { "d", "u", "x", "X", "o", "ld", "lx" };
    for (size_t f = 0; f < COUNT(flags); f++)
        for (size_t k = 0; k < COUNT(kinds); k++) {
            char format[32];
            snprintf(format, sizeof(format), "%%%s12.3%s|%%%s%s", flags[f],
                     kinds[k], flags[f], kinds[k]);
            for (long n = -5000; n < 5000; n += 711)
                same(format, n, n);
            same(format, 0L, 0L);
        }
    same("%s|%.3s|%-9s|%9s|%c|%%", "one", "three", "left", "right", 'x');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fractions),
        cmocka_unit_test(words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
