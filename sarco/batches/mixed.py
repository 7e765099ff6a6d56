"""Invented slices beside a person's in every batch: the order in which both are drawn, and what each of them knows."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from sarco.training.sampling import Draw, EpochSampler

FIRST_INVENTED = 1 << 40  # places from here on are numbers of invented slices
_PER_EPOCH = 1 << 24  # more than any epoch draws


def invented_in_batch(batch_size: int, share: float) -> int:
    """How many slices of a batch are invented: at least one, and one less than all unless the share is 1.

    >>> [invented_in_batch(16, share) for share in (0.01, 0.5, 0.99, 1.0)]
    [1, 8, 15, 16]
    """
    return batch_size if share == 1 else min(max(round(batch_size * share), 1), batch_size - 1)


class MixedSampler(Sampler[Draw]):
    """Draws of invented slices behind those of a person's in each batch; a function of seed and epoch alone.

    The last batch of an epoch may hold fewer of the person's slices, but as many invented ones.
    """

    def __init__(
        self, real: EpochSampler | int, batch_size: int, share: float, rank: int = 0, world_size: int = 1
    ) -> None:
        """An order of both.

        Args:
            real: the order of the person's slices; or, where there are none, how many slices an epoch has.
            batch_size: of each process.
            share: of invented slices in a batch, above 0.
            rank: this process.
            world_size: how many processes share the epoch.
        """
        self.real = real
        self.n_invented = invented_in_batch(batch_size, share)
        self.n_real = batch_size - self.n_invented
        self.rank, self.world_size = rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of an epoch; Lightning calls it."""
        self.epoch = epoch
        if isinstance(self.real, EpochSampler):
            self.real.set_epoch(epoch)

    def __iter__(self) -> Iterator[Draw]:
        """The order of the current epoch."""
        first = FIRST_INVENTED + self.epoch * _PER_EPOCH + self.rank
        invented = (Draw(place, self.epoch) for place in itertools.count(first, self.world_size))
        if isinstance(self.real, int):
            yield from itertools.islice(invented, len(self))
            return
        real = iter(self.real)
        while of_batch := list(itertools.islice(real, self.n_real)):
            yield from of_batch
            yield from itertools.islice(invented, self.n_invented)

    def __len__(self) -> int:
        """Draws of this process in an epoch."""
        if isinstance(self.real, int):
            return -(-self.real // self.world_size)
        return len(self.real) + self.n_invented * -(-len(self.real) // self.n_real)


class MixedDataset(Dataset[dict[str, Any]]):
    """A person's slices and invented ones; each sample says which labels it knows."""

    def __init__(
        self,
        real: Dataset[dict[str, Any]],
        known_by_real: NDArray[np.bool_],
        invented: Dataset[dict[str, Any]],
        known_by_invented: NDArray[np.bool_],
    ) -> None:
        """A view of both.

        Args:
            real: the person's slices, by place.
            known_by_real: (N, K), the channels that each of all slices knows, by its index.
            invented: by place from `FIRST_INVENTED` on.
            known_by_invented: (K,), likewise.
        """
        self.real, self.known_by_real = real, torch.from_numpy(known_by_real)
        self.invented, self.known_by_invented = invented, torch.from_numpy(known_by_invented)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        """One sample, with ``known`` (K,)."""
        if draw.place >= FIRST_INVENTED:
            return {**self.invented[draw], "known": self.known_by_invented}
        sample = self.real[draw]
        return {**sample, "known": self.known_by_real[sample["index"]]}
