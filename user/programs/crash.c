// crash.c - does one thing that ring 3 must not do: crash KIND.
//
// The kernel ends this process with a status that names the fault, and goes on.
// What comes back from a kind was not caught, and is reported as a failure.

#include <assert.h>
#include <ntdll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KERNEL_ADDRESS ((volatile int *)0xFFFFFFFF80000000u)
#define NON_CANONICAL  ((volatile int *)0x0000900000000000u)
#define UNMAPPED       ((void (*)(void))0x0000123456789000u)
#define MXCSR_UNMASKED 0u    // every exception is delivered
#define FLAG_TRAP      0x100
#define FLAG_ALIGNMENT 0x40000

typedef void routine(void);

static const uint8_t return_instruction = 0xC3;

static void null_read(void)
{
    (void)*(volatile int *)NULL;
}

static void null_write(void)
{
    *(volatile int *)NULL = 1;
}

static void text_write(void)
{
    *(volatile uint8_t *)(uintptr_t)null_read = return_instruction;
}

static void constant_write(void)
{
    *(volatile uint8_t *)(uintptr_t)&return_instruction = 0;
}

static void data_execute(void)
{
    static uint8_t code[1];
    code[0] = return_instruction;
    ((routine *)(uintptr_t)code)();
}

static void stack_execute(void)
{
    volatile uint8_t code[1] = { return_instruction };
    ((routine *)(uintptr_t)code)();
}

static void kernel_read(void)
{
    (void)*KERNEL_ADDRESS;
}

static void kernel_write(void)
{
    *KERNEL_ADDRESS = 1;
}

static void kernel_jump(void)
{
    ((routine *)(uintptr_t)KERNEL_ADDRESS)();
}

static void wild_jump(void)
{
    UNMAPPED();
}

static void non_canonical(void)
{
    (void)*NON_CANONICAL;
}

static void divide(void)
{
    int zero = 0;
    __asm__ volatile("xor %%edx, %%edx\n\tidivl %0"
                     : : "r"(zero), "a"(1) : "edx", "cc");
}

static void overflow(void)
{
    __asm__ volatile("cdq\n\tidivl %0"
                     : : "r"(-1), "a"(INT32_MIN) : "edx", "cc");
}

static void illegal(void)
{
    __asm__ volatile("ud2");
}

static void halt(void)
{
    __asm__ volatile("hlt");
}

static void disable_interrupts(void)
{
    __asm__ volatile("cli");
}

static void read_control_register(void)
{
    uint64_t value;
    __asm__ volatile("mov %%cr3, %0" : "=r"(value));
}

static void read_port(void)
{
    uint8_t value;
    __asm__ volatile("inb $0x60, %0" : "=a"(value));
}

static void soft_interrupt(void)
{
    __asm__ volatile("int $0x2F");
}

static void breakpoint(void)
{
    __asm__ volatile("int3");
}

static void single_step(void)
{
    __asm__ volatile("sub $128, %%rsp\n\tpushfq\n\torl %0, (%%rsp)\n\tpopfq\n\t"
                     "nop\n\tadd $128, %%rsp"
                     : : "i"(FLAG_TRAP) : "memory", "cc");
}

static void misaligned(void)
{
    static uint8_t bytes[16];
    __asm__ volatile("sub $128, %%rsp\n\tpushfq\n\torl %0, (%%rsp)\n\tpopfq\n\t"
                     "mov %1, %%eax\n\tadd $128, %%rsp"
                     : : "i"(FLAG_ALIGNMENT), "m"(bytes[1])
                     : "rax", "memory", "cc");
}

static void sse_divide(void)
{
    uint32_t mxcsr = MXCSR_UNMASKED;
    float one = 1;
    float zero = 0;
    __asm__ volatile("ldmxcsr %0\n\tdivss %2, %1" : : "m"(mxcsr), "x"(one),
                     "x"(zero));
}

static volatile bool deeper = true;

static uint64_t recurse(uint64_t depth)
{
    volatile uint64_t room[64];
    room[0] = depth;
    return (deeper ? recurse(depth + 1) : 0) + room[0];
}

static void stack_overflow(void)
{
    recurse(0);
}

static void broken_assertion(void)
{
    assert(return_instruction == 0);
}

static const struct {
    const char *name;
    routine *run;
    const char *text;
} kinds[] = {
    { "read", null_read, "read at NULL" },
    { "write", null_write, "write at NULL" },
    { "text", text_write, "write into the program's code" },
    { "const", constant_write, "write into a constant" },
    { "exec", data_execute, "run bytes of a variable" },
    { "xstack", stack_execute, "run bytes on the stack" },
    { "kread", kernel_read, "read the kernel's memory" },
    { "kwrite", kernel_write, "write the kernel's memory" },
    { "kjump", kernel_jump, "jump into the kernel" },
    { "jump", wild_jump, "jump to where nothing is" },
    { "canon", non_canonical, "read a non-canonical address" },
    { "divide", divide, "divide by zero" },
    { "overflow", overflow, "divide INT_MIN by -1" },
    { "ill", illegal, "an instruction that does not exist" },
    { "hlt", halt, "halt the processor" },
    { "cli", disable_interrupts, "turn interrupts off" },
    { "cr3", read_control_register, "read a control register" },
    { "in", read_port, "read an I/O port" },
    { "int", soft_interrupt, "raise a kernel's vector by software" },
    { "int3", breakpoint, "a breakpoint without a debugger" },
    { "step", single_step, "a single step without a debugger" },
    { "align", misaligned, "a misaligned read with AC set" },
    { "sse", sse_divide, "an unmasked SSE exception" },
    { "stack", stack_overflow, "recurse for ever" },
    { "abort", abort, "give up" },
    { "assert", broken_assertion, "a broken assertion" },
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc == 2 && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(argv[1], kinds[i].name) != 0)
            continue;
        kinds[i].run();
        fprintf(stderr, "crash: %s was not caught: this processor does not "
                        "check it\n", argv[1]);
        return 1;
    }
    printf("usage: crash KIND, where KIND is one of\n");
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        printf("  %-9s %s\n", kinds[i].name, kinds[i].text);
    return 2;
}
