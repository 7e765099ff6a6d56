"""The doctor: its faults are really there, its judgement is sound, and sarco reads each fault rightly or refuses it."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.pixels import apply_modality_lut

from sarco.commands.doctor import main
from sarco.core.errors import InputError, OptionError, SarcoError
from sarco.doctor import score as doctor
from sarco.doctor.cases import Truth
from sarco.doctor.judge import Outcome, ReaderVerdict, difference, judge_reader, run_reader, usual_lines
from sarco.doctor.score import FAULTS
from sarco.io.nifti import read_volumes, write_volume

ROOT = Path(__file__).parents[2]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
WELL = Outcome(0, "")
Built = dict[str, tuple[Path, tuple[Truth, ...]]]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Every fault on disk, with its truth."""
    folder = tmp_path_factory.mktemp("faults")
    return {fault.name: (place, truths) for fault, place, truths in doctor.build_faults([*FAULTS.values()], folder)}


def datasets(folder: Path) -> list[pydicom.Dataset]:
    """Every DICOM file below a folder, in order of names."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".txt")
    return [pydicom.dcmread(path, force=True) for path in files]


def z_of(found: Sequence[pydicom.Dataset]) -> list[float]:
    """Where the slices lie along z."""
    return [float(dataset.ImagePositionPatient[2]) for dataset in found]


def raw(dataset: pydicom.Dataset, keyword: str) -> str:
    """What stands in the file, as text."""
    return bytes(dataset.get_item(keyword).value).decode()


# --- the faults are there --------------------------------------------------------------------------------------------

Check = Callable[[list[pydicom.Dataset]], object]


def all_of(keyword: str) -> Callable[[list[pydicom.Dataset]], set[str]]:
    """The different values of a tag in a folder."""
    return lambda found: {str(dataset.get(keyword)) for dataset in found}


def syntax_is(uid: str) -> Check:
    """Whether every file has this transfer syntax."""
    return lambda found: {str(dataset.file_meta.TransferSyntaxUID) for dataset in found} == {uid}


def orientation_is(*cosines: float) -> Check:
    """Whether every slice has this orientation."""
    return lambda found: all(np.allclose(dataset.ImageOrientationPatient, cosines) for dataset in found)


def pixels_end_early(found: list[pydicom.Dataset]) -> bool:
    """Whether one file holds fewer bytes than it says."""
    return sum(len(dataset.get("PixelData", b"")) < dataset.Rows * dataset.Columns * 2 for dataset in found) == 1


CHECKS: dict[str, Check] = {
    "plain_axial": lambda f: z_of(f) == sorted(z_of(f)) and orientation_is(1, 0, 0, 0, 1, 0)(f),
    "shuffled_names": lambda f: (
        z_of(f) not in (sorted(z_of(f)), sorted(z_of(f), reverse=True))
        and [d.InstanceNumber for d in f] not in ([1, 2, 3, 4, 5], [5, 4, 3, 2, 1])
        and z_of(sorted(f, key=lambda d: d.InstanceNumber)) != sorted(z_of(f))
    ),
    "other_thickness": lambda f: f[0].SliceThickness == 12.5 and np.allclose(np.diff(z_of(f)), 9),
    "anisotropic_pixels": lambda f: f[0].PixelSpacing == [5.5, 8.3],
    "oblique": lambda f: sum(abs(v) > 0.01 for v in f[0].ImageOrientationPatient) == 3,
    "double_oblique": lambda f: all(abs(v) > 0.01 for v in f[0].ImageOrientationPatient),
    "coronal": orientation_is(1, 0, 0, 0, 0, -1),
    "sagittal": orientation_is(0, 1, 0, 0, 0, -1),
    "rows_upwards": orientation_is(1, 0, 0, 0, -1, 0),
    "columns_to_the_right": orientation_is(-1, 0, 0, 0, 1, 0),
    "feet_first": lambda f: f[0].PatientPosition == "FFS" and z_of(f) == sorted(z_of(f), reverse=True),
    "prone": orientation_is(-1, 0, 0, 0, -1, 0),
    "decubitus": orientation_is(0, -1, 0, 1, 0, 0),
    "gantry_tilt": lambda f: (
        np.isclose(
            np.cross(f[0].ImageOrientationPatient[:3], f[0].ImageOrientationPatient[3:])[2], np.cos(np.radians(16))
        )
        and np.allclose(np.diff(z_of(f)), 9)
    ),
    "single_slice": lambda f: len(f) == 1,
    "rounded_positions": lambda f: set(np.diff(z_of(f)).round(2)) == {0.62, 0.63},
    "missing_slice": lambda f: sorted(np.diff(z_of(f)).round(3)) == [9, 9, 18],
    "uneven_gap": lambda f: sorted(np.diff(z_of(f)).round(2)) == [9, 9, 9, 12.33],
    "merged_series": lambda f: set(np.diff(sorted(z_of(f))).round(2)) == {3.6, 5.4},
    "shared_position": lambda f: len(f) == 6 and len(set(z_of(f))) == 5 and f[2].PixelData != f[5].PixelData,
    "two_phases": lambda f: z_of(f)[:5] == z_of(f)[5:] and f[0].PixelData != f[5].PixelData,
    "localizer": lambda f: "LOCALIZER" in f[0].ImageType and len(all_of("SeriesInstanceUID")(f)) == 1,
    "coronal_in_between": lambda f: len(all_of("ImageOrientationPatient")(f)) == 2 and len(all_of("Rows")(f)) == 1,
    "other_spacing": lambda f: len(all_of("PixelSpacing")(f)) == 2,
    "other_size": lambda f: len(all_of("Rows")(f)) == 2,
    "spacing_zero": lambda f: f[0].PixelSpacing == [0, 0],
    "position_nan": lambda f: sum("nan" in raw(d, "ImagePositionPatient") for d in f) == 1,
    "no_position": lambda f: all("ImagePositionPatient" not in d for d in f),
    "no_orientation": lambda f: all("ImageOrientationPatient" not in d for d in f),
    "no_suffix": lambda f: not any("." in Path(d.filename).name for d in f),
    "tree": lambda f: [d.Modality for d in f] == ["CT"] * 10 + ["OT", "SR"] and len(all_of("StudyInstanceUID")(f)) == 1,
    "mr_beside": lambda f: [d.Modality for d in f] == ["CT"] * 5 + ["MR"] * 5,
    "colour_capture": lambda f: f[5].SamplesPerPixel == 3 and len(all_of("SeriesInstanceUID")(f)) == 1,
    "file_twice": lambda f: len(f) == 6 and len(all_of("SOPInstanceUID")(f)) == 5,
    "no_meta_header": lambda f: not any(d.file_meta or d.preamble for d in f),
    "two_patients": lambda f: len(all_of("PatientID")(f)) == 2 and len(all_of("SeriesInstanceUID")(f)) == 1,
    "two_frames_of_reference": lambda f: (
        len(all_of("FrameOfReferenceUID")(f)) == 2 and len(all_of("SeriesInstanceUID")(f)) == 1
    ),
    "same_instance": lambda f: len(all_of("SOPInstanceUID")(f)) == 1 and len(f) == 5,
    "implicit_vr": syntax_is("1.2.840.10008.1.2"),
    "big_endian": syntax_is("1.2.840.10008.1.2.2"),
    "deflated": syntax_is("1.2.840.10008.1.2.1.99"),
    "rle": syntax_is("1.2.840.10008.1.2.5"),
    "jpeg_2000": syntax_is("1.2.840.10008.1.2.4.90"),
    "truncated": pixels_end_early,
    "false_syntax": lambda f: syntax_is("1.2.840.10008.1.2.1")(f) and len(f[0].PixelData) < 48 * 60 * 2,
    "signed": lambda f: f[0].PixelRepresentation == 1 and f[0].RescaleIntercept == 0,
    "overlay_bits": lambda f: f[0].HighBit == 11 and np.frombuffer(f[0].PixelData, "<u2").max() > 4095,
    "scale_by_slice": lambda f: len(all_of("RescaleSlope")(f)) == 5 and len(all_of("RescaleIntercept")(f)) == 4,
    "fractional_slope": lambda f: float(f[0].RescaleSlope) == 0.37,
    "padding": lambda f: f[0].PixelPaddingValue == 3900 and (f[0].pixel_array == 3900).any(),
    "padding_range": lambda f: f[0].PixelPaddingRangeLimit == 4000 and (f[0].pixel_array > 3900).any(),
    "monochrome1": lambda f: all_of("PhotometricInterpretation")(f) == {"MONOCHROME1"},
    "modality_lut": lambda f: f[0].ModalityLUTSequence[0].ModalityLUTType == "HU" and "RescaleSlope" not in f[0],
    "no_rescale": lambda f: "RescaleSlope" not in f[0] and f[0].PixelRepresentation == 0,
    "hu_already": lambda f: "RescaleSlope" not in f[0] and -1025 < f[0].pixel_array.min() < -900,
    "effective_z": lambda f: all_of("RescaleType")(f) == {"Z_EFF"},
    "iodine": lambda f: all_of("RescaleType")(f) == {"MGML"},
    "enhanced": lambda f: f[0].SOPClassUID.name == "Enhanced CT Image Storage" and f[0].NumberOfFrames == 5,
    "legacy_converted": lambda f: f[0].SOPClassUID.name.startswith("Legacy Converted Enhanced CT"),
    "no_pixel_measures": lambda f: "PixelMeasuresSequence" not in str(f[0].SharedFunctionalGroupsSequence[0].keys()),
    "more_rows": lambda f: f[0].Rows * f[0].Columns * 2 > len(f[0].PixelData),
    "fewer_columns": lambda f: f[0].Rows * f[0].Columns * 2 < len(f[0].PixelData),
    "rounded_to_tenth": lambda f: set(np.diff(z_of(f)).round(2)) == {1.2, 1.3},
    "rounded_cosines": lambda f: 1e-4 < abs(np.linalg.norm(f[0].ImageOrientationPatient[3:]) - 1) < 1e-3,
    "coarse_cosines": lambda f: abs(np.linalg.norm(f[0].ImageOrientationPatient[3:]) - 1) > 1e-2,
    "spacing_cm": lambda f: f[0].PixelSpacing == [0.72, 0.72],
    "spacing_metres": lambda f: f[0].PixelSpacing == [0.0072, 0.0072],
    "spacing_times_ten": lambda f: f[0].PixelSpacing == [72, 72],
    "lone_slice": lambda f: len(f) == 1 and (f[0].SliceThickness, f[0].SpacingBetweenSlices) == (9, 99),
    "no_uids": lambda f: all_of("SeriesInstanceUID")(f) == {""} and len(f) == 10 and len(set(z_of(f))) == 10,
    "shared_uids": lambda f: all_of("SeriesInstanceUID")(f) == {"1.2.3"} and len(f) == 10,
    "empty_file": lambda f: [len(d) > 0 for d in f] == [True] * 4 + [False],
    "zero_filled": lambda f: ["PixelData" in d for d in f] == [True] * 4 + [False],
    "link_to_nowhere": lambda f: len(f) == 4 and len([*Path(f[0].filename).parent.iterdir()]) == 5,
    "foreign_letters": lambda f: b"\xe4" in bytes(f[0].get_item("PatientName").value),
    "long_numbers": lambda f: len(raw(f[0], "PixelSpacing").split("\\")[0]) > 16,
    "perfusion": lambda f: f[0].ImageType[3] == "RCBF" and f[0].PixelPresentation == "COLOR",
    "projection": lambda f: f[0].ImageType[2] == "MIP",
    "subtraction": lambda f: f[0].ImageType[2] == "SUBTRACTION",
    "palette": lambda f: f[0].PhotometricInterpretation == "PALETTE COLOR",
    "lost_intercept": lambda f: f[0].RescaleIntercept == 0 and f[0].PixelRepresentation == 0,
    "lost_intercept_signed": lambda f: f[0].RescaleIntercept == 0 and 0 <= f[0].pixel_array.min() < 100,
    "eight_bits": lambda f: f[0].BitsStored == 8 and f[0].pixel_array.max() == 255,
    "huge": lambda f: f[0].Rows == f[0].Columns == 65535,
}


def test_every_fault_is_checked() -> None:
    """Catches a fault that nobody looked at."""
    assert CHECKS.keys() == FAULTS.keys()


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_there(built: Built, name: str) -> None:
    """Catches a series that is called faulty and is not."""
    assert CHECKS[name](datasets(built[name][0]))


# SimpleITK gives another affine or no HU; what is rounded is off by what the rounding takes, slice by slice.
BY_HAND = {"enhanced", "legacy_converted", "modality_lut", "monochrome1", "rounded_to_tenth"}


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in BY_HAND])
def test_simpleitk_sees_each_slice_of_a_truth(built: Built, name: str) -> None:
    """Catches a truth that is wrong about HU or place: each slice by itself is something that SimpleITK can read."""
    sitk = pytest.importorskip("SimpleITK")
    folder, truths = built[name]
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    images = []
    for path in sorted(folder.rglob("*")) if truths else []:
        if path.is_file() and path.suffix != ".txt" and path.name not in ("DICOMDIR", "dose.dcm"):
            images.append(sitk.ReadImage(str(path)))
    for truth in truths:
        for number, affine in enumerate(truth.affines_lps):
            assert any(shows(image, truth, number, affine) for image in images), number


def shows(image: object, truth: Truth, number: int, affine: NDArray[np.float64]) -> bool:
    """Whether a slice of SimpleITK holds the HU of a truth's slice, and its first and last voxel lie where they do."""
    sitk = pytest.importorskip("SimpleITK")
    hu = sitk.GetArrayFromImage(image)
    rows, columns = truth.hu.shape[:2]
    if hu.shape != (1, rows, columns):
        return False
    for row, column in ((0, 0), (rows - 1, 0), (0, columns - 1)):
        point = image.TransformIndexToPhysicalPoint((column, row, 0))  # type: ignore[attr-defined]
        if not np.allclose(point, (affine @ (row, column, 0, 1))[:3], atol=0.02):
            return False
    same = np.abs(hu[0] - truth.hu[:, :, number]) <= 1
    if truth.air is not None:
        same |= truth.air[:, :, number]
    return bool(same.all())


