"""Series: what belongs to one stack of slices, what is set aside, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sarco.core.errors import GeometryError, OtherKindError
from sarco.scan.series import (
    PERSON_TAGS,
    SCAN_TAGS,
    SliceHeader,
    check_axial,
    find_doubles,
    make_runs,
    make_series,
    pick_evenly,
    set_strays_aside,
)

AXIAL, CORONAL, SAGITTAL = (1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)

MARKS = tuple((tag, "one") for tag in PERSON_TAGS)


def header(z: float, **changes: object) -> SliceHeader:
    """An axial slice at a height."""
    plain = SliceHeader(
        path=Path(f"slice_{z:g}.dcm"),
        sop_uid=f"1.2.{z:g}",
        series_uid="1.2.3",
        study_uid="1.2",
        patient_id="P1",
        shape=(40, 50),
        spacing_mm=(0.8, 0.7),
        orientation=AXIAL,
        position=(0.0, 0.0, z),
        thickness_mm=5.0,
        description="",
        number=1,
        frame_of_reference="1.9",
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def stack(*heights: float) -> list[SliceHeader]:
    """Axial slices at these heights."""
    return [header(z) for z in heights]


def test_a_slice_that_lies_another_way_is_set_aside_by_name() -> None:
    """Catches a coronal slice between axial ones."""
    turned = header(7.0, orientation=CORONAL, path=Path("turned.dcm"))
    kept, aside = set_strays_aside([*stack(0, 5, 10), turned])
    assert kept == stack(0, 5, 10)
    assert "turned.dcm" in str(aside[0])


def test_where_two_kinds_are_equally_many_nobody_decides() -> None:
    """Catches half a series that vanishes because the other half came first."""
    halves = [*stack(0, 5), header(1, orientation=CORONAL), header(2, orientation=CORONAL)]
    kept, aside = set_strays_aside(halves)
    assert len(kept) == 4 and not aside
    with pytest.raises(GeometryError, match="orientation"):
        make_series(kept)


def test_rounded_orientations_are_one() -> None:
    """Catches slices that are set aside because a scanner wrote their direction with other digits."""
    tilted = [header(z, orientation=(0.9999995, 0.0004, 0, -0.0004, 0.9999995, 0)) for z in (10, 15)]
    kept, aside = set_strays_aside([*stack(0, 5), *tilted])
    assert len(kept) == 4 and not aside


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"patient_id": "P2"}, "PatientID"),
        ({"frame_of_reference": "1.8"}, "FrameOfReferenceUID"),
        ({"marks": (("PatientName", "other"),)}, "PatientName"),
        ({"marks": (("PatientBirthDate", "other"),)}, "PatientBirthDate"),
        ({"marks": (("StudyDate", "other"),)}, "StudyDate"),
        ({"shape": (41, 50)}, "size"),
        ({"spacing_mm": (0.8, 0.8)}, "pixel spacing"),
    ],
)
def test_what_cannot_be_one_scan_is_refused(changes: dict[str, object], says: str) -> None:
    """Catches two patients, or two coordinate systems, under one SeriesInstanceUID."""
    with pytest.raises(GeometryError, match=says) as caught:
        make_series([*(replace(one, marks=MARKS) for one in stack(0, 5)), header(10, **changes)])
    assert len(str(caught.value).splitlines()) == 1


def test_marks_that_some_slices_lack_are_no_other_person() -> None:
    """Catches a refusal of a series whose name was emptied in some of its files."""
    assert make_series([*(replace(one, marks=MARKS) for one in stack(0, 5)), header(10)]).n_planes == 3


def test_a_number_twice_in_different_places_is_two_scans() -> None:
    """Catches two people on one line of slices in one folder, of whom nothing is left but the count from one."""
    people = [header(5.0 * place, instance=str(place % 4)) for place in range(8)]
    with pytest.raises(GeometryError, match="InstanceNumber") as caught:
        make_series(people)
    assert "slice_0.dcm" in str(caught.value) and "slice_20.dcm" in str(caught.value)
    for legal in ("1", "0", ""):  # converters give all slices one number
        assert make_series([replace(one, instance=legal) for one in people]).n_planes == 8
    turns = [replace(one, marks=(("AcquisitionNumber", str(place // 4)),)) for place, one in enumerate(people)]
    assert make_series(turns).n_planes == 8


@pytest.mark.parametrize("tag", SCAN_TAGS)
def test_two_phases_between_each_other_are_refused_by_the_tag(tag: str) -> None:
    """Catches an arterial and a venous phase in one volume, half a step from each other."""
    mixed = [header(2.5 * place, marks=((tag, "ab"[place % 2]),)) for place in range(9)]
    with pytest.raises(GeometryError, match=f"groups of 5 and 4 slices by {tag} alternate"):
        make_series(mixed[::-1])
    blocks = [header(2.5 * place, marks=((tag, str(place // 3)),)) for place in range(9)]
    assert make_series(blocks).n_planes == 9
    single = [header(2.5 * place, marks=((tag, str(place)),)) for place in range(9)]
    assert make_series(single).n_planes == 9


def test_a_series_tells_that_its_step_is_odd() -> None:
    """Catches positions in cm, and every second slice gone, without a word."""
    in_cm = make_series([header(z, said_thickness_mm=5.0) for z in (0, 0.5, 1.0, 1.5)])
    assert "another unit" in in_cm.step_doubts[0]
    halved = make_series([header(10.0 * k, said_step_mm=5.0, instance=str(2 * k + 1)) for k in range(4)])
    assert "go by 2" in halved.step_doubts[0]
    assert make_series([header(5.0 * k, said_thickness_mm=5.0, instance=str(k)) for k in range(4)]).step_doubts == ()


def test_a_stand_in_for_the_patient_is_no_reason_to_refuse() -> None:
    """Catches an emptied PatientID in one slice that reads as a second patient."""
    assert make_series([*stack(0, 5), header(10, patient_id="1.2", has_patient_id=False)]).n_planes == 3


def test_uneven_gaps_are_refused_or_cut_into_runs() -> None:
    """Catches slices that are spread evenly over an uneven gap, and a run that takes its neighbour's slice."""
    slices = stack(22, 0, 5, 17, 10, 40)
    with pytest.raises(
        GeometryError,
        match=r"3 slices 5 mm apart \(z 0.0 to 10.0\), 2 slices 5 mm apart \(z 17.0 to 22.0\), 1 slice \(z 40.0\)",
    ):
        make_series(slices)
    runs = make_runs(slices)
    assert [[s.position[2] for s in run.slices] for run in runs] == [[0, 5, 10], [17, 22], [40]]
    assert [run.part for run in runs] == [1, 2, 3]
    assert [float(run.affine_lps[2, 2]) for run in runs] == pytest.approx([5, 5, 5])


