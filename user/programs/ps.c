// ps.c - shows every thread of the system, as the scheduler sees it.

#include <road.h>
#include <stdio.h>

static const char *reason_name(const SNAPSHOT_THREAD *thread)
{
    static const char *const names[] = {
        [Executive] = "kernel", [DelayExecution] = "delay",
        [Suspended] = "suspended", [UserRequest] = "request",
        [WrQueue] = "port" };
    if (thread->State != Waiting || thread->WaitReason >= MaximumWaitReason)
        return "-";
    return names[thread->WaitReason];
}

static void print_thread(const SNAPSHOT_THREAD *thread)
{
    char object[32] = "-";
    char irp[12] = "-";
    char priority[12];
    char time[RTL_GROUPED_SIZE];
    if (thread->State == Waiting && thread->WaitObjects > 1)
        snprintf(object, sizeof(object), "%.12s+%u", thread->WaitObject,
                 thread->WaitObjects - 1);
    else if (thread->State == Waiting && thread->WaitObjects == 1)
        snprintf(object, sizeof(object), "%.15s", thread->WaitObject);
    if (thread->IrpId)
        snprintf(irp, sizeof(irp), "%u", thread->IrpId);
    snprintf(priority, sizeof(priority), "%u/%u", thread->Priority,
             thread->BasePriority);
    printf("%4u %5u %-11.11s %-7s %-9s %-11.11s %5s %9s %7lu %s\n",
           thread->ProcessId, thread->ThreadId, thread->Image,
           rtl_thread_state(thread), reason_name(thread), object, priority,
           rtl_grouped(rtl_ticks_to_us(thread->RunTime) / 1000, time),
           thread->Switches, irp);
}

int main(void)
{
    SYSTEM_SNAPSHOT *snapshot = NULL;
    uint32_t size = 0;
    char text[RTL_STATUS_SIZE];
    NTSTATUS status = rtl_take_snapshot(&snapshot, &size);
    if (!NT_SUCCESS(status)) {
        fprintf(stderr, "ps: %s\n", rtl_status_text(status, text));
        return 1;
    }
    const SNAPSHOT_THREAD *threads = rtl_snapshot_threads(snapshot);
    printf(" PID   TID PROGRAM     STATE   WAIT      OBJECT       PRIO   TIME"
           " ms SWITCHES IRP\n");
    for (uint32_t i = 0; i < snapshot->Threads; i++)
        print_thread(&threads[i]);
    return 0;
}
