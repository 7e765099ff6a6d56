"""What is kept of a run: whole checkpoints, the rows of earlier parts, patience; and what the Trainer is told."""

import csv
import errno
import os
import resource
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from model import SarcoModel
from sarco.api.training import Trained
from sarco.core.errors import DataWarning, InputError
from sarco.core.training_options import (
    AugmentOptions,
    DataOptions,
    FitOptions,
    MixupOptions,
    NetworkOptions,
    PredictedOptions,
    RunOptions,
)
from sarco.network.device import Device, choose_device
from sarco.phantom.patient import PhantomOptions, write_dataset
from sarco.runs.store import Run, RunDescription
from sarco.scan.labels import LabelTable
from sarco.training import callbacks
from sarco.training.callbacks import (
    STEPS_BETWEEN_READINGS,
    AtomicCheckpointIO,
    BestAndLast,
    PatientEarlyStopping,
    RunRecord,
    best_score,
    draw_curves,
    make_trainer,
    why_stopped,
)
from sarco.training.progress import EpochLines, StepBar
from sarco.training.split import pseudonym
from sarco_datamodule import SarcoDataModule
from training import closing_lines

CPU = Device("cpu", 1, "32-true", "")


class Scripted(pl.LightningModule):
    """Learns next to nothing and reports the score that it is told to."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.scores = scores

    def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
        loss: torch.Tensor = self.layer(batch).square().mean()
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: torch.Tensor, _: int) -> None:
        self.log("val_score", self.scores[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.25)


def describe(run: RunOptions | None = None, **fit: Any) -> RunDescription:
    """A run with these options."""
    return RunDescription(
        run=run or RunOptions(run_id="x"),
        labels=LabelTable({1: "muscle"}),
        data=DataOptions(image_size=512, crop="box"),
        network=NetworkOptions(),
        fit=FitOptions(**fit),
        augment=AugmentOptions(),
        mixup=MixupOptions(),
        predicted=PredictedOptions(),
        weights="random",
        split={},
    )


def make_run(folder: Path) -> Run:
    """An empty run folder."""
    folder.mkdir(exist_ok=True)
    return Run(folder, "x", "Trains", False)


def fit(
    run: Run,
    scores: list[float],
    checkpoint: Path | None = None,
    lines: EpochLines | None = None,
    bar: bool = False,
    **options: Any,
) -> pl.Trainer:
    """Trains with the given scores, one per epoch."""
    trainer = make_trainer(describe(**options), run, CPU, None, lines, bar)
    loader = DataLoader([torch.ones(1)] * 2, batch_size=2)
    trainer.fit(Scripted(scores), loader, loader, ckpt_path=checkpoint, weights_only=True)
    return trainer


def rows_of(run: Run) -> list[dict[str, str]]:
    """The lines of metrics.csv."""
    with open(run.folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_broken_off_save_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Catches half a checkpoint under the real name: whatever happens while one is written, the old one is whole."""
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)

    def save_half(_: Any, file: Any) -> None:
        file.write(b"PK half of it")
        assert torch.load(path)["epoch"] == 1, "a kill at this moment leaves the old one too"
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.torch, "save", save_half)
        with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else InputError):
            AtomicCheckpointIO().save_checkpoint({"epoch": 2}, path)
    assert torch.load(path) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    AtomicCheckpointIO().save_checkpoint({"epoch": 2}, path)
    assert torch.load(path) == {"epoch": 2}


