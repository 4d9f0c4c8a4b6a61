// name.c - the namespace: devices that have names, and links to them.
//
// Names are only ever added, few, and compared whole component by component
// without regard to case. A spin lock guards the list; an entry never changes
// once it is there. A name's rest, behind the object's own, is the driver's.

#include "kernel/ob/obp.h"

enum { LINKS_MAX = 8, NAME_SIZE = 64 };    // links followed in one lookup

typedef struct named {
    struct named *next;
    void *object;              // referenced; NULL: a link
    size_t length;             // of name
    char name[NAME_SIZE];
    char target[NAME_SIZE];    // of a link
} named;

static KSPIN_LOCK name_lock;    // guards the list
static named *names;

// The entry whose name is the longest prefix of name, component by component.
// Lock held.
static named *find_prefix(const char *name)
{
    named *best = NULL;
    for (named *n = names; n; n = n->next)
        if (rtl_same_name(n->name, name, n->length) &&
            (!name[n->length] || name[n->length] == '\\') &&
            (!best || n->length > best->length))
            best = n;
    return best;
}

// Names object, with a reference, for ever; or, if that is NULL, makes name
// stand for target, which need not exist.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: STATUS_SUCCESS, STATUS_OBJECT_NAME_INVALID (too long),
//          STATUS_OBJECT_NAME_COLLISION or STATUS_INSUFFICIENT_RESOURCES
NTSTATUS ob_insert_name(const char *name, void *object, const char *target)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    size_t length = rtl_strlen(name);
    if (length >= NAME_SIZE || (target && rtl_strlen(target) >= NAME_SIZE))
        return STATUS_OBJECT_NAME_INVALID;
    named *new = ExAllocatePoolWithTag(NonPagedPool, sizeof(*new), OBP_TAG);
    if (!new)
        return STATUS_INSUFFICIENT_RESOURCES;
    new->object = object;
    new->length = length;
    rtl_strcpy(new->name, name, NAME_SIZE);
    rtl_strcpy(new->target, target ? target : "", NAME_SIZE);

    KIRQL old;
    KeAcquireSpinLock(&name_lock, &old);
    const named *same = find_prefix(name);
    bool collides = same && same->length == length;
    if (!collides) {
        new->next = names;
        names = new;
    }
    KeReleaseSpinLock(&name_lock, old);
    if (collides)
        ExFreePoolWithTag(new, OBP_TAG);
    else if (object)
        ObReferenceObject(object);
    return collides ? STATUS_OBJECT_NAME_COLLISION : STATUS_SUCCESS;
}

// Finds the object whose name is the longest prefix of name, in which / is as
// good as \, links followed. rest, of OB_MAX_NAME bytes, is what remains, with
// its separator.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_OBJECT_NAME_INVALID    no name at all, or too long
//          STATUS_OBJECT_NAME_NOT_FOUND  also after too many links
// Owns:    the caller, a reference
NTSTATUS ob_lookup_name(const char *name, void **object, char *rest)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    size_t length = rtl_strlen(name);
    if (length >= OB_MAX_NAME)
        return STATUS_OBJECT_NAME_INVALID;
    for (size_t i = 0; i <= length; i++)
        rest[i] = name[i] == '/' ? '\\' : name[i];
    if (rest[0] != '\\' || !rest[1])
        return STATUS_OBJECT_NAME_INVALID;

    for (uint32_t links = 0; links <= LINKS_MAX; links++) {
        KIRQL old;
        KeAcquireSpinLock(&name_lock, &old);
        const named *found = find_prefix(rest);
        KeReleaseSpinLock(&name_lock, old);
        if (!found)
            break;
        // The prefix is replaced by what it stands for, if anything.
        size_t target = rtl_strlen(found->target);
        size_t size = rtl_strlen(rest + found->length) + 1;
        if (target + size > OB_MAX_NAME)
            return STATUS_OBJECT_NAME_INVALID;
        memmove(rest + target, rest + found->length, size);
        memcpy(rest, found->target, target);
        if (found->object) {
            ObReferenceObject(found->object);
            *object = found->object;
            return STATUS_SUCCESS;
        }
    }
    return STATUS_OBJECT_NAME_NOT_FOUND;
}
