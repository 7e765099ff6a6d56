"""The proof of an export: a right file passes on every grid, and each way to be wrong is seen."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from sarco.core.errors import GeometryError
from sarco.io.dicom import find_series
from sarco.io.nifti import write_label_map
from sarco.phantom.patient import Phantom
from sarco.results.proof import prove_export
from sarco.scan.series import Series

GEOMETRIES = ("axial", "oblique", "feet first", "prone", "coronal", "sagittal", "sagittal from below")


@pytest.fixture
def scan(phantoms: dict[str, Phantom], series_folder: Callable[..., Path]) -> tuple[Series, NDArray[np.uint8]]:
    """An oblique series and its label map."""
    return find_series(series_folder(phantoms["oblique"])).series[0], phantoms["oblique"].label_map


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_right_file_passes(
    turned_phantoms: dict[str, Phantom], series_folder: Callable[..., Path], tmp_path: Path, geometry: str
) -> None:
    """Catches a proof that refuses what is right, and one whose errors are not those of rounding."""
    phantom = turned_phantoms[geometry]
    series = find_series(series_folder(phantom)).series[0]
    write_label_map(tmp_path / "mask.nii.gz", phantom.label_map, series.affine_lps)
    errors = prove_export(tmp_path / "mask.nii.gz", series, phantom.label_map)
    assert max(errors["grid_mm"], errors["corner_mm"], errors["centroid_mm"]) < 1e-3
    assert errors["volume_share"] < 1e-5


def test_a_tilted_gantry_and_a_gap_pass(shared_data: Path, tmp_path: Path) -> None:
    """Catches shear, or a plane without a slice, that the proof takes for an error."""
    for name in ("gantry_tilt", "uneven_gaps", "feet_first_3_slices"):
        series = find_series(shared_data / "odd_series" / name).series[0]
        label_map = np.zeros(series.shape, np.uint8)
        label_map[100:200, 50:90, list(series.plane_index)] = 3
        write_label_map(tmp_path / f"{name}.nii.gz", label_map, series.affine_lps)
        errors = prove_export(tmp_path / f"{name}.nii.gz", series, label_map)
        assert errors["centroid_mm"] < 0.01


def mirrored(affine: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The affine of the same array, its columns said to run the other way."""
    turned = affine.copy()
    turned[:3, 3] += turned[:3, 1] * (shape[1] - 1)
    turned[:3, 1] *= -1
    return turned


WRONG: dict[str, Callable[[NDArray[np.float64], tuple[int, ...]], NDArray[np.float64]]] = {
    "mirrored": mirrored,
    "one slice off": lambda affine, _: (
        affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]], dtype=float)
    ),
    "half a pixel off": lambda affine, _: (
        affine @ np.array([[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=float)
    ),
    "0.05 mm off": lambda affine, _: affine + np.eye(4)[:, [3, 3, 3, 2]] * (0, 0, 0, 0.05),
    "RAS for LPS": lambda affine, _: np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine,
    "rows for columns": lambda affine, _: affine[:, [1, 0, 2, 3]],
    "step from the thickness": lambda affine, _: affine * np.array([1, 1, 1.25, 1]),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_label_map_in_the_wrong_place_is_not_released(
    scan: tuple[Series, NDArray[np.uint8]], tmp_path: Path, fault: str
) -> None:
    """Catches an export that sits mirrored, shifted or stretched on the patient."""
    series, label_map = scan
    wrong = WRONG[fault](series.affine_lps, series.shape)
    write_label_map(tmp_path / "mask.nii.gz", label_map, wrong)
    with pytest.raises(GeometryError, match="differ from the scan"):
        prove_export(tmp_path / "mask.nii.gz", series, label_map)


def test_a_series_whose_own_affine_is_wrong_is_not_released(
    scan: tuple[Series, NDArray[np.uint8]], tmp_path: Path
) -> None:
    """Catches a proof that compares our affine with itself: the slices' headers have the last word."""
    series, label_map = scan
    wrong = replace(series, affine_lps=mirrored(series.affine_lps, series.shape))
    write_label_map(tmp_path / "mask.nii.gz", label_map, wrong.affine_lps)
    with pytest.raises(GeometryError, match="differ from the scan"):
        prove_export(tmp_path / "mask.nii.gz", wrong, label_map)


def test_other_labels_than_predicted_are_not_released(scan: tuple[Series, NDArray[np.uint8]], tmp_path: Path) -> None:
    """Catches one voxel that changed on the way to the disk."""
    series, label_map = scan
    changed = label_map.copy()
    changed[40, 40, 2] ^= 1
    write_label_map(tmp_path / "mask.nii.gz", changed, series.affine_lps)
    with pytest.raises(GeometryError, match="other labels"):
        prove_export(tmp_path / "mask.nii.gz", series, label_map)


def test_a_qform_that_contradicts_is_not_released(scan: tuple[Series, NDArray[np.uint8]], tmp_path: Path) -> None:
    """Catches a mask that is right for programs that read the sform and wrong for those that read the qform."""
    series, label_map = scan
    path = tmp_path / "mask.nii.gz"
    write_label_map(path, label_map, series.affine_lps)
    image = nib.load(path)
    moved = image.affine.copy()
    moved[:3, 3] += 3
    image.set_qform(moved, code="scanner")
    image.set_sform(image.get_sform(), code="scanner")
    nib.save(image, path)
    with pytest.raises(GeometryError, match="corners by the qform"):
        prove_export(path, series, label_map)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_file_that_broke_off_is_not_released(
    scan: tuple[Series, NDArray[np.uint8]], tmp_path: Path, share: float
) -> None:
    """Catches a full disk."""
    series, label_map = scan
    path = tmp_path / "mask.nii.gz"
    write_label_map(path, label_map, series.affine_lps)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(GeometryError, match="cannot be read again"):
        prove_export(path, series, label_map)
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:-200]))
    with pytest.raises(GeometryError, match="cannot be read again"):
        prove_export(path, series, label_map)
