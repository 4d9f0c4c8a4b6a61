"""lab1.py - grades the DPC queue: scripts and a model of NT-SEMANTICS 2."""
from labs import checks, witness
from labs.checks import Check, Script, argument, insert

LOW, MEDIUM, HIGH, MEDIUM_HIGH = range(4)
PASSIVE, APC, DISPATCH, DEVICE, SYNCH, TOP = 0, 1, 2, 6, 12, 15
DPCS = 8
DEPTH = 4               # so many wait for nobody (KI_MAXIMUM_DPC_DEPTH)
STACK = 16 << 10        # a thread's: what is farther away is another stack
RACE_ROUNDS = 3000
PATIENCE = 50           # ms in which an interrupt would have arrived
IMPORTANCES = ['LowImportance', 'MediumImportance', 'HighImportance',
               'MediumHighImportance']
LEVELS = {0: 'PASSIVE_LEVEL', 1: 'APC_LEVEL', 2: 'DISPATCH_LEVEL',
          12: 'SYNCH_LEVEL', 13: 'CLOCK_LEVEL', 15: 'HIGH_LEVEL'}


def level(irql):
    return LEVELS.get(irql, f'level {irql}')


class Model(checks.Interpreter):
    """One processor's queue, by the rules."""

    def __init__(self, script):
        super().__init__(script)
        self.queue = []         # (dpc, argument, argument), the first first
        self.importance = {}
        self.target = {}
        self.inside = {}
        self.irql = PASSIVE
        self.requested = self.woken = self.draining = self.closed = False
        self.pending = []       # blocks of ISRs that the level holds back
        self.waiting = []       # of processor 1's: it is awake, and not asked
        self.is_busy = 0

    def step(self, n, do, operands):
        self.see('step', n, self.irql)
        do(n, *operands)

    # ---- What the rules say

    def below(self):
        return self.irql < DISPATCH and not self.draining and not self.closed

    def drain(self):
        """DPC-06, DPC-13: one after the other; threads only afterwards."""
        self.requested = False
        self.draining, old, self.irql = True, self.irql, DISPATCH
        while self.queue:
            dpc, a, b = self.queue.pop(0)
            self.see('dpc', dpc, a, b, 'in order')
            first = self.inside.pop(dpc, None)
            if first:
                self.block(first)
            self.see('exit', dpc)
        self.draining, self.irql = False, old
        self.wake_up()

    def wake_up(self):
        if self.woken and self.below():
            self.woken = False
            self.see('woke')

    def reset(self, n):
        self.importance = {}
        self.target = {}
        self.inside = {}

    def insert(self, n, dpc, a, b):
        if any(dpc == queued for queued, _, _ in self.queue + self.waiting):
            return self.see('result', n, 0)                     # DPC-04
        importance = self.importance.get(dpc, MEDIUM)
        if self.target.get(dpc, 0):                             # DPC-09
            self.see('result', n, 1)
            self.waiting.append((dpc, a, b))
            if not self.is_busy or importance >= HIGH:          # DPC-08
                self.drain_other()
            return None
        where = 0 if importance == HIGH else len(self.queue)    # DPC-07
        self.queue.insert(where, (dpc, a, b))
        if importance != LOW or len(self.queue) >= DEPTH:       # DPC-08
            self.requested = True
            if self.irql < DISPATCH and not self.draining:
                self.drain()                                    # DPC-02
        self.see('result', n, 1)
        return None

    def drain_other(self):
        for dpc, a, b in self.waiting:
            self.events[1] += [('dpc', dpc, a, b, 'in order'), ('exit', dpc)]
        self.waiting = []

    def remove(self, n, dpc):
        found = [entry for entry in self.queue + self.waiting
                 if entry[0] == dpc]
        self.see('result', n, len(found))                       # DPC-05
        for queue in (self.queue, self.waiting):
            queue[:] = [entry for entry in queue if entry not in found]

    def raise_(self, n, irql):
        self.irql = irql

    def lower(self, n, irql):
        self.irql = irql
        while self.pending and irql < DEVICE:
            self.isr(self.pending.pop(0))
        if self.requested and self.below():
            self.drain()                                        # DPC-03
        self.wake_up()
        self.see('result', n, 0)

    def set_importance(self, n, dpc, importance):
        self.importance[dpc] = importance

    def set_target(self, n, dpc, processor):
        self.target[dpc] = processor

    def set_inside(self, n, dpc, first):
        self.inside[dpc] = first

    def isr(self, first):
        old, self.irql = self.irql, DEVICE
        self.block(first)
        self.irql = old
        if self.requested and self.below():
            self.drain()                                        # DPC-11

    def interrupt(self, n, first):
        if self.irql >= DEVICE:
            if not self.pending:        # the local APIC keeps one
                self.pending.append(first)
        else:
            self.isr(first)

    def wake(self, n):
        self.woken = True
        self.wake_up()

    def close(self, n):
        self.closed = True

    def open(self, n):
        self.closed = False

    def await_(self, n, dpc, count, bound=0):
        if not bound:
            self.drain_other()

    def busy(self, n, on):
        self.is_busy = on

    def race(self, n, rounds):
        self.see('race', n)


