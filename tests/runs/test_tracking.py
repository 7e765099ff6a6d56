"""W&B: wanted or not, with a key or without, it is never a reason for a run to wait or to die."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sarco.core.errors import OptionError
from sarco.runs import tracking
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
    return lambda there: monkeypatch.setattr(tracking, "_has_api_key", lambda tell: there)


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


@pytest.mark.parametrize(("forced", "mode"), [("offline", "offline"), ("disabled", "no"), ("online", "online")])
def test_mode_of_the_environment_is_honoured(
    key: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch, forced: str, mode: str
) -> None:
    """Catches a cluster that forbids the network and is asked for it all the same."""
    key(True)
    monkeypatch.setenv("WANDB_MODE", forced)
    assert choose_mode("yes", print) == mode
    assert choose_mode("no", print) == "no"


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
logger.experiment.log({"pictures": [picture]})
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


def test_unreachable_server_is_no_reason_to_die(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a training that ends before it begins, because W&B cannot be reached."""
    import wandb

    modes = []

    class Logger:
        def __init__(self, mode: str) -> None:
            self.mode = mode

        @property
        def experiment(self) -> object:
            modes.append(self.mode)
            if self.mode == "online":
                raise wandb.errors.CommError("Run initialization has timed out after 90.0 sec.")
            return object()

    monkeypatch.setattr(tracking, "_make_logger", lambda mode, *_: Logger(mode))
    logger = start_logger("online", "P", "n", tmp_path, print)
    assert isinstance(logger, Logger) and logger.mode == "offline"
    assert modes[0] == "online"


@pytest.mark.parametrize("shape", [(8, 9), (9, 8), (4, 4), (8, 8, 1), (1, 8, 8)])
def test_mask_of_another_size_is_refused(shape: tuple[int, ...]) -> None:
    """Catches masks that W&B shows stretched, or of the wrong slice, in silence."""
    with pytest.raises(ValueError, match="mask truth has shape"):
        overlay_image(np.zeros((8, 8), np.float32), {"truth": np.zeros(shape, np.uint8)}, LABELS, "text")


def test_overlay_names_its_classes_and_windows_its_picture() -> None:
    """Catches ids without names, and HU wrapped around at 256."""
    hu = np.array([[-1000.0, 3000.0], [25.0, 25.0]], dtype=np.float32)
    mask = np.array([[0, 1], [3, 0]], dtype=np.uint8)
    shown = overlay_image(hu, {"truth": mask}, LABELS, "slice 3", window=(-100.0, 150.0))
    grey = np.asarray(shown.image.convert("L"))
    assert grey.tolist() == [[0, 255], [127, 127]]
    classes = shown._masks["truth"]._val["class_labels"]
    assert classes == {0: "background", 1: "psoas", 3: "spine"}
    assert shown._caption == "slice 3"
