"""lab2.py - grades APC delivery: scripts and models of NT-SEMANTICS 4 to 6."""
import struct

from labs import checks, witness
from labs.checks import Check, Script, argument, insert
from labs.lab1 import level

PASSIVE, APC, DISPATCH = 0, 1, 2
APCS = 8
STACK = 16 << 10        # what is farther away is another thread's stack
SELF, OTHER, ELSEWHERE = range(3)
SPECIAL, NORMAL = range(2)
CRITICAL, GUARDED, RAISED = 1, 2, 4
RING = 3                # the low bits of cs
USER_APC, TIMEOUT = 0xC0, 0x102
REGIONS = {CRITICAL: 'critical', GUARDED: 'guarded', RAISED: 'raised',
           CRITICAL | GUARDED: 'critical and guarded'}
WHOSE = ['this thread', 'the other thread', 'a thread of processor 1']


class Thread:
    """One thread's kernel APCs, and what holds them back."""

    def __init__(self):
        self.queue = []             # (apc, argument, argument)
        self.critical = self.guarded = 0
        self.in_progress = False    # a normal routine runs
        self.irql = PASSIVE


class Model(checks.Interpreter):
    """APCs of the thread that runs the script, and of two others."""

    def __init__(self, script):
        super().__init__(script)
        self.threads = [Thread(), Thread(), Thread()]
        self.apcs = {}              # {apc: (kind, whose)}
        self.inside = {}
        self.suppressed = set()
        self.way = 0                # how the other thread waits
        self.disturbed = 0          # whether an APC has run in that wait
        self.signalled = None       # it was woken, and may not run yet
        self.current = SELF

    def see(self, *event):
        self.events[int(self.current == ELSEWHERE)].append(event)

    def step(self, n, do, operands):
        self.see('step', n, self.irql)
        do(n, *operands)

    @property
    def irql(self):
        return self.threads[self.current].irql

    @irql.setter
    def irql(self, irql):
        self.threads[self.current].irql = irql

    # ---- Delivery

    def next_of(self, thread):
        """The APC that may be delivered now, off the queue; or None."""
        if not thread.queue or thread.guarded or thread.irql > PASSIVE:
            return None
        kind = self.apcs[thread.queue[0][0]][0]
        if kind == NORMAL and (thread.critical or thread.in_progress):
            return None                                 # APC-07, REG-03
        return thread.queue.pop(0)

    def deliver(self, whose):
        """APC-04: what may run of a thread's APCs does so, in that thread."""
        thread, before = self.threads[whose], self.current
        if self.threads[before].irql >= DISPATCH and whose != ELSEWHERE:
            return                                      # when it falls
        self.current = whose
        while (entry := self.next_of(thread)) is not None:
            apc, a, b = entry
            self.disturbed |= whose == OTHER
            thread.irql = APC
            self.see('kernel', apc, a, b, APC, whose)
            suppressed = apc in self.suppressed
            self.suppressed.discard(apc)
            kind = self.apcs[apc][0]
            self.routine(apc, SPECIAL)
            thread.irql = PASSIVE
            if kind == SPECIAL or suppressed:           # APC-05
                continue
            thread.in_progress = True
            self.deliver(whose)                         # specials go first
            self.see('normal', apc, a, b + 1, PASSIVE, whose)
            self.routine(apc, NORMAL)
            thread.in_progress = False
        self.current = before

    def routine(self, apc, half):
        first = self.inside.pop((apc, half), None)
        if first:
            self.block(first)
        self.see('exit', apc, half)

    # ---- Steps

    def prepare(self, n, apc, kind, whose):
        self.apcs[apc] = (kind, whose)
        self.suppressed.discard(apc)
        for half in (SPECIAL, NORMAL):
            self.inside.pop((apc, half), None)

    def insert(self, n, apc, a, b):
        kind, whose = self.apcs[apc]
        thread = self.threads[whose]
        if any(apc == queued for queued, _, _ in thread.queue):
            return self.see('result', n, 0)             # APC-02
        at = len(thread.queue)
        while kind == SPECIAL and at and \
                self.apcs[thread.queue[at - 1][0]][0] == NORMAL:
            at -= 1                                     # APC-03
        thread.queue.insert(at, (apc, a, b))
        if not (whose == ELSEWHERE and self.current == ELSEWHERE):
            self.deliver(whose)                         # APC-08, APC-09
        return self.see('result', n, 1)

    def remove(self, n, apc):
        queue = self.threads[self.apcs[apc][1]].queue
        left = [entry for entry in queue if entry[0] != apc]
        self.see('result', n, int(len(left) < len(queue)))
        queue[:] = left

    def raise_(self, n, irql):
        self.irql = irql

    def lower(self, n, irql):
        self.irql = irql
        if irql < DISPATCH:
            self.others()
            self.deliver(SELF)
        self.see('result', n, 0)

    def enter(self, n, way):
        self.regions(self.threads[self.current], way, 1)

    def leave(self, n, way):
        self.regions(self.threads[self.current], way, -1)
        self.deliver(self.current)                      # REG-04
        self.see('result', n, 0)

    def regions(self, thread, way, change):
        thread.critical += change * bool(way & CRITICAL)
        thread.guarded += change * bool(way & GUARDED)
        thread.irql += change * bool(way & RAISED)

    def suppress(self, n, apc):
        self.suppressed.add(apc)

    def set_inside(self, n, apc, first, half):
        self.inside[apc, half] = first

    def signal(self, n, way):
        self.signalled = way
        if self.irql < DISPATCH:
            self.others()
        self.see('result', n, 0)

    def others(self):
        """The other thread runs, if it was woken, until it waits again."""
        self.deliver(OTHER)
        if self.signalled is None:
            return
        before, self.current = self.current, OTHER
        way, self.way, self.signalled = self.way, self.signalled, None
        self.see('woke', way, int(self.disturbed))
        thread = self.threads[OTHER]
        for part in (RAISED, GUARDED, CRITICAL):
            if way & part:
                self.regions(thread, part, -1)
                self.deliver(OTHER)
        self.regions(thread, self.way, 1)
        self.current, self.disturbed = before, 0

    def await_(self, n, apc, count):
        pass


