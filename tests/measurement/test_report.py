"""What is written: every row with what its density depends on, and a summary whose figures follow from the rows."""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sarco.anatomy.labels import INVENTED_LABELS, MUSCLE_NAMES
from sarco.core.errors import OptionError
from sarco.core.options import MeasurementOptions
from sarco.io.nifti import write_label_map
from sarco.measurement.cutoffs import read_cutoffs
from sarco.measurement.level import Level, unknown_level
from sarco.measurement.mask import measure_mask
from sarco.measurement.patients import Patient
from sarco.measurement.report import choose_muscle, describe_summary, summarise_series, write_measurements
from sarco.measurement.slices import STANDARD_RANGES, HuRanges, SliceMeasurement, measure_slice
from sarco.phantom.patient import PhantomOptions, make_phantom, write_series

LABELS = {1: "psoas", 2: "wall"}
AFFINE = np.diag([10.0, 10.0, 5.0, 1.0])  # each pixel is 1 cm2
ACQUISITION = {"contrast": None, "kvp": 120.0, "kernel": "Br38f", "slice_thickness_mm": 5.0}
WOMAN = Patient(sex="F", height_m=2.0, weight_kg=88.0, source={"height_m": "patients.csv line 2"})

# Pixels of psoas and wall by slice; all of 50 HU, but 2 of the wall on slice 2 are fat.
PIXELS = {1: (10, 20), 2: (30, 60), 3: (20, 40), 5: (0, 0)}


def rows() -> list[SliceMeasurement]:
    """Measurements of four slices; slice 4 is a gap."""
    found: list[SliceMeasurement] = []
    for index, (psoas, wall) in PIXELS.items():
        ids = np.array([1] * psoas + [2] * wall + [0] * (200 - psoas - wall), np.uint8).reshape(10, 20)
        hu = np.full((10, 20), 50.0, np.float32)
        if index == 2:
            hu.ravel()[[30, 31]] = -100
        found += measure_slice(hu, ids, AFFINE, index, LABELS)
    return found


def at(index: int, slices: Sequence[int] = ()) -> Level:
    """L3 on this slice."""
    return Level("L3", index, tuple(slices) or (index,), "--l3", "", "")


def summary_of(level: Level, muscle: str = "all", patient: Patient = WOMAN, **more: Any) -> dict[str, Any]:
    """The summary of the four slices."""
    return summarise_series(
        "1.2.3", rows(), LABELS, STANDARD_RANGES, level, muscle, patient, ACQUISITION, read_cutoffs(), **more
    )


def test_the_index_is_area_in_range_over_squared_height() -> None:
    """Catches fat in the index, one label for all, and a height that is not squared: (30 + 58) / 2^2."""
    found = summary_of(at(2))
    assert found["smi"]["value"] == pytest.approx(22.0)
    assert (found["smi"]["unit"], found["smi"]["slices"], found["smi"]["why_not"]) == ("cm2/m2", [2], "")
    assert found["at_level"]["area_cm2"] == pytest.approx(90)
    assert found["at_level"]["area_in_range_cm2"] == pytest.approx(88)
    assert found["at_level"]["fat_cm2"] == pytest.approx(2)
    assert found["at_level"]["mean_hu_in_range"] == pytest.approx(50)
    assert found["over_vertebra"] is None
    low = [one["text"] for one in found["cutoffs"] if one["verdict"] == "low"]
    assert "low muscle quantity by Martin 2013 (SMI 22.0 < 41)" in low


def test_the_mean_over_a_vertebra_is_that_of_its_slices() -> None:
    """Catches the middle slice called a mean: (30 + 88 + 60) / 3 = 59.33 cm2."""
    found = summary_of(at(2, (1, 2, 3)))
    assert found["over_vertebra"]["area_in_range_cm2"] == pytest.approx(178 / 3, abs=1e-4)
    assert found["over_vertebra"]["mean_hu_in_range"] == pytest.approx(50)
    assert found["smi"]["mean_over_vertebra"] == pytest.approx(178 / 3 / 4, abs=1e-4)
    assert found["smi"]["value"] == pytest.approx(22.0)


