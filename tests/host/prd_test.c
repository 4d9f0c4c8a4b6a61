// prd_test.c - scatter lists for the IDE bus master, against a byte-wise model.
//
// The model walks the table as the device does and compares every byte's
// physical address with what the MDL says. Frames are drawn so that runs of
// neighbours, 64 KiB boundaries and jumps are all frequent; a failure prints
// its seed.
//
// link: drivers/ide/prd.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "drivers/ide/ide.h"

enum {
    FRAMES = 300,
    SEEDS = 3000,
    BLOCK = 65536,
};

#define FIRST_FRAME_OUT_OF_REACH (1u << (32 - PAGE_SHIFT))

static MDL *make_mdl(uint32_t byte_offset, uint32_t length)
{
    MDL *mdl = calloc(1, sizeof(MDL) + FRAMES * sizeof(PFN_NUMBER));
    assert_non_null(mdl);
    mdl->ByteOffset = (uint16_t)byte_offset;
    mdl->ByteCount = length;
    return mdl;
}

static uint64_t mdl_address(const MDL *mdl, uint32_t offset)
{
    uint64_t at = (uint64_t)mdl->ByteOffset + offset;
    return ((uint64_t)mdl->frames[at / PAGE_SIZE] * PAGE_SIZE) + at % PAGE_SIZE;
}

// Fails unless the table is what the device needs to move these bytes.
static void check_table(const MDL *mdl, uint32_t offset, uint32_t length,
                        const ide_prd *table, uint32_t used, unsigned seed)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < used; i++) {
        uint32_t size = table[i].length;    // 0 would be 64 KiB
        if (table[i].base / BLOCK != (table[i].base + (size - 1)) / BLOCK)
            fail_msg("seed %u: entry %u crosses 64 KiB", seed, i);
        if (table[i].base % 2 || size % 2 || !size)
            fail_msg("seed %u: entry %u is odd", seed, i);
        if ((table[i].flags == IDE_PRD_LAST) != (i == used - 1))
            fail_msg("seed %u: entry %u of %u ends wrongly", seed, i, used);
        for (uint32_t byte = 0; byte < size; byte++, at++)
            if (at >= length ||
                table[i].base + byte != mdl_address(mdl, offset + at))
                fail_msg("seed %u: byte %u lies elsewhere", seed, at);
    }
    if (at != length)
        fail_msg("seed %u: %u bytes of %u", seed, at, length);
}

static void random_layouts(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= SEEDS; seed++) {
        srand(seed);
        uint32_t start = (uint32_t)rand() % (PAGE_SIZE / 2) * 2;
        uint32_t total = FRAMES * PAGE_SIZE - start;
        MDL *mdl = make_mdl(start, total);
        uint32_t frame = (uint32_t)rand() % FIRST_FRAME_OUT_OF_REACH;
        for (int i = 0; i < FRAMES; i++) {
            frame = rand() % 8 ? frame + 1 : (uint32_t)rand();
            frame %= FIRST_FRAME_OUT_OF_REACH;
            mdl->frames[i] = frame;
        }
        uint32_t offset = (uint32_t)rand() % (total / 2) * 2;
        uint32_t length = (1 + (uint32_t)rand() % ((total - offset) / 2)) * 2;
        ide_prd table[IDE_MAX_PRDS];
        uint32_t used = ide_build_prds(mdl, offset, length, table);
        if (!used)
            fail_msg("seed %u: no table", seed);
        check_table(mdl, offset, length, table, used, seed);
        free(mdl);
    }
}

// The longest command of the driver fits its one page, wherever it lies.
static void longest_command_fits(void **state)
{
    (void)state;
    uint32_t length = IDE_MAX_BYTES;
    MDL *mdl = make_mdl(PAGE_SIZE - 2, length);
    for (uint32_t i = 0; i < FRAMES; i++)
        mdl->frames[i] = i * 2;
    ide_prd table[IDE_MAX_PRDS];
    uint32_t used = ide_build_prds(mdl, 0, length, table);
    assert_int_equal(used, length / PAGE_SIZE + 1);
    free(mdl);
}

static void frames_out_of_reach_are_refused(void **state)
{
    (void)state;
    MDL *mdl = make_mdl(0, 2 * PAGE_SIZE);
    mdl->frames[0] = FIRST_FRAME_OUT_OF_REACH - 1;
    mdl->frames[1] = FIRST_FRAME_OUT_OF_REACH;
    ide_prd table[2];
    assert_int_equal(ide_build_prds(mdl, 0, 2 * PAGE_SIZE, table), 0);
    assert_int_equal(ide_build_prds(mdl, 0, PAGE_SIZE, table), 1);
    assert_int_equal(table[0].base, UINT32_MAX - PAGE_SIZE + 1);
    free(mdl);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_layouts),
        cmocka_unit_test(longest_command_fits),
        cmocka_unit_test(frames_out_of_reach_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
