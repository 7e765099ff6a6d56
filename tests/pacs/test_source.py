"""What results take from their source: patients' attributes complete and private, UIDs stable, faults in one line."""

import ast
import dataclasses
import importlib.util
import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from sarco.core.attempts import Attempts
from sarco.core.errors import InputError, OptionError
from sarco.io.dicom import find_series
from sarco.pacs import source as dicom_source
from sarco.pacs.objects import Wanted, write_dicom_results
from sarco.pacs.source import Origin, fingerprint, identity, quiet, read_source, require_highdicom, stable_uid
from sarco.phantom.patient import Phantom
from sarco.scan.labels import LabelTable
from sarco.scan.series import Series

ORIGIN = Origin("run1", "a" * 64, datetime(2024, 5, 6, 7, 8, 9))  # DICOM's dates have no zone
SECRET = "Geheim"

Change = Callable[[pydicom.Dataset], object]


@pytest.fixture
def changed_series(phantoms: dict[str, Phantom], series_folder: Callable[..., Path]) -> Callable[..., Series]:
    """A series whose header `change` altered after it was found, in all files or in the first `count`."""

    def make(change: Change, count: int = 5, again: bool = True) -> Series:
        folder = series_folder(phantoms["anisotropic"])
        series = find_series(folder).series[0]
        for header in series.slices[:count]:
            with quiet():
                dataset = pydicom.dcmread(header.path)
                change(dataset)
                dataset.save_as(header.path)
        return find_series(folder).series[0] if again else series

    return make


def assert_private(text: str) -> None:
    """Neither a name nor a birth date, and a single line."""
    assert SECRET not in text
    assert "1950" not in text
    assert len(text.splitlines()) == 1


def test_a_missing_extra_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an ImportError in place of the command that helps."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"pip install highdicom") as caught:
        require_highdicom()
    assert len(str(caught.value).splitlines()) == 1


def test_nobody_imports_the_extra_before_it_is_needed() -> None:
    """Catches a sarco that does not start where highdicom is not installed."""
    inside = 0
    for path in Path(dicom_source.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        at_top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not [line for line in map(ast.unparse, at_top) if line.split()[1].startswith("highdicom")], path
        inside += sum(
            isinstance(node, ast.ImportFrom) and "highdicom" in (node.module or "") for node in ast.walk(tree)
        )
    assert inside > 5


def test_absent_attributes_come_back_empty(changed_series: Callable[..., Series]) -> None:
    """Catches anonymised series without type 2 attributes, which archives refuse."""
    tags = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
            "StudyTime", "ReferringPhysicianName")  # fmt: skip

    def strip(dataset: pydicom.Dataset) -> None:
        for tag in tags:
            del dataset[tag]

    first = read_source(changed_series(strip)).first
    assert [str(first[tag].value or "") for tag in tags] == [""] * 9


