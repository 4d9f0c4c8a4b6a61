// archive_test.c - the initrd's archive, whole and broken.
//
// Archives are built here, byte by byte, so that each field can be wrong.
// Broken ones lie at the end of their allocation: AddressSanitizer sees every
// step beyond it.
//
// link: drivers/initrd/archive.c kernel/rtl/string.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "drivers/initrd/initrd.h"

enum {
    BLOCK = 512,
    SIZE = 124,
    CHECKSUM = 148,
    TYPE = 156,
    MAGIC = 257,
    PREFIX = 345,
    SEEDS = 20000,
};

static void seal(uint8_t *header)
{
    unsigned sum = 0;
    memset(header + CHECKSUM, ' ', 8);
    for (int i = 0; i < BLOCK; i++)
        sum += header[i];
    snprintf((char *)header + CHECKSUM, 8, "%06o", sum);
}

static void put_header(uint8_t *header, const char *name, char type,
                       unsigned size)
{
    memset(header, 0, BLOCK);
    memcpy(header, name, strlen(name));
    snprintf((char *)header + SIZE, 12, "%011o", size);
    header[TYPE] = (uint8_t)type;
    memcpy(header + MAGIC, "ustar", 6);
    seal(header);
}

// A directory, a file of 600 bytes, a link, a file of 0, the end.
static uint8_t *make_archive(size_t *length)
{
    *length = 8 * BLOCK;
    uint8_t *archive = calloc(1, *length);
    assert_non_null(archive);
    put_header(archive, "./bin/", '5', 0);
    put_header(archive + BLOCK, "./bin/sh", '0', 600);
    memset(archive + 2 * BLOCK, 'x', 600);
    put_header(archive + 4 * BLOCK, "link", '2', 0);
    put_header(archive + 5 * BLOCK, "/empty", 0, 0);
    return archive;
}

// Walks an archive as the driver does; every byte of every entry is read.
static bool walk(const uint8_t *archive, size_t length, unsigned *entries)
{
    size_t at = 0;
    initrd_entry entry;
    volatile uint8_t sum = 0;
    *entries = 0;
    while (initrd_next_entry(archive, length, &at, &entry)) {
        ++*entries;
        assert_true(strlen(entry.name) < INITRD_MAX_NAME);
        for (uint64_t i = 0; i < entry.size; i++)
            sum = (uint8_t)(sum + entry.data[i]);
    }
    assert_true(at <= length);
    return at == length;
}

static void reads_entries(void **state)
{
    (void)state;
    size_t length, at = 0;
    uint8_t *archive = make_archive(&length);
    initrd_entry entry;
    assert_true(initrd_next_entry(archive, length, &at, &entry));
    assert_string_equal(entry.name, "bin");
    assert_true(entry.directory);
    assert_true(initrd_next_entry(archive, length, &at, &entry));
    assert_string_equal(entry.name, "bin/sh");
    assert_false(entry.directory);
    assert_int_equal(entry.size, 600);
    assert_ptr_equal(entry.data, archive + 2 * BLOCK);
    assert_true(initrd_next_entry(archive, length, &at, &entry));
    assert_string_equal(entry.name, "empty");
    assert_false(initrd_next_entry(archive, length, &at, &entry));
    assert_int_equal(at, length);
    free(archive);
}

static void cleans_names(void **state)
{
    (void)state;
    static const char *const names[][2] = {
        { "", "" },
        { "/", "" },
        { "\\\\", "" },
        { "./", "" },
        { "\\bin\\sh", "bin/sh" },
        { "bin/", "bin" },
        { ".\\a", "a" },
        { ".profile", ".profile" },
        { "a/./b", "a/./b" },
        { "././a//", "a" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        char to[INITRD_MAX_NAME];
        initrd_clean_name(to, names[i][0]);
        assert_string_equal(to, names[i][1]);
    }
}

static void refuses_damage(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        const char *bytes;
        bool reseal;
    } damage[] = {
        { 0, "B", false },    // checksum does not fit
        { MAGIC, "USTIR", true },
        { PREFIX, "usr", true },
        { SIZE, "00000009999", true },    // not octal
        { SIZE, "77777777777", true },    // beyond the end
        { SIZE, "00000007001", true },    // one byte beyond it
    };
    for (size_t i = 0; i < ARRAY_SIZE(damage); i++) {
        size_t length;
        unsigned entries;
        uint8_t *archive = make_archive(&length);
        memcpy(archive + damage[i].at, damage[i].bytes,
               strlen(damage[i].bytes));
        if (damage[i].reseal)
            seal(archive);
        if (walk(archive, length, &entries) || entries)
            fail_msg("damage %zu is not seen", i);
        free(archive);
    }
}

static void refuses_a_name_without_end(void **state)
{
    (void)state;
    size_t length;
    unsigned entries;
    uint8_t *archive = make_archive(&length);
    memset(archive, 'n', INITRD_MAX_NAME);
    seal(archive);
    assert_false(walk(archive, length, &entries));
    free(archive);
}

// Any length: an archive that is cut off is read to its end, or refused.
static void survives_cuts(void **state)
{
    (void)state;
    size_t length;
    unsigned entries;
    uint8_t *whole = make_archive(&length);
    for (size_t cut = 0; cut <= length; cut++) {
        uint8_t *archive = malloc(cut ? cut : 1);
        assert_non_null(archive);
        memcpy(archive, whole, cut);
        bool good = walk(archive, cut, &entries);
        bool in_data = cut >= 2 * BLOCK && cut < 2 * BLOCK + 600;
        assert_int_equal(good, !in_data);
        free(archive);
    }
    free(whole);
}

// Any bytes, with a checksum that fits: nothing outside is ever read.
static void survives_random_bytes(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= SEEDS; seed++) {
        size_t length;
        unsigned entries;
        srand(seed);
        uint8_t *archive = make_archive(&length);
        for (int n = rand() % 16; n >= 0; n--) {
            size_t block = (size_t)rand() % (length / BLOCK) * BLOCK;
            archive[block + (size_t)rand() % BLOCK] = (uint8_t)rand();
            if (rand() % 2)
                seal(archive + block);
        }
        walk(archive, length, &entries);
        free(archive);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_entries),
        cmocka_unit_test(cleans_names),
        cmocka_unit_test(refuses_damage),
        cmocka_unit_test(refuses_a_name_without_end),
        cmocka_unit_test(survives_cuts),
        cmocka_unit_test(survives_random_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
