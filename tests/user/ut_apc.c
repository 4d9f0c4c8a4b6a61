// ut_apc.c - user APCs: when they run, in which order, and what they disturb.

#include "tests/user/ktap.h"

#define NUMBER(n) ((void *)(uint64_t)(n))

static uint64_t order[64];
static uint32_t runs;

static void note(void *a, void *b, void *c)
{
    (void)b, (void)c;
    if (runs < 64)
        order[runs] = (uint64_t)a;
    runs++;
}

static void queue_to(HANDLE thread, PS_APC_ROUTINE *routine, uint64_t n)
{
    CHECK_OK(NtQueueApcThread(thread, routine, NUMBER(n), NUMBER(n + 1),
                              KERNEL_TEXT));
}

static void queue(uint64_t n)
{
    queue_to(NtCurrentThread(), note, n);
}

static void check_arguments(void *a, void *b, void *c)
{
    CHECK(a == NUMBER(7) && b == NUMBER(8) && c == KERNEL_TEXT);
    CHECK_EQ((uint64_t)__builtin_frame_address(0) & 15, 0);
    runs++;
}

// ---- When -------------------------------------------------------------------

static void when(void)
{
    HANDLE event = new_event(SynchronizationEvent, false);
    HANDLE port = new_port(0);
    void *key, *context;
    IO_STATUS_BLOCK iosb;
    rule("APC-15: queueing runs nothing by itself");
    for (uint64_t i = 0; i < 40; i++)
        queue(i);
    rule("APC-16: what is not alertable runs none");
    CHECK_OK(NtDelayExecution(false, MS(5)));
    CHECK_STATUS(NtWaitForSingleObject(event, false, MS(5)), STATUS_TIMEOUT);
    CHECK_STATUS(NtWaitForMultipleObjects(1, &event, WaitAny, false, MS(5)),
                 STATUS_TIMEOUT);
    CHECK_STATUS(NtRemoveIoCompletion(port, &key, &context, &iosb, MS(5)),
                 STATUS_TIMEOUT);
    NtYieldExecution();
    CHECK_EQ(runs, 0);
    rule("APC-17: one alertable wait runs all, first in first out");
    CHECK_STATUS(NtDelayExecution(true, LONG), STATUS_USER_APC);
    CHECK_EQ(runs, 40);
    for (uint64_t i = 0; i < 40; i++)
        CHECK_EQ(order[i], i);
    rule("APC-20: with a time-out of 0");
    CHECK_OK(NtDelayExecution(true, POLL));
    CHECK_STATUS(NtWaitForSingleObject(event, true, POLL), STATUS_TIMEOUT);
    queue(1);
    CHECK_STATUS(NtDelayExecution(true, POLL), STATUS_USER_APC);
    queue(1);
    CHECK_STATUS(NtWaitForSingleObject(event, true, POLL), STATUS_USER_APC);
    queue(1);
    CHECK_STATUS(NtWaitForMultipleObjects(1, &event, WaitAll, true, POLL),
                 STATUS_USER_APC);
    CHECK_OK(NtDelayExecution(true, MS(5)));
    rule("APC-14: NtTestAlert runs what there is");
    runs = 0;
    CHECK_OK(NtTestAlert());
    queue(1);
    queue(2);
    CHECK_OK(NtTestAlert());
    CHECK_EQ(runs, 2);
    rule("the arguments, and an aligned stack");
    runs = 0;
    queue_to(NtCurrentThread(), check_arguments, 7);
    CHECK_OK(NtTestAlert());
    CHECK_EQ(runs, 1);
    rule("APC-26: without a routine nobody is woken");
    CHECK_OK(NtQueueApcThread(NtCurrentThread(), NULL, NULL, NULL, NULL));
    CHECK_OK(NtDelayExecution(true, MS(10)));
    rule("APC-11: an alert ends one alertable wait, and comes first");
    CHECK_OK(NtAlertThread(NtCurrentThread()));
    CHECK_OK(NtDelayExecution(false, MS(1)));
    runs = 0;
    queue(1);
    CHECK_STATUS(NtDelayExecution(true, LONG), STATUS_ALERTED);
    CHECK_EQ(runs, 0);
    CHECK_STATUS(NtDelayExecution(true, LONG), STATUS_USER_APC);
    CHECK_OK(NtDelayExecution(true, MS(1)));
    NtClose(event);
    NtClose(port);
}

// ---- APCs within APCs -------------------------------------------------------

