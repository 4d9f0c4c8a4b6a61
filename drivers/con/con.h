// con.h - serial ports: the console on COM1, and COM2 for tools.
//
// Both ways are driven by interrupts, and both keep their requests in a list
// of pending IRPs, the oldest first, where they can be cancelled. A read stays
// there until it meets bytes that came in; a write, until it is its turn:
//
//   UART --ISR--> ring --DPC--> oldest read --> IoCompleteRequest
//   oldest write --> writing --a piece: ISR, 16 bytes at a time--> UART
//                      '--its last one--> DPC --the last--> IoCompleteRequest
//
// Bytes are raw: no echo, no line editing, that is the library's. Before the
// driver's time, and in a bugcheck, text goes by hal_print.

#pragma once

#include "kernel/wdm.h"

#define CON_IRQL      4
#define CON_RING_SIZE 4096u    // a power of two
#define CON_FIFO_SIZE 16u
#define CON_PIECE     4096u    // of a write: what Ctrl-C waits for

typedef struct con_port {
    // Set at initialisation.
    DEVICE_OBJECT *device;
    uint16_t base;      // of the UART's registers
    bool is_console;    // Ctrl-C, and '\n' becomes CR LF
    KINTERRUPT interrupt;

    // Guarded by the interrupt's lock.
    const char *echo;       // goes out before out; NULL or "": nothing
    const char *out;        // of the write at the UART
    uint32_t out_length;    // not yet in the UART; 0: none is there
    bool cr_sent;           // before a '\n'

    // Whoever takes one of these by an atomic exchange has it, and the
    // reference: the driver's dispatch, the ISR, the DPC.
    EPROCESS *volatile foreground;    // whom Ctrl-C ends
    EPROCESS *volatile victim;        // was foreground: the DPC ends it
    volatile bool write_done;         // the DPC completes what was writing

    // The ring: put by the ISR at head, taken at tail under the cancel lock.
    volatile char ring[CON_RING_SIZE];
    volatile uint32_t head, tail;    // bytes ever put, taken

    // Guarded by the cancel lock: what is on a list can be cancelled.
    LIST_ENTRY reads, writes;    // of IRP.Tail.ListEntry
    IRP *writing;                // off its list, at the UART
    uint32_t written;            // of it, with the piece at the UART; whoever
                                 // has put it there, then the DPC
} con_port;

// init.c
NTSTATUS con_driver_entry(DRIVER_OBJECT *driver);

// io.c
DRIVER_DISPATCH con_read_write, con_device_control;
void con_dpc(KDPC *dpc, DEVICE_OBJECT *device, IRP *irp, void *context);

// uart.c
bool con_probe(uint16_t base);
void con_enable(con_port *port);
void con_transmit(con_port *port);
bool con_isr(KINTERRUPT *interrupt, void *context);
