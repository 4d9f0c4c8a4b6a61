// poolguard.c - the checked build's pool: fences, poison and a quarantine.
//
// The linker puts this in front of the pool (ld --wrap), so kernel/ex is the
// same in both builds. Each block gets a header that knows who allocated and
// freed it, a fence on both sides, and a pattern for a body. A freed block
// waits in quarantine with another pattern, and goes back to the pool when it
// is the oldest and there are too many; what was written to it meanwhile is
// found then, or when its memory is handed out again. Every finding is
// BAD_POOL_CALLER, with a line that says what, whose block, and where it was
// allocated and freed. What the kernel counts stays as asked for.
//
//   pool --allocate--> live --free--> quarantine --too many--> pool

#include "tests/kernel/poolguard.h"

#include "kernel/wdm.h"

#define LIVE       0x6576696C6B6F6F6Cull    // words no one writes by chance
#define FREED      0x65657266646F6F67ull
#define RELEASED   0x64657361656C6572ull

// No pattern is a canonical address: who follows one gets a fault.
enum { FRESH_BYTE = 0xCD, FREED_BYTE = 0xDD, FENCE_BYTE = 0xFD };

enum { FENCE = 16, CALLERS = 2, OWNERS = 96, TEXT_LENGTH = 224,
       SMALL_LIMIT = 192 * 1024,    // bytes in quarantine
       LARGE_LIMIT = 48,            // pages
       BLOCK_HEADER = 16 };         // the pool's own

typedef struct guard {
    uint64_t state;                 // LIVE..., xor the guard's address
    LIST_ENTRY entry;               // of live ones, or of a quarantine
    uint64_t number;
    uint64_t size;
    uint32_t tag;
    uint32_t pages;                 // of a large block, else 0
    uint64_t allocated[CALLERS];    // by whom, and who had called that one
    uint64_t freed[CALLERS];        // an underrun may cost us these
    uint8_t fence[FENCE];
    uint8_t body[];                 // and a fence behind it
} guard;

enum { EXTRA = sizeof(guard) + FENCE };
_Static_assert(sizeof(guard) % 16 == 0, "bodies stay 16-aligned");

typedef enum finding {
    USE_AFTER_FREE = 1, DOUBLE_FREE, WRONG_POINTER, WRONG_TAG, OVERRUN,
    UNDERRUN,
} finding;

static const char *const texts[] = {
    [USE_AFTER_FREE] = "use after free", [DOUBLE_FREE] = "double free",
    [WRONG_POINTER] = "free of a wrong pointer", [WRONG_TAG] = "wrong tag",
    [OVERRUN] = "overrun", [UNDERRUN] = "underrun",
};

// Guards the lists, their blocks' headers, and the numbers; a leaf.
static KSPIN_LOCK lock;
static LIST_ENTRY live = { &live, &live };
static LIST_ENTRY small = { &small, &small }, large = { &large, &large };
static uint64_t small_bytes, large_pages, numbers;

void *__real_ExAllocatePoolWithTag(POOL_TYPE type, size_t size, uint32_t tag);
void __real_ExFreePoolWithTag(void *block, uint32_t tag);
void *__wrap_ExAllocatePoolWithTag(POOL_TYPE type, size_t size, uint32_t tag);
void __wrap_ExFreePoolWithTag(void *block, uint32_t tag);
_Noreturn void __real_hal_exit(uint8_t code);
_Noreturn void __wrap_hal_exit(uint8_t code);

// ---- Findings -------------------------------------------------------------

static void tag_text(uint32_t tag, char text[5])
{
    memcpy(text, &tag, sizeof(tag));
    text[4] = '\0';
    for (int i = 0; i < 4; i++)
        if (text[i] < ' ' || text[i] > '~')
            text[i] = '.';
}

