"""The meeting of measurements, level, patient, intervals and flags: each part gets what is its own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sarco.core.errors import InputError, OptionError
from sarco.core.options import MeasurementOptions
from sarco.io.dicom import find_series
from sarco.io.images import read_hu
from sarco.measurement.series import Evidence, Plans, SeriesMeasurer
from sarco.phantom.patient import Phantom, PhantomOptions, make_phantom, write_series
from sarco.quality.intervals import ANY_LABEL
from sarco.scan.series import Series

ERRORS = {name: [[0.01 * patient] for patient in range(1, 21)] for name in ("skeletal_muscle", ANY_LABEL)}
EVIDENCE = Evidence({1: "skeletal_muscle"}, ERRORS, {})


@pytest.fixture
def patient(tmp_path: Path) -> tuple[Phantom, Series]:
    """A phantom with one label, and its series."""
    phantom = make_phantom(3, PhantomOptions(n_slices=4, rows=96, columns=120, spacing_mm=(3.1, 3.4, 6.0)))
    write_series(phantom, tmp_path / "scan", patient_id="P001", seed=3)
    return phantom, find_series(tmp_path / "scan").series[0]


def measured(
    patient: tuple[Phantom, Series],
    options: MeasurementOptions,
    evidence: Evidence = EVIDENCE,
    order: Callable[[range], Any] = list,
    confidence: float | None = 0.97,
) -> SeriesMeasurer:
    """The measurer after all slices, which arrive in some order."""
    phantom, series = patient
    measurer = Plans([series], options, evidence).measurer(series)
    for plane in order(range(4)):
        measurer.add(plane, phantom.hu[..., plane].astype(np.float32), phantom.label_map[..., plane], confidence)
    return measurer


def test_the_index_is_that_of_the_slice_that_was_named(patient: tuple[Phantom, Series]) -> None:
    """Catches a figure of another slice, height or range, worked out here by hand."""
    phantom, _ = patient
    summary = measured(patient, MeasurementOptions(l3="2")).summary()
    inside = (phantom.label_map[..., 2] == 1) & (phantom.hu[..., 2] >= -29) & (phantom.hu[..., 2] <= 150)
    area_cm2 = np.count_nonzero(inside) * 3.1 * 3.4 / 100
    assert summary["smi"]["value"] == pytest.approx(area_cm2 / phantom.height_m**2, abs=1e-3)
    assert summary["smi"]["slices"] == [2]
    assert "no_l3" not in {flag["name"] for flag in summary["flags"]}
    assert summary["not_checked"]


def test_the_interval_follows_the_errors_of_validation(patient: tuple[Phantom, Series]) -> None:
    """Catches an interval of another label, or one that never reaches the cut-offs."""
    summary = measured(patient, MeasurementOptions(l3="2")).summary()
    (area, smi) = sorted(summary["intervals"], key=lambda one: one["what"])
    # 20 patients and 90 %: the 19th of the sorted errors, 0.19.
    assert area["low"] == pytest.approx(area["value"] * 0.81, rel=1e-3)
    assert smi["high"] == pytest.approx(smi["value"] * 1.19, rel=1e-3)
    assert (area["n_patients"], area["coverage"]) == (20, 0.9)
    inside = [c for c in summary["cutoffs"] if c["measure"] == "smi" and c["cutoff"]]
    for one in inside:
        undecided = smi["low"] < one["cutoff"] <= smi["high"]
        assert (one["verdict"] == "undecided") == undecided


@pytest.mark.parametrize("factor", [0.05, 0.15, 3.5])
def test_what_is_no_persons_size_gets_no_verdict(patient: tuple[Phantom, Series], factor: float) -> None:
    """Catches "low muscle quantity" of a body of 5 cm, or an SMI of a body a metre wide."""
    phantom, series = patient
    affine = series.affine_lps.copy()
    affine[:3, :2] *= factor
    spacing = (3.1 * factor, 3.4 * factor)
    slices = tuple(replace(one, spacing_mm=spacing) for one in series.slices)
    scaled = replace(series, affine_lps=affine, slices=slices)
    summary = measured((phantom, scaled), MeasurementOptions(l3="2")).summary()
    (flag,) = (flag for flag in summary["flags"] if flag["name"] == "body_size")
    assert "spacing is in another unit" in flag["reason"]
    assert summary["smi"]["value"] is None
    assert summary["at_level"] is None
    assert {one["verdict"] for one in summary["cutoffs"]} == {"not applicable"}
    assert "body" in summary["smi"]["why_not"]


def test_doubts_of_the_headers_become_flags(patient: tuple[Phantom, Series]) -> None:
    """Catches a density of a computed image without a word beside it."""
    phantom, series = patient
    doubtful = tuple(replace(one, doubts=("coarse: one grey level is 32 HU",)) for one in series.slices)
    for slices, told in ((series.slices, []), (doubtful, ["the series is coarse: one grey level is 32 HU"])):
        summary = measured((phantom, replace(series, slices=slices)), MeasurementOptions(l3="2")).summary()
        assert [flag["reason"] for flag in summary["flags"] if flag["name"] == "doubtful_hu"] == told


def test_series_that_share_a_uid_have_their_own_plans(patient: tuple[Phantom, Series], tmp_path: Path) -> None:
    """Catches one patient's height or level in the index of another, where an anonymiser gave both one UID."""
    _, series = patient
    write_series(make_phantom(5, PhantomOptions(n_slices=6)), tmp_path / "other", patient_id="P002", seed=4)
    other = replace(find_series(tmp_path / "other").series[0], uid=series.uid)
    plans = Plans([series, other], MeasurementOptions(), EVIDENCE)
    assert plans.measurer(series).plan.patient != plans.measurer(other).plan.patient


