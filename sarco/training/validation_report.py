"""What Weights & Biases is shown of an epoch: the worst and the median validation slices, and a table of patients."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from sarco.runs.tracking import WandbLogger, overlay_image
from sarco.scan.labels import IGNORE_ID, LabelTable
from sarco.training.scores import dice_of_confusion
from sarco.training.split import pseudonym

OVERLAYS_SHOWN = 4


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
        trainer.logger.log_pictures(pictures)
        trainer.logger.log_table("validation/patients", ("patient", "slices", "dice"), _patients(trainer, confusions))

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


def _patients(trainer: pl.Trainer, confusions: Mapping[int, torch.Tensor]) -> list[tuple[str, int, float]]:
    """Pseudonym, number of slices and Dice of each patient."""
    slices = trainer.datamodule.slices  # type: ignore[attr-defined]
    by_patient: dict[str, list[torch.Tensor]] = defaultdict(list)
    for index, confusion in confusions.items():
        by_patient[pseudonym(slices[index].patient)].append(confusion)
    return [
        (who, len(found), dice_of_confusion(torch.stack(found).sum(0))) for who, found in sorted(by_patient.items())
    ]
