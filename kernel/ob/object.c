// object.c - objects: a header, two counts, and the end.
//
// The counts are atomic; no lock is needed to refer to an object that one
// refers to already. The last reference may go in a DPC: the object is then
// handed to ob_reap, which deletes it at PASSIVE. Dead threads come the same
// way, as their stacks cannot be freed by themselves.

#include "kernel/ob/obp.h"

static OBJECT_HEADER *deferred;    // linked by next_deferred; atomic

volatile uint64_t ob_object_count;
volatile uint32_t ob_pending;

// Makes an object of size zeroed bytes.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: STATUS_SUCCESS or STATUS_INSUFFICIENT_RESOURCES
// Owns:    the caller, the one reference
NTSTATUS ob_create_object(OBJECT_TYPE *type, size_t size, void **object)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    OBJECT_HEADER *header =
        ExAllocatePoolWithTag(NonPagedPool, sizeof(*header) + size, OBP_TAG);
    if (!header)
        return STATUS_INSUFFICIENT_RESOURCES;
    memset(header, 0, sizeof(*header) + size);
    header->PointerCount = 1;
    header->Type = type;
    __atomic_fetch_add(&ob_object_count, 1, __ATOMIC_RELAXED);
    *object = header + 1;
    return STATUS_SUCCESS;
}

static void delete_object(void *object)
{
    OBJECT_HEADER *header = ob_header(object);
    ASSERT(header->HandleCount == 0);
    if (header->Type->delete)
        header->Type->delete (object);
    ExFreePoolWithTag(header, OBP_TAG);
    __atomic_fetch_sub(&ob_object_count, 1, __ATOMIC_RELAXED);
}

// The last reference is gone, or one more: deletes the object, here at
// PASSIVE_LEVEL, above it when ob_reap is called.
//
// IRQL:    <= DISPATCH_LEVEL
void ob_last_reference(void *object)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    OBJECT_HEADER *header = ob_header(object);
    int32_t left = header->PointerCount;
    if (left < 0)
        KeBugCheckEx(REFERENCE_BY_POINTER, (uintptr_t)header->Type,
                     (uintptr_t)object, (uintptr_t)left, 0);
    if (KeGetCurrentIrql() == PASSIVE_LEVEL) {
        delete_object(object);
        return;
    }
    __atomic_add_fetch(&ob_pending, 1, __ATOMIC_SEQ_CST);
    ob_defer(object, delete_object);
}

// ---- What has to wait for PASSIVE_LEVEL -----------------------------------

// Has routine(object) called by ob_reap. The caller has counted it in
// ob_pending. Pushing needs no lock, as entries are only ever taken off all at
// once: none can go and come back behind our look at the first.
//
// IRQL:    <= DISPATCH_LEVEL
// Owns:    ob_reap, what the caller has of the object, until routine is called
void ob_defer(void *object, void (*routine)(void *object))
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    OBJECT_HEADER *header = ob_header(object);
    header->routine = routine;
    header->next_deferred = __atomic_load_n(&deferred, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&deferred, &header->next_deferred,
                                        header, false, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED))
        continue;
}

// Does what was deferred. Several processors may at the same time, each with
// what it has taken; an entry counts as pending until its routine is through.
// Whoever settles waits for that: so from before we take anything nobody may
// preempt us, and nobody suspend us.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: true if there was something
bool ob_reap(void)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    if (!__atomic_load_n(&deferred, __ATOMIC_RELAXED))
        return false;
    KeEnterCriticalRegion();
    ke_hurry(true);
    OBJECT_HEADER *header =
        __atomic_exchange_n(&deferred, NULL, __ATOMIC_ACQUIRE);
    while (header) {
        OBJECT_HEADER *next = header->next_deferred;    // the object may go
        header->routine(header + 1);
        header = next;
        __atomic_sub_fetch(&ob_pending, 1, __ATOMIC_SEQ_CST);
    }
    ke_hurry(false);
    KeLeaveCriticalRegion();
    return true;
}
