#!/usr/bin/env python3
"""initrd.py - packs the initrd, a ustar archive: same files, same archive.

initrd.py OUT NAME=PATH...        (such as bin/sh=build/user/sh)

Directories have members of their own: the kernel does not guess them.
"""
import os
import sys
import tarfile


def main(out, pairs):
    members, seen = {}, {}
    for pair in pairs:
        name, path = pair.split('=', 1)
        if name.lower() in seen:        # the case of a name does not matter
            sys.exit(f'initrd: {path} and {seen[name.lower()]} would both be '
                     f'{name}')
        seen[name.lower()] = path
        if not os.path.isfile(path):
            sys.exit(f'initrd: {path} is not a file')
        if len(name) > 99:
            sys.exit(f'initrd: the name {name} is too long')
        members[name] = path
    with tarfile.open(out, 'w', format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted({name[:at] for name in members
                            for at in range(len(name)) if name[at] == '/'}):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        for name, path in sorted(members.items()):
            info = tarfile.TarInfo(name)        # mtime, uid and gid are 0
            info.size = os.path.getsize(path)
            info.mode = 0o755 if name.startswith('bin/') else 0o644
            with open(path, 'rb') as f:
                tar.addfile(info, f)


if __name__ == '__main__':
    main(sys.argv[1], sys.argv[2:])
