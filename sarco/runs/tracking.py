"""Weights & Biases: where figures and overlays go if one wants it, never a reason for a run to die."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.loggers import WandbLogger

from sarco.core.errors import OptionError
from sarco.runs.store import RunDescription
from sarco.scan.hu import WINDOW_HU
from sarco.scan.labels import LabelTable
from sarco.scan.view import ShownSlice


def choose_mode(wanted: str, tell: Callable[[str], object]) -> str:
    """``online``, ``offline`` or ``no``, from what was asked for and whether an API key is at hand.

    Args:
        wanted: what was asked for; ``yes`` leaves it to the key.
        tell: takes a line where it becomes something else.

    Raises:
        OptionError: ``online`` was asked for by name and there is no key.
    """
    if wanted in ("no", "offline"):
        return wanted
    forced = os.environ.get("WANDB_MODE")
    if forced in ("offline", "disabled"):
        return "offline" if forced == "offline" else "no"
    if _has_api_key(tell):
        return "online"
    if wanted == "online":
        raise OptionError("--wandb=online: no API key is configured; run `wandb login` first, or give --wandb=offline")
    tell("W&B: no API key is configured, so this is recorded offline (`wandb sync` uploads it; --wandb=no: nothing)")
    return "offline"


def _has_api_key(tell: Callable[[str], object]) -> bool:
    import wandb  # slow to import, and not needed with --wandb=no

    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        return bool(wandb.login(prompt=False, verify=False))
    except Exception as error:  # a malformed key, an unreadable .netrc: W&B is never a reason to die
        tell(f"W&B: the API key cannot be used ({error})")
        return False


def start_logger(
    mode: str, project: str, name: str, folder: Path, tell: Callable[[str], object], run_id: str | None = None
) -> WandbLogger | None:
    """A W&B run for Lightning and for pictures; None for ``no``.

    Args:
        mode: from `choose_mode`.
        project: W&B project.
        name: shown by W&B.
        folder: where W&B keeps its files.
        tell: takes a line where it cannot be reached.
        run_id: the id of the W&B run, where it has to be a certain one.
    """
    if mode == "no":
        return None
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    logger = _make_logger(mode, project, name, folder, run_id)
    try:
        logger.experiment  # noqa: B018 - starts the run
    except (wandb.Error, OSError) as error:
        tell(f"W&B: cannot be reached ({str(error).splitlines()[0]}), so this is recorded offline")
        logger = _make_logger("offline", project, name, folder, run_id)
    return logger


def _make_logger(mode: str, project: str, name: str, folder: Path, run_id: str | None) -> WandbLogger:
    folder.mkdir(parents=True, exist_ok=True)
    return WandbLogger(
        project=project, id=run_id, name=name, save_dir=folder, log_model=False, mode=mode, resume="allow"
    )


def finish() -> None:
    """Ends the W&B run, if there is one."""
    import wandb

    if wandb.run is not None:
        wandb.finish()


def overlay_image(
    image: NDArray[np.float32],
    masks: Mapping[str, NDArray[np.uint8]],
    labels: LabelTable,
    text: str,
    window: tuple[float, float] = WINDOW_HU,
) -> Any:
    """A picture with switchable masks for W&B.

    Args:
        image: (row, column), HU or other values that ``window`` fits.
        masks: (row, column) label ids by name of the mask.
        labels: names of the ids.
        text: caption.
        window: values shown black and white.
    """
    import wandb

    grey = np.clip((image - window[0]) / (window[1] - window[0]), 0, 1)

    for name, mask in masks.items():
        if mask.shape != image.shape:  # W&B would show it stretched, in silence
            raise ValueError(f"mask {name} has shape {mask.shape}, the picture {grey.shape}")
    classes = {0: "background", **labels.names}
    return wandb.Image(
        (grey * 255).astype(np.uint8),
        masks={name: {"mask_data": mask, "class_labels": classes} for name, mask in masks.items()},
        caption=text,
    )


def log_predictions(logger: WandbLogger, name: str, shown: Sequence[ShownSlice], labels: LabelTable) -> None:
    """Logs slices of a predicted series with switchable masks."""
    pictures = [overlay_image(s.hu, {"prediction": s.label_map}, labels, s.caption) for s in shown]
    logger.experiment.log({name: pictures})


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
