"""Headless Chromium, driven over its DevTools protocol, for the tests of interactive pages."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
_OPTIONS = ("--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu")
_PATIENCE = 300.0  # seconds
_BUTTON = {"button": "left", "clickCount": 1}


class Page:
    """An open page.

    Attributes:
        faults: Errors of its scripts, and requests to the network, so far.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._session: dict[str, str] = {}
        self._calls = 0
        self.faults: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol, and return its result."""
        self._calls += 1
        message = {"id": self._calls, "method": method, "params": parameters, **self._session}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        self._process.stdin.flush()
        while (answer := self._receive()).get("id") != self._calls:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _receive(self) -> dict[str, Any]:
        """Return the browser's next message."""
        assert self._process.stdout is not None
        text = bytearray()
        while (byte := self._process.stdout.read(1)) != b"\0":
            if not byte:
                raise RuntimeError(f"Chromium ended with exit code {self._process.wait()}")
            text += byte
        message: dict[str, Any] = json.loads(text)
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.faults.append(parameters["exceptionDetails"]["exception"]["description"])
        elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.faults.append(parameters["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            url = parameters["request"]["url"]
            if not url.startswith(("file:", "data:")):
                self.faults.append(f"requested {url}")
        return message

    def open(self, path: Path, width: int = 1280, height: int = 800, touch: bool = False) -> None:
        """Open a file in a window of a size in CSS pixels, and wait until it is loaded."""
        size = {"width": width, "height": height}
        self.call("Emulation.setDeviceMetricsOverride", **size, deviceScaleFactor=1, mobile=touch)
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch, maxTouchPoints=2)
        self.call("Page.navigate", url=path.resolve().as_uri())
        while self._receive().get("method") != "Page.loadEventFired":
            pass

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression; promises are awaited."""
        options = {"returnByValue": True, "awaitPromise": True}
        answer = self.call("Runtime.evaluate", expression=script, **options)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def move(self, x: float, y: float, **state: Any) -> None:
        """Move the mouse."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, **state)

    def click(self, x: float, y: float) -> None:
        """Move the mouse and press its left button."""
        self.drag((x, y))

    def drag(self, *points: tuple[float, float]) -> None:
        """Press the mouse's left button at the first point, and release it at the last."""
        mouse = "Input.dispatchMouseEvent"
        (x, y), (end_x, end_y) = points[0], points[-1]
        self.move(x, y)
        self.call(mouse, type="mousePressed", x=x, y=y, **_BUTTON)
        for x, y in points[1:]:
            self.move(x, y, button="left", buttons=1)
        self.call(mouse, type="mouseReleased", x=end_x, y=end_y, **_BUTTON)

    def wheel(self, x: float, y: float, delta: float) -> None:
        """Turn the mouse's wheel; a negative delta is away from the user."""
        event = {"type": "mouseWheel", "deltaX": 0, "deltaY": delta}
        self.call("Input.dispatchMouseEvent", x=x, y=y, **event)

    def touch(self, *places: tuple[tuple[float, float], ...]) -> None:
        """Put fingers on the screen, move them from place to place, and take them off."""
        for number, fingers in enumerate(places):
            points = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(fingers)]
            kind = "touchMove" if number else "touchStart"
            self.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def press(self, key: str) -> None:
        """Press a key, such as "Enter"."""
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def type(self, text: str) -> None:
        """Type text into what has the focus."""
        self.call("Input.insertText", text=text)

    def screenshot(self) -> bytes:
        """Return what the window shows, once it has been drawn, as a PNG."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])


@contextmanager
def chromium(profile: Path) -> Iterator[Page]:
    """Start Chromium with an empty page; its profile is kept in a folder.

    It reads the protocol from file descriptor 3 and writes it to 4, here standard input and output.
    """
    assert CHROMIUM is not None
    command = (CHROMIUM, *_OPTIONS, f"--user-data-dir={profile}")
    redirected = ("sh", "-c", 'exec "$0" "$@" 3<&0 4>&1 >&2', *command)
    with subprocess.Popen(
        redirected, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        watchdog = threading.Timer(_PATIENCE, process.kill)  # else a test would wait forever
        watchdog.start()
        try:
            yield Page(process)
        finally:
            watchdog.cancel()
            process.terminate()
