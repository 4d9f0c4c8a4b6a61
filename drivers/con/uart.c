// uart.c - the 16550: registers, interrupt, bytes in and out.
//
// The transmitter's interrupt is on only while there is something to send,
// and turning it on raises it: so every byte goes out in the ISR, and nobody
// waits for the UART. All runs under the interrupt's lock.

#include "drivers/con/con.h"

// Registers and their bits (National PC16550D data sheet, section 8).
enum {
    UART_DATA = 0,
    UART_INTERRUPT_ENABLE = 1,
    UART_ENABLE_RECEIVE = 0x01, UART_ENABLE_TRANSMIT = 0x02,
    UART_INTERRUPT_ID = 2,
    UART_ID_NONE = 0x01, UART_ID_TRANSMIT = 0x02, UART_ID_MASK = 0x0F,
    UART_FIFO_CONTROL = 2, UART_FIFO_ENABLE = 0x01,
    UART_LINE_CONTROL = 3, UART_LINE_8N1 = 0x03,
    UART_LINE_DIVISOR = 0x80,    // DATA and its neighbour are the divisor
    UART_MODEM_CONTROL = 4,
    UART_MODEM_ON = 0x0B,    // DTR, RTS, OUT2: a PC's interrupt gate
    UART_LINE_STATUS = 5, UART_STATUS_DATA = 0x01,
    UART_SCRATCH = 7, UART_SCRATCH_PROBE = 0x5A,
};

enum { CTRL_C = 3 };

// Whether there is a UART, by whether its scratch register keeps a value.
//
// IRQL:    == PASSIVE_LEVEL
bool con_probe(uint16_t base)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    hal_out8(base + UART_SCRATCH, UART_SCRATCH_PROBE);
    return hal_in8(base + UART_SCRATCH) == UART_SCRATCH_PROBE;
}

// There is something to send: the ISR comes for it.
//
// IRQL:    == CON_IRQL, the interrupt's lock is held
void con_transmit(con_port *port)
{
    ASSERT_IRQL(==, CON_IRQL);

    hal_out8(port->base + UART_INTERRUPT_ENABLE,
             UART_ENABLE_RECEIVE | UART_ENABLE_TRANSMIT);
}

// Takes the next byte to send; -1: there is none.
static int next_byte(con_port *port)
{
    if (port->echo && *port->echo)
        return *port->echo++;
    if (!port->out_length)
        return -1;
    if (*port->out == '\n' && port->is_console && !port->cr_sent) {
        port->cr_sent = true;
        return '\r';
    }
    port->cr_sent = false;
    if (--port->out_length == 0)
        port->write_done = true;
    return (uint8_t)*port->out++;
}

static void fill_fifo(con_port *port)
{
    for (uint32_t i = 0; i < CON_FIFO_SIZE; i++) {
        int byte = next_byte(port);
        if (byte < 0) {
            hal_out8(port->base + UART_INTERRUPT_ENABLE, UART_ENABLE_RECEIVE);
            return;
        }
        hal_out8(port->base + UART_DATA, (uint8_t)byte);
    }
}

// A byte came in. Ctrl-C takes the foreground process out of its place, so
// that no later one can be hit by it; without a living one it is a byte like
// others.
static void receive(con_port *port, char byte)
{
    EPROCESS *process = NULL;
    if (byte == CTRL_C && !port->victim)
        process =
            __atomic_exchange_n(&port->foreground, NULL, __ATOMIC_ACQ_REL);
    if (process) {
        bool alive = !process->Pcb.Header.SignalState;
        port->victim = process;    // from here on it is the DPC's
        if (alive) {
            port->echo = "^C\r\n";
            con_transmit(port);
            return;
        }
    }
    if (port->head - port->tail == CON_RING_SIZE)
        return;
    port->ring[port->head % CON_RING_SIZE] = byte;
    port->head++;    // after the byte: the DPC may look on another processor
}

// 115200 8N1, FIFOs on, an interrupt for each byte that comes. What somebody
// typed while we booted is kept; turning the FIFOs on would clear it. Until the
// last line the UART asks for no interrupt: nobody else receives.
//
// IRQL:    == PASSIVE_LEVEL
void con_enable(con_port *port)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    hal_out8(port->base + UART_LINE_CONTROL, UART_LINE_8N1 | UART_LINE_DIVISOR);
    hal_out8(port->base + UART_DATA, 1);
    hal_out8(port->base + UART_INTERRUPT_ENABLE, 0);
    hal_out8(port->base + UART_LINE_CONTROL, UART_LINE_8N1);
    while (hal_in8(port->base + UART_LINE_STATUS) & UART_STATUS_DATA)
        receive(port, (char)hal_in8(port->base + UART_DATA));
    hal_out8(port->base + UART_FIFO_CONTROL, UART_FIFO_ENABLE);
    hal_out8(port->base + UART_MODEM_CONTROL, UART_MODEM_ON);
    hal_out8(port->base + UART_INTERRUPT_ENABLE, UART_ENABLE_RECEIVE);
}

// The UART has bytes, or wants some.
//
// IRQL:    == CON_IRQL
// Returns: true if the interrupt was this port's
bool con_isr(KINTERRUPT *, void *context)
{
    ASSERT_IRQL(==, CON_IRQL);

    con_port *port = context;
    bool ours = false, transmit = false;
    uint8_t id;
    while (!((id = hal_in8(port->base + UART_INTERRUPT_ID)) & UART_ID_NONE)) {
        ours = true;
        transmit |= (id & UART_ID_MASK) == UART_ID_TRANSMIT;
        while (hal_in8(port->base + UART_LINE_STATUS) & UART_STATUS_DATA)
            receive(port, (char)hal_in8(port->base + UART_DATA));
    }
    // The line is low now. Only here may the FIFO be filled: what it asks for
    // next must be a new edge, or it would never be heard of.
    if (transmit)
        fill_fifo(port);
    if (ours)
        IoRequestDpc(port->device, NULL, NULL);
    return ours;
}
