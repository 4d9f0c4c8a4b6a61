"""tools/proof - is it true that nobody waits? Judged from outside.

  make proof                             both buses, 1, 2 and 4 processors, one
                                         write and 1,000 in flight
  make proof DISK=nvme CPUS=2 WRITES=1   only these
  make proof ARGS='nothread --threads'   another program; --writes is added
                                         unless it is there
  make proof KERNEL=path/to/tint.elf     another kernel

The kernel is not asked. A write is held at the disk; QEMU logs each block of
guest code that it executes, wherever it lies, and each event of the disk; a
plugin of our own counts instructions, without any filter; and the host says
how long it ran the virtual processors. Then the guest's memory is read: which
threads are there, and what is each doing?

Behind all that come the controls, unless another program or kernel was asked
for: kernels and programs of which a verdict must fail.

Two verdicts: how many instructions ran between the halt of the last processor
and the disk's interrupt, and how many threads the writes held. Both must be 0.
The status is 0 if all verdicts are, and no control's.
"""
import os
import sys

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import qemu

from proof import case

BUSES, CPUS, WRITES = ['ide', 'nvme'], [1, 2, 4], [1, 1000]
WIDE = 79
# What must fail: the kernel that cheats (tests/proof), or the program.
CONTROLS = [
    ('tick', ['nothread'], 'a kernel with a periodic tick'),
    ('poll', ['nothread'], 'a kernel that polls'),
    ('hidden', ['nothread'], 'one that hides its ticks from its own trace'),
    (None, ['true'], 'no I/O at all'),
    (None, ['nothread', '--threads'], 'a program with a thread for each write'),
]
CONTROL_WRITES = 20
PLACES = {'--size', '--offset', '--disk'}       # other blocks than expected


def plural(number, what):
    return f'{number:,} {what}' + ('' if number == 1 else 's')


def numbers(name, default):
    """What a variable of make says: a number, or else the default list."""
    text = os.environ.get(name) or ''
    if not text:
        return default
    if not text.isdigit() or not int(text):
        sys.exit(f'proof: {name}={text} is not a number')
    return [int(text)]


def tell(out, cpus, writes):
    """One outcome, for somebody who has never seen the kernel."""
    f = out.flight
    every = 'on the processor' if cpus == 1 else f'on all {cpus} processors'
    if out.nothing_ran:
        print(f'  in flight {f.seconds:.2f} s; guest instructions executed '
              f'between the halt and\n  the interrupt: 0, {every}; threads '
              f'held by the {plural(writes, "write")}: {out.held}')
    else:
        print('  NOT PROVED:')
        for fault in out.faults:
            print(f'    - {fault}')
    if not f:
        return
    if f.quiet and f.end:
        print(f'    handed over in {f.quiet - f.start:.2f} s; then all halted '
              f'for {f.halted:.2f} s')
        print(f"    executed meanwhile:  QEMU's log {plural(len(f.ran), 'block')}"
              f'; plugin {plural(f.counted, "instruction")};\n'
              f'                         host {out.host * 1000:.1f} ms of '
              f'{out.host_for:.2f} s; processors woken {f.woken}')
        print('    the next timer of a processor: '
              + ('none is armed' if out.timer is None
                 else f'in {out.timer:.1f} s'))
        print(f'    writes not on the disk meanwhile: {out.absent:,}; there '
              f'afterwards: {out.present:,}')
    if out.held is None:
        return
    print(f'    {plural(len(out.threads), "thread")} in the machine; switches '
          f'of threads from the first write to the halt: {out.switches:,}')
    for thread in (out.holders or out.threads)[:4]:
        works = f', works on IRP {thread.irp}' if thread.irp else ''
        print(f'      thread {thread.id}, {thread.program}: {thread.waits}'
              f'{works}')
    if out.held:
        print(f'  THREADS ARE HELD: {out.held:,}, by '
              f'{plural(writes, "write")}')


def program(writes):
    """The program's words, and how many writes it makes."""
    words = qemu.words(os.environ.get('ARGS') or 'nothread')
    if '--writes' in words[:-1]:
        text = words[words.index('--writes') + 1]
        return words, int(text) if text.isdigit() else writes
    if words[0] == 'nothread':
        words += ['--writes', str(writes)]
    return words, writes


def control(cheat, words, bus):
    """Why a verdict fails that must; None if none does."""
    writes = CONTROL_WRITES if '--threads' in words else 1
    kernel = qemu.BUILD / (f'cheats/{cheat}.elf' if cheat else 'tint.elf')
    if words[0] == 'nothread':
        words = [*words, '--writes', str(writes)]
    out = case.Case(kernel, words, bus, 1, writes, exact=len(words) > 1,
                    name=f'control-{cheat or words[0]}').run()
    if out.faults:
        return out.faults[0]
    return f'{plural(out.held, "thread")} held' if out.held else None


def run_controls(bus):
    """Returns how many were not caught."""
    print('\n--- controls: here a verdict must fail '.ljust(WIDE + 1, '-'))
    missed = 0
    for cheat, words, what in CONTROLS:
        why = control(cheat, words, bus)
        missed += why is None
        print(f'  {what}:\n    '
              + (f'caught: {why}' if why else 'NOT CAUGHT'), flush=True)
    return missed


def main():
    if sys.argv[1:]:
        print(__doc__)
        sys.exit(0 if sys.argv[1] in ('-h', '--help') else 2)
    kernel = Path(os.environ.get('KERNEL') or qemu.BUILD / 'tint.elf')
    for path in (kernel, qemu.BUILD / 'initrd.tar', case.PLUGIN):
        if not path.exists():
            sys.exit(f'proof: {path} is not there: run make first')
    bus = os.environ.get('DISK')
    if bus not in (None, '', *BUSES):
        sys.exit(f'proof: DISK is ide or nvme, not {bus}')
    given = '--writes' in (os.environ.get('ARGS') or '')
    failed = count = 0
    for bus in [bus] if bus else BUSES:
        for cpus in numbers('CPUS', CPUS):
            for wanted in numbers('WRITES', [1] if given else WRITES):
                words, writes = program(wanted)
                title = (f'--- {bus}, {plural(cpus, "processor")}, '
                         f'{plural(writes, "write")} ')
                print(title.ljust(WIDE, '-'), flush=True)
                out = case.Case(
                    kernel, words, bus, cpus, writes,
                    options=qemu.words(os.environ.get('KOPTS') or ''),
                    mem=os.environ.get('MEM') or '256M',
                    name=f'{bus}-{cpus}-{writes}',
                    exact=words[0] == 'nothread' and not PLACES & set(words)
                ).run()
                tell(out, cpus, writes)
                sys.stdout.flush()
                count += 1
                failed += not (out.nothing_ran and out.nobody_held)
    missed = (0 if os.environ.get('KERNEL') or os.environ.get('ARGS')
              else run_controls(bus))
    print(f'\n{plural(count, "machine")} looked at, '
          + ('every verdict is 0: there was no thread, and nothing ran.'
             if not failed else f'{failed} NOT as claimed.'))
    if missed:
        print(f'{plural(missed, "control")} NOT CAUGHT: this proves nothing.')
    sys.exit(bool(failed or missed))


if __name__ == '__main__':
    try:
        main()
    except (qemu.Failure, ValueError) as error:
        sys.exit(f'proof: {error}')
    except BrokenPipeError:             # nobody reads on, as behind `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit('proof: stopped')