@pytest.mark.parametrize("name", ["enhanced", "legacy_converted"])
def test_frames_hold_the_truth(built: Built, name: str) -> None:
    """Catches frames whose place is that of another frame."""
    folder, (truth,) = built[name]
    (whole,) = datasets(folder)
    order = []
    for frame, groups in zip(whole.pixel_array, whole.PerFrameFunctionalGroupsSequence, strict=True):
        position = [float(value) for value in groups.PlanePositionSequence[0].ImagePositionPatient]
        (number,) = (i for i, affine in enumerate(truth.affines_lps) if np.allclose(affine[:3, 3], position))
        np.testing.assert_array_equal(frame - 1024.0, truth.hu[:, :, number])
        order.append(number)
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert order not in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0])


def test_monochrome1_is_the_plain_series(built: Built) -> None:
    """Catches stored values that were turned over along with the way they are shown."""
    for one, other in zip(datasets(built["monochrome1"][0]), datasets(built["plain_axial"][0]), strict=True):
        assert one.PixelData == other.PixelData
    np.testing.assert_array_equal(built["monochrome1"][1][0].hu, built["plain_axial"][1][0].hu)


def test_the_table_gives_the_truth(built: Built) -> None:
    """Catches a Modality LUT that pydicom reads as other HU."""
    folder, (truth,) = built["modality_lut"]
    for number, dataset in enumerate(datasets(folder)):
        np.testing.assert_array_equal(apply_modality_lut(dataset.pixel_array, dataset), truth.hu[:, :, number])


