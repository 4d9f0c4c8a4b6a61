// serial.c - COM1 by polling: for the boot and for the last words.
//
// A 16550 (data sheet, "Register descriptions"), which sends as it comes out of
// its reset; the console's driver sets it up and owns it. Then only a bugcheck
// comes back here. A UART that is not there reads as all ones, and one that is
// stuck is not waited for for ever.

#include "kernel/hal/halp.h"

#include "kernel/rtl/rtl.h"

enum { DATA = 0x3F8, STATUS = 0x3FD, STATUS_TRANSMIT_EMPTY = 0x20,
       PATIENCE = 30000000, TEXT_LENGTH = 400 };

// The host may be slow to take what we send, but not for ever: the patience is
// for all that is ever printed.
static void put(char c)
{
    static uint32_t waited;
    while (!(hal_in8(STATUS) & STATUS_TRANSMIT_EMPTY) && waited < PATIENCE)
        waited++;
    hal_out8(DATA, (uint8_t)c);
}

// Prints on COM1, at once, up to TEXT_LENGTH characters; '\n' becomes CR LF.
//
// IRQL:    any level
void hal_print(const char *format, ...)
{
    char text[TEXT_LENGTH];
    va_list args;
    va_start(args, format);
    rtl_vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    for (const char *c = text; *c; c++) {
        if (*c == '\n')
            put('\r');
        put(*c);
    }
}
