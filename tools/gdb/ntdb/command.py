"""command.py - the prefix `nt` and what all its commands have in common.

A command is a generator of lines with a docstring that `help nt NAME` prints.
It runs with a processor selected that sees the kernel. Whatever goes wrong in
it is one line: the guest's memory may hold anything.
"""
import gdb

from . import guest

COMMANDS = {}


class Prefix(gdb.Command):
    """The kernel's objects, after WinDbg's commands (`help nt irp` for one).

Addresses are expressions; where a number names an IRP, a thread or a process,
its id will do. Nothing but memory and registers is read, at any stop."""

    def __init__(self):
        super().__init__('nt', gdb.COMMAND_DATA, gdb.COMPLETE_NONE, True)

    def invoke(self, argument, from_tty):
        if argument:
            gdb.write(f'nt: there is no command {argument.split()[0]}; `help '
                      'nt` lists them\n')
        else:
            gdb.execute('help nt')


Prefix()


class Nt(gdb.Command):
    """One command, made of a function."""

    def __init__(self, name, function, completion, words, anywhere, once):
        usage, _, summary = function.__doc__.partition(': ')
        summary, _, rest = summary.partition('\n')
        summary = summary[0].upper() + summary[1:]
        self.__doc__ = f'{summary}\nUsage: {usage}\n{rest}'
        self.name, self.function = name, function
        self.words, self.anywhere, self.once = words, anywhere, once
        if words:           # its own completer, which complete() below is
            self.complete = self.complete_words
            super().__init__(f'nt {name}', gdb.COMMAND_DATA)
        else:
            super().__init__(f'nt {name}', gdb.COMMAND_DATA, completion)

    def complete_words(self, text, word):
        """word: None when gdb only asks which characters end one."""
        return [choice for choice in self.words
                if choice.startswith(word or '')]

    def invoke(self, argument, from_tty):
        if self.once:
            self.dont_repeat()
        try:
            if self.anywhere:
                self.say(argument)
            else:
                with guest.kernel_view():
                    self.say(argument)
        except KeyboardInterrupt:
            gdb.write('Quit\n')
        except guest.Garbage as error:      # of kernel_view
            gdb.write(f'nt {self.name}: {error}\n')

    def say(self, argument):
        try:
            for line in self.function(argument.strip()):
                gdb.write(line + '\n')
        except Exception as error:      # garbage of any kind
            text = str(error).split('\n')[0] or type(error).__name__
            gdb.write(f'nt {self.name}: {text}\n')


def command(name, completion=gdb.COMPLETE_NONE, words=(), anywhere=False,
            once=False):
    """Makes `nt NAME` of a generator of lines. words: all that can follow;
    anywhere: it needs no kernel; once: an empty line does not repeat it."""
    def register(function):
        COMMANDS[name] = function
        Nt(name, function, completion, words, anywhere, once)
        return function
    return register


def value_of(argument):
    """The number that an expression stands for."""
    try:
        return guest.number(gdb.parse_and_eval(argument)) & guest.MASK
    except gdb.error as error:
        raise guest.Garbage(str(error)) from None


def is_id(value):
    """Ids are small, addresses of the kernel are not."""
    return value < 1 << 32
