"""Weights & Biases: where figures and overlays go if one wants it, never a reason for a run to die."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.loggers import WandbLogger

from sarco.errors import OptionError
from sarco.labels import LabelTable
from sarco.overlay import WINDOW_HU, pick_evenly

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


class ValidationOverlays(pl.Callback):
    """Logs a few validation slices with truth and prediction after each epoch."""

    def __init__(self, labels: LabelTable) -> None:
        """Knows the names of the labels."""
        self.labels = labels

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Predicts the chosen slices once more and logs them."""
        logger, loaders = trainer.logger, trainer.val_dataloaders
        if not isinstance(logger, WandbLogger) or loaders is None or not trainer.is_global_zero:
            return
        dataset = loaders.dataset
        id_of_channel = np.array([0, *self.labels.ids], dtype=np.uint8)
        images = []
        for place in pick_evenly(range(len(dataset)), OVERLAYS_SHOWN):
            sample = dataset[place]
            image = sample["image"]
            with torch.no_grad(), trainer.precision_plugin.val_step_context():
                logits = pl_module(image[None].to(pl_module.device))
            masks = {
                "truth": id_of_channel[sample["label"].numpy()],
                "prediction": id_of_channel[logits[0].argmax(0).cpu().numpy()],
            }
            grey = image[image.shape[0] // 2].numpy()
            text = f"slice {sample['index']} of the data set"
            images.append(overlay_image(grey, masks, self.labels, text, window=(0.0, 1.0)))
        logger.experiment.log({"validation": images, "epoch": trainer.current_epoch})
