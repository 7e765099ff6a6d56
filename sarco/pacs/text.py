"""Text of DICOM headers whose bytes may not be what their character set says.

A wrong letter in a PatientID makes another patient of it, so text counts only where nobody can doubt which it is.
"""

from collections.abc import Sequence

import pydicom
from pydicom.charset import convert_encodings, decode_bytes, python_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

_TEXTS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})  # value representations that have a character set
_DELIMITERS = frozenset(
    {0x0D, 0x0A, 0x09, 0x0C, 0x5C, 0x5E, 0x3D}
)  # after which ISO 2022 starts anew (PS3.5 6.1.2.5.3)
_ASCII = ("", "ISO_IR 6", "ISO 2022 IR 6")
_WIDE = ("ISO_IR 192", "GB18030", "GBK", "ISO 2022 GBK", "ISO 2022 GB18030", "ISO 2022 IR 58")  # of several bytes


def doubtful_texts(dataset: pydicom.Dataset, charsets: Sequence[str]) -> list[BaseTag]:
    """Tags of a data set, without its sequences, whose text is not certain.

    Args:
        dataset: as it was read; what was decoded already is not looked at.
        charsets: of the data set; see `charsets_of`.
    """
    return [
        tag
        for tag in list(dataset.keys())
        if isinstance(element := dataset.get_item(tag), RawDataElement)
        and element.value
        and _kind_of(element) in _TEXTS
        and not is_certain(element.value, charsets)
    ]


def charsets_of(dataset: pydicom.Dataset, outer: Sequence[str] = ("",)) -> tuple[str, ...]:
    """The character sets that a data set declares; an item of a sequence that declares none has those around it."""
    declared = dataset.get("SpecificCharacterSet")
    if declared is None:
        return tuple(outer)
    return (declared,) if isinstance(declared, str) else tuple(map(str, declared)) or ("",)


def is_certain(content: bytes, charsets: Sequence[str]) -> bool:
    """Whether bytes are text in their character sets, and in no other that is likelier.

    Args:
        content: of an element.
        charsets: as SpecificCharacterSet declares them.
    """
    if max(content, default=0) < 0x80 and b"\x1b" not in content:
        return True
    if any(one not in python_encoding for one in charsets):
        return False
    unescaped = content.partition(b"\x1b")[0]
    if charsets[0] in _ASCII and (len(charsets) == 1 or max(unescaped, default=0) >= 0x80):
        return False
    if charsets[0] not in _WIDE and b"\x1b" not in content and _is_utf8(content):
        return False  # two letters such as A with tilde and a quarter for each letter with an accent
    text = decode_bytes(content, convert_encodings(list(charsets)), set(_DELIMITERS))
    return not any(character == "\ufffd" or 0x7F <= ord(character) < 0xA0 or character == "\x1b" for character in text)


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _kind_of(element: RawDataElement) -> str:
    if element.VR and element.VR != "UN":
        return element.VR
    try:
        return str(dictionary_VR(element.tag))
    except KeyError:
        return ""
