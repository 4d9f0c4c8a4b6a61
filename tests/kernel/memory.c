// memory.c - pool, frames, MDLs, objects and handles: what comes back, and
// when. The leak check around every test counts the same things.

#include "tests/kernel/ktest.h"
#include "tests/kernel/poolguard.h"

#define TAG EX_TAG('K', 't', 's', 't')

enum { BLOCKS = 48, ROUNDS = 400, LARGEST = 3 * PAGE_SIZE };

// ---- Pool -----------------------------------------------------------------

typedef struct block {
    uint8_t *at;
    size_t size;
    uint8_t fill;
} block;

static bool is_intact(const block *b)
{
    for (size_t i = 0; i < b->size; i++)
        if (b->at[i] != b->fill)
            return false;
    return true;
}

static void give(block *b)
{
    EXPECT(is_intact(b));
    ExFreePoolWithTag(b->at, TAG);
    b->at = NULL;
}

static void take(block *b, size_t size)
{
    *b = (block){ .at = ExAllocatePoolWithTag(NonPagedPool, size, TAG),
                  .size = size, .fill = (uint8_t)ktest_random() };
    EXPECT(b->at && (uintptr_t)b->at % 16 == 0);
    if (b->at)
        memset(b->at, b->fill, size);
}

KTEST(pool_blocks_of_every_size, "")
{
    uint64_t bytes = ex_pool_bytes, blocks = ex_pool_blocks;
    for (size_t size = 1; size <= LARGEST; size += 1 + size / 16) {
        block a, b;
        take(&a, size);
        take(&b, size);
        if (!a.at || !b.at)
            break;
        EXPECT(ex_pool_bytes == bytes + 2 * size);
        EXPECT(ex_pool_blocks == blocks + 2);
        EXPECT(a.at + size <= b.at || b.at + size <= a.at);
        give(&a);
        give(&b);
    }
    EXPECT(ex_pool_bytes == bytes && ex_pool_blocks == blocks);
}

KTEST(pool_keeps_its_blocks_apart, "")
{
    block blocks[BLOCKS] = { { .at = NULL } };
    for (int round = 0; round < ROUNDS; round++) {
        block *b = &blocks[ktest_random() % BLOCKS];
        if (b->at)
            give(b);
        else
            take(b, 1 + ktest_random() % LARGEST);
    }
    for (int i = 0; i < BLOCKS; i++)
        if (blocks[i].at)
            give(&blocks[i]);
}

KTEST(pool_refuses_the_impossible, "")
{
    EXPECT(!ExAllocatePoolWithTag(NonPagedPool, ~(size_t)0 >> 1, TAG));
    EXPECT(!ExAllocatePoolWithTag(NonPagedPool, mm_total_frames << PAGE_SHIFT,
                                  TAG));
}

// ---- Frames ---------------------------------------------------------------

KTEST(frames_come_back, "")
{
    KIRQL old = KeRaiseIrqlToDpcLevel();    // nobody else takes one meanwhile
    uint64_t before = mm_available_frames;
    PFN_NUMBER frame = mm_allocate_frame(0);
    uint64_t *page = frame ? mm_frame_to_virt(frame) : NULL;
    uint64_t sum = 0;
    for (size_t i = 0; page && i < PAGE_SIZE / sizeof(*page); i++) {
        sum |= page[i];
        page[i] = ~0ull;
    }
    uint64_t taken = mm_available_frames;
    if (frame)
        mm_release_frame(frame);
    uint64_t after = mm_available_frames;
    KeLowerIrql(old);
    EXPECT(frame && sum == 0);
    EXPECT(taken == before - 1 && after == before);
}

KTEST(system_pages_come_back, "")
{
    enum { PAGES = 5 };
    void *first = mm_allocate_system_pages(PAGES);    // page tables
    EXPECT(first);
    if (!first)
        return;
    mm_free_system_pages(first, PAGES);
    uint64_t before = mm_available_frames;
    char *pages = mm_allocate_system_pages(PAGES);
    EXPECT(pages && mm_available_frames == before - PAGES);
    if (!pages)
        return;
    bool zero = true;
    for (size_t i = 0; i < PAGES * PAGE_SIZE; i++)
        zero &= pages[i] == 0;
    memset(pages, 0x5A, PAGES * PAGE_SIZE);
    EXPECT(zero && poolguard_can_read(pages));
    EXPECT(!poolguard_can_read(pages - 1));    // the guard page
    mm_free_system_pages(pages, PAGES);
    EXPECT(!poolguard_can_read(pages));
    EXPECT(mm_available_frames == before);
}

// ---- MDLs -----------------------------------------------------------------

KTEST(mdl_describes_pool, "")
{
    enum { LENGTH = 2 * PAGE_SIZE, SKIPPED = 100, COPIED = 5000 };
    uint8_t *pool = ExAllocatePoolWithTag(NonPagedPool, LENGTH, TAG);
    uint8_t *copy = ExAllocatePoolWithTag(NonPagedPool, LENGTH, TAG);
    uint8_t *start = pool ? pool + SKIPPED : NULL;
    MDL *mdl = IoAllocateMdl((uint64_t)start, LENGTH - SKIPPED);
    EXPECT(pool && copy && mdl);
    if (!pool || !copy || !mdl)
        return;
    MmBuildMdlForNonPagedPool(mdl, start, LENGTH - SKIPPED);
    EXPECT(mdl->ByteCount == LENGTH - SKIPPED && !mdl->locked);
    EXPECT(mdl->ByteOffset == BYTE_OFFSET(start));
    memset(pool, 0, LENGTH);
    for (size_t i = 0; i < LENGTH; i++)
        copy[i] = (uint8_t)(i * 7 + 1);
    mm_copy_to_mdl(mdl, SKIPPED, copy, COPIED);    // across the pages' border
    EXPECT(!memcmp(start + SKIPPED, copy, COPIED));
    EXPECT(start[SKIPPED - 1] == 0 && start[SKIPPED + COPIED] == 0);
    ExFreePoolWithTag(mdl, EX_TAG('I', 'o', 'p', ' '));
    ExFreePoolWithTag(copy, TAG);
    ExFreePoolWithTag(pool, TAG);
}