// at: what was passed, or where the damage begins. g: its block, or NULL.
static _Noreturn void stop(finding what, const void *at, const guard *g)
{
    static char text[TEXT_LENGTH];
    char tag[5];
    if (!g) {
        ke_bugcheck_note = texts[what];
        KeBugCheckEx(BAD_POOL_CALLER, what, (uintptr_t)at, 0, 0);
    }
    tag_text(g->tag, tag);
    int length = rtl_snprintf(
        text, sizeof(text), "%s at byte %lld of %llu, tag %s, allocated at "
        "0x%016llx at 0x%016llx", texts[what],
        (long long)((const uint8_t *)at - g->body),
        (unsigned long long)g->size, tag,
        (unsigned long long)g->allocated[0],
        (unsigned long long)g->allocated[1]);
    if (g->state != (LIVE ^ (uintptr_t)g) && g->freed[0])
        rtl_snprintf(text + length, sizeof(text) - (size_t)length,
                     ", freed at 0x%016llx at 0x%016llx",
                     (unsigned long long)g->freed[0],
                     (unsigned long long)g->freed[1]);
    ke_bugcheck_note = text;
    KeBugCheckEx(BAD_POOL_CALLER, what, (uintptr_t)g->body, g->tag,
                 g->allocated[0]);
}

// The first byte that is not what it should be, or NULL.
static const uint8_t *find_other(const uint8_t *from, size_t length,
                                 uint8_t byte)
{
    const uint8_t *end = from + length;
    uint64_t word;
    memset(&word, byte, sizeof(word));
    while ((uintptr_t)from % sizeof(word) == 0 &&
           from + sizeof(word) <= end &&
           *(const uint64_t *)(const void *)from == word)
        from += sizeof(word);
    for (; from < end; from++)
        if (*from != byte)
            return from;
    return NULL;
}

static void check_fences(const guard *g, finding before, finding behind)
{
    const uint8_t *at = find_other(g->body + g->size, FENCE, FENCE_BYTE);
    if (at)
        stop(behind, at, g);
    at = find_other(g->fence, FENCE, FENCE_BYTE);
    if (at)
        stop(before, at, g);
}

// A block that nobody may know any more.
static void check_freed(const guard *g)
{
    const uint8_t *at = find_other(g->body, g->size, FREED_BYTE);
    if (at)
        stop(USE_AFTER_FREE, at, g);
    check_fences(g, USE_AFTER_FREE, USE_AFTER_FREE);
}

// The entry that is not linked as it should be: this one, one beside it, or
// NULL.
static const LIST_ENTRY *find_unlinked(const LIST_ENTRY *entry)
{
    if (!poolguard_can_read(entry->Flink) ||
        !poolguard_can_read(entry->Blink))
        return entry;
    return entry->Flink->Blink != entry   ? entry->Flink
           : entry->Blink->Flink != entry ? entry->Blink
                                          : NULL;
}

// Checks the blocks of a list from one end, as far as links can be trusted. A
// damaged header comes last: it may have been overrun from the block in front,
// which then says so. Lock held.
static const guard *check_from(const LIST_ENTRY *head, bool forward,
                               uint64_t state)
{
    const guard *damaged = NULL;
    const LIST_ENTRY *entry = forward ? head->Flink : head->Blink;
    while (entry != head) {
        const guard *g = CONTAINING_RECORD(entry, guard, entry);
        if (g->state != (state ^ (uintptr_t)g))
            damaged = g;
        else if (state == LIVE)
            check_fences(g, UNDERRUN, OVERRUN);
        else
            check_freed(g);
        const LIST_ENTRY *bad = find_unlinked(entry);
        if (bad)
            return CONTAINING_RECORD(bad, guard, entry);
        entry = forward ? entry->Flink : entry->Blink;
    }
    return damaged;
}

static void check_list(const LIST_ENTRY *head, uint64_t state)
{
    const guard *damaged = check_from(head, true, state);
    if (!damaged)
        return;
    check_from(head, false, state);
    stop(state == LIVE ? UNDERRUN : USE_AFTER_FREE, damaged, damaged);
}