class Lab2(checks.Lab):
    number = 2
    ktest = 'lab_2'
    routines = ('lab2_kernel', 'lab2_normal')
    operations = checks.operations(
        'prepare', 'insert', 'remove', 'raise_', 'lower', 'enter', 'leave',
        'suppress', 'set_inside', 'signal', 'await_')

    def begin(self, guest):
        at = witness.addresses(guest.kernel, ['lab2_apcs', 'lab2_stride'])
        self.apcs = at['lab2_apcs']
        self.stride = self.word(guest, at['lab2_stride'])
        self.stack = guest.at.rsp
        self.guest = guest

    def word(self, guest, address):
        return struct.unpack('<Q', guest.read(address, 8))[0]

    def whose(self, stop):
        if stop.cpu == 1:
            return ELSEWHERE
        return SELF if abs(stop.rsp - self.stack) < STACK else OTHER

    def event(self, stop):
        what, a, b, c = stop.arguments
        if stop.place == 'lab2_kernel':
            apc, rest = divmod(what - self.apcs, self.stride)
            if rest or not 0 <= apc < APCS:
                return ('stranger',)
            return ('kernel', apc, self.word(self.guest, c),
                    self.word(self.guest, stop.r8), stop.cr8,
                    self.whose(stop))
        if stop.place == 'lab2_normal':
            return ('normal', what, a, b, stop.cr8, self.whose(stop))
        if what == checks.STEP_SEEN:
            return ('step', a, stop.cr8)
        if what == checks.EXIT:
            return ('exit', a, b)
        if what == checks.WOKE:
            return ('woke', a, b)
        return ('result', a, b & 0xff)

    def predict(self, script):
        return Model(script).run()

    def text(self, event, script):
        kind, *rest = event
        steps, _ = script.layout()
        if kind == 'step':
            return f'step {rest[0]}, at {level(rest[1])}: ' + call(
                *steps[rest[0]])
        if kind == 'result':
            name = steps[rest[0]][0]
            returns = ('returns' if name not in ('insert', 'remove') else
                       'returns ' + ('true' if rest[1] else 'false'))
            return f'step {rest[0]}: {call(*steps[rest[0]])} {returns}'
        if kind in ('kernel', 'normal'):
            return (f'the {kind} routine of A{rest[0]} runs in '
                    f'{WHOSE[rest[4]]} at {level(rest[3])}, with '
                    f'{rest[1]:#x}, {rest[2]:#x}')
        if kind == 'exit':
            return (f'the {"normal" if rest[1] else "kernel"} routine of '
                    f'A{rest[0]} returns')
        if kind == 'woke':
            how = REGIONS.get(rest[0])
            return ('the wait of the other thread is over'
                    + (f' ({how})' if how else '') + ', and was '
                    + ('interrupted' if rest[1] else 'never interrupted'))
        return 'a routine runs for what is no APC of the script'