def test_a_fault_is_the_same_every_time(built: Built, tmp_path: Path) -> None:
    """Catches chance in the torture set: two people have to speak of the same files."""
    for fault, place, _ in doctor.build_faults([*FAULTS.values()], tmp_path):
        for path in sorted(place.rglob("*")):
            if path.is_file():
                assert path.read_bytes() == (built[fault.name][0] / path.relative_to(place)).read_bytes(), path


# --- the judgement ---------------------------------------------------------------------------------------------------


def whole_affine(truth: Truth) -> NDArray[np.float64]:
    """(row, column, slice, 1) to LPS mm of an even stack."""
    affine = truth.affines_lps[0].copy()
    affine[:3, 2] = truth.affines_lps[1][:3, 3] - affine[:3, 3]
    return affine


def verdict_on(truths: tuple[Truth, ...], output: Path, *volumes: tuple[NDArray, NDArray[np.float64]]) -> ReaderVerdict:
    """The verdict on a reader that writes these arrays with these affines (both in memory order)."""
    output.mkdir(exist_ok=True)
    for number, (hu, affine) in enumerate(volumes):
        write_volume(output / f"{number}.nii.gz", hu, affine)
    return judge_reader(truths, output, WELL)


def moved(affine: NDArray[np.float64], *millimetres: float) -> NDArray[np.float64]:
    """The affine of a grid that lies elsewhere."""
    other = affine.copy()
    other[:3, 3] += millimetres
    return other


