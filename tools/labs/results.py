"""results.py - one grade, written for people and for three kinds of tools."""
import dataclasses
import json

from xml.etree import ElementTree

from labs import parts

TEXT = 6            # lines of an explanation on the terminal


@dataclasses.dataclass
class Outcome:
    """What came of one check."""
    name: str
    score: int
    points: int
    rules: str
    what: str
    text: str = ''          # why points are missing
    seconds: float = 0

    @property
    def passed(self):
        return self.score == self.points


@dataclasses.dataclass
class Grade:
    lab: int
    seed: int
    outcomes: list
    notes: list             # for whoever reads it, without points
    built: bool = True

    @property
    def score(self):
        return sum(outcome.score for outcome in self.outcomes)

    @property
    def points(self):
        return sum(outcome.points for outcome in self.outcomes)

    @property
    def status(self):
        """Of the process: 0 all, 1 not all, 2 it does not even build."""
        return 2 if not self.built else int(self.score < self.points)


def terminal(grade):
    lines = [f'Lab {grade.lab}, {parts.TITLES[grade.lab]}', '']
    for outcome in grade.outcomes:
        lines.append(f'  {outcome.score:>3} of {outcome.points:<3} '
                     f'{outcome.name:<11} {outcome.rules}')
        if outcome.text and grade.built:
            lines += ['             ' + line for line in
                      [outcome.what + ':', *outcome.text.splitlines()]]
    lines += [f'  {grade.score:>3} of {grade.points}', '', *grade.notes,
              f'The scripts were drawn with SEED={grade.seed}.']
    return '\n'.join(lines)


def ktap(grade):
    lines = ['KTAP version 1', f'1..{len(grade.outcomes)}']
    for n, outcome in enumerate(grade.outcomes, 1):
        lines += [f'# {line}' for line in outcome.text.splitlines()]
        lines.append(f'{"ok" if outcome.passed else "not ok"} {n} - '
                     f'lab{grade.lab}.{outcome.name.replace(" ", "_")} # '
                     f'{outcome.score}/{outcome.points} points, '
                     f'{outcome.rules}')
    return '\n'.join(lines) + '\n'


def junit(grade):
    failed = sum(not outcome.passed for outcome in grade.outcomes)
    seconds = sum(outcome.seconds for outcome in grade.outcomes)
    root = ElementTree.Element('testsuites')
    suite = ElementTree.SubElement(
        root, 'testsuite', name=f'lab{grade.lab}',
        tests=str(len(grade.outcomes)), failures=str(failed), errors='0',
        skipped='0', time=f'{seconds:.2f}')
    for outcome in grade.outcomes:
        case = ElementTree.SubElement(
            suite, 'testcase', classname=f'tint.lab{grade.lab}',
            name=outcome.name, time=f'{outcome.seconds:.2f}')
        if not outcome.passed:
            failure = ElementTree.SubElement(
                case, 'failure', message=outcome.what,
                type=outcome.rules or 'build')
            failure.text = plain(outcome.text)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding='unicode',
                                xml_declaration=True) + '\n'


def gradescope(grade):
    tests = [{'name': f'{outcome.name}: {outcome.what}', 'number': str(n),
              'score': outcome.score, 'max_score': outcome.points,
              'status': 'passed' if outcome.passed else 'failed',
              'output': plain(outcome.text), 'output_format': 'text',
              'tags': outcome.rules.split(), 'visibility': 'visible'}
             for n, outcome in enumerate(grade.outcomes, 1)]
    return json.dumps({
        'output': '\n'.join([f'Lab {grade.lab}, {parts.TITLES[grade.lab]}',
                             *grade.notes]),
        'output_format': 'text', 'stdout_visibility': 'hidden',
        'visibility': 'visible',
        'execution_time': round(sum(o.seconds for o in grade.outcomes)),
        'extra_data': {'lab': grade.lab, 'seed': grade.seed},
        'tests': tests}, indent=1) + '\n'


def plain(text):
    """Without what XML cannot hold: a guest may print anything."""
    return ''.join(c if c == '\n' or c == '\t' or ' ' <= c < '\ud800'
                   else '?' for c in text)


WRITERS = {'results.ktap': ktap, 'results.xml': junit,
           'results.json': gradescope}


def write(grade, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, writer in WRITERS.items():
        (folder / name).write_text(writer(grade))
