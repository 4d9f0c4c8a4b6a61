"""rules.py - docs/RULES.md: which test holds which rule of NT-SEMANTICS.md.

text(root) writes the table out of the tests, `make rules` puts it into the
file, and the lint refuses a file that is not what it would write now. A test
claims a rule by its number: KTEST(name, "IRQL-01 DPC-02") in a kernel,
rule("CMP-01, IRP-09: text") in a ring-3 program, and in Python a test whose
docstring begins with "CAN-11: text".
"""
import re

from .source import Finding, line_of, read

SEMANTICS = 'docs/NT-SEMANTICS.md'
TABLE = 'docs/RULES.md'
# What no test holds, as `ID: KIND: what`, one a line; # is a comment.
NOTES = 'tests/lint/rules.txt'
KINDS = {'left out': 'left out', 'win32': 'needs the Win32 layer',
         'not yet': 'not yet'}
WIN32_SECTIONS = (12, 13, 14, 15)       # all of it is Win32's

ID = r'[A-Z]+-\d\d'
SECTION = re.compile(r'^## (\d+)\. (.*)$')
ROW = re.compile(rf'^\| ({ID}) \| (.*?) \|')
KTEST = re.compile(r'^KTEST\(\s*(\w+)\s*,\s*"([^"]*)"', re.M)
NEEDS = re.compile(r'ktest_has_processors\((\d+)\)')
USER = re.compile(rf'\brule\(\s*"({ID}(?:, {ID})*): ((?:[^"]|"\s*")*)"\)')
PYTHON = re.compile(rf'^def (test_\w+)\([^)]*\):\n    """({ID}(?:, {ID})*): ',
                    re.M)
SHORT = 72                              # columns of a rule in the table


class Claim:
    """A test that says that it holds rules."""

    def __init__(self, root, path, text, match, rules, name, needs=0):
        self.path = path.relative_to(root).as_posix()
        self.line = line_of(text, match.start())
        self.rules = re.findall(ID, rules)
        self.name = name
        self.needs = needs              # processors

    def place(self):
        return self.path.removeprefix('tests/').rsplit('.', 1)[0]


def kernel_claims(root, path):
    text = read(path)
    found = list(KTEST.finditer(text))
    ends = [match.start() for match in found[1:]] + [len(text)]
    for match, end in zip(found, ends):
        needs = NEEDS.search(text, match.end(), end)
        yield Claim(root, path, text, match, match.group(2), match.group(1),
                    int(needs.group(1)) if needs else 0)


def user_claims(root, path):
    text = read(path)
    for match in USER.finditer(text):
        said = re.sub(r'"\s*"', '', match.group(2))
        yield Claim(root, path, text, match, match.group(1), f'"{said}"')


def python_claims(root, path):
    text = read(path)
    for match in PYTHON.finditer(text):
        yield Claim(root, path, text, match, match.group(2), match.group(1))


def claims(root):
    found = []
    for folder, suffix, reader in (
            ('kernel', '.c', kernel_claims), ('qemu/fatal', '.c', kernel_claims),
            ('user', '.c', user_claims), ('qemu', '.py', python_claims)):
        for path in sorted((root / 'tests' / folder).glob(f'*{suffix}')):
            found += reader(root, path)
    return found


def sections(root):
    """[(number, title, {ID: the rule's text})] of the semantics."""
    found, inside = [], False
    for line in read(root / SEMANTICS).split('\n'):
        section, row = SECTION.match(line), ROW.match(line)
        if section:
            found.append((int(section.group(1)), section.group(2), {}))
        if line.startswith('## '):
            inside = bool(section)
        elif row and inside:
            found[-1][2][row.group(1)] = row.group(2)
    return found


def notes(root):
    """[(line, ID, kind, what)]; kind is None if the line is none of these."""
    path, found = root / NOTES, []
    lines = read(path).split('\n') if path.is_file() else []
    for number, line in enumerate(lines, 1):
        match = re.match(rf'({ID}): ([^:]*): (.+)$', line)
        if match and match.group(2) in KINDS:
            found.append((number, *match.groups()))
        elif line.strip() and not line.startswith('#'):
            found.append((number, line.split(':')[0], None, ''))
    return found


