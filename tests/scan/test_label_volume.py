"""The label map in the making: it refuses whatever would put a slice into the wrong place or leave one out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sarco.core.errors import GeometryError
from sarco.scan.label_volume import LabelVolume

SHAPE = (4, 5, 6)


def numbered(plane: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """A slice that says which one it is."""
    return np.full(SHAPE[:2], plane + 1, np.uint8)


@given(st.permutations(range(6)))
def test_any_order_of_arrival_gives_the_same_volume(order: list[int]) -> None:
    """Catches slices stacked as they come."""
    volume = LabelVolume(SHAPE, range(6))
    for plane in order:
        volume.put(plane, numbered(plane))
    finished = volume.finish()
    assert finished.dtype == np.uint8
    np.testing.assert_array_equal(finished[0, 0], [1, 2, 3, 4, 5, 6])


def test_a_missing_slice_is_refused_and_named() -> None:
    """Catches a volume with a hole that looks like a slice without muscle."""
    volume = LabelVolume(SHAPE, range(6))
    for plane in (0, 1, 3, 5):
        volume.put(plane, numbered(plane))
    with pytest.raises(GeometryError, match="2 slices never came, the first is 2"):
        volume.finish()


def test_a_gap_of_the_series_stays_background() -> None:
    """Catches a plane without a slice that is waited for, or filled."""
    volume = LabelVolume(SHAPE, (0, 1, 2, 5))
    for plane in (5, 0, 2, 1):
        volume.put(plane, numbered(plane))
    np.testing.assert_array_equal(volume.finish()[0, 0], [1, 2, 3, 0, 0, 6])


def test_a_slice_that_comes_twice_is_refused() -> None:
    """Catches one slice that overwrites another."""
    volume = LabelVolume(SHAPE, range(6))
    volume.put(3, numbered(3))
    with pytest.raises(GeometryError, match="slice 3 was predicted twice"):
        volume.put(3, numbered(4))


@pytest.mark.parametrize("plane", [-1, 4, 6])
def test_a_slice_that_nobody_expects_is_refused(plane: int) -> None:
    """Catches a slice of another series, a gap that is filled, and an index from the end."""
    with pytest.raises(GeometryError, match="not part of this series"):
        LabelVolume(SHAPE, (0, 1, 2, 3, 5)).put(plane, numbered(0))


@pytest.mark.parametrize("shape", [(5, 4), (4, 1), (1, 5), (8, 10), (4, 5, 1)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    """Catches a map on the crop's grid, a transposed one, and one that numpy would spread over the slice."""
    with pytest.raises(GeometryError, match="came back as"):
        LabelVolume(SHAPE, range(6)).put(0, np.zeros(shape, np.uint8))
