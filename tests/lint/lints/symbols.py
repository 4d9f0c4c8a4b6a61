"""symbols.py - the layers again, as the linker sees them in build/free."""
import os
import re
import subprocess
from collections import defaultdict

from .layers import FREE, SHARED, folder_of, includes, is_private, sees
from .source import Finding, files, read

ANYWHERE = {'KeBugCheckEx', 'memcpy', 'memset', 'memmove', 'memcmp',
            '_GLOBAL_OFFSET_TABLE_'}
OFFSETS = 'kernel/ke/offsets.c'         # only compiled to offsets.inc
FOLDERS = ['boot', 'kernel', 'drivers']


def objects(root):
    """Returns {source: object} and a finding for each that is not there."""
    built, findings = {}, []
    free = root / os.environ.get('BUILD', 'build') / 'free'
    for source in files(root, FOLDERS, ('.c', '.asm')):
        me = source.relative_to(root)
        obj = free / me.with_suffix('.o')
        if me.as_posix() == OFFSETS:
            continue
        if not obj.is_file():
            findings.append(Finding(me, 1, 'symbols', 'has no object in '
                                    'build/free: build first'))
        elif obj.stat().st_mtime < source.stat().st_mtime:
            findings.append(Finding(me, 1, 'symbols', 'is newer than its '
                                    'object: build first'))
        else:
            built[me.as_posix()] = obj
    return built, findings


def read_symbols(objs):
    """Yields (object, symbol, type letter)."""
    if not objs:
        return
    out = subprocess.run([os.environ.get('NM', 'nm'), '-A', '-P', *objs],
                         capture_output=True, text=True, check=True).stdout
    for line in out.splitlines():
        obj, rest = line.split(': ', 1)
        yield obj, *rest.split()[:2]


def words(root, paths):
    text = ' '.join(read(root / p) for p in paths if (root / p).is_file())
    return set(re.findall(r'\w+', text))


def reachable(root, header):
    """header and all that it includes."""
    seen, todo = set(), [header]
    while todo:
        path = todo.pop()
        if path not in seen and (root / path).is_file():
            seen.add(path)
            todo += [target for _, kind, target in includes(root / path)
                     if kind == '"']
    return seen


def public_words(root):
    """{folder: the words of its public headers}; wdm.h for the drivers."""
    public = defaultdict(list)
    for path in files(root, ['boot', 'kernel'], ('.h',)):
        me = path.relative_to(root).as_posix()
        if not is_private(me):
            public[folder_of(me)].append(me)
    result = {folder: words(root, paths + FREE)
              for folder, paths in public.items()}
    result['wdm.h'] = words(root, reachable(root, 'kernel/wdm.h'))
    result[SHARED] = words(root, [f'{SHARED}/disk.h'])
    return result


def refused(me, symbol, homes, public):
    """Why the folder me may not use a symbol of the folders homes."""
    if not homes:
        return f'{symbol} is defined nowhere'
    driver = me.startswith('drivers/')
    for home in homes:
        if home == me or home == 'main.c' and me == 'boot':
            return None
        shared = driver and home == SHARED
        if not (sees(me, home) or shared
                or driver and not home.startswith('drivers/')):
            continue
        if symbol in public.get('wdm.h' if driver and not shared else home,
                                set()):
            return None
        return f'{symbol} of {home} is in no header that {me} may include'
    return f'{me} may not use {symbol} of {" ".join(sorted(homes))}'


def check(root):
    built, findings = objects(root)
    source_of = {str(obj): me for me, obj in built.items()}
    defined, wanted = defaultdict(set), []
    for obj, symbol, kind in read_symbols(source_of):
        me = source_of[obj]
        if kind in 'Uwv':
            wanted.append((me, symbol))
        elif kind.isupper():
            defined[symbol].add(folder_of(me))
    linker = words(root, ['linker.ld'])
    public = public_words(root)
    for me, symbol in wanted:
        homes = defined.get(symbol, set())
        if symbol in ANYWHERE or symbol in linker and not homes \
                or me == 'kernel/main.c':
            continue
        text = refused(folder_of(me), symbol, homes, public)
        if text:
            findings.append(Finding(me, 1, 'symbols', text))
    return findings
