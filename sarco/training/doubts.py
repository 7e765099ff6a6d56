"""What a person should know about labels before they are learnt."""

import contextlib
import re
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarco.core.errors import DataWarning, InputError
from sarco.core.messages import count_of
from sarco.io.dicom_tags import open_dataset, quiet_pydicom, quiet_text
from sarco.io.nifti import read_label_map
from sarco.layouts.case import Case
from sarco.layouts.labels import MAP, UNION
from sarco.scan.labels import BACKGROUND_ID, IGNORE_ID, LabelTable
from sarco.training.cases import LabelledSlice

_FILES_SHOWN = 5
_NAME_BREAK = re.compile(r"[\s^=,]+")
# What stands for names, then often with one birth date for all, or with the first of January.
_ANONYMISED = re.compile(r"anon|de-?id|removed|redact|patient|subject|unknown|no ?name|test|phantom|xx|^\W*$")


def _shown(files: Sequence[Path]) -> str:
    more = len(files) - _FILES_SHOWN
    return ", ".join(map(str, files[:_FILES_SHOWN])) + (f" and {more} more" if more > 0 else "")


def check_label_maps(cases: Iterable[Case], names: Collection[int]) -> None:
    """Refuses label maps in which 255 is a structure, because they would teach without it.

    A `DataWarning` tells of those that do not say how they lie: nobody but the user can know whether they are mirrored.

    Args:
        cases: what people labelled.
        names: label ids that have a name, for label maps whose own table has none.

    Raises:
        InputError: some are; names them. Or one cannot be read.
    """
    faults: dict[str, list[Path]] = defaultdict(list)
    loose = []
    for file in dict.fromkeys(file for case in cases for file in case.source.files if file.kind in (MAP, UNION)):
        label_map = read_label_map(file.path)
        if fault := label_map.fault_of_255([i for i, _ in file.names] if file.names else names):
            faults[fault].append(file.path)
        if label_map.affine_lps is None:
            loose.append(file.path)
    if faults:
        told = [f"{_shown(paths)}: {'each ' * (len(paths) > 1)}{fault}" for fault, paths in faults.items()]
        raise InputError("; ".join(told[:_FILES_SHOWN]))
    if loose:
        warnings.warn(
            f"{count_of(len(loose), 'label map')} without a usable affine, so axes count as right, anterior, superior; "
            f"look whether they lie on their images: {_shown(loose)}",
            DataWarning,
            3,
        )


def warn_of_values(slices: Sequence[LabelledSlice], occurs: NDArray[np.bool_], names: Iterable[int]) -> None:
    """A `DataWarning` where label ids are probably meant otherwise than they are read.

    Args:
        slices: what people labelled.
        occurs: (N, 256) which label ids each holds.
        names: label ids that somebody named, and so meant.
    """
    without = np.flatnonzero(~occurs[:, [BACKGROUND_ID, IGNORE_ID]].any(axis=1)).tolist()
    full = [slices[index].case.label_path for index in without]
    if full:
        warnings.warn(
            f"without any background (0): {count_of(len(full), 'slice')}, every pixel a structure; does another number "
            f"stand for background? {_shown(list(dict.fromkeys(full)))}",
            DataWarning,
            3,
        )
    held: dict[Path, set[int]] = defaultdict(set)
    for item, one in zip(slices, occurs, strict=True):
        held[item.case.label_path] |= set(np.flatnonzero(one).tolist()) - {BACKGROUND_ID, IGNORE_ID}
    alone = {min(ids) for ids in held.values() if len(ids) == 1} - set(names)
    alone -= {label_id for ids in held.values() if len(ids) > 1 for label_id in ids}
    if len(alone) > 1:
        examples = {i: next(path for path, ids in held.items() if ids == {i}) for i in sorted(alone)}
        told = ", ".join(f"{label_id} (as in {path})" for label_id, path in examples.items())
        warnings.warn(
            f"labels {told} are never in one label map and have no names; if they are one structure, give it one "
            "number; if not, name them in labels.json",
            DataWarning,
            3,
        )


def warn_of_sides(labels: LabelTable) -> None:
    """`DataWarning`s where mirrored slices may teach left as right: by a name that says too little, or by none."""
    if maybe := labels.maybe_sides():
        told = ", ".join(f"{one!r} and {other!r}" for one, other in maybe)
        warnings.warn(
            f"labels {told} may be left and right, but mirrored slices do not swap them; if they are, write left and "
            "right in labels.json",
            DataWarning,
            3,
        )
    if len(unnamed := labels.unnamed()) > 1:
        warnings.warn(
            f"labels {', '.join(map(str, unnamed))} have no names, so mirrored slices do not swap them; if some are "
            "left and right, name them in labels.json",
            DataWarning,
            3,
        )
    lonely = labels.without_partner()
    if lonely:
        warnings.warn(
            f"labels {', '.join(map(repr, lonely))} name a side, but no label is called the same of the other "
            "side, so mirrored slices teach them on both; name both alike in labels.json, or set --do_flips=no",
            DataWarning,
            3,
        )


def warn_of_namesakes(slices: Sequence[LabelledSlice]) -> None:
    """A `DataWarning` where two people of the split have one name and one birth date; shows neither.

    Args:
        slices: with whose they are (see `sarco.training.split.name_people`).
    """
    known: dict[tuple[str, str], dict[str, Path]] = defaultdict(dict)
    for patient, path in {item.patient: item.header.path for item in slices}.items():
        with quiet_pydicom(), contextlib.suppress(InputError):
            dataset = open_dataset(path, stop_before_pixels=True, specific_tags=["PatientName", "PatientBirthDate"])
            name, born = (quiet_text(dataset, tag) for tag in ("PatientName", "PatientBirthDate"))
            words = " ".join(_NAME_BREAK.split(name.casefold())).strip()
            if words and born and not _ANONYMISED.search(words) and not born.endswith("0101"):
                known[words, born][patient] = path
    if twice := [[*people.values()] for people in known.values() if len(people) > 1]:
        warnings.warn(
            f"{count_of(len(twice), 'name')} with the same birth date under several PatientIDs, the first in "
            f"{twice[0][0]} and {twice[0][1]}; if that is one person, give one PatientID, so that nobody trains and "
            "validates",
            DataWarning,
            3,
        )


def describe_mirror(labels: LabelTable) -> list[str]:
    """A line where slices are not mirrored, because nobody can say what each label is in a mirror image."""
    doubt = labels.mirror_doubt()
    return [f"slices are not mirrored: {doubt}; name left and right alike in labels.json to have it"] if doubt else []


def describe_sides(labels: LabelTable, train: NDArray[np.bool_], val: NDArray[np.bool_]) -> list[str]:
    """A `DataWarning` of labels that are never learnt, and a line about those that are never tested.

    Args:
        labels: of the data.
        train: (256,) which label ids training slices hold.
        val: likewise, validation slices.
    """
    unlearnt = [f"{label_id} ({name})" for label_id, name in labels.names.items() if not train[label_id]]
    if unlearnt:
        warnings.warn(
            f"no training slice has label {', '.join(unlearnt)}, so it is never learnt and validation counts it as "
            "missed; label it in further patients, or leave it out",
            DataWarning,
            3,
        )
    untested = [name for label_id, name in labels.names.items() if train[label_id] and not val[label_id]]
    if not untested:
        return []
    return [f"no validation slice has {', '.join(untested)}, so nothing tells how well that is found"]
