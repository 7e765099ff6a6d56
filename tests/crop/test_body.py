"""The body's box: the whole trunk is in it, and nothing that is no trunk makes it larger."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sarco.crop.body import MARGIN_MM, average_onto, find_body
from sarco.io.dicom import find_series
from sarco.io.images import read_hu
from sarco.phantom.patient import PhantomOptions, make_phantom
from sarco.scan.view import Box

AIR, TISSUE = np.float32(-1000), np.float32(40)
SLACK_MM = 8.0  # what a tight blanket or the table's first layer may add to one side


def disc(
    shape: tuple[int, int], spacing: tuple[float, float], centre_mm: tuple[float, float], radius_mm: float
) -> NDArray[np.bool_]:
    """A disc that is round in mm."""
    rows, columns = np.indices(shape)
    return np.hypot(rows * spacing[0] - centre_mm[0], columns * spacing[1] - centre_mm[1]) <= radius_mm


def gaps_mm(box: Box, mask: NDArray[np.bool_], spacing: tuple[float, float]) -> NDArray[np.float64]:
    """How far each side of the box lies outside the mask: top, bottom, left, right."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    along_rows = rows[0] - box.top, box.bottom - rows[-1] - 1
    along_columns = columns[0] - box.left, box.right - columns[-1] - 1
    return np.array([*np.multiply(along_rows, spacing[0]), *np.multiply(along_columns, spacing[1])])


@pytest.mark.parametrize("arms", [False, True])
@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize(
    ("rows", "columns", "spacing"),
    [(160, 160, None), (96, 120, (3.1, 3.4, 6.0)), (300, 150, (1.3, 2.8, 5.0))],
    ids=["square", "coarse", "long pixels"],
)
def test_the_box_holds_the_trunk_without_table_and_arms(
    rows: int, columns: int, spacing: tuple[float, float, float] | None, oblique: bool, arms: bool
) -> None:
    """Catches muscle outside the box, and a box that table or arms have widened."""
    for seed in (0, 6, 12):
        options = PhantomOptions(n_slices=1, rows=rows, columns=columns, spacing_mm=spacing, oblique=oblique, arms=arms)
        phantom = make_phantom(seed, options)
        row_mm, column_mm, _ = np.linalg.norm(phantom.affine_lps[:3, :3], axis=0)
        box = find_body(phantom.hu[..., 0].astype(np.float32), (row_mm, column_mm)).box
        gaps = gaps_mm(box, phantom.body_mask[..., 0], (row_mm, column_mm))
        assert gaps.min() >= 0
        assert gaps.max() <= MARGIN_MM + SLACK_MM
        side = max((box.bottom - box.top) * row_mm, (box.right - box.left) * column_mm)
        trunk = phantom.body_mask[..., 0]
        trunk_side = max(np.ptp(np.nonzero(trunk)[0]) * row_mm, np.ptp(np.nonzero(trunk)[1]) * column_mm)
        assert side <= 1.03 * trunk_side + 2 * MARGIN_MM


def test_a_body_cut_by_the_field_of_view_stays_whole() -> None:
    """Catches a body that is worn off where the image ends."""
    options = PhantomOptions(n_slices=1, rows=160, columns=160, spacing_mm=(2.5, 2.5, 5), arms=False)
    phantom = make_phantom(2, options)
    body = phantom.body_mask[..., 0]
    rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    for cut in (
        np.s_[rows[0] + 20 :, :],
        np.s_[: rows[-1] - 20, :],
        np.s_[:, columns[0] + 20 :],
        np.s_[:, : columns[-1] - 20],
        np.s_[rows[0] + 20 : rows[-1] - 20, columns[0] + 20 : columns[-1] - 20],
    ):
        box = find_body(phantom.hu[..., 0][cut].astype(np.float32), (2.5, 2.5)).box
        gaps = gaps_mm(box, body[cut], (2.5, 2.5))
        assert gaps.min() >= 0
        assert gaps.max() <= MARGIN_MM + SLACK_MM


def test_a_field_of_view_inside_the_body_is_all_body() -> None:
    """Catches corners and edges that are worn off because nothing is known beyond the image."""
    mask = find_body(np.full((60, 40), TISSUE), (2.5, 2.5)).trunk
    assert mask.all()


def test_both_legs_are_in_the_box() -> None:
    """Catches the largest part alone: the second leg would be lost."""
    shape, spacing = (200, 300), (1.5, 1.5)
    left, right = disc(shape, spacing, (150, 130), 75), disc(shape, spacing, (150, 320), 65)
    gaps = gaps_mm(find_body(np.where(left | right, TISSUE, AIR), spacing).box, left | right, spacing)
    assert gaps.min() >= 0
    assert gaps.max() <= MARGIN_MM + 3


def test_an_arm_beside_the_trunk_is_left_out() -> None:
    """Catches an arm that halves the trunk's pixels: everything would be drawn smaller."""
    shape, spacing = (200, 300), (1.5, 1.5)
    trunk, arm = disc(shape, spacing, (150, 180), 120), disc(shape, spacing, (150, 380), 38)
    gaps = gaps_mm(find_body(np.where(trunk | arm, TISSUE, AIR), spacing).box, trunk, spacing)
    assert gaps.max() <= MARGIN_MM + 3


