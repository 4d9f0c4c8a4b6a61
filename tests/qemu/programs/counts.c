// counts.c - prints what the system has in use.

#include <ntdll.h>
#include <stdio.h>

int main(void)
{
    SYSTEM_PERFORMANCE_INFORMATION now;
    if (!NT_SUCCESS(NtQuerySystemInformation(SystemPerformanceInformation,
                                             &now, sizeof(now), NULL)))
        return 1;
    // Pages that are cut into small blocks fill up differently each time.
    printf("counts: irps=%lu handles=%lu objects=%lu threads=%lu"
           " processes=%lu blocks=%lu pool=%lu pages=%lu\n", now.Irps,
           now.Handles, now.Objects, now.Threads, now.Processes,
           now.PoolBlocks, now.PoolBytes, now.AvailablePages + now.PoolPages);
    return 0;
}
