"""text.py - the names of numbers, read from the headers that define them."""
import re

from .guest import ROOT, Garbage, number

IRQLS = {0: 'PASSIVE_LEVEL', 1: 'APC_LEVEL', 2: 'DISPATCH_LEVEL',
         12: 'SYNCH_LEVEL', 13: 'CLOCK_LEVEL', 14: 'IPI_LEVEL',
         15: 'HIGH_LEVEL'}


def irql(level):
    return IRQLS.get(level, f'device {level}')


def source(path):
    return re.sub(r'//.*', '', (ROOT / path).read_text())


def read_statuses():
    text = source('kernel/ntabi.h')
    body = text[text.index('#define NT_STATUS_CODES'):
                text.index('#define NT_STATUS_CODE(')]
    return {int(code, 16): 'STATUS_' + name for name, code in
            re.findall(r'X\((\w+), (0x[0-9A-Fa-f]+)\)', body)}


def read_majors():
    found = re.findall(r'(IRP_MJ_\w+) = (0x\w+)', source('kernel/io/irp.h'))
    return {int(code, 16): name for name, code in found
            if 'MAXIMUM' not in name}


def read_bugchecks():
    """{code: (name, rule)}"""
    return {int(code, 16): (name, rule) for name, code, rule in
            re.findall(r'X\((\w+), (0x[0-9A-Fa-f]+)u?, "(.*?)"\)',
                       source('kernel/assert.h'))}


def read_rules():
    """{number: text} of NT's rules."""
    rows = (ROOT / 'docs/NT-SEMANTICS.md').read_text()
    return dict(re.findall(r'^\| ([A-Z]+-\d+) \| (.*?) \|', rows, re.M))


STATUSES, MAJORS = read_statuses(), read_majors()
BUGCHECKS, RULES = read_bugchecks(), read_rules()


def status(value):
    code = number(value) & 0xFFFFFFFF
    return STATUSES.get(code, f'0x{code:08X}')


def major(value):
    value = int(value)
    return f'{MAJORS.get(value, "IRP_MJ_?")}({value:x})'


def read_enumeration(path, name):
    """{value: name} of an enumeration; debug information has only those that
    a variable is declared with."""
    body = re.search(rf'enum {name} \{{(.*?)\}}', source(path), re.S).group(1)
    names, value = {}, 0
    for word, given in re.findall(r'(\w+)(?:\s*=\s*(\d+))?\s*(?:,|$)', body):
        value = int(given) if given else value
        names[value] = word
        value += 1
    return names


ENUMERATIONS = {name: read_enumeration(path, name) for name, path in [
    ('KTHREAD_STATE', 'kernel/ntabi.h'), ('KWAIT_REASON', 'kernel/ntabi.h'),
    ('SNAPSHOT_IRP_STATE', 'kernel/ntabi.h'),
    ('KOBJECTS', 'kernel/ke/wait.h')]}


def constant(enumeration, value):
    """The name of a value of one of these enumerations."""
    return ENUMERATIONS[enumeration].get(int(value),
                                         f'{enumeration} {int(value)}')


def check_constant(enumeration, value, what):
    """The same, for what must have one."""
    if int(value) not in ENUMERATIONS[enumeration]:
        raise Garbage(f'{what}: it has no {enumeration} {int(value)}')
