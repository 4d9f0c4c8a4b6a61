"""peer.py - Linux beside TINT: a guest out of Debian's packages.

The packages (the cloud kernel, and liburing for peer.c) are only fetched and
unpacked, below build/bench/peer/; nothing is installed. The guest's only
program is peer.c, as init. It boots on the same machine, with the same disk,
under the same plugin.
"""
import re
import shutil
import statistics
import subprocess
import sys

import counting
import qemu

WORK = qemu.BUILD / 'bench' / 'peer'
SOURCE = counting.ROOT / 'tests' / 'bench' / 'peer.c'
KERNEL = 'linux-image-cloud-amd64'          # depends on the current one
URING = 'liburing-dev'

# The fastest that this kernel gets without being built anew.
DEFAULT = 'console=ttyS0 quiet panic=-1 nokaslr'
TUNED = (f'{DEFAULT} mitigations=off psi=0 init_on_alloc=0 '
         'randomize_kstack_offset=off apparmor=0 audit=0 nowatchdog')
QUEUE = '/sys/block/nvme0n1/queue'
TUNING = [f'set:{QUEUE}/scheduler=none', f'set:{QUEUE}/iostats=0',
          f'set:{QUEUE}/nomerges=2']

CALL = 'write:call:64:4096'
BATCH = 'write:batch:64:16384'
BEST = 'write:best:64:4096'
ALONE = 'write:call:1:2048'
ALONE_BEST = 'write:best:1:2048'
CALLS = {'5': 'null:20000', '6': 'packet:4096', '7': 'round:4096',
         '8': 'signal:4096'}
# What each row is compared with: by default, and tuned.
WRITES = {'1': (CALL, CALL), '1b': (CALL, CALL), '1c': ('write:batch:64:4096',
          BEST), '2': (ALONE, ALONE_BEST), '2b': (ALONE, ALONE_BEST)}
MAPS = [('QD 64, a call each', CALL, False),
        ('the same, tuned', CALL, True),
        ('QD 64, best, tuned', BEST, True), ('QD 1', ALONE, False),
        *((f'row {row}', word, False) for row, word in CALLS.items())]
TRIES = 3           # a Linux with a call for each write hangs now and then
HANGS = 120         # seconds


# ---- The guest --------------------------------------------------------------

