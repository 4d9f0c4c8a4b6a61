"""format.py - what every line and every file head looks like."""
import re
import shutil
import subprocess

from .source import Finding, files

COLUMNS = 80


def check_lines(text):
    """Yields (line, what is wrong)."""
    for number, line in enumerate(text.split('\n'), 1):
        if '\t' in line:
            yield number, 'has a tab'
        if line.endswith('\r'):
            yield number, 'ends in a carriage return'
        elif line != line.rstrip():
            yield number, 'ends in a blank'
        if len(line.rstrip('\r')) > COLUMNS:
            yield number, f'has {len(line)} columns, at most {COLUMNS}'
    if not text.endswith('\n') or text.endswith('\n\n'):
        yield text.count('\n') + 1, 'the file must end in one line end'


def check_head(path, text):
    mark = ';' if path.suffix == '.asm' else '//'
    head = rf'{mark} ([\w-]+/)*{re.escape(path.name)} - \S'
    if not re.match(head, text):
        yield 1, f'the file must start with "{mark} {path.name} - what it is"'


def clang_format(root, paths):
    """Warns if .clang-format would change files, where the tool is there."""
    if not shutil.which('clang-format') or not paths \
            or not (root / '.clang-format').is_file():
        return
    out = subprocess.run(['clang-format', '--dry-run', *map(str, paths)],
                         capture_output=True, text=True, cwd=root).stderr
    changed = set(re.findall(r'^(\S+?):\d+:\d+: warning:', out, re.M))
    if changed:
        text = f'would change {len(changed)} of {len(paths)} files'
        yield Finding('.clang-format', 1, 'format', text, warning=True)


def check(root):
    findings = []
    paths = list(files(root, ['boot', 'kernel', 'drivers', 'user', 'tests',
                              'tools']))
    for path in paths:
        text = path.read_bytes().decode('utf-8', 'replace')
        wrong = [*check_head(path, text), *check_lines(text)]
        findings += [Finding(path.relative_to(root), line, 'format', what)
                     for line, what in wrong]
    c_files = [path for path in paths if path.suffix != '.asm']
    return findings + list(clang_format(root, c_files))
