// string_test.c - memory blocks and strings, against the host's C library.
//
// link: kernel/rtl/string.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernel/rtl/rtl.h"

// The kernel's own four, as the host's build calls them.
void *tint_memcpy(void *to, const void *from, size_t n);
void *tint_memmove(void *to, const void *from, size_t n);
void *tint_memset(void *to, int value, size_t n);
int tint_memcmp(const void *a, const void *b, size_t n);

enum {
    ROUNDS = 20000,
    BLOCK = 96,    // more than a few words, so that all tails occur
    SEED = 20260101,
};

static void randomize(uint8_t *block)
{
    for (int i = 0; i < BLOCK; i++)
        block[i] = (uint8_t)rand();
}

static int sign(int n)
{
    return (n > 0) - (n < 0);
}

// Compares whole blocks, so that a byte too many is seen on either side.
static void copies_as_the_host_does(void **state)
{
    (void)state;
    srand(SEED);
    for (int i = 0; i < ROUNDS; i++) {
        uint8_t ours[BLOCK], theirs[BLOCK], from[BLOCK];
        randomize(ours);
        randomize(from);
        memcpy(theirs, ours, BLOCK);
        size_t at = (size_t)rand() % BLOCK;
        size_t n = (size_t)rand() % (BLOCK - at + 1);
        size_t source = (size_t)rand() % (BLOCK - n + 1);
        assert_ptr_equal(tint_memcpy(ours + at, from + source, n), ours + at);
        memcpy(theirs + at, from + source, n);
        assert_memory_equal(ours, theirs, BLOCK);
    }
}

static void moves_as_the_host_does(void **state)
{
    (void)state;
    srand(SEED);
    for (int i = 0; i < ROUNDS; i++) {
        uint8_t ours[BLOCK], theirs[BLOCK];
        randomize(ours);
        memcpy(theirs, ours, BLOCK);
        size_t n = (size_t)rand() % (BLOCK + 1);
        size_t to = (size_t)rand() % (BLOCK - n + 1);
        size_t from = (size_t)rand() % (BLOCK - n + 1);
        assert_ptr_equal(tint_memmove(ours + to, ours + from, n), ours + to);
        memmove(theirs + to, theirs + from, n);
        assert_memory_equal(ours, theirs, BLOCK);
    }
}

static void sets_as_the_host_does(void **state)
{
    (void)state;
    srand(SEED);
    for (int i = 0; i < ROUNDS; i++) {
        uint8_t ours[BLOCK], theirs[BLOCK];
        randomize(ours);
        memcpy(theirs, ours, BLOCK);
        size_t at = (size_t)rand() % BLOCK;
        size_t n = (size_t)rand() % (BLOCK - at + 1);
        int value = rand() - RAND_MAX / 2;
        assert_ptr_equal(tint_memset(ours + at, value, n), ours + at);
        memset(theirs + at, value, n);
        assert_memory_equal(ours, theirs, BLOCK);
    }
}

static void compares_as_the_host_does(void **state)
{
    (void)state;
    srand(SEED);
    for (int i = 0; i < ROUNDS; i++) {
        uint8_t a[BLOCK], b[BLOCK];
        randomize(a);
        memcpy(b, a, BLOCK);
        if (rand() % 4)
            b[rand() % BLOCK] = (uint8_t)rand();
        size_t n = (size_t)rand() % (BLOCK + 1);
        assert_int_equal(sign(tint_memcmp(a, b, n)), sign(memcmp(a, b, n)));
    }
}

static void lengths(void **state)
{
    (void)state;
    assert_int_equal(rtl_strlen(""), 0);
    assert_int_equal(rtl_strlen("a"), 1);
    assert_int_equal(rtl_strlen("nothread"), 8);
}

static void names_ignore_case(void **state)
{
    (void)state;
    assert_true(rtl_same_name("PhysicalDrive0", "PHYSICALDRIVE0", 14));
    assert_true(rtl_same_name("pipe\\a", "PIPE\\b", 5));
    assert_false(rtl_same_name("pipe\\a", "PIPE\\b", 6));
    assert_true(rtl_same_name("a", "A", 100));
    assert_false(rtl_same_name("a", "ab", 2));
    assert_true(rtl_same_name("x", "y", 0));
    // Only letters have a case: these differ in the same bit.
    assert_false(rtl_same_name("@", "`", 1));
    assert_false(rtl_same_name("[", "{", 1));
}

static void copied_strings_always_end(void **state)
{
    (void)state;
    char to[8];
    memset(to, '#', sizeof(to));
    rtl_strcpy(to, "abc", 6);
    assert_string_equal(to, "abc");
    assert_int_equal(to[6], '#');
    rtl_strcpy(to, "abcdef", 4);
    assert_string_equal(to, "abc");
    rtl_strcpy(to, "abcdef", 1);
    assert_string_equal(to, "");
    rtl_strcpy(to, "abcdefg", sizeof(to));
    assert_string_equal(to, "abcdefg");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_as_the_host_does),
        cmocka_unit_test(moves_as_the_host_does),
        cmocka_unit_test(sets_as_the_host_does),
        cmocka_unit_test(compares_as_the_host_does),
        cmocka_unit_test(lengths),
        cmocka_unit_test(names_ignore_case),
        cmocka_unit_test(copied_strings_always_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
