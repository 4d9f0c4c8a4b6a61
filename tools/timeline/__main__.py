"""tools/timeline - runs a program and draws what the kernel did meanwhile.

  make trace                         nothread, on a disk slowed down for the eye
  make trace ARGS='sh -c "ps; ps"'   another program
  python3 tools/timeline --from FILE draws a recording that is there already

The machine and its options are those of `make run` (ARGS KOPTS CPUS MEM DISK
SPEED BUILD); the kernel gets trace=all, unless KOPTS says another trace=, and
writes its records to port 0xe9, from where QEMU puts them into trace.bin.
Three files come of them: trace.json for Perfetto, trace.html, one page that
needs no network, and trace.svg.
"""
import argparse
import os
import sys

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import qemu
import run

from timeline import chrome, model, page, stream, svg


PICTURES = {'trace.html': 'open it in a browser',
            'trace.json': 'open it at https://ui.perfetto.dev',
            'trace.svg': 'a picture for a page or a slide'}


def record(path):
    """Runs the program that the environment names; returns its status."""
    path.unlink(missing_ok=True)
    os.environ['ARGS'] = os.environ.get('ARGS') or 'nothread'
    options = qemu.words(os.environ.get('KOPTS') or '')
    if not any(option.startswith('trace=') for option in options):
        options.append('trace=all')
    os.environ['KOPTS'] = ' '.join(qemu.escape(word) for word in options)
    own = path.with_name(f'trace-{os.getpid()}.bin')    # others run, too
    try:
        status = run.run(False, qemu.debugcon(own))
        if own.exists():
            own.replace(path)
        return status
    finally:
        own.unlink(missing_ok=True)


def count(number, what):
    return f'{number:,} {what}' + ('' if number == 1 else 's')


def summary(timeline):
    """What a person should know about this recording."""
    recording = timeline.recording
    disk = sum(len(irps) for irps in timeline.disks.values())
    out = [f'{count(len(recording.records), "record")} of '
           f'{count(len(timeline.cpus), "processor")}, '
           f'{count(disk, "request")} to disks, '
           f'{timeline.us(timeline.end) / 1e6:.3f} s']
    quiet = sum(end - start for start, end in timeline.gaps)
    out.append(f'{quiet / recording.frequency:.3f} s of it only a disk was '
               'busy: every processor was halted')
    out.append('no record was lost' if not recording.missing else
               f'LOST: {count(recording.missing, "record")}; what the picture '
               'shows there is incomplete')
    if recording.cut:
        out.append('CUT: the recording ends in the middle')
    pairs, backwards, bound = timeline.agreement()
    if bound is not None:
        out.append(f"the processors' clocks agree within {bound:.0f} us, by "
                   f'{pairs:,} wake-ups across processors, {backwards} of '
                   'them backwards')
    return out


def draw(recorded, folder):
    timeline = model.Timeline(stream.read(recorded))
    folder.mkdir(parents=True, exist_ok=True)
    chrome.write(timeline, folder / 'trace.json')
    (folder / 'trace.html').write_text(page.render(timeline,
                                                   summary(timeline)))
    (folder / 'trace.svg').write_text(svg.render(timeline))
    for line in summary(timeline):
        print(f'trace: {line}')
    for name, what in PICTURES.items():
        print(f'  {os.path.relpath(folder / name)}  {what}')


def main():
    parser = argparse.ArgumentParser(
        prog='timeline', description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--from', dest='source', type=Path, metavar='FILE',
                        help='a recording (trace.bin) instead of a run')
    parser.add_argument('--out', type=Path, default=qemu.BUILD,
                        metavar='FOLDER', help='where the files go (build)')
    args = parser.parse_args()
    status, source = 0, args.source
    try:
        for old in PICTURES:            # of another run, if this one fails
            (args.out / old).unlink(missing_ok=True)
        if not source:
            source = args.out / 'trace.bin'
            status = record(source)
            if not source.exists() or not source.stat().st_size:
                sys.exit('trace: the machine did not run, or its kernel does '
                         'not export a trace')
        draw(source.read_bytes(), args.out)
    except (OSError, ValueError) as error:
        sys.exit(f'trace: {error}')
    sys.exit(status)


if __name__ == '__main__':
    main()
