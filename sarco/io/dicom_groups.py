"""Which files are one series: by UID, by what they say of person and study, and by whether they make one stack.

Anonymisers give several scans one UID, or all of them none. So files of one UID in several folders are one series only
where identity and numbers allow it, and where all slices together make a stack; else each folder is looked at by
itself, from the top of the tree. Files without a UID are one series over several folders only where all of that speaks
for it.
"""

import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sarco.core.errors import GeometryError, InputError, OtherKindError, SarcoError
from sarco.io.dicom_header import DicomFile, is_stand_in
from sarco.io.dicom_lost import Losses
from sarco.io.dicom_pixels import read_dicom_hu
from sarco.scan.geometry import plane_of
from sarco.scan.mixture import alternating
from sarco.scan.series import (
    PERSON_TAGS,
    ROUNDED_POSITION_MM,
    SAME_POSITION_MM,
    Series,
    SliceHeader,
    are_alike,
    check_identity,
    find_collision,
    find_doubles,
    identities,
    lie_together,
    make_runs,
    make_series,
    set_strays_aside,
)
from sarco.scan.stack import UnevenGapsError

_MOST_DOUBLES_NAMED = 3
_FEWEST_SLICES = 3  # that show by themselves which step a scan has
# Of slices without SeriesInstanceUID in several folders: what has to be the same in one series.
_SERIES_TAGS = (
    "SeriesDescription", "SeriesNumber", "SeriesDate", "SeriesTime", "ConvolutionKernel", "SliceThickness", "KVP",
)  # fmt: skip


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
class _Formed:
    """Series that slices make, and what was set aside; a series or several where it was cut at uneven gaps."""

    series: tuple[Series, ...]
    aside: tuple[InputError, ...]
    doubles: bool


def list_groups(files: Iterable[DicomFile], losses: Losses, allow_gaps: bool) -> list[ListedSeries]:
    """Every series among files of a tree, in order of its first file.

    Args:
        files: those that say something of a series, sound or not.
        losses: what may be lost of the series of the tree.
        allow_gaps: whether series with slices that are lost are series all the same, cut at uneven gaps.
    """
    groups: dict[str, list[DicomFile]] = defaultdict(list)
    for file in files:
        groups[file.series_uid].append(file)
    nameless: dict[Hashable, list[list[DicomFile]]] = defaultdict(list)
    joined: list[list[DicomFile]] = []
    for uid, group in groups.items():
        mark = _nameless_mark(group) if is_stand_in(uid) else None
        if mark is None:
            joined.append(group)
        else:
            nameless[mark].append(group)
    joined += [[file for group in several for file in group] for several in nameless.values()]
    listed = [one for group in joined for one in _list_parts(group, losses, allow_gaps)]
    order = {file.path: place for place, group in enumerate(groups.values()) for file in group}
    return [one for _, one in sorted(listed, key=lambda pair: order[pair[0]])]


def _nameless_mark(files: Sequence[DicomFile]) -> Hashable:
    """What slices without SeriesInstanceUID share in one series; None where they do not say whose they are."""
    first = next((header for file in files for header in file.headers), None)
    if first is None or not (first.has_patient_id or first.study_uid or first.frame_of_reference):
        return None
    who = (first.patient_id, first.study_uid, first.frame_of_reference, first.shape)
    return who, tuple((tag, digest) for tag, digest in first.marks if tag in (*PERSON_TAGS, *_SERIES_TAGS))


def _list_parts(files: Sequence[DicomFile], losses: Losses, allow_gaps: bool) -> list[tuple[Path, ListedSeries]]:
    """Makes a series of files, or several where these cannot be one; each with its first file."""
    folders: dict[Path, list[DicomFile]] = defaultdict(list)
    for file in files:
        folders[file.path.parent].append(file)
    formed = None
    if len(folders) > 1 and any(file.headers for file in files):
        parts = _parts_by_identity(folders)
        formed = _form_one(files) if len(parts) == 1 else None
        if formed is None:
            parts = parts if len(parts) > 1 else _parts_by_folder(folders)
            return [one for part in parts for one in _list_parts(part, losses, allow_gaps)]
    listed = list_series(files, losses, allow_gaps, formed)
    return [(files[0].path, _with_all_folders(listed, losses, allow_gaps) if len(folders) > 1 else listed)]


