"""The order of a person's slices and invented ones in a batch, and what each of them knows."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from sarco.batches.mixed import FIRST_INVENTED, MixedDataset, MixedSampler
from sarco.training.sampling import Draw, EpochSampler


def order(n: int = 10, rank: int = 0, world_size: int = 1) -> EpochSampler:
    """A person's slices, each once."""
    return EpochSampler(np.ones(n), 3, rank, world_size)


def batches(sampler: MixedSampler, size: int) -> list[list[Draw]]:
    """The draws of an epoch, cut as a loader cuts them."""
    draws = list(sampler)
    assert len(draws) == len(sampler)
    return [draws[start : start + size] for start in range(0, len(draws), size)]


@pytest.mark.parametrize(("share", "invented"), [(0.5, 2), (0.01, 1), (0.99, 3), (0.75, 3)])
def test_each_batch_has_its_share(share: float, invented: int) -> None:
    """Catches batches of one kind, and a person's slices that come twice or not at all because others came in."""
    found = batches(MixedSampler(order(), 4, share), 4)
    for batch in found:
        assert sum(draw.place >= FIRST_INVENTED for draw in batch) == invented
    real = Counter(draw.place for batch in found for draw in batch if draw.place < FIRST_INVENTED)
    assert real == Counter(range(10))


def test_no_invented_slice_comes_twice() -> None:
    """Catches an endless stream that goes in circles: over epochs and over processes."""
    seen: list[int] = []
    for epoch in range(3):
        for rank in range(2):
            sampler = MixedSampler(order(10, rank, 2), 4, 0.5, rank, 2)
            sampler.set_epoch(epoch)
            seen += [draw.place for draw in sampler if draw.place >= FIRST_INVENTED]
    assert len(set(seen)) == len(seen) > 30


def test_epoch_decides_the_order() -> None:
    """Catches a resumed run that starts the stream anew, and an epoch that the person's slices do not hear of."""
    one, two = MixedSampler(order(), 4, 0.5), MixedSampler(order(), 4, 0.5)
    first = list(one)
    for sampler in (one, two):
        sampler.set_epoch(2)
    assert list(one) == list(two) != first
    assert all(draw.epoch == 2 for draw in one)
    assert [draw.place for draw in one if draw.place < FIRST_INVENTED] != [
        draw.place for draw in first if draw.place < FIRST_INVENTED
    ]


@pytest.mark.parametrize("world_size", [1, 3])
def test_invented_alone(world_size: int) -> None:
    """Catches an epoch of another length than asked for, and processes of different lengths, which wait for ever."""
    draws = [list(MixedSampler(10, 4, 1.0, rank, world_size)) for rank in range(world_size)]
    assert {len(its) for its in draws} == {-(-10 // world_size)}
    places = [draw.place for its in draws for draw in its]
    assert len(set(places)) == len(places) and min(places) == FIRST_INVENTED


class Numbered(Dataset[dict[str, Any]]):
    """Samples that say where they come from."""

    def __init__(self, kind: int) -> None:
        self.kind = kind

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        return {"index": draw.place, "kind": self.kind}


def test_each_sample_says_what_it_knows() -> None:
    """Catches a person's slice that is said to know what only invented ones do, and the reverse."""
    by_real = np.array([[True, True, False], [True, False, True]])
    dataset = MixedDataset(Numbered(0), by_real, Numbered(1), np.array([True, True, True]))
    places = [0, 1, FIRST_INVENTED + 5]
    loader = DataLoader(dataset, batch_size=3, sampler=[Draw(place) for place in places])  # type: ignore[arg-type]
    (batch,) = list(loader)
    assert batch["index"].tolist() == places and batch["kind"].tolist() == [0, 0, 1]
    assert torch.equal(batch["known"][:2], torch.from_numpy(by_real)) and batch["known"][2].all()
