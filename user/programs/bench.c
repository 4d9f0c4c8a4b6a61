// bench.c - what TINT's operations cost, laid out for whoever counts.
//
// Each row does one operation many times between two markers (measure.h), and
// then prints what was done. It counts no instructions itself: a counter from
// outside does, such as tests/bench/count.c, which `make bench` loads into
// QEMU. Nothing is printed inside a window. The rows are those of `make bench`.

#include <flow.h>
#include <measure.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEAST_WARM  256            // operations before a window opens
#define STACK_SIZE  (64u << 10)

struct row;

struct bench {
    uint64_t n;            // --n; 0: each row's own
    uint32_t disk;
    bool any_disk;
    bool direct;           // --port, for the rows without a road of their own
};

// What is measured, and how often.
struct row {
    const char *number;
    const char *name;
    bool (*run)(struct bench *bench, const struct row *row);
    uint64_t n;
    uint32_t depth;
    enum { ANY_ROAD, APC_ROAD, DIRECT_ROAD } road;
    const char *text;
};

__attribute__((format(printf, 1, 2)))
static bool fail(const char *format, ...)
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

static bool fail_status(const struct row *row, const char *what,
                        NTSTATUS status)
{
    char text[RTL_STATUS_SIZE];
    return fail("row %s: %s: %s", row->number, what,
                rtl_status_text(status, text));
}

static void report(const struct row *row, const struct rtl_window *window,
                   uint64_t n)
{
    char name[48];
    snprintf(name, sizeof(name), "%s:%s", row->number, row->name);
    rtl_print_window(window, name, n);
}

static uint64_t how_many(const struct bench *bench, const struct row *row)
{
    return bench->n ? bench->n : row->n;
}

// ---- Writes ---------------------------------------------------------------

static void print_counts(const struct rtl_counts *before, uint64_t writes)
{
    struct rtl_counts now;
    if (!rtl_read_counts(&now))
        return;
    uint64_t interrupts = now.interrupts - before->interrupts;
    uint64_t switches = now.switches - before->switches;
    uint64_t per = interrupts ? writes * 10 / interrupts : 0;
    printf("  writes=%lu interrupts=%lu dpcs=%lu (%lu.%lu writes/interrupt)"
           " switches=%lu\n", writes, interrupts, now.dpcs - before->dpcs,
           per / 10, per % 10, switches);
}

static bool is_direct(const struct bench *bench, const struct row *row)
{
    return row->road == ANY_ROAD ? bench->direct
                                       : row->road == DIRECT_ROAD;
}

// Fills the depth, warms up, and does n writes in a window; one call each.
static NTSTATUS measure_writes(struct rtl_flow *flow, uint64_t *n,
                               struct rtl_window *window)
{
    uint64_t warm = 2 * (uint64_t)flow->depth;
    rtl_fill_flow(flow);
    while (flow->taken < (warm < LEAST_WARM ? LEAST_WARM : warm) &&
           !flow->failed)
        rtl_turn_flow(flow);

    uint64_t first = flow->taken;
    rtl_open_window(window);
    while (flow->taken - first < *n && !flow->failed)
        rtl_turn_flow(flow);
    rtl_close_window(window);
    *n = flow->taken - first;
    return rtl_drain_flow(flow);
}

static bool run_writes(struct bench *bench, const struct row *row)
{
    struct rtl_flow flow;
    struct rtl_window window;
    struct rtl_counts before = { 0 };
    uint64_t n = how_many(bench, row);
    bool old = false;
    NTSTATUS status = rtl_open_flow(&flow, bench->disk, row->depth);
    if (!NT_SUCCESS(status))
        return fail_status(row, "disk, port or memory", status);
    nt_set_road(is_direct(bench, row), &old);
    rtl_read_counts(&before);
    status = measure_writes(&flow, &n, &window);
    if (NT_SUCCESS(status)) {
        report(row, &window, n);
        print_counts(&before, flow.taken);
    }
    nt_set_road(old, NULL);
    rtl_close_flow(&flow);
    return NT_SUCCESS(status) || fail_status(row, "a write", status);
}

// ---- Calls, ports, threads, APCs ------------------------------------------

