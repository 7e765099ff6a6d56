"""Who trains and who validates: whole people, the share that was asked for, and no label in validation alone."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from labelled_cases import edit, write_case
from numpy.typing import NDArray

from sarco.core.errors import DataWarning, InputError, OptionError
from sarco.layouts.case import Case
from sarco.phantom.patient import Phantom, PhantomOptions, make_phantom
from sarco.scan.series import SliceHeader
from sarco.training.cases import LabelledSlice, find_cases
from sarco.training.split import find_copies, name_people, split_by_patient, split_into_folds


@pytest.fixture(scope="session")
def patients(tmp_path_factory: pytest.TempPathFactory) -> tuple[LabelledSlice, ...]:
    """Seven patients with 1 to 7 slices each."""
    root = tmp_path_factory.mktemp("patients")
    for count in range(1, 8):
        options = PhantomOptions(n_slices=count, rows=24, columns=24)
        write_case(make_phantom(count, options), root, f"P{count}", patient_id=f"P{count}", seed=count)
    return find_cases(root).slices


def choose(slices: tuple[LabelledSlice, ...], names: set[str]) -> tuple[LabelledSlice, ...]:
    """The slices of some patients."""
    return tuple(item for item in slices if item.header.patient_id in names)


@given(counts=st.sets(st.integers(1, 7), min_size=2), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**32 - 1))
@example(counts={6, 7}, fraction=0.01, seed=0)
@example(counts={1, 7}, fraction=0.99, seed=0)
def test_split_keeps_patients_whole_and_comes_closest(
    patients: tuple[LabelledSlice, ...], counts: set[int], fraction: float, seed: int
) -> None:
    """Catches a patient on both sides, an empty side, and a share that another choice would meet better."""
    slices = choose(patients, {f"P{count}" for count in counts})
    split = split_by_patient(slices, fraction, seed)
    assert split.by_patient
    assert sorted(split.train + split.val) == list(range(len(slices)))
    sides = [{slices[i].header.patient_id for i in side} for side in (split.train, split.val)]
    assert sides[0] and sides[1] and not sides[0] & sides[1]
    target = fraction * len(slices)
    sums = [sum(chosen) for n in range(1, len(counts)) for chosen in itertools.combinations(counts, n)]
    assert abs(len(split.val) - target) == pytest.approx(min(abs(total - target) for total in sums))


def test_seed_decides_who_validates(tmp_path: Path, pair: tuple[Phantom, Phantom]) -> None:
    """Catches a split that never varies, and one that varies under the same seed."""
    for number in range(5):
        write_case(pair[0], tmp_path, f"P{number}", patient_id=f"P{number}", seed=number)
    slices = find_cases(tmp_path).slices
    splits = [split_by_patient(slices, 0.2, seed) for seed in range(20)]
    assert splits == [split_by_patient(slices, 0.2, seed) for seed in range(20)]
    assert {slices[split.val[0]].header.patient_id for split in splits} == {f"P{number}" for number in range(5)}
    assert all(len(split.val) == 4 for split in splits)


def test_one_patient_gives_a_block_of_neighbours_and_a_warning(tmp_path: Path) -> None:
    """Catches validation on slices between training slices, which looks far too good."""
    write_case(make_phantom(1, PhantomOptions(n_slices=10, rows=24, columns=24)), tmp_path, "A")
    slices = find_cases(tmp_path).slices
    starts = set()
    for seed in range(8):
        with pytest.warns(DataWarning, match="no independent test"):
            split = split_by_patient(slices, 0.3, seed)
        assert not split.by_patient
        assert len(split.val) == 3
        assert sorted(split.train + split.val) == list(range(10))
        planes = sorted(slices[i].slice_index for i in split.val)
        assert planes == list(range(planes[0], planes[0] + 3))
        starts.add(planes[0])
    assert len(starts) > 1


@pytest.mark.parametrize("fraction", [0.001, 0.5, 0.999])
def test_two_slices_of_one_patient_serve_both_sides(tmp_path: Path, fraction: float) -> None:
    """Catches an empty side where rounding takes everything or nothing."""
    write_case(make_phantom(1, PhantomOptions(n_slices=2, rows=24, columns=24)), tmp_path, "A")
    with pytest.warns(DataWarning, match="no independent test"):
        split = split_by_patient(find_cases(tmp_path).slices, fraction, 0)
    assert len(split.train) == len(split.val) == 1


def test_one_slice_cannot_be_split(tmp_path: Path) -> None:
    """Catches a training that validates on nothing."""
    write_case(make_phantom(1, PhantomOptions(n_slices=1, rows=24, columns=24)), tmp_path, "A")
    with pytest.raises(InputError):
        split_by_patient(find_cases(tmp_path).slices, 0.2, 0)


def test_without_patient_id_the_study_counts(tmp_path: Path, pair: tuple[Phantom, Phantom]) -> None:
    """Catches anonymised scans all becoming one patient, or slices of one scan becoming many."""
    for number, seed in (("1", 1), ("2", 2)):
        paths = write_case(pair[0], tmp_path, f"S{number}", seed=seed)
        edit(paths, lambda ds, _: setattr(ds, "PatientID", ""))
    slices = find_cases(tmp_path).slices
    assert len({item.header.patient_id for item in slices}) == 2
    split = split_by_patient(slices, 0.5, 0)
    assert split.by_patient and len(split.train) == len(split.val) == 4


def slice_of(case: str, patient_id: str, **more: Any) -> LabelledSlice:
    """A slice that is known by its header alone; without PatientID, ``patient_id`` stands for it."""
    values: dict[str, Any] = {
        "frame_of_reference": "",
        "has_patient_id": True,
        "sop_uid": "",
        "study_uid": "",
        "position": (0, 0, 0),
    }
    header = SliceHeader(
        path=Path(f"{case}.dcm"),
        series_uid=case,
        patient_id=patient_id,
        shape=(4, 5),
        spacing_mm=(1, 1),
        orientation=(1, 0, 0, 0, 1, 0),
        thickness_mm=1,
        description="",
        number=None,
        **values | more,
    )
    return LabelledSlice(Case(Path(f"{case}.nii.gz"), (header,)), 0, 0, (header, header))


def groups(slices: list[LabelledSlice], copies: list[tuple[int, int]] | None = None) -> list[int]:
    """For each slice the first one of the same person."""
    people = [item.patient for item in name_people(slices, copies or [])]
    return [people.index(one) for one in people]


def test_one_person_is_one_in_every_case() -> None:
    """Catches a person whom two readers labelled on both sides, and one with and without an ID in one study."""
    slices = [
        slice_of("reader one", "P1", study_uid="1.1"),
        slice_of("reader two", "P1", study_uid="1.1"),
        slice_of("another study", "P1", study_uid="1.2"),
        slice_of("no ID, same study", "1.2", study_uid="1.2", has_patient_id=False),
        slice_of("no ID, another study", "1.3", study_uid="1.3", frame_of_reference="1.9", has_patient_id=False),
        slice_of("no study, same frame", "1.9", frame_of_reference="1.9", has_patient_id=False),
        slice_of("no UID", "some/folder", has_patient_id=False),
        slice_of("no UID either", "other/folder", has_patient_id=False),
        slice_of("P2", "P2", study_uid="1.4"),
    ]
    assert groups(slices) == [0, 0, 0, 0, 4, 4, 6, 7, 8]


def test_ids_tell_people_apart_where_uids_do_not() -> None:
    """Catches all patients becoming one because a careless tool gave one study to all."""
    slices = [slice_of(name, name, study_uid="1.2", frame_of_reference="1.3") for name in ("P1", "P2", "P3")]
    assert groups(slices) == [0, 1, 2]


def test_one_image_under_two_ids_is_one_person() -> None:
    """Catches a patient on both sides because he was anonymised twice."""
    rng = np.random.default_rng(0)
    images: NDArray[np.int16] = rng.integers(-1000, 1000, (6, 1, 4, 4)).astype(np.int16)
    images[3] = images[0]  # the same place
    images[4] = images[1]  # elsewhere
    images[5] = images[2] = np.where(images[2] > 0, -1000, -1024)  # nothing to see
    slices = [slice_of(f"c{k}", f"P{k}", position=(0, 0, 9 if k == 4 else 0)) for k in range(6)]
    with pytest.warns(DataWarning, match=r"another PatientID stands in 2 copies of slices, .*c3\.dcm, as c0\.dcm"):
        copies = find_copies(slices, images)
    assert copies == [(0, 3), (1, 4)]
    assert groups(slices, copies) == [0, 1, 2, 0, 1, 5]
    assert find_copies([replace(item, person="same") for item in slices], images) == []


def test_one_uid_at_one_place_under_two_ids_is_one_person() -> None:
    """Catches a patient on both sides whose second copy was packed with losses, and all patients of one UID as one."""
    images = np.random.default_rng(0).integers(-1000, 1000, (6, 1, 4, 4)).astype(np.int16)
    slices = [
        slice_of("a", "P1", sop_uid="1.1"),
        slice_of("b", "P2", sop_uid="1.1"),
        slice_of("c", "P3", sop_uid="1.1", position=(0, 0, 9)),  # elsewhere
        *(slice_of("d", "P4", sop_uid="1.2", position=(0, 0, z)) for z in (0, 5)),  # one UID for all
        slice_of("e", "P5", sop_uid="1.2"),
    ]
    with pytest.warns(DataWarning, match=r"in 1 copy of slices, .*b\.dcm, as a\.dcm"):
        copies = find_copies(slices, images)
    assert groups(slices, copies) == [0, 0, 2, 3, 3, 5]


@pytest.mark.parametrize("other", ["p0012", "P12", "P 0012", "P012", "\uff300012"])
def test_one_id_written_in_two_ways_is_one_person(other: str) -> None:
    """Catches a patient on both sides because one tool pads or drops zeros, or changes case; and an ID in a message."""
    slices = [slice_of("a", "P0012"), slice_of("b", "P0013"), slice_of("c", other), slice_of("d", "P1200")]
    with pytest.warns(
        DataWarning, match=r"1 PatientID differs from another .*that of c\.dcm, from that of a\.dcm"
    ) as told:
        assert groups(slices) == [0, 1, 0, 3]
    assert "0012" not in str(told[0].message)


def test_ids_that_differ_are_different_people() -> None:
    """Catches people of whom one ID is part of another's, or the same but for a sign."""
    names = ["1", "10", "100", "1.0", "0", "P1", "1P", "P-1", "P_1"]
    assert groups([slice_of(f"c{k}", name) for k, name in enumerate(names)]) == [*range(len(names))]


