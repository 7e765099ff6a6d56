"""The synthetic abdomen: its files say what its arrays say, and it is hard in the ways that matter."""

import dataclasses
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from sarco.anatomy.labels import INVENTED_LABELS, MUSCLE_NAMES, ids_of
from sarco.core.errors import InputError, OptionError
from sarco.phantom.patient import Phantom, PhantomOptions, make_phantom, write_dataset, write_series
from sarco.phantom.views import GROUP_NAMES

SMALL = PhantomOptions(n_slices=4, rows=96, columns=120)
UNEVEN = PhantomOptions(n_slices=5, rows=96, columns=120, spacing_mm=(3.1, 3.4, 6.0), labels="groups")
TILTED = PhantomOptions(n_slices=5, rows=96, columns=120, spacing_mm=(3.1, 3.4, 6.0), oblique=True)
DEFAULT_GRID = PhantomOptions(n_slices=4, rows=160, columns=160)


@pytest.fixture(scope="module")
def patients() -> list[Phantom]:
    """Several patients, a few slices each."""
    return [make_phantom(seed, DEFAULT_GRID) for seed in range(10)]


def read_stored(paths: list[Path]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """HU (R, C, S) and affine_lps of a series in the given order, by nothing but the DICOM standard's formulas."""
    slices = [pydicom.dcmread(path) for path in paths]
    hu = [ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in slices]
    along_row, along_column = np.array(slices[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    affine = np.eye(4)
    affine[:3, 0] = along_column * slices[0].PixelSpacing[0]
    affine[:3, 1] = along_row * slices[0].PixelSpacing[1]
    positions = np.array([ds.ImagePositionPatient for ds in slices], dtype=float)
    affine[:3, 2] = (positions[-1] - positions[0]) / (len(slices) - 1)
    affine[:3, 3] = positions[0]
    normal = np.cross(along_row, along_column)
    assert np.all(np.diff(positions @ normal) > 0), "slices do not run along the slice normal"
    return np.stack(hu, axis=-1), affine


def threshold_dice(phantom: Phantom) -> float:
    """Dice of everything with a muscle's attenuation inside the body against the label."""
    guess = (phantom.hu >= -29) & (phantom.hu <= 150) & phantom.body_mask
    label = phantom.label_map > 0
    return float(2 * (guess & label).sum() / (guess.sum() + label.sum()))


def test_same_seed_gives_the_same_patient_and_the_same_bytes(tmp_path: Path) -> None:
    """Catches randomness that does not come from the seed."""
    for name in ("a", "b"):
        write_dataset(tmp_path / name, 2, 7, SMALL)
    first, second = ({p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*")} for n in "ab")
    assert first == second
    assert len(first) == 2 * SMALL.n_slices + 2 + 1


def test_patients_differ() -> None:
    """Catches a seed that is ignored."""
    one, two = make_phantom(1, SMALL), make_phantom(2, SMALL)
    assert not np.array_equal(one.label_map, two.label_map)
    assert not np.allclose(one.affine_lps, two.affine_lps)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_asymmetric_on_every_axis(axis: int) -> None:
    """Catches a symmetric phantom, on which a flip would pass every geometry test."""
    phantom = make_phantom(3, UNEVEN)
    label, flipped = phantom.label_map > 0, np.flip(phantom.label_map > 0, axis)
    assert 2 * (label & flipped).sum() / (2 * label.sum()) < 0.93
    difference = np.abs(phantom.hu.astype(int) - np.flip(phantom.hu, axis))
    assert np.mean(difference[phantom.body_mask] > 60) > 0.1


def test_psoas_grows_downwards() -> None:
    """Catches slices that run against the slice normal."""
    phantom = make_phantom(3, UNEVEN)
    assert phantom.affine_lps[2, 2] > 0
    area = [np.isin(phantom.label_map[..., k], (2, 3)).sum() for k in range(5)]
    assert area[0] > area[-1]


def test_left_is_left() -> None:
    """Catches swapped sides: x grows to the patient's left, in world coordinates; the liver lies on the right."""
    phantom = make_phantom(3, UNEVEN)
    x = {}
    for label in set(phantom.label_names) & set(np.unique(phantom.label_map)):
        index = np.argwhere(phantom.label_map == label).mean(axis=0)
        x[phantom.label_names[label]] = (phantom.affine_lps @ [*index, 1])[0]
    for muscle in ("psoas", "paraspinal", "quadratus"):
        assert x[f"{muscle}_left"] > x[f"{muscle}_right"] + 30


@pytest.mark.parametrize("options", [SMALL, UNEVEN, TILTED], ids=["plain", "uneven spacing", "oblique"])
@pytest.mark.parametrize("seed", range(5))  # every way of storing HU occurs
def test_files_hold_the_hu_and_the_geometry(tmp_path: Path, options: PhantomOptions, seed: int) -> None:
    """Catches rescale, spacing order, position or orientation that differ between the file and the arrays."""
    phantom = make_phantom(seed, options)
    paths = write_series(phantom, tmp_path / "series", patient_id="P001", seed=seed)
    hu, affine = read_stored(paths)
    np.testing.assert_array_equal(hu, phantom.hu)
    np.testing.assert_allclose(affine, phantom.affine_lps, atol=1e-5)
    oblique = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)).max(axis=0) < 0.995
    assert oblique.all() == options.oblique


def test_storage_and_order_vary(tmp_path: Path) -> None:
    """Catches a data set on which a reader may ignore slope, sign, file names and InstanceNumber."""
    storages, counted_down, sorted_names = set(), set(), set()
    phantom = make_phantom(0, SMALL)
    for seed in range(12):
        paths = write_series(phantom, tmp_path / str(seed), patient_id="P001", seed=seed)
        headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
        first = headers[0]
        storages.add((float(first.RescaleSlope), float(first.RescaleIntercept), first.PixelRepresentation))
        counted_down.add(headers[0].InstanceNumber > headers[-1].InstanceNumber)
        sorted_names.add(paths == sorted(paths))
    assert len(storages) >= 3
    assert counted_down == {True, False}
    assert False in sorted_names


def test_identifiers(tmp_path: Path) -> None:
    """Catches UIDs shared between patients or slices, and values a DICOM reader would refuse."""
    write_dataset(tmp_path / "out", 2, 0, SMALL)
    headers = [pydicom.dcmread(p, stop_before_pixels=True) for p in sorted((tmp_path / "out").rglob("*.dcm"))]
    assert len({ds.SOPInstanceUID for ds in headers}) == len(headers)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert len({ds[keyword].value for ds in headers}) == 2
    for ds in headers:
        assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
        assert all(uid.is_valid for uid in (ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID))
        assert str(ds.PatientName).startswith("Phantom^")


def test_label_file_lies_on_the_series(tmp_path: Path) -> None:
    """Catches a label volume that is flipped, transposed or shifted against its series."""
    write_dataset(tmp_path / "out", 1, 5, TILTED)
    headers = [pydicom.dcmread(p) for p in (tmp_path / "out" / "P001").glob("*.dcm")]
    label = nib.load(tmp_path / "out" / "P001.nii.gz")
    values = np.asarray(label.dataobj)
    for ds in headers:
        start = np.array([*ds.ImagePositionPatient, 1.0], dtype=float)
        column, row, plane = (np.linalg.inv(label.affine) @ (start * [-1, -1, 1, 1]))[:3]
        np.testing.assert_allclose([column, row], 0, atol=1e-3)
        hu = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
        muscle_hu = hu[values[:, :, round(plane)].T > 0]
        assert 0 < np.median(muscle_hu) < 90
        assert np.std(muscle_hu) < 45


def test_a_threshold_is_not_enough(patients: list[Phantom]) -> None:
    """Catches a phantom so easy that a trained network would prove nothing."""
    scores = [threshold_dice(phantom) for phantom in patients]
    print(f"threshold Dice: mean {np.mean(scores):.2f}, {min(scores):.2f} to {max(scores):.2f}")
    assert np.mean(scores) < 0.75
    assert max(scores) < 0.85
    assert min(scores) > 0.2


def test_tissues_look_like_tissues(patients: list[Phantom]) -> None:
    """Catches a missing tissue or one with an impossible attenuation."""
    for phantom in patients:
        muscle = phantom.hu[phantom.label_map > 0]
        assert -15 < np.median(muscle) < 80
        # A compartment holds its rim and its inner fat, in myosteatosis a good part of it.
        assert np.mean((muscle >= -29) & (muscle <= 150)) > 0.6
        assert np.mean(muscle > 200) < 0.01
        inside = phantom.hu[phantom.body_mask]
        assert np.mean(inside > 300) > 0.002, "bone"
        assert 0.15 < np.mean((inside > -150) & (inside < -50)) < 0.8, "fat"
        fat = inside[(inside > -190) & (inside < -30)]
        assert -115 < np.median(fat) < -85
        assert (phantom.hu[~phantom.body_mask] < -900).mean() > 0.6
        assert 0.03 < (phantom.label_map > 0).sum() / phantom.body_mask.sum() < 0.45
    gas = [np.mean(phantom.hu[phantom.body_mask] < -700) > 0.001 for phantom in patients]
    assert np.mean(gas) > 0.5, "bowel gas"
    assert len({phantom.phase for phantom in patients}) > 1


def test_air_lies_over_fluid(patients: list[Phantom]) -> None:
    """Catches fluid over air: a bubble is flat where it meets the fluid, towards the back, and round above."""
    flat_below = flat_above = 0
    for phantom in patients:
        for gas in ((phantom.hu < -600) & phantom.body_mask).transpose(2, 0, 1):
            n_bubbles, bubbles = cv2.connectedComponents(gas.astype(np.uint8))
            for bubble in range(1, n_bubbles):
                rows = np.nonzero(bubbles == bubble)[0]
                flat_below += np.sum(rows == rows.max())
                flat_above += np.sum(rows == rows.min())
    assert flat_below > 1.3 * flat_above


def test_all_labels_cover_the_body() -> None:
    """Catches the view of all labels drifting from the body's mask and from the muscle in the other views."""
    grid = PhantomOptions(n_slices=3, rows=96, columns=120, spacing_mm=(3.1, 3.4, 6.0), labels="all", z_mm=60.0)
    everything = make_phantom(3, grid)
    muscle = make_phantom(3, dataclasses.replace(grid, labels="muscle"))
    np.testing.assert_array_equal(everything.label_map > 0, everything.body_mask)
    is_muscle = np.isin(everything.label_map, ids_of(MUSCLE_NAMES))
    np.testing.assert_array_equal(is_muscle, muscle.label_map == 1)
    assert everything.label_names.items() <= INVENTED_LABELS.items() and len(everything.label_names) > 15


@pytest.mark.parametrize(("z_mm", "level"), [(0.0, "L3"), (103.0, "T12"), (-75.0, "L5")])
def test_a_height_can_be_asked_for(z_mm: float, level: str) -> None:
    """Catches slices at another height than asked for."""
    phantom = make_phantom(5, PhantomOptions(n_slices=1, rows=96, columns=96, labels="all", z_mm=z_mm))
    assert (phantom.label_map == ids_of([f"vertebra_{level}"])[0]).sum() > 20


def test_arms_are_present_and_not_labelled() -> None:
    """Catches arm muscle in the label."""
    grid = PhantomOptions(n_slices=2, rows=160, columns=160, spacing_mm=(3.2, 3.2, 5))
    with_arms, without = (make_phantom(4, replace(grid, arms=arms)) for arms in (True, False))
    assert (with_arms.arms, without.arms) == (True, False)
    soft = [(~one.body_mask & (one.hu > 0) & (one.hu < 110)).sum() for one in (with_arms, without)]
    assert soft[0] > soft[1] + 400  # without them there is the couch
    assert not with_arms.label_map[~with_arms.body_mask].any()


def test_the_whole_range_keeps_labels_and_files(tmp_path: Path) -> None:
    """Catches settings that move or label what they should leave alone, and HU that a file cannot hold."""
    grid = PhantomOptions(n_slices=2, rows=48, columns=48, ordinary=False)
    below = 0
    for seed in range(60):
        phantom = make_phantom(seed, grid)
        assert (phantom.label_map > 0).any()
        assert not phantom.label_map[~phantom.body_mask].any()
        hu, affine = read_stored(write_series(phantom, tmp_path / str(seed), patient_id="P", seed=seed))
        np.testing.assert_array_equal(hu, phantom.hu)
        np.testing.assert_allclose(affine, phantom.affine_lps, atol=1e-5)
        below += phantom.hu.min() < -1024
    assert below > 0


def test_groups_and_one_muscle_agree() -> None:
    """Catches the two kinds of label drifting apart."""
    groups = make_phantom(3, UNEVEN)
    muscle = make_phantom(3, PhantomOptions(n_slices=5, rows=96, columns=120, spacing_mm=(3.1, 3.4, 6.0)))
    np.testing.assert_array_equal(groups.label_map > 0, muscle.label_map == 1)
    np.testing.assert_array_equal(groups.hu, muscle.hu)
    assert {0, 1, 2, 3, 4, 5, 6, 7} <= set(np.unique(groups.label_map)) <= {0, *GROUP_NAMES}
    assert muscle.label_names == {1: "skeletal_muscle"}


def test_any_grid_shows_the_same_body() -> None:
    """Catches anatomy that depends on the grid: a finer grid has to hold the coarse grid's labels at shared points."""
    coarse = make_phantom(6, PhantomOptions(n_slices=3, rows=65, columns=65, spacing_mm=(4.0, 4.0, 8.0)))
    fine = make_phantom(6, PhantomOptions(n_slices=5, rows=129, columns=129, spacing_mm=(2.0, 2.0, 4.0)))
    np.testing.assert_allclose(coarse.affine_lps[:3, 3], fine.affine_lps[:3, 3], atol=2e-3)
    assert np.mean(coarse.label_map != fine.label_map[::2, ::2, ::2]) < 1e-3


def test_refuses_a_full_folder(tmp_path: Path) -> None:
    """Catches an overwritten data set."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        write_dataset(tmp_path, 1, 0, SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    "wrong",
    [{"n_slices": 0}, {"rows": 4}, {"columns": 100_000}, {"spacing_mm": (1.0, 0.0, 1.0)}, {"labels": "bones"}],
)
def test_refuses_options_out_of_range(wrong: dict[str, object]) -> None:
    """Catches a range that is not checked."""
    with pytest.raises(OptionError):
        PhantomOptions(**wrong)  # type: ignore[arg-type]


def test_single_slice() -> None:
    """Catches code that needs a neighbour."""
    assert make_phantom(0, PhantomOptions(n_slices=1, rows=64, columns=64)).hu.shape == (64, 64, 1)


def test_command_line(tmp_path: Path) -> None:
    """Catches a command that does not run, or shows a traceback where one line would do."""
    out = tmp_path / "data set"
    command = [sys.executable, "-m", "sarco", "phantom", str(out), "--patients", "2", "--slices=3", "--size=64"]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [*command, "--groups=yes", "--oblique=yes"], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in out.iterdir()) == ["P001", "P001.nii.gz", "P002", "P002.nii.gz", "labels.json"]
    assert len(list((out / "P001").glob("*.dcm"))) == 3
    names = json.loads((out / "labels.json").read_text())
    assert names == {"0": "background", **{str(label): name for label, name in GROUP_NAMES.items()}}
    again = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "Traceback" not in again.stderr
    assert len(again.stderr.strip().splitlines()) == 1


def test_height_is_where_the_slice_lies() -> None:
    """Catches a height that is ignored, measured in another direction, or not that of the grid's middle."""
    grid = {"rows": 64, "columns": 64, "spacing_mm": (7.0, 7.0, 4.0), "labels": "groups"}
    low, high = (make_phantom(6, PhantomOptions(n_slices=1, z_mm=z, **grid)) for z in (-60.0, 40.0))
    rise_mm = high.affine_lps[2, 3] - low.affine_lps[2, 3]
    assert 85 < rise_mm < 115, "100 mm of a patient of average size"
    above = make_phantom(6, PhantomOptions(n_slices=1, z_mm=-60 + 4 * 100 / rise_mm, **grid))
    three = make_phantom(6, PhantomOptions(n_slices=3, z_mm=-60.0, **grid))
    np.testing.assert_allclose(three.affine_lps[2, 3], low.affine_lps[2, 3] - 4, atol=2e-3)
    assert (three.label_map[..., 1] == low.label_map[..., 0]).mean() > 0.999
    assert (three.label_map[..., 2] == above.label_map[..., 0]).mean() > 0.999
    assert (low.label_map != high.label_map).mean() > 0.05
