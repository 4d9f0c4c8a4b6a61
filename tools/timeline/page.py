"""page.py - a Timeline as one HTML page: page.html with the data put in.

  lanes   title; rows of slices that do not overlap: arrays of start, end (ns),
          kind, name, and the request that it belongs to, or -1; perhaps a level
          that changes in steps (times, values); perhaps halted spans
  irps    a title, and the marks of the road: stage, text, time, where
  gaps    when only a disk was busy; halted: when every processor was halted
"""
import heapq
import json

from pathlib import Path

from timeline import model

TEMPLATE = Path(__file__).resolve().parent / 'page.html'
KINDS = ['thread', 'call', 'apc', 'isr', 'dpc', 'doorbell', 'running', 'ready',
         'waiting', 'device', 'queued', 'done']
LEGEND = [('thread', 'a thread'), ('call', 'system call'), ('apc', 'APC'),
          ('isr', 'interrupt'), ('dpc', 'DPC'), ('doorbell', 'disk told to go'),
          ('device', 'at the disk'), ('queued', 'queued'),
          ('done', 'completion'), ('ready', 'ready'), ('waiting', 'waiting'),
          ('gap', 'only a disk is busy')]
HIGH, LOW, LEAST = 18, 10, 4        # heights of rows
MANY = 40                           # requests at once: lower rows
LEVELS = ['PASSIVE', 'APC', 'DISPATCH']
MARGIN = 0.04                       # around what is shown first


def irql(level):
    if level < len(LEVELS):
        return LEVELS[level]
    return f'device {level}' if level in model.DEVICE_IRQLS else f'{level}'


class Row:
    def __init__(self, page, height):
        self.page, self.h = page, height
        self.s, self.e, self.k, self.n, self.r = [], [], [], [], []

    def add(self, start, end, kind, name, irp=-1):
        self.s.append(self.page.t.ns(start))
        self.e.append(self.page.t.ns(end))
        self.k.append(KINDS.index(kind))
        self.n.append(self.page.name(name))
        self.r.append(irp)

    def plain(self):
        return {key: getattr(self, key) for key in 'hsekrn'}


