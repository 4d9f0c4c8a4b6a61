// ktest.c - runs the in-kernel tests and reports KTAP on COM2.

#include "tests/kernel/ktest.h"

enum { COM2 = 0x2F8, LINE_STATUS = 5, TRANSMITTER_EMPTY = 0x20,
       MAXIMUM_SPINS = 100000 };

extern const ktest __start_ktests[], __stop_ktests[];

static uint32_t failures;
static uint64_t random_state;

static void put(const char *text)
{
    for (; *text; text++) {
        int spins = 0;
        while (!(hal_in8(COM2 + LINE_STATUS) & TRANSMITTER_EMPTY) &&
               spins++ < MAXIMUM_SPINS)
            continue;
        hal_out8(COM2, (uint8_t)*text);
    }
}

static void say(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

static void say(const char *format, ...)
{
    char line[256];
    va_list args;
    va_start(args, format);
    rtl_vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    put(line);
}

void ktest_fail(const char *expression, const char *file, uint32_t line)
{
    failures++;
    say("# %s:%u: %s\n", file, line, expression);
}

uint64_t ktest_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

void ktest_sleep(uint32_t ms)
{
    int64_t interval = -(int64_t)ms * 10000;
    KeDelayExecutionThread(KernelMode, false, &interval);
}

static bool matches(const char *pattern, const char *name)
{
    if (*pattern == '*')
        return matches(pattern + 1, name) || (*name && matches(pattern,
                                                               name + 1));
    if (!*pattern || !*name)
        return *pattern == *name;
    return (*pattern == '?' || *pattern == *name) &&
           matches(pattern + 1, name + 1);
}

uint32_t ktest_run(const char *pattern, uint64_t seed)
{
    uint32_t count = 0, number = 0, failed = 0;
    random_state = seed ? seed : 0x9E3779B97F4A7C15ull;
    for (const ktest *t = __start_ktests; t < __stop_ktests; t++)
        count += matches(pattern, t->name);
    say("KTAP version 1\n1..%u\n", count);
    for (const ktest *t = __start_ktests; t < __stop_ktests; t++) {
        if (!matches(pattern, t->name))
            continue;
        failures = 0;
        t->run();
        if (KeGetCurrentIrql() != PASSIVE_LEVEL || KeAreApcsDisabled())
            ktest_fail("the test left IRQL and APCs as they were", t->file, 0);
        failed += failures != 0;
        say("%sok %u - %s # %s\n", failures ? "not " : "", ++number, t->name,
            t->rules);
    }
    return failed + (count == 0);
}
