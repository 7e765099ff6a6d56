"""Which files are one series: two people, two phases and damaged slices, in one folder and in several."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset

from sarco.core.errors import GeometryError, OtherKindError
from sarco.doctor.cases import SPACING_MM, datasets_of, phantom, save
from sarco.io.dicom import FoundSeries, describe_series, find_series

IDENTITY = ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName")
EMPTY = {**dict.fromkeys(IDENTITY, ""), "SeriesInstanceUID": "", "PatientSex": None, "SeriesDescription": "CT"}
SAME = {**EMPTY, "SeriesInstanceUID": "1.2.3.4", "StudyInstanceUID": "1.2.3", "PatientID": "anonymous"}
STEP_MM = SPACING_MM[2]


def slices(seed: int = 11, steps: float = 0, step_mm: float = STEP_MM, **tags: object) -> list[Dataset]:
    """A phantom's five slices as one person's, this many steps above the others' and on their line."""
    made = datasets_of(phantom(seed), f"person {seed}")
    for number, dataset in enumerate(made):
        dataset.ImagePositionPatient = ["-200", "-160", f"{(number + steps) * step_mm:.3f}"]
        for tag, value in tags.items():
            setattr(dataset, tag, value)
    return made


def found_in(folder: Path, *people: Sequence[Dataset]) -> FoundSeries:
    """What a search finds where slices of all of them lie in one folder."""
    save([one for person in people for one in person], folder)
    return find_series(folder)


def only_reason(found: FoundSeries) -> str:
    """Why the only series is refused, in one line that counts as a failure."""
    assert not found.series
    (reason,) = found.failed
    assert len(str(reason).splitlines()) == 1
    return str(reason)


# --- people in one folder --------------------------------------------------------------------------------------------

OTHERS = {
    "PatientName": ("Doe^Jane", "Roe^Richard"),
    "PatientBirthDate": ("19500704", "19610805"),
    "PatientSex": ("F", "M"),
    "StudyDate": ("20200101", "20210101"),
}


@pytest.mark.parametrize("identity", [EMPTY, SAME], ids=["empty", "same"])
@pytest.mark.parametrize("steps", [5, 7, 0.5])
@pytest.mark.parametrize("tag", OTHERS)
def test_two_people_in_one_folder_are_told_apart_by_any_tag(
    tmp_path: Path, tag: str, steps: float, identity: dict[str, object]
) -> None:
    """Catches two people in one volume, on one line or between each other, and a message that shows who they are."""
    one, other = OTHERS[tag]
    people = [slices(11, **{**identity, tag: one}), slices(12, steps, **{**identity, tag: other})]
    for number, dataset in enumerate(one for person in people for one in person):
        dataset.InstanceNumber = number
    reason = only_reason(found_in(tmp_path, *people))
    assert tag in reason
    assert not any(value in reason for value in (one, other, "anonymous") if len(value) > 1)


def test_a_name_that_changes_midway_is_refused(tmp_path: Path) -> None:
    """Catches a slice of somebody else in the middle of a series."""
    mixed = slices()
    mixed[2].PatientName = "Somebody^Else"
    assert "PatientName" in only_reason(found_in(tmp_path, mixed))


def test_a_name_that_is_spelled_another_way_or_missing_is_the_same(tmp_path: Path) -> None:
    """Catches a refusal of a series of which two programs wrote parts."""
    mixed = slices(PatientName="Doe^Jane", PatientBirthDate="19500704")
    for dataset, name in zip(mixed, ("DOE^JANE", "Doe^Jane^^", "Doe^Jane ", "", "doe^jane=\u5c71"), strict=True):
        dataset.PatientName = name
        dataset.SpecificCharacterSet = "ISO_IR 192"
    mixed[1].PatientBirthDate = ""
    assert len(found_in(tmp_path, mixed).series) == 1


@pytest.mark.parametrize("steps", [5, 6])
def test_numbers_that_start_again_are_two_people(tmp_path: Path, steps: int) -> None:
    """Catches two people in one folder of whom nothing is left that tells them apart."""
    assert "InstanceNumber" in only_reason(found_in(tmp_path, slices(11, **SAME), slices(12, steps, **SAME)))


# --- people and scans in several folders -----------------------------------------------------------------------------