def test_labels_can_be_chosen() -> None:
    """Catches an index of all labels where one was named."""
    assert summary_of(at(2), "psoas")["smi"]["value"] == pytest.approx(7.5)
    assert summary_of(at(2), "2")["smi"]["value"] == pytest.approx(14.5)
    assert summary_of(at(2), "wall, psoas")["muscle_labels"] == ["wall", "psoas"]


@pytest.mark.parametrize(
    ("level", "muscle", "patient", "why"),
    [
        (unknown_level(), "all", WOMAN, "not computed, because the L3 slice is unknown; give --l3"),
        (unknown_level("label 29 marks no voxel"), "all", WOMAN, "not computed, because label 29 marks no voxel"),
        (at(2), "", WOMAN, "not computed, because no label is called skeletal_muscle; say with --muscle_labels"),
        (at(2), "all", Patient(sex="F"), "not computed, because the height is unknown"),
        (at(4), "all", WOMAN, "not computed, because slice 4 has no label map"),
        (at(5), "all", WOMAN, "not computed, because the mask holds no muscle on slice 5"),
    ],
)
def test_without_a_part_there_is_a_reason_and_no_index(level: Level, muscle: str, patient: Patient, why: str) -> None:
    """Catches a silent default: slice 0, all labels, 1.70 m, or an index of 0."""
    found = summary_of(level, muscle, patient)
    assert found["smi"]["value"] is None
    assert found["smi"]["slices"] == []
    assert found["smi"]["why_not"].startswith(why)
    assert not [one for one in found["cutoffs"] if one["measure"] == "smi" and one["verdict"] != "not applicable"]
    assert any(line.startswith(f"smi: {why}") for line in describe_summary(found))


def test_area_and_density_need_no_height() -> None:
    """Catches all cut-offs lost with the height."""
    found = {(one["set"], one["measure"]): one for one in summary_of(at(2), patient=Patient(sex="F"))["cutoffs"]}
    assert found["Derstine 2018", "area"]["verdict"] == "low"  # 88 < 92.2
    assert found["Derstine 2018", "density"]["verdict"] == "not low"
    assert "the height is unknown" in found["Derstine 2018", "smi"]["why"]


def test_a_volume_is_the_sum_over_slices() -> None:
    """Catches gaps that count, and areas called volumes: 60 psoas pixels of 0.5 ml."""
    psoas, wall = summary_of(unknown_level())["labels"]
    assert (psoas["id"], psoas["name"]) == (1, "psoas")
    assert psoas["volume_ml"] == pytest.approx(30)
    assert wall["volume_ml"] == pytest.approx(60)
    assert wall["volume_in_range_ml"] == pytest.approx(59)
    assert wall["fat_ml"] == pytest.approx(1)
    assert (wall["n_slices"], wall["largest_area_cm2"]) == (3, pytest.approx(60))
    assert wall["mean_hu"] == pytest.approx((118 * 50 - 200) / 120)


def test_the_profile_goes_along_the_body() -> None:
    """Catches areas beside the wrong place."""
    profile = summary_of(unknown_level())["area_profile"]
    assert profile["slice_index"] == [1, 2, 3, 5]
    assert profile["z_mm"] == [5, 10, 15, 25]
    assert profile["area_cm2"] == {"psoas": pytest.approx([10, 30, 20, 0]), "wall": pytest.approx([20, 60, 40, 0])}


