"""parts.py - the marks in the kernel's source, and what they take out.

A function whose opening brace is followed by `// lab N` belongs to lab N. In
that lab's tree its body is the one that stubs/ has for it; a function without
a stub is gone, with the comment above it: how the work is divided is up to
whoever does it.
"""
import re

from pathlib import Path

STUBS = Path(__file__).resolve().parent / 'stubs'
MARK = re.compile(r'^\{    // lab (\d+)$')
NAME = re.compile(r'(\w+)\(')

# What each lab is about, and the files that are handed in. A lab takes out
# what is marked in its first file.
TITLES = {1: 'The DPC queue', 2: 'Delivering APCs',
          3: "The completion port's concurrency rule"}
FILES = {1: ['kernel/ke/dpc.c'], 2: ['kernel/ke/apc.c'],
         3: ['kernel/ke/queue.c']}
MISSING = 'kernel/ke/lab.h'     # only lab trees have it
INCLUDE = '#include "kernel/ke/kep.h"\n'


class Error(Exception):
    """The marks and the stubs do not fit together."""


def functions(lines, lab=None):
    """(name, start of its comment, start, brace, end) of each function that is
    marked for lab, or with lab None of each one; end is its last line."""
    for brace, line in enumerate(lines):
        mark = MARK.match(line)
        if lab and not (mark and int(mark[1]) == lab) or not lab and line != '{':
            continue
        start = brace
        while lines[start - 1].strip() and not lines[start - 1].startswith('//'):
            start -= 1
        comment = start
        while lines[comment - 1].startswith('//'):
            comment -= 1
        name = NAME.search(' '.join(lines[start:brace]))
        if not name:
            raise Error(f'line {brace + 1}: no function before the mark')
        yield name[1], comment, start, brace, lines.index('}', brace)


def stubs(file):
    """{name: the lines of its body} of what stands in for file's parts."""
    lines = (STUBS / Path(file).name).read_text().split('\n')
    return {name: lines[brace + 1:end]
            for name, _, _, brace, end in functions(lines)}


def take_out(text, lab, bodies):
    """The text of a file without the parts of a lab."""
    lines = text.split('\n')
    left, at, gone = [], 0, []
    for name, comment, start, brace, end in functions(lines, lab):
        gone.append(name)
        if name in bodies:
            left += [*lines[at:brace], '{', *bodies[name], '}']
            at = end + 1
        else:
            left += lines[at:comment]
            at = end + 2            # the blank line behind it as well
    if not gone:
        raise Error(f'nothing is marked `// lab {lab}`')
    unknown = set(bodies) - set(gone)
    if unknown:
        raise Error(f'a stub for what is not marked: {", ".join(unknown)}')
    text = '\n'.join([*left, *lines[at:]])
    return text.replace(INCLUDE, f'{INCLUDE}#include "{MISSING}"\n', 1)


def without_marks(text):
    """The text as a lab tree has the parts of the other labs."""
    return re.sub(r'^\{    // lab \d+$', '{', text, flags=re.M)


def missing_header():
    """The text of lab.h, by which a missing part says so."""
    return (STUBS / 'lab.h').read_text()
