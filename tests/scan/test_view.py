"""How a slice is turned to be looked at, against directions in the world."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from turns import rotation

from sarco.scan.view import Box, View

IN_PLANE = [
    (axes, signs) for axes in itertools.permutations(range(3), 2) for signs in itertools.product((-1, 1), repeat=2)
]


@pytest.mark.parametrize(("axes", "signs"), IN_PLANE)
def test_display_shows_every_plane_as_radiologists_do(axes: tuple[int, int], signs: tuple[int, int]) -> None:
    """Catches a mirrored picture: the patient's right at the left edge, anterior or superior at the top."""
    affine = np.zeros((4, 4))
    for column, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[axis, column] = sign
    affine[:3, 2] = np.cross(affine[:3, 1], affine[:3, 0])
    affine[:3, :3] = rotation(0.15, -0.1, 0.12) @ affine[:3, :3]
    rows, columns = np.indices((4, 5))
    world = np.einsum("ij,jrc->rci", affine[:3, :2], np.stack([rows, columns]))  # (row, column, LPS)
    view = View.of(affine)
    shown = world.transpose(1, 0, 2) if view.transpose else world
    shown = shown[::-1] if view.flip_rows else shown
    shown = shown[:, ::-1] if view.flip_columns else shown
    downwards, rightwards = shown[1, 0] - shown[0, 0], shown[0, 1] - shown[0, 0]
    left, posterior, inferior = (1, 0, 0), (0, 1, 0), (0, 0, -1)
    expected = {
        frozenset((0, 1)): (posterior, left),
        frozenset((0, 2)): (inferior, left),
        frozenset((1, 2)): (inferior, posterior),
    }[frozenset(axes)]
    assert downwards @ expected[0] > 0.9
    assert rightwards @ expected[1] > 0.9
    letter = {(1, 0, 0): ("R", "L"), (0, 1, 0): ("A", "P"), (0, 0, -1): ("S", "I")}
    edges = view.edges(affine)
    assert (edges["top"], edges["bottom"]) == letter[expected[0]]
    assert (edges["left"], edges["right"]) == letter[expected[1]]


@pytest.mark.parametrize("view", [View(*turn) for turn in np.ndindex(2, 2, 2)], ids=str)
@given(top=st.integers(0, 8), left=st.integers(0, 6), height=st.integers(1, 5), width=st.integers(1, 5))
def test_a_box_turns_with_its_pixels(view: View, top: int, left: int, height: int, width: int) -> None:
    """Catches a box that stays behind, or is mirrored in the wrong length, where a slice is turned to be seen."""
    shape = (13, 11)
    pixels = np.zeros((1, *shape), np.uint8)
    pixels[0, top : top + height, left : left + width] = 1
    rows, columns = np.nonzero(view.turn(pixels)[0])
    expected = Box(rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
    assert view.turn_box(Box(top, left, top + height, left + width), shape) == expected
