// ntvm.c - virtual memory of one's own process, or of another.
//
// Another process's address space is held for the time of the call, so that
// it cannot end beneath it.

#include "kernel/nt/ntp.h"

#include "kernel/ps/ps.h"

static NTSTATUS capture_range(void **user_base, size_t *user_size,
                              uint64_t *base, uint64_t *size)
{
    void *address = NULL;
    NTSTATUS status = ke_get_user(&address, user_base);
    *base = (uint64_t)address;
    return NT_SUCCESS(status) ? ke_get_user(size, user_size) : status;
}

static NTSTATUS put_range(void **user_base, size_t *user_size, uint64_t base,
                          uint64_t size)
{
    void *address = (void *)base;
    NTSTATUS status = ke_put_user(user_base, &address);
    return NT_SUCCESS(status) ? ke_put_user(user_size, &size) : status;
}

// Allocates zeroed pages at *user_base, or where there is room if that is
// NULL; stores where and how much it became.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INVALID_HANDLE, STATUS_ACCESS_DENIED,
//          STATUS_OBJECT_TYPE_MISMATCH, STATUS_PROCESS_IS_TERMINATING,
//          STATUS_ACCESS_VIOLATION, or as mm_allocate
// NT:      NtAllocateVirtualMemory (WDK). Left out: ZeroBits, memory that is
//          reserved only: type must contain MEM_COMMIT.
NTSTATUS NtAllocateVirtualMemory(HANDLE handle, void **user_base,
                                 size_t *user_size, uint32_t type,
                                 uint32_t protect)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    if ((type | MEM_RESERVE) != (MEM_COMMIT | MEM_RESERVE))
        return STATUS_INVALID_PARAMETER;
    uint64_t base, size;
    NTSTATUS status = capture_range(user_base, user_size, &base, &size);
    if (!NT_SUCCESS(status))
        return status;
    EPROCESS *process = NULL;
    status = nt_acquire_process(handle, PROCESS_VM_OPERATION, &process);
    if (!NT_SUCCESS(status))
        return status;
    status = mm_allocate(&process->space, &base, &size, protect);
    if (NT_SUCCESS(status)) {
        status = put_range(user_base, user_size, base, size);
        if (!NT_SUCCESS(status))
            mm_free(&process->space, &base, &size);
    }
    nt_release_process(process);
    return status;
}

// Frees the allocation at *user_base, or pages of one.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: as NtAllocateVirtualMemory, but with mm_free
// NT:      NtFreeVirtualMemory (WDK). Left out: MEM_DECOMMIT.
NTSTATUS NtFreeVirtualMemory(HANDLE handle, void **user_base,
                             size_t *user_size, uint32_t type)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    if (type != MEM_RELEASE)
        return STATUS_INVALID_PARAMETER;
    uint64_t base, size;
    NTSTATUS status = capture_range(user_base, user_size, &base, &size);
    if (!NT_SUCCESS(status))
        return status;
    EPROCESS *process = NULL;
    status = nt_acquire_process(handle, PROCESS_VM_OPERATION, &process);
    if (!NT_SUCCESS(status))
        return status;
    status = mm_free(&process->space, &base, &size);
    nt_release_process(process);
    return NT_SUCCESS(status) ? put_range(user_base, user_size, base, size)
                              : status;
}

// Changes what may be done with pages; *user_old: what could be done before.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: as NtAllocateVirtualMemory, but with mm_protect
// NT:      NtProtectVirtualMemory (native).
NTSTATUS NtProtectVirtualMemory(HANDLE handle, void **user_base,
                                size_t *user_size, uint32_t protect,
                                uint32_t *user_old)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    uint64_t base, size;
    NTSTATUS status = capture_range(user_base, user_size, &base, &size);
    if (NT_SUCCESS(status))
        status = user_old ? nt_probe_output(user_old, sizeof(*user_old))
                          : STATUS_ACCESS_VIOLATION;
    if (!NT_SUCCESS(status))
        return status;
    EPROCESS *process = NULL;
    status = nt_acquire_process(handle, PROCESS_VM_OPERATION, &process);
    if (!NT_SUCCESS(status))
        return status;
    uint32_t old = 0;
    status = mm_protect(&process->space, &base, &size, protect, &old);
    nt_release_process(process);
    if (NT_SUCCESS(status))
        status = put_range(user_base, user_size, base, size);
    return NT_SUCCESS(status) ? ke_put_user(user_old, &old) : status;
}

// Describes the pages from base on that are alike.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: as NtAllocateVirtualMemory, but with mm_query
// NT:      NtQueryVirtualMemory (WDK). Its one class is implied.
NTSTATUS NtQueryVirtualMemory(HANDLE handle, const void *base,
                              MEMORY_BASIC_INFORMATION *information)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    EPROCESS *process = NULL;
    NTSTATUS status =
        nt_acquire_process(handle, PROCESS_QUERY_INFORMATION, &process);
    if (!NT_SUCCESS(status))
        return status;
    MEMORY_BASIC_INFORMATION basic = { 0 };
    status = mm_query(&process->space, (uint64_t)base, &basic);
    nt_release_process(process);
    return NT_SUCCESS(status) ? ke_put_user(information, &basic) : status;
}
