"""What is recorded by a process of its own (`sarco.runs.wandb_process`): whatever becomes of it, the run goes on."""

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sarco.core.messages import reason_of

INIT_TIMEOUT_S = 15.0  # for the server to answer
START_TIMEOUT_S = 60.0  # for all of the start; Python packages on a slow disk take their time
FINISH_TIMEOUT_S = 60.0  # for what is left to be uploaded
LAST_WORDS_TIMEOUT_S = 5.0
MOST_WAITING = 1000  # messages that were not taken yet
READY = "ready"
PROGRAM = Path(__file__).with_name("wandb_process.py")


class Recorder:
    """A W&B run in a process of its own; what goes wrong there is told in one line, and nothing is recorded after it.

    Only `start` and `finish` ever wait, and not for long.
    """

    def __init__(self, folder: Path, tell: Callable[[str], object]) -> None:
        """Nothing is started yet.

        Args:
            folder: where W&B keeps its files.
            tell: takes the line.
        """
        self.folder, self.tell = folder, tell
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: queue.Queue[bytes | None] = queue.Queue(MOST_WAITING)
        self._answers: queue.Queue[str] = queue.Queue()

    def start(self, init: dict[str, Any]) -> str:
        """Starts W&B; gives why it could not be, empty where it runs.

        Args:
            init: for ``wandb.init``.
        """
        # -P keeps the files of this room from standing in for modules of W&B.
        command = [sys.executable, "-P", str(PROGRAM)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        environment.pop("WANDB_SERVICE", None)  # of a W&B run of whoever calls sarco
        environment |= _places((self.folder / "wandb").resolve())
        pipe = subprocess.PIPE
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # In a session of its own: Ctrl-C is for the training, which then ends this run like any other.
            process = subprocess.Popen(  # noqa: S603 - this Python
                command, env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, start_new_session=True
            )
        except (OSError, ValueError) as error:
            return reason_of(error)
        self._process, self._requests, self._answers = process, queue.Queue(MOST_WAITING), queue.Queue()
        threading.Thread(target=_write, args=(process, self._requests), daemon=True).start()
        threading.Thread(target=_read, args=(process, self._answers), daemon=True).start()
        self.send("start", {**init, "dir": str(self.folder), "timeout_s": INIT_TIMEOUT_S})
        try:
            answer = self._answers.get(timeout=START_TIMEOUT_S) or "its process ended"
        except queue.Empty:
            answer = f"no answer within {START_TIMEOUT_S:g} s"
        if answer == READY:
            return ""
        self._end()
        return answer

    def send(self, kind: str, content: Any) -> None:
        """Hands something over and returns at once."""
        if self._process is None:
            return
        if self._process.poll() is not None:
            self._lose(self._last_words())
            return
        try:
            self._requests.put_nowait(pickle.dumps((kind, content)))
        except queue.Full:
            self._lose("it takes nothing any more")
        except Exception as error:  # what cannot be sent is no reason to die either
            self._lose(reason_of(error))

    def finish(self, exit_status: int) -> None:
        """Lets W&B upload what is left, and ends it."""
        self.send("finish", exit_status)
        if self._process is None:
            return
        try:
            if self._process.wait(FINISH_TIMEOUT_S):
                self._lose(self._last_words())
        except subprocess.TimeoutExpired:
            self._lose(f"it did not finish within {FINISH_TIMEOUT_S:g} s")
        finally:
            self._end()

    def _lose(self, reason: str) -> None:
        self._end()
        self.tell(
            f"W&B: lost ({reason}); the run goes on without it (what was recorded lies in {self.folder / 'wandb'}; "
            "`wandb sync` uploads it)"
        )

    def _last_words(self) -> str:
        """Why the process ended, as far as it said."""
        words, more = "", "its process ended"
        while more:
            words = more
            try:
                more = self._answers.get(timeout=LAST_WORDS_TIMEOUT_S)
            except queue.Empty:
                break
        return words

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        with contextlib.suppress(queue.Full):  # where it is full, the thread waits for the process, not for the queue
            self._requests.put_nowait(None)


def _places(folder: Path) -> dict[str, str]:
    """Where W&B keeps what it needs for itself, where there is no home that can be written, as in containers."""
    try:
        home = Path.home()
    except RuntimeError:
        return {"HOME": str(folder)}
    if not home.is_dir():
        return {"HOME": str(folder)}
    if os.access(home, os.W_OK):
        return {}
    names = (name for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR") if name not in os.environ)
    return dict.fromkeys(names, str(folder / "own"))


def _write(process: "subprocess.Popen[bytes]", requests: "queue.Queue[bytes | None]") -> None:
    """Sends what waits until the process has ended; this thread may wait for it, the training does not."""
    assert process.stdin is not None
    with contextlib.suppress(OSError), process.stdin as pipe:
        while (request := requests.get()) is not None:
            pipe.write(request)
            pipe.flush()


def _read(process: "subprocess.Popen[bytes]", answers: "queue.Queue[str]") -> None:
    """Keeps each line that comes back, and an empty one for the end."""
    assert process.stdout is not None
    with process.stdout as pipe:
        for line in pipe:
            answers.put(line.decode(errors="replace").strip() or "no reason given")
    answers.put("")
