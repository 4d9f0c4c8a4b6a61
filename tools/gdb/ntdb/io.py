"""io.py - nt irp, irps, dev, devstack, drv, file, iocp: the road of a request.
"""
import collections

import gdb

from . import guest, text
from .command import command, is_id, value_of
from .guest import Garbage, hexa, number
from .threads import all_threads

MOST_LOCATIONS = 16
CONTROL = [(0x01, 'pending'), (0x20, 'Cancel'), (0x40, 'Success'),
           (0x80, 'Error')]
FILE_FLAGS = [(0x30, 'Synchronous'), (0x10, 'Alertable'),
              (0x01, 'SkipPortOnSuccess'), (0x02, 'SkipSetEvent'),
              (0x04, 'CleanupComplete'), (0x08, 'Opened')]
STATES = {'IrpCreated': 'created', 'IrpQueued': 'queued',
          'IrpAtDevice': 'at the device', 'IrpCompleted': 'completed'}


def flags(value, names):
    return ' '.join(name for bit, name in names if int(value) & bit) or '-'


# ---- Finding and checking ----------------------------------------------------

def check_irp(value):
    """The IRP at an address, if what lies there can be one."""
    irp = guest.at('IRP', value)
    count, location = int(irp['StackCount']), int(irp['CurrentLocation'])
    if not 1 <= count <= MOST_LOCATIONS or not 0 <= location <= count + 1 \
            or int(irp['state']) > 3:
        raise Garbage(f'{number(irp.address):#x} is not an IRP: it has '
                      f'{count} stack locations, {location} is current')
    return irp


def ports():
    """The KQUEUE of each port that a handle or a file refers to."""
    found = {}
    for file in files():
        if number(file['CompletionPort']):
            found[number(file['CompletionPort'])] = True
    from .objects import all_objects
    for object_, kind in all_objects():
        if kind == 'IoCompletion':
            found[object_] = True
    return sorted(found)


def files():
    return guest.entries(guest.symbol('io_files'), 'FILE_OBJECT', 'all_entry')


def packets(port):
    """(IRP or None, address) of the packets in a port, first to last."""
    for packet in guest.entries(port['EntryListHead'], 'io_packet', 'entry'):
        where = number(packet.address)
        if packet['is_irp']:
            where -= guest.offset('IRP', 'Tail.packet')
            yield check_irp(where), where
        else:
            yield None, where


def all_irps():
    """(IRP, the kind of what it hangs on) of all that are pending or wait in a
    port."""
    for thread in all_threads():
        for irp in guest.entries(thread['Tcb']['io']['irps'], 'IRP',
                                 'ThreadListEntry'):
            yield irp, 'thread'
    for file in files():
        for irp in guest.entries(file['io']['irps'], 'IRP',
                                 'ThreadListEntry'):
            yield irp, 'file'
    for where in ports():
        for irp, _ in packets(guest.at('KQUEUE', where)):
            if irp:
                yield irp, 'port'


def find_irp(argument):
    if not argument:
        raise Garbage('which IRP? An address or an id: `nt irps` lists them')
    value = value_of(argument)
    if not is_id(value):
        return check_irp(value)
    for irp, _ in all_irps():
        if int(irp['id']) == value:
            return irp
    raise Garbage(f'no IRP with the id {value} is pending')


def location_of(irp):
    """The current stack location; of a completed or unsent IRP the top one."""
    index = min(int(irp['CurrentLocation']), int(irp['StackCount'])) - 1
    return irp['stack'][max(0, index)]


def state_of(irp):
    return STATES.get(text.constant('SNAPSHOT_IRP_STATE', irp['state']), '?')


def device_name(device):
    where = number(device)
    if not where:
        return '-'
    return guest.string(guest.at('DEVICE_OBJECT', where)['name']) or '?'


def check_device(argument):
    """A DEVICE_OBJECT by its address, or by its name, such as DR0."""
    for device in all_devices():
        if device_name(device.address) == argument:
            return device
    if argument.isidentifier() and not gdb.lookup_symbol(argument)[0]:
        raise Garbage(f'no device is called {argument}: `nt dev` lists them')
    value = value_of(argument)
    for device in all_devices():
        if number(device.address) == value:
            return device
    raise Garbage(f'{value:#x} is no device: `nt dev` lists them')


