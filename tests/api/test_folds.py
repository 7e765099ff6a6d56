"""A cross-validation trains what is left of it, scores every patient once, and says the same wherever it trains."""

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import sarco
from sarco.core.errors import CheckpointError, OptionError
from sarco.phantom.patient import PhantomOptions, write_dataset
from sarco.runs.store import load_checkpoint

OPTIONS: dict[str, Any] = {
    "image_size": 64, "batch_size": 4, "learning_rate": 1e-3, "pretrained": "no", "max_epochs": 1, "folds": 2,
    "run_id": "a",
}  # fmt: skip
RUNS = ("a_fold1", "a_fold2")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients of two slices."""
    folder = tmp_path_factory.mktemp("folds") / "data"
    write_dataset(folder, 3, 1, PhantomOptions(n_slices=2, rows=64, columns=72))
    return folder


@pytest.fixture(scope="module")
def found(data: Path) -> sarco.CrossValidated:
    """Two folds, one after the other; nobody may change their folders."""
    return sarco.cross_validate(data, dirpath=data.parent / "ckpt", gpu=-1, **OPTIONS)


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def same_weights(one: Path, other: Path) -> bool:
    """Whether two runs ended with the same network."""
    first, second = (torch.load(run / "last.ckpt", weights_only=True)["state_dict"] for run in (one, other))
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_each_patient_is_scored_by_the_network_that_never_saw_them(found: sarco.CrossValidated, data: Path) -> None:
    """Catches folds that share a patient, scores of patients who trained, and figures of another epoch or label."""
    assert found.run_id == "a" and not found.interrupted
    assert [folder.name for folder in found.folders] == [f"{run}_Trains" for run in RUNS]
    seen: dict[str, str] = {}
    for folder, number in zip(found.folders, (1, 2), strict=True):
        description, _ = load_checkpoint(folder / "best.ckpt")
        split = description.split
        assert (split["folds"], split["fold"], split["by_patient"]) == (2, number, True)
        assert description.validation.keys() == split["val"]["patients"].keys()
        assert not split["val"]["patients"].keys() & split["train"]["patients"].keys()
        seen |= dict.fromkeys(description.validation, description.run.run_id)
    assert len(seen) == 3
    (row,) = found.scores
    assert (row.label, row.n_patients) == ("skeletal_muscle", 3)
    assert found.table == data.parent / "ckpt" / "a_cross_validation.csv"
    (written,) = rows_of(found.table)
    assert float(written["dice"]) == pytest.approx(row.dice) and float(written["area_error"]) == pytest.approx(
        row.area_error
    )
    by_patient = rows_of(found.table.with_name("a_cross_validation_patients.csv"))
    assert sum(float(one["dice"]) for one in by_patient) / 3 == pytest.approx(row.dice)
    assert sorted(one["run_id"] for one in by_patient) == sorted(seen.values())
    assert all(one["patient"].startswith("phantom-") for one in by_patient), (
        "by their PatientIDs, as split.json has them"
    )


def test_what_is_missing_is_trained_and_nothing_else(found: sarco.CrossValidated, data: Path, tmp_path: Path) -> None:
    """Catches finished folds that are trained again, one that is begun anew, and one that goes on as another."""
    shutil.copytree(data.parent / "ckpt", tmp_path / "ckpt")
    shutil.rmtree(tmp_path / "ckpt" / "a_fold2_Trains")
    before = (tmp_path / "ckpt" / "a_fold1_Trains" / "last.ckpt").read_bytes()
    lines: list[str] = []
    again = sarco.cross_validate(data, dirpath=tmp_path / "ckpt", gpu=-1, tell=lines.append, **OPTIONS)
    assert (tmp_path / "ckpt" / "a_fold1_Trains" / "last.ckpt").read_bytes() == before
    assert "a_fold1 is finished already" in lines and same_weights(again.folders[1], found.folders[1])
    assert again.scores == found.scores
    longer = sarco.cross_validate(data, dirpath=tmp_path / "ckpt", gpu=-1, **{**OPTIONS, "max_epochs": 2})
    assert [len(rows_of(folder / "metrics.csv")) for folder in longer.folders] == [2, 2]
    with pytest.raises(OptionError, match="--seed=1: cannot change in a run that goes on"):
        sarco.cross_validate(data, dirpath=tmp_path / "ckpt", gpu=-1, **OPTIONS, seed=1)


def test_ctrl_c_ends_it_and_the_same_call_goes_on(data: Path, tmp_path: Path) -> None:
    """Catches Ctrl-C that ends one fold and begins the next, and scores of folds that are not finished."""
    epochs: list[int] = []

    def stop(number: int, total: int, figures: dict[str, float]) -> None:
        epochs.append(number)
        raise KeyboardInterrupt

    options = {**OPTIONS, "max_epochs": 2, "dirpath": tmp_path, "gpu": -1}
    broken = sarco.cross_validate(data, progress=stop, **options)
    assert broken.interrupted and epochs == [1] and broken.scores == () and broken.table is None
    assert not list(tmp_path.glob("*.csv")) and not list(tmp_path.glob("a_fold2*"))
    lines: list[str] = []
    whole = sarco.cross_validate(data, tell=lines.append, **options)
    assert any(line.startswith("going on with run a_fold1") for line in lines)
    assert [len(rows_of(folder / "metrics.csv")) for folder in whole.folders] == [2, 2] and whole.scores


@pytest.mark.slow
def test_folds_beside_each_other_are_the_same_folds(
    found: sarco.CrossValidated, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a fold that trains on the data or the GPU of another where several train at once, and lines that get
    lost."""
    monkeypatch.setattr("sarco.network.device.count_gpus", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    lines: list[str] = []
    beside = sarco.cross_validate(data, dirpath=tmp_path, tell=lines.append, **OPTIONS)
    assert beside.scores == found.scores
    for run, one, other in zip(RUNS, beside.folders, found.folders, strict=True):
        assert any(line.startswith(f"{run}: epoch 1 of 1") for line in lines)
        assert same_weights(one, other)


def test_runs_that_are_no_folds_of_the_same_data_give_no_scores(
    found: sarco.CrossValidated, data: Path, tmp_path: Path
) -> None:
    """Catches scores in which a patient counts twice, because patients came between two folds."""
    shutil.copytree(data.parent / "ckpt", tmp_path / "ckpt")
    for name in ("best.ckpt", "last.ckpt"):
        path, other = (tmp_path / "ckpt" / f"{run}_Trains" / name for run in RUNS)
        content, theirs = (torch.load(one, weights_only=True) for one in (path, other))
        content["hyper_parameters"]["validation"] = theirs["hyper_parameters"]["validation"]
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"runs a_fold1 and a_fold2 .*no folds of the same data"):
        sarco.cross_validate(data, dirpath=tmp_path / "ckpt", gpu=-1, **OPTIONS)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"folds": 4}, "--folds=4: takes a patient for each fold, and 3 patients found"),
        ({"val_fraction": 0.3}, "--val_fraction=0.3: does nothing beside --folds"),
        ({"invented": 1}, "--folds=2: does nothing with --invented=1"),
        ({"devices": 2}, "--devices=2: a fold of --fold=all trains on one device"),
        ({"run_id": "a b"}, "--run_id=a b"),
    ],
)
def test_what_cannot_be_used_is_one_line_of_folds(
    data: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    """Catches a slip that is told after the first fold has trained, or that leaves a folder behind."""
    more = {} if options.get("invented") else {"data_dir": data}
    with pytest.raises(OptionError) as caught:
        sarco.cross_validate(**more, dirpath=tmp_path, gpu=-1, **{**OPTIONS, **options})
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.glob("a_*"))


def test_train_trains_one_run(data: Path, tmp_path: Path) -> None:
    """Catches `sarco.train` that gives back one run of several, and a fold whose run goes by another name."""
    with pytest.raises(OptionError, match=r"--fold=all: is what sarco\.cross_validate does"):
        sarco.train(data, dirpath=tmp_path, fold="all", **OPTIONS)
    trained = sarco.train(data, dirpath=tmp_path, fold=2, gpu=-1, **OPTIONS)
    assert trained.run_id == "a_fold2" and trained.folder == tmp_path / "a_fold2_Trains"
