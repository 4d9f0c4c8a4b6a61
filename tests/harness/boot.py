"""boot.py - fixtures and helpers for tests that boot TINT."""
import contextlib
import os
import re
import shutil
import zlib

import pytest

import iso

from qemu import BUILD, ROOT, Disk, Failure, Machine

__all__ = ['machine', 'scratch', 'iso_image', 'pytest_runtest_makereport']

CHECKED = BUILD / 'tint-chk.elf'
FREE = BUILD / 'tint.elf'
MIB = 1 << 20
STRESS = bool(os.environ.get('STRESS'))
# `make test LEVEL=qemu CPUS=4`: on so many, where a test does not say it.
PROCESSORS = int((os.environ.get('CPUS') or '1').split()[0])
# `make test LEVEL=qemu CHECKED=1`: the checked kernel, where either will do.
EITHER_CHECKED = bool(os.environ.get('CHECKED'))


def test_name(request):
    """A name for the logs: level/file-test, as pytest shows it."""
    name = re.sub(r'^tests/|\.py', '', request.node.nodeid).replace('::', '-')
    if len(name) > 120:             # a file's name has 255 characters
        name = f'{name[:100]}...{zlib.crc32(name.encode()):08x}'
    return name


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows what its machines said last, and where their logs
    are; one that failed with a Failure shows that text and no Python."""
    report = (yield).get_result()
    if not report.failed or call.when != 'call' or not call.excinfo:
        return                      # an xfail(strict) that passes raises nothing
    if isinstance(call.excinfo.value, Failure):
        places = [entry.lineno + 1 for entry in call.excinfo.traceback
                  if entry.path == item.path]
        report.longrepr = (f'{item.location[0]}:{(places or [0])[-1]}: '
                           f'{call.excinfo.value}')
    elif 'machine' in item.fixturenames:
        for m in item.funcargs['machine'].machines:
            report.sections.append(('TINT', m.report('the test failed')))


def require(path):
    if not path.exists():
        pytest.fail(f'{os.path.relpath(path, ROOT)} is not there: run make '
                    'first', pytrace=False)


@pytest.fixture
def scratch(tmp_path):
    """Makes scratch disks: scratch() is a new file of 16 MiB of zeros, and
    scratch(size=..., name=...) another one. All go when the test ends."""
    made = []

    def make(size=16 * MIB, name=None):
        path = tmp_path / (name or f'disk{len(made)}.img')
        with open(path, 'wb') as disk:
            disk.truncate(size)
        made.append(path)
        return path

    yield make
    for path in made:
        path.unlink(missing_ok=True)


@pytest.fixture
def machine(request):
    """Boots: machine(program=[...], options=[...], ...) starts a Machine,
    whose logs carry the test's name, and which is ended with the test."""
    with contextlib.ExitStack() as stack:
        def boot(**options):
            require(options.get('kernel', FREE))
            options.setdefault('cpus', PROCESSORS)
            name = test_name(request)
            if boot.machines:
                name += f'-{len(boot.machines) + 1}'
            boot.machines.append(Machine(name, **options))
            return stack.enter_context(boot.machines[-1])

        boot.machines = []
        yield boot


@pytest.fixture
def iso_image(tmp_path):
    """iso_image(options, program, kernel=, initrd=) makes a CD image whose
    GRUB passes exactly these words."""
    def make(options=('then=poweroff',), program=('sh',), kernel=FREE,
             initrd=BUILD / 'initrd.tar'):
        require(kernel)
        out = tmp_path / 'tint.iso'
        iso.make(out, kernel, initrd, [*options, '--', *program])
        return out

    yield make
    shutil.rmtree(tmp_path, ignore_errors=True)
