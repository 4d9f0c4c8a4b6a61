// benchcalls.c - the rows of bench that need no disk, and what all rows share.

#include <bench.h>
#include <stdarg.h>
#include <stdio.h>

#define STACK_SIZE (64u << 10)

__attribute__((format(printf, 1, 2)))
bool bench_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fflush(stdout);
    fprintf(stderr, "bench: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    return false;
}

bool bench_fail_status(const struct bench_row *row, const char *what,
                        NTSTATUS status)
{
    char text[RTL_STATUS_SIZE];
    return bench_fail("row %s: %s: %s", row->number, what,
                rtl_status_text(status, text));
}

void bench_report(const struct bench_row *row, const struct rtl_window *window,
                   uint64_t n)
{
    char name[48];
    snprintf(name, sizeof(name), "%s:%s", row->number, row->name);
    rtl_print_window(window, name, n);
}

uint64_t bench_count(const struct bench *bench, const struct bench_row *row)
{
    return bench->n ? bench->n : row->n;
}

// ---- Calls, ports, threads, APCs ------------------------------------------

bool bench_null(struct bench *bench, const struct bench_row *row)
{
    struct rtl_window window;
    uint64_t n = bench_count(bench, row);
    for (uint64_t i = 0; i < BENCH_WARM; i++)
        NtTestAlert();
    rtl_open_window(&window);
    for (uint64_t i = 0; i < n; i++)
        NtTestAlert();
    rtl_close_window(&window);
    bench_report(row, &window, n);
    return true;
}

struct round {
    HANDLE there, back;    // ports; the same one for row 6
    uint64_t n;
};

static inline NTSTATUS post(HANDLE port)
{
    return NtSetIoCompletion(port, NULL, NULL, STATUS_SUCCESS, 0);
}

static inline NTSTATUS take(HANDLE port)
{
    void *key, *context;
    IO_STATUS_BLOCK iosb;
    return NtRemoveIoCompletion(port, &key, &context, &iosb, NULL);
}

static NTSTATUS answer(void *argument)
{
    struct round *round = argument;
    for (uint64_t i = 0; i < round->n; i++)
        if (take(round->there) != STATUS_SUCCESS || post(round->back))
            return STATUS_UNSUCCESSFUL;
    return STATUS_SUCCESS;
}

static NTSTATUS go_round(const struct round *round, uint64_t n)
{
    NTSTATUS status = STATUS_SUCCESS;
    for (uint64_t i = 0; i < n && status == STATUS_SUCCESS; i++) {
        status = post(round->there);
        if (status == STATUS_SUCCESS)
            status = take(round->back);
    }
    return status;
}

// Rows 6 and 7: a packet there and one back; with one port it is the same.
bool bench_ports(struct bench *bench, const struct bench_row *row)
{
    struct rtl_window window;
    struct round round = { .n = bench_count(bench, row) + BENCH_WARM };
    bool two = row->depth > 1;
    HANDLE thread = NULL;
    NTSTATUS status = NtCreateIoCompletion(&round.there, ALL_ACCESS, NULL, 0);
    round.back = round.there;
    if (NT_SUCCESS(status) && two)
        status = NtCreateIoCompletion(&round.back, ALL_ACCESS, NULL, 0);
    if (NT_SUCCESS(status) && two)
        status = NtCreateThreadEx(&thread, ALL_ACCESS, NULL,
                                  NtCurrentProcess(), answer, &round, 0,
                                  STACK_SIZE);
    if (!NT_SUCCESS(status))
        return bench_fail_status(row, "port or thread", status);
    status = go_round(&round, BENCH_WARM);
    if (status == STATUS_SUCCESS) {
        rtl_open_window(&window);
        status = go_round(&round, round.n - BENCH_WARM);
        rtl_close_window(&window);
    }
    if (status != STATUS_SUCCESS)
        return bench_fail_status(row, "packet", status);
    bench_report(row, &window, round.n - BENCH_WARM);
    if (two) {
        NtWaitForSingleObject(thread, false, NULL);
        NtClose(thread);
        NtClose(round.back);
    }
    NtClose(round.there);
    return true;
}

static uint64_t apcs;

static void count_apc(void *a, void *b, void *c)
{
    (void)a, (void)b, (void)c;
    apcs++;
}

static void interrupt_oneself(uint64_t n)
{
    const int64_t for_ever = INT64_MIN;
    for (uint64_t i = 0; i < n; i++) {
        NtQueueApcThread(NtCurrentThread(), count_apc, NULL, NULL, NULL);
        NtDelayExecution(true, &for_ever);
    }
}

bool bench_apc(struct bench *bench, const struct bench_row *row)
{
    struct rtl_window window;
    uint64_t n = bench_count(bench, row);
    apcs = 0;
    interrupt_oneself(BENCH_WARM);
    rtl_open_window(&window);
    interrupt_oneself(n);
    rtl_close_window(&window);
    if (apcs != n + BENCH_WARM)
        return bench_fail("row %s: %lu APCs ran, not %lu", row->number, apcs,
                    n + BENCH_WARM);
    bench_report(row, &window, n);
    return true;
}

// ---- Rows for others to count ---------------------------------------------

bool bench_outside(struct bench *bench, const struct bench_row *row)
{
    (void)bench;
    printf("row %s: %s; nothing to do here\n", row->number, row->text);
    return true;
}
