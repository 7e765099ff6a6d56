"""What a person should know about labels before they are learnt."""

import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarco.core.errors import DataWarning, InputError
from sarco.core.messages import count_of
from sarco.io.nifti import read_label_map
from sarco.scan.label_map import MASK_OF_255
from sarco.scan.labels import BACKGROUND_ID, IGNORE_ID, LabelTable
from sarco.training.cases import Case, LabelledSlice

_FILES_SHOWN = 5


def _shown(files: Sequence[Path]) -> str:
    more = len(files) - _FILES_SHOWN
    return ", ".join(map(str, files[:_FILES_SHOWN])) + (f" and {more} more" if more > 0 else "")


def refuse_masks_of_255(cases: Iterable[Case]) -> None:
    """Refuses label maps whose foreground is 255, because they would teach background alone.

    Raises:
        InputError: some are; names them. Or one cannot be read.
    """
    masks = [path for path in dict.fromkeys(case.label_path for case in cases) if read_label_map(path).is_mask_of_255]
    if masks:
        raise InputError(
            f"{_shown(masks)}: {len(masks)} label maps hold 0 and 255 alone. {MASK_OF_255} If so, save it with 1 "
            "instead of 255"
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
    """A `DataWarning` where a label names a side and none of the other side is its mirror image."""
    lonely = labels.without_partner()
    if lonely:
        warnings.warn(
            f"labels {', '.join(map(repr, lonely))} name a side, but no label is called the same of the other "
            "side, so mirrored slices teach them on both; name both alike in labels.json, or set --do_flips=no",
            DataWarning,
            3,
        )


def describe_mirror(labels: LabelTable) -> list[str]:
    """A line where slices are not mirrored, because a label names a side and none of the other is its mirror image."""
    lonely = ", ".join(map(repr, labels.without_partner()))
    note = f"slices are not mirrored: {lonely} of one side; name left and right alike in labels.json to have it"
    return [note] if lonely else []


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
