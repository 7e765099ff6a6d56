"""A network that sees mirror images too: sides change places on the way back, and nothing else does."""

from typing import Any

import numpy as np
import pytest

from sarco.core.errors import OptionError
from sarco.crop.slices import softmax
from sarco.prediction.mirror import MirroredNetwork
from sarco.scan.labels import LabelTable

SIDES = LabelTable({2: "psoas_left", 4: "psoas_right", 9: "rectus"})


class Leaning:
    """Says left where an image is bright in its right half, right in its left half, rectus elsewhere; leans to left."""

    name, batch_size, n_parallel = "leaning", 4, 1

    def engine_for(self, images: Any) -> tuple[Any, Any]:
        return self, {0: None}

    def __call__(self, images: Any) -> Any:
        bright = images[:, 0]
        side = np.broadcast_to(np.arange(bright.shape[2]) >= bright.shape[2] / 2, bright.shape)
        left, right = 4 * bright * side + 0.5, 4 * bright * ~side
        return np.stack([0 * bright + 1, left, right, 1.5 - bright], axis=1).astype(np.float32)


def test_sides_come_back_to_their_sides() -> None:
    """Catches mirrored logits whose labels did not change places, or that stayed mirrored: left psoas on the right."""
    images = np.random.default_rng(0).random((2, 1, 8, 8), dtype=np.float32)
    images[:, :, :3] = 1
    engine, seen = MirroredNetwork(Leaning(), SIDES).engine_for(images)
    assert not seen, "what the network saw without a mirror is no answer of both"
    logits = engine(images)
    channels = logits.argmax(axis=1)
    assert (channels[:, :3, 4:] == 1).all() and (channels[:, :3, :4] == 2).all()


def test_it_is_the_mean_of_both_probabilities() -> None:
    """Catches a mean of logits, and one that weighs one of the two more."""
    images = np.random.default_rng(1).random((1, 3, 6, 6), dtype=np.float32)
    engine, _ = MirroredNetwork(Leaning(), SIDES).engine_for(images)
    (one,), (two,) = Leaning()(images), Leaning()(images[..., ::-1])
    expected = (softmax(one)[0] + softmax(two)[0][[0, 2, 1, 3]][..., ::-1]) / 2
    np.testing.assert_allclose(softmax(engine(images)[0])[0], expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        engine(images)[0][[0, 2, 1, 3]][..., ::-1], engine(np.ascontiguousarray(images[..., ::-1]))[0], atol=1e-6
    )


@pytest.mark.parametrize("names", [("psoas_left", "rectus"), ("psoas_g", "psoas_d"), ("label_1", "label_2")])
def test_labels_that_may_be_sides_are_refused(names: tuple[str, str]) -> None:
    """Catches a right psoas that counts as a left one because its name does not say enough."""
    with pytest.raises(OptionError, match="--tta=mirror: of the run"):
        MirroredNetwork(Leaning(), LabelTable({1: names[0], 2: names[1]}))
