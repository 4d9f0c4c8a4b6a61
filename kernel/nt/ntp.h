// ntp.h - what the services have in common: taking in what ring 3 passes.
//
// Ring 3's memory may change or vanish at any moment. So everything is copied
// once, before it is looked at, and every copy may fail. Output that follows
// an effect which cannot be taken back is tried first (nt_probe_output). What
// a service holds, a macro below declares: it is let go of whichever way the
// service returns.

#pragma once

#include "kernel/ex/ex.h"
#include "kernel/io/io.h"
#include "kernel/nt/nt.h"
#include "kernel/ps/ps.h"

#define NT_POOL_TAG 0x2020744Eu    // "Nt  "

typedef struct nt_timer nt_timer;    // a KTIMER and more; nttimer.c
extern OBJECT_TYPE nt_event_type, nt_semaphore_type, nt_mutant_type;
extern OBJECT_TYPE nt_timer_type;

// The rights of a type of objects that can be asked for and changed.
#define NT_RIGHTS(query, modify)                                            \
    .generic_read = (query) | SYNCHRONIZE,                                  \
    .generic_write = (modify) | SYNCHRONIZE,                                \
    .valid_access = STANDARD_RIGHTS_ALL | (query) | (modify)

// Structures that go to ring 3 are their fields and no gaps: an initializer
// says all of them, and no byte of the kernel's stack.
_Static_assert(sizeof(THREAD_BASIC_INFORMATION) == 40 &&
               sizeof(PROCESS_BASIC_INFORMATION) == 24 &&
               sizeof(MEMORY_BASIC_INFORMATION) == 32 &&
               sizeof(SYSTEM_BASIC_INFORMATION) == 72 &&
               sizeof(SYSTEM_PERFORMANCE_INFORMATION) == 72 &&
               sizeof(SNAPSHOT_PROCESSOR) == 48 &&
               sizeof(SNAPSHOT_THREAD) == 72 && sizeof(SNAPSHOT_IRP) == 32,
               "what is said of the system has no gaps");

// A bool of ring 3 comes in a register that may hold anything, while the
// compiler believes that it is 0 or 1: makes that true.
static inline bool nt_bool(bool from_user)
{
    uint32_t value = from_user;
    __asm__("" : "+r"(value));
    return (value & 0xFFu) != 0;
}

// ---- What is held until the block is left ---------------------------------

// A pointer that owns a reference, or NULL.
#define NT_OWNED __attribute__((cleanup(nt_drop)))
static inline void nt_drop(void *pointer)
{
    if (*(void **)pointer)
        ObDereferenceObject(*(void **)pointer);
}

// The type of objects that are such a structure.
#define NT_TYPE_OF(type)                                                    \
    _Generic((type *)NULL, KEVENT *: &nt_event_type,                        \
             KSEMAPHORE *: &nt_semaphore_type, KMUTANT *: &nt_mutant_type,  \
             nt_timer *: &nt_timer_type, KQUEUE *: &io_port_type,           \
             FILE_OBJECT *: &io_file_type, ETHREAD *: &ps_thread_type,      \
             EPROCESS *: &ps_process_type)

// ob_reference_by_handle for the services: a thread is mostly their own, which
// is in no table. is_thread: known when compiled, as types' addresses are not.
static FORCEINLINE NTSTATUS nt_reference(HANDLE handle, ACCESS_MASK access,
                                         OBJECT_TYPE *type, bool is_thread,
                                         void **object)
{
    if (!is_thread || handle != NtCurrentThread())
        return ob_reference_by_handle(handle, access, type, object, NULL);
    *object = KeGetCurrentThread();
    ObReferenceObject(*object);
    return STATUS_SUCCESS;
}

