// ut_entry.c - hostile registers at every way into ring 0 and out of it.
// cpus: 1
// cpus: 4
//
// Flags, stacks and frame pointers at a system call, at an interrupt, and when
// an APC is delivered; contexts for NtContinue, made up or spoilt on the stack
// by an APC; routines that are none. What ends its process runs in one of its
// own: ut_entry victim KIND VALUE.

#include "tests/user/context.h"
#include "tests/user/neighbour.h"
#include "tests/user/random.h"

#define SURVIVED 200
#define CARRY    0x1u
#define TRAP     0x100u
#define DOWN     0x400u       // DF
#define NESTED   0x4000u      // NT
#define CHECKED  0x40000u     // AC
#define ID       0x200000u

static const uint64_t addresses[] = {
    0, 8, 0x1000, 0xFFFFFFF0ull, 0x00007FFFFFFF0000ull, 0x00007FFFFFFFFFF8ull,
    0x0000800000000000ull, 0x1000000000000000ull, 0x8000000000000000ull,
    0xFFFF7FFFFFFFFFF8ull, 0xFFFF800000000000ull, 0xFFFF800000100000ull,
    0xFFFFC00000001000ull, 0xFFFFFFFF80200000ull, 0xFFFFFFFFFFFFFFF8ull,
};

#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define HOLE 0x0000800000000000ull

// What enter() loads, and what it finds afterwards.
struct entry {
    uint64_t rax, rdi, rsi, rdx, r10, r8, r9, rsp, rbp, flags;
    uint64_t rsp_after, rbp_after, flags_after;
    uint64_t own_rsp;
    uint64_t spins;    // 0: a system call
};

// Loads the registers, makes the system call or counts down in ring 3, and
// stores what is in them then. Returns rax.
NTSTATUS enter(struct entry *entry);
__asm__(".text\n"
        "enter:\n"
        "push %rbx\n push %rbp\n"
        "mov %rdi, %rbx\n mov %rsp, 104(%rbx)\n"
        "mov 112(%rbx), %rcx\n"
        "mov 0(%rbx), %rax\n mov 16(%rbx), %rsi\n mov 24(%rbx), %rdx\n"
        "mov 32(%rbx), %r10\n mov 40(%rbx), %r8\n mov 48(%rbx), %r9\n"
        "mov 64(%rbx), %rbp\n mov 8(%rbx), %rdi\n"
        "test %rcx, %rcx\n"
        "jnz 1f\n"
        "pushq 72(%rbx)\n popfq\n mov 56(%rbx), %rsp\n"
        "syscall\n"
        "jmp 3f\n"
        "1: pushq 72(%rbx)\n popfq\n mov 56(%rbx), %rsp\n"
        "2: lea -1(%rcx), %rcx\n jrcxz 3f\n jmp 2b\n"
        "3: mov %rsp, 80(%rbx)\n mov %rbp, 88(%rbx)\n"
        "mov 104(%rbx), %rsp\n"
        "pushfq\n popq 96(%rbx)\n"
        "pushq $2\n popfq\n"
        "pop %rbp\n pop %rbx\n ret\n");

static const uint32_t flag_sets[] = {
    0, CARRY, DOWN, NESTED, CHECKED, ID, DOWN | NESTED,
    CARRY | DOWN | NESTED | CHECKED | ID,
};

static bool keeps(struct entry *e, NTSTATUS should)
{
    NTSTATUS status = enter(e);
    const uint32_t seen = CARRY | TRAP | DOWN | NESTED | CHECKED;
    return CHECK_STATUS(status, should) && CHECK_EQ(e->rsp_after, e->rsp) &&
           CHECK_EQ(e->rbp_after, e->rbp) &&
           CHECK_EQ(e->flags_after & seen, e->flags & seen);
}

// ---- System calls -----------------------------------------------------------

