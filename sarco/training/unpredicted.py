"""Tells early when a label is never predicted, because the validation score alone hides it for long."""

import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from sarco.core.messages import count_of

SHARE_OF_RUN, FEWEST_EPOCHS, EPOCHS_WITHOUT_END = 1 / 6, 3, 5


class NeverPredicted(pl.Callback):
    """Looks once, after a sixth of the run and at least three epochs, and tells the labels that no epoch predicted.

    Only labels that the validation slices hold count.
    """

    def __init__(self, tell: Callable[[str], object]) -> None:
        """Nothing was seen yet.

        Args:
            tell: takes the line.
        """
        self.tell = tell
        self.epochs = 0
        self.predicted: set[int] = set()  # channels

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Notes what this epoch predicted, and tells where it is time to."""
        confusions = list(getattr(pl_module, "slice_confusions", {}).values())  # truth in rows, prediction in columns
        if not confusions:
            return
        total = sum(confusions[1:], start=confusions[0])
        self.epochs += 1
        self.predicted |= set(total.sum(0).nonzero().flatten().tolist())
        held = set(total.sum(1).nonzero().flatten().tolist()) - {0}
        missing = sorted(held - self.predicted)
        if not missing or trainer.current_epoch + 1 != look_after(trainer.max_epochs) or not trainer.is_global_zero:
            return
        names = list(pl_module.description.labels.names.values())
        missed = [names[channel - 1] for channel in missing]
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.tell(
            f"never predicted in {count_of(self.epochs, 'epoch')}, though validation slices hold it: "
            f"{', '.join(missed)}; try more --max_epochs, a higher --learning_rate (it is {rate:g}), or look whether "
            "training slices hold it as often"
        )
        if trainer.logger:
            rows = [(name, self.epochs) for name in missed]
            trainer.logger.log_table("validation/never_predicted", ("label", "epochs"), rows)  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        """What was seen so far."""
        return {"epochs": self.epochs, "predicted": sorted(self.predicted)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there."""
        self.epochs, self.predicted = state_dict["epochs"], set(state_dict["predicted"])


def look_after(max_epochs: int | None) -> int:
    """The epoch, counted from 1, after which one looks."""
    if max_epochs is None or max_epochs < 1:
        return EPOCHS_WITHOUT_END
    return max(FEWEST_EPOCHS, math.ceil(SHARE_OF_RUN * max_epochs))