def test_runs_of_different_steps() -> None:
    """Catches thin and thick slices of one scan that land in one grid."""
    runs = make_runs(stack(0, 1, 2, 3, 8, 13, 18))
    assert [[s.position[2] for s in run.slices] for run in runs] == [[0, 1, 2, 3], [8, 13, 18]]


def test_a_slice_that_is_left_alone_is_no_thicker_than_its_place() -> None:
    """Catches overlapping slices whose volume counts twice where one of them makes a run of its own."""
    runs = make_runs([header(z, thickness_mm=5.0) for z in (0, 1, 2, 4.5, 7.6, 8.6, 9.6)])
    assert [len(run.slices) for run in runs] == [3, 1, 3]
    assert runs[1].affine_lps[2, 2] == pytest.approx(2.5)
    far = make_runs([header(z, thickness_mm=5.0) for z in (0, 5, 10, 47)])[-1]
    assert far.affine_lps[2, 2] == pytest.approx(5)


def test_doubles_are_pairs_at_one_position() -> None:
    """Catches a copy that is overlooked because the order of files put a slice between."""
    copy = header(5.0, path=Path("zz_copy.dcm"))
    assert find_doubles([copy, *stack(0, 5, 10)]) == [(header(5), copy)]
    assert find_doubles(stack(0, 5, 10)) == []
    beside = header(5.0, position=(30.0, 0.0, 5.0), path=Path("beside.dcm"))
    assert find_doubles([*stack(0, 5, 10), beside]) == []


@pytest.mark.parametrize(("orientation", "plane"), [(CORONAL, "coronal"), (SAGITTAL, "sagittal")])
def test_only_axial_slices_are_segmented(orientation: tuple[float, ...], plane: str) -> None:
    """Catches a network that is shown what it never saw, and answers all the same."""
    with pytest.raises(OtherKindError, match=plane):
        check_axial(header(0, orientation=orientation))
    turn = np.radians(30)
    check_axial(header(0, orientation=(1, 0, 0, 0, float(np.cos(turn)), float(np.sin(turn)))))


def test_slices_are_picked_evenly() -> None:
    """Catches the same slice twice, or only the first ones."""
    assert pick_evenly([4, 7], 5) == [4, 7]
    for n in (5, 6, 99):
        picked = pick_evenly(range(n), 5)
        assert len(set(picked)) == 5 and picked == sorted(picked)
        assert picked[0] < n / 5 and picked[-1] >= n - n / 5 - 1
    assert pick_evenly([], 3) == []