def all_devices():
    """The devices that have a name, and those that share a driver with one."""
    names = guest.static('kernel/ob/name.c', 'names')
    seen, drivers = set(), []
    for i in range(int(guest.static('kernel/ob/name.c', 'name_count'))):
        device = guest.at('DEVICE_OBJECT', names[i]['object'])
        driver = number(device['DriverObject'])
        if driver not in seen:
            seen.add(driver)
            drivers.append(driver)
    for driver in drivers:
        where = number(guest.at('DRIVER_OBJECT', driver)['DeviceObject'])
        count = 0
        while where and count < 64:
            device = guest.at('DEVICE_OBJECT', where)
            yield device
            where, count = number(device['NextDevice']), count + 1


def driver_name(device):
    driver = guest.at('DRIVER_OBJECT', device['DriverObject'])
    return '\\Driver\\' + guest.string(driver['DriverName'])


# ---- IRPs --------------------------------------------------------------------

@command('irp', gdb.COMPLETE_EXPRESSION)
def irp(argument):
    """nt irp ID|ADDRESS: one I/O request packet with its stack. WinDbg: !irp.
`>` marks the current location: the driver that owns the request now."""
    one = find_irp(argument)
    count, current = int(one['StackCount']), int(one['CurrentLocation'])
    state = state_of(one)
    active = (f'Irp is active with {count} stacks {current} is current'
              if current <= count else
              f'Irp is completed. {count} stacks'
              if state == 'completed' else
              f'Irp has not been sent yet. {count} stacks')
    yield f'{active} (= {hexa(one.address)})'
    yield (f' Id {int(one["id"])}, {state}'
           + (', cancelled' if one['Cancel'] else ''))
    thread = number(one['Thread'])
    yield (f' Mdl={hexa(one["MdlAddress"])}: System buffer='
           f'{hexa(one["SystemBuffer"])}: Thread {thread:016x}:')
    yield (f' IoStatus: {text.status(one["IoStatus"]["Status"])} '
           f'Information {number(one["IoStatus"]["Information"]):#x}  '
           f'UserIosb {hexa(one["UserIosb"])}  Event '
           f'{hexa(one["UserEvent"])}')
    routine = number(one['CancelRoutine'])
    yield (f' CancelRoutine: {guest.name_of(routine) or "none"}  '
           f'PendingReturned: {bool(one["PendingReturned"])}')
    yield '     cmd  flg cl Device           File             Completion'
    for i in reversed(range(count)):
        yield from location_lines(one['stack'][i], i + 1 == current)


def location_lines(location, current):
    completion = number(location['CompletionRoutine'])
    name = guest.name_of(completion) if completion else 'none'
    yield (f'{">" if current else " "}[{text.major(location["MajorFunction"])}'
           f', N/A({int(location["MinorFunction"]):x})]')
    yield (f'            {int(location["Flags"]):x}  '
           f'{int(location["Control"]):2x} {hexa(location["DeviceObject"])} '
           f'{hexa(location["FileObject"])} {name}  '
           f'{flags(location["Control"], CONTROL)}')
    if number(location['DeviceObject']):
        device = guest.at('DEVICE_OBJECT', location['DeviceObject'])
        yield f'            {driver_name(device)} {device_name(device.address)}'
    read = location['Parameters']['Read']
    yield (f'            Args: {number(read["Length"]):08x} '
           f'{number(read["ByteOffset"]):08x}')


@command('irps')
def irps(argument):
    """nt irps: all requests that are pending, and those that wait in a port.
WinDbg: !irpfind."""
    count = 0
    yield ('Irp                 Id  State          Thread  Hangs on  '
           'Command and device')
    for one, owner in all_irps():
        count += 1
        location = location_of(one)
        thread = number(one['Thread'])
        who = int(guest.at('KTHREAD', thread)['id']) if thread else 0
        yield (f'{hexa(one.address)} {int(one["id"]):5}  {state_of(one):14} {who:5}  '
               f'{owner:8}  {text.major(location["MajorFunction"])} '
               f'{device_name(location["DeviceObject"])}')
    yield f'{count} IRP{"" if count == 1 else "s"}'


