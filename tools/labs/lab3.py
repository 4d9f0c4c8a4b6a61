"""lab3.py - grades the completion port: random lists of operations, and a
model of NT-SEMANTICS 11.

A port here is the KQUEUE that it is made of. Workers are threads that take
packets, or block elsewhere; one that is back runs on, and counts.
"""
from labs import checks
from labs.checks import Check, Script

WORKERS, BATCH, VALUE_BITS, POLL = 6, 4, 16, 256
SUCCESS, TIMEOUT, ABANDONED = 0, 0x102, 0x80
STACK = 14              # a stack has 1 << STACK bytes, and lies at such a place
MANY = 8                # a limit that is never reached


class Worker:
    def __init__(self):
        self.port = None        # it is associated with
        self.call = 0           # it is blocked in one, for up to so many
        self.blocked = False    # it waits elsewhere

    @property
    def runs(self):
        return not self.call and not self.blocked


class Port:
    def __init__(self, limit):
        self.limit = limit
        self.packets = []
        self.waiters = []       # the newest last


class Model:
    """Does operations and remembers them, with what must come of each."""

    def __init__(self, draw):
        self.draw = draw
        self.workers = [Worker() for _ in range(WORKERS)]
        self.ports = {}
        self.steps = []
        self.due = []           # for each step: [(worker, status, values)]
        self.values = iter(draw.sample(range(1, 1 << VALUE_BITS), 250))

    def running(self, port):
        return sum(w.port is port and w.runs for w in self.workers)

    def step(self, *step):
        self.steps.append(step)
        self.due.append([])

    def back(self, w, status, values=()):
        w.call, w.blocked = 0, False
        self.due[-1].append((self.workers.index(w), status, tuple(values)))

    def take(self, port, count):
        """What a thread that runs and asks gets: nothing above the limit."""
        if self.running(port) > port.limit:
            return []
        values, port.packets = port.packets[:count], port.packets[count:]
        return values

    def hand_out(self, port):
        """IOCP-09 to IOCP-11: the newest waiters, up to the limit."""
        while (port.waiters and port.packets
               and self.running(port) < port.limit):
            w = port.waiters.pop()
            values, count = [port.packets.pop(0)], w.call
            w.call = 0
            values += self.take(port, count - 1)
            self.back(w, SUCCESS, values)

    # ---- Operations

    def create(self, port, limit):
        self.step('create', port, limit)
        self.ports[port] = Port(limit)

    def rundown(self, port):
        self.step('rundown', port)
        closed = self.ports.pop(port)
        for w in closed.waiters:
            self.back(w, ABANDONED)
        for w in self.workers:
            if w.port is closed:
                w.port = None

    def post(self, port):
        value = next(self.values)
        self.step('post', port, value)
        self.ports[port].packets.append(value)
        self.hand_out(self.ports[port])

    def remove(self, n, port, count=1, poll=False):
        self.step('remove', n, port, count | (POLL if poll else 0))
        w, port = self.workers[n], self.ports[port]
        if w.port is not port:
            left, w.port = w.port, port
            if left:
                self.hand_out(left)
        values = self.take(port, count)
        if values:
            self.back(w, SUCCESS, values)
        elif poll:
            self.back(w, TIMEOUT)
        else:
            w.call = count
            port.waiters.append(w)

    def block(self, n):
        self.step('block', n)
        w = self.workers[n]
        w.blocked = True
        if w.port:
            self.hand_out(w.port)

    def release(self, n):
        """IOCP-10: it runs again, limit or not."""
        self.step('release', n)
        self.back(self.workers[n], SUCCESS)

    def apc_post(self, n, port):
        """An APC interrupts a thread, maybe in a queue wait: when that goes on
        it is the newest waiter. An insert into the very queue that it waits
        for releases nobody, for the thread itself looks next."""
        value = next(self.values)
        self.step('apc_post', n, port, value)
        w, port = self.workers[n], self.ports[port]
        port.packets.append(value)
        if w.port is not port or not w.call:
            self.hand_out(port)
        if not w.call:
            return
        count, w.call = w.call, 0
        w.port.waiters.remove(w)
        values = self.take(w.port, count)
        if values:
            self.back(w, SUCCESS, values)
        else:
            w.call = count
            w.port.waiters.append(w)

    # ---- The end of a list

    def finish(self):
        """All ports and workers are as they were before."""
        for port in list(self.ports):
            self.rundown(port)
        for n, w in enumerate(self.workers):
            if w.blocked:
                self.release(n)
        script = Script([self.steps])
        script.due = self.due
        return script

    def some(self, what):
        """The number of a worker of which what is true, or None."""
        found = [n for n, w in enumerate(self.workers) if what(w)]
        return self.draw.choice(found) if found else None