def shorten(text):
    """As much of a rule as fits into the table, whole words."""
    if len(text) <= SHORT:
        return text
    return text[:SHORT + 1].rsplit(' ', 1)[0].rstrip(' ,;:(') + ' ...'


def held_by(mine):
    """The tests of a rule, by the file that they are in."""
    by_place = {}
    for claim in mine:
        words = by_place.setdefault(claim.place(), [])
        word = claim.name
        if claim.needs:
            word += f' ({claim.needs} processors)'
        if word not in words:
            words.append(word)
    return '; '.join(f'{place}: {", ".join(words)}'
                     for place, words in by_place.items())


def state(number, mine, known):
    """(what counts, what the table says) of one rule."""
    said = '; '.join(f'{KINDS[kind]}: {what}' for kind, what in known)
    if number in WIN32_SECTIONS:
        return 'win32', ('native half; ' if mine else '') + KINDS['win32']
    if mine:
        open_end = any(kind == 'not yet' for kind, _ in known)
        return ('in part' if open_end else 'held',
                ('in part; ' if open_end else 'held; ' if said else 'held')
                + said)
    if known:
        return known[0][0], said
    return 'not yet', 'not yet'


def rows(root):
    """[(number, title, [(ID, rule, what counts, state, tests)])]"""
    found, known = claims(root), notes(root)
    table = []
    for number, title, rules in sections(root):
        lines = []
        for rule, text in rules.items():
            mine = [claim for claim in found if rule in claim.rules]
            counts, said = state(number, mine, [
                (kind, what) for _, at, kind, what in known
                if at == rule and kind])
            lines.append((rule, shorten(text), counts, said, held_by(mine)))
        table.append((number, title, lines))
    return table


HEAD = """\
# The rules, and the tests that hold them

Written by `make rules` out of the tests: do not edit. The rules themselves, with
their sources, are in [NT-SEMANTICS.md](NT-SEMANTICS.md). *Held* is one that at
least one test names; *left out* is what the README leaves out on
purpose; *needs the Win32 layer* is what only a Win32 program can see. `kernel/` are
tests inside the checked kernel, `qemu/fatal` those that must end in a bugcheck that
names the rule (one boot each), `user/` ring-3 programs, `qemu/` whole machines.
"""


def text(root):
    """What docs/RULES.md should be."""
    table = rows(root)
    native = [row for number, _, lines in table for row in lines
              if number not in WIN32_SECTIONS]
    counted = {}
    for row in native:
        counted[row[2]] = counted.get(row[2], 0) + 1
    order = ['held', 'in part', 'left out', 'win32', 'not yet']
    said = ', '.join(f'{counted[what]} {KINDS.get(what, what)}'
                     for what in order if what in counted)
    out = [HEAD, f'Of {len(native)} rules below the Win32 layer: {said}.']
    for number, title, lines in table:
        if not lines:
            continue
        out += ['', f'## {number}. {title}', '', '| ID | rule | state | tests |',
                '|---|---|---|---|']
        out += [f'| {rule} | {short} | {state_} | {tests} |'.replace('  |', ' |')
                for rule, short, _, state_, tests in lines]
    return '\n'.join(out) + '\n'


def check(root):
    if not (root / SEMANTICS).is_file():
        return []
    findings = []
    known = {rule for _, _, rules in sections(root) for rule in rules}
    for claim in claims(root):
        findings += [Finding(claim.path, claim.line, 'rules',
                             f'{rule} is no rule of {SEMANTICS}')
                     for rule in claim.rules if rule not in known]
    for line, rule, kind, _ in notes(root):
        if kind is None:
            findings.append(Finding(NOTES, line, 'rules', 'is not `ID: KIND: '
                                    f'what` with KIND one of {list(KINDS)}'))
        elif rule not in known:
            findings.append(Finding(NOTES, line, 'rules',
                                    f'{rule} is no rule of {SEMANTICS}'))
    is_there = read(root / TABLE).split('\n') \
        if (root / TABLE).is_file() else []
    should = text(root).split('\n')
    if is_there != should:
        same = [a == b for a, b in zip(is_there, should)] + [False]
        findings.append(Finding(TABLE, same.index(False) + 1, 'rules',
                                'is not what `make rules` writes now'))
    return findings
