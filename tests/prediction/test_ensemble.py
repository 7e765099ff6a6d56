"""Several networks as one: the mean of their probabilities, and no two that see or say other things."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sarco.core.errors import CheckpointError
from sarco.core.training_options import (
    AugmentOptions,
    DataOptions,
    FitOptions,
    MixupOptions,
    NetworkOptions,
    PredictedOptions,
    RunOptions,
)
from sarco.crop.slices import softmax
from sarco.prediction.ensemble import INPUT, EnsembleNetwork, check_together, describe_together
from sarco.runs.store import RunDescription
from sarco.scan.labels import LabelTable


class Stub:
    """A network, and its engine, whose logits are a function of the image; it takes no more images than it says."""

    def __init__(self, name: str, seed: int, batch_size: int, n_parallel: int, seen: tuple[int, ...] = ()) -> None:
        self.name, self.batch_size, self.n_parallel, self.seen = name, batch_size, n_parallel, seen
        self.weights = np.random.default_rng(seed).normal(0, 9, (3, 2))

    def engine_for(self, images: Any) -> tuple[Any, Any]:
        return self, {place: self(images[place : place + 1])[0] for place in self.seen}

    def __call__(self, images: Any) -> Any:
        assert 1 <= len(images) <= self.batch_size
        return np.einsum("kc,bcrs->bkrs", self.weights, images).astype(np.float32)


def images(n: int) -> Any:
    """Images of two channels."""
    return np.random.default_rng(5).random((n, 2, 4, 5), dtype=np.float32)


def test_it_is_the_mean_of_all_probabilities() -> None:
    """Catches a mean of logits, a member that counts twice or not at all, and batches that are larger than an engine
    takes or that change places."""
    members = [Stub("a", 1, 1, 4), Stub("b", 2, 8, 1), Stub("a", 3, 2, 3)]
    engine, seen = EnsembleNetwork(members).engine_for(images(3))
    assert not seen and (engine.batch_size, engine.n_parallel) == (8, 1)
    assert engine.name == "a and b, mean of 3 runs"
    found = engine(images(7))
    for image, logits in zip(images(7), found, strict=True):
        expected = np.mean([softmax(member(image[None])[0])[0] for member in members], axis=0)
        np.testing.assert_allclose(softmax(logits)[0], expected, atol=1e-6)


def test_what_all_have_seen_is_not_computed_again() -> None:
    """Catches slices of the sample that get the answer of one member alone."""
    members = [Stub("a", 1, 1, 1, (0, 2, 1)), Stub("b", 2, 1, 1, (2, 4, 0))]
    _, seen = EnsembleNetwork(members).engine_for(images(5))
    assert list(seen) == [0, 2]
    for place, logits in seen.items():
        expected = np.mean([softmax(member(images(5)[place][None])[0])[0] for member in members], axis=0)
        np.testing.assert_allclose(softmax(logits)[0], expected, atol=1e-6)


def describe(patients: tuple[str, ...] = (), **data: Any) -> RunDescription:
    """A run that these patients validated, each with one error of as many hundredths as its name's first letter."""
    errors = [[ord(name[0]) / 100] for name in patients]
    features = {"body_fill": {"median": 0.8, "spread": 0.03, "n": 30}}
    options = {"image_size": 64, "pixel_mm": 6.5, "field_mm": 416.0, "data_dir": Path("data"), **data}
    return RunDescription(
        run=RunOptions(wandb="no"), labels=LabelTable({1: "psoas", 2: "rectus"}), data=DataOptions(**options),
        network=NetworkOptions(), fit=FitOptions(), augment=AugmentOptions(), mixup=MixupOptions(),
        predicted=PredictedOptions(), weights="random", split={"val": {"patients": dict.fromkeys(patients, 1)}},
        area_errors={"all": sorted(errors), "psoas": []}, training_statistics={"n_slices": 40, "features": features},
    )  # fmt: skip


OTHERS: dict[str, dict[str, Any]] = {
    "channel_3d": {"channel_3d": True},
    "crop": {"crop": "box", "pixel_mm": None, "field_mm": None},
    "image_size": {"image_size": 96, "field_mm": None},
    "pixel_mm": {"pixel_mm": 6.6, "field_mm": None},
    "field_mm": {"field_mm": None},
    "hu_min": {"hu_min": -200.0},
    "hu_max": {"hu_max": 251.0},
}


@pytest.mark.parametrize("option", INPUT)
def test_runs_that_see_other_numbers_are_refused_by_name(option: str) -> None:
    """Catches a mean of networks of which one is shown what it never learnt."""
    one, other = describe(), describe(**OTHERS[option])
    for first, second in ((one, other), (other, one)):
        with pytest.raises(
            CheckpointError, match=rf"runs a and c cannot predict together: --{option} is .*; leave one"
        ):
            check_together({"a": first, "b": first, "c": second})


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({1: "rectus", 2: "psoas"}, "label 1 is psoas in the one and rectus in the other"),
        ({1: "psoas", 3: "rectus"}, "label 2 is rectus in the one and no label in the other"),
        ({1: "psoas", 2: "rectus", 7: "quadratus"}, "label 7 is no label in the one and quadratus in the other"),
    ],
)
def test_runs_that_say_other_things_are_refused_by_label(names: dict[int, str], told: str) -> None:
    """Catches a mean over channels of which one means psoas here and rectus there."""
    with pytest.raises(CheckpointError, match=f"runs a and b cannot predict together: {told}"):
        check_together({"a": describe(), "b": replace(describe(), labels=LabelTable(names))})


def test_what_changes_no_number_may_differ() -> None:
    """Catches networks of other sizes, seeds or rates that are kept apart for nothing."""
    other = describe(seed=4, batch_size=2, pixel_mm=6.5 * (1 + 1e-9), folds=2, fold="1")
    check_together({"a": describe(), "b": replace(other, network=NetworkOptions(backbone="efficientnet-b1"))})


def test_errors_are_those_of_all_folds_and_each_patient_counts_once() -> None:
    """Catches intervals of one fold alone, and 60 patients of three seeds that are 20 patients."""
    folds = {"f1": describe(("P", "Q")), "f2": describe(("A",)), "f3": describe(("Z", "B"))}
    whole, left_out = describe_together(folds)
    assert left_out == () and whole.labels == folds["f1"].labels
    assert whole.area_errors == {"all": [[ord(name) / 100] for name in "ABPQZ"], "psoas": []}
    seeds = {"s1": describe(("P", "Q")), "s2": describe(("Q", "A")), "s3": describe(("Z",))}
    some, left_out = describe_together(seeds)
    assert left_out == ("s2",) and some.area_errors["all"] == [[ord(name) / 100] for name in "PQZ"]
    nameless, left_out = describe_together({"x": describe(), "y": describe()})
    assert left_out == ("y",) and nameless.area_errors["all"] == []


def test_statistics_are_those_of_all_training_slices() -> None:
    """Catches a slice that is called strange though one of the runs learnt from many like it."""
    far = describe()
    far.training_statistics["features"]["body_fill"]["median"] = 0.6  # type: ignore[index]
    whole, _ = describe_together({"a": describe(("P",)), "b": far})
    found = whole.training_statistics["features"]["body_fill"]
    assert found["median"] == pytest.approx(0.7) and found["spread"] == pytest.approx(np.hypot(0.03, 0.1))
    unknown, _ = describe_together({"a": replace(describe(), training_statistics={})} | {"b": describe()})
    assert unknown.training_statistics["features"]["body_fill"] == {"median": 0.8, "spread": 0.03, "n": 30}
