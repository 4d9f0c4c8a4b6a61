// pool.c - what must not be done to pool, and stops the checked kernel; one
// boot each. tests/qemu/test_pool.py knows what each must say.

#include "tests/kernel/ktest.h"

#define TAG EX_TAG('F', 'a', 't', 'l')

// Calls must stay calls: their addresses are what the report is about.
#ifdef __clang__
#define OUT_OF_LINE __attribute__((noinline))
#else
#define OUT_OF_LINE __attribute__((noinline, noclone))
#endif

enum { SIZE = 40, LARGE = 5000, NEIGHBOURS = 100, MANY = 3000 };

static OUT_OF_LINE uint8_t *take(size_t size)
{
    uint8_t *block = ExAllocatePoolWithTag(NonPagedPool, size, TAG);
    __asm__ volatile("" ::: "memory");
    return block;
}

static OUT_OF_LINE void give(void *block)
{
    ExFreePoolWithTag(block, TAG);
    __asm__ volatile("" ::: "memory");
}

// The compiler must not know that it is a freed block.
static OUT_OF_LINE void write_to(volatile uint8_t *at)
{
    *at = 1;
}

KTEST(pool_write_after_free, "")
{
    uint8_t *block = take(SIZE);
    give(block);
    write_to(block + 8);    // seen when the test has ended
}

KTEST(pool_write_in_quarantine, "")
{
    uint8_t *block = take(SIZE);
    give(block);
    write_to(block + 8);
    for (int i = 0; i < MANY; i++)
        give(take(SIZE));
    hal_exit(HAL_EXIT_SUCCESS);
}

KTEST(pool_write_after_quarantine, "")
{
    for (int i = 0; i < NEIGHBOURS; i++)    // its page stays the pool's
        take(SIZE);
    uint8_t *block = take(SIZE);
    for (int i = 0; i < NEIGHBOURS; i++)
        take(SIZE);
    give(block);
    for (int i = 0; i < MANY; i++)
        give(take(4 * SIZE));
    write_to(block + 8);    // it is free, and nobody has it yet
    for (int i = 0; i < MANY; i++)
        take(SIZE);
    hal_exit(HAL_EXIT_SUCCESS);
}

KTEST(pool_write_after_free_large, "")
{
    uint8_t *block = take(LARGE);
    give(block);
    write_to(block + 8);
}

KTEST(pool_read_after_free, "")
{
    LIST_ENTRY *volatile list = (LIST_ENTRY *)(void *)take(SIZE);
    list->Flink = list;
    give(list);
    EXPECT(list->Flink->Flink == list);    // what it says is no address
}

KTEST(pool_read_of_fresh, "")
{
    LIST_ENTRY *volatile list = (LIST_ENTRY *)(void *)take(SIZE);
    EXPECT(list->Flink->Flink == list);
}

KTEST(pool_double_free, "")
{
    uint8_t *block = take(SIZE);
    give(block);
    give(block);
}

KTEST(pool_free_inside, "")
{
    give(take(SIZE) + 16);
}

KTEST(pool_free_of_stack, "")
{
    uint64_t local[32] = { 0 };
    give(&local[16]);
}

KTEST(pool_free_of_nothing, "")
{
    give((void *)0xCDCDCDCDCDCDCDC0ull);
}

KTEST(pool_wrong_tag, "")
{
    ExFreePoolWithTag(take(SIZE), EX_TAG('O', 't', 'h', 'r'));
}

KTEST(pool_overrun, "")
{
    uint8_t *block = take(SIZE);
    write_to(block + SIZE);
    give(block);
}

KTEST(pool_overrun_large, "")
{
    uint8_t *block = take(LARGE);
    write_to(block + LARGE);
    give(block);
}

KTEST(pool_overrun_far, "")
{
    uint8_t *blocks[2] = { take(SIZE), take(SIZE) };
    uint8_t *first = MIN(blocks[0], blocks[1]);
    uint8_t *second = MAX(blocks[0], blocks[1]);
    for (uint8_t *at = first + SIZE; at < second; at++)
        write_to(at);    // as far as the other's header, which is freed first
    give(second);
}

KTEST(pool_underrun, "")
{
    uint8_t *block = take(SIZE);
    write_to(block - 1);
    give(block);
}

KTEST(pool_underrun_far, "")
{
    uint8_t *block = take(SIZE);
    for (int i = 1; i <= 24; i++)
        write_to(block - i);
    give(block);
}

// ---- IRPs -----------------------------------------------------------------

static OUT_OF_LINE IRP *take_irp(void)
{
    IRP *irp = IoAllocateIrp(1);
    __asm__ volatile("" ::: "memory");
    return irp;
}

static OUT_OF_LINE void give_irp(IRP *irp)
{
    IoFreeIrp(irp);
    __asm__ volatile("" ::: "memory");
}

KTEST(pool_irp_after_free, "")
{
    IRP *irp = take_irp();
    give_irp(irp);
    write_to((volatile uint8_t *)&irp->Cancel);
}

KTEST(pool_irp_freed_twice, "")
{
    IRP *irp = take_irp();
    give_irp(irp);
    give_irp(irp);
}

// ---- Not fatal, but a failure ---------------------------------------------

KTEST(pool_leak, "")
{
    take(SIZE);
    take(SIZE);
}
