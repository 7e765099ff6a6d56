"""W&B: wanted or not, with a key or without, it is never a reason for a run to wait or to die."""

import dataclasses
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import wandb

from sarco.core.errors import OptionError
from sarco.runs import recorder, tracking, wandb_process
from sarco.runs.tracking import choose_mode, overlay_image, start_logger
from sarco.scan.labels import LabelTable

ROOT = Path(__file__).parents[2]
LABELS = LabelTable({1: "psoas", 3: "spine"})


def python(folder: Path, code: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """Runs code in a process of its own, with an empty home and no key; every name leads into the void."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "NETRC"))}
    home = folder / "home"
    home.mkdir()
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    env = kept | {"HOME": str(home), "PYTHONPATH": str(ROOT), "GOMP_SPINCOUNT": "0", "NO_PROXY": ""} | proxies | more
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Sets whether an API key is at hand."""
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return lambda there: monkeypatch.setattr(tracking, "_has_api_key", lambda: there)


@pytest.mark.parametrize(
    ("wanted", "has_key", "mode"),
    [
        ("no", True, "no"),
        ("offline", True, "offline"),
        ("yes", True, "online"),
        ("online", True, "online"),
        ("yes", False, "offline"),
    ],
)
def test_mode_is_what_was_asked_for(key: Callable[[bool], None], wanted: str, has_key: bool, mode: str) -> None:
    """Catches figures that leave the machine though nobody asked for it."""
    key(has_key)
    assert choose_mode(wanted, print) == mode


def test_missing_key_is_said_in_one_line(key: Callable[[bool], None], capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a run that is silently recorded elsewhere."""
    key(False)
    choose_mode("yes", print)
    assert len(capsys.readouterr().out.splitlines()) == 1
    for quiet in ("no", "offline"):
        choose_mode(quiet, print)
    assert capsys.readouterr().out == ""


def test_online_by_name_needs_a_key(key: Callable[[bool], None]) -> None:
    """Catches a run that was meant to be seen and is not."""
    key(False)
    with pytest.raises(OptionError, match=r"--wandb=online.*wandb login"):
        choose_mode("online", print)


@pytest.mark.parametrize(
    ("forced", "mode"),
    [("offline", "offline"), ("dryrun", "offline"), ("disabled", "no"), ("online", "online"), ("", "online")],
)
def test_mode_of_the_environment_is_honoured(
    key: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch, forced: str, mode: str
) -> None:
    """Catches a cluster that forbids the network and is asked for it all the same."""
    key(True)
    monkeypatch.setenv("WANDB_MODE", forced)
    assert choose_mode("yes", print) == mode
    assert choose_mode("no", print) == "no"


@pytest.mark.parametrize(
    ("wanted", "mode", "says"),
    [
        ("yes", "offline", "recorded offline"),
        ("offline", "offline", "recorded offline"),
        ("online", "online", "passed"),
    ],
)
@pytest.mark.parametrize("forced", ["nonsense", "ofline", "Offline\n"])
def test_an_unknown_mode_is_said_and_passed_over(
    key: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch, forced: str, wanted: str, mode: str, says: str
) -> None:
    """Catches a key that is blamed for a misspelt mode, W&B that cannot start with it, and figures that leave by it."""
    key(True)
    monkeypatch.setenv("WANDB_MODE", forced)
    assert choose_mode("no", print) == "no"
    told: list[str] = []
    assert choose_mode(wanted, told.append) == mode
    assert len(told) == 1 and "WANDB_MODE=" in told[0] and says in told[0] and told[0].isprintable()
    assert "WANDB_MODE" not in os.environ


def test_no_means_no(tmp_path: Path) -> None:
    """Catches W&B imported, half a second and a folder, where nobody wants it."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom sarco.runs import tracking\n"
        "assert tracking.start_logger(tracking.choose_mode('no', print), 'P', 'n', Path('runs'), print) is None\n"
        "assert 'wandb' not in sys.modules or not hasattr(sys.modules['wandb'], 'init')\n"
    )
    done = python(tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"home"}


OFFLINE = """
from pathlib import Path
import numpy as np
from sarco.runs import tracking
from sarco.scan.labels import LabelTable
mode = tracking.choose_mode("yes", print)
assert mode == "offline", mode
logger = tracking.start_logger(mode, "Project", "name", Path("run"), print, "abc123")
logger.log_metrics({"val_ap": 0.5}, step=0)
mask = np.eye(8, dtype=np.uint8)
picture = tracking.overlay_image(np.zeros((8, 8), np.float32), {"truth": mask}, LabelTable({1: "psoas"}), "text")
logger.log_pictures({"pictures": [picture]})
tracking.finish()
"""


def test_run_without_key_or_network_is_recorded_offline(tmp_path: Path) -> None:
    """Catches a run that asks for a key, waits for a server, or dies of W&B."""
    done = python(tmp_path, OFFLINE)
    assert done.returncode == 0, done.stderr
    assert "no API key" in done.stdout and "Traceback" not in done.stderr
    folders = list((tmp_path / "run" / "wandb").glob("offline-run-*-abc123"))
    assert len(folders) == 1
    assert list(folders[0].glob("*.wandb")), "what `wandb sync` uploads"
    assert list(folders[0].rglob("*.png"))


# An address where nobody listens, and one where somebody takes the call and never says a word.
@pytest.fixture(params=["refuses", "never answers"])
def nowhere(request: pytest.FixtureRequest) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if request.param == "refuses":
            server.close()
        yield f"http://127.0.0.1:{port}"


def test_unreachable_server_is_no_reason_to_die(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nowhere: str) -> None:
    """Catches a training that ends before it begins or waits for minutes, because W&B cannot be reached; and an id
    that the first try keeps from the second.
    """
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", nowhere)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(recorder, "INIT_TIMEOUT_S", 1.0)
    monkeypatch.setattr(recorder, "FINISH_TIMEOUT_S", 5.0)
    lines: list[str] = []
    began = time.monotonic()
    logger = start_logger("online", "P", "n", tmp_path / "run", lines.append, "abc123")
    assert logger is not None
    logger.log_metrics({"val_ap": 0.5}, step=0)
    tracking.finish()
    assert time.monotonic() - began < 30
    assert len(lines) >= 1 and "cannot be reached" in lines[0] and "recorded offline" in lines[0]
    assert not lines[1:] or "did not finish" in lines[1]
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*-abc123"))


@pytest.mark.parametrize(
    ("key", "why"),
    [("x", "40"), ("a" * 40 + "\nb", "letters"), ("a b" * 20, "letters")],
    ids=["short", "line", "space"],
)
def test_key_that_cannot_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, why: str) -> None:
    """Catches a key with a typing mistake that ends a run, or that is called "no key"."""
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    lines: list[str] = []
    assert choose_mode("yes", lines.append) == "offline"
    assert len(lines) == 1 and why in lines[0] and "no API key" not in lines[0]
    with pytest.raises(OptionError, match=why):
        choose_mode("online", lines.append)


