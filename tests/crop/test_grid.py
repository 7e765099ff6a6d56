"""The crop's grid and its warps, against references that know edges of pixels instead of matrices."""

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sarco.crop.body import MARGIN_MM
from sarco.crop.grid import CropGrid, box_side_mm, widen_field
from sarco.scan.hu import AIR_HU
from sarco.scan.view import Box

SPACING = (0.7, 1.1)
BOX = Box(top=6.3, left=-4.2, bottom=41.9, right=33.6)  # reaches beyond the slice on the left
SHAPE = (48, 37)

boxes = st.builds(
    lambda top, left, height, width: Box(top, left, top + height, left + width),
    st.floats(-20, 30),
    st.floats(-20, 30),
    st.floats(3, 80),
    st.floats(3, 80),
)
spacings = st.tuples(st.floats(0.3, 4), st.floats(0.3, 4))
pixels = st.one_of(st.none(), st.floats(0.3, 5))  # None: the smallest square; most others are too small for the box


def square_edges(
    box: Box, spacing: tuple[float, float], size: int = 1, pixel_mm: float | None = None
) -> tuple[float, float, float, float]:
    """Top, left and the sides (in pixels) of the square in mm around the middle of a box.

    The smallest one, or one of ``size`` pixels of ``pixel_mm``, in steps of an eighth as large as the box needs.
    """
    side_mm = max((box.bottom - box.top) * spacing[0], (box.right - box.left) * spacing[1])
    if pixel_mm is not None:
        field_mm, eighths = size * pixel_mm, 8
        while eighths / 8 * field_mm < side_mm * (1 - 1e-9):
            eighths += 1
        side_mm = eighths / 8 * field_mm
    height, width = side_mm / spacing[0], side_mm / spacing[1]
    return (box.top + box.bottom - height) / 2, (box.left + box.right - width) / 2, height, width


