"""What a DICOM file says of itself: opens it, flattens its frames, and checks every tag that geometry needs."""

import hashlib
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.errors import InvalidDicomError
from pydicom.tag import BaseTag, Tag
from pydicom.uid import ImplicitVRLittleEndian

from sarco.core.errors import GeometryError, InputError
from sarco.core.messages import printable, reason_of
from sarco.scan.geometry import slice_normal
from sarco.scan.series import SliceHeader

HEADER_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID",
    "PatientID", "Modality", "SeriesNumber", "SeriesDescription", "InstanceNumber", "NumberOfFrames", "ImageType",
    "Rows", "Columns", "SamplesPerPixel", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient",
    "SliceThickness", "SpacingBetweenSlices", "SpecificCharacterSet",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_LARGEST_SIDE = 16384  # pixels; no CT comes near, a damaged header easily does
_LARGEST_LENGTH_MM = 1e5  # positions and steps beyond 100 m are damage, not patients
_MOST_FRAMES = 100_000
_CONTEXT_FREE = {"UI", "DS", "IS", "CS", "US"}  # value representations whose bytes alone say what the value is
_SHORT_BYTES = 256


@dataclass(frozen=True)
class DicomFile:
    """One DICOM file as a search sees it.

    Attributes:
        path: the file.
        series_uid, modality, description, syntax: for the list of series; empty where unknown.
        headers: its CT slices, one a frame; empty where it holds none that can be used.
        reason: why ``headers`` is empty.
        is_damaged: whether it is a CT slice, and only damage keeps it from being used.
    """

    path: Path
    series_uid: str
    modality: str
    description: str
    syntax: str
    headers: tuple[SliceHeader, ...]
    reason: InputError | None
    is_damaged: bool = False


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silences what pydicom remarks on values that do no harm here; what does harm, sarco says itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@quiet_pydicom()
def inspect_file(path: Path) -> DicomFile:
    """Everything a search needs to know of a file; pixels are not read.

    Raises:
        InputError: the file cannot be read as DICOM at all.
    """
    dataset = open_dataset(path, stop_before_pixels=True, specific_tags=list(HEADER_TAGS))
    headers: tuple[SliceHeader, ...] = ()
    reason = None
    is_ct = False
    try:
        _check_kind(path, dataset)
        is_ct = True
        headers = tuple(_header_of(path, flat, frame) for frame, flat in enumerate(flatten_frames(path, dataset)))
    except InputError as error:
        reason = error
    marks = [_quiet_text(dataset, tag) for tag in ("SeriesInstanceUID", "Modality", "SeriesDescription")]
    uid = headers[0].series_uid if headers else marks[0]
    # What has no position at all may be a screenshot; what has one that makes no sense was a slice.
    is_damaged = is_ct and not headers and "ImagePositionPatient" in dataset
    return DicomFile(path, uid, marks[1][:16], marks[2], transfer_syntax(dataset), headers, reason, is_damaged)


def read_dicom_headers(path: Path) -> tuple[SliceHeader, ...]:
    """Reads and checks the headers of the CT slices in a file: one, or one a frame.

    Raises:
        InputError: no DICOM file, no CT, or a tag that is missing or makes no sense; names the tag.
    """
    found = inspect_file(path)
    if found.reason:
        raise found.reason
    return found.headers


def is_dicom(path: Path) -> bool:
    """Whether a file starts as DICOM does: 128 bytes, then ``DICM`` (PS3.10 section 7.1), or a bare data set."""
    with open(path, "rb") as file:
        start = file.read(132)
    return start[128:] == b"DICM" or _starts_bare(start)


def _starts_bare(start: bytes) -> bool:
    """Old programs leave preamble and mark out: the file begins with an element of group 0002 or 0008."""
    return len(start) == 132 and start[:4] in _FIRST_ELEMENTS


_FIRST_ELEMENTS = {
    bytes((group, 0, element, 0))
    for group, element in ((2, 0x00), (2, 0x01), (8, 0x00), (8, 0x01), (8, 0x05), (8, 0x08), (8, 0x12), (8, 0x16))
}


def open_dataset(path: Path, **options: Any) -> pydicom.FileDataset:
    """Opens a DICOM file.

    Args:
        path: the file.
        options: of `pydicom.dcmread`.

    Raises:
        InputError: there is no such file, it is no DICOM file, or it is damaged.
    """
    try:
        try:
            return pydicom.dcmread(path, **options)
        except InvalidDicomError:
            if not is_dicom(path):
                raise
            dataset = pydicom.dcmread(path, force=True, **options)
            if "TransferSyntaxUID" not in dataset.file_meta:  # what it had to be is what it was read as
                implicit = dataset.original_encoding[0]
                dataset.file_meta.TransferSyntaxUID = (
                    ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
                )
            return dataset
    except InvalidDicomError:
        raise InputError(f"{path}: is no DICOM file; give DICOM slices (.dcm)") from None
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except Exception as error:  # a damaged file makes pydicom raise nearly anything
        raise InputError(f"{path}: cannot be read as DICOM ({reason_of(error)}); export the slice again") from None


