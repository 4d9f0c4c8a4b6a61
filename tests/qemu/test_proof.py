"""test_proof.py - the claim itself, and that `make proof` would see it broken.

From the halt to the disk's interrupt no processor executes one instruction,
and no thread is held by a write: so say QEMU's log, a plugin, the host's
accounting and the guest's memory. Each verdict must also fail: on kernels that
cheat (tests/proof), beside programs that have something to do, without any
I/O, and with a thread for each write.
"""
import os
import re
import subprocess
import sys

import pytest

from proof import case, guest

from harness import boot

CHEATS = ['tick', 'poll', 'hidden', 'late', 'slow', 'rtc', 'worker', 'crew']


@pytest.fixture(scope='session')
def cheats(fixtures):
    """Plugin and kernels; {name: path}."""
    from conftest import alone, make
    made = {name: fixtures.build / f'cheats/{name}.elf' for name in CHEATS}
    made['plugin'] = fixtures.build / 'proof-count.so'
    with alone(fixtures.build):
        make(fixtures.build, *made.values())
    return made


@pytest.fixture
def proof(cheats, fixtures, request):
    """Runs a case on the fixtures' kernel, or on a cheat."""
    def look(*program, cheat=None, writes=1, **options):
        if program[0] == 'nothread':
            program = [*program, '--writes', str(writes)]
            options.setdefault('exact', True)
        name = re.sub(r'\W+', '-', request.node.name)
        return case.Case(cheats[cheat] if cheat else fixtures.kernel,
                         list(program), writes=writes, name=name,
                         initrd=fixtures.initrd, plugin=cheats['plugin'],
                         **options).run()
    return look


@pytest.mark.parametrize('bus, cpus, writes, port', [
    ('ide', 1, 1, 'apc'), ('ide', 2, 1, 'direct'), ('nvme', 1, 200, 'apc'),
    ('nvme', 4, 1, 'direct')])
def test_from_halt_to_interrupt_nothing_runs(proof, bus, cpus, writes, port):
    out = proof('nothread', bus=bus, cpus=cpus, writes=writes,
                options=[f'port={port}'])
    assert not out.faults
    assert out.held == 0
    assert out.flight.seconds > case.SHORTEST
    assert out.flight.given == writes       # NVMe has them all; IDE one
    assert out.absent == out.present == writes


@pytest.mark.parametrize('cheat, why', [
    ('tick', 'between the halt and the interrupt'),
    ('poll', 'never were all processors halted'),
    ('hidden', 'between the halt and the interrupt'),
    ('late', 'ran before the halt|never were all processors halted'),
    ('slow', 'a timer was armed'),
    ('rtc', 'pin 8 of the I/O APIC may interrupt')])
def test_a_kernel_that_cheats_fails_the_first_verdict(proof, cheat, why):
    out = proof('nothread', cheat=cheat)
    assert re.search(why, ' '.join(out.faults)), out.faults


def test_both_witnesses_see_the_ticks(proof):
    """The plugin counts, in each block at least one instruction."""
    out = proof('nothread', cheat='tick', bus='nvme', cpus=2)
    assert out.flight.counted >= len(out.flight.ran) > 0
    assert out.flight.woken > 0


def test_the_kernel_that_hides_its_ticks_claims_to_be_halted(run, cheats,
                                                             scratch):
    """That is why it is not asked: its own trace shows no wake-up. It hides
    those of one processor at a time."""
    from qemu import Disk
    m = run('nothread', '--writes', '3', kernel=cheats['hidden'], cpus=1,
            disks=[Disk(scratch(), options='throttling.iops-total=2')])
    spans = re.search(r'every processor halted .* (\d+)\.\d %, in (\d+) spans?',
                      m.console)
    assert int(spans[1]) >= 90 and int(spans[2]) <= 8


def test_without_io_nothing_is_proved(proof):
    assert proof('true').faults == ['no write was in flight']


def test_beside_a_timer_the_first_verdict_fails(proof):
    out = proof('sh', '-c', 'ticker & nothread --writes 1')
    assert 'between the halt and the interrupt' in ' '.join(out.faults)


def test_a_thread_for_each_write_fails_the_second_verdict(proof):
    out = proof('nothread', '--threads', writes=20)
    assert not out.faults                   # nothing runs, but ...
    assert out.held == 20


def test_hidden_threads_fail_the_second_verdict(proof):
    out = proof('nothread', cheat='worker', writes=20)
    assert out.held == 20


def test_threads_that_look_like_the_programs_own_fail_it(proof):
    assert proof('nothread', cheat='crew', writes=5).held == 3


def thread(ident, program='nothread', switches=1, reason=guest.QUEUE):
    return guest.Thread(ident, program, guest.WAITING, reason, 0, switches, 0)


@pytest.mark.parametrize('exact, now, held', [
    (True, [thread(40)], []),                           # takes the packets
    (True, [thread(40), thread(44)], [44]),
    (False, [thread(40), thread(44)], []),              # who knows its pool?
    (False, [thread(40, reason=3), thread(44, reason=3)], [44]),
    (True, [thread(12, 'sh', 9), thread(40)], []),      # started the program
    (True, [thread(12, 'sh', 9), thread(16, 'sh', 2)], [16]),
    (True, [thread(16, 'sh')], []),                     # has not run
    (True, [thread(40, 'System')], [40])])
def test_whose_threads_are_held(exact, now, held):
    looked = case.Case.__new__(case.Case)
    looked.exact, looked.out = exact, case.Outcome()
    looked.look_at_threads(now, {12: thread(12, 'sh'), 16: thread(16, 'sh')})
    assert [found.id for found in looked.out.holders] == held


def test_the_command_says_it(cheats, fixtures):
    """`make proof`, as a person calls it: words, controls and status."""
    environment = {**os.environ, 'DISK': 'ide', 'CPUS': '1', 'WRITES': '1',
                   'BUILD': str(fixtures.build.relative_to(boot.ROOT))}
    done = subprocess.run([sys.executable, 'tools/proof'], cwd=boot.ROOT,
                          env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r'in flight \d\.\d\d s; guest instructions executed '
                     r'between the halt and\s+the interrupt: 0, on the '
                     r'processor; threads held by the 1 write: 0',
                     done.stdout)
    assert done.stdout.count('    caught: ') == 5


def test_a_control_that_is_not_caught_is_said(cheats, fixtures):
    """An honest kernel among those that must be caught."""
    environment = {**os.environ,
                   'BUILD': str(fixtures.build.relative_to(boot.ROOT))}
    code = ('import runpy; m = runpy.run_path("tools/proof/__main__.py");'
            'm["CONTROLS"][:] = [(None, ["nothread"], "no control")];'
            'raise SystemExit(m["run_controls"]("ide"))')
    done = subprocess.run([sys.executable, '-c', code], cwd=boot.ROOT,
                          env=environment, text=True, capture_output=True)
    assert done.returncode == 1 and 'NOT CAUGHT' in done.stdout, done.stderr
