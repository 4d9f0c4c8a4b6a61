"""ktap.py - reads KTAP, the form in which the guest reports on COM2."""
import re

LINE = re.compile(r'^\s*(ok|not ok) \d+ -? ?([^\s#]+)(.*)$', re.M)


def results(text):
    """{name: (passed, skipped, what was said about it)}; the lines in front
    of a result belong to it."""
    found, start = {}, 0
    for match in LINE.finditer(text):
        word, name, rest = match.groups()
        found[name] = (word == 'ok', '# SKIP' in rest.upper(),
                       text[start:match.end()].strip())
        start = match.end()
    return found