def test_what_others_found_stands_in_the_summary() -> None:
    """Catches intervals and flags that are dropped on the way."""
    found = summary_of(
        at(2),
        intervals={"smi": (20.0, 43.0)},
        interval_records=[{"measure": "smi", "coverage": 0.9}],
        flags=[{"name": "metal", "reason": "r", "numbers": {}, "slices": [2]}],
    )
    assert found["intervals"] == [{"measure": "smi", "coverage": 0.9}]
    assert found["flags"][0]["name"] == "metal"
    assert {one["verdict"] for one in found["cutoffs"] if one["set"] == "Martin 2013" and one["measure"] == "smi"} == {
        "undecided"
    }
    assert found["hu_ranges"]["muscle"] == [-29, 150]
    assert found["acquisition"]["kernel"] == "Br38f"
    assert found["patient"]["source"] == {"height_m": "patients.csv line 2"}


def test_the_table_has_a_row_a_slice_and_label(tmp_path: Path) -> None:
    """Catches densities without what they depend on, flags on the wrong slice, and those of the series on none."""
    flags = [{"name": "metal", "slices": [2]}, {"name": "arms", "slices": [2, 3]}, {"name": "no_l3", "slices": []}]
    summary = summary_of(at(2), flags=flags)
    write_measurements(tmp_path, rows(), summary)
    with open(tmp_path / "measurements.csv", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["slice_index"], row["label"]) for row in table] == [
        (str(index), name) for index in PIXELS for name in LABELS.values()
    ]
    assert {(row["contrast"], row["kvp"], row["kernel"], row["slice_thickness_mm"]) for row in table} == {
        ("contrast not recorded", "120.0", "Br38f", "5.0")
    }
    assert [row["flags"] for row in table] == ["no_l3"] * 2 + ["metal;arms;no_l3"] * 2 + ["arms;no_l3"] * 2 + [
        "no_l3"
    ] * 2
    assert [float(row["area_cm2"]) for row in table] == pytest.approx([10, 20, 30, 60, 20, 40, 0, 0])
    assert table[-1]["mean_hu"] == ""
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8")) == summary


