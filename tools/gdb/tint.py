"""tint.py - what gdb sources to debug TINT: `source tools/gdb/tint.py`.

tools/debug.py does so for `make debug`, and so do editors; nothing else is
needed, neither a ~/.gdbinit nor auto-load.
"""
import os
import sys

from pathlib import Path

import gdb

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import qemu
from ntdb import attach, printers, unwind
# Each of these registers its commands.
from ntdb import (deferred, io, misc, mm, objects, processors, threads, tour,
                  why)

for setting in ['confirm off', 'breakpoint pending on', 'print pretty on',
                'disassembly-flavor intel',
                'remote query-attached-packet off']:    # `quit` ends QEMU
    gdb.execute('set ' + setting)
printers.install()
unwind.install()
attach.install(qemu.words(os.environ.get('ARGS') or 'sh -c nothread'))