class Page:
    def __init__(self, timeline):
        self.t = timeline
        self.names, self.lanes = {}, []
        self.order = sorted((irp for irp in timeline.irps.values()
                             if irp.unit is not None),
                            key=lambda irp: irp.start)
        self.index = {irp.id: n for n, irp in enumerate(self.order)}
        self.cpu_lane, self.cpu_depth = {}, {}
        # What a slice of a processor is for: the first request that it serves.
        self.serves = {}
        for n, irp in enumerate(self.order):
            for mark in irp.marks.values():
                if mark.slice is not None:
                    self.serves.setdefault(id(mark.slice), n)

    def name(self, text):
        return self.names.setdefault(text, len(self.names))

    def lane(self, title, rows, **more):
        self.lanes.append({'title': title,
                           'rows': [row.plain() for row in rows], **more})
        return len(self.lanes) - 1

    def spans(self, spans):
        return {'s': [self.t.ns(start) for start, _ in spans],
                'e': [self.t.ns(end) for _, end in spans]}

    def level(self, title, levels):
        if levels:
            self.lane(title, [], lh=26, level={
                't': [self.t.ns(time) for time, _ in levels],
                'v': [value for _, value in levels],
                'max': max(1, *(value for _, value in levels))})

    # ---- The lanes

    def label(self, piece):
        if piece.kind == 'doorbell':
            return f'disk told to go: {self.t.irps[piece.id].name}'
        return {'isr': f'interrupt, vector {piece.id:#x}', 'dpc': 'DPC drain',
                'apc': 'kernel APC'}.get(piece.kind, piece.name)

    def processors(self):
        for number, cpu in self.t.cpus.items():
            rows = []
            for depth, piece in model.nest(cpu.slices):
                self.cpu_depth[id(piece)] = depth
                if piece.kind in ('idle', 'halted'):
                    continue
                while len(rows) <= depth:
                    rows.append(Row(self, HIGH if not rows else HIGH - 4))
                rows[depth].add(piece.start, piece.end, piece.kind,
                                self.label(piece),
                                self.serves.get(id(piece), -1))
            self.cpu_lane[number] = self.lane(
                f'processor {number}', rows or [Row(self, HIGH)],
                halted=self.spans([(p.start, p.end) for p in cpu.slices
                                   if p.kind == 'halted']))

    def disks(self):
        """One row of a disk that does one at a time; else how many it has."""
        for unit, irps in sorted(self.t.disks.items()):
            row, spans = Row(self, HIGH), []
            for irp in irps:
                spans.append((*self.t.at_device(irp), irp))
            spans.sort(key=lambda span: span[:2])
            alone = all(before[1] <= after[0]
                        for before, after in zip(spans, spans[1:]))
            levels = self.t.levels([span[:2] for span in spans])
            if alone:
                for start, end, irp in spans:
                    row.add(start, end, 'device', irp.name,
                            self.index[irp.id])
            else:
                since = None
                for time, level in levels:
                    if level and since is None:
                        since = time
                    elif not level and since is not None:
                        row.add(since, time, 'device', 'busy')
                        since = None
            lane = self.lane(f'disk {unit}', [row])
            self.disk_lanes[unit] = lane
            if not alone:
                self.level(f'  requests at it', levels)

    def threads(self):
        for thread in self.t.threads.values():
            if thread.id == model.IDLE or not thread.states:
                continue
            row = Row(self, HIGH - 4)
            for state in thread.states:
                text = (f'waits: {state.name}' if state.kind == 'waiting' else
                        f'runs on processor {state.id}'
                        if state.kind == 'running' else 'ready')
                row.add(state.start, state.end, state.kind, text)
            self.lane(f'{thread.name} {thread.id}', [row])

    def requests(self):
        """Each in the first row that is free, so that few rows are needed."""
        free, used, rows = [], [], []
        for n, irp in enumerate(self.order):
            while used and used[0][0] <= irp.start:
                heapq.heappush(free, heapq.heappop(used)[1])
            if not free:
                rows.append([])
                free.append(len(rows) - 1)
            place = heapq.heappop(free)
            start, end = self.t.at_device(irp)
            last = max(irp.end, end)
            heapq.heappush(used, (last, place))
            pieces = []
            if start > irp.start and 'IRP_QUEUED' in irp.marks:
                pieces.append((irp.start, start, 'queued'))
            pieces.append((start, end, 'device'))
            if last > end:
                pieces.append((end, last, 'done'))
            rows[place] += [(*piece, n, irp.name) for piece in pieces]
        made = []
        for pieces in rows:
            made.append(Row(self, LOW if len(rows) <= MANY else LEAST))
            for start, end, kind, n, name in pieces:
                made[-1].add(start, end, kind, name, n)
        if made:
            self.lane('requests (IRPs)', made)

    # ---- The roads

    def road(self, irp):
        marks = []
        texts = {key: (stage, text) for key, stage, text in model.STEPS}
        for key, mark in sorted(irp.marks.items(), key=lambda m: m[1].time):
            if key not in texts:
                continue
            piece = mark.slice or self.t.enclosing(mark)
            row = self.cpu_depth.get(id(piece), 0)
            marks.append({'key': key, 'stage': texts[key][0],
                          'text': texts[key][1], 't': self.t.ns(mark.time),
                          'cpu': mark.cpu, 'irql': irql(mark.irql),
                          'thread': self.t.title(mark.thread),
                          'lane': self.cpu_lane[mark.cpu], 'row': row})
            if key == 'DMA_START':      # and from there to the disk
                marks.append({**marks[-1], 'text': 'the disk has it',
                              'lane': self.disk_lanes[irp.unit], 'row': 0})
        first = next((n for n, mark in enumerate(marks)
                      if mark['key'] == 'isr'), None)
        if first:                       # it comes out of the disk again
            marks.insert(first, {**marks[first], 'key': 'end',
                                 'text': 'the disk is done',
                                 'lane': self.disk_lanes[irp.unit], 'row': 0})
        return {'title': f'{irp.name} on disk {irp.unit}', 'marks': marks}

    def home(self):
        """The writes, if there are any."""
        writes = [irp for irp in self.order if irp.major == 4] or self.order
        if not writes:
            return [0, max(1, self.t.ns(self.t.end))]
        start = self.t.ns(min(irp.start for irp in writes))
        end = self.t.ns(max(irp.end for irp in writes))
        margin = int((end - start) * MARGIN) + 1000
        return [start - margin, end + margin]

    def data(self, summary):
        self.disk_lanes = {}
        self.processors()
        self.disks()
        self.level('IRPs in flight', self.t.in_flight())
        self.level('runnable threads', self.t.runnable())
        self.threads()
        self.requests()
        home = self.home()
        irps = [self.road(irp) for irp in self.order]
        halted = self.t.all_halted()
        return {
            'title': 'TINT: there is no thread', 'summary': '; '.join(summary),
            'lost': self.t.recording.missing, 'home': home,
            'end': max(1, self.t.ns(self.t.end)), 'kinds': KINDS,
            'legend': LEGEND, 'names': list(self.names), 'lanes': self.lanes,
            'irps': irps, 'gaps': self.spans(self.t.gaps),
            'halted': self.spans(halted),
            'least': (home[1] - home[0]) // 100,
            'first': next((n for n, irp in enumerate(self.order)
                           if irp.major == 4), 0)}


def render(timeline, summary=()):
    """The page, as text."""
    data = json.dumps(Page(timeline).data(summary), separators=(',', ':'))
    # Nothing in it may end the script element.
    return TEMPLATE.read_text().replace('@DATA@', data.replace('<', '\\u003c'))
