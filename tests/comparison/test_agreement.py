"""Over patients: bootstrap intervals, limits of agreement by the formula, and nobody who drops out."""

import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from sarco.commands.compare import main as compare
from sarco.comparison.agreement import (
    FEWEST_FOR_BOOTSTRAP,
    FILES,
    bland_altman,
    bootstrap,
    describe_agreement,
    draw_bland_altman,
    summarise_patients,
    write_tables,
)
from sarco.comparison.maps import LabelComparison, absent
from sarco.core.errors import InputError

DIFFERENCES = (1.0, -2.0, 4.0, 0.0, 3.0, -1.5, 2.5)


def row(patient: str, difference: float, label_id: int = 1) -> LabelComparison:
    """A patient whose predicted area is off by so many cm2."""
    dice = 0.9 - abs(difference) / 100
    return LabelComparison(patient, label_id, "both", dice, dice, 2.0, 0.5, 100, 100, 100.0, 100.0 + difference, 0.02)


ROWS = [row(f"P{k}", difference) for k, difference in enumerate(DIFFERENCES)]


def test_bootstrap_interval_covers_the_mean() -> None:
    """Catches an interval of single values, of another coverage, or of another seed each time."""
    rng = np.random.default_rng(3)
    hits, widths = 0, []
    for _ in range(200):
        low, high = bootstrap(rng.normal(5, 2, 40).tolist())
        hits += low <= 5 <= high
        widths.append(high - low)
    assert 0.87 <= hits / 200 <= 0.99  # 95 % is nominal, and the percentile interval is slightly too narrow
    assert np.mean(widths) == pytest.approx(2 * 1.96 * 2 / np.sqrt(40), rel=0.1)
    values = rng.normal(5, 2, 20).tolist()
    assert bootstrap(values) == bootstrap(values)
    assert np.isnan(bootstrap(values[: FEWEST_FOR_BOOTSTRAP - 1])).all()


def test_limits_of_agreement_follow_the_formula() -> None:
    """Catches a standard deviation of n, a bias of the wrong sign, and labels thrown together."""
    (found,) = bland_altman(ROWS)
    mean = sum(DIFFERENCES) / 7
    sd = (sum((d - mean) ** 2 for d in DIFFERENCES) / 6) ** 0.5
    assert found.n == 7 and found.bias_cm2 == pytest.approx(mean) and found.sd_cm2 == pytest.approx(sd)
    assert (found.lower_cm2, found.upper_cm2) == (pytest.approx(mean - 1.96 * sd), pytest.approx(mean + 1.96 * sd))
    assert found.bias_low_cm2 < found.bias_cm2 < found.bias_high_cm2
    assert found.lower_low_cm2 < found.lower_cm2 < found.lower_high_cm2 < found.upper_low_cm2 < found.upper_high_cm2
    two = bland_altman([*ROWS, row("P0", 50.0, 2)])
    assert two[0] == found and (two[1].bias_cm2, two[1].n) == (50.0, 1)
    assert np.isnan([two[1].sd_cm2, two[1].lower_cm2, two[1].bias_low_cm2]).all()


def test_undefined_figures_are_counted_apart() -> None:
    """Catches NaN that spreads into a mean, and patients that vanish from the count."""
    missed = replace(absent("P8", 1), state="truth only", dice=0.0, iou=0.0, truth_cm2=90.0, prediction_cm2=0.0)
    rows = [*ROWS, absent("P7", 1), missed]
    found = {one.measure: one for one in summarise_patients(rows)}
    assert (found["dice"].n, found["dice"].undefined) == (8, 1)
    assert found["dice"].mean == pytest.approx(sum(one.dice for one in [*ROWS, missed]) / 8)
    assert (found["hd95_mm"].n, found["hd95_mm"].undefined, found["hd95_mm"].mean) == (7, 2, 2.0)
    (limits,) = bland_altman(rows)
    assert (limits.n, limits.undefined) == (8, 1), "a missed muscle is a difference like any other"
    lines = describe_agreement(summarise_patients(rows), bland_altman(rows), {1: "muscle"})
    assert any("undefined in 2" in line for line in lines) and not any("nan" in line for line in lines)
    nobody = summarise_patients([absent("P7", 1)])
    assert all((one.n, one.undefined) == (0, 1) and np.isnan(one.mean) for one in nobody)
    assert bland_altman([absent("P7", 1)]) == ()


def test_tables_hold_every_patient(tmp_path: Path) -> None:
    """Catches a table that loses undefined figures as 0, and results that are overwritten."""
    rows = [*ROWS, absent("P7", 1)]
    write_tables(rows, {1: "muscle"}, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(FILES)
    with open(tmp_path / "out" / "comparison.csv", newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert [one["patient"] for one in found] == [one.patient for one in rows]
    assert (found[7]["dice"], found[7]["state"], found[7]["truth_ml"], found[7]["label"]) == (
        "",
        "neither",
        "0.0",
        "muscle",
    )
    assert float(found[2]["prediction_cm2"]) == 104.0
    with pytest.raises(InputError, match="nothing is overwritten"):
        write_tables(rows, {}, tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--out"):
        write_tables(rows, {}, tmp_path / "file" / "out")


def test_plot_has_a_panel_a_label(tmp_path: Path) -> None:
    """Catches points that are not drawn, and an error for one patient or for no label at all."""
    for name, rows in (("one", ROWS), ("two", [*ROWS, row("P0", 5.0, 2)]), ("none", [absent("P", 1)])):
        draw_bland_altman(rows, {}, tmp_path / f"{name}.png")
    one, two, none = (cv2.imread(str(tmp_path / f"{name}.png")) for name in ("one", "two", "none"))
    assert two.shape[1] == 2 * one.shape[1]
    blue = (np.abs(one.astype(int) - (178, 114, 0)) < 12).all(axis=2).astype(np.uint8)
    sizes = cv2.connectedComponentsWithStats(blue)[2][1:, cv2.CC_STAT_AREA]
    assert (sizes > 10).sum() == len(DIFFERENCES), "a dot a patient"
    assert not (np.abs(none.astype(int) - (178, 114, 0)) < 12).all(axis=2).any()


def test_rows_without_any_label_make_tables(tmp_path: Path) -> None:
    """Catches an error where every label map is empty, and a row that is called background."""
    write_tables([absent("P1", 0), absent("P2", 0)], {0: "background"}, tmp_path / "out")
    with open(tmp_path / "out" / "comparison.csv", newline="", encoding="utf-8") as file:
        assert [(one["patient"], one["label"], one["state"]) for one in csv.DictReader(file)] == [
            ("P1", "no label", "neither"),
            ("P2", "no label", "neither"),
        ]


def test_where_tables_go_is_looked_at_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a long comparison whose figures have nowhere to go in the end."""
    monkeypatch.setattr("sarco.api.comparing.compare", lambda *_: pytest.fail("compared first"))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / FILES[1]).touch()
    (tmp_path / "file").touch()
    for out, told in ((tmp_path / "taken", "nothing is overwritten"), (tmp_path / "file" / "out", "choose another")):
        with pytest.raises(InputError, match=told):
            compare(["one", "two", f"--out={out}"])


def test_a_disk_that_is_full_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a traceback after the comparison."""

    def fill_up(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sarco.comparison.agreement._write_csv", fill_up)
    with pytest.raises(InputError, match=r"out: cannot be written .No space left on device.; choose another --out"):
        write_tables(ROWS, {}, tmp_path / "out")
