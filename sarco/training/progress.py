"""What a training says while it runs: a bar for the steps where somebody watches, and a line per epoch."""

import sys
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint, TQDMProgressBar
from tqdm import tqdm

from sarco.core.messages import OnEpoch

SHOWN = (("loss", "train_loss"), ("validation loss", "val_loss"), ("Dice", "val_dice"), ("score", "val_score"))


def counted(trainer: pl.Trainer) -> str:
    """Which epoch runs, counted from 1: ``epoch 3 of 30``."""
    n_epochs = trainer.max_epochs if trainer.max_epochs is not None else -1
    of = f" of {n_epochs}" if n_epochs > 0 else ""
    return f"epoch {trainer.current_epoch + 1}{of}"


def in_words(seconds: float) -> str:
    """A duration as one says it: ``40 s``, ``12 min``, ``3 h 5 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class StepBar(TQDMProgressBar):
    """A bar over the steps of an epoch, with the loss alone: all other figures stand in the line of the epoch.

    It is drawn on stderr, so that redirected lines are lines only, and gone before the line of the epoch comes.
    """

    def on_train_epoch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Begins with the epoch's number."""
        self.train_progress_bar = self._bar(counted(trainer), self.total_train_batches, " steps")

    def on_train_start(self, *args: Any) -> None:
        """Waits for the first epoch."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Makes room for the line of the epoch."""
        self.train_progress_bar.close()

    def on_train_end(self, *args: Any) -> None:
        """Has nothing left to close."""

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draws the bar of the validation below that of the epoch."""
        self.val_progress_bar = self._bar("validation", sum(trainer.num_val_batches), " batches", position=1)

    def on_validation_batch_start(self, *args: Any, **more: Any) -> None:
        """Leaves the description as it is."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """The loss of the last step."""
        metrics = super().get_metrics(trainer, pl_module)
        return {"loss": metrics["train_loss"]} if "train_loss" in metrics else {}

    def _bar(self, text: str, total: float, unit: str, position: int = 0) -> Any:
        return tqdm(
            desc=text,
            total=total,
            unit=unit,
            position=position,
            leave=False,
            dynamic_ncols=True,
            disable=self.is_disabled,
            file=sys.stderr,
        )


class EpochLines(Checkpoint):
    """Tells each epoch in a line: its figures, how long it took, and how long the run has to go.

    It is a `Checkpoint` because Lightning calls those last, when the training scores of the epoch are in.
    """

    def __init__(self, tell: Callable[[str], object], on_epoch: OnEpoch | None = None) -> None:
        """Takes who listens.

        Args:
            tell: takes the line.
            on_epoch: called with the epoch (from 1), how many there are (-1 without end), and its figures by name.
        """
        self.tell, self.on_epoch = tell, on_epoch
        self._began = self._epoch_began = time.monotonic()
        self._first = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Notes where this run, or this part of it, begins."""
        self._began, self._first = time.monotonic(), trainer.current_epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Notes the time."""
        self._epoch_began = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tells the epoch."""
        metrics = trainer.callback_metrics  # on every process: reading them brings them together
        if not trainer.is_global_zero:
            return
        figures = {name: float(value) for name, value in metrics.items()}
        shown = [f"{title} {figures[name]:.3f}" for title, name in SHOWN if name in figures]
        now = time.monotonic()
        shown.append(in_words(now - self._epoch_began))
        n_epochs = trainer.max_epochs if trainer.max_epochs is not None else -1
        done = trainer.current_epoch + 1
        if n_epochs > done:
            left = (now - self._began) / (done - self._first) * (n_epochs - done)
            shown.append(f"{'at most ' if trainer.early_stopping_callback else ''}{in_words(left)} left")
        self.tell(f"{counted(trainer)}: {', '.join(shown)}")
        if self.on_epoch:
            self.on_epoch(done, n_epochs, figures)
