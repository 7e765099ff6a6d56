"""The secondary capture: the picture pixel by pixel, in the patient's study, with its directions."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest

from sarco.io.dicom import find_series
from sarco.pacs.sc import patient_orientation, write_picture
from sarco.pacs.source import Origin, read_source
from sarco.phantom.patient import Phantom

pytest.importorskip("highdicom", reason="highdicom is not installed")

ORIGIN = Origin("run1", "a" * 64, datetime(2024, 5, 6, 7, 8, 9))
PICTURE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)  # an odd number of bytes


def test_the_picture_is_kept_and_belongs_to_the_study(
    phantoms: dict[str, Phantom], series_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """Catches swapped colours, lost pixels, and a picture that an archive files elsewhere."""
    source = read_source(find_series(series_folder(phantoms["anisotropic"])).series[0])
    write_picture(tmp_path / "overlay.dcm", source, PICTURE, ORIGIN)
    stored, original = pydicom.dcmread(tmp_path / "overlay.dcm"), pydicom.dcmread(source.series.slices[0].path)
    np.testing.assert_array_equal(stored.pixel_array, PICTURE)
    for tag in ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate", "PatientAge"):
        assert stored[tag].value == original[tag].value
    assert {item.ReferencedSOPInstanceUID for item in stored.SourceImageSequence} == {
        header.sop_uid for header in source.series.slices
    }
    assert stored.DateOfSecondaryCapture == "20240506"


def test_the_same_picture_is_the_same_file(
    phantoms: dict[str, Phantom], series_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """Catches UIDs that change from run to run, or that two pictures share."""
    source = read_source(find_series(series_folder(phantoms["anisotropic"])).series[0])
    one, two, other = (
        write_picture(tmp_path / name, source, picture, ORIGIN)
        for name, picture in (("one.dcm", PICTURE), ("two.dcm", PICTURE), ("other.dcm", PICTURE[::-1]))
    )
    assert (tmp_path / "one.dcm").read_bytes() == (tmp_path / "two.dcm").read_bytes()
    assert one.SOPInstanceUID == two.SOPInstanceUID != other.SOPInstanceUID


@pytest.mark.parametrize(
    ("geometry", "expected"),
    [
        ("axial", ("L", "P")),
        ("feet first", ("L", "P")),
        ("prone", ("L", "P")),
        ("coronal", ("L", "F")),
        ("sagittal", ("P", "F")),
    ],
)
def test_directions_are_those_of_the_radiological_view(
    turned_phantoms: dict[str, Phantom], geometry: str, expected: tuple[str, str]
) -> None:
    """Catches left for right in the header of a picture that shows them right."""
    assert patient_orientation(turned_phantoms[geometry].affine_lps) == expected
