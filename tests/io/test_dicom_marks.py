"""What tells people and scans apart: the same however it is spelled, and never to be read."""

import pytest
from dicom_parts import data_set

from sarco.io.dicom_marks import marks_of


@pytest.mark.parametrize(
    ("tag", "one", "other"),
    [
        ("PatientName", "Doe^Jane", "DOE^JANE "),
        ("PatientName", "Doe^Jane", "Doe^Jane^^^"),
        ("PatientName", "Doe^Jane", "doe jane"),
        ("PatientName", "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce", "Yamada^Tarou"),
        ("PatientBirthDate", "19500704", "1950.07.04"),
        ("PatientSex", "F", "f"),
        ("AcquisitionNumber", "1", "01"),
        ("SliceThickness", "1.25", "1.250000"),
        ("AcquisitionTime", "101500", "101500.000"),
    ],
)
def test_other_spelling_is_no_other_person(tag: str, one: str, other: str) -> None:
    """Catches a refusal of a series whose files were written by two programs."""
    assert marks_of(data_set(**{tag: one})) == marks_of(data_set(**{tag: other}))


@pytest.mark.parametrize(
    ("tag", "one", "other"),
    [
        ("PatientName", "Doe^Jane", "Doe^Janet"),
        ("PatientName", "\u5c71\u7530^\u592a\u90ce", "\u5c71\u7530^\u6b21\u90ce"),
        ("PatientBirthDate", "19500704", "19500705"),
        ("PatientSex", "F", "M"),
        ("StudyDate", "20200101", "20200102"),
        ("ConvolutionKernel", "B30f", "B60f"),
        ("AcquisitionTime", "101500.25", "101500.5"),
    ],
)
def test_another_value_is_another_mark(tag: str, one: str, other: str) -> None:
    """Catches two people who count as one."""
    assert marks_of(data_set(**{tag: one})) != marks_of(data_set(**{tag: other}))


def test_marks_say_nothing_of_the_person() -> None:
    """Catches a name or a birth date that ends in a message or a log."""
    marks = marks_of(data_set(PatientName="Doe^Jane", PatientBirthDate="19500704", PatientSex=""))
    assert [tag for tag, _ in marks] == ["PatientName", "PatientBirthDate"]
    assert not any(word in str(marks).lower() for word in ("doe", "jane", "1950"))
