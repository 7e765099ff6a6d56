"""Several runs predict as one: what comes out is the mean of what each of them says, found in one pass."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sarco
from model import SarcoModel
from sarco.core.errors import CheckpointError
from sarco.crop.slices import SlicePreparer, SliceRestorer
from sarco.io.dicom import find_series

NAME = "preds_from_a_fold1+a_fold2_of_P001"


@pytest.fixture(scope="module")
def runs(tiny_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folds of the small patients, beside a run that they do not fit to."""
    dirpath = tmp_path_factory.mktemp("together")
    sarco.cross_validate(
        tiny_run.data,
        folds=2,
        run_id="a",
        dirpath=dirpath,
        max_epochs=3,
        **{**tiny_run.TRAINING, "learning_rate": 5e-3},
    )
    sarco.train(
        tiny_run.data, run_id="a_coarse", dirpath=dirpath, max_epochs=1, **{**tiny_run.TRAINING, "image_size": 32}
    )
    return dirpath


def expected(runs: Path, unseen: Path, mirrored: bool = False) -> Any:
    """The label map by torch alone: softmax, mean over runs, back onto each slice."""
    (series,) = find_series(unseen).series
    models = [SarcoModel.from_checkpoint(runs / f"a_fold{n}_Trains" / "best.ckpt").eval() for n in (1, 2)]
    description = models[0].description
    prepare, restore = SlicePreparer(series, description.data), SliceRestorer(description.labels)
    planes = []
    for place in range(len(series.slices)):
        prepared = prepare(place)
        image = torch.as_tensor(prepared.image)[None]
        with torch.no_grad():
            seen = [model(image).softmax(1) for model in models]
            if mirrored:
                seen += [model(image.flip(-1)).softmax(1).flip(-1) for model in models]
        planes.append(restore(prepared, torch.stack(seen).mean(0)[0].log().numpy()).label_map)
    return np.stack(planes, axis=-1)


@pytest.mark.parametrize("engine", ["torch", "openvino", "onnx"])
@pytest.mark.parametrize("tta", ["no", "mirror"])
def test_it_is_the_mean_of_the_runs(tiny_run: Any, runs: Path, engine: str, tta: str) -> None:
    """Catches one run that predicts alone under the name of all, on any engine, and mirror images of one member."""
    found = sarco.predict(tiny_run.unseen, run="a_fold*", dirpath=runs, gpu=-1, engine=engine, tta=tta, precision="32")
    wanted = expected(runs, tiny_run.unseen, tta == "mirror")
    assert (wanted > 0).mean() > 0.01 and "mean of 2 runs" in found.engine
    assert (found.label_map == wanted).mean() > 0.9995
    singles = [sarco.predict(tiny_run.unseen, run=f"a_fold{n}", dirpath=runs, gpu=-1, engine="torch") for n in (1, 2)]
    assert all((one.label_map != wanted).mean() > 0.0005 for one in singles), "else this test shows nothing"


def test_a_slice_is_read_once(tiny_run: Any, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches reading and cropping that is done once for each run."""
    read: list[int] = []
    prepare = SlicePreparer.__call__
    monkeypatch.setattr(SlicePreparer, "__call__", lambda self, place: (read.append(place), prepare(self, place))[1])
    options = {"dirpath": runs, "gpu": -1, "engine": "torch", "drop_islands": True}
    sarco.predict(tiny_run.unseen, run="a_fold1,a_fold2", **options)
    assert sorted(read) == [0, 1, 2, 3]


def test_results_name_every_member(tiny_run: Any, runs: Path, tmp_path: Path) -> None:
    """Catches results of which nobody knows which checkpoints made them, and intervals from one fold's patients."""
    lines: list[str] = []
    found = sarco.predict(
        tiny_run.unseen, run="a_fold*", dirpath=runs, gpu=-1, engine="torch", dest_dir=tmp_path, l3=1,
        tell=lambda line, reason: lines.append(line),
    )  # fmt: skip
    assert found.folder == tmp_path / NAME
    content = json.loads((found.folder / "prediction.json").read_text(encoding="utf-8"))
    assert content["run_id"] == "a_fold1+a_fold2" and "checkpoint" not in content
    for number, member in zip((1, 2), content["runs"], strict=True):
        single = sarco.predict(
            tiny_run.unseen, run=f"a_fold{number}", dirpath=runs, gpu=-1, engine="torch", dest_dir=tmp_path
        )
        alone = json.loads((single.folder / "prediction.json").read_text(encoding="utf-8"))  # type: ignore[operator]
        assert member == {key: alone[key] for key in ("run_id", "wandb_project", "checkpoint", "checkpoint_sha256")}
        assert member["checkpoint_sha256"] in (found.folder / "review.html").read_text(encoding="utf-8")
    assert {one["n_patients"] for one in found.summary["intervals"]} == {3}, "all patients of the two folds"
    assert lines.count("mean of 2 runs") == 1 and sum(line.startswith("device: ") for line in lines) == 1


def test_runs_that_do_not_fit_are_refused(tiny_run: Any, runs: Path, tmp_path: Path) -> None:
    """Catches a mean of networks that see other pixels, and a results folder of a prediction that never was."""
    with pytest.raises(CheckpointError, match=r"runs a_coarse and a_fold1 cannot predict together: --image_size is 32"):
        sarco.predict(tiny_run.unseen, run="a_*", dirpath=runs, gpu=-1, engine="torch", dest_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_same_patients_in_two_runs_are_told(tiny_run: Any, runs: Path, tmp_path: Path) -> None:
    """Catches intervals that count a patient twice because two runs validated on him, and a run left out unsaid."""
    shutil.copytree(runs, tmp_path / "ckpt")
    options = {"folds": 2, "fold": 2, "run_id": "again", "max_epochs": 1, "seed": 0, "dirpath": tmp_path / "ckpt"}
    sarco.train(tiny_run.data, **{**tiny_run.TRAINING, **options})
    lines: list[str] = []
    sarco.predict(
        tiny_run.unseen, run="a_fold*,again_fold2", dirpath=tmp_path / "ckpt", gpu=-1, engine="torch",
        tell=lambda line, reason: lines.append(line),
    )  # fmt: skip
    assert any(line.startswith("intervals: without the validation patients of again_fold2") for line in lines)
