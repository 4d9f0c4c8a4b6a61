"""cmocka.py - builds and runs the host tests, for test_host.py.

A test file names the sources that it tests in its head:

    // link: kernel/rtl/heap.c kernel/rtl/print.c

Both are built with the address and undefined-behaviour sanitizers. The
kernel's own memcpy, memmove, memset and memcmp are called tint_memcpy and so
on here, so that the C library keeps its own.
"""
import functools
import os
import re
import shutil
import subprocess

from qemu import BUILD, ROOT

OUT = BUILD / 'host'
HOSTCC = os.environ.get('HOSTCC') or 'gcc'
FLAGS = ('-std=gnu17 -O1 -g -Wall -Wextra -fno-omit-frame-pointer '
         '-fsanitize=address,undefined -fno-sanitize-recover=all -I. '
         '-idirafter user/include').split()
KERNEL_FLAGS = ['-ffreestanding', '-fno-builtin', '-DDBG=1',
                *(f'-D{name}=tint_{name}' for name in
                  ('memcpy', 'memmove', 'memset', 'memcmp'))]
BOUND = 300                     # seconds for one binary; they take far less
TEST = re.compile(r'^\s*cmocka_unit_test(?:_setup_teardown)?\((\w+)', re.M)
LINK = re.compile(r'^// link:(.*)$', re.M)
TAP = re.compile(r'^(ok|not ok) \d+ - (\w+)', re.M)


class BuildError(Exception):
    pass


def tests(source):
    """The names of the tests in source, in its order."""
    return TEST.findall(source.read_text())


def compile(source, out, flags):
    out.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([HOSTCC, *FLAGS, *flags, '-c', source, '-o', out],
                          cwd=ROOT, text=True, capture_output=True)
    if done.returncode:
        raise BuildError(f'{source} does not compile\n{done.stderr}')
    return out


def build(source):
    """Builds the binary of one test file."""
    if not shutil.which(HOSTCC):
        raise BuildError(f'{HOSTCC} is missing: `make setup` installs it')
    sources = ' '.join(LINK.findall(source.read_text())).split()
    for path in sources:
        if not (ROOT / path).exists():
            raise BuildError(f'{source.name} links {path}, which is not there')
    objects = [compile(source.relative_to(ROOT),
                       OUT / source.stem / 'test.o', ['-DTINT_HOST', '-DDBG=0'])]
    objects += [compile(path, OUT / source.stem / (path + '.o'), KERNEL_FLAGS)
                for path in sources]
    binary = OUT / source.stem / 'test'
    done = subprocess.run([HOSTCC, *FLAGS, *objects, '-lcmocka', '-o', binary],
                          cwd=ROOT, text=True, capture_output=True)
    if done.returncode:
        raise BuildError(f'{source.name} does not link\n{done.stderr}')
    return binary


@functools.lru_cache(maxsize=None)
def results(source):
    """Runs a test file once: ({name: passed}, all that it said)."""
    try:
        binary = build(source)
    except BuildError as error:
        return {}, str(error)
    environment = dict(os.environ, CMOCKA_MESSAGE_OUTPUT='TAP')
    try:
        done = subprocess.run([binary], cwd=ROOT, env=environment, text=True,
                              errors='replace', stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=BOUND)
    except subprocess.TimeoutExpired as error:
        text = (error.stdout or b'').decode(errors='replace')
        return {}, f'no end within {BOUND} s\n{text}'
    passed = {name: word == 'ok' for word, name in TAP.findall(done.stdout)}
    if done.returncode and all(passed.values()):
        # A sanitizer stopped it, or a leak was found at the end: no test of
        # this file may count as passed.
        passed = {}
    return passed, done.stdout