static void system_calls(void)
{
    static int64_t moment = -10000, frequency, counter;
    static uint8_t page[8192] __attribute__((aligned(4096)));
    static uint64_t stack[256];
    HANDLE event = new_event(NotificationEvent, true);
    HANDLE disk = open_disk(FILE_SYNCHRONOUS_IO_NONALERT);
    EVENT_BASIC_INFORMATION basic;
    IO_STATUS_BLOCK iosb;
    rule("flags, stack and frame pointer at a system call");
    for (size_t f = 0; f < COUNT(flag_sets); f++)
        for (size_t a = 0; a < COUNT(addresses); a++) {
            struct entry e = { .flags = flag_sets[f], .rsp = addresses[a],
                               .rbp = addresses[COUNT(addresses) - 1 - a] };
            e.rax = NT_SERVICE_NtYieldExecution;
            keeps(&e, STATUS_SUCCESS);
            e.rax = UINT64_MAX;
            keeps(&e, STATUS_INVALID_SYSTEM_SERVICE);
            e.rax = NT_SERVICE_NtQueryEvent;
            e.rdi = (uint64_t)event;
            e.rsi = (uint64_t)&basic;
            keeps(&e, STATUS_SUCCESS);
            e.rsi = addresses[a];
            keeps(&e, STATUS_ACCESS_VIOLATION);
            e.rax = NT_SERVICE_NtQueryPerformanceCounter;
            e.rdi = (uint64_t)&counter;
            e.rsi = (uint64_t)&frequency;
            keeps(&e, STATUS_SUCCESS);
            e.rax = NT_SERVICE_NtReadFile;    // arguments on the stack
            e.rdi = (uint64_t)disk;
            e.rsi = e.rdx = e.r10 = 0;
            e.r8 = (uint64_t)&iosb;
            e.r9 = (uint64_t)page;
            keeps(&e, STATUS_ACCESS_VIOLATION);
            if (a % 8)
                continue;
            stack[1] = sizeof(page);
            stack[2] = 0;
            e.rsp = (uint64_t)stack;
            keeps(&e, STATUS_SUCCESS);
            CHECK_EQ(iosb.Information, sizeof(page));
            e.rax = NT_SERVICE_NtDelayExecution;
            e.rdi = 0;
            e.rsi = (uint64_t)&moment;
            keeps(&e, STATUS_SUCCESS);
        }
    NtClose(disk);
    NtClose(event);
}

// ---- Interrupts -------------------------------------------------------------

static volatile bool stop;

static NTSTATUS wake_often(void *argument)
{
    (void)argument;
    while (!stop)
        NtDelayExecution(false, MS(1));
    return STATUS_SUCCESS;
}

static NTSTATUS spin(void *argument)
{
    struct entry *e = argument;
    return keeps(e, 42) ? STATUS_SUCCESS : STATUS_UNSUCCESSFUL;
}

static void interrupts(void)
{
    HANDLE waker = new_thread(wake_often, NULL, 0), spinner[2];
    rule("flags, stack and frame pointer at an interrupt");
    for (size_t a = 0; a < COUNT(addresses); a++) {
        struct entry entries[2];
        for (int i = 0; i < 2; i++) {
            entries[i] = (struct entry){
                .rax = 42, .spins = 3000000, .rbp = addresses[a],
                .rsp = addresses[(a + (size_t)i) % COUNT(addresses)],
                .flags = flag_sets[(a + (size_t)i) % COUNT(flag_sets)],
            };
            spinner[i] = new_thread(spin, &entries[i], 0);
        }
        CHECK_OK(join(spinner[0]));
        CHECK_OK(join(spinner[1]));
    }
    rule("a thread without a stack is ended");
    for (size_t a = 0; a < COUNT(addresses); a++) {
        struct entry e = { .rax = 42, .spins = UINT64_MAX, .rbp = addresses[a],
                           .rsp = addresses[a], .flags = NESTED | DOWN };
        HANDLE thread = new_thread(spin, &e, 0);
        CHECK_OK(NtDelayExecution(false, MS(2)));
        CHECK_OK(NtTerminateThread(thread, 7));
        CHECK_STATUS(join(thread), 7);
    }
    stop = true;
    CHECK_OK(join(waker));
}

// ---- APCs -------------------------------------------------------------------

static volatile uint64_t apc_flags, apc_runs;

// Spoils the context that the dispatcher (crt0) has in rbx: a places 8 bytes
// of value b at offset a.
void spoil(void *offset, void *value, void *c)
    __attribute__((visibility("hidden")));
__asm__("spoil:\n"
        "cmp $-1, %rdi\n je 1f\n"
        "mov %rsi, (%rbx, %rdi)\n"
        "1: ret\n");

static void note_flags(void *a, void *b, void *c)
{
    (void)a, (void)b, (void)c;
    uint64_t flags;
    __asm__ volatile("sub $128, %%rsp\n pushfq\n pop %0\n add $128, %%rsp"
                     : "=r"(flags));
    apc_flags |= flags;
    apc_runs++;
}

static void queue(void *routine, uint64_t a, uint64_t b)
{
    NtQueueApcThread(NtCurrentThread(), (PS_APC_ROUTINE *)routine, (void *)a,
                     (void *)b, NULL);
}

