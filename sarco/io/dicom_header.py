"""What a DICOM file says of itself: flattens its frames, says who it is, checks every tag that geometry needs."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.tag import Tag
from pydicom.uid import MediaStorageDirectoryStorage

from sarco.core.errors import GeometryError, InputError, OtherKindError
from sarco.core.messages import reason_of
from sarco.io.dicom_kind import KIND_TAGS, check_kind, check_scale, find_doubts, scale_of
from sarco.io.dicom_marks import marks_of
from sarco.io.dicom_tags import (
    number_of,
    numbers_of,
    open_dataset,
    quiet_number,
    quiet_pydicom,
    quiet_text,
    raw_text,
    text_of,
    transfer_syntax,
    value_of,
)
from sarco.scan.geometry import check_cosines, unit_cosines
from sarco.scan.person import check_field_of_view
from sarco.scan.series import PERSON_TAGS, SCAN_TAGS, SliceHeader

HEADER_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID",
    "PatientID", "SeriesNumber", "InstanceNumber", "NumberOfFrames", "Rows", "Columns", "PixelSpacing",
    "ImageOrientationPatient", "ImagePositionPatient", "SliceThickness", "SpacingBetweenSlices", "SpecificCharacterSet",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", *KIND_TAGS,
    *PERSON_TAGS, *SCAN_TAGS,
]  # fmt: skip
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_UNITS = "RealWorldValueMappingSequence"
_LARGEST_SIDE = 16384  # pixels; no CT comes near, a damaged header easily does
_LARGEST_LENGTH_MM = 1e5  # positions and steps beyond 100 m are damage, not patients
_MOST_FRAMES = 100_000
_LONGEST_UID = 64  # PS3.5 section 9
_THICKEST_MM = 50.0  # a lone slice that claims more would count for the organs above and below it


@dataclass(frozen=True)
class DicomFile:
    """One DICOM file as a search sees it.

    Attributes:
        path: the file.
        series_uid, modality, description, syntax: for the list of series; empty where unknown.
        headers: its CT slices, one a frame; empty where it holds none that can be used.
        reason: why ``headers`` is empty.
        others: where its slices lie, if it holds some of another kind that cannot be used.
        is_damaged: whether it is a CT slice, and only damage keeps it from being used.
        is_directory: whether it is a DICOMDIR, which holds no image.
    """

    path: Path
    series_uid: str
    modality: str
    description: str
    syntax: str
    headers: tuple[SliceHeader, ...]
    reason: InputError | None
    is_damaged: bool = False
    is_directory: bool = False
    others: tuple[SliceHeader, ...] = ()


@quiet_pydicom()
def inspect_file(path: Path) -> DicomFile:
    """Everything a search needs to know of a file; pixels are not read.

    Raises:
        InputError: the file cannot be read as DICOM at all.
    """
    dataset = open_dataset(path, stop_before_pixels=True, specific_tags=list(HEADER_TAGS))
    headers: tuple[SliceHeader, ...] = ()
    others: tuple[SliceHeader, ...] = ()
    reason = None
    try:
        check_kind(path, dataset)
        frames = flatten_frames(path, dataset)
        headers = tuple(_header_of(path, flat, frame, flat is not dataset) for frame, flat in enumerate(frames))
    except InputError as error:
        reason = error
        others = _others_of(path, dataset) if isinstance(error, OtherKindError) else ()
    marks = [quiet_text(dataset, tag) for tag in ("SeriesInstanceUID", "Modality", "SeriesDescription")]
    uid = next((header.series_uid for header in (*headers, *others)), _fit_uid(marks[0]))
    # What has no position at all may be a screenshot; what has one that makes no sense was a slice, or it was cut off.
    was_slice = "ImagePositionPatient" in dataset or "Rows" not in dataset
    is_damaged = reason is not None and not isinstance(reason, OtherKindError) and was_slice
    is_directory = quiet_text(dataset.file_meta, "MediaStorageSOPClassUID") == MediaStorageDirectoryStorage
    return DicomFile(
        path, uid, marks[1][:16], marks[2], transfer_syntax(dataset), headers, reason, is_damaged, is_directory, others
    )


def _others_of(path: Path, dataset: pydicom.Dataset) -> tuple[SliceHeader, ...]:
    """Headers of what is no slice that can be used; none where it does not say where it lies."""
    try:
        return tuple(_described(path, flat, frame) for frame, flat in enumerate(flatten_frames(path, dataset)))
    except InputError:
        return ()


def read_dicom_headers(path: Path) -> tuple[SliceHeader, ...]:
    """Reads and checks the headers of the CT slices in a file: one, or one a frame.

    Raises:
        InputError: no DICOM file, no CT, or a tag that is missing or makes no sense; names the tag.
    """
    found = inspect_file(path)
    if found.reason:
        raise found.reason
    return found.headers


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
        if element.keyword == _UNITS:
            flat.add(element)  # its items are several mappings, one to HU among them
        elif element.VR == "SQ" and len(element.value):
            flat.update(element.value[0])
    if "FrameType" in flat:
        flat.ImageType = flat.FrameType


def orientation_of(
    path: Path, dataset: pydicom.Dataset, lengths_mm: tuple[float, float] = (0.0, 0.0)
) -> tuple[float, ...]:
    """ImageOrientationPatient as unit vectors at right angles.

    Args:
        path: the file, for messages.
        dataset: its header.
        lengths_mm: of a row, then of a column: for longer ones numbers have to be finer.

    Raises:
        InputError: it is missing, or too far from such.
    """
    cosines = numbers_of(path, dataset, "ImageOrientationPatient", 6)
    try:
        check_cosines(cosines, lengths_mm)
        return unit_cosines(cosines)
    except GeometryError as error:
        raise InputError(f"{path}: {error}; correct ImageOrientationPatient") from None


def _header_of(path: Path, dataset: pydicom.Dataset, frame: int, is_flat: bool) -> SliceHeader:
    if is_flat:  # a frame may say another kind or unit than its file
        check_kind(path, dataset)
    header = _described(path, dataset, frame)
    check_field_of_view(str(path), header.shape, header.spacing_mm)
    check_scale(path, dataset)
    return header


def _described(path: Path, dataset: pydicom.Dataset, frame: int) -> SliceHeader:
    """What a file, or one frame of it, says of place and identity, whatever it shows."""
    sides = [number_of(path, dataset, tag) for tag in ("Rows", "Columns")]
    if not all(side and 1 <= side <= _LARGEST_SIDE for side in sides):
        raise InputError(f"{path}: Rows x Columns is {sides[0]} x {sides[1]}, which is no image; export it again")
    shape = int(sides[0] or 0), int(sides[1] or 0)
    spacing = numbers_of(path, dataset, "PixelSpacing", 2)
    if min(spacing) <= 0:
        raise InputError(f"{path}: PixelSpacing is {list(spacing)}, but has to be positive; correct the tag")
    orientation = orientation_of(path, dataset, (shape[1] * spacing[1], shape[0] * spacing[0]))
    position = numbers_of(path, dataset, "ImagePositionPatient", 3)
    for tag, lengths in (("PixelSpacing", spacing), ("ImagePositionPatient", position)):
        if max(map(abs, lengths)) > _LARGEST_LENGTH_MM or 0 < min(spacing) < 1e-4:
            raise InputError(f"{path}: {tag} is {list(lengths)}, which no scanner writes; correct the tag")
    study_uid = text_of(path, dataset, "StudyInstanceUID")
    frame_of_reference = text_of(path, dataset, "FrameOfReferenceUID")
    patient_id = text_of(path, dataset, "PatientID")
    series_number = quiet_number(dataset, "SeriesNumber")
    mark = raw_text(dataset, "SeriesNumber") or None if series_number is None else series_number
    thickness, between = (quiet_number(dataset, tag) for tag in ("SliceThickness", "SpacingBetweenSlices"))
    sop_uid = text_of(path, dataset, "SOPInstanceUID")
    return SliceHeader(
        path=path,
        sop_uid=sop_uid or text_of(path, dataset.file_meta, "MediaStorageSOPInstanceUID"),
        series_uid=_fit_uid(text_of(path, dataset, "SeriesInstanceUID"))
        or _stand_in("series", path.parent.absolute(), frame_of_reference, study_uid, patient_id, mark),
        study_uid=study_uid,
        patient_id=patient_id or study_uid or frame_of_reference or _stand_in("patient", path.parent.absolute()),
        shape=shape,
        spacing_mm=(spacing[0], spacing[1]),
        orientation=orientation,
        position=position,
        thickness_mm=next((one for one in (thickness, between) if one and 0 < one <= _THICKEST_MM), 1.0),
        description=text_of(path, dataset, "SeriesDescription"),
        number=None if series_number is None else int(series_number),
        frame=frame,
        frame_of_reference=frame_of_reference,
        has_patient_id=bool(patient_id),
        instance=quiet_text(dataset, "InstanceNumber"),
        doubts=find_doubts(path, dataset),
        scale=scale_of(path, dataset),
        marks=marks_of(dataset),
        said_thickness_mm=thickness if thickness and thickness > 0 else None,
        said_step_mm=between if between and between > 0 else None,
    )


def _fit_uid(text: str) -> str:
    """A UID, which has 64 characters at most; what stands for it where a damaged one is longer."""
    return text if len(text) <= _LONGEST_UID else _stand_in("uid", text)


def is_stand_in(series_uid: str) -> bool:
    """Whether it stands for a SeriesInstanceUID that is missing or was emptied."""
    return series_uid.startswith("no-series-")


def _stand_in(what: str, *marks: object) -> str:
    """What stands for an identity that was emptied: the same for all files of a folder with the same marks."""
    text = "|".join(map(str, marks)).encode(errors="backslashreplace")
    return f"no-{what}-{hashlib.blake2b(text, digest_size=8).hexdigest()}"
