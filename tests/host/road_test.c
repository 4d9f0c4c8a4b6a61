// road_test.c - which interrupt, DPC, call and APC a write's road has.
//
// link: user/lib/road.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <road.h>

enum { THREAD = 20, WRITE = 4, DEVICE = 5 };

#define RECORD(time, event, irql, aux, id) \
    { time, (uint16_t)(TRACE_##event | (irql) << 8), aux, id }
#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static struct rtl_road roads[4];

static size_t find(TRACE_RECORD *first, size_t count, TRACE_RECORD *second,
                   size_t second_count)
{
    const struct rtl_trace trace = {
        .processors = second ? 2 : 1,
        .rings = { { .records = first, .count = count,
                     .first_thread = THREAD },
                   { .records = second, .count = second_count,
                     .first_thread = THREAD } } };
    return rtl_find_roads(&trace, THREAD, roads, COUNT(roads));
}

static void one_after_the_other(void **state)
{
    (void)state;
    TRACE_RECORD records[] = {
        RECORD(1, SERVICE, 0, 0, NT_SERVICE_NtWriteFile),
        RECORD(2, IRP_BUILT, 0, WRITE, 1), RECORD(3, DMA_START, 2, 0, 1),
        RECORD(100, ISR_IN, DEVICE, 0, 80), RECORD(105, ISR_OUT, DEVICE, 0, 80),
        RECORD(110, DPC_IN, 2, 0, 0), RECORD(120, IRP_COMPLETE, 2, 0, 1),
        RECORD(130, DPC_OUT, 2, 0, 0),
    };
    assert_int_equal(find(records, COUNT(records), NULL, 0), 1);
    assert_int_equal(roads[0].marks[ROAD_CALL].time, 1);
    assert_int_equal(roads[0].marks[ROAD_INTERRUPT].time, 100);
    assert_int_equal(roads[0].marks[ROAD_DPC].time, 110);
    assert_int_equal(roads[0].marks[ROAD_COMPLETE].time, 120);
}

// The second one's interrupt comes while the DPC of the first still runs.
static void an_interrupt_inside_the_dpcs(void **state)
{
    (void)state;
    TRACE_RECORD records[] = {
        RECORD(2, IRP_BUILT, 0, WRITE, 1), RECORD(3, DMA_START, 2, 0, 1),
        RECORD(4, IRP_BUILT, 0, WRITE, 2), RECORD(5, IRP_QUEUED, 2, 0, 2),
        RECORD(100, ISR_IN, DEVICE, 0, 80), RECORD(110, DPC_IN, 2, 0, 0),
        RECORD(120, IRP_COMPLETE, 2, 0, 1), RECORD(130, DMA_START, 2, 0, 2),
        RECORD(140, ISR_IN, DEVICE, 0, 80),
        RECORD(150, IRP_COMPLETE, 2, 0, 2), RECORD(160, DPC_OUT, 2, 0, 0),
    };
    assert_int_equal(find(records, COUNT(records), NULL, 0), 2);
    assert_int_equal(roads[0].marks[ROAD_INTERRUPT].time, 100);
    assert_int_equal(roads[0].marks[ROAD_DPC].time, 110);
    assert_int_equal(roads[1].marks[ROAD_INTERRUPT].time, 140);
    assert_int_equal(roads[1].marks[ROAD_DPC].time, 140);
}

// Begun on processor 1, ended on 0, where something else interrupted before,
// as the clock did, which is no device.
static void begun_on_another_processor(void **state)
{
    (void)state;
    TRACE_RECORD ends[] = {
        RECORD(40, ISR_IN, DEVICE, 0, 81), RECORD(90, ISR_IN, 13, 0, 209),
        RECORD(100, ISR_IN, DEVICE, 0, 80), RECORD(110, DPC_IN, 2, 0, 0),
        RECORD(120, IRP_COMPLETE, 2, 0, 1),
    };
    TRACE_RECORD begins[] = {
        RECORD(48, IRP_BUILT, 0, WRITE, 1), RECORD(50, DMA_START, 2, 0, 1),
    };
    assert_int_equal(find(ends, COUNT(ends), begins, COUNT(begins)), 1);
    assert_int_equal(roads[0].marks[ROAD_DMA].processor, 1);
    assert_int_equal(roads[0].marks[ROAD_INTERRUPT].time, 100);
}

// What completes it by itself, as a time-out does, shows no interrupt at all.
static void no_interrupt(void **state)
{
    (void)state;
    TRACE_RECORD records[] = {
        RECORD(1, ISR_IN, DEVICE, 0, 80), RECORD(2, IRP_BUILT, 0, WRITE, 1),
        RECORD(3, DMA_START, 2, 0, 1), RECORD(110, DPC_IN, 2, 0, 0),
        RECORD(120, IRP_COMPLETE, 2, 0, 1),
    };
    assert_int_equal(find(records, COUNT(records), NULL, 0), 1);
    assert_int_equal(roads[0].marks[ROAD_INTERRUPT].time, 0);
    assert_int_equal(roads[0].marks[ROAD_DPC].time, 110);
}

// The second one ends, on this processor or the other, while the thread is at
// the APC of the first: one delivery for both.
static void queued_during_a_delivery(void **state)
{
    (void)state;
    for (uint64_t late = 0; late < 2; late++) {
        TRACE_RECORD records[] = {
            RECORD(2, IRP_BUILT, 0, WRITE, 1),
            RECORD(4, IRP_BUILT, 0, WRITE, 2),
            RECORD(100, IRP_COMPLETE, 2, 0, 1), RECORD(110, APC_IN, 1, 0, 20),
            RECORD(120, IRP_DONE, 1, 0, 1),
            RECORD(130, DPC_IN, 2, 0, 0), RECORD(140, IRP_COMPLETE, 2, 0, 2),
            RECORD(150, IRP_DONE, 1, 0, 2), RECORD(160, APC_OUT, 1, 0, 20),
        };
        TRACE_RECORD other = RECORD(140, IRP_COMPLETE, 2, 0, 2);
        if (late)
            records[6].Event = TRACE_IDLE_IN;
        assert_int_equal(find(records, COUNT(records), late ? &other : NULL, 1),
                         2);
        assert_int_equal(roads[0].marks[ROAD_APC].time, 110);
        assert_int_equal(roads[1].marks[ROAD_APC].time, 140);
        assert_int_equal(roads[1].marks[ROAD_STORED].time, 150);
    }
}

// Another thread comes between, with a call and an APC of its own; and ours
// goes on on the other processor.
static void others_meanwhile(void **state)
{
    (void)state;
    for (uint64_t moves = 0; moves < 2; moves++) {
        TRACE_RECORD records[] = {
            RECORD(1, SERVICE, 0, 0, NT_SERVICE_NtWriteFile),
            RECORD(2, SWITCH, 2, 0, 21),
            RECORD(3, SERVICE, 0, 0, NT_SERVICE_NtWriteFile),
            RECORD(4, SWITCH, 2, 0, THREAD),
            RECORD(5, IRP_BUILT, 0, WRITE, 1),
            RECORD(100, IRP_COMPLETE, 2, 0, 1),
            RECORD(110, APC_IN, 1, 0, THREAD), RECORD(115, SWITCH, 2, 0, 21),
            RECORD(120, APC_IN, 1, 0, 21), RECORD(130, APC_OUT, 1, 0, 21),
            RECORD(140, SWITCH, 2, 0, THREAD),
            RECORD(150, IRP_DONE, 1, 0, 1), RECORD(160, APC_OUT, 1, 0, THREAD),
        };
        size_t here = COUNT(records) - (moves ? 3 : 0);
        assert_int_equal(find(records, here, moves ? records + here : NULL, 3),
                         1);
        assert_int_equal(roads[0].marks[ROAD_CALL].time, 1);
        assert_int_equal(roads[0].marks[ROAD_APC].time, 110);
        assert_int_equal(roads[0].marks[ROAD_STORED].processor, moves);
    }
}

// A DPC completes one whose thread takes no APC, while ours is at its own.
static void beneath_an_apc(void **state)
{
    (void)state;
    TRACE_RECORD records[] = {
        RECORD(2, IRP_BUILT, 0, WRITE, 1), RECORD(10, APC_IN, 1, 0, THREAD),
        RECORD(20, DPC_IN, 2, 0, 0), RECORD(30, IRP_COMPLETE, 2, 0, 1),
        RECORD(40, IRP_DONE, 2, 0, 1),
    };
    assert_int_equal(find(records, COUNT(records), NULL, 0), 1);
    assert_int_equal(roads[0].marks[ROAD_STORED].time, 40);
    assert_int_equal(roads[0].marks[ROAD_APC].time, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_after_the_other),
        cmocka_unit_test(an_interrupt_inside_the_dpcs),
        cmocka_unit_test(begun_on_another_processor),
        cmocka_unit_test(no_interrupt),
        cmocka_unit_test(queued_during_a_delivery),
        cmocka_unit_test(others_meanwhile),
        cmocka_unit_test(beneath_an_apc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
