#!/usr/bin/env python3
"""bench.py - `make bench`: what TINT's operations cost, beside Linux's.

Boots the free build with the program `bench` in it, under a plugin that counts
guest instructions between markers (tests/bench/count.c), and without one where
time is measured. Prints the table and writes build/bench.json.

  ROWS=1,2,5    only these rows (make bench ROWS=help names them)
  BOOTS=N       boots for each figure (3); the table shows the median
  PEER=linux    runs Linux beside it, in turns, and compares with that
  CHECK=1       rows 1 and 2 must hold their `must` and their record + 10 %
  WHERE=1       counts where the instructions go, for docs/INSTRUCTIONS.md; with
                PEER=linux Linux's as well
  RECORD=1      writes what was measured to tests/bench/record.json
"""
import argparse
import fcntl
import json
import os
import re
import statistics
import subprocess
import sys
import time

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / 'tests' / 'bench'), str(ROOT / 'tools')]
import counting
import qemu
import rows as table
import where

PAGE = ROOT / 'docs' / 'INSTRUCTIONS.md'
RECORD = ROOT / 'tests' / 'bench' / 'record.json'
RESULT = qemu.BUILD / 'bench.json'
TRIES = 10              # of CHECK=1, until a sample is valid
TOLERANCE = 1.10        # of CHECK=1, over the record
HELD = 10000            # writes in flight in rows 11 and 12
FRAME = 4096
MIB = 1 << 20


class Samples:
    """What was measured: {row: [(value, what speaks against it)]}."""

    def __init__(self):
        self.of = {}

    def add(self, row, value, remark=''):
        self.of.setdefault(row, []).append((value, remark))

    def values(self, row):
        """The valid values; all of them if none is valid."""
        found = self.of.get(row, [])
        return ([value for value, remark in found if not remark]
                or [value for value, _ in found])

    def value(self, row):
        values = self.values(row)
        return statistics.median(values) if values else None

    def remark(self, row):
        found = self.of.get(row, [])
        if found and all(remark for _, remark in found):
            return found[-1][1]
        return ''


def progress(text):
    print(f'bench: {text}', file=sys.stderr, flush=True)


# ---- Counting ---------------------------------------------------------------

def count_writes(samples, wanted, i, boots):
    """Rows 1 to 3: under the plugin, on a file."""
    numbers = [n for n in ('1', '1b', '1c', '2', '2b', '3', '3b')
               if n in wanted]
    if {'3', '3b'} & set(numbers) and '1' not in numbers:
        numbers.insert(0, '1')
    if not numbers:
        return
    progress(f'rows {" ".join(numbers)}: writes, boot {i + 1} of {boots}')
    found, _ = counting.count(f'writes-{i}', numbers, [counting.disk()])
    for number, window in found.items():
        value = window.each
        if number in ('3', '3b'):
            value = 100 * (value / found['1'].each - 1)
        samples.add(number, value, table.judge(number, window))


def count_calls(samples, wanted, i, boots):
    """Rows 5 to 8, and 9 by the way."""
    numbers = [n for n in ('5', '6', '7', '8') if n in wanted]
    if not numbers and '9' not in wanted:
        return
    progress(f'rows {" ".join(numbers)} 9: calls, boot {i + 1} of {boots}')
    found, log = counting.count(f'calls-{i}', numbers or ['5'],
                                [counting.disk()])
    for number, window in found.items():
        if number in numbers:
            samples.add(number, counting.cost(table.BY_NUMBER[number],
                                              window))
    if '9' in wanted:
        samples.add('9', counting.boot(log) / 1e6)


def count_flights(samples, wanted):
    """Row 4: while a slow disk writes. The first is never held back."""
    for number, cpus in (('4', 1), ('4b', 2)):
        if number not in wanted:
            continue
        progress(f'row {number}: single writes, {cpus} vCPU(s)')
        _, log = counting.count(f'flights-{cpus}', ['4'],
                                [counting.disk(options=counting.SLOW)],
                                cpus=cpus)
        for seconds, ran in counting.flights(log):
            if seconds > 0.5 and ran is not None:
                samples.add(number, ran)


def count_ports(samples, wanted, boots):
    for i in range(boots if '15' in wanted else 0):
        progress(f'row 15: IDE, boot {i + 1} of {boots}')
        found, _ = counting.count(f'ide-{i}', ['15'], [counting.disk('ide')])
        samples.add('15', found['15']['port'] / found['15'].n)


def count_processors(samples, wanted, boots):
    """Row 16: what is spun is counted apart."""
    if not {'16', '16b'} & set(wanted):
        return
    for i in range(boots):
        each = {}
        for cpus in (1, 2, 4):
            progress(f'row 16: {cpus} submitter(s), boot {i + 1} of {boots}')
            found, _ = counting.count(f'fleet-{cpus}-{i}', ['16'],
                                      [counting.disk()], cpus=cpus)
            window = found['16']
            each[cpus] = (window.total - window['spin']) / window.n
            print(f'  row 16: {cpus} vCPU(s): {each[cpus]:.0f} instructions '
                  f'per write, and {window["spin"] / window.n:.1f} spun')
        samples.add('16', each[2] / each[1])
        samples.add('16b', each[4] / each[1])