static HANDLE shared_event;

static void set_shared(void *a, void *b, void *c)
{
    (void)a, (void)b, (void)c;
    NtSetEvent(shared_event, NULL);
    runs++;
}

static void queue_more(void *a, void *b, void *c)
{
    (void)b, (void)c;
    runs++;
    if (a)
        queue_to(NtCurrentThread(), queue_more, (uint64_t)a - 1);
}

// Runs before three others: they are held back by a plain wait, and run in an
// alertable one, or when this has returned.
static void wait_inside(void *alertable, void *b, void *c)
{
    (void)b, (void)c;
    CHECK_OK(NtDelayExecution(false, MS(1)));
    CHECK_EQ(runs, 0);
    if (alertable) {
        CHECK_STATUS(NtDelayExecution(true, LONG), STATUS_USER_APC);
        CHECK_EQ(runs, 3);
    }
}

static void alert_itself(void *a, void *b, void *c)
{
    (void)a, (void)b, (void)c;
    CHECK_OK(NtAlertThread(NtCurrentThread()));
}

static void within(void)
{
    rule("APC-11: an alert out of an APC ends the next alertable wait");
    queue_to(NtCurrentThread(), alert_itself, 0);
    CHECK_STATUS(NtDelayExecution(true, LONG), STATUS_USER_APC);
    CHECK_OK(NtDelayExecution(false, MS(1)));
    CHECK_STATUS(NtDelayExecution(true, LONG), STATUS_ALERTED);
    CHECK_OK(NtDelayExecution(true, MS(1)));
    rule("APC-19: one queued by a running one runs in the same wait");
    runs = 0;
    queue_to(NtCurrentThread(), queue_more, 20);
    CHECK_STATUS(NtDelayExecution(true, LONG), STATUS_USER_APC);
    CHECK_EQ(runs, 21);
    rule("APC-22: waits inside: an alertable one runs the rest there");
    for (uint64_t alertable = 0; alertable <= 1; alertable++) {
        runs = 0;
        queue_to(NtCurrentThread(), wait_inside, alertable);
        for (int i = 0; i < 3; i++)
            queue(1);
        CHECK_STATUS(NtDelayExecution(true, LONG), STATUS_USER_APC);
        CHECK_EQ(runs, 3);
    }
    rule("APC-21: a wait that an APC ended consumes nothing");
    shared_event = new_event(SynchronizationEvent, false);
    runs = 0;
    queue_to(NtCurrentThread(), set_shared, 0);
    CHECK_STATUS(NtWaitForSingleObject(shared_event, true, LONG),
                 STATUS_USER_APC);
    CHECK_OK(NtWaitForSingleObject(shared_event, true, POLL));
    HANDLE both[] = { shared_event, new_event(NotificationEvent, false) };
    NtSetEvent(shared_event, NULL);
    queue(1);
    CHECK_STATUS(NtWaitForMultipleObjects(2, both, WaitAll, true, LONG),
                 STATUS_USER_APC);
    CHECK_OK(NtWaitForSingleObject(shared_event, false, POLL));
    NtClose(both[0]);
    NtClose(both[1]);
}

// ---- Other threads ----------------------------------------------------------

static NTSTATUS wait_alertably(void *event)
{
    return NtWaitForSingleObject(event, true, LONG);
}

static NTSTATUS wait_plainly(void *event)
{
    CHECK_OK(NtWaitForSingleObject(event, false, LONG));
    CHECK_EQ(runs, 0);
    return NtDelayExecution(true, LONG);
}

static NTSTATUS expect_one(void *argument)
{
    (void)argument;
    CHECK_EQ(runs, 3);
    CHECK_OK(NtDelayExecution(true, MS(1)));
    return 0;
}