def test_checkpoint_is_on_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a rename that overtakes the content, which a power cut turns into an empty file."""
    order = []
    sync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (order.append("sync"), sync(file))[1])
    monkeypatch.setattr(os, "replace", lambda *paths: (order.append("rename"), rename(*paths))[1])
    AtomicCheckpointIO().save_checkpoint({}, tmp_path / "new" / "last.ckpt")
    assert order == ["sync", "rename"]


def test_best_and_last_are_what_they_say(tmp_path: Path) -> None:
    """Catches the worst kept as the best, and a last that is the best."""
    run = make_run(tmp_path / "run")
    trainer = fit(run, [0.3, 0.9, 0.5], max_epochs=3)  # also after an epoch that was not the best
    best, last = (torch.load(run.checkpoint_path(name), weights_only=True) for name in ("best", "last"))
    assert (best["epoch"], last["epoch"]) == (1, 2)
    assert {path.name for path in run.folder.iterdir()} == {"best.ckpt", "last.ckpt", "metrics.csv", "curves.png"}
    assert best_score(trainer) == pytest.approx(0.9)


def test_moved_run_goes_on_at_its_new_place(tmp_path: Path) -> None:
    """Catches a best checkpoint that is looked for, or written, where the run used to be."""
    run = make_run(tmp_path / "before")
    fit(run, [0.3, 0.9], max_epochs=2)
    shutil.move(run.folder, tmp_path / "after")
    moved = make_run(tmp_path / "after")
    trainer = fit(moved, [0.3, 0.9, 0.5, 0.95], moved.folder / "last.ckpt", max_epochs=3)
    keeper = next(c for c in trainer.checkpoint_callbacks if isinstance(c, BestAndLast))
    assert keeper.best_score == pytest.approx(0.9)
    assert torch.load(moved.folder / "best.ckpt", weights_only=True)["epoch"] == 1, "0.5 does not beat 0.9"
    fit(moved, [0.3, 0.9, 0.5, 0.95], moved.folder / "last.ckpt", max_epochs=4)
    assert torch.load(moved.folder / "best.ckpt", weights_only=True)["epoch"] == 3
    assert not (tmp_path / "before").exists()
    assert not list(moved.folder.glob("*-v*"))


def test_record_keeps_the_rows_before_the_epoch_it_goes_on_with(tmp_path: Path) -> None:
    """Catches an epoch that is in the record twice, and a record that begins anew."""
    run = make_run(tmp_path / "run")
    fit(run, [0.1, 0.2, 0.3], max_epochs=3)
    before = rows_of(run)
    shutil.copy(run.folder / "last.ckpt", tmp_path / "three.ckpt")
    with open(run.folder / "metrics.csv", "a", encoding="utf-8") as file:
        file.write("3,0.25,9,9\n")  # of an epoch whose checkpoint was never written
    fit(run, [0.1, 0.2, 0.3, 0.4, 0.5], tmp_path / "three.ckpt", max_epochs=5)
    rows = rows_of(run)
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert rows[:3] == before
    assert [float(row["val_score"]) for row in rows] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert {float(row["learning_rate"]) for row in rows} == {0.25}


def test_record_is_written_before_the_checkpoint(tmp_path: Path) -> None:
    """Catches an epoch that is lost to the record, because the run was killed between checkpoint and record."""
    trainer = make_trainer(describe(), make_run(tmp_path / "run"), CPU, None)
    kinds = [type(callback) for callback in trainer.checkpoint_callbacks]
    assert kinds.index(RunRecord) < kinds.index(BestAndLast)


def test_curves_are_drawn_also_where_scores_are_missing(tmp_path: Path) -> None:
    """Catches a run with mixup, which has no training scores, that dies of its picture."""
    rows = [{"epoch": "0", "val_loss": "1.5", "train_dice": ""}, {"epoch": "1", "val_loss": "nan"}]
    draw_curves(rows, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_unlimited_run_ends_by_patience(tmp_path: Path) -> None:
    """Catches --max_epochs=-1 that never ends, --patience off by one, and an equal score taken for a better one."""
    run = make_run(tmp_path / "run")
    trainer = fit(run, [0.2, 0.5, 0.5, 0.4, 0.45, 0.9, 0.9], max_epochs=-1, patience=3)
    assert trainer.current_epoch == 5, "the best is of epoch 1, then three epochs without an increase"
    assert len(rows_of(run)) == 5


def test_without_early_stopping_nothing_waits(tmp_path: Path) -> None:
    """Catches --early_stopping=no that is accepted and stops all the same."""
    run = make_run(tmp_path / "run")
    assert fit(run, [0.5] * 6, max_epochs=6, patience=1, early_stopping=False).current_epoch == 6
    assert (
        fit(make_run(tmp_path / "other"), [0.5] * 6, max_epochs=6, patience=1, early_stopping=True).current_epoch == 2
    )


def test_resumed_run_goes_on_counting_with_the_patience_of_now(tmp_path: Path) -> None:
    """Catches a count that begins anew, and a patience that is the stored one whatever is typed."""
    scores = [0.5, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4]
    run = make_run(tmp_path / "run")
    fit(run, scores, max_epochs=3, patience=5, early_stopping=True)
    shutil.copy(run.folder / "last.ckpt", tmp_path / "three.ckpt")
    assert fit(run, scores, tmp_path / "three.ckpt", max_epochs=8, patience=5, early_stopping=True).current_epoch == 6
    assert fit(run, scores, tmp_path / "three.ckpt", max_epochs=8, patience=3, early_stopping=True).current_epoch == 4
    state = torch.load(run.folder / "last.ckpt", weights_only=True)["callbacks"]
    waiting = next(value for name, value in state.items() if "EarlyStopping" in name)
    assert (waiting["wait_count"], waiting["patience"]) == (3, 3)
    stopper = PatientEarlyStopping(9)
    stopper.load_state_dict(waiting)
    assert (stopper.patience, stopper.wait_count) == (9, 3)


@pytest.mark.parametrize(("asked", "told"), [("auto", "32-true"), ("32", "32-true"), ("bf16", "bf16-mixed")])
def test_precision_reaches_the_trainer(tmp_path: Path, asked: str, told: str) -> None:
    """Catches --precision that is accepted and computes as before."""
    trainer = make_trainer(describe(), make_run(tmp_path / "run"), choose_device(-1, asked), None)
    assert trainer.precision == told


def test_several_machines_train_together(tmp_path: Path) -> None:
    """Catches --num_nodes and --devices that never reach Lightning."""
    options = RunOptions(run_id="x", devices=2, num_nodes=3)
    trainer = make_trainer(describe(options), make_run(tmp_path / "run"), choose_device(-1, "auto", 2), None)
    assert (trainer.num_nodes, trainer.num_devices, trainer.world_size) == (3, 2, 6)
    assert type(trainer.strategy).__name__ == "DDPStrategy"
    alone = make_trainer(describe(replace(options, devices=1, num_nodes=1)), make_run(tmp_path / "run"), CPU, None)
    assert alone.world_size == 1 and type(alone.strategy).__name__ == "SingleDeviceStrategy"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small patients with several labels."""
    folder = tmp_path_factory.mktemp("evidence") / "data"
    write_dataset(folder, 4, 1, PhantomOptions(n_slices=10, rows=64, columns=72, labels="groups"))
    return folder


