// rtc.c - the battery clock: what time it was when we booted.
//
// Motorola MC146818 data sheet. It counts in BCD or binary and in 12 or 24
// hours, as its status B says, and must not be read while it updates itself.

#include "kernel/hal/halp.h"

#include "kernel/rtl/rtl.h"

enum {
    CMOS_INDEX = 0x70,
    CMOS_DATA = 0x71,
    STATUS_A = 0x0A,
    STATUS_B = 0x0B,
    UPDATING = 0x80,      // in status A
    FORMAT_24H = 0x02,    // in status B
    FORMAT_BINARY = 0x04,
    HOUR_PM = 0x80,
    PATIENCE = 100000,    // reads of a clock that is not there
    CENTURY = 2000,

    DAYS_TO_1601 = 584694,    // from 1 March 0000, in today's calendar
    DAY_SECONDS = 86400,
    UNITS = 10000000,    // of 100 ns, in a second
};

enum { SECOND, MINUTE, HOUR, DAY, MONTH, YEAR, FIELDS };

static uint8_t read(uint8_t index)
{
    hal_out8(CMOS_INDEX, index);
    return hal_in8(CMOS_DATA);
}

static void read_fields(uint8_t fields[FIELDS])
{
    static const uint8_t registers[FIELDS] = { 0, 2, 4, 7, 8, 9 };
    for (uint32_t i = 0; i < PATIENCE && read(STATUS_A) & UPDATING; i++)
        ;
    for (uint32_t i = 0; i < FIELDS; i++)
        fields[i] = read(registers[i]);
}

// Days since 1 January 1601; a year begins with March here, so that the leap
// day is its last.
static uint64_t days(uint32_t year, uint32_t month, uint32_t day)
{
    if (month <= 2)
        year--;
    month = (month + 9) % 12;
    return 365 * year + year / 4 - year / 100 + year / 400 +
           (153 * month + 2) / 5 + day - 1 - DAYS_TO_1601;
}

// The battery clock, which is taken to run on UTC, in 100 ns since 1601.
//
// IRQL:    any level
uint64_t hal_read_rtc(void)
{
    uint8_t now[FIELDS], again[FIELDS];
    read_fields(now);
    read_fields(again);
    if (memcmp(now, again, sizeof(now)))    // read across a second's end
        read_fields(now);

    uint8_t format = read(STATUS_B);
    bool afternoon = !(format & FORMAT_24H) && now[HOUR] & HOUR_PM;
    if (afternoon)
        now[HOUR] &= (uint8_t)~HOUR_PM;
    for (uint32_t i = 0; i < FIELDS && !(format & FORMAT_BINARY); i++)
        now[i] = (uint8_t)((now[i] >> 4) * 10 + (now[i] & 0xF));
    if (!(format & FORMAT_24H))
        now[HOUR] = (uint8_t)(now[HOUR] % 12 + (afternoon ? 12 : 0));

    uint64_t day = days(CENTURY + now[YEAR], now[MONTH], now[DAY]);
    uint64_t second = (now[HOUR] * 60u + now[MINUTE]) * 60u + now[SECOND];
    return (day * DAY_SECONDS + second) * UNITS;
}
