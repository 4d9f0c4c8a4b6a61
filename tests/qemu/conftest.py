"""conftest.py - what the tests of this folder boot: fixture programs, files
and in-kernel tests that are not part of TINT's own build.
"""
import contextlib
import fcntl
import os
import random
import shutil
import subprocess

from pathlib import Path

import pytest

import qemu

from harness import boot

HERE = Path(__file__).resolve().parent
FILES = {'one.bin': 1, 'sector.bin': 512, 'over.bin': 513, 'page.bin': 4096,
         'odd.bin': 70001}


def make(build, *goals, **variables):
    """Runs make in a folder of its own, as nobody's sub-make."""
    environment = {key: value for key, value in os.environ.items()
                   if key not in ('MAKEFLAGS', 'MFLAGS', 'MAKEOVERRIDES',
                                  'MAKELEVEL', 'ARGS', 'KOPTS')}
    # Relative, as the way to us may have a blank.
    build, *goals = (os.path.relpath(path, boot.ROOT)
                     for path in (build, *goals))
    words = {'BUILD': build, 'EXTRA': '', 'FILES': '', 'KTESTS': '',
             **variables}
    done = subprocess.run(
        ['make', '-s', '-j2', *goals,
         *(f'{key}={value}' for key, value in words.items())],
        cwd=boot.ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout


@contextlib.contextmanager
def alone(folder):
    """Holds off the others that would make the same beside us."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / 'lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Fixtures:
    """The second build: kernels, initrd and the files that are in it."""

    def __init__(self, build):
        self.build = build
        self.kernel = build / 'tint.elf'
        self.checked = build / 'tint-chk.elf'
        self.either = self.checked if boot.EITHER_CHECKED else self.kernel
        self.initrd = build / 'initrd.tar'
        self.files = build / 'input'

    def content(self, name):
        return (self.files / name).read_bytes()


@pytest.fixture(scope='session')
def fixtures():
    made = Fixtures(boot.BUILD / 'fixtures')
    with alone(made.build):
        make_fixtures(made)
    return made


def make_fixtures(made):
    made.files.mkdir(exist_ok=True)
    draw = random.Random(20)
    for name, size in FILES.items():
        path = made.files / name
        content = draw.randbytes(size)
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
    make(made.build, made.kernel, made.checked, made.initrd,
         EXTRA=' '.join(os.path.relpath(path, boot.ROOT) for path in
                        sorted(HERE.glob('programs/*.c'))),
         KTESTS=' '.join(os.path.relpath(path, boot.ROOT) for path in
                         sorted(HERE.glob('fa*/*.c'))),
         FILES=' '.join(os.path.relpath(made.files / name, boot.ROOT)
                        for name in FILES))


@pytest.fixture(scope='module')
def debugging(fixtures):
    """A build folder has one session at a time, and it needs its disk."""
    with alone(fixtures.build / 'debugging'):
        yield


@pytest.fixture(autouse=True)
def tidy(tmp_path):
    """Disks and initrds go with their test; only the logs are kept."""
    yield
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def run(machine, fixtures):
    """Boots a kernel (the free one; with CHECKED=1 the checked one) with a
    program, waits for the end, and gives the machine; fails unless QEMU's
    status is the one expected."""
    def until_the_end(*program, expect=qemu.PASSED, bound=120, **options):
        options.setdefault('kernel', fixtures.either)
        options.setdefault('initrd', fixtures.initrd)
        m = machine(program=program, **options)
        m.expect_status(expect, bound)
        return m
    return until_the_end