def train_for_real(data: Path, run: Run, epochs: int = 2) -> SarcoDataModule:
    """Trains a network of 64 pixels; gives its data module."""
    options = DataOptions(data_dir=data, image_size=64, batch_size=6, val_fraction=0.5)
    datamodule = SarcoDataModule(options, run.folder.parent / "cache")
    datamodule.setup()
    fit_options = FitOptions(max_epochs=epochs, learning_rate=3e-3)
    description = replace(describe(), data=datamodule.options, labels=datamodule.labels, fit=fit_options)
    description = replace(description, network=NetworkOptions(pretrained="no"))
    torch.manual_seed(0)
    make_trainer(description, run, CPU, None).fit(SarcoModel(description), datamodule=datamodule)
    return datamodule


def test_checkpoint_holds_the_errors_of_its_own_epoch(tmp_path: Path, data: Path) -> None:
    """Catches errors of another epoch, of training patients, of slices instead of patients, or of mixed-up labels."""
    run = make_run(tmp_path / "run")
    datamodule = train_for_real(data, run)
    val_patients = {datamodule.slices[i].header.patient_id for i in datamodule.split.val}
    assert len(val_patients) == 2
    for choice in ("best", "last"):
        model = SarcoModel.from_checkpoint(run.checkpoint_path(choice)).eval()
        expected: dict[str, list[float]] = {patient: [] for patient in val_patients}
        of_first: dict[str, list[float]] = {patient: [] for patient in val_patients}
        first = datamodule.labels.names[datamodule.labels.ids[0]]
        for batch in datamodule.val_dataloader():
            with torch.no_grad():
                found = model(batch["image"]).argmax(1)
            for index, predicted, truth in zip(batch["index"].tolist(), found, batch["label"], strict=True):
                patient = datamodule.slices[index].header.patient_id
                for errors, one, two in (
                    (expected, predicted > 0, truth > 0),
                    (of_first, predicted == 1, truth == 1),
                ):
                    if one.any():
                        errors[patient].append(abs(int(one.sum()) - int(two.sum())) / int(one.sum()))
        stored = model.description.area_errors
        assert set(stored) == {"all", *datamodule.labels.names.values()}
        for name, by_patient in (("all", expected), (first, of_first)):
            wanted = sorted((sorted(errors) for errors in by_patient.values() if errors), key=max)
            assert len(stored[name]) == len(wanted)
            for one, two in zip(stored[name], wanted, strict=True):
                assert one == pytest.approx(two, rel=0.02), "the batches differ, and with them the last bits"
        assert stored["all"], "the network predicted something, else this test shows nothing"
        assert model.description.validation.keys() == {pseudonym(patient) for patient in val_patients}
        statistics = model.description.training_statistics
        assert statistics["n_slices"] == len(datamodule.split.train) == 20


