"""A loss that is no finite number ends a run before it can spoil a checkpoint."""

import shlex
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch

from sarco.core.errors import SarcoError
from sarco.runs.store import Run
from sarco.training.progress import counted

SLICES_NAMED = 3


class FiniteLoss(pl.Callback):
    """Looks at the losses now and then, because a GPU has to wait for whoever reads a figure.

    A checkpoint is written after the last look of an epoch, so none ever holds weights that are no numbers.
    """

    def __init__(self, run: Run, steps_between: int) -> None:
        """Nothing was seen yet.

        Args:
            run: whose checkpoints the user is led back to.
            steps_between: looks.
        """
        self.run, self.steps_between = run, steps_between
        self._unread: list[tuple[int, torch.Tensor, Any]] = []  # step, loss, which slices

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins anew."""
        self._unread.clear()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Notes the loss, and looks where it is time to."""
        indices = batch.get("index") if isinstance(batch, Mapping) else None
        self._unread.append((batch_idx + 1, outputs["loss"].detach(), indices))
        if len(self._unread) >= self.steps_between or trainer.is_last_batch:
            self._look(trainer)
            self._unread.clear()

    def _look(self, trainer: pl.Trainer) -> None:
        finite = torch.stack([loss for _, loss, _ in self._unread]).isfinite().tolist()
        # Half precision overflows now and then; its scaler leaves such a step out, and the weights stay as they are.
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        bad = not any(finite) if scaled else not all(finite)
        if not trainer.strategy.reduce_boolean_decision(bad, all=False):
            return
        if all(finite):
            where = "a step of another process"
        else:
            step, _, indices = self._unread[finite.index(False)]
            where = f"step {step}{_names(trainer, indices)}"
        raise SarcoError(f"{counted(trainer)}, {where}: the loss is no finite number; {self._advice(trainer)}")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks at the loss of the validation slices: the last step may have spoilt the weights."""
        loss = trainer.callback_metrics.get("val_loss")
        if loss is not None and not bool(loss.isfinite()):
            raise SarcoError(
                f"{counted(trainer)}: the loss of the validation slices is no finite number; {self._advice(trainer)}"
            )

    def _advice(self, trainer: pl.Trainer) -> str:
        rate = trainer.optimizers[0].param_groups[0]["lr"] if trainer.optimizers else 0.0
        precision = "" if trainer.precision == "32-true" else ", or --precision=32"
        advice = f"try a lower --learning_rate (it was {rate:g}){precision}; "
        if not self.run.checkpoint_path("last").is_file():
            return f"{advice}no epoch was finished, so there is no checkpoint"
        folder = shlex.quote(str(self.run.folder))
        return (
            f"{advice}the checkpoints up to epoch {trainer.current_epoch} are as they were, to go on from there add "
            f"--resume_training=yes --ckpt_path_to_resume_from={folder}"
        )


def _names(trainer: pl.Trainer, indices: Any) -> str:
    """The images of a batch, a few by their path."""
    slices = getattr(getattr(trainer, "datamodule", None), "slices", None)
    if indices is None or not slices:
        return ""
    paths = list(dict.fromkeys(str(slices[index].header.path) for index in indices.tolist()))
    more = f" and {len(paths) - SLICES_NAMED} more" if len(paths) > SLICES_NAMED else ""
    return f" (on {', '.join(paths[:SLICES_NAMED])}{more})"
