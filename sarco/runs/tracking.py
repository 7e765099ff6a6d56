"""Weights & Biases: where figures and overlays go if one wants it, never a reason for a run to die."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.loggers import Logger

from sarco.core.errors import OptionError
from sarco.core.messages import reason_of, shown
from sarco.runs.recorder import Recorder
from sarco.runs.store import RunDescription
from sarco.scan.hu import WINDOW_HU
from sarco.scan.labels import LabelTable
from sarco.scan.view import ShownSlice

_MODES = ("online", "offline", "shared", "disabled", "dryrun", "run")  # of `wandb.Settings`
_recording: list[Recorder] = []  # what `finish` ends


def choose_mode(wanted: str, tell: Callable[[str], object]) -> str:
    """``online``, ``offline`` or ``no``, from what was asked for and whether an API key is at hand.

    Args:
        wanted: what was asked for; ``yes`` leaves it to the key.
        tell: takes a line where it becomes something else.

    Raises:
        OptionError: ``online`` was asked for by name and there is no key.
    """
    if wanted == "no":
        return wanted
    forced = os.environ.get("WANDB_MODE") or "online"
    if forced not in _MODES:
        del os.environ["WANDB_MODE"]  # W&B would not start with it
        wanted = "offline" if wanted == "yes" else wanted  # it may have meant that nothing leaves the machine
        kept = "this is recorded offline" if wanted == "offline" else "it is passed over"
        tell(f"W&B: WANDB_MODE={shown(forced)} is no mode, so {kept}; set it to online, offline or disabled")
    if wanted == "offline":
        return wanted
    if forced in ("offline", "dryrun", "disabled"):
        return "no" if forced == "disabled" else "offline"
    why = "no API key is configured"
    try:
        if _has_api_key():
            return "online"
    except ImportError:
        if wanted == "online":
            raise OptionError("--wandb=online: the package wandb is not installed; pip install wandb") from None
        tell("W&B: the package wandb is not installed, so nothing is recorded there (--wandb=no says nothing)")
        return "no"
    except Exception as error:  # a malformed key, an unreadable .netrc: W&B is never a reason to die
        why = f"the API key cannot be used ({reason_of(error)})"
    if wanted == "online":
        raise OptionError(f"--wandb=online: {why}; run `wandb login` first, or give --wandb=offline")
    tell(f"W&B: {why}, so this is recorded offline (`wandb sync` uploads it; --wandb=no: nothing)")
    return "offline"


def _has_api_key() -> bool:
    import wandb  # slow to import, and not needed with --wandb=no

    os.environ.setdefault("WANDB_SILENT", "true")
    return bool(wandb.login(prompt=False, verify=False))


def start_logger(
    mode: str, project: str, name: str, folder: Path, tell: Callable[[str], object], run_id: str | None = None
) -> "WandbLogger | None":
    """A W&B run for Lightning and for pictures; None where there is none.

    Args:
        mode: from `choose_mode`.
        project: W&B project.
        name: shown by W&B.
        folder: where W&B keeps its files.
        tell: takes a line where W&B cannot be reached, and where it is lost later.
        run_id: the id of the W&B run, where it has to be a certain one.
    """
    if mode == "no":
        return None
    recorder = Recorder(folder, tell)
    init = {"project": project, "id": run_id, "name": name, "resume": "allow"}
    failed = recorder.start({**init, "mode": mode})
    if failed and mode == "online":
        tell(f"W&B: cannot be reached ({failed}), so this is recorded offline (`wandb sync` uploads it)")
        failed = recorder.start({**init, "mode": "offline"})
    if failed:
        tell(f"W&B: cannot be started ({failed}); the run goes on without it")
        return None
    _recording.append(recorder)
    return WandbLogger(recorder, project, run_id)


def finish(exit_status: int = 0) -> None:
    """Ends the W&B run, if there is one; W&B has a minute for what is left to upload."""
    while _recording:
        _recording.pop().finish(exit_status)


class WandbLogger(Logger):
    """A W&B run, as Lightning wants it; see `Recorder` for why it never fails."""

    def __init__(self, recorder: Recorder, project: str, run_id: str | None) -> None:
        """A run that was started."""
        super().__init__()
        self.recorder, self._project, self._run_id = recorder, project, run_id

    @property
    def name(self) -> str:
        """The project."""
        return self._project

    @property
    def version(self) -> str | None:
        """The id of the W&B run."""
        return self._run_id

    @property
    def save_dir(self) -> str:
        """Where W&B keeps its files."""
        return str(self.recorder.folder)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Records figures of a step."""
        self.recorder.send("figures", {**metrics, **({} if step is None else {"trainer/global_step": step})})

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Records what the run is."""
        self.recorder.send("config", dict(params if isinstance(params, Mapping) else vars(params)))

    def log_pictures(self, pictures: Mapping[str, Sequence["MaskedPicture"]]) -> None:
        """Records pictures by name."""
        self.recorder.send("pictures", {name: [asdict(each) for each in some] for name, some in pictures.items()})

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Records a table under a name."""
        self.recorder.send("table", (name, list(columns), [list(row) for row in rows]))


@dataclass(frozen=True)
class MaskedPicture:
    """A picture with switchable masks.

    Attributes:
        grey: (row, column) uint8.
        masks: (row, column) label ids by name of the mask.
        classes: names of the ids.
        text: caption.
    """

    grey: NDArray[np.uint8]
    masks: Mapping[str, NDArray[np.uint8]]
    classes: Mapping[int, str]
    text: str


def overlay_image(
    image: NDArray[np.float32],
    masks: Mapping[str, NDArray[np.uint8]],
    labels: LabelTable,
    text: str,
    window: tuple[float, float] = WINDOW_HU,
) -> MaskedPicture:
    """A picture with switchable masks for W&B.

    Args:
        image: (row, column), HU or other values that ``window`` fits.
        masks: (row, column) label ids by name of the mask.
        labels: names of the ids.
        text: caption.
        window: values shown black and white.
    """
    grey = np.clip((image - window[0]) / (window[1] - window[0]), 0, 1)

    for name, mask in masks.items():
        if mask.shape != image.shape:  # W&B would show it stretched, in silence
            raise ValueError(f"mask {name} has shape {mask.shape}, the picture {grey.shape}")
    return MaskedPicture((grey * 255).astype(np.uint8), masks, {0: "background", **labels.names}, text)


def log_predictions(logger: WandbLogger, name: str, shown: Sequence[ShownSlice], labels: LabelTable) -> None:
    """Logs slices of a predicted series with switchable masks."""
    pictures = [overlay_image(s.hu, {"prediction": s.label_map}, labels, s.caption) for s in shown]
    logger.log_pictures({name: pictures})


def describe_run(logger: WandbLogger, description: RunDescription) -> None:
    """Logs what the run is: its options and split, the command line, package versions and the git revision."""
    versions = {name: metadata.version(name) for name in ("torch", "pytorch-lightning", "monai", "numpy", "pydicom")}
    logger.log_hyperparams(
        {
            **description.to_builtins(),
            "command_line": shlex.join(sys.argv),
            "versions": versions,
            "git_revision": _git_revision(),
        }
    )


def _git_revision() -> str:
    """The revision of sarco's own checkout; empty where it is none."""
    git = shutil.which("git")
    if not git:
        return ""
    folder = Path(__file__).parent
    done = subprocess.run([git, "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip()
