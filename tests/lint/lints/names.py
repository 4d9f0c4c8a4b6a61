"""names.py - PascalCase is NT's, the prefix names the folder."""
import re
from pathlib import Path

from .layers import LAYERS, folder_of
from .source import Finding, files, functions, labels, line_of, read, strip

# Prefixes by folder: NT's own, and ours. A p or i in the prefix is the
# folder's private half (Iop, Psp, Ki, Mi).
PREFIX = {
    'rtl': r'(Rtl|Dbg)[A-Z]|rtlp?_',
    'hal': r'Halp?[A-Z]|halp?_',
    'ke': r'K[eif][A-Z]|k[ei]_',
    'mm': r'M[mi][A-Z]|m[mi]_',
    'ex': r'Exp?[A-Z]|exp?_',
    'ob': r'Obp?[A-Z]|obp?_',
    'io': r'Io[pf]?[A-Z]|iop?_',
    'ps': r'Psp?[A-Z]|psp?_',
    'nt': r'Nt[A-Z]|ntp?_',
}
LISTS = (r'InitializeListHead|IsListEmpty|(Insert|Remove|Append)(Head|Tail)'
         r'List|RemoveEntryList|(Pop|Push)EntryList')
EXEMPT = {'main', 'kernel_main', 'memcpy', 'memset', 'memmove', 'memcmp'}
BANNED = {'VOID', 'PVOID', 'CHAR', 'UCHAR', 'SHORT', 'USHORT', 'LONG', 'ULONG',
          'LONGLONG', 'ULONGLONG', 'ULONG32', 'ULONG64', 'ULONG_PTR', 'SIZE_T',
          'LONG_PTR', 'BOOLEAN', 'BOOL', 'DWORD', 'WORD', 'BYTE', 'TRUE',
          'FALSE', 'IN', 'OUT', 'INOUT', 'OPTIONAL'}
KINDS = {'wdk', 'native', 'symbol'}
IRQLS = re.compile(r'-|any|(<=|>=)?(PASSIVE|APC|DISPATCH|DIRQL|HIGH)')
LIST = 'tests/lint/nt_names.txt'


def is_pascal(name):
    return re.match(r'[A-Z]\w*[a-z]', name) is not None


def nt_names(root):
    """The names of nt_names.txt, and findings for its malformed lines."""
    path = root / LIST
    if not path.is_file():
        path = Path(__file__).parents[1] / 'nt_names.txt'
    names, findings = set(), []
    for number, line in enumerate(read(path).split('\n'), 1):
        fields = line.split('#')[0].split()
        if not fields:
            continue
        if len(fields) != 3 or fields[1] not in KINDS \
                or not IRQLS.fullmatch(fields[2]) or fields[0] in names:
            findings.append(Finding(LIST, number, 'names',
                                    'is not a new "Name kind irql"'))
        names.add(fields[0])
    return names, findings


def defined(path, text):
    """Yields (name, line, public) of what a file defines."""
    if path.suffix == '.asm':
        yield from ((name, line, True) for name, line, _ in labels(text))
        return
    for function in functions(text):
        public = not function.static or path.suffix == '.h'
        yield function.name, function.line, public
    for match in re.finditer(r'^[ \t]*#[ \t]*define[ \t]+(\w+)\(',
                             strip(text), re.M):
        if is_pascal(match.group(1)):
            yield (match.group(1), line_of(text, match.start()),
                   path.suffix == '.h')


def wrong_prefix(name, folder):
    if folder == 'rtl' and re.fullmatch(LISTS, name) or name in EXEMPT:
        return False
    if folder.startswith('drivers/'):
        return not name.startswith(folder.split('/')[1] + '_')
    return folder in LAYERS and not re.match(PREFIX[folder], name)


def check(root):
    names, findings = nt_names(root)
    texts = {path: read(path) for path in files(root, ['kernel', 'drivers'])}
    code = {path: strip(text) for path, text in texts.items()
            if path.suffix != '.asm'}
    types = {name for text in code.values() for name in re.findall(
        r'(?:\btypedef\b[^;{]*?\b|})\s*([A-Z][A-Z0-9_]{2,})\s*;', text)}
    banned = BANNED | {'P' + name for name in types}
    for path, text in texts.items():
        me = path.relative_to(root).as_posix()
        folder = folder_of(me)
        for name, line, public in defined(path, text):
            if is_pascal(name) and name not in names:
                findings.append(Finding(
                    me, line, 'names', f'{name} is not in {LIST}'))
            if public and wrong_prefix(name, folder):
                findings.append(Finding(me, line, 'names', f'{name} does not '
                                        f'have a prefix of {folder}'))
        for match in re.finditer(r'\b[A-Z][A-Z0-9_]+\b', code.get(path, '')):
            if match.group() in banned:
                findings.append(Finding(
                    me, line_of(text, match.start()), 'names',
                    f'{match.group()}: types are written as in C'))
    return findings
