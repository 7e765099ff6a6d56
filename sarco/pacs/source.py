"""What every DICOM result takes from its source series: patient, study, references; and UIDs that repeat.

highdicom is an extra. It is imported only where a result is built, after `require_highdicom` has looked for it.
"""

import hashlib
import importlib.util
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.config import RAISE
from pydicom.tag import Tag
from pydicom.uid import CTImageStorage, generate_uid
from pydicom.valuerep import DSfloat, validate_value

import sarco
from sarco.core.errors import InputError, OptionError
from sarco.core.options import notice_of
from sarco.io.dicom_tags import is_dicom, open_dataset, quiet_number
from sarco.pacs.text import charsets_of, doubtful_texts
from sarco.scan.geometry import spacing_mm, voxel_volume_mm3
from sarco.scan.series import Series, SliceHeader

MAKER = "sarco"
_UTF8 = "ISO_IR 192"
_TYPE_2 = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip  # have to be there, may be empty (PS3.3 C.7.1.1, C.7.2.1)
_SEXES = ("M", "F", "O", "")
_CHECKED_VRS = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI"})
_OLD_DATE = re.compile(r"(\d{4})\.(\d\d)\.(\d\d)")  # of ACR-NEMA; PS3.5 section 6.2 wants readers to take it
_LARGEST_SERIES_NUMBER = 10**7  # beyond it a hundredfold fits no IS any more


@dataclass(frozen=True)
class Origin:
    """Who made a result, and when.

    Attributes:
        run_id: the run, or several with + between them; empty where the label map comes from elsewhere.
        checkpoint_sha256: of its checkpoint, or of the hashes of several; empty likewise.
        created: date and time that the objects carry.
    """

    run_id: str = ""
    checkpoint_sha256: str = ""
    created: datetime = field(default_factory=datetime.now)

    def describe(self) -> str:
        """The origin in a few words."""
        if self.notice:
            return f"sarco {sarco.__version__}, {self.notice}"
        return f"sarco {sarco.__version__}" + (f", run {self.run_id}" if self.run_id else "")

    @property
    def notice(self) -> str:
        """What has to be said of the network; empty for a person's own."""
        return notice_of(self.run_id)

    def parameters(self) -> dict[str, str]:
        """What an algorithm's identification says of it."""
        said = {"run_id": self.run_id, "checkpoint_sha256": self.checkpoint_sha256, "notice": self.notice}
        return {key: value for key, value in said.items() if value}


@dataclass(frozen=True)
class Source:
    """A series with its complete headers, made fit to be carried into results.

    Attributes:
        series: where slices lie.
        headers: for each of its slices the whole header, without pixels; text is Unicode, and what PS3.3 wants to be
            there at least empty is there. Each says that it is a CT image, because highdicom knows no private classes.
        sop_classes: what each really is: SOPClassUID by SOPInstanceUID.
    """

    series: Series
    headers: tuple[pydicom.Dataset, ...]
    sop_classes: Mapping[str, str] = field(default_factory=dict)

    @property
    def first(self) -> pydicom.Dataset:
        """The header that patient and study are taken from."""
        return self.headers[0]


def require_highdicom() -> None:
    """Looks for the extra that DICOM results need.

    Raises:
        OptionError: it is not installed.
    """
    if importlib.util.find_spec("highdicom") is None:
        raise OptionError(
            "DICOM results need the package highdicom; pip install highdicom, or leave out "
            "--dicom_seg, --dicom_sr and --dicom_sc"
        )


def read_source(series: Series) -> Source:
    """Reads what results carry over from a series and refer to.

    Patient and study attributes whose values are no valid DICOM are left empty. A series without FrameOfReferenceUID
    (many anonymised ones) gets a stand-in of its own: a series has one frame of reference, and no other series has this
    one. Cheap enough to be called before the prediction, so that nobody waits for a result that cannot be written.

    Args:
        series: its slices have to be at hand.

    Raises:
        InputError: the series is no DICOM, is multi-frame, lacks a UID, or its slices belong to several studies,
            patients or frames of reference. Values are never named.
    """
    headers = tuple(_read_header(header) for header in series.slices)
    for header, slice_header in zip(headers, series.slices, strict=True):
        for tag in ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID"):
            if not header.get(tag):
                raise InputError(
                    f"{slice_header.path}: {tag} is missing or invalid, so a DICOM result cannot refer to the slice; "
                    "export the series with it, or leave out the DICOM results"
                )
        for tag in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
            if (header.get(tag) or "") != (headers[0].get(tag) or ""):
                raise InputError(
                    f"{slice_header.path}: {tag} is not that of {series.slices[0].path}, so one DICOM result cannot "
                    "hold both; keep the slices of one scan in the folder, or leave out the DICOM results"
                )
    for header, slice_header in zip(headers, series.slices, strict=True):
        _lay_on_grid(header, slice_header, series.slices[0])
        if not header.get("FrameOfReferenceUID"):
            header.FrameOfReferenceUID = stable_uid("frame of reference", header.SeriesInstanceUID)
        thickness_mm = quiet_number(header, "SliceThickness") or 0.0
        header.SliceThickness = as_ds(thickness_mm if thickness_mm > 0 else step_mm(series))  # a segmentation needs one
    by_uid: dict[str, Path] = {}
    for header, slice_header in zip(headers, series.slices, strict=True):
        other = by_uid.setdefault(str(header.SOPInstanceUID), slice_header.path)
        if other != slice_header.path:
            raise InputError(
                f"{slice_header.path}: has the SOPInstanceUID of {other}, so a DICOM result cannot tell them apart; "
                "export the series again, or leave out the DICOM results"
            )
    sop_classes = {str(header.SOPInstanceUID): str(header.SOPClassUID) for header in headers}
    for header in headers:
        header.SOPClassUID = CTImageStorage
    return Source(series, headers, sop_classes)


