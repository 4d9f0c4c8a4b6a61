// busy.c - says so once, then computes without a system call and does
// not end: busy.

#include <stdint.h>
#include <stdio.h>

int main(void)
{
    printf("computing\n");
    fflush(stdout);
    for (volatile uint64_t n = 0;; n++)
        continue;
}
