"""test_timeline.py - from the bytes of port 0xe9 to Chrome's trace format and
to the picture of the README.
"""
import copy
import json
import random
import re

import pytest

import qemu

from harness import boot, chrometrace, synthetic
from timeline import chrome, model, page, stream, svg

DOCS = qemu.ROOT / 'docs'
RECORDED = DOCS / 'trace.bin'


@pytest.fixture(scope='module')
def timeline():
    return model.Timeline(stream.read(RECORDED.read_bytes()))


@pytest.fixture(scope='module')
def converted(timeline):
    return chrome.convert(timeline)


def events(trace, *phases):
    return [event for event in trace['traceEvents'] if event['ph'] in phases]


def test_the_picture_of_the_readme_is_that_of_the_recording(timeline):
    assert svg.render(timeline) == (DOCS / 'trace.svg').read_text(), \
        'run: tools/timeline --from docs/trace.bin --out docs, keep trace.svg'
    assert 'docs/trace.svg' in (qemu.ROOT / 'README.md').read_text()
    assert re.search(r'[\d.]+ ms: nobody runs', svg.render(timeline))


def test_the_json_keeps_the_rules_of_the_format(converted):
    assert json.loads(json.dumps(converted)) == converted
    assert chrometrace.check(converted) == []


def spoil_nesting(trace):
    trace['traceEvents'].remove(events(trace, 'E')[3])


def spoil_id(trace):
    twice = [copy.deepcopy(event) for event in events(trace, 'b', 'e')
             if event['id'] == events(trace, 'b')[0]['id']]
    for event in twice:
        event['ts'] = trace['traceEvents'][-1]['ts']
    trace['traceEvents'] += twice


def spoil_flow(trace):
    step = events(trace, 't')[0]
    step['tid'] = 4242


def spoil_end(trace):
    trace['traceEvents'].remove(events(trace, 'f')[0])


def spoil_order(trace):
    trace['traceEvents'][-1]['ts'] = 0


@pytest.mark.parametrize('spoil', [spoil_nesting, spoil_id, spoil_flow,
                                   spoil_end, spoil_order])
def test_the_checker_sees_a_broken_rule(converted, spoil):
    trace = copy.deepcopy(converted)
    spoil(trace)
    assert chrometrace.check(trace)


def test_a_flow_runs_from_the_call_to_the_port(converted):
    """In the slices that it should be bound to, by their categories."""
    kinds, opened = {}, {}
    for event in converted['traceEvents']:
        stack = opened.setdefault((event['pid'], event['tid']), [])
        if event['ph'] == 'B':
            stack.append(event['cat'])
        elif event['ph'] == 'E':
            stack.pop()
        elif event['ph'] in 'stf':
            kinds.setdefault(event['id'], []).append(set(stack))
    writes = {f'{event["id"]}' for event in events(converted, 'b')
              if event['name'].startswith('WRITE')
              and event['args']['disk'] is not None}
    assert writes and writes <= set(kinds)
    for irp in writes:
        for wanted, found in zip(('call', 'doorbell', 'isr', 'dpc', 'apc',
                                  'call'), kinds[irp]):
            assert wanted in found
        assert len(kinds[irp]) == 6


def test_etw_gives_the_names(converted):
    names = {event['name'] for event in events(converted, 'B', 'i')}
    assert names >= {'CSwitch', 'ReadyThread', 'SysClEnter', 'ISR', 'DPC',
                     'DrvMjFnCall', 'DrvComplReq', 'DiskWriteInit',
                     'KernelQueueEnqueue', 'KernelQueueDequeue', 'Running',
                     'Ready', 'Waiting'}


def test_the_counters_come_back_to_nothing(converted):
    values = {}
    for event in events(converted, 'C'):
        values.setdefault(event['name'], []).append(event['args']['value'])
    assert max(values['IRPs in flight']) >= 2
    assert min(values['IRPs in flight']) == 0
    assert values['at disk 0'][-1] == 0 and max(values['at disk 0']) == 1
    assert max(values['runnable threads']) >= 1


def test_in_the_gaps_only_the_disk_works(timeline):
    """The writes' flights are gaps, almost as a whole; in no gap anything of
    any processor begins or ends."""
    for irp in timeline.irps.values():
        if irp.major == 4 and irp.unit is not None:
            start, end = timeline.at_device(irp)
            quiet = sum(min(end, e) - max(start, s) for s, e in timeline.gaps
                        if s < end and e > start)
            assert quiet > 0.9 * (end - start)
    for start, end in timeline.gaps:
        assert not [record for record in timeline.recording.records
                    if start < record.time < end]


def test_one_delivery_for_two_requests():
    """The second one's interrupt comes while the thread is at the APC of the
    first: its own APC begins behind the DPC."""
    r = synthetic.record
    records = [r(1, 'SWITCH', 20, 1 << 8, 2), r(2, 'IRP_BUILT', 1, 4),
               r(3, 'DMA_START', 1, 0, 2), r(4, 'IRP_BUILT', 2, 4),
               r(5, 'DMA_START', 2, 0, 2), r(10, 'IRP_COMPLETE', 1, 0, 2),
               r(20, 'APC_IN', 20, 0, 1), r(25, 'IRP_DONE', 1, 0, 1),
               r(30, 'ISR_IN', 0x50, 0, 5), r(35, 'ISR_OUT', 0x50, 0, 5),
               r(40, 'DPC_IN', 0, 0, 2), r(45, 'IRP_COMPLETE', 2, 0, 2),
               r(50, 'DPC_OUT', 0, 0, 2), r(55, 'IRP_DONE', 2, 0, 1),
               r(60, 'APC_OUT', 20, 0, 1)]
    timeline = model.Timeline(stream.read(synthetic.start() + synthetic.thread(
        20, 16, 'test') + synthetic.batch(0, records)))
    first, second = timeline.irps.values()
    assert first.marks['apc'].time == 20 and second.marks['apc'].time == 50
    assert second.marks['apc'].slice is first.marks['apc'].slice
    assert chrometrace.check(chrome.convert(timeline)) == []


