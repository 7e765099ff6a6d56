"""DICOM CT in a folder tree: which series there are, and why each can or cannot be predicted."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarco.core.errors import InputError, OtherKindError, SarcoError
from sarco.core.messages import count_of
from sarco.core.tree import look_below
from sarco.io.dicom_groups import ListedSeries, list_groups, list_series
from sarco.io.dicom_header import DicomFile, inspect_file, read_dicom_headers
from sarco.io.dicom_lost import Losses, LostFile, look_at
from sarco.io.dicom_pixels import read_dicom_hu
from sarco.io.dicom_tags import is_dicom
from sarco.scan.geometry import gantry_tilt_deg, slice_normal, spacing_mm
from sarco.scan.hu import AIR_HU
from sarco.scan.series import (
    Series,
    SliceHeader,
)

_OF_DISK = "lost+found"  # every disk has such a folder at its top, closed to users


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
        only = list_series([inspect_file(path)], None, allow_gaps)
        if only.reason:
            raise only.reason
        return FoundSeries((only,))
    if not path.is_dir():
        raise InputError(f"{path}: there is no such file or folder; check the path (quote it if it holds spaces)")
    tree = look_below(path)
    known: list[DicomFile] = []
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
            known.append(found)
    paths: dict[str, list[Path]] = defaultdict(list)
    for dicom in known:
        paths[dicom.series_uid].append(dicom.path)
    losses = Losses(tree, lost, (dicom.path for dicom in known))
    listed = tuple(list_groups(known, losses, allow_gaps))
    unreadable += [one.reason for one in losses.told(paths.values())]
    if not any(dicom.headers for dicom in known):
        reasons = [*unreadable, *(one.reason for one in listed if one.reason)]
        first = f"; {reasons[0]}" if reasons else ""
        n_refused = len(unreadable) + len(known)
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
