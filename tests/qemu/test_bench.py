"""test_bench.py - what a call, a packet, a thread switch and an APC cost, in
guest instructions, held to the record (rows 5 to 8 of `make bench`).

The record (tests/bench/record.json) belongs to one version of the compiler:
with another only the `must` of each row holds. `make bench ROWS=5,6,7,8
RECORD=1` writes it anew. These rows wait for no device, so they come out the
same on every host.
"""
import fcntl
import json
import os
import subprocess
import sys

import pytest

import qemu

from harness import boot

sys.path.insert(0, str(boot.ROOT / 'tests' / 'bench'))
import counting
import rows as table

ROWS = ['5', '6', '7', '8']
RECORD = boot.ROOT / 'tests' / 'bench' / 'record.json'
TOLERANCE = 0.03


def against(row, value, known):
    """What speaks against a value; known: the recorded one, or None."""
    if value > row.must:
        return f'{value:.1f} {row.unit}, must be {row.must} at most'
    if known and abs(value / known - 1) > TOLERANCE:
        return (f'{value:.1f} {row.unit}, recorded are {known}: '
                + ('a step back' if value > known else
                   'better, so record it (make bench RECORD=1)'))
    return ''


@pytest.fixture(scope='module')
def windows():
    found, _ = counting.count('regression', ROWS, [counting.disk()])
    return found


@pytest.mark.parametrize('number', ROWS)
def test_cost(windows, number):
    record = json.loads(RECORD.read_text())
    row = table.BY_NUMBER[number]
    known = (record['rows'][number]
             if record['compiler'] == counting.compiler() else None)
    wrong = against(row, counting.cost(row, windows[number]), known)
    assert not wrong, f'row {number}, {row.name}: {wrong}'


def test_a_step_back_is_seen():
    row = table.BY_NUMBER['6']
    assert not against(row, 200, 200) and not against(row, 205, 200)
    assert 'a step back' in against(row, 207, 200)
    assert 'record it' in against(row, 193, 200)
    assert 'must be' in against(row, row.must + 1, None)
    assert 'must be' in against(row, row.must + 1, row.must + 1)
    assert not against(row, row.must, None)


# ---- Before anything is measured --------------------------------------------

def bench(**settings):
    """What tools/bench.py says, within the time that one boot would take."""
    done = subprocess.run(
        [sys.executable, str(boot.ROOT / 'tools' / 'bench.py')], text=True,
        env={**os.environ, 'ROWS': '5', **settings}, capture_output=True)
    return done.returncode, done.stderr


@pytest.mark.parametrize('name', ['CHECK', 'WHERE', 'RECORD'])
def test_a_bad_setting_is_told_at_once(name):
    assert bench(**{name: 'yes'}) == (
        1, f'bench: {name}=yes is neither 0 nor 1\n')


def test_one_at_a_time():
    """A second one would take away the disk and the logs of the first."""
    counting.IMAGE.parent.mkdir(parents=True, exist_ok=True)
    with open(counting.IMAGE.parent / 'lock', 'w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass        # a real one runs: as good
        assert bench() == (1, 'bench: another one runs in this folder\n')


# ---- The counter itself -----------------------------------------------------

LOG = '''\
entry 100025 cpu=0 ns=10 user=1000 kernel=0 rep=0 hlt=0
user 100002000 cpu=0 ns=20 user=1010 kernel=990 rep=0 hlt=0
mark 2 cpu=0 ns=30 user=2000 kernel=3000 rep=0 hlt=0
mark 4 cpu=0 ns=1000000000 user=2000 kernel=3000 rep=0 hlt=0
hlt ffffffff80000000 cpu=0 ns=1000000100 user=2010 kernel=3100 rep=0 hlt=0
{waking}mark 5 cpu=0 ns=2000000000 user=2020 kernel=3300 rep=0 hlt=1
mark 3 cpu=0 ns=2000000100 user=2030 kernel=3370 rep=0 hlt=1
site ffffffff80001234 count=7
'''
WAKING = ('hlt ffffffff80000000 cpu=1 ns=1500000000 user=2010 kernel=3160 '
          'rep=0 hlt=1\n')


@pytest.mark.parametrize('waking, ran', [('', 0), (WAKING, 60)],
                         ids=['nobody wakes', 'one wakes'])
def test_the_log_is_understood(tmp_path, waking, ran):
    log = tmp_path / 'count.log'
    log.write_text(LOG.format(waking=waking))
    window, = counting.windows(log, 'x\nTEST 4:single n=4 sec=1.0\ny\n')
    assert (window.name, window.n) == ('4:single', 4)
    assert (window.total, window.each) == (400, 100)
    assert window.sites == {0xffffffff80001234: 7}
    assert counting.flights(log) == [(1.0, ran)]
    assert counting.boot(log) == 1000
    with pytest.raises(counting.Wrong):
        counting.windows(log, '')


def test_a_timer_in_a_flight_is_seen(fixtures):
    """Somebody who wakes up during the flight is counted (row 4)."""
    m = counting.run('ticker', ['sh', '-c', 'ticker & bench --rows 4 --n 2'],
                     [counting.disk(options=counting.SLOW)],
                     initrd=fixtures.initrd)
    long = [ran for seconds, ran in counting.flights(m.logs / 'count.log')
            if seconds > 0.5]
    assert long and min(long) > 0
