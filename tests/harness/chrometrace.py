"""chrometrace.py - the rules of Chrome's trace format, as a reader of such a
file has to rely on them; it knows nothing of how ours is made.
"""
import collections

PHASES = {'B', 'E', 'i', 'C', 'M', 'b', 'e', 's', 't', 'f'}
FLOW, ASYNC = {'s', 't', 'f'}, {'b', 'e'}


def check_slices(events, faults):
    """Begins and ends balance on each track; returns the slices of each."""
    tracks = collections.defaultdict(list)
    opened = collections.defaultdict(list)
    for event in events:
        track = event['pid'], event['tid']
        if event['ph'] == 'B':
            if not event.get('name'):
                faults.append(f'a slice without a name: {event}')
            opened[track].append(event['ts'])
        elif event['ph'] == 'E':
            if not opened[track]:
                faults.append(f'an end without a beginning: {event}')
            else:
                tracks[track].append((opened[track].pop(), event['ts']))
    faults += [f'never ends: {track}' for track in opened if opened[track]]
    return tracks


def check_async(events, faults):
    """Each id's begins and ends nest, and its outermost slice is its only
    one: ids are unique."""
    opened = collections.defaultdict(list)
    closed = set()
    for event in events:
        if event['ph'] not in ASYNC:
            continue
        key = event['cat'], event['id']
        if event['ph'] == 'b':
            if key in closed:
                faults.append(f'the id is used twice: {event}')
            opened[key].append(event)
        elif not opened[key] or opened[key][-1]['name'] != event['name']:
            faults.append(f'an async end that does not nest: {event}')
        else:
            begin = opened[key].pop()
            if begin['pid'] != event['pid'] or begin['ts'] > event['ts']:
                faults.append(f'an async slice that ends wrongly: {event}')
            if not opened[key]:
                closed.add(key)
    faults += [f'never ends: {key}' for key in opened if opened[key]]


def check_flows(events, tracks, faults):
    """A flow starts once, ends once, runs forward, and each of its points
    lies in a slice of its track."""
    flows = collections.defaultdict(list)
    for event in events:
        if event['ph'] in FLOW:
            flows[event['cat'], event['id']].append(event)
    for key, points in flows.items():
        phases = ''.join(point['ph'] for point in points)
        if phases[0] != 's' or phases[-1] != 'f' or set(phases[1:-1]) - {'t'}:
            faults.append(f'flow {key} is {phases}')
        for point in points:
            if not any(start <= point['ts'] <= end for start, end
                       in tracks[point['pid'], point['tid']]):
                faults.append(f'bound to no slice: {point}')
    return len(flows)


def check(trace):
    """What breaks a rule of the format; an empty list is a pass."""
    faults, events = [], trace['traceEvents']
    named = {event['pid'] for event in events
             if event['ph'] == 'M' and event['name'] == 'process_name'}
    last = 0
    for event in events:
        if event['ph'] not in PHASES:
            faults.append(f'unknown phase: {event}')
        if event['pid'] not in named:
            faults.append(f'a process without a name: {event}')
        if event['ph'] == 'M':
            continue
        if event['ts'] < last or event['ts'] < 0:
            faults.append(f'not in the order of time: {event}')
        last = event['ts']
        if event['ph'] == 'C' and not all(
                isinstance(value, (int, float)) and value >= 0
                for value in event['args'].values()):
            faults.append(f'a counter that is no number: {event}')
    tracks = check_slices(events, faults)
    check_async(events, faults)
    check_flows(events, tracks, faults)
    return faults