def call(name, *o):
    """A step as the C that it is."""
    if name in ('raise_', 'lower'):
        return f'{"KeRaiseIrql" if name == "raise_" else "KeLowerIrql"}' \
               f'({level(o[0])})'
    if name == 'prepare':
        return (f'A{o[0]} is a {"normal" if o[1] else "special"} APC of '
                + WHOSE[o[2]])
    if name in ('enter', 'leave'):
        return f'{name} a {REGIONS[o[0]]} region'
    if name == 'signal':
        how = REGIONS.get(o[0])
        return ('KeSetEvent: the other thread goes on, to wait again'
                + (f' ({how})' if how else ''))
    texts = {
        'insert': 'KeInsertQueueApc(A{0}, {1:#x}, {2:#x})',
        'remove': 'KeRemoveQueueApc(A{0})',
        'suppress': "(A{0}'s kernel routine will set *NormalRoutine to NULL)",
        'set_inside': '(a routine of A{0} will do steps {1}... once)',
        'await_': 'wait until A{0} has run',
    }
    return texts[name].format(*o)


# ---- Ring 3 -------------------------------------------------------------------

class UserModel(checks.Interpreter):
    """User APCs of the thread that runs the script, and of another one."""

    def __init__(self, script):
        super().__init__(script)
        self.events = {0: []}
        self.queues = [[], []]
        self.inside = None
        self.alertable = False      # the other thread's wait

    def step(self, n, do, operands):
        self.see('step', n)
        self.see('result', n, do(*operands))

    def deliver(self, whose):
        """APC-14, APC-17, APC-19: all of them, the first first."""
        any_ran = bool(self.queues[whose])
        while self.queues[whose]:
            a, b = self.queues[whose].pop(0)
            self.see('apc', a, b, a ^ b, RING)
            first, self.inside = self.inside, None
            if first:
                self.block(first)
            self.see('exit')
        return any_ran

    def queue(self, whose, a, b):
        self.queues[whose].append((a, b))
        if whose and self.alertable:                    # APC-10, APC-24
            self.deliver(1)
            self.see('woke', USER_APC)
        return 0

    def sleep(self, alertable, moment):
        if alertable and self.deliver(0):               # APC-20
            return USER_APC
        return 0

    def wait(self, alertable, moment):
        if alertable and self.deliver(0):
            return USER_APC
        return TIMEOUT

    def test(self):
        self.deliver(0)
        return 0

    def set_inside(self, first):
        self.inside = first
        return 0

    def signal(self, alertable):
        """The other thread goes on, and waits again in this way."""
        self.see('woke', 0)
        self.alertable = bool(alertable)
        if self.alertable and self.queues[1]:
            self.deliver(1)
            self.see('woke', USER_APC)
        return 0


