"""disk.py - one check that all labs have: the whole road of a write.

The free kernel runs nothread with a file of random bytes, drawn after the
answer was built. What counts is what the host finds in the disk image, and
the commands that QEMU's disk was given; what the guest prints is not read.
"""
import subprocess
import sys

import qemu
from labs import witness
from labs.checks import Check, Wrong

SECTOR, WRITE = 512, 4096
DISK = 4 << 20
BOUND = 120         # seconds for a run that takes one
WRITE_DMA = (0xCA, 0x35)
PROGRAMS = ['nothread', 'sh']


def make_initrd(tree, out, secret):
    subprocess.run(
        [sys.executable, tree.root / 'tools/initrd.py', out,
         *(f'bin/{name}={tree.build}/user/{name}' for name in PROGRAMS),
         f'files/secret.bin={secret}'], check=True)


def commands(log):
    """The DMA writes that the disk was given."""
    with open(log, errors='replace') as lines:
        return sum('exec_cmd' in line
                   and int(line.split('cmd 0x')[1].split()[0], 16) in WRITE_DMA
                   for line in lines if 'cmd 0x' in line)


def run(tree, draw, name, folder):
    """Raises Wrong unless the bytes are where they should be, and only there."""
    size = draw.randrange(10 * WRITE, 40 * WRITE) // SECTOR * SECTOR
    offset = draw.randrange(0, (DISK - size) // SECTOR) * SECTOR
    secret, image = folder / 'secret.bin', folder / 'disk.img'
    initrd = folder / 'initrd.tar'
    content = draw.randbytes(size)
    secret.write_bytes(content)
    image.write_bytes(bytes(DISK))
    make_initrd(tree, initrd, secret)
    with qemu.Machine(name, kernel=tree.kernel, initrd=initrd,
                      program=['nothread', 'B:\\files\\secret.bin', '--offset',
                               str(offset)],
                      disks=[qemu.Disk(image)], trace=['ide_*exec_cmd']) as m:
        try:
            witness.wait_for_end(m, BOUND)
        except witness.Ended as end:
            last = '\n'.join(m.console.splitlines()[-5:])
            raise Wrong(f'{end}\nThe last on the console was:\n{last}') from None
        log = m.logs / 'qemu.log'
        written = commands(log)
    disk = image.read_bytes()
    if disk[offset:offset + size] != content:
        wrong = sum(disk[at:at + SECTOR] != content[at - offset:
                                                    at - offset + SECTOR]
                    for at in range(offset, offset + size, SECTOR))
        raise Wrong(f'{wrong} of {size // SECTOR} sectors of the disk image '
                    'do not hold the bytes of the file')
    if any(disk[:offset]) or any(disk[offset + size:]):
        raise Wrong('sectors were written that nobody asked for')
    due = -(-size // WRITE)
    if written != due:
        raise Wrong(f'{due} writes were asked for, the disk got {written}')


def check(points):
    return Check('disk', points, 'IRP-08', 'nothread writes random bytes, and '
                 'the host finds them in the disk image', None)