static void check_all(void)
{
    check_list(&live, LIVE);
    check_list(&small, FREED);
    check_list(&large, FREED);
}

void poolguard_check(void)
{
    KIRQL old;
    KeAcquireSpinLock(&lock, &old);
    check_all();
    KeReleaseSpinLock(&lock, old);
}

// The live block that address lies in, or NULL. Lock held; lists are sound.
static const guard *find_block(uintptr_t address)
{
    RTL_FOR_EACH_RECORD(const guard, g, &live, entry)
        if (address - (uintptr_t)g < EXTRA + g->size)
            return g;
    return NULL;
}

// The header of what is to be freed, if it may be. Lock held.
static guard *check_free(void *body, uint32_t tag)
{
    guard *g = CONTAINING_RECORD(body, guard, body);
    uintptr_t state = 0;
    if ((uintptr_t)body % 16 == 0 && poolguard_can_read(g) &&
        poolguard_can_read(body))
        state = g->state ^ (uintptr_t)g;
    if (state == FREED || state == RELEASED)
        stop(DOUBLE_FREE, body, g);
    if (state != LIVE) {
        check_all();    // says more if its header was damaged
        stop(WRONG_POINTER, body, find_block((uintptr_t)body));
    }
    check_fences(g, UNDERRUN, OVERRUN);
    if (tag && g->tag != tag)
        stop(WRONG_TAG, body, g);
    return g;
}

// ---- The pool's two functions ---------------------------------------------

// Who called the function with this frame, and who called that one. Both are C
// and keep frame pointers.
static void note_callers(const uint64_t *frame, uint64_t to[CALLERS])
{
    for (int i = 0; i < CALLERS; i++) {
        to[i] = frame[1];
        frame = (const uint64_t *)frame[0];
    }
}

// A block of so many more bytes is live, as the kernel counts.
static void count(int64_t blocks, int64_t bytes, int64_t pages)
{
    __atomic_fetch_add(&ex_pool_blocks, (uint64_t)blocks, __ATOMIC_RELAXED);
    __atomic_fetch_add(&ex_pool_bytes, (uint64_t)bytes, __ATOMIC_RELAXED);
    __atomic_fetch_add(&ex_pool_pages, (uint64_t)pages, __ATOMIC_RELAXED);
}

void *__wrap_ExAllocatePoolWithTag(POOL_TYPE type, size_t size, uint32_t tag)
{
    guard *g = size <= UINT32_MAX
                   ? __real_ExAllocatePoolWithTag(type, size + EXTRA, tag)
                   : NULL;
    if (!g)
        return NULL;
    if (g->state == (RELEASED ^ (uintptr_t)g))
        check_freed(g);    // who had this memory last may still write to it
    *g = (guard){ .state = LIVE ^ (uintptr_t)g, .size = size, .tag = tag };
    if (size + EXTRA > EX_POOL_LARGE)
        g->pages = (uint32_t)BYTES_TO_PAGES(size + EXTRA + BLOCK_HEADER);
    note_callers(__builtin_frame_address(0), g->allocated);
    memset(g->fence, FENCE_BYTE, FENCE);
    memset(g->body, FRESH_BYTE, size);
    memset(g->body + size, FENCE_BYTE, FENCE);
    count(0, -EXTRA, 0);
    KIRQL old;
    KeAcquireSpinLock(&lock, &old);
    g->number = ++numbers;
    InsertTailList(&live, &g->entry);
    KeReleaseSpinLock(&lock, old);
    return g->body;
}

