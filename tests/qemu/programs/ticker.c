// ticker.c - wakes a hundred times a second, for ever: ticker.

#include <ntdll.h>

int main(void)
{
    int64_t interval = -100000;    // 10 ms
    for (;;)
        NtDelayExecution(false, &interval);
}
