// ntvm.c - virtual memory of one's own process, or of another.
//
// Another process's address space is held for the time of the call, so that
// it cannot end beneath it.

#include "kernel/nt/ntp.h"

#include "kernel/ps/ps.h"

static NTSTATUS put_range(void **user_base, size_t *user_size,
                          const uint64_t *base, const uint64_t *size)
{
    NT_TRY(ke_copy_to_user(user_base, base, sizeof(*base)));
    return ke_put_user(user_size, size);
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
    NT_TRY(ke_get_user(&base, user_base));
    NT_TRY(ke_get_user(&size, user_size));
    NT_ACQUIRE(process, handle, PROCESS_VM_OPERATION);
    NT_TRY(mm_allocate(&process->space, &base, &size, protect));
    NTSTATUS status = put_range(user_base, user_size, &base, &size);
    if (!NT_SUCCESS(status))
        mm_free(&process->space, &base, &size);
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
    NT_TRY(ke_get_user(&base, user_base));
    NT_TRY(ke_get_user(&size, user_size));
    NT_ACQUIRE(process, handle, PROCESS_VM_OPERATION);
    NT_TRY(mm_free(&process->space, &base, &size));
    return put_range(user_base, user_size, &base, &size);
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
    uint32_t old = 0;
    NT_TRY(ke_get_user(&base, user_base));
    NT_TRY(ke_get_user(&size, user_size));
    NT_TRY(NT_PROBE(user_old));
    NT_ACQUIRE(process, handle, PROCESS_VM_OPERATION);
    NT_TRY(mm_protect(&process->space, &base, &size, protect, &old));
    NT_TRY(put_range(user_base, user_size, &base, &size));
    return ke_put_user(user_old, &old);
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

    NT_ACQUIRE(process, handle, PROCESS_QUERY_INFORMATION);
    NT_SOLID(MEMORY_BASIC_INFORMATION, 32);
    MEMORY_BASIC_INFORMATION basic = { 0 };
    NT_TRY(mm_query(&process->space, (uint64_t)base, &basic));
    return ke_put_user(information, &basic);
}
