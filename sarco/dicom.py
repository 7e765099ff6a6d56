"""DICOM CT: finds series, reads headers and pixels; pixels come out in HU, geometry as ``affine_lps``."""

import hashlib
import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError

from sarco.errors import GeometryError, InputError, SarcoError
from sarco.geometry import Affine, plane_affine, slice_affine_lps, slice_normal, stack_slices

_HEADER_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID",
    "PatientID", "Modality", "SeriesNumber", "SeriesDescription", "InstanceNumber", "NumberOfFrames",
    "Rows", "Columns", "SamplesPerPixel", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient",
    "SliceThickness", "SpacingBetweenSlices", "SpecificCharacterSet",
]  # fmt: skip
_LARGEST_SLOPE, _LARGEST_INTERCEPT = 1e3, 1e5  # HU reach from -1024 to about 30000, even in metal
_LARGEST_SIDE = 16384  # pixels; no CT comes near, a damaged header easily does


@dataclass(frozen=True)
class SliceHeader:
    """What a slice says of itself, without its pixels.

    Attributes:
        path: its file.
        sop_uid, series_uid, study_uid: DICOM identity; ``series_uid`` is never empty (see `_series_identity`).
        patient_id: PatientID, else StudyInstanceUID, FrameOfReferenceUID or the folder: what a split keeps whole.
        shape: (rows, columns).
        spacing_mm: distance between rows, then between columns.
        orientation, position: ImageOrientationPatient, ImagePositionPatient (LPS).
        thickness_mm: the step that a lone slice is given: SpacingBetweenSlices, else SliceThickness, else 1.
        description, number: SeriesDescription and SeriesNumber, for people.
    """

    path: Path
    sop_uid: str
    series_uid: str
    study_uid: str
    patient_id: str
    shape: tuple[int, int]
    spacing_mm: tuple[float, float]
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    thickness_mm: float
    description: str
    number: int | None

    @property
    def affine_lps(self) -> Affine:
        """The slice's own affine; its third column is the normal, as long as ``thickness_mm``."""
        step = slice_normal(self.orientation) * self.thickness_mm
        return slice_affine_lps(self.position, self.orientation, self.spacing_mm, step)