class Lab1(checks.Lab):
    number = 1
    ktest = 'lab_1'
    routines = ('lab1_dpc',)
    operations = checks.operations(
        'reset', 'insert', 'remove', 'raise_', 'lower', 'set_importance',
        'set_target', 'set_inside', 'interrupt', 'wake', 'close', 'open',
        'await_', 'race', 'busy')

    def begin(self, guest):
        self.thread_stack = guest.at.rsp
        self.objects = {}       # {dpc: its address}

    def event(self, stop):
        what, a, b, c = stop.arguments
        if stop.place == 'lab1_dpc':
            return ('dpc', a, b, c, self.surroundings(stop, what, a))
        if what == checks.STEP_SEEN:
            return ('step', a, stop.cr8)
        if what == checks.EXIT:
            return ('exit', a)
        if what == checks.WOKE:
            return ('woke',)
        if self.racing:
            return ('race', a, b, c)
        return ('result', a, b & 0xff)

    def surroundings(self, stop, address, dpc):
        """What is wrong with where a DPC runs (DPC-06); or 'in order'."""
        if self.objects.setdefault(dpc, address) != address:
            return 'with a pointer that is not its KDPC'
        if stop.cr8 != DISPATCH:
            return f'at {level(stop.cr8)}'
        if not stop.eflags & witness.INTERRUPTS:
            return 'with interrupts off'
        if abs(stop.rsp - self.thread_stack) < STACK:
            return 'on the stack of a thread'
        return 'in order'

    def run(self, guest, script, script_at):
        self.racing = any(step[0] == 'race' for step in script.blocks[0])
        super().run(guest, script, script_at)

    def predict(self, script):
        return Model(script).run()

    def same(self, seen, wanted):
        if wanted[0] == 'race':
            return seen[:2] == wanted[:2] and seen[2] == seen[3] > 0
        return seen == wanted

    def text(self, event, script):
        kind, *rest = event
        steps, _ = script.layout()
        if kind == 'step':
            return f'step {rest[0]}, at {level(rest[1])}: ' + call(
                *steps[rest[0]])
        if kind == 'result':
            name = steps[rest[0]][0]
            if name == 'lower':
                return f'step {rest[0]}: KeLowerIrql returns'
            return (f'step {rest[0]}: {call(*steps[rest[0]])} returns '
                    + ('true' if rest[1] else 'false'))
        if kind == 'dpc':
            where = '' if rest[3] == 'in order' else f', {rest[3]}'
            return (f'the routine of D{rest[0]} runs with arguments '
                    f'{rest[1]:#x}, {rest[2]:#x}{where}')
        if kind == 'exit':
            return f'the routine of D{rest[0]} returns'
        if kind == 'race':
            return ('two processors insert one DPC at once: '
                    + (f'{rest[1]} inserts returned true, it ran {rest[2]} '
                       'times' if len(rest) > 1
                       else 'it runs as often as an insert returns true'))
        return 'the thread that was woken runs'


