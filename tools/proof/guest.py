"""guest.py - the threads of a guest, read out of its memory by the host.

Where the fields lie comes from the kernel's debug information, through gdb.
"""
import dataclasses
import re
import subprocess

import symbols

STATES = {0: 'new', 1: 'ready', 2: 'running', 4: 'ended', 5: 'waiting'}
WAITING = 5
QUEUE = 4                       # KWAIT_REASON: waits for a packet in a port
REASONS = {0: 'inside the kernel', 1: 'time to pass', 2: 'NtResumeThread',
           3: 'an object', 4: 'a packet in a port'}
MOST_THREADS = 100000           # a list without an end is damaged

FIELDS = {'next': '((ETHREAD *)0)->ThreadListEntry',
          'id': '((ETHREAD *)0)->Tcb.id',
          'state': '((ETHREAD *)0)->Tcb.State',
          'reason': '((ETHREAD *)0)->Tcb.WaitReason',
          'irp': '((ETHREAD *)0)->Tcb.irp_id',
          'switches': '((ETHREAD *)0)->Tcb.ContextSwitches',
          'stack': '((ETHREAD *)0)->Tcb.kernel_rsp',
          'process': '((ETHREAD *)0)->process',
          'name': '((EPROCESS *)0)->ImageFileName'}


@dataclasses.dataclass
class Thread:
    id: int
    program: str
    state: int
    reason: int
    irp: int                    # the request that it works on, or 0
    switches: int
    stack: int

    @property
    def waits(self):
        if self.state != WAITING:
            return STATES.get(self.state, '?')
        return 'waits for ' + REASONS.get(self.reason, '?')


class Guest:
    def __init__(self, machine):
        self.machine = machine
        kernel = str(machine.kernel)
        names = list(FIELDS)
        command = ['gdb', '-nx', '-batch', kernel]
        for name in names:
            command += ['-ex', f'output (unsigned long)&{FIELDS[name]}',
                        '-ex', 'echo \\n']
        command += ['-ex', 'output sizeof(ETHREAD)', '-ex', 'echo \\n']
        out = subprocess.run(command, text=True, capture_output=True)
        numbers = re.findall(r'^\d+$', out.stdout, re.M)
        if len(numbers) != len(names) + 1:
            raise ValueError(f'{kernel} does not say where a thread keeps its '
                             f'state: {out.stderr.strip()[:200]}')
        *offsets, self.size = map(int, numbers)
        self.at = dict(zip(names, offsets))
        found = [entry[0] for entry in symbols.load(kernel)
                 if entry[2] == 'psp_threads']
        if not found:
            raise ValueError(f'{kernel} has no list of its threads')
        self.head = found[0]
        self.programs = {}

    def number(self, raw, name, size):
        return int.from_bytes(raw[self.at[name]:self.at[name] + size],
                              'little')

    def program(self, process):
        if process not in self.programs:
            raw = self.machine.memory(process + self.at['name'], 16)
            self.programs[process] = raw.split(b'\0')[0].decode('latin-1')
        return self.programs[process]

    def threads(self):
        """All that are on the kernel's list."""
        found = []
        raw = self.machine.memory(self.head, 8)
        entry = int.from_bytes(raw, 'little')
        while entry != self.head and len(found) < MOST_THREADS:
            raw = self.machine.memory(entry - self.at['next'], self.size)
            found.append(Thread(
                self.number(raw, 'id', 4),
                self.program(self.number(raw, 'process', 8)),
                self.number(raw, 'state', 1), self.number(raw, 'reason', 1),
                self.number(raw, 'irp', 4), self.number(raw, 'switches', 4),
                self.number(raw, 'stack', 8)))
            entry = self.number(raw, 'next', 8)
        return found
