// context.h - NtContinue to the place behind the call.

#ifndef TINT_TESTS_USER_CONTEXT_H
#define TINT_TESTS_USER_CONTEXT_H

#include <ntdll.h>

_Static_assert(offsetof(CONTEXT, Rdx) == 96 && offsetof(CONTEXT, Rip) == 120,
               "go_on");

// Goes on with context, whose rip and rdx it sets; the flags and rsp that come
// of it go to after[0] and after[2].
void go_on(CONTEXT *context, uint64_t after[4]);
__asm__(".text\n"
        "go_on:\n"
        "push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n"
        "push %r15\n"
        "mov %rsi, 96(%rdi)\n"
        "mov %rsp, 8(%rsi)\n"
        "lea 1f(%rip), %rax\n mov %rax, 120(%rdi)\n"
        "xor %esi, %esi\n"
        "call NtContinue\n"
        "ud2\n"                            // it must not return
        "1: mov %rsp, 16(%rdx)\n"
        "mov 8(%rdx), %rsp\n"
        "pushfq\n popq (%rdx)\n"
        "pushq $2\n popfq\n"
        "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
        "ret\n");

#endif
