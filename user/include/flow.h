// flow.h - a flow of asynchronous writes: one thread keeps depth of them in
// flight, each to a random block and with a buffer of its own, and takes the
// packets from a port. For programs that measure.

#ifndef TINT_FLOW_H
#define TINT_FLOW_H

#include <ntdll.h>

#define RTL_FLOW_BLOCK 4096u
#define RTL_FLOW_SPAN  (64u << 20)    // bytes of the disk that are written

struct rtl_flow {
    HANDLE disk, port;
    uint32_t depth;
    uint8_t *buffers;
    IO_STATUS_BLOCK *iosbs;      // of each buffer; also its packet's context
    uint64_t blocks, random;
    uint64_t issued, taken;
    uint64_t limit;              // issue no more than that
    bool array;                  // up to 64 writes in one call
    NTSTATUS failed;             // the last failure
};

// Opens the disk, binds it to a port of its own, and gets the buffers.
NTSTATUS rtl_open_flow(struct rtl_flow *flow, uint32_t disk, uint32_t depth);
// Sends every buffer out, one call each; nothing is in flight before.
void rtl_fill_flow(struct rtl_flow *flow);
// Takes the packets that there are, waits if there is none, and sends their
// buffers out again.
void rtl_turn_flow(struct rtl_flow *flow);
// Takes the packets of all that is in flight; returns the flow's failure.
NTSTATUS rtl_drain_flow(struct rtl_flow *flow);
// Does n writes, nothing in flight before and after.
NTSTATUS rtl_run_flow(struct rtl_flow *flow, uint64_t n);
void rtl_close_flow(struct rtl_flow *flow);

#endif
