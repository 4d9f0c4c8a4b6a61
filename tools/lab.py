#!/usr/bin/env python3
"""lab.py - makes the tree of an assignment: lab.py N [--to DIR]

The tree is this one without the marked parts (tools/labs/parts.py says how),
without the answers' mutants, and with the task's text as LAB.md. It builds,
runs, tests and grades by itself. An existing folder is never touched.
"""
import argparse
import hashlib
import json
import shutil
import subprocess
import sys

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from labs import parts

ROOT = Path(__file__).resolve().parent.parent
NOTE = '.lab'               # a lab tree's own knowledge of what it is
NOT_FOR_STUDENTS = ('tests/labs/', '.ci/')


def tree_files(root):
    """The files that make up a tree, relative to it."""
    if (root / NOTE).exists():
        return sorted(read_note(root)['files'])
    listed = subprocess.run(
        ['git', 'ls-files', '-z', '--cached', '--others',
         '--exclude-standard'], cwd=root, capture_output=True, text=True)
    if listed.returncode == 0:
        names = [name for name in listed.stdout.split('\0') if name]
    else:                   # no repository: an unpacked archive
        names = [path.relative_to(root).as_posix() for path in
                 root.rglob('*') if path.is_file()]
    return sorted(name for name in names if (root / name).is_file()
                  and not name.startswith(('build', '.git'))
                  and not (root / Path(name).parts[0] / 'stamp').is_dir()
                  and '__pycache__' not in name)


def read_note(folder):
    """What a lab tree says of itself; a student may have written anything."""
    try:
        note = json.loads((folder / NOTE).read_text())
        return {'lab': int(note['lab']), 'files': dict(note['files'])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {'lab': 0, 'files': {}}


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def copy(source, target, names):
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / name, target / name)


def make_tree(lab, target, root=ROOT):
    """Writes the tree of a lab to the folder target."""
    names = [name for name in tree_files(root)
             if not name.startswith(NOT_FOR_STUDENTS)]
    target.mkdir(parents=True)
    copy(root, target, names)
    for other, handed_in in parts.FILES.items():
        for name in handed_in:
            text = (root / name).read_text()
            if other == lab:
                text = parts.take_out(text, lab, parts.stubs(name))
            (target / name).write_text(parts.without_marks(text))
    (target / parts.MISSING).write_text(parts.missing_header())
    task = (root / f'docs/labs/lab{lab}.md').read_text()
    (target / 'LAB.md').write_text(task.replace('](../', '](docs/'))
    names += [parts.MISSING, 'LAB.md']
    note = {'lab': lab, 'files': {name: digest(target / name)
                                  for name in names}}
    (target / NOTE).write_text(json.dumps(note, indent=1) + '\n')
    start_repository(target, lab)


def start_repository(target, lab):
    """A repository with one commit: `git diff` is then the answer so far."""
    if not shutil.which('git'):
        return
    (target / '.gitignore').write_text('/build*/\n__pycache__/\n*.pyc\n')
    git = ['git', '-c', 'user.name=TINT', '-c', 'user.email=tint@localhost',
           '-c', 'init.defaultBranch=main', '-c', 'commit.gpgsign=false']
    for arguments in (['init', '-q'], ['add', '-A'],
                      ['commit', '-q', '-m', f'Lab {lab} as handed out']):
        if subprocess.run([*git, *arguments], cwd=target).returncode:
            return


def main():
    parser = argparse.ArgumentParser(
        prog='lab', description=__doc__,
        usage='make lab N=1|2|3 [TO=FOLDER]\n'
              '       tools/lab.py N [--to FOLDER]',
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('lab', type=int, nargs='?',
                        choices=sorted(parts.TITLES))
    parser.add_argument('--to', type=Path, help='the folder (build/labN)')
    args = parser.parse_args()
    if args.lab is None:
        parser.error('which lab? make lab N=1, 2 or 3')
    if (ROOT / NOTE).exists():
        sys.exit('lab: this is a lab tree already; LAB.md has the task')
    target = args.to or ROOT / 'build' / f'lab{args.lab}'
    if target.exists():
        sys.exit(f'lab: {target} is there already, maybe with an answer in '
                 'it: move it away, or choose another folder with TO=')
    try:
        make_tree(args.lab, target)
    except OSError as error:
        sys.exit(f'lab: {error}')
    print(f'Lab {args.lab}, "{parts.TITLES[args.lab]}", is in {target}/\n'
          f'  read          LAB.md\n'
          f'  write         {", ".join(parts.FILES[args.lab])}\n'
          f'  then, there   make run, make test LEVEL=kernel, make grade')


if __name__ == '__main__':
    main()
