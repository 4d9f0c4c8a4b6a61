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
    uint32_t next_free;    // index + 1; 0: none
} handle_entry;

enum {
    HANDLE_STEP = 4,
    ENTRIES_PER_PAGE = PAGE_SIZE / sizeof(handle_entry),
};

struct ob_handle_table {
    EPROCESS *process;
    KSPIN_LOCK lock;    // guards all below
    bool closed;        // takes no handle any more
    uint32_t count;
    uint32_t pages;         // there are so many
    uint32_t first_free;    // index + 1; 0: none
    handle_entry *page[OB_MAX_HANDLES / ENTRIES_PER_PAGE];
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
        ExAllocatePoolWithTag(NonPagedPool, sizeof(*table), OBP_TABLE_TAG);
    if (!table)
        return NULL;
    memset(table, 0, sizeof(*table));
    table->process = process;
    return table;
}

static handle_entry *entry_at(ob_handle_table *table, uint32_t index)
{
    return &table->page[index / ENTRIES_PER_PAGE][index % ENTRIES_PER_PAGE];
}

// The live entry that handle names, or NULL. Lock held.
static handle_entry *find(ob_handle_table *table, HANDLE handle)
{
    uint64_t number = (uintptr_t)handle / HANDLE_STEP;
    if (!number || number > (uint64_t)table->pages * ENTRIES_PER_PAGE)
        return NULL;
    handle_entry *entry = entry_at(table, (uint32_t)number - 1);
    return entry->object ? entry : NULL;
}

// Adds a page of free entries, the lowest first. Lock held.
static bool grow(ob_handle_table *table)
{
    if (table->pages == ARRAY_SIZE(table->page))
        return false;
    handle_entry *page = ExAllocatePoolWithTag(
        NonPagedPool, ENTRIES_PER_PAGE * sizeof(*page), OBP_TABLE_TAG);
    if (!page)
        return false;
    memset(page, 0, ENTRIES_PER_PAGE * sizeof(*page));
    uint32_t base = table->pages * ENTRIES_PER_PAGE;
    table->page[table->pages++] = page;
    for (uint32_t i = ENTRIES_PER_PAGE; i--;) {
        page[i].next_free = table->first_free;
        table->first_free = base + i + 1;
    }
    return true;
}

static bool has_object(ob_handle_table *table, const void *object)
{
    for (uint32_t i = 0; i < table->pages * ENTRIES_PER_PAGE; i++)
        if (entry_at(table, i)->object == object)
            return true;
    return false;
}

// Does what is left to do for a handle that is no longer in the table.
static void finish_close(ob_handle_table *table, void *object, int32_t left,
                         bool last)
{
    OBJECT_TYPE *type = ob_header(object)->Type;
    if (last && type->close)
        type->close(table->process, object, (uint32_t)left);
    ObDereferenceObject(object);
}

// Ends a live handle; lock held, released here. Counts and table are looked at
// under the lock: of two threads that close the last two handles, one finds
// none left. So is a process's last one; its type's close is called for it.
static void close_number(ob_handle_table *table, uint32_t number, KIRQL old)
{
    handle_entry *entry = entry_at(table, number - 1);
    void *object = entry->object;
    *entry = (handle_entry){ .next_free = table->first_free };
    table->first_free = number;
    table->count--;
    int32_t left = obp_drop_handle(object);
    bool last = !left || !has_object(table, object);
    KeReleaseSpinLock(&table->lock, old);
    finish_close(table, object, left, last);
}

// Gives up a handle that never got into the table. It may have become the last
// one meanwhile.
static void discard(ob_handle_table *table, void *object)
{
    int32_t left = obp_drop_handle(object);
    finish_close(table, object, left, !left);
}

// Stores a counted handle and its reference in the table, or discards both.
static NTSTATUS insert(ob_handle_table *table, void *object,
                       ACCESS_MASK granted, HANDLE *handle)
{
    KIRQL old;
    KeAcquireSpinLock(&table->lock, &old);
    NTSTATUS status = STATUS_SUCCESS;
    if (table->closed)
        status = STATUS_PROCESS_IS_TERMINATING;
    else if (!table->first_free && !grow(table))
        status = STATUS_INSUFFICIENT_RESOURCES;
    if (NT_SUCCESS(status)) {
        uint32_t number = table->first_free;
        handle_entry *entry = entry_at(table, number - 1);
        table->first_free = entry->next_free;
        *entry = (handle_entry){ .object = object, .granted = granted };
        table->count++;
        *handle = (HANDLE)((uintptr_t)number * HANDLE_STEP);
    }
    KeReleaseSpinLock(&table->lock, old);
    if (!NT_SUCCESS(status))
        discard(table, object);
    return status;
}

