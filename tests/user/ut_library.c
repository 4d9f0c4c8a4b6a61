// ut_library.c - what programs rest on: streams, memory, numbers, sorting.
// cpus: 1

#include "tests/user/ktap.h"

#include <limits.h>

#define NAME   "B:\\files\\README.md"
#define BLOCKS 200
#define COUNT  100

static uint32_t random_state = 12345;

static uint32_t next_random(uint32_t limit)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % limit;
}

// ---- Streams --------------------------------------------------------------

static void streams(void)
{
    static char start[3000];
    uint8_t *content;
    uint64_t length;
    CHECK_OK(nt_load_file(NAME, &content, &length));
    rule("what cannot be opened");
    CHECK(!fopen("B:\\no\\such", "r") && !fopen(NAME, "") &&
          !fopen(NAME, "x") && !fopen("B:\\bin", "r"));
    FILE *file = fopen(NAME, "r");
    if (!CHECK(file))
        return;
    rule("reading, the position, and the end");
    CHECK_EQ(fread(start, 1, sizeof(start), file), sizeof(start));
    CHECK(memcmp(start, content, sizeof(start)) == 0);
    CHECK_EQ(ftell(file), sizeof(start));
    CHECK_EQ(fseek(file, -1000, SEEK_CUR), 0);
    CHECK_EQ(fgetc(file), content[sizeof(start) - 1000]);
    CHECK(fseek(file, -5000, SEEK_CUR) != 0 && fseek(file, 0, 7) != 0);
    CHECK_EQ(ftell(file), sizeof(start) - 999);
    CHECK_EQ(fseek(file, 0, SEEK_END), 0);
    CHECK_EQ(ftell(file), length);
    CHECK(!feof(file) && fgetc(file) == EOF && feof(file));
    rewind(file);
    CHECK(fgets(start, 5, file) == start && strlen(start) == 4 &&
          memcmp(start, content, 4) == 0 && ftell(file) == 4);
    CHECK(fseek(file, 0, SEEK_END) == 0 && fgetc(file) == EOF);
    rule("a character is put back anywhere");
    CHECK(ungetc('x', file) == 'x' && !feof(file));
    CHECK(fgetc(file) == 'x' && fgetc(file) == EOF);
    rewind(file);
    CHECK(ungetc((char)0xC8, file) == 0xC8 && fgetc(file) == 0xC8);
    CHECK_EQ(fgetc(file), content[0]);
    CHECK(ungetc(content[0], file) == content[0] && ftell(file) == 0);
    rule("what has no size is nothing, and no error");
    CHECK(fwrite("a", 0, 5, file) == 0 && fread(start, 0, 5, file) == 0);
    CHECK(!ferror(file));
    rule("a stream for input takes no output");
    CHECK(fputc('a', file) == EOF && ferror(file));
    clearerr(file);
    CHECK_EQ(fclose(file), 0);
    free(content);
}

// ---- Memory ---------------------------------------------------------------

static bool holds(const uint8_t *block, size_t size, uint8_t byte)
{
    for (size_t i = 0; i < size; i++)
        if (block[i] != byte)
            return false;
    return true;
}

static void memory(void)
{
    static struct { uint8_t *bytes; size_t size; uint8_t byte; } b[BLOCKS];
    SYSTEM_PERFORMANCE_INFORMATION before, after;
    rule("blocks are nobody else's, keep what is in them, and come back");
    for (uint32_t round = 0; round < 20000; round++) {
        uint32_t i = next_random(BLOCKS);
        size_t size = next_random(20) ? next_random(2000)
                                      : 130000 + next_random(3000);
        if (!CHECK(holds(b[i].bytes, b[i].size, b[i].byte)))
            return;
        size_t kept = size < b[i].size ? size : b[i].size;
        if (next_random(3) == 0) {
            b[i].bytes = realloc(b[i].bytes, size);
        } else {
            free(b[i].bytes);
            b[i].bytes = calloc(1, size);
            b[i].byte = 0;
            kept = size;
        }
        if (!CHECK(b[i].bytes && (uintptr_t)b[i].bytes % 16 == 0 &&
                   holds(b[i].bytes, kept, b[i].byte)))
            return;
        b[i].size = size;
        b[i].byte = (uint8_t)round;
        memset(b[i].bytes, b[i].byte, size);
    }
    for (uint32_t i = 0; i < BLOCKS; i++)
        free(b[i].bytes);
    rule("free neighbours become one block, large blocks go back");
    CHECK_OK(NtQuerySystemInformation(SystemPerformanceInformation, &before,
                                      sizeof(before), NULL));
    for (size_t round = 1; round <= 120; round++) {
        void *volatile block = malloc(round * 1000);    // or there is none
        free(block);
        block = malloc(1 << 20);
        free(block);
    }
    CHECK_OK(NtQuerySystemInformation(SystemPerformanceInformation, &after,
                                      sizeof(after), NULL));
    CHECK(before.AvailablePages - after.AvailablePages + 128 < 256);
    rule("what no memory can hold");
    volatile size_t most = SIZE_MAX;
    void *volatile none = malloc(most);         // volatile, as above
    CHECK(!none && !(none = malloc(most - 40)) &&
          !(none = malloc(most / 2 + 1)) && !(none = calloc(most / 2 + 2, 2)));
}

