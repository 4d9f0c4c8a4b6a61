// services.c - the table of services, and what they share to take arguments in
// and to give results out.

#include "kernel/nt/ntp.h"

#define NT_SERVICE_ENTRY(name, count, arguments)                            \
    { (void *)name, (count) > 6 ? (count) - 6 : 0 },

const ke_service nt_services[NT_SERVICE_COUNT] = {
    NT_SERVICES(NT_SERVICE_ENTRY)
};

// ---- In -------------------------------------------------------------------

// Copies a counted string, whose STRING is copied already, and ends it with a
// zero. size: of to.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_OBJECT_NAME_INVALID    does not fit, or holds a zero
//          STATUS_ACCESS_VIOLATION
NTSTATUS nt_capture_string(const STRING *string, char *to, size_t size)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    if (string->Length >= size)
        return STATUS_OBJECT_NAME_INVALID;
    if (string->Length)    // an empty one may have no Buffer
        NT_TRY(ke_copy_from_user(to, string->Buffer, string->Length));
    to[string->Length] = 0;
    return rtl_strlen(to) == string->Length ? STATUS_SUCCESS
                                            : STATUS_OBJECT_NAME_INVALID;
}

// Copies the name of an object that is to be made or opened. name: OB_MAX_NAME
// bytes; "" if there is none.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_INVALID_PARAMETER    Length is not that of the structure
//          or as nt_capture_string
NTSTATUS nt_capture_name(const OBJECT_ATTRIBUTES *attributes, char *name)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    name[0] = 0;
    if (!attributes)
        return STATUS_SUCCESS;
    OBJECT_ATTRIBUTES copy;
    NT_TRY(ke_get_user(&copy, attributes));
    if (copy.Length != sizeof(copy))
        return STATUS_INVALID_PARAMETER;
    return nt_capture_string(&copy.ObjectName, name, OB_MAX_NAME);
}

// Refuses a name: only files have one.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_OBJECT_NAME_INVALID, or as nt_capture_name
NTSTATUS nt_check_unnamed(const OBJECT_ATTRIBUTES *attributes)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    char name[OB_MAX_NAME];
    NT_TRY(nt_capture_name(attributes, name));
    return name[0] ? STATUS_OBJECT_NAME_INVALID : STATUS_SUCCESS;
}

// ---- Out ------------------------------------------------------------------

// Says whether length bytes can be written, by writing what is there to one of
// each page.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS or STATUS_ACCESS_VIOLATION
NTSTATUS nt_probe_output(void *to, size_t length)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    if (!ke_is_user_range(to, length))
        return STATUS_ACCESS_VIOLATION;
    uintptr_t at = (uintptr_t)to, end = at + length;
    for (; at < end; at = PAGE_ALIGN_DOWN(at) + PAGE_SIZE)
        NT_TRY(ki_probe_user((void *)at, (void *)at));
    return STATUS_SUCCESS;
}

// Stores what a request came to.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: status or STATUS_ACCESS_VIOLATION
NTSTATUS nt_put_iosb(IO_STATUS_BLOCK *iosb, NTSTATUS status,
                     uintptr_t information)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    // All of Pointer: no byte of our stack goes to ring 3.
    const IO_STATUS_BLOCK block = {
        .Pointer = (void *)(uint64_t)(uint32_t)status,
        .Information = information
    };
    NT_TRY(ke_put_user(iosb, &block));
    return status;
}

// Answers a query of one structure: stores it, and its size in *returned.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_INFO_LENGTH_MISMATCH    the buffer has another length
//          STATUS_ACCESS_VIOLATION
NTSTATUS nt_answer(const void *information, uint32_t size, void *buffer,
                   uint32_t length, uint32_t *returned)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    NT_TRY(NT_PUT_OPTIONAL(returned, &size));
    return length == size ? ke_copy_to_user(buffer, information, size)
                          : STATUS_INFO_LENGTH_MISMATCH;
}