def held_by(*labels: str) -> NDArray[np.bool_]:
    """Which of the labels a, b, c each slice holds."""
    return np.array([[name in one for name in "abc"] for one in labels])


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "labels",
    [
        ("ab", "a", "a", "a", "a", "a"),
        ("ab", "ac", "a", "a", "a", "a"),
        ("ab", "ab", "ac", "ac", "a", "a"),
        ("abc", "a"),
        ("ab", "ac", "a"),
    ],
)
@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.8])
def test_no_label_is_in_validation_alone(labels: tuple[str, ...], fraction: float, seed: int) -> None:
    """Catches a channel that is never trained, because the only patients with the label validate."""
    slices = [slice_of(f"c{k}", f"P{k}") for k in range(len(labels))]
    occurs = held_by(*labels)
    split = split_by_patient(slices, fraction, seed, occurs)
    assert split.val and occurs[list(split.train)].any(axis=0).tolist() == occurs.any(axis=0).tolist()
    assert sorted(split.train + split.val) == list(range(len(slices)))


def test_labels_change_no_split_that_is_good_already() -> None:
    """Catches another split of every data set for the sake of a rare label."""
    slices = [slice_of(f"c{k}", f"P{k}") for k in range(10)]
    for seed in range(10):
        plain = split_by_patient(slices, 0.3, seed)
        assert split_by_patient(slices, 0.3, seed, held_by(*["abc"] * 10)) == plain


