"""Single tags: values as pydicom has them, whichever short cut is taken."""

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from sarco.core.errors import InputError
from sarco.io.dicom_tags import number_of, quiet_number, quiet_text, value_of


@pytest.mark.parametrize("syntax", [pydicom.uid.ExplicitVRLittleEndian, pydicom.uid.ImplicitVRLittleEndian])
def test_values_are_those_of_pydicom_in_every_file(
    slice_file: Callable[..., Path], tmp_path: Path, syntax: str
) -> None:
    """Catches a value that is remembered from another file or tag, or decoded as another kind of value."""
    for rows, spacing in ((2, ["1.5", "0.75"]), (512, ["0.75", "1.5"]), (2, ["1.5", "0.75"])):
        dataset = pydicom.dcmread(slice_file())
        dataset.Rows, dataset.PixelSpacing, dataset.SeriesNumber, dataset.PixelPaddingValue = rows, spacing, "7", 2
        dataset.PatientID, dataset.SpecificCharacterSet = "M\u00fcller", "ISO_IR 192"
        del dataset.PixelData
        dataset.file_meta.TransferSyntaxUID = syntax
        path = tmp_path / "changed.dcm"
        dataset.save_as(path)
        read, expected = (pydicom.dcmread(path, force=True) for _ in range(2))
        keywords = [element.keyword for element in expected if element.keyword]
        assert len(keywords) > 20
        for keyword in keywords:
            found = value_of(path, read, keyword)
            assert found == expected.get(keyword) and type(found) is type(expected.get(keyword)), keyword


def raw(keyword: str, vr: str, value: bytes) -> pydicom.Dataset:
    """A data set with the bytes of an element as they stand in a file."""
    dataset, tag = pydicom.Dataset(), Tag(keyword)
    dataset._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
    return dataset


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (b"5", 5.0),
        (b"5 mm", 5.0),
        (b"1.25MM ", 1.25),
        (b"5\\5 ", 5.0),
        (b"5,0 ", 5.0),
        (b"+2,5e0 mm\\2.5", 2.5),
        (b"5\\3 ", None),
        (b"5\\", None),
        (b"n/a ", None),
        (b"0.5 cm", None),
        (b"1,250,000 ", None),
        (b"nan ", None),
        (b"1e999 ", None),
        (b"", None),
        (b"\xff\xfe", None),
    ],
)
def test_a_number_on_which_nothing_depends_is_read_as_people_would(value: bytes, number: float | None) -> None:
    """Catches a refusal for a unit or a comma, and a number that people would not read there."""
    assert quiet_number(raw("SliceThickness", "DS", value), "SliceThickness") == number
    decoded = pydicom.Dataset()
    decoded.add_new("SliceThickness", "LO", value.decode("latin-1"))
    assert quiet_number(decoded, "SliceThickness") == number
    assert quiet_number(pydicom.Dataset(), "SliceThickness") is None


@pytest.mark.parametrize("value", [b"1\\1 ", b"1,0 ", b"1 mm"])
def test_a_number_that_matters_is_a_number(value: bytes) -> None:
    """Catches a guess where geometry or HU depend on it."""
    with pytest.raises(InputError, match="RescaleSlope"):
        number_of(Path(), raw("RescaleSlope", "DS", value), "RescaleSlope")


@pytest.mark.parametrize(("value", "text"), [(b"HU\\HU ", "HU"), (b"HU\\US ", "['HU', 'US']"), (b"HU", "HU")])
def test_a_text_that_stands_there_twice_is_one(value: bytes, text: str) -> None:
    """Catches a unit that is refused because a program wrote it twice."""
    assert quiet_text(raw("RescaleType", "LO", value), "RescaleType") == text
