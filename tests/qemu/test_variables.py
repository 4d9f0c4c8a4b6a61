"""test_variables.py - make's FILES, EXTRA and KTESTS, from outside the tree;
and what make and the launcher refuse.
"""
import os
import re
import subprocess
import sys

import pytest

import qemu

from harness import boot, ktap

from conftest import make

PROGRAM = r'''
#include <ntdll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    SYSTEM_BASIC_INFORMATION system;
    NTSTATUS status = NtQuerySystemInformation(SystemBasicInformation, &system,
                                               sizeof(system), NULL);
    printf("%d arguments, the last %s, page %u, status %d, %5.5s|%-4d|%04x\n",
           argc, argv[argc - 1], system.PageSize, status, "truncated", 7, 255);
    return strcmp(argv[argc - 1], "good") == 0 ? EXIT_SUCCESS : 3;
}
'''

KTEST = r'''
#include "tests/kernel/ktest.h"

KTEST(outside_good, "DPC-01") { EXPECT(KeGetCurrentIrql() == PASSIVE_LEVEL); }
KTEST(outside_bad, "DPC-02") { EXPECT(KeGetCurrentIrql() == HIGH_LEVEL); }
'''


@pytest.fixture(scope='module')
def build(tmp_path_factory):
    """One build with all three."""
    folder = tmp_path_factory.mktemp('variables')
    (folder / 'my-program.c').write_text(PROGRAM)
    (folder / 'my-test.c').write_text(KTEST)
    (folder / 'my file.txt').write_text('not used')
    (folder / 'my.txt').write_bytes(b'the user\'s own input\n' * 321)
    make(folder / 'build', folder / 'build/tint.elf',
         folder / 'build/tint-chk.elf', folder / 'build/initrd.tar',
         EXTRA=folder / 'my-program.c', KTESTS=folder / 'my-test.c',
         FILES=folder / 'my.txt')
    return folder / 'build'


@pytest.mark.parametrize('word, status', [('good', qemu.PASSED),
                                          ('bad', qemu.FAILED)])
def test_extra_programs_run(run, build, word, status):
    m = run('my-program', 'a b', word, expect=status,
            kernel=build / 'tint.elf', initrd=build / 'initrd.tar')
    assert f'3 arguments, the last {word}, page 4096, status 0, ' \
           'trunc|7   |00ff\n' in m.console


def test_files_reach_the_disk(run, build, scratch):
    disk = scratch(boot.MIB)
    run('nothread', 'B:\\files\\my.txt', disks=[qemu.Disk(disk)],
        kernel=build / 'tint.elf', initrd=build / 'initrd.tar')
    content = (build.parent / 'my.txt').read_bytes()
    assert disk.read_bytes() == content + bytes(boot.MIB - len(content))


@pytest.mark.parametrize('pattern, status, results', [
    ('outside_good', qemu.PASSED, {'outside_good': True}),
    ('outside_bad', qemu.FAILED, {'outside_bad': False}),
    ('outside_*', qemu.FAILED, {'outside_good': True, 'outside_bad': False}),
    ('no_such_test', qemu.FAILED, {})])
def test_ktests_run(run, build, pattern, status, results):
    m = run('true', expect=status, kernel=build / 'tint-chk.elf',
            initrd=build / 'initrd.tar',
            options=[f'ktest={pattern}', 'then=poweroff'])
    assert {name: result[0] for name, result in
            ktap.results(m.com2).items()} == results
    if status == qemu.FAILED and results:
        assert re.search(r'^# .*my-test\.c:\d+: .*HIGH_LEVEL', m.com2, re.M)


@pytest.mark.parametrize('variable', ['FILES', 'EXTRA', 'KTESTS'])
def test_what_is_missing_is_named(variable, tmp_path):
    done = subprocess.run(
        ['make', '-n', f'BUILD={tmp_path}/b', f'{variable}=/nowhere/none.c'],
        cwd=boot.ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and '/nowhere/none.c' in done.stderr


def fails(*words):
    """What make says when it refuses."""
    done = subprocess.run(['make', *words], cwd=boot.ROOT, text=True,
                          capture_output=True)
    assert done.returncode != 0
    return done.stderr


@pytest.mark.parametrize('odd', "`&;|<>'\"\\=:()")
@pytest.mark.parametrize('variable', ['FILES', 'EXTRA', 'KTESTS'])
def test_what_a_shell_would_read_is_refused(variable, odd, tmp_path):
    assert f'has {odd} in its name' in fails(
        '-n', f'BUILD={tmp_path}/b', f'{variable}=a{odd}b.c')


def test_a_build_folder_is_one_word():
    assert 'without blanks' in fails('-n', 'BUILD=a b')


@pytest.mark.parametrize('goal', ['clean', 'distclean'])
def test_only_what_was_built_is_removed(goal, tmp_path):
    mine = tmp_path / 'mine'
    (mine / 'kernel').mkdir(parents=True)
    (mine / 'disk.img').touch()
    assert 'is no build folder' in fails(goal, f'BUILD={mine}')
    assert (mine / 'kernel').exists() and (mine / 'disk.img').exists()
    (mine / 'stamp').mkdir()
    subprocess.run(['make', goal, f'BUILD={mine}'], cwd=boot.ROOT, check=True)
    assert not (mine / 'kernel').exists()
    assert mine.exists() == (goal == 'clean')
    subprocess.run(['make', 'distclean', f'BUILD={mine}'], cwd=boot.ROOT,
                   check=True)
    assert not mine.exists()


def test_names_that_differ_in_case_are_one(tmp_path):
    for name in ('x.txt', 'X.txt'):
        (tmp_path / name).touch()
    done = subprocess.run(
        [sys.executable, 'tools/initrd.py', tmp_path / 'initrd.tar',
         *(f'files/{name}={tmp_path / name}' for name in ('x.txt', 'X.txt'))],
        cwd=boot.ROOT, text=True, capture_output=True)
    assert done.returncode != 0 and 'would both be' in done.stderr


@pytest.mark.parametrize('variables, says', [
    ({'KOPTS': '-- false'}, 'KOPTS has options only'),
    ({'ARGS': 'echo ' + 'y' * 2100}, 'bytes; TINT takes 2047')])
def test_the_launcher_refuses(build, variables, says):
    (build / 'disk.img').touch()
    done = subprocess.run(
        [sys.executable, 'tools/run.py'], cwd=boot.ROOT, text=True,
        capture_output=True, env={**os.environ, 'BUILD': str(build),
                                  **variables})
    assert done.returncode != 0 and says in done.stderr