def test_where_every_patient_has_a_label_of_his_own_somebody_validates() -> None:
    """Catches an endless search, and an empty side."""
    slices = [slice_of(f"c{k}", f"P{k}") for k in range(3)]
    split = split_by_patient(slices, 0.3, 0, held_by("a", "b", "c"))
    assert len(split.val) == 1 and len(split.train) == 2


def test_a_block_of_one_patient_leaves_every_label_to_training(tmp_path: Path) -> None:
    """Catches the same within one patient."""
    write_case(make_phantom(1, PhantomOptions(n_slices=10, rows=24, columns=24)), tmp_path, "A")
    slices = find_cases(tmp_path).slices
    occurs = held_by(*("ab" if k == 4 else "a" for k in range(10)))[:, :2]
    for seed in range(8):
        with pytest.warns(DataWarning, match="no independent test"):
            split = split_by_patient(slices, 0.3, seed, occurs)
        assert 4 in split.train and len(split.val) == 3


@given(data=st.data(), folds=st.integers(2, 6), seed=st.integers(0, 2**32 - 1))
def test_folds_keep_patients_whole_and_each_validates_once(data: Any, folds: int, seed: int) -> None:
    """Catches a patient on both sides or in two folds, one who never validates, and folds that are no folds alike."""
    counts = data.draw(st.lists(st.integers(1, 4), min_size=folds, max_size=17))
    slices = [slice_of(f"P{n}", f"P{n}") for n, count in enumerate(counts) for _ in range(count)]
    occurs = np.array(data.draw(st.lists(st.tuples(*[st.booleans()] * 3), min_size=len(slices), max_size=len(slices))))
    parts = [split_into_folds(slices, folds, fold, seed, occurs) for fold in range(1, folds + 1)]
    assert parts == [split_into_folds(slices, folds, fold, seed, occurs) for fold in range(1, folds + 1)]
    assert sorted(i for part in parts for i in part.val) == list(range(len(slices)))
    people = [{slices[i].patient for i in part.val} for part in parts]
    assert sum(map(len, people)) == len(counts) and max(map(len, people)) - min(map(len, people)) <= 1
    for part, whose in zip(parts, people, strict=True):
        assert part.by_patient and sorted(part.train + part.val) == list(range(len(slices)))
        assert not whose & {slices[i].patient for i in part.train}


