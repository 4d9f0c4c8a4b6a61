"""test_lint.py - the lints pass on the tree and reject their bad fixtures.

fixtures/good is a tree that all lints accept. fixtures/<lint> is one that the
lint must reject with exactly the findings in its file `expected`.
"""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FIXTURES = HERE / 'fixtures'

sys.path.insert(0, str(HERE))
import lint                             # noqa: E402  (needs the path above)


def build(root):
    """Compiles a fixture into build/free, as the Makefile does the tree."""
    generated = root / 'build'
    generated.mkdir()
    (generated / 'offsets.inc').touch()
    for source in sorted(root.rglob('*')):
        inside = source.relative_to(root)
        obj = generated / 'free' / inside.with_suffix('.o')
        if source.suffix == '.c' and inside.parts[0] not in ('user', 'tests'):
            command = [os.environ.get('CC', 'gcc'), '-c', '-ffreestanding',
                       '-fno-builtin', f'-I{root}', '-o', obj, source]
        elif source.suffix == '.asm':
            command = ['nasm', '-felf64', f'-I{generated}/', '-o', obj, source]
        else:
            continue
        obj.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(command, check=True)


def errors(root, name):
    return [str(f) for f in lint.run(root, [name]) if not f.warning]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Copies a fixture, compiled, to where a test may change it."""
    monkeypatch.setenv('BUILD', 'build')

    def copy(name):
        root = tmp_path / name
        shutil.copytree(FIXTURES / name, root)
        build(root)
        return root
    return copy


@pytest.mark.parametrize('name', lint.LINTS)
def test_tree(name):
    assert errors(ROOT, name) == []


@pytest.mark.parametrize('name', lint.LINTS)
def test_good_fixture(name, tree):
    assert errors(tree('good'), name) == []


@pytest.mark.parametrize('name', lint.LINTS)
def test_bad_fixture(name, tree):
    expected = (FIXTURES / name / 'expected').read_text().splitlines()
    found = errors(tree(name) if name == 'symbols' else FIXTURES / name, name)
    if name == 'headers':               # the compiler's own words differ
        found = [line.split(': headers: ')[0] for line in found]
    assert found == expected


def test_symbols_needs_objects(tree):
    root = tree('good')
    (root / 'build/free/kernel/ke/dpc.o').unlink()
    os.utime(root / 'build/free/kernel/ke/idle.o', (1, 1))
    assert errors(root, 'symbols')[:2] == [
        'kernel/ke/dpc.c:1: symbols: has no object in build/free: build first',
        'kernel/ke/idle.asm:1: symbols: is newer than its object: build first']


@pytest.mark.parametrize('folders, limit', [
    (['kernel/ke', 'boot'], 7000),
    (['drivers/con', 'drivers/disk', 'drivers/edu'], 1400),
    (['drivers/npfs'], 400),
    (['drivers/fat'], 1300),
])
def test_size_gates(folders, limit, tmp_path):
    for i, folder in enumerate(folders):
        (tmp_path / folder).mkdir(parents=True)
        lines = limit // len(folders) + (limit % len(folders) if i == 0 else 0)
        text = '// x.c\n\n' + 'int x;\n' * lines
        (tmp_path / folder / 'x.c').write_text(text)
    assert errors(tmp_path, 'size') == []
    with open(tmp_path / folders[0] / 'x.c', 'a') as file:
        file.write('int x;\n')
    found = errors(tmp_path, 'size')
    assert len(found) == 1
    assert f'{limit + 1} code lines, {limit} allowed' in found[0]


def test_rules_are_written_as_they_are_checked(tree):
    root = tree('good')
    (root / 'docs/RULES.md').unlink()
    found = errors(root, 'rules')
    assert found == ['docs/RULES.md:1: rules: is not what `make rules` writes '
                     'now']
    subprocess.run([sys.executable, HERE / 'lint.py', '--root', root,
                    '--write-rules'], check=True)
    assert errors(root, 'rules') == []
    assert (root / 'docs/RULES.md').read_text() == \
        (FIXTURES / 'good/docs/RULES.md').read_text()


def test_size_warns_of_lengths(tmp_path):
    (tmp_path / 'kernel').mkdir()
    text = '// x.c\nint f(void)\n{\n' + '    f();\n' * 58 + '}\n'
    (tmp_path / 'kernel/x.c').write_text(text + '//\n' * 388)
    found = [str(f) for f in lint.run(tmp_path, ['size'])]
    assert found == [
        'kernel/x.c:2: size: warning: f has 61 lines, at most 60']
    (tmp_path / 'kernel/x.c').write_text(text + '//\n' * 389)
    assert 'warning: 451 lines, at most 450' in str(
        lint.run(tmp_path, ['size'])[0])


def test_command_line():
    def run(*arguments):
        return subprocess.run([sys.executable, HERE / 'lint.py', *arguments],
                              capture_output=True, text=True)
    good = run('--root', FIXTURES / 'good', 'layers', 'names')
    assert (good.returncode, good.stdout) == (
        0, 'lint: 2 run, 0 findings, 0 warnings\n')
    bad = run('--root', FIXTURES / 'headers', 'headers')
    assert bad.returncode == 1
    assert bad.stdout.endswith('lint: 1 run, 3 findings, 0 warnings\n')
    assert run('nonsense').returncode == 2
