// busy.c - computes, makes no system call, and does not end: busy.

#include <stdint.h>

int main(void)
{
    for (volatile uint64_t n = 0;; n++)
        continue;
}
