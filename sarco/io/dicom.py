"""DICOM CT in a folder tree: which series there are, and why each can or cannot be predicted."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarco.core.errors import GeometryError, InputError, OtherKindError, SarcoError
from sarco.core.messages import count_of
from sarco.core.tree import look_below
from sarco.io.dicom_header import DicomFile, inspect_file, read_dicom_headers
from sarco.io.dicom_lost import Losses, LostFile, look_at
from sarco.io.dicom_pixels import read_dicom_hu
from sarco.io.dicom_tags import is_dicom
from sarco.scan.geometry import gantry_tilt_deg, slice_normal, spacing_mm
from sarco.scan.hu import AIR_HU
from sarco.scan.series import (
    Series,
    SliceHeader,
    check_identity,
    find_doubles,
    make_runs,
    make_series,
    set_strays_aside,
)
from sarco.scan.stack import UnevenGapsError

_MOST_DOUBLES_NAMED = 3
_OF_DISK = "lost+found"  # every disk has such a folder at its top, closed to users


@dataclass(frozen=True)
class ListedSeries:
    """One SeriesInstanceUID of a tree and what became of it.

    Attributes:
        uid, description, modality, syntax: what its files say; several syntaxes are joined.
        n_files: how many files carry the UID.
        series: what can be read of it: one series, or none; several where it was cut at uneven gaps.
        reason: why there is none.
        aside: a line for each file or slice that was set aside.
    """

    uid: str
    description: str
    modality: str
    syntax: str
    n_files: int
    series: tuple[Series, ...]
    reason: SarcoError | None
    aside: tuple[InputError, ...]


@dataclass(frozen=True)
class FoundSeries:
    """What a search of a folder gave.

    Attributes:
        listed: every series, in order of its first file.
        unreadable: one line for each DICOM file that is too damaged to tell its series, and for each closed folder.
        closed: one for each folder that cannot be read and may hold patients: nobody knows what is in it.
    """

    listed: tuple[ListedSeries, ...]
    unreadable: tuple[InputError, ...] = ()
    closed: tuple[InputError, ...] = ()

    @property
    def series(self) -> tuple[Series, ...]:
        """Those that can be read."""
        return tuple(series for one in self.listed for series in one.series)

    @property
    def refused(self) -> tuple[SarcoError, ...]:
        """One line for each series, file and slice that is left out, with the reason."""
        lines: list[SarcoError] = list(self.unreadable)
        for one in self.listed:
            lines += one.aside
            lines += [one.reason] if one.reason else []
        return tuple(lines)

    @property
    def failed(self) -> tuple[SarcoError, ...]:
        """Those of them that say why a CT series or a folder cannot be read: scout views, reports and maps are none."""
        reasons = (one.reason for one in self.listed)
        return (*self.closed, *(one for one in reasons if one and not isinstance(one, OtherKindError)))


def read_header(path: Path) -> SliceHeader:
    """Reads and checks the header of a file with one CT slice.

    Raises:
        InputError: as `sarco.io.dicom_header.read_dicom_headers`, or the file holds several slices.
    """
    headers = read_dicom_headers(path)
    if len(headers) > 1:
        raise InputError(f"{path}: holds {len(headers)} frames where one slice is expected; put it into a folder CASE/")
    return headers[0]


def read_series(series: Series) -> NDArray[np.float32]:
    """Reads all slices of a series: (row, column, plane) HU; air (-1024) where a plane has no slice."""
    volume = np.full(series.shape, AIR_HU, dtype=np.float32)
    for header, plane in zip(series.slices, series.plane_index, strict=True):
        volume[:, :, plane] = read_dicom_hu(header)
    return volume


def find_series(path: Path, allow_gaps: bool = False) -> FoundSeries:
    """Finds every CT series in a folder tree, or the slices that one file holds.

    Args:
        path: a folder or a file.
        allow_gaps: cut series with uneven gaps into runs of equal steps instead of refusing them.

    Raises:
        InputError: there is no such path, it is a file and no CT slice, or the tree holds no CT slice at all.
    """
    if path.is_file():
        only = _list_series([inspect_file(path)], None, allow_gaps)
        if only.reason:
            raise only.reason
        return FoundSeries((only,))
    if not path.is_dir():
        raise InputError(f"{path}: there is no such file or folder; check the path (quote it if it holds spaces)")
    tree = look_below(path)
    groups: dict[str, list[DicomFile]] = defaultdict(list)
    unreadable: list[InputError] = []
    lost: list[LostFile] = []
    for file in tree.files:
        found = _inspect(file)
        if isinstance(found, LostFile):
            lost.append(found)
        elif found.reason and not found.series_uid and not found.is_directory:
            if found.is_damaged or not found.modality:  # a slice of a series without UID, or a file that was cut off
                lost.append(LostFile(file, found.reason, file.name, is_dicom=True))
            else:
                unreadable.append(found.reason)
        elif not found.is_directory:
            groups[found.series_uid].append(found)
    known = {uid: [file.path for file in group] for uid, group in groups.items()}
    losses = Losses(tree, lost, (slice_path for paths in known.values() for slice_path in paths))
    listed = tuple(one for group in groups.values() for one in _list_group(group, losses, allow_gaps))
    unreadable += [one.reason for one in losses.told(known.values())]
    if not any(file.headers for group in groups.values() for file in group):
        reasons = [*unreadable, *(one.reason for one in listed if one.reason)]
        first = f"; {reasons[0]}" if reasons else ""
        n_refused = len(unreadable) + sum(map(len, known.values()))
        raise InputError(
            f"{path}: no CT slice in this folder ({len(tree.files) - n_refused} files are no DICOM, "
            f"{n_refused} refused{first})"
        )
    closed = tuple(reason for reason in tree.closed.values() if reason not in unreadable)
    of_patients = tuple(reason for folder, reason in tree.closed.items() if folder.name != _OF_DISK)
    return FoundSeries(listed, (*unreadable, *closed), of_patients)


def _inspect(file: Path) -> DicomFile | LostFile:
    """What a search sees of a file; of one that is no DICOM, what it may have been."""
    try:
        if not is_dicom(file):
            return look_at(file)
    except OSError:
        return look_at(file)  # which says why it cannot be opened
    try:
        return inspect_file(file)
    except InputError as error:
        return LostFile(file, error, file.name, is_dicom=True)


def _list_group(files: Sequence[DicomFile], losses: Losses, allow_gaps: bool) -> list[ListedSeries]:
    """Makes a series of the files that share a UID; one a folder, where these cannot be one series.

    Anonymisers give several scans one UID. So folders of one UID are one series only where patient, study, frame of
    reference and numbers allow it, and where all slices together make a series.
    """
    by_folder: dict[Path, list[DicomFile]] = defaultdict(list)
    for file in files:
        by_folder[file.path.parent].append(file)
    several = len(by_folder) > 1 and any(file.headers for file in files)
    if not (several and _numbers_collide(files)):
        whole = _list_series(files, losses, allow_gaps)
        if not (several and isinstance(whole.reason, GeometryError)):
            return [_with_all_folders(whole, losses, allow_gaps) if several else whole]
    return [_list_series(folder, losses, allow_gaps) for folder in by_folder.values()]


def _with_all_folders(one: ListedSeries, losses: Losses, allow_gaps: bool) -> ListedSeries:
    """A series as it was listed, or the reason why a folder of those that hold its slices may be missing."""
    missing = losses.folders_beside([header.path for series in one.series for header in series.slices])
    if allow_gaps or not missing:
        return replace(one, aside=(*one.aside, *missing))
    told = f"a folder called as those of its slices may hold more of them but does not: {missing[0]}"
    return replace(one, series=(), reason=InputError(f"series {one.uid}: {told} (--allow_gaps=yes predicts without)"))


def _numbers_collide(files: Sequence[DicomFile]) -> bool:
    """Whether slices of different folders and places share an InstanceNumber, as those of one series never do."""
    places: dict[str, tuple[Path, tuple[float, ...]]] = {}
    for header in (header for file in files for header in file.headers if header.instance):
        folder, position = places.setdefault(header.instance, (header.path.parent, header.position))
        if folder != header.path.parent and position != header.position:
            return True
    return False


def _list_series(files: Sequence[DicomFile], losses: Losses | None, allow_gaps: bool) -> ListedSeries:
    """Makes a series of files, or says why not."""
    first = next((file for file in files if file.headers), files[0])
    reasons = [file.reason for file in files if file.reason]
    headers = [header for file in files for header in file.headers]
    series: tuple[Series, ...] = ()
    reason: SarcoError | None = None
    aside: list[InputError] = []
    try:
        if not headers:
            raise reasons[0]
        damaged = [file.reason for file in files if file.reason and file.is_damaged]
        if damaged and not allow_gaps:  # without it the series would have a hole, or end early
            raise damaged[0]
        beside = losses.beside(file.path for file in files) if losses else []
        if beside and not allow_gaps:
            count = "a file beside its slices" if len(beside) == 1 else f"{len(beside)} files beside its slices"
            raise InputError(
                f"series {first.series_uid}: {count} may be part of it but cannot be read, the first: "
                f"{beside[0].reason} (--allow_gaps=yes predicts without)"
            )
        headers, aside = set_strays_aside(headers)
        check_identity(headers)
        headers, doubles = _drop_doubles(headers)
        aside = [*reasons, *aside, *doubles]
        series = _stack(headers, allow_gaps)
        if reasons and not allow_gaps and any(one.missing_planes for one in series):
            raise reasons[0]  # it may be the slice that is missing
    except SarcoError as error:
        reason = error
    syntaxes = ", ".join(sorted({file.syntax for file in files if file.syntax}))
    return ListedSeries(
        uid=first.series_uid,
        description=first.description,
        modality=first.modality,
        syntax=syntaxes,
        n_files=len(files),
        series=series,
        reason=reason,
        aside=tuple(aside),
    )


def _stack(headers: Sequence[SliceHeader], allow_gaps: bool) -> tuple[Series, ...]:
    try:
        return (make_series(headers),)
    except UnevenGapsError as error:
        if allow_gaps:
            return tuple(make_runs(headers))
        raise GeometryError(f"{error}; --allow_gaps=yes predicts each of these runs by itself") from None


def _drop_doubles(headers: Sequence[SliceHeader]) -> tuple[list[SliceHeader], list[InputError]]:
    """Leaves out slices that are in the series twice, pixel by pixel.

    Raises:
        GeometryError: two slices share a position but differ.
    """
    dropped = []
    lines = []
    for first, other in find_doubles(headers):
        if first.shape != other.shape or not np.array_equal(read_dicom_hu(first), read_dicom_hu(other)):
            where = "({:.1f}, {:.1f}, {:.1f}) mm".format(*other.position)
            raise GeometryError(
                f"series {first.series_uid}: {first.name} and {other.name} share the position {where} but differ, so "
                "two scans or phases share the series; keep one of them in the folder"
            )
        dropped.append(other)
        lines.append(InputError(f"{other.name}: is the same slice as {first.name}; it was set aside"))
    if len(lines) > _MOST_DOUBLES_NAMED:
        lines = [InputError(f"{dropped[0].path.parent}: {len(lines)} slices are there twice, the first: {lines[0]}")]
    gone = {id(header) for header in dropped}
    return [header for header in headers if id(header) not in gone], lines


def describe_orientation(series: Series) -> str:
    """In words: the plane, how far it is turned out of it, and the tilt of the gantry."""
    normal = np.abs(slice_normal(series.slices[0].orientation))
    turned = float(np.degrees(np.arccos(min(normal.max(), 1.0))))
    plane = series.slices[0].plane_name
    words = [plane] if turned < 0.5 else [plane, f"{turned:.0f} deg oblique"]
    tilt = gantry_tilt_deg(series.affine_lps)
    return ", ".join([*words, f"gantry tilt {tilt:.0f} deg"] if tilt > 0.5 else words)


def describe_series(one: ListedSeries) -> list[str]:
    """One line of text for each column of the table: UID, description, slices, grid, spacing and so on, verdict."""
    if not one.series:
        return [one.uid or "none", one.description, str(one.n_files), "", "", "", one.syntax, f"no: {one.reason}"]
    first = one.series[0]
    n_slices = sum(len(series.slices) for series in one.series)
    notes = [f"doubtful: {doubt}" for series in one.series[:1] for doubt in (*series.doubts, *series.step_doubts)]
    notes += [f"{len(one.series)} parts"] if len(one.series) > 1 else []
    missing = sum(len(series.missing_planes) for series in one.series)
    notes += [f"{missing} slices are missing in between"] if missing else []
    aside = count_of(len(one.aside), "file or slice", "files or slices")
    notes += [f"{aside} set aside: {one.aside[0]}"] if one.aside else []
    return [
        one.uid,
        one.description,
        str(n_slices),
        "{} x {}".format(*first.shape[:2]),
        " x ".join(f"{step:.4g}" for step in spacing_mm(first.affine_lps)) + " mm",
        describe_orientation(first),
        one.syntax,
        "; ".join(["yes", *notes]),
    ]


LISTED_COLUMNS = (
    "UID",
    "description",
    "slices",
    "grid",
    "spacing",
    "orientation",
    "transfer syntax",
    "can be predicted",
)
