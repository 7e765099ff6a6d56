"""Engines without torch: when masks count as the same, what a missing package says, order of what comes back."""

import importlib.util
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sarco.core.errors import OptionError
from sarco.prediction.engine import check_packages, missing_packages, run_all
from sarco.prediction.judge import FEWEST_PIXELS, Sample, compare_engines, judge_engine

ROOT = Path(__file__).parents[2]


def logits_of(ids: Any, n_channels: int) -> Any:
    """(B, K, R, C) logits whose likeliest channel is `ids`."""
    return (np.arange(n_channels)[None, :, None, None] == np.asarray(ids)[:, None]).astype(np.float32) * 5


def test_agreement_is_what_counting_pixel_by_pixel_gives() -> None:
    """Catches a Dice over the background, over one slice only, or of areas without place."""
    rng = np.random.default_rng(1)
    one, two = rng.integers(0, 3, (2, 3, 20, 24))
    agreement = compare_engines(logits_of(one, 3), logits_of(two, 3))
    pairs = list(zip(one.ravel().tolist(), two.ravel().tolist(), strict=True))
    both = sum(a == b != 0 for a, b in pairs)
    n_one, n_two = sum(a > 0 for a, _ in pairs), sum(b > 0 for _, b in pairs)
    assert agreement.dice == pytest.approx(2 * both / (n_one + n_two))
    assert agreement.area_difference == pytest.approx(abs(n_one - n_two) / n_one)
    assert agreement.n_pixels == n_one
    assert not agreement.holds


def test_a_small_label_is_judged_by_itself() -> None:
    """Catches a label that is lost altogether and hides behind a large one that agrees."""
    ids = np.zeros((1, 1200, 1000), dtype=np.int64)
    ids[:, :1000] = 1
    ids[:, -2:] = 2
    lost = np.where(ids == 2, 0, ids)
    agreement = compare_engines(logits_of(ids, 3), logits_of(lost, 3))
    assert (agreement.dice, agreement.area_difference) == (0, 1)
    assert not agreement.holds


@pytest.mark.parametrize(("moved", "holds"), [(1, True), (4, False)])
def test_the_limits(moved: int, holds: bool) -> None:
    """Catches a limit on the wrong side: one pixel in a thousand is 0.1 %, four are 0.4 %."""
    ids = np.zeros((1, 10, 1000), dtype=np.int64)
    ids[0, 0] = 1
    other = ids.copy()
    other[0, 0, :moved] = 0
    agreement = compare_engines(logits_of(ids, 2), logits_of(other, 2))
    assert agreement.area_difference == pytest.approx(moved / 1000)
    assert agreement.holds is holds


class Moving:
    """An engine that draws 10,000 pixels on each image, some of them in another place; an image is its own number."""

    name, batch_size, n_parallel = "moving", 1, 1

    def __init__(self, moved: list[int], drawn: int = 10_000) -> None:
        self.moved, self.drawn, self.seen = moved, drawn, []

    def __call__(self, images: Any) -> Any:
        ids = np.zeros((1, 2, 20_000), dtype=np.int64)
        place = int(images[0, 0, 0, 0])
        self.seen.append(place)
        moved = self.moved[place]
        ids[0, 0, : self.drawn - moved] = ids[0, 1, :moved] = 1
        return logits_of(ids, 2)


@pytest.mark.parametrize(
    ("moved", "fits", "n_slices"),
    [
        ([4] * 12, True, 4),
        ([16] * 12, False, 4),
        ([6] * 12, True, 12),
        ([8] * 12, False, 12),
        ([1, 9, 1] * 4, True, 12),  # the four that are seen first are the worst
        ([20, 6, 20] * 4, False, 12),  # or the best
        ([6, 6], True, 2),
        ([8, 8], False, 2),
    ],
)
def test_a_sample_has_to_agree_better_than_its_series(moved: list[int], fits: bool, n_slices: int) -> None:
    """Catches few slices that just pass for a series that then does not, and a doubt that is not looked into."""
    images = np.arange(len(moved), dtype=np.float32)[:, None, None, None]
    other = Sample(Moving(moved), images)
    verdict = judge_engine(Sample(Moving([0] * len(moved)), images), other)
    assert (verdict.fits, verdict.n_slices) == (fits, n_slices)
    assert len(other.engine.seen) == n_slices
    assert sorted(other.engine.seen) == sorted(other.seen)  # each once, also those that were looked at twice


def test_a_sample_without_muscle_where_it_is_looked_at_first_is_looked_at_whole() -> None:
    """Catches slices of the chest that decide, and a sample that shows nothing taken for one that fits."""
    images = np.arange(12, dtype=np.float32)[:, None, None, None]
    nothing = Sample(Moving([0] * 12, drawn=8), images)
    verdict = judge_engine(nothing, nothing)
    assert (verdict.fits, verdict.shows_enough, verdict.n_slices) == (False, False, 12)


@pytest.mark.parametrize(("drawn", "fits"), [(1500, False), (6000, True)])
def test_a_small_mask_has_to_agree_more_clearly(drawn: int, fits: bool) -> None:
    """Catches five pixels that agree by luck: on the slice, which has other pixels, the same mask was beyond 0.999."""
    moved = drawn * 7 // 10000
    images = np.arange(4, dtype=np.float32)[:, None, None, None]
    exact, other = (Sample(Moving([n] * 4, drawn), images) for n in (0, moved))
    assert compare_engines(exact.logits(range(4)), other.logits(range(4))).holds
    assert judge_engine(exact, other).fits is fits


def test_empty_masks_agree_but_say_so() -> None:
    """Catches a division by no pixels, and slices without muscle that count as a proof."""
    agreement = compare_engines(logits_of(np.zeros((2, 8, 8)), 2), logits_of(np.zeros((2, 8, 8)), 2))
    assert agreement.holds and agreement.n_pixels < FEWEST_PIXELS


def test_a_missing_package_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an ImportError, and a message that leaves one alone."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("openvino", "onnx", "onnxruntime"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert missing_packages("torch") == []
    with pytest.raises(OptionError, match=r"--engine=openvino: needs openvino; pip install openvino"):
        check_packages("openvino")
    with pytest.raises(OptionError, match=r"needs onnx and onnxruntime; .* --engine=torch"):
        check_packages("onnx")


def test_the_way_to_get_it_exists() -> None:
    """Catches a message that sends one to a file without the package."""
    text = (ROOT / "requirements-fast.txt").read_text(encoding="utf-8")
    assert all(f"\n{name}" in text for name in ("openvino", "onnx", "onnxruntime"))


def test_images_that_run_at_once_come_back_in_order() -> None:
    """Catches logits that belong to another image because its thread was done earlier, and images that wait in line."""
    n_at_once = 3
    together = threading.Barrier(n_at_once, timeout=30)

    class Slow:
        name, batch_size, n_parallel = "slow", 1, n_at_once

        def __call__(self, images: np.ndarray) -> np.ndarray:
            together.wait()  # never ends unless three run at the same time
            time.sleep(0.02 * (n_at_once - float(images.max()) % n_at_once))
            return images + 0.5

    images = np.arange(6, dtype=np.float32)[:, None, None, None] * np.ones((1, 1, 2, 2), np.float32)
    np.testing.assert_array_equal(run_all(Slow(), images), images + 0.5)
