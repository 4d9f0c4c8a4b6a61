// labapc.c - the ring-3 half of grading lab 2: queues user APCs to its own
// thread and to one that waits, and waits in every way itself.
//
// As in the kernel (tools/labs/guest/probe.h): the grader writes the script,
// and sees by breakpoints what runs; nothing is reported.

#include <ntdll.h>
#include <stdio.h>

#define STEPS 512
#define NOW   (&(int64_t){ 0 })
#define SOON  (&(int64_t){ -10000 })    // 1 ms

enum { PROBE_READY = 1, PROBE_STEP, PROBE_RESULT, PROBE_EXIT, PROBE_WOKE };

enum op {
    QUEUE = 1,                   // for a thread, two arguments
    SLEEP,                       // alertable or not; not at all, or a moment
    WAIT,                        // the same, for an event that is not set
    TEST,                        // NtTestAlert
    INSIDE,                      // of the next APC: the steps from a on
    SIGNAL,                      // the other thread; how it waits next
};

struct step {
    uint64_t op, a, b, c;
};

struct step probe_script[STEPS];
#define HIDDEN __attribute__((visibility("hidden")))
HIDDEN void probe_see(uint64_t what, uint64_t a, uint64_t b, uint64_t c);
HIDDEN void labapc_routine(void *a, void *b, void *c);
void labapc_routine_seen(void);

__asm__(".pushsection .text\n"
        ".globl probe_see\nprobe_see: nop\nret\n"
        ".globl labapc_routine\nlabapc_routine: nop\njmp labapc_routine_seen\n"
        ".popsection");

static HANDLE never, go, threads[2];
static uint64_t inside;
static volatile uint64_t how;

static void run(uint64_t first);

void labapc_routine_seen(void)
{
    uint64_t first = inside;
    inside = 0;
    if (first)
        run(first);
    probe_see(PROBE_EXIT, 0, 0, 0);
}

// Above the thread that runs the script: it goes on as soon as it may.
static NTSTATUS waiter(void *argument)
{
    (void)argument;
    NTSTATUS status;
    do {
        status = NtWaitForSingleObject(go, how & 1, NULL);
        probe_see(PROBE_WOKE, (uint32_t)status, 0, 0);
    } while (NT_SUCCESS(status));
    return status;
}

static NTSTATUS run_step(const struct step *s)
{
    const int64_t *timeout = s->b ? SOON : NOW;
    switch (s->op) {
    case QUEUE:
        return NtQueueApcThread(threads[s->a & 1], labapc_routine,
                                (void *)s->b, (void *)s->c,
                                (void *)(s->b ^ s->c));
    case SLEEP: return NtDelayExecution(s->a & 1, timeout);
    case WAIT: return NtWaitForSingleObject(never, s->a & 1, timeout);
    case TEST: return NtTestAlert();
    case INSIDE: inside = s->a; return 0;
    case SIGNAL: how = s->a; return NtSetEvent(go, NULL);
    default: return 0;
    }
}

static void run(uint64_t first)
{
    for (uint64_t i = first; i < STEPS && probe_script[i].op; i++) {
        probe_see(PROBE_STEP, i, 0, 0);
        uint64_t status = (uint32_t)run_step(&probe_script[i]);
        probe_see(PROBE_RESULT, i, status, 0);
    }
}

int main(void)
{
    int32_t above = 2;
    CLIENT_ID *id = &NtCurrentPeb()->ClientId;
    NtCreateEvent(&never, ALL_ACCESS, NULL, NotificationEvent, false);
    NtCreateEvent(&go, ALL_ACCESS, NULL, SynchronizationEvent, false);
    NtOpenThread(&threads[0], ALL_ACCESS, NULL, id);
    NtCreateThreadEx(&threads[1], ALL_ACCESS, NULL, NtCurrentProcess(),
                     (void *)waiter, NULL, THREAD_CREATE_FLAGS_CREATE_SUSPENDED,
                     0);
    NtSetInformationThread(threads[1], ThreadBasePriority, &above,
                           sizeof(above));
    NtResumeThread(threads[1], NULL);
    // It waits when this has returned.
    NtDelayExecution(false, SOON);
    for (;;) {
        probe_see(PROBE_READY, 0, 0, 0);
        if (!probe_script[0].op)
            return 0;
        run(0);
    }
}
