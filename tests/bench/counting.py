"""counting.py - boots TINT under the counting plugin and reads its log.

count.c writes one line for each marker; between markers 2 and 3 lies a
window, and the guest's console names the windows in their order (`TEST ...`).
"""
import dataclasses
import re
import subprocess
import sys

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / 'tools'))
import qemu

PLUGIN = qemu.BUILD / 'bench' / 'count.so'
IMAGE = qemu.BUILD / 'bench' / 'disk.img'
IMAGE_SIZE = 256 << 20
CACHE = 'cache=writeback,aio=threads'
SLOW = 'throttling.iops-total=1'
DEAF = 'throttling.bps-write=1'         # the first write passes, the next waits
MACHINE = ('-nodefaults', '-no-user-config')
MEMORY = '256M'
OPEN, CLOSE, SINGLE, SINGLE_END = 2, 3, 4, 5

TEST = re.compile(r'^TEST (\S+) n=(\d+) sec=([\d.]+)', re.M)
LINE = re.compile(r'^(\w+) ([0-9a-f]+)(?: cpu=(\d+) ns=(\d+))?')


class Wrong(Exception):
    """A run that did not do what it should; the text says why."""


@dataclasses.dataclass
class Window:
    """One window, or one flight: what was counted from its begin to its end."""
    name: str
    n: int
    seconds: float
    counts: dict
    sites: dict = dataclasses.field(default_factory=dict)

    def __getitem__(self, counter):
        return self.counts[counter]

    @property
    def total(self):
        return self['user'] + self['kernel']

    @property
    def each(self):
        return self.total / self.n


# ---- The log ----------------------------------------------------------------

def events(log):
    """The lines of the log as (what, value, nanoseconds, counters)."""
    found = []
    for line in Path(log).read_text().splitlines():
        match = LINE.match(line)
        counts = {name: int(number) for name, number in
                  re.findall(r'(\w+)=(\d+)', line)}
        found.append((match[1], int(match[2], 16), int(match[4] or 0), counts))
    return found


def difference(before, after):
    return {name: after[name] - before[name] for name in after}


def windows(log, console):
    """The windows of a run, in order."""
    names = TEST.findall(console)
    found, begin, sites = [], None, {}
    for what, value, time, counts in events(log):
        if what == 'mark' and value == OPEN:
            begin = time, counts
        elif what == 'mark' and value == CLOSE and begin:
            found.append((begin, (time, counts), {}))
            begin = None
        elif what == 'site':
            found[-1][2][value] = counts['count']
    if len(found) != len(names):
        raise Wrong(f'{len(found)} windows, but {len(names)} TEST lines')
    return [Window(name, int(n), float(seconds), difference(b[1], e[1]), sites)
            for (name, n, seconds), (b, e, sites) in zip(names, found)]


def flights(log):
    """For each single operation: its seconds, and the instructions between
    the first time that a processor halted and the last time before its end.
    They are 0 if nothing but the end of the operation woke one."""
    found, halts, begin = [], [], 0
    for what, value, time, counts in events(log):
        if what == 'mark' and value == SINGLE:
            halts, begin = [], time
        elif what == 'hlt':
            halts.append(counts['user'] + counts['kernel'])
        elif what == 'mark' and value == SINGLE_END:
            ran = halts[-1] - halts[0] if halts else None
            found.append(((time - begin) / 1e9, ran))
    return found


def boot(log):
    """Instructions from the kernel's entry to the first one in ring 3."""
    at = {what: counts['user'] + counts['kernel']
          for what, _, _, counts in events(log) if what in ('entry', 'user')}
    if not {'entry', 'user'} <= at.keys():
        raise Wrong('the log says nothing of the kernel\'s entry')
    return at['user'] - at['entry']


# ---- Runs -------------------------------------------------------------------

def image():
    """A disk image that has all its blocks, so that writes allocate none."""
    if not IMAGE.exists() or IMAGE.stat().st_size != IMAGE_SIZE:
        IMAGE.parent.mkdir(parents=True, exist_ok=True)
        with open(IMAGE, 'wb') as out:
            for _ in range(IMAGE_SIZE >> 20):
                out.write(bytes(1 << 20))
    return IMAGE


def disk(bus='nvme', options=CACHE):
    return qemu.Disk(image(), bus, options)


def nothing():
    """A disk that does nothing, as fast as it can."""
    return qemu.Disk('null-co://', 'nvme', 'file.size=1G')


def entry_of(elf):
    out = subprocess.run(['readelf', '-h', str(elf)], text=True, check=True,
                         capture_output=True).stdout
    return re.search(r'Entry point address:\s+0x([0-9a-f]+)', out).group(1)


def compiler():
    """The version of what built the kernel: in the stamp of the build, behind
    the name it was called by, before its flags."""
    text = (qemu.BUILD / 'stamp' / 'cc').read_text().split(' -')[0]
    return re.sub(r'^\S*gcc', 'gcc', text).strip()


def load(m, *options):
    """The arguments for a machine with the plugin, whose log is count.log."""
    return '-plugin', ','.join([qemu.quote(PLUGIN), 'log='
                                + qemu.quote(m.logs / 'count.log'), *options])


def machine(name, words, disks, plugin=None, mem=MEMORY, **options):
    """The machine of all rows; plugin: options of count.c."""
    kernel = qemu.BUILD / 'tint.elf'
    m = qemu.Machine(f'bench-{name}', program=words, disks=disks, mem=mem,
                     extra=MACHINE, **options)
    if plugin is not None:
        m.extra = (*MACHINE, *load(m, f'entry={entry_of(kernel)}', *plugin))
    return m


def run(name, words, disks, bound=600, plugin=(), **options):
    """Boots, waits for the end; returns the machine."""
    with machine(name, words, disks, plugin=plugin, **options) as m:
        if m.wait(bound) != qemu.PASSED:
            raise Wrong(m.report(f'{" ".join(words)} failed'))
    return m


def cost(row, window):
    """What the table says of a window; of the null call the kernel's part."""
    return (window['kernel'] / window.n if row.number == '5'
            else window.each)


def count(name, rows, disks, *more, **options):
    """Runs rows of the program bench; {row: Window}, and the log's path."""
    m = run(name, ['bench', '--rows', ','.join(rows), *more], disks, **options)
    log = m.logs / 'count.log'
    return {window.name.split(':')[0]: window
            for window in windows(log, m.console)}, log