@pytest.mark.parametrize("identity", [EMPTY, SAME], ids=["empty", "same"])
@pytest.mark.parametrize("steps", [5, 7, 0.5, 0.3, 0])
def test_folders_without_numbers_are_no_one_scan(tmp_path: Path, steps: float, identity: dict[str, object]) -> None:
    """Catches two people in one volume because their slices carry no number either."""
    for number, name in enumerate(("one", "two")):
        save(slices(11 + number, number * steps, **identity, InstanceNumber=None), tmp_path / name)
    assert [len(series.slices) for series in find_series(tmp_path).series] == [5, 5]


def test_folders_that_alternate_are_two_scans(tmp_path: Path) -> None:
    """Catches two people between each other whose numbers do not collide."""
    for number, name in enumerate(("one", "two")):
        made = slices(11 + number, number * 0.5, **SAME)
        for place, dataset in enumerate(made):
            dataset.InstanceNumber = 2 * place + number
        save(made, tmp_path / name)
    assert [len(series.slices) for series in find_series(tmp_path).series] == [5, 5]


@pytest.mark.parametrize("numbers", [True, False])
def test_a_scan_that_is_strewn_over_folders_is_one(tmp_path: Path, numbers: bool) -> None:
    """Catches folders named after hashes that each make a series of every few slices."""
    made = slices(**SAME) + slices(11, 5, **SAME)
    for place, dataset in enumerate(made):
        dataset.InstanceNumber = place if numbers else None
        dataset.SOPInstanceUID = f"1.2.{place + 1}"
        save([dataset], tmp_path / "abcd"[place * place % 7 % 4], [f"{place}.dcm"])
    assert [len(series.slices) for series in find_series(tmp_path).series] == [10]


@pytest.mark.parametrize("identity", ["PatientID", "StudyInstanceUID", "FrameOfReferenceUID"])
def test_a_scan_without_uid_over_several_folders_is_one(tmp_path: Path, identity: str) -> None:
    """Catches a scan that comes as two because only its SeriesInstanceUID was emptied."""
    made = slices(**{**EMPTY, identity: "1.2.3"})
    save(made[:3], tmp_path / "DIR0")
    save(made[3:], tmp_path / "DIR1")
    (series,) = find_series(tmp_path).series
    assert len(series.slices) == 5
    assert {header.series_uid for header in series.slices} == {series.uid}