WRONG: dict[str, Callable[[NDArray, NDArray[np.float64]], tuple[NDArray, NDArray[np.float64]]]] = {
    "columns mirrored": lambda hu, affine: (hu[:, ::-1], affine),
    "rows mirrored": lambda hu, affine: (hu[::-1], affine),
    "slices in reverse": lambda hu, affine: (hu[:, :, ::-1], affine),
    "shifted by one slice": lambda hu, affine: (np.roll(hu, 1, axis=2), affine),
    "shifted by one column": lambda hu, affine: (hu, moved(affine, 7.2, 0, 0)),
    "shifted by 0.2 mm": lambda hu, affine: (hu, moved(affine, 0, 0.2, 0)),
    "RAS taken for LPS": lambda hu, affine: (hu, LPS_TO_RAS @ affine),
    "step from the thickness": lambda hu, affine: (hu, affine @ np.diag([1, 1, 1.2, 1])),
    "no intercept": lambda hu, affine: (hu + 1024, affine),
    "twice the slope": lambda hu, affine: (hu * 2, affine),
    "one voxel off": lambda hu, affine: (np.where(np.arange(5) == 4, np.where(hu == hu.max(), 0, hu), hu), affine),
    "NaN": lambda hu, affine: (np.where(hu > 100, np.nan, hu), affine),
    "last slice missing": lambda hu, affine: (hu[:, :, :-1], affine),
    "identity affine": lambda hu, affine: (hu, np.eye(4)),
}


