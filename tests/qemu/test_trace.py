"""test_trace.py - what the kernel writes to port 0xe9."""
import re

import pytest

import qemu

from harness import chrometrace
from timeline import chrome, model, stream

SLOW = 'throttling.iops-total=20'


@pytest.fixture
def traced(run, tmp_path):
    """Runs a program with a debugcon and returns the bytes that came."""
    def record(*program, options=('trace=all',), **more):
        path = tmp_path / 'trace.bin'
        run(*program, options=[*options, 'then=poweroff'],
            extra=qemu.debugcon(path), **more)
        return path.read_bytes()
    return record


def writes_of(timeline, program='nothread'):
    return [irp for irp in timeline.irps.values()
            if irp.major == 4 and irp.unit is not None and timeline.title(
                irp.marks['IRP_BUILT'].thread).startswith(program)]


@pytest.mark.parametrize('bus, cpus, port', [
    ('ide', 1, 'apc'), ('ide', 2, 'direct'), ('nvme', 4, 'apc'),
    ('nvme', 2, 'direct')])
def test_each_write_has_its_whole_road(traced, scratch, bus, cpus, port):
    data = traced('nothread', '--writes', '8', cpus=cpus,
                  options=['trace=all', f'port={port}'],
                  disks=[qemu.Disk(scratch(), bus, SLOW)])
    recording = stream.read(data)
    assert not recording.missing and not recording.cut
    timeline = model.Timeline(recording)
    assert len(timeline.cpus) == cpus
    writes = writes_of(timeline)
    assert len(writes) == 8
    steps = ['call', 'IRP_BUILT', 'IRP_CALL', 'DMA_START', 'isr', 'dpc',
             'IRP_COMPLETE', 'PORT_INSERT', 'PORT_REMOVE']
    if port == 'apc':
        steps[-2:-2] = ['apc', 'IRP_DONE']
    for irp in writes:
        times = [irp.marks[step].time for step in steps if step != 'PORT_INSERT']
        assert times == sorted(times)
        assert 'PORT_INSERT' in irp.marks and 'IRP_PENDING' in irp.marks
    assert timeline.gaps
    assert chrometrace.check(chrome.convert(timeline)) == []


def test_a_ring_holds_many_writes(traced, scratch):
    """More records than a ring holds that nobody exports, and none lost."""
    twice = '; '.join(['nothread --writes 1000'] * 2)
    recording = stream.read(traced('sh', '-c', twice,
                                   disks=[qemu.Disk(scratch(), 'nvme')]))
    assert len(recording.records) > 16384
    assert not recording.missing
    assert len(writes_of(model.Timeline(recording))) == 2000


def test_what_a_small_ring_loses_is_counted(traced, scratch):
    """Little memory, a small ring, and a program that only makes calls: the
    ring goes round before anybody writes it out. What is there and what is
    missing is all there was."""
    data = traced('sh', '-c', 'nothread --writes 40 --size 512; ps',
                  mem='48M', cpus=1, disks=[qemu.Disk(scratch(), 'nvme')])
    recording = stream.read(data)
    model.Timeline(recording)
    assert recording.missing
    assert len(recording.records) + recording.missing > 2048


def test_threads_have_the_names_of_their_programs(traced):
    recording = stream.read(traced('sh', '-c', 'true; ps'))
    assert {'System', 'sh', 'true', 'ps'} <= {
        name for _, name in recording.threads.values()}


@pytest.mark.parametrize('options', [(), ('trace=off',)])
def test_without_being_asked_it_says_nothing(traced, options):
    assert traced('true', options=options) == b''


def test_trace_on_exports_the_default_events(traced):
    names = {code: name for name, code in stream.CODES.items()}
    found = {names[r.code] for r in stream.read(
        traced('ps', options=['trace=on'])).records}
    assert 'SWITCH' in found and 'SERVICE' not in found


@pytest.mark.parametrize('cpus', [1, 2])
def test_the_export_ends_beside_one_that_fills_the_rings(traced, cpus):
    recording = stream.read(traced('sh', '-c', 'caller &; ps; shutdown',
                                   cpus=cpus))
    assert recording.records


def test_two_programs_want_events_at_a_time(run, scratch):
    """When the first one ends, the other still gets all of its own."""
    m = run('sh', '-c', 'nothread --writes 8 & '
            'nothread --writes 24 --offset 1048576; wait', bound=120,
            options=['then=poweroff'],
            disks=[qemu.Disk(scratch(), 'nvme', 'throttling.iops-total=40')])
    table = m.console[m.console.index('All 24 writes:'):]
    found = re.findall(r'^ +(\d+)  .*?  +(\d+)(?: +[\d,]+){3}$', table,
                       re.M)[:11]
    assert [stage for stage, _ in found] == [
        '2', '3', '4', '5', '7', '8', '9', '10', '10', '10', '11'], m.console
    assert [n for _, n in found] == ['24'] * 11, m.console
