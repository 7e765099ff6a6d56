"""A headless Chromium, driven through chromedriver's WebDriver protocol with the standard library alone."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # what WebDriver calls a reference to an element
KEYS = {"Control": "\ue009", "Shift": "\ue008", "PageUp": "\ue00e", "PageDown": "\ue00f", "End": "\ue010"}
KEYS |= {"Home": "\ue011", "ArrowLeft": "\ue012", "ArrowUp": "\ue013", "ArrowRight": "\ue014", "ArrowDown": "\ue015"}
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1500,950",
]


def missing_program() -> str | None:
    """Why there is no browser to test with, or None."""
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(absent)} not installed" if absent else None


class Browser:
    """One window."""

    def __init__(self, folder: Path) -> None:
        """Starts chromedriver and Chromium; profile and downloads lie in `folder`."""
        self.downloads = folder / "downloads"
        self.downloads.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._driver = subprocess.Popen(
            [str(shutil.which("chromedriver")), f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._base = f"http://127.0.0.1:{port}"
        options = {
            "binary": shutil.which("chromium"),
            "args": [*FLAGS, f"--user-data-dir={folder / 'profile'}"],
            "prefs": {"download.default_directory": str(self.downloads), "download.prompt_for_download": False},
        }
        wanted = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            "unhandledPromptBehavior": "accept",
        }
        try:
            self._wait_for_driver()
            session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        except Exception:
            self._driver.kill()
            raise
        self._base += f"/session/{session['sessionId']}"

    def _wait_for_driver(self) -> None:
        for _ in range(100):
            try:
                if self._call("GET", "/status")["ready"]:
                    return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.05)
        raise RuntimeError("chromedriver does not answer")

    def _call(self, method: str, path: str, content: Any = None) -> Any:
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the driver is on this machine
        try:
            with opener.open(request, timeout=60) as answer:
                return json.loads(answer.read())["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(error.read().decode()[:2000]) from None

    def close(self) -> None:
        """Ends both programs."""
        try:
            self._call("DELETE", "")
        finally:
            self._driver.terminate()
            self._driver.wait(10)

    def open(self, page: Path) -> None:
        """Opens a file as a double click does, and forgets the logs so far."""
        self._call("POST", "/url", {"url": "about:blank"})  # what the page before says on leaving belongs to it
        self.log("browser")
        self.log("performance")
        self._call("POST", "/url", {"url": page.resolve().as_uri()})

    def run(self, script: str, *values: Any) -> Any:
        """What a piece of JavaScript returns; `arguments` are the values."""
        return self._call("POST", "/execute/sync", {"script": script, "args": list(values)})

    def wait(self, condition: str, *values: Any, seconds: float = 20) -> Any:
        """Waits until a JavaScript expression is true and gives its value."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := self.run(f"return {condition}", *values):
                return value
            time.sleep(0.02)
        raise AssertionError(f"never true: {condition}")

    def log(self, kind: str) -> list[dict[str, Any]]:
        """The entries of a log since it was asked for last."""
        return list(self._call("POST", "/se/log", {"type": kind}))

    def addresses(self) -> list[str]:
        """Every address that was asked for since the page was opened."""
        messages = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]

    def click(self, selector: str) -> None:
        """Clicks an element."""
        element = self._call("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]
        self._call("POST", f"/element/{element}/click", {})

    def choose_file(self, selector: str, path: Path) -> None:
        """Gives a file to a file input."""
        element = self._call("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]
        self._call("POST", f"/element/{element}/value", {"text": str(path)})

    def press(self, *keys: str) -> None:
        """Presses keys together: those before the last are held."""
        codes = [KEYS.get(key, key) for key in keys]
        steps = [{"type": "keyDown", "value": code} for code in codes]
        steps += [{"type": "keyUp", "value": code} for code in reversed(codes)]
        self._perform({"type": "key", "id": "keyboard", "actions": steps})

    def drag(self, points: list[tuple[float, float]], button: int = 0) -> None:
        """Presses a mouse button at the first point of the window, moves through the others, lets go."""
        moves = [{"type": "pointerMove", "duration": 0, "x": round(x), "y": round(y)} for x, y in points]
        steps = [
            moves[0],
            {"type": "pointerDown", "button": button},
            *moves[1:],
            {"type": "pointerUp", "button": button},
        ]
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": steps}
        self._perform(mouse)

    def wheel(self, x: float, y: float, delta: int) -> None:
        """Turns the wheel over a point of the window."""
        step = {"type": "scroll", "x": round(x), "y": round(y), "deltaX": 0, "deltaY": delta, "duration": 0}
        self._perform({"type": "wheel", "id": "wheel", "actions": [step]})

    def _perform(self, source: dict[str, Any]) -> None:
        self._call("POST", "/actions", {"actions": [source]})

    def downloaded(self, name: str) -> Path:
        """The file that was saved under this name; waits for it."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if (self.downloads / name).is_file():
                return self.downloads / name
            time.sleep(0.05)
        raise AssertionError(f"{name} was never downloaded; there are {list(self.downloads.iterdir())}")

    def picture(self, path: Path) -> None:
        """Saves what the window shows."""
        path.write_bytes(base64.b64decode(self._call("GET", "/screenshot")))