@pytest.mark.parametrize("name", ["plain_axial", "double_oblique"])
@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_seen(built: Built, tmp_path: Path, name: str, mistake: str) -> None:
    """Catches a doctor who lets a wrong image pass."""
    truths = built[name][1]
    if mistake == "one voxel off":
        hu, affine = truths[0].hu.copy(), whole_affine(truths[0])
        hu[17, 23, 4] += 3
    else:
        hu, affine = WRONG[mistake](truths[0].hu, whole_affine(truths[0]))
    verdict = verdict_on(truths, tmp_path, (hu.astype(np.float32), affine))
    assert verdict.kind == "wrong"
    assert verdict.reason


@pytest.mark.parametrize("name", ["plain_axial", "double_oblique", "gantry_tilt", "coronal"])
def test_any_order_of_axes_is_right(built: Built, tmp_path: Path, name: str) -> None:
    """Catches a doctor who asks for one layout of the file, and one who rounds away what is right."""
    truths = built[name][1]
    hu, affine = truths[0].hu, whole_affine(truths[0])
    assert verdict_on(truths, tmp_path, (hu, affine)) == ReaderVerdict("right")
    turned, turn = hu.transpose(2, 0, 1)[:, ::-1], np.eye(4)[:, [2, 0, 1, 3]]
    turn[0, 1], turn[0, 3] = -1, hu.shape[0] - 1  # rows run the other way
    shifted = moved(affine @ turn, 0.01, 0, 0.01)
    nib.save(nib.Nifti1Image(np.rint(turned + 0.3).astype(np.int16), LPS_TO_RAS @ shifted), tmp_path / "0.nii.gz")
    assert judge_reader(truths, tmp_path, WELL) == ReaderVerdict("right")


