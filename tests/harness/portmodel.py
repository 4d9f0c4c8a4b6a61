"""portmodel.py - completion ports as docs/NT-SEMANTICS.md has them, for
comparison with what TINT's did.

The program portlist writes down each operation and what each worker got of
it; replay() reads that, does the same on a model, and says where the two
differ. The model knows nothing of the kernel's code, only of the rules:
packets leave in order (IOCP-02), at most `limit` of a port's threads run
(IOCP-09), one that blocks elsewhere gives its place back and takes it again
without asking (IOCP-10), the newest waiter gets a packet, and gets it at once
(IOCP-11), waiters of a closed port return (IOCP-12), only an alertable call
runs APCs (IOCP-13), whether packet or APC comes first depends on whether the thread
has taken from this port before (IOCP-14), and a thread that ends gives its
place back.
"""
import dataclasses

SUCCESS, USER_APC, TIMEOUT, ABANDONED = 0, 0xC0, 0x102, 0x80


class Mismatch(Exception):
    pass


@dataclasses.dataclass
class Call:
    """A worker in a call that waits for packets."""
    count: int
    alertable: bool


@dataclasses.dataclass(eq=False)     # two are never the same one
class Worker:
    port: object = None         # it is associated with
    call: Call = None           # it is blocked in
    blocked: bool = False       # it waits elsewhere
    apcs: int = 0               # queued and not run

    @property
    def runs(self):
        return not self.call and not self.blocked


class Port:
    def __init__(self, limit):
        self.limit = limit
        self.packets = []
        self.waiters = []       # the newest last


class Model:
    def __init__(self, processors):
        self.processors = processors
        self.workers = {}
        self.ports = {}
        self.results = []       # of the present operation

    def worker(self, n):
        return self.workers.setdefault(n, Worker())

    def running(self, port):
        return sum(w.port is port and w.runs for w in self.workers.values())

    def back(self, w, status, values=()):
        """A call is over."""
        n = next(n for n, each in self.workers.items() if each is w)
        apcs = 0
        if status == USER_APC:
            apcs, w.apcs = w.apcs, 0
        self.results.append((n, status, apcs, *values))

    def hand_out(self, port):
        """Lets waiters go while there are packets and places for them."""
        while (port.waiters and port.packets
               and self.running(port) < port.limit):
            w = port.waiters.pop()
            call, w.call = w.call, None
            values = [port.packets.pop(0)]
            while (port.packets and len(values) < call.count
                   and self.running(port) <= port.limit):
                values.append(port.packets.pop(0))
            self.back(w, SUCCESS, values)

    # ---- The operations

    def create(self, port, limit):
        self.ports[port] = Port(limit or self.processors)

    def close(self, port):
        closed = self.ports.pop(port)
        for w in closed.waiters:
            w.call = None
            self.back(w, ABANDONED)
        for w in self.workers.values():
            if w.port is closed:
                w.port = None

    def post(self, port, value):
        self.ports[port].packets.append(value)
        self.hand_out(self.ports[port])

    def remove(self, n, port, count, alertable, for_ever):
        w, port = self.worker(n), self.ports[port]
        if w.port is not port:
            if alertable and w.apcs:
                return self.back(w, USER_APC)
            left, w.port = w.port, port
            if left:
                self.hand_out(left)
        values = []
        if self.running(port) <= port.limit:
            values, port.packets = port.packets[:count], port.packets[count:]
        if values:
            return self.back(w, SUCCESS, values)
        if alertable and w.apcs:
            return self.back(w, USER_APC)
        if not for_ever:
            # A moment's wait gives the place back and takes it again; with a
            # packet there another waiter would have it by now.
            w.blocked = True
            self.hand_out(port)
            w.blocked = False
            return self.back(w, TIMEOUT)
        w.call = Call(count, alertable)
        port.waiters.append(w)
        self.hand_out(port)

    def block(self, n):
        w = self.worker(n)
        w.blocked = True
        if w.port:
            self.hand_out(w.port)

    def release(self, n):
        w = self.worker(n)
        w.blocked = False
        self.back(w, SUCCESS)

    def apc(self, n):
        w = self.worker(n)
        w.apcs += 1
        if w.call and w.call.alertable:
            w.port.waiters.remove(w)
            w.call = None
            self.back(w, USER_APC)

    def kill(self, n):
        w = self.workers.pop(n, None)
        if w and w.port:
            if w.call:
                w.port.waiters.remove(w)
            self.hand_out(w.port)

    def depth(self, port, seen):
        if seen != len(self.ports[port].packets):
            raise Mismatch(f'{seen} packets queued, '
                           f'not {len(self.ports[port].packets)}')


def lists(text):
    """{seed: [(operation, [result])]} of what a portlist wrote down; only
    lists that came to their end."""
    found, name, operations = {}, None, []
    for line in text.splitlines():
        words = line.split()
        if line.startswith('list '):
            name, operations = int(words[1]), []
        elif line.startswith('end ') and name is not None:
            found[name] = operations
            name = None
        elif line.startswith('  got '):
            n, status, apcs, *values = words[1:]
            operations[-1][1].append((int(n), int(status, 16), int(apcs),
                                      *map(int, values)))
        elif words:
            operations.append((line, []))
    return found


def replay(operations, processors):
    """Does the same on the model, with so many processors; the number of
    results that were compared. Raises Mismatch, with the operations up to the
    difference."""
    model, compared = Model(processors), 0
    for n, (line, got) in enumerate(operations):
        name, *arguments = line.split()
        model.results = []
        try:
            getattr(model, name)(*map(int, arguments))
            # Several may come back from one operation, in any order.
            if sorted(model.results) != sorted(got):
                raise Mismatch(f'got {sorted(got)}, '
                               f'not {sorted(model.results)}')
        except Mismatch as difference:
            done = '\n'.join(f'{text}  -> {results}' for text, results
                             in operations[max(0, n - 30):n + 1])
            raise Mismatch(f'operation {n}, {line!r}: {difference}\n'
                           f'{done}') from None
        compared += len(got)
    return compared
