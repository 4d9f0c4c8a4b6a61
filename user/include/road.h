// road.h - the trace rings, read: what happened to each write, and when every
// processor was halted. For programs that show how the system works.

#ifndef TINT_ROAD_H
#define TINT_ROAD_H

#include <ntdll.h>

#define RTL_PROCESSORS 32

// ---- Collecting (trace.c) -------------------------------------------------

// One processor's records since rtl_trace_begin; they grow as needed.
struct rtl_ring {
    TRACE_RECORD *records;
    size_t count;
    size_t capacity;
    uint64_t position;        // in the kernel's ring
    uint32_t first_thread;    // who ran when the first record was written
};

struct rtl_trace {
    uint32_t processors;
    uint32_t old_mask;
    uint64_t lost;    // records
    struct rtl_ring rings[RTL_PROCESSORS];
};

// Widens the trace mask by one bit per TRACE_EVENT and starts to collect.
NTSTATUS rtl_trace_begin(struct rtl_trace *trace, uint32_t mask);
// Fetches what is new; to be called before a ring overflows.
void rtl_trace_drain(struct rtl_trace *trace);
// Fetches the rest and puts the old mask back.
void rtl_trace_end(struct rtl_trace *trace);

uint64_t rtl_ticks(void);
uint64_t rtl_ticks_to_us(uint64_t ticks);

// ---- A thread for each write, to compare (blocking.c) ---------------------

struct rtl_blocking {
    void *buffer;
    uint32_t length;
    uint64_t offset;
    NTSTATUS status;    // once its thread has ended
    IO_STATUS_BLOCK iosb;
    HANDLE file;
    HANDLE thread;
};

// Starts a thread for each write and returns when all are about to call.
size_t rtl_start_blocking(struct rtl_blocking *writes, size_t count,
                          uint32_t disk, NTSTATUS *status);
// Waits for their ends.
void rtl_end_blocking(struct rtl_blocking *writes, size_t count);

// Two looks: before, and with all in flight.
struct rtl_cost {
    uint32_t looks;
    uint64_t threads[2];
    uint64_t bytes[2];    // of memory in use, from some number on
};

void rtl_look_at_cost(struct rtl_cost *cost);
// Prints the difference, and the switches of a trace.
void rtl_print_cost(const struct rtl_cost *cost, const struct rtl_trace *trace,
                    size_t writes);

// ---- The snapshot (picture.c) ---------------------------------------------

static inline const SNAPSHOT_PROCESSOR *
rtl_snapshot_processors(const SYSTEM_SNAPSHOT *snapshot)
{
    return (const SNAPSHOT_PROCESSOR *)(snapshot + 1);
}

static inline const SNAPSHOT_THREAD *
rtl_snapshot_threads(const SYSTEM_SNAPSHOT *snapshot)
{
    return (const SNAPSHOT_THREAD *)(rtl_snapshot_processors(snapshot) +
                                     snapshot->Processors);
}

static inline const SNAPSHOT_IRP *
rtl_snapshot_irps(const SYSTEM_SNAPSHOT *snapshot)
{
    return (const SNAPSHOT_IRP *)(rtl_snapshot_threads(snapshot) +
                                  snapshot->Threads);
}

// Takes one, in a larger buffer if it needs one; *size: of *snapshot.
NTSTATUS rtl_take_snapshot(SYSTEM_SNAPSHOT **snapshot, uint32_t *size);

const char *rtl_thread_state(const SNAPSHOT_THREAD *thread);
// What a thread waits for, in a word or two; "-" if it does not wait.
const char *rtl_wait_text(const SNAPSHOT_THREAD *thread);
// "nothread", "thread 7" or "nobody (idle)".
const char *rtl_thread_name(const SYSTEM_SNAPSHOT *snapshot, uint32_t id,
                            char buffer[24]);
// Threads that work on an I/O: those whose call or APC belongs to one IRP.
// process: of which one; 0: of all.
uint32_t rtl_threads_on_io(const SYSTEM_SNAPSHOT *snapshot, uint32_t process);
// Prints processors, threads and IRPs.
void rtl_print_picture(const SYSTEM_SNAPSHOT *snapshot);

// ---- Two moments (look.c) -------------------------------------------------

struct rtl_look {
    SYSTEM_SNAPSHOT *snapshot;
    uint32_t size;                     // room in it
    uint64_t apcs, packets, switches;  // in the trace, since the first look
    uint64_t lost;                     // records that were overwritten unseen
};

// Ticks that a processor has been halted for, the present halt included.
uint64_t rtl_halted_time(const SYSTEM_SNAPSHOT *snapshot, uint32_t processor);

// Looks, and goes on counting from the look before; NULL: this is the first.
NTSTATUS rtl_look_at(struct rtl_look *look, const struct rtl_look *before);
// Has traced what rtl_look_at counts, until the program ends.
void rtl_widen_trace(void);

// ---- Roads and halted spans (road.c) --------------------------------------

enum rtl_step {
    ROAD_CALL, ROAD_BUILT, ROAD_DOWN, ROAD_QUEUED, ROAD_DMA, ROAD_PENDING,
    ROAD_INTERRUPT, ROAD_DPC, ROAD_COMPLETE, ROAD_APC, ROAD_STORED,
    ROAD_PACKET, ROAD_TAKEN, ROAD_STEPS
};

struct rtl_mark {
    uint64_t time;    // ticks; 0: not in the trace
    uint32_t thread;
    uint8_t processor;
    uint8_t irql;
};

// All that the trace says about one write.
struct rtl_road {
    uint32_t irp;
    struct rtl_mark marks[ROAD_STEPS];
};

struct rtl_span {
    uint64_t start;    // ticks
    uint64_t end;
};

// The events that roads and spans are made of.
uint32_t rtl_road_mask(void);
// Finds up to maximum writes that a thread asked for, in the order of the
// calls; returns how many.
size_t rtl_find_roads(const struct rtl_trace *trace, uint32_t thread,
                      struct rtl_road *roads, size_t maximum);
// The spans between two times in which every processor was halted; the caller
// frees *spans.
size_t rtl_find_halted(const struct rtl_trace *trace,
                       const SYSTEM_SNAPSHOT *snapshot, uint64_t from,
                       uint64_t to, struct rtl_span **spans);
// How much of a time the spans cover.
uint64_t rtl_covered(const struct rtl_span *spans, size_t count, uint64_t from,
                     uint64_t to);

// ---- Printing them (roadprint.c) ------------------------------------------

void rtl_print_road(const struct rtl_road *road,
                    const SYSTEM_SNAPSHOT *snapshot,
                    const struct rtl_span *spans, size_t span_count);
void rtl_print_road_summary(const struct rtl_road *roads, size_t count);
void rtl_print_halted(const struct rtl_span *spans, size_t count,
                      uint64_t from, uint64_t to);
void rtl_print_title(const char *text);
// All of it, for writes that this process's first thread asked for; returns
// how many thousandths of the time every processor was halted.
unsigned rtl_print_run(const struct rtl_trace *trace,
                       const SYSTEM_SNAPSHOT *snapshot, struct rtl_road *roads,
                       size_t writes, uint64_t from, uint64_t to);

#endif
