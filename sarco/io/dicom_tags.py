"""Opens DICOM files, and reads single tags with suspicion: what is damaged is an `InputError` that names the tag."""

import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.errors import InvalidDicomError
from pydicom.tag import BaseTag, Tag
from pydicom.uid import ImplicitVRLittleEndian

from sarco.core.errors import InputError
from sarco.core.messages import printable, reason_of

_CONTEXT_FREE = {"UI", "DS", "IS", "CS", "US"}  # value representations whose bytes alone say what the value is
_SHORT_BYTES = 256
_ROUGH_NUMBER = re.compile(r"\s*([+-]?\d+(?:[.,]\d+)?(?:e[+-]?\d+)?)\s*(?:mm)?\s*", re.IGNORECASE)


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silences what pydicom remarks on values that do no harm here; what does harm, sarco says itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


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
    uid = pydicom.uid.UID(quiet_text(dataset.file_meta, "TransferSyntaxUID"), pydicom.config.IGNORE)
    return uid.name


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
    if isinstance(value, pydicom.multival.MultiValue) and len(set(map(str, value))) == 1:
        value = value[0]  # several times the same says it once
    return "" if value is None else printable(str(value)).strip()


def quiet_text(dataset: pydicom.Dataset, tag: str) -> str:
    """The same; empty too where the tag is damaged."""
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


def quiet_number(dataset: pydicom.Dataset, tag: str) -> float | None:
    """The number in a tag that nothing depends on; None where people could not agree on it either.

    A unit of mm, a comma in the place of the point, and the same number several times do no harm.
    """
    with suppress(InputError):
        return number_of(Path(), dataset, tag)
    found = [_ROUGH_NUMBER.fullmatch(part) for part in raw_text(dataset, tag).split("\\")]
    numbers = {float(one[1].replace(",", ".")) if one else math.nan for one in found}
    return numbers.pop() if len(numbers) == 1 and all(map(math.isfinite, numbers)) else None


def raw_text(dataset: pydicom.Dataset, tag: str) -> str:
    """What stands in a tag, whatever it may hold; several values are parted by backslashes."""
    try:
        value = dataset.get_item(_tag_of(tag)).value
    except Exception:  # as in `value_of`
        return ""
    if isinstance(value, bytes):
        return value.decode("ascii", "replace").strip("\0 ")
    return "\\".join(map(str, value)) if isinstance(value, (list, pydicom.multival.MultiValue)) else str(value)


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