# ---- Timing and weighing ----------------------------------------------------

def time_boot(samples, wanted, boots):
    """Row 10: the whole run of a QEMU whose guest runs `true`."""
    for i in range(2 * boots + 1 if '10' in wanted else 0):
        begin = time.monotonic()
        counting.run(f'boot-{i}', ['true'], [counting.disk()], plugin=None)
        samples.add('10', time.monotonic() - begin)


def weigh_writes(samples, wanted):
    """Row 11: all are in flight, since the disk is deaf until it is seen."""
    if '11' not in wanted:
        return
    progress(f'row 11: {HELD} writes held')
    with counting.machine('hold', ['bench', '--rows', '11', '--n', str(HELD)],
                          [counting.disk(options=counting.DEAF)]) as m:
        m.expect('held=', 300)
        line = m.expect('bytes each) pool=')
        m.hmp('block_set_io_throttle disk0 0 0 0 0 0 0')
        m.expect_status(qemu.PASSED, 300)
    pages = int(line.split('pages=')[1].split()[0])
    samples.add('11', pages * FRAME / HELD)


def holds(mem):
    words = ['bench', '--rows', '12', '--n', str(HELD)]
    with counting.machine(f'ram-{mem}', words, [counting.nothing()],
                          mem=f'{mem}M') as m:
        return m.wait(300) == qemu.PASSED


def weigh_machine(samples, wanted):
    """Row 12: the least memory with which that many run at once."""
    if '12' not in wanted:
        return
    least, most = 32, 256
    while least < most:
        middle = (least + most) // 2
        progress(f'row 12: with {middle} MiB?')
        if holds(middle):
            most = middle
        else:
            least = middle + 1
    samples.add('12', least - HELD * FRAME / MIB)


def time_writes(samples, wanted, boots, peer):
    """Rows 13 and 14: plain TCG, in turns with Linux where that is asked for;
    otherwise over the recorded figure of Linux."""
    disks = {'13': counting.nothing(), '14': counting.disk()}
    for number in [n for n in ('13', '14') if n in wanted]:
        for i in range(boots):
            progress(f'row {number}: IOPS, boot {i + 1} of {boots}')
            m = counting.run(f'iops-{number}-{i}',
                             ['bench', '--rows', number], [disks[number]],
                             plugin=None)
            _, n, seconds = counting.TEST.findall(m.console)[0]
            iops = int(n) / float(seconds)
            beside = (peer.iops(disks[number], i) if peer
                      else table.LINUX_IOPS[number])
            print(f'  row {number}: {iops:,.0f} IOPS, Linux {beside:,.0f}'
                  f' ({"beside" if peer else "recorded"})')
            samples.add(number, iops / beside)


# ---- The table --------------------------------------------------------------

def figure(value):
    if value is None:
        return '-'
    return f'{value:,.0f}' if abs(value) >= 100 else f'{value:,.2f}'


def print_table(samples, wanted, linux):
    """linux: {row: value} measured in this run, or recorded where it lacks."""
    print(f'\n{"row":4} {"operation":48} {"unit":15} {"TINT":>8} '
          f'{"spread":>15} {"must":>7} {"aim":>7} {"Linux":>8} '
          f'{"tuned":>8}')
    for row in table.ROWS:
        if row.number not in wanted:
            continue
        values = samples.values(row.number)
        spread = (f'{figure(min(values))}-{figure(max(values))}'
                  if len(values) > 1 else '')
        value = samples.value(row.number)
        default, tuned = linux.get(row.number, (row.default, row.tuned))
        print(f'{row.number:4} {row.name:48} {row.unit:15} '
              f'{figure(value):>8} {spread:>15} '
              f'{figure(row.must):>7} {figure(row.aim):>7} '
              f'{figure(default):>8} {figure(tuned):>8}  '
              f'{row.verdict(value)}')
        if samples.remark(row.number):
            print(f'     not a valid sample: {samples.remark(row.number)}')


def write_json(samples, wanted, linux, peer):
    rows = []
    for row in table.ROWS:
        if row.number not in wanted:
            continue
        values = samples.values(row.number)
        default, tuned = linux.get(row.number, (row.default, row.tuned))
        rows.append({
            'row': row.number, 'name': row.name, 'unit': row.unit,
            'value': samples.value(row.number), 'samples': values,
            'valid': bool(values) and not samples.remark(row.number),
            'remark': samples.remark(row.number),
            'must': row.must, 'aim': row.aim,
            'linux_default': default, 'linux_tuned': tuned})
    RESULT.write_text(json.dumps(
        {'rows': rows, 'compiler': counting.compiler(), 'qemu': qemu_version(),
         'peer': peer}, indent=1) + '\n')
    print(f'\nwritten to {os.path.relpath(RESULT)}')


# ---- The record -------------------------------------------------------------

def first_line(*command):
    return subprocess.run(command, text=True, check=True,
                          capture_output=True).stdout.splitlines()[0]


def qemu_version():
    return first_line(qemu.QEMU, '--version')


