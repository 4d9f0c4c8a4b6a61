// dpc.h - deferred procedure calls: what an ISR has no time for.
//
//   idle --KeInsertQueueDpc--> queued --drain--> running (may be queued again)
//     ^------KeRemoveQueueDpc----'
//
// A DPC is on at most one processor's queue; DpcData names that queue while
// it is. The queue's lock is a leaf, taken with interrupts off.

#pragma once

#include "kernel/nt.h"

typedef enum KDPC_IMPORTANCE {
    LowImportance, MediumImportance, HighImportance, MediumHighImportance
} KDPC_IMPORTANCE;

typedef void KDEFERRED_ROUTINE(KDPC *dpc, void *context, void *argument1,
                               void *argument2);

struct KDPC {
    uint8_t Importance;
    uint16_t Number;             // target processor + 1; 0: the inserting one
    LIST_ENTRY DpcListEntry;
    KDEFERRED_ROUTINE *DeferredRoutine;
    void *DeferredContext;
    void *SystemArgument1;
    void *SystemArgument2;
    struct ki_dpc_queue *volatile DpcData;    // NULL: not queued
};

typedef struct ki_dpc_queue {
    KSPIN_LOCK lock;             // guards all below; interrupts off
    LIST_ENTRY list;
    volatile uint32_t depth;
    uint32_t count;              // DPCs run since boot; for onlookers
} ki_dpc_queue;

void KeInitializeDpc(KDPC *dpc, KDEFERRED_ROUTINE *routine, void *context);
void KeSetImportanceDpc(KDPC *dpc, KDPC_IMPORTANCE importance);
void KeSetTargetProcessorDpc(KDPC *dpc, uint8_t number);
bool KeInsertQueueDpc(KDPC *dpc, void *argument1, void *argument2);
bool KeRemoveQueueDpc(KDPC *dpc);
void KeFlushQueuedDpcs(void);