static void other_threads(void)
{
    HANDLE event = new_event(NotificationEvent, false);
    rule("APC-24: a thread in an alertable wait wakes");
    HANDLE thread = new_thread(wait_alertably, event, 0);
    until_waiting(thread, UserRequest);
    queue_to(thread, note, 1);
    CHECK_STATUS(join(thread), STATUS_USER_APC);
    rule("APC-24: one in a plain wait is undisturbed");
    runs = 0;
    thread = new_thread(wait_plainly, event, 0);
    until_waiting(thread, UserRequest);
    queue_to(thread, note, 1);
    CHECK_STATUS(NtWaitForSingleObject(thread, false, MS(20)), STATUS_TIMEOUT);
    NtSetEvent(event, NULL);
    CHECK_STATUS(join(thread), STATUS_USER_APC);
    CHECK_EQ(runs, 1);
    rule("APC-23: queued before the first instruction");
    runs = 0;
    thread = new_thread(expect_one, NULL,
                        THREAD_CREATE_FLAGS_CREATE_SUSPENDED);
    for (int i = 0; i < 3; i++)
        queue_to(thread, note, 1);
    CHECK_EQ(runs, 0);
    CHECK_OK(NtResumeThread(thread, NULL));
    CHECK_OK(wait(thread));
    rule("APC-25: to a thread that has ended");
    CHECK_STATUS(NtQueueApcThread(thread, note, NULL, NULL, NULL),
                 STATUS_UNSUCCESSFUL);
    CHECK_STATUS(NtQueueApcThread(thread, NULL, NULL, NULL, NULL),
                 STATUS_UNSUCCESSFUL);
    NtClose(thread);
    CHECK_STATUS(NtQueueApcThread(event, note, NULL, NULL, NULL),
                 STATUS_OBJECT_TYPE_MISMATCH);
    CHECK_STATUS(NtQueueApcThread(NULL, note, NULL, NULL, NULL),
                 STATUS_INVALID_HANDLE);
    rule("APC-25: those left over at the end vanish");
    runs = 0;
    NtResetEvent(event, NULL);
    thread = new_thread(wait_plainly, event, 0);
    until_waiting(thread, UserRequest);
    for (int i = 0; i < 50; i++)
        queue_to(thread, note, 1);
    CHECK_OK(NtTerminateThread(thread, 2));
    CHECK_STATUS(join(thread), 2);
    CHECK_EQ(runs, 0);
    rule("APC-10: termination ends a wait that is not alertable");
    thread = new_thread(wait_plainly, event, 0);
    until_waiting(thread, UserRequest);
    CHECK_OK(NtTerminateThread(thread, 2));
    CHECK_STATUS(join(thread), 2);
    NtClose(event);
}

// ---- Registers --------------------------------------------------------------

// All that ring 3 has, filled, then NtDelayExecution(alertable) by its bare
// instruction, then stored: 0-14 the general registers but rsp, 15 the flags.
struct registers {
    uint64_t general[16];
    uint8_t xmm[16][16];
    uint32_t mxcsr;
    uint16_t x87;
    uint8_t red_zone[128];
} __attribute__((aligned(16)));

struct registers fill, result;    // the assembly code names them
uint64_t service, alertable;
int64_t interval;

void ask_with_registers(void);

#define XMM(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) \
    DO(10) DO(11) DO(12) DO(13) DO(14) DO(15)
#define LOAD_XMM(n)  "movaps fill+128+16*" #n "(%rip), %xmm" #n "\n"
#define STORE_XMM(n) "movaps %xmm" #n ", result+128+16*" #n "(%rip)\n"

__asm__(".text\n"
        "ask_with_registers:\n"
        "push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n"
        "push %r15\n"
        "sub $8, %rsp\n stmxcsr (%rsp)\n fnstcw 4(%rsp)\n"
        "ldmxcsr fill+384(%rip)\n fldcw fill+388(%rip)\n"
        XMM(LOAD_XMM)
        // The red zone, through rdi and rsi.
        "lea fill+390(%rip), %rsi\n lea -128(%rsp), %rdi\n"
        "mov $128, %ecx\n rep movsb\n"
        "mov fill+8(%rip), %rbx\n mov fill+48(%rip), %rbp\n"
        "mov fill+96(%rip), %r12\n mov fill+104(%rip), %r13\n"
        "mov fill+112(%rip), %r14\n mov fill+120(%rip), %r15\n"
        "mov fill+64(%rip), %r8\n mov fill+72(%rip), %r9\n"
        "mov fill+80(%rip), %r10\n mov fill+24(%rip), %rdx\n"
        "mov service(%rip), %rax\n mov alertable(%rip), %rdi\n"
        "lea interval(%rip), %rsi\n"
        "stc\n std\n"
        "syscall\n"
        "mov %rbx, result+8(%rip)\n mov %rcx, result+16(%rip)\n"
        "mov %rdx, result+24(%rip)\n mov %rsi, result+32(%rip)\n"
        "mov %rdi, result+40(%rip)\n mov %rbp, result+48(%rip)\n"
        "mov %r8, result+64(%rip)\n mov %r9, result+72(%rip)\n"
        "mov %r10, result+80(%rip)\n mov %r11, result+88(%rip)\n"
        "mov %r12, result+96(%rip)\n mov %r13, result+104(%rip)\n"
        "mov %r14, result+112(%rip)\n mov %r15, result+120(%rip)\n"
        "mov %rax, result(%rip)\n"
        "lea -128(%rsp), %rsp\n pushfq\n pop result+56(%rip)\n"
        "cld\n mov %rsp, %rsi\n lea 128(%rsp), %rsp\n"
        "lea result+390(%rip), %rdi\n mov $128, %ecx\n rep movsb\n"
        XMM(STORE_XMM)
        "stmxcsr result+384(%rip)\n fnstcw result+388(%rip)\n"
        "ldmxcsr (%rsp)\n fldcw 4(%rsp)\n add $8, %rsp\n"
        "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
        "ret\n");

