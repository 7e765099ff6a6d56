"""`sarco.predict` gives in memory what the command writes to disk, says nothing, and leaves its caller alone."""

import csv
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import cv2
import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

import inference
import sarco
from sarco.core.errors import CheckpointError, InputError, OptionError, PartlyDoneError
from sarco.io.dicom import find_series

RESULT_FILES = {
    "label_map.nii.gz", "overlay.png", "prediction.json", "measurements.csv", "summary.json", "review.html",
    "thumbnail.jpg",
}  # fmt: skip
REPEATED = {"contrast", "kvp", "kernel", "slice_thickness_mm", "flags"}  # in the table, on every row


@pytest.fixture(scope="module")
def result(tiny_run: Any) -> sarco.PredictedSeries:
    """The unseen series, predicted in memory."""
    return sarco.predict(str(tiny_run.unseen), run="tiny", dirpath=str(tiny_run.dirpath), gpu=-1, l3=1)


@pytest.fixture(scope="module")
def written(tiny_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the command writes for the same series."""
    folder = tmp_path_factory.mktemp("by_command")
    words = [f"--dirpath={tiny_run.dirpath}", "--run_id=tiny", "--gpu=-1", "--l3=1", "--wandb=no"]
    inference.main([str(tiny_run.unseen), *words, f"--dest_dir={folder}"])
    return folder / "preds_from_tiny_of_P001"


def places_lps(label_map: NDArray[np.uint8], affine_lps: NDArray[np.float64]) -> NDArray[np.float64]:
    """World places of all labelled voxels, sorted, in mm."""
    index = np.argwhere(label_map > 0)
    world = index @ affine_lps[:3, :3].T + affine_lps[:3, 3]
    return np.array(sorted(map(tuple, world.round(2))))


def test_the_label_map_lies_where_the_file_s_does(result: sarco.PredictedSeries, written: Path) -> None:
    """Catches axes, an affine or an order of slices that are not those of the file; nibabel and RAS are the judge."""
    image = nib.load(written / "label_map.nii.gz")
    ras_to_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    by_file = places_lps(np.asarray(image.dataobj), ras_to_lps @ image.affine)
    assert len(by_file) > 50
    np.testing.assert_allclose(places_lps(result.label_map, result.affine_lps), by_file, atol=0.02)
    assert result.label_map.dtype == np.uint8
    assert result.labels == {1: "skeletal_muscle"}


def test_measurements_are_those_of_the_table(result: sarco.PredictedSeries, written: Path) -> None:
    """Catches figures from Python that differ from those on disk, and columns with other names."""
    with open(written / "measurements.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(result.measurements) == 4
    for row, measured in zip(rows, result.measurements, strict=True):
        assert row.keys() - measured.keys() == REPEATED
        for name, value in measured.items():
            if isinstance(value, str) or value is None:
                assert row[name] == (value or "")
            else:
                assert float(row[name]) == pytest.approx(value, abs=1e-4)


def test_the_summary_is_that_of_the_file(result: sarco.PredictedSeries, written: Path) -> None:
    """Catches totals, flags or a level that only the command finds; l3=1 is the number, not the text."""
    assert json.loads(json.dumps(result.summary)) == json.loads((written / "summary.json").read_text(encoding="utf-8"))
    assert result.summary["level"]["slice_index"] == 1
    prediction = json.loads((written / "prediction.json").read_text(encoding="utf-8"))
    assert result.series_uid == prediction["series_uid"]
    by_plane = {one["slice_index"]: one["confidence"] for one in prediction["slices"]}
    assert result.confidence == pytest.approx(by_plane, abs=1e-3)


def test_figures_follow_from_label_map_and_affine(tiny_run: Any, result: sarco.PredictedSeries) -> None:
    """Catches an area that is not that of the pixels, by the series as `sarco.io` reads it."""
    series = find_series(tiny_run.unseen).series[0]
    np.testing.assert_allclose(result.affine_lps, series.affine_lps)
    step_row, step_column = (np.linalg.norm(result.affine_lps[:3, axis]) for axis in (0, 1))
    for row in result.measurements:
        n_pixels = np.count_nonzero(result.label_map[..., row["slice_index"]] == row["label_id"])
        assert row["area_cm2"] == pytest.approx(n_pixels * step_row * step_column / 100)


def test_nothing_is_printed_even_where_somebody_watches(
    tiny_run: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches bars and lines of a library in somebody's notebook."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    for engine in ("auto", "torch"):
        sarco.predict(tiny_run.unseen, **tiny_run.options | {"engine": engine}, dest_dir=tmp_path / engine)
    assert capfd.readouterr() == ("", "")


def test_progress_comes_once_per_slice_and_lines_with_their_reasons(tiny_run: Any) -> None:
    """Catches a bar that never fills, or is told another total; and a user who cannot learn what computes."""
    seen: list[tuple[int, int]] = []
    told: list[tuple[str, str]] = []
    result = sarco.predict(
        str(tiny_run.unseen),
        **tiny_run.options | {"engine": "auto"},
        progress=lambda done, total: seen.append((done, total)),
        tell=lambda line, reason: told.append((line, reason)),
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert f"engine: {result.engine}" in [line for line, _ in told]
    assert all("\n" not in line for line, _ in told)


def test_a_callback_that_fails_ends_the_prediction(tiny_run: Any, tmp_path: Path) -> None:
    """Catches an error of the caller's own that is swallowed, or half a results folder."""

    def stop(done: int, total: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sarco.predict(tiny_run.unseen, **tiny_run.options, progress=stop, dest_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_dest_dir_no_file_appears(
    tiny_run: Any, result: sarco.PredictedSeries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches ./data or temporary files left behind, and results there that stop a prediction in memory."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    here = tmp_path / "here"
    (here / "data" / "preds_from_tiny_of_P001").mkdir(parents=True)
    (here / "data" / "preds_from_tiny_of_P001" / "label_map.nii.gz").write_text("results of the command")
    monkeypatch.chdir(here)
    watched = (tmp_path, tiny_run.dirpath, tiny_run.unseen.parent)
    before = [sorted(folder.rglob("*")) for folder in watched]
    again = sarco.predict(tiny_run.unseen, **tiny_run.options)
    assert [sorted(folder.rglob("*")) for folder in watched] == before
    assert again.folder is None and result.folder is None
    assert again.label_map.shape == result.label_map.shape


def test_dest_dir_takes_a_whole_results_folder(tiny_run: Any, tmp_path: Path) -> None:
    """Catches half a folder, a folder under a temporary name, and results that are overwritten unasked."""
    result = sarco.predict(tiny_run.unseen, **tiny_run.options, dest_dir=str(tmp_path))
    assert result.folder == tmp_path / "preds_from_tiny_of_P001"
    assert [path.name for path in tmp_path.iterdir()] == [result.folder.name]
    assert {path.name for path in result.folder.iterdir()} == RESULT_FILES
    assert len(result.shown) == 4
    with pytest.raises(InputError, match="holds results already"):
        sarco.predict(tiny_run.unseen, **tiny_run.options, dest_dir=tmp_path)
    (result.folder / "old.txt").write_text("old")
    sarco.predict(tiny_run.unseen, **tiny_run.options, dest_dir=tmp_path, overwrite=True)
    assert {path.name for path in result.folder.iterdir()} == RESULT_FILES


def test_several_series_are_refused_with_a_way_out(tiny_run: Any) -> None:
    """Catches the first of several series predicted in silence, and a refusal that does not say where they lie."""
    with pytest.raises(InputError) as caught:
        sarco.predict(tiny_run.data, **tiny_run.options)
    message = str(caught.value)
    assert "holds 3 series" in message and "give the folder of one" in message
    assert str(tiny_run.data / "P001") in message and "\n" not in message


def test_series_that_are_left_out_are_told(tiny_run: Any, tmp_path: Path) -> None:
    """Catches a damaged series beside a good one that nobody hears of."""
    shutil.copytree(tiny_run.unseen, tmp_path / "good")
    shutil.copytree(tiny_run.data / "P001", tmp_path / "bad")
    for path in (tmp_path / "bad").iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.PixelSpacing
        dataset.save_as(path)
    told: list[str] = []
    sarco.predict(tmp_path, **tiny_run.options, tell=lambda line, reason: told.append(line))
    assert [line for line in told if line.startswith("left out: ")]


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"colour": "red"}, OptionError, "'colour'"),
        ({"run_id": "other"}, OptionError, "'run_id'"),
        ({"wandb": "offline"}, OptionError, "'wandb'"),
        ({"dicom_seg": True}, OptionError, "dest_dir"),
        ({"overwrite": True}, OptionError, "dest_dir"),
        ({"engine": "abacus"}, OptionError, "abacus"),
        ({"run": "absent"}, CheckpointError, "absent"),
        ({"l3": 77}, sarco.SarcoError, "77"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    tiny_run: Any, options: dict[str, Any], kind: type[Exception], said: str
) -> None:
    """Catches an option that is swallowed or does nothing, and errors of other kinds than documented."""
    with pytest.raises(kind) as caught:
        sarco.predict(tiny_run.unseen, **{**tiny_run.options, **options})
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_the_caller_s_process_is_left_as_it_was(tiny_run: Any) -> None:
    """Catches warnings that stay hidden, a logger that stays mute, and an OpenCV that is slow for everybody else."""

    def state() -> tuple[Any, ...]:
        level = logging.getLogger("pytorch_lightning").level
        return warnings.filters[:], level, cv2.getNumThreads(), dict(os.environ), np.geterr()

    threads = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        before = state()
        sarco.predict(tiny_run.unseen, **tiny_run.options)
        assert state() == before
    finally:
        cv2.setNumThreads(threads)


def test_results_of_another_process_stay(tiny_run: Any, tmp_path: Path) -> None:
    """Catches results that came during the prediction and are replaced, though ``overwrite`` was not asked for."""
    taken = tmp_path / "preds_from_tiny_of_P001"
    told: list[str] = []

    def come_between(done: int, total: int) -> None:
        taken.mkdir(exist_ok=True)
        (taken / "label_map.nii.gz").write_text("theirs")

    options = {**tiny_run.options, "progress": come_between, "tell": lambda line, reason: told.append(line)}
    result = sarco.predict(tiny_run.unseen, **options, dest_dir=tmp_path)
    assert (taken / "label_map.nii.gz").read_text() == "theirs"
    assert result.folder == tmp_path / "preds_from_tiny_of_P001_2"
    assert {path.name for path in result.folder.iterdir()} == RESULT_FILES
    assert any(str(result.folder) in line and "another process" in line for line in told)


def test_a_lost_part_is_told_and_the_rest_is_there(
    tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches results without their page that look whole, and a label map lost to a bug in the page."""
    monkeypatch.setattr("sarco.review.page.fill_page", lambda *_: {}["Geheim^Person"])
    with pytest.raises(PartlyDoneError, match=r"review.html could not be written") as caught:
        sarco.predict(tiny_run.unseen, **tiny_run.options, dest_dir=tmp_path)
    folder = tmp_path / "preds_from_tiny_of_P001"
    assert str(folder) in str(caught.value) and "Geheim" not in str(caught.value)
    assert isinstance(caught.value.__cause__, KeyError)
    assert {path.name for path in folder.iterdir()} == RESULT_FILES - {"review.html", "thumbnail.jpg"}


@pytest.mark.skipif(os.name == "nt", reason="HOME names no home folder there")
def test_home_is_home(tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a folder called "~", which one removes with rm -r ~."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "scan").symlink_to(tiny_run.unseen)
    result = sarco.predict("~/scan", **tiny_run.options, dest_dir="~/results", csv="excel")
    assert result.folder == tmp_path / "home" / "results" / "preds_from_tiny_of_P001"
    assert (result.folder / "measurements.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_weights_and_biases_never_cost_results(
    tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a finished prediction that is thrown away because its pictures could not be logged."""
    monkeypatch.setattr("sarco.runs.tracking.start_logger", lambda *_: object())
    for name in ("log_predictions", "finish"):
        monkeypatch.setattr(f"sarco.runs.tracking.{name}", lambda *_: {}["wandb-core is gone"])
    words = [f"--dirpath={tiny_run.dirpath}", "--run_id=tiny", "--gpu=-1", "--engine=torch", "--wandb=offline"]
    inference.main([str(tiny_run.unseen), *words, f"--dest_dir={tmp_path}"])
    assert {path.name for path in (tmp_path / "preds_from_tiny_of_P001").iterdir()} == RESULT_FILES
    assert "W&B: failed (KeyError), so nothing more is logged" in capsys.readouterr().out
