"""pages.py - walks a stopped guest's page tables, in its physical memory."""
import dataclasses
import re

PRESENT, WRITE, USER, LARGE, NX = 1, 2, 4, 1 << 7, 1 << 63
ADDRESS = 0x000F_FFFF_FFFF_F000


@dataclasses.dataclass
class Range:
    start: int
    end: int
    write: bool
    user: bool
    execute: bool
    physical: int       # of start; a range is contiguous there, too


def registers(machine):
    """{name: value} of the control registers, EFER and CPL: those of a
    processor that is in ring 3, if there is one."""
    all_of_them = machine.hmp('info registers -a').split('CPU#')[1:]
    text = next((text for text in all_of_them if 'CPL=3' in text),
                all_of_them[0])
    return {name: int(value, 16) for name, value in
            re.findall(r'\b(CR[0-4]|EFER|CPL)=([0-9a-f]+)', text)}


def mapped(machine, cr3, size):
    """The ranges that are mapped, neighbours with the same rights joined;
    size is that of the guest's RAM."""
    path = machine.logs / 'ram'
    machine.qmp('pmemsave', val=0, size=size, filename=str(path))
    ram = path.read_bytes()
    path.unlink()
    found = []

    def add(start, end, rights, physical):
        last = found and found[-1]
        if last and last.end == start and rights == (
                last.write, last.user, last.execute) and (
                physical - last.physical == start - last.start):
            last.end = end
        else:
            found.append(Range(start, end, *rights, physical))

    def walk(table, level, base, write, user, execute):
        shift = 12 + 9 * level
        for n in range(512):
            entry = int.from_bytes(ram[table + 8 * n:table + 8 * n + 8],
                                   'little')
            if not entry & PRESENT:
                continue
            at = base | n << shift
            if level == 3 and n >= 256:         # canonical
                at |= 0xFFFF << 48
            rights = (write and bool(entry & WRITE),
                      user and bool(entry & USER),
                      execute and not entry & NX)
            if level == 0 or entry & LARGE and level < 3:
                add(at, at + (1 << shift), rights,
                    entry & ADDRESS & -(1 << shift))
            else:
                walk(entry & ADDRESS, level - 1, at, *rights)

    walk(cr3 & ADDRESS, 3, 0, True, True, True)
    return found


def frames(ranges):
    """The numbers of the physical pages behind some ranges."""
    return {(r.physical + at) >> 12 for r in ranges
            for at in range(0, r.end - r.start, 4096)}
