// services.c - one stub for each service: how ring 3 enters the kernel.
//
// The list is NT_SERVICES of kernel/ntabi.h; a service's number is its place
// there. `syscall` overwrites rcx, so the fourth argument travels in r10.
// Arguments beyond the sixth stay where the C compiler put them, above the
// return address, and the kernel reads them there.

#include "kernel/ntabi.h"

#define STUB(name, count, arguments)   \
    ".global " #name "\n"              \
    ".type " #name ", @function\n"     \
    #name ":\n"                        \
    "    mov %rcx, %r10\n"             \
    "    mov $number, %eax\n"          \
    "    syscall\n"                    \
    "    ret\n"                        \
    ".size " #name ", . - " #name "\n" \
    ".set number, number + 1\n"

__asm__(".text\n"
        ".set number, 0\n" NT_SERVICES(STUB));