# ---- Devices and drivers -----------------------------------------------------

@command('dev', gdb.COMPLETE_EXPRESSION)
def dev(argument):
    """nt dev [NAME|ADDRESS]: all devices, or one with its queue.
What a device has of requests is told where they are in its queue (`in line`:
those of a device that does one at a time), and where their IRPs name it.
WinDbg: !devobj."""
    here = irps_by_device()
    if not argument:
        yield 'Device            Driver            Name        Requests'
        for device in all_devices():
            yield (f'{hexa(device.address)}  {driver_name(device):16}  '
                   f'{device_name(device.address):10}  '
                   + requests(device, here))
        return
    device = check_device(argument)
    yield f'Device object ({hexa(device.address)}) is for:'
    yield (f' {device_name(device.address)} {driver_name(device)} '
           f'DriverObject {hexa(device["DriverObject"])}')
    yield (f'Current Irp {hexa(device["CurrentIrp"])} Type '
           f'{int(device["DeviceType"]):08x} Flags {int(device["Flags"]):08x}')
    yield (f'DevExt {hexa(device["DeviceExtension"])} StackSize '
           f'{int(device["StackSize"])} SectorSize '
           f'{int(device["SectorSize"])}')
    for title, name in [('AttachedDevice (Upper)', 'AttachedDevice'),
                        ('AttachedTo (Lower)', 'attached_to')]:
        if number(device[name]):
            yield f'{title} {hexa(device[name])} {device_name(device[name])}'
    busy = 'busy' if device['DeviceQueue']['Busy'] else 'not busy'
    waiting = list(queued(device))
    yield (f'Device queue is {busy} -- '
           + ('Queue:' if waiting else 'Queue empty.'))
    yield f'Requests: {requests(device, here)}'
    for one in waiting:
        yield (f'    {hexa(one.address)}  IRP {int(one["id"])}, '
               f'{text.major(location_of(one)["MajorFunction"])}')


def irps_by_device():
    """{(device, state): how many pending IRPs}."""
    return collections.Counter(
        (number(location_of(one)['DeviceObject']), state_of(one))
        for one, _ in all_irps())


def requests(device, here):
    """What a device has to do, in words."""
    where, parts = number(device.address), []
    if number(device['CurrentIrp']):
        parts.append(f'IRP {int(check_irp(device["CurrentIrp"])["id"])} now')
    waiting = len(list(queued(device)))
    if parts or waiting:
        parts.append(f'{waiting} in line')
    parts += [f'{here[where, state]} {state}' for state in
              ('at the device', 'queued') if here[where, state]]
    return ', '.join(parts) or '-'


def queued(device):
    """The IRPs in line at a device."""
    return guest.entries(device['DeviceQueue']['DeviceListHead'], 'IRP',
                         'Tail.DeviceQueueEntry.DeviceListEntry')


@command('devstack', gdb.COMPLETE_EXPRESSION)
def devstack(argument):
    """nt devstack NAME|ADDRESS: the stack that a device is in, from the top.
WinDbg: !devstack."""
    if not argument:
        raise Garbage('of which device? `nt dev` lists them')
    wanted = check_device(argument)
    device = wanted
    while number(device['AttachedDevice']):
        device = guest.at('DEVICE_OBJECT', device['AttachedDevice'])
    yield '  !DevObj           !DrvObj           !DevExt           ObjectName'
    while True:
        mark = '>' if number(device.address) == number(wanted.address) else ' '
        yield (f'{mark} {hexa(device.address)}  {driver_name(device):16}  '
               f'{hexa(device["DeviceExtension"])}  '
               f'{device_name(device.address)}')
        if not number(device['attached_to']):
            return
        device = guest.at('DEVICE_OBJECT', device['attached_to'])