// ---- Objects and handles --------------------------------------------------

static int deleted, closed;
static uint32_t handles_left;
static KIRQL deleted_at;

static void note_delete(void *object)
{
    (void)object;
    deleted++;
    deleted_at = KeGetCurrentIrql();
}

static void note_close(EPROCESS *process, void *object, uint32_t handles)
{
    (void)process, (void)object;
    closed++;
    handles_left = handles;
}

static OBJECT_TYPE type = { .name = "Ktest", .generic_read = 1,
                            .generic_write = 2, .valid_access = 0x100003,
                            .close = note_close, .delete = note_delete };

static void *create(void)
{
    void *object = NULL;
    EXPECT(ob_create_object(&type, 40, &object) == STATUS_SUCCESS);
    deleted = closed = 0;
    return object;
}

KTEST(object_goes_with_its_last_reference, "")
{
    uint64_t before = ob_object_count;
    void *object = create();
    EXPECT(ob_object_count == before + 1);
    ObReferenceObject(object);
    ObDereferenceObject(object);
    EXPECT(deleted == 0);
    ObDereferenceObject(object);
    EXPECT(deleted == 1 && deleted_at == PASSIVE_LEVEL);
    EXPECT(ob_object_count == before);
}

KTEST(object_is_deleted_at_passive_only, "")
{
    for (KIRQL level = APC_LEVEL; level <= DISPATCH_LEVEL; level++) {
        KIRQL old;
        void *object = create();
        KeRaiseIrql(level, &old);
        ObDereferenceObject(object);
        int early = deleted;
        KeLowerIrql(old);
        while (ob_reap())
            continue;
        EXPECT(early == 0 && deleted == 1 && deleted_at == PASSIVE_LEVEL);
    }
}

static ob_handle_table table;

KTEST(handles_count_and_close, "")
{
    KTHREAD *thread = KeGetCurrentThread();
    ob_handle_table *own = thread->handles;
    uint64_t before = ob_handle_count;
    table.process = PsInitialSystemProcess;
    HANDLE first, second;
    ACCESS_MASK granted;
    void *found = NULL, *object = create();
    thread->handles = &table;
    ObReferenceObject(object);
    EXPECT(ob_insert_handle(&table, object, 1, &first) == STATUS_SUCCESS);
    EXPECT(ob_duplicate_handle(&table, first, &table, 0, DUPLICATE_SAME_ACCESS,
                               &second) == STATUS_SUCCESS);
    EXPECT(ob_handle_count == before + 2 && table.count == 2);
    EXPECT(ob_reference_by_handle(second, 1, &type, &found, &granted) ==
           STATUS_SUCCESS);
    EXPECT(found == object && granted == 1);
    ObDereferenceObject(found);
    EXPECT(ob_reference_by_handle(first, 2, &type, &found, NULL) ==
           STATUS_ACCESS_DENIED);
    EXPECT(ob_reference_by_handle(first, 1, &ps_thread_type, &found,
                                 NULL) == STATUS_OBJECT_TYPE_MISMATCH);
    thread->handles = own;
    EXPECT(ob_close_handle(&table, first) == STATUS_SUCCESS);
    EXPECT(ob_close_handle(&table, first) == STATUS_INVALID_HANDLE);
    EXPECT(closed == 0);    // the process has another one
    ob_close_all_handles(&table);
    EXPECT(closed == 1 && handles_left == 0 && deleted == 0);
    ObDereferenceObject(object);
    EXPECT(deleted == 1 && ob_handle_count == before);
}

// ---- Threads --------------------------------------------------------------

static void end_at_once(void *context)
{
    __atomic_add_fetch((uint32_t *)context, 1, __ATOMIC_SEQ_CST);
}

KTEST(threads_leave_nothing, "")
{
    enum { THREADS = 40 };
    uint32_t ran = 0, before = ps_thread_count;
    for (int i = 0; i < THREADS; i++) {
        ktest_thread thread;
        ktest_start(&thread, end_at_once, &ran,
                    i % 2 ? KTEST_ABOVE : KTEST_BELOW);
        ktest_join(&thread);
    }
    ps_settle();
    EXPECT(ran == THREADS && ps_thread_count == before);
}

// ---- Ring 3's memory -------------------------------------------------------

KTEST(memory_of_ring_3_that_is_not_there, "")
{
    enum { EFLAGS_AC = 1 << 18 };
    char *nowhere[] = { NULL, (char *)0x1000, (char *)0x7FFFFFFFF000,
                        (char *)(1ull << 62) };
    for (size_t i = 0; i < ARRAY_SIZE(nowhere); i++) {
        uint64_t word = 1;
        EXPECT(ke_probe_user(nowhere[i], 8) == STATUS_ACCESS_VIOLATION);
        EXPECT(!(__builtin_ia32_readeflags_u64() & EFLAGS_AC));
        EXPECT(ki_put_user_pair(nowhere[i], 1, 2) == STATUS_ACCESS_VIOLATION);
        EXPECT(!(__builtin_ia32_readeflags_u64() & EFLAGS_AC));
        EXPECT(ke_get_user(&word, (uint64_t *)nowhere[i]) ==
               STATUS_ACCESS_VIOLATION);
        EXPECT(!(__builtin_ia32_readeflags_u64() & EFLAGS_AC) && word == 1);
    }
}
