#!/usr/bin/env python3
"""compdb.py - writes compile_commands.json, by which clangd and other tools
know how each file is compiled: compdb.py OUT COMMAND FILE... [-- COMMAND FILE...]
"""
import json
import os
import shlex
import sys


def groups(words):
    """(command, files) of each group between `--`."""
    while words:
        end = words.index('--') if '--' in words else len(words)
        if end:
            yield words[0], words[1:end]
        words = words[end + 1:]


def entries(words):
    for command, files in groups(words):
        for file in files:
            yield {'directory': os.getcwd(), 'file': file,
                   'arguments': [*shlex.split(command), '-c', file]}


def main():
    with open(sys.argv[1], 'w') as out:
        json.dump(list(entries(sys.argv[2:])), out, indent=1)
        out.write('\n')


if __name__ == '__main__':
    main()
