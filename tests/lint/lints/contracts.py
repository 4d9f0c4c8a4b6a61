"""contracts.py - what a public function promises above its definition."""
import re

from .names import is_pascal
from .source import Finding, comment_above, files, functions, labels, read

FIRST = re.compile(r'(?:\s*ASSERT\w*\s*\([^;]*\)\s*;)*?'
                   r'\s*ASSERT_IRQL(?:_RULE\s*\([^,]*,|\s*\()'
                   r'\s*([<>=!]*)\s*,?\s*([^;]*?)\s*\)\s*;')


def key(block, name):
    """The text of a key of a docstring with its continuation lines."""
    for i, line in enumerate(block):
        match = re.match(rf'\s*{name}:\s*(.*)', line)
        if match:
            more = []
            for following in block[i + 1:]:
                if not following.strip() or re.match(r'\s*\w+:', following):
                    break
                more.append(following.strip())
            return ' '.join([match.group(1)] + more).strip()
    return None


def docstring(name, block):
    """Yields what is missing in the docstring of a public function."""
    if not block:
        yield f'{name} has no docstring directly above'
        return
    if not key(block, 'IRQL'):
        yield f'{name} has no IRQL: line'
    if is_pascal(name) and not key(block, 'NT'):
        yield f'{name} has no NT: line'


def assertion(function, irql):
    """Yields how the first statement differs from the IRQL: line."""
    if re.search(r'\bany level\b', irql, re.I):
        return
    first = FIRST.match(function.body)
    if not first:
        yield f'{function.name} does not start with ASSERT_IRQL'
        return
    operator, level = first.groups()
    said = ' '.join(irql.split())
    if re.fullmatch(r'[A-Z_]+', level) and f'{operator} {level}' not in said:
        yield (f'{function.name} asserts {operator} {level}, '
               f'its IRQL: line says {said}')


def check(root):
    findings = []
    for path in files(root, ['kernel', 'drivers']):
        text = read(path)
        wrong = []
        if path.suffix == '.asm':
            for name, line, place in labels(text):
                if place:
                    continue
                block = comment_above(text, line, ';',
                                      r'\s*(global|align)\b')
                wrong += [(line, w) for w in docstring(name, block)]
        else:
            for function in functions(text):
                if function.static or path.suffix == '.h' and function.inline:
                    continue
                block = comment_above(text, function.line, '//')
                wrong += [(function.line, w)
                          for w in docstring(function.name, block)]
                irql = key(block, 'IRQL')
                if irql:
                    wrong += [(function.line, w)
                              for w in assertion(function, irql)]
        me = path.relative_to(root).as_posix()
        findings += [Finding(me, line, 'contracts', w) for line, w in wrong]
    return findings
