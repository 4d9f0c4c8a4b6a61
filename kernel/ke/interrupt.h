// interrupt.h - ISRs, the trap frame, the clock's watchdogs.

#pragma once

#include "kernel/ke/dpc.h"
#include "kernel/nt.h"
#include "kernel/rtl/rtl.h"

// What the entry stubs push; ki_offsets gives NASM the same layout.
struct KTRAP_FRAME {
    uint64_t R15, R14, R13, R12, Rbp, Rbx;
    uint64_t R11, R10, R9, R8, Rdi, Rsi, Rdx, Rcx, Rax;
    uint64_t vector;
    uint64_t ErrorCode;
    uint64_t Rip, SegCs, EFlags, Rsp, SegSs;
};

typedef bool KSERVICE_ROUTINE(KINTERRUPT *interrupt, void *context);
typedef bool KSYNCHRONIZE_ROUTINE(void *context);

// One ISR. Several on one vector form a chain.
struct KINTERRUPT {
    KINTERRUPT *next;            // on the same vector
    KSERVICE_ROUTINE *ServiceRoutine;
    void *ServiceContext;
    KSPIN_LOCK SpinLock;         // held at SynchronizeIrql while the ISR runs
    uint32_t line;               // + 1; 0: none, the device sends its vector
    uint8_t Vector;
    KIRQL SynchronizeIrql;
    bool LevelTriggered;
};

// A free device vector of the given IRQL (3..11); 0 when none is left.
uint8_t ke_allocate_vector(KIRQL irql);
void ke_connect_interrupt(KINTERRUPT *interrupt, KSERVICE_ROUTINE *routine,
                          void *context, uint8_t vector, bool level_triggered);
// Connects the ISR to a vector of that IRQL and unmasks the line: an ISA one
// (0-15) or a global system interrupt. Several ISRs of a line share its vector.
NTSTATUS ke_connect_line(KINTERRUPT *interrupt, uint32_t irq, KIRQL irql,
                         bool level_triggered, KSERVICE_ROUTINE *routine,
                         void *context);
bool KeSynchronizeExecution(KINTERRUPT *interrupt,
                            KSYNCHRONIZE_ROUTINE *routine, void *context);

// ---- Time -----------------------------------------------------------------

uint64_t KeQueryInterruptTime(void);    // 100 ns since boot
int64_t ke_query_system_time(void);     // 100 ns since 1601

// A device's time-out that costs no timer per request. The driver says when its
// oldest request went out, and in busy whether one is outstanding; the
// processor, before it halts, arms its clock for `due` if so. That is between
// one time-out after the oldest request and an eighth more: it moves seldom,
// and with it the clock. When it comes to pass the DPC is queued, with busy
// still set. One processor looks at it: the DPC's target, to which the device's
// interrupts should go.
typedef struct ki_watchdog {
    struct ki_watchdog *next;    // of the same processor
    volatile uint64_t due;       // TSC
    uint64_t excused;            // the due that was a second chance; its clock
    volatile bool busy;
    uint64_t timeout;            // TSC ticks
    KDPC *dpc;
    uint32_t processor;
} ki_watchdog;

void ke_register_watchdog(ki_watchdog *watchdog, uint64_t timeout_100ns,
                          KDPC *dpc);
// A request begins, or the next one follows, and is the oldest: makes sure that
// the clock comes in time.
void ke_watchdog_progress(ki_watchdog *watchdog);

// The oldest request went out at the TSC's time since. For one who was busy
// before, or arms the clock.
static inline void ke_watchdog_note(ki_watchdog *watchdog, uint64_t since)
{
    if (watchdog->due < since + watchdog->timeout)
        watchdog->due = since + watchdog->timeout + watchdog->timeout / 8;
}
