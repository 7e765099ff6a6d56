"""`sarco.train` trains, resumes and can be told to stop; it says nothing and leaves its caller's process alone."""

import csv
import logging
import os
import random
import shutil
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sarco
from model import SarcoModel
from sarco.api.training import Listener, _with_pixels_of_start
from sarco.core.errors import InputError, OptionError, SarcoError
from sarco.core.training_options import DataOptions, NetworkOptions
from sarco.network.warm_start import known_start
from sarco.phantom.patient import PhantomOptions, write_dataset
from sarco.runs.store import built_in_description, load_checkpoint


def test_the_run_is_where_it_says(tiny_run: Any) -> None:
    """Catches a result that does not lead to the checkpoints, and a score that is not that of the record."""
    trained = tiny_run.trained
    assert trained.run_id == "tiny" and trained.folder == tiny_run.dirpath / "tiny_Trains"
    assert trained.best.is_file() and trained.last.is_file()
    assert not trained.interrupted and trained.why_stopped == ""
    with open(trained.folder / "metrics.csv", newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert trained.score == pytest.approx(float(row["val_score"]), rel=1e-4)


def test_progress_comes_once_per_epoch_counted_from_1(tiny_run: Any) -> None:
    """Catches epochs counted from 0, a total that is missing, and figures without names."""
    ((number, total, figures),) = tiny_run.epochs
    assert (number, total) == (1, 1)
    assert {"train_loss", "val_loss", "val_dice", "val_score"} <= figures.keys()
    assert all(isinstance(value, float) for value in figures.values())


def test_lines_for_the_user_come_to_who_wants_them(tiny_run: Any) -> None:
    """Catches a training from Python of which one cannot learn what it found and where it runs."""
    text = "\n".join(tiny_run.lines)
    assert "6 slices for training, 3 for validation (by patient); labels: 1 skeletal_muscle" in text
    assert "device: CPU" in text and "epoch 1 of 1: loss" in text


def test_a_training_goes_on(tiny_run: Any, tmp_path: Path) -> None:
    """Catches a resume that begins anew, that needs its options again, or that takes no text as a path."""
    shutil.copytree(tiny_run.dirpath / "tiny_Trains", tmp_path / "ckpt" / "tiny_Trains")
    epochs: list[tuple[int, int]] = []
    trained = sarco.train(
        resume_training=True,
        ckpt_path_to_resume_from=str(tmp_path / "ckpt" / "tiny_Trains"),
        max_epochs=2,
        progress=lambda number, total, figures: epochs.append((number, total)),
    )
    assert epochs == [(2, 2)]
    assert trained.run_id == "tiny" and trained.folder == tmp_path / "ckpt" / "tiny_Trains"
    with open(trained.folder / "metrics.csv", newline="", encoding="utf-8") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1"]
    assert trained.best.is_file()


def state() -> dict[str, Any]:
    """What a training could change for everybody else in the process."""
    return {
        "filters": warnings.filters[:],
        "level": logging.getLogger("pytorch_lightning").level,
        "environment": dict(os.environ),
        "random": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),  # type: ignore[index, union-attr]
        "torch": torch.get_rng_state().tolist(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "benchmark": torch.backends.cudnn.benchmark,
        "threads": torch.get_num_threads(),
        "grad": torch.is_grad_enabled(),
        "folder": Path.cwd(),
    }


def test_two_trainings_in_one_process(
    tiny_run: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches bars and lines in a notebook, a second training refused for the id of the first, and generators, warnings
    or torch left in another state."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.chdir(tmp_path)
    before = state()
    one, two = (sarco.train(str(tiny_run.data), dirpath="ckpt", max_epochs=1, **tiny_run.TRAINING) for _ in range(2))
    after = state()
    assert capfd.readouterr() == ("", "")
    assert one.run_id != two.run_id and one.best.is_file() and two.best.is_file()
    assert [name for name in before if before[name] != after[name]] == []
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt"]


def test_ctrl_c_ends_it_after_the_last_finished_epoch(tiny_run: Any, tmp_path: Path) -> None:
    """Catches a KeyboardInterrupt that takes the checkpoints, or the caller's whole notebook, with it."""

    def stop(number: int, total: int, figures: dict[str, float]) -> None:
        raise KeyboardInterrupt

    trained = sarco.train(
        tiny_run.data, dirpath=tmp_path, run_id="stopped", max_epochs=4, progress=stop, **tiny_run.TRAINING
    )
    assert trained.interrupted
    assert trained.best.is_file() and trained.last.is_file()


def test_small_data_is_learnt_from_for_long_enough(tiny_run: Any, tmp_path: Path) -> None:
    """Catches a default training of few slices that ends after a few steps, or that says nothing of its length."""
    lines: list[str] = []

    def stop(number: int, total: int, figures: dict[str, float]) -> None:
        raise KeyboardInterrupt

    options = {**tiny_run.TRAINING, "dirpath": tmp_path, "tell": lines.append, "progress": stop}
    trained = sarco.train(tiny_run.data, run_id="long", **options)
    content = torch.load(trained.last, weights_only=True)
    assert content["global_step"] == 35 and content["hyper_parameters"]["data"]["passes_per_epoch"] == 23
    assert "30 epochs have 1050 steps" in "\n".join(lines), lines
    typed = sarco.train(tiny_run.data, run_id="typed", passes_per_epoch=2, **options)
    assert torch.load(typed.last, weights_only=True)["global_step"] == 3
    known = sarco.train(tiny_run.data, run_id="known", **{**options, "pretrained": str(tiny_run.trained.best)})
    assert torch.load(known.last, weights_only=True)["global_step"] == 11, "300 steps from a network, in 30 epochs"


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"colour": "red"}, OptionError, "'colour'"),
        ({"epochs": 3}, OptionError, "did you mean 'max_epochs'"),
        ({"batch_size": 3}, OptionError, "even"),
        ({"early_stopping": "maybe"}, OptionError, "yes or no"),
        ({"resume_training": True}, OptionError, "ckpt_path_to_resume_from"),
        ({"run_id": "tiny"}, OptionError, "exists already"),
        ({"data_dir": "nowhere"}, InputError, "nowhere"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    tiny_run: Any, options: dict[str, Any], kind: type[Exception], said: str
) -> None:
    """Catches a traceback of a library for a slip of the caller, and a folder of a training that never began."""
    before = sorted(tiny_run.dirpath.iterdir())
    with pytest.raises(kind) as caught:
        sarco.train(**{"data_dir": tiny_run.data, "dirpath": tiny_run.dirpath, **tiny_run.TRAINING, **options})
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(tiny_run.dirpath.iterdir()) == before


