// ntsystem.c - clocks, the trace ring, thread-local storage, and the end.

#include "kernel/nt/ntp.h"

#define MSR_FS_BASE 0xC0000100u    // Intel SDM 4, table 2-2

// Tells the performance counter, which is the time stamp counter, and how
// often it ticks in a second.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS or STATUS_ACCESS_VIOLATION
// NT:      NtQueryPerformanceCounter (native).
NTSTATUS NtQueryPerformanceCounter(int64_t *counter, int64_t *frequency)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    int64_t hertz = (int64_t)hal_tsc_frequency;
    NT_TRY(NT_PUT_OPTIONAL(frequency, &hertz));
    int64_t ticks = (int64_t)hal_read_tsc();
    return ke_put_user(counter, &ticks);
}

// Tells the time, in 100 ns since 1601 (UTC).
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS or STATUS_ACCESS_VIOLATION
// NT:      NtQuerySystemTime (native).
NTSTATUS NtQuerySystemTime(int64_t *time)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    int64_t now = ke_query_system_time();
    return ke_put_user(time, &now);
}

// Sets the calling thread's FS base. The thread must not be switched out
// between the two stores: it would come back with the old one in the register.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, or STATUS_INVALID_PARAMETER for what is no address
//          of ring 3; NULL is fine
NTSTATUS nt_set_thread_base(void *base)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    if (base && !ke_is_user_range(base, 1))
        return STATUS_INVALID_PARAMETER;
    KIRQL old = KeRaiseIrqlToDpcLevel();
    KeGetCurrentThread()->fs_base = (uint64_t)base;
    hal_write_msr(MSR_FS_BASE, (uint64_t)base);
    KeLowerIrql(old);
    return STATUS_SUCCESS;
}

// ---- The trace ring -------------------------------------------------------

// Says what this process wants to be traced; 0: no more than the default.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS or STATUS_ACCESS_VIOLATION
NTSTATUS nt_trace_mask(uint32_t mask, uint32_t *old)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    NT_TRY(NT_PROBE_OPTIONAL(old));
    uint32_t before = ke_want_trace(&PsGetCurrentProcess()->trace_mask, mask);
    return NT_PUT_OPTIONAL(old, &before);
}

// Reads a processor's ring; see ntabi.h.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_INVALID_PARAMETER    no such processor, or *position is
//                                      ahead of its ring
//          STATUS_ACCESS_VIOLATION
NTSTATUS nt_trace_read(uint32_t processor, uint64_t *position,
                       TRACE_RECORD *records, uint32_t count,
                       uint32_t *copied, uint32_t *lost)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    TRACE_RECORD batch[32];    // copied at a time
    uint64_t at;
    NT_TRY(ke_get_user(&at, position));
    if (processor >= KeNumberProcessors)
        return STATUS_INVALID_PARAMETER;
    const ki_trace_ring *ring = &ki_trace_rings[processor];
    if (!ring->records || at > ke_trace_count(ring))
        return STATUS_INVALID_PARAMETER;
    uint32_t done = 0, missed = 0, got;
    do {
        uint64_t from = at;
        uint32_t wanted = MIN(count - done, (uint32_t)ARRAY_SIZE(batch));
        got = ke_read_trace(ring, &at, batch, wanted);
        missed += from ? (uint32_t)(at - from) - got : 0;    // 0: never asked
        NT_TRY(ke_copy_to_user(KE_USER_ELEMENT(records, done), batch,
                               got * sizeof(*batch)));
        done += got;
    } while (got == ARRAY_SIZE(batch));
    NT_TRY(ke_put_user(copied, &done));
    NT_TRY(ke_put_user(lost, &missed));
    return ke_put_user(position, &at);
}

// Chooses the road of all completions, as port= of the command line does.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS or STATUS_ACCESS_VIOLATION
NTSTATUS nt_set_road(uint32_t direct, uint32_t *old)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    NT_TRY(NT_PROBE_OPTIONAL(old));
    uint32_t before =
        __atomic_exchange_n(&io_direct_road, direct != 0, __ATOMIC_SEQ_CST);
    return NT_PUT_OPTIONAL(old, &before);
}

// ---- The end --------------------------------------------------------------

// Leaves QEMU: with success only if the first program says 0.
//
// IRQL:    == PASSIVE_LEVEL
NTSTATUS nt_shutdown(uint32_t code)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    bool first = PsGetCurrentProcess()->UniqueProcessId == ps_first_process_id;
    ke_export_trace();
    hal_exit(first && code == 0 ? HAL_EXIT_SUCCESS : HAL_EXIT_FAILURE);
}
