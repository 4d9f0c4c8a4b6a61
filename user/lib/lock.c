// lock.c - a lock for the library's own few lines.
//
// Whoever finds it taken sleeps a millisecond and tries again. That needs no
// handle, so it cannot fail, and it lets a holder of lower priority go on.

#include <ntdll.h>

#define MILLISECOND (-(int64_t)10000)    // in 100 ns, relative

void rtl_acquire(rtl_lock *lock)
{
    int64_t pause = MILLISECOND;
    while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE) != 0)
        NtDelayExecution(false, &pause);
}

void rtl_release(rtl_lock *lock)
{
    __atomic_store_n(lock, 0, __ATOMIC_RELEASE);
}
