// bugcheck.c - the end: says what broke, and leaves QEMU with status 37.
//
// It may come from anywhere, from an ISR or with any lock held, so it takes
// none and prints by polling. The addresses are resolved by the launcher.

#include "kernel/ke/kep.h"

enum { BACKTRACE_DEPTH = 16 };

KPRCB *volatile ki_bugcheck_owner;

// Stops the others, so that they change nothing any more; of two processors
// that come here at once one prints. A fault in here only ends.
static void stop_others(KPRCB *self)
{
    KPRCB *nobody = NULL;
    if (!__atomic_compare_exchange_n(&ki_bugcheck_owner, &nobody, self,
                                     false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST)) {
        if (nobody != self)
            ki_stop_processor();
        hal_exit(HAL_EXIT_BUGCHECK);
    }
    for (uint32_t i = 0; i < KeNumberProcessors; i++)
        if (ki_processor[i] != self)
            hal_send_ipi(ki_processor[i]->apic_id, HAL_IPI_NMI);
}

const char *ke_bugcheck_note;

#define BUGCHECK_ROW(name, code, rule) { code, #name, rule },

static const struct bugcheck {
    uint32_t code;
    const char *name, *rule;
} bugchecks[] = { BUGCHECK_CODES(BUGCHECK_ROW) { 0, "UNKNOWN", "" } };

// A trap frame is an array of quadwords, in this order.
static void print_registers(const KTRAP_FRAME *frame)
{
    static const char registers[sizeof(*frame) / sizeof(uint64_t)][4] = {
        "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8",
        "rdi", "rsi", "rdx", "rcx", "rax", "vec", "err", "rip", "cs", "efl",
        "rsp", "ss",
    };
    const uint64_t *value = &frame->R15;
    for (size_t i = 0; i < ARRAY_SIZE(registers); i++)
        hal_print("  %-3s 0x%016llx%s", registers[i],
                  (unsigned long long)value[i], i % 3 == 2 ? "\n" : "");
    hal_print("  cr2 0x%016llx\n", (unsigned long long)KI_READ_CR(2));
}

// A frame pointer may be anything: what it leads to is copied like ring 3's
// memory, where a fault is a status.
static void print_backtrace(const uint64_t *frame)
{
    uint64_t saved[2];    // the frame above, and where it goes on
    for (int i = 0; i < BACKTRACE_DEPTH; i++) {
        if ((uintptr_t)frame < MM_DIRECT_MAP ||
            (uintptr_t)frame % sizeof(*frame) ||
            !NT_SUCCESS(ki_copy_user(saved, frame, sizeof(saved))) ||
            saved[1] < MM_DIRECT_MAP)
            return;
        hal_print("  at 0x%016llx\n", (unsigned long long)saved[1]);
        frame = (const uint64_t *)saved[0];
    }
}

static _Noreturn void stop(uint32_t code,
                           const unsigned long long parameters[4],
                           const char *text, const KTRAP_FRAME *frame,
                           const uint64_t *rbp)
{
    ki_disable();
    KPRCB *prcb = KeGetCurrentPrcb();    // since ke_init_boot_processor
    stop_others(prcb);
    const struct bugcheck *row = bugchecks;
    while (row->code && row->code != code)
        row++;
    hal_print("\n*** STOP 0x%08X %s (0x%llx, 0x%llx, 0x%llx, 0x%llx)\n", code,
              row->name, parameters[0], parameters[1], parameters[2],
              parameters[3]);
    if (text || *row->rule)
        hal_print("  %s\n", text ? text : row->rule);
    hal_print("  processor %u, thread %u, IRQL %u\n", prcb->Number,
              prcb->CurrentThread->id, KeGetCurrentIrql());
    if (frame) {
        print_registers(frame);
        hal_print("  at 0x%016llx\n", (unsigned long long)frame->Rip);
        rbp = (const uint64_t *)frame->Rbp;
    }
    print_backtrace(rbp);
    hal_exit(HAL_EXIT_BUGCHECK);
}

// Stops the machine.
//
// IRQL:    any level
// NT:      KeBugCheckEx (WDK).
void KeBugCheckEx(uint32_t code, uintptr_t parameter1, uintptr_t parameter2,
                  uintptr_t parameter3, uintptr_t parameter4)
{
    stop(code, (unsigned long long[]){ parameter1, parameter2, parameter3,
                                       parameter4 },
         ke_bugcheck_note, NULL, __builtin_frame_address(0));
}

// Stops for a trap of ring 0, with its registers.
//
// IRQL:    any level
void ki_bugcheck_trap(uint32_t code, const KTRAP_FRAME *frame,
                      uintptr_t parameter)
{
    stop(code, (unsigned long long[]){ parameter, frame->ErrorCode, frame->Rip,
                                       frame->vector },
         NULL, frame, NULL);
}