CHANGES: dict[str, Callable[[Dataset], object]] = {
    "another phase": lambda dataset: setattr(dataset, "SeriesDescription", "late"),
    "another kernel": lambda dataset: setattr(dataset, "ConvolutionKernel", "B60f"),
    "no number": lambda dataset: setattr(dataset, "InstanceNumber", None),
    "a gap": lambda dataset: setattr(dataset, "ImagePositionPatient", [-200, -160, 9 * (dataset.InstanceNumber + 3)]),
    "another person": lambda dataset: setattr(dataset, "PatientName", "Somebody^Else"),
    "no identity": lambda dataset: setattr(dataset, "PatientID", ""),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_speaks_against_one_scan_without_uid_keeps_folders_apart(tmp_path: Path, change: str) -> None:
    """Catches two series without UID that are joined where the grid happens to go on."""
    made = slices(11, **{**EMPTY, "PatientID": "1"}) + slices(12, 5, **{**EMPTY, "PatientID": "1"})
    for place, dataset in enumerate(made):
        dataset.InstanceNumber = place
        if place > 4:
            CHANGES[change](dataset)
    save(made[:5], tmp_path / "DIR0")
    save(made[5:], tmp_path / "DIR1")
    assert [len(series.slices) for series in find_series(tmp_path).series] == [5, 5]


@pytest.mark.parametrize("identity", [{**EMPTY, "PatientID": "anonymous"}, SAME], ids=["no uid", "same"])
@pytest.mark.parametrize("names", [("p1/a", "p1/b", "p2/a", "p2/b"), ("p1", "p1/b", "p2", "p2/b")])
@pytest.mark.parametrize("steps", [0, 5, 0.5, 7])
def test_two_people_in_two_folders_each_are_two(
    tmp_path: Path, names: Sequence[str], identity: dict[str, object], steps: float
) -> None:
    """Catches halves of people that count as four scans."""
    for number, seed in enumerate((11, 12)):
        made = slices(seed, number * steps, **identity)
        save(made[:3], tmp_path / names[2 * number])
        save(made[3:], tmp_path / names[2 * number + 1])
    found = find_series(tmp_path)
    assert [len(series.slices) for series in found.series] == [5, 5]
    assert not found.refused


def test_people_whose_folders_are_mixed_are_told_apart_by_name(tmp_path: Path) -> None:
    """Catches four scans, or one, where a name in the header says that there are two."""
    for number, name in enumerate(("Doe^Jane", "Roe^Richard")):
        made = slices(11 + number, number * 5, **{**SAME, "PatientName": name})
        for dataset in made:
            dataset.InstanceNumber += 5 * number
        save(made[:3], tmp_path / f"a{number}")
        save(made[3:], tmp_path / f"b{1 - number}")
    assert [len(series.slices) for series in find_series(tmp_path).series] == [5, 5]


@pytest.mark.parametrize("steps", [0, 5, 0.3])
@pytest.mark.parametrize("tag", ["PixelSpacing", "Rows", "ImagePositionPatient"])
def test_a_damaged_file_refuses_its_own_folder_alone(tmp_path: Path, tag: str, steps: float) -> None:
    """Catches a person who is refused for a file of another one, with whom an anonymiser gave them one UID."""
    save(slices(11, **SAME), tmp_path / "p1")
    damaged = slices(12, steps, **SAME)
    setattr(damaged[4], tag, None)
    save(damaged, tmp_path / "p2")
    found = find_series(tmp_path)
    assert [series.slices[0].path.parent.name for series in found.series] == ["p1"]
    assert "p2" in str(found.failed[0]) and tag in str(found.failed[0])


def test_a_damaged_file_of_a_scan_over_folders_refuses_it(tmp_path: Path) -> None:
    """Catches a scan that ends early because its last folder holds the damaged slice."""
    made = slices(**SAME)
    made[4].PixelSpacing = None
    save(made[:3], tmp_path / "DIR0")
    save(made[3:], tmp_path / "DIR1")
    assert "PixelSpacing" in only_reason(find_series(tmp_path))


# --- phases, and slices of another kind ------------------------------------------------------------------------------

PHASES = {
    "AcquisitionNumber": (1, 2),
    "AcquisitionTime": ("101500", "101530"),
    "ConvolutionKernel": ("B30f", "B60f"),
    "SliceThickness": ("9", "5"),
    "SeriesDescription": ("arterial", "venous"),
    "SeriesTime": ("101500", "101530"),
    "KVP": ("80", "140"),
}


@pytest.mark.parametrize("tag", PHASES)
@pytest.mark.parametrize("shift", [0.5, 2.5])
def test_phases_between_each_other_are_refused_by_tag_and_count(tmp_path: Path, tag: str, shift: float) -> None:
    """Catches two phases that make one volume of half the step, also where they overlap in part."""
    phases = [slices(11, 0, **{**SAME, tag: PHASES[tag][0]}), slices(12, shift, **{**SAME, tag: PHASES[tag][1]})]
    for number, dataset in enumerate(one for phase in phases for one in phase):
        dataset.InstanceNumber = number
    reason = only_reason(found_in(tmp_path, *phases))
    assert f"groups of 5 and 5 slices by {tag} alternate" in reason


def test_a_helical_scan_with_a_time_for_each_slice_is_one(tmp_path: Path) -> None:
    """Catches a refusal of what scanners write: times by slice, acquisitions by turn of the table."""
    made = slices(**SAME)
    for place, dataset in enumerate(made):
        dataset.AcquisitionTime = dataset.ContentTime = f"10150{place}.5"
        dataset.AcquisitionNumber = 1 + place // 2
    assert len(found_in(tmp_path, made).series) == 1


KINDS: dict[str, Callable[[Dataset], object]] = {
    "projection": lambda dataset: setattr(dataset, "ImageType", ["DERIVED", "SECONDARY", "MIP"]),
    "MR": lambda dataset: setattr(dataset, "Modality", "MR"),
    "colours": lambda dataset: setattr(dataset, "PhotometricInterpretation", "RGB"),
    "other unit": lambda dataset: setattr(dataset, "RescaleType", "mgI"),
}


@pytest.mark.parametrize("uid", ["1.2.3.4", ""])
@pytest.mark.parametrize("places", [[0], [2], [4], [3, 4]])
@pytest.mark.parametrize("kind", KINDS)
def test_a_slice_of_another_kind_in_the_series_refuses_it(
    tmp_path: Path, kind: str, places: list[int], uid: str
) -> None:
    """Catches a series that ends early, with exit status 0, because some of its slices turned into something else."""
    made = slices(**{**SAME, "SeriesInstanceUID": uid})
    for place in places:
        KINDS[kind](made[place])
    found = found_in(tmp_path, made)
    reason = only_reason(found)
    assert "another kind" in reason and not isinstance(found.failed[0], OtherKindError)
    assert sum(len(one.slices) for one in find_series(tmp_path, allow_gaps=True).series) == 5 - len(places)


ASIDE: dict[str, Callable[[Dataset], object]] = {
    "beside its slice": lambda dataset: setattr(dataset, "ImagePositionPatient", [-200, -160, 18]),
    "far away": lambda dataset: setattr(dataset, "ImagePositionPatient", [-200, -160, 900]),
    "between planes": lambda dataset: setattr(dataset, "ImagePositionPatient", [-200, -160, 22]),
    "off the line": lambda dataset: setattr(dataset, "ImagePositionPatient", [-100, -160, 45]),
    "coronal": lambda dataset: setattr(dataset, "ImageOrientationPatient", [1, 0, 0, 0, 0, -1]),
    "another size": lambda dataset: setattr(dataset, "PixelSpacing", ["3", "3"]),
    "nowhere": lambda dataset: delattr(dataset, "ImagePositionPatient"),
}


@pytest.mark.parametrize("where", ASIDE)
@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_another_kind_that_are_no_slice_stay_aside(tmp_path: Path, kind: str, where: str) -> None:
    """Catches a series that is refused for a scout, a screenshot, or a projection of its slices."""
    picture = slices(12, **SAME)[0]
    picture.ImagePositionPatient = [-200, -160, 5 * STEP_MM]
    KINDS[kind](picture)
    ASIDE[where](picture)
    found = found_in(tmp_path, slices(**SAME), [picture])
    assert [len(series.slices) for series in found.series] == [5]
    assert not found.failed and len(found.refused) == 1


# --- steps and copies ------------------------------------------------------------------------------------------------


def test_the_list_tells_a_doubtful_step(tmp_path: Path) -> None:
    """Catches "yes" beside a scan of a tenth of its length."""
    save(slices(step_mm=STEP_MM / 10), tmp_path)
    (listed,) = find_series(tmp_path).listed
    assert "positions may be in another unit" in describe_series(listed)[-1]


@pytest.mark.parametrize("step_mm", [STEP_MM / 1000, STEP_MM * 1000])
def test_metres_and_micrometres_are_refused(tmp_path: Path, step_mm: float) -> None:
    """Catches a volume a thousand times too small or too large."""
    assert "another unit" in only_reason(found_in(tmp_path, slices(step_mm=step_mm)))


def test_a_copy_with_rounded_positions_is_set_aside(tmp_path: Path) -> None:
    """Catches a series that counts twice because a program rounded the positions of its copy."""
    paths = save(slices(steps=0.1234, step_mm=3.1), tmp_path / "one")
    (tmp_path / "two").mkdir()
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.ImagePositionPatient = [f"{float(one):.1f}" for one in dataset.ImagePositionPatient]
        dataset.save_as(tmp_path / "two" / path.name)
    found = find_series(tmp_path)
    assert [len(series.slices) for series in found.series] == [5]
    assert "5 slices are there twice" in str(found.refused[0])
    assert not found.failed


def test_what_differs_at_one_place_is_refused_in_one_folder(tmp_path: Path) -> None:
    """Catches a slice of another phase that is set aside as a copy."""
    save(slices(**SAME), tmp_path)
    shutil.copy(save(slices(12, **SAME), tmp_path / "other")[2], tmp_path / "other.dcm")
    shutil.rmtree(tmp_path / "other")
    (reason,) = find_series(tmp_path).failed
    assert isinstance(reason, GeometryError)
    assert "share the position" in str(reason)
