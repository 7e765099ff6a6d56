"""Measures a series again whose label map was corrected, by what the first report says of level and patient."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from sarco.core.errors import InputError, OptionError
from sarco.core.files import UnfitError, demand
from sarco.core.messages import shown
from sarco.io.results import SUMMARY, read_summary
from sarco.measurement.facts import read_facts
from sarco.measurement.level import Level, unknown_level
from sarco.measurement.patients import AGE_YEARS, HEIGHT_M, WEIGHT_KG, Patient
from sarco.measurement.series import BUILT_IN_FLAG, Evidence, KeptChecks, Plan, SeriesMeasurer
from sarco.measurement.slices import HuRanges
from sarco.scan.labels import LabelTable
from sarco.scan.series import Series

# What only whoever has the checkpoint can say.
KEPT_FLAGS = ("unlike_training", "wider_than_field", BUILT_IN_FLAG)
_LARGEST_HU = 100_000
_PATIENT_RANGES = {"height_m": HEIGHT_M, "weight_kg": WEIGHT_KG, "age_years": AGE_YEARS}


def measure_again(results: Path, series: Series, labels: LabelTable) -> SeriesMeasurer:
    """What measures a corrected label map, still empty.

    Who the patient is, where L3 lies, which labels are the muscle and which HU ranges count stay as the first report
    says; without one nobody knows them. Intervals go: they tell how far the network errs, not the person who corrected
    it.

    Args:
        results: the results folder as it was.
        series: what is measured.
        labels: names of the ids.

    Raises:
        InputError: the report is not as sarco writes it.
    """
    report = read_summary(results)
    try:
        plan = Plan(
            level=_level_of(report["level"]),
            patient=_patient_of(report["patient"]),
            acquisition=read_facts(series).acquisition,
            muscle_labels=_ids_of(report["muscle_labels"], labels),
            ranges=_ranges_of(report["hu_ranges"]),
        )
    except UnfitError as unfit:
        raise InputError(f"{results / SUMMARY}: cannot be used ({unfit}); predict again") from None
    return SeriesMeasurer(series, plan, Evidence(labels.names), _kept_of(report))


def _kept_of(report: Mapping[str, Any]) -> KeptChecks | None:
    """The checks that only the first report can speak of; None where there is no report."""
    if "series_uid" not in report:
        return None
    return KeptChecks(
        KEPT_FLAGS,
        tuple(flag for flag in report["flags"] if flag["name"] in KEPT_FLAGS),
        tuple(line for line in report["not_checked"] if line.partition(":")[0] in KEPT_FLAGS),
    )


def _level_of(stored: Mapping[str, Any]) -> Level:
    if not stored:
        return unknown_level()
    for item in fields(Level):
        demand(item.name in stored, f"its level has no {item.name}")
    for name in ("name", "how", "note", "why_not"):
        demand(isinstance(stored[name], str), f"{name} of its level is no text")
    index, slices = stored["slice_index"], stored["slices"]
    demand(index is None or type(index) is int, "slice_index of its level is no whole number")
    demand(isinstance(slices, list) and all(type(one) is int for one in slices), "slices of its level are no numbers")
    return Level(stored["name"], index, tuple(slices), stored["how"], stored["note"], stored["why_not"])


def _patient_of(stored: Mapping[str, Any]) -> Patient:
    sex, source, notes = (stored.get(name) for name in ("sex", "source", "notes"))
    demand(sex in (None, "F", "M"), f"sex of its patient is {shown(sex)}")
    for name, (low, high) in _PATIENT_RANGES.items():
        value = stored.get(name)
        fits = value is None or (type(value) in (int, float) and low <= value <= high)
        demand(fits, f"{name} of its patient is {shown(value)}")
    source, notes = {} if source is None else source, [] if notes is None else notes
    demand(
        isinstance(source, dict) and _are_texts(list(source.values())), "source of its patient is no object of texts"
    )
    demand(isinstance(notes, list) and _are_texts(notes), "notes of its patient are no texts")
    figures = {name: stored.get(name) for name in _PATIENT_RANGES}
    return Patient(sex, **figures, source=source, notes=tuple(notes))


def _are_texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _ids_of(names: list[str], labels: LabelTable) -> str:
    """The muscle labels as ids with commas, because a name may hold a comma."""
    ids = {name: label_id for label_id, name in labels.names.items()}
    for name in names:
        demand(name in ids, f"its muscle label {shown(name)} is none of {shown(', '.join(ids))}")
    return ",".join(str(ids[name]) for name in names)


def _ranges_of(stored: Mapping[str, Any]) -> HuRanges:
    known = {item.name for item in fields(HuRanges)}
    for name, limits in stored.items():
        fits = isinstance(limits, list) and len(limits) == 2 and all(type(one) is int for one in limits)
        demand(name in known and fits, f"its HU range {shown(name)} is none")
        demand(all(abs(one) <= _LARGEST_HU for one in limits), f"its HU range {shown(name)} is too wide")
    try:
        return HuRanges(**{name: (low, high) for name, (low, high) in stored.items()})
    except OptionError:
        raise UnfitError("one of its HU ranges is empty") from None
