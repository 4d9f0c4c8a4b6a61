"""test_kernel.py - the tests inside the checked kernel, each a test of pytest.

The kernel is booted with `ktest=*`, once for each number of processors, and
reports on COM2 in KTAP. What takes more processors than were started is
skipped; nothing else may be.
"""
import os
import re

from pathlib import Path

import pytest

import symbols

from harness import boot, ktap

HERE = Path(__file__).resolve().parent
KTEST = re.compile(r'^KTEST\(\s*(\w+)\s*,\s*"([^"]*)"', re.M)
SOURCES = [*sorted(HERE.glob('*.c')),
           *(boot.ROOT / path for path in os.environ.get('KTESTS', '').split())]
CASES = [pytest.param(name, id=f'{name}-{rules}' if rules else name)
         for source in SOURCES if source.exists()
         for name, rules in KTEST.findall(source.read_text())]
NEEDS = re.compile(r'# SKIP needs (\d+) processors')
BANNER = re.compile(r'^TINT .*: (\d+) processors?,', re.M)
# `make test LEVEL=kernel CPUS=8` runs them on so many instead.
PROCESSORS = [int(n) for n in os.environ.get('CPUS', '').split()] or [1, 2, 4]
BOUND = 900                     # seconds for all: this ends a hang only


@pytest.fixture(scope='module', params=PROCESSORS)
def reported(request, tmp_path_factory):
    """(results, why the rest is missing, processors that were started) of one
    boot that ran all tests; one for each number of processors."""
    boot.require(boot.CHECKED)
    disk = tmp_path_factory.mktemp('kernel') / 'disk.img'
    with open(disk, 'wb') as image:
        image.truncate(16 * boot.MIB)
    ended = ''
    with boot.Machine(f'kernel-{request.param}', kernel=boot.CHECKED,
                      program=['true'], cpus=request.param,
                      options=['ktest=*', 'then=poweroff'],
                      disks=[boot.Disk(disk)]) as machine:
        try:
            machine.wait(BOUND)
        except boot.Failure as failure:
            ended = str(failure)
        started = BANNER.search(machine.console)
        yield (ktap.results(machine.com2),
               ended or machine.report('QEMU ended'),
               int(started.group(1)) if started else 0)
    disk.unlink()


@pytest.mark.parametrize('name', CASES)
def test_kernel(reported, name):
    results, report, processors = reported
    if name not in results:
        pytest.fail(f'{name} has no result\n{report}', pytrace=False)
    passed, skipped, text = results[name]
    if skipped:
        needs = NEEDS.search(text)
        if not needs or int(needs.group(1)) <= processors:
            pytest.fail(f'skipped with {processors}: {text}', pytrace=False)
        pytest.skip(text)
    if not passed:
        pytest.fail(f'{text}\n{symbols.names(text, boot.CHECKED)}',
                    pytrace=False)