static void apcs(void)
{
    static uint64_t stack[2048];
    static int64_t moment = -10000;
    rule("an APC begins with clean flags, and the old ones come back");
    for (size_t f = 0; f < COUNT(flag_sets); f++) {
        // Of what ring 3 may set by popf, NtContinue leaves out NT and ID.
        struct entry e = { .flags = flag_sets[f] & ~(NESTED | ID), .rdi = 1,
                           .rax = NT_SERVICE_NtDelayExecution,
                           .rsi = (uint64_t)&moment, .rbp = HOLE,
                           .rsp = (uint64_t)(stack + 2040) };
        queue(note_flags, 0, 0);
        keeps(&e, STATUS_USER_APC);
    }
    CHECK_EQ(apc_runs, COUNT(flag_sets));
    CHECK_EQ(apc_flags & (DOWN | NESTED | CHECKED | TRAP), 0);
}

static uint32_t depth;

static void deeper(void *limit, void *b, void *c)
{
    (void)b, (void)c;
    if (++depth >= (uint64_t)limit)
        return;
    queue(deeper, (uint64_t)limit, 0);
    NtDelayExecution(true, LONG);
}

static void nested(void)
{
    rule("APCs inside APCs");
    depth = 0;
    queue(deeper, 30, 0);
    CHECK_STATUS(NtDelayExecution(true, LONG), STATUS_USER_APC);
    CHECK_EQ(depth, 30);
}

// ---- NtContinue -------------------------------------------------------------

static uint64_t state = 1;

static uint64_t any(void)
{
    return random_from(&state);
}

static void contexts(void)
{
    const uint64_t may_set = 0x40CD5 | DOWN;    // not TF: it would end us
    rule("NtContinue with random contexts");
    for (int i = 0; i < 2000; i++) {
        CONTEXT context;
        uint64_t after[4];
        for (size_t j = 0; j < sizeof(context) / 8; j++)
            ((uint64_t *)&context)[j] = any();
        context.EFlags &= ~(uint64_t)TRAP;
        if (i % 2)
            context.Rsp = addresses[any() % COUNT(addresses)];
        uint64_t rsp = context.Rsp, flags = context.EFlags;
        go_on(&context, after);
        if (!CHECK_EQ(after[0], (flags & may_set) | 0x202) ||
            !CHECK_EQ(after[2], rsp))
            break;
    }
    __asm__ volatile("fninit\n ldmxcsr %0" : : "m"((uint32_t){ 0x1F80 }));
    rule("NtContinue to what is no address");
    for (size_t a = 0; a < COUNT(addresses); a++) {
        CONTEXT context = { .Rip = addresses[a] };
        if (addresses[a] <= 0xFFFFFFFF || addresses[a] >= 0x7FFFFFFF0000ull)
            CHECK_STATUS(NtContinue(&context, true), STATUS_ACCESS_VIOLATION);
    }
}

// ---- What ends its process --------------------------------------------------

static NTSTATUS pause_in(HANDLE event)
{
    return wait(event);
}

static void free_range_of(const void *address)
{
    MEMORY_BASIC_INFORMATION basic = { .State = 0 };
    size_t size = 0;
    NtQueryVirtualMemory(NtCurrentProcess(), address, &basic);
    NtFreeVirtualMemory(NtCurrentProcess(), &basic.AllocationBase, &size,
                        MEM_RELEASE);
}

