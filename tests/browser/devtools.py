"""A headless Chromium, driven as a user drives it: with clicks and keys, looking at what the page shows.

It speaks the Chrome DevTools Protocol (https://chromedevtools.github.io/devtools-protocol/) over two pipes. Each message is
JSON and ends with a NUL. A command has an id, and its result has the same one. A message without an id is an event.
"""
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections import deque

from harness.checks import PATIENCE, Failure, expect, short, wait_for
from harness.system import readable

NAMES = "chromium", "chromium-browser", "google-chrome"
# There is no sandbox for root. The browser must contact nothing but the servers under test.
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
           "--disable-component-update", "--disable-sync", "--disable-breakpad", "--remote-debugging-pipe")
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}
TEXTS = {"Enter": "\r", " ": " "}


def installed():
    """Where Chromium is, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A browser that runs as long as the with statement, with its own profile. It leaves nothing behind."""

    def __enter__(self):
        self.home = tempfile.mkdtemp(prefix="browser-")
        self.events = deque()
        self.last_id = 0
        self.received = b""
        theirs, self.to_browser = os.pipe()
        self.from_browser, theirs_too = os.pipe()
        # bash, because the pipes must have the numbers 3 and 4, and other shells redirect only from single digits.
        command = ["bash", "-c", f'exec "$@" 3<&{theirs} 4>&{theirs_too}', "browser", installed(), *OPTIONS,
                   f"--user-data-dir={self.home}/profile"]
        with open(f"{self.home}/log", "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                            pass_fds=(theirs, theirs_too), env=dict(os.environ, HOME=self.home))
        os.close(theirs)
        os.close(theirs_too)
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.to_browser)
        os.close(self.from_browser)
        shutil.rmtree(self.home, ignore_errors=True)

    def _message(self):
        while b"\0" not in self.received:
            data = os.read(self.from_browser, 1 << 20) if readable(self.from_browser, PATIENCE) else b""
            if not data:
                with open(f"{self.home}/log", errors="replace") as log:
                    raise Failure(f"the browser says nothing more; its log ends with:\n{log.read()[-2000:]}")
            self.received += data
        message, _, self.received = self.received.partition(b"\0")
        return json.loads(message)

    def call(self, method, session=None, **params):
        """Runs a command, and returns its result. Keeps the events that come before it."""
        self.last_id += 1
        message = {"id": self.last_id, "method": method, "params": params}
        os.write(self.to_browser, json.dumps(dict(message, sessionId=session) if session else message).encode() + b"\0")
        while True:
            message = self._message()
            if message.get("id") == self.last_id:
                break
            self.events.append(message)
        if "error" in message:
            raise Failure(f"{method}: {message['error']['message']}")
        return message["result"]

    @contextlib.contextmanager
    def page(self, url, width=1000, height=800):
        """A page with its own cache and connections. At the end it must have asked only its server, without an error."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        try:
            target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
            page = Page(self, self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"], url)
            page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
            page.load("Page.navigate", url=url)
            yield page
            page.expect_innocent()
        finally:
            self.call("Target.disposeBrowserContext", browserContextId=context)


class Page:
    def __init__(self, browser, session, url):
        self.browser, self.session, self.url = browser, session, url
        browser.events.clear()
        for domain in "Runtime", "Log", "Network":
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def load(self, method, **params):
        """Opens a page, or reloads this one, and waits until its script has run."""
        self.js("window.isOld = true")
        self.call(method, **params)
        self.wait("!window.isOld && document.readyState === 'complete'")

    def js(self, expression):
        """The value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise Failure(f"{expression}: {result['exceptionDetails']['exception']['description']}")
        return result["result"].get("value")

    def wait(self, expression, value=True):
        """Waits until an expression has this value."""
        self._wait_for(lambda: self.js(expression) == value, f"{expression} was {value}")

    def until(self, selector, pattern):
        """Waits until an element shows a text of this shape."""
        self._wait_for(lambda: re.fullmatch(pattern, self.texts(selector)[0]), f"{selector} said {pattern}")

    def _wait_for(self, condition, what):
        try:
            wait_for(condition, what)
        except Failure as failure:
            raise Failure(f"{failure}; the page says: {self.texts('body')}") from None

    def expect_innocent(self):
        """It has asked no other host for anything, and the browser reports no error of its script or its policy."""
        self.js("0")    # earlier events come before this answer
        for event in self.browser.events:
            what, more = event["method"], event["params"]
            if what == "Network.requestWillBeSent":
                expect(more["request"]["url"].startswith((self.url, "data:,")), True, f"it asks for {more['request']['url']}")
            elif what in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
                raise Failure(f"its script says {short(more)}")
            elif what == "Log.entryAdded" and more["entry"]["source"] != "network":
                raise Failure(f"the browser says {short(more)}")

    def texts(self, selector):
        return self.js(f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.innerText)")

    def click(self, selector):
        x, y = self.js(f"""(() => {{
            const one = document.querySelector({json.dumps(selector)});
            one.scrollIntoView({{block: "center"}});
            const {{x, y, width, height}} = one.getBoundingClientRect();
            return [x + width / 2, y + height / 2];
        }})()""")
        for kind in "mousePressed", "mouseReleased":
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key, shift=False):
        more = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": KEYS[key], "modifiers": 8 * shift}
        self.call("Input.dispatchKeyEvent", type="keyDown", **more, **({"text": TEXTS[key]} if key in TEXTS else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **more)

    def type(self, text):
        """Replaces the text of the element that has the focus."""
        self.js("document.activeElement.select()")
        self.call("Input.insertText", text=text)
