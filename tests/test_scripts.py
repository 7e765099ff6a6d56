"""Both scripts as a user runs them, from the data folder to the results, and with everything that can be wrong."""

import csv
import hashlib
import json
import os
import pickle
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from endings import ROOT, Ending, run_as_main
from PIL import Image

from sarco.commands import review
from sarco.io.dicom import find_series, read_series
from sarco.io.nifti import read_label_map, write_label_map
from sarco.phantom.patient import PhantomOptions, write_dataset
from sarco.review.pixels import label_map_digest, slice_digest
from sarco.scan.geometry import lps_to_ras, swap_rows_and_columns

QUICK = ["--image_size=64", "--batch_size=4", "--learning_rate=1e-3", "--pretrained=no", "--gpu=-1"]
RESULT_FILES = {
    "label_map.nii.gz", "overlay.png", "prediction.json", "measurements.csv", "summary.json", "review.html",
    "thumbnail.jpg",
}  # fmt: skip


def run_script(folder: Path, script: str, *words: object) -> Ending:
    """Runs a script in a folder, with no W&B key and no GPU."""
    quiet = {"GOMP_SPINCOUNT": "0", "CUDA_VISIBLE_DEVICES": "", "WANDB_API_KEY": "", "HOME": str(folder.parent)}
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")} | quiet
    command = [sys.executable, str(ROOT / script), *map(str, words)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=280)
    return Ending(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        home: the folder that the scripts ran in.
        data: three patients; a fourth one lies beside it.
        ending: how training.py ended.
    """

    home: Path
    data: Path
    ending: Ending

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.home / "ckpt" / "base_Trains"

    @property
    def unseen(self) -> Path:
        """The series of a patient that training never saw."""
        return self.data.parent / "P004"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run of two epochs on three small patients."""
    root = tmp_path_factory.mktemp("scripts")
    data, home = root / "data", root / "home"
    write_dataset(data, 4, 1, PhantomOptions(n_slices=3, rows=64, columns=72))
    for name in ("P004", "P004.nii.gz"):
        (data / name).rename(root / name)
    home.mkdir()
    words = ["--data_dir=../data", "--dirpath", "ckpt", "--run_id=base", "--wandb=no", "--max_epochs=2", *QUICK]
    return Trained(home, data, run_script(home, "training.py", *words))


@pytest.fixture(scope="module")
def predicted(trained: Trained) -> tuple[Ending, Path]:
    """The command that training.py says to try next, on the unseen patient; its ending and the results folder."""
    line = next(line for line in trained.ending.out.splitlines() if line.startswith("next: "))
    program, script, *words = shlex.split(line.removeprefix("next: "))
    assert (program, script) == ("python", "inference.py")
    words = [word.replace("SERIES", str(trained.unseen)) for word in words]
    ending = run_script(trained.home, script, *words, "--wandb=no", "--gpu=-1")
    return ending, trained.home / "data" / "preds_from_base_of_P004"


@pytest.fixture(scope="module")
def trained_3d(trained: Trained) -> tuple[Ending, Path]:
    """A run on three slices with the other decoder, told to W&B offline; its ending and its folder."""
    words = ["--data_dir=../data", "--dirpath=ckpt", "--run_id=stacked", "--wandb=offline", "--max_epochs=1", *QUICK]
    words += ["--channel_3d=yes", "--model_choice=segresnet", "--wandb_project=My project"]
    return run_script(trained.home, "training.py", *words), trained.home / "ckpt" / "stacked_My project_3d"


def test_training_ends_well(trained: Trained) -> None:
    """Catches a traceback, and warnings of libraries that a user cannot do anything about."""
    assert trained.ending.status == 0, trained.ending.err
    assert trained.ending.err_lines == []
    assert "device: CPU" in trained.ending.out
    assert "6 slices for training, 3 for validation (by patient); labels: 1 skeletal_muscle" in trained.ending.out


def test_training_leaves_its_checkpoints_and_nothing_else(trained: Trained) -> None:
    """Catches checkpoints under other names, a `best-v1.ckpt`, and folders of W&B or Lightning that nobody wanted."""
    assert {"best.ckpt", "last.ckpt", "split.json"} <= {path.name for path in trained.run.iterdir()}
    assert sorted(path.name for path in trained.run.rglob("*.ckpt")) == ["best.ckpt", "last.ckpt"]
    assert {path.name for path in trained.home.iterdir()} <= {"ckpt", "data"}
    assert not [path for path in trained.home.rglob("*") if "wandb" in path.name or "lightning" in path.name]


def test_checkpoint_can_be_opened_without_running_code(trained: Trained) -> None:
    """Catches objects in the checkpoint that torch refuses to load."""
    checkpoint = torch.load(trained.run / "best.ckpt", weights_only=True)
    stored = checkpoint["hyper_parameters"]
    assert stored["data"]["image_size"] == 64 and stored["labels"] == {"1": "skeletal_muscle"}
    assert stored["split"]["by_patient"] is True
    text = json.dumps(stored["split"])
    assert not any(f"P00{number}" in text for number in (1, 2, 3)), "checkpoints travel; they name no patient"


def test_split_is_written_in_whole_patients(trained: Trained) -> None:
    """Catches a split that cannot be checked later, or a patient on both sides."""
    split = json.loads((trained.run / "split.json").read_text(encoding="utf-8"))
    assert split["by_patient"] is True and split["seed"] == 0
    sides = [set(split[side]["patients"]) for side in ("train", "val")]
    assert len(sides[0] | sides[1]) == 3 and not sides[0] & sides[1]
    assert all(patient.startswith("phantom-") for patient in sides[0] | sides[1])
    assert split["train"]["slices"] == len(split["train"]["images"]) == 6
    assert split["val"]["slices"] == 3


def test_last_lines_say_what_to_do_next(trained: Trained) -> None:
    """Catches a run whose id or score one has to search for."""
    text = "\n".join(trained.ending.out.splitlines()[-6:])
    assert "run id: base" in text
    score = float(text.split("best validation soft Dice: ")[1].split()[0])
    assert 0 <= score <= 1
    assert str(Path("ckpt") / "base_Trains") in text
    assert "python inference.py --infer_path=SERIES --run_id=base --dirpath=ckpt" in text


def test_command_to_try_next_really_runs(predicted: tuple[Ending, Path]) -> None:
    """Catches an advice that fails, and results elsewhere than documented."""
    ending, results = predicted
    assert ending.status == 0, ending.err
    assert ending.err_lines == []
    assert {path.name for path in results.iterdir()} == RESULT_FILES
    assert f"results: {Path('data') / results.name}" in ending.out.splitlines()[-1]


def test_label_map_lies_on_the_series(trained: Trained, predicted: tuple[Ending, Path]) -> None:
    """Catches a label map on the cropped grid, flipped, or in another order of slices."""
    series = find_series(trained.unseen).series[0]
    image = nib.load(predicted[1] / "label_map.nii.gz")
    assert image.shape == (72, 64, 3) and image.get_data_dtype() == np.uint8
    assert np.allclose(image.affine, lps_to_ras(swap_rows_and_columns(series.affine_lps)), atol=1e-3)
    assert set(np.unique(np.asarray(image.dataobj))) <= {0, 1}


def test_results_say_where_they_come_from(trained: Trained, predicted: tuple[Ending, Path]) -> None:
    """Catches a prediction nobody can trace back to its checkpoint and its series."""
    content = json.loads((predicted[1] / "prediction.json").read_text(encoding="utf-8"))
    best = trained.run / "best.ckpt"
    assert content["run_id"] == "base" and content["checkpoint"] == str(best)
    assert content["checkpoint_sha256"] == hashlib.sha256(best.read_bytes()).hexdigest()
    series = find_series(trained.unseen).series[0]
    assert content["series_uid"] == series.uid
    assert [entry["file"] for entry in content["slices"]] == [str(header.path) for header in series.slices]
    assert all(0.4 < entry["confidence"] <= 1 for entry in content["slices"])
    ids = read_label_map(predicted[1] / "label_map.nii.gz").ids
    voxel_ml = abs(np.linalg.det(series.affine_lps[:3, :3])) / 1000
    assert content["labels"][0]["volume_ml"] == pytest.approx(np.count_nonzero(ids == 1) * voxel_ml, abs=1e-3)


def test_figures_are_those_of_the_label_map(trained: Trained, predicted: tuple[Ending, Path]) -> None:
    """Catches measurements of another grid, another order of slices or other pixels than those that were predicted."""
    series = find_series(trained.unseen).series[0]
    hu, ids = read_series(series), read_label_map(predicted[1] / "label_map.nii.gz").ids
    with open(predicted[1] / "measurements.csv", newline="", encoding="utf-8") as file:
        rows = {int(row["slice_index"]): row for row in csv.DictReader(file)}
    assert sorted(rows) == list(range(series.shape[2]))
    pixel_cm2 = np.prod(series.slices[0].spacing_mm) / 100
    for plane, row in rows.items():
        mask = ids[..., plane] == 1
        assert float(row["area_cm2"]) == pytest.approx(np.count_nonzero(mask) * pixel_cm2, abs=1e-3)
        if mask.any():
            assert float(row["mean_hu"]) == pytest.approx(hu[..., plane][mask].mean(), abs=1e-2)
    summary = json.loads((predicted[1] / "summary.json").read_text(encoding="utf-8"))
    assert summary["smi"]["why_not"].startswith("not computed, because")
    assert "smi: not computed" in predicted[0].out


def test_dicom_results_and_the_index_come_when_asked_for(
    trained: Trained, run_here: Callable[..., Ending], tmp_path: Path
) -> None:
    """Catches flags that parse and do nothing."""
    pytest.importorskip("highdicom", reason="highdicom is not installed")
    words = ["--run_id=base", f"--dirpath={trained.home / 'ckpt'}", "--wandb=no", f"--dest_dir={tmp_path}", "--gpu=-1"]
    dicom = ["--dicom_seg=yes", "--dicom_sr=yes", "--dicom_sc=yes"]
    ending = run_here("inference.py", f"--infer_path={trained.unseen}", "--l3=1", *dicom, *words)
    assert ending.status == 0, ending.err
    (results,) = tmp_path.iterdir()
    for name in ("segmentation.dcm", "report.dcm", "overlay.dcm"):
        assert pydicom.dcmread(results / name).PatientID == pydicom.dcmread(next(trained.unseen.iterdir())).PatientID
    summary = json.loads((results / "summary.json").read_text(encoding="utf-8"))
    assert summary["level"]["slice_index"] == 1
    assert summary["smi"]["value"] is not None or "no muscle" in summary["smi"]["why_not"]


def test_a_place_that_no_slice_answers_to_costs_nothing(
    trained: Trained, run_here: Callable[..., Ending], tmp_path: Path
) -> None:
    """Catches a slip in --l3 that is told after the network has run."""
    words = ["--run_id=base", f"--dirpath={trained.home / 'ckpt'}", "--wandb=no", f"--dest_dir={tmp_path}", "--gpu=-1"]
    ending = run_here("inference.py", f"--infer_path={trained.unseen}", "--l3=77", *words)
    assert_one_line(ending)
    assert "77" in ending.err and "Predicting" not in ending.out
    assert not list(tmp_path.iterdir())


def test_the_page_names_nobody_unless_asked(
    trained: Trained, predicted: tuple[Ending, Path], run_here: Callable[..., Ending], tmp_path: Path
) -> None:
    """Catches a name in a page that is passed on, and a flag that does nothing."""
    name = str(pydicom.dcmread(next(trained.unseen.iterdir())).PatientName)
    assert name not in (predicted[1] / "review.html").read_text(encoding="utf-8")
    words = ["--run_id=base", f"--dirpath={trained.home / 'ckpt'}", "--wandb=no", f"--dest_dir={tmp_path}", "--gpu=-1"]
    assert run_here("inference.py", f"--infer_path={trained.unseen}", "--show_identity=yes", *words).status == 0
    (results,) = tmp_path.iterdir()
    assert name in (results / "review.html").read_text(encoding="utf-8")


def test_a_correction_becomes_the_label_map_and_its_figures(predicted: tuple[Ending, Path], tmp_path: Path) -> None:
    """Catches results of inference.py that the review cannot take corrections to."""
    results = tmp_path / "results"
    shutil.copytree(predicted[1], results)
    before = read_label_map(results / "label_map.nii.gz").ids
    prediction = json.loads((results / "prediction.json").read_text(encoding="utf-8"))
    digests = {plane: slice_digest(before[..., plane]) for plane in range(before.shape[2])}
    corrected = before[..., 1].copy()
    corrected[0, :4] = 1
    corrections = {
        "format": "sarco corrections",
        "version": 1,
        "series_uid": prediction["series_uid"],
        "label_map_sha256": label_map_digest(before.shape, digests),
        "shape": list(before.shape),
        "corrected_by": "AB",
        "corrected_at": "2026-01-02T03:04:05.000Z",
        "checked_slices": [],
        "slices": [{"slice_index": 1, "runs": [[0, 4, 1]], "n_pixels": {"1": int((corrected == 1).sum())}}],
    }
    (tmp_path / "corrections.json").write_text(json.dumps(corrections), encoding="utf-8")
    review.main(["apply", str(results), str(tmp_path / "corrections.json")])
    np.testing.assert_array_equal(read_label_map(results / "label_map.nii.gz").ids[..., 1], corrected)
    with open(results / "measurements.csv", newline="", encoding="utf-8") as file:
        rows = {int(row["slice_index"]): int(row["n_pixels"]) for row in csv.DictReader(file)}
    assert rows[1] == np.count_nonzero(corrected == 1)
    assert json.loads((results / "prediction.json").read_text(encoding="utf-8"))["corrections"][0]["slices"] == [1]
    review.main(["index", str(tmp_path)])
    assert (tmp_path / "index.html").is_file()


def test_overlay_is_a_picture(predicted: tuple[Ending, Path]) -> None:
    """Catches a broken or an empty contact sheet."""
    picture = np.asarray(Image.open(predicted[1] / "overlay.png"))
    assert picture.ndim == 3 and picture.shape[2] == 3 and picture.shape[0] > 300
    assert picture.std() > 20


def test_tree_of_series_gives_a_folder_each(trained: Trained, predicted: tuple[Ending, Path], tmp_path: Path) -> None:
    """Catches series of one tree that overwrite or mix with each other, and batches that depend on each other."""
    tree = tmp_path / "tree"
    shutil.copytree(trained.unseen, tree / "later" / "P004")
    shutil.copytree(trained.data / "P001", tree / "P001")
    (tree / "notes.txt").write_text("no DICOM")
    words = ["--run_id=base", "--dirpath=ckpt", "--wandb=no", "--gpu=-1", "--batch_size=2", f"--dest_dir={tmp_path}"]
    ending = run_script(trained.home, "inference.py", f"--infer_path={tree}", *words)
    assert ending.status == 0, ending.err
    results = tmp_path / "preds_from_base_of_tree"
    assert {path.name for path in results.iterdir()} == {"P001", "later_P004"}
    for folder in results.iterdir():
        assert {path.name for path in folder.iterdir()} == RESULT_FILES
    alone = nib.load(predicted[1] / "label_map.nii.gz")
    together = nib.load(results / "later_P004" / "label_map.nii.gz")
    assert np.array_equal(np.asarray(alone.dataobj), np.asarray(together.dataobj))
    assert np.array_equal(alone.affine, together.affine)


def test_three_slices_and_the_other_decoder_train(trained: Trained, trained_3d: tuple[Ending, Path]) -> None:
    """Catches a choice that parses and then fails, and a folder without its _3d."""
    ending, run = trained_3d
    assert ending.status == 0, ending.err
    assert {"best.ckpt", "last.ckpt", "split.json"} <= {path.name for path in run.iterdir()}
    stored = torch.load(run / "last.ckpt", weights_only=True)["hyper_parameters"]
    assert stored["data"]["channel_3d"] is True and stored["network"]["model_choice"] == "segresnet"


def test_offline_wandb_run_is_recorded(trained_3d: tuple[Ending, Path]) -> None:
    """Catches metrics and overlays that never reach W&B."""
    folders = list(trained_3d[1].glob("wandb/offline-run-*-stacked"))
    assert len(folders) == 1
    assert list(folders[0].glob("run-*.wandb"))
    assert len(list((folders[0] / "files" / "media" / "images").rglob("*.png"))) >= 3


def test_one_slice_of_a_three_slice_run(trained: Trained, trained_3d: tuple[Ending, Path], tmp_path: Path) -> None:
    """Catches a checkpoint that needs flags to be used again, and a single slice that has no neighbours."""
    header = find_series(trained.unseen).series[0].slices[1]
    words = ["--run_id=stacked", "--dirpath=ckpt", "--wandb=offline", "--ckpt_choice=last", f"--dest_dir={tmp_path}"]
    ending = run_script(trained.home, "inference.py", f"--infer_path={header.path}", *words)
    assert ending.status == 0, ending.err
    results = tmp_path / f"preds_from_stacked_of_{header.path.stem}"
    image = nib.load(results / "label_map.nii.gz")
    assert image.shape == (72, 64, 1)
    assert np.allclose(image.affine[:3, 3], lps_to_ras(header.affine_lps)[:3, 3], atol=1e-3)
    content = json.loads((results / "prediction.json").read_text(encoding="utf-8"))
    assert content["checkpoint"].endswith("last.ckpt") and len(content["slices"]) == 1
    assert list(tmp_path.glob("wandb/offline-run-*"))


@pytest.mark.parametrize(
    ("script", "word", "told"),
    [
        ("training.py", "--batch_size=7", "even"),
        ("training.py", "--colour=red", "--colour"),
        ("training.py", "--image_size=100", "32"),
        ("inference.py", "--run_id=base", "--infer_path"),
        ("inference.py", "scan --run_id=", "--run_id"),
        ("inference.py", "--run_id=base scan", "--infer_path"),
    ],
)
def test_wrong_flag_ends_with_2(tmp_path: Path, script: str, word: str, told: str) -> None:
    """Catches a wrong flag that is told late, over many lines, or with the wrong exit status."""
    ending = run_script(tmp_path, script, word)
    assert ending.status == 2
    assert len(ending.err_lines) == 1 and ending.err_lines[0].startswith(f"{script}: error: ")
    assert told in ending.err
    assert ending.out == "" and list(tmp_path.iterdir()) == []


def test_unknown_run_ends_with_1(trained: Trained, tmp_path: Path) -> None:
    """Catches "not found" without the runs that there are, and a results folder for nothing."""
    words = [f"--infer_path={trained.unseen}", "--run_id=absent", "--dirpath=ckpt", f"--dest_dir={tmp_path / 'out'}"]
    ending = run_script(trained.home, "inference.py", *words)
    assert ending.status == 1
    assert len(ending.err_lines) == 1 and "absent" in ending.err and "base" in ending.err
    assert not list(tmp_path.rglob("*"))


# What follows runs in this process, which has the libraries loaded already: a start costs seconds.


@pytest.fixture
def run_here(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ending]:
    """Runs a script as the main module."""
    return partial(run_as_main, capfd, "default")


def snapshot(*folders: Path) -> dict[Path, bytes]:
    """Every file in these folders with its content, without the cache of prepared slices."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts)
    return {path: path.read_bytes() for path in files}


def assert_one_line(ending: Ending, status: int = 1) -> None:
    """A fault of the user: one line, the exit status, no traceback."""
    assert "Traceback" not in ending.err + ending.out
    assert len(ending.err_lines) == 1, ending.err
    assert ending.status == status


def change_slices(folder: Path, change: Callable[[pydicom.Dataset, int], object]) -> None:
    """Changes every slice of a series in place."""
    for index, path in enumerate(sorted(folder.glob("*.dcm"))):
        dataset = pydicom.dcmread(path)
        change(dataset, index)
        dataset.save_as(path)


def shift_one(dataset: pydicom.Dataset, index: int) -> None:
    """Moves the first slice a little off the regular grid."""
    if index == 0:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, float(z) + 0.8]


def drop(tag: str, only: int | None = None) -> Callable[[pydicom.Dataset, int], None]:
    """Deletes a tag, of all slices or of one."""

    def change(dataset: pydicom.Dataset, index: int) -> None:
        if only in (None, index):
            delattr(dataset, tag)

    return change


SCANS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (shutil.rmtree, "no such"),
    "empty": (lambda scan: [path.unlink() for path in scan.iterdir()], "no CT slice"),
    "only text": (lambda scan: [path.write_text("no DICOM" * 30) for path in scan.iterdir()], "no CT slice"),
    "no spacing": (lambda scan: change_slices(scan, drop("PixelSpacing")), "PixelSpacing"),
    "no position": (lambda scan: change_slices(scan, drop("ImagePositionPatient")), "ImagePositionPatient"),
    "no pixels": (lambda scan: change_slices(scan, drop("PixelData")), "pixel data"),
    "one slice without pixels": (lambda scan: change_slices(scan, drop("PixelData", only=1)), "pixel data"),
    "uneven": (lambda scan: change_slices(scan, shift_one), "mm apart"),
    "cut short": (
        lambda scan: [path.write_bytes(path.read_bytes()[:4000]) for path in scan.iterdir()],
        "bytes of pixels",
    ),
}


@pytest.mark.parametrize("fault", SCANS)
def test_bad_scan_is_one_line(trained: Trained, run_here: Callable[..., Ending], tmp_path: Path, fault: str) -> None:
    """Catches a traceback, or a label map of half a series."""
    spoil, told = SCANS[fault]
    scan = tmp_path / "scan"
    shutil.copytree(trained.unseen, scan)
    spoil(scan)
    words = ["--run_id=base", f"--dirpath={trained.home / 'ckpt'}", "--wandb=no", f"--dest_dir={tmp_path / 'out'}"]
    ending = run_here("inference.py", f"--infer_path={scan}", *words)
    assert_one_line(ending)
    assert str(scan) in ending.err and told in ending.err
    assert not list((tmp_path / "out").glob("*"))


def test_file_that_is_no_dicom(trained: Trained, run_here: Callable[..., Ending], tmp_path: Path) -> None:
    """Catches a traceback for a label map or a text file given as --infer_path."""
    words = ["--run_id=base", f"--dirpath={trained.home / 'ckpt'}", "--wandb=no", f"--dest_dir={tmp_path / 'out'}"]
    (tmp_path / "notes.txt").write_text("no DICOM" * 30)
    for path, told in ((trained.data / "P001.nii.gz", "no CT in HU"), (tmp_path / "notes.txt", "no DICOM")):
        ending = run_here("inference.py", f"--infer_path={path}", *words)
        assert_one_line(ending)
        assert told in ending.err
    assert not (tmp_path / "out").exists()


def test_a_nifti_volume_gets_the_mask_of_its_series_on_its_own_grid(
    trained: Trained, predicted: tuple[Ending, Path], run_here: Callable[..., Ending], tmp_path: Path
) -> None:
    """Catches a mask that depends on the way a scan was stored, or that other programs cannot lay over its file."""
    series = find_series(trained.unseen).series[0]
    hu = read_series(series)[::-1].transpose(2, 0, 1)  # axes slice, row, column; rows from back to front
    affine_lps = series.affine_lps.copy()
    affine_lps[:3, 3] += affine_lps[:3, 0] * (series.shape[0] - 1)
    affine_lps[:3, 0] *= -1
    scan = nib.Nifti1Image(hu.astype(np.int16), lps_to_ras(affine_lps[:, [2, 0, 1, 3]]))
    nib.save(scan, tmp_path / "whole.nii.gz")
    words = ["--run_id=base", f"--dirpath={trained.home / 'ckpt'}", "--wandb=no", f"--dest_dir={tmp_path}", "--gpu=-1"]
    ending = run_here("inference.py", f"--infer_path={tmp_path / 'whole.nii.gz'}", *words)
    assert ending.status == 0, ending.err
    mask = nib.load(tmp_path / "preds_from_base_of_whole" / "label_map.nii.gz")
    assert mask.shape == scan.shape
    np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-4)
    from_dicom = read_label_map(predicted[1] / "label_map.nii.gz").ids
    found = np.asarray(mask.dataobj).transpose(1, 2, 0)[::-1]
    assert 2 * np.count_nonzero(found & from_dicom) > 0.99 * (np.count_nonzero(found) + np.count_nonzero(from_dicom))


def test_uneven_gaps_are_predicted_in_parts_when_asked_for(
    trained: Trained, run_here: Callable[..., Ending], tmp_path: Path
) -> None:
    """Catches a series that nobody can predict because one slice is off, and parts in the wrong place."""
    scan = tmp_path / "scan"
    shutil.copytree(trained.unseen, scan)
    change_slices(scan, shift_one)
    words = ["--run_id=base", f"--dirpath={trained.home / 'ckpt'}", "--wandb=no", f"--dest_dir={tmp_path}", "--gpu=-1"]
    refused = run_here("inference.py", f"--infer_path={scan}", *words)
    assert "--allow_gaps=yes" in refused.err
    ending = run_here("inference.py", f"--infer_path={scan}", "--allow_gaps=yes", *words)
    assert ending.status == 0, ending.err
    parts = sorted((tmp_path / "preds_from_base_of_scan").iterdir())
    assert [part.name for part in parts] == ["scan_part1", "scan_part2"]
    heights = {}
    for part in parts:
        image = nib.load(part / "label_map.nii.gz")
        for plane in range(image.shape[2]):
            heights[round(float((image.affine @ (0, 0, plane, 1))[2]), 3)] = part.name
    positions = [float(pydicom.dcmread(path).ImagePositionPatient[2]) for path in scan.iterdir()]
    assert sorted(heights) == pytest.approx(sorted(positions), abs=1e-3)


def test_one_bad_series_of_a_tree_leaves_the_others(
    trained: Trained, run_here: Callable[..., Ending], tmp_path: Path
) -> None:
    """Catches one bad series that takes the good ones with it, or that passes unseen."""
    for name, source in (("bad", "P001"), ("gaps", "P002"), ("good", "P003")):
        shutil.copytree(trained.data / source, tmp_path / "tree" / name)
    change_slices(tmp_path / "tree" / "bad", drop("PixelData", only=1))
    change_slices(tmp_path / "tree" / "gaps", shift_one)
    words = ["--run_id=base", f"--dirpath={trained.home / 'ckpt'}", "--wandb=no", f"--dest_dir={tmp_path}"]
    ending = run_here("inference.py", f"--infer_path={tmp_path / 'tree'}", *words)
    assert ending.status == 3
    assert "Traceback" not in ending.err
    assert "pixel data" in ending.err and "mm apart" in ending.err and "2 series" in ending.err_lines[-1]
    results = tmp_path / "preds_from_base_of_tree"
    assert [path.name for path in results.iterdir()] == ["good"]
    assert (results / "good" / "label_map.nii.gz").is_file()


def test_full_results_folder_is_left_alone(
    trained: Trained, predicted: tuple[Ending, Path], run_here: Callable[..., Ending]
) -> None:
    """Catches corrected label maps lost to a second prediction."""
    before = snapshot(predicted[1])
    words = ["--run_id=base", f"--dirpath={trained.home / 'ckpt'}", "--wandb=no", f"--dest_dir={predicted[1].parent}"]
    ending = run_here("inference.py", f"--infer_path={trained.unseen}", *words)
    assert_one_line(ending)
    assert "--overwrite=yes" in ending.err
    assert snapshot(predicted[1]) == before


def test_overwrite_replaces_results_as_a_whole(
    trained: Trained, predicted: tuple[Ending, Path], run_here: Callable[..., Ending], tmp_path: Path
) -> None:
    """Catches --overwrite=yes that is refused, or that leaves old files among the new ones."""
    results = tmp_path / predicted[1].name
    results.mkdir()
    (results / "old.txt").write_text("old")
    words = ["--run_id=base", f"--dirpath={trained.home / 'ckpt'}", "--wandb=no", f"--dest_dir={tmp_path}"]
    ending = run_here("inference.py", f"--infer_path={trained.unseen}", *words, "--overwrite=yes")
    assert ending.status == 0, ending.err
    assert {path.name for path in results.iterdir()} == {path.name for path in predicted[1].iterdir()}
    assert [path.name for path in tmp_path.iterdir()] == [results.name]
    first, again = (np.asarray(nib.load(folder / "label_map.nii.gz").dataobj) for folder in (predicted[1], results))
    assert np.array_equal(first, again), "the same checkpoint and series give the same label map"


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("fault", ["truncated", "pickled code", "absent"])
def test_bad_checkpoint_is_one_line(
    trained: Trained, run_here: Callable[..., Ending], tmp_path: Path, fault: str
) -> None:
    """Catches a traceback, and a stranger's code being run."""
    run = tmp_path / "ckpt" / "base_Trains"
    shutil.copytree(trained.run, run)
    best, trace = run / "best.ckpt", tmp_path / "was here"
    if fault == "truncated":
        best.write_bytes(best.read_bytes()[:100_000])
    elif fault == "pickled code":
        best.write_bytes(pickle.dumps({"state_dict": Hostile(trace)}, protocol=2))
    else:
        best.unlink()
    words = [f"--dirpath={tmp_path / 'ckpt'}", "--run_id=base", "--wandb=no", f"--dest_dir={tmp_path / 'out'}"]
    ending = run_here("inference.py", f"--infer_path={trained.unseen}", *words)
    assert_one_line(ending)
    assert str(best) in ending.err
    assert not trace.exists() and not (tmp_path / "out").exists()


def spoil_label(data: Path) -> None:
    """A label map with a row less than its image."""
    label = read_label_map(data / "P002.nii.gz")
    assert label.affine_lps is not None
    write_label_map(data / "P002.nii.gz", label.ids[:-1], label.affine_lps)


def empty_labels(data: Path) -> None:
    """Label maps on which nobody drew anything."""
    for path in data.glob("*.nii.gz"):
        label = read_label_map(path)
        assert label.affine_lps is not None
        write_label_map(path, np.zeros_like(label.ids), label.affine_lps)


DATA: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (shutil.rmtree, "no such folder"),
    "nothing paired": (lambda data: [path.unlink() for path in data.glob("*.nii.gz")], "no image with a label map"),
    "label of another shape": (spoil_label, "P002.nii.gz does not lie on"),
    "labels all empty": (empty_labels, "no label map holds a label"),
    "labels.json broken": (lambda data: (data / "labels.json").write_text("{"), "labels.json"),
    "no pixels": (lambda data: change_slices(data / "P003", drop("PixelData")), "pixel data"),
    "no spacing": (lambda data: change_slices(data / "P003", drop("PixelSpacing")), "PixelSpacing"),
    "uneven": (lambda data: change_slices(data / "P003", shift_one), "mm apart"),
    "label damaged": (lambda data: (data / "P001.nii.gz").write_bytes(b"\x1f\x8b broken"), "P001.nii.gz"),
}


