"""A label that is never predicted is told, once, by name."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sarco.scan.labels import LabelTable
from sarco.training.unpredicted import NeverPredicted, look_after

LABELS = LabelTable({1: "psoas", 2: "rectus", 3: "obliques"})


class Tables:
    """Stands in for W&B."""

    def __init__(self) -> None:
        self.tables: list[Any] = []

    def log_table(self, *table: Any) -> None:
        self.tables.append(table)


def epoch(number: int, confusion: list[list[int]], max_epochs: int = 12, logger: Any = None) -> tuple[Any, Any]:
    """The trainer and the model behind the validation of an epoch, counted from 1."""
    optimiser = SimpleNamespace(param_groups=[{"lr": 1e-4}])
    trainer = SimpleNamespace(
        current_epoch=number - 1, max_epochs=max_epochs, is_global_zero=True, logger=logger, optimizers=[optimiser]
    )
    whole = torch.tensor(confusion)
    model = SimpleNamespace(
        slice_confusions={4: whole, 7: torch.zeros_like(whole)}, description=SimpleNamespace(labels=LABELS)
    )
    return trainer, model


# Truth in rows: the psoas is found, the rectus is not, the obliques are not there, but predicted once.
FOUND_ONE = [[90, 2, 0, 0], [1, 9, 0, 0], [10, 0, 0, 0], [0, 0, 0, 0]]
FOUND_BOTH = [[90, 2, 1, 0], [1, 9, 0, 0], [9, 0, 1, 0], [0, 0, 0, 0]]


def test_a_label_that_no_epoch_predicts_is_told_once() -> None:
    """Catches silence, another label's name, a label that validation does not hold, and a line in each epoch."""
    lines: list[str] = []
    tables = Tables()
    check = NeverPredicted(lines.append)
    for number in range(1, 8):
        check.on_validation_end(*epoch(number, FOUND_ONE, logger=tables))
    (line,) = lines
    assert line.startswith("never predicted in 3 epochs, though validation slices hold it: rectus;")
    assert "1e-04" in line or "0.0001" in line
    assert tables.tables == [("validation/never_predicted", ("label", "epochs"), [("rectus", 3)])]


def test_a_label_that_was_predicted_once_is_not_told() -> None:
    """Catches a look at the last epoch alone, and a run that goes on and forgets what it saw."""
    lines: list[str] = []
    first = NeverPredicted(lines.append)
    first.on_validation_end(*epoch(1, FOUND_BOTH))
    again = NeverPredicted(lines.append)
    again.load_state_dict(first.state_dict())
    for number in (2, 3):
        again.on_validation_end(*epoch(number, FOUND_ONE))
    assert lines == [] and again.epochs == 3


@pytest.mark.parametrize(("max_epochs", "after"), [(1, 3), (12, 3), (18, 3), (19, 4), (30, 5), (600, 100), (-1, 5)])
def test_when_one_looks(max_epochs: int, after: int) -> None:
    """Catches a verdict on a network that is hardly trained, and one that comes when the run is over."""
    assert look_after(max_epochs) == after


def test_a_run_tells_it(tmp_path: Path) -> None:
    """Catches a check that no training has, and one that the data of a real run break."""
    import sarco
    from sarco.phantom.patient import PhantomOptions, write_dataset

    write_dataset(tmp_path / "data", 2, 1, PhantomOptions(n_slices=2, rows=64, columns=72, labels="groups"))
    lines: list[str] = []
    sarco.train(
        tmp_path / "data", dirpath=tmp_path / "ckpt", max_epochs=3, pretrained="no", gpu=-1, batch_size=2,
        image_size=64, learning_rate=1e-6, tell=lines.append,
    )  # fmt: skip
    (line,) = [line for line in lines if line.startswith("never predicted in 3 epochs")]
    assert "psoas" in line