def transfer_syntax(dataset: pydicom.FileDataset) -> str:
    """The name of the transfer syntax; empty where the file does not say."""
    uid = pydicom.uid.UID(_quiet_text(dataset.file_meta, "TransferSyntaxUID"), pydicom.config.IGNORE)
    return uid.name


def _check_kind(path: Path, dataset: pydicom.Dataset) -> None:
    modality = text_of(path, dataset, "Modality")[:16]
    if modality != "CT":
        raise InputError(f"{path}: Modality is {modality or 'missing'}, but only CT can be used; leave this file out")
    if (number_of(path, dataset, "SamplesPerPixel") or 1) != 1:
        raise InputError(f"{path}: holds colours, not Hounsfield units; leave this file out")


def flatten_frames(path: Path, dataset: pydicom.Dataset) -> list[pydicom.Dataset]:
    """For each frame of a file a data set as if the frame were a file of its own; of plain files just the data set.

    The items of its functional groups (PS3.3 C.7.6.16) stand beside the other tags, and go before them; those of the
    frame itself go before shared ones.

    Raises:
        InputError: the file holds several frames without saying where each lies, or the groups are damaged.
    """
    n_frames = int(number_of(path, dataset, "NumberOfFrames") or 1)
    per_frame = value_of(path, dataset, _GROUPS[1])
    if per_frame is None:
        if n_frames > 1:
            raise InputError(
                f"{path}: holds several frames ({n_frames}) but does not say where each lies "
                "(PerFrameFunctionalGroupsSequence is missing); convert it to one file a slice first"
            )
        return [dataset]
    if not 1 <= n_frames <= _MOST_FRAMES or len(per_frame) != n_frames:
        raise InputError(
            f"{path}: NumberOfFrames is {n_frames}, but {len(per_frame)} frames are described; export it again"
        )
    shared = value_of(path, dataset, _GROUPS[0]) or [pydicom.Dataset()]
    try:
        common = pydicom.Dataset()
        common.update({tag: element for tag, element in dataset.items() if tag not in map(Tag, _GROUPS)})
        common.file_meta = dataset.file_meta
        _lay_flat(common, shared[0])
        return [_frame_of(common, item) for item in per_frame]
    except Exception as error:  # nearly anything, where a sequence is damaged
        raise InputError(f"{path}: functional groups cannot be read ({reason_of(error)}); export it again") from None


def _frame_of(common: pydicom.Dataset, groups: pydicom.Dataset) -> pydicom.Dataset:
    flat = pydicom.Dataset()
    flat.update(common)
    flat.file_meta = common.file_meta
    _lay_flat(flat, groups)
    return flat


def _lay_flat(flat: pydicom.Dataset, groups: pydicom.Dataset) -> None:
    for element in groups:
        if element.VR == "SQ" and len(element.value):
            flat.update(element.value[0])
    if "FrameType" in flat:
        flat.ImageType = flat.FrameType


