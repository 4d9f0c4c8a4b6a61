"""test_page.py - the page of `make trace`, in a headless Chromium: seen, and
used with keyboard and mouse.
"""
import pytest

import qemu

from harness import chromium, synthetic
from timeline import model, page, stream

LARGE = 100000              # events
PIXELS = 20                 # rectangles for each pixel of width, at most
pytestmark = pytest.mark.skipif(
    not chromium.find(),
    reason='no Chromium that starts (make setup installs it; Ubuntu: a snap)')


def write_page(path, data):
    timeline = model.Timeline(stream.read(data))
    path.write_text(page.render(timeline, ['a summary']))
    return path


@pytest.fixture(scope='module')
def browser():
    with chromium.Browser() as made:
        yield made


@pytest.fixture(scope='module')
def recorded(tmp_path_factory):
    data = (qemu.ROOT / 'docs/trace.bin').read_bytes()
    return write_page(tmp_path_factory.mktemp('page') / 'trace.html', data)


@pytest.fixture
def opened(browser, recorded):
    browser.errors.clear()
    browser.dark(False)
    browser.open(recorded)
    yield browser
    assert browser.errors == []         # no exception, no use of the network


def view(browser):
    return browser.js('[view.t0, view.t1]')


def place(browser, expression):
    """Where on the page a slice is: an object with row and i."""
    return browser.js(f'''(() => {{
        const [row, i] = {expression}, box = canvas.getBoundingClientRect();
        return [box.x + (X(row.s[i]) + X(row.e[i])) / 2,
                box.y + row.y + row.h / 2 + TOP - view.y]; }})()''')


def pixel(browser, x, y):
    return browser.js(f'''(() => {{
        const box = canvas.getBoundingClientRect();
        return [...ctx.getImageData(({x} - box.x) * devicePixelRatio,
            ({y} - box.y) * devicePixelRatio, 1, 1).data]; }})()''')


def test_it_shows_lanes_for_processors_disks_threads_and_requests(opened):
    titles = opened.js('data.lanes.map(lane => lane.title)')
    assert [title for title in titles if title.startswith('processor')] == [
        'processor 0', 'processor 1']
    assert 'disk 0' in titles and 'requests (IRPs)' in titles
    assert any(title.startswith('nothread') for title in titles)


def test_in_the_gap_only_the_disks_lane_is_busy(opened):
    """In the middle of the longest gap: pixels of the lanes are background,
    but for the disk's."""
    opened.js('''(() => { const {s, e} = data.gaps, w = s.map((t, i) =>
        e[i] - t), i = w.indexOf(Math.max(...w)); look(s[i], e[i]); })()''')
    opened.frame()
    gap, device = opened.js('[colour.gap, colour.device]')
    middle = opened.js('''(() => { const box = canvas.getBoundingClientRect();
        return box.x + Math.round(X(view.t0 * 0.55 + view.t1 * 0.45)); })()''')

    def colour(lane, row):
        y = opened.js(f'''(() => {{ const box = canvas.getBoundingClientRect(),
            row = data.lanes[{lane}].rows[{row}];
            return box.y + row.y + TOP + row.h - 3; }})()''')
        return '#%02x%02x%02x' % tuple(pixel(opened, middle, y)[:3])

    def full(text):                     # '#fff' -> '#ffffff'
        return text if len(text) == 7 else '#' + ''.join(
            c * 2 for c in text[1:])

    titles = opened.js('data.lanes.map(lane => lane.title)')
    for lane, title in enumerate(titles):
        if title.startswith('processor'):
            assert colour(lane, 0) == full(gap)
        elif title.startswith('disk'):
            assert colour(lane, 0) == full(device)


def test_a_click_on_a_request_lights_up_its_whole_road(opened):
    x, y = place(opened, '''[data.lanes.find(l => l.title == 'disk 0').rows[0],
        data.lanes.find(l => l.title == 'disk 0').rows[0].n.findIndex(
            n => data.names[n].startsWith('WRITE'))]''')
    opened.click(x, y)
    road = opened.js('selected < 0 ? null : data.irps[selected]')
    assert road['title'].startswith('WRITE')
    stages = [mark['stage'] for mark in road['marks']]
    assert set(stages) == {1, 2, 3, 4, 5, 7, 8, 9, 10, 11}
    text = opened.js("document.getElementById('road').innerText")
    assert 'all processors halted for' in text and 'packet taken' in text
    opened.key('Escape')
    assert opened.js('selected') == -1
    assert opened.js("document.getElementById('road').innerText") == ''


