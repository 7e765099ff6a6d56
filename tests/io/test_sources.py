"""The scan behind a prediction: the very files, wherever they lie now, or a line that says what is missing."""

import dataclasses
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from stored_results import plain_prediction

from sarco.core.errors import InputError
from sarco.io.dicom import find_series
from sarco.io.images import find_images
from sarco.io.results import PredictedSlice, StoredPrediction
from sarco.io.sources import SourceSearch, find_source
from sarco.phantom.patient import Phantom
from sarco.scan.labels import LabelTable
from sarco.scan.series import Series


def predicted(series: Series, folder: Path) -> StoredPrediction:
    """A prediction of a series, as its record says."""
    slices = tuple(
        PredictedSlice(
            plane, str(header.path), header.frame, header.sop_uid,
            hashlib.blake2b(header.path.read_bytes()).hexdigest(), 0.9,
        )
        for header, plane in zip(series.slices, series.plane_index, strict=True)
    )  # fmt: skip
    return StoredPrediction(folder, series.uid, LabelTable({1: "a"}), {}, slices, (), "", "", None, plain_prediction())


@pytest.fixture
def prediction(phantoms: dict[str, Phantom], series_folder: Callable[..., Path], tmp_path: Path) -> StoredPrediction:
    """Of an oblique phantom in ``series``."""
    return predicted(find_series(series_folder(phantoms["oblique"])).series[0], tmp_path / "results")


def paths(series: Series) -> list[Path]:
    """Where the slices of a series lie."""
    return [header.path for header in series.slices]


def damage(path: Path) -> None:
    """Changes the last byte."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_a_copy_stands_in_for_what_is_gone_or_changed(prediction: StoredPrediction, tmp_path: Path) -> None:
    """Catches a changed file that hides its unchanged copy, and a copy taken where the first is still there."""
    shutil.copytree(tmp_path / "series", tmp_path / "archive" / "copy")
    files = [Path(one.file) for one in prediction.slices]
    assert paths(find_source(prediction, tmp_path / "archive")) == files
    files[1].unlink()
    damage(files[2])
    expected = [tmp_path / "archive" / "copy" / p.name if k in (1, 2) else p for k, p in enumerate(files)]
    assert paths(find_source(prediction, tmp_path / "archive")) == expected
    damage(expected[1])
    with pytest.raises(InputError, match="was changed since") as caught:
        find_source(prediction, tmp_path / "archive")
    assert str(expected[1]) in str(caught.value)


def test_where_to_look_is_asked_for(prediction: StoredPrediction, tmp_path: Path) -> None:
    """Catches a missing slice that is not named, and a mistyped folder that is searched."""
    Path(prediction.slices[3].file).unlink()
    with pytest.raises(InputError, match="--scan=FOLDER") as caught:
        find_source(prediction, None)
    assert prediction.slices[3].file in str(caught.value) and prediction.slices[3].sop_uid in str(caught.value)
    with pytest.raises(InputError, match="there is no such folder"):
        find_source(prediction, tmp_path / "absent")


@pytest.mark.parametrize("file", ["x" * 5000, "a\0b", "two\nlines", "", "."])
def test_a_name_that_no_file_can_have_is_gone(prediction: StoredPrediction, tmp_path: Path, file: str) -> None:
    """Catches an error of the system, and a message of several lines; the UID leads to the slice all the same."""
    first = dataclasses.replace(prediction.slices[0], file=file)
    edited = dataclasses.replace(prediction, slices=(first, *prediction.slices[1:]))
    with pytest.raises(InputError, match="is gone") as caught:
        find_source(edited, None)
    assert str(caught.value).isprintable()
    assert len(find_source(edited, tmp_path / "series").slices) == len(prediction.slices)


def test_a_frame_that_is_not_there_is_named(prediction: StoredPrediction, tmp_path: Path) -> None:
    """Catches an index beyond the frames of a file."""
    with pytest.raises(InputError, match="holds no frame 1000"):
        SourceSearch(None, "").find(dataclasses.replace(prediction.slices[0], frame=10**30), tmp_path)


def test_slices_out_of_order_are_refused(prediction: StoredPrediction) -> None:
    """Catches a label map laid over other planes than those it was predicted on."""
    backwards = tuple(dataclasses.replace(one, slice_index=4 - one.slice_index) for one in reversed(prediction.slices))
    assert len(find_source(dataclasses.replace(prediction, slices=prediction.slices[:3]), None).slices) == 3
    with pytest.raises(InputError, match="does not name the slices of the scan in order"):
        find_source(dataclasses.replace(prediction, slices=backwards), None)


def test_a_moved_volume_is_known_by_its_content(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches the first NIfTI file of a folder taken for the one that was predicted: none of them has a UID."""
    affine = np.diag([3.0, 3.0, 5.0, 1.0])
    for name, add in (("a.nii.gz", 5), ("b.nii.gz", 0)):
        image = nib.Nifti1Image((phantoms["oblique"].hu + add).astype(np.int16), affine)
        image.header.set_xyzt_units("mm")
        (tmp_path / "old").mkdir(exist_ok=True)
        nib.save(image, tmp_path / "old" / name)
    prediction = predicted(find_images(tmp_path / "old" / "b.nii.gz").series[0], tmp_path)
    shutil.move(tmp_path / "old", tmp_path / "new")
    assert set(paths(find_source(prediction, tmp_path / "new"))) == {tmp_path / "new" / "b.nii.gz"}


def test_each_file_is_read_once(prediction: StoredPrediction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a file of many frames that is hashed for each of them, and a folder that is searched again and again."""
    hashed: list[Path] = []

    def count(path: Path, algorithm: Callable[[], "hashlib._Hash"]) -> str:
        hashed.append(path)
        return hashlib.blake2b(path.read_bytes()).hexdigest()

    monkeypatch.setattr("sarco.io.sources.hash_file", count)
    search = SourceSearch(tmp_path, "")
    for _ in range(3):
        for one in prediction.slices:
            search.find(one, tmp_path)
    assert len(hashed) == len(set(hashed)) == len(prediction.slices)