def test_an_arm_that_lies_against_the_trunk_is_left_out() -> None:
    """Catches an arm that hangs together with the trunk: the trunk's size would jump from slice to slice."""
    shape, spacing = (200, 330), (1.5, 1.5)
    trunk, arm = disc(shape, spacing, (150, 180), 120), disc(shape, spacing, (150, 334), 38)
    hu = np.where(trunk | arm, TISSUE, AIR)
    hu[disc(shape, spacing, (150, 334), 10)] = 800  # the humerus
    assert (trunk & arm).any()
    gaps = gaps_mm(find_body(hu, spacing).box, trunk, spacing)
    assert gaps.max() <= MARGIN_MM + 8


def test_boxes_of_a_real_series_are_alike(shared_data: Path) -> None:
    """Catches an arm that is in the box of those slices in which it touches the trunk: 65 pixels more there."""
    slices = find_series(shared_data / "series_b").series[0].slices
    boxes = [find_body(read_hu(one), one.spacing_mm).box for one in slices]
    for edges in zip(*((box.top, box.left, box.bottom, box.right) for box in boxes), strict=True):
        assert max(edges) - min(edges) < 12


@pytest.mark.parametrize("padding", [-2000, -3024])
def test_what_scanners_write_beyond_their_circle_is_air(padding: float) -> None:
    """Catches padding far below air that eats the edge of the body when pixels are averaged."""
    shape, spacing = (200, 200), (0.9, 0.9)
    trunk = disc(shape, spacing, (90, 90), 60)
    plain = np.where(trunk, TISSUE, np.float32(-1024))
    padded = np.where(trunk, TISSUE, np.float32(padding))
    assert find_body(padded, spacing).box == find_body(plain, spacing).box
    np.testing.assert_array_equal(find_body(padded, spacing).trunk, find_body(plain, spacing).trunk)


def test_a_table_that_touches_the_back_is_left_out() -> None:
    """Catches a thin, wide table that is taken for body."""
    shape, spacing = (200, 300), (1.5, 1.5)
    trunk = disc(shape, spacing, (120, 225), 100)
    table = np.zeros(shape, bool)
    table[147:152, 10:290] = True
    gaps = gaps_mm(find_body(np.where(trunk | table, TISSUE, AIR), spacing).box, trunk, spacing)
    assert gaps.min() >= 0
    assert gaps[2:].max() <= MARGIN_MM + 3
    assert gaps[1] <= MARGIN_MM + 10


def test_gas_in_the_body_does_not_split_the_box() -> None:
    """Catches lungs or bowel gas that are taken for the outside."""
    shape, spacing = (200, 200), (2.0, 2.0)
    trunk, lung = disc(shape, spacing, (200, 200), 150), disc(shape, spacing, (200, 140), 70)
    gaps = gaps_mm(find_body(np.where(trunk & ~lung, TISSUE, AIR), spacing).box, trunk, spacing)
    assert gaps.min() >= 0
    assert gaps.max() <= MARGIN_MM + 4


def test_long_pixels_are_measured_in_mm() -> None:
    """Catches row and column spacing in the wrong order."""
    shape, spacing = (400, 100), (0.8, 3.9)
    trunk = disc(shape, spacing, (160, 195), 120)
    gaps = gaps_mm(find_body(np.where(trunk, TISSUE, AIR), spacing).box, trunk, spacing)
    assert gaps.min() >= 0
    assert gaps.max() <= MARGIN_MM + 4


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (1, 300), (64, 64)])
@pytest.mark.parametrize("hu", [AIR, np.float32(-3024)])
def test_air_alone_gives_the_whole_slice(shape: tuple[int, int], hu: np.float32) -> None:
    """Catches an empty box, which no crop can be made of."""
    assert find_body(np.full(shape, hu), (0.8, 0.8)).box == Box(0, 0, *shape)
    assert not find_body(np.full(shape, hu), (0.8, 0.8)).trunk.any()


@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    spacing=st.tuples(st.floats(0.2, 12), st.floats(0.2, 12)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_any_slice_has_a_box_with_an_inside(rows: int, columns: int, spacing: tuple[float, float], seed: int) -> None:
    """Catches an error or an empty box on tiny images, odd spacings and noise."""
    hu = np.random.default_rng(seed).normal(-300, 400, (rows, columns)).astype(np.float32)
    box = find_body(hu, spacing).box
    assert box.top < box.bottom
    assert box.left < box.right
    assert np.isfinite([box.top, box.left, box.bottom, box.right]).all()


def test_union_holds_both() -> None:
    """Catches a union that takes the sides of one box."""
    assert Box(1, 8, 5, 9).union(Box(2, 3, 7, 4)) == Box(1, 3, 7, 9)


@pytest.mark.parametrize("shape", [(512, 512), (300, 512), (511, 512), (97, 64)])
def test_averaging_keeps_what_there_is_and_where(shape: tuple[int, int]) -> None:
    """Catches an image that is halved where its rows do not divide, or shifted by the halving."""
    rows, columns = np.indices(shape, dtype=np.float32)
    rows, columns = (rows + 0.5) / shape[0], (columns + 0.5) / shape[1]  # 0 to 1 over the image
    coarse = average_onto((48, 61), rows + 10 * columns)
    expected = (np.arange(48) + 0.5)[:, None] / 48 + 10 * (np.arange(61) + 0.5) / 61
    np.testing.assert_allclose(coarse, expected, atol=10 * 0.51 / min(shape))
    assert coarse.mean() == pytest.approx(5.5, abs=1e-4)
