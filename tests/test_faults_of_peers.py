"""Faults that other body composition tools are known for, as far as they concern measuring: each once, end to end."""

import json
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from sarco.commands.measure import main
from sarco.core.errors import GeometryError, InputError
from sarco.io.dicom import find_series
from sarco.io.nifti import write_label_map
from sarco.measurement.cutoffs import assess, read_cutoffs
from sarco.measurement.patients import Identity, Patient, read_patients
from sarco.phantom.patient import Phantom, PhantomOptions, make_phantom, write_series

PIXEL_MM = 0.78  # 1 / 0.78^2 = 1.64
CT_COLUMN_ROW_SLICE = (1, 0, 2)


@pytest.fixture(scope="module")
def patient() -> Phantom:
    """A patient with one muscle label on a grid of 0.78 mm."""
    return make_phantom(5, PhantomOptions(n_slices=3, rows=180, columns=200, spacing_mm=(PIXEL_MM, PIXEL_MM, 5.0)))


@pytest.fixture
def scan(patient: Phantom, tmp_path: Path) -> Path:
    """The patient as a DICOM series."""
    write_series(patient, tmp_path / "scan", patient_id="1", seed=0)
    return tmp_path / "scan"


def measure(scan: Path, mask: Path, *flags: str) -> dict[str, Any]:
    """The summary that the command line writes."""
    out = mask.parent / "out"
    main([str(scan), str(mask), f"--out={out}", "--overwrite=yes", *flags])
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return summary


def true_area_cm2(patient: Phantom, plane: int) -> float:
    """Pixels x pixel area, count_of here."""
    return int((patient.label_map[:, :, plane] > 0).sum()) * PIXEL_MM**2 / 100


def write_bare(path: Path, file_array: NDArray[np.uint8]) -> None:
    """A NIfTI without spacing or affine: pixels of "1 mm"."""
    image = nib.Nifti1Image(file_array, np.eye(4))
    image.set_sform(None, code="unknown")
    image.set_qform(None, code="unknown")
    nib.save(image, path)


def test_1_a_mask_without_spacing_does_not_change_the_area(patient: Phantom, scan: Path, tmp_path: Path) -> None:
    """Catches an area 1.64 times too large: the mask's file says 1 mm, the scan says 0.78 mm, and the scan is right."""
    # Without an affine the axes of a file count as right, anterior, superior; those of the phantom are left, posterior.
    write_bare(tmp_path / "mask.nii.gz", patient.label_map.transpose(CT_COLUMN_ROW_SLICE)[::-1, ::-1])
    summary = measure(scan, tmp_path / "mask.nii.gz")
    areas = summary["area_profile"]["area_cm2"]["label_1"]
    assert areas == pytest.approx([true_area_cm2(patient, plane) for plane in range(3)], abs=1e-3)
    assert summary["labels"][0]["mean_hu"] == pytest.approx(patient.hu[patient.label_map > 0].mean(), abs=1e-3)


def test_2_no_l3_is_no_slice(patient: Phantom, scan: Path, tmp_path: Path) -> None:
    """Catches slice 0 measured in silence where L3 was not found, or where nobody said where it is."""
    write_label_map(tmp_path / "mask.nii.gz", patient.label_map, patient.affine_lps)
    for flags in ([], [f"--vertebrae={tmp_path / 'mask.nii.gz'}", "--l3_label=29"]):
        summary = measure(scan, tmp_path / "mask.nii.gz", "--muscle_labels=all", *flags)
        assert summary["level"]["slice_index"] is None
        assert summary["smi"]["value"] is None
        assert summary["smi"]["why_not"].startswith("not computed, because ")
        assert summary["at_level"] is None
        assert {one["verdict"] for one in summary["cutoffs"]} == {"not applicable"}


def test_3_cutoffs_belong_to_their_sex() -> None:
    """Catches Prado's figures swapped between the sexes, and Martin's 53 applied to women."""

    def verdicts(sex: str, smi: float) -> dict[str, str]:
        found = assess({"smi": smi}, {}, Patient(sex, 1.0, 32.0), None, read_cutoffs())
        return {one.set: one.verdict for one in found if one.measure == "smi"}

    assert verdicts("F", 45.0) == {"Prado 2008": "not low", "Martin 2013": "not low", "Derstine 2018": "not low"}
    assert verdicts("M", 45.0) == {"Prado 2008": "low", "Martin 2013": "low", "Derstine 2018": "low"}