def step_mm(series: Series) -> float:
    """Distance between neighbouring planes along their normal."""
    row_mm, column_mm, _ = spacing_mm(series.affine_lps)
    return voxel_volume_mm3(series.affine_lps) / (row_mm * column_mm)


def _lay_on_grid(dataset: pydicom.Dataset, header: SliceHeader, first: SliceHeader) -> None:
    """Says where a slice lies as sarco understood it, whatever way it was written.

    Spacing and orientation are those of the first slice: a series has one of each, and rounding may differ by slice.
    """
    dataset.ImagePositionPatient = [as_ds(value) for value in header.position]
    dataset.ImageOrientationPatient = [as_ds(value) for value in first.orientation]
    dataset.PixelSpacing = [as_ds(value) for value in first.spacing_mm]


def as_ds(number: float) -> DSfloat:
    """A number as a decimal string of DICOM, with as many digits as its 16 characters hold."""
    return DSfloat(float(number), auto_format=True)


def _read_header(header: SliceHeader) -> pydicom.Dataset:
    """The one place that knows how a slice lies in its file: here, alone."""
    path = header.path
    try:
        readable = is_dicom(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); put the slice back") from None
    if not readable:
        raise InputError(f"{path}: is no DICOM file; leave out the DICOM results, which refer to DICOM slices")
    try:
        with quiet():
            dataset = open_dataset(path, stop_before_pixels=True)
            charsets = charsets_of(dataset)
            is_doubtful = Tag("PatientID") in doubtful_texts(dataset, charsets)
            had_patient_id = bool(dataset.get("PatientID"))
            _make_fit(dataset, charsets)
            frames = int(dataset.get("NumberOfFrames") or 1)
    except InputError:
        raise
    except Exception as error:  # a damaged file makes pydicom raise nearly anything; what it says may hold names
        raise InputError(f"{path}: its header is damaged ({type(error).__name__}); export the slice again") from None
    if frames > 1:
        raise InputError(
            f"{path}: holds {frames} frames; DICOM results need one file a slice, so leave out --dicom_seg, --dicom_sr "
            "and --dicom_sc"
        )
    for tag, value in (
        ("SOPInstanceUID", header.sop_uid),
        ("SOPClassUID", dataset.file_meta.get("MediaStorageSOPClassUID")),
    ):
        if not dataset.get(tag) and value:
            setattr(dataset, tag, str(value))
    if is_doubtful:
        raise InputError(
            f"{path}: PatientID holds letters that its SpecificCharacterSet does not allow, so a DICOM result could "
            "name another patient; correct SpecificCharacterSet, or leave out the DICOM results"
        )
    if had_patient_id and not dataset.get("PatientID"):  # an emptied one would be another's
        raise InputError(f"{path}: PatientID is no valid DICOM text, and nothing else may stand there; correct the tag")
    return dataset


def _make_fit(dataset: pydicom.Dataset, charsets: Sequence[str]) -> None:
    """Takes out or mends what is no valid DICOM, and adds what may be empty but not absent."""
    _mend(dataset, charsets)
    dataset.decode()
    if dataset.get("PatientSex", "") not in _SEXES:
        dataset.PatientSex = ""
    for tag in _TYPE_2:
        if dataset.get(tag) is None:
            setattr(dataset, tag, "")
    dataset.SpecificCharacterSet = _UTF8


