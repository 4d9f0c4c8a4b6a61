// handle.c - handle tables: small numbers for objects, one table a process.
//
// Handles are multiples of 4; their low two bits mean nothing. The table has
// pages of entries, made when they are needed; free entries are linked. That of
// handle 0 stays free.
//
// The table's spin lock guards all of it. Who changes an entry also locks that
// one, inside the table's lock; who only looks for a handle locks its entry and
// nothing else, so threads that use different handles share no lock. References
// are taken with the entry locked: nobody can ever see an object that another
// thread's close has freed. Pages stay until nobody uses the table any more.
//
// Whoever makes a handle in a table holds its process (ps_acquire_process, or
// as one of its threads). So nobody can when the last hold is gone and
// ob_close_all_handles goes through it.

#include "kernel/ob/obp.h"

volatile uint64_t ob_handle_count;

// Takes a free handle; 0 if there is none, or no memory. Table's lock held.
static uintptr_t take_free(ob_handle_table *table)
{
    uintptr_t handle = table->first_free;
    if (handle) {
        table->first_free = ob_find_entry(table, (HANDLE)handle)->next_free;
        return handle;
    }
    handle = MAX(table->end, OB_HANDLE_STEP);
    if (handle == OB_END_OF_HANDLES)
        return 0;
    ob_handle_entry **page = &table->page[handle / OB_PAGE_STEP];
    if (!*page && (*page = ExAllocatePoolWithTag(
                       NonPagedPool, OB_PER_PAGE * sizeof(**page), OBP_TAG)))
        memset(*page, 0, OB_PER_PAGE * sizeof(**page));
    if (!*page)
        return 0;
    __atomic_store_n(&table->end, handle + OB_HANDLE_STEP, __ATOMIC_RELEASE);
    return handle;
}

static bool has_object(ob_handle_table *table, const void *object)
{
    for (uintptr_t at = 0; at < table->end; at += OB_HANDLE_STEP)
        if (ob_find_entry(table, (HANDLE)at)->object == object)
            return true;
    return false;
}

// ---- A handle's two counts ------------------------------------------------

// Counts a new handle to object. What has had handles gets another one only
// while one of them is found in a table, under its lock: once the last is
// gone, and its type's close was called, there will not be another.
static void count_handle(void *object)
{
    __atomic_fetch_add(&ob_handle_count, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&ob_header(object)->HandleCount, 1, __ATOMIC_RELAXED);
}

// Gives up a handle that is no longer in the table, or never was, with its
// reference; lock held since it was taken out, released here. Counts and table
// are looked at under the lock: of two threads that close a process's last two
// handles, one finds none left, and calls its type's close for the process.
static void drop(ob_handle_table *table, void *object, KIRQL old)
{
    OBJECT_TYPE *type = ob_header(object)->Type;
    __atomic_fetch_sub(&ob_handle_count, 1, __ATOMIC_RELAXED);
    int32_t left = __atomic_sub_fetch(&ob_header(object)->HandleCount, 1,
                                      __ATOMIC_ACQ_REL);
    bool last = type->close && (!left || !has_object(table, object));
    KeReleaseSpinLock(&table->lock, old);
    if (last)
        type->close(table->process, object, (uint32_t)left);
    ObDereferenceObject(object);
}