def _with_all_folders(one: ListedSeries, losses: Losses, allow_gaps: bool) -> ListedSeries:
    """A series as it was listed, or the reason why a folder of those that hold its slices may be missing."""
    missing = losses.folders_beside([header.path for series in one.series for header in series.slices])
    if allow_gaps or not missing:
        return replace(one, aside=(*one.aside, *missing))
    told = f"a folder called as those of its slices may hold more of them but does not: {missing[0]}"
    return replace(one, series=(), reason=InputError(f"series {one.uid}: {told} (--allow_gaps=yes predicts without)"))


def _parts_by_identity(folders: dict[Path, list[DicomFile]]) -> list[list[DicomFile]]:
    """Files whose folders say the same of the first tag in which they differ: person, study or frame of reference."""
    found = {folder: identities(_headers(files)) for folder, files in folders.items()}
    for tag in next(iter(found.values())):
        parts: dict[frozenset[str], list[DicomFile]] = defaultdict(list)
        for folder, files in folders.items():
            parts[frozenset(found[folder][tag])] += files
        if len(frozenset().union(*parts)) > 1 and len(parts) > 1:
            return list(parts.values())
    return [[file for files in folders.values() for file in files]]


def _parts_by_folder(folders: dict[Path, list[DicomFile]]) -> list[list[DicomFile]]:
    """Files by the folder that they lie in or below, one step below the folder that holds them all."""
    top = Path(os.path.commonpath(folders))
    parts: dict[tuple[str, ...], list[DicomFile]] = defaultdict(list)
    for folder, files in folders.items():
        parts[folder.relative_to(top).parts[:1]] += files
    return list(parts.values())


def _form_one(files: Sequence[DicomFile]) -> _Formed | None:
    """The series that files of several folders make together; None where nothing says that they are one."""
    headers = _headers(files)
    if find_collision(headers, folders=True):
        return None
    try:
        formed = _form(headers, allow_gaps=False)
    except SarcoError:
        return None
    (series,) = formed.series
    folder_of = [header.path.parent for header in series.slices]
    is_numbered = all(header.instance for header in series.slices)
    if alternating(series.plane_index, folder_of) or (not is_numbered and _are_whole(series, folder_of)):
        return None
    if len({header.series_uid for header in headers}) == 1:
        return formed
    if formed.doubles or series.missing_planes or not is_numbered:
        return None
    slices = tuple(replace(header, series_uid=series.uid) for header in series.slices)
    return replace(formed, series=(replace(series, slices=slices),))


def _are_whole(series: Series, folder_of: Sequence[Path]) -> bool:
    """Whether several folders each hold slices that are a scan by themselves, evenly spaced and without a gap."""
    planes: dict[Path, list[int]] = defaultdict(list)
    for plane, folder in zip(series.plane_index, folder_of, strict=True):
        planes[folder].append(plane)
    whole = [lying for lying in planes.values() if len(lying) >= _FEWEST_SLICES and len(set(np.diff(lying))) == 1]
    return len(whole) > 1


def list_series(
    files: Sequence[DicomFile], losses: Losses | None, allow_gaps: bool, formed: _Formed | None = None
) -> ListedSeries:
    """Makes a series of files, or says why not.

    Args:
        files: of one series.
        losses: what may be lost of the series of the tree.
        allow_gaps: whether a series with slices that are lost is one all the same, cut at uneven gaps.
        formed: what they make, where that is known already.
    """
    first = next((file for file in files if file.headers), files[0])
    reasons = [file.reason for file in files if file.reason]
    headers = _headers(files)
    series: tuple[Series, ...] = ()
    reason: SarcoError | None = None
    aside: tuple[InputError, ...] = ()
    try:
        if not headers:
            raise reasons[0]
        if not allow_gaps:
            _check_losses(files, losses)
        formed = formed or _form(headers, allow_gaps)
        series, aside = formed.series, (*reasons, *formed.aside)
        if not allow_gaps:
            _check_others(series[0], files)
    except SarcoError as error:
        series, reason = (), error
    return ListedSeries(
        uid=first.series_uid,
        description=first.description,
        modality=first.modality,
        syntax=", ".join(sorted({file.syntax for file in files if file.syntax})),
        n_files=len(files),
        series=series,
        reason=reason,
        aside=aside,
    )


