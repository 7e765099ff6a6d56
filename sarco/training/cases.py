"""Slices to learn from: what a data folder holds, each slice with its neighbours."""

import contextlib
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sarco.core.errors import DataWarning, InputError
from sarco.core.messages import count_of
from sarco.core.training_options import BACKGROUND
from sarco.io.dicom import read_header
from sarco.layouts.case import Case, FoundCase
from sarco.layouts.search import describe_cases, find_layouts, warn_of_shared_names
from sarco.layouts.wanted import settle_labels
from sarco.scan.labels import BACKGROUND_ID, IGNORE_ID, LabelTable, refuse_structure_255
from sarco.scan.series import SliceHeader, find_doubles, find_neighbours

_NAMES_SHOWN = 20


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
    """What a data folder holds.

    Attributes:
        slices: to learn from, in a fixed order.
        label_names: by the ids of the training.
        notes: what a person should know about it, a line each.
    """

    slices: tuple[LabelledSlice, ...]
    label_names: dict[int, str]
    notes: tuple[str, ...] = ()


def find_cases(data_dir: Path, labels: str = "", missing_labels: str = BACKGROUND) -> Dataset:
    """Finds every labelled image in a folder tree, in any layout of `sarco.layouts`; mixed and nested as one likes.

    Files without a partner are told in one `DataWarning`, cases that are kept for testing in another.

    Args:
        data_dir: the folder.
        labels: which of them, as of `sarco.layouts.wanted.settle_labels`.
        missing_labels: what pixels are that a label may be missing on, likewise.

    Raises:
        InputError: no such folder, nothing in it is paired, two files claim the same place, or an image cannot be read.
        GeometryError: the slices of a case form no series, or are not axial.
        OptionError: no case has a label that was asked for.
    """
    found = find_layouts(data_dir)
    if not found.cases:
        raise InputError(
            f"{data_dir}: no image with a label map; put NAME.nii.gz beside NAME.dcm, or CASE.nii.gz beside the "
            f"folder CASE/ with its series, or give an nnU-Net folder ({count_of(found.n_files, 'file')} seen)"
        )
    if found.lonely:
        lonely = [*found.lonely]
        told = f"{count_of(len(lonely), 'file')} without a partner not used for training: {_shown(lonely, data_dir)}"
        warnings.warn(told, DataWarning, 2)
    if found.tests:
        told = f"{count_of(len(found.tests), 'case')} kept for testing, as the data set says, not used for training"
        warnings.warn(told, DataWarning, 2)
    settled, names = settle_labels(found.cases, labels, missing_labels)
    warn_of_shared_names(settled)
    singles = [_with_slices(case) for case in settled if case.is_slice]
    series = [_with_slices(case) for case in settled if not case.is_slice]
    slices = _place_neighbours(_each_once(series, data_dir), _each_once(singles, data_dir), found.loose)
    return Dataset(tuple(slices), names, describe_cases(settled))


def _with_slices(found: FoundCase) -> Case:
    return Case(found.labels.path, found.open_image(), labels=found.labels, side=found.side, folds=found.folds)


def _shown(files: Sequence[Path], data_dir: Path) -> str:
    more = len(files) - _NAMES_SHOWN
    names = ", ".join(str(file.relative_to(data_dir)) for file in files[:_NAMES_SHOWN])
    return names + (f" and {more} more" if more > 0 else "")


def _each_once(cases: Sequence[Case], data_dir: Path) -> list[Case]:
    """The cases without those whose image and label map, behind links, are an earlier one's."""
    known: dict[tuple[Path, ...], Case] = {}
    twice = []
    for case in cases:
        real = tuple(path.resolve() for path in (*case.source.paths, *(header.path for header in case.slices)))
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