// Leaves nothing as it was.
static void spoil(void *a, void *b, void *c)
{
    (void)a, (void)b, (void)c;
    static const uint32_t mxcsr = 0x1F80;
    runs++;
    NtYieldExecution();
    __asm__ volatile(
        "pcmpeqd %%xmm0, %%xmm0\n pcmpeqd %%xmm1, %%xmm1\n"
        "pcmpeqd %%xmm2, %%xmm2\n pcmpeqd %%xmm3, %%xmm3\n"
        "pcmpeqd %%xmm4, %%xmm4\n pcmpeqd %%xmm5, %%xmm5\n"
        "pcmpeqd %%xmm6, %%xmm6\n pcmpeqd %%xmm7, %%xmm7\n"
        "pcmpeqd %%xmm8, %%xmm8\n pcmpeqd %%xmm9, %%xmm9\n"
        "pcmpeqd %%xmm10, %%xmm10\n pcmpeqd %%xmm11, %%xmm11\n"
        "pcmpeqd %%xmm12, %%xmm12\n pcmpeqd %%xmm13, %%xmm13\n"
        "pcmpeqd %%xmm14, %%xmm14\n pcmpeqd %%xmm15, %%xmm15\n"
        "ldmxcsr %0\n fninit\n"
        "mov $-1, %%r12\n mov $-1, %%r13\n mov $-1, %%r14\n mov $-1, %%r15\n"
        "mov $-1, %%rbx\n"
        : : "m"(mxcsr)
        : "rbx", "r12", "r13", "r14", "r15", "xmm0", "xmm1", "xmm2", "xmm3",
          "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
          "xmm12", "xmm13", "xmm14", "xmm15");
}

static void check_registers(NTSTATUS expected)
{
    static const int kept[] = { 1, 6, 12, 13, 14, 15 };
    static const int zeroed[] = { 3, 4, 5, 8, 9, 10 };
    memset(&result, 0xEE, sizeof(result));
    ask_with_registers();
    CHECK_STATUS((NTSTATUS)result.general[0], expected);
    for (int i = 0; i < 6; i++) {
        CHECK_EQ(result.general[kept[i]], fill.general[kept[i]]);
        CHECK(result.general[zeroed[i]] < KERNEL_BEGINS);
    }
    CHECK(result.general[2] < KERNEL_BEGINS &&
          result.general[11] < KERNEL_BEGINS);
    CHECK(memcmp(result.xmm, fill.xmm, sizeof(fill.xmm)) == 0);
    CHECK_EQ(result.mxcsr, fill.mxcsr);
    CHECK_EQ(result.x87, fill.x87);
    CHECK_EQ(result.general[7] & 0x401, 0x401);    // carry and direction
    CHECK(memcmp(result.red_zone, fill.red_zone, sizeof(fill.red_zone)) == 0);
}

static NTSTATUS use_xmm(void *stop)
{
    while (!*(volatile bool *)stop) {
        spoil(NULL, NULL, NULL);
        NtYieldExecution();
    }
    return 0;
}

