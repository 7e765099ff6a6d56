"""A corrected series is measured as the first time, with the corrected label map."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from review_results import LABELS, three_labels, write_corrections, write_review_results

from sarco.core.errors import InputError
from sarco.io.images import read_hu
from sarco.measurement.facts import read_facts
from sarco.measurement.first_report import measure_again
from sarco.measurement.level import PlacedSlice, choose_slice
from sarco.measurement.patients import Patient
from sarco.measurement.report import write_measurements
from sarco.measurement.series import Evidence, Plan, SeriesMeasurer
from sarco.phantom.patient import Phantom
from sarco.review.apply import apply_corrections
from sarco.scan.labels import LabelTable
from sarco.scan.series import Series


def test_report_of_a_corrected_series_follows_the_label_map(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches an index of the predicted label map beside a corrected one, and a patient or level that got lost."""
    phantom = phantoms["anisotropic"]
    results, series = write_review_results(tmp_path, phantom)
    label_map, names = three_labels(phantom), dict(LABELS.names)
    placed = [PlacedSlice(p, 0.0, h.sop_uid) for p, h in zip(series.plane_index, series.slices, strict=True)]
    patient = Patient(sex="F", height_m=1.5, source={"height_m": "patients.csv"})
    facts = read_facts(series)
    level = choose_slice("1", placed)
    first = SeriesMeasurer(series, Plan(level, patient, facts.acquisition, "1,2"), Evidence(names, {}, {}))
    for header, plane in zip(series.slices, series.plane_index, strict=True):
        first.add(plane, read_hu(header), label_map[:, :, plane], 0.9)
    write_measurements(results, first.rows, first.summary())
    apply_corrections(results, write_corrections(tmp_path / "c.json", series, label_map))
    summary = json.loads((results / "summary.json").read_text(encoding="utf-8"))
    corrected = label_map[:, :, 1].copy()
    corrected[0, :4] = 2
    hu = phantom.hu[:, :, 1]
    muscle = np.isin(corrected, (1, 2)) & (hu >= -29) & (hu <= 150)
    area = muscle.sum() * 3.1 * 3.4 / 100
    assert summary["smi"]["value"] == pytest.approx(area / 1.5**2, abs=1e-3)
    assert summary["patient"]["source"] == {"height_m": "patients.csv"} and summary["level"]["slice_index"] == 1
    with open(results / "measurements.csv", encoding="utf-8") as file:
        count_of = {(r["slice_index"], r["label_id"]): int(r["n_pixels"]) for r in csv.DictReader(file)}
    assert count_of["1", "2"] == (corrected == 2).sum()


