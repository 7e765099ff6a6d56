"""Faults of place for `sarco.doctor.score`: which way slices lie, how they are spaced, what shares their series."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from sarco.doctor.cases import (
    COLUMNS,
    N_SLICES,
    ROWS,
    SPACING_MM,
    Fault,
    Truth,
    datasets_of,
    phantom,
    placed,
    save,
    store,
    truth_of,
)
from sarco.phantom.patient import Phantom
from sarco.scan.geometry import plane_affine

_TILT = np.radians(16)
_OBLIQUE = np.radians(23)
_MIDDLE = N_SLICES // 2
_BUT_MIDDLE = [index for index in range(N_SLICES) if index != _MIDDLE]
_OTHER_SEED = 12  # of a second patient
_ODD_SPACING_MM = 6.1


def _turned(source: Callable[[], Phantom], position: str = "HFS") -> Callable[[Path], tuple[Truth, ...]]:
    """A series that is in order but for where it lies."""

    def build(folder: Path) -> tuple[Truth, ...]:
        datasets = datasets_of(source())
        for dataset in datasets:
            dataset.PatientPosition = position
        save(datasets, folder)
        return (truth_of(source()),)

    return build


def _changed(change: Callable[[list[Dataset]], object]) -> Callable[[Path], tuple[Truth, ...]]:
    """A plain series after `change`, of which nothing right can be said any more."""

    def build(folder: Path) -> tuple[Truth, ...]:
        datasets = datasets_of(phantom())
        change(datasets)
        save(datasets, folder)
        return ()

    return build


def _names_against_z(folder: Path) -> tuple[Truth, ...]:
    datasets = datasets_of(phantom())
    for dataset, number in zip(datasets, (3, 5, 1, 4, 2), strict=True):
        dataset.InstanceNumber = number
    save(datasets, folder, [f"IM{number:04d}.dcm" for number in (4, 1, 5, 2, 3)])
    return (truth_of(phantom()),)


def _other_thickness(folder: Path) -> tuple[Truth, ...]:
    datasets = datasets_of(phantom())
    for dataset in datasets:
        dataset.SliceThickness = "12.5"
    save(datasets, folder)
    return (truth_of(phantom()),)


def _single_slice(folder: Path) -> tuple[Truth, ...]:
    save(datasets_of(phantom())[_MIDDLE : _MIDDLE + 1], folder)
    return (truth_of(phantom(), [_MIDDLE]),)


def _rounded(step_mm: float, decimals: int, lowest_mm: float | None = None) -> Callable[[Path], tuple[Truth, ...]]:
    """Thin slices whose positions along z are rounded; the first lies at ``lowest_mm``, where that is given."""

    def build(folder: Path) -> tuple[Truth, ...]:
        source = placed((0, 1, 0), (1, 0, 0), spacing_mm=(*SPACING_MM[:2], step_mm))
        if lowest_mm is not None:
            source.affine_lps[2, 3] = lowest_mm
        datasets = datasets_of(source)
        for dataset in datasets:
            dataset.SliceThickness = f"{step_mm:g}"
            x, y, z = dataset.ImagePositionPatient
            dataset.ImagePositionPatient = [str(x), str(y), f"{float(z):.{decimals}f}"]
        save(datasets, folder)
        return (truth_of(source),)

    return build


def _rounded_cosines(folder: Path) -> tuple[Truth, ...]:
    """What is said is no unit vector any more; its direction is meant, its length is not."""
    cosine, sine = round(float(np.cos(_OBLIQUE)), 3), round(float(np.sin(_OBLIQUE)), 3)
    length = float(np.hypot(cosine, sine))
    source = placed((0, cosine / length, sine / length), (1, 0, 0))
    datasets = datasets_of(source)
    for dataset in datasets:
        dataset.ImageOrientationPatient = ["1", "0", "0", "0", f"{cosine:g}", f"{sine:g}"]
    save(datasets, folder)
    return (truth_of(source),)


def _coarse_cosines(folder: Path) -> tuple[Truth, ...]:
    datasets = datasets_of(phantom(oblique=True))
    for dataset in datasets:
        dataset.ImageOrientationPatient = [f"{float(one):.1f}" for one in dataset.ImageOrientationPatient]
    save(datasets, folder)
    return ()


def _spacing_times(factor: float) -> Callable[[list[Dataset]], None]:
    def change(datasets: list[Dataset]) -> None:
        for dataset in datasets:
            dataset.PixelSpacing = [f"{SPACING_MM[0] * factor:g}"] * 2

    return change


def _lone_slice(folder: Path) -> tuple[Truth, ...]:
    (dataset,) = datasets_of(phantom())[_MIDDLE : _MIDDLE + 1]
    dataset.SliceThickness, dataset.SpacingBetweenSlices = f"{SPACING_MM[2]:g}", "99"
    save([dataset], folder)
    return (replace(truth_of(phantom(), [_MIDDLE]), voxel_mm3=float(np.prod(SPACING_MM))),)


def _missing_slice(folder: Path) -> tuple[Truth, ...]:
    present = [index for index in range(N_SLICES) if index != _MIDDLE + 1]
    datasets = datasets_of(phantom())
    save([datasets[index] for index in present], folder)
    return (truth_of(phantom(), present),)


def _move(dataset: Dataset, millimetres: float) -> None:
    """Moves a slice up along z."""
    x, y, z = (float(value) for value in dataset.ImagePositionPatient)
    dataset.ImagePositionPatient = [f"{x:g}", f"{y:g}", f"{z + millimetres:.4f}"]


def _uneven_gap(datasets: list[Dataset]) -> None:
    for dataset in datasets[_MIDDLE:]:
        _move(dataset, 0.37 * SPACING_MM[2])


def _other_pixels(datasets: list[Dataset], shift_mm: float = 0) -> list[Dataset]:
    """The same slices from another reconstruction: other pixels and instance UIDs, all else alike."""
    others = datasets_of(phantom(_OTHER_SEED), "other")
    for index, (other, mine) in enumerate(zip(others, datasets, strict=True)):
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
            setattr(other, keyword, mine[keyword].value)
        other.ImagePositionPatient = list(mine.ImagePositionPatient)
        other.InstanceNumber = len(datasets) + index + 1
        _move(other, shift_mm)
    return others


def _merged_series(folder: Path) -> tuple[Truth, ...]:
    datasets = datasets_of(phantom())
    shift_mm = 0.4 * SPACING_MM[2]
    save([*datasets, *_other_pixels(datasets, shift_mm)], folder)
    affine = phantom().affine_lps.copy()
    affine[2, 3] += shift_mm
    return truth_of(phantom()), truth_of(replace(phantom(_OTHER_SEED), affine_lps=affine))


def _shared_position(folder: Path) -> tuple[Truth, ...]:
    datasets = datasets_of(phantom())
    save([*datasets, _other_pixels(datasets)[_MIDDLE]], folder)
    other = replace(phantom(_OTHER_SEED), affine_lps=phantom().affine_lps)
    return truth_of(phantom()), truth_of(other, [_MIDDLE])


def _two_phases(folder: Path) -> tuple[Truth, ...]:
    datasets = datasets_of(phantom())
    datasets += _other_pixels(datasets)
    for number, dataset in enumerate(datasets):
        dataset.AcquisitionNumber = 1 + number // N_SLICES
    save(datasets, folder)
    return truth_of(phantom()), truth_of(replace(phantom(_OTHER_SEED), affine_lps=phantom().affine_lps))


def _coronal_picture(like: Dataset, rows: int) -> Dataset:
    """A coronal CT picture that claims to be of the same series as an axial slice."""
    picture = datasets_of(placed((0, 0, -1), (1, 0, 0)), "coronal")[_MIDDLE]
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
        setattr(picture, keyword, like[keyword].value)
    picture.InstanceNumber = 99
    if rows != ROWS:
        store(picture, np.resize(picture.pixel_array, (rows, COLUMNS)))
    return picture


def _localizer(folder: Path) -> tuple[Truth, ...]:
    datasets = datasets_of(phantom())
    picture = _coronal_picture(datasets[0], ROWS + 20)
    picture.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save([picture, *datasets], folder)
    return (truth_of(phantom()),)


def _coronal_in_between(folder: Path) -> tuple[Truth, ...]:
    datasets = datasets_of(phantom())
    save([*datasets, _coronal_picture(datasets[0], ROWS)], folder)
    return (truth_of(phantom()),)


def _other_spacing(folder: Path) -> tuple[Truth, ...]:
    datasets = datasets_of(phantom())
    datasets[_MIDDLE].PixelSpacing = [f"{_ODD_SPACING_MM:g}"] * 2
    save(datasets, folder)
    affine = plane_affine(phantom().affine_lps, _MIDDLE)
    affine[:3, :2] *= _ODD_SPACING_MM / SPACING_MM[0]
    return truth_of(phantom(), _BUT_MIDDLE), Truth(truth_of(phantom(), [_MIDDLE]).hu, (affine,))


def _other_size(folder: Path) -> tuple[Truth, ...]:
    datasets = datasets_of(phantom())
    odd = datasets[_MIDDLE]
    store(odd, odd.pixel_array[: ROWS - 8, : COLUMNS - 6])
    save(datasets, folder)
    whole = truth_of(phantom(), [_MIDDLE])
    return truth_of(phantom(), _BUT_MIDDLE), replace(whole, hu=whole.hu[: ROWS - 8, : COLUMNS - 6])


def put_raw(dataset: Dataset, keyword: str, vr: str, value: bytes) -> None:
    """Puts bytes into a data set that pydicom would not take as a value."""
    tag = Tag(keyword)
    dataset._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


def _zero_spacing(datasets: list[Dataset]) -> None:
    for dataset in datasets:
        dataset.PixelSpacing = ["0", "0"]


def _position_nan(datasets: list[Dataset]) -> None:
    put_raw(datasets[_MIDDLE], "ImagePositionPatient", "DS", b"-217.7\\-345.5\\nan ")


def _without(keyword: str) -> Callable[[list[Dataset]], None]:
    def change(datasets: list[Dataset]) -> None:
        for dataset in datasets:
            delattr(dataset, keyword)

    return change


def _oblique() -> Phantom:
    return placed((0, np.cos(_OBLIQUE), np.sin(_OBLIQUE)), (1, 0, 0))


def _double_oblique() -> Phantom:
    return phantom(oblique=True)


def _tilted() -> Phantom:
    """The table moves along z while the slices are tilted: a sheared stack."""
    return placed((0, np.cos(_TILT), -np.sin(_TILT)), (1, 0, 0), (0, 0, 1))


GEOMETRY_FAULTS = (
    Fault("plain_axial", "a plain axial series without any fault", _turned(phantom)),
    Fault("shuffled_names", "file names and InstanceNumber follow neither z nor each other", _names_against_z),
    Fault("other_thickness", "SliceThickness is 12.5 mm, the slices lie 9 mm apart", _other_thickness),
    Fault(
        "anisotropic_pixels",
        "rows lie 5.5 mm apart and columns 8.3 mm",
        _turned(lambda: placed((0, 1, 0), (1, 0, 0), spacing_mm=(5.5, 8.3, 9.0))),
    ),
    Fault("oblique", "slices are turned about one axis", _turned(_oblique)),
    Fault("double_oblique", "slices are turned about all three axes", _turned(_double_oblique)),
    Fault("coronal", "slices are coronal", _turned(lambda: placed((0, 0, -1), (1, 0, 0)))),
    Fault("sagittal", "slices are sagittal", _turned(lambda: placed((0, 0, -1), (0, 1, 0)))),
    Fault(
        "rows_upwards",
        "rows run towards the front of the patient (orientation 1, 0, 0, 0, -1, 0)",
        _turned(lambda: placed((0, -1, 0), (1, 0, 0), (0, 0, 1))),
    ),
    Fault(
        "columns_to_the_right",
        "columns run towards the patient's right (orientation -1, 0, 0, 0, 1, 0)",
        _turned(lambda: placed((0, 1, 0), (-1, 0, 0), (0, 0, 1))),
    ),
    Fault(
        "feet_first",
        "the patient lies feet first, and the slices are numbered downwards",
        _turned(lambda: placed((0, 1, 0), (-1, 0, 0), (0, 0, -1)), "FFS"),
    ),
    Fault("prone", "the patient lies prone", _turned(lambda: placed((0, -1, 0), (-1, 0, 0)), "HFP")),
    Fault(
        "decubitus",
        "the patient lies on the side, so that rows step along x",
        _turned(lambda: placed((1, 0, 0), (0, -1, 0)), "HFDL"),
    ),
    Fault("gantry_tilt", "the gantry is tilted, so that the stack is sheared", _turned(_tilted)),
    Fault("single_slice", "a series of one slice", _single_slice),
    Fault("rounded_positions", "slices lie 0.625 mm apart, positions are rounded to 0.01 mm", _rounded(0.625, 2)),
    Fault("rounded_to_tenth", "slices lie 1.22 mm apart, positions are rounded to 0.1 mm", _rounded(1.22, 1, -600.0)),
    Fault("rounded_cosines", "oblique slices, direction cosines are rounded to three decimals", _rounded_cosines),
    Fault("coarse_cosines", "oblique slices, direction cosines are rounded to one decimal", _coarse_cosines),
    Fault("spacing_cm", "PixelSpacing is in cm", _changed(_spacing_times(0.1))),
    Fault("spacing_metres", "PixelSpacing is in metres", _changed(_spacing_times(0.001))),
    Fault("spacing_times_ten", "PixelSpacing lost its point", _changed(_spacing_times(10))),
    Fault("lone_slice", "a lone slice of 9 mm whose SpacingBetweenSlices says 99", _lone_slice),
    Fault("missing_slice", "a slice is missing, so one gap is twice as wide", _missing_slice),
    Fault("uneven_gap", "one gap is 1.37 times the others", _changed(_uneven_gap)),
    Fault("merged_series", "two series under one UID, shifted by 0.4 of the step", _merged_series, mixture=True),
    Fault("shared_position", "two different slices at one position", _shared_position, mixture=True),
    Fault("two_phases", "two contrast phases in one series: each position twice", _two_phases, mixture=True),
    Fault("localizer", "a coronal localizer with the same SeriesInstanceUID", _localizer),
    Fault("coronal_in_between", "one coronal picture of the same size in the axial series", _coronal_in_between),
    Fault("other_spacing", "one slice has other pixel spacing", _other_spacing, mixture=True),
    Fault("other_size", "one slice is smaller", _other_size, mixture=True),
    Fault("spacing_zero", "PixelSpacing is 0", _changed(_zero_spacing)),
    Fault("position_nan", "one ImagePositionPatient holds NaN", _changed(_position_nan)),
    Fault("no_position", "ImagePositionPatient is missing", _changed(_without("ImagePositionPatient"))),
    Fault("no_orientation", "ImageOrientationPatient is missing", _changed(_without("ImageOrientationPatient"))),
)
