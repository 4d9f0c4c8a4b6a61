// measure.c - the TEST line of a window, and what the system counts itself.

#include <measure.h>
#include <stdio.h>

#define MOST_THREADS 256
#define MOST_IRPS    64

void rtl_print_window(const struct rtl_window *window, const char *name,
                      uint64_t n)
{
    uint64_t us = rtl_ticks_to_us(window->closed - window->opened);
    printf("TEST %s n=%lu sec=%lu.%06lu\n", name, n, us / 1000000,
           us % 1000000);
}

bool rtl_read_counts(struct rtl_counts *counts)
{
    static union {
        SYSTEM_SNAPSHOT snapshot;
        uint8_t room[sizeof(SYSTEM_SNAPSHOT) +
                     RTL_PROCESSORS * sizeof(SNAPSHOT_PROCESSOR) +
                     MOST_THREADS * sizeof(SNAPSHOT_THREAD) +
                     MOST_IRPS * sizeof(SNAPSHOT_IRP)];
    } look;
    THREAD_BASIC_INFORMATION self;
    *counts = (struct rtl_counts){ 0 };
    if (!NT_SUCCESS(NtQueryInformationThread(NtCurrentThread(),
                                             ThreadBasicInformation, &self,
                                             sizeof(self), NULL)) ||
        !NT_SUCCESS(NtQuerySystemInformation(SystemSnapshotInformation, &look,
                                             sizeof(look), NULL)))
        return false;
    const SNAPSHOT_PROCESSOR *processors =
        rtl_snapshot_processors(&look.snapshot);
    for (uint32_t i = 0; i < look.snapshot.Processors; i++) {
        counts->interrupts += processors[i].Interrupts;
        counts->dpcs += processors[i].Dpcs;
    }
    const SNAPSHOT_THREAD *threads = rtl_snapshot_threads(&look.snapshot);
    for (uint32_t i = 0; i < look.snapshot.Threads; i++)
        if (threads[i].ThreadId == self.ClientId.UniqueThread)
            counts->switches = threads[i].Switches;
    return true;
}
