"""Weights & Biases: where figures and overlays go if one wants it, never a reason for a run to die."""

import os
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.loggers import WandbLogger

from sarco.cases import pseudonym
from sarco.core.errors import OptionError
from sarco.metrics import dice_of_confusion
from sarco.overlay import ShownSlice
from sarco.runs import RunDescription
from sarco.scan.hu import WINDOW_HU
from sarco.scan.labels import IGNORE_ID, LabelTable

OVERLAYS_SHOWN = 4


def choose_mode(wanted: str) -> str:
    """``online``, ``offline`` or ``no``, from what was asked for and whether an API key is at hand.

    Raises:
        OptionError: ``online`` was asked for by name and there is no key.
    """
    if wanted in ("no", "offline"):
        return wanted
    forced = os.environ.get("WANDB_MODE")
    if forced in ("offline", "disabled"):
        return "offline" if forced == "offline" else "no"
    if _has_api_key():
        return "online"
    if wanted == "online":
        raise OptionError("--wandb=online: no API key is configured; run `wandb login` first, or give --wandb=offline")
    print("W&B: no API key is configured, so this is recorded offline (`wandb sync` uploads it; --wandb=no: nothing)")
    return "offline"


def _has_api_key() -> bool:
    import wandb  # slow to import, and not needed with --wandb=no

    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        return bool(wandb.login(prompt=False, verify=False))
    except Exception as error:  # a malformed key, an unreadable .netrc: W&B is never a reason to die
        print(f"W&B: the API key cannot be used ({error})")
        return False


def start_logger(mode: str, project: str, name: str, folder: Path, run_id: str | None = None) -> WandbLogger | None:
    """A W&B run for Lightning and for pictures; None for ``no``.

    Args:
        mode: from `choose_mode`.
        project: W&B project.
        name: shown by W&B.
        folder: where W&B keeps its files.
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
        print(f"W&B: cannot be reached ({str(error).splitlines()[0]}), so this is recorded offline")
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


class ValidationReport(pl.Callback):
    """Logs, after each epoch, the worst and the median validation slices and a table of patients."""

    def __init__(self, labels: LabelTable) -> None:
        """Knows the names of the labels."""
        self.labels = labels

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ranks the slices of this epoch by Dice; slices without muscle in truth and prediction are no news."""
        if not isinstance(trainer.logger, WandbLogger) or not trainer.is_global_zero:
            return
        confusions: dict[int, torch.Tensor] = pl_module.slice_confusions  # type: ignore[assignment]
        scores = {i: dice_of_confusion(c) for i, c in confusions.items() if c[1:].any() or c[:, 1:].any()}
        ranked = sorted(scores, key=lambda i: scores[i])
        middle = max(len(ranked) // 2 - OVERLAYS_SHOWN // 2, 0)
        pictures = {
            "validation/worst": self._pictures(trainer, pl_module, ranked[:OVERLAYS_SHOWN], scores),
            "validation/median": self._pictures(trainer, pl_module, ranked[middle : middle + OVERLAYS_SHOWN], scores),
        }
        table = self._patients(trainer, confusions)
        trainer.logger.experiment.log({**pictures, "validation/patients": table, "epoch": trainer.current_epoch})

    def _pictures(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, chosen: Sequence[int], scores: Mapping[int, float]
    ) -> list[Any]:
        dataset = trainer.val_dataloaders.dataset  # type: ignore[union-attr]
        id_of_channel = np.array([*(0, *self.labels.ids), IGNORE_ID], dtype=np.uint8)  # the last is channel -1
        pictures = []
        for index in chosen:
            sample = dataset[dataset.indices.index(index)]
            image = sample["image"]
            with torch.no_grad(), trainer.precision_plugin.val_step_context():
                logits = pl_module(image[None].to(pl_module.device))
            masks = {
                "truth": id_of_channel[sample["label"].numpy()],
                "prediction": id_of_channel[logits[0].argmax(0).cpu().numpy()],
            }
            text = f"slice {index} of the data set, Dice {scores[index]:.3f}"
            pictures.append(overlay_image(image[image.shape[0] // 2].numpy(), masks, self.labels, text, (0.0, 1.0)))
        return pictures

    @staticmethod
    def _patients(trainer: pl.Trainer, confusions: Mapping[int, torch.Tensor]) -> Any:
        import wandb

        slices = trainer.datamodule.slices  # type: ignore[attr-defined]
        by_patient: dict[str, list[torch.Tensor]] = defaultdict(list)
        for index, confusion in confusions.items():
            by_patient[pseudonym(slices[index].header.patient_id)].append(confusion)
        rows: list[Any] = [
            [who, len(found), dice_of_confusion(torch.stack(found).sum(0))] for who, found in sorted(by_patient.items())
        ]
        return wandb.Table(columns=["patient", "slices", "dice"], data=rows)


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
