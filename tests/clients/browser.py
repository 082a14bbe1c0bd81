"""A real Chromium without a window, driven over its own pipe: pages as a person sees them."""

from __future__ import annotations

import base64
import itertools
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

COMMANDS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
ANSWER_S = 60
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--remote-debugging-pipe", "--force-color-profile=srgb"),
)


def chromium() -> str:
    """The browser's command, or a skip that says how to get it."""
    found = next(filter(None, map(shutil.which, COMMANDS)), None)
    if found is None:
        pytest.skip("no chromium: apt-get install -y --no-install-recommends chromium")
    return found


@dataclass
class Look:
    """What one page was like: what it asked for, complained of, and how wide it came out."""

    complaints: list[str] = field(default_factory=list)
    asked_for: list[str] = field(default_factory=list)


class Browser:
    """One browser process, one page at a time."""

    def __init__(self, process: subprocess.Popen[bytes], to: int, back: int) -> None:
        self._process = process
        self._to = to
        self._numbers = itertools.count(1)
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(back,), daemon=True)
        self._reader.start()
        self._session = ""
        self.look = Look()

    def _read(self, back: int) -> None:
        rest = b""
        while chunk := os.read(back, 1 << 16):
            *whole, rest = (rest + chunk).split(b"\0")
            for message in whole:
                self._events.put(json.loads(message))
        self._events.put(None)

    def _next(self) -> dict[str, Any]:
        try:
            message = self._events.get(timeout=ANSWER_S)
        except queue.Empty:
            raise AssertionError(f"the browser said nothing for {ANSWER_S} s") from None
        assert message is not None, "the browser ended"
        self._notice(message)
        return message

    def _notice(self, message: dict[str, Any]) -> None:
        told = message.get("params", {})
        match message.get("method"):
            case "Log.entryAdded":
                entry = told["entry"]
                self.look.complaints.append(f"{entry['level']}: {entry['text']}")
            case "Runtime.consoleAPICalled":
                self.look.complaints.append(f"{told['type']}: {told['args']}")
            case "Runtime.exceptionThrown":
                self.look.complaints.append(str(told["exceptionDetails"]))
            case "Network.requestWillBeSent":
                self.look.asked_for.append(told["request"]["url"])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask the browser for something, and wait for the answer."""
        number = next(self._numbers)
        request: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            request["sessionId"] = self._session
        data = json.dumps(request).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        while (answer := self._next()).get("id") != number:
            pass
        assert "error" not in answer, (method, answer["error"])
        found: dict[str, Any] = answer["result"]
        return found

    def attach(self) -> None:
        """Open the page that all looks share."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def open(
        self,
        url: str,
        width: int,
        height: int,
        *,
        dark: bool = False,
        headers: dict[str, str] | None = None,
    ) -> Look:
        """Load a page at this size; gives what it asked for and complained of."""
        self.look = Look()
        phone = width < 600
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="", features=[scheme])
        self.call("Network.setExtraHTTPHeaders", headers=headers or {})
        failed = self.call("Page.navigate", url=url).get("errorText")
        assert failed is None, failed
        while self._next().get("method") != "Page.loadEventFired":
            pass
        # One more round through the page, so that what it complains of has arrived.
        self.evaluate("document.fonts.ready.then(() => true)")
        return self.look

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page; it runs beside the page's own policy."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self, path: Path, *, whole: bool = True) -> bytes:
        """Write a PNG of the page."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        data = base64.b64decode(found["data"])
        path.write_bytes(data)
        return data

    def accessibility(self) -> list[dict[str, Any]]:
        """The page as assistive technology gets it."""
        self.call("Accessibility.enable")
        nodes: list[dict[str, Any]] = self.call("Accessibility.getFullAXTree")["nodes"]
        return nodes

    def pdf(self) -> bytes:
        """The page as it prints."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def end(self) -> None:
        """Close the browser, by force if it must be."""
        with suppress(AssertionError, OSError):
            self._session = ""
            self.call("Browser.close")
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(15)
        self._reader.join(15)


@contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """A browser with a profile of its own, until the end of the block."""
    program = chromium()
    read_here, write_there = os.pipe()
    read_there, write_here = os.pipe()
    # The protocol is on descriptors 3 and 4; a shell puts ours there, whatever their numbers.
    script = f'exec "$@" 3<&{read_there} 4>&{write_there}'
    arguments = [program, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    log = (folder / "browser.log").open("wb")
    process = subprocess.Popen(
        ["/bin/bash", "-c", script, "browser", *arguments],
        env={**os.environ, "HOME": str(folder)},
        pass_fds=(read_there, write_there),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    os.close(read_there)
    os.close(write_there)
    browser = Browser(process, write_here, read_here)
    try:
        browser.attach()
        yield browser
    finally:
        browser.end()
        for descriptor in (write_here, read_here):
            os.close(descriptor)
        log.close()