class Lab2User(checks.Lab):
    number = 2
    program = 'labapc'
    routines = ('labapc_routine',)
    operations = checks.operations('queue', 'sleep', 'wait', 'test',
                                   'set_inside', 'signal')

    def event(self, stop):
        what, a, b, c = stop.arguments
        if stop.place == 'labapc_routine':
            return ('apc', what, a, b, stop.cs & RING)
        if what == checks.STEP_SEEN:
            return ('step', a)
        if what == checks.EXIT:
            return ('exit',)
        if what == checks.WOKE:
            return ('woke', a)
        return ('result', a, b)

    def predict(self, script):
        return UserModel(script).run()

    def text(self, event, script):
        kind, *rest = event
        steps, _ = script.layout()
        if kind in ('step', 'result'):
            name, *o = steps[rest[0]]
            what = {
                'queue': 'NtQueueApcThread({0}, {1:#x}, {2:#x})',
                'sleep': 'NtDelayExecution(alertable={0})',
                'wait': 'NtWaitForSingleObject(alertable={0})',
                'test': 'NtTestAlert()',
                'set_inside': '(the next APC will do steps {0}...)',
                'signal': 'NtSetEvent: the other thread goes on, to wait '
                          'again, alertable={0}',
            }[name].format(*([['itself', 'the other'][o[0]], *o[1:]]
                             if name == 'queue' else o))
            return f'step {rest[0]}: {what}' + (
                f' returns {rest[1]:#x}' if kind == 'result' else '')
        if kind == 'apc':
            return (f'in ring {rest[3]} the APC with {rest[0]:#x}, '
                    f'{rest[1]:#x} runs')
        if kind == 'exit':
            return 'the APC returns'
        return f'the wait of the other thread ends with {rest[0]:#x}'


# ---- The scripts --------------------------------------------------------------

def some(draw, count):
    return draw.sample(range(APCS), count)


def to_oneself(draw):
    """APC-02, APC-04, APC-06, APC-08: specials to the calling thread."""
    for _ in range(4):
        one, two, three = some(draw, 3)
        block = [('prepare', apc, SPECIAL, SELF) for apc in (one, two, three)]
        block += [insert(draw, one), ('remove', one)]
        for above in draw.sample([APC, DISPATCH], 2):
            block += [('raise_', above), insert(draw, two), insert(draw, two)]
            if draw.random() < 0.5:
                block += [insert(draw, three), ('remove', three)]
            block += [insert(draw, three)]
            if above == DISPATCH and draw.random() < 0.5:
                block += [('lower', APC)]
            block += [('lower', PASSIVE)]
        again = [insert(draw, one), insert(draw, one), insert(draw, two)]
        block += [('set_inside', one, ('block', 1), SPECIAL),
                  insert(draw, one)]
        yield Script([block, again])


def in_order(draw):
    """APC-03, APC-05: specials first; arguments; suppressed halves."""
    for _ in range(5):
        names = some(draw, 6)
        block = []
        for apc in names:
            kind = draw.choice([SPECIAL, NORMAL])
            block.append(('prepare', apc, kind, SELF))
            if kind == NORMAL and draw.random() < 0.4:
                block.append(('suppress', apc))
        block.append(('raise_', draw.choice([APC, DISPATCH])))
        block += [insert(draw, apc) for apc in names]
        if draw.random() < 0.5:
            block.append(('remove', draw.choice(names)))
        block.append(('lower', PASSIVE))
        yield Script([block])


def normal_ones(draw):
    """APC-07: one normal routine at a time; a special may interrupt it."""
    for _ in range(4):
        one, two, three, four = some(draw, 4)
        block = [('prepare', one, NORMAL, SELF), ('prepare', two, NORMAL, SELF),
                 ('prepare', three, SPECIAL, SELF),
                 ('prepare', four, NORMAL, SELF),
                 ('set_inside', one, ('block', 1), NORMAL),
                 ('set_inside', two, ('block', 2), SPECIAL),
                 insert(draw, one)]
        inside = [insert(draw, two), insert(draw, three), insert(draw, four)]
        draw.shuffle(inside)
        yield Script([block, inside, [insert(draw, three)]])


def regions(draw):
    """REG-03, REG-04: what regions hold back, and let go when they end."""
    for _ in range(5):
        names = some(draw, 4)
        block = [('prepare', apc, kind, SELF) for apc, kind in
                 zip(names, [SPECIAL, NORMAL, SPECIAL, NORMAL])]
        first, second = draw.sample([CRITICAL, GUARDED], 2)
        block += [('enter', first), insert(draw, names[0]),
                  insert(draw, names[1]), ('enter', second),
                  insert(draw, names[2]), insert(draw, names[3])]
        block += [('leave', way) for way in draw.sample([first, second], 2)]
        yield Script([block])


