"""rows.py - the rows of the table: what they are called, what they are held
to, and the recorded figures of Linux.

Linux: Debian's 6.1 cloud kernel on the same machine line, measured by the same
plugin; `default` is its stock command line, `tuned` the fastest that it could
be made without building it anew (peer.py). A figure that is None was not
measured, or has no counterpart.
"""
import dataclasses

INSTRUCTIONS = 'instructions'


@dataclasses.dataclass(frozen=True)
class Row:
    number: str
    name: str
    unit: str
    default: float = None       # Linux
    tuned: float = None         # Linux, at its best
    must: float = None
    aim: float = None
    more: bool = False          # more is better

    def reaches(self, value, bound):
        """Whether value is as good as bound; None if there is none."""
        if bound is None or value is None:
            return None
        return value >= bound if self.more else value <= bound

    def verdict(self, value):
        if value is None:
            return 'not measured'
        if self.reaches(value, self.aim):
            return 'aim'
        reached = self.reaches(value, self.must)
        return {True: 'must', False: 'SHORT', None: ''}[reached]


ROWS = [
    Row('1', 'write 4 KiB, QD 64, one call each, direct road', INSTRUCTIONS,
        8450, 5870, 840, 413),
    Row('1b', 'the same on the APC road', INSTRUCTIONS, 8450, 5870, 1000, 600),
    Row('1c', 'the same, 64 writes a call', INSTRUCTIONS, 7330, 4130, 600,
        350),
    Row('2', 'write, QD 1, asleep meanwhile, direct road', INSTRUCTIONS, 15940,
        10970, 1600, 1000),
    Row('2b', 'the same on the APC road', INSTRUCTIONS, 15940, 10970, 1600,
        1000),
    Row('3', 'row 1 at QD 1,024: growth', '%', None, None, 10, 0),
    Row('3b', 'row 1 at QD 10,000: growth', '%', None, None, 10, 0),
    Row('4', 'between halt and the disk\'s interrupt, 1 vCPU', INSTRUCTIONS,
        80000, 43000, 0, 0),
    Row('4b', 'the same, 2 vCPUs', INSTRUCTIONS, 80000, 43000, 0, 0),
    Row('5', 'null system call (the kernel\'s part)', INSTRUCTIONS, 322, 308,
        100, 60),
    Row('6', 'post to a port and take it', INSTRUCTIONS, 1262, 920, 300, 200),
    Row('7', 'post to a blocked thread and back', INSTRUCTIONS, 9630, 8300,
        1500, 900),
    Row('8', 'user APC to oneself, and return', INSTRUCTIONS, 4290, 4090, 700,
        400),
    Row('9', 'kernel entry to ring 3', 'M instructions', 1485, None, 5, 1),
    Row('10', 'QEMU start to the end of `true`, wall', 's', 3.5, None, 0.3,
        0.12),
    Row('11', 'kernel memory per write in flight', 'bytes', 576, None, 512,
        256),
    Row('12', 'RAM for 10,000 writes, beyond buffers', 'MiB', None, None, 16,
        8),
    Row('13', 'IOPS, QD 64, null-co', 'x Linux', 0.8, 1, 1.8, 2.5, more=True),
    Row('14', 'IOPS, QD 64, raw file', 'x Linux', 0.8, 1, 1.2, 1.4,
        more=True),
    Row('15', 'IDE: port accesses per 4 KiB write', 'accesses', 26, None, 16,
        13),
    Row('16', 'row 1, 2 vCPUs over 1', 'x', None, None, 1.15, 1.0),
    Row('16b', 'row 1, 4 vCPUs over 1', 'x', None, None, 1.15, 1.0),
]
BY_NUMBER = {row.number: row for row in ROWS}

# Recorded on null-co and on the raw file, tuned, batched: what rows 13 and 14
# are divided by when Linux does not run beside.
LINUX_IOPS = {'13': 87200, '14': 43900}


# ---- Valid samples ----------------------------------------------------------

def judge(number, window):
    """What speaks against a sample; '' if nothing does. How many completions
    one interrupt brings depends on the host, and so do the instructions."""
    if number == '1':
        each = window.n / max(window['iret'], 1)
        if not 25 <= each <= 60:
            return f'{each:.1f} writes per interrupt, not 25-60'
    if number in ('2', '2b'):
        halts = window['hlt'] / window.n
        if halts < 0.98:
            return f'{halts:.3f} hlt per write, not 0.98'
    return ''