def test_without_a_level_nothing_is_guessed(patient: tuple[Phantom, Series]) -> None:
    """Catches slice 0 measured in silence."""
    summary = measured(patient, MeasurementOptions()).summary()
    assert summary["smi"]["value"] is None
    assert summary["smi"]["why_not"].startswith("not computed, because")
    assert "no_l3" in {flag["name"] for flag in summary["flags"]}
    assert len(summary["area_profile"]["z_mm"]) == 4
    assert summary["intervals"] == []


def test_the_order_of_arrival_does_not_matter(patient: tuple[Phantom, Series]) -> None:
    """Catches rows that follow the batches instead of the body."""
    forward = measured(patient, MeasurementOptions(l3="1"))
    backward = measured(patient, MeasurementOptions(l3="1"), order=reversed)
    assert forward.rows == backward.rows
    assert forward.summary() == backward.summary()
    assert [row.slice_index for row in forward.rows] == [0, 1, 2, 3]


def test_an_unsure_network_is_flagged(patient: tuple[Phantom, Series]) -> None:
    """Catches a confidence that is handed on to nobody."""
    flags = measured(patient, MeasurementOptions(), confidence=0.5).summary()["flags"]
    assert "low_confidence" in {flag["name"] for flag in flags}


def test_the_table_decides_who_it_is(patient: tuple[Phantom, Series], tmp_path: Path) -> None:
    """Catches a height from DICOM where the user gave a better one."""
    (tmp_path / "patients.csv").write_text("PatientID,sex,height_cm\nP001,F,150\n", encoding="utf-8")
    summary = measured(patient, MeasurementOptions(l3="2", patients=tmp_path / "patients.csv")).summary()
    plain = measured(patient, MeasurementOptions(l3="2")).summary()
    height_m = patient[0].height_m
    assert summary["smi"]["value"] == pytest.approx(plain["smi"]["value"] * (height_m / 1.5) ** 2, rel=1e-3)
    (tmp_path / "patients.csv").write_text("PatientID,sex,height_cm\nP0011,F,150\n", encoding="utf-8")
    with pytest.raises(InputError, match="no row for 1 of the series"):
        Plans([patient[1]], MeasurementOptions(patients=tmp_path / "patients.csv"), EVIDENCE)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (MeasurementOptions(hu_ranges="muscle=10:5"), "hu_ranges"),
        (MeasurementOptions(muscle_labels="psoas"), "muscle_labels"),
        (MeasurementOptions(l3_label=4), "vertebrae"),
    ],
)
def test_a_flag_that_cannot_be_meant_is_told_before_anything_is_read(options: MeasurementOptions, says: str) -> None:
    """Catches an hour of predicting for a mistyped name."""
    with pytest.raises(OptionError, match=says):
        Plans([], options, EVIDENCE)


def test_a_place_in_one_of_several_series_is_refused(patient: tuple[Phantom, Series]) -> None:
    """Catches slice 2 of every series taken for L3."""
    other = replace(patient[1], uid="1.2.3")
    with pytest.raises(OptionError, match="there are 2"):
        Plans([patient[1], other], MeasurementOptions(l3="2"), EVIDENCE)


def test_several_labels_have_no_interval_of_their_own(patient: tuple[Phantom, Series]) -> None:
    """Catches the interval of one label given to the sum of two."""
    evidence = Evidence({1: "psoas", 2: "back", 3: "wall"}, {"psoas": ERRORS["skeletal_muscle"]}, {})
    summary = measured(patient, MeasurementOptions(l3="2", muscle_labels="psoas,back"), evidence).summary()
    assert all(one["low"] is None and one["why_not"] for one in summary["intervals"])


