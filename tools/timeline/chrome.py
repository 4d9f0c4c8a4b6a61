"""chrome.py - a Timeline in Chrome's trace format, which Perfetto loads.

Names are ETW's where ETW has one: CSwitch, ReadyThread, SysClEnter, ISR, DPC,
DrvMjFnCall, DrvComplReq, DiskWriteInit, KernelQueueEnqueue, and a thread's
states. A request is an async slice, its road a flow from slice to slice.
"""
import json

from timeline import model

PROCESSORS, DISKS = 1000000, 2000000    # process ids, above the guest's own
NS_PER_US = 1000

INSTANTS = {'READY': 'ReadyThread', 'SERVICE': 'SysClEnter',
            'IRP_BUILT': 'IrpBuilt', 'IRP_CALL': 'DrvMjFnCall',
            'IRP_QUEUED': 'IrpQueued', 'IRP_PENDING': 'IrpPending',
            'IRP_COMPLETE': 'DrvComplReq', 'IRP_DONE': 'IrpDone',
            'PORT_INSERT': 'KernelQueueEnqueue',
            'PORT_REMOVE': 'KernelQueueDequeue'}
STATES = {'running': 'Running', 'ready': 'Ready', 'waiting': 'Waiting'}
DOORBELL = {3: 'DiskReadInit', 4: 'DiskWriteInit', 9: 'DiskFlushInit'}
ROAD = ['call', 'DMA_START', 'isr', 'dpc', 'apc', 'PORT_REMOVE']