def test_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a traceback of an import in an environment without W&B."""
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", None)
    lines: list[str] = []
    assert choose_mode("yes", lines.append) == "no"
    assert len(lines) == 1 and "not installed" in lines[0]
    with pytest.raises(OptionError, match="pip install wandb"):
        choose_mode("online", lines.append)


@pytest.mark.parametrize("shape", [(8, 9), (9, 8), (4, 4), (8, 8, 1), (1, 8, 8)])
def test_mask_of_another_size_is_refused(shape: tuple[int, ...]) -> None:
    """Catches masks that W&B shows stretched, or of the wrong slice, in silence."""
    with pytest.raises(ValueError, match="mask truth has shape"):
        overlay_image(np.zeros((8, 8), np.float32), {"truth": np.zeros(shape, np.uint8)}, LABELS, "text")


def test_overlay_names_its_classes_and_windows_its_picture() -> None:
    """Catches ids without names, and HU wrapped around at 256."""
    hu = np.array([[-1000.0, 3000.0], [25.0, 25.0]], dtype=np.float32)
    mask = np.array([[0, 1], [3, 0]], dtype=np.uint8)
    picture = overlay_image(hu, {"truth": mask}, LABELS, "slice 3", window=(-100.0, 150.0))
    shown = wandb_process._picture(wandb, **dataclasses.asdict(picture))
    grey = np.asarray(shown.image.convert("L"))
    assert grey.tolist() == [[0, 255], [127, 127]]
    classes = shown._masks["truth"]._val["class_labels"]
    assert classes == {0: "background", 1: "psoas", 3: "spine"}
    assert shown._caption == "slice 3"
