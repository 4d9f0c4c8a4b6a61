// crew.h - a thread on each processor, all of which begin at one moment.

#ifndef TINT_CREW_H
#define TINT_CREW_H

#include <ntdll.h>

#define RTL_CREW_MOST 64

struct rtl_crew;

struct rtl_member {
    struct rtl_crew *crew;
    uint32_t index;
    void *own;                   // the caller's
    NTSTATUS status;             // of prepare, or else of work
};

struct rtl_crew {
    // Set by the caller. A member does prepare, says so, and does work when
    // all are ready; then it waits until rtl_dismiss_crew.
    NTSTATUS (*prepare)(struct rtl_member *member);
    NTSTATUS (*work)(struct rtl_member *member);
    void (*finish)(struct rtl_member *member);
    void *context;
    uint32_t count;              // members; i runs on processor i % processors

    bool failed;                 // one could not prepare: nobody works
    HANDLE arrived;              // semaphore: one more is where it should be
    HANDLE go, leave;            // events
    HANDLE threads[RTL_CREW_MOST];
    struct rtl_member members[RTL_CREW_MOST];
};

// Starts the members and waits until all are prepared.
NTSTATUS rtl_gather_crew(struct rtl_crew *crew);
// Lets them work and waits until all are done.
void rtl_work_crew(struct rtl_crew *crew);
// Lets them finish, and ends them; returns the first failure.
NTSTATUS rtl_dismiss_crew(struct rtl_crew *crew);

#endif
