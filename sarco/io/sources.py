"""Finds the scan that was predicted: where it was then, else below a folder, and each file just as it was."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

from sarco.core.errors import InputError, SarcoError
from sarco.core.files import hash_file
from sarco.core.messages import shown
from sarco.core.tree import files_below
from sarco.io.dicom_header import read_dicom_headers
from sarco.io.dicom_tags import is_dicom
from sarco.io.images import find_images, read_headers
from sarco.io.nifti import is_nifti
from sarco.io.results import PREDICTION, PredictedSlice, StoredPrediction
from sarco.scan.series import Series, SliceHeader, make_series

_NIFTI = ".nii"  # stands for the UID that a NIfTI volume has not


def find_source(prediction: StoredPrediction, scan: Path | None) -> Series:
    """The scan that was predicted, each file just as it was then.

    Args:
        prediction: names its slices.
        scan: where slices are looked for that are no longer where they were; None for nowhere.

    Raises:
        InputError: a slice is gone or was changed; names it.
    """
    if scan is not None and not scan.is_dir():
        raise InputError(f"{scan}: there is no such folder; give the one with the scan as --scan")
    search = SourceSearch(scan, "say where the scan lies with --scan=FOLDER")
    headers = [search.find(one, prediction.folder) for one in prediction.slices]
    first = headers[0].path
    series = find_images(first).series[0] if is_nifti(first) else make_series(headers)
    planes = tuple(one.slice_index for one in prediction.slices)
    if series.plane_index != planes or series.slices != tuple(headers):
        raise InputError(
            f"{prediction.folder}: {PREDICTION} does not name the slices of the scan in order; predict again"
        )
    return series


class SourceSearch:
    """Finds slices that were predicted: where they were then, else by SOPInstanceUID below a folder.

    Only a file that is unchanged since counts. Each file is read once, and the folder only where a slice is missed.
    """

    def __init__(self, root: Path | None, advice: str) -> None:
        """Reads nothing yet.

        Args:
            root: the folder to look below; None for nowhere.
            advice: what to do where a slice is gone, for the message.
        """
        self._root, self._advice = root, advice
        self._hashes: dict[Path, str] = {}
        self._headers: dict[Path, tuple[SliceHeader, ...]] = {}  # a file may hold many slices
        self._below: dict[str, list[Path]] | None = None

    def find(self, entry: PredictedSlice, results: Path) -> SliceHeader:
        """The slice as it was when it was predicted.

        Args:
            entry: what the prediction says of it.
            results: the results folder, for messages.

        Raises:
            InputError: it is gone or was changed; names it.
        """
        changed = None
        for path in self._candidates(entry):
            if self._hash_of(path) != entry.blake2b:
                changed = changed or path
                continue
            if path not in self._headers:
                self._headers[path] = read_headers(path)
            if entry.frame >= len(self._headers[path]):
                raise InputError(f"{results}: the source {path} holds no frame {shown(entry.frame)}; predict again")
            return self._headers[path][entry.frame]
        if changed:
            raise InputError(f"{results}: the source slice {changed} was changed since it was predicted; predict again")
        elsewhere = f", and none with its UID lies below {self._root}" if self._root else ""
        raise InputError(
            f"{results}: the source slice {shown(entry.file)} (SOPInstanceUID {shown(entry.sop_uid)}) is gone"
            f"{elsewhere}; {self._advice}"
        )

    def _candidates(self, entry: PredictedSlice) -> Iterator[Path]:
        path = Path(entry.file)
        with contextlib.suppress(OSError, ValueError):  # no name that a file can have
            if path.is_file():
                yield path
        key = entry.sop_uid or (_NIFTI if is_nifti(path) else "")
        if key and self._root is not None:
            if self._below is None:
                self._below = _files_by_uid(self._root)
            yield from self._below.get(key, ())

    def _hash_of(self, path: Path) -> str:
        if path not in self._hashes:
            try:
                self._hashes[path] = hash_file(path, hashlib.blake2b)
            except OSError as error:
                raise InputError(f"{path}: cannot be read ({error.strerror}); check the file") from None
        return self._hashes[path]


def _files_by_uid(root: Path) -> dict[str, list[Path]]:
    """Files below a folder by the SOPInstanceUID of their slices; all NIfTI files under one key."""
    found: dict[str, list[Path]] = {}
    for file in files_below(root):
        with contextlib.suppress(SarcoError, OSError):
            if is_nifti(file):
                found.setdefault(_NIFTI, []).append(file)
            elif is_dicom(file):
                found.setdefault(read_dicom_headers(file)[0].sop_uid, []).append(file)
    return found
