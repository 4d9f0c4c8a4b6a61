// handle.c - handle tables: small numbers for objects, one table a process.
//
// A handle is (index + 1) * 4; its low two bits mean nothing. The table has
// pages of entries, made when they are needed; free entries are linked. The
// table's spin lock guards all of it, and a reference is taken under it, so
// nobody can ever see an object that another thread's close has freed.

#include "kernel/ob/obp.h"

typedef struct handle_entry {
    void *object;    // NULL: free
    ACCESS_MASK granted;
    uint32_t next_free;    // number; 0: none
} handle_entry;

enum {
    HANDLE_STEP = 4,
    // So many that they, and what the pool adds, fill a page.
    PER_PAGE = PAGE_SIZE / sizeof(handle_entry) - 1,
    PAGES = (OB_MAX_HANDLES + PER_PAGE - 1) / PER_PAGE,
};

struct ob_handle_table {
    EPROCESS *process;
    KSPIN_LOCK lock;    // guards all below
    bool closed;        // takes no handle any more
    uint32_t count;
    uint32_t used;          // numbers from 1 on that were handed out once
    uint32_t first_free;    // among those, a number; 0: none
    handle_entry *page[PAGES];
};

ob_handle_table *(*ob_current_table)(void);
void *(*ob_pseudo_handle)(HANDLE handle);

// Makes an empty table.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: NULL when there is no memory
ob_handle_table *ob_create_handle_table(EPROCESS *process)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    ob_handle_table *table =
        ExAllocatePoolWithTag(NonPagedPool, sizeof(*table), OBP_TAG);
    if (!table)
        return NULL;
    memset(table, 0, sizeof(*table));
    table->process = process;
    return table;
}

static handle_entry *entry_at(ob_handle_table *table, uint32_t number)
{
    return &table->page[(number - 1) / PER_PAGE][(number - 1) % PER_PAGE];
}

// The live entry that handle names, or NULL. Lock held.
static handle_entry *find(ob_handle_table *table, HANDLE handle)
{
    uint64_t number = (uintptr_t)handle / HANDLE_STEP;
    if (!number || number > table->used)
        return NULL;
    handle_entry *entry = entry_at(table, (uint32_t)number);
    return entry->object ? entry : NULL;
}

// Takes a free number; 0 if there is none, or no memory. Lock held.
static uint32_t take_number(ob_handle_table *table)
{
    uint32_t number = table->first_free;
    if (number) {
        table->first_free = entry_at(table, number)->next_free;
        return number;
    }
    if (table->used == OB_MAX_HANDLES)
        return 0;
    handle_entry **page = &table->page[table->used / PER_PAGE];
    if (!*page)
        *page = ExAllocatePoolWithTag(NonPagedPool, PER_PAGE * sizeof(**page),
                                      OBP_TAG);
    return *page ? ++table->used : 0;
}

static bool has_object(ob_handle_table *table, const void *object)
{
    for (uint32_t number = 1; number <= table->used; number++)
        if (entry_at(table, number)->object == object)
            return true;
    return false;
}

// Gives up a handle that is no longer in the table, or never was, with its
// reference; lock held, released here. Counts and table are looked at under
// the lock: of two threads that close the last two handles, one finds none
// left. So is a process's last one; its type's close is called for it.
static void drop(ob_handle_table *table, void *object, KIRQL old)
{
    OBJECT_TYPE *type = ob_header(object)->Type;
    int32_t left = obp_count_handle(object, -1);
    bool last = !left || !has_object(table, object);
    KeReleaseSpinLock(&table->lock, old);
    if (last && type->close)
        type->close(table->process, object, (uint32_t)left);
    ObDereferenceObject(object);
}

// Stores a counted handle and its reference in the table, or drops both.
static NTSTATUS insert(ob_handle_table *table, void *object,
                       ACCESS_MASK granted, HANDLE *handle)
{
    KIRQL old;
    KeAcquireSpinLock(&table->lock, &old);
    uint32_t number = table->closed ? 0 : take_number(table);
    if (!number) {
        NTSTATUS status = table->closed ? STATUS_PROCESS_IS_TERMINATING
                                        : STATUS_INSUFFICIENT_RESOURCES;
        drop(table, object, old);
        return status;
    }
    *entry_at(table, number) = (handle_entry){ object, granted, 0 };
    table->count++;
    KeReleaseSpinLock(&table->lock, old);
    *handle = (HANDLE)((uintptr_t)number * HANDLE_STEP);
    return STATUS_SUCCESS;
}

// Closes every handle, and lets no new one in.
//
// IRQL:    == PASSIVE_LEVEL
void ob_close_all_handles(ob_handle_table *table)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    KIRQL old;
    KeAcquireSpinLock(&table->lock, &old);
    table->closed = true;
    KeReleaseSpinLock(&table->lock, old);
    for (uint32_t number = 1; number <= table->used; number++)
        ob_close_handle(table, (HANDLE)((uintptr_t)number * HANDLE_STEP));
}

// Frees a table that has no handle left. No spin lock held.
//
// IRQL:    <= DISPATCH_LEVEL
void ob_delete_handle_table(ob_handle_table *table)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    ASSERT(!table->count);
    for (uint32_t i = 0; i < PAGES && table->page[i]; i++)
        ExFreePoolWithTag(table->page[i], OBP_TAG);
    ExFreePoolWithTag(table, OBP_TAG);
}

// How many handles the table has.
//
// IRQL:    any level
uint32_t ob_table_count(ob_handle_table *table)
{
    return table->count;
}

// ---- Access ---------------------------------------------------------------

