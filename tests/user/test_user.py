"""test_user.py - ring-3 test programs, each booted on the checked kernel.

A program returns 0 (good), 1 (failed) or 77 (skipped). It says `not ok -
what` for what failed and `skip - why` before it returns 77, as QEMU's status
only tells 0 from the rest. Lines in its head change its run:

    // args: a "b c"             its arguments
    // disks: 2                  scratch disks of 16 MiB; 1 if not said
    // options: port=direct      kernel options; each such line is one more run
    // cpus: 2                   processors; if not said 1 and 4, in stress 2
    // cpus: 1 qemu64            and of which of QEMU's models, not max
    // memory: 64M               of the machine; 128M if not said
    // bus: nvme                 of the disks; one more run for each such line
    // helper: what for          no test of its own

Each is run by the program `leaks` several times, which then looks whether
pool bytes, pages, handles, objects, IRPs and threads are what they were.
STRESS=1 is passed on as a last argument `stress` where `// args:` ends in
`[stress]`, on IDE.
"""
import itertools
import os
import re

from pathlib import Path

import pytest

import qemu

from harness import boot

HERE = Path(__file__).resolve().parent
HEAD = re.compile(r'^// (args|disks|options|bus|cpus|memory|helper):[ \t]*(.*)$',
                  re.M)
# `make test LEVEL=user CPUS=8` runs them on so many instead.
PROCESSORS = os.environ.get('CPUS', '').split() or (
    ['1', '2', '4'] if boot.STRESS else ['1', '4'])
BOUND = 4 * 3600 if boot.STRESS else 400     # seconds: this ends a hang only


def cases():
    for source in sorted(HERE.glob('*.c')):
        head = {}
        for key, value in HEAD.findall(source.read_text()):
            head.setdefault(key, []).append(value.strip())
        if 'helper' in head:
            continue
        for bus, options, processors in itertools.product(
                ['ide', *head.get('bus', [])], head.get('options', ['']),
                head.get('cpus', PROCESSORS)):
            cpus, cpu = [*processors.split(), 'max'][:2]
            name = [source.stem, options,
                    bus if bus != 'ide' else '',
                    f'cpus={cpus}' if cpus != '1' else '',
                    cpu if cpu != 'max' else '']
            yield pytest.param(source.stem, head, options.split(), bus,
                               int(cpus), cpu, id='-'.join(filter(None, name)))


def test_kept_blocks_are_not_in_use(machine, scratch):
    """The free kernel keeps blocks for the next request; the checked none."""
    m = machine(kernel=boot.FREE, disks=[qemu.Disk(scratch(), 'ide')],
                program=['ut_apc'], options=['then=poweroff'])
    if m.wait(BOUND) != qemu.PASSED:
        raise qemu.Failure(m.report('a kept block counts'))


def one(head, key, default):
    return head.get(key, [default])[0]


@pytest.mark.parametrize('name, head, options, bus, cpus, cpu', cases())
def test_user(machine, scratch, name, head, options, bus, cpus, cpu):
    disks = [qemu.Disk(scratch(), bus)
             for _ in range(int(one(head, 'disks', '1')))]
    words = qemu.words(one(head, 'args', ''))
    if words[-1:] == ['[stress]']:
        words[-1:] = ['stress'] if boot.STRESS and bus == 'ide' else []
    m = machine(kernel=boot.CHECKED, disks=disks,
                program=['leaks', name, *words],
                cpus=cpus, cpu=cpu, mem=one(head, 'memory', '128M'),
                options=[*options, 'then=poweroff'])
    status = m.wait(BOUND)
    skip = re.search(r'^skip - (.*)$', m.console, re.M)
    if skip and status == qemu.FAILED:
        pytest.skip(skip.group(1))
    if status != qemu.PASSED or re.search(r'^not ok', m.console, re.M):
        raise qemu.Failure(m.report(f'{name} failed'))
