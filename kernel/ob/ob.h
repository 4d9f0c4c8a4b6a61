// ob.h - objects, handles, names.
//
// An object has a header in front of it with two counts: pointers to it
// (handles included) and handles. The last handle calls the type's close
// procedure; the last pointer its delete procedure, always at PASSIVE: a
// reference dropped above it puts the object on a list that ob_reap empties.
//
//   ob_create_object: 1 pointer --ob_insert_handle--> that is a handle's now
//     --last handle--> close --last pointer--> delete (PASSIVE), freed

#pragma once

#include "kernel/ke/irql.h"
#include "kernel/ke/thread.h"
#include "kernel/nt.h"

struct OBJECT_TYPE {
    const char *name;            // "Event"
    uint32_t generic_read;       // what GENERIC_READ means for it
    uint32_t generic_write;
    uint32_t valid_access;
    // The process has closed its last handle to it; handles: how many of all
    // processes are left. May be NULL. PASSIVE.
    void (*close)(EPROCESS *process, void *object, uint32_t handles);
    // The object goes. May be NULL. PASSIVE, must not wait.
    void (*delete)(void *object);
};

typedef struct OBJECT_HEADER {
    volatile int32_t PointerCount;
    volatile int32_t HandleCount;
    OBJECT_TYPE *Type;
    struct OBJECT_HEADER *next_deferred;    // see ob_defer
    void (*routine)(void *object);
    // the body follows, 16-aligned
} OBJECT_HEADER;

static inline OBJECT_HEADER *ob_header(const void *object)
{
    return (OBJECT_HEADER *)((char *)(uintptr_t)object - sizeof(OBJECT_HEADER));
}

// *object: size zeroed bytes with one reference, the caller's.
NTSTATUS ob_create_object(OBJECT_TYPE *type, size_t size, void **object);
void ob_last_reference(void *object);

// Takes count more references to an object that cannot go meanwhile, or one.
// IRQL: <= DISPATCH_LEVEL
static inline void ob_reference(void *object, int32_t count)
{
    int32_t old = __atomic_fetch_add(&ob_header(object)->PointerCount, count,
                                     __ATOMIC_RELAXED);
    ASSERT(old > 0);
    (void)old;
}
static inline void ObReferenceObject(void *object)
{
    ob_reference(object, 1);
}

// Drops one; whoever drops the last deletes the object, or has ob_reap do so.
// IRQL: <= DISPATCH_LEVEL
static inline void ObDereferenceObject(void *object)
{
    bool last;    // or one more: the compiler would not use the flags
    __asm__ volatile("lock decl %1" : "=@ccle"(last),
                     "+m"(ob_header(object)->PointerCount)::"memory");
    if (__builtin_expect(last, 0))
        ob_last_reference(object);
}

extern volatile uint64_t ob_object_count, ob_handle_count;

// Has ob_reap call routine(object) at PASSIVE; one such call an object at a
// time. The caller has counted it in ob_pending before, the sooner the better:
// while that is not 0, something of what is gone is still there.
void ob_defer(void *object, void (*routine)(void *object));
bool ob_reap(void);
extern volatile uint32_t ob_pending;

// ---- Handle tables ---------------------------------------------------------
typedef struct ob_handle_entry {
    void *object;                // NULL: free, and granted is 0
    ACCESS_MASK granted;
    uint16_t next_free;          // a handle; 0: none
    uint16_t lock;               // 1: somebody looks at it
} ob_handle_entry;

#define OB_HANDLE_STEP    4ull
#define OB_PER_PAGE       128u
#define OB_PAGE_STEP      (OB_PER_PAGE * OB_HANDLE_STEP)
#define OB_END_OF_HANDLES 65536u    // beyond: INSUFFICIENT_RESOURCES

// Zeroed and with its process it is an empty table.
typedef struct ob_handle_table {
    EPROCESS *process;
    KSPIN_LOCK lock;             // guards all below; see handle.c
    uint32_t count;              // of handles
    uint64_t end;                // handles below this were made once, but for 0
    uint16_t first_free;         // among those; 0: none
    ob_handle_entry *page[OB_END_OF_HANDLES / OB_PAGE_STEP];
} ob_handle_table;

// Ends a table that its process needs no more: as NtClose for each handle.
void ob_close_all_handles(ob_handle_table *table);
// What plain handles of the current thread refer to.
static inline ob_handle_table *ob_current_table(void)
{
    return KeGetCurrentThread()->handles;
}
void *ob_pseudo_handle(HANDLE handle);    // NULL: is none

