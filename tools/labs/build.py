"""build.py - a tree of the grader's own, with nothing of the student's in it
but the files that are handed in.

Everything else - headers, build, tests, programs, the guest's half of the
grader - comes from the tree that grades. Objects that are there already are
taken along, so that only the answer is compiled.
"""
import os
import shutil
import subprocess

from pathlib import Path

import lab as trees
import qemu
from labs import parts

GUEST = sorted(f'tools/labs/guest/{path.name}' for path in
               (Path(__file__).parent / 'guest').glob('*.c'))
PRODUCTS = ['tint.elf', 'tint-chk.elf', 'initrd.tar']
KEPT = ['chk', 'free', 'user', 'stamp']     # of a build, to start from
BOUND = 600         # seconds for a build
LINES = 15          # of what the compiler says


class Broken(Exception):
    """The answer does not build; the text is what the compiler said."""


def environment():
    """That of a make that knows nothing of the one which started us."""
    return {key: value for key, value in os.environ.items() if key not in
            ('MAKEFLAGS', 'MFLAGS', 'MAKEOVERRIDES', 'MAKELEVEL', 'ARGS',
             'KOPTS', 'EXTRA', 'FILES', 'KTESTS', 'BUILD')}


class Tree:
    """The pristine tree in a folder, into which answers are put."""

    def __init__(self, folder, root=qemu.ROOT):
        self.folder, self.root = folder, root
        self.build = folder / 'build'
        self.kernel = self.build / 'tint.elf'
        self.checked = self.build / 'tint-chk.elf'
        self.initrd = self.build / 'initrd.tar'
        names = trees.tree_files(root)
        wanted = set(names)
        for path in [p for p in folder.rglob('*') if p.is_file()]:
            name = path.relative_to(folder).as_posix()
            if not name.startswith('build/') and name not in wanted:
                path.unlink()
        for name in names:
            self.put(name, (root / name).read_bytes(), root / name)
        self.put(parts.MISSING, parts.missing_header().encode())
        if not self.build.exists():
            self.build.mkdir(parents=True)
            for name in KEPT:
                if (qemu.BUILD / name).is_dir():
                    shutil.copytree(qemu.BUILD / name, self.build / name,
                                    copy_function=shutil.copy2)

    def put(self, name, content, like=None):
        """Writes a file, unless it is so already; like: with its times."""
        path = self.folder / name
        if path.exists() and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if like:
            shutil.copystat(like, path)

    def answer(self, lab, folder):
        """Puts the files that are handed in from a student's tree in place."""
        for name in parts.FILES[lab]:
            path = folder / name
            if path.is_symlink() or not path.is_file():
                raise Broken(f'{name} is not there, or is no plain file')
            self.put(name, path.read_bytes())

    def make(self, products=PRODUCTS, **variables):
        words = {'KTESTS': ' '.join(name for name in GUEST), **variables}
        try:
            done = subprocess.run(
                ['make', '-s', f'-j{os.cpu_count() or 1}', 'BUILD=build',
                 *(f'build/{name}' for name in products),
                 *(f'{key}={value}' for key, value in words.items())],
                cwd=self.folder, env=environment(), text=True,
                errors='replace', stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                timeout=BOUND)
        except subprocess.TimeoutExpired:
            raise Broken(f'the build has no end within {BOUND} s') from None
        if done.returncode:
            said = [line for line in done.stdout.splitlines() if line.strip()]
            raise Broken('\n'.join(said[:LINES]))
