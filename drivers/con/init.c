// init.c - makes the devices of COM1 (the console) and, if it exists, COM2.

#include "drivers/con/con.h"

// A PC's serial ports.
static const struct place {
    const char *name;
    const char *links[2];
    uint16_t base;
    uint8_t irq;
    bool is_console;
} places[] = {
    { "\\Device\\Serial0", { "\\??\\COM1", "\\??\\CON" }, 0x3F8, 4, true },
    { "\\Device\\Serial1", { "\\??\\COM2", NULL }, 0x2F8, 3, false },
};

static NTSTATUS create_port(DRIVER_OBJECT *driver, const struct place *place)
{
    DEVICE_OBJECT *device;
    if (!con_probe(place->base))
        return place->is_console ? STATUS_NO_SUCH_DEVICE : STATUS_SUCCESS;
    NT_TRY(IoCreateDevice(driver, sizeof(con_port), place->name,
                          FILE_DEVICE_SERIAL_PORT, &device));
    device->Flags |= DO_BUFFERED_IO | DO_SHORT_SEND;
    con_port *port = device->DeviceExtension;
    port->device = device;
    port->base = place->base;
    port->is_console = place->is_console;
    InitializeListHead(&port->reads);
    InitializeListHead(&port->writes);
    IoInitializeDpcRequest(device, con_dpc);
    for (size_t i = 0; i < ARRAY_SIZE(place->links) && place->links[i]; i++)
        NT_TRY(IoCreateSymbolicLink(place->links[i], place->name));
    NT_TRY(ke_connect_line(&port->interrupt, place->irq, CON_IRQL, false,
                           con_isr, port));
    con_enable(port);
    return STATUS_SUCCESS;
}

// Entry routine: makes \Device\Serial0 (\??\CON, \??\COM1) and
// \Device\Serial1 (\??\COM2).
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, also without COM2
//          STATUS_NO_SUCH_DEVICE          no console
//          STATUS_INSUFFICIENT_RESOURCES  no memory, vector or name
NTSTATUS con_driver_entry(DRIVER_OBJECT *driver)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    driver->MajorFunction[IRP_MJ_READ] = con_read_write;
    driver->MajorFunction[IRP_MJ_WRITE] = con_read_write;
    driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = con_device_control;
    for (size_t i = 0; i < ARRAY_SIZE(places); i++)
        NT_TRY(create_port(driver, &places[i]));
    return STATUS_SUCCESS;
}
