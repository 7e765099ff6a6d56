"""Single tags: values as pydicom has them, whichever short cut is taken."""

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from sarco.io.dicom_tags import value_of


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
