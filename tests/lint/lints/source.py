"""source.py - just enough of C and NASM to know what a file defines."""
import re
from dataclasses import dataclass

CODE = ('.c', '.h', '.asm')

COMMENT_OR_STRING = re.compile(
    r'//(?:\\\n|[^\n])*|/\*.*?\*/'
    r'|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
DIRECTIVE = re.compile(r'^[ \t]*#(?:\\\n|[^\n])*', re.M)
ATTRIBUTES = {'__attribute__', '__attribute', '_Alignas', 'alignas', '__asm__',
              'asm', '__declspec', 'typeof', '__typeof__', '_Static_assert'}
STORAGE = {'static', 'extern', 'inline', '__inline__', '_Noreturn',
           'struct', 'union', 'enum', 'typedef'}


@dataclass
class Finding:
    path: object        # relative to the root
    line: int
    lint: str
    text: str
    warning: bool = False

    def __str__(self):
        mark = 'warning: ' if self.warning else ''
        return f'{self.path}:{self.line}: {self.lint}: {mark}{self.text}'


@dataclass
class Function:
    name: str
    line: int           # where the definition starts
    end: int            # the line of its closing brace
    static: bool
    inline: bool
    body: str = ''      # without comments and strings


def files(root, folders, suffixes=CODE):
    """Yields all files of these suffixes below the folders, as root/..."""
    for folder in folders:
        for path in sorted((root / folder).rglob('*')):
            inside = path.relative_to(root).as_posix()
            if path.suffix in suffixes and path.is_file() \
                    and not inside.startswith('tests/lint/fixtures/'):
                yield path


def read(path):
    return path.read_text(encoding='utf-8', errors='replace')


def blank(match):
    """Spaces in place of a match, so that offsets and lines stay true."""
    return re.sub(r'[^\n]', ' ', match.group())


def strip(text, keep_strings=False):
    """C text without comments, and without what is in its strings."""
    def replace(match):
        if keep_strings and match.group()[0] in '"\'':
            return match.group()
        return blank(match)
    return COMMENT_OR_STRING.sub(replace, text)


def line_of(text, offset):
    return text.count('\n', 0, offset) + 1


def calls(text):
    """Splits `a b(c) d(e)` into [('a b', '(c)'), (' d', '(e)')] and a rest."""
    pieces, depth, start, opened = [], 0, 0, 0
    for i, char in enumerate(text):
        if char == '(':
            depth += 1
            if depth == 1:
                opened = i
        elif char == ')':
            depth -= 1
            if depth == 0:
                pieces.append((text[start:opened], text[opened:i + 1]))
                start = i + 1
    return pieces, text[start:]


def function_words(header):
    """The words before a { that define a function, its name last, or None."""
    words = []
    pieces, rest = calls(header)
    if '=' in rest or any('=' in before for before, _ in pieces):
        return None
    for before, _ in pieces:
        found = re.findall(r'\w+', before)
        if not found or found[-1] in ATTRIBUTES:
            words += found[:-1]
            continue
        words += found
        # A name needs a type before it; `KTEST(x)` and `MACRO(x) int f()`
        # have none, nor has `struct ALIGNED(64) x`.
        if set(words[:-1]) - STORAGE:
            return words
        words.pop()
    return None


def functions(text):
    """All functions that a C file or header defines."""
    code = DIRECTIVE.sub(blank, strip(text))
    result, depth, start, opened = [], 0, 0, 0
    for match in re.finditer(r'[{};]', code):
        char, at = match.group(), match.start()
        if char == '{':
            depth += 1
            if depth == 1:
                opened = at
        elif char == '}':
            # A brace in column 0 ends the definition, whatever the
            # preprocessor left out inside.
            depth = 0 if code[at - 1:at] == '\n' else max(depth - 1, 0)
        if depth or char == '{':
            continue
        header = code[start:opened]
        words = function_words(header)
        if words:
            first = start + len(header) - len(header.lstrip())
            result.append(Function(
                words[-1], line_of(code, first), line_of(code, at),
                'static' in words, bool({'inline', '__inline__'} & set(words)),
                code[opened + 1:at]))
        start = at + 1
    return result


def falls_through(line):
    """Does the processor run on from this line of NASM into the next?"""
    match = re.match(r'\s+(\w+)', line)
    return bool(match) and not re.fullmatch(
        r'jmp|i?retq?|ud2|o64|sysret|section|segment|global|extern|align|bits'
        r'|default|times|(d|res)[bwdq]', match.group(1), re.I)


def labels(text):
    """The global labels of a NASM file that are code: (name, line, place).

    place: the line above runs into it, so it names a place in a function.
    """
    lines = [line.split(';')[0].rstrip() for line in text.split('\n')]
    exported, result, code = set(), [], True
    for line in lines:
        match = re.match(r'\s*\[?global\s+(.*?)\]?$', line, re.I)
        if match:
            exported |= {word.split(':')[0].strip()
                         for word in match.group(1).split(',')}
    for number, line in enumerate(lines, 1):
        section = re.match(r'\s*(?:section|segment)\s+(\S+)', line, re.I)
        if section:
            code = not re.match(r'\.(ro)?data|\.bss|\.note', section.group(1))
        label = re.match(r'\s*([\w.$?@]+)(?:\s*:|\s*$|\s)', line)
        if code and label and label.group(1) in exported:
            place = number > 1 and falls_through(lines[number - 2])
            result.append((label.group(1), number, place))
    return result


def comment_above(text, line, mark, skip=None):
    """The comment lines that end directly above a line, without their mark.

    Lines that match skip may lie between.
    """
    lines = text.split('\n')[:line - 1]
    while lines and skip and re.match(skip, lines[-1]):
        lines.pop()
    block = []
    while lines and lines[-1].startswith(mark):
        block.insert(0, lines.pop()[len(mark):])
    return block
