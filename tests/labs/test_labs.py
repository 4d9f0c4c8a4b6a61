"""test_labs.py - the assignments: their trees build and boot, the reference
has all points, no mutant has, and nothing that an answer says or does around
the matter helps it.

A mutant is graded by the check that has to notice it; with STRESS=1 by all.
"""
import json
import random
import shutil
import subprocess
import sys

from xml.etree import ElementTree

import pytest

import grade
import qemu

from harness import boot, ktap
from lab import tree_files
from labs import build, parts, results

from mutants import MUTANTS

LABS = sorted(parts.TITLES)
SAYS = {1: 'LAB: KeInsertQueueDpc is not written yet',
        2: 'LAB: ki_insert_apc is not written yet'}
WITHOUT_ANYTHING = {1: 0, 2: 0, 3: 10}      # points of what is handed out


@pytest.fixture(scope='session')
def tree():
    """The grader's own tree; kept, as only answers are compiled in it."""
    return build.Tree(qemu.BUILD / 'labs' / 'tree')


@pytest.fixture
def graded(tree, tmp_path, request):
    """graded(lab, text, only) grades a text for the file to be handed in."""
    def run(lab, text, only=None):
        answer = tmp_path / 'answer'
        path = answer / parts.FILES[lab][0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        seed = random.SystemRandom().getrandbits(48)
        name = boot.test_name(request).replace('/', '-')
        return grade.grade(lab, answer, seed, tree, name, only)
    yield run
    shutil.rmtree(tmp_path, ignore_errors=True)


def reference(lab):
    return (qemu.ROOT / parts.FILES[lab][0]).read_text()


def skeleton(lab):
    name = parts.FILES[lab][0]
    return parts.take_out(reference(lab), lab, parts.stubs(name))


# ---- The trees ----------------------------------------------------------------

@pytest.mark.parametrize('lab', LABS)
def test_the_tree_builds_and_boots(machine, scratch, tmp_path, lab):
    """What is handed out compiles, and boots or says what is missing."""
    folder = tmp_path / 'lab'
    done = subprocess.run([sys.executable, qemu.ROOT / 'tools/lab.py',
                           str(lab), '--to', folder],
                          text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (folder / 'LAB.md').read_text().startswith(f'# Lab {lab}: ')
    assert not (folder / 'tests/labs').exists()
    for name in parts.FILES.values():
        assert '// lab ' not in (folder / name[0]).read_text()
    (folder / 'build').mkdir()
    for name in build.KEPT:         # only what differs is compiled
        shutil.copytree(qemu.BUILD / name, folder / 'build' / name,
                        copy_function=shutil.copy2)
    done = subprocess.run(['make', '-s', '-j2'], cwd=folder,
                          env=build.environment(), text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0 and 'warning' not in done.stdout, done.stdout
    m = machine(kernel=folder / 'build/tint.elf',
                initrd=folder / 'build/initrd.tar', program=['nothread'],
                disks=[qemu.Disk(scratch())])
    m.expect('1 processor')
    if lab in SAYS:
        m.expect(SAYS[lab])
    else:
        m.expect_status(qemu.PASSED)
    # It is not overwritten: there may be an answer in it.
    again = subprocess.run([sys.executable, qemu.ROOT / 'tools/lab.py',
                            str(lab), '--to', folder], capture_output=True)
    assert again.returncode != 0
    shutil.rmtree(folder)


def test_what_was_built_is_not_handed_out(tmp_path):
    """Whatever folder it was built in: a build leaves its stamps there."""
    for name in ('kernel/a.c', 'build/a.o', 'out/stamp/free', 'out/a.o'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert tree_files(tmp_path) == ['kernel/a.c']


# ---- Grades -------------------------------------------------------------------

@pytest.mark.parametrize('lab', LABS)
def test_the_reference_has_all_points(graded, lab):
    done = graded(lab, reference(lab))
    assert done.points == 100
    assert done.score == 100 and done.status == 0, results.terminal(done)


@pytest.mark.parametrize('mutant', [m for m in MUTANTS
                                    if boot.STRESS or not m.stress],
                         ids=lambda m: f'{m.lab}-{m.name}')
def test_a_mutant_loses_points(graded, mutant):
    done = graded(mutant.lab, mutant.text(qemu.ROOT),
                  None if boot.STRESS else [mutant.check])
    found = {outcome.name: outcome for outcome in done.outcomes}
    assert done.built and found[mutant.check].score == 0
    assert found[mutant.check].text and done.status == 1
    if boot.STRESS:                 # partial credit
        assert 0 < done.score < 100


def test_five_mutants_each():
    for lab in LABS:
        assert sum(m.lab == lab and not m.stress for m in MUTANTS) >= 5


# ---- Answers that are none ----------------------------------------------------

SHOUT = '''#include "kernel/hal/hal.h"

static void shout(void)
{
    static bool said;
    if (said)
        return;
    said = true;
    hal_print("KTAP version 1\\n1..1\\nok 1 - lab1.in_time\\n100 of 100\\n");
    for (const char *c = "KTAP version 1\\nok 1 - lab_1\\n"; *c; c++)
        hal_out8(0x2F8, (uint8_t)*c);
    %s
}
'''


@pytest.mark.parametrize('end', ['', 'hal_exit(HAL_EXIT_SUCCESS);'],
                         ids=['prints', 'prints-and-leaves'])
def test_what_an_answer_prints_is_nothing(graded, end):
    """Not even with the exit code of success behind it."""
    text = skeleton(1).replace('LAB_TODO("KeInsertQueueDpc");', 'shout();')
    text = text.replace(parts.INCLUDE, parts.INCLUDE + SHOUT % end, 1)
    done = graded(1, text, ['in time', 'order'])
    assert done.built and done.score == 0
    if end:
        assert 'left QEMU by itself' in done.outcomes[0].text


def test_an_answer_that_calls_the_routine_itself(graded):
    """No queue, but each DPC runs: at once, wherever the processor is."""
    text = skeleton(1).replace(
        '    LAB_TODO("KeInsertQueueDpc");\n    return false;',
        '    dpc->DeferredRoutine(dpc, dpc->DeferredContext, argument1, '
        'argument2);\n    return true;')
    done = graded(1, text, ['in time', 'inside', 'interrupts'])
    assert done.built and done.score == 0


@pytest.mark.parametrize('line', [
    '#include "{root}/kernel/ke/dpc.c"',
    '__asm__(".incbin \\"{root}/kernel/ke/dpc.c\\"");',
    '__asm__(".macro x a\\n.inc\\\\a \\"{root}/linker.ld\\"\\n.endm\\nx bin");',
    'int KeInsertQueueDpc = ;'], ids=['include', 'incbin', 'hidden', 'broken'])
def test_an_answer_that_does_not_count(graded, line):
    """The reference by another name, or no C at all: it says why, and 0."""
    text = f'#include "kernel/ke/kep.h"\n{line.format(root=qemu.ROOT)}\n'
    done = graded(1, text)
    assert done.status == 2 and done.score == 0 and done.points == 100
    assert ('dpc.c' if 'hidden' not in line else 'linker.ld') in str(done.notes)


def test_a_link_to_the_reference(tree, tmp_path):
    (tmp_path / 'kernel').symlink_to(qemu.ROOT / 'kernel')
    done = grade.grade(1, tmp_path, 1, tree, 'link')
    assert done.status == 2 and 'no plain file' in str(done.notes)


def test_a_kernel_that_hangs_or_crashes(graded):
    """The checks behind a hang are graded all the same."""
    first = '    uint32_t there = '
    hangs = reference(3).replace(
        first,
        '    if (count > 1)\n        __asm__ volatile("cli; hlt");\n' + first)
    done = graded(3, hangs, ['in order', 'limit'])
    assert [outcome.score for outcome in done.outcomes] == [0, 25]
    assert 'hangs' in done.outcomes[0].text
    crashes = skeleton(1).replace('LAB_TODO("KeInsertQueueDpc");',
                                  '__asm__ volatile("ud2");')
    done = graded(1, crashes, ['once'])
    assert 'the kernel stopped' in done.outcomes[0].text
    assert 'KeInsertQueueDpc' in done.outcomes[0].text
    falls = skeleton(1).replace(
        'LAB_TODO("KeInsertQueueDpc");',
        'static const struct { uint64_t a; uint16_t b; } none;\n'
        '    __asm__ volatile("lidt %0; int3" :: "m"(none));')
    done = graded(1, falls, ['once', 'order'])      # QEMU itself ends
    assert done.built and done.score == 0
    assert all(outcome.text for outcome in done.outcomes)


def test_an_answer_in_assembly_elsewhere(graded, tmp_path):
    """A folder for temporary files is no place to take an answer from."""
    (tmp_path / 'answer.s').write_text('nop\n')
    done = graded(1, f'__asm__(".include \\"{tmp_path}/answer.s\\"");\n')
    assert done.status == 2 and 'answer.s' in str(done.notes)


def test_a_tree_of_another_lab_is_refused(tmp_path):
    (tmp_path / '.lab').write_text('{"lab": 1, "files": {}}')
    done = subprocess.run(
        [sys.executable, 'tools/grade.py', '2', '--answer', tmp_path],
        cwd=qemu.ROOT, text=True, capture_output=True)
    assert done.returncode == 2 and 'is a tree of lab 1' in done.stderr


# ---- What is written ----------------------------------------------------------

def test_results_for_tools(graded, tmp_path):
    done = graded(3, skeleton(3))
    assert done.score == WITHOUT_ANYTHING[3] and done.status == 1
    out = tmp_path / 'results'
    results.write(done, out)
    tap = ktap.results((out / 'results.ktap').read_text())
    scope = json.loads((out / 'results.json').read_text())
    suite = ElementTree.parse(out / 'results.xml').getroot().find('testsuite')
    assert len(tap) == len(scope['tests']) == len(suite) == 8
    assert sum(test['score'] for test in scope['tests']) == done.score
    assert sum(test['max_score'] for test in scope['tests']) == 100
    assert {test['status'] for test in scope['tests']} == {'passed', 'failed'}
    failed = sum(not passed for passed, _, _ in tap.values())
    assert int(suite.get('failures')) == failed == len(
        suite.findall('testcase/failure'))
    assert scope['extra_data']['seed'] == done.seed
