"""Going on with a run: what may change is changed and said, what may not is refused by its name."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sarco.core.errors import CheckpointError, OptionError
from sarco.core.training_options import (
    AugmentOptions,
    DataOptions,
    FitOptions,
    MixupOptions,
    NetworkOptions,
    PredictedOptions,
    RunOptions,
)
from sarco.runs.resume import FIXED, open_run
from sarco.runs.store import RunDescription, RunStore
from sarco.scan.labels import LabelTable

DONE = 3  # epochs


@pytest.fixture
def description(tmp_path: Path) -> RunDescription:
    """A run of three epochs, of ten that were asked for."""
    return RunDescription(
        run=RunOptions(dirpath=tmp_path / "runs", run_id="first", wandb="no"),
        labels=LabelTable({1: "muscle"}),
        data=DataOptions(data_dir=Path("data"), image_size=64, pixel_mm=6.5, field_mm=416.0),
        network=NetworkOptions(),
        fit=FitOptions(max_epochs=10, learning_rate=1e-3, patience=4, early_stopping=True),
        augment=AugmentOptions(),
        mixup=MixupOptions(mixup="input"),
        predicted=PredictedOptions(),
        weights="imagenet",
        split={"seed": 0},
    )


def write(description: RunDescription, folder: Path | None = None, wait_count: int = 0) -> Path:
    """A run's folder with a last and a best checkpoint; gives the folder."""
    run = RunStore(description.run.dirpath).create(description.run.run_id, description.run.wandb_project, False)
    content = {
        "hyper_parameters": description.to_builtins(),
        "state_dict": {},
        "callbacks": {"PatientEarlyStopping{'monitor': 'val_score'}": {"wait_count": wait_count, "patience": 4}},
    }
    torch.save({**content, "epoch": DONE - 1}, run.folder / "last.ckpt")
    torch.save({**content, "epoch": 0}, run.folder / "best.ckpt")
    if folder:
        shutil.move(run.folder, folder)
    return folder or run.folder


def test_nothing_typed_changes_nothing(description: RunDescription) -> None:
    """Catches defaults that win over what was stored."""
    folder = write(description)
    resumed = open_run(folder, {})
    assert resumed.changes == ()
    assert resumed.checkpoint == folder / "last.ckpt"
    assert (resumed.run.run_id, resumed.run.folder) == ("first", folder)
    pretrained = replace(description.network, pretrained="no")  # the checkpoint holds the weights
    assert resumed.description == replace(description, network=pretrained)


def test_checkpoint_can_be_given_instead_of_its_folder(description: RunDescription) -> None:
    """Catches a best checkpoint that is asked for and a last one that is taken."""
    folder = write(description)
    assert open_run(folder / "best.ckpt", {}).checkpoint == folder / "best.ckpt"
    assert open_run(folder / "best.ckpt", {}).run.folder == folder


def test_moved_folder_goes_on_where_it_is(description: RunDescription, tmp_path: Path) -> None:
    """Catches a run that writes to the place where it began."""
    (tmp_path / "elsewhere").mkdir()
    folder = write(description, tmp_path / "elsewhere" / "another name")
    resumed = open_run(folder, {})
    assert resumed.run.folder == folder and resumed.description.run.dirpath == tmp_path / "elsewhere"
    assert resumed.changes == ()
    assert open_run(folder, {"dirpath": tmp_path / "elsewhere"}).changes == ()


CHANGES: dict[str, Any] = {
    "learning_rate": 5e-5,
    "max_epochs": 20,
    "scheduler": "cosine",
    "warmup_epochs": 2,
    "patience": 9,
    "early_stopping": False,
    "precision": "32",
    "batch_size": 8,
    "num_workers": 2,
    "data_dir": Path("moved"),
    "augment": "light",
    "do_flips": True,
    "do_elastic_transforms": True,
    "aug_prob": 0.5,
    "mixup": "manifold",
    "mixup_alpha": 0.7,
    "mixed_layer": "3",
    "predicted_weight": 0.3,
    "wandb": "offline",
    "gpu": -1,
    "devices": 2,
    "cache": False,
    "cache_dir": Path("elsewhere"),
    "accumulate_grad_batches": 2,
}


@pytest.mark.parametrize("name", CHANGES)
def test_typed_value_wins_and_is_said(description: RunDescription, name: str) -> None:
    """Catches a flag that is typed and forgotten."""
    resumed = open_run(write(description), {name: CHANGES[name], "resume_training": True})
    parts = ("run", "data", "fit", "augment", "mixup", "predicted", "network")
    values = {k: v for part in parts for k, v in vars(getattr(resumed.description, part)).items()}
    assert values[name] == CHANGES[name]
    assert len(resumed.changes) == 1 and resumed.changes[0].startswith(f"--{name}: ")
    before = {k: v for part in parts for k, v in vars(getattr(description, part)).items()}
    assert {k for k in values if values[k] != before[k]} <= {name, "pretrained"}


