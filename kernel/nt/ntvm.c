// ntvm.c - virtual memory of one's own process, or of another.
//
// Another process's address space is held for the time of the call, so that
// it cannot end beneath it.

#include "kernel/nt/ntp.h"

typedef enum operation { ALLOCATE, FREE, PROTECT } operation;

// Does something to the range at *user_base in a process, and stores what the
// range became. user_old: PROTECT's alone.
static NTSTATUS change(operation what, HANDLE handle, void **user_base,
                       size_t *user_size, uint32_t protect, uint32_t *user_old)
{
    uint64_t base, size;
    uint32_t old = 0;
    NT_TRY(ke_get_user(&base, user_base));
    NT_TRY(ke_get_user(&size, user_size));
    NT_TRY(NT_PROBE(user_base));    // what is done stays done
    NT_TRY(NT_PROBE(user_size));
    NT_TRY(what == PROTECT ? NT_PROBE(user_old) : STATUS_SUCCESS);
    NT_ACQUIRE(process, handle, PROCESS_VM_OPERATION);
    mm_space *space = &process->space;
    NT_TRY(what == ALLOCATE ? mm_allocate(space, &base, &size, protect)
           : what == FREE   ? mm_free(space, &base, &size)
                            : mm_protect(space, &base, &size, protect, &old));
    NTSTATUS status = ke_copy_to_user(user_base, &base, sizeof(base));
    if (NT_SUCCESS(status))
        status = ke_put_user(user_size, &size);
    if (NT_SUCCESS(status) && what == PROTECT)
        status = ke_put_user(user_old, &old);
    if (!NT_SUCCESS(status) && what == ALLOCATE)
        mm_free(space, &base, &size);    // nobody would know where it is
    return status;
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
    return change(ALLOCATE, handle, user_base, user_size, protect, NULL);
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
    return change(FREE, handle, user_base, user_size, 0, NULL);
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

    return change(PROTECT, handle, user_base, user_size, protect, user_old);
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
    MEMORY_BASIC_INFORMATION basic = { 0 };
    NT_TRY(mm_query(&process->space, (uint64_t)base, &basic));
    return ke_put_user(information, &basic);
}