def call(name, *o):
    """A step as the C that it is."""
    texts = {
        'insert': 'KeInsertQueueDpc(D{0}, {1:#x}, {2:#x})',
        'remove': 'KeRemoveQueueDpc(D{0})',
        'raise_': 'KeRaiseIrql({0})', 'lower': 'KeLowerIrql({0})',
        'set_importance': 'KeSetImportanceDpc(D{0}, {1})',
        'set_target': 'KeSetTargetProcessorDpc(D{0}, {1})',
        'set_inside': '(D{0} will do steps {1}... when it runs)',
        'interrupt': 'a device interrupts; its ISR does steps {0}...',
        'wake': 'KeSetEvent: a thread of higher priority may go on',
        'close': 'cli', 'open': 'sti', 'reset': 'all DPCs are fresh',
        'await_': 'wait until D{0} has run', 'race': 'race',
        'busy': 'processor 1 runs a thread, or ({0} = 0) is idle',
    }
    if name in ('raise_', 'lower'):
        o = [level(o[0])]
    if name == 'set_importance':
        o = [o[0], IMPORTANCES[o[1]]]
    return texts[name].format(*o)


# ---- The scripts --------------------------------------------------------------

def some(draw, count):
    return draw.sample(range(DPCS), count)


def runs_in_time(draw):
    """DPC-02 below DISPATCH, DPC-03 at each level from there on: at DISPATCH
    itself in every script, as its border is the one to be missed."""
    for _ in range(4):
        block = [('reset',)]
        for dpc in some(draw, 3):
            at = draw.choice([PASSIVE, APC])
            block += [('raise_', at), insert(draw, dpc), ('lower', PASSIVE)]
        yield Script([block])
        block = [('reset',)]
        for n, dpc in enumerate(some(draw, 3)):
            above = draw.choice([5, 11, SYNCH, 13, TOP]) if n else DISPATCH
            block += [('raise_', above), insert(draw, dpc)]
            if above > DISPATCH and draw.random() < 0.5:
                block += [('lower', DISPATCH)]
            block += [('lower', draw.choice([PASSIVE, APC])),
                      ('lower', PASSIVE)]
        yield Script([block])


def queued_once(draw):
    """DPC-04 and DPC-05: random inserts and removals at DISPATCH."""
    for _ in range(6):
        block = [('reset',), ('raise_', DISPATCH)]
        names = some(draw, 4)
        for _ in range(14):
            dpc = draw.choice(names)
            block.append(insert(draw, dpc) if draw.random() < 0.65
                         else ('remove', dpc))
        block += [('lower', PASSIVE), ('remove', names[0])]
        yield Script([block])


def from_inside(draw):
    """DPC-06: a DPC inserts itself and others while it runs."""
    for _ in range(5):
        one, two, three = some(draw, 3)
        again = [insert(draw, one), insert(draw, one), ('remove', one)]
        if draw.random() < 0.7:
            again.append(insert(draw, one))
        others = [insert(draw, three), ('remove', one), insert(draw, two),
                  ('remove', two)]
        block = [('reset',), ('set_inside', one, ('block', 1)),
                 ('set_inside', two, ('block', 2)), insert(draw, one),
                 ('raise_', DISPATCH), insert(draw, two), insert(draw, one),
                 ('lower', PASSIVE)]
        yield Script([block, again, others])


def in_order(draw):
    """DPC-07: the importance at the insert decides the place."""
    for _ in range(6):
        names = some(draw, 6)
        block = [('reset',)]
        block += [('set_importance', dpc, draw.randrange(4))
                  for dpc in names[1:]]
        block += [('raise_', draw.choice([DISPATCH, TOP]))]
        order = names[:]
        draw.shuffle(order)
        for dpc in order:
            block.append(insert(draw, dpc))
            if draw.random() < 0.3:         # too late for this run
                block.append(('set_importance', dpc, HIGH))
        block += [('lower', PASSIVE)]
        yield Script([block])