// What a caller gets who asks for desired. There is no security beyond the
// handle: whoever opens an object gets all that its type has.
//
// IRQL:    any level
ACCESS_MASK ob_map_access(const OBJECT_TYPE *type, ACCESS_MASK desired)
{
    if (desired & GENERIC_READ)
        desired |= type->generic_read;
    if (desired & GENERIC_WRITE)
        desired |= type->generic_write;
    if (desired & (GENERIC_ALL | MAXIMUM_ALLOWED))
        desired |= type->valid_access;
    return desired & type->valid_access;
}

// References what handle names, in table or, if that is the current one, as a
// pseudo handle. counted: counts another handle to it before this one can go,
// so that no close comes between.
static NTSTATUS look_up(ob_handle_table *table, HANDLE handle,
                        ACCESS_MASK desired, OBJECT_TYPE *type, bool counted,
                        void **object, ACCESS_MASK *granted)
{
    void *found = table == ob_current_table() ? ob_pseudo_handle(handle) : NULL;
    ACCESS_MASK access = found ? ob_header(found)->Type->valid_access : 0;
    KIRQL old;
    KeAcquireSpinLock(&table->lock, &old);
    handle_entry *entry = found ? NULL : find(table, handle);
    if (entry) {
        found = entry->object;
        access = entry->granted;
    }
    NTSTATUS status = STATUS_SUCCESS;
    if (!found)
        status = STATUS_INVALID_HANDLE;
    else if (type && ob_header(found)->Type != type)
        status = STATUS_OBJECT_TYPE_MISMATCH;
    else if (desired & ~access)
        status = STATUS_ACCESS_DENIED;
    if (NT_SUCCESS(status)) {
        ObReferenceObject(found);
        if (counted)
            obp_count_handle(found, 1);
        *object = found;
        if (granted)
            *granted = access;
    }
    KeReleaseSpinLock(&table->lock, old);
    return status;
}

// References what handle is in the current process.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_INVALID_HANDLE        no such handle
//          STATUS_OBJECT_TYPE_MISMATCH  not of this type (NULL: any will do)
//          STATUS_ACCESS_DENIED         desired is not all granted
// Owns:    the caller, a reference
NTSTATUS ob_reference_by_handle(HANDLE handle, ACCESS_MASK desired,
                                OBJECT_TYPE *type, void **object,
                                ACCESS_MASK *granted)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    ob_handle_table *table = ob_current_table();
    return table ? look_up(table, handle, desired, type, false, object, granted)
                 : STATUS_INVALID_HANDLE;
}

// ---- Making and closing handles -------------------------------------------

// Makes a handle to object. Generic rights mean what its type says.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_PROCESS_IS_TERMINATING  the table takes no more
//          STATUS_INSUFFICIENT_RESOURCES  no memory, or OB_MAX_HANDLES
// Owns:    takes over the caller's reference, whether it succeeds or not
NTSTATUS ob_insert_handle(ob_handle_table *table, void *object,
                          ACCESS_MASK desired, HANDLE *handle)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    obp_count_handle(object, 1);
    return insert(table, object, ob_map_access(ob_header(object)->Type,
                                               desired), handle);
}

// Makes a handle in the current process and stores it in ring 3.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: as ob_insert_handle, or STATUS_ACCESS_VIOLATION: no handle then
// Owns:    the caller, what it owned before
NTSTATUS ob_insert_for_user(void *object, ACCESS_MASK desired,
                            HANDLE *user_handle)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    HANDLE handle = NULL;
    ob_handle_table *table = ob_current_table();
    ObReferenceObject(object);
    NTSTATUS status = ob_insert_handle(table, object, desired, &handle);
    if (!NT_SUCCESS(status))
        return status;
    status = ke_put_user(user_handle, &handle);
    if (!NT_SUCCESS(status))
        ob_close_handle(table, handle);
    return status;
}

// Closes a handle. Closing a pseudo handle does nothing, and succeeds.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS or STATUS_INVALID_HANDLE
NTSTATUS ob_close_handle(ob_handle_table *table, HANDLE handle)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    if (ob_pseudo_handle(handle))
        return STATUS_SUCCESS;
    KIRQL old;
    KeAcquireSpinLock(&table->lock, &old);
    handle_entry *entry = find(table, handle);
    if (!entry) {
        KeReleaseSpinLock(&table->lock, old);
        return STATUS_INVALID_HANDLE;
    }
    void *object = entry->object;
    *entry = (handle_entry){ .next_free = table->first_free };
    table->first_free = (uint32_t)((uintptr_t)handle / HANDLE_STEP);
    table->count--;
    drop(table, object, old);
    return STATUS_SUCCESS;
}

// Makes a handle in to for what source is in from, with no right that source
// does not have. options: DUPLICATE_SAME_ACCESS.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: as ob_reference_by_handle and ob_insert_handle
NTSTATUS ob_duplicate_handle(ob_handle_table *from, HANDLE source,
                             ob_handle_table *to, ACCESS_MASK desired,
                             uint32_t options, HANDLE *handle)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    void *object = NULL;
    ACCESS_MASK granted = 0;
    NTSTATUS status = look_up(from, source, 0, NULL, true, &object, &granted);
    if (!NT_SUCCESS(status))
        return status;
    ACCESS_MASK access = granted;
    if (!(options & DUPLICATE_SAME_ACCESS) && !(desired & MAXIMUM_ALLOWED))
        access = ob_map_access(ob_header(object)->Type, desired);
    if (!(access & ~granted))
        return insert(to, object, access, handle);
    KIRQL old;
    KeAcquireSpinLock(&to->lock, &old);
    drop(to, object, old);
    return STATUS_ACCESS_DENIED;
}
