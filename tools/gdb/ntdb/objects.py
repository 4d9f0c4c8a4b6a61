"""objects.py - nt handles: handle tables and the objects that they name.
"""
import gdb

from . import guest
from .command import command
from .guest import Garbage, hexa, number
from .threads import find_process, processes

STEP, PER_PAGE = 4, 128         # of handles: OB_HANDLE_STEP, OB_PER_PAGE


def header_of(object_):
    """The OBJECT_HEADER of an object, and the name of its type."""
    header = guest.at('OBJECT_HEADER',
                      object_ - gdb.lookup_type('OBJECT_HEADER').sizeof)
    kind = guest.at('OBJECT_TYPE', header['Type'])
    return header, guest.string(kind['name'])


def table_entries(table):
    """(handle, entry) of all handles of a table."""
    size = gdb.lookup_type('ob_handle_entry').sizeof
    for i in range(int(table['end']) // STEP):
        page = number(table['page'][i // PER_PAGE])
        entry = guest.at('ob_handle_entry', page + i % PER_PAGE * size)
        if number(entry['object']):
            yield i * STEP, entry


def all_objects():
    """(address, type) of all objects to which a process has a handle."""
    for process in processes():
        for _, entry in table_entries(process['ObjectTable']):
            where = number(entry['object'])
            yield where, header_of(where)[1]


@command('handles', gdb.COMPLETE_EXPRESSION)
def handles(argument):
    """nt handles [PROCESS]: the handles of a process; without it the current.
WinDbg: !handle 0 3."""
    if argument == '0':         # as in !handle: all
        argument = ''
    try:
        process = find_process(argument)
    except Garbage:
        if argument:
            raise
        yield from all_handles()        # nobody runs: everyone's
        return
    yield from handle_lines(process)


def all_handles():
    for process in processes():
        yield from handle_lines(process)


def handle_lines(process):
    table = process['ObjectTable']
    yield (f'PROCESS {hexa(process.address)}  Cid: '
           f'{int(process["UniqueProcessId"]):04x}  Image: '
           f'{guest.array(process["ImageFileName"])}')
    yield (f'Handle table at {hexa(table.address)} with '
           f'{int(table["count"])} entries in use')
    for handle, entry in table_entries(table):
        where = number(entry['object'])
        header, kind = header_of(where)
        yield (f'{handle:04x}: Object: {where:016x}  GrantedAccess: '
               f'{int(entry["granted"]):08x}  Type: {kind}'
               + what(where, kind))
        yield (f'      HandleCount: {int(header["HandleCount"])}  '
               f'PointerCount: {int(header["PointerCount"])}')


def what(where, kind):
    """A few words on the object itself."""
    from .io import file_name
    if kind == 'File':
        return '  ' + file_name(guest.at('FILE_OBJECT', where))
    if kind == 'Process':
        return '  ' + guest.array(guest.at('EPROCESS', where)['ImageFileName'])
    if kind == 'Thread':
        return f'  thread {int(guest.at("KTHREAD", where)["id"])}'
    return ''
