"""test_exit.py - how QEMU ends, and what the launcher makes of it."""
import os
import shutil
import subprocess
import sys

import pytest

import qemu

from harness import boot
from harness.shell import Shell

PASSED, FAILED = qemu.PASSED, qemu.FAILED
RUN = boot.ROOT / 'tools/run.py'


# ---- The first program ------------------------------------------------------

@pytest.mark.parametrize('program, status', [
    (['true'], PASSED), (['false'], FAILED),
    (['sh', '-c', 'exit 0'], PASSED), (['sh', '-c', 'exit 7'], FAILED),
    (['sh', '-c', 'exit 256'], FAILED), (['sh', '-c', 'false; true'], PASSED),
    (['sh', '-c', 'true; false'], FAILED), (['crash', 'write'], FAILED),
    (['crash', 'ill'], FAILED), (['sh', '-c', 'crash divide'], FAILED),
    (['shutdown'], PASSED), (['shutdown', '0'], PASSED),
    (['shutdown', '1'], FAILED), (['shutdown', '255'], FAILED),
    (['shutdown', '4294967295'], FAILED), (['shutdown', 'x'], FAILED),
    (['sh', '-c', 'shutdown'], PASSED), (['sh', '-c', 'shutdown 0'], PASSED),
    (['sh', '-c', 'shutdown 3'], FAILED),
    (['sh', '-c', 'B:\\bin\\shutdown; true'], FAILED),
    (['sh', '-c', 'B:\\bin\\shutdown 0; true'], FAILED),
    (['sh', '-c', 'B:\\bin\\shutdown 5; true'], FAILED),
    (['sh', '-c', 'sh -c shutdown; true'], FAILED),
    (['no-such-program'], FAILED), (['B:\\bin\\no-such-program'], FAILED),
    (['sh', '-c', 'no-such-program'], FAILED),
], ids=lambda value: '_'.join(value) if isinstance(value, list) else str(value))
def test_status_of_the_first_program(run, program, status):
    m = run(*program, expect=status)
    assert 'STOP' not in m.console


def test_a_missing_program_is_named(run):
    m = run('no-such-program', expect=FAILED)
    assert "cannot start 'no-such-program'" in m.console
    m = run('sh', '-c', 'no-such-program; true')
    assert 'no-such-program: not found\n' in m.console


@pytest.mark.parametrize('line, status', [
    ('shutdown', PASSED), ('shutdown 0', PASSED), ('shutdown 9', FAILED),
    ('B:\\bin\\shutdown', FAILED), ('sh -c shutdown', FAILED)])
def test_shutdown_at_the_prompt(machine, fixtures, line, status):
    m = machine(kernel=fixtures.kernel, initrd=fixtures.initrd, options=())
    Shell(m).type(line + '\r')
    m.expect_status(status)


