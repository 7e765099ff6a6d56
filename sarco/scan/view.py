"""How a slice is turned to be seen as radiologists see it; the one place that knows."""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sarco.scan.geometry import Affine

Pair = TypeVar("Pair")


@dataclass(frozen=True)
class Box:
    """A rectangle in pixel units: row 0 reaches from edge 0 to edge 1.

    Attributes:
        top, left, bottom, right: edges along rows (top, bottom) and columns (left, right).
    """

    top: float
    left: float
    bottom: float
    right: float

    def union(self, other: "Box") -> "Box":
        """The smallest box that holds both."""
        return Box(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )


@dataclass(frozen=True)
class View:
    """How a slice is turned to be seen as radiologists see it: transposed first, then flipped.

    Attributes:
        transpose: rows and columns change places.
        flip_rows, flip_columns: the order of rows (columns), as they are after that, is reversed.
    """

    transpose: bool
    flip_rows: bool
    flip_columns: bool

    @classmethod
    def of(cls, affine_lps: ArrayLike) -> "View":
        """The view of slices with this affine.

        It shows the patient's right at the left edge and anterior at the top (axial), as radiologists are used to; for
        other planes superior goes to the top.
        """
        axes = np.asarray(affine_lps, dtype=np.float64)[:3, :2]
        largest = np.abs(axes).argmax(axis=0)
        # Rows should run down: to posterior (y) or inferior (-z). Columns should run to the left (x) or posterior (y).
        transpose = bool(largest[0] < largest[1] and largest[1] != 2) or bool(largest[1] == 2)
        if transpose:
            axes, largest = axes[:, ::-1], largest[::-1]
        row_sign = np.sign(axes[largest[0], 0]) * (-1 if largest[0] == 2 else 1)
        column_sign = np.sign(axes[largest[1], 1])
        return cls(transpose, bool(row_sign < 0), bool(column_sign < 0))

    def edges(self, affine_lps: ArrayLike) -> dict[str, str]:
        """Which side of the patient lies at the ``top``, ``bottom``, ``left`` and ``right`` edge: R, L, A, P, I or S.

        Args:
            affine_lps: of the slice as it is stored.
        """
        axes = np.asarray(affine_lps, dtype=np.float64)[:3, :2]
        down, right = (axes[:, 1], axes[:, 0]) if self.transpose else (axes[:, 0], axes[:, 1])
        edges = {}
        for along, flip, start, end in (
            (down, self.flip_rows, "top", "bottom"),
            (right, self.flip_columns, "left", "right"),
        ):
            axis = int(np.abs(along).argmax())
            letters = (("R", "L"), ("A", "P"), ("I", "S"))[axis]
            edges[start], edges[end] = letters if (along[axis] > 0) != flip else letters[::-1]
        return edges

    def turn(self, channels: NDArray[Any]) -> NDArray[Any]:
        """(C, row, column) of a slice to the view."""
        turned = channels.swapaxes(1, 2) if self.transpose else channels
        return np.ascontiguousarray(turned[:, :: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1])

    def turn_back(self, channels: NDArray[Any]) -> NDArray[Any]:
        """(C, row, column) of the view to the slice."""
        turned = channels[:, :: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]
        return np.ascontiguousarray(turned.swapaxes(1, 2) if self.transpose else turned)

    def turn_pair(self, rows: Pair, columns: Pair) -> tuple[Pair, Pair]:
        """What belongs to (rows, columns) of a slice, such as its size, as it belongs to those of the view."""
        return (columns, rows) if self.transpose else (rows, columns)

    def turn_box(self, box: Box, shape: tuple[int, int]) -> Box:
        """A box on a slice with this shape, as it lies on the view."""
        top, left, bottom, right = box.top, box.left, box.bottom, box.right
        rows, columns = shape
        if self.transpose:
            top, left, bottom, right, rows, columns = left, top, right, bottom, columns, rows
        if self.flip_rows:
            top, bottom = rows - bottom, rows - top
        if self.flip_columns:
            left, right = columns - right, columns - left
        return Box(top, left, bottom, right)

    def matrix(self, shape: tuple[int, int]) -> Affine:
        """4x4, (row, column, slice, 1) of the view to (row, column, slice, 1) of the slice with this shape."""
        matrix = np.eye(4)
        axes = (1, 0) if self.transpose else (0, 1)  # of the slice, for rows and columns of the view
        for of_view, (axis, flip) in enumerate(zip(axes, (self.flip_rows, self.flip_columns), strict=True)):
            matrix[axis, :] = 0
            matrix[axis, of_view] = -1 if flip else 1
            matrix[axis, 3] = shape[axis] - 1 if flip else 0
        return matrix


@dataclass(frozen=True)
class ShownSlice:
    """A slice to look at.

    Attributes:
        hu: (row, column) Hounsfield units.
        label_map: (row, column) label ids.
        affine_lps: of the slice.
        caption: where it lies.
    """

    hu: NDArray[np.float32]
    label_map: NDArray[np.uint8]
    affine_lps: Affine
    caption: str
