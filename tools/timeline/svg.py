"""svg.py - one write of a Timeline as a static picture.

Its work takes microseconds, its flight a thousand times as long: so the spans
in which only the disk works are drawn short, with a break, and say how long
they are; all the rest is to scale. The same recording gives the same picture.
"""
import dataclasses

from timeline import model

WIDTH, LEFT, RIGHT, TOP = 1000, 118, 14, 58
BREAK = 215             # px for a span in which only the disk works
LEAST_GAP = 1e-3        # seconds: a shorter one is drawn to scale
HIGH, NEST, SPACE = 20, 11, 14
STOP = 12               # px from the middle of a stop to what is beside it
EDGE = 0.03             # of the work, before and behind it
WRITE = 4               # IRP_MJ_WRITE
PENDING = 5             # the stage in which the thread goes its own way

STYLE = """
  .bg{fill:#fff} text{font:12px system-ui,sans-serif;fill:#1c2330}
  .dim{fill:#6b7484} .line{stroke:#dfe3ea} .gap{fill:#fff3d6}
  .gapt{fill:#8a5a00;font-weight:600} .thread,.running{fill:#3b78c4}
  .call{fill:#79a8de} .apc,.done{fill:#8e5bb5} .isr{fill:#d23f3f}
  .dpc{fill:#e07b29} .doorbell{fill:#11806a} .ready{fill:#d9b310}
  .waiting{fill:#c9d0da} .device{fill:#1d9a6c} .road{stroke:#c2185b;fill:none;
  stroke-width:1.6;opacity:.75} .stop{fill:#c2185b} .no{fill:#fff;
  font:bold 10px system-ui,sans-serif;text-anchor:middle}
  .in{fill:#fff;font-size:11px}
  @media (prefers-color-scheme:dark){.bg{fill:#14171c} text{fill:#e4e8ee}
  .dim{fill:#98a2b3} .line{stroke:#2b313b} .gap{fill:#2f2813}
  .gapt{fill:#e7bd62} .waiting{fill:#3b4452} .road{stroke:#ff6fa5}
  .stop{fill:#d6336c}}
"""


@dataclasses.dataclass
class Piece:
    """A part of the axis, from a time to a time, in pixels."""
    start: int
    end: int
    x: float
    width: float
    quiet: bool


def choose(timeline):
    """The write that shows most: it has all of its road, and while the disk
    had it nobody ran; the first such one."""
    best, most = None, -1
    for irp in timeline.irps.values():
        if irp.major != WRITE or irp.unit is None or 'call' not in irp.marks:
            continue
        start, end = timeline.at_device(irp)
        quiet = sum(min(end, e) - max(start, s) for s, e in timeline.gaps
                    if s < end and e > start)
        # One that was queued is shown twice as long: better one that was not.
        score = (quiet > 0, 'isr' in irp.marks, 'IRP_QUEUED' not in irp.marks)
        if score > (most if most != -1 else (False, False, False)):
            best, most = irp, score
    return best


