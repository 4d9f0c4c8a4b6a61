// ktest.h - in-kernel tests: KTEST(name, "RULE-ID ...") { EXPECT(...); }
//
// They run in a system thread at PASSIVE_LEVEL, one after the other, and
// report KTAP on COM2; `ktest=PATTERN` chooses (* and ? are wildcards).

#ifndef TINT_TESTS_KERNEL_KTEST_H
#define TINT_TESTS_KERNEL_KTEST_H

#include "kernel/wdm.h"

typedef struct ktest {
    const char *name;
    const char *rules;
    void (*run)(void);
    const char *file;
} ktest;

// Each test is a record in a section that the linker collects.
#define KTEST(test, ids)                                                   \
    static void ktest_##test(void);                                        \
    static const ktest ktest_record_##test                                 \
        __attribute__((used, section("ktests"), aligned(8))) = {           \
            #test, ids, ktest_##test, __FILE__ };                          \
    static void ktest_##test(void)

// Reports a broken expectation; the test goes on.
#define EXPECT(condition)                                                  \
    ((condition) ? (void)0 : ktest_fail(#condition, __FILE__, __LINE__))

void ktest_fail(const char *expression, const char *file, uint32_t line);
// From seed=; the same in every run.
uint64_t ktest_random(void);
// Waits at PASSIVE for ms milliseconds.
void ktest_sleep(uint32_t ms);
uint32_t ktest_run(const char *pattern, uint64_t seed);

#endif
