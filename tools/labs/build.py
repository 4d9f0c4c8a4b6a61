"""build.py - a tree of the grader's own, with nothing of the student's in it
but the files that are handed in.

Everything else - headers, build, tests, programs, the guest's half of the
grader - comes from the tree that grades. Objects that are there already are
taken along, so that only the answer is compiled.
"""
import fcntl
import os
import re
import shlex
import shutil
import signal
import subprocess

from pathlib import Path

import lab as trees
import qemu
from labs import parts

GUEST, PROGRAMS = (
    ' '.join(sorted(f'tools/labs/{path.relative_to(Path(__file__).parent)}'
                    for path in Path(__file__).parent.glob(pattern)))
    for pattern in ('guest/*.c', 'guest/programs/*.c'))
KEPT = ['chk', 'free', 'user', 'stamp']     # of a build, to start from
BOUND = 600         # seconds for a build
LINES = 15          # of what the compiler says


class Broken(Exception):
    """The answer does not build; the text is what the compiler said."""


def environment():
    """That of a make that knows nothing of the one which started us."""
    return {key: value for key, value in os.environ.items() if key not in
            ('MAKEFLAGS', 'MFLAGS', 'MAKEOVERRIDES', 'MAKELEVEL', 'ARGS',
             'KOPTS', 'EXTRA', 'FILES', 'KTESTS', 'BUILD', 'CC')}


def complaints(said):
    """What is wrong, of all that make and compiler said."""
    lines = [line for line in said.splitlines() if line.strip()
             and not re.match(r'  [A-Z]+\t', line)]
    first = next((n for n, line in enumerate(lines)
                  if re.search(r'error|undefined|multiple', line)), 0)
    return '\n'.join(lines[first:first + LINES])


class Tree:
    """The pristine tree in a folder, into which answers are put."""

    def __init__(self, folder, root=qemu.ROOT):
        self.folder, self.root = folder, root
        folder.mkdir(parents=True, exist_ok=True)
        # Two graders at once take turns.
        self.lock = open(folder.parent / 'lock', 'w')
        fcntl.flock(self.lock, fcntl.LOCK_EX)
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
        """Writes a file, unless it is so already. One that was not there gets
        the times of like, so that objects taken along are not older."""
        path = self.folder / name
        new = not path.exists()
        if not new and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if new and like:
            shutil.copystat(like, path)

    def answer(self, lab, folder):
        """Puts the files that are handed in from a student's tree in place,
        and those of other labs as they should be."""
        for other in set(parts.FILES) - {lab}:
            for name in parts.FILES[other]:
                self.put(name, (self.root / name).read_bytes())
        for name in parts.FILES[lab]:
            path = folder / name
            # A link could lead to the file that the answer is compared with.
            if not path.is_file() or \
                    path.resolve() != folder.resolve() / name:
                raise Broken(f'{name} is not there, or is no plain file')
            self.put(name, path.read_bytes())

    def refuse_foreign(self, lab):
        """An answer has to be one by itself: of other files it may take in
        headers only, be it by #include, .include or .incbin. Where the
        reference lies is no secret on a grader's machine."""
        for name in parts.FILES[lab]:
            command = self.compiler(name)
            headers = command[command.index('-isystem') + 1]
            for path in self.inputs(command, name):
                inside = os.path.normpath(path)
                # The assembler also names the source as it was told of it.
                if inside not in (name, Path(name).name) and \
                        not inside.startswith(headers) and not (
                            inside.startswith('kernel/')
                            and inside.endswith('.h')):
                    raise Broken(f'{name} takes in {path}, which is no header '
                                 'of the kernel')

    def compiler(self, name):
        """The command by which make compiles a file of the checked kernel."""
        out = str(Path('build/chk', name).with_suffix('.o'))
        shown = subprocess.run(
            ['make', '-n', '-W', name, 'BUILD=build', 'V=1', out],
            cwd=self.folder, env=environment(), text=True, check=True,
            capture_output=True).stdout
        line = next(line for line in shown.splitlines() if f'-c {name}' in line)
        return shlex.split(line.split(';')[-1])

    def run(self, what, *command):
        """Runs a command of the build, with a bound for all that it starts."""
        with subprocess.Popen(
                command, cwd=self.folder, env=environment(), text=True,
                errors='replace', stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                start_new_session=True) as started:
            try:
                said, _ = started.communicate(timeout=BOUND)
            except BaseException as reason:
                os.killpg(started.pid, signal.SIGKILL)
                if not isinstance(reason, subprocess.TimeoutExpired):
                    raise
                raise Broken(f'{what} has no end within {BOUND} s') from None
        if started.returncode:
            raise Broken(complaints(said))

    def inputs(self, command, name):
        """What compiler and assembler read for a file."""
        made = [self.build / f'inputs.{kind}' for kind in 'oca']
        output, by_compiler, by_assembler = map(str, made)
        command = [word for word in command if word not in ('-MMD', '-MP')]
        command[command.index('-o') + 1] = output
        # A pipe between the two, so that no file there is the compiler's own.
        self.run(name, *command, '-pipe', '-MD', '-MF', by_compiler,
                 f'-Wa,--MD,{by_assembler}')
        found = set()
        for path in made[1:]:
            text = path.read_text(errors='replace').replace('\\\n', ' ')
            found |= set(text.partition(':')[2].split())
        for path in made:
            path.unlink(missing_ok=True)
        return sorted(found)

    def make(self, products):
        self.run('the build', 'make', '-s', f'-j{os.cpu_count() or 1}',
                 'BUILD=build', f'KTESTS={GUEST}', f'EXTRA={PROGRAMS}',
                 *(f'build/{name}' for name in products))
