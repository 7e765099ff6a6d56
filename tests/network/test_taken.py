"""Weights that were taken: their own learning rate, left alone at first, also in a run that goes on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision.amp import MixedPrecision

from model import SarcoModel
from sarco.core.training_options import (
    AugmentOptions,
    DataOptions,
    FitOptions,
    MixupOptions,
    NetworkOptions,
    PredictedOptions,
    RunOptions,
)
from sarco.network.device import Device
from sarco.network.taken import parameter_groups, taken_modules, why_nothing_happens
from sarco.phantom.patient import PhantomOptions, write_dataset
from sarco.runs.store import Run, RunDescription
from sarco.scan.labels import LabelTable
from sarco.training.callbacks import make_trainer
from sarco_datamodule import SarcoDataModule

CPU = Device("cpu", 1, "32-true", "")
WHOLE = ("encoder", "decoder", "head")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small patients."""
    folder = tmp_path_factory.mktemp("taken") / "data"
    write_dataset(folder, 3, 1, PhantomOptions(n_slices=3, rows=64, columns=72))
    return folder


def describe(data: Path, taken: tuple[str, ...], fit: FitOptions, **network: Any) -> RunDescription:
    """A run whose network was taken in these parts."""
    return RunDescription(
        RunOptions(run_id="x"), LabelTable({1: "muscle"}), DataOptions(data_dir=data, image_size=64, batch_size=4),
        NetworkOptions(pretrained="no", **network), fit, AugmentOptions(), MixupOptions(), PredictedOptions(), "random",
        {}, taken=taken,
    )  # fmt: skip


