// road.c - from trace records to the road of each write.
//
// An IRP's own records carry its id. Those of an interrupt or a DPC carry none:
// what completes an IRP is the last DPC that began on that processor, and its
// interrupt the first one of a device there that came after the IRP's DMA had
// begun and was not served by an earlier DPC. A call or an APC is a thread's:
// others may run meanwhile, and it may go on on another processor.

#include <road.h>

#include <stdlib.h>

#define IRP_MJ_WRITE     4
#define IRQL_APC         1
#define IRQL_DEVICE_MIN  3
#define IRQL_DEVICE_MAX  11
#define INTERRUPTS       8      // that one run of the DPCs is told apart from

#define BIT(event) (1u << (event))

uint32_t rtl_road_mask(void)
{
    return BIT(TRACE_SWITCH) | BIT(TRACE_IRP_BUILT) | BIT(TRACE_IRP_CALL) |
           BIT(TRACE_IRP_QUEUED) | BIT(TRACE_DMA_START) |
           BIT(TRACE_IRP_PENDING) | BIT(TRACE_IDLE_IN) | BIT(TRACE_IDLE_OUT) |
           BIT(TRACE_ISR_IN) | BIT(TRACE_ISR_OUT) | BIT(TRACE_DPC_IN) |
           BIT(TRACE_DPC_OUT) | BIT(TRACE_IRP_COMPLETE) | BIT(TRACE_APC_IN) |
           BIT(TRACE_APC_OUT) | BIT(TRACE_IRP_DONE) | BIT(TRACE_PORT_INSERT) |
           BIT(TRACE_PORT_REMOVE) | BIT(TRACE_SERVICE);
}

