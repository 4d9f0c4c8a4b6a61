// ktest.c - runs the in-kernel tests and reports KTAP on COM2.

#include "tests/kernel/ktest.h"

#include "kernel/ke/kep.h"
#include "tests/kernel/driver.h"
#include "tests/kernel/poolguard.h"

enum { COM2 = 0x2F8, LINE_STATUS = 5, TRANSMITTER_EMPTY = 0x20,
       MAXIMUM_SPINS = 100000, SETTLE_ROUNDS = 200,
       UNITS_PER_SECOND = 10000000 };

extern const ktest __start_ktests[], __stop_ktests[];

const int64_t ktest_bound = -(int64_t)KTEST_BOUND_SECONDS * UNITS_PER_SECOND;

static const ktest *current;     // the test that runs, and its number
static uint32_t number;
static uint32_t failures;        // of it
static char missing[24];         // what it asked for in vain
static uint64_t random_state, random_seed;

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

uint64_t ktest_draw(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

uint64_t ktest_random(void)
{
    return ktest_draw(&random_state);
}

void ktest_sleep(uint32_t ms)
{
    int64_t interval = -(int64_t)ms * 10000;
    KeDelayExecutionThread(KernelMode, false, &interval);
}

static void say_result(void)
{
    if (*missing && !failures) {
        say("ok %u - %s # SKIP needs %s # %s\n", number,
            current->name, missing, current->rules);
        return;
    }
    if (failures)
        say("# repeat: ktest=%s seed=%llu, on %u processors\n", current->name,
            (unsigned long long)random_seed, KeNumberProcessors);
    say("%sok %u - %s # %s\n", failures ? "not " : "", number, current->name,
        current->rules);
}

bool ktest_has_processors(uint32_t count)
{
    if (KeNumberProcessors < count)
        rtl_snprintf(missing, sizeof(missing), "%u processors", count);
    return KeNumberProcessors >= count;
}

bool ktest_has_disk(void)
{
    FILE_OBJECT *file;
    NTSTATUS status = io_create_file(KTEST_DISK, FILE_READ_DATA, FILE_OPEN, 0,
                                     &file, NULL);
    if (NT_SUCCESS(status))
        ktest_close(file);
    else
        rtl_snprintf(missing, sizeof(missing), "a disk");
    return NT_SUCCESS(status);
}

// ---- Helper threads -------------------------------------------------------

bool ktest_wait(void *object)
{
    return KeWaitForSingleObject(object, Executive, KernelMode, false,
                                 &ktest_bound) == STATUS_SUCCESS;
}

bool ktest_spin_until(const volatile uint32_t *flag)
{
    uint64_t start = KeQueryInterruptTime();
    while (!__atomic_load_n(flag, __ATOMIC_ACQUIRE)) {
        if (KeQueryInterruptTime() - start > (uint64_t)-ktest_bound)
            return false;
        __builtin_ia32_pause();
    }
    return true;
}

void ktest_spin(uint32_t ms)
{
    uint64_t start = KeQueryInterruptTime();
    while (KeQueryInterruptTime() - start < (uint64_t)ms * 10000)
        __builtin_ia32_pause();
}

// Nothing can follow: a helper that is still there may use what the test had
// on its stack.
static _Noreturn void bail_out(const char *why)
{
    ktest_fail(why, current->file, 0);
    say_result();
    say("Bail out! %s\n", why);
    hal_exit(HAL_EXIT_FAILURE);
}

static void pin(KTHREAD *thread, uint32_t processor)
{
    KeSetAffinityThread(thread, 1ull << processor);
}

static void run_helper(void *context)
{
    ktest_thread *helper = context;
    helper->thread = KeGetCurrentThread();
    ObReferenceObject(helper->thread);
    pin(helper->thread, helper->processor);
    KeSetPriorityThread(helper->thread, helper->priority);
    KeSetEvent(&helper->started, IO_NO_INCREMENT);
    KeWaitForSingleObject(&helper->go, Executive, KernelMode, false, NULL);
    helper->routine(helper->context);
}

static void start(ktest_thread *helper)
{
    KeInitializeEvent(&helper->started, NotificationEvent, false);
    KeInitializeEvent(&helper->go, NotificationEvent, false);
    if (!NT_SUCCESS(ps_create_system_thread(run_helper, helper)))
        bail_out("no memory for a helper thread");
    if (!ktest_wait(&helper->started))
        bail_out("a helper thread never started");
    // Only from this wake-up on is it sure to be on its processor.
    KeSetEvent(&helper->go, IO_NO_INCREMENT);
}

void ktest_start(ktest_thread *helper, KSTART_ROUTINE *routine, void *context,
                 KPRIORITY priority)
{
    *helper = (ktest_thread){ .routine = routine, .context = context,
                              .priority = priority };
    start(helper);
}

void ktest_start_on(ktest_thread *helper, uint32_t processor,
                    KSTART_ROUTINE *routine, void *context)
{
    *helper = (ktest_thread){ .routine = routine, .context = context,
                              .priority = KTEST_PRIORITY,
                              .processor = processor };
    start(helper);
}

void ktest_join(ktest_thread *helper)
{
    if (!ktest_wait(helper->thread))
        bail_out("a helper thread never ended");
    ObDereferenceObject(helper->thread);
}

bool ktest_is_waiting(const ktest_thread *helper)
{
    return helper->thread->State == Waiting;
}

bool ktest_until_waiting(const ktest_thread *helper)
{
    for (int i = 0; i < SETTLE_ROUNDS && !ktest_is_waiting(helper); i++)
        ktest_sleep(1);
    return ktest_is_waiting(helper);
}

// ---- The log --------------------------------------------------------------

static char logged[64];
static volatile uint32_t log_length;

void ktest_log_reset(void)
{
    log_length = 0;
    memset(logged, 0, sizeof(logged));
}

void ktest_log(char letter)
{
    uint32_t at = __atomic_fetch_add(&log_length, 1, __ATOMIC_RELAXED);
    if (at < sizeof(logged) - 1)
        logged[at] = letter;
}

bool ktest_logged(const char *letters)
{
    bool same = !memcmp(logged, letters, rtl_strlen(letters) + 1);
    if (!same)
        say("# logged \"%s\", not \"%s\"\n", logged, letters);
    return same;
}

// ---- Interrupts -----------------------------------------------------------

static bool isr(KINTERRUPT *interrupt, void *context)
{
    (void)interrupt;
    ktest_device *device = context;
    device->count++;
    device->isr_irql = KeGetCurrentIrql();
    if (device->letter)
        ktest_log(device->letter);
    if (device->isr)
        device->isr(device);
    return true;
}

void ktest_connect(ktest_device *device, KIRQL irql, char letter)
{
    *device = (ktest_device){ .letter = letter };
    uint8_t vector = ke_allocate_vector(irql);
    if (!vector)
        bail_out("no interrupt vector is left");
    ke_connect_interrupt(&device->interrupt, isr, device, vector, false);
}

void ktest_interrupt(ktest_device *device)
{
    hal_send_self_ipi(device->interrupt.Vector);
}

void ktest_disconnect(ktest_device *device)
{
    KINTERRUPT **link = &ki_chains[device->interrupt.Vector];
    while (*link != &device->interrupt)
        link = &(*link)->next;
    *link = device->interrupt.next;
}

// ---- What a test leaves behind --------------------------------------------

typedef struct counts {
    uint64_t bytes, blocks, objects, handles, irps, threads;
} counts;

static counts count(void)
{
    ps_settle();
    return (counts){ ex_pool_bytes, ex_pool_blocks, ob_object_count,
                     ob_handle_count, io_irp_count(), ps_thread_count };
}

static bool same(const counts *a, const counts *b)
{
    return a->bytes == b->bytes && a->blocks == b->blocks &&
           a->objects == b->objects && a->handles == b->handles &&
           a->irps == b->irps && a->threads == b->threads;
}

// The idle thread may have been preempted while it freed what a dead thread
// left: it goes on while we sleep. A leak does not go away.
static void expect_no_leak(const counts *before, uint64_t mark)
{
    counts after = count();
    for (int i = 0; i < SETTLE_ROUNDS && !same(before, &after); i++) {
        ktest_sleep(1);
        after = count();
    }
    if (same(before, &after))
        return;
    failures++;
    say("# left behind: %lld bytes in %lld blocks, %lld objects, %lld "
        "handles, %lld IRPs, %lld threads\n",
        (long long)(after.bytes - before->bytes),
        (long long)(after.blocks - before->blocks),
        (long long)(after.objects - before->objects),
        (long long)(after.handles - before->handles),
        (long long)(after.irps - before->irps),
        (long long)(after.threads - before->threads));
    poolguard_report(mark, put);
}

static void expect_same_state(void)
{
    KTHREAD *thread = KeGetCurrentThread();
    if (KeGetCurrentIrql() != PASSIVE_LEVEL || KeAreApcsDisabled())
        bail_out("the test left IRQL and APCs as they were");
    if (thread->Queue || !IsListEmpty(&thread->MutantListHead) ||
        !IsListEmpty(&thread->ApcState.ApcListHead[KernelMode]) ||
        !IsListEmpty(&thread->ApcState.ApcListHead[UserMode]))
        bail_out("the test left no object with its thread");
    if (thread->BasePriority != KTEST_PRIORITY)
        ktest_fail("the test left its priority as it was", current->file, 0);
}

static void run_one(void)
{
    failures = *missing = 0;
    random_state = random_seed;    // alone it does the same
    ktest_log_reset();
    ktest_driver_reset();
    counts before = count();
    uint64_t mark = poolguard_mark();
    current->run();
    poolguard_check();
    expect_same_state();
    expect_no_leak(&before, mark);
    say_result();
}

// ---- The run --------------------------------------------------------------

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
    uint32_t chosen = 0, failed = 0;
    random_seed = seed ? seed : 0x9E3779B97F4A7C15ull;
    pin(KeGetCurrentThread(), 0);
    ke_yield();
    KeSetPriorityThread(KeGetCurrentThread(), KTEST_PRIORITY);
    for (const ktest *t = __start_ktests; t < __stop_ktests; t++)
        chosen += matches(pattern, t->name);
    say("KTAP version 1\n1..%u\n", chosen);
    if (!ktest_driver_load()) {
        say("Bail out! the test driver does not load\n");
        return 1;
    }
    for (const ktest *t = __start_ktests; t < __stop_ktests; t++) {
        if (!matches(pattern, t->name))
            continue;
        current = t;
        number++;
        run_one();
        failed += failures != 0;
    }
    return failed + (chosen == 0);
}
