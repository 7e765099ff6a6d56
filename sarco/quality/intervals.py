"""How sure is an area? Conformal intervals from the errors on validation patients, with their nominal coverage.

The score of a slice is its relative error, |predicted - true area| / predicted area. Divided by the *predicted* area,
the interval of a new slice is ``predicted x (1 +- q)``, whatever the units, so that the same q holds for an index such
as area / height^2.

**What is exchangeable is the patient, not the slice.** Slices of one patient resemble each other, so counting them one
by one would pretend to know more than the patients tell. Each patient has weight 1 in all, shared equally by its
slices, and one more patient of infinite error stands for the new one:

    q = the smallest score at which the weights of scores up to it reach ``coverage`` of (n patients + 1)

With one slice a patient this is split conformal prediction: the ceil((n + 1) x coverage)-th smallest of n scores. The
promise: of a new patient, drawn as the validation patients were, a slice drawn at random as theirs were has its true
area inside with a probability of at least ``coverage``, on average over patients and over validation sets, whatever
the network and the distribution.

What it does not promise: coverage for each patient or at each level of the spine; anything for patients of another
scanner or disease than the validation patients'; all slices of a patient at once; slices in which nothing was
predicted (they have no interval, and are left out of the scores too). The best epoch is chosen on the same
validation patients, which makes their errors slightly small; ``benchmarks/interval_coverage.py`` measures what this
costs on patients that nothing was chosen on. Truth is what the person who labelled drew.

Several runs that predict together, as the folds of a cross-validation do, have the errors of all their validation
patients (`pool_errors`): of single networks on patients they never saw. The mean of several usually errs less, so its
intervals are rather wide; the promise above is proven for one network alone.

Source: Vovk, Gammerman & Shafer 2005, Algorithmic Learning in a Random World; Angelopoulos & Bates 2021,
arXiv:2107.07511, section 1 (split conformal prediction, its quantile); Lee, Barber & Willett 2023, arXiv:2306.06342
(hierarchical conformal prediction: several measurements a patient).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

COVERAGE = 0.9
ANY_LABEL = "all"  # the area of all labels together
_ROUNDING = 1e-9  # sums of weights, in patients

PatientErrors = Sequence[Sequence[float]]  # for each patient the relative errors of its slices


@dataclass(frozen=True)
class Interval:
    """A measurement with its interval, or why it has none.

    Attributes:
        what: what was measured, such as ``area_cm2``.
        value: the measurement.
        low, high: ends of the interval in the same unit; None where there is none.
        coverage: nominal.
        n_patients, n_slices: validation patients behind it, and their slices.
        why_not: why there is no interval; empty where there is one.
    """

    what: str
    value: float
    low: float | None
    high: float | None
    coverage: float
    n_patients: int
    n_slices: int
    why_not: str = ""

    def to_builtins(self) -> dict[str, Any]:
        """As ``summary.json`` holds it."""
        return asdict(self)


def fewest_patients(coverage: float = COVERAGE) -> int:
    """With fewer patients no finite interval keeps the promise.

    >>> fewest_patients(0.9), fewest_patients(0.95)
    (9, 19)
    """
    return max(1, math.ceil(1 / (1 - coverage) - _ROUNDING) - 1)


def error_quantile(errors: PatientErrors, coverage: float = COVERAGE) -> float:
    """The relative half-width q of an interval with this coverage; infinite where there are too few patients.

    Args:
        errors: for each patient the relative errors of its slices; patients without any are left out.
        coverage: nominal, between 0 and 1.

    >>> error_quantile([[0.01 * k] for k in range(1, 10)], 0.9)
    0.09
    """
    patients = [slices for slices in errors if len(slices)]
    needed = coverage * (len(patients) + 1) - _ROUNDING
    weight = 0.0
    for score, share in sorted((score, 1 / len(slices)) for slices in patients for score in slices):
        weight += share
        if weight >= needed:
            return float(score)
    return math.inf


def find_interval(
    what: str, value: float, errors: Mapping[str, PatientErrors], label: str = ANY_LABEL, coverage: float = COVERAGE
) -> Interval:
    """The interval of a predicted area, or of anything proportional to it.

    Args:
        what: its name, such as ``area_cm2`` or ``smi``.
        value: as measured on the prediction.
        errors: by label name, from the checkpoint (`sarco.runs.store.RunDescription.area_errors`).
        label: whose area it is; `ANY_LABEL` for all labels together.
        coverage: nominal.
    """
    patients = [slices for slices in errors.get(label, ()) if len(slices)]
    n_slices = sum(map(len, patients))
    low = high = None
    quantile = error_quantile(patients, coverage)
    needed = fewest_patients(coverage)
    if not patients:
        why_not = "the checkpoint holds no errors of validation patients"
    elif len(patients) < needed:
        why_not = f"{len(patients)} validation patients, {coverage:.0%} coverage takes {needed} or more"
    elif value <= 0:
        why_not = "nothing was predicted"
    elif not math.isfinite(quantile):
        why_not = "too many slices of validation patients have unlimited errors"
    else:
        why_not = ""
        low, high = max(0.0, value * (1 - quantile)), value * (1 + quantile)
    return Interval(what, value, low, high, coverage, len(patients), n_slices, why_not)


def pool_errors(several: Sequence[Mapping[str, PatientErrors]]) -> dict[str, list[list[float]]]:
    """The errors of all patients of several checkpoints, each of which has to hold those of other patients.

    Of a cross-validation these are the errors on every patient, of a network that never saw them.

    Args:
        several: of each checkpoint what `area_errors` gave.
    """
    names = dict.fromkeys(name for errors in several for name in errors)
    return {
        name: sorted(([*slices] for errors in several for slices in errors.get(name, ()) if slices), key=max)
        for name in names
    }


def area_errors(
    areas: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]], names: Sequence[str]
) -> dict[str, list[list[float]]]:
    """The relative errors that a checkpoint keeps, as plain builtins.

    Args:
        areas: by patient, for each slice the true and the predicted area of each label, in any one unit.
        names: of the labels, in the same order.

    Returns:
        By label name, and `ANY_LABEL` for all together, a list a patient; patients in the order of their worst
        errors, so that nothing tells who is who. Slices in which nothing was predicted are left out.
    """
    kept: dict[str, list[list[float]]] = {}
    columns: list[tuple[str, slice]] = [(ANY_LABEL, slice(None))]
    columns += [(name, slice(k, k + 1)) for k, name in enumerate(names) if name != ANY_LABEL]
    for name, column in columns:
        by_patient = []
        for slices in areas.values():
            pairs = [(sum(truth[column]), sum(predicted[column])) for truth, predicted in slices]
            found = sorted(abs(predicted - truth) / predicted for truth, predicted in pairs if predicted > 0)
            if found:
                by_patient.append([float(error) for error in found])
        kept[name] = sorted(by_patient, key=max)
    return kept