def low_ones_wait(draw):
    """DPC-08 on one processor: a Low one starts nothing by itself, until the
    queue is deep or another one does."""
    for _ in range(3):
        names = some(draw, DEPTH)
        block = [('reset',), ('close',)]
        for dpc in names:
            block += [('set_importance', dpc, LOW), insert(draw, dpc)]
        block += [('open',)]
        yield Script([block])
        low, other = some(draw, 2)
        block = [('reset',), ('close',), ('set_importance', low, LOW),
                 insert(draw, low), insert(draw, other), ('open',)]
        yield Script([block])


def interrupts(draw):
    """DPC-11, DPC-13: ISRs insert; what a DPC wakes comes after them all."""
    for _ in range(5):
        one, two, three = some(draw, 3)
        isr = [insert(draw, one), insert(draw, two)]
        wakes = [('wake',), insert(draw, three)]
        held = draw.choice([DISPATCH, SYNCH])
        block = [('reset',), ('set_inside', one, ('block', 2)),
                 ('interrupt', ('block', 1)), ('raise_', held),
                 ('interrupt', ('block', 1)), ('interrupt', ('block', 1))]
        if held > DISPATCH:
            block += [('lower', DISPATCH)]
        block += [('lower', PASSIVE), ('set_inside', three, ('block', 3)),
                  insert(draw, three)]
        yield Script([block, isr, wakes, [('interrupt', ('block', 1))]])


def two_processors(draw):
    """DPC-09, DPC-08: to another processor; and one DPC from both at once."""
    for patience in (LOW, MEDIUM, MEDIUM):
        names = some(draw, 4)
        hurried = names.pop()   # interrupted for: this one's clock is held off
        block = [('reset',), ('set_target', hurried, 1),
                 ('set_importance', hurried, draw.choice([MEDIUM_HIGH, HIGH])),
                 ('close',), insert(draw, hurried), ('await_', hurried, 1),
                 ('remove', hurried), ('open',)]
        for dpc in names:
            block += [('set_target', dpc, 1),
                      ('set_importance', dpc, draw.choice([MEDIUM,
                                                           MEDIUM_HIGH])),
                      insert(draw, dpc), ('await_', dpc, 1)]
        patient, later, _ = names   # not interrupted for: it can be taken back
        block += [('busy', 1), ('set_importance', patient, patience),
                  ('close',), insert(draw, patient),
                  ('await_', patient, 2, PATIENCE), ('remove', patient),
                  insert(draw, later), ('open',), ('await_', later, 2),
                  ('busy', 0)]
        yield Script([block], cpus=2)
    yield Script([[('race', RACE_ROUNDS)]], cpus=2)


LAB = Lab1()
CHECKS = [
    Check('in time', 15, 'DPC-02 DPC-03', 'a DPC runs before the insert '
          'returns, or when the level falls below DISPATCH', runs_in_time, LAB),
    Check('once', 15, 'DPC-04 DPC-05', 'a queued DPC is not queued again; a '
          'removed one does not run', queued_once, LAB),
    Check('inside', 15, 'DPC-06', 'level, stack and interrupts of a routine; '
          'it may queue itself again', from_inside, LAB),
    Check('order', 15, 'DPC-07', 'High to the head, all others to the tail',
          in_order, LAB),
    Check('low', 10, 'DPC-08', 'Low ones wait for others, or for depth',
          low_ones_wait, LAB),
    Check('interrupts', 10, 'DPC-11 DPC-13', 'several interrupts are one run; '
          'threads come after all DPCs', interrupts, LAB),
    Check('processors', 10, 'DPC-08 DPC-09', 'a DPC for another processor '
          'runs there; two at once queue it once', two_processors, LAB, cpus=2),
]
DISK_POINTS = 10