def test_an_isr_without_its_end_is_a_moment():
    """As trace=on records it; a higher one interrupts a lower one."""
    r = synthetic.record
    records = [r(1, 'SWITCH', 20, 1 << 8, 2), r(2, 'ISR_IN', 0x50, 0, 5),
               r(3, 'ISR_IN', 0x60, 0, 6), r(4, 'DPC_IN', 0, 0, 2),
               r(5, 'ISR_IN', 0x50, 0, 5), r(6, 'ISR_IN', 0x51, 0, 5),
               r(7, 'DPC_OUT', 0, 0, 2), r(8, 'SWITCH', 0, 5 << 8, 2)]
    timeline = model.Timeline(stream.read(synthetic.start() + synthetic.thread(
        20, 16, 'test') + synthetic.batch(0, records)))
    assert [(piece.start, piece.end) for piece in timeline.cpus[0].slices
            if piece.kind == 'isr'] == [(2, 2), (3, 3), (5, 5), (6, 6)]
    assert chrometrace.check(chrome.convert(timeline)) == []


# ---- What is missing is told

def one_write(lost=0, ring=synthetic.RING):
    records = [synthetic.record(1, 'SWITCH', 20, 1 << 8, 2)]
    records += synthetic.write(1000, 7, 1)
    return (synthetic.start(ring) + synthetic.thread(20, 16, 'test')
            + synthetic.batch(0, records, lost))


def test_lost_records_are_counted_and_shown():
    recording = stream.read(one_write(lost=123))
    assert recording.missing == 123
    timeline = model.Timeline(recording)
    trace = chrome.convert(timeline)
    assert trace['otherData']['lost records'] == {'processor 0': 123}
    from timeline.__main__ import summary
    assert any('LOST: 123 records' in line for line in summary(timeline))
    assert '"lost":123' in page.render(timeline, summary(timeline))
    assert stream.read(one_write(lost=0xffffffff)).missing == 0xffffffff


def test_who_ran_when_records_were_lost_is_not_known():
    records = [synthetic.record(1, 'SERVICE', 3),
               synthetic.record(9, 'SWITCH', 0, 5 << 8)]
    timeline = model.Timeline(stream.read(
        synthetic.start() + synthetic.batch(0, records, lost=1)))
    assert [piece.name for piece in timeline.cpus[0].slices][0] == '?'
    assert chrometrace.check(chrome.convert(timeline)) == []


def test_a_record_that_nobody_has_written_yet_is_counted():
    """The reader meets the zeros, or the record of one lap before."""
    records = [synthetic.record(n, 'IDLE_OUT') for n in range(1, 9)]
    again = [synthetic.record(9, 'IDLE_OUT'), records[1]]
    recording = stream.read(synthetic.start(ring=8)
                            + synthetic.batch(0, records)
                            + synthetic.batch(0, again)
                            + synthetic.batch(1, [stream.EMPTY]))
    assert recording.torn == {0: 1, 1: 1}
    assert len(recording.records) == 9


def test_any_bytes_are_a_recording_or_a_refusal():
    """Cut anywhere and with bytes changed: never another exception."""
    recorded = RECORDED.read_bytes()
    for seed in range(500 if boot.STRESS else 40):
        draw = random.Random(seed)
        data = bytearray(recorded)
        for _ in range(draw.randrange(5)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        data = bytes(data[:draw.randrange(len(data) + 1)])
        try:
            timeline = model.Timeline(stream.read(data))
            chrome.convert(timeline)
            page.render(timeline)
            svg.render(timeline)
        except ValueError:
            pass


def test_a_cut_stream_is_told():
    assert stream.read(one_write()[:-16]).cut
    assert not stream.read(one_write()).cut


# ---- Clocks

def woken(delay, lost=0):
    """Thread 20 waits; processor 0 makes it ready, then 1 runs it, and 1 does
    the same for 0; delay: how much later the run is; lost: behind the runs."""
    leave = 5 << 8
    return (synthetic.start() + synthetic.batch(0, [
        synthetic.record(1, 'SWITCH', 20, 1 << 8), synthetic.record(
            2, 'SWITCH', 0, leave), synthetic.record(1000, 'READY', 20),
        synthetic.record(9000 + delay, 'SWITCH', 24, 1 << 8)])
        + synthetic.batch(1, [
            synthetic.record(3, 'SWITCH', 24, 1 << 8), synthetic.record(
                4, 'SWITCH', 0, leave),
            synthetic.record(1000 + delay, 'SWITCH', 20, 1 << 8),
            synthetic.record(9000, 'READY', 24)])
        + synthetic.batch(2, [synthetic.record(5, 'IDLE_IN')])
        + synthetic.batch(2, [synthetic.record(9900, 'IDLE_OUT')], lost))


def test_clocks_that_disagree_are_seen():
    pairs, backwards, bound = model.Timeline(
        stream.read(woken(500))).agreement()
    assert (pairs, backwards, bound) == (2, 0, 0.5)
    _, backwards, _ = model.Timeline(stream.read(woken(-500))).agreement()
    assert backwards == 2
    _, backwards, _ = model.Timeline(stream.read(woken(-500, 1))).agreement()
    assert backwards == 0
