// neighbour.c - works while others are attacked: neighbour all|frugal|wait
// helper: see neighbour.h
//
// Each round writes a pattern to the disk and reads it back, waits for a
// timer, lets a thread run, and looks whether its registers and its memory are
// what they were. The event that is its standard input ends it; "wait" only
// waits for that.

#include "tests/user/ktap.h"

#define PLACE (8u << 20)    // on the disk, where nobody else writes
#define SIZE  4096u

static uint8_t out[SIZE] __attribute__((aligned(4096)));
static uint8_t in[SIZE] __attribute__((aligned(4096)));
static uint64_t memory[64 * 512];    // nobody may write here, ever
static volatile uint32_t threads_run;

static NTSTATUS count_one(void *argument)
{
    threads_run += (uint32_t)(uint64_t)argument;
    return STATUS_SUCCESS;
}

static NTSTATUS use_thread(void)
{
    HANDLE thread;
    uint32_t before = threads_run;
    NTSTATUS status = NtCreateThreadEx(&thread, ALL_ACCESS, NULL,
                                       NtCurrentProcess(), (void *)count_one,
                                       (void *)1, 0, 0);
    if (!NT_SUCCESS(status))
        return status;
    status = NtWaitForSingleObject(thread, false, LONG);
    NtClose(thread);
    if (status != STATUS_SUCCESS)
        return status;
    return threads_run == before + 1 ? STATUS_SUCCESS : STATUS_UNSUCCESSFUL;
}

// Flags, vector registers and the direction of strings, as the system leaves
// them behind a service.
static bool registers_are_kept(uint64_t round)
{
    uint64_t flags, back;
    double half = (double)round / 2;
    __asm__ volatile("movq %2, %%xmm7\n mov %3, %%eax\n syscall\n"
                     "movq %%xmm7, %1\n sub $128, %%rsp\n pushfq\n pop %0\n"
                     "add $128, %%rsp"
                     : "=&r"(flags), "=&r"(back)
                     : "r"(half), "i"(NT_SERVICE_NtYieldExecution)
                     : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10",
                       "r11", "xmm7", "memory", "cc");
    memcpy(&half, &back, sizeof(back));
    return half == (double)round / 2 && (flags & 0x7500) == 0;
}

static uint64_t fill(uint64_t i)
{
    return i * 0x9E3779B97F4A7C15ull ^ 0x4E65696768626F72ull;
}

static bool memory_is_kept(void)
{
    for (uint64_t i = 0; i < sizeof(memory) / sizeof(*memory); i++)
        if (memory[i] != fill(i))
            return false;
    return true;
}

static NTSTATUS one_round(HANDLE disk, uint64_t round, bool threads)
{
    uint32_t done = 0;
    for (uint32_t i = 0; i < SIZE; i++)
        out[i] = (uint8_t)(round * 7 + i);
    NTSTATUS status = nt_write(disk, out, SIZE, PLACE, &done);
    if (NT_SUCCESS(status))
        status = nt_read(disk, in, SIZE, PLACE, &done);
    if (NT_SUCCESS(status) && memcmp(in, out, SIZE) != 0)
        status = STATUS_DATA_ERROR;
    if (NT_SUCCESS(status))
        status = NtDelayExecution(false, MS(1));
    if (NT_SUCCESS(status) && threads)
        status = use_thread();
    if (NT_SUCCESS(status) && !registers_are_kept(round))
        status = STATUS_UNSUCCESSFUL;
    if (NT_SUCCESS(status) && !memory_is_kept())
        status = STATUS_CONFLICTING_ADDRESSES;
    return status;
}

int main(int argc, char **argv)
{
    HANDLE stop = NtCurrentPeb()->ProcessParameters.StandardInput;
    HANDLE tick = NtCurrentPeb()->ProcessParameters.StandardOutput;
    if (argc == 2 && strcmp(argv[1], "wait") == 0)
        return NtWaitForSingleObject(stop, false, NULL);
    bool threads = argc < 2 || strcmp(argv[1], "frugal") != 0;
    HANDLE disk = open_disk(0);
    uint64_t rounds = 0;
    for (uint64_t i = 0; i < sizeof(memory) / sizeof(*memory); i++)
        memory[i] = fill(i);
    NTSTATUS status = STATUS_SUCCESS;
    while (NT_SUCCESS(status) &&
           (!rounds || NtWaitForSingleObject(stop, false, POLL) !=
                           STATUS_SUCCESS)) {
        status = one_round(disk, ++rounds, threads);
        NtSetEvent(tick, NULL);
    }
    NtClose(disk);
    return NT_SUCCESS(status) ? (int)rounds : status;
}