@pytest.mark.parametrize("fault", DATA)
def test_bad_training_data_is_one_line(
    trained: Trained, run_here: Callable[..., Ending], tmp_path: Path, fault: str
) -> None:
    """Catches a traceback, a run folder left behind, and data that is used although it is wrong."""
    spoil, told = DATA[fault]
    data = tmp_path / "data"
    shutil.copytree(trained.data, data)
    spoil(data)
    ending = run_here("training.py", f"--data_dir={data}", f"--dirpath={tmp_path / 'ckpt'}", "--wandb=no", *QUICK)
    assert_one_line(ending)
    assert str(data) in ending.err and told in ending.err
    assert snapshot(tmp_path / "ckpt") == {}


def test_run_id_that_is_taken(trained: Trained, run_here: Callable[..., Ending]) -> None:
    """Catches a second training that writes into the first one's folder."""
    before = snapshot(trained.home / "ckpt")
    words = [f"--dirpath={trained.home / 'ckpt'}", "--run_id=base", "--wandb=no", *QUICK]
    assert_one_line(run_here("training.py", f"--data_dir={trained.data}", *words), status=2)
    assert snapshot(trained.home / "ckpt") == before


def test_weights_file_that_is_none(trained: Trained, run_here: Callable[..., Ending], tmp_path: Path) -> None:
    """Catches a run folder left behind by a start that could not be one."""
    (tmp_path / "weights.pth").write_text("no weights")
    words = [f"--dirpath={tmp_path / 'ckpt'}", "--wandb=no", *QUICK, f"--pretrained={tmp_path / 'weights.pth'}"]
    words = [word for word in words if word != "--pretrained=no"]
    ending = run_here("training.py", f"--data_dir={trained.data}", *words)
    assert_one_line(ending)
    assert "weights.pth" in ending.err
    assert snapshot(tmp_path / "ckpt") == {}