class Writer:
    def __init__(self, timeline):
        self.t, self.events = timeline, []
        self.least = 1 + 2 * timeline.recording.frequency // 10**9  # > 1 ns

    def us(self, ticks):
        """Microseconds that keep the order and lose nothing above 1 ns."""
        return self.t.ns(ticks) / NS_PER_US

    def add(self, phase, time, pid, tid, **more):
        event = {'ph': phase, 'pid': pid, 'tid': tid, **more}
        if time is not None:
            event['ts'] = self.us(time)
        self.events.append(event)

    def name(self, kind, text, pid, tid=0, order=None):
        self.add('M', None, pid, tid, name=kind + '_name', args={'name': text})
        if order is not None:
            self.add('M', None, pid, tid, name=kind + '_sort_index',
                     args={'sort_index': order})

    # ---- Slices

    def label(self, piece):
        if piece.kind == 'thread':
            return piece.name
        if piece.kind == 'doorbell':
            return DOORBELL.get(self.t.irps[piece.id].major, 'DiskInit')
        return {'idle': 'Idle', 'halted': 'halted', 'isr': 'ISR', 'dpc': 'DPC',
                'apc': 'APC'}.get(piece.kind, piece.name)

    def slices(self, pid, tid, nested, label):
        """Begins and ends, so that what touches still nests exactly."""
        open_ends = []
        for depth, piece in nested:
            while len(open_ends) > depth:
                self.add('E', open_ends.pop(), pid, tid)
            more = {}
            if piece.kind == 'isr':
                more['args'] = {'vector': piece.id}
            elif piece.kind == 'doorbell':
                more['args'] = {'irp': piece.id}
            elif piece.kind == 'waiting':
                more['args'] = {'WaitReason': piece.name}
            self.add('B', piece.start, pid, tid, cat=piece.kind,
                     name=label(piece), **more)
            open_ends.append(piece.end)
        while open_ends:
            self.add('E', open_ends.pop(), pid, tid)

    def processors(self):
        self.name('process', 'Processors', PROCESSORS, order=0)
        for number, cpu in self.t.cpus.items():
            tid = PROCESSORS + number
            self.name('thread', f'processor {number}', PROCESSORS, tid, number)
            self.slices(PROCESSORS, tid, model.nest(cpu.slices), self.label)

    def threads(self):
        for thread in self.t.threads.values():
            if thread.id in (model.IDLE, model.UNKNOWN):
                continue
            self.name('process', f'{thread.name} ({thread.process})',
                      thread.process, order=2)
            self.name('thread', f'{thread.name} {thread.id}', thread.process,
                      thread.id)
            self.slices(thread.process, thread.id,
                        [(0, state) for state in thread.states],
                        lambda state: STATES[state.kind])

    def disks(self):
        """A disk is busy while it has a request, however many they are."""
        if self.t.disks:
            self.name('process', 'Devices', DISKS, order=1)
        for unit, irps in sorted(self.t.disks.items()):
            tid = DISKS + unit
            self.name('thread', f'disk {unit}', DISKS, tid)
            levels = self.t.levels([self.t.at_device(irp) for irp in irps])
            busy = False
            for time, level in levels:
                if bool(level) != busy:
                    self.add('E' if busy else 'B', time, DISKS, tid,
                             **({} if busy else {'cat': 'disk',
                                                 'name': 'busy'}))
                    busy = not busy
            self.counter(f'at disk {unit}', levels)

    # ---- What is no slice

    def counter(self, name, levels):
        for time, level in levels:
            self.add('C', time, PROCESSORS, 0, name=name,
                     args={'value': level})

    def instants(self):
        for time, cpu, key, thread, record in self.t.instants:
            if key not in INSTANTS:
                continue
            args = {'thread': thread, 'id': record.id, 'IRQL': record.irql}
            if key == 'SERVICE' and record.id < len(self.t.services):
                args['service'] = self.t.services[record.id]
            self.add('i', time, PROCESSORS, PROCESSORS + cpu, s='t',
                     cat='event', name=INSTANTS[key], args=args)
        for cpu in self.t.cpus.values():
            for piece in cpu.slices:
                if piece.kind in ('thread', 'idle'):
                    self.add('i', piece.start, PROCESSORS,
                             PROCESSORS + cpu.number, s='t', cat='event',
                             name='CSwitch', args={'NewThreadId': piece.id})

    def requests(self):
        for irp in self.t.irps.values():
            marks = irp.marks
            pid = self.t.thread_of(marks['IRP_BUILT'].thread).process
            same = {'cat': 'irp', 'id': f'{irp.id:#x}'}
            finished = 'IRP_COMPLETE' in marks
            self.add('b', irp.start, pid, 0, name=irp.name, **same,
                     args={'disk': irp.unit, 'finished': finished})
            phases = []
            if irp.unit is not None:
                start, end = self.t.at_device(irp)
                if 'IRP_QUEUED' in marks and marks['IRP_QUEUED'].time < start:
                    phases.append((marks['IRP_QUEUED'].time, start, 'queued'))
                phases.append((start, end, 'at the device'))
                if finished and irp.end > end:
                    phases.append((end, irp.end, 'completion'))
            for start, end, name in phases:
                self.add('b', start, pid, 0, name=name, **same)
                self.add('e', end, pid, 0, name=name, **same)
            end = max(irp.end, phases[-1][1]) if phases else irp.end
            self.add('e', end, pid, 0, name=irp.name, **same)

    def flows(self):
        for irp in self.t.irps.values():
            steps = [irp.marks[key] for key in ROAD
                     if key in irp.marks and irp.marks[key].slice]
            if irp.unit is None or len(steps) < 2:
                continue
            for n, mark in enumerate(steps):
                last = n == len(steps) - 1
                # What lies at the very end of a slice is not in it.
                inside = max(mark.slice.start,
                             min(mark.time, mark.slice.end - self.least))
                self.add('s' if n == 0 else 'f' if last else 't', inside,
                         PROCESSORS, PROCESSORS + mark.cpu, cat='road',
                         name='road', id=f'{irp.id:#x}',
                         **({'bp': 'e'} if n else {}))

    def everything(self):
        self.processors()
        self.threads()
        self.disks()
        self.counter('IRPs in flight', self.t.in_flight())
        self.counter('runnable threads', self.t.runnable())
        self.instants()
        self.requests()
        self.flows()
        # By time, as readers expect; what stands together stays so.
        self.events.sort(key=lambda event: event.get('ts', -1))
        return self.events


def convert(timeline):
    """The whole file, as an object for json."""
    recording = timeline.recording
    pairs, backwards, bound = timeline.agreement()
    return {
        'traceEvents': Writer(timeline).everything(),
        'displayTimeUnit': 'ns',
        'otherData': {
            'lost records': {f'processor {cpu}': count
                             for cpu, count in recording.lost.items()},
            'unwritten records': {f'processor {cpu}': count for cpu, count
                                  in recording.torn.items()},
            'stream cut': recording.cut,
            'clocks': {'pairs': pairs, 'backwards': backwards,
                       'agree within us': bound}}}


def write(timeline, path):
    path.write_text(json.dumps(convert(timeline), separators=(',', ':')))
