// ut_memory.c - virtual memory: what is refused, and freeing under DMA.
// bus: nvme

#include "tests/user/ktap.h"

#define PAGE 4096u
#define TOP  0x00007FFFFFFFFFFFull

static NTSTATUS allocate(void **base, size_t size, uint32_t protect)
{
    return NtAllocateVirtualMemory(NtCurrentProcess(), base, &size,
                                   MEM_COMMIT | MEM_RESERVE, protect);
}

static NTSTATUS release(void *base, size_t size)
{
    return NtFreeVirtualMemory(NtCurrentProcess(), &base, &size, MEM_RELEASE);
}

static NTSTATUS protect(void *base, size_t size, uint32_t how, uint32_t *old)
{
    return NtProtectVirtualMemory(NtCurrentProcess(), &base, &size, how, old);
}

static NTSTATUS at(uint64_t address, size_t size)
{
    void *base = (void *)address;
    NTSTATUS status = allocate(&base, size, PAGE_READWRITE);
    if (NT_SUCCESS(status))
        release(base, 0);
    return status;
}

static void allocation(void)
{
    rule("memory is zeroed, whole pages, at 64 KiB");
    void *base = NULL;
    size_t size = 5000;
    CHECK_OK(NtAllocateVirtualMemory(NtCurrentProcess(), &base, &size,
                                     MEM_COMMIT, PAGE_READWRITE));
    CHECK_EQ(size, 2 * PAGE);
    CHECK_EQ((uint64_t)base & 0xFFFF, 0);
    CHECK((uint64_t)base >= 1ull << 32);
    for (size_t i = 0; i < size; i++)
        if (!CHECK(((uint8_t *)base)[i] == 0))
            break;
    memset(base, 0x5A, size);
    rule("where something is already");
    CHECK_STATUS(at((uint64_t)base, PAGE), STATUS_CONFLICTING_ADDRESSES);
    CHECK_STATUS(at((uint64_t)base - PAGE, 2 * PAGE),
                 STATUS_CONFLICTING_ADDRESSES);
    rule("freed memory does not come back with its content");
    CHECK_OK(release(base, 0));
    void *again = base;
    CHECK_OK(allocate(&again, PAGE, PAGE_READWRITE));
    CHECK(again == base && *(uint8_t *)again == 0);
    CHECK_OK(release(again, 0));
    rule("a page stays free around each, also if they end at 64 KiB");
    char *ring[5] = { NULL };
    for (int i = 0; i < 5; i++)
        CHECK_OK(allocate((void **)&ring[i], 16 * PAGE, PAGE_READWRITE));
    CHECK_OK(release(ring[2], 0));    // a gap, in which it would just fit
    ring[2] = NULL;
    CHECK_OK(allocate((void **)&ring[2], 17 * PAGE, PAGE_READWRITE));
    for (int i = 0; i < 5; i++) {
        MEMORY_BASIC_INFORMATION below, above;
        size = (i == 2 ? 17 : 16) * PAGE;
        CHECK_OK(NtQueryVirtualMemory(NtCurrentProcess(), ring[i] - 1,
                                      &below));
        CHECK_OK(NtQueryVirtualMemory(NtCurrentProcess(), ring[i] + size,
                                      &above));
        CHECK(below.State == MEM_FREE && above.State == MEM_FREE);
    }
    for (int i = 0; i < 5; i++)
        CHECK_OK(release(ring[i], 0));
    rule("below 4 GiB, in the kernel, and round the corner");
    static const uint64_t bad[] = { 0x1000, 0x400000, 0xFFFFF000ull, TOP + 1,
                                    KERNEL_BEGINS, UINT64_MAX - PAGE };
    for (int i = 0; i < 6; i++)
        CHECK_STATUS(at(bad[i], PAGE), STATUS_INVALID_PARAMETER);
    CHECK_STATUS(at(0x100000000ull + (1ull << 40), 0),
                 STATUS_INVALID_PARAMETER);
    CHECK(!NT_SUCCESS(at(0x7FFFFFF00000ull, 1ull << 40)));
    CHECK(!NT_SUCCESS(at(1ull << 40, SIZE_MAX)));
    CHECK(!NT_SUCCESS(at(1ull << 40, 1ull << 46)));
    CHECK_STATUS(at(0, 1ull << 40), STATUS_NO_MEMORY);
    CHECK(!NT_SUCCESS(at(0, SIZE_MAX)));
    rule("the highest page: system calls must not return beyond it");
    base = (void *)(TOP & ~(uint64_t)(PAGE - 1));
    CHECK(!NT_SUCCESS(allocate(&base, PAGE, PAGE_READWRITE)));
    rule("kinds of allocation that there are not");
    base = NULL;
    size = PAGE;
    CHECK_STATUS(NtAllocateVirtualMemory(NtCurrentProcess(), &base, &size,
                                         MEM_RESERVE, PAGE_READWRITE),
                 STATUS_INVALID_PARAMETER);
    CHECK_STATUS(NtAllocateVirtualMemory(NtCurrentProcess(), &base, &size, 0,
                                         PAGE_READWRITE),
                 STATUS_INVALID_PARAMETER);
    CHECK_STATUS(NtFreeVirtualMemory(NtCurrentProcess(), &base, &size, 0x4000),
                 STATUS_INVALID_PARAMETER);
}

