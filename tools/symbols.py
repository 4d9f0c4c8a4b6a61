"""symbols.py - names for the addresses that a bugcheck prints."""
import bisect
import os
import re
import shutil
import subprocess

STOP = re.compile(r'^\*\*\* (?:STOP|POOL)', re.M)
ADDRESS = re.compile(r'\b0x(ffffffff[89a-f][0-9a-f]{7})\b', re.I)
EXACT = re.compile(r'STOP|\brip\b')     # elsewhere: the address behind a call
MAX_LINES = 120                         # of a report


def tool(name):
    path = shutil.which(os.environ.get('CROSS_COMPILE', '') + name)
    return path or shutil.which(name)


def load(elf):
    """[(address, size, name)] of the symbols of elf, sorted; size may be 0."""
    nm = tool('nm')
    if not nm or not os.path.exists(elf):
        return []
    out = subprocess.run([nm, '-S', '-n', '--defined-only', str(elf)],
                         text=True, capture_output=True).stdout
    table = []
    for fields in map(str.split, out.splitlines()):
        size = int(fields[1], 16) if len(fields) == 4 else 0
        table.append((int(fields[0], 16), size, fields[-1]))
    return table


def lines(elf, addresses):
    """file:line for each address; '' where there is none."""
    addr2line = tool('addr2line')
    if not addr2line:
        return [''] * len(addresses)
    out = subprocess.run([addr2line, '-e', str(elf),
                          *(f'{a:#x}' for a in addresses)],
                         text=True, capture_output=True).stdout.splitlines()
    here = os.getcwd() + '/'
    return [re.sub(r' \(discriminator \d+\)', '', line).removeprefix(here)
            if not line.startswith('??') else '' for line in out]


def explain(console, elf):
    """The addresses of the last bugcheck in console, or of the list of pool's
    owners, with names; '' without one or without symbols."""
    console = console.replace('\r', '')
    stops = list(STOP.finditer(console))
    return names(console[stops[-1].start():], elf) if stops else ''


def names(report, elf):
    """A line for each of the kernel's addresses in report, with its name."""
    table = load(elf)
    starts = [entry[0] for entry in table]
    found = {}          # address -> the address to look up, in order
    for line in report.splitlines()[:MAX_LINES]:
        for text in ADDRESS.findall(line):
            address = int(text, 16)
            if table and starts[0] <= address <= starts[-1]:
                # A return address lies behind its call, maybe in a line of
                # its own.
                found.setdefault(address, address if EXACT.search(line)
                                 else address - 1)
    out = []
    for (address, looked), place in zip(found.items(),
                                        lines(elf, found.values())):
        start, _, name = table[bisect.bisect_right(starts, looked) - 1]
        out.append(f'{address:#018x}  {name}+{address - start:#x}'
                   + (f'  {place}' if place else ''))
    return '\n'.join(out)
