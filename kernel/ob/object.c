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

// Takes one more reference to an object that cannot go meanwhile.
//
// IRQL:    <= DISPATCH_LEVEL
// NT:      ObReferenceObject (WDK). Left out: the new count as the result.
void ObReferenceObject(void *object)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    int32_t old = __atomic_fetch_add(&ob_header(object)->PointerCount, 1,
                                     __ATOMIC_RELAXED);
    ASSERT(old > 0);
    (void)old;
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

// Drops a reference. The last one deletes the object: here at PASSIVE_LEVEL,
// above it when ob_reap is called.
//
// IRQL:    <= DISPATCH_LEVEL
// NT:      ObDereferenceObject (WDK). Left out: the new count as the result.
void ObDereferenceObject(void *object)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    OBJECT_HEADER *header = ob_header(object);
    int32_t left =
        __atomic_sub_fetch(&header->PointerCount, 1, __ATOMIC_ACQ_REL);
    if (left < 0)
        KeBugCheckEx(REFERENCE_BY_POINTER, (uintptr_t)header->Type,
                     (uintptr_t)object, (uintptr_t)left, 0);
    if (left)
        return;
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
//
// IRQL:    == PASSIVE_LEVEL
// Returns: true if there was something
bool ob_reap(void)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    OBJECT_HEADER *header =
        __atomic_exchange_n(&deferred, NULL, __ATOMIC_ACQUIRE);
    if (!header)
        return false;
    ke_hurry(true);    // whoever settles waits for what we have taken
    while (header) {
        OBJECT_HEADER *next = header->next_deferred;    // the object may go
        header->routine(header + 1);
        header = next;
        __atomic_sub_fetch(&ob_pending, 1, __ATOMIC_SEQ_CST);
    }
    ke_hurry(false);
    return true;
}