static void protection(void)
{
    static const uint8_t code[] = { 0xB8, 42, 0, 0, 0, 0xC3 };    // 42
    void *base = NULL;
    uint32_t old = 99;
    rule("W^X: never writable and executable");
    CHECK_STATUS(allocate(&base, PAGE, PAGE_EXECUTE_READWRITE),
                 STATUS_INVALID_PAGE_PROTECTION);
    static const uint32_t bad[] = { 0, 3, 0x08, 0x80, 0x100, 0xFFFFFFFF };
    for (int i = 0; i < 6; i++)
        CHECK_STATUS(allocate(&base, PAGE, bad[i]),
                     STATUS_INVALID_PAGE_PROTECTION);
    CHECK_OK(allocate(&base, 4 * PAGE, PAGE_READWRITE));
    CHECK_STATUS(protect(base, PAGE, PAGE_EXECUTE_READWRITE, &old),
                 STATUS_INVALID_PAGE_PROTECTION);
    rule("written, then executed");
    memcpy(base, code, sizeof(code));
    CHECK_OK(protect(base, PAGE, PAGE_EXECUTE_READ, &old));
    CHECK_EQ(old, PAGE_READWRITE);
    CHECK_EQ(((int (*)(void))base)(), 42);
    rule("the kernel keeps to the protection as well");
    int64_t *word = base;
    CHECK_STATUS(NtQuerySystemTime(word), STATUS_ACCESS_VIOLATION);
    CHECK_OK(protect(base, PAGE, PAGE_READONLY, &old));
    CHECK_EQ(old, PAGE_EXECUTE_READ);
    CHECK_STATUS(NtQuerySystemTime(word), STATUS_ACCESS_VIOLATION);
    CHECK_OK(protect(base, PAGE, PAGE_NOACCESS, &old));
    CHECK_STATUS(NtDelayExecution(false, word), STATUS_ACCESS_VIOLATION);
    CHECK_OK(protect(base, PAGE, PAGE_READWRITE, &old));
    CHECK(memcmp(base, code, sizeof(code)) == 0);
    CHECK_OK(NtQuerySystemTime(word));
    rule("a range that is not all allocated");
    CHECK_STATUS(protect(base, 5 * PAGE, PAGE_READONLY, &old),
                 STATUS_CONFLICTING_ADDRESSES);
    CHECK(!NT_SUCCESS(protect((void *)KERNEL_BEGINS, PAGE, PAGE_READWRITE,
                              &old)));
    rule("looking at memory");
    MEMORY_BASIC_INFORMATION basic;
    CHECK_OK(protect((char *)base + PAGE, PAGE, PAGE_READONLY, &old));
    CHECK_OK(NtQueryVirtualMemory(NtCurrentProcess(), base, &basic));
    CHECK(basic.BaseAddress == base && basic.AllocationBase == base &&
          basic.RegionSize == PAGE && basic.State == MEM_COMMIT &&
          basic.Protect == PAGE_READWRITE);
    CHECK_OK(NtQueryVirtualMemory(NtCurrentProcess(), (char *)base + PAGE,
                                  &basic));
    CHECK(basic.RegionSize == PAGE && basic.Protect == PAGE_READONLY);
    CHECK_OK(NtQueryVirtualMemory(NtCurrentProcess(), NULL, &basic));
    CHECK(basic.State == MEM_FREE && basic.AllocationBase == NULL);
    CHECK_STATUS(NtQueryVirtualMemory(NtCurrentProcess(), KERNEL_TEXT, &basic),
                 STATUS_INVALID_PARAMETER);
    rule("freeing in part, from the middle and both ends");
    CHECK_OK(release((char *)base + PAGE, PAGE));
    CHECK_STATUS(release((char *)base + PAGE, PAGE),
                 STATUS_CONFLICTING_ADDRESSES);
    CHECK_STATUS(release(base, 2 * PAGE), STATUS_CONFLICTING_ADDRESSES);
    CHECK_OK(release(base, 0));
    CHECK_OK(release((char *)base + 3 * PAGE, PAGE));
    CHECK_OK(release((char *)base + 2 * PAGE, 0));
    CHECK_STATUS(release(base, 0), STATUS_CONFLICTING_ADDRESSES);
    CHECK(!NT_SUCCESS(release(NULL, 0)));
    CHECK(!NT_SUCCESS(release(KERNEL_TEXT, 0)));
}