static void registers(void)
{
    uint8_t *bytes = (uint8_t *)&fill;
    for (size_t i = 0; i < sizeof(fill); i++)
        bytes[i] = (uint8_t)(i * 37 + 11);
    fill.mxcsr = 0x5FA0;    // rounds down, with a sticky flag
    fill.x87 = 0x077F;
    service = NT_SERVICE_NtDelayExecution;

    rule("a call that meets no APC keeps all registers");
    alertable = 1, interval = 0;
    check_registers(STATUS_SUCCESS);
    rule("APC-14: all registers are as before after user APCs");
    for (int i = 0; i < 5; i++) {
        runs = 0;
        for (int j = 0; j <= i; j++)
            queue_to(NtCurrentThread(), spoil, 0);
        interval = i & 1 ? -200000000 : 0;
        check_registers(STATUS_USER_APC);
        CHECK_EQ(runs, i + 1);
    }
    rule("and while another thread uses them");
    volatile bool stop = false;
    HANDLE thread = new_thread(use_xmm, (void *)&stop, 0);
    alertable = 0, interval = -20000;
    for (int i = 0; i < 10; i++)
        check_registers(STATUS_SUCCESS);
    alertable = 1;
    for (int i = 0; i < 10; i++) {
        queue_to(NtCurrentThread(), spoil, 0);
        check_registers(STATUS_USER_APC);
    }
    stop = true;
    join(thread);
}

// ---- NtContinue -------------------------------------------------------------

static CONTEXT hostile;

static void continue_with(void)
{
    rule("NtContinue takes no rip or selector on trust");
    static const uint64_t bad[] = {
        0xFFFFFFFF80200000ull, 0x0000800000000000ull, 0x00007FFFFFFFFFFFull,
        0xFFFF7FFFFFFFFFFFull, UINT64_MAX,
    };
    for (int i = 0; i < 5; i++) {
        memset(&hostile, 0xFF, sizeof(hostile));
        hostile.Rip = bad[i];
        if (bad[i] == 0x00007FFFFFFFFFFFull)
            continue;    // an address of ring 3: tried by a child in ut_crash
        CHECK_STATUS(NtContinue(&hostile, false), STATUS_ACCESS_VIOLATION);
    }
    CHECK_STATUS(NtContinue(NULL, false), STATUS_ACCESS_VIOLATION);
    CHECK_STATUS(NtContinue(KERNEL_DIRECT, false), STATUS_ACCESS_VIOLATION);
    rule("NtContinue masks what ring 3 may not set");
    static uint64_t flags;
    static volatile int stage;
    static uint64_t stack_pointer;
    stage = 0;
    memset(&hostile, 0, sizeof(hostile));
    hostile.EFlags = 0x1A7000 | 1;    // IOPL, NT, VM, VIF, VIP, and carry
    memset(hostile.FltSave + 24, 0xFF, 4);    // all of MXCSR
    hostile.FltSave[0] = 0x7F, hostile.FltSave[1] = 0x03;
    __asm__ volatile("mov %%rsp, %0\n lea 1f(%%rip), %%rax\n mov %%rax, %1\n"
                     "mov %%rsp, %2\n mov %%rbx, %3\n mov %%rbp, %4\n"
                     "jmp 2f\n"
                     "1: pushfq\n pop %5\n"
                     "2:\n"
                     : "=m"(stack_pointer), "=m"(hostile.Rip),
                       "=m"(hostile.Rsp), "=m"(hostile.Rbx),
                       "=m"(hostile.Rbp), "+m"(flags)
                     : : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9",
                       "r10", "r11", "r12", "r13", "r14", "r15", "memory");
    if (stage++ == 0)
        NtContinue(&hostile, false);
    CHECK_EQ(stage, 2);
    CHECK_EQ(flags & 0x1A7000, 0);
    __asm__ volatile("ldmxcsr %0" : : "m"(*(const uint32_t[]){ 0x1F80 }));
}

static void nothing(void *a, void *b, void *c)
{
    (void)a, (void)b, (void)c;
}

// First of all: later the free kernel has kept what these would add.
static void kept(void)
{
    SYSTEM_PERFORMANCE_INFORMATION before, after;
    rule("pool blocks that are kept for later are not in use");
    CHECK_OK(NtQuerySystemInformation(SystemPerformanceInformation, &before,
                                      sizeof(before), NULL));
    for (int i = 0; i < 50; i++)
        CHECK_OK(NtQueueApcThread(NtCurrentThread(), nothing, NULL, NULL,
                                  NULL));
    CHECK_OK(NtTestAlert());
    CHECK_OK(NtQuerySystemInformation(SystemPerformanceInformation, &after,
                                      sizeof(after), NULL));
    CHECK_EQ(after.PoolBlocks, before.PoolBlocks);
    CHECK_EQ(after.PoolBytes, before.PoolBytes);
}

int main(void)
{
    kept();
    when();
    within();
    other_threads();
    registers();
    continue_with();
    return ktap_end();
}
