// ntp.h - what the services have in common: taking in what ring 3 passes.
//
// Ring 3's memory may change or vanish at any moment. So everything is copied
// once, before it is looked at, and every copy may fail. Output that follows
// an effect which cannot be taken back is tried first (nt_probe_output).

#ifndef TINT_NT_NTP_H
#define TINT_NT_NTP_H

#include "kernel/ke/ke.h"
#include "kernel/nt.h"
#include "kernel/nt/nt.h"
#include "kernel/ob/ob.h"

#define NT_POOL_TAG 0x2020744Eu    // "Nt  "

extern OBJECT_TYPE nt_event_type, nt_semaphore_type, nt_mutant_type;
extern OBJECT_TYPE nt_timer_type;

// A bool of ring 3 comes in a register that may hold anything, while the
// compiler believes that it is 0 or 1: makes that true.
static inline bool nt_bool(bool from_user)
{
    uint32_t value = from_user;
    __asm__("" : "+r"(value));
    return (value & 0xFFu) != 0;
}

// A pointer that owns a reference, or NULL: whichever way its block is left,
// the reference is dropped.
#define NT_OWNED __attribute__((cleanup(nt_drop)))
void nt_drop(void *pointer);

// Declares object, which is what handle refers to until the block is left; or
// returns from the service.
#define NT_REFERENCE(type, object, handle, access, object_type)             \
    NT_OWNED type *object = NULL;                                           \
    NT_TRY(ob_reference_by_handle((handle), (access), &(object_type),       \
                                  (void **)&object, NULL))

// The same for a process, one's own or another, whose space and handle table
// stay until the block is left.
#define NT_ACQUIRE(process, handle, access)                                 \
    __attribute__((cleanup(nt_release_process))) EPROCESS *process = NULL;  \
    NT_TRY(nt_acquire_process((handle), (access), &process))
NTSTATUS nt_acquire_process(HANDLE handle, ACCESS_MASK access,
                            EPROCESS **process);
void nt_release_process(EPROCESS **process);

// A structure of this size is its fields and no gaps, so that an initializer
// says all that goes to ring 3.
#define NT_SOLID(type, size) _Static_assert(sizeof(type) == (size), #type)

// Copies a counted string, itself copied already, to to with a final zero.
// Returns: STATUS_SUCCESS, STATUS_ACCESS_VIOLATION, STATUS_OBJECT_NAME_INVALID
//          (too long for size, or a zero inside)
NTSTATUS nt_capture_string(const STRING *string, char *to, size_t size);
// The name in attributes, which may be NULL: then it is "".
// name: OB_MAX_NAME bytes.
NTSTATUS nt_capture_name(const OBJECT_ATTRIBUTES *attributes, char *name);
// For what cannot have a name: STATUS_OBJECT_NAME_INVALID if there is one.
NTSTATUS nt_check_unnamed(const OBJECT_ATTRIBUTES *attributes);
// *timeout: NULL (for ever), or value, which holds what ring 3 said.
NTSTATUS nt_capture_timeout(const int64_t *from, int64_t *value,
                            const int64_t **timeout);
// Says whether ring 3 can write length (at most 16) bytes; changes nothing.
NTSTATUS nt_probe_output(void *to, size_t length);
#define NT_PROBE(to)          nt_probe_output((to), sizeof(*(to)))
#define NT_PROBE_OPTIONAL(to) ((to) ? NT_PROBE(to) : STATUS_SUCCESS)
// Stores a result that ring 3 may not want.
#define NT_PUT_OPTIONAL(to, from) \
    ((to) ? ke_put_user((to), (from)) : STATUS_SUCCESS)
// Stores what a request came to, and returns status; or why it cannot.
NTSTATUS nt_put_iosb(IO_STATUS_BLOCK *iosb, NTSTATUS status,
                     uintptr_t information);
// The tail of a query: stores information of size bytes if length is that.
NTSTATUS nt_return_information(void *buffer, uint32_t length,
                               uint32_t *returned, const void *information,
                               uint32_t size);
// Makes an object without a name.
NTSTATUS nt_create_object(OBJECT_TYPE *type, size_t size,
                          const OBJECT_ATTRIBUTES *attributes, void **object);

#endif
