"""checks.py - what a lab's grade is made of: scripts, what a right kernel does
with them, and the comparison with what this one did.

A script is drawn when the grade is, and written into the guest's memory once
the guest is ready for it. What must happen is computed here, by a model of the
rules; what does happen is seen by a Witness. So there is nothing to print that
would help: to show the right events in the right order, with the processor at
the right level on the right stack, is to have solved the lab.
"""
import dataclasses
import struct

from collections.abc import Callable

from labs import witness

STEP = struct.Struct('<4Q')
READY, STEP_SEEN, RESULT, EXIT, WOKE = range(1, 6)      # probe.h
END = 0
SEE = 'probe_see'
SCRIPT = 'probe_script'
SHOWN = 4           # events before the first difference


class Wrong(Exception):
    """The kernel did something else; the text says what, for a student."""


@dataclasses.dataclass
class Script:
    """Blocks of steps (name, a, b, c). The first block is run; others are run
    by a step that names them, as ('block', number) for an operand."""
    blocks: list
    cpus: int = 1

    def layout(self):
        """(all steps in their places, where each block starts)."""
        starts, at = [], 0
        for block in self.blocks:
            starts.append(at)
            at += len(block) + 1
        steps = []
        for block in self.blocks:
            for name, *operands in block:
                steps.append((name, *(starts[o[1]] if isinstance(o, tuple)
                                      else o for o in operands)))
            steps.append(('end',))
        return steps, starts


def argument(draw):
    return draw.getrandbits(62) | 1


def insert(draw, what):
    """The step that queues a DPC or an APC."""
    return ('insert', what, argument(draw), argument(draw))


class Interpreter:
    """Runs a script on a model of the rules, which has a method for each kind
    of step; run() returns what must be seen, processor by processor."""

    def __init__(self, script):
        self.steps, self.starts = script.layout()
        self.events = {0: [], 1: []}

    def run(self):
        self.block(0)
        return self.events

    def see(self, *event):
        self.events[0].append(event)

    def block(self, n):
        while self.steps[n][0] != 'end':
            name, *operands = self.steps[n]
            self.step(n, getattr(self, name), operands)
            n += 1


@dataclasses.dataclass
class Check:
    """One line of the grade."""
    name: str
    points: int
    rules: str                  # of docs/NT-SEMANTICS.md
    what: str                   # in words
    scripts: Callable           # (random) -> [Script]
    stage: object = None        # the Lab that runs them
    cpus: int = 1


class Lab:
    """How scripts of one kind are encoded, predicted and compared."""
    number = 0
    ktest = ''                  # the in-kernel test that runs the scripts, or
    program = ''                # the ring-3 program
    routines = ()               # watched besides probe_see
    operations = {}             # {name: number} of steps

    def encode(self, script):
        steps, _ = script.layout()
        return b''.join(
            STEP.pack(self.operations.get(name, END),
                      *(v & (1 << 64) - 1
                        for v in (*operands, 0, 0, 0)[:3]))
            for name, *operands in steps)

    def begin(self, guest):
        """Called when the guest is ready for the first script."""

    def event(self, stop):
        """The event that a stop is, as a tuple; None: wait for more."""
        raise NotImplementedError

    def predict(self, script):
        """The events that must come, in order; for each processor its own."""
        raise NotImplementedError

    def text(self, event, script):
        """An event in words."""
        return str(event)

    # ---- One script

    def addresses(self, tree):
        """{name: address} of what is watched, and of the script."""
        elf = tree.build / 'user' / self.program if self.program else \
            tree.checked
        return witness.addresses(elf, [SEE, SCRIPT, *self.routines])

    def run(self, guest, script, script_at):
        """Runs a script on a guest that is ready; raises Wrong."""
        guest.write(script_at, self.encode(script) + STEP.pack(0, 0, 0, 0))
        seen = []
        while True:
            try:
                stop = guest.next()
            except witness.Ended as end:
                raise Wrong(self.explain(script, seen, str(end))) from None
            if stop.place == SEE and stop.rdi == READY:
                break
            event = self.event(stop)
            if event is None:
                continue
            seen.append((stop.cpu, event))
            wanted = self.predict(script)
            mine = [event for cpu, event in seen if cpu == stop.cpu]
            due = wanted.get(stop.cpu, [])
            if len(mine) > len(due) or not self.same(mine[-1],
                                                     due[len(mine) - 1]):
                raise Wrong(self.explain(script, seen))
        for cpu, due in self.predict(script).items():
            if len([1 for at, _ in seen if at == cpu]) < len(due):
                raise Wrong(self.explain(script, seen, cpu=cpu))

    def same(self, seen, wanted):
        return seen == wanted

    def explain(self, script, seen, why='', cpu=None):
        """The events up to the first difference, and what was due."""
        if cpu is None:
            cpu = seen[-1][0] if seen else 0
        mine = [event for at, event in seen if at == cpu]
        due = self.predict(script).get(cpu, [])
        good = 0
        while good < min(len(mine), len(due)) and self.same(mine[good],
                                                            due[good]):
            good += 1
        lines = [self.text(event, script) for event in mine[:good]]
        if len(lines) > SHOWN:
            lines = [f'({len(lines) - SHOWN} events before)', *lines[-SHOWN:]]
        next_due = (self.text(due[good], script) if good < len(due)
                    else 'nothing more in this script')
        lines.append(f'DUE:  {next_due}')
        lines.append('SEEN: ' + (why or (self.text(mine[good], script)
                                         if good < len(mine)
                                         else 'the script ended')))
        return '\n'.join(lines)


def operations(*names):
    return {name: n for n, name in enumerate(names, 1)}
