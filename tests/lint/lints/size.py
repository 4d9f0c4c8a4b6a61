"""size.py - the gates of DESIGN.md, in code lines as cloc counts them."""
import json
import shutil
import subprocess

from .source import CODE, Finding, files, functions, read

GATES = [                               # what, folders, limit
    ('boot + kernel', ['boot', 'kernel'], 7000),
    ('con + initrd + ide + nvme + edu', # with what they share
     [f'drivers/{name}' for name in ('con', 'initrd', 'disk', 'ide', 'nvme',
                                     'edu')],
     1400),
    ('npfs', ['drivers/npfs'], 400),
    ('fat', ['drivers/fat'], 1300),
    ('user', ['user'], None),
]
# What stands over a gate, as `NAME: LINES`, one a line; # is a comment. It may
# only shrink. Its lines are said as a warning each time; more is refused.
OVERDRAFT = 'tests/lint/overdraft.txt'
NOT_CODE = CODE + ('.cfg', '.ld', '.md', '.txt')
FUNCTION_LINES = 60
FILE_LINES = 450


def count(root):
    """Returns {path: code lines} for all code that ships."""
    paths = [path.relative_to(root).as_posix() for path in
             files(root, ['boot', 'kernel', 'drivers', 'user'])]
    if not paths or not shutil.which('cloc'):
        return {}
    out = subprocess.run(
        ['cloc', '--json', '--by-file', '--skip-uniqueness', '--quiet',
         '--force-lang=C,h', '--force-lang=Assembly,asm',
         '--list-file=-'], cwd=root, input='\n'.join(paths), text=True,
        capture_output=True, check=True).stdout
    counted = json.loads(out)
    return {path: counted.get(path, {}).get('code', 0) for path in paths}


def overdraft(root):
    """Returns {gate: lines allowed over it} of this tree."""
    if not (root / OVERDRAFT).exists():
        return {}
    rows = [line.split(':') for line in read(root / OVERDRAFT).splitlines()
            if line.strip() and not line.startswith('#')]
    return {what.strip(): int(number) for what, number in rows}


def total(lines, folders):
    return sum(n for path, n in lines.items()
               if path.startswith(tuple(f'{folder}/' for folder in folders)))


def table(root):
    """The sizes, part by part, as text."""
    lines = count(root)
    rows = [(what, total(lines, folders), limit)
            for what, folders, limit in GATES]
    gated = {folder for _, folders, _ in GATES for folder in folders}
    for folder in sorted({'/'.join(path.split('/')[:2]) for path in lines
                          if path.count('/') > 1}):
        what = '  ' + folder
        if folder.startswith('drivers/') and folder not in gated:
            what += ' (no gate)'
        rows.append((what, total(lines, [folder]), None))
    return '\n'.join(f'{what:<36}{number:>7}' + (f' of {limit}' if limit
                                                 else '')
                     for what, number, limit in rows)


def check(root):
    findings = []
    lines = count(root)
    if not shutil.which('cloc'):
        findings.append(Finding('Makefile', 1, 'size', 'cloc is missing: '
                                'make setup installs it'))
    over = overdraft(root)
    for what, folders, limit in GATES:
        number = total(lines, folders)
        if limit and number > limit:
            known = number <= limit + over.get(what, 0)
            findings.append(Finding(folders[0], 1, 'size', f'{what} has '
                                    f'{number} code lines, {limit} allowed'
                                    + (': a known debt' if known else ''),
                                    known))
    for folder in ('boot', 'kernel', 'drivers'):
        for path in sorted((root / folder).rglob('*')):
            if path.is_file() and path.suffix not in NOT_CODE:
                findings.append(Finding(
                    path.relative_to(root), 1, 'size',
                    'code is only in .c, .h and .asm'))
    for path in files(root, ['boot', 'kernel', 'drivers', 'user']):
        me, text = path.relative_to(root), read(path)
        if text.count('\n') > FILE_LINES:
            findings.append(Finding(me, 1, 'size', f'{text.count(chr(10))} '
                                    f'lines, at most {FILE_LINES}', True))
        if path.suffix == '.asm':
            continue
        for function in functions(text):
            length = function.end - function.line + 1
            if length > FUNCTION_LINES:
                findings.append(Finding(
                    me, function.line, 'size', f'{function.name} has {length} '
                    f'lines, at most {FUNCTION_LINES}', True))
    return findings
