"""Who trains and who validates: whole people on one side each, and no label in validation alone."""

import hashlib
import re
import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarco.core.errors import DataWarning, InputError, OptionError
from sarco.core.messages import count_of
from sarco.core.training_options import DataOptions
from sarco.io.nifti import is_nifti
from sarco.layouts.case import TRAIN, VAL
from sarco.scan.series import SliceHeader
from sarco.training.cases import LabelledSlice, name_in

_FEWEST_VALUES = 8  # of an image that shows a patient: air and padding are alike in all


@dataclass(frozen=True)
class Split:
    """Which slices train and which validate, as indices into ``Dataset.slices``.

    Attributes:
        by_patient: False where a single patient had to serve both sides.
    """

    train: tuple[int, ...]
    val: tuple[int, ...]
    by_patient: bool


def name_people(slices: Sequence[LabelledSlice], copies: Iterable[tuple[int, int]] = ()) -> tuple[LabelledSlice, ...]:
    """The slices, with whose they are.

    One PatientID is one person, and so are IDs that differ in case, blanks or leading zeros alone, which a
    `DataWarning` tells: a person on both sides of the split costs more than two who count as one. Slices without an ID
    are the person's with whom they share a case or a study; else they are a person of their own by what stands for it.

    Args:
        slices: all there are.
        copies: pairs of slices that are one image under two PatientIDs (see `find_copies`).
    """
    parent: dict[Any, Any] = {}

    def root(mark: Any) -> Any:
        while (above := parent.setdefault(mark, mark)) != mark:
            mark = above
        return mark

    _warn_of_alike_ids(slices)
    unnamed = {mark for item in slices for mark in _marks_of_unnamed(item.header)}
    for index, item in enumerate(slices):
        header = item.header
        uids = {("study", header.study_uid), ("frame", header.frame_of_reference)} & unnamed
        marks = [("case", item.case.label_path), *uids]
        if is_nifti(header.path):  # whatever names its patient has in tables
            marks.append(("file", header.path.resolve()))
        for mark in [("patient", header.has_patient_id, _id_of(header)), *marks]:
            parent[root(mark)] = root(("slice", index))
    for one, other in copies:
        parent[root(("slice", one))] = root(("slice", other))
    names: dict[Any, str] = {}
    for index, item in enumerate(slices):
        whose = root(("slice", index))
        names[whose] = min(names.get(whose, item.header.patient_id), item.header.patient_id)
    return tuple(replace(item, person=names[root(("slice", index))]) for index, item in enumerate(slices))


def _id_of(header: SliceHeader) -> str:
    """The PatientID without what people and programs change about one: case, blanks, leading zeros."""
    if not header.has_patient_id:
        return header.patient_id
    plain = "".join(unicodedata.normalize("NFKC", header.patient_id).casefold().split())
    return re.sub(r"(?<!\d)0+(?=\d)", "", plain)


def _warn_of_alike_ids(slices: Sequence[LabelledSlice]) -> None:
    first: dict[str, SliceHeader] = {}
    others: dict[str, SliceHeader] = {}  # by PatientID
    for item in slices:
        if item.header.has_patient_id:
            one = first.setdefault(_id_of(item.header), item.header)
            if one.patient_id != item.header.patient_id:
                others.setdefault(item.header.patient_id, item.header)
    if others:
        other = next(iter(others.values()))
        warnings.warn(
            f"{count_of(len(others), 'PatientID differs', 'PatientIDs differ')} from another in case, blanks or "
            f"leading zeros alone and count as the same person's, the first: that of {other.path}, from that of "
            f"{first[_id_of(other)].path}; give other IDs if they are two people",
            DataWarning,
            4,
        )


def _marks_of_unnamed(header: SliceHeader) -> list[tuple[str, str]]:
    """What tells whose a slice without PatientID is: its study, else its frame of reference."""
    if header.has_patient_id:
        return []
    marks = [("study", header.study_uid), ("frame", header.frame_of_reference)]
    return [mark for mark in marks if mark[1]][:1]


