"""test_broken_programs.py - programs that are none: a good one, altered.

Every kind is started by a shell in one boot, and must get a status; what the
system has in use is the same before and after. One kind is the first program.
"""
import random
import re
import struct
import subprocess
import sys

import pytest

import qemu

from harness import boot
from harness.shell import AT_PROMPT, Shell

HEADER = struct.Struct('<16sHHIQQQIHHHHHH')
SEGMENT = struct.Struct('<IIQQQQQQ')
(TYPE, MACHINE, VERSION, ENTRY, PHOFF, EHSIZE, PHENTSIZE, PHNUM) = (
    1, 2, 3, 4, 5, 8, 9, 10)
(P_TYPE, P_FLAGS, P_OFFSET, P_VADDR, P_PADDR, P_FILESZ, P_MEMSZ,
 P_ALIGN) = range(8)
LOAD, EXECUTE = 1, 1


class Program:
    """An ELF file whose header fields can be changed."""

    def __init__(self, content):
        self.content = bytearray(content)

    def header(self, field, value):
        fields = list(HEADER.unpack_from(self.content))
        fields[field] = value
        HEADER.pack_into(self.content, 0, *fields)
        return self

    def byte(self, at, value):
        self.content[at] = value
        return self

    def segments(self):
        fields = HEADER.unpack_from(self.content)
        return [fields[PHOFF] + n * fields[PHENTSIZE]
                for n in range(fields[PHNUM])]

    def loads(self):
        return [at for at in self.segments()
                if SEGMENT.unpack_from(self.content, at)[P_TYPE] == LOAD]

    def get(self, n, field):
        return SEGMENT.unpack_from(self.content, self.loads()[n])[field]

    def segment(self, n, field, value):
        at = self.loads()[n]
        fields = list(SEGMENT.unpack_from(self.content, at))
        fields[field] = value
        SEGMENT.pack_into(self.content, at, *fields)
        return self


def kinds(good):
    """{name: content} of files that no kernel may run."""
    def new():
        return Program(good)

    first = new().get(0, P_VADDR)
    code = next(n for n in range(len(new().loads()))
                if new().get(n, P_FLAGS) & EXECUTE)
    yield 'empty', b''
    yield 'text', b'#!/bin/sh\necho no\n'
    yield 'zeros', bytes(8192)
    yield 'header-cut', good[:40]
    yield 'header-only', good[:64]
    yield 'table-cut', good[:64 + 56 + 20]
    yield 'data-cut', good[:new().get(0, P_OFFSET) + 16]
    yield 'magic', new().byte(0, 0x7E).content
    yield 'class-32', new().byte(4, 1).content
    yield 'big-endian', new().byte(5, 2).content
    yield 'version', new().header(VERSION, 2).content
    yield 'shared', new().header(TYPE, 3).content
    yield 'object', new().header(TYPE, 1).content
    yield 'arm', new().header(MACHINE, 183).content
    yield 'no-segments', new().header(PHNUM, 0).content
    yield 'many-segments', new().header(PHNUM, 0xFFFF).content
    yield 'table-beyond', new().header(PHOFF, 1 << 40).content
    yield 'table-wraps', new().header(PHOFF, 2**64 - 8).content
    yield 'entry-size', new().header(PHENTSIZE, 32).content
    yield 'entry-zero', new().header(ENTRY, 0).content
    yield 'entry-kernel', new().header(ENTRY, 0xFFFFFFFF80100000).content
    yield 'entry-outside', new().header(ENTRY, first - 16).content
    yield 'entry-noncanonical', new().header(ENTRY, 1 << 60).content
    yield 'offset-beyond', new().segment(0, P_OFFSET, 1 << 30).content
    yield 'offset-wraps', new().segment(0, P_OFFSET, 2**64 - 4096).content
    yield 'file-size-huge', new().segment(0, P_FILESZ, 2**63).content
    yield 'file-over-memory', new().segment(0, P_MEMSZ, 1).content
    yield 'memory-huge', new().segment(-1, P_MEMSZ, 1 << 46).content
    yield 'memory-wraps', new().segment(-1, P_MEMSZ, 2**64 - 1).content
    yield 'address-low', new().segment(0, P_VADDR, 0x400000).content
    yield 'address-zero', new().segment(0, P_VADDR, 0).content
    yield 'address-kernel', new().segment(
        0, P_VADDR, 0xFFFFFFFF80100000).content
    yield 'address-noncanonical', new().segment(0, P_VADDR, 1 << 50).content
    yield 'address-wraps', new().segment(0, P_VADDR, 2**64 - 4096).content
    yield 'overlap', new().segment(1, P_VADDR, first).content
    yield 'writable-code', new().segment(code, P_FLAGS, 7).content
    yield 'no-code', new().segment(code, P_FLAGS, 4).content
    yield 'interpreter', new().segment(-1, P_TYPE, 3).content
    yield 'dynamic', new().segment(-1, P_TYPE, 2).content
    yield 'align-odd', new().segment(0, P_ALIGN, 3).content


