// serial.c - COM1 by polling: for the boot and for the last words.
//
// A 16550 (data sheet, "Register descriptions"). Once the console's driver
// owns the port, only a bugcheck comes back here. A UART that is not there
// reads as all ones, and one that is stuck is not waited for long.

#include "kernel/hal/halp.h"

enum {
    UART_DATA = 0x3F8,
    UART_DIVISOR_LOW = 0x3F8,    // while LINE_DIVISOR is set
    UART_INTERRUPTS = 0x3F9,
    UART_DIVISOR_HIGH = 0x3F9,    // the same
    UART_FIFO = 0x3FA,
    UART_LINE = 0x3FB,
    UART_MODEM = 0x3FC,
    UART_STATUS = 0x3FD,

    DIVISOR_115200 = 1,
    FIFO_ENABLE_AND_CLEAR = 0x07,
    LINE_8N1 = 0x03,
    LINE_DIVISOR = 0x80,
    MODEM_DTR_RTS_OUT2 = 0x0B,    // OUT2 lets the interrupt through
    STATUS_TRANSMIT_EMPTY = 0x20,

    PATIENCE = 100000,
};

// Sets COM1 to 115200 8N1 with FIFO, without interrupts.
//
// IRQL:    any level
void hal_init_serial(void)
{
    hal_out8(UART_INTERRUPTS, 0);
    hal_out8(UART_LINE, LINE_DIVISOR);
    hal_out8(UART_DIVISOR_LOW, DIVISOR_115200);
    hal_out8(UART_DIVISOR_HIGH, 0);
    hal_out8(UART_LINE, LINE_8N1);
    hal_out8(UART_FIFO, FIFO_ENABLE_AND_CLEAR);
    hal_out8(UART_MODEM, MODEM_DTR_RTS_OUT2);
}

// Sends one character; '\n' becomes CR LF.
//
// IRQL:    any level
void hal_put_char(char c)
{
    if (c == '\n')
        hal_put_char('\r');
    for (uint32_t i = 0; i < PATIENCE; i++)
        if (hal_in8(UART_STATUS) & STATUS_TRANSMIT_EMPTY)
            break;
    hal_out8(UART_DATA, (uint8_t)c);
}
