"""chromium.py - a headless Chromium, driven through its debugging pipe.

Keys and mouse are real input events, made by the browser. Only the standard
library is needed: messages are JSON, each ended by a zero, on descriptors 3
and 4.
"""
import base64
import functools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

from pathlib import Path

BOUND = 120             # seconds for one answer
NAMES = ('chromium', 'chromium-browser', 'google-chrome')


@functools.cache
def find():
    """The first that starts: Ubuntu's package only names the snap to install,
    where there is none."""
    def starts(path):
        try:
            return subprocess.run([path, '--version'], timeout=BOUND,
                                  stdin=subprocess.DEVNULL,
                                  capture_output=True).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False
    return next(filter(starts, filter(None, map(shutil.which, NAMES))), None)


class Browser:
    def __init__(self):
        self.home = tempfile.mkdtemp(prefix='tint-chromium-')
        self.number, self.buffer, self.errors = 0, b'', []

    def __enter__(self):
        # The child reads 3 and writes 4; ours must lie above, so as not to be
        # overwritten while they are moved there.
        to_read, self.to = os.pipe()
        self.come, to_write = os.pipe()

        def move():
            high = [os.dup(fd) for fd in (to_read, to_write)]
            high = [os.dup2(fd, 100 + n) for n, fd in enumerate(high)]
            os.dup2(100, 3)
            os.dup2(101, 4)

        self.process = subprocess.Popen(
            [find(), '--headless=new', '--no-sandbox', '--disable-gpu',
             '--disable-dev-shm-usage', '--no-first-run', '--disable-sync',
             '--disable-background-networking', '--hide-scrollbars',
             f'--user-data-dir={self.home}', '--remote-debugging-pipe',
             'about:blank'],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, close_fds=False, preexec_fn=move,
            start_new_session=True)
        os.close(to_read)
        os.close(to_write)
        pages = self.call('Target.getTargets')['targetInfos']
        target = next(page['targetId'] for page in pages
                      if page['type'] == 'page')
        self.session = None
        self.session = self.call('Target.attachToTarget', targetId=target,
                                 flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.call(f'{domain}.enable')
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.to)
        os.close(self.come)
        shutil.rmtree(self.home, ignore_errors=True)

    # ---- Messages

    def message(self, bound):
        end = time.monotonic() + bound
        while b'\0' not in self.buffer:
            ready, _, _ = select.select([self.come], [], [],
                                        max(0, end - time.monotonic()))
            chunk = os.read(self.come, 1 << 20) if ready else b''
            if not chunk:
                raise TimeoutError('Chromium does not answer')
            self.buffer += chunk
        text, _, self.buffer = self.buffer.partition(b'\0')
        return json.loads(text)

    def note(self, message):
        """What a page must not do: fail, or use the network."""
        method, params = message.get('method'), message.get('params', {})
        if method == 'Runtime.exceptionThrown':
            self.errors.append(str(params['exceptionDetails']))
        elif method == 'Network.requestWillBeSent':
            if not params['request']['url'].startswith(('file:', 'data:',
                                                        'about:')):
                self.errors.append(f'network: {params["request"]["url"]}')
        elif (method == 'Log.entryAdded'
              and params['entry']['level'] == 'error'):
            self.errors.append(params['entry']['text'])

    def call(self, method, **params):
        self.number += 1
        message = {'id': self.number, 'method': method, 'params': params}
        if getattr(self, 'session', None):
            message['sessionId'] = self.session
        os.write(self.to, json.dumps(message).encode() + b'\0')
        while True:
            answer = self.message(BOUND)
            self.note(answer)
            if answer.get('id') == self.number:
                if 'error' in answer:
                    raise RuntimeError(f'{method}: {answer["error"]}')
                return answer['result']

    # ---- A page

    def open(self, path, width=1400, height=800):
        self.call('Emulation.setDeviceMetricsOverride', width=width,
                  height=height, deviceScaleFactor=1, mobile=False)
        self.call('Page.navigate', url=Path(path).resolve().as_uri())
        while self.js('document.readyState') != 'complete':
            time.sleep(0.05)
        self.frame()

    def js(self, expression):
        """The value of an expression, or of its promise."""
        result = self.call('Runtime.evaluate', expression=expression,
                           returnByValue=True, awaitPromise=True)
        if 'exceptionDetails' in result:
            raise RuntimeError(f'{expression}: {result["exceptionDetails"]}')
        return result['result'].get('value')

    def frame(self):
        """Waits until what was asked for has been drawn."""
        self.js('new Promise(done => requestAnimationFrame(() => '
                'requestAnimationFrame(() => done(1))))')

    def dark(self, dark):
        self.call('Emulation.setEmulatedMedia', features=[
            {'name': 'prefers-color-scheme',
             'value': 'dark' if dark else 'light'}])
        self.frame()

    def key(self, key):
        text = {'text': key} if len(key) == 1 else {}
        for kind in ('keyDown', 'keyUp'):
            self.call('Input.dispatchKeyEvent', type=kind, key=key,
                      **(text if kind == 'keyDown' else {}))
        self.frame()

    def mouse(self, kind, x, y, **more):
        self.call('Input.dispatchMouseEvent', type=kind, x=x, y=y,
                  pointerType='mouse', **more)

    def click(self, x, y):
        self.mouse('mouseMoved', x, y)
        for kind in ('mousePressed', 'mouseReleased'):
            self.mouse(kind, x, y, button='left', clickCount=1)
        self.frame()

    def screenshot(self, path):
        self.frame()
        image = self.call('Page.captureScreenshot', format='png')['data']
        Path(path).write_bytes(base64.b64decode(image))
