"""Pairs images with label maps and splits them by patient."""

import contextlib
import hashlib
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarco.core.errors import DataWarning, GeometryError, InputError
from sarco.core.files import files_below
from sarco.io.dicom import find_series, read_header
from sarco.io.nifti import is_nifti, nifti_stem, read_label_map
from sarco.scan.labels import BACKGROUND_ID, IGNORE_ID, LabelTable, read_label_names
from sarco.scan.series import Series, SliceHeader, check_axial, find_neighbours, make_series

_NAMES_SHOWN = 20


@dataclass(frozen=True)
class Case:
    """An image with its label map: one slice or one series.

    Attributes:
        label_path: NIfTI file, one plane or a volume.
        slices: the image's slices, in order of position.
        predicted: whether a network drew it, not a person.
    """

    label_path: Path
    slices: tuple[SliceHeader, ...]
    predicted: bool = False

    def read_label_maps(self) -> list[NDArray[np.uint8]]:
        """The label map of each slice on that slice's grid, (row, column) each.

        Raises:
            InputError: the label map cannot be read.
            GeometryError: it does not lie on the image; names both files.
        """
        label_map = read_label_map(self.label_path)
        if label_map.affine_lps is None:
            series = make_series(self.slices)
            label_map = label_map.assume_ras(series.affine_lps, series.shape)
        return [label_map.on_slice(s.affine_lps, s.shape, s.path) for s in self.slices]


@dataclass(frozen=True)
class LabelledSlice:
    """One slice to learn from.

    Attributes:
        case: where its label map is.
        place: its index in ``case.slices``.
        slice_index: its place among the slices of its series that are at hand.
        neighbours: headers of the slices below and above; the slice itself where there is none.
    """

    case: Case
    place: int
    slice_index: int
    neighbours: tuple[SliceHeader, SliceHeader]

    @property
    def header(self) -> SliceHeader:
        """The slice's own header."""
        return self.case.slices[self.place]


@dataclass(frozen=True)
class Dataset:
    """What a data folder holds: slices to learn from, in a fixed order, and the names of labels."""

    slices: tuple[LabelledSlice, ...]
    label_names: dict[int, str]


@dataclass(frozen=True)
class Split:
    """Which slices train and which validate, as indices into ``Dataset.slices``.

    Attributes:
        by_patient: False where a single patient had to serve both sides.
    """

    train: tuple[int, ...]
    val: tuple[int, ...]
    by_patient: bool