def _headers(files: Iterable[DicomFile]) -> list[SliceHeader]:
    return [header for file in files for header in file.headers]


def _check_losses(files: Sequence[DicomFile], losses: Losses | None) -> None:
    """Raises where a slice is damaged, or a file that may be one cannot be read: there would be a hole, or an end."""
    for file in files:
        if file.reason and file.is_damaged:
            raise file.reason
    if lost := losses.beside(file.path for file in files) if losses else []:
        count = "a file beside its slices" if len(lost) == 1 else f"{len(lost)} files beside its slices"
        raise InputError(
            f"series {files[0].series_uid}: {count} may be part of it but cannot be read, the first: {lost[0].reason} "
            "(--allow_gaps=yes predicts without)"
        )


def _check_others(series: Series, files: Sequence[DicomFile]) -> None:
    """Raises where a slice is missing whose place is that of a file which cannot be used, in between or at an end.

    A picture of another kind beside the slice of its place is none, and neither is one that lies elsewhere.
    """
    found = {}
    for file in files:
        for header in file.others:
            if are_alike(header, series.slices[0]):
                plane = plane_of(series.affine_lps, header.position)
                found.update({} if plane is None or plane in series.plane_index else {plane: file})
    ends = {*found, *series.plane_index, *range(series.n_planes)}
    for plane, file in sorted(found.items(), key=lambda item: item[0]):
        between = range(plane, 0) if plane < 0 else range(series.n_planes, plane)
        if ends.issuperset(between):
            raise InputError(
                f"series {series.uid}: a file of another kind lies where a slice of it is missing: {file.reason} "
                "(--allow_gaps=yes predicts without)"
            )
    for file in files:
        if file.reason and not isinstance(file.reason, OtherKindError) and series.missing_planes:
            raise file.reason  # it may be the slice that is missing


def _form(headers: Sequence[SliceHeader], allow_gaps: bool) -> _Formed:
    """Makes a series of slices, or runs of equal steps where gaps are uneven and allowed.

    Raises:
        GeometryError: they are no series.
        InputError: slices share a position and cannot be compared.
    """
    kept, aside = set_strays_aside(headers)
    check_identity(kept)
    kept, doubles = _drop_doubles(kept)
    series: tuple[Series, ...]
    try:
        series = (make_series(kept),)
    except UnevenGapsError as error:
        if not allow_gaps:
            raise GeometryError(f"{error}; --allow_gaps=yes predicts each of these runs by itself") from None
        series = tuple(make_runs(kept))
    return _Formed(series, (*aside, *doubles), bool(doubles))


def _drop_doubles(headers: Sequence[SliceHeader]) -> tuple[list[SliceHeader], list[InputError]]:
    """Leaves out slices that are in the series twice, pixel by pixel; positions of copies may have been rounded.

    Raises:
        GeometryError: two slices share a position but differ.
    """
    dropped = []
    lines = []
    for first, other in find_doubles(headers, ROUNDED_POSITION_MM):
        if first.shape == other.shape and np.array_equal(read_dicom_hu(first), read_dicom_hu(other)):
            dropped.append(other)
            lines.append(InputError(f"{other.name}: is the same slice as {first.name}; it was set aside"))
        elif lie_together(first, other, SAME_POSITION_MM):
            where = "({:.1f}, {:.1f}, {:.1f}) mm".format(*other.position)
            raise GeometryError(
                f"series {first.series_uid}: {first.name} and {other.name} share the position {where} but differ, so "
                "two scans or phases share the series; keep one of them in the folder"
            )
    if len(lines) > _MOST_DOUBLES_NAMED:
        lines = [InputError(f"{dropped[0].path.parent}: {len(lines)} slices are there twice, the first: {lines[0]}")]
    gone = {id(header) for header in dropped}
    return [header for header in headers if id(header) not in gone], lines
