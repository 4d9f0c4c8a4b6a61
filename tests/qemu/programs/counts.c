// counts.c - prints what the system has in use: counts [full].
//
// full: fills the lists of free IRPs first, one a processor, so that how many
// of them the kernel keeps for later does not depend on who freed them where.

#include <ntdll.h>
#include <stdio.h>

#define IRPS 300    // more than such a list keeps

static void fill_caches(void)
{
    static IO_STATUS_BLOCK iosbs[IRPS];
    static uint8_t bytes[IRPS];
    SYSTEM_BASIC_INFORMATION basic = { .NumberOfProcessors = 1 };
    IO_STATUS_BLOCK iosb;
    HANDLE console;
    NtQuerySystemInformation(SystemBasicInformation, &basic, sizeof(basic),
                             NULL);
    if (!NT_SUCCESS(nt_open_file("CON", FILE_READ_DATA, FILE_OPEN, 0,
                                 &console)))
        return;
    for (uint32_t i = 0; i < basic.NumberOfProcessors; i++) {
        uint64_t mask = 1ull << i;
        NtSetInformationThread(NtCurrentThread(), ThreadAffinityMask, &mask,
                               sizeof(mask));
        for (int j = 0; j < IRPS; j++)
            NtReadFile(console, NULL, NULL, NULL, &iosbs[j], &bytes[j], 1, 0);
        NtCancelIoFile(console, &iosb);
    }
    NtClose(console);
}

int main(int argc, char **argv)
{
    (void)argv;
    SYSTEM_PERFORMANCE_INFORMATION now;
    if (argc > 1)
        fill_caches();
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