def waiting(draw):
    """APC-09, SYN-04: to a thread that waits; it goes on waiting."""
    any_kind = [SPECIAL, NORMAL]
    for way, kinds in [(0, any_kind), (0, any_kind), (CRITICAL, any_kind),
                       (CRITICAL, [NORMAL]), (GUARDED, any_kind),
                       (RAISED, any_kind)]:
        names = some(draw, 4)
        block = [('prepare', apc, draw.choice(kinds), OTHER)
                 for apc in names]
        block += [('signal', way)]
        above = draw.choice([PASSIVE, PASSIVE, DISPATCH])
        block += [('raise_', above)]
        block += [insert(draw, apc) for apc in names]
        block += [('lower', PASSIVE), ('signal', 0), insert(draw, names[0]),
                  ('signal', 0)]
        yield Script([block])


def elsewhere(draw):
    """APC-08: to a thread that runs on another processor."""
    for _ in range(4):
        block = []
        for apc in some(draw, 3):
            block += [('prepare', apc, draw.choice([SPECIAL, NORMAL]),
                       ELSEWHERE), insert(draw, apc), ('await_', apc, 1)]
        yield Script([block], cpus=2)


def queue(draw, whose):
    return ('queue', whose, argument(draw), argument(draw))


def pause(draw, alertable):
    """A wait that finds nothing signalled; with an APC it need not be long."""
    name = draw.choice(['sleep', 'wait'])
    return (name, int(alertable), draw.randrange(2))


def alertable_waits(draw):
    """APC-14 to APC-20, APC-22: a thread's own user APCs."""
    for _ in range(5):
        block = []
        for _ in range(draw.randrange(1, 5)):
            block.append(queue(draw, 0))
        block += [pause(draw, False), pause(draw, True), pause(draw, True),
                  queue(draw, 0), ('test',), ('test',)]
        nested = [queue(draw, 0), pause(draw, draw.random() < 0.5),
                  queue(draw, 0)]
        block += [('set_inside', ('block', 1)), queue(draw, 0),
                  queue(draw, 0), pause(draw, True), pause(draw, True)]
        yield Script([block, nested])


def to_others(draw):
    """APC-10, APC-24: to a thread that waits alertably, or does not."""
    for _ in range(4):
        block = [('signal', 0), queue(draw, 1), queue(draw, 1),
                 ('signal', 1), queue(draw, 1), ('signal', 1),
                 queue(draw, 1), ('signal', 0)]
        if draw.random() < 0.5:
            block += [queue(draw, 1), ('signal', 1), ('signal', 0)]
        yield Script([block])


KERNEL, USER = Lab2(), Lab2User()
CHECKS = [
    Check('oneself', 15, 'APC-02 APC-04 APC-06 APC-08', 'special APCs to the '
          'calling thread, at each level', to_oneself, KERNEL),
    Check('order', 15, 'APC-03 APC-05', 'specials before normals; both halves, '
          'or one', in_order, KERNEL),
    Check('normal', 10, 'APC-07', 'one normal routine at a time, specials in '
          'between', normal_ones, KERNEL),
    Check('regions', 10, 'REG-03 REG-04', 'what critical and guarded regions '
          'hold back', regions, KERNEL),
    Check('waiting', 15, 'APC-09 SYN-04', 'an APC borrows a thread from its '
          'wait, to which it goes back', waiting, KERNEL),
    Check('elsewhere', 5, 'APC-08', 'an APC reaches a thread that runs on '
          'another processor', elsewhere, KERNEL, cpus=2),
    Check('alertable', 15, 'APC-14 APC-15 APC-16 APC-17 APC-19 APC-20 APC-22',
          'user APCs run in alertable waits, all of them, in order',
          alertable_waits, USER),
    Check('others', 5, 'APC-10 APC-24', 'user APCs to another thread end its '
          'alertable wait', to_others, USER),
]
DISK_POINTS = 10