class Picture:
    def __init__(self, timeline, irp):
        self.t, self.irp, self.out = timeline, irp, []
        self.axis = self.make_axis()
        self.y = TOP

    def make_axis(self):
        start, end = self.irp.start, self.irp.end
        start = min(start, self.irp.marks['call'].time)
        least = LEAST_GAP * self.t.recording.frequency
        gaps = [(max(s, start), min(e, end)) for s, e in self.t.gaps
                if s < end and e > start and e - s > least]
        work = end - start - sum(e - s for s, e in gaps)
        edge = int(work * EDGE) + 1
        start, end = start - edge, end + edge
        scale = ((WIDTH - LEFT - RIGHT - BREAK * len(gaps))
                 / max(1, work + 2 * edge))
        axis, x, at = [], LEFT, start
        for s, e in [*gaps, (end, end)]:
            axis.append(Piece(at, s, x, (s - at) * scale, False))
            x += axis[-1].width
            if e > s:
                axis.append(Piece(s, e, x, BREAK, True))
                x += BREAK
            at = e
        return axis

    def x(self, time):
        for piece in self.axis:
            if time <= piece.end:
                span = max(1, piece.end - piece.start)
                share = max(0, time - piece.start) / span
                return piece.x + share * piece.width
        return self.axis[-1].x + self.axis[-1].width

    def add(self, text):
        self.out.append(text)

    def text(self, x, y, text, name=''):
        text = (text.replace('&', '&amp;').replace('<', '&lt;')
                .replace('>', '&gt;'))
        kind = f' class="{name}"' if name else ''
        self.add(f'<text x="{x:.1f}" y="{y:.1f}"{kind}>{text}</text>')

    def bar(self, start, end, y, height, kind, title, text='', stops=()):
        first, last = self.axis[0].start, self.axis[-1].end
        if start > last or end < first:
            return
        x0, x1 = self.x(max(start, first)), self.x(min(end, last))
        width = max(1.2, x1 - x0)
        self.add(f'<rect x="{x0:.1f}" y="{y:.1f}" width="{width:.1f}" '
                 f'height="{height}" class="{kind}"><title>{title}</title>'
                 '</rect>')
        # Behind the stops that lie over it: the name is to be read.
        text_x = max([x0, *(x + STOP for x in stops if x0 <= x <= x1)])
        if text and x1 - text_x > 7 * len(text):
            self.text(text_x + 4, y + height - 6, text, 'in')

    def label(self, text, height):
        self.text(8, self.y + 14, text)
        self.add(f'<path d="M0 {self.y + height + SPACE / 2:.1f}H{WIDTH}" '
                 'class="line"/>')

    # ---- The lanes

    def processors(self):
        titles = {'isr': 'interrupt', 'dpc': 'DPC', 'apc': 'APC',
                  'doorbell': 'disk told to go'}
        self.places = {}
        for number, cpu in self.t.cpus.items():
            nested = [(depth, piece) for depth, piece in model.nest(cpu.slices)
                      if piece.kind not in ('idle', 'halted')]
            self.places[number] = self.y
            stops = [self.x(mark.time) for mark in self.irp.marks.values()
                     if mark.cpu == number]
            for depth, piece in nested:
                title = titles.get(piece.kind, piece.name)
                self.bar(piece.start, piece.end,
                         self.y + (depth and HIGH + (depth - 1) * NEST),
                         HIGH if not depth else NEST - 1, piece.kind, title,
                         title if not depth else '', stops)
            depths = max((depth for depth, _ in nested), default=0)
            height = HIGH + depths * NEST
            self.label(f'processor {number}', height)
            self.y += height + SPACE

    def disk(self):
        self.disk_y = self.y + HIGH / 2
        for irp in sorted(self.t.disks[self.irp.unit],
                          key=lambda irp: irp is self.irp):    # on top
            start, end = self.t.at_device(irp)
            mine = irp is self.irp
            self.bar(start, end, self.y, HIGH, 'device' if mine else 'waiting',
                     irp.name, 'the disk works' if mine else '')
        self.label(f'disk {self.irp.unit}', HIGH)
        self.y += HIGH + SPACE

    def threads(self):
        first, last = self.axis[0].start, self.axis[-1].end
        for thread in self.t.threads.values():
            if not any(state.kind == 'running' and state.start < last
                       and state.end > first for state in thread.states):
                continue
            for state in thread.states:
                thin = state.kind == 'waiting'
                self.bar(state.start, state.end,
                         self.y + (HIGH / 2 - 1 if thin else 2),
                         2 if thin else HIGH - 4, state.kind,
                         f'{state.kind} {state.name}')
            self.label(f'{thread.name} ({thread.id})', HIGH)
            self.y += HIGH + SPACE

    # ---- What lies over them

    def gaps(self, bottom):
        for piece in self.axis:
            if not piece.quiet:
                continue
            us = (piece.end - piece.start) * 1e6 / self.t.recording.frequency
            self.add(f'<rect x="{piece.x:.1f}" y="{TOP - 26}" '
                     f'width="{piece.width:.1f}" height="{bottom - TOP + 26}" '
                     'class="gap"/>')
            self.text(piece.x + 8, TOP - 11, f'{us / 1000:,.1f} ms: nobody '
                      'runs', 'gapt')
            self.text(piece.x + 8, TOP + 12, 'every processor is halted;',
                      'gapt')
            self.text(piece.x + 8, TOP + 28, 'only the disk works', 'gapt')

    def stops(self):
        """(x, y, stage, text) along the road, in the order of time; stage None
        is only a point of the line."""
        texts = {key: (stage, text) for key, stage, text in model.STEPS}
        disk = self.disk_y + HIGH / 2 - 4       # beneath the name
        out = []
        for key, mark in sorted(self.irp.marks.items(),
                                key=lambda item: item[1].time):
            x, y = self.x(mark.time), self.places[mark.cpu] + HIGH / 2
            if key == 'isr':
                out.append((x, disk, None, ''))
            out.append((x, y, *texts[key]))
            if key == 'DMA_START':
                out.append((x, disk, None, ''))
        for piece in self.axis:
            if piece.quiet:
                out.append((piece.x + BREAK / 2, disk, 6,
                            'in flight: an entry in a queue, then the '
                            "disk's own business"))
        return sorted(out, key=lambda stop: stop[0])

    def road(self):
        stops = self.stops()
        self.add('<path class="road" d="M' + ' L'.join(
            f'{x:.1f} {y:.1f}' for x, y, stage, _ in stops
            if stage != PENDING) + '"/>')
        shown, right = [], 0
        for x, y, stage, text in stops:
            if stage is None:
                continue
            if shown and shown[-1][0] == stage:
                shown[-1][1].append(text)
                continue
            shown.append((stage, [text]))
            place = max(x, right)           # side by side, where it is narrow
            right = place + 17
            self.add(f'<circle cx="{place:.1f}" cy="{y:.1f}" r="8" '
                     'class="stop"/>')
            self.text(place, y + 3.5, str(stage), 'no')
        return shown

    def draw(self):
        self.processors()
        self.disk()
        self.threads()
        lanes, self.out = self.out, []
        bottom = self.y - SPACE / 2
        self.gaps(bottom)
        self.out += lanes
        shown = self.road()
        marks = self.irp.marks
        took = (self.irp.end - marks['call'].time) * 1e6
        took /= self.t.recording.frequency
        start, end = self.t.at_device(self.irp)
        self.text(8, 22, f'One asynchronous write: {took / 1000:,.1f} ms from '
                  'the call to the packet. Who waits for the disk?')
        y, column = bottom + 24, 0
        columns = 2
        for stage, names in shown:
            x = 8 + column * (WIDTH - 16) / columns
            self.add(f'<circle cx="{x + 8:.1f}" cy="{y - 4:.1f}" r="8" '
                     'class="stop"/>')
            self.text(x + 8, y - 0.5, str(stage), 'no')
            self.text(x + 22, y, ', '.join(dict.fromkeys(names)), 'dim')
            column += 1
            if column == columns:
                column, y = 0, y + 20
        height = y + (10 if column else -6)
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} '
                f'{height:.0f}" width="{WIDTH}" height="{height:.0f}" '
                'role="img">\n<title>The road of one write: while it is in '
                f'flight nobody runs</title>\n<style>{STYLE}</style>\n'
                f'<rect width="{WIDTH}" height="{height:.0f}" class="bg"/>\n'
                + '\n'.join(self.out) + '\n</svg>\n')


def render(timeline):
    """The picture, as text; one that says so if there is no write."""
    irp = choose(timeline)
    if not irp:
        return ('<svg xmlns="http://www.w3.org/2000/svg" width="400" '
                'height="40"><text x="8" y="24">No write to a disk in this '
                'trace.</text></svg>\n')
    return Picture(timeline, irp).draw()