def test_without_the_exit_device_power_goes_off(fixtures):
    """By ACPI; QEMU says so in a QMP event."""
    command = qemu.machine_arguments(
        fixtures.kernel, fixtures.initrd,
        qemu.command_line(['then=poweroff'], ['true']))
    at = next(n for n, word in enumerate(command) if 'isa-debug-exit' in word)
    del command[at - 1:at + 1]
    done = subprocess.run([*command, '-serial', 'null', '-qmp', 'stdio'],
                          input='{"execute": "qmp_capabilities"}\n',
                          capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert '"event": "SHUTDOWN"' in done.stdout
    assert '"reason": "guest-shutdown"' in done.stdout


# ---- The launcher -----------------------------------------------------------

def environment(build, variables):
    return {**{key: value for key, value in os.environ.items()
               if key not in ('ARGS', 'KOPTS', 'CPUS', 'MEM', 'DISK', 'SPEED',
                              'ISO')},
            'BUILD': str(build), **variables}


def launch(build=boot.BUILD, arguments=(), typed=b'', **variables):
    """Runs tools/run.py; its status and what it printed."""
    done = subprocess.run(
        [sys.executable, RUN, *arguments], input=typed, cwd=boot.ROOT,
        env=environment(build, variables), timeout=120,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout.decode('latin-1').replace('\r', '')


@pytest.fixture
def folder(tmp_path, fixtures):
    """A build folder that a test may spoil."""
    for path in (fixtures.kernel, fixtures.checked, fixtures.initrd):
        shutil.copy(path, tmp_path)
    with open(tmp_path / 'disk.img', 'wb') as disk:
        disk.truncate(boot.MIB)
    return tmp_path


@pytest.mark.parametrize('iso', ['', '1'], ids=['direct', 'iso'])
def test_the_launcher_passes_words_and_status_on(folder, iso):
    status, said = launch(folder, ARGS=r'''echo "a b" it\'s B:\x $HOME''',
                          ISO=iso)
    assert (status, "\na b it's B:\\x $HOME\n" in said) == (0, True), said
    status, said = launch(folder, ARGS='false', ISO=iso)
    assert (status, 'status 35' in said) == (1, True), said
    status, said = launch(folder, ARGS='true', MEM='24M', ISO=iso)
    assert (status, '32 MiB' in said) == (2, True), said


def test_the_launcher_names_the_addresses_of_a_bugcheck(folder):
    shutil.copy(folder / 'tint-chk.elf', folder / 'tint.elf')
    status, said = launch(folder, ARGS='true', KOPTS='ktest=fatal_page_fault')
    assert status == 2, said
    assert '*** STOP 0x00000050 PAGE_FAULT_IN_NONPAGED_AREA' in said
    assert 'fatal_read+' in said and 'fatal.c:' in said


@pytest.mark.parametrize('variables', [
    {'CPUS': 'many'}, {'MEM': 'nonsense'}, {'DISK': 'tape'}, {'SPEED': 'slow'}],
    ids=str)
def test_the_launcher_refuses_what_it_does_not_know(folder, variables):
    status, said = launch(folder, ARGS='true', **variables)
    assert status == 3, said
    assert 'Traceback' not in said and said.strip()


def test_the_launcher_ends_with_who_reads_it(folder):
    """Nobody sees what the shell says any more, and its keys may still come."""
    with subprocess.Popen(
            [sys.executable, RUN], cwd=boot.ROOT, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=environment(folder, {'ARGS': 'sh'})) as process:
        said = b''
        while b'tint>' not in said:
            said += process.stdout.read1()
            assert process.poll() is None, said
        process.stdout.close()
        try:
            assert process.wait(60) != 0
        finally:
            process.terminate()


def test_the_launcher_without_a_build(tmp_path):
    status, said = launch(tmp_path, ARGS='true')
    assert status == 3 and 'run make first' in said


@pytest.mark.parametrize('arguments, args, status', [
    ((), 'cat', 3), ((), '', 3), (('--quit-ok',), '', 0),
    (('--quit-ok',), 'cat', 3)])
def test_leaving_qemu_by_hand(folder, arguments, args, status):
    """Ctrl-A X, typed at once: QEMU reads it before the guest runs."""
    found, said = launch(folder, arguments, b'\x01x', ARGS=args)
    assert found == status, said


def test_a_triple_fault_is_not_success(folder):
    """A kernel that does nothing but that: 32-bit code, an empty IDT."""
    (folder / 'triple.asm').write_text(
        'bits 32\nsection .note.pvh note alloc\ndd 4, 8, 18\ndb "Xen", 0\n'
        'dq start\nsection .text\nglobal start\nstart: lidt [none]\nint3\n'
        'none: dw 0\ndd 0\n')
    subprocess.run(['nasm', '-f', 'elf64', 'triple.asm'], cwd=folder,
                   check=True)
    linker = shutil.which('x86_64-linux-gnu-ld') or 'ld'
    subprocess.run([linker, '-N', '-Ttext=0x100000', '-e', 'start', '-o',
                    'tint.elf', 'triple.o'], cwd=folder, check=True,
                   capture_output=True)
    status, said = launch(folder, ARGS='true')
    assert (status, 'triple fault' in said) == (3, True), said