def test_invalid_attributes_are_left_out_and_not_talked_about(
    changed_series: Callable[..., Series], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Catches a crash on values that scanners really write, and a name or birth date that a library warns about."""

    def spoil(dataset: pydicom.Dataset) -> None:
        dataset.PatientSex, dataset.PatientBirthDate, dataset.StudyTime = "female", "1.2.1950", "25 o'clock"
        dataset.PatientName, dataset.PatientAge = f"{SECRET}=a=b=c=d", "sixty"
        dataset.add_new(0x00091001, "LO", SECRET)
        item = pydicom.Dataset()
        item.PatientID, item.TypeOfPatientID = "ok", "not a code string!"
        dataset.OtherPatientIDsSequence = [item]

    caplog.set_level(logging.DEBUG)
    series = changed_series(spoil)
    caplog.clear()
    first = read_source(series).first
    assert [str(first[tag].value or "") for tag in ("PatientSex", "PatientBirthDate", "StudyTime")] == ["", "", ""]
    assert "PatientAge" not in first
    assert 0x00091001 not in first
    assert [element.keyword for element in first.OtherPatientIDsSequence[0]] == ["PatientID"]
    said = caplog.text + "".join(capfd.readouterr())
    assert SECRET not in said
    assert "1950" not in said


@pytest.mark.parametrize(
    ("character_set", "name"),
    [("ISO_IR 100", "Müller^Zoë"), ("ISO_IR 192", "Şahin^Çağla"), (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎")],
)
def test_names_survive_in_unicode(changed_series: Callable[..., Series], character_set: str, name: str) -> None:
    """Catches a name that turns into question marks between the source's character set and ours."""

    def rename(dataset: pydicom.Dataset) -> None:
        dataset.SpecificCharacterSet, dataset.PatientName = character_set, name

    first = read_source(changed_series(rename)).first
    assert first.PatientName == name
    assert first.SpecificCharacterSet == "ISO_IR 192"


@pytest.mark.parametrize("tag", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_a_missing_uid_is_one_clear_error(changed_series: Callable[..., Series], tag: str) -> None:
    """Catches a result that refers to nothing, or lies in no frame of reference."""
    series = changed_series(lambda dataset: delattr(dataset, tag))
    with pytest.raises(InputError, match=tag) as caught:
        read_source(series)
    assert_private(str(caught.value))


def test_half_a_frame_of_reference_is_an_error(changed_series: Callable[..., Series]) -> None:
    """Catches slices of an unknown place that are laid beside those of a known one."""
    with pytest.raises(InputError, match="FrameOfReferenceUID is not that of"):
        read_source(changed_series(lambda dataset: delattr(dataset, "FrameOfReferenceUID"), count=2, again=False))


@pytest.mark.parametrize("value", [None, ""])
def test_a_stand_in_is_one_of_the_series_alone(changed_series: Callable[..., Series], value: str | None) -> None:
    """Catches a frame of reference that two series share though nobody said so."""
    source = read_source(changed_series(lambda dataset: setattr(dataset, "FrameOfReferenceUID", value)))
    (uid,) = {str(header.FrameOfReferenceUID) for header in source.headers}
    assert pydicom.uid.UID(uid).is_valid
    assert uid == stable_uid("frame of reference", source.series.uid)


def test_an_empty_sop_instance_uid_is_taken_from_the_file(changed_series: Callable[..., Series]) -> None:
    """Catches references that differ from what `prediction.json` says."""
    series = changed_series(lambda dataset: delattr(dataset, "SOPInstanceUID"))
    uids = [str(header.SOPInstanceUID) for header in read_source(series).headers]
    assert uids == [header.sop_uid for header in series.slices]
    assert len(set(uids)) == 5


@pytest.mark.parametrize("tag", ["PatientID", "StudyInstanceUID", "FrameOfReferenceUID"])
def test_slices_of_two_scans_do_not_become_one_result(changed_series: Callable[..., Series], tag: str) -> None:
    """Catches one patient's slices in another's segmentation."""
    series = changed_series(lambda dataset: setattr(dataset, tag, "1.2.1950"), count=2, again=False)
    with pytest.raises(InputError, match=f"{tag} is not that of") as caught:
        read_source(series)
    assert_private(str(caught.value))


def test_a_patient_id_that_cannot_be_kept_is_an_error(changed_series: Callable[..., Series]) -> None:
    """Catches a result that silently loses its patient, and an ID in a message."""
    series = changed_series(lambda dataset: setattr(dataset, "PatientID", SECRET * 20))
    with pytest.raises(InputError, match="PatientID") as caught:
        read_source(series)
    assert_private(str(caught.value))


def test_two_slices_with_one_uid_are_refused(changed_series: Callable[..., Series]) -> None:
    """Catches frames that refer to the wrong one of two slices."""
    series = changed_series(lambda dataset: setattr(dataset, "SOPInstanceUID", "1.2.3"), count=2, again=False)
    with pytest.raises(InputError, match="SOPInstanceUID"):
        read_source(series)


def test_what_is_no_single_frame_dicom_is_refused(changed_series: Callable[..., Series], tmp_path: Path) -> None:
    """Catches a traceback where NIfTI, multi-frame files or lost files are to be referred to."""
    series = changed_series(lambda dataset: setattr(dataset, "NumberOfFrames", 3), count=1, again=False)
    with pytest.raises(InputError, match="3 frames"):
        read_source(series)
    nifti = tmp_path / "scan.nii.gz"
    nifti.write_bytes(b"\x1f\x8b" + bytes(300))
    for path, reason in ((nifti, "is no DICOM file"), (tmp_path / "gone.dcm", "cannot be read")):
        elsewhere = dataclasses.replace(series, slices=(dataclasses.replace(series.slices[0], path=path),))
        with pytest.raises(InputError, match=reason) as caught:
            read_source(elsewhere)
        assert_private(str(caught.value))


def test_uids_repeat_and_tell_apart(phantoms: dict[str, Phantom], series_folder: Callable[..., Path]) -> None:
    """Catches UIDs that change from run to run, or that two different results share."""
    source = read_source(find_series(series_folder(phantoms["anisotropic"])).series[0])
    one = identity(source, ORIGIN, "segmentation", 1, "content")
    assert one == identity(source, Origin("run1", "a" * 64, ORIGIN.created), "segmentation", 1, "content")
    others = [
        identity(source, dataclasses.replace(ORIGIN, checkpoint_sha256="b" * 64), "segmentation", 1, "content"),
        identity(source, ORIGIN, "report", 1, "content"),
        identity(source, ORIGIN, "segmentation", 1, "other content"),
        identity(
            dataclasses.replace(source, series=dataclasses.replace(source.series, uid="1.2")),
            ORIGIN, "segmentation", 1, "content",
        ),
    ]  # fmt: skip
    uids = [(who["sop_instance_uid"], who["series_instance_uid"]) for who in (one, *others)]
    assert len({uid for pair in uids for uid in pair}) == 10
    assert all(pydicom.uid.UID(uid).is_valid for pair in uids for uid in pair)
    assert stable_uid("a", "bc") != stable_uid("ab", "c")


def test_a_fingerprint_knows_shape_and_order() -> None:
    """Catches two label maps of equal bytes that count as one."""
    volume = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert fingerprint(volume) == fingerprint(np.asfortranarray(volume))
    assert len({fingerprint(v) for v in (volume, volume.reshape(3, 2, 4), volume[::-1])}) == 3


def with_bytes(series_folder: Callable[..., Path], phantom: Phantom, charset: str | None, content: bytes) -> Series:
    """A series whose PatientID is these very bytes, which pydicom would not write."""
    folder = series_folder(phantom)
    mark = b"@" * (len(content) + len(content) % 2)
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.pop("SpecificCharacterSet", None)
        if charset:
            dataset.SpecificCharacterSet = charset.split("\\")
        dataset.PatientID = mark.decode()
        dataset.save_as(path)
        path.write_bytes(path.read_bytes().replace(mark, content.ljust(len(mark))))
    return find_series(folder).series[0]


@pytest.mark.parametrize(
    ("charset", "content"),
    [
        ("ISO_IR 192", "Geheim\u00fc".encode("latin-1")),
        (None, "Geheim\u00fc".encode()),
        ("ISO_IR 100", "Geheim\u00fc".encode()),
        ("ISO_IR 100", b"Geheim\x93"),
        ("LATIN", "Geheim\u00fc".encode("latin-1")),
    ],
)
@pytest.mark.filterwarnings("ignore")  # pydicom's remarks about what is wrong on purpose
def test_an_id_that_is_not_certain_is_refused(
    charset: str | None, content: bytes, series_folder: Callable[..., Path], phantoms: dict[str, Phantom]
) -> None:
    """Catches two people whose IDs differ in a letter that turns into the same one, and the ID in a message."""
    with pytest.raises(InputError, match="PatientID holds letters") as caught:
        read_source(with_bytes(series_folder, phantoms["anisotropic"], charset, content))
    assert_private(str(caught.value))


@pytest.mark.parametrize(
    ("charset", "content", "expected"),
    [
        ("ISO_IR 100", "M\u00fcller".encode("latin-1"), "M\u00fcller"),
        ("ISO_IR 192", "\u5c71\u75301".encode(), "\u5c71\u75301"),
        ("\\ISO 2022 IR 87", b"\x1b$B;3ED\x1b(B1", "\u5c71\u75301"),
        ("ISO_IR 144", "\u0418\u0432\u0430\u043d".encode("iso8859-5"), "\u0418\u0432\u0430\u043d"),
        (None, b"000123", "000123"),
        (None, b"P12\0", "P12"),
        (None, b"A.B/1 2  ", "A.B/1 2"),
    ],
)
def test_an_id_that_is_certain_comes_through(
    charset: str | None, content: bytes, expected: str, series_folder: Callable[..., Path], phantoms: dict[str, Phantom]
) -> None:
    """Catches leading zeros, padding or another script that makes a different ID of it."""
    assert read_source(with_bytes(series_folder, phantoms["anisotropic"], charset, content)).first.PatientID == expected


def raw(tag: str, value: bytes) -> Change:
    """Stores the very bytes, valid or not."""

    def change(dataset: pydicom.Dataset) -> None:
        known = Tag(tag)
        dataset[known] = RawDataElement(known, dictionary_VR(known), len(value), value, 0, False, True)

    return change


@pytest.mark.parametrize(
    ("tag", "value", "expected"),
    [
        ("KVP", b"120,0 ", None),
        ("KVP", b"120.00000000000000001 ", 120),
        ("SliceThickness", b"6.000000000000000000001 ", 6),
        ("SeriesNumber", b"3.0 ", 3),
        ("InstanceNumber", b"1.5 ", None),
        ("StudyDate", b"2020.01.31", "20200131"),
        ("StudyDate", b"31/01/2020", ""),
        ("PatientWeight", b"70,5", None),
        ("StudyInstanceUID", b"1.2.03.4", "1.2.03.4"),
        ("FrameOfReferenceUID", b"1.2.03.4", "1.2.03.4"),
    ],
)
def test_numbers_and_dates_are_mended_or_left_out(
    tag: str, value: bytes, expected: object, changed_series: Callable[..., Series]
) -> None:
    """Catches a series refused or results lost for a long number or a comma in a tag that nobody needs."""
    first = read_source(changed_series(raw(tag, value))).first
    assert first.get(tag) == expected


def test_where_slices_lie_is_said_as_it_was_understood(changed_series: Callable[..., Series]) -> None:
    """Catches positions deleted for being too long, and slices whose directions differ in the fifth decimal."""
    number = 0

    def spoil(dataset: pydicom.Dataset) -> None:
        nonlocal number
        number += 1
        position = "\\".join(f"{float(value):.17f}" for value in dataset.ImagePositionPatient)
        raw("ImagePositionPatient", position.encode())(dataset)
        raw("ImageOrientationPatient", f"1\\{number}e-5\\-1.2246467991473532e-16\\-{number}e-5\\1\\0".encode())(dataset)
        raw("PixelSpacing", b"3.10000000000000012\\3.39999999999999997")(dataset)

    series = changed_series(spoil)
    headers = read_source(series).headers
    assert len({str(header.ImageOrientationPatient) for header in headers}) == 1
    for header, slice_header in zip(headers, series.slices, strict=True):
        assert np.allclose([float(value) for value in header.ImagePositionPatient], slice_header.position, atol=1e-9)
        assert np.allclose([float(value) for value in header.PixelSpacing], (3.1, 3.4))
        for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            assert all(len(str(value)) <= 16 for value in header[tag].value)


def test_a_private_class_is_referred_to_as_what_it_is(changed_series: Callable[..., Series], tmp_path: Path) -> None:
    """Catches a KeyError after the prediction, and references that an archive cannot follow."""
    pytest.importorskip("highdicom")
    private = "1.3.12.2.1107.5.9.1"
    source = read_source(changed_series(lambda dataset: setattr(dataset, "SOPClassUID", private)))
    label_map = np.ones(source.series.shape, dtype=np.uint8)
    labels, wanted = LabelTable({1: "psoas"}), Wanted(True, True, True)
    whole, picture = [{"id": 1, "volume_ml": 1.0, "mean_hu": 2.0}], np.zeros((8, 8, 3), np.uint8)
    attempts = Attempts()
    written = write_dicom_results(
        tmp_path, source, wanted, label_map, labels, ORIGIN, attempts, whole=whole, picture=picture
    )
    assert attempts.failures == [] and len(written) == 3
    slices = {str(header.SOPInstanceUID) for header in source.headers}
    for path in written:
        found = [
            str(item.ReferencedSOPClassUID)
            for element in pydicom.dcmread(path).iterall()
            if element.VR == "SQ"
            for item in element.value
            if item.get("ReferencedSOPInstanceUID") in slices
        ]
        assert set(found) == {private}, path