// Declares object, which is what handle refers to; or returns.
#define NT_REFERENCE(type, object, handle, access)                          \
    void *object##_found;                                                   \
    NT_TRY(nt_reference((handle), (access), NT_TYPE_OF(type),               \
                        _Generic((type *)0, ETHREAD *: true, default: false), \
                        &object##_found));                                  \
    NT_OWNED type *object = object##_found

// Declares object, which is new and zeroed; or returns. Only files have names.
#define NT_CREATE(type, object, attributes)                                 \
    NT_OWNED type *object = NULL;                                           \
    NT_TRY(nt_check_unnamed(attributes));                                   \
    NT_TRY(ob_create_object(NT_TYPE_OF(type), sizeof(type), (void **)&object))

// Declares process, one's own or another; its space and handle table stay. So
// it does not end before we let it go: nobody may suspend us until then.
static inline EPROCESS *nt_acquire_process(EPROCESS *process)
{
    KeEnterCriticalRegion();
    return ps_acquire_process(process) ? process : NULL;
}
static inline void nt_release_process(EPROCESS **process)
{
    if (*process)
        ps_release_process(*process);
    KeLeaveCriticalRegion();
}
#define NT_ACQUIRE(process, handle, access)                                 \
    NT_REFERENCE(EPROCESS, process, (handle), (access));                    \
    __attribute__((cleanup(nt_release_process))) EPROCESS *process##_held = \
        nt_acquire_process(process);                                        \
    if (!process##_held)                                                    \
        return STATUS_PROCESS_IS_TERMINATING

// Declares pointer, to size zeroed bytes of pool; or returns.
static inline void nt_free_pool(void *pointer)
{
    if (*(void **)pointer)
        ExFreePoolWithTag(*(void **)pointer, NT_POOL_TAG);
}
#define NT_POOL(type, pointer, size)                                        \
    __attribute__((cleanup(nt_free_pool))) type *pointer =                  \
        ExAllocatePoolWithTag(NonPagedPool, (size), NT_POOL_TAG);           \
    if (!pointer)                                                           \
        return STATUS_INSUFFICIENT_RESOURCES;                               \
    memset(pointer, 0, (size))

// ---- In -------------------------------------------------------------------

// Lets timeout, which is NULL or points to ring 3, point to a copy.
#define NT_CAPTURE_TIMEOUT(timeout)                                         \
    int64_t timeout##_value;                                                \
    if (timeout)                                                            \
        NT_TRY(ke_get_user(&timeout##_value, timeout));                     \
    timeout = timeout ? &timeout##_value : NULL

// Copies a counted string, itself copied already, to to with a final zero.
// Returns: STATUS_SUCCESS, STATUS_ACCESS_VIOLATION, STATUS_OBJECT_NAME_INVALID
//          (too long for size, or a zero inside)
NTSTATUS nt_capture_string(const STRING *string, char *to, size_t size);
// The name in attributes, which may be NULL: then it is "".
// name: OB_MAX_NAME bytes.
NTSTATUS nt_capture_name(const OBJECT_ATTRIBUTES *attributes, char *name);
// For what cannot have a name: STATUS_OBJECT_NAME_INVALID if there is one.
NTSTATUS nt_check_unnamed(const OBJECT_ATTRIBUTES *attributes);

// ---- Out ------------------------------------------------------------------

// Says whether ring 3 can write length bytes; changes nothing.
NTSTATUS nt_probe_output(void *to, size_t length);
#define NT_PROBE(to)          ke_probe_user((to), sizeof(*(to)))
#define NT_PROBE_OPTIONAL(to) ((to) ? NT_PROBE(to) : STATUS_SUCCESS)
// Stores a result that ring 3 may not want.
#define NT_PUT_OPTIONAL(to, from) \
    ((to) ? ke_put_user((to), (from)) : STATUS_SUCCESS)
// Stores what a request came to, and returns status; or why it cannot.
NTSTATUS nt_put_iosb(IO_STATUS_BLOCK *iosb, NTSTATUS status,
                     uintptr_t information);
// The tail of a query: stores information of size bytes if length is that.
NTSTATUS nt_answer(const void *information, uint32_t size, void *buffer,
                   uint32_t length, uint32_t *returned);
