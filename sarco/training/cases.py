"""Pairs images with label maps, and slices with their neighbours."""

import contextlib
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarco.core.errors import DataWarning, GeometryError, InputError
from sarco.core.messages import count_of
from sarco.core.tree import files_below
from sarco.io.dicom import find_series, read_header
from sarco.io.nifti import is_nifti, nifti_stem, read_label_map
from sarco.scan.label_map import compare_steps
from sarco.scan.labels import BACKGROUND_ID, IGNORE_ID, LabelTable, read_label_names, refuse_structure_255
from sarco.scan.series import Series, SliceHeader, check_axial, find_doubles, find_neighbours, make_series

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
        try:
            return [label_map.on_slice(s.affine_lps, s.shape, s.path) for s in self.slices]
        except GeometryError as error:
            raise GeometryError(f"{error}{compare_steps(label_map, make_series(self.slices))}") from None


@dataclass(frozen=True)
class LabelledSlice:
    """One slice to learn from.

    Attributes:
        case: where its label map is.
        place: its index in ``case.slices``.
        slice_index: its place among the slices of its series that lie in the same place.
        neighbours: headers of the slices below and above; the slice itself where there is none.
        person: whose it is, where `sarco.training.split.name_people` found out; else empty.
    """

    case: Case
    place: int
    slice_index: int
    neighbours: tuple[SliceHeader, SliceHeader]
    person: str = ""

    @property
    def header(self) -> SliceHeader:
        """The slice's own header."""
        return self.case.slices[self.place]

    @property
    def patient(self) -> str:
        """Whom a split keeps on one side."""
        return self.person or self.header.patient_id


@dataclass(frozen=True)
class Dataset:
    """What a data folder holds: slices to learn from, in a fixed order, and the names of labels."""

    slices: tuple[LabelledSlice, ...]
    label_names: dict[int, str]


def find_cases(data_dir: Path) -> Dataset:
    """Finds every image with a label map in a folder tree.

    Two layouts, mixed and nested as one likes: ``NAME.dcm`` beside ``NAME.nii.gz`` (or ``.nii``), and a folder
    ``CASE/`` with one DICOM series beside ``CASE.nii.gz``. Files without a partner are told in one `DataWarning`.

    Raises:
        InputError: no such folder, nothing in it is paired, two files claim the same place, or a slice cannot be read.
        GeometryError: the slices of a case form no series, or are not axial.
    """
    if not data_dir.is_dir():
        raise InputError(f"{data_dir}: there is no such folder; give the folder with the labelled slices as --data_dir")
    files = files_below(data_dir)
    images = _by_stem(file for file in files if file.suffix.lower() == ".dcm")
    labels = _by_stem(file for file in files if is_nifti(file))
    singles: list[Case] = []
    series: list[Case] = []
    lonely: list[Path] = []
    for stem, of_stem in labels.items():
        if stem in images and stem.is_dir() and any(stem in file.parents for file in files):
            raise InputError(
                f"{_only_one(of_stem)}: both {images[stem][0]} and {stem}/ could be its image; move one away"
            )
        if stem in images:
            singles.append(Case(_only_one(of_stem), (read_header(_only_one(images[stem])),)))
        elif stem.is_dir():
            series.append(Case(_only_one(of_stem), _only_series(stem, of_stem[0]).slices))
        else:
            lonely += of_stem
    if not singles and not series:
        raise InputError(
            f"{data_dir}: no image with a label map; put NAME.nii.gz beside NAME.dcm, or CASE.nii.gz beside the "
            f"folder CASE/ with its series ({count_of(len(files), 'file')} seen)"
        )
    inside = {case.label_path.with_name(nifti_stem(case.label_path)) for case in series}
    loose = [image for stem, of_stem in images.items() if stem not in labels for image in of_stem]
    loose = [image for image in loose if inside.isdisjoint(image.parents)]
    lonely += loose
    if lonely:
        told = f"{count_of(len(lonely), 'file')} without a partner not used for training: {_shown(lonely, data_dir)}"
        warnings.warn(told, DataWarning, 2)
    for case in (*singles, *series):
        check_axial(case.slices[0])
    slices = _place_neighbours(_each_once(series, data_dir), _each_once(singles, data_dir), loose)
    return Dataset(tuple(slices), read_label_names(data_dir / "labels.json"))


def _by_stem(files: Iterable[Path]) -> dict[Path, list[Path]]:
    """Files by their path without suffix."""
    found: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        found[file.with_name(nifti_stem(file)) if is_nifti(file) else file.with_suffix("")].append(file)
    return found


def _only_one(files: Sequence[Path]) -> Path:
    if len(files) > 1:
        raise InputError(f"{files[0]} and {files[1]} share a name, so nobody can say which counts; move one away")
    return files[0]


def _shown(files: Sequence[Path], data_dir: Path) -> str:
    more = len(files) - _NAMES_SHOWN
    names = ", ".join(str(file.relative_to(data_dir)) for file in files[:_NAMES_SHOWN])
    return names + (f" and {more} more" if more > 0 else "")


