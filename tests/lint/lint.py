#!/usr/bin/env python3
"""lint.py - runs the house rules over the tree: lint.py [--root DIR] [NAME...]

Without names all lints run. Each finding is one line `path:line: lint: text`;
warnings say so and do not count. The exit status is 0 only without findings.
"""
import argparse
import sys
from pathlib import Path

from lints import (contracts, format, headers, layers, names, readme, rules,
                   size, symbols)

LINTS = {
    'layers': layers.check,        # who includes whom
    'symbols': symbols.check,      # who calls whom, after compiling
    'names': names.check,          # nt_names.txt, prefixes, NT's type names
    'contracts': contracts.check,  # IRQL:, ASSERT_IRQL, NT:
    'headers': headers.check,      # each header compiles alone
    'readme': readme.check,        # path:/regex/ references and links
    'rules': rules.check,          # docs/RULES.md, made from the tests
    'size': size.check,            # the gates of the code size
    'format': format.check,        # tabs, columns, blanks, file heads
}


def run(root, names=()):
    """Returns the findings of the lints called names (default: all)."""
    findings = []
    for name in names or LINTS:
        findings += LINTS[name](Path(root))
    return findings


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--root', type=Path,
                        default=Path(__file__).resolve().parents[2])
    parser.add_argument('names', nargs='*', metavar='NAME',
                        help='one of: ' + ' '.join(LINTS))
    parser.add_argument('--write-rules', action='store_true',
                        help=f'write {rules.TABLE} anew, and no more')
    args = parser.parse_args()
    if args.write_rules:
        (args.root / rules.TABLE).write_text(rules.text(args.root))
        return 0
    unknown = [name for name in args.names if name not in LINTS]
    if unknown:
        parser.error('no lint is called ' + ' '.join(unknown))

    findings = run(args.root, args.names)
    for finding in findings:
        print(finding)
    if args.names == ['size']:
        print(size.table(args.root))
    errors = sum(not finding.warning for finding in findings)
    print(f'lint: {len(args.names or LINTS)} run, {errors} findings, '
          f'{len(findings) - errors} warnings')
    return 1 if errors else 0


if __name__ == '__main__':
    sys.exit(main())
