"""Drops islands of a label that no neighbouring slice supports (``--drop_islands``), while slices come one by one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from sarco.crop.slices import PreparedSlice, RestoredSlice

OnSlice = Callable[[PreparedSlice, RestoredSlice], object]


def without_islands(
    label_map: NDArray[np.uint8], below: NDArray[np.uint8] | None, above: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    """A slice without those parts of a label that have no pixel of it below or above them.

    Parts touch along edges of pixels. The largest part of each label stays in any case: where an organ begins there is
    none beside it. A slice without neighbours stays as it is.

    Args:
        label_map: (row, column) label ids.
        below: of the neighbouring slice on one side; None where there is none.
        above: on the other.
    """
    neighbours = [one for one in (below, above) if one is not None]
    if not neighbours:
        return label_map
    cleaned = label_map.copy()
    for label_id in np.unique(label_map[label_map > 0]).tolist():
        count, parts, stats, _ = cv2.connectedComponentsWithStats((label_map == label_id).astype(np.uint8), None, 4)
        if count <= 2:  # the background is one of them
            continue
        supported = np.zeros(count, dtype=bool)
        for neighbour in neighbours:
            supported[parts[neighbour == label_id]] = True
        supported[1 + stats[1:, cv2.CC_STAT_AREA].argmax()] = True
        cleaned[~supported[parts] & (parts > 0)] = 0
    return cleaned


@dataclass
class IslandFilter:
    """Passes slices on once both neighbours are known, in any order; what is judged is what the network said.

    Attributes:
        planes: of all slices of the series, ascending.
        take: gets each slice when it is clean.
    """

    planes: tuple[int, ...]
    take: OnSlice

    def __post_init__(self) -> None:
        """Has seen nothing yet."""
        self._maps: dict[int, NDArray[np.uint8]] = {}
        self._waiting: dict[int, tuple[PreparedSlice, RestoredSlice]] = {}
        self._expected = set(self.planes)
        self._left = set(self.planes)  # that were not passed on yet

    def put(self, prepared: PreparedSlice, restored: RestoredSlice) -> list[RestoredSlice]:
        """Takes a slice as the network saw it; gives those that became clean by it."""
        plane = restored.slice_index
        self._maps[plane] = restored.label_map
        self._waiting[plane] = (prepared, restored)
        return list(self._pass_on(plane))

    def _pass_on(self, came: int) -> Iterator[RestoredSlice]:
        for plane in (came - 1, came, came + 1):
            beside = {plane - 1, plane + 1} & self._expected
            if plane not in self._waiting or not beside <= self._maps.keys():
                continue
            prepared, restored = self._waiting.pop(plane)
            below, above = (self._maps.get(plane - 1), self._maps.get(plane + 1))
            cleaned = replace(restored, label_map=without_islands(restored.label_map, below, above))
            self.take(prepared, cleaned)
            self._left.discard(plane)
            for other in (plane - 1, plane, plane + 1):
                if self._left.isdisjoint((other - 1, other, other + 1)):
                    self._maps.pop(other, None)  # nobody needs it any more
            yield cleaned
