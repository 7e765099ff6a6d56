"""DICOM CT in a folder tree: which series there are, and why each can or cannot be predicted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarco.core.errors import GeometryError, InputError, SarcoError
from sarco.core.files import files_below
from sarco.io.dicom_header import DicomFile, inspect_file, is_dicom, read_dicom_headers
from sarco.io.dicom_pixels import read_dicom_hu
from sarco.scan.geometry import gantry_tilt_deg, slice_normal, spacing_mm
from sarco.scan.hu import AIR_HU
from sarco.scan.series import Series, SliceHeader, check_axial, find_doubles, make_runs, make_series, set_strays_aside


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
        unreadable: one line for each DICOM file that is too damaged to tell its series.
    """

    listed: tuple[ListedSeries, ...]
    unreadable: tuple[InputError, ...] = ()

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
        only = _list_series([inspect_file(path)], allow_gaps)
        if only.reason:
            raise only.reason
        return FoundSeries((only,))
    if not path.is_dir():
        raise InputError(f"{path}: there is no such file or folder; check the path (quote it if it holds spaces)")
    groups: dict[str, list[DicomFile]] = {}
    unreadable: list[InputError] = []
    files = list(files_below(path))
    not_dicom = 0
    for file in files:
        if not is_dicom(file):
            not_dicom += 1
            if file.suffix.lower() == ".dcm":  # a slice that was, perhaps
                unreadable.append(InputError(f"{file}: is no DICOM file, though its name says so; export it again"))
            continue
        try:
            found = inspect_file(file)
        except InputError as error:
            unreadable.append(error)
            continue
        if found.reason and not found.series_uid:
            unreadable.append(found.reason)
        else:
            groups.setdefault(found.series_uid, []).append(found)
    listed = tuple(_list_series(group, allow_gaps) for group in groups.values())
    if not any(file.headers for group in groups.values() for file in group):
        reasons = [*unreadable, *(one.reason for one in listed if one.reason)]
        first = f"; {reasons[0]}" if reasons else ""
        n_refused = len(files) - not_dicom
        raise InputError(
            f"{path}: no CT slice in this folder ({not_dicom} files are no DICOM, {n_refused} refused{first})"
        )
    return FoundSeries(listed, tuple(unreadable))


def _list_series(files: Sequence[DicomFile], allow_gaps: bool) -> ListedSeries:
    """Makes a series of the files that share a UID, or says why not."""
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
        headers, aside = set_strays_aside(headers)
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
    except GeometryError as error:
        if allow_gaps:
            return tuple(make_runs(headers))
        if "one gap is" in str(error):
            raise GeometryError(f"{error}; --allow_gaps=yes predicts the even parts one by one") from None
        raise


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
    return [header for header in headers if header not in dropped], lines


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
    verdict = "yes"
    notes = [f"{len(one.series)} parts"] if len(one.series) > 1 else []
    missing = sum(len(series.missing_planes) for series in one.series)
    notes += [f"{missing} slices are missing in between"] if missing else []
    notes += [f"{len(one.aside)} files or slices set aside: {one.aside[0]}"] if one.aside else []
    try:
        check_axial(first.slices[0])
    except GeometryError as error:
        verdict = f"no: {error}"
    return [
        one.uid,
        one.description,
        str(n_slices),
        "{} x {}".format(*first.shape[:2]),
        " x ".join(f"{step:.4g}" for step in spacing_mm(first.affine_lps)) + " mm",
        describe_orientation(first),
        one.syntax,
        "; ".join([verdict, *notes]),
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
