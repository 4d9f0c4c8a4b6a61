"""test_kernel.py - the tests inside the checked kernel, each a test of pytest.

The kernel is booted once with `ktest=*` and reports on COM2 in KTAP.
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
BOUND = 300                     # seconds for all of them


@pytest.fixture(scope='module')
def reported(tmp_path_factory):
    """(results, the machine) of one boot that ran all tests."""
    boot.require(boot.CHECKED)
    disk = tmp_path_factory.mktemp('kernel') / 'disk.img'
    with open(disk, 'wb') as image:
        image.truncate(16 * boot.MIB)
    ended = ''
    with boot.Machine('kernel', kernel=boot.CHECKED, program=['true'],
                      options=['ktest=*', 'then=poweroff'],
                      disks=[boot.Disk(disk)]) as machine:
        try:
            machine.wait(BOUND)
        except boot.Failure as failure:
            ended = str(failure)
        yield ktap.results(machine.com2), ended or machine.report('QEMU ended')
    disk.unlink()


@pytest.mark.parametrize('name', CASES)
def test_kernel(reported, name):
    results, report = reported
    if name not in results:
        pytest.fail(f'{name} has no result\n{report}', pytrace=False)
    passed, skipped, text = results[name]
    if skipped:
        pytest.skip(text)
    if not passed:
        pytest.fail(f'{text}\n{symbols.names(text, boot.CHECKED)}',
                    pytrace=False)
