"""where.py - where the instructions of a window go, stage by stage, on TINT
and on Linux: the tables of docs/INSTRUCTIONS.md.

The plugin tells how often each address was executed (map=on). An address
belongs to the function it lies in; on TINT one that the compiler moved into
another function belongs to its own source file, so far as that is no header.
"""
import bisect
import re
import subprocess

from collections import Counter

import counting
import qemu
import rows
import symbols

# The first pattern that is found in `FILE FUNCTION` names the stage. `asm`
# stands for the file of what comes out of NASM.
STAGES = [
    ('ring 3: the loop, the stubs', '^ring 3'),
    ('system call: in and out', r'^asm ki_(system|call_(?!on)|user_args)'
                                r'|^asm ki_return'),
    ('interrupt: in, ISR, out', r'^asm ki_(trap|stub)|ke/(trap|interrupt)\.c'
                                r'|/hal/|_isr$'),
    ('DPC', r'ke/dpc\.c|ki_call_on_stack'),
    ('threads: wait, wake, switch, halt, APC', r'ke/(sched|thread|wait|event|'
     r'timer|apc|processor)\.c|ki_(halt|idle|swap|thread)'),
    ('arguments: check, copy in and out', r'kernel/nt/|ke/user\.c|ki_copy'),
    ('handle to object, and back', r'kernel/ob/'),
    ('pages: pin, unpin; memory', r'kernel/(mm|ex)/'),
    ('port and packet', r'io/port\.c|ke/queue\.c'),
    ('IRP: build, send, free', r'io/(irp|send|file|device)\.c'),
    ('IRP: complete', r'io/(complete|cancel)\.c'),
    ('disk and NVMe driver', r'^drivers/'),
    ('trace', r'ke/trace\.c'),
    ('rest', ''),
]

# The same for Linux, by the names of its functions.
LINUX_STAGES = [
    ('user: the loop', '^ring 3'),
    ('system call, interrupt: in and out', r'entry_|syscall|asm_|irqentry|'
     r'exit_to_user|sysvec|common_interrupt|do_IRQ|irq_(enter|exit)|error_'),
    ('interrupt controller, MSI, softirq', r'irq|apic|msi|softirq|handle_'),
    ('NVMe driver, DMA mapping', r'nvme|dma_|sg_|phys_addr|mempool'),
    ('I/O scheduler, merging', r'^dd_|deadline|elv_|blk_mq_sched|merge|rb_|'
     r'rb_insert|rb_erase|ioprio|sbitmap_get_shallow'),
    ('block layer, tags, accounting', r'blk|sbitmap|submit_bio|part_|update_io'
     r'|disk_|bdev_(?!read|write)|percpu_ref|wbt|rq_qos|account'),
    ('bio, direct I/O, file system', r'bio|dio|iov_iter|vfs|generic_|kiocb_|'
     r'gup|pin_user|page|folio|follow|inode|filemap|file_|fget|fput|touch_|'
     r'security|apparmor|fsnotify|sb_|mnt_|timestamp|bdev_'),
    ('io_uring', r'^__?io_|^io_|uring|^llist|task_work|tctx'),
    ('memory of the kernel', r'slab|kmem|kfree|kmalloc|alloc|memset|memcpy|'
     r'clear_'),
    ('signals', r'signal|sig|tgkill|task_active_pid|pid_|restore|fpu|xsave|'
     r'save_|getpid|gettid'),
    ('futex', r'futex|hash_'),
    ('scheduler, timers, idle, RCU', r'sched|schedule|pick|enqueue|dequeue|'
     r'wake|tick|timer|rcu|idle|switch|update_|load_|hrtimer|cpu|rq|pelt|'
     r'finish_task|task|wait|cfs|nohz|fair|resched|set_next|put_prev|preempt|'
     r'quiet|menu|prepare_to'),
    ('time', r'ktime|clock|tsc|time|seqcount'),
    ('rest', ''),
]
NOTHING = 0.5       # instructions each: less has no line


# ---- From addresses to stages -----------------------------------------------

def stage_of(stages, place):
    return next(name for name, pattern in stages if re.search(pattern, place))


