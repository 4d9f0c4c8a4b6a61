"""printers.py - what `print` makes of lists, IRPs, threads and status codes.

`print/r` shows a value as it is.
"""
import gdb
import gdb.printing

from . import guest, text
from .guest import number

SHOWN = 8                       # entries of a list


class List:
    """LIST_ENTRY: how many are on it, or where it is broken."""

    def __init__(self, value):
        self.value = value

    def to_string(self):
        try:
            head = number(self.value.address)
            if not number(self.value['Flink']):
                return 'no list: {Flink = 0x0}'
            here, entries = guest.word(head), []
            while here != head and len(entries) <= guest.LONGEST_LIST:
                if guest.word(guest.word(here) + guest.POINTER) != here:
                    return f'damaged at {here:#x}, behind {len(entries)}'
                entries.append(f'{here:#x}')
                here = guest.word(here)
            dots = ', ...' if len(entries) > SHOWN else ''
            return (f'{len(entries)} entries: '
                    + ', '.join(entries[:SHOWN]) + dots
                    if entries else 'empty list')
        except (guest.Garbage, gdb.error, TypeError):
            return 'list that cannot be read'


class Irp:
    def __init__(self, value):
        self.value = value

    def to_string(self):
        from .io import check_irp, device_name, location_of
        try:
            irp = check_irp(number(self.value.address))
            location = location_of(irp)
            state = text.constant('SNAPSHOT_IRP_STATE', irp['state'])
            return (f'IRP {int(irp["id"])}: '
                    f'{text.major(location["MajorFunction"])} '
                    f'{device_name(location["DeviceObject"])}, {state}, '
                    f'{text.status(irp["IoStatus"]["Status"])}')
        except (guest.Garbage, gdb.error, TypeError, ValueError) as error:
            return f'no IRP: {error}'


class Thread:
    def __init__(self, value):
        self.value = value

    def to_string(self):
        from .threads import check_thread, state_text, thread_name
        try:
            thread = check_thread(number(self.value.address))
            return f'{thread_name(thread)}: {state_text(thread)}'
        except (guest.Garbage, gdb.error, TypeError, ValueError) as error:
            return f'no thread: {error}'


class Status:
    def __init__(self, value):
        self.value = value

    def to_string(self):
        return text.status(int(self.value))


class Printers(gdb.printing.PrettyPrinter):
    """By the name of the type, typedefs included: NTSTATUS is an int32_t."""

    KINDS = {'LIST_ENTRY': List, 'IRP': Irp, 'KTHREAD': Thread,
             'NTSTATUS': Status}

    def __init__(self):
        super().__init__('TINT', [])

    def __call__(self, value):
        kind = value.type.unqualified()
        printer = self.KINDS.get(kind.name or kind.tag)
        return printer(value) if printer else None


def install():
    gdb.printing.register_pretty_printer(None, Printers(), replace=True)
