// call.h - a system call by its number, for programs that try any argument.

#ifndef TINT_TESTS_USER_CALL_H
#define TINT_TESTS_USER_CALL_H

#include <ntdll.h>

// A service by its number, with its arguments on the stack where they belong.
NTSTATUS call_service(uint64_t number, const uint64_t *arguments);
__asm__(".text\n"
        "call_service:\n"
        "push %rbx\n"
        "mov %rdi, %rax\n mov %rsi, %rbx\n"
        "pushq 72(%rbx)\n pushq 64(%rbx)\n pushq 56(%rbx)\n pushq 48(%rbx)\n"
        "mov (%rbx), %rdi\n mov 8(%rbx), %rsi\n mov 16(%rbx), %rdx\n"
        "mov 24(%rbx), %r10\n mov 32(%rbx), %r8\n mov 40(%rbx), %r9\n"
        "sub $8, %rsp\n"    // where a stub's return address lies
        "syscall\n"
        "add $40, %rsp\n pop %rbx\n ret\n");

#endif
