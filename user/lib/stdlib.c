// stdlib.c - numbers from text, sorting, random numbers.

#include <stdlib.h>

#include <ctype.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static int digit_value(char c)
{
    if (isdigit(c))
        return c - '0';
    return isalpha(c) ? tolower(c) - 'a' + 10 : INT_MAX;
}

// Reads the number at text; its sign goes to *negative. What does not fit
// becomes ULLONG_MAX, and *overflow. *end is text itself if there is no number.
static unsigned long long parse(const char *text, char **end, int base,
                                bool *negative, bool *overflow)
{
    const char *at = text;
    while (isspace(*at))
        at++;
    *negative = *at == '-';
    if (*at == '-' || *at == '+')
        at++;
    bool hex = at[0] == '0' && (at[1] | 0x20) == 'x' && isxdigit(at[2]);
    if (hex && (base == 0 || base == 16)) {
        at += 2;
        base = 16;
    }
    if (base == 0)
        base = *at == '0' ? 8 : 10;

    const char *first = at;
    unsigned long long value = 0;
    *overflow = false;
    for (; digit_value(*at) < base; at++) {
        *overflow |= __builtin_mul_overflow(value, base, &value);
        *overflow |= __builtin_add_overflow(value, digit_value(*at), &value);
    }
    if (end)
        *end = (char *)(at > first ? at : text);
    return *overflow ? ULLONG_MAX : value;
}

unsigned long long strtoull(const char *text, char **end, int base)
{
    bool negative, overflow;
    unsigned long long value = parse(text, end, base, &negative, &overflow);
    return negative && !overflow ? -value : value;
}

long long strtoll(const char *text, char **end, int base)
{
    bool negative, overflow;
    unsigned long long value = parse(text, end, base, &negative, &overflow);
    if (negative)
        return value > LLONG_MAX ? LLONG_MIN : -(long long)value;
    return value > LLONG_MAX ? LLONG_MAX : (long long)value;
}

unsigned long strtoul(const char *text, char **end, int base)
{
    return strtoull(text, end, base);
}

long strtol(const char *text, char **end, int base)
{
    return strtoll(text, end, base);
}

int atoi(const char *text)
{
    return (int)strtol(text, NULL, 10);
}

long atol(const char *text)
{
    return strtol(text, NULL, 10);
}

int abs(int number)
{
    return number < 0 ? -number : number;
}

long labs(long number)
{
    return number < 0 ? -number : number;
}

char *getenv(const char *name)
{
    (void)name;
    return NULL;
}

// ---- Sorting --------------------------------------------------------------

static void swap(char *a, char *b, size_t size)
{
    for (; size > 0; a++, b++, size--) {
        char byte = *a;
        *a = *b;
        *b = byte;
    }
}

// Lets the element at place sink until no child is larger.
static void sink(char *base, size_t place, size_t count, size_t size,
                 int (*compare)(const void *, const void *))
{
    for (;;) {
        size_t child = 2 * place + 1;
        if (child >= count)
            return;
        if (child + 1 < count &&
            compare(base + child * size, base + (child + 1) * size) < 0)
            child++;
        if (compare(base + place * size, base + child * size) >= 0)
            return;
        swap(base + place * size, base + child * size, size);
        place = child;
    }
}

// A heap sort: n log n whatever the order, and no memory of its own.
void qsort(void *base, size_t count, size_t size,
           int (*compare)(const void *a, const void *b))
{
    for (size_t place = count / 2; place > 0; place--)
        sink(base, place - 1, count, size, compare);
    for (size_t last = count; last > 1; last--) {
        swap(base, (char *)base + (last - 1) * size, size);
        sink(base, 0, last - 1, size, compare);
    }
}

void *bsearch(const void *key, const void *base, size_t count, size_t size,
              int (*compare)(const void *a, const void *b))
{
    while (count > 0) {
        const char *middle = (const char *)base + count / 2 * size;
        int order = compare(key, middle);
        if (order == 0)
            return (void *)middle;
        if (order > 0) {
            base = middle + size;
            count--;
        }
        count /= 2;
    }
    return NULL;
}

// ---- Random numbers -------------------------------------------------------

static uint64_t random_state = 1;

void srand(unsigned seed)
{
    random_state = seed;
}

// Knuth's MMIX generator; the upper bits are the good ones.
int rand(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (int)(random_state >> 33);
}