def _header_of(path: Path, dataset: pydicom.Dataset, frame: int) -> SliceHeader:
    sides = [number_of(path, dataset, tag) for tag in ("Rows", "Columns")]
    if not all(side and 1 <= side <= _LARGEST_SIDE for side in sides):
        raise InputError(f"{path}: Rows x Columns is {sides[0]} x {sides[1]}, which is no image; export it again")
    spacing = numbers_of(path, dataset, "PixelSpacing", 2)
    if min(spacing) <= 0:
        raise InputError(f"{path}: PixelSpacing is {list(spacing)}, but has to be positive; correct the tag")
    orientation = numbers_of(path, dataset, "ImageOrientationPatient", 6)
    try:
        slice_normal(orientation)
    except GeometryError as error:
        raise InputError(f"{path}: {error}; correct ImageOrientationPatient") from None
    position = numbers_of(path, dataset, "ImagePositionPatient", 3)
    for tag, lengths in (("PixelSpacing", spacing), ("ImagePositionPatient", position)):
        if max(map(abs, lengths)) > _LARGEST_LENGTH_MM or 0 < min(spacing) < 1e-4:
            raise InputError(f"{path}: {tag} is {list(lengths)}, which no scanner writes; correct the tag")
    thickness = [number_of(path, dataset, tag) for tag in ("SpacingBetweenSlices", "SliceThickness")]
    study_uid = text_of(path, dataset, "StudyInstanceUID")
    frame_of_reference = text_of(path, dataset, "FrameOfReferenceUID")
    patient_id = text_of(path, dataset, "PatientID")
    series_number = number_of(path, dataset, "SeriesNumber")
    sop_uid = text_of(path, dataset, "SOPInstanceUID")
    return SliceHeader(
        path=path,
        sop_uid=sop_uid or text_of(path, dataset.file_meta, "MediaStorageSOPInstanceUID"),
        series_uid=_series_identity(path, dataset, frame_of_reference),
        study_uid=study_uid,
        patient_id=patient_id or study_uid or frame_of_reference or path.parent.name,
        shape=(int(sides[0] or 0), int(sides[1] or 0)),
        spacing_mm=(spacing[0], spacing[1]),
        orientation=orientation,
        position=position,
        thickness_mm=next((t for t in thickness if t and 0 < t < _LARGEST_LENGTH_MM), 1.0),
        description=text_of(path, dataset, "SeriesDescription"),
        number=None if series_number is None else int(series_number),
        frame=frame,
        frame_of_reference=frame_of_reference,
        is_localizer="LOCALIZER" in text_of(path, dataset, "ImageType").upper(),
        has_patient_id=bool(patient_id),
    )


def _series_identity(path: Path, dataset: pydicom.Dataset, frame_of_reference: str) -> str:
    """SeriesInstanceUID; where it was emptied, a stand-in a folder and frame of reference."""
    uid = text_of(path, dataset, "SeriesInstanceUID")
    if uid:
        return uid
    marks = f"{path.parent.name}|{frame_of_reference}".encode()
    return f"no-uid-{hashlib.blake2b(marks, digest_size=6).hexdigest()}"


def value_of(path: Path, dataset: pydicom.Dataset, tag: str) -> Any:
    """The value of a tag; None where it is absent.

    Raises:
        InputError: it is damaged; names the tag.
    """
    try:
        raw = dataset.get_item(_tag_of(tag))
        if isinstance(raw, RawDataElement) and raw.value and len(raw.value) <= _SHORT_BYTES:
            vr = raw.VR or dictionary_VR(raw.tag)
            if vr in _CONTEXT_FREE:
                return _decode(raw.tag, vr, raw.value, raw.is_little_endian)
        return dataset.get(tag)  # pydicom decodes an element when it is asked for
    except Exception as error:  # and raises nearly anything on a damaged one
        raise InputError(f"{path}: {tag} cannot be read ({reason_of(error)}); correct the tag") from None


@lru_cache(maxsize=4096)
def _decode(tag: BaseTag, vr: str, value: bytes, is_little_endian: bool) -> Any:
    """What pydicom makes of the bytes of an element; most elements are alike in all slices of a series."""
    return convert_raw_data_element(RawDataElement(tag, vr, len(value), value, 0, False, is_little_endian)).value


@lru_cache
def _tag_of(keyword: str) -> BaseTag:
    return Tag(keyword)


def text_of(path: Path, dataset: pydicom.Dataset, tag: str) -> str:
    """The value of a tag as one line of text; empty where it is absent."""
    value = value_of(path, dataset, tag)
    return "" if value is None else printable(str(value)).strip()


def _quiet_text(dataset: pydicom.Dataset, tag: str) -> str:
    try:
        return text_of(Path(), dataset, tag)
    except InputError:
        return ""


def number_of(path: Path, dataset: pydicom.Dataset, tag: str) -> float | None:
    """The value of a tag as a finite number; None where it is absent or empty.

    Raises:
        InputError: it is no number.
    """
    value = value_of(path, dataset, tag)
    if value is None or value == "":
        return None
    return _finite(path, tag, value)


def numbers_of(path: Path, dataset: pydicom.Dataset, tag: str, count: int) -> tuple[float, ...]:
    """The value of a tag as that many finite numbers.

    Raises:
        InputError: it is absent, holds more or fewer, or no numbers.
    """
    value = value_of(path, dataset, tag)
    if value is None or value == "":
        raise InputError(f"{path}: {tag} is missing, so nobody can say where the pixels lie; export it with this tag")
    values = list(value) if isinstance(value, (list, tuple, pydicom.multival.MultiValue)) else [value]
    if len(values) != count:
        raise InputError(f"{path}: {tag} holds {len(values)} numbers instead of {count}; correct the tag")
    return tuple(_finite(path, tag, number) for number in values)


def _finite(path: Path, tag: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{path}: {tag} is {str(value)[:40]!r}, which is no number; correct the tag")
    return number
