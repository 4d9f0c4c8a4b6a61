"""test_launcher.py - the launcher writes words that the kernel reads back.

The kernel's own words.c is the judge, loaded as a shared library.
"""
import ctypes
import random
import subprocess

import pytest

import iso
import qemu
import symbols
import tracering

from harness import cmocka, ktap

LETTERS = 'ab \t\\"\'$,#;%-=/:'


@pytest.fixture(scope='module')
def kernel_words(tmp_path_factory):
    """The words of a line, as kernel/rtl/words.c finds them."""
    library = tmp_path_factory.mktemp('words') / 'words.so'
    subprocess.run([cmocka.HOSTCC, '-shared', '-fPIC', '-DDBG=0', '-I.',
                    'kernel/rtl/words.c', '-o', library],
                   cwd=qemu.ROOT, check=True)
    next_word = ctypes.CDLL(str(library)).rtl_next_word
    next_word.restype = ctypes.c_bool

    def split(line):
        rest = ctypes.c_char_p(line.encode())
        word = ctypes.create_string_buffer(2048)
        found = []
        while next_word(ctypes.byref(rest), word, ctypes.c_size_t(2048)):
            found.append(word.value.decode())
        return found

    return split


@pytest.mark.parametrize('args, words', [
    (r'nothread B:\files\my.txt', ['nothread', r'B:\files\my.txt']),
    ('echo "a b"', ['echo', 'a b']),
    (r'echo "say \"hi\"" it\'s', ['echo', 'say "hi"', "it's"]),
    ("echo it's $HOME `x`", ['echo', "it's", '$HOME', '`x`']),
    ('echo "" -', ['echo', '', '-']),
    (r'\\.\pipe\x \\\\.\\pipe', [r'\.\pipe\x', r'\\.\pipe']),
    ('  ', []),
])
def test_args_are_split(kernel_words, args, words):
    assert qemu.words(args) == words
    assert kernel_words(args) == words


def test_words_survive_the_command_line(kernel_words):
    draw = random.Random(1)
    for _ in range(5000):
        words = [''.join(draw.choices(LETTERS, k=draw.randrange(8)))
                 for _ in range(draw.randrange(5))]
        line = qemu.command_line(['then=poweroff'], words)
        assert kernel_words(line) == ['then=poweroff', '--', *words]
        assert qemu.words(line) == ['then=poweroff', '--', *words]


def test_any_text_is_split_as_the_kernel_does(kernel_words):
    draw = random.Random(2)
    for _ in range(5000):
        text = ''.join(draw.choices(LETTERS, k=draw.randrange(24)))
        assert qemu.words(text) == kernel_words(text)


def test_grub_quotes():
    assert iso.grub_quote('a b\\c"$d') == "'a b\\c\"$d'"
    assert iso.grub_quote("it's") == "'it'\\''s'"


def test_commas_of_a_file_name_are_doubled():
    line = ' '.join(qemu.disk_arguments([qemu.Disk('a,b.img', 'nvme')]))
    assert 'file=a,,b.img' in line


def test_ktap_is_read():
    found = ktap.results('KTAP version 1\n1..3\nok 1 - one # DPC-01\n'
                         '# it broke\nnot ok 2 - two # APC-02\n'
                         'ok 3 - three # SKIP one processor\n')
    assert {name: result[:2] for name, result in found.items()} == {
        'one': (True, False), 'two': (False, False), 'three': (True, True)}
    assert found['two'][2].startswith('# it broke')


SOURCE = '''
void low(void) {} void middle(void) { __asm__("nop;nop;nop;nop"); }
void last(void) {}
struct { unsigned long next, mask, records; } ki_trace_rings[2];
'''


@pytest.fixture(scope='module')
def elf(tmp_path_factory):
    """A small program that lies where the kernel does."""
    folder = tmp_path_factory.mktemp('elf')
    (folder / 'k.c').write_text(SOURCE)
    subprocess.run(
        [cmocka.HOSTCC, '-g', '-O0', '-ffreestanding', '-fno-pic',
         '-mcmodel=kernel', '-nostdlib', '-static', '-no-pie', '-Wl,-e,low',
         '-Wl,--build-id=none', '-Wl,-Ttext=0xffffffff80100000',
         '-Wl,-Tbss=0xffffffff80200000', 'k.c', '-o', 'k.elf'],
        cwd=folder, check=True)
    return folder / 'k.elf'


def test_a_bugcheck_gets_names(elf):
    at = {name: address for address, _, name in symbols.load(elf)}
    console = (f'0x{at["low"]:x} before it is not of interest\r\n'
               f'*** STOP 0x0000000A (0x1, 0x2)\r\n'
               f'  r15 {at["low"]:016X}  rip 0x{at["middle"] + 5:016x}\r\n'
               f'  at 0x{at["last"] + 2:016x}\r\n  at 0xffff800000001000\r\n')
    found = symbols.explain(console, elf).splitlines()
    assert [line.split()[1] for line in found] == ['middle+0x5', 'last+0x2']
    assert all('k.c:' in line for line in found)
    assert symbols.explain('no bugcheck here', elf) == ''


def test_the_trace_is_read(elf):
    at = {name: address for address, _, name in symbols.load(elf)}
    base, rings = 0xffff800000001000, at['ki_trace_rings']
    memory = {rings: tracering.RING.pack(6 * 16, 63, base),
              rings + tracering.RING.size: tracering.RING.pack(0, 63, 0)}
    for n in range(2, 6):           # the ring holds the last four of six
        memory[base + (n & 3) * tracering.RECORD.size] = \
            tracering.RECORD.pack(1000 + n, 1 | 2 << 8, 0, n)
    lines = tracering.dump(elf, lambda a, n: memory[a], 2).splitlines()
    assert [line.split()[-1] for line in lines] == ['2', '3', '4', '5']
    assert 'irql 2' in lines[0] and lines[-1].split()[0] == '0'
    assert tracering.event_names()[1] in lines[0]


def test_a_kernel_without_trace_is_said_to_have_none(elf):
    with pytest.raises(ValueError, match='no symbol'):
        tracering.dump(elf.parent / 'k.c', lambda a, n: b'')
