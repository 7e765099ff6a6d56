"""The order in which slices are drawn: a function of seed and epoch alone, and fair to rare labels."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from sarco.scan.labels import BACKGROUND_ID

RARE_SHARE = 0.3  # a label on fewer slices than this share is drawn more often
MOST_REPEATS = 4.0

# The first of the numbers that a generator is seeded with, so that no two uses share a stream of chance.
SEED_OF_ORDER, SEED_OF_AUGMENTATION, SEED_OF_STEP = 1, 2, 3


class Draw(NamedTuple):
    """One slice to load.

    Attributes:
        place: in the data set.
        epoch: of which the augmentation is drawn; -1 for none.
        counts: False for a filler that must not enter any score.
        turn: how often this slice came before in this epoch, so that it is varied otherwise each time.
    """

    place: int
    epoch: int = -1
    counts: bool = True
    turn: int = 0


def chance_of_draw(draw: Draw, seed: int, index: int) -> np.random.Generator:
    """What varies one draw of a slice: a function of the run's seed, epoch, slice and turn alone.

    Args:
        draw: of the slice.
        seed: of the run.
        index: of the slice in all slices.
    """
    turn = (draw.turn,) if draw.turn else ()  # so that a first turn draws what it did before there were others
    return np.random.default_rng((SEED_OF_AUGMENTATION, seed, draw.epoch, index, *turn))


def repeat_factors(occurs: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How often a slice is drawn in an epoch, so that rare labels do not vanish.

    A label that a share f of the slices holds asks for sqrt(RARE_SHARE / f) draws of each of them, at least 1 and at
    most MOST_REPEATS; a slice gets what its rarest label asks for. Source: repeat factor sampling, Gupta et al. 2019,
    section 4 (arXiv:1908.03195).

    Args:
        occurs: (slices, labels), which labels each slice holds.
    """
    share = occurs.mean(axis=0)
    with np.errstate(divide="ignore"):
        wanted = np.clip(np.sqrt(RARE_SHARE / share), 1.0, MOST_REPEATS)
    return np.where(occurs, wanted, 1.0).max(axis=1, initial=1.0)


def choose_passes(draws: int, slices_a_step: int, epochs: int, floor: int) -> int:
    """How often an epoch should draw each slice, so that a run has as many steps as it needs at least.

    Args:
        draws: slices of one pass.
        slices_a_step: of all processes and accumulated batches together.
        epochs: of the run.
        floor: steps of the run, at least.

    >>> choose_passes(90, 16, 30, 1000)  # 540 slices are 34 steps, the last of them a short one
    6
    """
    steps = math.ceil(floor / epochs)
    return math.ceil(((steps - 1) * slices_a_step + 1) / draws)


class EpochSampler(Sampler[Draw]):
    """Training order: a function of seed and epoch, so that a resumed run goes on as if it had never stopped."""

    def __init__(self, factors: NDArray[np.float64], seed: int, rank: int = 0, world_size: int = 1) -> None:
        """An order of slices.

        Args:
            factors: how often each slice is drawn in an epoch, on average over epochs; at least 1.
            seed: of the run.
            rank: this process.
            world_size: how many processes share the epoch; all get equally many.
        """
        extra = factors - 1  # draws beyond the first
        self._total = len(factors) + round(float(extra.sum()))
        if extra.sum() > 0:  # the first draw of a slice is certain, so only the others are rounded to a whole number
            factors = 1 + extra * ((self._total - len(factors)) / extra.sum())
        self._edges = np.cumsum(factors)
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of an epoch; Lightning calls it."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Draw]:
        """The order of the current epoch."""
        rng = np.random.default_rng((SEED_OF_ORDER, self.seed, self.epoch))
        # Systematic sampling: every slice comes floor(factor) or ceil(factor) times, and the total is always the same.
        marks = np.arange(self._total) + rng.random()
        places = np.searchsorted(self._edges, marks, side="right").clip(max=len(self._edges) - 1)
        order = np.resize(rng.permutation(places), len(self) * self.world_size)
        came: Counter[int] = Counter()
        draws = []
        for place in order.tolist():
            draws.append(Draw(place, self.epoch, turn=came[place]))
            came[place] += 1
        return iter(draws[self.rank :: self.world_size])

    def __len__(self) -> int:
        """Draws of this process in an epoch."""
        return -(-self._total // self.world_size)


class ShardSampler(Sampler[Draw]):
    """Validation order: every slice exactly once over all processes; fillers make the shares equally long."""

    def __init__(self, n: int, rank: int = 0, world_size: int = 1) -> None:
        """An order of ``n`` slices, of which this process gets every ``world_size``-th."""
        self.n = n
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[Draw]:
        """The slices of this process."""
        places: Sequence[int] = range(self.rank, len(self) * self.world_size, self.world_size)
        return (Draw(place) if place < self.n else Draw(0, counts=False) for place in places)

    def __len__(self) -> int:
        """Slices of this process, the filler included."""
        return -(-self.n // self.world_size)


def channel_shares(label_maps: NDArray[np.uint8], places: Iterable[int], ids: Sequence[int]) -> tuple[float, ...]:
    """Share of each channel in the pixels of some slices that somebody looked at, background first.

    Args:
        label_maps: (N, S, S) label ids.
        places: which slices.
        ids: of the labels, in the order of their channels.
    """
    counts = np.zeros(256, dtype=np.int64)
    for place in places:
        counts += np.bincount(label_maps[place].ravel(), minlength=256)
    of_channels = counts[[BACKGROUND_ID, *ids]]
    return tuple((of_channels / of_channels.sum()).tolist())
