"""Scores of patients and of all folds, against label maps counted pixel by pixel."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sarco.quality.folds import score_patients, summarise_folds

NAMES = ["psoas", "rectus", "never"]


def confusion(truth: NDArray[np.int64], predicted: NDArray[np.int64], n: int = 4) -> NDArray[np.int64]:
    """Pixels, truth by prediction."""
    return np.array([[int(((truth == i) & (predicted == j)).sum()) for j in range(n)] for i in range(n)])


def maps(seed: int, n_slices: int, labels: int = 3) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Truth and prediction of a patient, alike in part."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, labels, (n_slices, 6, 7))
    return truth, np.where(rng.random(truth.shape) < 0.7, truth, rng.integers(0, labels, truth.shape))


def test_figures_are_those_of_the_label_maps() -> None:
    """Catches truth and prediction that change places, a mean over slices for the Dice of a patient, and a sum over
    slices for the area error, in which too much here makes up for too little there."""
    people = {"one": maps(1, 3), "two": maps(2, 1)}
    people["one"][0][1][people["one"][0][1] == 1] = 0  # a slice whose truth holds no psoas
    found = score_patients(
        {who: [confusion(*pair) for pair in zip(*both, strict=True)] for who, both in people.items()}, NAMES
    )
    for who, (truth, predicted) in people.items():
        assert found[who].keys() == {"psoas", "rectus", "all"}
        for name, is_it in (("psoas", 1), ("rectus", 2), ("all", None)):
            one, other = ((m > 0) if is_it is None else (m == is_it) for m in (truth, predicted))
            errors = [
                abs(int(b.sum()) - int(a.sum())) / int(a.sum()) for a, b in zip(one, other, strict=True) if a.any()
            ]
            dice, error = found[who][name]
            assert dice == pytest.approx(2 * (one & other).sum() / (one.sum() + other.sum()))
            assert error == pytest.approx(np.mean(errors))


def test_a_label_that_is_found_where_there_is_none_costs_dice() -> None:
    """Catches a false muscle that no score sees, and an area error that divides by nothing."""
    truth, predicted = np.zeros((4, 4), int), np.eye(4, dtype=int)
    assert score_patients({"one": [confusion(truth, predicted)]}, NAMES)["one"] == {
        "psoas": [0, None],
        "all": [0, None],
    }
    assert score_patients({"one": [confusion(truth, truth)]}, NAMES) == {"one": {}}


def test_one_label_is_not_told_twice() -> None:
    """Catches a table in which the only label stands once more as all of them."""
    only = score_patients({"one": [confusion(np.eye(4, dtype=int), np.eye(4, dtype=int), 2)]}, ["muscle"])
    assert only == {"one": {"muscle": [1, 0]}}


def test_every_patient_counts_once() -> None:
    """Catches a mean over slices or folds, and a label whose figures are nobody's: no truth ever held it."""
    patients = {
        "one": {"psoas": [0.9, 0.1], "rectus": [0.0, None]},
        "two": {"psoas": [0.7, 0.3], "rectus": [0.0, None]},
        "three": {"psoas": [0.0, None]},
        "four": {},
    }
    (row,) = summarise_folds(patients)
    assert (row.label, row.n_patients) == ("psoas", 3)
    assert row.dice == pytest.approx(1.6 / 3) and row.area_error == pytest.approx(0.2)
    assert row.dice_sd == pytest.approx(np.std([0.9, 0.7, 0], ddof=1))
    assert summarise_folds({}) == []