class Lab3(checks.Lab):
    number = 3
    ktest = 'lab_3'
    operations = checks.operations('create', 'rundown', 'post', 'remove',
                                   'block', 'release', 'apc_post')

    def begin(self, guest):
        self.stacks = {}        # {worker: where its stack is}
        self.backs = []

    def event(self, stop):
        what, a, b, c = stop.arguments
        if what == checks.WOKE:
            values = [c >> VALUE_BITS * i & (1 << VALUE_BITS) - 1
                      for i in range(BATCH)]
            if self.stacks.setdefault(a, stop.rsp >> STACK) != \
                    stop.rsp >> STACK:
                a = -1          # another thread says that it is this one
            self.backs.append((a, b, tuple(v for v in values if v)))
            return None         # until all of the step are back
        if what == checks.STEP_SEEN:
            return ('step', a)
        backs, self.backs = sorted(self.backs), []
        return ('result', a, tuple(backs))

    def predict(self, script):
        events = []
        for n, due in enumerate(script.due):
            events += [('step', n), ('result', n, tuple(sorted(due)))]
        return {0: events}

    def text(self, event, script):
        kind, n, *rest = event
        name, *o = script.blocks[0][n]
        what = {
            'create': 'a queue, Q{0}, with the limit {1}',
            'rundown': 'KeRundownQueue(Q{0})',
            'post': 'KeInsertQueue(Q{0}, packet {1})',
            'remove': 'T{0} asks Q{1} for a packet',
            'block': 'T{0} waits for an event',
            'release': 'the event of T{0} is set',
            'apc_post': 'KeInsertQueue(Q{1}, packet {2}) in an APC of T{0}',
        }[name].format(*o)
        if kind == 'step':
            return f'step {n}: {what}'
        return f'step {n}, {what}: ' + (', '.join(
            map(describe, rest[0])) or 'no thread goes on')


def describe(back):
    worker, status, values = back
    if worker < 0:
        return 'a thread says that it is another one'
    texts = {TIMEOUT: 'has none (time-out)', ABANDONED: 'is sent away'}
    if values:
        return f'T{worker} gets ' + ' and '.join(map(str, values))
    return f'T{worker} ' + texts.get(
        status, 'goes on' if status == SUCCESS else f'gets {status:#x}')


# ---- The scripts --------------------------------------------------------------

def order(draw, count=WORKERS):
    return draw.sample(range(WORKERS), count)


def first_in_first_out(draw):
    """IOCP-01, IOCP-02: one consumer, or packets that wait."""
    for _ in range(3):
        m = Model(draw)
        m.create(0, MANY)
        one, two, *_ = order(draw)
        for _ in range(6):
            m.post(0)
        m.remove(one, 0, draw.randrange(1, BATCH))
        m.remove(one, 0, draw.randrange(1, BATCH))
        m.remove(two, 0, BATCH, poll=True)
        m.remove(one, 0, poll=True)
        if m.workers[two].runs:
            m.remove(two, 0, poll=True)
        yield m.finish()


def at_most_so_many(draw):
    """IOCP-09: the limit, from both sides."""
    for _ in range(4):
        m = Model(draw)
        limit = draw.randrange(1, 4)
        m.create(0, limit)
        for n in order(draw):
            m.remove(n, 0)
        for _ in range(limit + 2):
            m.post(0)
        for _ in range(3):      # those who are back ask again
            n = m.some(lambda w: w.runs)
            m.remove(n, 0)
        m.post(0)
        yield m.finish()


