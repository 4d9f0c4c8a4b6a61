// object.c - objects: a header, two counts, and the end.
//
// The counts are atomic; no lock is needed to refer to an object that one
// refers to already. The last reference may go in a DPC: an object is then put
// on a list, and deleted when ob_reap is called at PASSIVE.

#include "kernel/ob/obp.h"

static KSPIN_LOCK reap_lock;    // guards the list
static LIST_ENTRY reap_list;    // of OBJECT_HEADER.reap_entry
static volatile uint64_t object_count;
static volatile uint64_t handle_count;

// Starts with no object and no name.
//
// IRQL:    <= DISPATCH_LEVEL
void ob_init(void)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    InitializeListHead(&reap_list);
    obp_init_names();
}

// Makes an object of size zeroed bytes.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: STATUS_SUCCESS or STATUS_INSUFFICIENT_RESOURCES
// Owns:    the caller, the one reference
NTSTATUS ob_create_object(OBJECT_TYPE *type, size_t size, void **object)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    OBJECT_HEADER *header = ExAllocatePoolWithTag(
        NonPagedPool, sizeof(*header) + size, OBP_OBJECT_TAG);
    if (!header)
        return STATUS_INSUFFICIENT_RESOURCES;
    memset(header, 0, sizeof(*header) + size);
    header->PointerCount = 1;
    header->Type = type;
    header->size = (uint32_t)size;
    __atomic_fetch_add(&object_count, 1, __ATOMIC_RELAXED);
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
    ExFreePoolWithTag(header, OBP_OBJECT_TAG);
    __atomic_fetch_sub(&object_count, 1, __ATOMIC_RELAXED);
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
    KIRQL old;
    KeAcquireSpinLock(&reap_lock, &old);
    InsertTailList(&reap_list, &header->reap_entry);
    KeReleaseSpinLock(&reap_lock, old);
}

static OBJECT_HEADER *next_dead(void)
{
    OBJECT_HEADER *header = NULL;
    KIRQL old;
    KeAcquireSpinLock(&reap_lock, &old);
    if (!IsListEmpty(&reap_list))
        header = CONTAINING_RECORD(RemoveHeadList(&reap_list), OBJECT_HEADER,
                                   reap_entry);
    KeReleaseSpinLock(&reap_lock, old);
    return header;
}

// Deletes the objects whose last reference went above PASSIVE_LEVEL.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: true if there were any
bool ob_reap(void)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    // Looked at without the lock: who adds one wakes somebody who looks again.
    if (__atomic_load_n(&reap_list.Flink, __ATOMIC_RELAXED) == &reap_list)
        return false;
    OBJECT_HEADER *header = NULL;
    bool any = false;
    while ((header = next_dead())) {
        delete_object(header);
        any = true;
    }
    return any;
}

// Counts a new handle to object.
//
// IRQL:    <= DISPATCH_LEVEL
void obp_add_handle(void *object)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    __atomic_fetch_add(&ob_header(object)->HandleCount, 1, __ATOMIC_ACQ_REL);
    __atomic_fetch_add(&handle_count, 1, __ATOMIC_RELAXED);
}

// Forgets a handle to object; the reference that it held is the caller's now.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: how many handles are left
int32_t obp_drop_handle(void *object)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    __atomic_fetch_sub(&handle_count, 1, __ATOMIC_RELAXED);
    int32_t left = __atomic_sub_fetch(&ob_header(object)->HandleCount, 1,
                                      __ATOMIC_ACQ_REL);
    ASSERT(left >= 0);
    return left;
}

// Objects that are not deleted yet.
//
// IRQL:    any level
uint64_t ob_object_count(void)
{
    return object_count;
}

// Handles of all processes.
//
// IRQL:    any level
uint64_t ob_handle_count(void)
{
    return handle_count;
}
