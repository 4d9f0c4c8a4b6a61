// words_test.c - the kernel command line, word by word, and its numbers.
//
// link: kernel/rtl/words.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kernel/rtl/rtl.h"

#define WORD 64

// Fails unless line holds exactly these words; the last one is NULL.
static void assert_words(const char *line, const char *const *expected)
{
    char word[WORD];
    const char *rest = line;
    while (rtl_next_word(&rest, word, sizeof(word))) {
        assert_non_null(*expected);
        assert_string_equal(word, *expected++);
    }
    assert_null(*expected);
    assert_string_equal(word, "");
    assert_false(rtl_next_word(&rest, word, sizeof(word)));
}

#define WORDS(line, ...) \
    assert_words(line, (const char *[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })

static void blanks_separate(void **state)
{
    (void)state;
    WORDS("");
    WORDS(" \t ");
    WORDS("a", "a");
    WORDS("  port=direct\t\tseed=1  ", "port=direct", "seed=1");
}

static void quotes_group(void **state)
{
    (void)state;
    WORDS("\"a b\" c", "a b", "c");
    WORDS("x\"a b\"y", "xa by");
    WORDS("\"\" a", "", "a");
    WORDS("a \"\"", "a", "");
    WORDS("\"open end ", "open end ");
    WORDS("it's", "it's");
}

static void three_escapes_and_no_more(void **state)
{
    (void)state;
    WORDS("a\\\\b", "a\\b");
    WORDS("\\\"a b\\\"", "\"a", "b\"");
    WORDS("it\\'s", "it's");
    WORDS("\"a\\\"b c\"", "a\"b c");
    WORDS("B:\\files\\my.txt", "B:\\files\\my.txt");
    WORDS("end\\", "end\\");
    WORDS("\\", "\\");
    WORDS("a\\ b", "a\\", "b");
}

static void a_long_word_is_cut(void **state)
{
    (void)state;
    char word[8];
    const char *rest = "abcdefghijkl next";
    memset(word, '#', sizeof(word));
    assert_true(rtl_next_word(&rest, word, 4));
    assert_string_equal(word, "abc");
    assert_int_equal(word[4], '#');
    assert_true(rtl_next_word(&rest, word, sizeof(word)));
    assert_string_equal(word, "next");
    rest = "x";
    assert_true(rtl_next_word(&rest, word, 1));
    assert_string_equal(word, "");
}

static void numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool valid;
        uint64_t value;
    } cases[] = {
        { "0", true, 0 },
        { "42", true, 42 },
        { "007", true, 7 },
        { "0x10", true, 16 },
        { "0XaBcD", true, 0xabcd },
        { "18446744073709551615", true, UINT64_MAX },
        { "18446744073709551616", false, 0 },
        { "0xffffffffffffffff", true, UINT64_MAX },
        { "0x10000000000000000", false, 0 },
        { "99999999999999999999", false, 0 },
        { "", false, 0 },
        { "0x", false, 0 },
        { "x10", false, 0 },
        { "-1", false, 0 },
        { "1a", false, 0 },
        { "0xg", false, 0 },
        { " 1", false, 0 },
        { "1 ", false, 0 },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t value = 0;
        bool valid = rtl_parse_number(cases[i].text, &value);
        if (valid != cases[i].valid || value != cases[i].value)
            fail_msg("\"%s\" gave %d, %#llx", cases[i].text, valid,
                     (unsigned long long)value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blanks_separate),
        cmocka_unit_test(quotes_group),
        cmocka_unit_test(three_escapes_and_no_more),
        cmocka_unit_test(a_long_word_is_cut),
        cmocka_unit_test(numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
