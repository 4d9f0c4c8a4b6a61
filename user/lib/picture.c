// picture.c - the snapshot as a person reads it.

#include <road.h>

#include <stdio.h>
#include <string.h>

const char *rtl_thread_state(const SNAPSHOT_THREAD *thread)
{
    switch (thread->State) {
    case Initialized: return "new";
    case Ready: return "ready";
    case Running: return "running";
    case Terminated: return "ended";
    case Waiting: return "waiting";
    default: return "?";
    }
}

const char *rtl_wait_text(const SNAPSHOT_THREAD *thread)
{
    if (thread->State != Waiting)
        return "-";
    switch (thread->WaitReason) {
    case DelayExecution: return "time to pass";
    case Suspended: return "NtResumeThread";
    case WrQueue: return "packet in a port";
    default: return thread->WaitObject;
    }
}

const char *rtl_thread_name(const SYSTEM_SNAPSHOT *snapshot, uint32_t id,
                            char buffer[24])
{
    const SNAPSHOT_THREAD *threads = rtl_snapshot_threads(snapshot);
    if (id == 0)
        return "nobody (idle)";
    for (uint32_t i = 0; i < snapshot->Threads; i++) {
        if (threads[i].ThreadId == id) {
            snprintf(buffer, 24, "%.15s", threads[i].Image);
            return buffer;
        }
    }
    snprintf(buffer, 24, "thread %u", id);
    return buffer;
}

uint32_t rtl_threads_on_io(const SYSTEM_SNAPSHOT *snapshot, uint32_t process)
{
    const SNAPSHOT_THREAD *threads = rtl_snapshot_threads(snapshot);
    uint32_t count = 0;
    for (uint32_t i = 0; i < snapshot->Threads; i++)
        count += threads[i].IrpId != 0 &&
                 (process == 0 || threads[i].ProcessId == process);
    return count;
}

static void print_processors(const SYSTEM_SNAPSHOT *snapshot)
{
    const SNAPSHOT_PROCESSOR *processors = rtl_snapshot_processors(snapshot);
    char name[24];
    char number[RTL_GROUPED_SIZE];
    for (uint32_t i = 0; i < snapshot->Processors; i++) {
        const SNAPSHOT_PROCESSOR *processor = &processors[i];
        printf("  processor %-3u ", processor->Number);
        if (processor->HaltedSince)
            printf("halted for %s us\n",
                   rtl_grouped(rtl_ticks_to_us(snapshot->Time -
                                               processor->HaltedSince),
                               number));
        else if (processor->CurrentThread)
            printf("ran thread %u, %s%s\n", processor->CurrentThread,
                   rtl_thread_name(snapshot, processor->CurrentThread, name),
                   processor->CurrentThread ==
                           NtCurrentPeb()->ClientId.UniqueThread
                       ? ", which took this picture" : "");
        else
            printf("idle, not halted yet\n");
    }
}

#define THREADS_SHOWN 16

static void print_threads(const SYSTEM_SNAPSHOT *snapshot)
{
    const SNAPSHOT_THREAD *threads = rtl_snapshot_threads(snapshot);
    printf("\n  thread  program          state    waits for         "
           "works on an I/O?\n");
    for (uint32_t i = 0; i < snapshot->Threads; i++) {
        const SNAPSHOT_THREAD *thread = &threads[i];
        char works[24] = "no";
        if (i == THREADS_SHOWN) {
            printf("     ...  and %u more\n", snapshot->Threads - i);
            break;
        }
        if (thread->IrpId)
            snprintf(works, sizeof(works), "IRP %u", thread->IrpId);
        printf("  %6u  %-15.15s  %-7s  %-16.16s  %s\n", thread->ThreadId,
               thread->Image, rtl_thread_state(thread), rtl_wait_text(thread),
               works);
    }
}

static void print_irps(const SYSTEM_SNAPSHOT *snapshot)
{
    const SNAPSHOT_IRP *irps = rtl_snapshot_irps(snapshot);
    uint32_t states[IrpCompleted + 1] = { 0 };
    char number[RTL_GROUPED_SIZE];
    for (uint32_t i = 0; i < snapshot->Irps; i++) {
        if (irps[i].State <= IrpCompleted)
            states[irps[i].State]++;
    }
    printf("\n  I/O requests (IRPs) in flight %12s  ",
           rtl_grouped(snapshot->Irps, number));
    printf("%u at a device, %u queued", states[IrpAtDevice],
           states[IrpQueued]);
    if (states[IrpCreated] + states[IrpCompleted] > 0)
        printf(", %u else", states[IrpCreated] + states[IrpCompleted]);
    printf("\n");
    printf("  threads working on I/O        %12u  (whose call or APC is of an"
           " IRP)\n", rtl_threads_on_io(snapshot, 0));
}

void rtl_print_picture(const SYSTEM_SNAPSHOT *snapshot)
{
    print_processors(snapshot);
    print_threads(snapshot);
    print_irps(snapshot);
}