def fetch(package):
    """Unpacks a package into WORK/PACKAGE, once."""
    root = WORK / package
    if not (root / 'usr').exists() and not (root / 'boot').exists():
        shutil.rmtree(root, ignore_errors=True)
        subprocess.run(['apt-get', 'download', '-q', package], cwd=WORK,
                       check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        deb, = WORK.glob(f'{package}_*.deb')
        subprocess.run(['dpkg', '-x', str(deb), str(root)], check=True)
    return root


def current_kernel():
    out = subprocess.run(['apt-cache', 'depends', KERNEL], text=True,
                         capture_output=True, check=True).stdout
    return next(line.split()[1] for line in out.splitlines()
                if 'Depends: linux-image' in line)


def archive(files):
    """A cpio archive (newc) of (name, mode, content, device)."""
    out = b''
    for i, (name, mode, content, device) in enumerate(
            [*files, ('TRAILER!!!', 0, b'', (0, 0))]):
        fields = [i + 1, mode, 0, 0, 1, 0, len(content), 0, 0, *device,
                  len(name) + 1, 0]
        out += b'070701' + b''.join(b'%08x' % field for field in fields)
        out += name.encode() + b'\0'
        out += bytes(-len(out) % 4) + content
        out += bytes(-len(out) % 4)
    return out


def build():
    """The kernel and the initrd of the guest, and the kernel's name."""
    WORK.mkdir(parents=True, exist_ok=True)
    kernel = current_kernel()
    vmlinuz, = (fetch(kernel) / 'boot').glob('vmlinuz-*')
    uring = fetch(URING)
    init, initrd = WORK / 'init', WORK / 'initrd'
    subprocess.run(
        ['gcc', '-std=gnu17', '-O2', '-static', '-Wall', '-Wextra',
         f'-I{uring}/usr/include', '-o', str(init), str(SOURCE),
         *map(str, uring.glob('usr/lib/*/liburing.a')), '-lpthread'],
        check=True)
    initrd.write_bytes(archive([
        ('dev', 0o040755, b'', (0, 0)),
        ('dev/console', 0o020600, b'', (5, 1)),
        ('init', 0o100755, init.read_bytes(), (0, 0))]))
    return vmlinuz, initrd, kernel


class Peer:
    """The Linux guest, and what it needed so far."""

    def __init__(self):
        try:
            self.kernel, self.initrd, self.version = build()
        except (OSError, subprocess.CalledProcessError, StopIteration) as error:
            raise counting.Wrong(
                f'Linux cannot be built: {error}. It takes apt-get, dpkg, gcc '
                f'and the packages {KERNEL} and {URING}') from None
        self.found = {}     # {(tuned, word): [instructions]}

    def boot(self, name, words, tuned, disk, plugin=()):
        """Runs words; the windows, or None if it hangs each time."""
        append = ' '.join([TUNED if tuned else DEFAULT, '--',
                           *(TUNING if tuned else []), *words])
        for _ in range(TRIES):
            m = qemu.Machine(f'bench-linux-{name}', kernel=self.kernel,
                             initrd=self.initrd, append=append, disks=[disk],
                             mem=counting.MEMORY, extra=counting.MACHINE)
            if plugin is not None:
                m.extra = (*counting.MACHINE, *counting.load(m, *plugin))
            try:
                with m:
                    m.expect_status(qemu.PASSED, HANGS)
                return m
            except qemu.Failure as failure:
                if 'no end within' not in str(failure):
                    raise counting.Wrong(str(failure)) from None
                print(f'bench: Linux hung in {name}', file=sys.stderr)
        return None

    def count(self, wanted, i):
        """One boot for each command line and kind: what each word costs."""
        for tuned in (False, True):
            words = {WRITES[row][tuned] for row in wanted if row in WRITES}
            calls = {CALLS[row] for row in wanted if row in CALLS}
            for kind in ({w for w in words if 'call' in w},
                         {w for w in words if 'call' not in w}, calls):
                if not kind:
                    continue
                m = self.boot(f'{"tuned" if tuned else "default"}-{i}',
                              sorted(kind), tuned, counting.disk())
                for window in counting.windows(m.logs / 'count.log',
                                               m.console) if m else []:
                    self.found.setdefault((tuned, window.name), []).append(
                        window)

    def rows(self):
        """{row: (default, tuned)} medians of what was counted."""
        found = {}
        for row, words in [*WRITES.items(), *((row, (word, word)) for
                                              row, word in CALLS.items())]:
            values = [self.cost(row, tuned, words[tuned])
                      for tuned in (False, True)]
            if any(values):
                found[row] = tuple(values)
        return found

    def cost(self, row, tuned, word):
        windows = self.found.get((tuned, word))
        if not windows:
            return None
        if row == '5':
            return statistics.median(w['kernel'] / w.n for w in windows)
        each = statistics.median(w.each for w in windows)
        null = self.found.get((tuned, CALLS['5']))
        if row == '8' and null:     # tgkill itself, and getpid
            each -= statistics.median(w.each for w in null)
        return each

    def maps(self):
        """(title, window, symbols) of what WHERE=1 shows: Linux's functions
        lie where they did in the run that printed them (nokaslr)."""
        for title, word, tuned in MAPS:
            m = self.boot(f'where-{word}', ['symbols:0', word], tuned,
                          counting.disk(), plugin=['map=on'])
            if not m:
                raise counting.Wrong('Linux hangs')
            table = [(int(address, 16), name) for address, name in
                     re.findall(r'^SYMBOL (\w+) \w (\S+)', m.console, re.M)]
            window, = counting.windows(m.logs / 'count.log', m.console)
            yield title, window, table

    def iops(self, disk, i):
        """Tuned, batched: what rows 13 and 14 are compared with."""
        m = self.boot(f'iops-{i}', [BATCH], True, disk, plugin=None)
        if not m:
            raise counting.Wrong('Linux hangs')
        _, n, seconds = counting.TEST.findall(m.console)[0]
        return int(n) / float(seconds)