def find_copies(slices: Sequence[LabelledSlice], images: NDArray[np.int16]) -> list[tuple[int, int]]:
    """Pairs of slices of different patients that are one image, which a `DataWarning` tells.

    One image has the very same pixels, wherever it lies, or one SOPInstanceUID at one place: tools that anonymise
    twice move or pack images, too.

    Args:
        slices: as they are.
        images: (N, C, S, S) of each slice.
    """
    pairs = sorted({*_copies_by_pixels(slices, images), *_copies_by_uid(slices)})
    if pairs:
        one, other_path = (slices[index].header.path for index in pairs[0])
        warnings.warn(
            f"another PatientID stands in {count_of(len(pairs), 'copy', 'copies')} of slices, which count as the same "
            f"person's, the first: {other_path}, as {one}",
            DataWarning,
            3,
        )
    return pairs


def _of_several(slices: Sequence[LabelledSlice], marks: Iterable[Any]) -> list[list[int]]:
    """Places of slices with the same mark, where they are of several patients."""
    alike: dict[Any, list[int]] = defaultdict(list)
    for index, mark in enumerate(marks):
        alike[mark].append(index)
    return [indices for indices in alike.values() if len({slices[index].patient for index in indices}) > 1]


def _copies_by_pixels(slices: Sequence[LabelledSlice], images: NDArray[np.int16]) -> Iterator[tuple[int, int]]:
    middle = images.shape[1] // 2  # of three slices
    rows = (
        images[index, middle, images.shape[2] // 2].tobytes() for index in range(len(slices))
    )  # the rest is on disk
    for indices in _of_several(slices, rows):
        first: dict[bytes, int] = {}
        for index in indices:
            image = images[index, middle]
            other = first.setdefault(hashlib.blake2b(image.tobytes()).digest(), index)
            if slices[other].patient != slices[index].patient and len(np.unique(image)) >= _FEWEST_VALUES:
                yield other, index


def _copies_by_uid(slices: Sequence[LabelledSlice]) -> Iterator[tuple[int, int]]:
    places: dict[tuple[str, str], set[Any]] = defaultdict(set)
    for item in slices:
        places[item.patient, item.header.sop_uid].add(item.header.position)
    marks = [(header.sop_uid, header.shape, header.spacing_mm, header.position, header.orientation)
             for header in (item.header for item in slices)]  # fmt: skip
    for first, *others in _of_several(slices, marks):
        for other in others:
            ends = (slices[first], slices[other])
            # Careless tools give one UID to all.
            is_one = all(len(places[end.patient, end.header.sop_uid]) == 1 for end in ends)
            if ends[0].header.sop_uid and is_one and ends[0].patient != ends[1].patient:
                yield first, other


def split_as_asked(slices: Sequence[LabelledSlice], options: DataOptions, occurs: NDArray[np.bool_]) -> Split:
    """The fold that was asked for, where cross-validation was; else one split.

    Raises:
        SarcoError: as of `split_into_folds` and `split_by_patient`.
    """
    if options.folds:
        return split_into_folds(slices, options.folds, int(options.fold), options.seed, occurs)
    return split_by_patient(slices, options.val_fraction, options.seed, occurs)


def split_into_folds(
    slices: Sequence[LabelledSlice], folds: int, fold: int, seed: int, occurs: NDArray[np.bool_]
) -> Split:
    """One fold of a cross-validation: its patients validate, all others train.

    Patients are dealt out at random, so that folds differ by one patient at most; those who share a label that few hold
    are dealt one after the other, so that it is not in one fold alone. Where a ``splits_final.json`` says in which fold
    a case validates, that counts, and the other patients are dealt to where the fewest are. A case that validates in
    none of its folds always trains. What else a data set says of sides does not matter.

    Args:
        slices: what there is to learn from.
        folds: how many there are.
        fold: which one, counted from 1.
        seed: of the choice.
        occurs: (N, K) which labels each slice holds.

    Raises:
        OptionError: there are fewer patients than folds, or the data set has another number of folds.
        InputError: the data set's own folds have a patient validate twice, or leave a side empty.
    """
    patients: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(slices):
        patients[item.patient].append(index)
    if len(patients) < folds:
        instead = f"give --folds={len(patients)} or fewer" if len(patients) > 1 else "leave --folds out"
        found = count_of(len(patients), "patient")
        raise OptionError(
            f"--folds={folds}: takes a patient for each fold, and {found} found; {instead}, or add patients"
        )
    fold_of = _folds_as_given(slices, folds)
    rng = np.random.default_rng(seed)
    order = rng.permutation(folds).tolist()
    filled = Counter(fold_of.values())
    rest = sorted(patients.keys() - fold_of.keys())
    rest = [rest[i] for i in rng.permutation(len(rest))]
    holds = {name: np.flatnonzero(occurs[patients[name]].any(axis=0)).tolist() for name in patients}
    holders = Counter(label for labels in holds.values() for label in labels)
    for name in sorted(rest, key=lambda name: min(((holders[k], k) for k in holds[name]), default=(len(patients), -1))):
        fold_of[name] = min(order, key=lambda place: filled[place])
        filled[fold_of[name]] += 1
    val = tuple(i for i, item in enumerate(slices) if fold_of[item.patient] == fold - 1)
    train = tuple(i for i, item in enumerate(slices) if fold_of[item.patient] != fold - 1)
    for side, does in ((train, "trains"), (val, "validates")):
        if not side:
            raise InputError(f"fold {fold} of {folds}: nobody {does}, by the data set's own folds; correct those")
    return Split(train, val, by_patient=True)


def _folds_as_given(slices: Sequence[LabelledSlice], folds: int) -> dict[str, int]:
    """The place of the fold in which each patient validates, as the data set says; -1 for those who always train."""
    fold_of: dict[str, int] = {}
    said: dict[str, LabelledSlice] = {}
    for item in slices:
        sides, path = item.case.folds, item.case.label_path
        if not sides:
            continue
        if len(sides) != folds:
            raise OptionError(
                f"--folds={folds}: the data set of {path} has {len(sides)} folds of its own; give --folds={len(sides)}"
            )
        if sides.count(VAL) > 1:
            raise InputError(f"{path}: validates in {sides.count(VAL)} folds of the data set; leave it in one")
        place = sides.index(VAL) if VAL in sides else -1
        other = said.setdefault(item.patient, item)
        if fold_of.setdefault(item.patient, place) != place:
            raise InputError(
                f"{other.case.label_path} and {path} are of one patient, but the data set has them in two folds; "
                "correct it"
            )
    return fold_of


def split_by_patient(
    slices: Sequence[LabelledSlice], val_fraction: float, seed: int, occurs: NDArray[np.bool_] | None = None
) -> Split:
    """Splits slices into training and validation, whole patients on one side each.

    Validation's share of the slices comes as close to ``val_fraction`` as whole patients allow. Which of several
    equally good choices is taken depends on the seed. Where cases say their side, as those of nnU-Net and
    TotalSegmentator may, that counts, and the others are split. Where a label would be in validation alone, a patient
    who holds it trains, if anybody is left to validate. A single patient has to serve both sides: a block of
    neighbouring slices validates, with a `DataWarning` that this is no independent test.

    Args:
        slices: what there is to learn from.
        val_fraction: the share of them that should validate.
        seed: of the choice.
        occurs: (N, K) which labels each slice holds; labels do not matter where none is given.

    Raises:
        InputError: there are fewer than two slices, or a patient is on both sides of the data set's own split.
    """
    if {TRAIN, VAL} <= {item.case.side for item in slices}:
        return _split_as_given(slices, val_fraction, seed, occurs)
    if len(slices) < 2:
        raise InputError("only one labelled slice was found, but training needs another for validation; add slices")
    occurs = np.zeros((len(slices), 0), bool) if occurs is None else occurs
    patients: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(slices):
        patients[item.patient].append(index)
    rng = np.random.default_rng(seed)
    if len(patients) == 1:
        return _split_one_patient(slices, val_fraction, rng, occurs)
    names = sorted(patients)
    names = [names[i] for i in rng.permutation(len(names))]
    val: list[int] = []
    while not val or (len(names) > 1 and _only_in(val, occurs).size):
        if val:  # the patient with the fewest slices who holds the first such label has to train
            label = _only_in(val, occurs)[0]
            names.remove(min((n for n in names if occurs[patients[n], label].any()), key=lambda n: len(patients[n])))
        chosen = _closest_subset(
            [len(patients[name]) for name in names], val_fraction * len(slices), len(names) < len(patients)
        )
        val = sorted(index for i in chosen for index in patients[names[i]])
    held = set(val)
    return Split(tuple(i for i in range(len(slices)) if i not in held), tuple(val), by_patient=True)


def _split_as_given(
    slices: Sequence[LabelledSlice], val_fraction: float, seed: int, occurs: NDArray[np.bool_] | None
) -> Split:
    """The sides that cases say; patients of whom no case says one are split by themselves."""
    said: dict[str, LabelledSlice] = {}
    for item in slices:
        if item.case.side and said.setdefault(item.patient, item).case.side != item.case.side:
            one, other = (each.case.label_path for each in (said[item.patient], item))
            raise InputError(
                f"{one} trains and {other} validates, as their data set says, but both are of one patient; correct the "
                "split"
            )
    sides = {patient: item.case.side for patient, item in said.items()}
    rest = [i for i, item in enumerate(slices) if item.patient not in sides]
    if len({slices[i].patient for i in rest}) > 1:
        split = split_by_patient(
            [slices[i] for i in rest], val_fraction, seed, None if occurs is None else occurs[np.asarray(rest)]
        )
        sides |= {slices[rest[i]].patient: VAL for i in split.val}
    val = tuple(i for i, item in enumerate(slices) if sides.get(item.patient) == VAL)
    return Split(tuple(i for i in range(len(slices)) if i not in set(val)), val, by_patient=True)


def _only_in(val: Sequence[int], occurs: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Labels that no other slices than these hold."""
    inside = np.zeros(len(occurs), bool)
    inside[list(val)] = True
    return np.flatnonzero(occurs[inside].any(axis=0) & ~occurs[~inside].any(axis=0))


def _closest_subset(counts: Sequence[int], target: float, all_allowed: bool) -> list[int]:
    """Indices of a non-empty subset whose sum comes closest to the target."""
    total = sum(counts) + all_allowed
    last_added: dict[int, tuple[int, int]] = {0: (-1, 0)}  # reachable sum -> (index added last, sum before)
    for index, count in enumerate(counts):
        for reached in sorted(last_added, reverse=True):
            last_added.setdefault(reached + count, (index, reached))
    best = min((s for s in last_added if 0 < s < total), key=lambda s: (abs(s - target), s))
    chosen = []
    while best:
        index, best = last_added[best]
        chosen.append(index)
    return chosen


def _split_one_patient(
    slices: Sequence[LabelledSlice], val_fraction: float, rng: np.random.Generator, occurs: NDArray[np.bool_]
) -> Split:
    warnings.warn(
        "all slices are of one patient, so a block of neighbouring slices validates; "
        "this is no independent test: expect worse results on other patients",
        DataWarning,
        3,
    )
    order = sorted(range(len(slices)), key=lambda i: (slices[i].header.series_uid, slices[i].slice_index))
    size = min(max(round(val_fraction * len(slices)), 1), len(slices) - 1)
    start = int(rng.integers(0, len(slices) - size + 1))
    near = sorted(range(len(slices) - size + 1), key=lambda place: abs(place - start))
    start = next((place for place in near if not _only_in(order[place : place + size], occurs).size), start)
    block = set(order[start : start + size])
    return Split(
        train=tuple(i for i in range(len(slices)) if i not in block),
        val=tuple(sorted(block)),
        by_patient=False,
    )


def describe_side(slices: Sequence[LabelledSlice], data_dir: Path | None) -> dict[str, Any]:
    """Who is on one side of a split: how many slices, of whom, and with a data folder which files in it.

    Args:
        slices: of that side.
        data_dir: names patients and files in full; without it patients are pseudonyms.
    """
    counts = sorted(Counter(item.patient for item in slices).items())
    side: dict[str, Any] = {"slices": len(slices), "predicted": sum(item.case.predicted for item in slices)}
    if data_dir is None:
        return {**side, "patients": {pseudonym(patient): n for patient, n in counts}}
    return {**side, "patients": dict(counts), "images": [name_in(item.header.path, data_dir) for item in slices]}


def pseudonym(patient_id: str) -> str:
    """What stands for a patient where the PatientID must not go: in checkpoints, logs and W&B."""
    return hashlib.blake2b(patient_id.encode(errors="backslashreplace"), digest_size=6).hexdigest()
