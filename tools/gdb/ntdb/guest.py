"""guest.py - the guest as a debugger sees it: processors, memory, lists.

Memory and registers are only ever read. All memory is looked at through a
processor that has the kernel mapped, so that it does not matter which one is
selected: the kernel's half is the same in every address space. What cannot be
read, or cannot be what it is taken for, is a Garbage with one line of text.
"""
import contextlib
import os

from pathlib import Path

import gdb

ROOT = Path(__file__).resolve().parents[3]
BUILD = ROOT / os.environ.get('BUILD', 'build')
POINTER = 8
VECTORS = 256
MASK = (1 << 64) - 1
CR0_PAGING = 1 << 31
LOWEST_KERNEL = 0xFFFF800000000000
LONGEST_LIST = 1 << 20          # entries; a longer one is taken for damaged
CHUNK = 1 << 15                 # bytes; gdb's max-value-size is 1 << 16


class Garbage(Exception):
    """Something is not what it should be; the text is for the user."""


# ---- Symbols and numbers -----------------------------------------------------

def kernel():
    """The kernel's symbols: the file that gdb was started with."""
    name = gdb.current_progspace().filename
    for objfile in gdb.objfiles():
        if objfile.filename == name:
            return objfile
    raise Garbage('gdb has no kernel: `file build/tint-chk.elf` loads it')


def symbol(name):
    """The value of a variable or function of the kernel."""
    found = (kernel().lookup_global_symbol(name) or
             kernel().lookup_static_symbol(name))
    if not found:
        raise Garbage(f'this kernel has no {name}')
    return found.value()


def static(file, name):
    """A static variable of one source file."""
    try:
        return gdb.parse_and_eval(f"'{file}'::{name}")
    except gdb.error:
        raise Garbage(f'this kernel has no {name} in {file}') from None


def address(name):
    """Where a symbol of the kernel lies, assembler's labels included."""
    found = gdb.lookup_static_symbol(name)
    if not found:
        try:
            return number(symbol(name).address)
        except Garbage:
            pass
    return int(gdb.parse_and_eval(f'(unsigned long)&{name}')) & MASK


def number(value):
    """A gdb.Value, pointer or not, as an unsigned number."""
    value = gdb.Value(value)
    if value.type.strip_typedefs().code == gdb.TYPE_CODE_PTR:
        return int(value.cast(gdb.lookup_type('unsigned long'))) & MASK
    return int(value)


def name_of(where):
    """`ide_isr` or `ki_trap+12` for an address; '' if nobody has a name."""
    text = gdb.execute(f'info symbol {int(where):#x}', to_string=True)
    if text.startswith('No symbol'):
        return ''
    return text.split(' in section')[0].replace(' + ', '+').strip()


def hexa(value):
    return f'{number(value):016x}'


# ---- Memory ------------------------------------------------------------------

def memory(where, length):
    """Bytes of the guest, as the selected processor sees them. (gdb's
    Inferior.read_memory may ask any processor, which matters below the kernel's
    addresses; a value larger than CHUNK may be refused.)"""
    where &= MASK
    byte = gdb.lookup_type('unsigned char')
    text = ''
    try:
        while len(text) < length:
            part = min(length - len(text), CHUNK)
            value = gdb.Value(where + len(text)).cast(
                byte.array(part - 1).pointer()).dereference()
            text += value.string('latin-1', length=part)
        return text.encode('latin-1')
    except (gdb.error, OverflowError):
        raise Garbage(f'cannot read memory at {where:#x}') from None


def word(where):
    return int.from_bytes(memory(where, POINTER), 'little')


def at(type_name, where):
    """An object of that type at an address, all of it readable."""
    where = number(where) if isinstance(where, gdb.Value) else where & MASK
    kind = gdb.lookup_type(type_name)
    if where < LOWEST_KERNEL:
        raise Garbage(f'{where:#x} is no address of the kernel')
    memory(where, max(1, kind.sizeof))
    return gdb.Value(where).cast(kind.pointer()).dereference()


def string(pointer, longest=64):
    """A C string of the kernel; what is not printable becomes a dot."""
    where = number(pointer)
    if not where:
        return ''
    out = b''
    while len(out) < longest:
        byte = memory(where + len(out), 1)
        if byte == b'\0':
            break
        out += byte
    return printable(out)


