// bugcheck.c - the end: says what broke, and leaves QEMU with status 37.
//
// It may come from anywhere, from an ISR or with any lock held, so it takes
// none and prints by polling. The addresses are resolved by the launcher.

#include "kernel/ke/kep.h"

enum { BACKTRACE_DEPTH = 16 };

// True if a frame pointer may be followed without a fault.
bool (*ke_is_readable)(const void *address);

const char *ke_bugcheck_note;

static void print(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

static void print(const char *format, ...)
{
    char line[256];
    va_list args;
    va_start(args, format);
    rtl_vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    for (const char *c = line; *c; c++)
        hal_put_char(*c);
}

#define CASE(name, code) case code: return #name;

static const char *name_of(uint32_t code)
{
    switch (code) {
    BUGCHECK_CODES(CASE)
    default: return "UNKNOWN";
    }
}

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
        print("  %-3s 0x%016llx%s", registers[i],
              (unsigned long long)value[i], i % 3 == 2 ? "\n" : "");
    print("  cr2 0x%016llx\n", (unsigned long long)KI_READ_CR(2));
}

static void print_backtrace(const uint64_t *frame)
{
    for (int i = 0; i < BACKTRACE_DEPTH; i++) {
        if (!frame || (uintptr_t)frame % sizeof(*frame) || !ke_is_readable ||
            !ke_is_readable(frame) || !ke_is_readable(frame + 1) ||
            frame[1] < MM_DIRECT_MAP)
            return;
        print("  at 0x%016llx\n", (unsigned long long)frame[1]);
        frame = (const uint64_t *)frame[0];
    }
}

static _Noreturn void stop(uint32_t code,
                           const unsigned long long parameters[4],
                           const char *text, const KTRAP_FRAME *frame,
                           const uint64_t *rbp)
{
    static volatile bool stopping;
    __asm__ volatile("cli");
    if (__atomic_exchange_n(&stopping, true, __ATOMIC_SEQ_CST))
        hal_exit(HAL_EXIT_BUGCHECK);    // a fault in here
    print("\n*** STOP 0x%08X %s (0x%llx, 0x%llx, 0x%llx, 0x%llx)\n", code,
          name_of(code), parameters[0], parameters[1], parameters[2],
          parameters[3]);
    if (text)
        print("  %s\n", text);
    KPRCB *prcb = ki_processor[0] ? KeGetCurrentPrcb() : NULL;
    if (prcb)
        print("  processor %u, thread %u, IRQL %u\n", prcb->Number,
              prcb->CurrentThread ? prcb->CurrentThread->id : 0,
              KeGetCurrentIrql());
    if (frame) {
        print_registers(frame);
        print("  at 0x%016llx\n", (unsigned long long)frame->Rip);
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

// Stops for a broken ASSERT.
//
// IRQL:    any level
void ke_assertion_failed(const char *expression, const char *file,
                         uint32_t line)
{
    char text[120];
    rtl_snprintf(text, sizeof(text), "%s:%u: %s", file, line, expression);
    stop(STATUS_ASSERTION_FAILURE_CODE,
         (unsigned long long[4]){ line, KeGetCurrentIrql() }, text, NULL,
         __builtin_frame_address(0));
}
