"""model.py - from trace records to lanes, states and the roads of requests.

What a record means is kernel/ntabi.h's. Times stay ticks; Timeline.us makes
microseconds of them. Everything that a lane shows is a Slice; slices of one
processor nest, because each begins and ends at a record of that processor.
"""
import bisect
import dataclasses

from timeline.stream import CODES, service_names

DEVICE_IRQLS = range(3, 12)
IDLE = 0                          # the idle threads' id
UNKNOWN = -1                      # who ran when records were lost
WAITING, TERMINATED = 5, 4        # KTHREAD_STATE
REASONS = ['Executive', 'DelayExecution', 'Suspended', 'UserRequest',
           'WrQueue']
MAJORS = {0: 'CREATE', 2: 'CLOSE', 3: 'READ', 4: 'WRITE',
          5: 'QUERY_INFORMATION', 6: 'SET_INFORMATION', 9: 'FLUSH_BUFFERS',
          12: 'DIRECTORY_CONTROL', 14: 'DEVICE_CONTROL', 18: 'CLEANUP'}

# The steps of a road: (key, stage in docs and README, text).
STEPS = [('call', 1, 'system call'), ('IRP_BUILT', 2, 'request (IRP) built'),
         ('IRP_CALL', 3, 'handed to the driver'),
         ('IRP_QUEUED', 3, 'queued behind another'),
         ('DMA_START', 4, 'disk told to go: DMA'),
         ('IRP_PENDING', 5, 'call returns "pending"'),
         ('isr', 7, 'interrupt of the disk'), ('dpc', 8, 'DPC begins'),
         ('IRP_COMPLETE', 9, 'request completed'),
         ('apc', 10, 'APC in the asking thread'),
         ('IRP_DONE', 10, 'status stored'),
         ('PORT_INSERT', 10, 'packet into the port'),
         ('PORT_REMOVE', 11, 'packet taken')]
OWN = {CODES[key]: key for key, _, _ in STEPS if key in CODES}


@dataclasses.dataclass(eq=False, slots=True)
class Slice:
    start: int
    kind: str           # thread idle halted isr dpc apc call doorbell
    name: str = ''
    id: int = 0         # of the thread, the vector or the IRP
    end: int = None


@dataclasses.dataclass(slots=True)
class Mark:
    """One step of a request's road."""
    time: int
    cpu: int
    irql: int
    thread: int
    slice: Slice = None     # in which it happens


@dataclasses.dataclass
class Irp:
    id: int
    major: int
    marks: dict         # key of STEPS: Mark

    @property
    def start(self):
        return self.marks['IRP_BUILT'].time

    @property
    def end(self):
        return max(mark.time for mark in self.marks.values())

    @property
    def name(self):
        return f'{MAJORS.get(self.major, self.major)} {self.id}'

    @property
    def unit(self):
        """The disk that it is for, or None."""
        return self.disk if 'DMA_START' in self.marks else None

    disk: int = None


class Processor:
    """Follows the records of one processor."""

    def __init__(self, number):
        self.number = number
        self.slices = []
        self.base = None                    # whose turn it is
        self.nested = []                    # open: isr, dpc
        self.halted = self.doorbell = None
        self.isrs = []                      # of devices, since the last drain

    def open(self, time, kind, name='', ident=0):
        self.slices.append(Slice(time, kind, name, ident))
        return self.slices[-1]

    @property
    def thread(self):
        return self.base.id if self.base else IDLE

    def close_short(self, time):
        """What ends at the next record, whatever that is."""
        for short in (self.halted, self.doorbell):
            if short:
                short.end = time
        self.halted = self.doorbell = None

    def leave_isrs(self, record):
        """An ISR whose end is not recorded (trace=on) is a moment; what runs
        beneath its level shows that it is over."""
        while self.nested and self.nested[-1].kind == 'isr' and (
                record.irql < self.nested[-1].id >> 4
                or record.code == CODES['ISR_IN']
                and record.irql == self.nested[-1].id >> 4):
            inner = self.nested.pop()
            inner.end = inner.start

    def close_nested(self, time, kind):
        """An end without a beginning belongs to what was lost."""
        if any(inner.kind == kind for inner in self.nested):
            while self.nested:
                inner = self.nested.pop()
                inner.end = time
                if inner.kind == kind:
                    return


