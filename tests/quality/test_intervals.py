"""Intervals: the quantile by counting, the promised coverage in simulations, and silence where too little is known."""

import doctest
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sarco.quality.intervals
from sarco.quality.intervals import ANY_LABEL, area_errors, error_quantile, fewest_patients, find_interval


def test_examples_in_the_docstrings() -> None:
    """Catches an example that is not true."""
    result = doctest.testmod(sarco.quality.intervals)
    assert result.attempted > 0 and result.failed == 0


@given(st.lists(st.floats(0, 10), min_size=1, max_size=60), st.sampled_from([0.5, 0.8, 0.9, 0.95]))
def test_one_slice_a_patient_is_split_conformal_prediction(scores: list[float], coverage: float) -> None:
    """Catches n in place of n + 1, a floor in place of a ceiling, and a rank that rounding moves: 10 x 0.9 is 9."""
    rank = -(-round((len(scores) + 1) * coverage * 1000) // 1000)  # in whole thousandths, which are exact
    expected = sorted(scores)[rank - 1] if rank <= len(scores) else math.inf
    assert error_quantile([[score] for score in scores], coverage) == expected
    assert math.isfinite(expected) == (len(scores) >= fewest_patients(coverage))


def test_each_patient_counts_once() -> None:
    """Catches a patient with many slices that outvotes the others, and one without slices that counts."""
    many = [[0.9] * 1000, *([0.01 * k] for k in range(1, 20))]
    assert error_quantile(many, 0.9) == 0.19  # 18.9 of 21 patients: the 19 small ones reach it
    assert error_quantile([*many, []], 0.9) == 0.19
    halves = [[0.1, 0.5], [0.2, 0.6], [0.3, 0.7], [0.4, 0.8]]
    # Weights 1/2 each; 0.5 x 5 patients = 2.5 = five of the eight slices.
    assert error_quantile(halves, 0.5) == 0.5
    assert error_quantile(halves, 0.6) == 0.6


REPETITIONS = 4000
SPREAD = 3.3  # standard deviations: passes by chance in 999 of 1000 seeds

Quantile = Callable[[list[list[float]], float], float]


def coverage_of(quantile: Quantile, n: int, coverage: float, slices: bool) -> float:
    """How often a random slice of a new patient is covered, where some patients are harder than others.

    With `slices` the easy patients have twenty slices and the hard ones a single one.
    """
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(REPETITIONS):
        level = rng.gamma(2.0, 1.0, n + 1)
        counts = np.where(slices & (level < 2), 20, 1)
        errors = [(level[i] * rng.exponential(1.0, counts[i])).tolist() for i in range(n + 1)]
        hits += errors[-1][0] <= quantile(errors[:-1], coverage)
    return hits / REPETITIONS


@pytest.mark.parametrize(("n", "coverage"), [(9, 0.9), (19, 0.9), (19, 0.8)])
def test_coverage_is_what_was_promised(n: int, coverage: float) -> None:
    """Catches an off-by-one: with 19 patients one rank costs 5 points of coverage."""
    rank = math.ceil((n + 1) * coverage - 1e-9)
    exact = rank / (n + 1)  # what the theory gives for scores without ties
    error = SPREAD * math.sqrt(exact * (1 - exact) / REPETITIONS)
    found = coverage_of(error_quantile, n, coverage, slices=False)
    assert abs(found - exact) < error

    def one_too_low(errors: list[list[float]], coverage: float) -> float:
        return sorted(score for (score,) in errors)[rank - 2]

    assert abs(coverage_of(one_too_low, n, coverage, slices=False) - exact) > error, "would be seen"


def test_coverage_holds_for_several_slices_a_patient() -> None:
    """Catches slices treated as if they were patients, which promises what it does not keep."""
    coverage, n = 0.9, 15
    error = SPREAD * math.sqrt(coverage * (1 - coverage) / REPETITIONS)
    found = coverage_of(error_quantile, n, coverage, slices=True)
    assert coverage - error < found < coverage + 1 / (n + 1) + error

    def largest_of_any(errors: list[list[float]], coverage: float) -> float:
        pooled = sorted(score for slices in errors for score in slices)
        return pooled[math.ceil(coverage * len(pooled)) - 1]

    assert coverage_of(largest_of_any, n, coverage, slices=True) < coverage - error, "would be seen"


def test_interval_lies_around_the_prediction() -> None:
    """Catches an interval around the truth's share, and an end below zero."""
    errors = {ANY_LABEL: [[0.1]] * 20, "psoas": [[1.7]] * 20}
    found = find_interval("area_cm2", 120.0, errors)
    assert (found.low, found.high) == (pytest.approx(108), pytest.approx(132))
    assert (found.n_patients, found.n_slices, found.coverage, found.why_not) == (20, 20, 0.9, "")
    wide = find_interval("area_cm2", 10.0, errors, "psoas")
    assert (wide.low, wide.high) == (0.0, pytest.approx(27))
    assert json.loads(json.dumps(found.to_builtins())) == found.to_builtins()
    index = find_interval("smi", 120.0 / 1.7**2, errors)
    assert index.low is not None and index.low * 1.7**2 == pytest.approx(108)


@pytest.mark.parametrize(
    ("errors", "value", "word"),
    [
        ({}, 10.0, "no errors"),
        ({"other": [[0.1]] * 30}, 10.0, "no errors"),
        ({ANY_LABEL: [[0.1]] * 8 + [[]] * 5}, 10.0, "8 validation patients"),
        ({ANY_LABEL: [[0.1] * 50] * 8}, 10.0, "8 validation patients"),
        ({ANY_LABEL: [[0.1]] * 30}, 0.0, "nothing was predicted"),
        ({ANY_LABEL: [[math.inf]] * 30}, 10.0, "unlimited"),
    ],
)
def test_no_interval_where_none_can_be_given(errors: dict[str, list[list[float]]], value: float, word: str) -> None:
    """Catches an interval from too few patients, however many slices they have, and one that is given in silence."""
    found = find_interval("area_cm2", value, errors)
    assert found.low is None and found.high is None and word in found.why_not
    json.loads(json.dumps(found.to_builtins(), allow_nan=False))


def test_errors_are_those_of_the_areas() -> None:
    """Catches an error relative to the truth, labels mixed up, and slices without a prediction that divide by 0."""
    areas = {
        "P2": [((10, 4), (20, 4)), ((5, 0), (0, 0))],
        "P1": [((0, 3), (10, 2)), ((8, 8), (8, 8)), ((0, 0), (0, 0))],
        "P3": [((7, 0), (0, 0))],
    }
    found = area_errors(areas, ["a", "b"])
    assert found == {
        ANY_LABEL: [[pytest.approx(10 / 24)], [0.0, pytest.approx(9 / 12)]],
        "a": [[0.5], [0.0, 1.0]],
        "b": [[0.0], [0.0, 0.5]],
    }
    assert json.loads(json.dumps(found)) == found