def find_cases(data_dir: Path) -> Dataset:
    """Finds every image with a label map in a folder tree.

    Two layouts, mixed and nested as one likes: ``NAME.dcm`` beside ``NAME.nii.gz`` (or ``.nii``), and a folder
    ``CASE/`` with one DICOM series beside ``CASE.nii.gz``. Files without a partner are told in one `DataWarning`.

    Raises:
        InputError: no such folder, nothing in it is paired, or a slice cannot be read.
        GeometryError: the slices of a case form no series, or are not axial.
    """
    if not data_dir.is_dir():
        raise InputError(f"{data_dir}: there is no such folder; give the folder with the labelled slices as --data_dir")
    files = files_below(data_dir)
    images = {file.with_suffix(""): file for file in files if file.suffix.lower() == ".dcm"}
    cases: list[Case] = []
    paired: set[Path] = set()
    case_folders: list[Path] = []
    lonely: list[str] = []
    for label in (file for file in files if is_nifti(file)):
        stem = label.with_name(nifti_stem(label))
        if stem in images and stem not in paired:
            cases.append(Case(label, (read_header(images[stem]),)))
            paired.add(stem)
        elif stem.is_dir() and stem not in case_folders:
            cases.append(Case(label, _only_series(stem, label).slices))
            case_folders.append(stem)
        else:
            lonely.append(str(label.relative_to(data_dir)))
    loose = [image for stem, image in images.items() if stem not in paired]
    loose = [image for image in loose if not any(folder in image.parents for folder in case_folders)]
    lonely += [str(image.relative_to(data_dir)) for image in loose]
    if not cases:
        raise InputError(
            f"{data_dir}: no image with a label map; put NAME.nii.gz beside NAME.dcm, or CASE.nii.gz beside the "
            f"folder CASE/ with its series ({len(files)} files seen)"
        )
    for case in cases:
        check_axial(case.slices[0])
    if lonely:
        more = len(lonely) - _NAMES_SHOWN
        shown = ", ".join(lonely[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
        warnings.warn(f"{len(lonely)} files have no partner and are not used for training: {shown}", DataWarning, 2)
    headers = [header for case in cases for header in case.slices]
    headers += _readable_headers(loose)  # they can still be neighbours
    return Dataset(with_neighbours(cases, headers), read_label_names(data_dir / "labels.json"))


def _readable_headers(images: Iterable[Path]) -> list[SliceHeader]:
    headers = []
    for image in images:
        with contextlib.suppress(InputError):  # nobody asked for these files
            headers.append(read_header(image))
    return headers


def _only_series(folder: Path, label: Path) -> Series:
    found = find_series(folder)
    broken = [error for error in found.refused if isinstance(error, GeometryError)]
    if len(found.series) != 1 or broken:
        reason = str(broken[0]) if broken else f"it holds {len(found.series)} series"
        raise InputError(f"{folder}: cannot be paired with {label}, because {reason}; keep one series in the folder")
    if found.refused:  # a dose report, a DICOMDIR, a damaged slice
        warnings.warn(f"{len(found.refused)} files are left out, the first: {found.refused[0]}", DataWarning, 3)
    return found.series[0]


def with_neighbours(cases: Sequence[Case], headers: Sequence[SliceHeader]) -> tuple[LabelledSlice, ...]:
    """Every slice of the cases, with its neighbours.

    Args:
        cases: images with label maps.
        headers: all slices at hand, those of the cases among them; any of them can be a neighbour.
    """
    by_series: dict[str, list[SliceHeader]] = defaultdict(list)
    for header in headers:
        by_series[header.series_uid].append(header)
    place_of: dict[tuple[Path, int], tuple[int, tuple[SliceHeader, SliceHeader]]] = {}
    for slices in by_series.values():
        for index, (header, pair) in enumerate(find_neighbours(slices)):
            place_of[header.path, header.frame] = index, pair
    return tuple(
        LabelledSlice(case, place, *place_of[header.path, header.frame])
        for case in cases
        for place, header in enumerate(case.slices)
    )


def split_by_patient(slices: Sequence[LabelledSlice], val_fraction: float, seed: int) -> Split:
    """Splits slices into training and validation, whole patients on one side each.

    Validation's share of the slices comes as close to ``val_fraction`` as whole patients allow. Which of several
    equally good choices is taken depends on the seed. A single patient has to serve both sides: a block of
    neighbouring slices validates, with a `DataWarning` that this is no independent test.

    Raises:
        InputError: there are fewer than two slices.
    """
    if len(slices) < 2:
        raise InputError("only one labelled slice was found, but training needs another for validation; add slices")
    patients: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(slices):
        patients[item.header.patient_id].append(index)
    rng = np.random.default_rng(seed)
    if len(patients) == 1:
        return _split_one_patient(slices, val_fraction, rng)
    names = sorted(patients)
    names = [names[i] for i in rng.permutation(len(names))]
    chosen = _closest_subset([len(patients[name]) for name in names], val_fraction * len(slices))
    val_names = {names[i] for i in chosen}
    return Split(
        train=tuple(i for i, s in enumerate(slices) if s.header.patient_id not in val_names),
        val=tuple(i for i, s in enumerate(slices) if s.header.patient_id in val_names),
        by_patient=True,
    )


def _closest_subset(counts: Sequence[int], target: float) -> list[int]:
    """Indices of a non-empty, incomplete subset whose sum comes closest to the target."""
    total = sum(counts)
    last_added: dict[int, tuple[int, int]] = {0: (-1, 0)}  # reachable sum -> (index added last, sum before)
    for index, count in enumerate(counts):
        for reached in sorted(last_added, reverse=True):
            last_added.setdefault(reached + count, (index, reached))
    best = min((s for s in last_added if 0 < s < total), key=lambda s: (abs(s - target), s))
    chosen = []
    while best:
        index, best = last_added[best]
        chosen.append(index)
    return chosen


def _split_one_patient(slices: Sequence[LabelledSlice], val_fraction: float, rng: np.random.Generator) -> Split:
    warnings.warn(
        "all slices are of one patient, so a block of neighbouring slices validates; "
        "this is no independent test: expect worse results on other patients",
        DataWarning,
        3,
    )
    order = sorted(range(len(slices)), key=lambda i: (slices[i].header.series_uid, slices[i].slice_index))
    size = min(max(round(val_fraction * len(slices)), 1), len(slices) - 1)
    start = int(rng.integers(0, len(slices) - size + 1))
    block = set(order[start : start + size])
    return Split(
        train=tuple(i for i in range(len(slices)) if i not in block),
        val=tuple(sorted(block)),
        by_patient=False,
    )


def make_label_table(ids: Sequence[int], names: dict[int, str], data_dir: Path) -> LabelTable:
    """The table of the label ids that a data set holds.

    Raises:
        InputError: all label maps are empty.
    """
    ids = [label_id for label_id in ids if label_id not in (BACKGROUND_ID, IGNORE_ID)]
    if not ids:
        raise InputError(
            f"{data_dir}: every label map is empty (all 0), so there is nothing to learn; check the labels"
        )
    return LabelTable.from_ids(ids, names)


def pseudonym(patient_id: str) -> str:
    """What stands for a patient where the PatientID must not go: in checkpoints, logs and W&B."""
    return hashlib.blake2b(patient_id.encode(), digest_size=6).hexdigest()