def test_the_table_agrees_with_the_summary(tmp_path: Path) -> None:
    """Catches two files of one result that say different things."""
    summary = summary_of(at(2))
    write_measurements(tmp_path, rows(), summary)
    with open(tmp_path / "measurements.csv", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    for label in summary["labels"]:
        mine = [row for row in table if row["label_id"] == str(label["id"])]
        assert sum(float(row["volume_ml"]) for row in mine) == pytest.approx(label["volume_ml"], abs=1e-3)


def test_no_word_of_a_diagnosis(tmp_path: Path) -> None:
    """Catches a disease in any file or line."""
    summary = summary_of(at(2))
    write_measurements(tmp_path, rows(), summary)
    texts = [*describe_summary(summary), *(path.read_text(encoding="utf-8") for path in tmp_path.iterdir())]
    assert not re.search("sarcop|diagnos", "\n".join(texts), re.IGNORECASE)


def test_only_the_whole_muscle_is_taken_for_granted() -> None:
    """Catches an index of the psoas compared with figures of all muscle."""
    assert choose_muscle("", {4: "Skeletal_Muscle", 5: "liver"}) == ((4,), "")
    assert choose_muscle("", {1: "muscle"}) == ((1,), "")
    ids, why = choose_muscle("", {1: "psoas_left", 2: "label_2"})
    assert ids == ()
    assert "psoas_left, label_2" in why
    assert choose_muscle("all", {1: "a", 7: "b"}) == ((1, 7), "")
    assert choose_muscle("b,1,b", {1: "a", 7: "b"}) == ((7, 1), "")
    with pytest.raises(OptionError, match="no label 'liver'"):
        choose_muscle("a,liver", {1: "a"})


def test_other_ranges_are_written_down() -> None:
    """Catches a result that does not say by which table it was made."""
    ranges = HuRanges.parse("muscle=0:100")
    found = summarise_series("1.2.3", rows(), LABELS, ranges, at(2), "all", WOMAN, ACQUISITION, ())
    assert found["hu_ranges"] == {"muscle": [0, 100], "lama": [-29, 29], "nama": [30, 150], "imat": [-190, -30]}


def flag(name: str, *slices: int) -> dict[str, Any]:
    """A quality flag as a summary has it."""
    return {"name": name, "reason": f"because of {name}", "slices": list(slices)}


def test_flags_are_told_first() -> None:
    """Catches a figure that one reads before the reason to doubt it."""
    found = list(describe_summary(summary_of(at(2), flags=[flag("streaks", 2), flag("air_in_mask", 1, 2)])))
    assert found[:2] == ["flag streaks: because of streaks", "flag air_in_mask: because of air_in_mask"]
    assert not any(line.startswith("flag ") for line in found[2:])


@pytest.mark.parametrize("name", ["unlike_training", "low_confidence", "air_in_mask"])
def test_no_verdict_stands_without_the_flag_that_speaks_against_it(name: str) -> None:
    """Catches "low muscle quantity" that somebody copies out of a terminal without its doubt; figures likewise."""
    plain, doubted = summary_of(at(2)), summary_of(at(2), flags=[flag("streaks", 2), flag(name)])
    verdicts = {one["text"] for one in plain["cutoffs"] if one["verdict"] != "not applicable"}
    assert len(verdicts) >= 3
    lines = list(describe_summary(plain))
    assert verdicts <= set(lines)
    lines = list(describe_summary(doubted))
    mark = f" [flagged: {name}]"
    for text in verdicts:
        (line,) = [line for line in lines if line.startswith(text)]
        assert line == text + mark
    figures = [line for line in lines if re.search(r"\d (ml|cm2)\b|cm2/m2", line) and not line.startswith("flag ")]
    assert len(figures) >= 4 and all(line.endswith(mark) for line in figures), figures


@pytest.mark.parametrize(("kind", "name"), [("air", "air_in_mask"), ("empty", "empty_mask")])
def test_a_mask_of_air_or_nothing_is_no_plain_volume(kind: str, name: str, tmp_path: Path) -> None:
    """Catches "12.3 ml" of a mask that is 90 % air, and "0.0 ml" of one that found nothing; from pixels to lines."""
    phantom = make_phantom(3, PhantomOptions(n_slices=3, rows=64, columns=72))
    write_series(phantom, tmp_path / "scan", patient_id="P001", seed=1)
    mask = np.zeros_like(phantom.label_map)
    if kind == "air":
        muscle = np.argwhere(phantom.label_map[..., 1] == 1)[:10]
        mask[muscle[:, 0], muscle[:, 1], 1] = 1
        air = np.argwhere(phantom.hu[..., 1] < -900)[:90]
        mask[air[:, 0], air[:, 1], 1] = 1
    (tmp_path / "labels.json").write_text('{"1": "skeletal_muscle"}', encoding="utf-8")
    write_label_map(tmp_path / "mask.nii.gz", mask, phantom.affine_lps)
    found = measure_mask(tmp_path / "scan", tmp_path / "mask.nii.gz", MeasurementOptions(l3="1"))
    lines = list(describe_summary(found.summary))
    assert any(line.startswith(f"flag {name}: ") for line in lines)
    (line,) = [line for line in lines if line.startswith("skeletal_muscle: ")]
    assert name in line.split("[flagged: ")[1]
    assert ("ml" in line) == (kind == "air")
    figures = [line for line in lines if re.search(r"\d (ml|cm2)\b", line) and not line.startswith("flag ")]
    assert all(name in line for line in figures), figures


def test_all_compartments_are_the_muscle() -> None:
    """Catches an index without the built-in network's muscle, one with its bone, and one of a part of it."""
    ids, why = choose_muscle("", INVENTED_LABELS)
    assert [INVENTED_LABELS[label] for label in ids] == list(MUSCLE_NAMES) and why == ""
    few = {label: name for label, name in INVENTED_LABELS.items() if name != "psoas_left"}
    assert choose_muscle("", few)[0] == ()
