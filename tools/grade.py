#!/usr/bin/env python3
"""grade.py - grades an answer to a lab: grade.py [N] [--answer DIR]

Only the files that are handed in are taken from DIR; all else is this tree's.
The result is printed, and written for tools: results.ktap, results.xml (JUnit)
and results.json (Gradescope). The status is 0 for all points, 1 for fewer, 2 if
the answer does not build.
"""
import argparse
import os
import random
import sys
import tempfile
import time

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import lab as trees
import qemu
from labs import build, checks, disk, parts, results, witness

from labs import lab1, lab2, lab3

LABS = {1: lab1, 2: lab2, 3: lab3}


def all_checks(number):
    """The checks of a lab, the cheapest first."""
    return [*LABS[number].CHECKS, disk.check(LABS[number].DISK_POINTS)]


class Run:
    """The checks of one answer, in as few boots as go well."""

    def __init__(self, tree, draw, name, folder):
        self.tree, self.draw, self.folder = tree, draw, folder
        self.name = name
        self.boots = 0
        self.found = {}             # {check's name: (score, text, seconds)}

    def check(self, wanted):
        """Grades these checks; the outcomes in their order."""
        boots = []                  # in the order of the checks
        for check in wanted:
            if check.stage and (check.stage, check.cpus) not in boots:
                boots.append((check.stage, check.cpus))
        for stage, cpus in boots:
            self.scripted([check for check in wanted if
                           (check.stage, check.cpus) == (stage, cpus)],
                          stage, cpus)
        for check in wanted:
            if not check.stage:
                self.timed(check, lambda: disk.run(
                    self.tree, self.draw, f'{self.name}-disk', self.folder))
        return [results.Outcome(check.name, self.found[check.name][0],
                                check.points, check.rules, check.what,
                                *self.found[check.name][1:])
                for check in wanted]

    def timed(self, check, run):
        """Whether run() went well; notes the points."""
        start, text = time.monotonic(), ''
        try:
            run()
        except (checks.Wrong, witness.Ended) as wrong:
            text = results.plain(str(wrong)) or 'no reason given'
        self.note(check, text, start)
        return not text

    def note(self, check, text, start):
        self.found[check.name] = (0 if text else check.points, text,
                                  time.monotonic() - start)
        print(f'  {check.name}: {"no points" if text else "good"}', flush=True)

    def scripted(self, left, stage, cpus):
        """Boots for these checks; anew behind each one that went wrong."""
        places = stage.addresses(self.tree)
        script = places.pop(checks.SCRIPT)
        while left:
            start = time.monotonic()
            try:
                with self.guest(stage, cpus, places) as guest:
                    left = self.on_one_guest(guest, stage, script, left)
            except witness.Ended as end:
                check, *left = left
                self.note(check, results.plain(f'before the first step: {end}'),
                          start)

    def guest(self, stage, cpus, places):
        self.boots += 1
        options = [f'seed={self.draw.getrandbits(60)}', 'then=poweroff']
        if stage.ktest:
            options.append(f'ktest={stage.ktest}')
        return witness.Witness(
            f'{self.name}-{self.boots}', places, kernel=self.tree.checked,
            initrd=self.tree.initrd, cpus=cpus, options=options,
            program=[stage.program or 'true'])

    def on_one_guest(self, guest, stage, script_at, left):
        """The checks that are left when one has gone wrong."""
        stop = guest.next()
        while stop.place != checks.SEE or stop.rdi != checks.READY:
            stop = guest.next()
        stage.begin(guest)
        for n, check in enumerate(left):
            def scripts():
                for script in check.scripts(self.draw):
                    stage.run(guest, script, script_at)
            if not self.timed(check, scripts):
                return left[n + 1:]
        return []


def changed(answer, number):
    """Files of a lab tree that were changed and are not handed in."""
    files = trees.read_note(answer)['files']
    return [name for name, digest in sorted(files.items())
            if name not in parts.FILES[number] and '..' not in name and
            (not (answer / name).is_file()
             or trees.digest(answer / name) != digest)]


def needed(wanted):
    """What has to be built for these checks."""
    products = ['tint-chk.elf', 'initrd.tar']
    return products + (['tint.elf'] if any(not check.stage for check in wanted)
                       else [])


def grade(number, answer, seed, tree, name, only=None):
    """Grades the answer in a folder; tree: build.Tree, which it changes; name:
    of the machines."""
    draw = random.Random(seed)
    wanted = [check for check in all_checks(number)
              if not only or check.name in only]
    notes = [f'{name} was changed, but is not handed in: nobody else will '
             'have it' for name in changed(answer, number)]
    try:
        tree.answer(number, answer)
        tree.refuse_foreign(number)
        tree.make(needed(wanted))
    except build.Broken as broken:
        notes.append(f'It does not build:\n{broken}')
        outcomes = [results.Outcome(check.name, 0, check.points, check.rules,
                                    check.what, 'it does not build')
                    for check in wanted]
        return results.Grade(number, seed, outcomes, notes, built=False)
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(tree, draw, f'grade-{name}', Path(scratch))
        return results.Grade(number, seed, run.check(wanted), notes)


def main():
    parser = argparse.ArgumentParser(
        prog='grade', description=__doc__, usage='make grade N=1|2|3 '
        '[LAB=FOLDER] [OUT=FOLDER] [ONLY=CHECK] [SEED=NUMBER]\n'
        '       tools/grade.py [N] [--answer FOLDER] [--out FOLDER] '
        '[--check CHECK] [--seed NUMBER]',
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('lab', type=int, nargs='?', choices=sorted(LABS),
                        help='which one; a lab tree knows')
    parser.add_argument('--answer', type=Path, default=qemu.ROOT,
                        help='the tree with the answer (this one)')
    parser.add_argument('--check', action='append',
                        help='only this one; may be given several times')
    parser.add_argument('--seed', type=int, help='of an earlier grade')
    parser.add_argument('--out', type=Path,
                        help='where the results go (build/grade/labN)')
    args = parser.parse_args()
    theirs = trees.read_note(args.answer)['lab']
    number = args.lab or theirs
    if theirs and theirs != number:
        parser.error(f'{args.answer} is a tree of lab {theirs}')
    if number not in LABS:
        parser.error('which lab? make grade N=1, 2 or 3')
    if not args.answer.is_dir():
        parser.error(f'{args.answer} is no folder')
    names = [check.name for check in all_checks(number)]
    if set(args.check or ()) - set(names):
        parser.error(f'the checks are: {", ".join(names)}')
    seed = args.seed if args.seed is not None else int.from_bytes(
        os.urandom(6), 'little')
    out = args.out or qemu.BUILD / 'grade' / f'lab{number}'
    print(f'Building lab {number} in a tree of the grader\'s own ...',
          flush=True)
    done = grade(number, args.answer, seed,
                 build.Tree(qemu.BUILD / 'grade' / 'tree'), out.name,
                 args.check)
    results.write(done, out)
    print(results.terminal(done))
    print(f'For tools: {out}/' + ', '.join(results.WRITERS))
    sys.exit(done.status)


if __name__ == '__main__':
    main()