def test_a_damaged_report_is_refused(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches a traceback from a report that somebody edited."""
    results, series = write_review_results(tmp_path, phantoms["anisotropic"])
    for text in ("{", "[]", '{"level": {"name": "L3"}}', '{"hu_ranges": {"x": [1, 2]}}', '{"patient": 3}'):
        (results / "summary.json").write_text(text)
        with pytest.raises(InputError):
            measure_again(results, series, LABELS)


@pytest.fixture
def made(phantoms: dict[str, Phantom], tmp_path: Path) -> tuple[Path, Series]:
    """A results folder without a report, and its series."""
    return write_review_results(tmp_path, phantoms["anisotropic"])


REPORT: dict[str, Any] = {
    "series_uid": "1.2",
    "level": {"name": "L3", "slice_index": 2, "slices": [2], "how": "typed", "note": "", "why_not": ""},
    "patient": {
        "sex": "F",
        "height_m": 1.5,
        "weight_kg": None,
        "age_years": 60,
        "bmi": 3,
        "source": {},
        "notes": ["n"],
    },
    "muscle_labels": ["psoas_right", "psoas_left"],
    "hu_ranges": {"muscle": [-20, 140]},
    "flags": [{"name": "unlike_training", "reason": "r", "numbers": {"z": 9.5}, "slices": [1]}, {"name": "metal"}],
    "intervals": [{"what": "smi"}],
    "not_checked": ["low_confidence: x"],
}


def again(results: Path, series: Series, report: dict[str, Any] | None) -> SeriesMeasurer:
    """The measurer after a report, still empty."""
    if report is not None:
        (results / "summary.json").write_text(json.dumps(report), encoding="utf-8")
    return measure_again(results, series, LABELS)


def test_what_only_the_first_report_knows_is_kept(made: tuple[Path, Series]) -> None:
    """Catches a flag of the checkpoint that a correction wipes out, one that stays for ever, and stale intervals."""
    summary = again(*made, REPORT).summary()
    assert [flag for flag in summary["flags"] if flag["name"] in ("unlike_training", "metal")] == REPORT["flags"][:1]
    assert [line.partition(":")[0] for line in summary["not_checked"]] == ["low_confidence"]
    assert summary["intervals"] == [] and summary["hu_ranges"]["muscle"] == [-20, 140]
    assert summary["muscle_labels"] == ["psoas_right", "psoas_left"] and summary["level"] == REPORT["level"]
    assert summary["patient"] == REPORT["patient"] | {"bmi": None}
    unchecked = again(*made, REPORT | {"flags": [], "not_checked": ["unlike_training: because"]}).summary()
    assert "unlike_training: because" in unchecked["not_checked"] and len(unchecked["not_checked"]) == 2


def test_without_a_report_nobody_knows(made: tuple[Path, Series]) -> None:
    """Catches silence about checks that were never made, where results hold no report."""
    summary = again(*made, None).summary()
    assert summary["level"]["slice_index"] is None and summary["patient"]["height_m"] is None
    assert [line.partition(":")[0] for line in summary["not_checked"]] == ["unlike_training", "low_confidence"]


def test_a_muscle_may_have_a_comma_in_its_name(made: tuple[Path, Series]) -> None:
    """Catches a name that is cut at its comma and found nowhere."""
    results, series = made
    (results / "summary.json").write_text(json.dumps(REPORT | {"muscle_labels": ["back, deep", "psoas"]}))
    labels = LabelTable({3: "psoas", 4: "back, deep", 5: "back"})
    assert measure_again(results, series, labels).summary()["muscle_labels"] == ["back, deep", "psoas"]


WRONG: list[dict[str, Any]] = [
    *({"level": REPORT["level"] | change} for change in (
        {"slice_index": 1.5}, {"slice_index": "2"}, {"slice_index": True}, {"slice_index": 10**400}, {"slices": 2},
        {"slices": [None]}, {"slices": [1.5]}, {"name": 3}, {"note": None}, {"why_not": []},
    )),
    *({"patient": {"height_m": 1.5} | change} for change in (
        {"height_m": 0}, {"height_m": 10**400}, {"height_m": "1.5"}, {"height_m": True}, {"height_m": math.nan},
        {"weight_kg": -3}, {"age_years": []}, {"sex": "x"}, {"sex": []}, {"source": []}, {"source": {"sex": 3}},
        {"notes": "x"}, {"notes": [3]},
    )),
    *({"hu_ranges": change} for change in (
        {"muscle": 3}, {"muscle": [1]}, {"muscle": [1, 2, 3]}, {"muscle": [5, 1]}, {"muscle": [0.5, 1]},
        {"other": [1, 2]}, {"muscle": [-(10**9), 10**9]}, {"muscle": [-math.inf, math.inf]},
    )),
    {"muscle_labels": ["liver"]}, {"muscle_labels": [1]}, {"muscle_labels": "psoas_left"},
    {"flags": [{"name": "unlike_training", "numbers": {"z": math.nan}}]},
    {"flags": [{"name": "unlike_training", "slices": 3}]},
]  # fmt: skip


@pytest.mark.parametrize("change", WRONG, ids=lambda change: json.dumps(change)[:40])
def test_a_report_that_somebody_edited_is_one_line(made: tuple[Path, Series], change: dict[str, Any]) -> None:
    """Catches a traceback, and a height or a level that nobody measured."""
    with pytest.raises(InputError, match=r"summary\.json: cannot be used") as caught:
        again(*made, REPORT | change)
    assert str(caught.value).isprintable() and str(made[0]) in str(caught.value)
