// bugcheck.c - the end: says what broke, and leaves QEMU with status 37.
//
// It may come from anywhere, from an ISR or with any lock held, so it takes
// none and prints by polling. The addresses are resolved by the launcher.

#include "kernel/ke/kep.h"

enum { BACKTRACE_DEPTH = 16 };

// True if a frame pointer may be followed without a fault.
bool (*ke_is_readable)(const void *address);

static void print(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

static void print(const char *format, ...)
{
    char line[160];
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

static void print_registers(const KTRAP_FRAME *f)
{
    print("  rax %p  rbx %p  rcx %p\n", (void *)f->Rax, (void *)f->Rbx,
          (void *)f->Rcx);
    print("  rdx %p  rsi %p  rdi %p\n", (void *)f->Rdx, (void *)f->Rsi,
          (void *)f->Rdi);
    print("  rbp %p  rsp %p  r8  %p\n", (void *)f->Rbp, (void *)f->Rsp,
          (void *)f->R8);
    print("  r9  %p  r10 %p  r11 %p\n", (void *)f->R9, (void *)f->R10,
          (void *)f->R11);
    print("  r12 %p  r13 %p  r14 %p\n", (void *)f->R12, (void *)f->R13,
          (void *)f->R14);
    print("  r15 %p  rip 0x%016llx  efl %p\n", (void *)f->R15,
          (unsigned long long)f->Rip, (void *)f->EFlags);
    print("  vector %llu  error 0x%llx  cs 0x%llx  cr2 %p\n",
          (unsigned long long)f->vector, (unsigned long long)f->ErrorCode,
          (unsigned long long)f->SegCs, (void *)ki_read_cr2());
}

static void print_backtrace(const uint64_t *frame)
{
    for (int i = 0; i < BACKTRACE_DEPTH; i++) {
        if (!frame || (uintptr_t)frame % sizeof(*frame) || !ke_is_readable ||
            !ke_is_readable(frame) || !ke_is_readable(frame + 1))
            return;
        if (frame[1] < MM_DIRECT_MAP)
            return;
        print("  at 0x%016llx\n", (unsigned long long)frame[1]);
        frame = (const uint64_t *)frame[0];
    }
}

static _Noreturn void stop(uint32_t code, const uintptr_t parameters[4],
                           const char *text, const KTRAP_FRAME *frame,
                           const uint64_t *rbp)
{
    static volatile bool stopping;
    __asm__ volatile("cli");
    if (__atomic_exchange_n(&stopping, true, __ATOMIC_SEQ_CST))
        hal_exit(HAL_EXIT_BUGCHECK);    // a fault in here
    print("\n*** STOP 0x%08X %s (0x%llx, 0x%llx, 0x%llx, 0x%llx)\n", code,
          name_of(code), (unsigned long long)parameters[0],
          (unsigned long long)parameters[1],
          (unsigned long long)parameters[2],
          (unsigned long long)parameters[3]);
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
    uintptr_t parameters[4] = { parameter1, parameter2, parameter3,
                                parameter4 };
    stop(code, parameters, NULL, NULL, __builtin_frame_address(0));
}

// Stops for a trap of ring 0, with its registers.
//
// IRQL:    any level
void ki_bugcheck_trap(uint32_t code, const KTRAP_FRAME *frame,
                      uintptr_t parameter)
{
    uintptr_t parameters[4] = { parameter, frame->ErrorCode, frame->Rip,
                                frame->vector };
    stop(code, parameters, NULL, frame, NULL);
}

// Stops for a broken ASSERT.
//
// IRQL:    any level
void ke_assertion_failed(const char *expression, const char *file,
                         uint32_t line)
{
    char text[120];
    rtl_snprintf(text, sizeof(text), "%s:%u: %s", file, line, expression);
    uintptr_t parameters[4] = { line, KeGetCurrentIrql(), 0, 0 };
    stop(STATUS_ASSERTION_FAILURE_CODE, parameters, text, NULL, __builtin_frame_address(0));
}