static int victim(const char *kind, uint64_t value)
{
    static int64_t moment = -10000;
    static uint8_t sector[512] __attribute__((aligned(512)));
    static IO_STATUS_BLOCK iosb;
    uint64_t address = addresses[value % COUNT(addresses)];
    struct entry alertable = { .rdi = 1, .rax = NT_SERVICE_NtDelayExecution,
                               .rsi = (uint64_t)&moment, .rsp = address };
    if (strcmp(kind, "apc") == 0) {           // a routine that is none
        queue((void *)address, 1, 2);
        NtTestAlert();
    } else if (strcmp(kind, "data") == 0) {
        queue(sector, 1, 2);
        NtTestAlert();
    } else if (strcmp(kind, "io") == 0) {
        NtReadFile(open_disk(0), NULL, (IO_APC_ROUTINE *)address, NULL, &iosb,
                   sector, sizeof(sector), 0);
        NtDelayExecution(true, LONG);
    } else if (strcmp(kind, "timer") == 0) {
        HANDLE timer = NULL;
        NtCreateTimer(&timer, ALL_ACCESS, NULL, NotificationTimer);
        NtSetTimer(timer, &moment, (TIMER_APC_ROUTINE *)address, NULL, false,
                   0, NULL);
        NtDelayExecution(true, LONG);
    } else if (strcmp(kind, "thread") == 0) {
        join(new_thread((NTSTATUS(*)(void *))(void *)sector, NULL, 0));
    } else if (strcmp(kind, "stack") == 0) {  // for an APC
        queue(note_flags, 0, 0);
        enter(&alertable);
    } else if (strcmp(kind, "rip") == 0) {
        queue(spoil, offsetof(CONTEXT, Rip), address);
        NtTestAlert();
    } else if (strcmp(kind, "rsp") == 0) {
        queue(spoil, offsetof(CONTEXT, Rsp), address);
        NtTestAlert();
    } else if (strcmp(kind, "flags") == 0) {
        queue(spoil, offsetof(CONTEXT, EFlags), value);
        NtTestAlert();
    } else if (strcmp(kind, "mxcsr") == 0) {
        queue(spoil, offsetof(CONTEXT, FltSave) + 24, UINT64_MAX);
        NtTestAlert();
    } else if (strcmp(kind, "deep") == 0) {
        queue(deeper, UINT64_MAX, 0);
        NtDelayExecution(true, LONG);
    } else if (strcmp(kind, "no-text") == 0) {
        free_range_of((void *)victim);
    } else if (strcmp(kind, "no-stack") == 0) {
        free_range_of(&alertable);
    } else if (strcmp(kind, "no-peb") == 0) {
        free_range_of(NtCurrentPeb());
        (void)*(volatile uint64_t *)NtCurrentPeb();
    } else if (strcmp(kind, "no-text-apc") == 0) {
        HANDLE other = new_thread(pause_in, new_event(NotificationEvent, 0),
                                  0);
        NtQueueApcThread(other, note_flags, NULL, NULL, NULL);
        until_waiting(other, UserRequest);
        free_range_of((void *)victim);
    }
    return SURVIVED;
}

static const struct {
    const char *kind;
    bool addresses;
    uint64_t value;
    NTSTATUS status, other;
} kinds[] = {
#define AV STATUS_ACCESS_VIOLATION
#define NO_STACK STATUS_STACK_OVERFLOW
    { "apc", true, 0, AV, AV }, { "data", false, 0, AV, AV },
    { "io", true, 0, AV, AV }, { "timer", true, 0, AV, AV },
    { "thread", false, 0, AV, AV },
    { "stack", true, 0, NO_STACK, NO_STACK },
    { "rip", true, 0, AV, AV }, { "rsp", true, 0, AV, AV },
    { "flags", false, ~(uint64_t)TRAP, SURVIVED, SURVIVED },
    { "flags", false, UINT64_MAX, STATUS_SINGLE_STEP, STATUS_SINGLE_STEP },
    { "flags", false, 0, SURVIVED, SURVIVED },
    { "mxcsr", false, 0, SURVIVED, SURVIVED },
    { "deep", false, 0, NO_STACK, AV },    // ring 3 or the kernel meets the end
    { "no-text", false, 0, AV, AV }, { "no-stack", false, 0, AV, AV },
    { "no-peb", false, 0, AV, AV }, { "no-text-apc", false, 0, AV, AV },
};

static void victims(void)
{
    for (size_t i = 0; i < COUNT(kinds); i++)
        for (size_t a = 0; a < (kinds[i].addresses ? COUNT(addresses) : 1);
             a++) {
            char number[24], text[RTL_STATUS_SIZE];
            char *words[] = { "ut_entry", "victim", (char *)kinds[i].kind,
                              number };
            bool none = addresses[a] == 0 &&
                        (strcmp(kinds[i].kind, "apc") == 0 ||
                         strcmp(kinds[i].kind, "io") == 0 ||
                         strcmp(kinds[i].kind, "timer") == 0);
            if (none)    // a routine that is not wanted
                continue;
            snprintf(number, sizeof(number), "%llu",
                     (unsigned long long)(kinds[i].addresses ? a
                                                             : kinds[i].value));
            NTSTATUS status = run(4, words);
            if (status == kinds[i].status || status == kinds[i].other)
                ktap_checks++;
            else if (!CHECK(!"the status is wrong"))
                printf("    %s %s: %s\n", kinds[i].kind, number,
                       rtl_status_text(status, text));
        }
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "victim") == 0)
        return victim(argv[2], strtoull(argv[3], NULL, 0));
    neighbour beside = start_neighbour("all");
    system_calls();
    interrupts();
    apcs();
    nested();
    contexts();
    rule("what ends its process");
    victims();
    stop_neighbour(beside);
    return ktap_end();
}