def place_given_back(draw):
    """IOCP-10: a thread that blocks makes room; that wakes, exceeds it."""
    for _ in range(4):
        m = Model(draw)
        limit = draw.randrange(1, 3)
        m.create(0, limit)
        for n in order(draw):
            m.remove(n, 0)
        for _ in range(limit + 3):
            m.post(0)
        first = m.some(lambda w: w.runs)
        m.block(first)
        second = m.some(lambda w: w.runs)
        m.block(second)
        m.release(first)        # above the limit from now on
        m.remove(first, 0)
        m.post(0)
        m.release(second)
        while (n := m.some(lambda w: w.runs)) is not None:
            m.block(n)          # down to the limit nobody comes in its place
            m.post(0)
            if len(m.steps) > 40:
                break
        yield m.finish()


def newest_first(draw):
    """IOCP-11: the newest waiter, at once; who asks again needs no switch."""
    for _ in range(3):
        m = Model(draw)
        m.create(0, MANY)
        names = order(draw, 4)
        for n in names:
            m.remove(n, 0, draw.randrange(1, 3))
        m.post(0)
        m.post(0)
        m.remove(names[3], 0)
        m.post(0)
        m.post(0)
        yield m.finish()


def own_wait(draw):
    """An APC of a waiting thread inserts: that thread takes it, or nobody."""
    for _ in range(3):
        m = Model(draw)
        m.create(0, 2)
        names = order(draw, 4)
        for n in names:
            m.remove(n, 0)
        m.apc_post(names[0], 0)                 # the oldest
        m.apc_post(names[1], 0)
        m.apc_post(names[2], 0)                 # one too many
        m.block(names[0])
        m.post(0)
        yield m.finish()


def operate(m):
    """One operation, drawn, of those that are possible now."""
    draw = m.draw
    port, what = draw.randrange(2), draw.randrange(100)
    idle = m.some(lambda w: w.runs)
    blocked = m.some(lambda w: w.blocked)
    if what < 40:
        m.post(port)
    elif what < 72 and idle is not None:
        m.remove(idle, port, draw.randrange(1, BATCH + 1),
                 poll=draw.random() < 0.25)
    elif what < 82 and idle is not None:
        m.block(idle)
    elif what < 90 and blocked is not None:
        m.release(blocked)
    elif what < 97:
        m.apc_post(draw.randrange(WORKERS), port)
    elif what < 99:
        m.rundown(port)
        m.create(port, draw.randrange(1, 4))


def anything(draw, lists=2, operations=50):
    """All rules together, in lists that were drawn."""
    for _ in range(lists):
        m = Model(draw)
        for port in range(2):
            m.create(port, draw.randrange(1, 4))
        for n in order(draw):   # what is drawn may never come to a limit
            m.remove(n, 0)
        for _ in range(4):
            m.post(0)
        for _ in range(operations):
            operate(m)
        yield m.finish()


def on_two_processors(draw):
    yield from anything(draw, lists=1, operations=40)


LAB = Lab3()
CHECKS = [
    Check('in order', 5, 'IOCP-01 IOCP-02', 'packets leave as they came',
          first_in_first_out, LAB),
    Check('limit', 25, 'IOCP-09', 'never more of its threads run than the '
          'queue allows', at_most_so_many, LAB),
    Check('place', 25, 'IOCP-10', 'a thread that blocks gives its place back, '
          'and takes it again', place_given_back, LAB),
    Check('newest', 15, 'IOCP-11', 'the newest waiter gets the packet, at once',
          newest_first, LAB),
    Check('own wait', 10, 'IOCP-11', "an insert from a waiting thread's own "
          'APC releases nobody else', own_wait, LAB),
    Check('anything', 10, 'IOCP-01 IOCP-08 IOCP-09 IOCP-10 IOCP-11 IOCP-12',
          'lists of operations, two queues', anything, LAB),
    Check('processors', 5, 'IOCP-01 IOCP-08 IOCP-09 IOCP-10 IOCP-11',
          'the same on two processors', on_two_processors, LAB, cpus=2),
]
DISK_POINTS = 5
