"""The order of slices: a function of seed and epoch, fair to rare labels, and one epoch for all processes."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sarco.core.training_options import FLOOR_FROM_NETWORK, FLOOR_OF_STEPS
from sarco.scan.labels import IGNORE_ID
from sarco.training.sampling import (
    MOST_REPEATS,
    RARE_SHARE,
    Draw,
    EpochSampler,
    ShardSampler,
    channel_shares,
    choose_passes,
    repeat_factors,
)

FACTORS = st.lists(st.floats(1, MOST_REPEATS), min_size=1, max_size=40).map(np.array)
PLAIN = np.ones(30)


def places(sampler: EpochSampler, epoch: int = 0) -> list[int]:
    """The places that an epoch draws, in order."""
    sampler.set_epoch(epoch)
    return [draw.place for draw in sampler]


def test_order_is_a_function_of_seed_and_epoch() -> None:
    """Catches a resumed run that sees other slices than one that went through."""
    used, fresh = EpochSampler(PLAIN, seed=5), EpochSampler(PLAIN, seed=5)
    for epoch in range(4):
        places(used, epoch)
    assert places(used, 9) == places(fresh, 9)
    assert places(used, 9) == places(used, 9)
    assert places(used, 9) != places(used, 8)
    assert places(used, 9) != places(EpochSampler(PLAIN, seed=6), 9)


def test_draws_carry_their_epoch() -> None:
    """Catches an augmentation that never changes, because the data set does not learn of the epoch."""
    sampler = EpochSampler(PLAIN, seed=5)
    sampler.set_epoch(3)
    assert {draw.epoch for draw in sampler} == {3} and all(draw.counts for draw in sampler)


def test_draws_of_one_slice_are_counted() -> None:
    """Catches a rare slice that comes three times in an epoch, each time with the same augmentation."""
    whole = list(EpochSampler(np.array([3.0, 1.0, 2.0]), seed=5))
    for place, times in ((0, 3), (1, 1), (2, 2)):
        assert [draw.turn for draw in whole if draw.place == place] == list(range(times))
    shares = [list(EpochSampler(np.array([3.0, 1.0, 2.0]), 5, rank, 2)) for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == sorted(whole), "processes share one count"


def test_without_rare_labels_every_slice_comes_once() -> None:
    """Catches slices drawn with replacement."""
    for epoch in range(5):
        assert sorted(places(EpochSampler(PLAIN, seed=1), epoch)) == list(range(30))


@given(FACTORS, st.integers(0, 50))
def test_no_slice_is_left_out_and_none_comes_too_often(factors: NDArray[np.float64], epoch: int) -> None:
    """Catches slices that miss an epoch by chance, and epochs of changing length."""
    sampler = EpochSampler(factors, seed=2)
    drawn = places(sampler, epoch)
    counts = np.bincount(drawn, minlength=len(factors))
    assert len(drawn) == len(sampler) == len(factors) + round(float((factors - 1).sum()))
    assert counts.min() >= 1
    assert np.abs(counts - factors).max() < 2, "rounding the total to a whole number moves no slice by a whole draw"


def test_slices_come_as_often_as_their_factor_says() -> None:
    """Catches factors that are rounded, so that 1.4 is the same as 1."""
    factors = np.array([1.0, 1.4, 2.6, 4.0, 1.0])
    sampler = EpochSampler(factors, seed=2)
    counts = np.zeros(5)
    for epoch in range(800):
        found = np.bincount(places(sampler, epoch), minlength=5)
        assert ((found == np.floor(factors)) | (found == np.ceil(factors))).all()
        counts += found
    assert counts / 800 == pytest.approx(factors, abs=0.06)


def test_rare_labels_ask_for_more_draws() -> None:
    """Catches a formula that is not the one of Gupta et al. 2019, and a rarest label that loses to a common one."""
    occurs = np.zeros((100, 3), dtype=bool)
    occurs[:60, 0] = True  # common
    occurs[:12, 1] = True  # on 12 %
    occurs[0, 2] = True  # on 1 %: more than MOST_REPEATS asked for
    factors = repeat_factors(occurs)
    assert factors[0] == MOST_REPEATS == 4 and np.sqrt(RARE_SHARE / 0.01) > 4
    assert factors[1:12] == pytest.approx(np.sqrt(0.3 / 0.12))
    assert (factors[12:] == 1).all()


def test_labels_that_are_nowhere_or_everywhere_change_nothing() -> None:
    """Catches a division by zero, and slices without any label that are drawn less than once."""
    occurs = np.zeros((10, 2), dtype=bool)
    assert (repeat_factors(occurs) == 1).all()
    occurs[:, 0] = True
    assert (repeat_factors(occurs) == 1).all()


@given(FACTORS, st.integers(1, 7), st.integers(0, 20))
def test_processes_share_an_epoch(factors: NDArray[np.float64], world_size: int, epoch: int) -> None:
    """Catches slices that two processes see and others that none sees, and shares of unequal length."""
    alone = places(EpochSampler(factors, seed=3), epoch)
    shares = [places(EpochSampler(factors, 3, rank, world_size), epoch) for rank in range(world_size)]
    assert len({len(share) for share in shares}) == 1
    together = Counter(place for share in shares for place in share)
    surplus = together - Counter(alone)
    assert not Counter(alone) - together
    assert sum(surplus.values()) == len(shares[0]) * world_size - len(alone) < world_size


@given(st.integers(0, 60), st.integers(1, 9))
def test_validation_counts_every_slice_once(n: int, world_size: int) -> None:
    """Catches scores of several processes that count a slice twice to make the shares even."""
    shares = [list(ShardSampler(n, rank, world_size)) for rank in range(world_size)]
    assert {len(share) for share in shares} == {len(ShardSampler(n, 0, world_size))}
    counted = [draw.place for share in shares for draw in share if draw.counts]
    assert sorted(counted) == list(range(n))
    assert all(draw.epoch == -1 for share in shares for draw in share), "validation is never augmented"


def test_validation_keeps_its_order() -> None:
    """Catches a shuffled validation, whose pictures cannot be compared between epochs."""
    assert list(ShardSampler(4)) == [Draw(0), Draw(1), Draw(2), Draw(3)]


@pytest.mark.parametrize(
    ("draws", "a_step", "epochs", "floor", "expected"),
    [
        (90, 16, 30, FLOOR_OF_STEPS, 6),
        (3, 16, 30, FLOOR_OF_STEPS, 177),
        (1000, 2, 30, FLOOR_OF_STEPS, 1),
        (600, 16, 30, FLOOR_OF_STEPS, 1),
        (8, 16, 30, FLOOR_FROM_NETWORK, 19),
        (200, 16, 30, FLOOR_FROM_NETWORK, 1),
    ],
)
def test_small_data_is_drawn_often_enough(draws: int, a_step: int, epochs: int, floor: int, expected: int) -> None:
    """Catches a run of a few steps, which has learnt nothing when it ends, and one of big data that takes longer."""
    passes = choose_passes(draws, a_step, epochs, floor)
    assert passes == expected
    assert math.ceil(passes * draws / a_step) * epochs >= floor


def test_an_epoch_of_several_passes_draws_every_slice_as_often() -> None:
    """Catches passes that leave a slice out, or favour one."""
    sampler = EpochSampler(PLAIN * 5, seed=1)
    assert len(sampler) == 150
    assert all(places(sampler, 3).count(place) == 5 for place in range(30))


def test_shares_are_those_of_labelled_pixels_of_the_chosen_slices() -> None:
    """Catches shares of validation slices, of ids instead of channels, and pixels that nobody looked at counted."""
    label_maps = np.zeros((3, 4, 5), dtype=np.uint8)  # 20 pixels a slice
    label_maps[0, 0, :3] = 7
    label_maps[0, 1:3] = IGNORE_ID
    label_maps[1] = 4  # not chosen
    label_maps[2, 0, :2], label_maps[2, 3] = 4, 7
    assert channel_shares(label_maps, (0, 2), (4, 7, 9)) == pytest.approx((20 / 30, 2 / 30, 8 / 30, 0))
