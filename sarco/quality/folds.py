"""How well a network does on its validation patients, and all folds of a cross-validation together on all patients.

Every patient validates in one fold alone, for a network that never saw it: the scores of all folds are those of as many
strangers as there are patients. The epoch of each fold is chosen on its own validation patients, which makes them
slightly good.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarco.quality.intervals import ANY_LABEL


@dataclass(frozen=True)
class LabelScore:
    """One label over the patients of all folds.

    Attributes:
        label: its name; `ANY_LABEL` for all labels as one.
        n_patients: who hold it, or in whom it was found.
        dice, dice_sd: mean over them and standard deviation; of all slices of a patient together.
        area_error: |predicted - true area| / true area: mean over the slices of a patient that hold the label, then
            over the patients who hold it.
    """

    label: str
    n_patients: int
    dice: float
    dice_sd: float
    area_error: float


def score_patients(
    confusions: Mapping[str, Sequence[NDArray[np.int64]]], names: Sequence[str]
) -> dict[str, dict[str, list[float | None]]]:
    """What a checkpoint keeps of its validation patients, as plain builtins.

    Args:
        confusions: by patient, for each slice its (K, K) pixels, truth by prediction; channel 0 is background.
        names: of the labels, in the order of the channels.

    Returns:
        By patient and label name, and `ANY_LABEL` where there are several, Dice and area error as of `LabelScore`. A
        label that neither truth nor prediction hold is left out; the area error is None where the truth has none.
    """
    kept: dict[str, dict[str, list[float | None]]] = {}
    for patient, slices in confusions.items():
        counts = np.stack(slices).astype(np.float64)  # (slices, K, K)
        columns = {name: counts[:, k, k] for k, name in enumerate(names, 1)}
        truth = {name: counts[:, k].sum(axis=1) for k, name in enumerate(names, 1)}
        found = {name: counts[:, :, k].sum(axis=1) for k, name in enumerate(names, 1)}
        if len(names) > 1 and ANY_LABEL not in columns:
            columns[ANY_LABEL] = counts[:, 1:, 1:].reshape(len(counts), -1)
            truth[ANY_LABEL] = counts[:, 1:].sum(axis=(1, 2))
            found[ANY_LABEL] = counts[:, :, 1:].sum(axis=(1, 2))
        kept[patient] = {}
        for name, both in columns.items():
            if total := float(truth[name].sum() + found[name].sum()):
                held = truth[name] > 0
                errors = np.abs(found[name] - truth[name])[held] / truth[name][held]
                kept[patient][name] = [2 * float(both.sum()) / total, float(errors.mean()) if held.any() else None]
    return kept


def summarise_folds(patients: Mapping[str, Mapping[str, Sequence[Any]]]) -> list[LabelScore]:
    """A score for each label that any patient holds.

    Args:
        patients: of all folds, as `score_patients` has them.
    """
    names = dict.fromkeys(name for scores in patients.values() for name in scores)
    rows = []
    for name in names:
        pairs = [scores[name] for scores in patients.values() if name in scores]
        dice, errors = [one for one, _ in pairs], [error for _, error in pairs if error is not None]
        if errors:
            spread = statistics.stdev(dice) if len(dice) > 1 else 0.0
            rows.append(LabelScore(name, len(dice), statistics.mean(dice), spread, statistics.mean(errors)))
    return rows
