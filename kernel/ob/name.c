// name.c - the namespace: devices, each by one or more names.
//
// Names are only ever added, few, and compared whole component by component
// without regard to case. A spin lock guards the table; an entry never changes
// once it is there. A name's rest, behind the object's own, is the driver's.

#include "kernel/ob/obp.h"

enum { NAMES = 64, NAME_SIZE = 64 };

static KSPIN_LOCK name_lock;    // guards the table
static uint32_t name_count;
static struct named {
    void *object;               // referenced
    size_t length;              // of name
    char name[NAME_SIZE];
} names[NAMES];

// The entry whose name is the longest prefix of name, component by component.
// Lock held.
static struct named *find_prefix(const char *name)
{
    struct named *best = NULL;
    for (struct named *n = names; n < names + name_count; n++)
        if (rtl_same_name(n->name, name, n->length) &&
            (!name[n->length] || name[n->length] == '\\') &&
            (!best || n->length > best->length))
            best = n;
    return best;
}

// Names object, with a reference, for ever; it may have other names.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: STATUS_SUCCESS, STATUS_OBJECT_NAME_INVALID (too long),
//          STATUS_OBJECT_NAME_COLLISION or STATUS_INSUFFICIENT_RESOURCES
NTSTATUS ob_insert_name(const char *name, void *object)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    size_t length = rtl_strlen(name);
    if (length >= NAME_SIZE)
        return STATUS_OBJECT_NAME_INVALID;
    NTSTATUS status = STATUS_SUCCESS;
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&name_lock);
    const struct named *same = find_prefix(name);
    if (same && same->length == length) {
        status = STATUS_OBJECT_NAME_COLLISION;
    } else if (name_count == NAMES) {
        status = STATUS_INSUFFICIENT_RESOURCES;
    } else {
        ObReferenceObject(object);
        struct named *new = &names[name_count++];
        new->object = object;
        new->length = length;
        rtl_strcpy(new->name, name, NAME_SIZE);
    }
    KeReleaseSpinLock(&name_lock, old);
    return status;
}

// Finds the object whose name is the longest prefix of name, in which / is as
// good as \. rest, of OB_MAX_NAME bytes, is what remains, with its separator.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_OBJECT_NAME_INVALID    no name at all, or too long
//          STATUS_OBJECT_NAME_NOT_FOUND
// Owns:    the caller, a reference
NTSTATUS ob_lookup_name(const char *name, void **object, char *rest)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    size_t size = rtl_strlen(name) + 1;
    if (size > OB_MAX_NAME)
        return STATUS_OBJECT_NAME_INVALID;
    for (size_t i = 0; i < size; i++)
        rest[i] = name[i] == '/' ? '\\' : name[i];
    if (rest[0] != '\\' || !rest[1])
        return STATUS_OBJECT_NAME_INVALID;

    KIRQL old = KeAcquireSpinLockRaiseToDpc(&name_lock);
    const struct named *found = find_prefix(rest);
    KeReleaseSpinLock(&name_lock, old);
    if (!found)
        return STATUS_OBJECT_NAME_NOT_FOUND;
    ObReferenceObject(found->object);    // its name's will never go
    *object = found->object;
    memmove(rest, rest + found->length, size - found->length);
    return STATUS_SUCCESS;
}