static int compare_u64(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int by_irp(const void *a, const void *b)
{
    const struct rtl_road *x = a;
    const struct rtl_road *y = b;
    return compare_u64(x->irp, y->irp);
}

static int by_call(const void *a, const void *b)
{
    const struct rtl_road *x = a;
    const struct rtl_road *y = b;
    return compare_u64(x->marks[ROAD_BUILT].time, y->marks[ROAD_BUILT].time);
}

// ---- All processors, record by record -------------------------------------

struct context {
    uint8_t processor;
    uint32_t thread;
    struct rtl_mark interrupts[INTERRUPTS];    // since the last DPCs ended
    size_t interrupt_count;
    struct rtl_mark dpc;
};

struct walk {
    const struct rtl_trace *trace;
    size_t next[RTL_PROCESSORS];
    struct context contexts[RTL_PROCESSORS];
    uint32_t thread;          // whose writes are looked for
    struct rtl_mark call;     // its last NtWriteFile
    struct rtl_mark apc;      // of its delivery, if it is in one
};

static void start_walk(struct walk *walk, const struct rtl_trace *trace,
                       uint32_t thread)
{
    *walk = (struct walk){ .trace = trace, .thread = thread };
    for (uint32_t p = 0; p < trace->processors; p++)
        walk->contexts[p] = (struct context){
            .processor = (uint8_t)p, .thread = trace->rings[p].first_thread };
}

static struct rtl_mark make_mark(const struct context *context,
                                 const TRACE_RECORD *record)
{
    return (struct rtl_mark){ record->Time, context->thread,
                              context->processor,
                              (uint8_t)TRACE_IRQL(record->Event) };
}

static void follow_processor(struct context *context,
                             const TRACE_RECORD *record)
{
    struct rtl_mark mark = make_mark(context, record);
    switch (TRACE_CODE(record->Event)) {
    case TRACE_SWITCH:
        context->thread = record->Id;
        break;
    case TRACE_ISR_IN:
        if (mark.irql >= IRQL_DEVICE_MIN && mark.irql <= IRQL_DEVICE_MAX &&
            context->interrupt_count < INTERRUPTS)
            context->interrupts[context->interrupt_count++] = mark;
        break;
    case TRACE_DPC_IN:
        context->dpc = mark;
        break;
    case TRACE_DPC_OUT:
        context->interrupt_count = 0;
        break;
    }
}

static void follow_thread(struct walk *walk, const struct context *context,
                          const TRACE_RECORD *record)
{
    static const struct rtl_mark none;
    if (context->thread != walk->thread)
        return;
    switch (TRACE_CODE(record->Event)) {
    case TRACE_SERVICE:
        walk->call = record->Id == NT_SERVICE_NtWriteFile
                         ? make_mark(context, record) : none;
        break;
    case TRACE_APC_IN:
        walk->apc = make_mark(context, record);
        break;
    case TRACE_APC_OUT:
        walk->apc = none;
        break;
    }
}

// The next record of all, and on whose processor; NULL at the end.
static const TRACE_RECORD *step(struct walk *walk,
                                const struct context **context)
{
    const TRACE_RECORD *first = NULL;
    uint32_t processor = 0;
    for (uint32_t p = 0; p < walk->trace->processors; p++) {
        const struct rtl_ring *ring = &walk->trace->rings[p];
        const TRACE_RECORD *record = &ring->records[walk->next[p]];
        if (walk->next[p] < ring->count &&
            (!first || record->Time < first->Time)) {
            first = record;
            processor = p;
        }
    }
    if (first) {
        *context = &walk->contexts[processor];
        walk->next[processor]++;
        follow_processor(&walk->contexts[processor], first);
        follow_thread(walk, *context, first);
    }
    return first;
}

// ---- One write's marks ----------------------------------------------------

static void set_mark(struct rtl_road *road, enum rtl_step step,
                     struct rtl_mark mark)
{
    if (road->marks[step].time == 0)
        road->marks[step] = mark;
}

// An interrupt may have come while the DPCs were running already.
static void add_interrupt(struct rtl_road *road, const struct context *context)
{
    struct rtl_mark dpc = context->dpc;
    for (size_t i = 0; i < context->interrupt_count; i++) {
        struct rtl_mark interrupt = context->interrupts[i];
        if (interrupt.time < road->marks[ROAD_DMA].time)
            continue;
        set_mark(road, ROAD_INTERRUPT, interrupt);
        if (dpc.time < interrupt.time)
            dpc.time = interrupt.time;
        break;
    }
    set_mark(road, ROAD_DPC, dpc);
}

// It may have been queued while its thread delivered others already.
static void add_apc(struct rtl_road *road, struct rtl_mark apc)
{
    if (apc.time && apc.time < road->marks[ROAD_COMPLETE].time)
        apc.time = road->marks[ROAD_COMPLETE].time;
    set_mark(road, ROAD_APC, apc);
}

static void add_record(struct rtl_road *road, const struct walk *walk,
                       const struct context *context,
                       const TRACE_RECORD *record)
{
    struct rtl_mark mark = make_mark(context, record);
    switch (TRACE_CODE(record->Event)) {
    case TRACE_IRP_CALL: set_mark(road, ROAD_DOWN, mark); break;
    case TRACE_IRP_QUEUED: set_mark(road, ROAD_QUEUED, mark); break;
    case TRACE_DMA_START: set_mark(road, ROAD_DMA, mark); break;
    case TRACE_IRP_PENDING: set_mark(road, ROAD_PENDING, mark); break;
    case TRACE_PORT_INSERT: set_mark(road, ROAD_PACKET, mark); break;
    case TRACE_PORT_REMOVE: set_mark(road, ROAD_TAKEN, mark); break;
    case TRACE_IRP_COMPLETE:
        add_interrupt(road, context);
        set_mark(road, ROAD_COMPLETE, mark);
        break;
    case TRACE_IRP_DONE:
        if (mark.irql == IRQL_APC)    // not in a DPC that interrupted one
            add_apc(road, walk->apc);
        set_mark(road, ROAD_STORED, mark);
        break;
    }
}

static size_t find_built(const struct rtl_trace *trace, uint32_t thread,
                         struct rtl_road *roads, size_t maximum)
{
    size_t count = 0;
    struct walk walk;
    const struct context *context;
    const TRACE_RECORD *record;
    start_walk(&walk, trace, thread);
    while (count < maximum && (record = step(&walk, &context)) != NULL) {
        if (TRACE_CODE(record->Event) != TRACE_IRP_BUILT ||
            record->Aux != IRP_MJ_WRITE || context->thread != thread)
            continue;
        struct rtl_road *road = &roads[count++];
        *road = (struct rtl_road){ .irp = record->Id };
        road->marks[ROAD_BUILT] = make_mark(context, record);
        road->marks[ROAD_CALL] = walk.call.time ? walk.call
                                                : road->marks[ROAD_BUILT];
    }
    return count;
}

size_t rtl_find_roads(const struct rtl_trace *trace, uint32_t thread,
                      struct rtl_road *roads, size_t maximum)
{
    size_t count = find_built(trace, thread, roads, maximum);
    qsort(roads, count, sizeof(*roads), by_irp);
    struct walk walk;
    const struct context *context;
    const TRACE_RECORD *record;
    start_walk(&walk, trace, thread);
    while ((record = step(&walk, &context)) != NULL) {
        struct rtl_road key = { .irp = record->Id };
        struct rtl_road *road = bsearch(&key, roads, count, sizeof(*roads),
                                        by_irp);
        if (road && record->Time >= road->marks[ROAD_BUILT].time)
            add_record(road, &walk, context, record);
    }
    qsort(roads, count, sizeof(*roads), by_call);
    return count;
}

// ---- Halted spans ---------------------------------------------------------

// A processor begins (+1) or ends (-1) to be halted.
struct edge {
    uint64_t time;
    int change;
};

static int by_time(const void *a, const void *b)
{
    const struct edge *x = a;
    const struct edge *y = b;
    return compare_u64(x->time, y->time);
}

static uint64_t clip(uint64_t time, uint64_t from, uint64_t to)
{
    return time < from ? from : time > to ? to : time;
}

// A processor is halted from TRACE_IDLE_IN to its next record, whatever that
// is: the interrupt that wakes it is traced before TRACE_IDLE_OUT.
static size_t add_edges(const struct rtl_ring *ring, uint64_t halted_since,
                        uint64_t from, uint64_t to, struct edge *edges)
{
    size_t count = 0;
    bool halted = halted_since != 0 &&
                  (ring->count == 0 || halted_since < ring->records[0].Time);
    uint64_t start = from;
    for (size_t i = 0; i <= ring->count; i++) {
        uint64_t time = i < ring->count ? ring->records[i].Time : to;
        if (halted && clip(start, from, to) < clip(time, from, to)) {
            edges[count++] = (struct edge){ clip(start, from, to), 1 };
            edges[count++] = (struct edge){ clip(time, from, to), -1 };
        }
        halted = i < ring->count &&
                 TRACE_CODE(ring->records[i].Event) == TRACE_IDLE_IN;
        start = time;
    }
    return count;
}

size_t rtl_find_halted(const struct rtl_trace *trace,
                       const SYSTEM_SNAPSHOT *snapshot, uint64_t from,
                       uint64_t to, struct rtl_span **spans)
{
    const SNAPSHOT_PROCESSOR *processors = rtl_snapshot_processors(snapshot);
    size_t maximum = 0;
    for (uint32_t p = 0; p < trace->processors; p++)
        maximum += 2 * (trace->rings[p].count + 1);
    struct edge *edges = malloc(maximum * sizeof(*edges));
    *spans = malloc(maximum * sizeof(**spans));
    if (!edges || !*spans) {
        free(edges);
        return 0;
    }

    size_t edge_count = 0;
    for (uint32_t p = 0; p < trace->processors; p++)
        edge_count += add_edges(&trace->rings[p],
                                p < snapshot->Processors
                                    ? processors[p].HaltedSince : 0,
                                from, to, edges + edge_count);
    qsort(edges, edge_count, sizeof(*edges), by_time);

    size_t count = 0;
    int halted = 0;
    for (size_t i = 0; i < edge_count; i++) {
        if (halted == (int)trace->processors)
            (*spans)[count++].end = edges[i].time;
        halted += edges[i].change;
        if (halted == (int)trace->processors)
            (*spans)[count].start = edges[i].time;
    }
    free(edges);
    return count;
}

uint64_t rtl_covered(const struct rtl_span *spans, size_t count, uint64_t from,
                     uint64_t to)
{
    uint64_t covered = 0;
    for (size_t i = 0; i < count; i++)
        covered += clip(spans[i].end, from, to) -
                   clip(spans[i].start, from, to);
    return covered;
}