def test_errors_of_training_patients_are_no_evidence(data: Path, tmp_path: Path) -> None:
    """Catches intervals from slices of patients that trained, or whose truth is a prediction."""
    alone = tmp_path / "alone"
    alone.mkdir()
    for path in (data / "P001", data / "P001.nii.gz", data / "labels.json"):
        (shutil.copytree if path.is_dir() else shutil.copy)(path, alone / path.name)
    options = DataOptions(data_dir=alone, image_size=64, batch_size=6, val_fraction=0.5)
    datamodule = SarcoDataModule(options, tmp_path / "cache")
    with pytest.warns(DataWarning, match="no independent test"):
        datamodule.setup()
    assert datamodule.split.val and datamodule.validation_patients() == {}
    several = SarcoDataModule(replace(options, data_dir=data), tmp_path / "cache")
    several.setup()
    assert several.validation_patients().keys() == set(several.split.val)
    first = several.split.val[0]
    item = several.slices[first]
    changed = replace(item, case=replace(item.case, predicted=True))
    several.slices = (*several.slices[:first], changed, *several.slices[first + 1 :])
    assert several.validation_patients().keys() == set(several.split.val) - {first}


def test_gradients_of_several_batches_make_one_step(tmp_path: Path) -> None:
    """Catches --accumulate_grad_batches without effect, and gradients that add up instead of being averaged."""
    loader = DataLoader([torch.ones(1), torch.zeros(1), torch.ones(1), torch.zeros(1)], batch_size=1)
    weights = []
    for n, steps in ((2, 2), (1, 4)):
        trainer = make_trainer(
            describe(max_epochs=1, accumulate_grad_batches=n), make_run(tmp_path / str(n)), CPU, None
        )
        module = Scripted([0.5])
        torch.nn.init.ones_(module.layer.weight)
        torch.nn.init.zeros_(module.layer.bias)
        trainer.fit(module, loader, loader)
        assert trainer.global_step == steps
        weights.append(float(module.layer.weight.detach()))
    # By hand: (w x + b)^2 from w = 1, b = 0, steps of 0.25 times the mean of the two gradients.
    w, b = 1.0, 0.0
    for _ in range(2):
        slope = 2 * (w + b)  # at x = 1; at x = 0 it is 2 b, of b alone
        w, b = w - 0.25 * slope / 2, b - 0.25 * (slope + 2 * b) / 2
    assert weights[0] == pytest.approx(w)
    assert weights[1] != pytest.approx(w)


def test_a_run_that_never_found_anything_is_told(tmp_path: Path) -> None:
    """Catches "best soft Dice -0.25", and a run without use that ends like any other."""
    run = make_run(tmp_path / "run")

    def lines(scores: list[float]) -> list[str]:
        return closing_lines(Trained("run", run.folder, best_score(fit(run, scores, max_epochs=2))), "training.py")

    assert "best validation soft Dice: 0.7500" in lines([-0.5, -0.25])
    assert any("finds anything in the validation slices" in line for line in lines([-0.5, -0.25]))
    assert "best validation soft Dice: 0.1000" in lines([-0.25, 0.1])
    assert not any("finds anything" in line for line in lines([-0.25, 0.1]))


def test_a_run_that_stops_early_says_when_and_why(tmp_path: Path) -> None:
    """Catches a training that ends before its last epoch without a word, or says so of one that does not."""
    run = make_run(tmp_path / "run")
    trainer = fit(run, [0.5, 0.4, 0.3, 0.2, 0.1], max_epochs=5, patience=2, early_stopping=True)
    assert why_stopped(trainer) == (
        "stopped early after epoch 3: the validation score was not beaten for 2 epochs (--patience)"
    )
    assert why_stopped(fit(run, [0.1, 0.2], max_epochs=2)) == ""


