// ke.h - the kernel proper: all public headers of kernel/ke, and its start.

#pragma once

#include "kernel/ke/apc.h"
#include "kernel/ke/devqueue.h"
#include "kernel/ke/dpc.h"
#include "kernel/ke/interrupt.h"
#include "kernel/ke/irql.h"
#include "kernel/ke/thread.h"
#include "kernel/ke/trace.h"
#include "kernel/ke/wait.h"

// ---- Start, in this order (main.c) ----------------------------------------

// Descriptors, IDT, PRCB and idle thread of the boot processor, from static
// memory: from here on a fault is a bugcheck that says where.
void ke_init_boot_processor(void);
// Features of CR4 that CPUID has; patches stac/clac into the user accessors.
void ke_init_features(void);
// Fills the block of another processor, of ke_processor_size zeroed bytes.
KPRCB *ke_prepare_processor(void *zeroed, uint32_t number, uint32_t apic_id,
                            void *dpc_stack_top);
extern const size_t ke_processor_size;
// What boot/second.asm, at the physical address page, calls on that processor.
_Noreturn void ke_enter_processor(KPRCB *prcb);
// Starts it; false if it never came. IRQL: == PASSIVE_LEVEL.
bool ke_start_processor(KPRCB *prcb, uint32_t page);
// The calendar; after hal_calibrate_clock.
void ke_init_time(void);
// Becomes the idle thread. Never returns.
_Noreturn void ke_idle(void);

// ---- Ring 3's memory: only these touch it (entry.asm) ---------------------

static inline bool ke_is_user_range(const void *address, size_t length)
{
    uintptr_t start = (uintptr_t)address;
    return length == 0 ||
           (start - MM_LOWEST_USER_ADDRESS <=
                MM_HIGHEST_USER_ADDRESS - MM_LOWEST_USER_ADDRESS &&
            length <= MM_HIGHEST_USER_ADDRESS + 1 - start);
}

// Enough before the routines below touch something short: all in the lower
// half that is not ring 3's faults, and the hole behind it is larger.
static inline bool ke_may_touch(const void *address, size_t length)
{
    if (__builtin_constant_p(length) && length - 1 < PAGE_SIZE)
        return (intptr_t)address >= 0;
    return ke_is_user_range(address, length);
}

// Copy between ring 0 and ring 3, any length. Addresses outside ring 3, and
// faults, are a status; to may be half written then.
//
// IRQL:    <= APC_LEVEL
// Returns: STATUS_SUCCESS, STATUS_ACCESS_VIOLATION
NTSTATUS ki_copy_user(void *to, const void *from, size_t length);
static inline NTSTATUS ke_copy_from_user(void *to, const void *from,
                                         size_t length)
{
    ASSERT_IRQL(<=, APC_LEVEL);
    return ke_may_touch(from, length) ? ki_copy_user(to, from, length)
                                      : STATUS_ACCESS_VIOLATION;
}
static inline NTSTATUS ke_copy_to_user(void *to, const void *from,
                                       size_t length)
{
    ASSERT_IRQL(<=, APC_LEVEL);
    return ke_may_touch(to, length) ? ki_copy_user(to, from, length)
                                    : STATUS_ACCESS_VIOLATION;
}
// Reads one value / writes one value of ring 3.
#define ke_get_user(to, from) ke_copy_from_user((to), (from), sizeof(*(to)))
#define ke_put_user(to, from) ke_copy_to_user((to), (from), sizeof(*(to)))

// What every request and every packet needs, and so is short: says whether
// ring 3 can write two bytes; stores two, the second one first.
NTSTATUS ki_probe_user(void *first, void *last);
NTSTATUS ki_put_user_pair(void *to, uint64_t first, uint64_t second);
// The same for all that the taker of one packet gets.
NTSTATUS ki_probe_packet(void *key, void *context, void *iosb);
NTSTATUS ki_put_packet(void *key, void *context, void *iosb,
                       const FILE_IO_COMPLETION_INFORMATION *packet);

// Says whether ring 3 can write length bytes, at most a page.
static inline NTSTATUS ke_probe_user(void *to, size_t length)
{
    return ke_may_touch(to, length) ? ki_probe_user(to, (char *)to + length - 1)
                                    : STATUS_ACCESS_VIOLATION;
}

// The same for two words and a pair, each below the hole as for ke_may_touch;
// ki_put_packet may follow.
static inline NTSTATUS ke_probe_packet(void *key, void *context, void *iosb)
{
    uintptr_t all = (uintptr_t)key | (uintptr_t)context | (uintptr_t)iosb;
    return (intptr_t)all >= 0 ? ki_probe_packet(key, context, iosb)
                              : STATUS_ACCESS_VIOLATION;
}

static inline NTSTATUS ke_put_user_pair(void *to, uint64_t first,
                                        uint64_t second)
{
    return ke_may_touch(to, 2 * sizeof(first))
               ? ki_put_user_pair(to, first, second)
               : STATUS_ACCESS_VIOLATION;
}

// ---- System calls ---------------------------------------------------------

typedef struct ke_service {
    void *routine;
    uint8_t arguments;
} ke_service;

// Replaces ring 3's registers by those of its context and returns there; comes
// back only with a status that says what is wrong with them.
NTSTATUS ke_continue(const CONTEXT *context, bool test_alert);

// Tells whether an address may be read without a fault; mm's, for backtraces.
extern bool (*ke_is_readable)(const void *address);

// ---- Other processors -----------------------------------------------------

// Drops the TLB entries of pages pages from address on, on this processor and
// on the others in the mask. IRQL: <= DISPATCH_LEVEL, no spin lock held.
void ke_flush_tlb(uint32_t processors, const void *address, uint64_t pages);
