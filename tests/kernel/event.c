// event.c - events, semaphores and mutants (NT-SEMANTICS 3).

#include "tests/kernel/ktest.h"

static const int64_t no_wait = 0;

static NTSTATUS poll(void *object)
{
    return KeWaitForSingleObject(object, Executive, KernelMode, false,
                                 &no_wait);
}

typedef struct waiter {
    ktest_thread thread;
    void *object;
    char letter;
    NTSTATUS status;
} waiter;

static void wait_and_log(void *context)
{
    waiter *w = context;
    w->status = KeWaitForSingleObject(w->object, Executive, KernelMode, false,
                                      NULL);
    ktest_log(w->letter);
}

static void start_waiters(waiter *waiters, int count, void *object)
{
    for (int i = 0; i < count; i++) {
        waiters[i] = (waiter){ .object = object, .letter = (char)('a' + i),
                               .status = STATUS_PENDING };
        ktest_start(&waiters[i].thread, wait_and_log, &waiters[i],
                    KTEST_ABOVE);
        EXPECT(ktest_is_waiting(&waiters[i].thread));
    }
}

static void join_waiters(waiter *waiters, int count)
{
    for (int i = 0; i < count; i++) {
        ktest_join(&waiters[i].thread);
        EXPECT(waiters[i].status == STATUS_SUCCESS);
    }
}

KTEST(event_returns_the_previous_state, "SYN-01")
{
    for (int type = NotificationEvent; type <= SynchronizationEvent; type++) {
        KEVENT event;
        KeInitializeEvent(&event, (EVENT_TYPE)type, false);
        EXPECT(KeSetEvent(&event, IO_NO_INCREMENT) == 0);
        EXPECT(KeSetEvent(&event, IO_NO_INCREMENT) != 0);
        EXPECT(KeResetEvent(&event) != 0);
        EXPECT(KeResetEvent(&event) == 0);
        EXPECT(KePulseEvent(&event, IO_NO_INCREMENT) == 0);
        EXPECT(event.Header.SignalState == 0);
        KeSetEvent(&event, IO_NO_INCREMENT);
        EXPECT(KePulseEvent(&event, IO_NO_INCREMENT) != 0);
        EXPECT(event.Header.SignalState == 0);
        KeSetEvent(&event, IO_NO_INCREMENT);
        KeClearEvent(&event);
        EXPECT(event.Header.SignalState == 0);
        KeInitializeEvent(&event, (EVENT_TYPE)type, true);
        EXPECT(KeResetEvent(&event) != 0);
    }
}

KTEST(event_at_dispatch, "SYN-01 IRQL-04")
{
    KEVENT event;
    waiter w;
    KeInitializeEvent(&event, SynchronizationEvent, false);
    start_waiters(&w, 1, &event);
    KIRQL old = KeRaiseIrqlToDpcLevel();
    int32_t previous = KeSetEvent(&event, IO_NO_INCREMENT);
    KIRQL after = KeGetCurrentIrql();
    ktest_log('1');
    KeLowerIrql(old);
    ktest_log('2');
    EXPECT(previous == 0 && after == DISPATCH_LEVEL);
    EXPECT(ktest_logged("1a2"));
    join_waiters(&w, 1);
}

KTEST(event_notification, "SYN-02")
{
    KEVENT event;
    waiter w[3];
    KeInitializeEvent(&event, NotificationEvent, false);
    start_waiters(w, 3, &event);
    KeSetEvent(&event, IO_NO_INCREMENT);
    EXPECT(ktest_logged("abc"));
    EXPECT(poll(&event) == STATUS_SUCCESS && poll(&event) == STATUS_SUCCESS);
    join_waiters(w, 3);
}

KTEST(event_synchronization, "SYN-02")
{
    KEVENT event;
    waiter w[3];
    KeInitializeEvent(&event, SynchronizationEvent, false);
    start_waiters(w, 3, &event);
    EXPECT(KeSetEvent(&event, IO_NO_INCREMENT) == 0);
    EXPECT(ktest_logged("a") && event.Header.SignalState == 0);
    EXPECT(KeSetEvent(&event, IO_NO_INCREMENT) == 0);
    EXPECT(ktest_logged("ab") && event.Header.SignalState == 0);
    EXPECT(KeSetEvent(&event, IO_NO_INCREMENT) == 0);
    EXPECT(ktest_logged("abc") && event.Header.SignalState == 0);
    KeSetEvent(&event, IO_NO_INCREMENT);    // nobody waits
    KeSetEvent(&event, IO_NO_INCREMENT);    // twice is once
    EXPECT(poll(&event) == STATUS_SUCCESS && poll(&event) == STATUS_TIMEOUT);
    join_waiters(w, 3);
}

KTEST(event_pulse, "SYN-01 SYN-02")
{
    KEVENT event;
    waiter w[2];
    KeInitializeEvent(&event, SynchronizationEvent, false);
    start_waiters(w, 2, &event);
    KePulseEvent(&event, IO_NO_INCREMENT);
    EXPECT(ktest_logged("a") && event.Header.SignalState == 0);
    KePulseEvent(&event, IO_NO_INCREMENT);
    KePulseEvent(&event, IO_NO_INCREMENT);    // nobody waits: it is lost
    EXPECT(ktest_logged("ab") && poll(&event) == STATUS_TIMEOUT);
    join_waiters(w, 2);
    KeInitializeEvent(&event, NotificationEvent, false);
    start_waiters(w, 2, &event);
    KePulseEvent(&event, IO_NO_INCREMENT);
    EXPECT(ktest_logged("abab") && poll(&event) == STATUS_TIMEOUT);
    join_waiters(w, 2);
}

