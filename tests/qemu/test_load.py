"""test_load.py - many writes in flight, all checked (programs/load.c): what is
on the disk, that each completes once, that nothing is left; and that what the
kernel counts is what QEMU saw its devices do.

`make test` does 20,000 writes a run, `make stress` a million; IDE, which is
slower, a quarter of that.
"""
import re

from collections import Counter

import pytest

import qemu

from harness import boot, load
from harness.shell import Shell

WRITES = 1_000_000 if boot.STRESS else 20_000
BOUND = 3600 if boot.STRESS else 300
SIZE = 64 * boot.MIB
MEMORY = '256M'
ROADS = ['apc', 'direct']
SEED = 4711

# Processors, threads, writes in flight.
SHAPES = [(cpus, threads, 10000) for cpus in (1, 2, 4) for threads in (1, 8)]
RUNS = ([(*shape, 'nvme', road) for shape in SHAPES for road in ROADS]
        if boot.STRESS else
        [(*shape, 'nvme', ROADS[i % 3 % 2]) for i, shape in enumerate(SHAPES)])
RUNS += [(2, 8, 64, 'nvme', 'direct'), (2, 8, 1000, 'ide', 'apc')]


@pytest.mark.parametrize('cpus, threads, depth, bus, port', RUNS)
def test_all_arrives_once(machine, fixtures, scratch, cpus, threads, depth,
                          bus, port):
    disk = scratch(SIZE)
    writes = WRITES if bus == 'nvme' else WRITES // 4
    shell = Shell(machine(
        kernel=fixtures.either, initrd=fixtures.initrd, cpus=cpus, mem=MEMORY,
        options=[f'port={port}'], disks=[qemu.Disk(disk, bus)]))
    before = shell.steady()
    said = shell.run(f'load 0 {writes} {depth} {threads} {SEED}', BOUND)
    assert f'load: {writes} writes, {writes} packets\n' in said, said
    shell.comes_back(before)
    wrong = load.differences(disk, writes, depth, SEED)
    assert not wrong, f'{len(wrong)} differences: {wrong[:5]}'


def test_the_model_is_no_yes_man(scratch, run):
    """One byte of the last sector written, and a sector that nobody wrote."""
    disk = scratch(boot.MIB)
    run('load', '0', '500', '20', '2', '3', disks=[qemu.Disk(disk, 'nvme')])
    assert not load.differences(disk, 500, 20, 3)
    assert load.differences(disk, 501, 20, 3)
    assert load.differences(disk, 500, 20, 4)
    content = bytearray(disk.read_bytes())
    for at in (content.rindex(bytes([content[0]])), len(content) - 1):
        content[at] ^= 1
    disk.write_bytes(content)
    assert len(load.differences(disk, 500, 20, 3)) == 2


# ---- The kernel's counters and QEMU's trace ---------------------------------

EVENTS = {
    'nvme': ['pci_nvme_write', 'pci_nvme_enqueue_req_completion',
             'pci_nvme_mmio_doorbell_cq', 'pci_nvme_irq_msix'],
    'ide': ['ide_*exec_cmd'],           # ide_bus_exec_cmd from QEMU 8 on
}
ADMIN = 'cqid 0'                # of the driver's own start
DISKS = range(0x50, 0x60)       # vectors of their IRQL
COMMAND = re.compile(r'ide_\w*exec_cmd .* cmd 0x(?:ca|35)')   # WRITE DMA (EXT)
SERVED = re.compile(r'Servicing hardware INT=0x([0-9a-f]+)')


def seen_by_qemu(log):
    """How often each event came; each vector was served from the first write
    on, and of these before the last write; and each was at all."""
    events, vectors, at_all, early = (Counter() for _ in range(4))
    with open(log, encoding='latin-1') as lines:
        for line in lines:
            served = SERVED.search(line)
            if served:
                vector = int(served[1], 16)
                at_all[vector] += 1
                vectors[vector] += bool(events['ide_write'] or
                                        events['pci_nvme_write'])
            elif COMMAND.search(line):
                events['ide_write'] += 1
                early = vectors.copy()
            elif ADMIN not in line:
                event = re.match(r'(?:\d+@[\d.]+:)?(\w+) ', line)
                if event:
                    events[event[1]] += 1
                    if event[1] == 'pci_nvme_write':
                        early = vectors.copy()
    return events, vectors, early, at_all


@pytest.mark.parametrize('bus', ['nvme', 'ide'])
@pytest.mark.parametrize('cpus', [1, 2, 4])
@pytest.mark.parametrize('port', ROADS)
def test_counters_agree(run, scratch, cpus, bus, port):
    writes = 2000 if bus == 'nvme' else 500
    m = run('load', '0', str(writes), '100', '1', '9', 'trace', cpus=cpus,
            disks=[qemu.Disk(scratch(), bus)], trace=EVENTS[bus],
            debug=['int'], options=[f'port={port}', 'then=poweroff'])
    said = {name: int(number) for name, number in
            re.findall(r'(\w+)=(\d+)\b', m.console)}
    interrupts = {int(vector, 16): int(count) for vector, count in re.findall(
        r'vector=0x(\w+) count=(\d+)', m.console)}
    events, vectors, early, at_all = seen_by_qemu(m.logs / 'qemu.log')
    report = m.report(f'{said}, {interrupts}; QEMU: {events}, {vectors}')

    assert said['lost'] == 0, report
    assert said['dma'] == said['complete'] == writes, report
    # One more packet: what the program posts to itself at the end.
    assert said['insert'] == said['remove'] == writes + 1, report
    # The kernel counts from a moment before the first write on, to one after
    # the last packet: of the disks' interrupts none can come outside of the
    # writes, of the processors' own some may.
    for vector, count in interrupts.items():
        assert early[vector] <= count <= at_all[vector], report
    disks = {vector: count for vector, count in interrupts.items()
             if vector in DISKS}
    assert disks == {vector: vectors[vector] for vector in disks}, report
    taken = sum(disks.values())
    assert taken <= said['interrupts'] <= at_all.total(), report
    if bus == 'ide':
        assert events['ide_write'] == writes, report
        assert taken == writes <= said['dpcs'], report    # a timer's, too
    else:
        assert events['pci_nvme_write'] == writes, report
        assert events['pci_nvme_enqueue_req_completion'] == writes, report
        # A message to a processor that has not served the last one adds none;
        # one DPC may serve two interrupts, and tells the disk once, if at all.
        told = events['pci_nvme_mmio_doorbell_cq']
        assert told <= said['dpcs'], report
        assert told <= taken <= events['pci_nvme_irq_msix'], report