def names_of(summary: dict[str, Any]) -> list[str]:
    """The flags of a summary."""
    return [flag["name"] for flag in summary["flags"]]


def test_anybodys_mask_is_judged_as_a_prediction_is(patient: tuple[Phantom, Series]) -> None:
    """Catches flags or figures that depend on who drew the mask, and checks that are left out in silence."""
    options = MeasurementOptions(l3="2")
    predicted = measured(patient, options).summary()
    anybody = measured(patient, options, Evidence(EVIDENCE.labels), confidence=None).summary()
    assert predicted["intervals"] and anybody["intervals"] == []
    assert [line.partition(":")[0] for line in anybody["not_checked"]] == ["unlike_training", "low_confidence"]
    assert [line.partition(":")[0] for line in predicted["not_checked"]] == ["unlike_training"]
    assert "checkpoint" in predicted["not_checked"][0] and "checkpoint" not in anybody["not_checked"][0]
    differing = {"intervals", "not_checked", "cutoffs"}  # an interval may leave a cut-off undecided
    for part in predicted.keys() - differing:
        assert anybody[part] == predicted[part], part


def test_a_slice_that_nobody_drew_on_is_no_gap(patient: tuple[Phantom, Series]) -> None:
    """Catches "slices are missing" for a mask of some slices, and a gap of the scan inside the mask that is lost."""
    phantom, whole = patient
    evidence = Evidence(EVIDENCE.labels)
    for lost, drawn, expected in (
        ((), (1,), []),
        ((), (0, 3), []),
        ((2,), (0, 1), []),
        ((1,), (0, 2), [1]),
        ((1,), (0, 2, 3), [1]),
    ):
        kept = tuple(plane for plane in whole.plane_index if plane not in lost)
        series = replace(whole, slices=tuple(whole.slices[plane] for plane in kept), plane_index=kept)
        measurer = Plans([series], MeasurementOptions(), evidence).measurer(series)
        for plane in drawn:
            measurer.add(plane, read_hu(whole.slices[plane]), phantom.label_map[..., plane])
        found = [flag["slices"] for flag in measurer.summary()["flags"] if flag["name"] == "gaps"]
        assert found == ([expected] if expected else []), (lost, drawn)


def test_no_slice_at_all_is_still_a_report(patient: tuple[Phantom, Series]) -> None:
    """Catches a minimum of nothing."""
    measurer = Plans([patient[1]], MeasurementOptions(l3="2"), EVIDENCE).measurer(patient[1])
    summary = measurer.summary()
    assert measurer.rows == [] and summary["at_level"] is None and "no label map" in summary["smi"]["why_not"]


@pytest.mark.parametrize("named", [True, False])
def test_255_is_judged_as_it_is_measured(patient: tuple[Phantom, Series], named: bool) -> None:
    """Catches a mask of 0 and 255 that is measured and at once flagged as empty, or the other way round."""
    phantom, series = patient
    labels = {255: "skeletal_muscle"} if named else {1: "skeletal_muscle"}
    measurer = Plans([series], MeasurementOptions(), Evidence(labels)).measurer(series)
    for plane in range(4):
        measurer.add(plane, read_hu(series.slices[plane]), np.where(phantom.label_map[..., plane], 255, 0).astype("u1"))
    assert ("empty_mask" in names_of(measurer.summary())) is not named
    assert (sum(row.n_pixels for row in measurer.rows) > 0) is named


def test_slices_that_are_no_cross_sections_are_not_judged_as_such(
    turned_phantoms: dict[str, Phantom], tmp_path: Path
) -> None:
    """Catches "the field of view cuts the body" and arms on every coronal series."""
    for kind in ("axial", "coronal", "sagittal"):
        phantom = turned_phantoms[kind]
        write_series(phantom, tmp_path / kind, patient_id="P001", seed=3)
        series = find_series(tmp_path / kind).series[0]
        measurer = Plans([series], MeasurementOptions(), Evidence(phantom.label_names)).measurer(series)
        for header, plane in zip(series.slices, series.plane_index, strict=True):
            hu = read_hu(header)
            hu[:, : hu.shape[1] // 2] = 40  # tissue up to the edge
            measurer.add(plane, hu, phantom.label_map[..., plane])
        summary = measurer.summary()
        unchecked = {line.partition(":")[0] for line in summary["not_checked"]}
        assert ("body_cut" in names_of(summary)) == (kind == "axial")
        assert ({"body_cut", "mask_at_edge", "arms"} <= unchecked) == (kind != "axial")
