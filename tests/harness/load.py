"""load.py - the model of tests/qemu/programs/load.c: what must be on the disk.

Each of depth slots has a part of the disk to itself and writes into it one
after the other, as the seed says; so the last write to each sector is known.
"""
import struct

SECTOR = 512
WORDS = SECTOR // 8
MOST_BYTES = 64 << 20
MOST_SECTORS = 128
MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
STEPS = [GOLDEN * (i + 1) for i in range(WORDS)]
PACK = struct.Struct(f'<{WORDS}Q').pack


class Random:
    """Vigna's splitmix64."""

    def __init__(self, state):
        self.state = state & MASK

    def next(self):
        self.state = x = (self.state + GOLDEN) & MASK
        x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & MASK
        x = ((x ^ x >> 27) * 0x94D049BB133111EB) & MASK
        return x ^ x >> 31


def last_words(number, writes, depth, seed, part, most):
    """{sector of the part: first word of what a slot wrote there last}"""
    random = Random(Random(seed + number).next())
    found = {}
    for _ in range(writes // depth + (number < writes % depth)):
        r = random.next()
        sectors = 1 + (r & 0xFFFFFFFF) % most
        first = (r >> 32) % (part - sectors + 1)
        for i in range(first, first + sectors):
            found[i] = random.next()
    return found


def content(word):
    return PACK(*[(word + step) & MASK for step in STEPS])


def differences(path, writes, depth, seed):
    """What the disk and the model differ in, as text; the first ones."""
    size = path.stat().st_size
    part = size // SECTOR // depth
    most = min(MOST_BYTES // SECTOR // depth, MOST_SECTORS, part)
    wrong = []
    with open(path, 'rb') as disk:
        for slot in range(depth):
            found = last_words(slot, writes, depth, seed, part, most)
            for i, data in enumerate(
                    iter_sectors(disk.read(part * SECTOR))):
                should = content(found[i]) if i in found else bytes(SECTOR)
                if data != should:
                    wrong.append(f'slot {slot}, sector {slot * part + i}')
        if any(disk.read()):
            wrong.append('something behind the last part')
    return wrong


def iter_sectors(data):
    return (data[at:at + SECTOR] for at in range(0, len(data), SECTOR))
