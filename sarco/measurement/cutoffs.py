"""Published cut-offs against what was measured: one sentence a set, with the reason, and never a diagnosis.

A cut-off says "low muscle quantity by <paper>". What that means for a patient is for a physician to say: consensus
definitions put strength first and name no figure for CT (EWGSOP2, doi 10.1093/ageing/afy169).
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sarco.core.errors import InputError
from sarco.measurement.acquisition import describe_contrast
from sarco.measurement.level import LEVEL
from sarco.measurement.patients import Patient

CUTOFFS_FOLDER = Path(__file__).parent / "cutoff_sets"
MEASURES = {  # what a cut-off may be about: unit, name of the figure, name of what is low
    "smi": ("cm2/m2", "SMI", "muscle quantity"),
    "area": ("cm2", "area", "muscle quantity"),
    "density": ("HU", "SMD", "muscle density"),
}
LOW, NOT_LOW, UNDECIDED, NOT_APPLICABLE = "low", "not low", "undecided", "not applicable"

IntervalEnds = tuple[float, float]


@dataclass(frozen=True)
class Cutoff:
    """One figure of a paper: values below it count as low.

    Attributes:
        measure: a key of `MEASURES`.
        unit: its unit.
        below: the figure; a value that equals it is not low.
        sex: "F" or "M"; None for both.
        bmi_from, bmi_below: BMI range, the lower end included, the upper not; None without limit.
        contrast: False where the figure holds for CT without contrast only.
    """

    measure: str
    unit: str
    below: float
    sex: str | None = None
    bmi_from: float | None = None
    bmi_below: float | None = None
    contrast: bool | None = None


@dataclass(frozen=True)
class CutoffSet:
    """The cut-offs of one paper.

    Attributes:
        name: such as "Martin 2013".
        doi, citation: where they stand.
        population: whom they were derived from.
        level: the vertebral level they hold for.
        cutoffs: the figures.
    """

    name: str
    doi: str
    citation: str
    population: str
    level: str
    cutoffs: tuple[Cutoff, ...]


@dataclass(frozen=True)
class Assessment:
    """What one set says about one measure.

    Attributes:
        set, doi, population, level: which paper, about whom and where.
        measure, unit: what is compared.
        value: what was measured; None where it was not.
        cutoff: the figure for this patient; None where none applies.
        verdict: "low", "not low", "undecided" or "not applicable".
        why: the comparison, or why there is none.
        text: one sentence for people.
    """

    set: str
    doi: str
    population: str
    level: str
    measure: str
    unit: str
    value: float | None
    cutoff: float | None
    verdict: str
    why: str
    text: str

    def to_builtins(self) -> dict[str, Any]:
        """The assessment as a JSON file holds it."""
        return dict(vars(self))


def read_cutoffs(folder: Path = CUTOFFS_FOLDER) -> tuple[CutoffSet, ...]:
    """The sets of all ``.toml`` files of a folder, in order of their file names.

    Raises:
        InputError: a file is no TOML, or lacks or adds a key; names it.
    """
    return tuple(_read_set(path) for path in sorted(folder.glob("*.toml")))


def _read_set(path: Path) -> CutoffSet:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        cutoffs = tuple(Cutoff(**entry) for entry in content.pop("cutoff"))
        found = CutoffSet(**content, cutoffs=cutoffs)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: is no set of cut-offs ({error}); compare it with {CUTOFFS_FOLDER / 'martin_2013.toml'}"
        ) from None
    texts = [getattr(found, item.name) for item in fields(found) if item.name != "cutoffs"]
    if not cutoffs or not all(isinstance(text, str) and text for text in texts):
        raise InputError(
            f"{path}: name, doi, citation, population and level have to be texts, and a cutoff has to follow"
        )
    for cutoff in cutoffs:
        limits = [cutoff.below, *(limit for limit in (cutoff.bmi_from, cutoff.bmi_below) if limit is not None)]
        sound = cutoff.measure in MEASURES and MEASURES[cutoff.measure][0] == cutoff.unit
        sound = sound and cutoff.sex in (None, "F", "M") and cutoff.contrast in (None, False)
        if not sound or not all(type(limit) in (int, float) for limit in limits):
            raise InputError(f"{path}: a cutoff of {cutoff.measure!r} in {cutoff.unit!r} makes no sense; correct it")
    return found


def assess(
    values: Mapping[str, float | None],
    why_missing: Mapping[str, str],
    patient: Patient,
    contrast: bool | None,
    sets: Sequence[CutoffSet],
    intervals: Mapping[str, IntervalEnds] | None = None,
) -> tuple[Assessment, ...]:
    """One assessment for each measure of each set, also where the set does not apply.

    Args:
        values: by measure (see `MEASURES`), at `LEVEL`; None or absent where it was not measured.
        why_missing: by measure, why.
        patient: sex and BMI decide which figure applies.
        contrast: of the scan, as `sarco.measurement.acquisition.acquisition_of` gives it.
        sets: what to compare with.
        intervals: by measure, (low, high) of a confidence interval; a cut-off inside it makes the case undecided.
    """
    found = []
    for one in sets:
        for measure in dict.fromkeys(cutoff.measure for cutoff in one.cutoffs):
            options = [cutoff for cutoff in one.cutoffs if cutoff.measure == measure]
            value = values.get(measure)
            unit, figure, quantity = MEASURES[measure]
            cutoff, why_not = None, ""
            if one.level != LEVEL:
                why_not = f"it holds at {one.level}, measured was {LEVEL}"
            elif value is None:
                why_not = f"{figure} was not computed, because {why_missing.get(measure, 'it was not measured')}"
            else:
                cutoff, why_not = _choose(options, patient, contrast)
            if cutoff is None or value is None:
                verdict, why = NOT_APPLICABLE, why_not
                text = f"{quantity} not assessed by {one.name}: {why_not}"
            else:
                verdict, why = _compare(figure, value, cutoff.below, (intervals or {}).get(measure))
                caution = _caution(cutoff, contrast)
                text = _sentence(verdict, quantity, one.name, why) + caution
                why += caution
            found.append(
                Assessment(
                    one.name, one.doi, one.population, one.level, measure, unit, value,
                    cutoff.below if cutoff else None, verdict, why, text,
                )
            )  # fmt: skip
    return tuple(found)


def _choose(options: Sequence[Cutoff], patient: Patient, contrast: bool | None) -> tuple[Cutoff | None, str]:
    """The figure for this patient, or why there is none."""
    if patient.sex is None and all(cutoff.sex for cutoff in options):
        return None, "it depends on the sex, which is unknown"
    mine = [cutoff for cutoff in options if cutoff.sex in (None, patient.sex)]
    if not mine:
        return None, f"it has no figure for sex {patient.sex}"
    by_bmi = [cutoff for cutoff in mine if _needs_bmi(cutoff)]
    if by_bmi and patient.bmi is None:
        return None, "it depends on the BMI, which is unknown"
    fitting = [cutoff for cutoff in mine if _holds_bmi(cutoff, patient.bmi)]
    if not fitting:
        ranges = " or ".join(_bmi_text(cutoff) for cutoff in by_bmi)
        return None, f"it holds for a BMI {ranges}, this patient's is {_shown(patient.bmi or 0.0, _edges(by_bmi))}"
    if fitting[0].contrast is False and contrast:
        return None, "it holds for CT without contrast, and contrast was given"
    return fitting[0], ""


def _needs_bmi(cutoff: Cutoff) -> bool:
    return cutoff.bmi_from is not None or cutoff.bmi_below is not None


def _holds_bmi(cutoff: Cutoff, bmi: float | None) -> bool:
    if not _needs_bmi(cutoff):
        return True
    low, high = cutoff.bmi_from, cutoff.bmi_below
    return bmi is not None and (low is None or bmi >= low) and (high is None or bmi < high)


def _edges(cutoffs: Sequence[Cutoff]) -> list[float]:
    return [edge for cutoff in cutoffs for edge in (cutoff.bmi_from, cutoff.bmi_below) if edge is not None]


def _bmi_text(cutoff: Cutoff) -> str:
    parts = [f"from {cutoff.bmi_from:g}"] if cutoff.bmi_from is not None else []
    parts += [f"below {cutoff.bmi_below:g}"] if cutoff.bmi_below is not None else []
    return " ".join(parts)


def _compare(figure: str, value: float, below: float, interval: IntervalEnds | None) -> tuple[str, str]:
    """The verdict, and the comparison in figures."""
    if interval is not None and interval[0] < below <= interval[1]:
        low, high = (_shown(end, [below]) for end in interval)
        return UNDECIDED, f"{figure} {_shown(value, [below])}, whose interval {low} to {high} holds {below:g}"
    sign = "<" if value < below else "≥"
    return (LOW if value < below else NOT_LOW), f"{figure} {_shown(value, [below])} {sign} {below:g}"


def _shown(value: float, limits: Sequence[float]) -> str:
    """The value with one decimal, or with as many as it takes to lie on the right side of the limits."""
    for decimals in range(1, 8):
        rounded = round(value, decimals)
        if all((rounded < limit) == (value < limit) for limit in limits):
            return f"{rounded:.{decimals}f}"
    return repr(value)


def _caution(cutoff: Cutoff, contrast: bool | None) -> str:
    if cutoff.contrast is False and contrast is None:
        return f"; {describe_contrast(contrast)}, and the figure holds for CT without it"
    return ""


def _sentence(verdict: str, quantity: str, name: str, why: str) -> str:
    if verdict == UNDECIDED:
        return f"{quantity} undecided by {name} ({why})"
    return f"{'low ' if verdict == LOW else ''}{quantity}{' not low' if verdict == NOT_LOW else ''} by {name} ({why})"