def centres(
    box: Box, spacing: tuple[float, float], size: int, pixel_mm: float | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the crop's pixel centres lie in the slice, as edge coordinates: pixel 0 of the slice spans 0 to 1."""
    top, left, height, width = square_edges(box, spacing, size, pixel_mm)
    middle = (np.arange(size) + 0.5) / size
    return top + middle * height, left + middle * width


def nearest_reference(
    source: NDArray[np.uint8], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """The id of the pixel that holds each point, point by point; 0 outside."""
    result = np.zeros((len(rows), len(columns)), np.uint8)
    for i, row in enumerate(np.floor(rows).astype(int)):
        for j, column in enumerate(np.floor(columns).astype(int)):
            if 0 <= row < source.shape[0] and 0 <= column < source.shape[1]:
                result[i, j] = source[row, column]
    return result


def linear_reference(
    source: NDArray[np.float32], rows: NDArray[np.float64], columns: NDArray[np.float64], outside: float
) -> NDArray[np.float64]:
    """Bilinear interpolation between pixel centres at edge coordinate + 0.5, with a border of `outside`."""
    padded = np.pad(source.astype(np.float64), 1, constant_values=outside)

    def weights(points: NDArray[np.float64], size: int) -> NDArray[np.float64]:
        distance = np.abs(points[:, None] - (np.arange(size) - 0.5))  # of padded pixels
        return np.maximum(1 - distance, 0)

    row_weights, column_weights = weights(rows, padded.shape[0]), weights(columns, padded.shape[1])
    inside = np.outer(row_weights.sum(1), column_weights.sum(1))
    return row_weights @ padded @ column_weights.T + (1 - inside) * outside


def random_ids(shape: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """Ids on which every shift by a pixel shows."""
    return np.random.default_rng(seed).integers(1, 255, shape).astype(np.uint8)


@given(box=boxes, spacing=spacings, size=st.sampled_from([8, 32, 65]), pixel_mm=pixels)
@settings(max_examples=120, deadline=None)
def test_the_crop_is_a_square_in_mm_around_the_box(
    box: Box, spacing: tuple[float, float], size: int, pixel_mm: float | None
) -> None:
    """Catches pixels that are not square, a body that is cut, and a crop that is off centre by half a pixel."""
    assume(pixel_mm is None or max(abs(pixel_mm / mm - 1) for mm in spacing) > 0.01)
    grid = CropGrid.around(box, spacing, size, pixel_mm)
    assert grid.scale[0] * spacing[0] == pytest.approx(grid.scale[1] * spacing[1])
    top, left, height, width = square_edges(box, spacing, size, pixel_mm)
    for axis, (edge, side) in enumerate([(top, height), (left, width)]):
        first_edge = grid.start[axis] + 0.5 - grid.scale[axis] / 2
        last_edge = grid.start[axis] + 0.5 + grid.scale[axis] * (size - 0.5)
        assert first_edge == pytest.approx(edge, abs=1e-9)
        assert last_edge == pytest.approx(edge + side, abs=1e-9)
    assert top <= box.top + 1e-9
    assert left <= box.left + 1e-9
    rest_mm = 2 * min(abs(top - box.top) * spacing[0], abs(left - box.left) * spacing[1])
    if pixel_mm is None:
        assert rest_mm < 1e-9, "larger than needed"
    else:
        widened = grid.scale[0] * spacing[0] / pixel_mm
        assert widened >= 1 - 1e-9 and (widened < 1 + 1e-9 or rest_mm <= size * pixel_mm / 8 + 1e-9)


@given(box=boxes, spacing=spacings, size=st.sampled_from([16, 33]), pixel_mm=pixels, seed=st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_a_world_point_keeps_its_place(
    box: Box, spacing: tuple[float, float], size: int, pixel_mm: float | None, seed: int
) -> None:
    """Catches an affine of the crop that is not the slice's: what is drawn on the crop would lie elsewhere."""
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * (*spacing, 5.0)
    affine[:3, 3] = rng.normal(size=3) * 100
    grid = CropGrid.around(box, spacing, size, pixel_mm)
    rows, columns = centres(box, spacing, size, pixel_mm)
    for i, j in [(0, 0), (size - 1, 0), (3, size - 1), (5, 7)]:
        in_slice = affine @ [rows[i] - 0.5, columns[j] - 0.5, 0, 1]
        np.testing.assert_allclose(affine @ grid.matrix @ [i, j, 0, 1], in_slice, atol=1e-8)


@pytest.mark.parametrize("pixel_mm", [None, 0.9, 0.2])
@pytest.mark.parametrize("size", [16, 40, 64, 128, 200])
def test_labels_are_taken_from_the_pixel_they_lie_in(size: int, pixel_mm: float | None) -> None:
    """Catches a shift by half a pixel, and OpenCV's rounding in fixed point."""
    source = random_ids(SHAPE, seed=0)
    cropped = CropGrid.around(BOX, SPACING, size, pixel_mm).crop_label_map(source)
    np.testing.assert_array_equal(cropped, nearest_reference(source, *centres(BOX, SPACING, size, pixel_mm)))


@pytest.mark.parametrize("pixel_mm", [None, 0.9, 0.2])
@pytest.mark.parametrize("size", [16, 40, 64, 128])
def test_labels_are_put_back_from_the_pixel_they_lie_in(size: int, pixel_mm: float | None) -> None:
    """Catches a shift on the way back that is not the way there."""
    crop = random_ids((size, size), seed=1)
    restored = CropGrid.around(BOX, SPACING, size, pixel_mm).restore_label_map(crop, SHAPE)
    top, left, height, width = square_edges(BOX, SPACING, size, pixel_mm)
    rows = (np.arange(SHAPE[0]) + 0.5 - top) / height * size
    columns = (np.arange(SHAPE[1]) + 0.5 - left) / width * size
    np.testing.assert_array_equal(restored, nearest_reference(crop, rows, columns))


@given(box=boxes, spacing=spacings, seed=st.integers(0, 100))
@example(box=Box(0, 0, 3, 3), spacing=(1.0, 0.5), seed=0)  # pixels of the crop lie half-way between the slice's
@example(box=Box(0, 0, 3, 12.999999999999986), spacing=(1.0, 4.0), seed=0)  # almost half-way
@settings(max_examples=40, deadline=None)
def test_labels_survive_a_crop_that_is_at_least_as_fine(box: Box, spacing: tuple[float, float], seed: int) -> None:
    """Catches a way back that is not the inverse of the way there, voxel by voxel."""
    source = random_ids((31, 44), seed)
    _, _, height, width = square_edges(box, spacing)
    grid = CropGrid.around(box, spacing, int(np.ceil(max(height, width))))
    restored = grid.restore_label_map(grid.crop_label_map(source), (31, 44))
    rows, columns = np.arange(31) + 0.5, np.arange(44) + 0.5
    top, left, _, _ = square_edges(box, spacing)
    rim = 1e-6  # a centre on the very border may count as either
    inside = np.outer(
        (rows > top - rim) & (rows < top + height + rim), (columns > left - rim) & (columns < left + width + rim)
    )
    # The pixel whose centre the crop's border cuts may be seen from its other side only.
    sure = np.outer(
        (rows > top + 0.5) & (rows < top + height - 0.5), (columns > left + 0.5) & (columns < left + width - 0.5)
    )
    np.testing.assert_array_equal(restored[sure], source[sure])
    assert not restored[~inside].any()


@pytest.mark.parametrize("size", [48, 64, 100, 160])  # as fine as the slice or finer: no smoothing
def test_hu_are_interpolated_between_pixel_centres(size: int) -> None:
    """Catches a shift, coefficients in coarse fixed point, and a wrong border."""
    hu = np.random.default_rng(2).uniform(-1000, 1000, SHAPE).astype(np.float32)
    box = Box(2.3, 4.1, 35.2, 33.7)
    grid = CropGrid.around(box, (1.0, 1.0), size)
    assert max(grid.scale) < 1
    expected = linear_reference(hu, *centres(box, (1.0, 1.0), size), AIR_HU)
    np.testing.assert_allclose(grid.crop_image(hu), expected, atol=1e-2)


def test_beyond_the_slice_is_air_and_padding_does_not_bleed() -> None:
    """Catches zeros (water) or scanner padding around a body that the field of view cuts."""
    hu = np.full(SHAPE, 50, np.float32)
    hu[:, :3] = -3024
    cropped = CropGrid.around(Box(-20, -20, 68, 57), (1.0, 1.0), 96).crop_image(hu)
    assert cropped[0, 0] == cropped[-1, -1] == cropped[48, 0] == AIR_HU
    assert cropped.min() == AIR_HU
    assert cropped.max() == pytest.approx(50, abs=1e-2)


@pytest.mark.parametrize("pixel_mm", [0.8, 3.0, 10.0])
@pytest.mark.parametrize("off", [0.0, 0.3, 0.5, 0.96])
def test_pixels_as_large_as_the_slices_lie_on_them(pixel_mm: float, off: float) -> None:
    """Catches an image that is blurred, and labels half a pixel beside it, where nothing has to be resampled."""
    size = 40
    box = Box(7 + off, 3 + off, 31 + off, 35 + off)
    grid = CropGrid.around(box, (pixel_mm, pixel_mm), size, pixel_mm)
    hu = np.random.default_rng(4).uniform(-1000, 1000, (60, 60)).astype(np.float32)
    ids = random_ids((60, 60), seed=4)
    top, left = (int(place) for place in grid.start)
    assert grid.start == (top, left)
    rows, columns = (slice(max(first, 0), min(first + size, 60)) for first in (top, left))
    here = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    np.testing.assert_allclose(grid.crop_image(hu)[here], hu[rows, columns], atol=1e-3)
    np.testing.assert_array_equal(grid.crop_label_map(ids)[here], ids[rows, columns])
    on_crop = np.random.default_rng(5).uniform(0, 1, (size, size)).astype(np.float32)
    np.testing.assert_allclose(grid.restore_probability(on_crop, (60, 60))[rows, columns], on_crop[here], atol=1e-5)
    moved = abs((top + (size - 1) / 2 + 0.5) - (box.top + box.bottom) / 2)
    assert moved <= 0.5 and moved * pixel_mm <= MARGIN_MM, "the margin takes up what the centre is off"


@pytest.mark.parametrize(
    ("body_mm", "factor"), [(10, 1), (400, 1), (400.001, 1.125), (450, 1.125), (451, 1.25), (600, 1.5), (4000, 10)]
)
def test_the_field_grows_by_eighths_until_the_body_fits_in(body_mm: float, factor: float) -> None:
    """Catches a body that is cut, and one that is shown smaller than it has to be."""
    assert widen_field(400, body_mm) == factor
    box = Box(0, 0, body_mm / 2, 10)
    assert box_side_mm(box, (2.0, 1.0)) == pytest.approx(body_mm)
    assert CropGrid.around(box, (2.0, 1.0), 100, 4.0).scale == pytest.approx((2 * factor, 4 * factor))


@pytest.mark.parametrize("size", [12, 20, 37, 64, 150])  # much coarser to much finer than the slice
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.6, 1.4)])
def test_a_slope_stays_a_slope(size: int, spacing: tuple[float, float]) -> None:
    """Catches a shift in the smoothing of coarse crops: a slope has the same value at the same place everywhere."""
    rows, columns = np.indices((120, 100))
    hu = (3.0 * rows - 5.0 * columns).astype(np.float32)
    box = Box(30.4, 35.2, 80.9, 64.1) if spacing[0] == 1 else Box(40, 40, 70, 60)
    grid = CropGrid.around(box, spacing, size)
    at_rows, at_columns = centres(box, spacing, size)
    expected = 3.0 * (at_rows[:, None] - 0.5) - 5.0 * (at_columns[None] - 0.5)
    np.testing.assert_allclose(grid.crop_image(hu), expected, atol=0.02)


def test_every_pixel_counts_in_a_coarse_crop() -> None:
    """Catches a coarse crop that takes every n-th pixel and lets the rest fall through: noise would stay noise."""
    hu = np.random.default_rng(5).normal(40, 100, (128, 128)).astype(np.float32)
    cropped = CropGrid.around(Box(0, 0, 128, 128), (1.0, 1.0), 30).crop_image(hu)[2:-2, 2:-2]
    assert cropped.mean() == pytest.approx(40, abs=5)
    assert cropped.std() < 0.2 * 100


@pytest.mark.parametrize("scale", [1.5, 2.0, 3.0, 4.7])
def test_a_coarse_crop_damps_what_it_cannot_show(scale: float) -> None:
    """Catches a low-pass that is too narrow, so that fine stripes come back as coarse ones, or that is too wide."""
    columns = np.arange(300, dtype=np.float32)[None] * np.ones((60, 1), np.float32)
    box = Box(30 - 5 * scale, 150 - 5 * scale, 30 + 5 * scale, 150 + 5 * scale)
    grid = CropGrid.around(box, (1.0, 1.0), 10, scale)

    def passes(cycles: float) -> float:
        """The share of stripes, so many a pixel of the crop, that is left where they meet its pixels best."""
        phases = np.linspace(0, np.pi, 9)
        stripes = (np.cos(2 * np.pi * cycles / scale * columns + phase).astype(np.float32) for phase in phases)
        return max(float(np.abs(grid.crop_image(100 * one)[3:7]).max()) / 100 for one in stripes)

    assert passes(0.1) > 0.94
    assert 0.7 < passes(0.25) < 0.8
    assert passes(0.5) < 0.4  # the finest that the crop can show
    for beyond in (0.75, 1.0, 1.5):
        if beyond / scale <= 0.5:  # the finest that the slice can show
            assert passes(beyond) < 0.25


@pytest.mark.parametrize("pixel_mm", [None, 0.9, 0.2])
@pytest.mark.parametrize("size", [20, 64, 150])
def test_probabilities_are_put_back_between_pixel_centres(size: int, pixel_mm: float | None) -> None:
    """Catches a shift on the way back, and anything but 0 outside the crop."""
    probability = np.random.default_rng(3).uniform(0, 1, (size, size)).astype(np.float32)
    restored = CropGrid.around(BOX, SPACING, size, pixel_mm).restore_probability(probability, SHAPE)
    top, left, height, width = square_edges(BOX, SPACING, size, pixel_mm)
    rows = (np.arange(SHAPE[0]) + 0.5 - top) / height * size
    columns = (np.arange(SHAPE[1]) + 0.5 - left) / width * size
    np.testing.assert_allclose(restored, linear_reference(probability, rows, columns, 0.0), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (1, 40)])
def test_tiny_slices_go_there_and_back(shape: tuple[int, int]) -> None:
    """Catches a warp that needs a neighbour."""
    source = random_ids(shape, seed=4)
    grid = CropGrid.around(Box(0, 0, *shape), (1.0, 1.0), 96)
    np.testing.assert_array_equal(grid.restore_label_map(grid.crop_label_map(source), shape), source)
    assert grid.crop_image(source.astype(np.float32)).shape == (96, 96)