def test_run_that_failed_in_its_first_epoch_may_be_tried_again(tiny_run: Any, tmp_path: Path) -> None:
    """Catches a typing mistake in the learning rate that costs the run its name, and a traceback for it."""
    options = {**tiny_run.TRAINING, "dirpath": tmp_path, "run_id": "again", "max_epochs": 1}
    with pytest.raises(SarcoError, match=r"epoch 1 of 1.*: the loss .*no epoch was finished"):
        sarco.train(tiny_run.data, **{**options, "learning_rate": 1e30})
    assert sarco.train(tiny_run.data, **options).best.is_file()
    with pytest.raises(OptionError, match="--run_id=again"):
        sarco.train(tiny_run.data, **options)


def test_no_memory_says_which_step_and_what_to_lower(
    tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a foreign traceback where a batch does not fit."""
    steps: list[int] = []

    def step(self: SarcoModel, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        steps.append(batch_idx)
        if batch_idx == 1:
            torch.zeros(10**15)
        return self(batch["image"]).mean()

    monkeypatch.setattr(SarcoModel, "training_step", step)
    monkeypatch.setattr(SarcoModel, "on_train_epoch_end", lambda self: None)
    with pytest.raises(SarcoError) as caught:
        sarco.train(tiny_run.data, dirpath=tmp_path, max_epochs=2, **tiny_run.TRAINING)
    text = str(caught.value)
    assert steps == [0, 1] and text.startswith("training, epoch 1 of 2, step 2: out of memory (")
    assert "--batch_size (4)" in text and "--image_size (64)" in text and "\n" not in text


@pytest.mark.parametrize(("side", "model_choice"), [(32, "unet"), (32, "segresnet"), (64, "unet"), (64, "segresnet")])
@pytest.mark.parametrize("more", [{}, {"mixup": "manifold", "accumulate_grad_batches": 2}], ids=["plain", "mixed"])
def test_one_training_slice(tmp_path: Path, side: int, model_choice: str, more: dict[str, object]) -> None:
    """Catches a crash in batch normalisation where a slice ends up as one pixel: refused there, trained above."""
    write_dataset(tmp_path / "data", 2, 1, PhantomOptions(n_slices=1, rows=64, columns=72))
    options = {
        "dirpath": tmp_path / "ckpt", "max_epochs": 1, "pretrained": "no", "gpu": -1, "batch_size": 2,
        "image_size": side, "model_choice": model_choice,
    }  # fmt: skip
    if side == 32:
        with pytest.raises(OptionError, match=r"--image_size=32: needs more than 1 training slice.*--image_size=64"):
            sarco.train(tmp_path / "data", **options, **more)
        assert not list((tmp_path / "ckpt").glob("*_Trains")), "nothing is begun"
    else:
        assert sarco.train(tmp_path / "data", **options, **more).best.is_file()


@pytest.mark.parametrize("n_slices", [2, 3, 5])
def test_smallest_images_train_on_a_few_slices(tmp_path: Path, n_slices: int) -> None:
    """Catches a last batch of one slice, also where the network is calibrated, and too much that is refused."""
    write_dataset(tmp_path / "data", 2, 1, PhantomOptions(n_slices=n_slices, rows=64, columns=72))
    trained = sarco.train(
        tmp_path / "data", dirpath=tmp_path / "ckpt", max_epochs=1, pretrained="no", gpu=-1, batch_size=4,
        image_size=32, channel_3d=n_slices == 3,
    )  # fmt: skip
    assert trained.best.is_file()


def test_a_run_starts_from_another_by_its_id(tiny_run: Any, tmp_path: Path) -> None:
    """Catches a run id that is not looked for where checkpoints lie, and one that is not there but starts something."""
    shutil.copytree(tiny_run.dirpath, tmp_path / "ckpt")
    options = {**tiny_run.TRAINING, "dirpath": tmp_path / "ckpt", "max_epochs": 1, "pretrained": "tiny"}
    lines: list[str] = []
    trained = sarco.train(tiny_run.data, **options, tell=lines.append)
    source = str(tmp_path / "ckpt" / "tiny_Trains" / "best.ckpt")
    description = SarcoModel.from_checkpoint(trained.last).description
    assert description.weights == source and description.taken == ("encoder", "decoder", "head")
    assert [line for line in lines if line.startswith("taken from ")] == [
        f"taken from {source}: encoder, decoder, head of {', '.join(description.labels.names.values())}"
    ]
    with pytest.raises(OptionError, match=r"--pretrained=tyni: no run tyni in .*known runs: .*tiny"):
        sarco.train(tmp_path / "nowhere", **{**options, "pretrained": "tyni"})


@pytest.mark.parametrize(
    ("typed", "pretrained", "expected"),
    [
        ({}, "auto", "built-in"),
        ({}, "built-in", "built-in"),
        ({"channel_3d": True}, "auto", None),
        ({}, "no", None),
        ({}, "imagenet", None),
        ({"pixel_mm": 0.9}, "auto", None),
        ({"image_size": 64}, "auto", None),
        ({"crop": "box"}, "auto", None),
        ({}, "own", "own"),
    ],
)
def test_pixels_follow_the_network_to_start_from(
    tiny_run: Any, typed: dict[str, Any], pretrained: str, expected: str | None
) -> None:
    """Catches a start that sees all muscles at another size than it learnt, and a typed size that is overruled."""
    sizes = {
        "built-in": built_in_description().data.pixel_mm,
        "own": load_checkpoint(tiny_run.trained.best)[0].data.pixel_mm,
    }
    first = str(tiny_run.trained.best) if pretrained == "own" else pretrained
    lines: list[str] = []
    data = DataOptions(**typed)
    start = known_start(NetworkOptions(pretrained=first), data.channel_3d)
    found = _with_pixels_of_start(data, start, Listener(lines.append))
    assert found.pixel_mm == (sizes[expected] if isinstance(expected, str) else data.pixel_mm)
    assert replace(found, pixel_mm=data.pixel_mm) == data
    assert len(lines) == (found != data)