def write_record(samples):
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if record.get('compiler') != counting.compiler():
        record = {'compiler': counting.compiler(), 'rows': {}}
    for number in samples.of:
        if not samples.remark(number):
            record['rows'][number] = round(samples.value(number), 3)
    record['rows'] = {row.number: record['rows'][row.number]
                      for row in table.ROWS if row.number in record['rows']}
    RECORD.write_text(json.dumps(record, indent=1) + '\n')
    print(f'recorded in {os.path.relpath(RECORD)}')


def check():
    """CHECK=1: one row after the other, until a sample of it is valid. 0: both
    hold; 1: one does not; 2: for one the host gave no sample."""
    record = json.loads(RECORD.read_text())
    known = record['rows'] if record['compiler'] == counting.compiler() else {}
    good = valid = True
    for number in ('1', '2'):
        row = table.BY_NUMBER[number]
        for i in range(TRIES):
            found, _ = counting.count(f'check-{number}-{i}', [number],
                                      [counting.disk()])
            window = found[number]
            against = table.judge(number, window)
            if not against:
                break
            progress(f'row {number}, try {i + 1} of {TRIES}: {against}')
        if against:
            print(f'row {number}: the host gave no valid sample in {TRIES} '
                  'tries')
            valid = False
            continue
        bounds = [row.must]
        if number in known:
            bounds.append(known[number] * TOLERANCE)
        held = window.each <= min(bounds)
        good &= held
        print(f'row {number}: {window.each:.0f} {row.unit} per write, must '
              f'{row.must}, record '
              f'{figure(known.get(number))} + 10 %: '
              f'{"holds" if held else "DOES NOT HOLD"}')
    return 1 if not good else 0 if valid else 2


# ---- Start ------------------------------------------------------------------

def choose(text):
    """The rows of ROWS; a number stands for its letters, too."""
    if text == 'help':
        print('\n'.join(f'{row.number:4} {row.name} ({row.unit})'
                        for row in table.ROWS))
        sys.exit(0)
    wanted = []
    for word in filter(None, text.split(',')):
        found = [row.number for row in table.ROWS
                 if row.number in (word, f'{word}b', f'{word}c')]
        if not found:
            sys.exit(f'bench: there is no row {word}; ROWS=help names them')
        wanted += found
    return wanted or [row.number for row in table.ROWS]


def is_on(name):
    """A setting that is 1, or 0, or not there."""
    text = os.environ.get(name) or '0'
    if text not in ('0', '1'):
        sys.exit(f'bench: {name}={text} is neither 0 nor 1')
    return text == '1'


def count_boots():
    text = os.environ.get('BOOTS') or '3'
    if not re.fullmatch('[1-9][0-9]{0,3}', text):
        sys.exit(f'bench: BOOTS={text} is no number from 1 to 9999')
    return int(text)


def keep_out_others():
    """Two runs in one folder would write to the same disk, and the second
    would throw away the logs that the first is about to read. The kernel lets
    the lock go, however this run ends."""
    counting.IMAGE.parent.mkdir(parents=True, exist_ok=True)
    lock = open(counting.IMAGE.parent / 'lock', 'w')
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit('bench: another one runs in this folder')
    return lock


def measure(samples, wanted, boots, peer):
    """All of it. What Linux does beside it, it does in turns with TINT."""
    for i in range(boots):
        count_writes(samples, wanted, i, boots)
        count_calls(samples, wanted, i, boots)
        if peer:
            progress(f'Linux: writes and calls, boot {i + 1} of {boots}')
            peer.count(wanted, i)
    count_flights(samples, wanted)
    time_boot(samples, wanted, boots)
    weigh_writes(samples, wanted)
    weigh_machine(samples, wanted)
    time_writes(samples, wanted, boots, peer)
    count_ports(samples, wanted, boots)
    count_processors(samples, wanted, boots)


def main():
    argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter).parse_args()
    setting = os.environ.get
    wanted = choose(setting('ROWS') or '')
    boots = count_boots()
    checks, shows, records = map(is_on, ('CHECK', 'WHERE', 'RECORD'))
    lock = keep_out_others()        # noqa: F841, held as long as it is known
    if checks:
        return check()
    peer = None
    if setting('PEER'):
        if setting('PEER') != 'linux':
            sys.exit(f'bench: PEER is linux, not {setting("PEER")}')
        import peer as linux_peer
        peer = linux_peer.Peer()
    if shows:
        tables = where.page_tables(peer)
        for name, lines in tables.items():
            print(f'\n{name}:\n' + '\n'.join(lines))
        where.write_page(PAGE, tables)
        print(f'\nwritten to {os.path.relpath(PAGE)}')
        return 0
    samples = Samples()
    measure(samples, wanted, boots, peer)
    linux = peer.rows() if peer else {}
    print_table(samples, wanted, linux)
    write_json(samples, wanted, linux, peer.version if peer else None)
    if records:
        write_record(samples)
    return 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except counting.Wrong as error:
        sys.exit(f'bench: {error}')
    except KeyboardInterrupt:
        sys.exit('bench: stopped')
