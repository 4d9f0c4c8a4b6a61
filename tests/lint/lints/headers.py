"""headers.py - each header compiles alone, and twice."""
import os
import re
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor

from .source import Finding, files

FLAGS = ['-std=gnu17', '-ffreestanding', '-DDBG=1', '-Wall', '-Wextra',
         '-Werror', '-nostdinc', '-I.', '-fsyntax-only', '-x', 'c', '-']


def run(command, root, text=''):
    return subprocess.run(command, input=text, text=True, capture_output=True,
                          cwd=root, env={**os.environ, 'LC_ALL': 'C'})


def compile_alone(root, compiler, path):
    me = path.relative_to(root).as_posix()
    own = ['-Iuser/include'] if me.startswith('user/') else []
    builtin = run([*compiler, '-print-file-name=include'], root).stdout.strip()
    result = run([*compiler, *own, '-isystem', builtin, *FLAGS], root,
                 f'#include "{me}"\n' * 2)
    if result.returncode == 0:
        return None
    match = re.search(r'^(\S+?):(\d+)(?::\d+)?: (?:fatal )?error: (.*)$',
                      result.stderr, re.M)
    if not match:
        return Finding(me, 1, 'headers', result.stderr.strip()[:200])
    where = match.group(1).removeprefix('./')
    if where != me:
        return Finding(me, 1, 'headers', f'{match.group(3)} (in {where})')
    return Finding(me, int(match.group(2)), 'headers', match.group(3))


def check(root):
    paths = list(files(root, ['kernel', 'drivers', 'user/include'], ('.h',)))
    compiler = shlex.split(os.environ.get('CC', 'gcc'))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda path: compile_alone(root, compiler, path),
                         paths)
        return [finding for finding in found if finding]
