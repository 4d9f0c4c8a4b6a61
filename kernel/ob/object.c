// object.c - objects: a header, two counts, and the end.
//
// The counts are atomic; no lock is needed to refer to an object that one
// refers to already. The last reference may go in a DPC: an object is then put
// on a list, and deleted when ob_reap is called at PASSIVE.

#include "kernel/ob/obp.h"

static OBJECT_HEADER *volatile dead;    // linked by next_dead; atomic

volatile uint64_t ob_object_count, ob_handle_count;

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

static void delete_object(OBJECT_HEADER *header)
{
    ASSERT(header->HandleCount == 0);
    if (header->Type->delete)
        header->Type->delete (header + 1);
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
        delete_object(header);
        return;
    }
    header->next_dead = dead;
    while (!__atomic_compare_exchange_n(&dead, &header->next_dead, header,
                                        false, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED))
        ;
}

// Deletes the objects whose last reference went above PASSIVE_LEVEL.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: true if there were any
bool ob_reap(void)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    OBJECT_HEADER *header = __atomic_exchange_n(&dead, NULL, __ATOMIC_ACQUIRE);
    bool any = header != NULL;
    while (header) {
        OBJECT_HEADER *next = header->next_dead;
        delete_object(header);
        header = next;
    }
    return any;
}

// Counts a new handle to object (1), whose pointer is the caller's reference,
// or forgets one (-1).
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: how many handles there are now
int32_t obp_count_handle(void *object, int32_t change)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    __atomic_fetch_add(&ob_handle_count, change, __ATOMIC_RELAXED);
    return __atomic_add_fetch(&ob_header(object)->HandleCount, change,
                              __ATOMIC_ACQ_REL);
}
