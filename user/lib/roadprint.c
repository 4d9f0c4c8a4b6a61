// roadprint.c - the road of a write as a table, and many roads as numbers.

#include <road.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROADS_SHOWN 2
#define SPANS_SHOWN 4

static const struct {
    int stage;    // of docs and README
    const char *text;
} steps[ROAD_STEPS] = {
    [ROAD_CALL] = { 1, "system call NtWriteFile" },
    [ROAD_BUILT] = { 2, "request (IRP) built" },
    [ROAD_DOWN] = { 3, "handed to the driver" },
    [ROAD_QUEUED] = { 3, "queued behind another" },
    [ROAD_DMA] = { 4, "disk told to go: DMA" },
    [ROAD_PENDING] = { 5, "call returns \"pending\"" },
    [ROAD_INTERRUPT] = { 7, "disk's interrupt" },
    [ROAD_DPC] = { 8, "DPC begins" },
    [ROAD_COMPLETE] = { 9, "request completed" },
    [ROAD_APC] = { 10, "APC in the asking thread" },
    [ROAD_STORED] = { 10, "status stored" },
    [ROAD_PACKET] = { 10, "packet into the port" },
    [ROAD_TAKEN] = { 11, "packet taken" },
};

static const char *irql_name(uint8_t irql, char buffer[16])
{
    static const char *const low[] = { "PASSIVE", "APC", "DISPATCH" };
    if (irql < 3)
        return low[irql];
    snprintf(buffer, 16, irql <= 11 ? "device %u" : "level %u", irql);
    return buffer;
}

// Sorts the steps that the trace has by time; returns how many.
static size_t order_steps(const struct rtl_road *road,
                          enum rtl_step order[ROAD_STEPS])
{
    size_t count = 0;
    for (int step = 0; step < ROAD_STEPS; step++) {
        uint64_t time = road->marks[step].time;
        if (time == 0)
            continue;
        size_t place = count++;
        for (; place > 0 && road->marks[order[place - 1]].time > time; place--)
            order[place] = order[place - 1];
        order[place] = (enum rtl_step)step;
    }
    return count;
}

static unsigned permille(uint64_t part, uint64_t whole)
{
    return whole > 0 ? (unsigned)((double)part / (double)whole * 1000) : 0;
}

// The silence before the disk's interrupt, or before the disk gets to it.
static void print_gap(enum rtl_step next, uint64_t from, uint64_t to,
                      const struct rtl_span *spans, size_t span_count)
{
    char number[RTL_GROUPED_SIZE];
    unsigned halted = permille(rtl_covered(spans, span_count, from, to),
                               to - from);
    printf("   6  ... %s us %s; all processors halted %u.%u %%\n",
           rtl_grouped(rtl_ticks_to_us(to - from), number),
           next == ROAD_DMA ? "in the queue" : "in flight", halted / 10,
           halted % 10);
}

void rtl_print_road(const struct rtl_road *road,
                    const SYSTEM_SNAPSHOT *snapshot,
                    const struct rtl_span *spans, size_t span_count)
{
    enum rtl_step order[ROAD_STEPS];
    size_t count = order_steps(road, order);
    uint64_t call = road->marks[ROAD_CALL].time;

    printf("  stage                          cpu  IRQL       thread        "
           "  us since call\n");
    for (size_t i = 0; i < count; i++) {
        const struct rtl_mark *mark = &road->marks[order[i]];
        char level[16];
        char name[24];
        char number[RTL_GROUPED_SIZE];
        bool queued = i > 0 && order[i] == ROAD_DMA &&
                      order[i - 1] == ROAD_PENDING;
        if (i > 0 && (order[i] == ROAD_INTERRUPT || queued))
            print_gap(order[i], road->marks[order[i - 1]].time, mark->time,
                      spans, span_count);
        printf("  %2d  %-26s %3u  %-9s  %-15s %13s\n", steps[order[i]].stage,
               steps[order[i]].text, mark->processor,
               irql_name(mark->irql, level),
               rtl_thread_name(snapshot, mark->thread, name),
               rtl_grouped(rtl_ticks_to_us(mark->time - call), number));
    }
}

// ---- Many writes ----------------------------------------------------------

static int compare_times(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;
    return (*x > *y) - (*x < *y);
}

static void print_step_summary(const struct rtl_road *roads, size_t count,
                               int step, uint64_t *times)
{
    size_t seen = 0;
    for (size_t i = 0; i < count; i++) {
        const struct rtl_mark *marks = roads[i].marks;
        if (marks[step].time != 0)
            times[seen++] = marks[step].time > marks[ROAD_CALL].time
                          ? marks[step].time - marks[ROAD_CALL].time : 0;
    }
    if (seen == 0)
        return;
    qsort(times, seen, sizeof(*times), compare_times);
    printf("  %2d  %-25s %7zu", steps[step].stage, steps[step].text, seen);
    const size_t picks[] = { 0, seen / 2, seen - 1 };
    for (size_t i = 0; i < 3; i++) {
        char number[RTL_GROUPED_SIZE];
        printf(" %12s", rtl_grouped(rtl_ticks_to_us(times[picks[i]]), number));
    }
    printf("\n");
}

