"""Whether the masks of one engine are those of another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarco.core.messages import count_of
from sarco.crop.slices import Images, Logits
from sarco.prediction.engine import Engine, run_all
from sarco.scan.series import pick_evenly

LOWEST_DICE = 0.999
LARGEST_AREA_DIFFERENCE = 0.003
FIRST_LOOK = 4  # slices of a sample that are compared first; all of it only where they leave it open
# Of what is allowed, how much four slices or the whole sample may use up, and from where on four are enough to say no.
# Measured on series of 30 to 112 slices: four had 0.45 times, twelve 0.7 times the difference of their series at least.
CLEARLY_FITS, SAMPLE_FITS, CLEARLY_UNFIT = 0.5, 0.75, 1.5
FEWEST_PIXELS = 100  # of labels; below that a Dice says nothing
PIXELS_OF_A_LABEL = 1000  # from here on a label is judged by itself: one pixel at its edge is less than 0.1 %


@dataclass(frozen=True)
class Agreement:
    """How far the masks of two engines agree.

    Attributes:
        dice: over all labels together, or of the label where it is lowest.
        area_difference: likewise the largest, relative.
        n_pixels: of labels in the reference.
    """

    dice: float
    area_difference: float
    n_pixels: int

    @property
    def holds(self) -> bool:
        """Whether one can stand for the other."""
        return self.share_used <= 1

    @property
    def share_used(self) -> float:
        """How much of what is allowed the difference uses up."""
        return max((1 - self.dice) / (1 - LOWEST_DICE), self.area_difference / LARGEST_AREA_DIFFERENCE)

    @property
    def holds_for_more(self) -> bool:
        """Whether other slices like these would agree as well, for all that so many pixels can tell.

        Pixels that differ are count_of, and a count of d may as well be d + 2 sqrt(d): nine of 12,000 say little.
        """
        n = max(2 * self.n_pixels, 1)
        differ = (1 - self.dice) * n
        return (differ + 2 * math.sqrt(differ)) / n <= 1 - LOWEST_DICE

    def __str__(self) -> str:
        """For the user."""
        return f"Dice {self.dice:.5f}, area {100 * self.area_difference:.2f} % apart"


def compare_engines(reference: Logits, other: Logits) -> Agreement:
    """Compares the likeliest channel of each pixel, id by id.

    Labels are judged together and, from `PIXELS_OF_A_LABEL` on, each by itself; the worst counts.

    Args:
        reference: (B, K, S, S) logits.
        other: logits of the same images.
    """
    return compare_channels(reference.argmax(axis=1), other.argmax(axis=1), reference.shape[1])


def compare_channels(one: NDArray[Any], two: NDArray[Any], n_channels: int) -> Agreement:
    """Compares channel numbers, or label ids, pixel by pixel, as `compare_engines` does.

    Args:
        one: of the reference, of any shape.
        two: of the same shape.
        n_channels: larger than any of them.
    """
    n_one, n_two = (np.bincount(ids.ravel(), minlength=n_channels)[1:] for ids in (one, two))
    n_both = np.bincount(one[one == two], minlength=n_channels)[1:]
    judged = [slice(None)] + [slice(k, k + 1) for k in np.flatnonzero(n_one >= PIXELS_OF_A_LABEL)]
    dice, area_difference = 1.0, 0.0
    for labels in judged:
        first, second, both = (int(n[labels].sum()) for n in (n_one, n_two, n_both))
        if first + second:
            dice = min(dice, 2 * both / (first + second))
            area_difference = max(area_difference, abs(first - second) / max(first, 1))
    return Agreement(dice, area_difference, int(n_one.sum()))


class Sample:
    """Some images of a series, in order, on an engine that computes each when it is first asked for."""

    def __init__(self, engine: Engine, images: Images) -> None:
        """Computes nothing yet.

        Args:
            engine: which one.
            images: (B, C, S, S) in [0, 1].
        """
        self.engine = engine
        self.images = images
        self.seen: dict[int, Logits] = {}  # logits (K, S, S) by place

    def logits(self, places: Sequence[int]) -> Logits:
        """Logits (N, K, S, S) of the images at some places."""
        missing = [place for place in places if place not in self.seen]
        if missing:
            self.seen.update(zip(missing, run_all(self.engine, self.images[missing]), strict=True))
        return np.stack([self.seen[place] for place in places])


@dataclass(frozen=True)
class EngineVerdict:
    """Whether an engine may stand for another on a series, by a sample of it.

    Attributes:
        fits: it may.
        agreement: of their masks.
        n_slices: that were compared.
    """

    fits: bool
    agreement: Agreement
    n_slices: int

    @property
    def shows_enough(self) -> bool:
        """Whether the masks are large enough for the agreement to say anything."""
        return self.agreement.n_pixels >= FEWEST_PIXELS

    def __str__(self) -> str:
        """For the user."""
        return f"{self.agreement} on {count_of(self.n_slices, 'slice')}"


def judge_engine(exact: Sample, other: Sample) -> EngineVerdict:
    """Compares the masks of two engines on a few slices of a sample, and on all of it where these leave it open.

    A series differs more than a sample of it now and then, so a sample has to agree better than the series must.

    Args:
        exact: the engine that counts.
        other: the one that would stand for it, on the same images.
    """
    everything = range(len(exact.images))
    few = pick_evenly(everything, FIRST_LOOK)
    agreement = compare_engines(exact.logits(few), other.logits(few))
    verdict = _verdict(agreement, CLEARLY_FITS, len(few))
    if verdict.shows_enough and not CLEARLY_FITS < agreement.share_used <= CLEARLY_UNFIT:
        return verdict
    agreement = compare_engines(exact.logits(everything), other.logits(everything))
    verdict = _verdict(agreement, SAMPLE_FITS, len(everything))
    return verdict if verdict.shows_enough else replace(verdict, fits=False)


def _verdict(agreement: Agreement, share: float, n_slices: int) -> EngineVerdict:
    """Whether an agreement uses up no more than its share of what is allowed, and is no luck of a few pixels."""
    return EngineVerdict(agreement.share_used <= share and agreement.holds_for_more, agreement, n_slices)