def test_gaps_and_further_files_are_right(built: Built, tmp_path: Path) -> None:
    """Catches a doctor who asks for more than the slices that are there."""
    (truth,) = built["missing_slice"][1]
    filled = np.zeros((*truth.hu.shape[:2], 5), dtype=np.float32)
    filled[:, :, [0, 1, 2, 4]] = truth.hu
    affine = whole_affine(truth)
    assert verdict_on((truth,), tmp_path, (filled * 0, moved(affine, 0, 0, 500)), (filled, affine)).kind == "right"


def test_padding_may_be_any_air_and_no_metal(built: Built, tmp_path: Path) -> None:
    """Catches a doctor who asks for one value of air, or looks away where the padding is."""
    truths = built["padding"][1]
    air = truths[0].air
    assert air is not None and 0.05 < air.mean() < 0.4
    for value, kind in ((-3024, "right"), (-901, "right"), (2876, "wrong"), (-800, "wrong")):
        hu = np.where(air, value, truths[0].hu).astype(np.float32)
        assert verdict_on(truths, tmp_path, (hu, whole_affine(truths[0]))).kind == kind, value


def test_each_series_needs_a_volume_of_its_own(built: Built, tmp_path: Path) -> None:
    """Catches two patients in one image that pass because each voxel lies in its place."""
    truths = built["two_patients"][1]
    affine = whole_affine(truths[0])
    both = np.concatenate([truth.hu for truth in truths], axis=2)
    assert "mixed" in verdict_on(truths, tmp_path / "mixed", (both, affine)).reason
    parts = [(truths[0].hu, affine), (truths[1].hu, whole_affine(truths[1]))]
    assert verdict_on(truths, tmp_path / "apart", *parts).kind == "right"
    assert verdict_on(truths, tmp_path / "one", parts[1]).kind == "wrong"
    assert "mixed" in verdict_on(truths, tmp_path / "also", *parts, (both, affine)).reason


def test_volumes_along_a_fourth_axis_count_each(built: Built, tmp_path: Path) -> None:
    """Catches two phases that a reader kept apart in one file, and colours taken for HU."""
    truths = built["two_phases"][1]
    phases = np.stack([truth.hu.transpose(1, 0, 2) for truth in truths], axis=-1)
    affine = LPS_TO_RAS @ whole_affine(truths[0])[:, [1, 0, 2, 3]]
    nib.save(nib.Nifti1Image(phases, affine), tmp_path / "phases.nii.gz")
    assert judge_reader(truths, tmp_path, WELL).kind == "right"
    colours = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colours, affine), tmp_path / "colours.nii")
    assert read_volumes(tmp_path / "colours.nii")[0] == []


def test_an_image_of_what_has_to_be_refused_is_wrong(built: Built, tmp_path: Path) -> None:
    """Catches a good mark for guessing."""
    truth = built["plain_axial"][1][0]
    assert verdict_on((), tmp_path, (truth.hu, whole_affine(truth))).kind == "wrong"
    loud = judge_reader((), tmp_path, Outcome(0, "usual\nWarning: gaps differ"))
    assert (loud.kind, loud.warned) == ("wrong", True)