// GENERIC_... and MAXIMUM_ALLOWED as the type's own rights.
ACCESS_MASK ob_map_access(const OBJECT_TYPE *type, ACCESS_MASK desired);
// Takes over the caller's reference, whether it succeeds or not.
NTSTATUS ob_insert_handle(ob_handle_table *table, void *object,
                          ACCESS_MASK desired, HANDLE *handle);
// For the services: maps generic rights, inserts into the current table and
// stores the handle in ring 3's *user_handle, or undoes it all. The caller
// keeps its reference.
NTSTATUS ob_insert_for_user(void *object, ACCESS_MASK desired,
                            HANDLE *user_handle);
// What ob_reference_by_handle does where there is no short way; granted is not
// NULL here.
NTSTATUS ob_reference_slowly(HANDLE handle, ACCESS_MASK desired,
                             const OBJECT_TYPE *type, void **object,
                             ACCESS_MASK *granted);
NTSTATUS ob_close_handle(ob_handle_table *table, HANDLE handle);
NTSTATUS ob_duplicate_handle(ob_handle_table *from, HANDLE source,
                             ob_handle_table *to, ACCESS_MASK desired,
                             uint32_t options, HANDLE *handle);

// The entry that handle names, free or not, or NULL.
static inline ob_handle_entry *ob_find_entry(ob_handle_table *table,
                                             HANDLE handle)
{
    uint64_t value = (uintptr_t)handle;
    if (value >= __atomic_load_n(&table->end, __ATOMIC_ACQUIRE))
        return NULL;
    ob_handle_entry *page = table->page[value / OB_PAGE_STEP];
    return &page[value / OB_HANDLE_STEP % OB_PER_PAGE];
}

// Locks an entry, with interrupts off while it is; waits with them on.
static inline void ob_lock_entry(ob_handle_entry *entry)
{
    ki_disable();
    while (__builtin_expect(__atomic_fetch_or(&entry->lock, 1,
                                              __ATOMIC_ACQUIRE) & 1, 0)) {
        ki_enable();
        __builtin_ia32_pause();
        ki_disable();
    }
}

// Lets it go.
static inline void ob_unlock_entry(ob_handle_entry *entry)
{
    __atomic_store_n(&entry->lock, 0, __ATOMIC_RELEASE);
    ki_enable();
}

// References what handle is in the current process; type NULL: any; granted may
// be NULL. IRQL: <= DISPATCH_LEVEL
// Returns: STATUS_SUCCESS
//          STATUS_INVALID_HANDLE        no such handle
//          STATUS_OBJECT_TYPE_MISMATCH  not of this type
//          STATUS_ACCESS_DENIED         desired is not all granted
static FORCEINLINE NTSTATUS ob_reference_by_handle(HANDLE handle,
                                              ACCESS_MASK desired,
                                              OBJECT_TYPE *type, void **object,
                                              ACCESS_MASK *granted)
{
    ob_handle_entry *entry = ob_find_entry(ob_current_table(), handle);
    if (entry) {
        ob_lock_entry(entry);
        void *found = entry->object;
        // What grants something is not free.
        bool grants = desired ? (entry->granted & desired) == desired
                              : found != NULL;
        if (__builtin_expect(grants && ob_header(found)->Type == type, 1)) {
            if (granted)
                *granted = entry->granted;
            ObReferenceObject(found);
            ob_unlock_entry(entry);
            *object = found;
            return STATUS_SUCCESS;
        }
        ob_unlock_entry(entry);
    }
    void *slow = NULL;    // so that the caller's can stay in a register
    ACCESS_MASK rights = 0;
    NTSTATUS status = ob_reference_slowly(handle, desired, type, &slow,
                                          &rights);
    *object = slow;
    if (granted)
        *granted = rights;
    return status;
}

// ---- Names -----------------------------------------------------------------
#define OB_MAX_NAME 256u         // with the final zero

// Names an object for ever; it may have other names. The name is copied.
NTSTATUS ob_insert_name(const char *name, void *object);
// Finds the object whose name is the longest prefix of name, case ignored;
// rest, of OB_MAX_NAME bytes, is what is behind it. Takes a reference.
NTSTATUS ob_lookup_name(const char *name, void **object, char *rest);