// ---- Numbers, order, bytes ------------------------------------------------

static int compare(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

static void order(void)
{
    int numbers[COUNT];
    rule("sorting and finding");
    for (size_t n = 0; n < COUNT; n++) {
        uint32_t sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += (uint32_t)(numbers[i] = (int)next_random(60) * 2 - 60);
        qsort(numbers, n, sizeof(int), compare);
        for (size_t i = 0; i < n; i++) {
            int odd = numbers[i] + 1;
            int *found = bsearch(&numbers[i], numbers, n, sizeof(int), compare);
            CHECK(found && *found == numbers[i]);
            CHECK(!bsearch(&odd, numbers, n, sizeof(int), compare));
            CHECK(i == 0 || numbers[i - 1] <= numbers[i]);
            sum -= (uint32_t)numbers[i];
        }
        CHECK_EQ(sum, 0);
    }
}

static void numbers(void)
{
    static const struct {
        const char *text;
        int base, length;
        unsigned long long value;
    } cases[] = {
        { " \t+42z", 10, 5, 42 }, { "0x1fG", 0, 4, 31 }, { "0x", 0, 1, 0 },
        { "017", 0, 3, 15 }, { "08", 0, 1, 0 }, { "0x1f", 16, 4, 31 },
        { "zz", 36, 2, 1295 }, { "-1", 10, 2, ULLONG_MAX }, { "-", 10, 0, 0 },
        { "18446744073709551615", 10, 20, ULLONG_MAX },
        { "18446744073709551616", 10, 20, ULLONG_MAX },
        { "-18446744073709551615", 10, 21, 1 },
        { "-18446744073709551616", 10, 21, ULLONG_MAX },
    };
    rule("numbers of text");
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char *end;
        CHECK_EQ(strtoull(cases[i].text, &end, cases[i].base), cases[i].value);
        CHECK_EQ(end - cases[i].text, cases[i].length);
    }
    CHECK(strtoll("9223372036854775808", NULL, 10) == LLONG_MAX &&
          strtoll("-9223372036854775808", NULL, 10) == LLONG_MIN &&
          strtoll("-99999999999999999999", NULL, 10) == LLONG_MIN);
}

static void bytes(void)
{
    rule("a move that overlaps, either way");
    for (int round = 0; round < 2000; round++) {
        uint8_t moved[64], copy[64];
        for (uint32_t i = 0; i < 64; i++)
            moved[i] = (uint8_t)i;
        size_t to = next_random(32), from = next_random(32);
        size_t size = next_random(33);
        memcpy(copy, moved, sizeof(copy));
        memmove(moved + to, moved + from, size);
        for (size_t i = 0; i < 64; i++)
            CHECK_EQ(moved[i], i >= to && i < to + size ? copy[i - to + from]
                                                        : copy[i]);
    }
    rule("words between separators");
    char text[] = ",,a,;bc;;d", *rest;
    CHECK(strcmp(strtok_r(text, ",;", &rest), "a") == 0 &&
          strcmp(strtok_r(NULL, ",;", &rest), "bc") == 0 &&
          strcmp(strtok_r(NULL, ",;", &rest), "d") == 0 &&
          !strtok_r(NULL, ",;", &rest));
    CHECK(strcasecmp("aBz", "AbZ") == 0 && strncasecmp("ab", "AC", 1) == 0 &&
          strcasecmp("a", "ab") < 0);
    rule("names as they are typed");
    static const char *const names[][2] = {
        { "B:/bin//sh", "\\??\\B:\\bin\\sh" }, { "b:", "\\??\\B:\\" },
        { "B:\\a\\..\\..\\b\\.", "\\??\\B:\\b" }, { "con", "\\??\\CON" },
        { "//./PhysicalDrive0", "\\??\\PhysicalDrive0" },
        { "x", "\\??\\B:\\x" },
    };
    char name[64];
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        CHECK_OK(rtl_dos_name_to_nt(names[i][0], name, sizeof(name)));
        CHECK(strcmp(name, names[i][1]) == 0);
    }
    CHECK_STATUS(rtl_dos_name_to_nt("B:\\abcdef", name, 12),
                 STATUS_OBJECT_NAME_INVALID);
}

int main(void)
{
    streams();
    memory();
    order();
    numbers();
    bytes();
    return ktap_end();
}