@dataclass(frozen=True)
class Series:
    """Slices of one SeriesInstanceUID on one regular grid, in order of position along their normal.

    Attributes:
        uid: SeriesInstanceUID (or what stands for it).
        slices: headers in order.
        plane_index: for each slice its plane on the grid; planes without a slice are gaps.
        affine_lps: (row, column, plane, 1) to LPS mm.
        n_planes: planes of the grid, gaps included.
    """

    uid: str
    slices: tuple[SliceHeader, ...]
    plane_index: tuple[int, ...]
    affine_lps: Affine
    n_planes: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(rows, columns, planes)."""
        return (*self.slices[0].shape, self.n_planes)

    def plane_affine_lps(self, plane: int) -> Affine:
        """The affine of one plane as a volume of one slice."""
        return plane_affine(self.affine_lps, plane)


@dataclass(frozen=True)
class FoundSeries:
    """What a search of a folder gave.

    Attributes:
        series: those that can be read, in order of their first file.
        refused: one line for each series or file that cannot, with the reason.
    """

    series: tuple[Series, ...]
    refused: tuple[SarcoError, ...]


def read_header(path: Path) -> SliceHeader:
    """Reads and checks the header of one CT slice.

    Raises:
        InputError: no DICOM file, no CT, several frames, or a tag that is missing or makes no sense; names the tag.
    """
    return _header_of(path, _read_dataset(path, stop_before_pixels=True, specific_tags=_HEADER_TAGS))


def read_slice(path: Path) -> tuple[NDArray[np.float32], SliceHeader]:
    """Reads one CT slice.

    Returns:
        (row, column) Hounsfield units, and the header.

    Raises:
        InputError: as `read_header`, and where pixels are missing, cannot be decoded or cannot be turned into HU.
    """
    dataset = _read_dataset(path)
    header = _header_of(path, dataset)
    return _hounsfield_units(path, dataset, header.shape), header


def read_series(series: Series) -> NDArray[np.float32]:
    """Reads all slices of a series: (row, column, plane) HU; air (-1024) where a plane has no slice."""
    volume = np.full(series.shape, -1024, dtype=np.float32)
    for header, plane in zip(series.slices, series.plane_index, strict=True):
        volume[:, :, plane] = read_slice(header.path)[0]
    return volume


def make_series(headers: Iterable[SliceHeader]) -> Series:
    """Puts slices of one series in order and checks that they form one regular grid.

    Raises:
        GeometryError: slices differ in size, spacing or orientation, share a position, or are spaced unevenly.
    """
    slices = list(headers)
    first = slices[0]
    for other in slices[1:]:
        for what, mine, theirs, tolerance in (
            ("size", first.shape, other.shape, 0.0),
            ("pixel spacing", first.spacing_mm, other.spacing_mm, 1e-4),
            ("orientation", first.orientation, other.orientation, 1e-3),
        ):
            if not np.allclose(mine, theirs, rtol=0, atol=tolerance):
                raise GeometryError(
                    f"series {first.series_uid}: {first.path} and {other.path} differ in {what} ({list(mine)} and "
                    f"{list(theirs)}); keep one kind of slice in the folder"
                )
    try:
        stack = stack_slices([s.position for s in slices], slice_normal(first.orientation), first.thickness_mm)
    except GeometryError as error:
        raise GeometryError(f"series {first.series_uid} in {first.path.parent}: {error}") from None
    return Series(
        uid=first.series_uid,
        slices=tuple(slices[i] for i in stack.order),
        plane_index=stack.plane_index,
        affine_lps=slice_affine_lps(stack.first_position, first.orientation, first.spacing_mm, stack.step_lps),
        n_planes=stack.n_planes,
    )


def find_series(path: Path) -> FoundSeries:
    """Finds every CT series in a folder tree, or the one slice that a file holds.

    Raises:
        InputError: there is no such path, it is a file and no CT slice, or the tree holds no CT slice at all.
    """
    if path.is_file():
        return FoundSeries((make_series([read_header(path)]),), ())
    if not path.is_dir():
        raise InputError(f"{path}: there is no such file or folder; check the path (quote it if it holds spaces)")
    groups: dict[str, list[SliceHeader]] = {}
    refused: list[SarcoError] = []
    not_dicom = 0
    for file in files_below(path):
        if not is_dicom(file):
            not_dicom += 1
            continue
        try:
            header = read_header(file)
        except InputError as error:
            refused.append(error)
            continue
        groups.setdefault(header.series_uid, []).append(header)
    if not groups:
        found = f"; {refused[0]}" if refused else ""
        raise InputError(
            f"{path}: no CT slice in this folder ({not_dicom} files are no DICOM, {len(refused)} refused{found})"
        )
    series = []
    for headers in groups.values():
        try:
            series.append(make_series(headers))
        except GeometryError as error:
            refused.append(error)
    return FoundSeries(tuple(series), tuple(refused))


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder, sorted, without hidden files and folders."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from files_below(entry)
        elif entry.is_file():
            yield entry


def is_dicom(path: Path) -> bool:
    """Whether a file starts as DICOM files do (PS3.10 section 7.1: 128 bytes, then ``DICM``)."""
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def _read_dataset(path: Path, **options: Any) -> pydicom.Dataset:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom remarks on values that do no harm here
            return pydicom.dcmread(path, **options)
    except InvalidDicomError:
        raise InputError(f"{path}: is no DICOM file; give DICOM slices (.dcm)") from None
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except Exception as error:  # a damaged file makes pydicom raise nearly anything
        raise InputError(f"{path}: cannot be read as DICOM ({_reason(error)}); export the slice again") from None


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return _printable(text[0])[:200] if text else type(error).__name__


def _header_of(path: Path, dataset: pydicom.Dataset) -> SliceHeader:
    modality = _text(path, dataset, "Modality")[:16]
    if modality != "CT":
        raise InputError(f"{path}: Modality is {modality or 'missing'}, but only CT can be used; leave this file out")
    if (_number(path, dataset, "NumberOfFrames") or 1) > 1:
        raise InputError(f"{path}: holds several frames; convert it to one file a slice first")
    if (_number(path, dataset, "SamplesPerPixel") or 1) != 1:
        raise InputError(f"{path}: holds colours, not Hounsfield units; leave this file out")
    sides = [_number(path, dataset, tag) for tag in ("Rows", "Columns")]
    if not all(side and 1 <= side <= _LARGEST_SIDE for side in sides):
        raise InputError(f"{path}: Rows x Columns is {sides[0]} x {sides[1]}, which is no image; export it again")
    spacing = _numbers(path, dataset, "PixelSpacing", 2)
    if min(spacing) <= 0:
        raise InputError(f"{path}: PixelSpacing is {list(spacing)}, but has to be positive; correct the tag")
    orientation = _numbers(path, dataset, "ImageOrientationPatient", 6)
    try:
        slice_normal(orientation)
    except GeometryError as error:
        raise InputError(f"{path}: {error}; correct ImageOrientationPatient") from None
    position = _numbers(path, dataset, "ImagePositionPatient", 3)
    thickness = [_number(path, dataset, tag) for tag in ("SpacingBetweenSlices", "SliceThickness")]
    study_uid = _text(path, dataset, "StudyInstanceUID")
    frame_of_reference = _text(path, dataset, "FrameOfReferenceUID")
    series_number = _number(path, dataset, "SeriesNumber")
    return SliceHeader(
        path=path,
        sop_uid=_text(path, dataset, "SOPInstanceUID") or _text(path, dataset.file_meta, "MediaStorageSOPInstanceUID"),
        series_uid=_series_identity(path, dataset, frame_of_reference),
        study_uid=study_uid,
        patient_id=_text(path, dataset, "PatientID") or study_uid or frame_of_reference or path.parent.name,
        shape=(int(sides[0] or 0), int(sides[1] or 0)),
        spacing_mm=(spacing[0], spacing[1]),
        orientation=orientation,
        position=position,
        thickness_mm=next((t for t in thickness if t and t > 0), 1.0),
        description=_text(path, dataset, "SeriesDescription"),
        number=None if series_number is None else int(series_number),
    )


def _series_identity(path: Path, dataset: pydicom.Dataset, frame_of_reference: str) -> str:
    """SeriesInstanceUID; where it was emptied, a stand-in a folder and frame of reference."""
    uid = _text(path, dataset, "SeriesInstanceUID")
    if uid:
        return uid
    marks = f"{path.parent.name}|{frame_of_reference}".encode()
    return f"no-uid-{hashlib.blake2b(marks, digest_size=6).hexdigest()}"


def _value(path: Path, dataset: pydicom.Dataset, tag: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dataset.get(tag)  # pydicom decodes an element when it is asked for
    except Exception as error:  # and raises nearly anything on a damaged one
        raise InputError(f"{path}: {tag} cannot be read ({_reason(error)}); correct the tag") from None


def _text(path: Path, dataset: pydicom.Dataset, tag: str) -> str:
    value = _value(path, dataset, tag)
    return "" if value is None else _printable(str(value)).strip()


def _printable(text: str) -> str:
    """The text without line breaks and other control characters: it ends up in messages of one line."""
    return "".join(character for character in text if character.isprintable())


def _number(path: Path, dataset: pydicom.Dataset, tag: str) -> float | None:
    value = _value(path, dataset, tag)
    if value is None or value == "":
        return None
    return _finite(path, tag, value)


def _numbers(path: Path, dataset: pydicom.Dataset, tag: str, count: int) -> tuple[float, ...]:
    value = _value(path, dataset, tag)
    if value is None or value == "":
        raise InputError(f"{path}: {tag} is missing, so nobody can say where the pixels lie; export it with this tag")
    values = list(value) if isinstance(value, (list, tuple, pydicom.multival.MultiValue)) else [value]
    if len(values) != count:
        raise InputError(f"{path}: {tag} holds {len(values)} numbers instead of {count}; correct the tag")
    return tuple(_finite(path, tag, number) for number in values)


def _finite(path: Path, tag: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{path}: {tag} is {str(value)[:40]!r}, which is no number; correct the tag")
    return number


def _hounsfield_units(path: Path, dataset: pydicom.Dataset, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Stored values x RescaleSlope + RescaleIntercept (PS3.3 C.11.1.1.2)."""
    if "PixelData" not in dataset:
        raise InputError(f"{path}: holds no pixel data; export the slice with its pixels")
    stored = _stored_values(path, dataset)
    if stored.shape != shape:
        raise InputError(f"{path}: pixels have shape {stored.shape}, the header says {shape}; export the slice again")
    slope, intercept = (_number(path, dataset, tag) for tag in ("RescaleSlope", "RescaleIntercept"))
    if slope is None or intercept is None:
        if not -3100 <= int(stored.min()) <= -900:  # signed values that reach down to air are HU already
            raise InputError(f"{path}: RescaleSlope or RescaleIntercept is missing, so values are not HU; correct it")
        slope, intercept = 1.0, 0.0
    if slope == 0:
        raise InputError(f"{path}: RescaleSlope is 0, which makes every pixel the same; correct the tag")
    if abs(slope) > _LARGEST_SLOPE or abs(intercept) > _LARGEST_INTERCEPT:
        raise InputError(
            f"{path}: RescaleSlope {slope:g} or RescaleIntercept {intercept:g} is no HU scale; correct the tag"
        )
    return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _stored_values(path: Path, dataset: pydicom.Dataset) -> NDArray[Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dataset.pixel_array
    except NotImplementedError:
        syntax = pydicom.uid.UID(_text(path, dataset.file_meta, "TransferSyntaxUID"), pydicom.config.IGNORE)
        raise InputError(
            f"{path}: pixels are encoded as {syntax.name} ({syntax}), which cannot be decoded; "
            "convert the file to an uncompressed or JPEG 2000 one"
        ) from None
    except Exception as error:  # the decoders raise nearly anything on damaged data
        raise InputError(f"{path}: pixels cannot be decoded ({_reason(error)}); export the slice again") from None