class Watcher(pl.Callback):
    """Keeps the weights after each epoch, and the rates of its last step."""

    def __init__(self) -> None:
        self.states: list[dict[str, torch.Tensor]] = []
        self.rates: list[list[float]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if trainer.is_last_batch:
            self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.keep(pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.keep(pl_module)

    def keep(self, pl_module: Any) -> None:
        self.states.append({name: value.clone() for name, value in pl_module.network.state_dict().items()})


def fit(folder: Path, description: RunDescription, checkpoint: Path | None = None) -> Watcher:
    """Trains; gives what was seen."""
    folder.mkdir(exist_ok=True)
    datamodule = SarcoDataModule(description.data, None)
    datamodule.setup()
    description = replace(description, labels=datamodule.labels)
    trainer = make_trainer(description, Run(folder, "x", "Trains", False), CPU, None)
    watcher = Watcher()
    trainer.callbacks.insert(0, watcher)  # type: ignore[attr-defined]
    torch.manual_seed(0)
    trainer.fit(SarcoModel(description), datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
    return watcher


def changed(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor], part: str) -> int:
    """How many weights and statistics of a part differ."""
    return sum(not torch.equal(one[name], two[name]) for name in one if name.startswith(f"{part}."))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_frozen_parts_stay_and_then_learn(tmp_path: Path, data: Path, accumulate: int) -> None:
    """Catches frozen weights that decay, statistics that move or are measured anew, and parts that never thaw."""
    options = FitOptions(max_epochs=2, learning_rate=1e-3, accumulate_grad_batches=accumulate)
    description = describe(data, WHOLE, options, freeze_epochs=1)
    torch.manual_seed(0)
    before = {name: value.clone() for name, value in SarcoModel(description).network.state_dict().items()}
    first, second = fit(tmp_path / "run", description).states[:2]
    assert changed(before, first, "encoder") == changed(before, first, "decoder") == 0
    assert changed(before, first, "head") == 2
    assert changed(first, second, "encoder") > 300 and changed(first, second, "decoder") > 30


def test_what_was_not_taken_learns_while_the_rest_is_frozen(tmp_path: Path, data: Path) -> None:
    """Catches a fresh decoder that is frozen with the encoder."""
    description = describe(data, ("encoder",), FitOptions(max_epochs=1, learning_rate=1e-3), freeze_epochs=1)
    torch.manual_seed(0)
    before = {name: value.clone() for name, value in SarcoModel(description).network.state_dict().items()}
    first = fit(tmp_path / "run", description).states[0]
    assert changed(before, first, "encoder") == 0 and changed(before, first, "decoder") > 30


def test_each_group_has_its_rate_also_where_a_run_goes_on(tmp_path: Path, data: Path) -> None:
    """Catches a schedule that gives all weights one rate, a resumed run with the old rates, and one that differs."""
    options = FitOptions(max_epochs=3, learning_rate=1e-3, scheduler="cosine", warmup_epochs=0)
    description = describe(data, WHOLE, options, encoder_lr_factor=0.1, freeze_epochs=1)
    whole = fit(tmp_path / "whole", description)
    assert len(whole.rates) == 3 and whole.rates[0][0] > 1e-4
    assert all(rates[1] == pytest.approx(0.1 * rates[0]) for rates in whole.rates)
    assert whole.rates[1][0] < whole.rates[0][0]
    checkpoint = tmp_path / "half" / "last.ckpt"

    def stop(self: Any, *_: Any) -> None:
        if self.current_epoch == 2:
            raise RuntimeError("the power goes off")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SarcoModel, "on_train_batch_end", stop)
        with pytest.raises(RuntimeError, match="power"):
            fit(tmp_path / "half", description)
    rest = fit(tmp_path / "half", description, checkpoint)
    assert rest.rates == [pytest.approx(whole.rates[2])]
    assert all(torch.equal(value, rest.states[-1][name]) for name, value in whole.states[-1].items())
    other = replace(
        description,
        fit=replace(options, max_epochs=5, learning_rate=1e-2, scheduler="none"),
        network=replace(description.network, encoder_lr_factor=0.5),
    )
    assert fit(tmp_path / "half", other, checkpoint).rates[0] == pytest.approx([1e-2, 5e-3])


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
def test_gradients_are_clipped_in_mixed_precision(data: Path, precision: Any) -> None:
    """Catches a clip of scaled gradients, and the fused optimiser that Lightning refuses to clip for."""
    description = describe(data, (), FitOptions(max_epochs=1, learning_rate=1e-3))
    datamodule = SarcoDataModule(description.data, None)
    datamodule.setup()
    norms: list[float] = []

    class Looks(pl.Callback):
        def on_before_zero_grad(self, trainer: pl.Trainer, pl_module: pl.LightningModule, _: Any) -> None:
            found = [weight.grad.norm() for weight in pl_module.parameters() if weight.grad is not None]
            norms.extend([float(torch.stack(found).norm())] if found else [])

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10) if precision == "16-mixed" else None
    mixed = MixedPrecision(precision, "cpu", scaler)
    trainer = pl.Trainer(
        accelerator="cpu", plugins=[mixed], gradient_clip_val=0.25, max_epochs=1, logger=False, callbacks=[Looks()],
        enable_checkpointing=False, enable_progress_bar=False, use_distributed_sampler=False, num_sanity_val_steps=0,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(SarcoModel(replace(description, labels=datamodule.labels)), datamodule=datamodule)
    assert norms and max(norms) == pytest.approx(0.25, rel=0.01)


@pytest.mark.parametrize(("taken", "n_groups"), [((), 1), (("encoder",), 2), (("encoder", "decoder"), 2), (WHOLE, 2)])
def test_every_weight_is_in_one_group(data: Path, taken: tuple[str, ...], n_groups: int) -> None:
    """Catches a weight that no optimiser has, and the record's rate, which is the first group's, of taken weights."""
    network = SarcoModel(describe(data, taken, FitOptions())).network
    groups = parameter_groups(network, taken)
    names = [id(weight) for group in groups for weight in group["params"]]
    assert len(groups) == n_groups
    assert sorted(names) == sorted(id(weight) for weight in network.parameters())
    assert any(weight is network.head[0].bias for weight in groups[0]["params"])
    assert len(taken_modules(network, taken)) == len(set(taken) - {"head"})


def test_options_without_effect_are_told() -> None:
    """Catches a rate or a freeze that is asked for and never happens, because no weights could be had."""
    typed = NetworkOptions(pretrained="no", encoder_lr_factor=0.1, freeze_epochs=2)
    assert why_nothing_happens(typed, ()).startswith("without effect: --encoder_lr_factor, --freeze_epochs (")
    assert why_nothing_happens(typed, ("encoder",)) == ""
    assert why_nothing_happens(NetworkOptions(pretrained="no"), ()) == ""
