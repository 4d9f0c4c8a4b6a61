// rtc.c - the battery clock: what time it was when we booted.
//
// Motorola MC146818 data sheet. It counts in BCD and in 24 hours, as every
// PC's firmware sets it. Fields that are read while it counts on do not fit
// together, so they are read until they have come out the same twice.

#include "kernel/hal/halp.h"

#include "kernel/rtl/rtl.h"

enum { CMOS_INDEX = 0x70, CMOS_DATA = 0x71, CENTURY = 2000,
       DAYS_TO_1601 = 584694 };    // from 1 March 0000, in today's calendar

enum { SECOND, MINUTE, HOUR, DAY, MONTH, YEAR, FIELDS };

static void read_fields(uint8_t fields[FIELDS])
{
    static const uint8_t registers[FIELDS] = { 0, 2, 4, 7, 8, 9 };
    for (uint32_t i = 0; i < FIELDS; i++) {
        hal_out8(CMOS_INDEX, registers[i]);
        uint8_t bcd = hal_in8(CMOS_DATA);
        fields[i] = (uint8_t)((bcd >> 4) * 10 + (bcd & 0xF));
    }
}

// Days since 1 January 1601; a year begins with March here, so that the leap
// day is its last.
static uint64_t days(uint32_t year, uint32_t month, uint32_t day)
{
    year -= month <= 2;
    month = (month + 9) % 12;
    return 365 * year + year / 4 - year / 100 + year / 400 +
           (153 * month + 2) / 5 + day - 1 - DAYS_TO_1601;
}

// The battery clock, which is taken to run on UTC, in 100 ns since 1601.
//
// IRQL:    any level
uint64_t hal_read_rtc(void)
{
    uint8_t now[FIELDS], before[FIELDS];
    read_fields(now);
    do {
        memcpy(before, now, sizeof(now));
        read_fields(now);
    } while (memcmp(now, before, sizeof(now)));
    uint64_t hours = days(CENTURY + now[YEAR], now[MONTH], now[DAY]) * 24 +
                     now[HOUR];
    return ((hours * 60 + now[MINUTE]) * 60 + now[SECOND]) * HALP_UNITS;
}