def array(value):
    """A char[] member as text."""
    raw = memory(number(value.address), value.type.sizeof)
    return printable(raw.split(b'\0')[0])


def printable(raw):
    return ''.join(chr(c) if 32 <= c < 127 else '.' for c in raw)


def offset(type_name, path):
    """Where a member lies, such as Tail.Apc in IRP."""
    pointer = gdb.Value(0).cast(gdb.lookup_type(type_name).pointer())
    member = pointer.dereference()
    for name in path.split('.'):
        member = member[name]
    return number(member.address)


def entries(head, type_name, path):
    """The records on a list whose LIST_ENTRY is the member path. A link that
    leads nowhere, or in a circle, ends it with a Garbage that says where."""
    first, back = number(head.address), offset(type_name, path)
    if not word(first):             # never initialised
        return
    here, previous, count = word(first), first, 0
    while here != first:
        try:
            following, before = word(here), word(here + POINTER)
        except Garbage:
            following = before = None
        if before != previous or count == LONGEST_LIST:
            raise Garbage(f'the list at {first:#x} is damaged, or just being '
                          f'changed, behind {count} entries, at {here:#x}')
        yield at(type_name, here - back)
        here, previous, count = following, here, count + 1


# ---- Processors --------------------------------------------------------------

def register(name):
    """A register of the selected processor, whichever frame is selected."""
    return raw(gdb.newest_frame().read_register(name))


def raw(value):
    """What a register holds; gdb gives some a pointer's type, or flags'."""
    return int(value.cast(gdb.lookup_type('unsigned long'))) & MASK


def cpus():
    """gdb's threads, which are QEMU's processors, by number."""
    return {thread.ptid[1] - 1: thread
            for thread in sorted(gdb.selected_inferior().threads(),
                                 key=lambda thread: thread.num)}


@contextlib.contextmanager
def selected(thread):
    """Another processor for a moment, then the old one and its frame."""
    old = gdb.selected_thread()
    frame = gdb.selected_frame() if old and old.is_valid() else None
    try:
        thread.switch()
        yield
    finally:
        if old and old.is_valid():
            old.switch()
            if frame and frame.is_valid():
                frame.select()


def sees_kernel():
    """Has the selected processor the kernel mapped, and does it run?"""
    try:
        if not register('cr0') & CR0_PAGING:
            return False
        first = word(number(symbol('ki_processor').address))
        return first >= LOWEST_KERNEL and word(first) == first
    except (Garbage, gdb.error):
        return False


user_thread = None              # whom the user has selected


@contextlib.contextmanager
def kernel_view():
    """Selects a processor that has the kernel mapped, if this one has not."""
    global user_thread
    user_thread = gdb.selected_thread()
    if not user_thread:
        raise Garbage('there is no guest: `make debug` starts one')
    if sees_kernel():
        yield
        return
    for thread in cpus().values():
        with selected(thread):
            if sees_kernel():
                yield
                return
    raise Garbage('there are no kernel objects yet, or what leads to them is '
                  'damaged: at the start `break ps_init` and `continue` lead '
                  'to the first ones')


def prcbs():
    """The KPRCB of each processor that the kernel has started."""
    table = symbol('ki_processor')
    for i in range(int(symbol('KeNumberProcessors'))):
        yield at('KPRCB', table[i])


def cpu_of(prcb):
    """The gdb thread of a processor."""
    return cpus().get(int(prcb['apic_id']))


def current():
    """The KPRCB of the processor that the user has selected."""
    number_of = user_thread.ptid[1] - 1
    for prcb in prcbs():
        if int(prcb['apic_id']) == number_of:
            return prcb
    raise Garbage(f'the kernel has not started processor {number_of}')


def registers(prcb, *names):
    """Registers of any processor."""
    thread = cpu_of(prcb)
    if not thread:
        raise Garbage(f'QEMU has no processor {int(prcb["apic_id"])}')
    with selected(thread):
        return [register(name) for name in names]


def is_halted(prcb):
    """Whether QEMU, not the kernel, says that a processor is halted."""
    name = cpu_of(prcb) and gdb.execute('info threads ' +
                                        str(cpu_of(prcb).num), to_string=True)
    return bool(name) and '[halted' in name
