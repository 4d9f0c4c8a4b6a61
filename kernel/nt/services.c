// services.c - the table of services, and how they take in arguments.

#include "kernel/nt/ntp.h"

#include "kernel/ps/ps.h"
#include "kernel/rtl/rtl.h"

#define NT_SERVICE_ENTRY(name, count, arguments) { (void *)name, count },

const ke_service nt_services[NT_SERVICE_COUNT] = {
    NT_SERVICES(NT_SERVICE_ENTRY)
};

// Drops the reference that *pointer owns, if it is not NULL (NT_OWNED).
//
// IRQL:    any level (<= DISPATCH if it owns one)
void nt_drop(void *pointer)
{
    void *object = *(void **)pointer;
    if (object)
        ObDereferenceObject(object);
}

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

// Copies the name of an object. name: OB_MAX_NAME bytes; "" if there is none.
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

// Copies a time-out to value. *timeout: NULL for ever, else value.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS or STATUS_ACCESS_VIOLATION
NTSTATUS nt_capture_timeout(const int64_t *from, int64_t *value,
                            const int64_t **timeout)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    *timeout = from ? value : NULL;
    return from ? ke_get_user(value, from) : STATUS_SUCCESS;
}

// Says whether length bytes, at most 16, can be written, by writing what is
// there.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS or STATUS_ACCESS_VIOLATION
NTSTATUS nt_probe_output(void *to, size_t length)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    uint64_t bytes[2];
    ASSERT(length <= sizeof(bytes));
    NT_TRY(ke_copy_from_user(bytes, to, length));
    return ke_copy_to_user(to, bytes, length);
}

// References a process and keeps its address space and its handle table.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_PROCESS_IS_TERMINATING, or as
//          ob_reference_by_handle
// Owns:    the caller, until nt_release_process
NTSTATUS nt_acquire_process(HANDLE handle, ACCESS_MASK access,
                            EPROCESS **process)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    NT_REFERENCE(EPROCESS, found, handle, access, ps_process_type);
    if (!ps_acquire_process(found))
        return STATUS_PROCESS_IS_TERMINATING;
    *process = found;
    found = NULL;
    return STATUS_SUCCESS;
}

// Undoes nt_acquire_process, if that was done.
//
// IRQL:    any level (PASSIVE if it was)
void nt_release_process(EPROCESS **process)
{
    if (!*process)
        return;
    ps_release_process(*process);
    ObDereferenceObject(*process);
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
    IO_STATUS_BLOCK result = { .Pointer = (void *)(uint64_t)(uint32_t)status,
                               .Information = information };
    NT_TRY(ke_put_user(iosb, &result));
    return status;
}

// Ends a query of one structure: stores it, and its size in *returned.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_INFO_LENGTH_MISMATCH    the buffer has another length
//          STATUS_ACCESS_VIOLATION
NTSTATUS nt_return_information(void *buffer, uint32_t length,
                               uint32_t *returned, const void *information,
                               uint32_t size)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    NT_TRY(NT_PUT_OPTIONAL(returned, &size));
    return length == size ? ke_copy_to_user(buffer, information, size)
                          : STATUS_INFO_LENGTH_MISMATCH;
}

// Makes an object without a name.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INSUFFICIENT_RESOURCES, or as
//          nt_check_unnamed
// Owns:    the caller, the one reference
NTSTATUS nt_create_object(OBJECT_TYPE *type, size_t size,
                          const OBJECT_ATTRIBUTES *attributes, void **object)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    NT_TRY(nt_check_unnamed(attributes));
    return ob_create_object(type, size, object);
}