def test_3_patients_are_joined_exactly(tmp_path: Path) -> None:
    """Catches the row of patient 10 for patient 1, because "1" is part of "10"."""
    (tmp_path / "p.csv").write_text("PatientID,sex,height\n10,F,150\n1,M,180\n")
    table = read_patients(tmp_path / "p.csv")
    assert table.find(Identity("1", "")).height_m == 1.8
    (tmp_path / "p.csv").write_text("PatientID,sex,height\n10,F,150\n")
    with pytest.raises(InputError, match="no row"):
        read_patients(tmp_path / "p.csv").find(Identity("1", ""))


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, -1024.0), (0.5, -1000.5), (2.0, -1023.5), (1.0, 0.0)])
def test_4_hu_are_rescaled_without_loss(
    patient: Phantom, scan: Path, tmp_path: Path, slope: float, intercept: float
) -> None:
    """Catches a slope that is ignored and an intercept that is truncated: the mean HU is that of what was stored."""
    write_label_map(tmp_path / "mask.nii.gz", patient.label_map, patient.affine_lps)
    for header in find_series(scan).series[0].slices:
        dataset = pydicom.dcmread(header.path)
        hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        dataset.RescaleSlope, dataset.RescaleIntercept = f"{slope:g}", f"{intercept:g}"
        dataset.PixelRepresentation = 1
        dataset.PixelData = np.rint((hu - intercept) / slope).astype("<i2").tobytes()
        dataset.save_as(header.path)
    stored = np.rint((patient.hu - intercept) / slope) * slope + intercept
    (label,) = measure(scan, tmp_path / "mask.nii.gz")["labels"]
    assert label["mean_hu"] == pytest.approx(stored[patient.label_map > 0].mean(), abs=1e-3)


