// benchwrites.c - the rows of bench that write to a disk.

#include <bench.h>
#include <crew.h>
#include <flow.h>
#include <stdio.h>

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

static bool is_direct(const struct bench *bench, const struct bench_row *row)
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
    while (flow->taken < (warm < BENCH_WARM ? BENCH_WARM : warm) &&
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

static bool do_writes(struct bench *bench, const struct bench_row *row,
                      bool array)
{
    struct rtl_flow flow;
    struct rtl_window window;
    struct rtl_counts before = { 0 };
    uint64_t n = bench_count(bench, row);
    uint32_t old = 0;
    NTSTATUS status = rtl_open_flow(&flow, bench->disk, row->depth);
    if (!NT_SUCCESS(status))
        return bench_fail_status(row, "disk, port or memory", status);
    flow.array = array;
    nt_set_road(is_direct(bench, row), &old);
    rtl_read_counts(&before);
    status = measure_writes(&flow, &n, &window);
    if (NT_SUCCESS(status)) {
        bench_report(row, &window, n);
        print_counts(&before, flow.taken);
    }
    nt_set_road(old, NULL);
    rtl_close_flow(&flow);
    return NT_SUCCESS(status) || bench_fail_status(row, "a write", status);
}

bool bench_writes(struct bench *bench, const struct bench_row *row)
{
    return do_writes(bench, row, false);
}

// Row 1c.
bool bench_arrays(struct bench *bench, const struct bench_row *row)
{
    return do_writes(bench, row, true);
}

// Row 4: one write, and nothing else; the disk should be slow.
bool bench_single(struct bench *bench, const struct bench_row *row)
{
    struct rtl_flow flow;
    struct rtl_window window;
    uint64_t n = bench_count(bench, row);
    NTSTATUS status = rtl_open_flow(&flow, bench->disk, row->depth);
    if (!NT_SUCCESS(status))
        return bench_fail_status(row, "disk, port or memory", status);
    rtl_open_window(&window);
    for (uint64_t i = 0; i < n && NT_SUCCESS(status); i++) {
        RTL_MARK(RTL_MARK_SINGLE);
        status = rtl_run_flow(&flow, 1);
        RTL_MARK(RTL_MARK_SINGLE_END);
    }
    rtl_close_window(&window);
    rtl_close_flow(&flow);
    if (!NT_SUCCESS(status))
        return bench_fail_status(row, "a write", status);
    bench_report(row, &window, n);
    return true;
}

// Rows 11 and 12: what the kernel needs for many writes at once. They are all
// in flight only if the disk is slow; what is done lies in the port meanwhile.
bool bench_hold(struct bench *bench, const struct bench_row *row)
{
    struct rtl_flow flow;
    struct rtl_window window;
    SYSTEM_PERFORMANCE_INFORMATION before, now;
    uint32_t depth = (uint32_t)bench_count(bench, row), done = 0;
    NTSTATUS status = rtl_open_flow(&flow, bench->disk, depth);
    if (!NT_SUCCESS(status))
        return bench_fail_status(row, "disk, port or memory", status);
    NtQuerySystemInformation(SystemPerformanceInformation, &before,
                             sizeof(before), NULL);
    rtl_open_window(&window);
    rtl_fill_flow(&flow);
    rtl_close_window(&window);
    NtQuerySystemInformation(SystemPerformanceInformation, &now, sizeof(now),
                             NULL);
    NtQueryIoCompletion(flow.port, &done);
    bench_report(row, &window, depth);
    uint64_t pages = before.AvailablePages - now.AvailablePages;
    printf("  held=%u done=%u pages=%lu (%lu bytes each) pool=%lu"
           " (%lu bytes each)\n", depth, done, pages, pages * 4096 / depth,
           now.PoolBytes - before.PoolBytes,
           (now.PoolBytes - before.PoolBytes) / depth);
    fflush(stdout);
    status = rtl_drain_flow(&flow);
    rtl_close_flow(&flow);
    return NT_SUCCESS(status) || bench_fail_status(row, "a write", status);
}

// ---- A submitter on each processor ----------------------------------------

struct fleet {
    uint64_t n;            // writes of each
    uint32_t disk, depth;
    struct rtl_flow flows[RTL_CREW_MOST];
};

static NTSTATUS prepare_flow(struct rtl_member *member)
{
    struct fleet *fleet = member->crew->context;
    struct rtl_flow *flow = &fleet->flows[member->index];
    NTSTATUS status = rtl_open_flow(flow, fleet->disk, fleet->depth);
    return NT_SUCCESS(status) ? rtl_run_flow(flow, BENCH_WARM) : status;
}

static NTSTATUS work_flow(struct rtl_member *member)
{
    struct fleet *fleet = member->crew->context;
    return rtl_run_flow(&fleet->flows[member->index], fleet->n);
}

static void finish_flow(struct rtl_member *member)
{
    struct fleet *fleet = member->crew->context;
    rtl_close_flow(&fleet->flows[member->index]);
}

bool bench_fleet(struct bench *bench, const struct bench_row *row)
{
    static struct fleet fleet;
    static struct rtl_crew crew;
    struct rtl_window window;
    SYSTEM_BASIC_INFORMATION system = { 0 };
    uint32_t old = 0;
    NtQuerySystemInformation(SystemBasicInformation, &system, sizeof(system),
                             NULL);
    fleet = (struct fleet){ .n = bench_count(bench, row), .disk = bench->disk,
                            .depth = row->depth };
    crew = (struct rtl_crew){ .prepare = prepare_flow, .work = work_flow,
                              .finish = finish_flow, .context = &fleet,
                              .count = system.NumberOfProcessors };
    nt_set_road(is_direct(bench, row), &old);
    NTSTATUS status = rtl_gather_crew(&crew);
    if (NT_SUCCESS(status)) {
        rtl_open_window(&window);
        rtl_work_crew(&crew);
        rtl_close_window(&window);
    }
    NTSTATUS end = rtl_dismiss_crew(&crew);
    nt_set_road(old, NULL);
    if (!NT_SUCCESS(status) || !NT_SUCCESS(end))
        return bench_fail_status(row, "a submitter",
                           NT_SUCCESS(status) ? end : status);
    bench_report(row, &window, fleet.n * crew.count);
    printf("  submitters=%u\n", crew.count);
    return true;
}
