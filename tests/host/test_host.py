"""test_host.py - each cmocka test of tests/host/*_test.c is a pytest item."""
from pathlib import Path

import pytest

from harness import cmocka

HERE = Path(__file__).resolve().parent
CASES = [pytest.param(source, name, id=f'{source.stem}-{name}')
         for source in sorted(HERE.glob('*_test.c'))
         for name in cmocka.tests(source)]


@pytest.mark.parametrize('source, name', CASES)
def test_host(source, name):
    passed, output = cmocka.results(source)
    if not passed.get(name):
        what = 'failed' if name in passed else 'has no result'
        pytest.fail(f'{source.name}: {name} {what}\n{output[-6000:]}',
                    pytrace=False)
