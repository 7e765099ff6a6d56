"""Cut-offs: golden figures of the papers at their boundaries, and what the sentences say."""

import dataclasses
import math
import re
from pathlib import Path

import pytest

from sarco.core.errors import InputError
from sarco.measurement.cutoffs import CUTOFFS_FOLDER, Assessment, assess, read_cutoffs
from sarco.measurement.patients import Patient

SETS = read_cutoffs()


def patient(sex: str | None, bmi: float | None) -> Patient:
    """A patient with this BMI, exactly: of 1 m height, so that weight is BMI."""
    return Patient(sex=sex, height_m=1.0 if bmi else None, weight_kg=bmi)


def verdict_of(
    name: str, measure: str, value: float | None, sex: str | None, bmi: float | None, contrast: bool | None = False
) -> Assessment:
    """What one set says."""
    found = assess({measure: value}, {}, patient(sex, bmi), contrast, SETS)
    (one,) = [a for a in found if (a.set, a.measure) == (name, measure)]
    return one


# The figures as the papers print them: set, measure, sex, BMI, cut-off.
GOLDEN = [
    ("Prado 2008", "smi", "F", 30.0, 38.5),
    ("Prado 2008", "smi", "M", 30.0, 52.4),
    ("Prado 2008", "smi", "F", 41.0, 38.5),
    ("Martin 2013", "smi", "F", 18.0, 41.0),
    ("Martin 2013", "smi", "F", 24.999, 41.0),
    ("Martin 2013", "smi", "F", 25.0, 41.0),
    ("Martin 2013", "smi", "F", 36.0, 41.0),
    ("Martin 2013", "smi", "F", None, 41.0),
    ("Martin 2013", "smi", "M", 24.999, 43.0),
    ("Martin 2013", "smi", "M", 25.0, 53.0),
    ("Martin 2013", "smi", "M", 36.0, 53.0),
    ("Martin 2013", "density", "F", 24.999, 41.0),
    ("Martin 2013", "density", "F", 25.0, 33.0),
    ("Martin 2013", "density", "M", 24.999, 41.0),
    ("Martin 2013", "density", "M", 25.0, 33.0),
    ("Martin 2013", "density", None, 22.0, 41.0),
    ("Derstine 2018", "smi", "F", None, 34.4),
    ("Derstine 2018", "smi", "M", None, 45.4),
    ("Derstine 2018", "area", "F", None, 92.2),
    ("Derstine 2018", "area", "M", None, 144.3),
    ("Derstine 2018", "density", "F", None, 34.3),
    ("Derstine 2018", "density", "M", None, 38.5),
]


@pytest.mark.parametrize(("name", "measure", "sex", "bmi", "cutoff"), GOLDEN)
def test_the_boundary_of_each_figure(name: str, measure: str, sex: str, bmi: float | None, cutoff: float) -> None:
    """Catches swapped sexes, 53 applied to women, and "at" count_of as "below"."""
    cases = [
        (math.nextafter(cutoff, 0), "low"),
        (cutoff - 0.1, "low"),
        (cutoff, "not low"),
        (math.nextafter(cutoff, math.inf), "not low"),
    ]
    for value, verdict in cases:
        found = verdict_of(name, measure, value, sex, bmi)
        assert (found.cutoff, found.verdict) == (cutoff, verdict)


def test_there_are_no_other_figures() -> None:
    """Catches a cut-off that no golden case checks."""
    checked = {(name, measure, cutoff) for name, measure, _, _, cutoff in GOLDEN}
    assert {(one.name, cutoff.measure, cutoff.below) for one in SETS for cutoff in one.cutoffs} == checked
    assert {one.name: one.doi for one in SETS} == {
        "Prado 2008": "10.1016/S1470-2045(08)70153-0",
        "Martin 2013": "10.1200/JCO.2012.45.2722",
        "Derstine 2018": "10.1038/s41598-018-29825-5",
    }
    assert {one.level for one in SETS} == {"L3"}


def test_the_sentence_of_a_low_value() -> None:
    """Catches a verdict without its paper or its figures."""
    found = verdict_of("Martin 2013", "smi", 39.2, "F", 22.0)
    assert found.text == "low muscle quantity by Martin 2013 (SMI 39.2 < 41)"
    assert found.why == "SMI 39.2 < 41"
    assert (
        verdict_of("Martin 2013", "smi", 44.26, "F", 22).text
        == "muscle quantity not low by Martin 2013 (SMI 44.3 ≥ 41)"
    )
    assert (
        verdict_of("Martin 2013", "density", 30.0, "M", 27).text == "low muscle density by Martin 2013 (SMD 30.0 < 33)"
    )
    assert (
        verdict_of("Derstine 2018", "area", 90.0, "F", None).text
        == "low muscle quantity by Derstine 2018 (area 90.0 < 92.2)"
    )


@pytest.mark.parametrize("value", [40.96, 40.9999, 41.04, 40.99999999999])
def test_shown_figures_are_true(value: float) -> None:
    """Catches "SMI 41.0 < 41": a figure rounded onto the other side of its cut-off."""
    why = verdict_of("Martin 2013", "smi", value, "F", 22.0).why
    shown, sign, cutoff = re.fullmatch(r"SMI ([\d.]+) ([<≥]) ([\d.]+)", why).groups()
    assert (float(shown) < float(cutoff)) == (sign == "<") == (value < 41)
    assert abs(float(shown) - value) < 0.05


