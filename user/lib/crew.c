// crew.c - threads that prepare, work and finish in step.
//
// arrived counts who has come to the next of the two gates, go and leave; the
// one who leads waits for all of them before it opens one.

#include <crew.h>

#define STACK_SIZE (64u << 10)

static NTSTATUS run_member(void *argument)
{
    struct rtl_member *member = argument;
    struct rtl_crew *crew = member->crew;
    SYSTEM_BASIC_INFORMATION system = { .NumberOfProcessors = 1 };
    NtQuerySystemInformation(SystemBasicInformation, &system, sizeof(system),
                             NULL);
    uint64_t mask = 1ull << member->index % system.NumberOfProcessors;
    NtSetInformationThread(NtCurrentThread(), ThreadAffinityMask, &mask,
                           sizeof(mask));
    member->status = crew->prepare(member);
    NtReleaseSemaphore(crew->arrived, 1, NULL);
    NtWaitForSingleObject(crew->go, false, NULL);
    if (!crew->failed)
        member->status = crew->work(member);
    NtReleaseSemaphore(crew->arrived, 1, NULL);
    NtWaitForSingleObject(crew->leave, false, NULL);
    crew->finish(member);
    return member->status;
}

static void await_all(const struct rtl_crew *crew)
{
    for (uint32_t i = 0; i < crew->count; i++)
        NtWaitForSingleObject(crew->arrived, false, NULL);
}

NTSTATUS rtl_gather_crew(struct rtl_crew *crew)
{
    uint32_t wanted = crew->count;
    NTSTATUS status = NtCreateSemaphore(&crew->arrived, ALL_ACCESS, NULL, 0,
                                        RTL_CREW_MOST);
    if (NT_SUCCESS(status))
        status = NtCreateEvent(&crew->go, ALL_ACCESS, NULL, NotificationEvent,
                               false);
    if (NT_SUCCESS(status))
        status = NtCreateEvent(&crew->leave, ALL_ACCESS, NULL,
                               NotificationEvent, false);
    for (crew->count = 0; NT_SUCCESS(status) && crew->count < wanted;) {
        struct rtl_member *member = &crew->members[crew->count];
        member->crew = crew;
        member->index = crew->count;
        status = NtCreateThreadEx(&crew->threads[crew->count], ALL_ACCESS,
                                  NULL, NtCurrentProcess(), run_member, member,
                                  0, STACK_SIZE);
        crew->count += NT_SUCCESS(status);
    }
    await_all(crew);
    for (uint32_t i = 0; NT_SUCCESS(status) && i < crew->count; i++)
        status = crew->members[i].status;
    crew->failed = !NT_SUCCESS(status);
    return status;
}

void rtl_work_crew(struct rtl_crew *crew)
{
    NtSetEvent(crew->go, NULL);
    await_all(crew);
}

NTSTATUS rtl_dismiss_crew(struct rtl_crew *crew)
{
    NTSTATUS status = STATUS_SUCCESS;
    NtSetEvent(crew->go, NULL);    // those who never worked wait for it
    NtSetEvent(crew->leave, NULL);
    for (uint32_t i = 0; i < crew->count; i++) {
        NtWaitForSingleObject(crew->threads[i], false, NULL);
        NtClose(crew->threads[i]);
        if (NT_SUCCESS(status))
            status = crew->members[i].status;
    }
    NtClose(crew->arrived);
    NtClose(crew->go);
    NtClose(crew->leave);
    return status;
}