def test_an_affine_without_depth_is_wrong(built: Built) -> None:
    """Catches a division by zero in the doctor."""
    (truth,) = built["plain_axial"][1]
    for affine in (np.diag([1.0, 1, 0, 1]), np.full((4, 4), np.nan)):
        assert difference(truth, truth.hu, affine) == "the affine is no affine"


def test_a_damaged_file_is_wrong(built: Built, tmp_path: Path) -> None:
    """Catches a doctor who falls ill on what a reader wrote."""
    (tmp_path / "x.nii").write_bytes(b"no image")
    assert judge_reader(built["plain_axial"][1], tmp_path, WELL).kind == "wrong"


def test_a_warning_that_always_comes_is_none(built: Built, tmp_path: Path) -> None:
    """Catches a reader that is excused because it warns of everything."""
    always = "WARNING: the maker of /a/b/c.dcm is unknown (12)"
    usual = usual_lines(Outcome(0, always))
    (tmp_path / "x.nii").write_bytes(b"no image")
    truths = built["plain_axial"][1]
    again = always.replace("/a/b", "/d").replace("12", "7")
    assert not judge_reader(truths, tmp_path, Outcome(0, again), usual).warned
    assert judge_reader(truths, tmp_path, Outcome(0, f"{again}\nwarning: a slice is missing"), usual).warned
    assert judge_reader(truths, tmp_path, Outcome(3, again), usual).warned


READERS = {
    "refuses by its status": ("import sys; sys.exit('two patients')", "refused"),
    "refuses in a line": ("print('nothing to do here')", "refused"),
    "refuses on purpose": ("raise ValueError('spacing is 0')", "refused"),
    "refuses by its own error": ("class Odd(Exception): pass\nraise Odd('gaps')", "refused"),
    "says nothing": ("", "wrong"),
    "slips": ("{}['x']", "crashed"),
    "slips on None": ("None.x", "crashed"),
    "slips, and then again": ("try: {}[1]\nexcept KeyError: [][1]", "crashed"),
    "refuses after a slip": ("try: {}[1]\nexcept KeyError: raise OSError('no file')", "refused"),
    "is killed": ("import os; os.kill(os.getpid(), 11)", "crashed"),
    "hangs": ("import time; time.sleep(60)", "crashed"),
}


@pytest.mark.parametrize("how", READERS)
def test_how_a_reader_ends(built: Built, tmp_path: Path, how: str) -> None:
    """Catches a crash that counts as a refusal, and the reverse."""
    code, kind = READERS[how]
    folder, truths = built["plain_axial"]
    timeout_s = 1 if how == "hangs" else 60
    words = (sys.executable, "-c", code, "{input}", "{output}")
    verdict = judge_reader(truths, tmp_path, run_reader(words, folder, tmp_path, timeout_s))
    assert verdict.kind == kind
    assert verdict.reason