def test_change_is_said_in_the_words_of_the_command_line(description: RunDescription) -> None:
    """Catches `False -> True`, which nobody types."""
    resumed = open_run(write(description), {"do_flips": True, "learning_rate": 0.01})
    assert set(resumed.changes) == {"--do_flips: no -> yes", "--learning_rate: 0.001 -> 0.01"}


FIXED_VALUES: dict[str, Any] = {
    "backbone": "efficientnet-b3",
    "model_choice": "segresnet",
    "pretrained": "imagenet",
    "channel_3d": True,
    "crop": "box",
    "pixel_mm": 3.0,
    "field_mm": 400.0,
    "image_size": 96,
    "hu_min": -200.0,
    "hu_max": 200.0,
    "val_fraction": 0.3,
    "folds": 5,
    "fold": "2",
    "seed": 1,
    "invented": 0.5,
    "style_from": Path("scans"),
    "run_id": "second",
    "wandb_project": "Other",
    "dirpath": Path("other"),
    "add_predicted_data": True,
    "predicted_data_to": "both",
    "min_confidence": 0.5,
}


def test_every_fixed_flag_is_tried() -> None:
    """Catches a flag that joins the fixed ones without a test."""
    assert set(FIXED) == FIXED_VALUES.keys()


@pytest.mark.parametrize("name", FIXED_VALUES)
def test_what_cannot_change_is_refused_by_name(description: RunDescription, name: str) -> None:
    """Catches weights loaded into another network, and a validation patient who is trained on."""
    with pytest.raises(OptionError, match=f"--{name}=.*cannot change"):
        open_run(write(description), {name: FIXED_VALUES[name]})


def test_the_same_value_typed_again_is_fine(description: RunDescription) -> None:
    """Catches a run that cannot go on with its own command line."""
    typed = {"backbone": "efficientnet-b0", "seed": 0, "run_id": "first", "dirpath": description.run.dirpath}
    assert open_run(write(description), typed).changes == ()


@pytest.mark.parametrize("limit", [1, DONE])
def test_epochs_that_are_done_already(description: RunDescription, limit: int) -> None:
    """Catches a run that does nothing and says nothing."""
    with pytest.raises(OptionError, match=f"--max_epochs={limit}: run first has finished {DONE} epochs already"):
        open_run(write(description), {"max_epochs": limit})


@pytest.mark.parametrize("limit", [DONE + 1, -1])
def test_epochs_that_are_left(description: RunDescription, limit: int) -> None:
    """Catches a limit that is off by one, and -1 taken for a number of epochs."""
    assert open_run(write(description), {"max_epochs": limit}).description.fit.max_epochs == limit


def test_run_that_stopped_early_says_so(description: RunDescription) -> None:
    """Catches a run that stops after one more epoch, each time it is resumed."""
    folder = write(description, wait_count=4)
    with pytest.raises(OptionError, match=f"--patience=4: run first stopped early after {DONE} epochs"):
        open_run(folder, {"max_epochs": 20})
    assert open_run(folder, {"patience": 5}).description.fit.patience == 5
    assert not open_run(folder, {"early_stopping": False}).description.fit.early_stopping


def test_a_run_that_is_done_opens_where_that_is_asked_for(description: RunDescription) -> None:
    """Catches a finished fold that is trained once more, and one that is not finished but counts as if."""
    folder = write(description)
    assert open_run(folder, {}, done_too=True).why_done == ""
    assert "has finished 3 epochs already" in open_run(folder, {"max_epochs": DONE}, done_too=True).why_done


def test_value_out_of_its_range_is_refused(description: RunDescription) -> None:
    """Catches checks that only new runs make."""
    with pytest.raises(OptionError, match="--learning_rate=-1"):
        open_run(write(description), {"learning_rate": -1.0})
    with pytest.raises(OptionError, match="--scheduler=cosine"):
        open_run(write(replace(description, run=replace(description.run, run_id="b"))), {
            "scheduler": "cosine", "max_epochs": -1
        })  # fmt: skip


def test_place_without_a_checkpoint(description: RunDescription, tmp_path: Path) -> None:
    """Catches a traceback, or a new run, where there is nothing to go on from."""
    folder = write(description)
    (folder / "last.ckpt").unlink()
    for path in (folder, tmp_path / "nowhere", folder / "third.ckpt"):
        with pytest.raises(CheckpointError, match="there is no such checkpoint"):
            open_run(path, {})


def test_damaged_checkpoint(description: RunDescription) -> None:
    """Catches a traceback of torch."""
    folder = write(description)
    path = folder / "last.ckpt"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=r"last\.ckpt"):
        open_run(folder, {})


def test_checkpoint_of_another_run(description: RunDescription) -> None:
    """Catches a run that goes on under the name of another."""
    folder = write(description)
    (folder / "run.json").write_text(json.dumps({"run_id": "x", "wandb_project": "Trains", "channel_3d": False}))
    with pytest.raises(CheckpointError, match="lies in no folder of its run"):
        open_run(folder, {})