class Thread:
    """What a thread did: its states, calls and APCs."""

    def __init__(self, ident, process, name):
        self.id, self.process, self.name = ident, process, name
        self.states = []            # Slices: running, ready, waiting
        self.call = None            # (time, service, last record in it)
        self.calls = []             # (start, end, service)
        self.apc = None             # start of the open one
        self.apcs = []              # (start, end)

    def state(self, time, kind, name='', ident=0):
        if self.states:
            self.states[-1].end = time
        self.states.append(Slice(time, kind, name, ident))

    def end_call(self):
        if self.call and self.call[2] > self.call[0]:
            self.calls.append((self.call[0], self.call[2], self.call[1]))
        self.call = None


class Timeline:
    def __init__(self, recording):
        if not recording.records:
            raise ValueError('the trace holds no records')
        self.recording = recording
        self.start = recording.records[0].time
        self.end = recording.records[-1].time
        self.services = service_names()
        numbers = sorted({record.cpu for record in recording.records}
                         | set(recording.lost))
        self.cpus = {n: Processor(n) for n in numbers}
        self.threads, self.irps, self.disks = {}, {}, {}
        self.instants = []              # (time, cpu, key, thread, record)
        self.backwards = 0              # threads that nobody made ready
        for record in recording.records:
            self.follow(record)
        self.finish()

    def us(self, ticks):
        return (ticks - self.start) * 1e6 / self.recording.frequency

    def ns(self, ticks):
        return (ticks - self.start) * 10**9 // self.recording.frequency

    def thread_of(self, ident):
        if ident not in self.threads:
            process, name = self.recording.threads.get(ident, (0, '?'))
            self.threads[ident] = Thread(ident, process, name)
        return self.threads[ident]

    def title(self, ident):
        if ident in (IDLE, UNKNOWN):
            return '?' if ident else 'nobody (idle)'
        return f'{self.thread_of(ident).name} ({ident})'

    def is_backwards(self, record):
        """Who runs now was waiting, and no record of its wake-up is lost."""
        states = self.thread_of(record.id).states
        return (bool(states) and states[-1].kind == 'waiting' and not any(
            begin < record.time and end > states[-1].start
            for begin, end in self.recording.holes))

    # ---- One record

    def follow(self, record):
        cpu = self.cpus[record.cpu]
        if not cpu.base:            # who ran before the first switch?
            lost = (0, record.time) in self.recording.holes
            cpu.base = (cpu.open(record.time, 'thread', '?', UNKNOWN) if lost
                        else cpu.open(record.time, 'idle'))
        cpu.close_short(record.time)
        cpu.leave_isrs(record)
        thread = self.thread_of(cpu.thread)
        handler = getattr(self, 'on_' + EVENT.get(record.code, ''), None)
        if handler:
            handler(record, cpu, thread)
        elif record.code in OWN:
            self.on_own(record, cpu, thread)
        if not cpu.nested and thread.call and record.code != CODES['SWITCH']:
            thread.call = (*thread.call[:2], record.time)

    def on_switch(self, record, cpu, thread):
        for piece in (cpu.base, *cpu.nested):   # nested: its end was lost
            piece.end = record.time
        cpu.nested.clear()
        state, reason = record.aux >> 8, record.aux & 0xff
        if thread.id not in (IDLE, UNKNOWN):
            if state == TERMINATED:
                thread.end_call()
                thread.state(record.time, 'ended')
            elif state == WAITING:
                thread.state(record.time, 'waiting',
                             REASONS[reason] if reason < len(REASONS) else '?')
            else:
                thread.state(record.time, 'ready')
        idle = record.id == IDLE
        cpu.base = cpu.open(record.time, 'idle' if idle else 'thread',
                            '' if idle else self.title(record.id), record.id)
        if not idle:
            self.backwards += self.is_backwards(record)
            self.thread_of(record.id).state(record.time, 'running', '',
                                            record.cpu)

    def on_ready(self, record, cpu, _):
        thread = self.thread_of(record.id)
        self.instants.append((record.time, record.cpu, 'READY', cpu.thread,
                              record))
        if not thread.states or thread.states[-1].kind == 'waiting':
            thread.state(record.time, 'ready')

    def on_idle_in(self, record, cpu, _):
        cpu.halted = cpu.open(record.time, 'halted')

    def on_isr_in(self, record, cpu, thread):
        cpu.nested.append(cpu.open(record.time, 'isr', '', record.id))
        if record.irql in DEVICE_IRQLS:
            cpu.isrs.append(Mark(record.time, cpu.number, record.irql,
                                 thread.id, cpu.nested[-1]))

    def on_isr_out(self, record, cpu, _):
        cpu.close_nested(record.time, 'isr')

    def on_dpc_in(self, record, cpu, _):
        cpu.nested.append(cpu.open(record.time, 'dpc'))

    def on_dpc_out(self, record, cpu, _):
        cpu.close_nested(record.time, 'dpc')
        cpu.isrs.clear()

    def on_apc_in(self, record, cpu, thread):
        thread.apc = Mark(record.time, cpu.number, record.irql, thread.id)

    def on_apc_out(self, record, cpu, thread):
        if thread.apc:
            thread.apcs.append((thread.apc.time, record.time))
        thread.apc = None

    def on_service(self, record, cpu, thread):
        thread.end_call()
        name = (self.services[record.id] if record.id < len(self.services)
                else f'service {record.id}')
        thread.call = (record.time, name, record.time)
        self.instants.append((record.time, record.cpu, 'SERVICE', thread.id,
                              record))

    def on_own(self, record, cpu, thread):
        """A record of a request."""
        key = OWN[record.code]
        self.instants.append((record.time, record.cpu, key, thread.id, record))
        mark = Mark(record.time, cpu.number, record.irql, thread.id)
        irp = self.irps.get(record.id)
        if key == 'IRP_BUILT':
            irp = self.irps[record.id] = Irp(record.id, record.aux, {})
            if thread.call and not cpu.nested:
                irp.marks['call'] = Mark(thread.call[0], cpu.number, 0,
                                         thread.id)
        if not irp:                 # built before the trace, or a post's packet
            return
        if key == 'DMA_START':
            irp.disk = record.aux
            cpu.doorbell = mark.slice = cpu.open(record.time, 'doorbell', '',
                                                 irp.id)
        dpc = next((s for s in cpu.nested if s.kind == 'dpc'), None)
        if key == 'IRP_COMPLETE' and dpc and 'DMA_START' in irp.marks:
            # The interrupt may have come while the drain was running already.
            told = irp.marks['DMA_START'].time
            isr = next((isr for isr in cpu.isrs if isr.time >= told), None)
            if isr:
                irp.marks.setdefault('isr', isr)
            begun = max(dpc.start, isr.slice.end or isr.time if isr else told)
            irp.marks.setdefault('dpc', Mark(begun, cpu.number, 2, thread.id,
                                             dpc))
        if key == 'IRP_DONE' and thread.apc and not cpu.nested:
            irp.marks.setdefault('apc', self.begun(irp, thread.apc))
        irp.marks.setdefault(key, mark)

    def begun(self, irp, delivery):
        """When a delivery of APCs came to that of irp, which may have been
        queued while it was running already."""
        time = delivery.time
        if 'IRP_COMPLETE' in irp.marks:
            time = max(time, irp.marks['IRP_COMPLETE'].time)
        dpc = irp.marks.get('dpc')
        if dpc and dpc.cpu == delivery.cpu:     # it interrupted the delivery
            time = max(time, dpc.slice.end or 0)
        return dataclasses.replace(delivery, time=time)

    # ---- When all are read

    def finish(self):
        for cpu in self.cpus.values():
            for piece in cpu.slices:
                if piece.end is None:
                    piece.end = self.end
        for thread in self.threads.values():
            thread.end_call()
            if thread.apc:
                thread.apcs.append((thread.apc.time, self.end))
            if thread.states:
                thread.states[-1].end = self.end
                thread.states = [state for state in thread.states
                                 if state.kind != 'ended']
            for start, end, name in thread.calls:
                self.cut(thread, start, end, 'call', name)
            for start, end in thread.apcs:
                self.cut(thread, start, end, 'apc', '')
        for cpu in self.cpus.values():
            cpu.slices.sort(key=lambda s: (s.start, -s.end, ORDER[s.kind]))
        for irp in self.irps.values():
            self.place(irp)
            if irp.unit is not None:
                self.disks.setdefault(irp.unit, []).append(irp)
        self.gaps = self.find_gaps()

    def cut(self, thread, start, end, kind, name):
        """A slice of a thread, in pieces, each where it ran."""
        first = bisect.bisect_right(thread.states, start,
                                    key=lambda state: state.start) - 1
        for at in range(max(0, first), len(thread.states)):
            state = thread.states[at]
            if state.start >= end:
                break
            if state.kind == 'running' and state.end > start:
                piece = Slice(max(start, state.start), kind, name, thread.id,
                              min(end, state.end))
                self.cpus[state.id].slices.append(piece)

    def place(self, irp):
        """Finds for each step the slice in which it happens."""
        for key, mark in irp.marks.items():
            kinds = {'call': ('call',), 'apc': ('apc',),
                     'PORT_REMOVE': ('call',)}.get(key)
            if mark.slice is None and kinds:
                mark.slice = self.enclosing(mark, kinds)

    def enclosing(self, mark, kinds=None):
        """The innermost slice on the mark's processor at its time."""
        slices = self.cpus[mark.cpu].slices
        at = bisect.bisect_right(slices, mark.time, key=lambda s: s.start)
        for piece in reversed(slices[max(0, at - 64):at]):
            if piece.end >= mark.time and (not kinds or piece.kind in kinds):
                return piece
        return None

    def at_device(self, irp):
        """(start, end) of the time that the disk had it."""
        done = irp.marks.get('isr') or irp.marks.get('IRP_COMPLETE')
        return (irp.marks['DMA_START'].time,
                max(done.time if done else self.end,
                    irp.marks['DMA_START'].time))

    def all_halted(self):
        """The spans in which every processor is halted."""
        levels = self.levels([(piece.start, piece.end)
                              for cpu in self.cpus.values()
                              for piece in cpu.slices
                              if piece.kind == 'halted'])
        return spans_of(levels, len(self.cpus))

    def find_gaps(self):
        """Those of them in which a disk works."""
        busy = spans_of(self.levels([self.at_device(irp)
                                     for irps in self.disks.values()
                                     for irp in irps]), 1)
        both = [*self.all_halted(), *busy]
        return spans_of(self.levels(both), 2)

    def levels(self, spans):
        """[(time, how many of the spans are open)]."""
        edges = sorted([(start, 1) for start, _ in spans]
                       + [(end, -1) for _, end in spans])
        out, level = [], 0
        for time, change in edges:
            level += change
            if out and out[-1][0] == time:
                out[-1] = (time, level)
            else:
                out.append((time, level))
        return out

    def in_flight(self):
        return self.levels([
            (irp.start, irp.marks['IRP_COMPLETE'].time
             if 'IRP_COMPLETE' in irp.marks else self.end)
            for irp in self.irps.values()])

    def runnable(self):
        return self.levels([
            (state.start, state.end) for thread in self.threads.values()
            for state in thread.states if state.kind in ('running', 'ready')])

    def agreement(self):
        """How well the processors' clocks agree, by what the trace itself
        proves: a thread is made ready on one processor before it runs on
        another. Returns how many such pairs there are, how many threads ran
        before anybody had made them ready, and a bound in us: the shortest
        delays, of both directions; None without them."""
        ready, least, seen = {}, {}, 0
        for record in self.recording.records:
            if record.code == CODES['READY']:
                ready[record.id] = record
            elif record.code == CODES['SWITCH'] and record.id in ready:
                cause = ready.pop(record.id)
                if cause.cpu == record.cpu:
                    continue
                seen += 1
                pair = (cause.cpu, record.cpu)
                least[pair] = min(least.get(pair, record.time - cause.time),
                                  record.time - cause.time)
        bounds = [max(delay, least[pair[::-1]]) for pair, delay in least.items()
                  if pair[::-1] in least]
        return (seen, self.backwards,
                max(bounds) * 1e6 / self.recording.frequency if bounds
                else None)