// Stores a counted handle and its reference in the table, or drops both.
static NTSTATUS insert(ob_handle_table *table, void *object,
                       ACCESS_MASK access, HANDLE *handle)
{
    access = ob_map_access(ob_header(object)->Type, access);
    KIRQL old = KeAcquireSpinLockRaiseToDpc(&table->lock);
    *handle = (HANDLE)take_free(table);
    if (!*handle) {
        drop(table, object, old);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    ob_handle_entry *entry = ob_find_entry(table, *handle);
    ob_lock_entry(entry);
    entry->object = object;
    entry->granted = access;
    ob_unlock_entry(entry);
    table->count++;
    KeReleaseSpinLock(&table->lock, old);
    return STATUS_SUCCESS;
}

// Closes every handle of a table that nobody uses any more, and frees what it
// has.
//
// IRQL:    == PASSIVE_LEVEL
void ob_close_all_handles(ob_handle_table *table)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    for (uintptr_t at = 0; at < table->end; at += OB_HANDLE_STEP)
        ob_close_handle(table, (HANDLE)at);
    for (uint32_t i = 0; i < ARRAY_SIZE(table->page) && table->page[i]; i++)
        ExFreePoolWithTag(table->page[i], OBP_TAG);
    *table = (ob_handle_table){ .process = table->process };
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

// What a pseudo handle means to the current thread; NULL: it is none.
//
// IRQL:    any level
void *ob_pseudo_handle(HANDLE handle)
{
    // A thread object begins with its KTHREAD, a process with its KPROCESS.
    KTHREAD *thread = KeGetCurrentThread();
    if (handle == NtCurrentProcess())
        return thread->Process;
    return handle == NtCurrentThread() ? thread : NULL;
}

// References what handle names, in table or, if that is the current one, as a
// pseudo handle; generic rights mean what its type says. counted: counts
// another handle to it before this one can go, so that no close comes between.
// *object: only if it succeeds.
static inline NTSTATUS look_up(ob_handle_table *table, HANDLE handle,
                               ACCESS_MASK desired, const OBJECT_TYPE *type,
                               bool counted, void **object,
                               ACCESS_MASK *granted)
{
    ob_handle_entry *entry = ob_find_entry(table, handle);
    void *found;
    if (entry) {
        ob_lock_entry(entry);
        *granted = entry->granted;
        found = entry->object;
    } else {
        *granted = ALL_ACCESS;
        found = table == ob_current_table() ? ob_pseudo_handle(handle) : NULL;
    }
    NTSTATUS status = STATUS_SUCCESS;
    if (!found) {
        status = STATUS_INVALID_HANDLE;
    } else if (type && ob_header(found)->Type != type) {
        status = STATUS_OBJECT_TYPE_MISMATCH;
    } else if (desired & ~*granted &&
               ob_map_access(ob_header(found)->Type, desired) & ~*granted) {
        status = STATUS_ACCESS_DENIED;
    } else {
        ObReferenceObject(found);
        *object = found;
        if (counted)
            count_handle(found);
    }
    if (entry)
        ob_unlock_entry(entry);
    return status;
}

// What ob_reference_by_handle could not do at once: a pseudo handle, any type,
// generic rights, or nothing at all.
//
// IRQL:    <= DISPATCH_LEVEL
// Returns: as that; *object: only if it succeeds
// Owns:    the caller, a reference
NTSTATUS ob_reference_slowly(HANDLE handle, ACCESS_MASK desired,
                             const OBJECT_TYPE *type, void **object,
                             ACCESS_MASK *granted)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);

    return look_up(ob_current_table(), handle, desired, type, false, object,
                   granted);
}

// ---- Making and closing handles -------------------------------------------

// Makes a handle to object. Generic rights mean what its type says.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_INSUFFICIENT_RESOURCES  no memory, or OB_END_OF_HANDLES
// Owns:    takes over the caller's reference, whether it succeeds or not
NTSTATUS ob_insert_handle(ob_handle_table *table, void *object,
                          ACCESS_MASK desired, HANDLE *handle)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    count_handle(object);
    return insert(table, object, desired, handle);
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

    ob_reap();    // no faster than that are objects made that an APC lets go
    HANDLE handle = NULL;
    ObReferenceObject(object);
    NT_TRY(ob_insert_handle(ob_current_table(), object, desired, &handle));
    NTSTATUS status = ke_put_user(user_handle, &handle);
    if (!NT_SUCCESS(status))
        ob_close_handle(ob_current_table(), handle);
    return status;
}

// Closes a handle. Closing a pseudo handle does nothing, and succeeds.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS or STATUS_INVALID_HANDLE
NTSTATUS ob_close_handle(ob_handle_table *table, HANDLE handle)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    KIRQL old = KeAcquireSpinLockRaiseToDpc(&table->lock);
    ob_handle_entry *entry = ob_find_entry(table, handle);
    if (!entry || !entry->object) {
        KeReleaseSpinLock(&table->lock, old);
        return !entry && ob_pseudo_handle(handle) ? STATUS_SUCCESS
                                                  : STATUS_INVALID_HANDLE;
    }
    ob_lock_entry(entry);
    void *object = entry->object;
    entry->object = NULL;
    entry->granted = 0;
    entry->next_free = table->first_free;
    ob_unlock_entry(entry);
    table->first_free = (uint16_t)((uintptr_t)handle & ~(OB_HANDLE_STEP - 1));
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

    bool same = options & DUPLICATE_SAME_ACCESS || desired & MAXIMUM_ALLOWED;
    void *object;
    ACCESS_MASK granted;
    NT_TRY(look_up(from, source, same ? 0 : desired, NULL, true, &object,
                   &granted));
    return insert(to, object, same ? granted : desired, handle);
}