@pytest.mark.parametrize(
    ("name", "measure", "value", "sex", "bmi", "contrast", "why"),
    [
        ("Prado 2008", "smi", 30.0, "F", 29.99, None, "holds for a BMI from 30, this patient's is 29.99"),
        ("Prado 2008", "smi", 30.0, "F", None, None, "depends on the BMI, which is unknown"),
        ("Prado 2008", "smi", 30.0, None, 35.0, None, "depends on the sex, which is unknown"),
        ("Martin 2013", "smi", 30.0, "M", None, None, "depends on the BMI, which is unknown"),
        ("Martin 2013", "smi", 30.0, None, 22.0, None, "depends on the sex, which is unknown"),
        ("Martin 2013", "smi", None, "F", 22.0, None, "SMI was not computed, because"),
        ("Derstine 2018", "density", 30.0, "F", None, True, "CT without contrast, and contrast was given"),
    ],
)
def test_a_set_that_does_not_apply_says_why(
    name: str, measure: str, value: float, sex: str, bmi: float, contrast: bool, why: str
) -> None:
    """Catches figures applied to people or scans that they were not made for, and sets left out in silence."""
    found = verdict_of(name, measure, value, sex, bmi, contrast)
    assert (found.verdict, found.cutoff) == ("not applicable", None)
    assert why in found.why
    assert found.text.startswith("muscle ")
    assert name in found.text


def test_the_reason_of_a_missing_value_is_passed_on() -> None:
    """Catches "not computed" without a because."""
    found = assess({"smi": None}, {"smi": "the height is unknown"}, patient("F", 22), None, SETS)
    assert "SMI was not computed, because the height is unknown" in found[0].why


def test_another_level_has_no_figures_yet() -> None:
    """Catches figures of L1 applied to a slice of L3."""
    sets = [dataclasses.replace(one, level="L1") for one in SETS]
    found = assess({"smi": 30.0, "area": 80.0, "density": 30.0}, {}, patient("F", 35), False, sets)
    assert {one.verdict for one in found} == {"not applicable"}
    assert all("it holds at L1, measured was L3" in one.why for one in found)


def test_unrecorded_contrast_is_a_caution() -> None:
    """Catches a density compared in silence with figures of another phase."""
    found = verdict_of("Derstine 2018", "density", 30.0, "F", None, contrast=None)
    assert found.verdict == "low"
    assert "contrast not recorded" in found.text


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((37.0, 42.0), "undecided"),
        ((37.0, 41.0), "undecided"),  # 41 itself would not be low
        ((37.0, 40.9), "low"),
        ((40.9999, 50.0), "undecided"),
        ((41.0, 50.0), "not low"),
    ],
)
def test_a_cutoff_inside_the_interval_is_undecided(interval: tuple[float, float], verdict: str) -> None:
    """Catches a verdict that the uncertainty of the measurement does not bear."""
    value = sum(interval) / 2
    found = assess({"smi": value}, {}, patient("F", 22), None, SETS, intervals={"smi": interval})
    (martin,) = [one for one in found if (one.set, one.measure) == ("Martin 2013", "smi")]
    assert martin.verdict == verdict
    assert ("undecided" in martin.text) == (verdict == "undecided")


def test_the_undecided_sentence_holds_its_figures() -> None:
    """Catches an "undecided" that nobody can check."""
    found = assess({"smi": 40.0}, {}, patient("F", 22), None, SETS, intervals={"smi": (37.96, 42.14)})
    (martin,) = [one for one in found if (one.set, one.measure) == ("Martin 2013", "smi")]
    assert martin.text == "muscle quantity undecided by Martin 2013 (SMI 40.0, whose interval 38.0 to 42.1 holds 41)"


def test_no_sentence_is_a_diagnosis() -> None:
    """Catches a disease in a result: CT gives no diagnosis, whatever the value and the set."""
    for sex in ("F", "M", None):
        for bmi in (20.0, 31.0, None):
            for value in (1.0, 1000.0):
                found = assess(dict.fromkeys(("smi", "area", "density"), value), {}, patient(sex, bmi), None, SETS)
                assert not re.search("sarcop|diagnos|disease", str(found), re.IGNORECASE)


GOOD = """
name = "X 2000"
doi = "10.1/x"
citation = "X"
population = "all"
level = "L3"
[[cutoff]]
measure = "smi"
unit = "cm2/m2"
below = 40
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("level =", "levle ="),
        ('doi = "10.1/x"', 'doi = ""'),
        ("below = 40", 'below = "40"'),
        ("below = 40", ""),
        ('"smi"', '"bmi"'),
        ("cm2/m2", "cm2"),
        ("below = 40", 'below = 40\nsex = "W"'),
        ("below = 40", "below = 40\nbmi_above = 25"),
        ("[[cutoff]]", "[[cutoffs]]"),
        ("name", "name ="),
    ],
)
def test_a_faulty_file_is_refused(tmp_path: Path, old: str, new: str) -> None:
    """Catches a mistyped key that is ignored, so that a figure holds for people it was not made for."""
    (tmp_path / "x.toml").write_text(GOOD)
    assert read_cutoffs(tmp_path)[0].cutoffs[0].below == 40
    assert old in GOOD
    (tmp_path / "x.toml").write_text(GOOD.replace(old, new))
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "x.toml"))):
        read_cutoffs(tmp_path)


def test_every_file_of_the_folder_is_read() -> None:
    """Catches a set that lies there and is never used."""
    assert len(SETS) == len(list(CUTOFFS_FOLDER.iterdir())) == 3