def _each_once(cases: Sequence[Case], data_dir: Path) -> list[Case]:
    """The cases without those whose image and label map, behind links, are an earlier one's."""
    known: dict[tuple[Path, ...], Case] = {}
    twice = []
    for case in cases:
        real = tuple(path.resolve() for path in (case.label_path, *(header.path for header in case.slices)))
        if known.setdefault(real, case) is not case:
            twice.append(case.label_path)
    if twice:
        told = f"{len(twice)} cases are links to others and count once: {_shown(twice, data_dir)}"
        warnings.warn(told, DataWarning, 3)
    return list(known.values())


def _readable_headers(images: Iterable[Path]) -> list[SliceHeader]:
    headers = []
    for image in images:
        with contextlib.suppress(InputError):  # nobody asked for these files
            headers.append(read_header(image))
    return headers


def _only_series(folder: Path, label: Path) -> Series:
    found = find_series(folder)
    if len(found.series) != 1 or found.failed:
        reason = str(found.failed[0]) if found.failed else f"it holds {len(found.series)} series"
        raise InputError(f"{folder}: cannot be paired with {label}, because {reason}; keep one series in the folder")
    if found.refused:  # a dose report, a DICOMDIR, a damaged slice
        left = count_of(len(found.refused), "file or series", "files or series")
        warnings.warn(f"{left} beside {folder.name} left out, the first: {found.refused[0]}", DataWarning, 3)
    return found.series[0]


def _place_neighbours(series: Sequence[Case], singles: Sequence[Case], loose: Iterable[Path]) -> list[LabelledSlice]:
    """Every slice of the cases, with neighbours of its own series in its own place.

    Neighbours of a case in a folder are its own slices. A lone slice's lie in the same folder, labelled or not. UIDs
    alone do not tell: copies of a series, and what careless tools anonymise, share them.

    Args:
        series: images that have a folder of their own.
        singles: images of one slice.
        loose: other images, which can be neighbours of lone slices.
    """
    found = [item for case in series for item in with_neighbours([case], case.slices)]
    places: dict[tuple[str, ...], tuple[list[Case], list[SliceHeader]]] = defaultdict(lambda: ([], []))
    for case in singles:
        of_place, headers = places[_place_of(case.slices[0])]
        of_place.append(case)
        headers.append(case.slices[0])
    for header in _readable_headers(loose):
        places[_place_of(header)][1].append(header)
    for of_place, headers in places.values():
        found += with_neighbours(of_place, headers)
    return sorted(found, key=lambda item: (item.case.label_path, item.place))


def _place_of(header: SliceHeader) -> tuple[str, ...]:
    """What slices share whose neighbours they can be."""
    return str(header.path.parent), header.series_uid, header.patient_id, header.study_uid, header.frame_of_reference


def with_neighbours(cases: Sequence[Case], headers: Sequence[SliceHeader]) -> tuple[LabelledSlice, ...]:
    """Every slice of the cases, with its neighbours.

    Args:
        cases: images with label maps.
        headers: all slices of one series in one place, those of the cases among them; any of them can be a neighbour,
            but of copies at one position one alone.
    """
    if not cases:
        return ()
    headers = list({(header.path, header.frame): header for header in headers}.values())
    twins = find_doubles(headers)
    copies = {id(copy) for _, copy in twins}
    place_of: dict[tuple[Path, int], tuple[int, tuple[SliceHeader, SliceHeader]]] = {}
    for index, (header, pair) in enumerate(find_neighbours([one for one in headers if id(one) not in copies])):
        place_of[header.path, header.frame] = index, pair
    for first, copy in twins:
        index, (below, above) = place_of[first.path, first.frame]
        place_of[copy.path, copy.frame] = index, (copy if below is first else below, copy if above is first else above)
    return tuple(
        LabelledSlice(case, place, *place_of[header.path, header.frame])
        for case in cases
        for place, header in enumerate(case.slices)
    )


def make_label_table(ids: Sequence[int], names: dict[int, str], data_dir: Path) -> LabelTable:
    """The table of the label ids that a data set holds.

    Raises:
        InputError: all label maps are empty, or 255 is held and named as a structure.
    """
    if IGNORE_ID in ids:
        refuse_structure_255(names, data_dir)
    ids = [label_id for label_id in ids if label_id not in (BACKGROUND_ID, IGNORE_ID)]
    if not ids:
        raise InputError(
            f"{data_dir}: no label map holds a label (all is 0, or 255 for nobody looked), so there is nothing to "
            "learn; check the labels"
        )
    return LabelTable.from_ids(ids, names)


def name_in(path: Path, data_dir: Path) -> str:
    """A file's name: the same where the whole data folder was moved."""
    return str(path.relative_to(data_dir)) if path.is_relative_to(data_dir) else str(path)