@command('drv', gdb.COMPLETE_EXPRESSION)
def drv(argument):
    """nt drv [NAME|ADDRESS]: all drivers, or one with its routines.
WinDbg: !drvobj ADDRESS 2."""
    drivers = {}
    for device in all_devices():
        drivers[number(device['DriverObject'])] = driver_name(device)
    if not argument:
        for where, name in drivers.items():
            yield f'{where:016x}  {name}'
        return
    found = [where for where, name in drivers.items()
             if name in (argument, '\\Driver\\' + argument)]
    where = found[0] if found else value_of(argument)
    if where not in drivers:
        raise Garbage(f'{where:#x} is no driver: `nt drv` lists them')
    driver = guest.at('DRIVER_OBJECT', where)
    yield f'Driver object ({where:016x}) is for:'
    yield f' {drivers[where]}'
    yield 'Device Object list:'
    for device in all_devices():
        if number(device['DriverObject']) == where:
            yield f'{hexa(device.address)} {device_name(device.address)}'
    start = number(driver['DriverStartIo'])
    yield f'DriverStartIo: {guest.name_of(start) or "none"}'
    yield 'Dispatch routines:'
    for major, name in sorted(text.MAJORS.items()):
        routine = number(driver['MajorFunction'][major])
        yield (f'[{major:02x}] {name:26} {routine:016x} '
               f'{guest.name_of(routine)}')


# ---- Files and ports ---------------------------------------------------------

@command('file', gdb.COMPLETE_EXPRESSION)
def file(argument):
    """nt file [ADDRESS]: all open files, or one. WinDbg: !fileobj."""
    if not argument:
        yield 'File              Name                     Flags'
        for one in files():
            yield (f'{hexa(one.address)}  {file_name(one):23}  '
                   f'{flags(one["Flags"], FILE_FLAGS)}')
        return
    where = value_of(argument)
    found = [one for one in files() if number(one.address) == where]
    if not found:
        raise Garbage(f'{where:#x} is no open file: `nt file` lists them')
    one = found[0]
    yield file_name(one)
    yield (f'Device Object: {hexa(one["DeviceObject"])} '
           f'{driver_name(guest.at("DEVICE_OBJECT", one["DeviceObject"]))}')
    yield f'Flags: {int(one["Flags"]):#x} {flags(one["Flags"], FILE_FLAGS)}'
    yield f'CurrentByteOffset: {number(one["CurrentByteOffset"]):#x}'
    signalled = int(one['Event']['Header']['SignalState']) > 0
    yield f'Event: {"signalled" if signalled else "not signalled"}'
    yield (f'CompletionPort: {hexa(one["CompletionPort"])} Key '
           f'{hexa(one["CompletionKey"])}')
    for irp in guest.entries(one['io']['irps'], 'IRP', 'ThreadListEntry'):
        yield f'Pending IRP {int(irp["id"])}: {hexa(irp.address)}'


def file_name(one):
    return (device_name(one['DeviceObject'])
            + guest.string(one['FileName'], 256))


@command('iocp', gdb.COMPLETE_EXPRESSION)
def iocp(argument):
    """nt iocp [ADDRESS]: all completion ports, or one: packets and threads.
A port is a KQUEUE: packets first in first out, waiters newest first, and never
more of its threads running than its limit."""
    found = ports()
    if argument:
        wanted = value_of(argument)
        if wanted not in found:
            raise Garbage(f'{wanted:#x} is no port: `nt iocp` lists them')
        found = [wanted]
    if not found:
        yield 'There is no completion port.'
    for where in found:
        yield from port_lines(guest.at('KQUEUE', where))


def port_lines(port):
    yield (f'Port {hexa(port.address)}: {int(port["Header"]["SignalState"])} '
           f'packets; {int(port["CurrentCount"])} of at most '
           f'{int(port["MaximumCount"])} threads run'
           + (', run down' if port['abandoned'] else ''))
    for irp, where in packets(port):
        yield (f'    packet: IRP {int(irp["id"])} '
               f'{text.status(irp["IoStatus"]["Status"])}' if irp else
               f'    packet: a post at {where:016x}')
    for block in guest.entries(port['waiters'], 'KWAIT_BLOCK',
                               'WaitListEntry'):
        thread = guest.at('KTHREAD', block['Thread'])
        yield f'    waiter: thread {int(thread["id"])}'
    for thread in guest.entries(port['ThreadListHead'], 'KTHREAD',
                                'QueueListEntry'):
        yield f'    associated: thread {int(thread["id"])}'