// ---- Semaphores, mutants: no rule of their own, but every wait rests on them

KTEST(semaphore_counts, "")
{
    KSEMAPHORE semaphore;
    int32_t previous = -1;
    waiter w[3];
    KeInitializeSemaphore(&semaphore, 1, 3);
    EXPECT(poll(&semaphore) == STATUS_SUCCESS);
    EXPECT(poll(&semaphore) == STATUS_TIMEOUT);
    EXPECT(ke_release_semaphore(&semaphore, IO_NO_INCREMENT, 3, &previous));
    EXPECT(previous == 0);
    EXPECT(!ke_release_semaphore(&semaphore, IO_NO_INCREMENT, 1, &previous));
    EXPECT(!ke_release_semaphore(&semaphore, IO_NO_INCREMENT, 0, NULL));
    EXPECT(!ke_release_semaphore(&semaphore, IO_NO_INCREMENT, -1, NULL));
    EXPECT(semaphore.Header.SignalState == 3);
    for (int i = 0; i < 3; i++)
        EXPECT(poll(&semaphore) == STATUS_SUCCESS);
    start_waiters(w, 3, &semaphore);
    EXPECT(ke_release_semaphore(&semaphore, IO_NO_INCREMENT, 2, NULL));
    EXPECT(ktest_logged("ab") && semaphore.Header.SignalState == 0);
    EXPECT(ke_release_semaphore(&semaphore, IO_NO_INCREMENT, 2, NULL));
    EXPECT(ktest_logged("abc") && semaphore.Header.SignalState == 1);
    join_waiters(w, 3);
}

static void try_to_release(void *context)
{
    waiter *w = context;
    w->status = ke_release_mutant(w->object, IO_NO_INCREMENT, NULL);
}

KTEST(mutant_is_owned, "")
{
    KMUTANT mutant;
    int32_t previous = 7;
    waiter w, stranger = { .object = &mutant };
    ke_initialize_mutant(&mutant, true);
    EXPECT(poll(&mutant) == STATUS_SUCCESS);    // recursively
    ktest_start(&stranger.thread, try_to_release, &stranger, KTEST_ABOVE);
    ktest_join(&stranger.thread);
    EXPECT(stranger.status == STATUS_MUTANT_NOT_OWNED);
    start_waiters(&w, 1, &mutant);
    EXPECT(ke_release_mutant(&mutant, IO_NO_INCREMENT, &previous) ==
           STATUS_SUCCESS);
    EXPECT(previous == -1 && ktest_logged(""));
    EXPECT(ke_release_mutant(&mutant, IO_NO_INCREMENT, &previous) ==
           STATUS_SUCCESS);
    EXPECT(previous == 0 && ktest_logged("a"));
    EXPECT(ke_release_mutant(&mutant, IO_NO_INCREMENT, NULL) ==
           STATUS_MUTANT_NOT_OWNED);
    join_waiters(&w, 1);
    // Its new owner ended and took it along.
    EXPECT(poll(&mutant) == STATUS_ABANDONED_WAIT_0);
    EXPECT(ke_release_mutant(&mutant, IO_NO_INCREMENT, NULL) ==
           STATUS_SUCCESS);
    EXPECT(poll(&mutant) == STATUS_SUCCESS);    // told once
    EXPECT(ke_release_mutant(&mutant, IO_NO_INCREMENT, NULL) ==
           STATUS_SUCCESS);
}

static void take_and_end(void *context)
{
    KeWaitForSingleObject(context, Executive, KernelMode, false, NULL);
}

KTEST(mutant_abandoned_in_a_wait_all, "SYN-03")
{
    KMUTANT mutant;
    KEVENT event;
    ktest_thread owner;
    void *objects[] = { &event, &mutant };
    KeInitializeEvent(&event, SynchronizationEvent, true);
    ke_initialize_mutant(&mutant, false);
    ktest_start(&owner, take_and_end, &mutant, KTEST_ABOVE);
    ktest_join(&owner);
    EXPECT(KeWaitForMultipleObjects(2, objects, WaitAny, Executive, KernelMode,
                                    false, &no_wait, NULL) == STATUS_WAIT_0);
    EXPECT(KeWaitForMultipleObjects(2, objects, WaitAny, Executive, KernelMode,
                                    false, &no_wait, NULL) ==
           STATUS_ABANDONED_WAIT_0 + 1);
    ke_release_mutant(&mutant, IO_NO_INCREMENT, NULL);

    KeSetEvent(&event, IO_NO_INCREMENT);
    ktest_start(&owner, take_and_end, &mutant, KTEST_ABOVE);
    ktest_join(&owner);
    EXPECT(KeWaitForMultipleObjects(2, objects, WaitAll, Executive, KernelMode,
                                    false, &no_wait, NULL) ==
           STATUS_ABANDONED_WAIT_0);
    EXPECT(event.Header.SignalState == 0);
    EXPECT(ke_release_mutant(&mutant, IO_NO_INCREMENT, NULL) ==
           STATUS_SUCCESS);
}
