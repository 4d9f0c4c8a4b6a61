// waiter.c - waits for what does not happen: waiter [MILLISECONDS].

#include <ntdll.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    HANDLE event;
    int64_t timeout = argc > 1 ? -10000ll * atoi(argv[1]) : 0;
    if (!NT_SUCCESS(NtCreateEvent(&event, ALL_ACCESS, NULL, NotificationEvent,
                                  false)))
        return 1;
    printf("waiting\n");
    fflush(stdout);
    return NtWaitForSingleObject(event, false, argc > 1 ? &timeout : NULL) ==
           STATUS_TIMEOUT ? 0 : 1;
}