def _mend(dataset: pydicom.Dataset, outer: Sequence[str]) -> None:
    """Leaves what is certain and valid: numbers are written as DICOM has them, all else that is not goes.

    Args:
        dataset: as it was read, or an item of its sequences.
        outer: the character sets around it.
    """
    charsets = charsets_of(dataset, outer)
    for tag in doubtful_texts(dataset, charsets):
        del dataset[tag]
    for tag in list(dataset.keys()):
        if tag.is_private:
            del dataset[tag]
            continue
        try:
            element = dataset[tag]
            if element.VR == "SQ":
                for item in element.value:
                    _mend(item, charsets)
            elif element.VR in _CHECKED_VRS and not _is_valid(element):
                element.value = _mended(element)
        except Exception:  # on a damaged element pydicom raises nearly anything
            del dataset[tag]


def _is_valid(element: pydicom.DataElement) -> bool:
    try:
        for value in element.value if element.VM > 1 else [element.value]:
            validate_value(element.VR, "" if value is None else str(value), RAISE)
    except ValueError:
        return False
    return True


def _mended(element: pydicom.DataElement) -> Any:
    """The value as DICOM writes it, where what is meant is beyond doubt.

    Raises:
        ValueError: it is not.
    """
    values = list(element.value) if element.VM > 1 else [element.value]
    if element.VR == "DS":
        mended: list[Any] = [as_ds(float(value)) for value in values]
    elif element.VR == "IS":
        mended = [_whole(float(value)) for value in values]
    elif element.VR == "UI" and all(re.fullmatch(r"\d+(\.\d+)*", value) and len(value) <= 64 for value in values):
        mended = values  # leading zeros, which are forbidden; but archives know the object by this very UID
    elif element.VR == "DA":
        mended = ["".join(_OLD_DATE.fullmatch(value).groups()) for value in values]  # type: ignore[union-attr]
    else:
        raise ValueError("cannot be mended")
    return mended if element.VM > 1 else mended[0]


def _whole(number: float) -> int:
    if not number.is_integer():
        raise ValueError("not a whole number")
    return int(number)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps pydicom and highdicom from repeating names and birth dates in warnings and logs."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def fingerprint(array: NDArray[np.uint8]) -> str:
    """A hash of shape and values of an array."""
    content = np.ascontiguousarray(array)
    return hashlib.sha256(repr((content.shape, content.dtype.str)).encode() + content.tobytes()).hexdigest()


def stable_uid(*parts: object) -> str:
    """A UID that is the same wherever its parts are, and another one where any of them differs."""
    digest = hashlib.sha256(repr(tuple(map(str, parts))).encode()).hexdigest()
    return str(generate_uid(entropy_srcs=[digest]))


def identity(source: Source, origin: Origin, kind: str, place: int, content: object) -> dict[str, Any]:
    """Keyword arguments that say what an object is, as every class of highdicom takes them.

    UIDs are hashes of series, checkpoint, version, kind and content: whoever predicts again gets the same object, and
    an archive keeps one of it.

    Args:
        source: what it is made from.
        origin: who made it.
        kind: what it is, in words; also the description of its series.
        place: 1, 2, 3...: makes the SeriesNumber, which is for people.
        content: a fingerprint of what it holds.
    """
    parts = (source.series.uid, origin.checkpoint_sha256, origin.run_id, sarco.__version__, kind)
    number = source.series.slices[0].number or 0
    return {
        "series_instance_uid": stable_uid("series", *parts, content),
        "sop_instance_uid": stable_uid("instance", *parts, content),
        "series_number": (number if 0 < number < _LARGEST_SERIES_NUMBER else 0) * 100 + 90 + place,
        "instance_number": 1,
        "manufacturer": MAKER,
        "manufacturer_model_name": MAKER,
        "software_versions": sarco.__version__,
        "device_serial_number": origin.checkpoint_sha256 or "none",
        "series_description": f"{MAKER} {kind}",
        "content_date": origin.created.date(),
        "content_time": origin.created.time(),
        "specific_character_set": _UTF8,
    }


def name_sop_classes(dataset: pydicom.Dataset, source: Source) -> None:
    """Says of each slice that an object refers to what it really is."""
    for element in dataset:
        for item in element.value if element.VR == "SQ" else ():
            if sop_class := source.sop_classes.get(str(item.get("ReferencedSOPInstanceUID"))):
                item.ReferencedSOPClassUID = sop_class
            name_sop_classes(item, source)


def date_of_creation(dataset: pydicom.Dataset, origin: Origin) -> None:
    """Dates an object as its origin says."""
    dataset.InstanceCreationDate = origin.created.strftime("%Y%m%d")
    dataset.InstanceCreationTime = origin.created.strftime("%H%M%S.%f")
    for equipment in dataset.get("ContributingEquipmentSequence", []):
        if equipment.get("ContributionDescription", "").startswith("Software library"):  # not the scanner's
            equipment.ContributionDateTime = origin.created.strftime("%Y%m%d%H%M%S.%f")