def test_each_epoch_is_one_line_counted_from_1(tmp_path: Path) -> None:
    """Catches epochs counted from 0, a line without the time left, and a last one that still promises more."""
    said: list[str] = []
    seen: list[tuple[int, int]] = []
    lines = EpochLines(said.append, lambda epoch, of, figures: seen.append((epoch, of)))
    fit(make_run(tmp_path / "run"), [0.3, 0.9, 0.5], max_epochs=3, lines=lines)
    assert [line.split(":")[0] for line in said] == ["epoch 1 of 3", "epoch 2 of 3", "epoch 3 of 3"]
    assert all("score 0." in line and "v_num" not in line for line in said)
    assert ["left" in line for line in said] == [True, True, False]
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_bars_are_gone_before_the_line_of_the_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches bars on stdout, which somebody may have redirected, a line glued to a bar, and "Epoch 0"."""
    lines = EpochLines(lambda line: print(line, file=sys.stderr))
    fit(make_run(tmp_path / "run"), [0.3, 0.9], max_epochs=2, lines=lines, bar=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "\repoch 1 of 2:   0%|" in err and "\rvalidation:" in err
    assert "Epoch 0" not in err and "v_num" not in err
    left = [line.split("\r")[-1] for line in err.split("\n")]  # what a terminal leaves standing
    assert [line.split(":")[0] for line in left if "score 0." in line] == ["epoch 1 of 2", "epoch 2 of 2"]


def test_a_gpu_need_not_wait_for_a_figure_in_each_step(tmp_path: Path) -> None:
    """Catches a progress bar or a log that reads the loss in every step, which a GPU has to wait for."""
    for accelerator, steps in (("cpu", 1), ("gpu", STEPS_BETWEEN_READINGS)):
        told: dict[str, Any] = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(callbacks.pl, "Trainer", lambda told=told, **words: told.update(words))
            device = Device(accelerator, 1, "32-true", "")
            make_trainer(describe(), make_run(tmp_path / "run"), device, None, bar=True)
        bar = next(item for item in told["callbacks"] if isinstance(item, StepBar))
        assert told["log_every_n_steps"] == bar.refresh_rate == steps


FULL = [errno.ENOSPC, errno.EDQUOT, errno.EFBIG]


def of_data(told: pytest.WarningsRecorder) -> list[str]:
    """What was told of the user's data, without what libraries say of themselves."""
    return [str(each.message) for each in told if issubclass(each.category, DataWarning)]


@pytest.mark.parametrize(
    ("number", "call"),
    [*((number, "fsync") for number in (*FULL, errno.EROFS)), (errno.EACCES, "replace"), (errno.EIO, "replace")],
)
def test_checkpoint_that_cannot_be_written_ends_a_run_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    """Catches a foreign traceback for a full disk, a quota, or a disk that became read-only in the middle of a run."""
    run = make_run(tmp_path / "x_Trains")
    fit(run, [0.1], max_epochs=1)
    before = run.checkpoint_path("last").read_bytes()

    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.warns(DataWarning) as told, pytest.raises(InputError) as caught:
        fit(run, [0.1, 0.9], run.checkpoint_path("last"), max_epochs=2)
    assert ["metrics.csv" in line for line in of_data(told)] == [True]
    text = str(caught.value)
    assert os.strerror(number) in text and "the checkpoint of epoch 2" in text and "\n" not in text
    assert ("MB are free" in text and "make room" in text) == (number in FULL)
    assert f"--ckpt_path_to_resume_from={run.folder}" in text
    assert run.checkpoint_path("last").read_bytes() == before
    assert sorted(path.name for path in run.folder.iterdir()) == ["best.ckpt", "curves.png", "last.ckpt", "metrics.csv"]


def test_size_of_files_is_limited(tmp_path: Path) -> None:
    """Catches torch's own error, "unexpected pos", for a file that the system does not let grow."""
    big = {"epoch": 4, "state_dict": {"w": torch.zeros(500_000)}}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"epoch 5 cannot be written \(File too large.*needs about 2.0 MB"):
            AtomicCheckpointIO().save_checkpoint(big, tmp_path / "last.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_record_that_cannot_be_written_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a training that ends for the sake of a table or a picture, and a line for every epoch."""

    def fail(rows: object, path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(callbacks, "write_rows", fail)
    monkeypatch.setattr(callbacks, "draw_curves", lambda *_: 1 / 0)
    with pytest.warns(DataWarning) as told:
        fit(make_run(tmp_path), [0.1, 0.2, 0.3], max_epochs=3)
    assert [("metrics" in line, "curves" in line) for line in of_data(told)] == [(1, 0), (0, 1)]
    assert torch.load(tmp_path / "last.ckpt")["epoch"] == 2


def test_half_a_picture_is_never_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches half a curves.png where the disk is full."""
    (tmp_path / "curves.png").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        draw_curves([{"epoch": "0", "train_loss": "1"}], tmp_path / "curves.png")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("curves.png", b"old")]
