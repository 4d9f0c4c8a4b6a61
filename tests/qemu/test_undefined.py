"""test_undefined.py - undefined behaviour stops the checked kernel, which says
where and what.

The causes are in-kernel tests (fatal/undefined.c), one boot each; the line is
the one marked `// here`.
"""
import re

import pytest

import qemu

SOURCE = 'tests/qemu/fatal/undefined.c'
LINES = (qemu.ROOT / SOURCE).read_text().splitlines()
STOP = re.compile(r'^\*\*\* STOP 0xC0000420 STATUS_ASSERTION_FAILURE_CODE '
                  r'.*\n  (\S+?):(\d+): undefined: (.*)$', re.M)

CASES = {           # what is said, as gcc or clang has it
    'overflow': r"overflow of 'int': 2147483647 \+ 1",
    'difference': r"overflow of 'int': -2147483648 - 1",
    'product': r"overflow of 'int': 2147483647 \* 32",
    'negation': r"overflow of 'int': -\(-2147483648\)",
    'division': r"overflow of 'int': 1 / 0",
    'shift': r"shift of 'int': 1 by 32",
    'index': r"index 32 of 'int *\[4\]'",
    'pointer': r"pointer 0xffff\w+ becomes 0x3fff\w+",
    'null_member': r"null 0x\d+: member access in '(struct )?IRP'.*",
    'alignment': r"misaligned 0xffff\w+: load of 'int'",
    'bool': r"2 is no '(_Bool|bool)'",
    'unreachable': 'what cannot be reached was',
}


def marked(name):
    """The number of the marked line in the test with this name."""
    start = LINES.index(f'KTEST(undefined_{name}, "")')
    return next(n for n, line in enumerate(LINES, 1)
                if n > start and line.endswith('// here'))


@pytest.mark.parametrize('name', CASES)
def test_it_stops_at_the_line(run, fixtures, name):
    m = run('true', kernel=fixtures.checked, expect=qemu.BUGCHECK,
            options=[f'ktest=undefined_{name}', 'then=poweroff'])
    found = STOP.findall(m.console)
    assert len(found) == 1, m.report('not one STOP of this kind')
    file, line, text = found[0]
    assert (file, int(line)) == (SOURCE, marked(name)), text
    assert re.fullmatch(CASES[name], text), text


def test_all_cases_are_here():
    assert re.findall(r'^KTEST\(undefined_(\w+),', '\n'.join(LINES), re.M) \
        == list(CASES)