// Closes every handle, and lets no new one in.
//
// IRQL:    == PASSIVE_LEVEL
void ob_close_all_handles(ob_handle_table *table)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    for (uint32_t number = 1;; number++) {
        KIRQL old;
        KeAcquireSpinLock(&table->lock, &old);
        table->closed = true;
        uint32_t last = table->pages * ENTRIES_PER_PAGE;
        while (number <= last && !entry_at(table, number - 1)->object)
            number++;
        if (number > last) {
            KeReleaseSpinLock(&table->lock, old);
            return;
        }
        close_number(table, number, old);
    }
}

// Frees a table that has no handle left. No spin lock held.
//
// IRQL:    <= DISPATCH_LEVEL
void ob_delete_handle_table(ob_handle_table *table)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    ASSERT(!table->count);
    for (uint32_t i = 0; i < table->pages; i++)
        ExFreePoolWithTag(table->page[i], OBP_TABLE_TAG);
    ExFreePoolWithTag(table, OBP_TABLE_TAG);
}

// How many handles the table has.
//
// IRQL:    any level
uint32_t ob_table_count(ob_handle_table *table)
{
    return table->count;
}

// ---- Access ----------------------------------------------------------------
// What a caller gets who asks for desired. There is no security beyond the
// handle: whoever opens an object gets all that its type has.
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

static NTSTATUS check(const void *object, ACCESS_MASK granted,
                      ACCESS_MASK desired, const OBJECT_TYPE *type)
{
    if (type && ob_header(object)->Type != type)
        return STATUS_OBJECT_TYPE_MISMATCH;
    return desired & ~granted ? STATUS_ACCESS_DENIED : STATUS_SUCCESS;
}

// References what handle names, in table or, if that is the current one, as a
// pseudo handle. counted: counts another handle to it before this one can go,
// so that no close comes between.
static NTSTATUS look_up(ob_handle_table *table, HANDLE handle,
                        ACCESS_MASK desired, OBJECT_TYPE *type, bool counted,
                        void **object, ACCESS_MASK *granted)
{
    if (!table)
        return STATUS_INVALID_HANDLE;
    void *found = table == ob_current_table() ? ob_pseudo_handle(handle) : NULL;
    ACCESS_MASK access = found ? ob_header(found)->Type->valid_access : 0;
    KIRQL old;
    KeAcquireSpinLock(&table->lock, &old);
    handle_entry *entry = found ? NULL : find(table, handle);
    if (entry) {
        found = entry->object;
        access = entry->granted;
    }
    NTSTATUS status =
        found ? check(found, access, desired, type) : STATUS_INVALID_HANDLE;
    if (NT_SUCCESS(status)) {
        ObReferenceObject(found);
        if (counted)
            obp_add_handle(found);
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

    return look_up(ob_current_table(), handle, desired, type, false, object,
                   granted);
}

// The same for a handle of another table.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: as ob_reference_by_handle
// Owns:    the caller, a reference
NTSTATUS ob_reference_in_table(ob_handle_table *table, HANDLE handle,
                               ACCESS_MASK desired, OBJECT_TYPE *type,
                               void **object, ACCESS_MASK *granted)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    return look_up(table, handle, desired, type, false, object, granted);
}

// ---- Making and closing handles --------------------------------------------
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

    obp_add_handle(object);
    return insert(table, object, ob_map_access(ob_header(object)->Type, desired),
                  handle);
}

// Makes a handle in the current process and stores it in ring 3.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: as ob_insert_handle, or STATUS_ACCESS_VIOLATION: no handle then
// Owns:    takes over the caller's reference, whether it succeeds or not
NTSTATUS ob_insert_for_user(void *object, ACCESS_MASK desired,
                            HANDLE *user_handle)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    HANDLE handle = NULL;
    ob_handle_table *table = ob_current_table();
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
    if (!find(table, handle)) {
        KeReleaseSpinLock(&table->lock, old);
        return STATUS_INVALID_HANDLE;
    }
    close_number(table, (uint32_t)((uintptr_t)handle / HANDLE_STEP), old);
    return STATUS_SUCCESS;
}

// Makes a handle in to for what source is in from, with no right that source
// does not have. options: DUPLICATE_SAME_ACCESS; DUPLICATE_CLOSE_SOURCE closes
// source even if the rest fails, and is all that is done if to is NULL.
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
    NTSTATUS status =
        look_up(from, source, 0, NULL, to != NULL, &object, &granted);
    if (!NT_SUCCESS(status))
        return status;
    ACCESS_MASK access = granted;
    if (!(options & DUPLICATE_SAME_ACCESS) && !(desired & MAXIMUM_ALLOWED))
        access = ob_map_access(ob_header(object)->Type, desired);
    if (!to) {
        ObDereferenceObject(object);
    } else if (access & ~granted) {
        discard(to, object);
        status = STATUS_ACCESS_DENIED;
    } else {
        status = insert(to, object, access, handle);
    }
    if (options & DUPLICATE_CLOSE_SOURCE)
        ob_close_handle(from, source);
    return status;
}