static void in_flight(void)
{
    enum { SIZE = 1 << 20 };
    HANDLE disk = open_disk(0);
    HANDLE event = new_event(NotificationEvent, false);
    IO_STATUS_BLOCK iosb;
    static uint8_t sector[PAGE] __attribute__((aligned(4096)));
    rule("a buffer may be freed, and used again, while a device writes there");
    for (int i = 0; i < 20; i++) {
        void *base = NULL;
        CHECK_OK(allocate(&base, SIZE, PAGE_READWRITE));
        CHECK_STATUS(NtReadFile(disk, event, NULL, NULL, &iosb, base, SIZE, 0),
                     STATUS_PENDING);
        CHECK_OK(release(base, 0));
        void *other = base;
        CHECK_OK(allocate(&other, SIZE, PAGE_READWRITE));
        memset(other, 0x77, SIZE);
        CHECK_OK(wait(event));
        CHECK(iosb.Status == STATUS_SUCCESS && iosb.Information == SIZE);
        for (size_t j = 0; j < SIZE; j++)
            if (((uint8_t *)other)[j] != 0x77) {
                CHECK(!"the device wrote into memory that is another's");
                break;
            }
        CHECK_OK(release(other, 0));
    }
    rule("a device reads what was there when the write was asked for");
    void *base = NULL;
    CHECK_OK(allocate(&base, PAGE, PAGE_READWRITE));
    memset(base, 0x31, PAGE);
    CHECK_STATUS(NtWriteFile(disk, event, NULL, NULL, &iosb, base, PAGE, 0),
                 STATUS_PENDING);
    CHECK_OK(release(base, 0));
    CHECK_OK(wait(event));
    CHECK_STATUS(NtReadFile(disk, event, NULL, NULL, &iosb, sector, PAGE, 0),
                 STATUS_PENDING);
    CHECK_OK(wait(event));
    for (size_t i = 0; i < PAGE; i++)
        if (!CHECK(sector[i] == 0x31))
            break;
    rule("the IOSB may go as well");
    CHECK_OK(allocate(&base, PAGE, PAGE_READWRITE));
    CHECK_STATUS(NtReadFile(disk, event, NULL, NULL, base, sector, PAGE, 0),
                 STATUS_PENDING);
    CHECK_OK(release(base, 0));
    CHECK_OK(wait(event));
    rule("a device writes to writable memory only");
    CHECK_OK(allocate(&base, PAGE, PAGE_READONLY));
    CHECK_STATUS(NtReadFile(disk, event, NULL, NULL, &iosb, base, PAGE, 0),
                 STATUS_ACCESS_VIOLATION);
    CHECK_STATUS(NtWriteFile(disk, event, NULL, NULL, &iosb, base, PAGE, 0),
                 STATUS_PENDING);
    CHECK_OK(wait(event));
    rule("a buffer whose middle is missing");
    CHECK_STATUS(NtWriteFile(disk, event, NULL, NULL, &iosb, base, 2 * PAGE,
                             0), STATUS_ACCESS_VIOLATION);
    CHECK_OK(release(base, 0));
    NtClose(disk);
    NtClose(event);
}

static void without_a_place_for_the_answer(void)
{
    rule("what cannot be told is not done");
    struct { void *base; size_t size; } *box;
    void *base, *page;
    uint32_t old;
    MEMORY_BASIC_INFORMATION is;
    base = nt_allocate_pages(2 * PAGE);
    page = box = nt_allocate_pages(PAGE);
    box->base = base;
    box->size = PAGE;
    size_t size = PAGE;
    CHECK_OK(NtProtectVirtualMemory(NtCurrentProcess(), &page, &size,
                                    PAGE_READONLY, &old));
    CHECK_STATUS(NtProtectVirtualMemory(NtCurrentProcess(), &box->base,
                                        &box->size, PAGE_READONLY, &old),
                 STATUS_ACCESS_VIOLATION);
    CHECK_STATUS(NtFreeVirtualMemory(NtCurrentProcess(), &box->base,
                                     &box->size, MEM_RELEASE),
                 STATUS_ACCESS_VIOLATION);
    CHECK_OK(NtQueryVirtualMemory(NtCurrentProcess(), base, &is));
    CHECK(is.State == MEM_COMMIT && is.Protect == PAGE_READWRITE);
    CHECK_OK(release(base, 0));
    CHECK_OK(release(box, 0));
}

static void under_another_thread(void)
{
    static char *const how[] = { "unmaps", "protects" };
    rule("a page that goes while another processor writes to it");
    for (int i = 0; i < 10; i++) {
        HANDLE child = start_child(how[i % 2], NULL, NULL);
        CHECK_OK(wait(child));
        CHECK_STATUS(process_status(child), STATUS_ACCESS_VIOLATION);
        NtClose(child);
    }
}

int main(void)
{
    under_another_thread();
    without_a_place_for_the_answer();
    allocation();
    protection();
    in_flight();
    return ktap_end();
}
