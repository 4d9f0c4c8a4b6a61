// name.c - the namespace: devices that have names, and links to them.
//
// Names are only ever added, few, and compared whole component by component
// without regard to case. A spin lock guards the list; an entry never changes
// once it is there. A name's rest, behind the object's own, is the driver's.

#include "kernel/ob/obp.h"

enum { LINKS_MAX = 8 };    // followed in one lookup

typedef struct named {
    LIST_ENTRY entry;
    void *object;          // referenced; NULL: a link
    const char *target;    // of a link
    const char *name;
    size_t length;    // of name
} named;

static KSPIN_LOCK name_lock;    // guards the list
static LIST_ENTRY names;        // of named

// Starts with no name.
//
// IRQL:    <= DISPATCH_LEVEL
void obp_init_names(void)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    InitializeListHead(&names);
}

// The entry whose name is the longest prefix of name, component by component.
// Lock held.
static named *find_prefix(const char *name)
{
    named *best = NULL;
    RTL_FOR_EACH(entry, &names)
    {
        named *candidate = CONTAINING_RECORD(entry, named, entry);
        size_t length = candidate->length;
        if (rtl_same_name(candidate->name, name, length) &&
            (!name[length] || name[length] == '\\') &&
            (!best || length > best->length))
            best = candidate;
    }
    return best;
}

static NTSTATUS add(named *new)
{
    new->length = rtl_strlen(new->name);
    KIRQL old;
    KeAcquireSpinLock(&name_lock, &old);
    const named *same = find_prefix(new->name);
    bool collides = same && same->length == new->length;
    if (!collides)
        InsertTailList(&names, &new->entry);
    KeReleaseSpinLock(&name_lock, old);
    if (collides)
        ExFreePoolWithTag(new, OBP_NAME_TAG);
    return collides ? STATUS_OBJECT_NAME_COLLISION : STATUS_SUCCESS;
}

static bool is_name(const char *name)
{
    return name[0] == '\\' && name[1] && rtl_strlen(name) < OB_MAX_NAME;
}

// Names object, with a reference, for ever. name: a static string.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: STATUS_SUCCESS, STATUS_OBJECT_NAME_INVALID,
//          STATUS_OBJECT_NAME_COLLISION or STATUS_INSUFFICIENT_RESOURCES
NTSTATUS ob_insert_name(const char *name, void *object)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    if (!is_name(name))
        return STATUS_OBJECT_NAME_INVALID;
    named *new =
        ExAllocatePoolWithTag(NonPagedPool, sizeof(*new), OBP_NAME_TAG);
    if (!new)
        return STATUS_INSUFFICIENT_RESOURCES;
    *new = (named){ .object = object, .name = name };
    ObReferenceObject(object);
    NTSTATUS status = add(new);
    if (!NT_SUCCESS(status))
        ObDereferenceObject(object);
    return status;
}

// Makes link stand for target, which need not exist; both are copied.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: as ob_insert_name
NTSTATUS ob_create_symbolic_link(const char *link, const char *target)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    if (!is_name(link) || !is_name(target))
        return STATUS_OBJECT_NAME_INVALID;
    size_t link_size = rtl_strlen(link) + 1;
    size_t target_size = rtl_strlen(target) + 1;
    named *new = ExAllocatePoolWithTag(
        NonPagedPool, sizeof(*new) + link_size + target_size, OBP_NAME_TAG);
    if (!new)
        return STATUS_INSUFFICIENT_RESOURCES;
    char *text = (char *)(new + 1);
    *new = (named){ .name = text, .target = text + link_size };
    memcpy(text, link, link_size);
    memcpy(text + link_size, target, target_size);
    return add(new);
}

// Replaces the first length characters of path by target.
static bool replace(char *path, size_t length, const char *target)
{
    size_t target_length = rtl_strlen(target);
    size_t rest_size = rtl_strlen(path + length) + 1;
    if (target_length + rest_size > OB_MAX_NAME)
        return false;
    memmove(path + target_length, path + length, rest_size);
    memcpy(path, target, target_length);
    return true;
}

// Finds the object whose name is the longest prefix of name, in which / is as
// good as \, links followed. *rest is what remains, with its separator.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_OBJECT_NAME_INVALID    no name at all, or too long
//          STATUS_OBJECT_NAME_NOT_FOUND  also after too many links
// Owns:    the caller, a reference
NTSTATUS ob_lookup_name(const char *name, void **object, char *rest,
                        size_t rest_size)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    char path[OB_MAX_NAME];
    rtl_strcpy(path, name, sizeof(path));
    if (rtl_strlen(name) >= sizeof(path))
        return STATUS_OBJECT_NAME_INVALID;
    for (char *c = path; *c; c++)
        if (*c == '/')
            *c = '\\';
    if (!is_name(path))
        return STATUS_OBJECT_NAME_INVALID;

    for (uint32_t links = 0; links <= LINKS_MAX; links++) {
        KIRQL old;
        KeAcquireSpinLock(&name_lock, &old);
        const named *found = find_prefix(path);
        KeReleaseSpinLock(&name_lock, old);
        if (!found)
            return STATUS_OBJECT_NAME_NOT_FOUND;
        if (found->object) {
            if (rtl_strlen(path + found->length) >= rest_size)
                return STATUS_OBJECT_NAME_INVALID;
            rtl_strcpy(rest, path + found->length, rest_size);
            ObReferenceObject(found->object);
            *object = found->object;
            return STATUS_SUCCESS;
        }
        if (!replace(path, found->length, found->target))
            return STATUS_OBJECT_NAME_INVALID;
    }
    return STATUS_OBJECT_NAME_NOT_FOUND;
}