def frames(elf, addresses):
    """{address: [(function, file)]}, the innermost first."""
    out = subprocess.run(
        ['addr2line', '-a', '-f', '-i', '-e', str(elf)], text=True, check=True,
        input='\n'.join(f'{address:x}' for address in sorted(addresses)),
        capture_output=True).stdout
    found, lines = {}, iter(out.splitlines())
    for line in lines:
        if line.startswith('0x'):
            stack = found[int(line, 16)] = []
        else:
            stack.append((line, next(lines).split(':')[0]))
    return found


class Names:
    """The name of the symbol that an address lies behind."""

    def __init__(self, table):
        self.table = sorted(table)
        self.starts = [address for address, _ in self.table]

    def __getitem__(self, address):
        return self.table[bisect.bisect_right(self.starts, address) - 1][1]


def tint_places(window, elf):
    """{`FILE FUNCTION`: instructions in the window}"""
    names = Names((start, name) for start, _, name in symbols.load(elf))
    kernel = {a: n for a, n in window.sites.items() if a >> 63}
    stacks = frames(elf, kernel)
    found = Counter({'ring 3': window['user']})
    for address, number in kernel.items():
        place = next((f'{match[1]} {function}' for function, path
                      in stacks[address] if (match := re.search(
                          r'((?:kernel|drivers)/\S+\.c)$', path))),
                     f'asm {names[address]}')
        found[place] += number
    return found


def linux_places(window, kallsyms):
    names = Names(kallsyms)
    found = Counter({'ring 3': window['user']})
    for address, number in window.sites.items():
        if address >> 63:
            found[names[address]] += number
    return found


def sums(stages, places):
    found = Counter()
    for place, number in places.items():
        found[stage_of(stages, place)] += number
    return found


# ---- Tables -----------------------------------------------------------------

def table(stages, columns):
    """Markdown; columns: [(title, window, places)]."""
    found = [sums(stages, places) for _, _, places in columns]
    lines = ['| stage | ' + ' | '.join(title for title, _, _ in columns) + ' |',
             '|---|' + '---:|' * len(columns)]
    for name, _ in stages:
        each = [column[name] / window.n for column, (_, window, _)
                in zip(found, columns)]
        if max(each) >= NOTHING:
            lines.append(f'| {name} | '
                         + ' | '.join(f'{n:,.0f}' for n in each) + ' |')
    return lines + ['| **sum** | ' + ' | '.join(
        f'**{window.each:,.0f}**' for _, window, _ in columns) + ' |']


def largest(stages, column, most=40):
    """The functions of one column with most instructions, as Markdown."""
    _, window, places = column
    lines = ['| function | stage | instructions |', '|---|---|---:|']
    return lines + [
        f'| `{place.split()[-1]}` | {stage_of(stages, place)} | '
        f'{number / window.n:,.0f} |'
        for place, number in places.most_common(most + 1)
        if place != 'ring 3']


def tint_column(number):
    """One boot with the map; rows 1 and 2 until a sample is valid."""
    for _ in range(10):
        found, _ = counting.count(f'where-{number}', [number],
                                  [counting.disk()], plugin=['map=on'])
        if not rows.judge(number, found[number]):
            break
    window = found[number]
    return f'row {number}', window, tint_places(window, qemu.BUILD / 'tint.elf')


def page_tables(peer):
    """{name: lines} of all tables; those of Linux only with it beside."""
    writes = [tint_column(number) for number in ('1', '1b', '2', '2b')]
    calls = [tint_column(number) for number in ('5', '6', '7', '8')]
    found = {'writes': table(STAGES, writes), 'calls': table(STAGES, calls),
             'functions': largest(STAGES, writes[0])}
    if peer:
        columns = [(title, window, linux_places(window, kallsyms))
                   for title, window, kallsyms in peer.maps()]
        found['linux writes'] = table(LINUX_STAGES, columns[:4])
        found['linux calls'] = table(LINUX_STAGES, columns[4:])
    return found


def write_page(path, tables):
    """Replaces what lies between `<!-- NAME -->` and `<!-- / -->`."""
    text = path.read_text()
    for name, lines in tables.items():
        text, count = re.subn(
            rf'(<!-- {name} -->\n).*?(<!-- / -->)',
            lambda match: match[1] + '\n'.join(lines) + '\n' + match[2],
            text, flags=re.S)
        if not count:
            raise counting.Wrong(f'{path} has no place for {name}')
    path.write_text(text)
