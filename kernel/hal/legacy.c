// legacy.c - the PC's two old chips, which must not disturb: PIC and PIT.
//
// The 8259 pair is masked for good. The 8254 is stopped, but for the moment in
// which clock.c takes it as the measure of all others (data sheet: Intel
// 231164, "Programming the 82C54").

#include "kernel/hal/halp.h"

enum {
    PIC1_COMMAND = 0x20,
    PIC1_DATA = 0x21,
    PIC2_COMMAND = 0xA0,
    PIC2_DATA = 0xA1,
    ICW1_START_ICW4 = 0x11,
    PIC1_VECTOR = 0xF0,    // above all that is in use: what comes in spite of
    PIC2_VECTOR = 0xF8,    // the mask is an unknown vector, and counted
    PIC1_CASCADE = 1 << 2,
    PIC2_CASCADE = 2,
    ICW4_8086 = 0x01,
    MASK_ALL = 0xFF,

    PIT_CHANNEL0 = 0x40,
    PIT_COMMAND = 0x43,
    PIT_MODE0 = 0x30,     // channel 0, both bytes, interrupt at zero
    PIT_LATCH0 = 0x00,    // hold the count until it is read
    PIT_READ_STATUS0 = 0xE2,
    PIT_OUTPUT = 0x80,
};

// Masks the PIC, away from our vectors, and stops the PIT.
//
// IRQL:    any level
void hal_silence_legacy(void)
{
    hal_out8(PIC1_COMMAND, ICW1_START_ICW4);
    hal_out8(PIC2_COMMAND, ICW1_START_ICW4);
    hal_out8(PIC1_DATA, PIC1_VECTOR);
    hal_out8(PIC2_DATA, PIC2_VECTOR);
    hal_out8(PIC1_DATA, PIC1_CASCADE);
    hal_out8(PIC2_DATA, PIC2_CASCADE);
    hal_out8(PIC1_DATA, ICW4_8086);
    hal_out8(PIC2_DATA, ICW4_8086);
    hal_out8(PIC1_DATA, MASK_ALL);
    hal_out8(PIC2_DATA, MASK_ALL);
    halp_stop_pit();
}

// Stops channel 0: a mode without a count.
//
// IRQL:    any level
void halp_stop_pit(void)
{
    hal_out8(PIT_COMMAND, PIT_MODE0);
}

// Lets channel 0 count down from count once, and interrupt at zero.
//
// IRQL:    any level
void halp_start_pit(uint16_t count)
{
    hal_out8(PIT_COMMAND, PIT_MODE0);
    hal_out8(PIT_CHANNEL0, (uint8_t)count);
    hal_out8(PIT_CHANNEL0, (uint8_t)(count >> 8));
}

// Has channel 0 reached zero since it was started?
//
// IRQL:    any level
bool halp_pit_expired(void)
{
    hal_out8(PIT_COMMAND, PIT_READ_STATUS0);
    return hal_in8(PIT_CHANNEL0) & PIT_OUTPUT;
}

// What is left of channel 0's count, which runs on beneath zero.
//
// IRQL:    any level
uint16_t halp_pit_count(void)
{
    hal_out8(PIT_COMMAND, PIT_LATCH0);
    uint8_t low = hal_in8(PIT_CHANNEL0);
    return (uint16_t)(hal_in8(PIT_CHANNEL0) << 8 | low);
}
