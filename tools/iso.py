#!/usr/bin/env python3
"""iso.py - makes a CD image that boots TINT through GRUB.

iso.py OUT --kernel ELF --initrd TAR [--option K=V]... [-- PROGRAM ARG...]

boot/grub.cfg is the template; its mark @CMDLINE@ is replaced by the options
and the program.
"""
import argparse
import re
import shutil
import subprocess
import sys
import tempfile

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDED = {'grub-mkrescue': 'grub-common', 'xorriso': 'xorriso',
          'mformat': 'mtools'}
GRUB_PC = Path('/usr/lib/grub/i386-pc')


def check_tools():
    missing = [package for tool, package in NEEDED.items()
               if not shutil.which(tool)]
    if not GRUB_PC.is_dir():
        missing.append('grub-pc-bin')
    if missing:
        sys.exit('iso: `make setup` installs what is missing: '
                 + ' '.join(missing))


def grub_quote(word):
    """GRUB reads '...' as it stands, and itself escapes for the kernel."""
    return "'" + word.replace("'", "'\\''") + "'"


def make(out, kernel, initrd, words, template=ROOT / 'boot/grub.cfg'):
    """Writes the image out; words is the kernel command line, word by word.
    initrd may be None: then the module's line is left out."""
    check_tools()
    line = ' '.join(grub_quote(word) for word in words)
    config = re.sub(r'(?m)^(\s*multiboot2\b.*)@CMDLINE@',
                    lambda match: match.group(1) + line,
                    Path(template).read_text())
    if not initrd:
        config = re.sub(r'(?m)^\s*module2\b.*\n', '', config)
    with tempfile.TemporaryDirectory() as folder:
        boot = Path(folder) / 'boot'
        (boot / 'grub').mkdir(parents=True)
        (boot / 'grub/grub.cfg').write_text(config)
        shutil.copy(kernel, boot / 'tint.elf')
        if initrd:
            shutil.copy(initrd, boot / 'initrd.tar')
        done = subprocess.run(
            ['grub-mkrescue', '-d', str(GRUB_PC), '-o', str(out), folder],
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f'iso: grub-mkrescue failed\n{done.stdout}')


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('out')
    parser.add_argument('--kernel', required=True)
    parser.add_argument('--initrd')
    parser.add_argument('--option', action='append', default=[])
    words = sys.argv[1:]
    end = words.index('--') if '--' in words else len(words)
    args = parser.parse_args(words[:end])
    make(args.out, args.kernel, args.initrd,
         [*args.option, '--', *words[end + 1:]])


if __name__ == '__main__':
    main()
