"""Collects label maps slice by slice and refuses to finish while one is missing."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from sarco.core.errors import GeometryError
from sarco.core.messages import count_of


class LabelVolume:
    """A label map in the making: slices arrive in any order, each is named by its plane.

    Planes that no slice is expected for (gaps of the series) stay background.
    """

    def __init__(self, shape: tuple[int, int, int], expected: Iterable[int]) -> None:
        """Starts empty.

        Args:
            shape: (rows, columns, planes).
            expected: the planes that have to arrive.
        """
        # Slice after slice in memory, as they come and as a NIfTI file has them: writing across is 10 times slower.
        self._ids = np.zeros((shape[2], shape[0], shape[1]), dtype=np.uint8).transpose(1, 2, 0)
        self._missing = set(expected)
        self._done: set[int] = set()

    def put(self, plane: int, label_map: NDArray[np.uint8]) -> None:
        """Stores one slice.

        Args:
            plane: its index along the third axis.
            label_map: (row, column) uint8 label ids.

        Raises:
            GeometryError: the plane is not expected, came before, or has another shape.
        """
        if plane in self._done:
            raise GeometryError(f"slice {plane} was predicted twice; two slices claim the same place")
        if plane not in self._missing:
            raise GeometryError(f"slice {plane} is not part of this series")
        if label_map.shape != self._ids.shape[:2]:
            raise GeometryError(f"slice {plane} came back as {label_map.shape}, the series has {self._ids.shape[:2]}")
        self._ids[:, :, plane] = label_map
        self._missing.remove(plane)
        self._done.add(plane)

    def finish(self) -> NDArray[np.uint8]:
        """The whole label map, (row, column, slice).

        Raises:
            GeometryError: a slice is missing; names the first.
        """
        if self._missing:
            raise GeometryError(
                f"{count_of(len(self._missing), 'slice')} never came, the first is {min(self._missing)}"
            )
        return self._ids
