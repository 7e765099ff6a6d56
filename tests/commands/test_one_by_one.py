"""A tree of many series, some of them bad in every way that is known: each bad one costs itself alone, and says why."""

import json
import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

import inference
from sarco.core.errors import PartlyDoneError
from sarco.phantom.patient import PhantomOptions, make_phantom, write_series

SECRET = "Geheim"  # stands in every PatientName and PatientID
Files = list[Path]  # of a series, in order


def each(change: Callable[[pydicom.Dataset, int], object]) -> Callable[[Files], object]:
    """Changes every file of a series by its data set."""

    def edit(files: Files) -> None:
        for number, file in enumerate(files):
            dataset = pydicom.dcmread(file)
            change(dataset, number)
            dataset.save_as(file)

    return edit


def raw(tag: str, value: bytes) -> Callable[[Files], object]:
    """Stores the very bytes, valid or not."""

    def change(dataset: pydicom.Dataset, number: int) -> None:
        known = Tag(tag)
        dataset[known] = RawDataElement(known, dictionary_VR(known), len(value), value, 0, False, True)

    return each(change)


def other_bytes(files: Files) -> None:
    """PatientID in another character set than the one that is declared, as no library would write it."""
    each(lambda dataset, number: setattr(dataset, "SpecificCharacterSet", "ISO_IR 192"))(files)
    for file in files:
        content = file.read_bytes()
        assert content.count(f"{SECRET}ID".encode()) == 1
        file.write_bytes(content.replace(f"{SECRET}ID".encode(), "GehümID1".encode("latin-1")))


def cut(files: Files) -> None:
    """The last file ends in the midst of its pixels."""
    files[-1].write_bytes(files[-1].read_bytes()[:-2000])


def move_one(dataset: pydicom.Dataset, number: int) -> None:
    """The last slice lies elsewhere, so that the steps are uneven."""
    if number == 2:
        dataset.ImagePositionPatient[2] += 3.3


def lose_intercept(dataset: pydicom.Dataset, number: int) -> None:
    """Air becomes 0."""
    dataset.PixelRepresentation, dataset.RescaleIntercept = 0, "0"


def stack(dataset: pydicom.Dataset, number: int) -> None:
    """All slices lie in one place."""
    dataset.ImagePositionPatient = [0, 0, 0]


def stand_up(dataset: pydicom.Dataset, number: int) -> None:
    """Coronal slices."""
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 0, -1], [0, 5 * number, 0]


