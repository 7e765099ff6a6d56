"""A corrected series is measured as the first time, with the corrected label map."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from review_results import LABELS, three_labels, write_corrections, write_review_results

from sarco.core.errors import InputError
from sarco.measure.cutoffs import read_cutoffs
from sarco.measure.level import PlacedSlice, choose_slice
from sarco.measure.mask import measure_series, read_facts
from sarco.measure.patients import Patient
from sarco.measure.remeasure import ReportMeasurer
from sarco.measure.report import summarise_series, write_measurements
from sarco.measure.slices import STANDARD_RANGES
from sarco.phantom.patient import Phantom
from sarco.review.apply import apply_corrections


def test_report_of_a_corrected_series_follows_the_label_map(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches an index of the predicted label map beside a corrected one, and a patient or level that got lost."""
    phantom = phantoms["anisotropic"]
    results, series = write_review_results(tmp_path, phantom)
    label_map, names = three_labels(phantom), dict(LABELS.names)
    planes = {plane: label_map[:, :, plane] for plane in series.plane_index}
    rows = measure_series(series, planes, names)
    placed = [PlacedSlice(p, 0.0, h.sop_uid) for p, h in zip(series.plane_index, series.slices, strict=True)]
    patient = Patient(sex="F", height_m=1.5, source={"height_m": "patients.csv"})
    facts = read_facts(series)
    level = choose_slice("1", placed)
    write_measurements(
        results,
        rows,
        summarise_series(
            series.uid, rows, names, STANDARD_RANGES, level, "1,2", patient, facts.acquisition, read_cutoffs()
        ),
    )
    apply_corrections(results, write_corrections(tmp_path / "c.json", series, label_map), ReportMeasurer)
    summary = json.loads((results / "summary.json").read_text(encoding="utf-8"))
    corrected = label_map[:, :, 1].copy()
    corrected[0, :4] = 2
    hu = phantom.hu[:, :, 1]
    muscle = np.isin(corrected, (1, 2)) & (hu >= -29) & (hu <= 150)
    area = muscle.sum() * 3.1 * 3.4 / 100
    assert summary["smi"]["value"] == pytest.approx(area / 1.5**2, abs=1e-3)
    assert summary["patient"]["source"] == {"height_m": "patients.csv"} and summary["level"]["slice_index"] == 1
    with open(results / "measurements.csv", encoding="utf-8") as file:
        counted = {(r["slice_index"], r["label_id"]): int(r["n_pixels"]) for r in csv.DictReader(file)}
    assert counted["1", "2"] == (corrected == 2).sum()


def test_a_damaged_report_is_refused(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches a traceback from a report that somebody edited."""
    results, series = write_review_results(tmp_path, phantoms["anisotropic"])
    for text in ("{", "[]", '{"level": {"name": "L3"}}', '{"hu_ranges": {"x": [1, 2]}}', '{"patient": 3}'):
        (results / "summary.json").write_text(text)
        with pytest.raises(InputError):
            ReportMeasurer(results, series, LABELS)