def make_initrd(out, fixtures, programs, keep=('sh', 'true', 'counts')):
    """An initrd of some good programs and of {name: content}."""
    pairs = [f'bin/{name}={fixtures.build}/user/{name}' for name in keep]
    for name, content in programs.items():
        path = out.parent / name
        path.write_bytes(content)
        pairs.append(f'bin/{name}={path}')
    subprocess.run([sys.executable, boot.ROOT / 'tools/initrd.py', out,
                    *pairs], check=True)
    return out


@pytest.fixture
def good(fixtures):
    """The program that is altered, without what it does not need to run."""
    content = (fixtures.build / 'user/true').read_bytes()
    assert Program(content).loads(), 'true has no segments'
    return content


def counts(text):
    return re.findall(r'^counts: (.*)$', text, re.M)


def test_each_kind_gets_a_status(machine, fixtures, good, tmp_path):
    broken = dict(kinds(good))
    initrd = make_initrd(tmp_path / 'initrd.tar', fixtures, broken)
    m = machine(initrd=initrd, kernel=fixtures.kernel)
    shell = Shell(m)
    shell.run('true')
    shell.run('magic')
    before = shell.steady()
    said = {name: shell.run(name) for name in broken}
    wrong = {name: text for name, text in said.items()
             if 'STATUS_INVALID_IMAGE_FORMAT' not in text
             and 'STATUS_NO_MEMORY' not in text
             and 'STATUS_INSUFFICIENT_RESOURCES' not in text}
    assert not wrong, m.report(str(wrong))
    assert shell.run('true') == ''
    shell.comes_back(before)


@pytest.mark.parametrize('kind', ['empty', 'magic', 'address-kernel',
                                  'data-cut'])
def test_as_the_first_program(run, fixtures, good, tmp_path, kind):
    initrd = make_initrd(tmp_path / 'initrd.tar', fixtures,
                         {kind: dict(kinds(good))[kind]})
    m = run(kind, initrd=initrd, expect=qemu.FAILED)
    assert f"cannot start '{kind}': status 0xC000007B" in m.console


def test_a_program_too_large_for_memory(run, fixtures, good, tmp_path):
    """All headers are right, but there is not that much memory."""
    program = Program(good).segment(-1, P_MEMSZ, 1 << 30).content
    initrd = make_initrd(tmp_path / 'initrd.tar', fixtures,
                         {'large': program})
    m = run('sh', '-c', 'counts; large; counts; large; counts; true',
            initrd=initrd)
    assert len(set(counts(m.console)[1:])) == 1, m.report('something leaked')
    assert m.console.count('large: STATUS_') == 2


SEEDS = 400 if boot.STRESS else 60


def test_random_headers(machine, fixtures, good, tmp_path):
    """Whatever the headers say: a status or a program, never a bugcheck. A
    program that runs for ever is stopped by Ctrl-C."""
    draw = random.Random(7)
    end = Program(good).segments()[-1] + SEGMENT.size
    programs = {}
    for n in range(SEEDS):
        content = bytearray(good)
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(16, end)] = draw.choice(
                [0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)])
        programs[f'r{n}'] = bytes(content)
    m = machine(initrd=make_initrd(tmp_path / 'initrd.tar', fixtures,
                                   programs), kernel=fixtures.checked)
    shell = Shell(m)
    for name in programs:
        shell.type(name + '\r')
        if not m.comes(AT_PROMPT, 2):
            shell.interrupt()
    shell.type('exit 0\r')
    m.expect_status(qemu.PASSED)