def test_a_reader_that_survives_its_slips_is_judged_by_its_files(built: Built, tmp_path: Path) -> None:
    """Catches right images that count as a crash because of a traceback beside them."""
    (truth,) = built["plain_axial"][1]
    write_volume(tmp_path / "x.nii", truth.hu, whole_affine(truth))
    text = "Traceback (most recent call last):\n  File x\nKeyError: 'InstanceNumber'\n"
    assert judge_reader((truth,), tmp_path, Outcome(0, text)).kind == "right"
    assert judge_reader((truth,), tmp_path, Outcome(1, text)).kind == "crashed"


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Catches a table full of refusals because of a misspelt command."""
    with pytest.raises(InputError, match="no_such_reader"):
        run_reader(["no_such_reader"], tmp_path, tmp_path, 5)


# --- sarco under its own eyes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAULTS)
def test_sarco_is_right_or_refuses(built: Built, tmp_path: Path, name: str) -> None:
    """Catches a wrong volume, and any error but one in a single line."""
    folder, truths = built[name]
    outcome = WELL
    try:
        doctor.read_as_reader(folder, tmp_path, print)
    except SarcoError as error:
        assert len(str(error).splitlines()) == 1
        outcome = Outcome(1, str(error))
    verdict = judge_reader(truths, tmp_path, outcome)
    assert verdict.kind in ("right", "refused"), verdict.reason


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_scores_sarco_and_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a command that scores another folder than it built, or a table that does not say what came out."""
    monkeypatch.chdir(ROOT)
    report = tmp_path / "report.md"
    silent = f"{sys.executable} -c pass {{input}} {{output}}"
    words = ["--fault=oblique", "--fault=no_position", f"--reader=silent={silent}", f"--out={report}"]
    main([*words, f"--keep={tmp_path / 'set'}"])
    said = capsys.readouterr().out
    assert "1 right, 1 refused, as is right" in said
    assert "silent: 2 wrong in silence" in said
    text = report.read_text()
    assert "| `oblique` | slices are turned about one axis | read | right | **wrong** |" in text
    assert "| `no_position` | ImagePositionPatient is missing | refuse | refused | **wrong** |" in text
    assert "| wrong in silence | 0 | 2 |" in text
    assert len([*(tmp_path / "set" / "oblique" / "input").iterdir()]) == 5
    kept = np.load(tmp_path / "set" / "oblique" / "truth_1.npz")
    assert kept["hu"].shape == (48, 60, 5) and kept["affines_lps"].shape == (5, 4, 4)
    with pytest.raises(InputError, match="is not empty"):
        main(["--fault=oblique", f"--keep={tmp_path / 'set'}"])


def test_a_report_keeps_what_people_wrote_around_it(tmp_path: Path) -> None:
    """Catches a page of explanations that the next run wipes out, and a foreign file that is overwritten."""
    path = tmp_path / "report.md"
    path.write_text(f"Before.\n{doctor.BEGIN}old\n{doctor.END}After.\n")
    doctor.write_scores(path, "new")
    assert path.read_text() == f"Before.\n{doctor.BEGIN}\nnew\n{doctor.END}After.\n"
    path.write_text("My thesis.")
    with pytest.raises(InputError, match="no report"):
        doctor.write_scores(path, "new")
    assert path.read_text() == "My thesis."


def test_other_readers_are_called_through_their_wrapper(built: Built, tmp_path: Path) -> None:
    """Catches a wrapper that writes elsewhere, or that exits well without an image."""
    pytest.importorskip("SimpleITK")
    words = (sys.executable, str(ROOT / "benchmarks" / "read_with.py"), "simpleitk", "{input}", "{output}")
    for name, kind in (("plain_axial", "right"), ("localizer", "refused")):
        folder, truths = built[name]
        output = tmp_path / name
        output.mkdir()
        assert judge_reader(truths, output, run_reader(words, folder, output, 60)).kind == kind


@pytest.mark.parametrize(
    "words",
    [
        ["--fault=flu"],
        ["--timeout=0"],
        ["--reader=dcm2niix"],
        ["--reader=x=x {input}"],
        ["--reader=x='x {input} {output}"],
        ["--reader=x=x {input} {output}", "--reader=x=y {input} {output}"],
    ],
)
def test_a_wrong_flag_is_named(words: list[str]) -> None:
    """Catches a slip in the command line that shows after ten minutes, or as a traceback."""
    with pytest.raises(OptionError, match=words[0].split("=")[0]):
        main(words)


def test_the_page_tells_of_every_fault() -> None:
    """Catches a result in the docs that is older than the torture set."""
    rows = [
        line.split("|") for line in (ROOT / "docs" / "doctor.md").read_text().splitlines() if line.startswith("| `")
    ]
    assert {row[1].strip(" `"): row[2].strip() for row in rows} == {f.name: f.what for f in FAULTS.values()}
