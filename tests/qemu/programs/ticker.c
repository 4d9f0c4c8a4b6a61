// ticker.c - wakes a hundred times a second, for ever: ticker.

#include <ntdll.h>
#include <stdio.h>

int main(void)
{
    int64_t interval = -100000;    // 10 ms
    printf("ticking\n");
    fflush(stdout);
    for (;;)
        NtDelayExecution(false, &interval);
}
