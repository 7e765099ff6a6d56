"""The process that speaks with W&B: whatever becomes of it, the run is told in one line, goes on, and ends."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sarco.runs import recorder
from sarco.runs.recorder import Recorder

# Programs that stand in for W&B; each reads pickles, as the real one does.
STAND_INS = {
    "works": "import pickle\nprint('ready', flush=True)\nwhile pickle.load(sys.stdin.buffer)[0] != 'finish': pass\n",
    "never answers": "time.sleep(600)\n",
    "dies at once": "sys.exit(3)\n",
    "says why it dies": "print('there is no such project', flush=True)\nsys.exit(1)\n",
    "never reads": "print('ready', flush=True)\ntime.sleep(600)\n",
    "dies of the first figures": (
        "import pickle\nprint('ready', flush=True)\npickle.load(sys.stdin.buffer)\npickle.load(sys.stdin.buffer)\n"
        "print('Connection lost', flush=True)\nos._exit(1)\n"
    ),
    "never ends": (
        "import pickle\nprint('ready', flush=True)\nwhile pickle.load(sys.stdin.buffer)[0] != 'finish': pass\n"
        "time.sleep(600)\n"
    ),
}


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half seconds instead of minutes."""
    for name in ("START_TIMEOUT_S", "FINISH_TIMEOUT_S"):
        monkeypatch.setattr(recorder, name, 0.5)


@pytest.fixture
def lines() -> list[str]:
    """What was told."""
    return []


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> Iterator[Callable[[str], Recorder]]:
    """Makes a recorder whose process does something else."""
    made: list[Recorder] = []

    def make(what: str) -> Recorder:
        program = tmp_path / "program.py"
        program.write_text("import os, sys, time\n" + STAND_INS[what])
        monkeypatch.setattr(recorder, "PROGRAM", program)
        monkeypatch.setattr(recorder, "START_TIMEOUT_S", 0.5 if what == "never answers" else 20.0)
        made.append(Recorder(tmp_path / "run", lines.append))
        return made[-1]

    yield make
    for each in made:
        each._end()


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("never answers", "no answer within 0.5 s"),
        ("dies at once", "its process ended"),
        ("says why it dies", "no such project"),
    ],
)
def test_start_that_fails_says_why(stand_in: Callable[[str], Recorder], lines: list[str], what: str, why: str) -> None:
    """Catches a run that waits for W&B before it begins, and one that never learns why it is not recorded."""
    one = stand_in(what)
    assert why in one.start({})
    one.send("figures", {"loss": 1.0})
    one.finish(0)
    assert lines == [], "what never began cannot be lost"


def test_what_works_is_silent(stand_in: Callable[[str], Recorder], lines: list[str]) -> None:
    """Catches lines where all is well, which hide those that count."""
    one = stand_in("works")
    assert one.start({}) == ""
    for _ in range(3):
        one.send("figures", {"loss": float("nan")})
    one.finish(0)
    one.finish(0)
    assert lines == []


@pytest.mark.parametrize("what", ["dies of the first figures", "never reads", "never ends"])
def test_loss_is_told_once_and_nobody_waits(
    stand_in: Callable[[str], Recorder], lines: list[str], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Catches a training that hangs, or dies, with the process that speaks with W&B; and a line for every step."""
    monkeypatch.setattr(recorder, "MOST_WAITING", 20)
    one = stand_in(what)
    assert one.start({}) == ""
    began = time.monotonic()
    for _ in range(50):
        one.send("figures", {"picture": bytes(100_000 if what == "never reads" else 10)})
        time.sleep(0.005)
    one.finish(0)
    assert time.monotonic() - began < 5
    assert len(lines) == 1 and lines[0].startswith("W&B: lost (") and "wandb sync" in lines[0]
    why = {"dies of the first figures": "Connection lost", "never reads": "takes nothing", "never ends": "not finish"}
    assert why[what] in lines[0]


def test_killed_process_is_told_once(stand_in: Callable[[str], Recorder], lines: list[str]) -> None:
    """Catches an out-of-memory killer that takes the training with it."""
    one = stand_in("works")
    assert one.start({}) == ""
    assert one._process is not None
    os.kill(one._process.pid, signal.SIGKILL)
    one._process.wait()
    for _ in range(3):
        one.send("figures", {"loss": 1.0})
    one.finish(0)
    assert len(lines) == 1 and "its process ended" in lines[0]


def test_what_cannot_be_sent_is_told(stand_in: Callable[[str], Recorder], lines: list[str]) -> None:
    """Catches figures of a kind that no pipe takes, as a traceback in the middle of an epoch."""
    one = stand_in("works")
    assert one.start({}) == ""
    one.send("figures", {"loss": lambda: 1})
    assert len(lines) == 1 and "lost" in lines[0]


def test_folder_that_cannot_be_made(tmp_path: Path, lines: list[str]) -> None:
    """Catches a traceback where the folder's place is taken by a file."""
    (tmp_path / "file").write_text("")
    assert "exists" in Recorder(tmp_path / "file", lines.append).start({})


@pytest.mark.parametrize("wanted", ["lone program", "no Python"])
def test_interpreter_that_cannot_start(
    tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    """Catches a traceback inside of programs that bring no Python of their own."""
    monkeypatch.setattr("sys.executable", str(tmp_path / "gone") if wanted == "no Python" else "")
    assert Recorder(tmp_path / "run", lines.append).start({}) != ""


def test_places_of_a_process_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches W&B lost for want of a home, as in containers: none, one that is not there, one that is read only."""
    own = tmp_path / "wandb"
    for home, wanted in ((tmp_path, {}), (tmp_path / "gone", {"HOME": str(own)})):
        monkeypatch.setenv("HOME", str(home))
        assert recorder._places(own) == wanted
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert recorder._places(own) == {"HOME": str(own)}
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("WANDB_CACHE_DIR", "/mine")
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    assert recorder._places(own) == {"WANDB_DATA_DIR": str(own / "own")}
