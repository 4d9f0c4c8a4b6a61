"""shell.py - drives TINT's shell through COM1, as somebody who types does."""
import re

from qemu import Failure

KEPT_PAGES = 4          # that the kernel may keep for the next program
PROMPT = 'tint> '
CTRL_C = '\x03'
# A prompt, at the start of a line; while a line is edited it follows a \r only.
AT_PROMPT = re.compile(rb'(?:\A|\n)' + re.escape(PROMPT.encode()))
COUNT = re.compile(r'(\w+)=(\d+)')


class Shell:
    """The shell of a machine that stands at the prompt or gets there."""

    def __init__(self, machine, bound=180):
        self.machine = machine
        self.bound = bound
        machine.expect(AT_PROMPT, bound)

    def type(self, text):
        self.machine.send(text)

    def until_prompt(self, bound=None):
        """What the guest said up to the next prompt, without that."""
        text = self.machine.expect(AT_PROMPT, bound or self.bound)
        return text[:text.rindex(PROMPT)].replace('\r\n', '\n')

    def run(self, line, bound=None):
        """Runs a line and returns what came of it."""
        self.type(line + '\r')
        text = self.until_prompt(bound)
        _, _, output = text.partition('\n')
        return output

    def start(self, line, what, bound=None):
        """Starts a line and waits for a text of the program's."""
        self.type(line + '\r')
        self.machine.expect('\n')
        return self.machine.expect(what, bound or self.bound)

    def interrupt(self, bound=None):
        """Presses Ctrl-C and returns what came up to the prompt."""
        self.type(CTRL_C)
        return self.until_prompt(bound)

    def counts(self):
        """{name: how many} of what the system has in use (program counts)."""
        said = self.run('counts')
        found = {name: int(n) for name, n in COUNT.findall(said)}
        assert found, self.machine.report('counts printed nothing')
        return found

    def steady(self):
        """What is in use when nothing dead is left: the least of some looks,
        each number for itself. The shell's last handle to a program's thread
        may live on beside that program, on another processor."""
        looks = [self.counts() for _ in range(6)]
        quiet = min(looks, key=lambda look: (look['pool'], -look['pages']))
        return {name: min(look[name] for look in looks)
                for name in quiet} | {'pages': quiet['pages']}

    def comes_back(self, before):
        """Fails unless all is back where it was. Idle frees what died last,
        so that may take some looks; what leaked never comes back. For pages
        to count, more than KEPT_PAGES programs have to run in between."""
        for _ in range(30):
            now = self.counts()
            left = {key: (n, now[key]) for key, n in before.items()
                    if now[key] != n and
                    (key != 'pages' or now[key] < n - KEPT_PAGES)}
            if not left:
                return
        raise Failure(self.machine.report(f'before and now: {left}'))
