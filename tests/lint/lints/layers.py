"""layers.py - who may include whom, and in which order."""
import re

from .source import Finding, files, read, strip, line_of

# DESIGN.md, "Layers": a folder of kernel/ and the folders that it may use.
LAYERS = {
    'rtl': [],
    'hal': ['rtl'],
    'ke': ['rtl', 'hal'],
    'mm': ['rtl', 'hal', 'ke'],
    'ex': ['rtl', 'ke', 'mm'],
    'ob': ['rtl', 'ke', 'ex'],
    'io': ['rtl', 'ke', 'mm', 'ex', 'ob'],
    'ps': ['rtl', 'ke', 'mm', 'ex', 'ob', 'io'],
    'nt': ['rtl', 'hal', 'ke', 'mm', 'ex', 'ob', 'io', 'ps'],
}
TOP = ('main.c', 'wdm.h')               # these see all of kernel/
SPLIT = ('ke', 'io')                    # may have several public headers
SHARED = 'drivers/disk'                 # every driver may use its disk.h
FREE = ['kernel/ntabi.h', 'kernel/nt.h', 'kernel/assert.h']  # low to high
FREESTANDING = {'stdint.h', 'stddef.h', 'stdbool.h', 'stdarg.h',
                'stdatomic.h', 'stdalign.h', 'limits.h',
                'stdint-gcc.h'}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*(?:include|include_next|import)\b'
                     r'[ \t]*([^\n]*)', re.M)
ASM_INCLUDE = re.compile(r'^[ \t]*%[ \t]*include\b[ \t]*([^;\n]*)',
                         re.M | re.I)


def folder_of(path):
    """The layer of a path from the root: ke, main.c, drivers/ide, boot..."""
    parts = path.split('/')
    if parts[0] == 'kernel':
        return parts[1]
    if parts[0] == 'drivers' and len(parts) > 2:
        return '/'.join(parts[:2])
    return parts[0]


def sees(user, used):
    """May the folder `user` use what the folder `used` makes public?"""
    return (user == used or used in LAYERS.get(user, [])
            or user in TOP and used in LAYERS)


def is_private(path):
    folder = folder_of(path)
    return path == f'kernel/{folder}/{folder}p.h'


def includes(path):
    """Yields (line, kind, target); kind is '"', '<' or '' for neither."""
    text = read(path)
    if path.suffix == '.asm':
        found = ASM_INCLUDE.finditer(text)
    else:
        text = re.sub(r'\\\n', '  ', text)
        found = INCLUDE.finditer(strip(text, keep_strings=True))
    for match in found:
        rest = match.group(1).strip()
        target = re.match(r'(["\'<])([^">\']+)["\'>]$', rest)
        kind = target.group(1).replace("'", '"') if target else ''
        yield (line_of(text, match.start()), kind,
               target.group(2) if target else rest)


def refused(root, path, kind, target):
    """Why the file at path may not include target, or None."""
    me = folder_of(path)
    if not kind:
        return 'an include must name a file'
    if '..' in target.split('/') or target.startswith(('/', './')):
        return f'{target} is not a path from the root'
    if kind == '<':
        own = me == 'user' and (root / 'user/include' / target).is_file()
        return None if own or target in FREESTANDING else \
            f'<{target}> is not a freestanding header'
    if path.endswith('.asm') and target == 'offsets.inc':
        return None
    if not (root / target).is_file():
        return f'{target} is not a path from the root'
    if not target.endswith(('.h', '.inc') if path.endswith('.asm') else '.h'):
        return f'{target} is not a header'
    it = folder_of(target)
    if is_private(target) and me != it:
        return f'{target} is private to {it}'
    if path in FREE:                     # these stay below every layer
        ok = target in FREE[:FREE.index(path)]
    elif path.startswith('kernel/'):
        ok = target in FREE or target.startswith('kernel/') and sees(me, it)
    elif path.startswith('drivers/'):
        ok = target in ('kernel/wdm.h', f'{SHARED}/disk.h') or me == it
    elif me == 'boot':
        ok = target == 'kernel/nt.h' or me == it
    else:
        ok = target == 'kernel/ntabi.h' or me == it
    return None if ok else f'{me} may not include {target}'


def order(root, path, found):
    """Own header first, a blank line, the rest sorted within its groups."""
    me = path.relative_to(root).as_posix()
    lines = read(path).split('\n')
    folder = me.rsplit('/', 1)[0]
    private = f'{folder}/{folder_of(me)}p.h'
    own = [h.relative_to(root).as_posix() for h in path.parent.glob('*.h')]
    if private in own:
        own = [private]
    if me.count('/') < 2 and not me.startswith('boot/') or not found:
        own = []                         # kernel/main.c has no header
    if own and found[0][2] not in own:
        what = own[0] if len(own) == 1 else f'a header of {folder}'
        yield found[0][0], f'{what} must be included first'
    elif own and len(found) > 1 and found[1][0] == found[0][0] + 1:
        yield found[1][0], 'a blank line must follow the own header'
    for (a, kind, first), (b, next_kind, second) in zip(found, found[1:]):
        together = not any(not line.strip() for line in lines[a:b])
        if together and kind == next_kind and second < first:
            yield b, f'{second} is not sorted'


def check(root):
    findings = []
    for path in files(root, ['boot', 'kernel', 'drivers', 'user']):
        me = path.relative_to(root).as_posix()
        found = list(includes(path))
        wrong = [(line, refused(root, me, kind, target))
                 for line, kind, target in found]
        if path.suffix == '.c' and not me.startswith('user/'):
            wrong += order(root, path, found)
        folder = folder_of(me)
        if path.suffix == '.h' and folder in LAYERS and folder not in SPLIT \
                and path.name not in (f'{folder}.h', f'{folder}p.h'):
            wrong.append((1, f'{folder} has one public header, {folder}.h, '
                          f'and one private, {folder}p.h'))
        findings += [Finding(me, line, 'layers', text)
                     for line, text in sorted(wrong, key=lambda w: w[0])
                     if text]
    return findings
