// ktest.h - in-kernel tests: KTEST(name, "RULE-ID ...") { EXPECT(...); }
//
// They run in a system thread at PASSIVE_LEVEL, one after the other, and
// report KTAP on COM2; `ktest=PATTERN` chooses (* and ? are wildcards).
// A test leaves pool, objects, handles, IRPs and threads as they were.
//
// The test thread and its helpers share processor 0, so priorities decide
// who runs: a helper above KTEST_PRIORITY has run until it blocks whenever the
// test goes on, one below runs only while the test waits. No test sleeps. What
// takes several processors, or a disk, asks for it and is skipped where it is
// not.

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

#define KTEST_INFORMATIONAL ((NTSTATUS)0x40000001)    // of that severity

void ktest_fail(const char *expression, const char *file, uint32_t line);
// From seed=; the same in every run.
uint64_t ktest_random(void);
// The same for a helper, which has a state of its own, drawn from that.
uint64_t ktest_draw(uint64_t *state);
// Waits at PASSIVE for ms milliseconds.
void ktest_sleep(uint32_t ms);
uint32_t ktest_run(const char *pattern, uint64_t seed);
// Whether there are so many processors; if not the test is to return, and is
// reported as skipped.
bool ktest_has_processors(uint32_t count);
// The same for a disk, the first.
bool ktest_has_disk(void);
#define KTEST_DISK "\\??\\PhysicalDrive0"

// ---- Waiting, with a bound that only a lost wake-up reaches ---------------

enum { KTEST_PRIORITY = 8, KTEST_ABOVE = 10, KTEST_BELOW = 6,
       KTEST_BOUND_SECONDS = 100 };

// A relative time-out of that bound, for waits that the test writes itself.
extern const int64_t ktest_bound;
// Waits for an object; false: the bound was reached.
bool ktest_wait(void *object);
// Waits for another processor to set a flag, by looking; at any level.
bool ktest_spin_until(const volatile uint32_t *flag);
// Looks at nothing for a while: what must not happen has its chance to.
void ktest_spin(uint32_t ms);

// ---- Helper threads -------------------------------------------------------

typedef struct ktest_thread {
    KSTART_ROUTINE *routine;
    void *context;
    KPRIORITY priority;
    uint32_t processor;
    KTHREAD *thread;             // referenced from start to join
    KEVENT started, go;
} ktest_thread;

// Starts routine(context) in a system thread. One above KTEST_PRIORITY has
// run until it blocked, or ended, when this returns.
void ktest_start(ktest_thread *helper, KSTART_ROUTINE *routine, void *context,
                 KPRIORITY priority);
// The same on another processor: it may not have begun when this returns.
void ktest_start_on(ktest_thread *helper, uint32_t processor,
                    KSTART_ROUTINE *routine, void *context);
// Waits for its end. A helper that never ends also ends the whole run: what
// it uses lies on the test's stack.
void ktest_join(ktest_thread *helper);
// Whether it is blocked.
bool ktest_is_waiting(const ktest_thread *helper);
// Waits until it is, on another processor; false: the bound was reached.
bool ktest_until_waiting(const ktest_thread *helper);

// ---- The order of events: one letter each ---------------------------------

void ktest_log_reset(void);
void ktest_log(char letter);     // any level
// Whether exactly these letters were logged, in this order; says if not.
bool ktest_logged(const char *letters);

// ---- A device interrupt that the test raises itself -----------------------

typedef struct ktest_device {
    KINTERRUPT interrupt;
    char letter;                 // what the ISR logs
    KIRQL isr_irql;              // what it saw
    uint32_t count;
    void (*isr)(struct ktest_device *device);    // more for it to do, or NULL
} ktest_device;

void ktest_connect(ktest_device *device, KIRQL irql, char letter);
void ktest_interrupt(ktest_device *device);
void ktest_disconnect(ktest_device *device);

#endif
