"""readme.py - what README.md and docs/ point at is there."""
import re

from .source import Finding, blank, files, line_of, read

# `path:/regex/` in a code span may hold slashes, a bare one may not.
REFERENCE = re.compile(r'`([\w./-]+):/([^`\n]+)/`'
                       r'|(?<![\w`])([\w./-]+\.\w+):'
                       r'/((?:\\.|[^/\\\s])+)/(?!\w)')
LINK = re.compile(r'\]\(\s*<?([^)<>\s]+)>?[^)]*\)'
                  r'|^[ ]{0,3}\[[^\]^]+\]:\s*<?(\S+?)>?\s*$', re.M)
CODE = re.compile(r'^```.*?^```|`[^`\n]*`', re.M | re.S)
EXAMPLE = ('path', 'regex')             # how the text itself explains it


def reference(root, path, regex):
    """What is wrong with one reference, or None."""
    if (path, regex) == EXAMPLE:
        return None
    if not (root / path).is_file():
        return f'{path} does not exist'
    try:
        pattern = re.compile(regex)
    except re.error as error:
        return f'/{regex}/ is no regular expression: {error}'
    if not any(pattern.search(line) for line in read(root / path).split('\n')):
        return f'{path} has no line that matches /{regex}/'
    return None


def link(root, document, target):
    target = re.split(r'[#?]', target)[0]
    if not target or re.match(r'[a-z][a-z0-9+.-]*:|//', target, re.I):
        return None
    base = root if target.startswith('/') else document.parent
    if not (base / target.lstrip('/')).exists():
        return f'the link {target} leads nowhere'
    return None


def check(root):
    documents = [root / 'README.md', *files(root, ['docs'], ('.md',))]
    findings = []
    for document in documents:
        if not document.is_file():
            findings.append(Finding(document.relative_to(root), 1, 'readme',
                                    'does not exist'))
            continue
        text = read(document)
        wrong = []
        for match in REFERENCE.finditer(text):
            path, regex = (group for group in match.groups() if group)
            wrong.append((match.start(), reference(root, path, regex)))
        for match in LINK.finditer(CODE.sub(blank, text)):
            target = match.group(1) or match.group(2)
            wrong.append((match.start(), link(root, document, target)))
        findings += [Finding(document.relative_to(root), line_of(text, at),
                             'readme', what)
                     for at, what in sorted(wrong, key=lambda w: w[0]) if what]
    return findings
