// serial.c - COM1 by polling: for the boot and for the last words.
//
// A 16550 (data sheet, "Register descriptions"). Once the console's driver
// owns the port, only a bugcheck comes back here. A UART that is not there
// reads as all ones, and one that is stuck is not waited for long.

#include "kernel/hal/halp.h"

enum {
    UART = 0x3F8, DIVISOR_115200 = 1, DATA_8N1 = 0x03, DIVISOR_ACCESS = 0x80,
    FIFO_ENABLE_AND_CLEAR = 0x07,
    MODEM_DTR_RTS_OUT2 = 0x0B,    // OUT2 lets the interrupt through
    STATUS_TRANSMIT_EMPTY = 0x20, PATIENCE = 100000,
};

enum { DATA, INTERRUPTS, FIFO, LINE, MODEM, STATUS };    // registers
enum { DIVISOR_LOW, DIVISOR_HIGH };                      // while it is accessed

// Sets COM1 to 115200 8N1 with FIFO, without interrupts.
//
// IRQL:    any level
void hal_init_serial(void)
{
    static const struct {
        uint8_t at, value;
    } steps[] = {
        { INTERRUPTS, 0 }, { LINE, DIVISOR_ACCESS },
        { DIVISOR_LOW, DIVISOR_115200 }, { DIVISOR_HIGH, 0 },
        { LINE, DATA_8N1 }, { FIFO, FIFO_ENABLE_AND_CLEAR },
        { MODEM, MODEM_DTR_RTS_OUT2 },
    };
    for (uint32_t i = 0; i < ARRAY_SIZE(steps); i++)
        hal_out8(UART + steps[i].at, steps[i].value);
}

// Sends one character; '\n' becomes CR LF.
//
// IRQL:    any level
void hal_put_char(char c)
{
    if (c == '\n')
        hal_put_char('\r');
    for (uint32_t i = 0; i < PATIENCE; i++)
        if (hal_in8(UART + STATUS) & STATUS_TRANSMIT_EMPTY)
            break;
    hal_out8(UART + DATA, (uint8_t)c);
}
