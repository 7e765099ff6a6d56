"""A loss that is no finite number: the run ends in one line, and no checkpoint holds it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from sarco.core.errors import SarcoError
from sarco.network.device import Device
from sarco.runs.store import Run
from sarco.training.callbacks import BestAndLast
from sarco.training.finite import FiniteLoss

CPU = Device("cpu", 1, "32-true", "")
N_STEPS = 6


class Sick(pl.LightningModule):
    """Reports the losses that it is told to; each batch is one number and its place."""

    def __init__(self, sick: dict[tuple[int, int], float], val_loss: float = 1.0, spoils: bool = False) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.sick, self.val_loss, self.spoils = sick, val_loss, spoils

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        loss: torch.Tensor = self.layer(batch["x"]).square().mean()
        return loss * self.sick.get((self.current_epoch, batch_idx), 1.0)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.spoils and self.current_epoch == 1 and batch_idx == N_STEPS - 1:
            with torch.no_grad():
                self.layer.weight.fill_(torch.nan)

    def validation_step(self, batch: dict[str, torch.Tensor], _: int) -> None:
        self.log("val_score", 0.5)
        self.log("val_loss", self.layer(batch["x"]).square().mean() if self.spoils else self.val_loss)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.001)


class Data(pl.LightningDataModule):
    """The same slices for training and validation."""

    def __init__(self, loader: Any, slices: Any) -> None:
        super().__init__()
        self.train_dataloader = self.val_dataloader = lambda: loader
        self.slices = slices


class Scaled:
    """Stands for the scaler of half precision."""


def fit(folder: Path, model: Sick, steps_between: int = 1, scaled: bool = False, slices: Any = ()) -> Run:
    """Three epochs of six steps of two slices."""
    run = Run(folder, "x", "Trains", False)
    loader = DataLoader([{"x": torch.ones(1), "index": i} for i in range(2 * N_STEPS)], batch_size=2)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=3, logger=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, callbacks=[FiniteLoss(run, steps_between), BestAndLast(run)],
    )  # fmt: skip
    if scaled:
        trainer.precision_plugin.scaler = Scaled()  # type: ignore[attr-defined]
    trainer.fit(model, datamodule=Data(loader, slices))
    return run


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("steps_between", [1, 4, 20])
def test_step_and_slices_are_named_and_the_checkpoints_stay(tmp_path: Path, value: float, steps_between: int) -> None:
    """Catches a run that goes on with weights that are no numbers, and overwrites good checkpoints with them."""
    slices = [SimpleNamespace(header=SimpleNamespace(path=Path(f"{i}.dcm"))) for i in range(2 * N_STEPS)]
    with pytest.raises(SarcoError) as caught:
        fit(tmp_path, Sick({(1, 2): value}), steps_between, slices=slices)
    text = str(caught.value)
    assert text.startswith("epoch 2 of 3, step 3 (on 4.dcm, 5.dcm): the loss is no finite number; ")
    assert "lower --learning_rate (it was 0.001)" in text and "--precision" not in text
    assert "up to epoch 1 are as they were" in text and f"--ckpt_path_to_resume_from={tmp_path}" in text
    assert caught.value.exit_status == 1 and "\n" not in text
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert content["epoch"] == 0 and all(weight.isfinite().all() for weight in content["state_dict"].values())


def test_first_epoch_has_no_checkpoint_to_go_back_to(tmp_path: Path) -> None:
    """Catches advice to go on from a checkpoint that is not there."""
    with pytest.raises(SarcoError, match=r"step 1: .*no epoch was finished, so there is no checkpoint"):
        fit(tmp_path, Sick({(0, 0): float("nan")}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("model", [Sick({}, val_loss=float("nan")), Sick({}, val_loss=float("inf"))])
def test_validation_alone_shows_it(tmp_path: Path, model: Sick) -> None:
    """Catches a last step of an epoch that spoils the weights: no loss of a training step tells of it."""
    with pytest.raises(SarcoError, match="epoch 1 of 3: the loss of the validation slices"):
        fit(tmp_path, model)
    assert list(tmp_path.iterdir()) == []


def test_weights_spoilt_by_the_last_step(tmp_path: Path) -> None:
    """Catches a checkpoint with weights that are no numbers."""
    with pytest.raises(SarcoError, match="epoch 2 of 3: the loss of the validation slices"):
        fit(tmp_path, Sick({}, spoils=True))
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert all(weight.isfinite().all() for weight in content["state_dict"].values())


@pytest.mark.parametrize(("n_sick", "ends"), [(1, False), (4, True)])
def test_step_that_half_precision_leaves_out(tmp_path: Path, n_sick: int, ends: bool) -> None:
    """Catches a run that ends because of one overflow, which its scaler takes care of; many in a row are none."""

    class Skipping(Sick):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, closure: Any = None) -> None:
            closure()  # takes no step, as the scaler does

    model = Skipping({(0, step): float("inf") for step in range(n_sick)})
    if ends:
        with pytest.raises(SarcoError, match="step 1"):
            fit(tmp_path, model, steps_between=4, scaled=True)
    else:
        fit(tmp_path, model, steps_between=4, scaled=True)
        assert (tmp_path / "last.ckpt").is_file()