def test_4_any_orientation_is_measured(turned_phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches a tool that knows [1, 0, 0, 0, 1, 0] alone: one patient in seven orientations has one volume."""
    volumes = {}
    for seed, (name, phantom) in enumerate(turned_phantoms.items()):
        write_series(phantom, tmp_path / name, patient_id="1", seed=seed)
        write_label_map(tmp_path / f"{name}.nii.gz", phantom.label_map, phantom.affine_lps)
        voxel_ml = abs(np.linalg.det(phantom.affine_lps[:3, :3])) / 1000
        labels = measure(tmp_path / name, tmp_path / f"{name}.nii.gz")["labels"]
        volumes[name] = sum(label["volume_ml"] for label in labels)
        assert volumes[name] == pytest.approx(int((phantom.label_map > 0).sum()) * voxel_ml, rel=1e-4)
    del volumes["oblique"]  # another patient
    assert list(volumes.values()) == pytest.approx([volumes["axial"]] * 6, rel=1e-4)


def test_5_holes_in_a_mask_stay_holes(patient: Phantom, scan: Path, tmp_path: Path) -> None:
    """Catches areas inside the outer contour: a square ring of 40 and 30 pixels is 700 pixels, not 1600."""
    mask = np.zeros_like(patient.label_map)
    mask[60:100, 70:110, 1] = 1
    mask[65:95, 75:105, 1] = 0
    write_label_map(tmp_path / "mask.nii.gz", mask, patient.affine_lps)
    areas = measure(scan, tmp_path / "mask.nii.gz")["area_profile"]["area_cm2"]["label_1"]
    assert areas == pytest.approx([0, 700 * PIXEL_MM**2 / 100, 0], abs=1e-4)


def test_6_paths_may_hold_anything(patient: Phantom, tmp_path: Path) -> None:
    """Catches a path that ends at its blank, or that a shell runs."""
    odd = tmp_path / "it's a $(touch owned) ; scan & more"
    write_series(patient, odd / "dicom", patient_id="1", seed=0)
    write_label_map(odd / "the mask (1).nii.gz", patient.label_map, patient.affine_lps)
    assert measure(odd / "dicom", odd / "the mask (1).nii.gz")["labels"][0]["volume_ml"] > 0
    assert not list(tmp_path.rglob("owned*"))


@pytest.mark.parametrize("word", ["no", "False", "0", "n"])
def test_6_no_means_no(patient: Phantom, scan: Path, tmp_path: Path, word: str) -> None:
    """Catches type=bool, for which every word is true: results overwritten by --overwrite=no."""
    write_label_map(tmp_path / "mask.nii.gz", patient.label_map, patient.affine_lps)
    words = [str(scan), str(tmp_path / "mask.nii.gz"), f"--out={tmp_path / 'out'}", f"--overwrite={word}"]
    main(words)
    with pytest.raises(InputError, match="holds measurements already"):
        main(words)


def test_7_a_reoriented_mask_is_measured_where_it_lies(patient: Phantom, scan: Path, tmp_path: Path) -> None:
    """Catches a mask paired by array index: the same mask with its axes turned gives the same HU."""
    write_label_map(tmp_path / "mask.nii.gz", patient.label_map, patient.affine_lps)
    expected = measure(scan, tmp_path / "mask.nii.gz")
    image = nib.load(tmp_path / "mask.nii.gz")
    for codes in ("RAS", "SPL", "ARI"):
        turn = nib.orientations.ornt_transform(
            nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
        )
        nib.save(image.as_reoriented(turn), tmp_path / f"{codes}.nii.gz")
        found = measure(scan, tmp_path / f"{codes}.nii.gz")
        assert found["labels"] == expected["labels"]
        assert found["area_profile"] == expected["area_profile"]


def test_7_a_cropped_mask_is_refused(patient: Phantom, scan: Path, tmp_path: Path) -> None:
    """Catches a mask on a cropped or resampled grid measured as if it covered the slice."""
    affine = patient.affine_lps.copy()
    affine[:3, 3] = (affine @ (20, 30, 0, 1))[:3]
    write_label_map(tmp_path / "cropped.nii.gz", patient.label_map[20:, 30:], affine)
    shrunk = patient.affine_lps.copy()
    shrunk[:3, :2] *= 2
    write_label_map(tmp_path / "shrunk.nii.gz", patient.label_map[::2, ::2], shrunk)
    for name in ("cropped", "shrunk"):
        with pytest.raises(GeometryError, match="does not lie on"):
            measure(scan, tmp_path / f"{name}.nii.gz")


@pytest.mark.parametrize("tag", ["PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"])
def test_9_nothing_is_invented_where_tags_are_missing(patient: Phantom, scan: Path, tmp_path: Path, tag: str) -> None:
    """Catches areas by an invented spacing of 1 mm: the missing tag is named instead."""
    write_label_map(tmp_path / "mask.nii.gz", patient.label_map, patient.affine_lps)
    for path in scan.iterdir():
        dataset = pydicom.dcmread(path)
        delattr(dataset, tag)
        dataset.save_as(path)
    with pytest.raises(InputError, match=tag):
        measure(scan, tmp_path / "mask.nii.gz")


@pytest.mark.parametrize("spacing_mm", [0.5, 0.683, 0.78, 0.977, 1.5])
def test_a_disc_through_all_files(tmp_path: Path, patient: Phantom, spacing_mm: float) -> None:
    """Catches a spacing lost anywhere between DICOM, NIfTI and the table: a disc has pi r^2 within 0.5 %."""
    radius_mm, side = 55.0, math.ceil(120 / spacing_mm)
    rows, columns = np.mgrid[:side, :side]
    disc = np.hypot(rows - side / 2.03, columns - side / 1.98) * spacing_mm <= radius_mm
    hu = np.where(disc, 45, -100).astype(np.int16)
    hu[0] = -1000  # air, which every slice has
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, spacing_mm, 0], [spacing_mm, 0, 0], [0, 0, 4.0]])
    made = Phantom(
        hu[:, :, None].repeat(2, 2),
        disc.astype(np.uint8)[:, :, None].repeat(2, 2),
        affine, {1: "muscle"}, disc[:, :, None].repeat(2, 2), "native", "F", 1.7, 70.0, False,
    )  # fmt: skip
    write_series(made, tmp_path / "scan", patient_id="1", seed=0)
    write_label_map(tmp_path / "mask.nii.gz", made.label_map, made.affine_lps)
    summary = measure(tmp_path / "scan", tmp_path / "mask.nii.gz", "--l3=1", "--muscle_labels=1")
    expected = math.pi * radius_mm**2 / 100
    assert summary["area_profile"]["area_cm2"]["label_1"] == pytest.approx([expected] * 2, rel=0.005)
    assert summary["smi"]["value"] == pytest.approx(expected / 1.7**2, rel=0.005)
    assert summary["at_level"]["mean_hu"] == 45
