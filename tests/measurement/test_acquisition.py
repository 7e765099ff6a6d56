"""What stands beside a density, read from data sets that are whole, empty or damaged."""

import warnings
from pathlib import Path

import pydicom
import pytest
from dicom_parts import data_set
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from sarco.measurement.acquisition import acquisition_of, describe_contrast


def test_what_a_scanner_writes() -> None:
    """Catches a kernel with two parts, as scanners write it, that comes out as a list or as its first part."""
    found = acquisition_of(
        data_set(
            ContrastBolusAgent="Imeron 350", ContrastBolusRoute="IV", KVP="100", ConvolutionKernel=["Br38f", "3"],
            SliceThickness="5", GantryDetectorTilt="-12.5",
            SeriesDescription="Abdomen venous", Manufacturer="X", ManufacturerModelName="Y",
        )
    )  # fmt: skip
    assert found == {
        "contrast": True, "contrast_agent": "Imeron 350", "contrast_route": "IV", "kvp": 100.0, "kernel": "Br38f 3",
        "slice_thickness_mm": 5.0, "gantry_tilt_deg": -12.5,
        "series_description": "Abdomen venous", "manufacturer": "X", "model": "Y",
    }  # fmt: skip


def test_silence_about_contrast_is_not_its_absence() -> None:
    """Catches a missing tag read as "no contrast": many sites never fill it in."""
    found = acquisition_of(Dataset())
    assert found["contrast"] is None
    assert set(found.values()) == {None}
    assert acquisition_of(data_set(ContrastBolusAgent=""))["contrast"] is None


@pytest.mark.parametrize("agent", ["NONE", "no", "Without", "nein"])
def test_a_tag_that_says_none_means_none(agent: str) -> None:
    """Catches contrast that is there because the word "none" is."""
    assert acquisition_of(data_set(ContrastBolusAgent=agent))["contrast"] is False


def test_contrast_may_stand_elsewhere() -> None:
    """Catches contrast overlooked where only the sequence or the route is filled in."""
    assert acquisition_of(data_set(ContrastBolusAgentSequence=Sequence([Dataset()])))["contrast"] is True
    assert acquisition_of(data_set(ContrastBolusRoute="INTRAVENOUS"))["contrast"] is True


def test_damaged_tags_say_nothing() -> None:
    """Catches a traceback from a tag that no measurement needs."""
    broken = Dataset()
    for tag, kind, value in ((0x00180060, "DS", b"many"), (0x00180050, "DS", b"-3"), (0x00181210, "SH", b"\xff\x00B")):
        broken[Tag(tag)] = RawDataElement(Tag(tag), kind, len(value), value, 0, False, True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = acquisition_of(broken)
    assert found["kvp"] is None
    assert found["slice_thickness_mm"] is None
    assert "\x00" not in (found["kernel"] or "")


def test_contrast_in_words() -> None:
    """Catches "None" in a table that people read."""
    assert [describe_contrast(state) for state in (True, False, None)] == [
        "contrast given", "no contrast", "contrast not recorded",
    ]  # fmt: skip


def test_real_ct(shared_data: Path) -> None:
    """Catches tags of a real scanner that are not understood."""
    found = acquisition_of(pydicom.dcmread(next((shared_data / "series_b" / "B").iterdir()), stop_before_pixels=True))
    assert (found["contrast"], found["kvp"], found["kernel"], found["slice_thickness_mm"]) == (True, 120, "Br38f 3", 3)
