"""Chromium without a screen, driven over its DevTools protocol: just what the report's benchmark and tests need.

Source: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)
_PATIENCE_SECONDS = 30.0
# What these keys type; others type their own name.
_NAMED_KEYS = dict.fromkeys(("Escape", "ArrowDown", "ArrowUp", "ArrowRight", "ArrowLeft", "Home", "End"), "") | {
    "Enter": "\r"
}


def find_chromium() -> str | None:
    """The browser's program, None where there is none."""
    return next((path for path in map(shutil.which, _NAMES) if path), None)


class Chromium:
    """One page in a browser of its own, with a fresh profile; to be used in a `with` statement."""

    def __init__(self, program: str) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._number = 0

    def __enter__(self) -> Self:
        import websocket

        port = self._wait_for_port()
        self._socket = websocket.create_connection(
            self._page_address(port), timeout=_PATIENCE_SECONDS, http_no_proxy=["127.0.0.1"]
        )
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(_PATIENCE_SECONDS)
        self._profile.cleanup()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to one command of the protocol; events that come before it are noted.

        Raises:
            RuntimeError: the browser refuses.
        """
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message: dict[str, Any] = json.loads(self._socket.recv())
            if message.get("id") == self._number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return dict(message["result"])
            self._note(message)

    def open(self, path: Path) -> None:
        """Show the file at `path` and wait until its report is ready."""
        self.errors.clear()
        self.requests.clear()
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait("document.documentElement?.dataset.ready")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; promises are awaited.

        Raises:
            RuntimeError: it throws.
        """
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Return as soon as the JavaScript `condition` holds.

        Raises:
            TimeoutError: it does not come to hold.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self.run(f"Boolean({condition})"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited in vain for: {condition}")
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """Press and release one key, as a person would."""
        text = _NAMED_KEYS.get(key, key)
        code = 13 if key == "Enter" else 0  # without it, Enter presses no button
        self.call(
            "Input.dispatchKeyEvent",
            type="keyDown" if text else "rawKeyDown",
            key=key,
            text=text,
            windowsVirtualKeyCode=code,
        )
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def emulate(self, *, width: int = 1280, height: int = 800, dark: bool = False, phone: bool = False) -> None:
        """Take on a screen of that size, by day or by night."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def _note(self, message: dict[str, Any]) -> None:
        """Keep errors, refused things and addresses that the page asked for."""
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(str(parameters["exceptionDetails"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(parameters["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])

    def _wait_for_port(self) -> int:
        note = Path(self._profile.name) / "DevToolsActivePort"
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            lines = note.read_text(encoding="ascii").split() if note.is_file() else []
            if lines:
                return int(lines[0])
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise TimeoutError("the browser did not start")
            time.sleep(0.02)

    def _page_address(self, port: int) -> str:
        # Directly, whatever proxy the surroundings name.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}/json/list", timeout=_PATIENCE_SECONDS) as answer:
            targets = json.load(answer)
        return str(next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page"))