@pytest.mark.parametrize('queued', [True, False])
def test_only_what_was_in_line_is_shown_in_line(browser, tmp_path, queued):
    """A request may wait elsewhere, too: for its thread, for its pages."""
    ms = 10**6
    records = [synthetic.record(1, 'SWITCH', 20, 1 << 8),
               synthetic.record(1 * ms, 'IRP_BUILT', 7, synthetic.WRITE)]
    if queued:
        records.append(synthetic.record(2 * ms, 'IRP_QUEUED', 7))
    records += [synthetic.record(9 * ms, 'DMA_START', 7),
                synthetic.record(20 * ms, 'IRP_COMPLETE', 7)]
    browser.open(write_page(tmp_path / 'trace.html', synthetic.start()
                            + synthetic.thread(20, 16, 'test')
                            + synthetic.batch(0, records)))
    browser.key('n')
    text = browser.js("document.getElementById('road').innerText")
    assert ('in the queue' in text) == queued, text
    kinds = browser.js("""[...data.lanes.find(
        lane => lane.title == 'requests (IRPs)').rows[0].k].map(
        kind => data.kinds[kind])""")
    assert ('queued' in kinds) == queued and 'device' in kinds, kinds


def test_the_keyboard_does_all_of_it(opened):
    t0, t1 = view(opened)
    opened.key('+')
    a0, a1 = view(opened)
    assert a1 - a0 < t1 - t0
    opened.key('ArrowRight')
    assert view(opened)[0] > a0
    opened.key('ArrowLeft')
    opened.key('-')
    assert view(opened)[1] - view(opened)[0] > a1 - a0
    opened.key('0')
    assert view(opened)[1] >= opened.js('data.end')
    opened.key('g')
    inside = opened.js('''data.gaps.s.some((s, i) => s >= view.t0
        && data.gaps.e[i] <= view.t1 && (data.gaps.e[i] - s)
        > (view.t1 - view.t0) / 2)''')
    assert inside
    opened.key('n')
    first = opened.js('selected')
    opened.key('n')
    assert first >= 0 and opened.js('selected') != first
    opened.key('p')
    assert opened.js('selected') == first
    opened.key('z')
    marks = opened.js('data.irps[selected].marks.map(m => m.t)')
    assert view(opened)[0] < marks[0] and view(opened)[1] > marks[-1]
    opened.key('h')
    assert view(opened) == opened.js('data.home')


def test_the_mouse_zooms_moves_and_tells(opened):
    box = opened.js('''(() => { const b = canvas.getBoundingClientRect();
        return [b.x, b.y, b.width, b.height]; })()''')
    x, y = box[0] + box[2] / 2, box[1] + 150
    before = opened.js(f'T({x - box[0]})')
    t0, t1 = view(opened)
    opened.mouse('mouseWheel', x, y, deltaX=0, deltaY=-300)
    opened.frame()
    z0, z1 = view(opened)
    assert z1 - z0 < t1 - t0
    assert abs(opened.js(f'T({x - box[0]})') - before) < (z1 - z0) / 1000
    opened.mouse('mousePressed', x, y, button='left', clickCount=1)
    opened.mouse('mouseMoved', x - 100, y, button='left', buttons=1)
    opened.mouse('mouseReleased', x - 100, y, button='left', clickCount=1)
    opened.frame()
    assert view(opened)[0] > z0
    opened.key('h')
    opened.mouse('mouseMoved', *place(opened, '''[data.lanes.find(
        l => l.title == 'disk 0').rows[0], 1]'''))
    opened.frame()
    tip = opened.js("getComputedStyle(tip).display + tip.textContent")
    assert tip.startswith('block') and 'ms' in tip


def test_dark_and_light_follow_the_system_and_the_key(opened):
    def background():
        return opened.js('getComputedStyle(document.body).backgroundColor')

    light = background()
    opened.dark(True)
    dark = background()
    assert light != dark
    assert opened.js('colour.bg') != '#fff'
    opened.key('d')
    assert background() == light


def test_a_hundred_thousand_events_do_not_stutter(browser, tmp_path):
    """Whatever is looked at: what is drawn grows with the pixels, not with
    the events; moving draws one frame, however many are asked for."""
    path = write_page(tmp_path / 'large.html', synthetic.many(LARGE))
    browser.errors.clear()
    browser.open(path, 1200, 800)
    assert browser.js('''data.lanes.reduce((sum, lane) => sum + lane.rows.reduce(
        (s, row) => s + row.s.length, 0), 0)''') > LARGE / 2
    rows = browser.js('''data.lanes.reduce((sum, lane) =>
        sum + lane.rows.length + 1, 1)''')
    browser.key('0')
    for key in ['n'] + ['+'] * 20 + ['ArrowRight'] * 5 + ['g', '0']:
        browser.key(key)
        assert browser.js('stats.rects') < rows * 1200 + 1000
    frames = browser.js('''(async () => {
        const before = stats.frames;
        for (let i = 0; i < 100; i++) pan(0.001);
        await new Promise(done => requestAnimationFrame(
            () => requestAnimationFrame(done)));
        return stats.frames - before; })()''')
    assert frames <= 2
    assert browser.errors == []


def test_it_is_one_file_without_the_network(recorded):
    text = recorded.read_text()
    template = page.TEMPLATE.read_text()
    assert 'http://' not in template and 'https://' not in template
    assert 'src=' not in template and '<link' not in template
    assert text.count('</script>') == 2
