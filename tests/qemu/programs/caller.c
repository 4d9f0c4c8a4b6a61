// caller.c - says so once, then calls the kernel without a pause and does not
// end: caller.

#include <ntdll.h>
#include <stdio.h>

int main(void)
{
    printf("calling\n");
    fflush(stdout);
    for (;;)
        NtTestAlert();
}