EVENT = {CODES[name]: name.lower() for name in (
    'SWITCH', 'READY', 'IDLE_IN', 'ISR_IN', 'ISR_OUT', 'DPC_IN', 'DPC_OUT',
    'APC_IN', 'APC_OUT', 'SERVICE')}
# Of slices with the same span, the outer one first.
ORDER = {kind: n for n, kind in enumerate(
    ('thread', 'idle', 'call', 'apc', 'halted', 'isr', 'dpc', 'doorbell'))}


def spans_of(levels, least):
    """The spans in which a level is at least so high."""
    out, since = [], None
    for time, level in levels:
        if level >= least and since is None:
            since = time
        elif level < least and since is not None:
            out.append((since, time))
            since = None
    return out


def nest(slices):
    """[(depth, slice)] of slices sorted by start; ValueError if two overlap
    and neither contains the other."""
    out, stack = [], []
    for piece in slices:
        while stack and stack[-1].end <= piece.start and not (
                stack[-1].start == piece.start):
            stack.pop()
        while stack and stack[-1].end < piece.end:
            if stack[-1].end > piece.start:
                raise ValueError(
                    f'damaged: {stack[-1].kind} from {stack[-1].start} and '
                    f'{piece.kind} from {piece.start} overlap')
            stack.pop()
        out.append((len(stack), piece))
        stack.append(piece)
    return out
