// measure.h - markers and windows for whoever counts instructions from outside.
//
// A marker is an 8-byte NOP, 0F 1F 84 00 <id> 52 4B 4D: legal in every ring,
// without effect, and told from all other code by its last three bytes. A TCG
// plugin of QEMU sees it pass and notes its counters. The ids:
//
//   1     the program's first instruction
//   2, 3  begin and end of a window, in which an operation is done n times
//   4, 5  begin and end of one single operation
//
// After each window, outside of it, the program prints `TEST <name> n=<n>
// sec=<s>` and what else it saw. So any counter can be laid on any program.

#ifndef TINT_MEASURE_H
#define TINT_MEASURE_H

#include <road.h>

#define RTL_MARK(id) \
    __asm__ volatile(".byte 0x0F,0x1F,0x84,0,%c0,0x52,0x4B,0x4D" \
                     : : "i"(id) : "memory")

enum {
    RTL_MARK_START = 1,
    RTL_MARK_OPEN, RTL_MARK_CLOSE,
    RTL_MARK_SINGLE, RTL_MARK_SINGLE_END,
};

struct rtl_window {
    uint64_t opened, closed;    // ticks
};

static inline void rtl_open_window(struct rtl_window *window)
{
    window->opened = rtl_ticks();
    RTL_MARK(RTL_MARK_OPEN);
}

static inline void rtl_close_window(struct rtl_window *window)
{
    RTL_MARK(RTL_MARK_CLOSE);
    window->closed = rtl_ticks();
}

// Prints the TEST line of a window in which n operations were done.
void rtl_print_window(const struct rtl_window *window, const char *name,
                      uint64_t n);

// What the system has counted since it started.
struct rtl_counts {
    uint64_t interrupts, dpcs;    // of all processors
    uint64_t switches;            // to the calling thread
};

// Looks through all of the system: outside of windows, nothing in flight.
bool rtl_read_counts(struct rtl_counts *counts);

#endif