static bool run_null(struct bench *bench, const struct row *row)
{
    struct rtl_window window;
    uint64_t n = how_many(bench, row);
    for (uint64_t i = 0; i < LEAST_WARM; i++)
        NtTestAlert();
    rtl_open_window(&window);
    for (uint64_t i = 0; i < n; i++)
        NtTestAlert();
    rtl_close_window(&window);
    report(row, &window, n);
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
static bool run_ports(struct bench *bench, const struct row *row)
{
    struct rtl_window window;
    struct round round = { .n = how_many(bench, row) + LEAST_WARM };
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
        return fail_status(row, "port or thread", status);
    status = go_round(&round, LEAST_WARM);
    if (status == STATUS_SUCCESS) {
        rtl_open_window(&window);
        status = go_round(&round, round.n - LEAST_WARM);
        rtl_close_window(&window);
    }
    if (status != STATUS_SUCCESS)
        return fail_status(row, "packet", status);
    report(row, &window, round.n - LEAST_WARM);
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

static bool run_apc(struct bench *bench, const struct row *row)
{
    struct rtl_window window;
    uint64_t n = how_many(bench, row);
    apcs = 0;
    interrupt_oneself(LEAST_WARM);
    rtl_open_window(&window);
    interrupt_oneself(n);
    rtl_close_window(&window);
    if (apcs != n + LEAST_WARM)
        return fail("row %s: %lu APCs ran, not %lu", row->number, apcs,
                    n + LEAST_WARM);
    report(row, &window, n);
    return true;
}

// ---- The table ------------------------------------------------------------

static const struct row rows[] = {
    { "1", "write-qd64-direct", run_writes, 8192, 64, DIRECT_ROAD,
      "4 KiB write, 64 in flight, one call each, direct road" },
    { "1b", "write-qd64-apc", run_writes, 8192, 64, APC_ROAD,
      "the same on the road with the APC" },
    { "2", "write-qd1-direct", run_writes, 2048, 1, DIRECT_ROAD,
      "one write in flight, asleep meanwhile; direct road" },
    { "2b", "write-qd1-apc", run_writes, 2048, 1, APC_ROAD,
      "the same on the road with the APC" },
    { "5", "null-call", run_null, 20000, 0, 0,
      "a system call that does nothing (NtTestAlert)" },
    { "6", "port-post-take", run_ports, 4096, 1, 0,
      "post to a port and take it, same thread" },
    { "7", "port-round-trip", run_ports, 4096, 2, 0,
      "post to a blocked thread and back" },
    { "8", "user-apc", run_apc, 4096, 0, 0,
      "user APC to oneself, alertable wait, run, return" },
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

static void print_usage(void)
{
    printf("usage: bench [--rows N,N...] [--n COUNT] [--disk N]"
           " [--port apc|direct]\n"
           "\n"
           "Does what each row of `make bench` measures, between markers for"
           " whoever counts\ninstructions outside.\n"
           "\n"
           "  --rows N,N...      only these (all that ring 3 can do)\n"
           "  --n COUNT          operations in a window (each row's own)\n"
           "  --disk N           \\\\.\\PhysicalDriveN (the first without a"
           " volume)\n"
           "  --port apc|direct  the road of rows that say none (direct)\n"
           "\n");
    for (size_t i = 0; i < ROWS; i++)
        printf("  %-3s %s\n", rows[i].number, rows[i].text);
    printf("\nWHAT IS THERE ON THE DISK IS OVERWRITTEN.\n");
}

static const struct row *find_row(const char *number, size_t length)
{
    for (size_t i = 0; i < ROWS; i++)
        if (strlen(rows[i].number) == length &&
            memcmp(rows[i].number, number, length) == 0)
            return &rows[i];
    return NULL;
}

// Fills chosen in the order of the words; returns how many, 0: an error.
static size_t choose_rows(const char *words, const struct row **chosen,
                          size_t room)
{
    size_t count = 0;
    for (;;) {
        size_t length = strcspn(words, ",");
        const struct row *row = find_row(words, length);
        if (!row || count == room) {
            fail(row ? "--rows: too many" : "--rows: there is no row '%.*s';"
                 " bench --help names them", (int)length, words);
            return 0;
        }
        chosen[count++] = row;
        if (!words[length])
            return count;
        words += length + 1;
    }
}

static bool parse_option(struct bench *bench, const char *name,
                         const char *value, const char **list)
{
    uint64_t number = 0;
    if (!value)
        return fail("%s: a word is missing behind it", name);
    if (strcmp(name, "--rows") == 0) {
        *list = value;
        return true;
    }
    if (strcmp(name, "--port") == 0) {
        bench->direct = strcmp(value, "direct") == 0;
        return bench->direct || strcmp(value, "apc") == 0 ||
               fail("--port %s: it is apc or direct", value);
    }
    if (!rtl_parse_number(value, &number))
        return fail("%s %s: not a number", name, value);
    if (strcmp(name, "--n") == 0) {
        bench->n = number;
        return number > 0 || fail("--n 0: there is nothing to do");
    }
    bench->disk = (uint32_t)number;
    bench->any_disk = false;
    return number < 100 || fail("--disk %s: there is no such disk", value);
}

static bool is_option(const char *word)
{
    return strcmp(word, "--rows") == 0 || strcmp(word, "--n") == 0 ||
           strcmp(word, "--disk") == 0 || strcmp(word, "--port") == 0;
}

// The disk is only needed by some rows: without one, those say so.
static void choose_disk(struct bench *bench)
{
    DISK_GEOMETRY geometry;
    HANDLE disk;
    if (bench->any_disk &&
        NT_SUCCESS(nt_open_free_disk(&bench->disk, FILE_WRITE_DATA, 0, &disk,
                                     &geometry)))
        NtClose(disk);
}

int main(int argc, char **argv)
{
    RTL_MARK(RTL_MARK_START);
    static const struct row *chosen[4 * ROWS];
    struct bench bench = { .any_disk = true, .direct = true };
    const char *list = NULL;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        print_usage();
        return 0;
    }
    for (int i = 1; i < argc; i += 2) {
        if (!is_option(argv[i])) {
            fail("%s: unknown; bench --help tells more", argv[i]);
            return 2;
        }
        if (!parse_option(&bench, argv[i], argv[i + 1], &list))
            return 2;
    }
    size_t count = ROWS;
    if (list)
        count = choose_rows(list, chosen, sizeof(chosen) / sizeof(chosen[0]));
    for (size_t i = 0; i < ROWS && !list; i++)
        chosen[i] = &rows[i];
    if (count == 0)
        return 2;
    choose_disk(&bench);
    bool good = true;
    for (size_t i = 0; i < count; i++) {
        good &= chosen[i]->run(&bench, chosen[i]);
        fflush(stdout);
    }
    return good ? 0 : 1;
}
