"""why.py - nt why: the last bugcheck, in a paragraph.
"""
import re
import textwrap

import gdb

from . import guest, text
from .command import command
from .guest import Garbage, number

WIDTH = 78
PRESENT, WRITE, FETCH = 1, 2, 16        # bits of a page fault's error code
MEANING = {
    'IRQL_NOT_LESS_OR_EQUAL': 'something was done at an IRQL at which it may '
                              'not be done',
    'REFERENCE_BY_POINTER': 'an object was dereferenced once too often',
    'KMODE_EXCEPTION_NOT_HANDLED': 'ring 0 met an exception that nobody '
                                   'handles',
    'PHASE1_INITIALIZATION_FAILED': 'the kernel could not start',
    'NO_MORE_IRP_STACK_LOCATIONS': 'an IRP was sent further down than it has '
                                   'stack locations',
    'MULTIPLE_IRP_COMPLETE_REQUESTS': 'an IRP was completed a second time',
    'CANCEL_STATE_IN_COMPLETED_IRP': 'an IRP was completed while it still had '
                                     'a cancel routine',
    'PAGE_FAULT_IN_NONPAGED_AREA': 'ring 0 touched memory that is not there, '
                                   'or not for this',
    'UNEXPECTED_KERNEL_MODE_TRAP': 'ring 0 met a trap that leaves no way on',
    'NMI_HARDWARE_FAILURE': 'an NMI came that nobody had sent',
    'MACHINE_CHECK_EXCEPTION': 'the processor reported an error of its own',
    'BAD_POOL_CALLER': 'pool was freed or used by somebody who may not',
    'STATUS_ASSERTION_FAILURE_CODE': 'an assertion of the checked kernel does '
                                     'not hold',
}
EXCEPTIONS = {0: 'division by zero', 1: 'debug', 3: 'breakpoint',
              6: 'invalid instruction', 8: 'double fault, such as a stack '
              'that ran into its guard page', 13: 'general protection',
              14: 'page fault'}

last = None                     # what the breakpoint of attach.py saw


class Bugcheck:
    """What one bugcheck says of itself, read from a frame that begins it."""

    def __init__(self, frame):
        self.code = number(frame.read_var('code'))
        self.trap = None
        if frame.name() == 'stop':
            parameters = frame.read_var('parameters')
            self.parameters = [number(parameters[i]) for i in range(4)]
            self.text = guest.string(frame.read_var('text'), 160)
            if number(frame.read_var('frame')):
                self.trap = number(frame.read_var('frame'))
        else:
            self.parameters = [number(frame.read_var(f'parameter{i}'))
                               for i in range(1, 5)]
            self.text = guest.string(guest.symbol('ke_bugcheck_note'), 160)
        self.where = context()

    @property
    def name(self):
        return text.BUGCHECKS.get(self.code, ('UNKNOWN', ''))[0]

    def rules(self):
        """The rules of NT that it names, each with its text."""
        named = re.findall(r'\b[A-Z]{2,4}-\d\d\b', self.text) or \
            [text.BUGCHECKS.get(self.code, ('', ''))[1]]
        for name in filter(None, named):
            if name in text.RULES:
                yield f'Rule {name}: {text.RULES[name]}'


def context():
    """Where it happened: processor, thread, level. Read at the bugcheck."""
    number_of = gdb.selected_thread().ptid[1] - 1
    for prcb in guest.prcbs():
        if int(prcb['apic_id']) == number_of:
            from .threads import thread_name
            thread = guest.at('KTHREAD', prcb['CurrentThread'])
            level = guest.registers(prcb, 'cr8')[0] & 15
            return (f'processor {int(prcb["Number"])}, in '
                    f'{thread_name(thread)}, at IRQL {level} '
                    f'({text.irql(level)})')
    return ''


def is_bugcheck(frame):
    """Whether it is a function of bugcheck.c that Bugcheck can read."""
    function = frame.function()
    return bool(function) and function.name in ('stop', 'KeBugCheckEx') and \
        'bugcheck' in function.symtab.filename


def find_bugcheck():
    """The bugcheck that some processor is in the middle of, or the last."""
    if last:
        return last
    for thread in guest.cpus().values():
        with guest.selected(thread):
            frame = gdb.newest_frame()
            while frame:
                if is_bugcheck(frame):
                    try:
                        return Bugcheck(frame)
                    except (gdb.error, Garbage, ValueError):
                        pass
                frame = frame.older()
    return None


def trap_text(seen):
    """What a trap of ring 0 was about."""
    first, error, rip, vector = seen.parameters
    where = guest.name_of(rip) or f'{rip:#x}'
    if vector != 14:
        return (f'Exception {vector} ({EXCEPTIONS.get(vector, "reserved")}) '
                f'at {where}, error code {error:#x}.')
    how = ('an instruction fetch from' if error & FETCH else
           'a write to' if error & WRITE else 'a read of')
    why = ('which is there, but not for that' if error & PRESENT else
           'where nothing is mapped')
    return f'Exception 14 (page fault) at {where}: {how} {first:#x}, {why}.'


@command('why', anywhere=True)
def why(argument):
    """nt why: the last bugcheck, in a paragraph. WinDbg: !analyze.
It is remembered when QEMU has ended."""
    seen = find_bugcheck() if gdb.selected_thread() else last
    if not seen:
        yield 'There was no bugcheck.'
        return
    said = [f'{seen.name} ({seen.code:x}): '
            f'{MEANING.get(seen.name, "an unknown code")}.']
    if seen.text:
        said.append(f'The kernel says: {seen.text}.')
    if seen.trap:
        said.append(trap_text(seen))
    if seen.where:
        said.append(f'It happened on {seen.where}.')
    said += seen.rules()
    if gdb.selected_thread():
        said.append('`backtrace` shows the way there.')
    yield from textwrap.wrap(' '.join(said), WIDTH, break_on_hyphens=False)
    yield 'Parameters: ' + ', '.join(f'{p:#x}' for p in seen.parameters)