def test_seed_deals_the_folds() -> None:
    """Catches folds that are the same whatever the seed, which would make a second cross-validation no second one."""
    slices = [slice_of(f"P{n}", f"P{n}") for n in range(10)]
    found = {split_into_folds(slices, 5, 1, seed, np.zeros((10, 0), bool)).val for seed in range(10)}
    assert len(found) > 5


@pytest.mark.parametrize("seed", range(8))
def test_those_who_share_a_rare_label_are_in_different_folds(seed: int) -> None:
    """Catches a label that is in one fold alone, so that its network learns nothing of it and is asked for it."""
    slices = [slice_of(f"P{n}", f"P{n}") for n in range(12)]
    occurs = np.ones((12, 3), bool)
    occurs[2:, 1], occurs[:9, 2] = False, False  # two hold the one label, three others the other
    for fold in range(1, 5):
        split = split_into_folds(slices, 4, fold, seed, occurs)
        assert occurs[list(split.train)].any(axis=0).all() and len(split.val) == 3


@pytest.mark.parametrize(("n", "told"), [(4, "--folds=4 or fewer"), (1, "leave --folds out")])
def test_fewer_patients_than_folds(n: int, told: str) -> None:
    """Catches a fold that validates nobody, whose scores are those of nothing."""
    slices = [slice_of(f"P{k}", f"P{k}") for k in range(n) for _ in range(3)]
    with pytest.raises(OptionError, match=f"--folds=5: .*{n} patients? found.*{told}"):
        split_into_folds(slices, 5, 1, 0, np.zeros((3 * n, 0), bool))


def test_two_cases_of_a_patient_in_two_folds() -> None:
    """Catches a patient who trains and validates, because splits_final.json knows cases alone."""
    slices = [slice_of(case, "P1") for case in ("one", "two")] + [slice_of("three", "P2")]
    given = (("val", "train"), ("train", "val"), ("train", "val"))
    slices = [replace(s, case=replace(s.case, folds=folds)) for s, folds in zip(slices, given, strict=True)]
    with pytest.raises(InputError, match=r"one\.nii\.gz and two\.nii\.gz are of one patient.*two folds"):
        split_into_folds(slices, 2, 1, 0, np.zeros((3, 0), bool))
