"""attach.py - what a session has beside the commands: the symbols of ring-3
programs as they are loaded, a stop at a bugcheck, and a word at the end.

All breakpoints in here are silent ones of ours, and never change the guest.
"""
import struct

import gdb

from . import guest, why
from .guest import Garbage, number

NT_ENTRY_PROCESS = 0
LONGEST_NAME = 15               # EPROCESS.ImageFileName without its zero

loaded = set()


def load_symbols(name, entry=None):
    """Adds the symbols of a program; entry: what the kernel entered it by. A
    file that begins elsewhere is another program of that name."""
    folder = guest.BUILD / 'user'
    files = [path for path in folder.glob(name + '*') if path.is_file() and
             (path.name == name or len(name) == LONGEST_NAME)]
    for path in files:
        with open(path, 'rb') as image:
            head = image.read(32)
        if head[:4] != b'\x7fELF' or path in loaded or \
                entry not in (None, struct.unpack('<Q', head[24:32])[0]):
            continue
        loaded.add(path)
        quoted = str(path).replace('\\', '\\\\').replace('"', '\\"')
        gdb.execute(f'add-symbol-file "{quoted}"', to_string=True)


class Started(gdb.Breakpoint):
    """A thread enters ring 3 for the first time."""

    def stop(self):
        try:
            if guest.register('rdx') == NT_ENTRY_PROCESS:   # its argument
                thread = guest.at('KTHREAD', guest.word(
                    guest.register('gs_base') + guest.POINTER))
                process = guest.at('EPROCESS', thread['Process'])
                load_symbols(guest.array(process['ImageFileName']),
                             number(process['Pcb']['user_entry']))
        except (Garbage, gdb.error, OSError):
            pass                # it will have no names, that is all
        return False


class Bugcheck(gdb.Breakpoint):
    """Stops where a bugcheck begins; QEMU ends with it."""

    def stop(self):
        try:
            why.last = why.Bugcheck(gdb.newest_frame())
        except (Garbage, gdb.error, ValueError):
            pass
        gdb.write('\nA bugcheck: `nt why` says which, `continue` lets TINT '
                  'print it and leave QEMU.\n')
        return True


def on_end(event):
    """QEMU ends as soon as TINT says so, without a word to gdb."""
    gdb.write('\nQEMU has ended: the program has, there was a bugcheck or a '
              'triple fault, or you said\nso. What the console said is in '
              f'{guest.BUILD.name}/debug-console.log. `quit`, and `make debug` '
              'starts it anew.\n')


def install(programs):
    """programs: words of the command line, of which some may be programs."""
    for word in programs:
        load_symbols(word.replace('/', '\\').split('\\')[-1])
    Started('*ke_enter_user', internal=True)
    Bugcheck('-source bugcheck.c -function stop', internal=True)
    gdb.events.connection_removed.connect(on_end)
    if hasattr(gdb.events, 'gdb_exiting'):      # no word to those who go
        gdb.events.gdb_exiting.connect(
            lambda event: gdb.events.connection_removed.disconnect(on_end))
