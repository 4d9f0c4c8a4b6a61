// bench.h - the rows of the program bench: what is measured, and how.
//
// A row does one operation many times between two markers (measure.h) and
// prints its TEST line afterwards. The rows that write to a disk are in
// user/lib/benchwrites.c, the others in user/lib/benchcalls.c.

#ifndef TINT_BENCH_H
#define TINT_BENCH_H

#include <measure.h>

#define BENCH_WARM 256    // operations before a window opens

// What was asked for.
struct bench {
    uint64_t n;            // --n; 0: each row's own
    uint32_t disk;
    bool any_disk;
    bool direct;           // --port, for the rows without a road of their own
};

struct bench_row {
    const char *number;
    const char *name;
    bool (*run)(struct bench *bench, const struct bench_row *row);
    uint64_t n;            // operations in its window
    uint32_t depth;        // writes in flight; or ports
    enum { ANY_ROAD, APC_ROAD, DIRECT_ROAD } road;
    const char *text;
};

// Print why something is not done, and return false.
bool bench_fail(const char *format, ...)
    __attribute__((format(printf, 1, 2)));
bool bench_fail_status(const struct bench_row *row, const char *what,
                       NTSTATUS status);

uint64_t bench_count(const struct bench *bench, const struct bench_row *row);
void bench_report(const struct bench_row *row, const struct rtl_window *window,
                  uint64_t n);

// Rows 1 to 3 and 13 to 15: depth writes in flight, one call each.
bool bench_writes(struct bench *bench, const struct bench_row *row);
bool bench_arrays(struct bench *bench, const struct bench_row *row);
// Row 4: one write, and nothing else.
bool bench_single(struct bench *bench, const struct bench_row *row);
// Rows 11 and 12: what the kernel needs for many writes at once.
bool bench_hold(struct bench *bench, const struct bench_row *row);
// Row 16: a submitter on each processor.
bool bench_fleet(struct bench *bench, const struct bench_row *row);

// Row 5: a system call that does nothing.
bool bench_null(struct bench *bench, const struct bench_row *row);
// Rows 6 and 7: a packet there and one back; with one port it is the same.
bool bench_ports(struct bench *bench, const struct bench_row *row);
// Row 8: user APCs to oneself.
bool bench_apc(struct bench *bench, const struct bench_row *row);
// What only somebody outside can measure: says so.
bool bench_outside(struct bench *bench, const struct bench_row *row);

#endif
