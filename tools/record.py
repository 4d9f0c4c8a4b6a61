"""record.py - records a run, for a debugger that can also go backwards.

QEMU writes down what comes in from outside, and when, counted in instructions;
replayed, the guest does the same again, as often as one likes. The disk is an
overlay over the scratch disk, which stays as it is. Only IDE can be replayed
(QEMU 7.2 hangs with NVMe).

Without the APIC's aid for old Windows guests (vapic), since its reset waits for
the processor: reverse-continue would now and then do so for ever.

The recorder lets a disk's answer in only when the guest's own clock comes: the
time-out of requests, a second here, is such a moment, and so the disk seems to
take a second for each.
"""
import os
import struct
import subprocess
import sys

import qemu

FOLDER = qemu.BUILD / 'replay'
TIMEOUT = 'iotimeout=1'
DEFAULT = 'nothread --writes 3'
SHIFT = 7                       # 1 << 7 ns of virtual time an instruction
CLUSTER = 65536


def make_qcow2(path, size, backing=None):
    """An empty qcow2 image, version 2: header, one table of reference counts
    with one block, one first-level table, a cluster each."""
    name = os.path.relpath(backing, path.parent).encode() if backing else b''
    extensions = struct.pack('>II8s', 0xE2792ACA, 3, b'raw') if name else b''
    extensions += bytes(8)      # the end of them
    per_entry = CLUSTER * CLUSTER // 8
    header = struct.pack(
        '>4sIQIIQIIQQIIQ', b'QFI\xfb', 2,
        72 + len(extensions) if name else 0, len(name), 16, size, 0,
        -(-size // per_entry), 3 * CLUSTER, CLUSTER, 1, 0, 0)
    with open(path, 'wb') as image:
        image.write(header + extensions + name)
        image.seek(CLUSTER)
        image.write(struct.pack('>Q', 2 * CLUSTER))
        image.seek(2 * CLUSTER)
        image.write(struct.pack('>4H', 1, 1, 1, 1))
        image.truncate(4 * CLUSTER)


def arguments(mode):
    """QEMU's options for the disk and for recording or replaying a run."""
    disk, snapshots, log = (qemu.quote(FOLDER / name) for name in
                            ('disk.qcow2', 'snapshots.qcow2', 'run.bin'))
    return ['-nic', 'none', '-global', 'apic.vapic=off',
            '-drive', f'file={disk},if=none,id=image0',
            '-drive', 'driver=blkreplay,if=none,image=image0,id=disk0',
            '-device', 'ide-hd,drive=disk0,bus=ide.0,unit=0',
            '-drive', f'file={snapshots},if=none,id=snapshots',
            '-icount', f'shift={SHIFT},rr={mode},rrfile={log},'
                       'rrsnapshot=start']


def prepare():
    """Sets ARGS and KOPTS for a run that ends by itself."""
    if (os.environ.get('DISK') or 'ide') != 'ide':
        sys.exit('debug: QEMU can replay the IDE disk only: leave DISK away')
    if (os.environ.get('CPUS') or '1') != '1':
        sys.exit('debug: QEMU can replay one processor only: leave CPUS away')
    os.environ['ARGS'] = os.environ.get('ARGS') or DEFAULT
    if 'iotimeout=' not in (os.environ.get('KOPTS') or ''):
        os.environ['KOPTS'] = f'{os.environ.get("KOPTS") or ""} {TIMEOUT}'


def record(command):
    """Runs command, of a machine without disks, and records it; returns the
    command that replays it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    disk = qemu.BUILD / 'disk.img'
    make_qcow2(FOLDER / 'disk.qcow2', disk.stat().st_size, disk)
    make_qcow2(FOLDER / 'snapshots.qcow2', disk.stat().st_size)
    print(f'Recording {os.environ["ARGS"]} ...', flush=True)
    try:
        status = subprocess.run(
            [*command, *arguments('record'), '-monitor', 'none', '-serial',
             'stdio'], stdin=subprocess.DEVNULL,
            preexec_fn=qemu.die_with_parent).returncode
    except KeyboardInterrupt:
        sys.exit('debug: the recording was broken off')
    if status not in (qemu.PASSED, qemu.FAILED, qemu.BUGCHECK):
        sys.exit(f'debug: nothing was recorded: QEMU ended with {status}')
    return [*command, *arguments('replay')]