void rtl_print_road_summary(const struct rtl_road *roads, size_t count)
{
    uint64_t *times = malloc(count * sizeof(*times));
    if (!times)
        return;
    printf("  stage, us since the call       writes      minimum       median"
           "      maximum\n");
    for (int step = ROAD_BUILT; step < ROAD_STEPS; step++)
        print_step_summary(roads, count, step, times);
    free(times);

    size_t idle = 0;
    size_t interrupts = 0;
    for (size_t i = 0; i < count; i++) {
        const struct rtl_mark *mark = &roads[i].marks[ROAD_INTERRUPT];
        interrupts += mark->time != 0;
        idle += mark->time != 0 && mark->thread == 0;
    }
    printf("\n  For %zu of %zu writes the disk's interrupt found its processor"
           " idle.\n", idle, interrupts);
}

// ---- Halted spans ---------------------------------------------------------

static int longest_first(const void *a, const void *b)
{
    const struct rtl_span *x = a;
    const struct rtl_span *y = b;
    uint64_t length_x = x->end - x->start;
    uint64_t length_y = y->end - y->start;
    return (length_y > length_x) - (length_y < length_x);
}

void rtl_print_halted(const struct rtl_span *spans, size_t count,
                      uint64_t from, uint64_t to)
{
    char number[3][RTL_GROUPED_SIZE];
    uint64_t covered = rtl_covered(spans, count, from, to);
    unsigned share = permille(covered, to - from);
    printf("  first call to last packet %16s us\n"
           "  every processor halted    %16s us   %u.%u %%, in %zu span%s\n",
           rtl_grouped(rtl_ticks_to_us(to - from), number[0]),
           rtl_grouped(rtl_ticks_to_us(covered), number[1]), share / 10,
           share % 10, count, count == 1 ? "" : "s");

    struct rtl_span *sorted = malloc(count * sizeof(*sorted));
    if (!sorted || count == 0) {
        free(sorted);
        return;
    }
    memcpy(sorted, spans, count * sizeof(*sorted));
    qsort(sorted, count, sizeof(*sorted), longest_first);
    printf("\n  the longest:         from us         to us        length\n");
    for (size_t i = 0; i < count && i < SPANS_SHOWN; i++)
        printf("               %13s %13s %13s\n",
               rtl_grouped(rtl_ticks_to_us(sorted[i].start - from), number[0]),
               rtl_grouped(rtl_ticks_to_us(sorted[i].end - from), number[1]),
               rtl_grouped(rtl_ticks_to_us(sorted[i].end - sorted[i].start),
                           number[2]));
    free(sorted);
}

// ---- A whole run ----------------------------------------------------------

void rtl_print_title(const char *text)
{
    printf("\n--- %s ", text);
    for (size_t column = strlen(text) + 5; column < 79; column++)
        putchar('-');
    printf("\n\n");
}

static void print_roads(const struct rtl_trace *trace,
                        const SYSTEM_SNAPSHOT *snapshot,
                        const struct rtl_road *roads, size_t count,
                        size_t writes, const struct rtl_span *spans,
                        size_t span_count)
{
    rtl_print_title("The roads of the writes");
    for (size_t i = 0; i < count && i < ROADS_SHOWN; i++) {
        printf("%s  Write %zu of %zu:\n", i > 0 ? "\n" : "", i + 1, writes);
        rtl_print_road(&roads[i], snapshot, spans, span_count);
    }
    if (count > ROADS_SHOWN) {
        printf("\n  All %zu writes:\n", count);
        rtl_print_road_summary(roads, count);
    }
    if (trace->lost > 0 || count < writes)
        printf("\n  %lu trace records were lost; %zu of %zu writes have a"
               " road.\n", trace->lost, count, writes);
}

// Returns: how many thousandths of the run every processor was halted
unsigned rtl_print_run(const struct rtl_trace *trace,
                       const SYSTEM_SNAPSHOT *snapshot, struct rtl_road *roads,
                       size_t writes, uint64_t from, uint64_t to)
{
    struct rtl_span *spans;
    uint32_t thread = (uint32_t)NtCurrentPeb()->ClientId.UniqueThread;
    size_t count = rtl_find_roads(trace, thread, roads, writes);
    size_t span_count = rtl_find_halted(trace, snapshot, from, to, &spans);
    uint64_t halted = rtl_covered(spans, span_count, from, to);

    rtl_print_title("One look at the machine while the writes were in flight");
    rtl_print_picture(snapshot);
    if (count > 0)
        print_roads(trace, snapshot, roads, count, writes, spans, span_count);
    rtl_print_title("When every processor was halted");
    rtl_print_halted(spans, span_count, from, to);
    free(spans);
    return permille(halted, to - from);
}
