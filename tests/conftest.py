"""conftest.py - what all of TINT's tests share.

The last line of every run is `N passed, N failed`, with `, N skipped` where
there are any; errors count as failed.
"""
import sys

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / 'tests'), str(ROOT / 'tools')]

from harness.boot import *          # noqa: F401,F403    the fixtures

LEVELS = ['lint', 'host', 'kernel', 'user', 'qemu', 'labs']


def level(item):
    """Where the folder of item stands in LEVELS."""
    folder = Path(item.fspath).relative_to(ROOT / 'tests').parts[0]
    return LEVELS.index(folder) if folder in LEVELS else len(LEVELS)


def pytest_collection_modifyitems(items):
    items.sort(key=level)


def pytest_sessionfinish(session, exitstatus):
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        print('\nno test has such a name', file=sys.stderr)


def pytest_unconfigure(config):
    reporter = config.pluginmanager.get_plugin('terminalreporter')
    if not reporter or config.option.collectonly:
        return

    def count(*kinds):
        return sum(len(reporter.stats.get(kind, [])) for kind in kinds)

    line = (f'{count("passed", "xpassed")} passed, '
            f'{count("failed", "error")} failed')
    skipped = count('skipped', 'xfailed')
    reporter.write_line(line + (f', {skipped} skipped' if skipped else ''))
