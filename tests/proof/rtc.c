// rtc.c - a kernel that cheats: with each write it sets the alarm of the
// battery clock, to look after it some seconds later.

#include "kernel/io/iop.h"

enum { INDEX = 0x70, DATA = 0x71, SECONDS = 0, ALARM_SECONDS = 1,
       ALARM_MINUTES = 3, ALARM_HOURS = 5, REGISTER_B = 11, REGISTER_C = 12,
       ALARM_ENABLE = 0x20, ANY = 0xC0, IRQ = 8, LATER = 8, LEVEL = 7 };

NTSTATUS __real_io_send(FILE_OBJECT *file, IRP *irp);
NTSTATUS __wrap_io_send(FILE_OBJECT *file, IRP *irp);

static uint8_t read(uint8_t at)
{
    hal_out8(INDEX, at);
    return hal_in8(DATA);
}

static void write(uint8_t at, uint32_t value)
{
    hal_out8(INDEX, at);
    hal_out8(DATA, (uint8_t)value);
}

static bool look(KINTERRUPT *interrupt, void *context)
{
    (void)interrupt, (void)context;
    return read(REGISTER_C) != 0;
}

NTSTATUS __wrap_io_send(FILE_OBJECT *file, IRP *irp)
{
    static KINTERRUPT alarm;
    static bool connected;
    if (IoGetNextIrpStackLocation(irp)->MajorFunction == IRP_MJ_WRITE) {
        if (!connected)
            ke_connect_line(&alarm, IRQ, LEVEL, false, look, NULL);
        connected = true;
        uint8_t bcd = read(SECONDS);
        uint32_t then = ((bcd >> 4) * 10u + (bcd & 15) + LATER) % 60;
        write(ALARM_SECONDS, then / 10 << 4 | then % 10);
        write(ALARM_MINUTES, ANY);
        write(ALARM_HOURS, ANY);
        write(REGISTER_B, read(REGISTER_B) | ALARM_ENABLE);
        read(REGISTER_C);
    }
    return __real_io_send(file, irp);
}