BUG = "bug"  # the series with which the network fails in a way that nobody has foreseen
NO_MEMORY = "no_memory"
BAD: dict[str, Callable[[Files], object]] = {
    "perfusion": each(lambda dataset, number: setattr(dataset, "ImageType", ["DERIVED", "PRIMARY", "AXIAL", "RCBF"])),
    "in_cm": each(lambda dataset, number: setattr(dataset, "PixelSpacing", ["0.6", "0.6"])),
    "no_intercept": each(lose_intercept),
    "empty": lambda files: files[-1].write_bytes(b""),
    "uneven": each(move_one),
    "cut": cut,
    "one_place": each(stack),
    "coronal": each(stand_up),
    "charset": other_bytes,
    "no_study": each(lambda dataset, number: delattr(dataset, "StudyInstanceUID")),
    BUG: lambda files: None,
    NO_MEMORY: lambda files: None,
}
ODD: dict[str, Callable[[Files], object]] = {  # that have to go well
    "plain": lambda files: None,
    "size": raw("PatientSize", b"1,62"),
    "size_m": raw("PatientSize", b"1.62 m"),
    "long_ds": raw("ImageOrientationPatient", b"1\\-1.2246467991473532e-16\\0\\1.2246467991473532e-16\\1\\0 "),
    "long_spacing": raw("PixelSpacing", b"6.00000000000000012\\6.00000000000000012 "),
    "kvp": raw("KVP", b"120,0 "),
    "date": raw("StudyDate", b"2020.01.01"),
    "whole": raw("SeriesNumber", b"3.0 "),
    "jitter": each(
        lambda d, number: setattr(d, "ImageOrientationPatient", [1, 1e-5 * number, 0, -1e-5 * number, 1, 0])
    ),
    "private": each(lambda dataset, number: setattr(dataset, "SOPClassUID", "1.3.12.2.1107.5.9.1")),
    "old_uid": each(lambda dataset, number: setattr(dataset, "SOPInstanceUID", f"1.2.003.{number}")),
    "agent": raw("ContrastBolusAgent", b"\xff\xfe"),
    "long " + "x" * 240: lambda files: None,
    "1.2.3.4.5.6.7.8.9/" * 14 + "DICOM": lambda files: None,
    "CON": lambda files: None,
    "a/CT": lambda files: None,
    "a/ct": lambda files: None,
    "M\udcfcller": lambda files: None,
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A series of each kind, of a patient each."""
    root = tmp_path_factory.mktemp("tree") / "scans"
    phantom = make_phantom(5, PhantomOptions(n_slices=3, rows=64, columns=72, spacing_mm=(6.0, 6.0, 5.0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom sees that what is written here is wrong
        for number, (name, change) in enumerate([*BAD.items(), *ODD.items()]):
            files = write_series(phantom, root / name, patient_id="P001", seed=number)
            each(lambda d, _: setattr(d, "PatientID", f"{SECRET}ID"))(files)
            each(lambda d, _: setattr(d, "PatientName", f"{SECRET}^Name"))(files)
            change(files)
    return root


@pytest.fixture(autouse=True)
def failing_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug that one series meets, and a machine that is too small for another."""
    from sarco.prediction import pipeline

    real = pipeline.predict_series

    def predict_series(network: Any, series: Any, *rest: Any) -> Any:
        place = series.slices[0].path.parent.name
        if place == BUG:
            raise ZeroDivisionError(SECRET)
        if place == NO_MEMORY:
            raise MemoryError
        return real(network, series, *rest)

    monkeypatch.setattr(pipeline, "predict_series", predict_series)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no names that are no text")
@pytest.mark.filterwarnings("ignore")  # pydicom's remarks about what is odd on purpose
def test_a_tree_with_bad_series_of_every_kind(
    tree: Path, tiny_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a bad series that costs another its results, is passed over in silence, or ends with 0."""
    words = [f"--dirpath={tiny_run.dirpath}", "--run_id=tiny", "--gpu=-1", "--engine=torch", "--wandb=no"]
    with pytest.raises(PartlyDoneError, match=r"\d+ series or folders could not be predicted") as caught:
        inference.main([str(tree), *words, f"--dest_dir={tmp_path}", "--dicom_seg=yes"])
    assert caught.value.exit_status == 3
    said = capsys.readouterr()
    results = tmp_path / "preds_from_tiny_of_scans"
    done = sorted(folder.parent for folder in results.rglob("label_map.nii.gz"))
    places = {json.loads((one / "prediction.json").read_text(encoding="utf-8"))["slices"][0]["file"] for one in done}
    assert {Path(place).parent for place in places} == {tree.resolve() / name for name in ODD}
    assert len(done) == len(list(results.iterdir())) == len(ODD) == 18
    assert all((one / name).is_file() for one in done for name in ("segmentation.dcm", "review.html", "summary.json"))
    lines = said.err.splitlines()
    for name in BAD:
        assert any(line.startswith("left out: ") and str(tree / name) in line for line in lines), name
    told = {line for line in lines if line.startswith("left out: ")}
    assert len([line for line in told if not line.endswith("empty; copy it again")]) == len(BAD) == 12
    kept = tmp_path / "preds_from_tiny_of_scans.errors.txt"
    assert f"an unforeseen ZeroDivisionError; report it with {kept}" in said.err
    assert "out of memory (MemoryError); lower --batch_size" in said.err
    text = kept.read_text(encoding="utf-8")
    assert "ZeroDivisionError" in text and "predict_series" in text
    assert SECRET not in said.err + said.out + text and "Traceback" not in said.err


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_a_scheduler_keep_what_is_finished(
    tree: Path,
    tiny_run: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    end: signal.Signals,
) -> None:
    """Catches an hour of finished series thrown away, and half a series that stays."""
    from sarco.prediction import pipeline

    real, done = pipeline.predict_series, []

    def predict_series(network: Any, series: Any, *rest: Any) -> Any:
        if len(done) == 2:
            signal.raise_signal(end)
        done.append(series.slices[0].path.parent.name)
        return real(network, series, *rest)

    monkeypatch.setattr(pipeline, "predict_series", predict_series)
    scans = tmp_path / "scans"
    scans.mkdir()
    for name in ("plain", "kvp", "private"):
        (scans / name).symlink_to(tree / name)
    words = [f"--dirpath={tiny_run.dirpath}", "--run_id=tiny", "--gpu=-1", "--engine=torch", "--wandb=no"]
    with pytest.raises(KeyboardInterrupt):
        inference.main([str(scans), *words, f"--dest_dir={tmp_path / 'out'}"])
    results = tmp_path / "out" / "preds_from_tiny_of_scans"
    assert sorted(folder.name for folder in results.iterdir()) == sorted(done)
    assert all((folder / "label_map.nii.gz").is_file() for folder in results.iterdir())
    assert "2 of 3 series are done, their results are kept" in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt):  # nothing new replaces what was there before
        inference.main([str(scans), *words, f"--dest_dir={tmp_path / 'out'}", "--overwrite=yes"])
    assert sorted(folder.name for folder in results.iterdir()) == sorted(done)
