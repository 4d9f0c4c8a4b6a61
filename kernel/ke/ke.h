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
// Features of CR4 and EFER that CPUID has; patches stac/clac into the user
// accessors.
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

// ---- Ring 3's memory: only these touch it, and entry.asm ------------------

static inline bool ke_is_user_range(const void *address, size_t length)
{
    uintptr_t start = (uintptr_t)address;
    return length == 0 ||
           (start - MM_LOWEST_USER_ADDRESS <=
                MM_HIGHEST_USER_ADDRESS - MM_LOWEST_USER_ADDRESS &&
            length <= MM_HIGHEST_USER_ADDRESS + 1 - start);
}

// &array[i] of an array of ring 3's. Its address may be anything, NULL too, so
// it is computed as a number.
#define KE_USER_ELEMENT(array, i) \
    ((__typeof__(array))((uintptr_t)(array) + (i) * sizeof(*(array))))

// Enough before what is below touches something short: all in the lower
// half that is not ring 3's faults, and the hole behind it is larger.
static inline bool ke_may_touch(const void *address, size_t length)
{
    if (__builtin_constant_p(length) && length - 1 < PAGE_SIZE)
        return (intptr_t)address >= 0;
    return ke_is_user_range(address, length);
}

// Copies any length; a fault is a status. Looks at no address: see below.
//
// IRQL:    any level
// Returns: STATUS_SUCCESS, STATUS_ACCESS_VIOLATION
NTSTATUS ki_copy_user(void *to, const void *from, size_t length);
// Copy between ring 0 and ring 3, any length. Addresses outside ring 3, and
// faults, are a status; to may be half written then.
//
// IRQL:    <= APC_LEVEL
// Returns: STATUS_SUCCESS, STATUS_ACCESS_VIOLATION
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

// The short things that every request and every packet needs are done in place,
// at addresses below the hole (ke_may_touch): a fault in code goes on at the
// label fault. NOPs become stac and clac, as in entry.asm. A function's body.
#define KI_TOUCH_USER(code, ...)                                               \
    __asm__ goto("1: .byte 0x0F, 0x1F, 0x00\n" code "\n"                       \
                 "2: .byte 0x0F, 0x1F, 0x00\n"                                 \
                 ".pushsection .smap, \"a\"\n"                                 \
                 ".quad 1b, 0xCB010F, 2b, 0xCA010F\n"                          \
                 ".section .fixups, \"a\"\n"                                   \
                 ".quad 1b, 2b, %l[fault]\n"                                   \
                 ".popsection"                                                 \
                 :: __VA_ARGS__ : "memory", "cc" : fault);                     \
    return STATUS_SUCCESS;                                                     \
fault:                                                                         \
    return STATUS_ACCESS_VIOLATION
typedef struct __attribute__((packed)) ki_user_word {
    uint64_t value;
} ki_user_word;
#define KI_USER_WORD(at) "m"(*(ki_user_word *)(at))

// Says whether ring 3 can write these bytes, below the hole: writes what is
// there, in one step, so that nothing is lost that another thread stores.
//
// IRQL:    <= APC_LEVEL
// Returns: STATUS_SUCCESS, STATUS_ACCESS_VIOLATION
static FORCEINLINE NTSTATUS ki_probe_user(void *first, void *last)
{
    KI_TOUCH_USER("lock orb $0, %0; lock orb $0, %1",
                  "m"(*(char *)first), "m"(*(char *)last));
}

// The same for length bytes anywhere, at most a page.
static inline NTSTATUS ke_probe_user(void *to, size_t length)
{
    uintptr_t last = (uintptr_t)to + length - 1;
    return ke_may_touch(to, length) ? ki_probe_user(to, (void *)last)
                                    : STATUS_ACCESS_VIOLATION;
}

// Stores two words below the hole, the second one first: whoever polls the
// first sees both.
//
// IRQL:    <= APC_LEVEL
// Returns: STATUS_SUCCESS, STATUS_ACCESS_VIOLATION
static FORCEINLINE NTSTATUS ki_put_user_pair(void *to, uint64_t first,
                                             uint64_t second)
{
    KI_TOUCH_USER("mov %3, %1; mov %2, %0", KI_USER_WORD(to),
                  KI_USER_WORD((uintptr_t)to + 8), "r"(first), "r"(second));
}

// Stores what the taker of a packet gets: two words and a pair below the hole.
//
// IRQL:    <= APC_LEVEL
// Returns: STATUS_SUCCESS, STATUS_ACCESS_VIOLATION
static FORCEINLINE NTSTATUS ki_put_packet(
    void *key, void *context, void *iosb, FILE_IO_COMPLETION_INFORMATION packet)
{
    KI_TOUCH_USER("mov %4, %0; mov %5, %1; mov %7, %3; mov %6, %2",
                  KI_USER_WORD(key), KI_USER_WORD(context), KI_USER_WORD(iosb),
                  KI_USER_WORD((uintptr_t)iosb + 8), "r"(packet.KeyContext),
                  "r"(packet.ApcContext), "r"(packet.IoStatusBlock.Pointer),
                  "r"(packet.IoStatusBlock.Information));
}

// ---- System calls ---------------------------------------------------------

typedef struct ke_service {
    void *routine;
    uint8_t on_stack;            // arguments beyond the sixth
} ke_service;

// Replaces ring 3's registers by those of its context and returns there; comes
// back only with a status that says what is wrong with them.
NTSTATUS ke_continue(const CONTEXT *context, bool test_alert);

// ---- Other processors -----------------------------------------------------

// Drops the TLB entries of pages pages from address on, on this processor and
// on the others in the mask. IRQL: <= DISPATCH_LEVEL, no spin lock held.
void ke_flush_tlb(uint32_t processors, const void *address, uint64_t pages);