// Takes the oldest block out of a quarantine that is too full; NULL if none
// is. The large one is only looked at when the caller may free large blocks.
// Lock held.
static guard *take_oldest(bool may_be_large)
{
    LIST_ENTRY *head = small_bytes > SMALL_LIMIT ? &small
                       : may_be_large && large_pages > LARGE_LIMIT ? &large
                                                                   : NULL;
    if (!head)
        return NULL;
    guard *g = CONTAINING_RECORD(head->Flink, guard, entry);
    if (g->state != (FREED ^ (uintptr_t)g) || find_unlinked(&g->entry))
        stop(USE_AFTER_FREE, g, g);
    RemoveEntryList(&g->entry);
    small_bytes -= g->pages ? 0 : g->size + EXTRA;
    large_pages -= g->pages;
    check_freed(g);
    g->state = RELEASED ^ (uintptr_t)g;
    return g;
}

void __wrap_ExFreePoolWithTag(void *body, uint32_t tag)
{
    KIRQL old;
    KeAcquireSpinLock(&lock, &old);
    guard *g = check_free(body, tag);
    bool is_large = g->pages;
    RemoveEntryList(&g->entry);
    InsertTailList(is_large ? &large : &small, &g->entry);
    note_callers(__builtin_frame_address(0), g->freed);
    memset(body, FREED_BYTE, g->size);
    g->state = FREED ^ (uintptr_t)g;
    small_bytes += is_large ? 0 : g->size + EXTRA;
    large_pages += g->pages;
    // Pages of large ones count as cut ones meanwhile: so they are not lost.
    count(-1, -(int64_t)g->size, g->pages);
    while ((g = take_oldest(is_large)) != NULL) {
        KeReleaseSpinLock(&lock, old);
        count(1, (int64_t)g->size + EXTRA, -(int64_t)g->pages);
        __real_ExFreePoolWithTag(g, g->tag);
        KeAcquireSpinLock(&lock, &old);
    }
    KeReleaseSpinLock(&lock, old);
}

// ---- Who has what ---------------------------------------------------------

typedef struct owner {
    uint64_t at[CALLERS];
    uint64_t blocks, bytes;
    uint32_t tag;
} owner;

uint64_t poolguard_mark(void)
{
    return numbers;
}

// Adds a block to its owner's row; false if there is no row left.
static bool add_to_owner(owner *owners, const guard *g)
{
    for (int i = 0; i < OWNERS; i++) {
        owner *o = &owners[i];
        if (!o->blocks) {
            memcpy(o->at, g->allocated, sizeof(o->at));
            o->tag = g->tag;
        }
        if (o->tag != g->tag || memcmp(o->at, g->allocated, sizeof(o->at)))
            continue;
        o->blocks++;
        o->bytes += g->size;
        return true;
    }
    return false;
}

void poolguard_report(uint64_t mark, void (*say)(const char *line))
{
    static owner owners[OWNERS];
    memset(owners, 0, sizeof(owners));
    uint64_t others = 0;
    KIRQL old;
    KeAcquireSpinLock(&lock, &old);
    RTL_FOR_EACH_RECORD(const guard, g, &live, entry)
        if (g->number > mark)
            others += !add_to_owner(owners, g);
    KeReleaseSpinLock(&lock, old);
    char line[TEXT_LENGTH], tag[5];
    for (const owner *o = owners; o < owners + OWNERS && o->blocks; o++) {
        tag_text(o->tag, tag);
        rtl_snprintf(line, sizeof(line), "# %s: %llu bytes in %llu blocks, "
                     "allocated at 0x%016llx at 0x%016llx\n", tag,
                     (unsigned long long)o->bytes,
                     (unsigned long long)o->blocks,
                     (unsigned long long)o->at[0],
                     (unsigned long long)o->at[1]);
        say(line);
    }
    rtl_snprintf(line, sizeof(line), "# %llu blocks of others\n",
                 (unsigned long long)others);
    say(line);
}

static void say_on_console(const char *line)
{
    hal_print("%s", line);
}

// A program that failed may have found a leak: then this says whose.
void __wrap_hal_exit(uint8_t code)
{
    if (code == HAL_EXIT_FAILURE) {
        say_on_console("*** POOL: live blocks\n");
        poolguard_report(0, say_on_console);
    }
    __real_hal_exit(code);
}
