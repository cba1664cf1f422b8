"""A headless Chromium, asked through its DevTools protocol over a pipe."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
from base64 import b64decode
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typing_extensions import Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
LIMIT_S = 60
FAULTS = {"Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"}


def find_chromium() -> str | None:
    """Return the program; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """A page in a browser of its own.

    Attributes:
        faults: What the console said, errors of scripts and of the network among it.
    """

    def __init__(self, program: str, profile: Path) -> None:
        self.faults: list[str] = []
        self._count = 0
        self._rest = b""
        asked, self._write = os.pipe()
        self._read, answered = os.pipe()
        line = f'exec "$0" "$@" 3<&{asked} 4>&{answered}'
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        options += ["--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run"]
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", line, program, *options, "about:blank"],
            pass_fds=(asked, answered),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(asked)
        os.close(answered)
        found = self.call("Target.getTargets")["targetInfos"]
        target = next(t["targetId"] for t in found if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Runtime", "Log", "Page"):
            self.call(f"{domain}.enable")

    _session = ""

    def call(self, method: str, **values: Any) -> dict[str, Any]:
        """Send one command and return its result."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": values}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        for answer in self._messages():
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
        raise AssertionError(f"{method}: the browser has ended")

    def open(self, path: Path) -> None:
        """Load a file, and wait until all of it is there."""
        self.call("Page.navigate", url=path.as_uri())
        assert self.value("new Promise(f => document.readyState === 'complete' ? f(true)"
                          " : addEventListener('load', () => f(true)))")  # fmt: skip

    def value(self, script: str) -> Any:
        """Return what an expression gives, waiting where it is a promise."""
        how = {"returnByValue": True, "awaitPromise": True}
        result = self.call("Runtime.evaluate", expression=script, **how)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def picture(self, width: int = 1280, height: int = 900) -> bytes:
        """Return a PNG of the whole page."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        return b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def pdf(self) -> bytes:
        """Return the page as it is printed."""
        return b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def close(self) -> None:
        """End the browser."""
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def _messages(self) -> Iterator[dict[str, Any]]:
        end = monotonic() + LIMIT_S
        while True:
            while b"\0" not in self._rest:
                ready, _, _ = select.select([self._read], [], [], max(0, end - monotonic()))
                part = os.read(self._read, 1 << 20) if ready else b""
                if not part:
                    return
                self._rest += part
            line, self._rest = self._rest.split(b"\0", 1)
            message = json.loads(line)
            if message.get("method") in FAULTS:
                self.faults.append(json.dumps(message["params"]))
            yield message

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
