"""Measurements: masks that one can count by hand, shapes with a formula, and SimpleITK's statistics."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sarco.core.errors import GeometryError, InputError, OptionError
from sarco.measurement.slices import STANDARD_RANGES, HuRanges, SliceMeasurement, measure_slice, pixel_area_cm2, pool

LABELS = {1: "muscle"}


def grid(
    row_mm: float = 1.0, column_mm: float = 1.0, step_mm: float = 1.0, tilt_deg: float = 0.0
) -> NDArray[np.float64]:
    """An axial grid; with a tilt the rows lean into z while the table still moves along z."""
    tilt = math.radians(tilt_deg)
    affine = np.eye(4)
    affine[:3, 0] = (0, row_mm * math.cos(tilt), row_mm * math.sin(tilt))
    affine[:3, 1] = (column_mm, 0, 0)
    affine[:3, 2] = (0, 0, step_mm)
    return affine


def rotated(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same grid, turned as a whole about two axes."""
    a, b = math.radians(25), math.radians(-40)
    about_x = np.array([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
    about_z = np.array([[math.cos(b), -math.sin(b), 0], [math.sin(b), math.cos(b), 0], [0, 0, 1]])
    turned = affine.copy()
    turned[:3, :3] = about_x @ about_z @ affine[:3, :3]
    return turned


def measure_one(
    hu: object, mask: object, affine: NDArray[np.float64], ranges: HuRanges = STANDARD_RANGES
) -> SliceMeasurement:
    """The one label of a slice."""
    label_map, image = np.asarray(mask, dtype=np.uint8), np.asarray(hu, dtype=np.float32)
    return measure_slice(np.broadcast_to(image, label_map.shape), label_map, affine, 0, LABELS, ranges)[0]


# --- count_of by hand -------------------------------------------------------------------------------------------------


def test_four_by_four_pixels() -> None:
    """Catches any slip in area, volume or density: 16 pixels of 1 mm, 2 mm thick, HU 0 to 15."""
    mask = np.zeros((8, 9), np.uint8)
    mask[2:6, 3:7] = 1
    hu = np.full((8, 9), 1000.0)
    hu[2:6, 3:7] = np.arange(16).reshape(4, 4)
    found = measure_one(hu, mask, grid(step_mm=2.0))
    assert found.n_pixels == 16
    assert found.area_cm2 == pytest.approx(0.16)
    assert found.volume_ml == pytest.approx(0.032)
    assert found.mean_hu == pytest.approx(7.5)
    assert found.median_hu == pytest.approx(7.5)
    assert found.sd_hu == pytest.approx(math.sqrt((16**2 - 1) / 12))  # of 16 consecutive whole numbers
    assert found.share_in_range == 1
    assert found.fat_cm2 == 0


@pytest.mark.parametrize(
    ("mask", "pixels"),
    [
        ([[1, 1, 1], [1, 0, 1], [1, 1, 1]], 8),
        ([[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]], 17),
        (np.eye(4), 4),
        ([[1]], 1),
        (np.ones((1, 7)), 7),
        ([[1, 0, 0], [0, 0, 0], [0, 0, 1]], 2),
    ],
    ids=["hole", "island in a hole", "diagonal", "one pixel", "one row", "opposite corners"],
)
def test_every_pixel_counts_once(mask: object, pixels: int) -> None:
    """Catches areas of outer contours: holes filled, diagonals and edges lost."""
    found = measure_one(50.0, mask, grid())
    assert (found.n_pixels, found.area_cm2) == (pixels, pytest.approx(pixels / 100))


def test_an_empty_mask_has_no_density() -> None:
    """Catches a mean of nothing: NaN, a warning, or 0 HU, which is a density of muscle."""
    found = measure_one(50.0, np.zeros((4, 4)), grid())
    assert (found.n_pixels, found.area_cm2, found.volume_ml, found.fat_cm2) == (0, 0, 0, 0)
    assert found.mean_hu is found.median_hu is found.sd_hu is found.share_in_range is found.mean_hu_in_range is None


def test_pixels_that_are_no_squares() -> None:
    """Catches row spacing used for columns, or squared: 6 pixels of 0.7 x 0.9 mm, 5 mm apart."""
    found = measure_one(0.0, np.ones((2, 3)), grid(0.7, 0.9, 5.0))
    assert found.area_cm2 == pytest.approx(6 * 0.63 / 100)
    assert found.volume_ml == pytest.approx(6 * 0.63 * 5 / 1000)


def test_a_tilted_gantry_shortens_the_rows() -> None:
    """Catches in-plane areas called cross-sections, and volumes from spacings instead of the determinant."""
    found = measure_one(0.0, np.ones((4, 4)), grid(0.8, 0.8, 5.0, tilt_deg=20))
    assert found.area_cm2 == pytest.approx(16 * 0.64 * math.cos(math.radians(20)) / 100)
    assert found.volume_ml == pytest.approx(16 * 0.64 * math.cos(math.radians(20)) * 5 / 1000)


def test_an_oblique_grid_without_shear_keeps_its_area() -> None:
    """Catches a correction for tilt where nothing is sheared."""
    found = measure_one(0.0, np.ones((4, 4)), rotated(grid(0.8, 0.6, 5.0)))
    assert found.area_cm2 == pytest.approx(16 * 0.48 / 100)
    assert found.volume_ml == pytest.approx(16 * 0.48 * 5 / 1000)


@pytest.mark.parametrize("tilt_deg", [0, 12, 25])
def test_a_cylinder_has_its_cross_section_under_any_tilt(tilt_deg: float) -> None:
    """Catches a wrong sense of the correction: a cylinder along the table cut by tilted slices is pi r^2."""
    radius_mm, affine = 60.0, grid(0.5, 0.5, 5.0, tilt_deg)
    rows, columns = np.mgrid[:360, :360]
    affine[:3, 3] = -affine[:3, :3] @ (180, 180, 0)
    x, y = (affine[axis, 0] * rows + affine[axis, 1] * columns + affine[axis, 3] for axis in (0, 1))
    found = measure_one(40.0, np.hypot(x, y) <= radius_mm, affine)
    assert found.area_cm2 == pytest.approx(math.pi * radius_mm**2 / 100, rel=0.005)


@pytest.mark.parametrize("spacing_mm", [(0.5, 0.5), (0.683, 0.683), (0.7, 0.9), (0.977, 0.977), (1.5, 1.2)])
def test_a_disc_has_the_area_of_its_formula(spacing_mm: tuple[float, float]) -> None:
    """Catches areas that depend on the pixel spacing: within 0.5 % of pi r^2, away from the middle of a pixel."""
    radius_mm = 71.3
    y = (np.arange(512) - 251.3) * spacing_mm[0]
    x = (np.arange(480) - 243.8) * spacing_mm[1]
    found = measure_one(40.0, np.hypot(y[:, None], x[None, :]) <= radius_mm, grid(*spacing_mm, 3.0))
    assert found.area_cm2 == pytest.approx(math.pi * radius_mm**2 / 100, rel=0.005)


# --- HU ranges -------------------------------------------------------------------------------------------------------


def test_both_ends_belong_to_a_range() -> None:
    """Catches ranges that lose their ends, by the published figures of each."""
    found = measure_one([[-191, -190, -30, -29, 29, 30, 150, 151]], np.ones((1, 8)), grid(10, 10))
    assert found.area_in_range_cm2 == pytest.approx(4)  # -29, 29, 30, 150; each pixel is 1 cm2
    assert found.lama_cm2 == pytest.approx(2)
    assert found.nama_cm2 == pytest.approx(2)
    assert found.fat_cm2 == pytest.approx(2)
    assert found.mean_hu_in_range == (-29 + 29 + 30 + 150) / 4
    assert found.mean_hu == pytest.approx((-191 - 190 - 30 + 180 + 151) / 8)


def test_no_value_falls_between_two_ranges() -> None:
    """Catches pixels of scanners with half HU that are neither low nor normal muscle."""
    halves = np.arange(-40, 160, 0.25)[None, :]
    found = measure_one(halves, np.ones(halves.shape), grid(10, 10))
    assert found.area_in_range_cm2 == pytest.approx(180 * 4)  # whole HU from -29 to 150, four steps each
    assert found.lama_cm2 + found.nama_cm2 == pytest.approx(180 * 4)
    assert found.fat_cm2 == pytest.approx(np.count_nonzero(halves < -29.5))


def test_ranges_can_be_chosen() -> None:
    """Catches a range that is typed and not used."""
    ranges = HuRanges.parse("muscle=0:100, imat=-150:-50")
    assert ranges == HuRanges(muscle=(0, 100), imat=(-150, -50))
    found = measure_one([[-160, -100, -40, -10, 50, 120]], np.ones((1, 6)), grid(10, 10), ranges)
    areas = (found.area_in_range_cm2, found.fat_cm2, found.lama_cm2, found.nama_cm2)
    assert areas == pytest.approx((1, 1, 1, 2))
    assert HuRanges.parse("") == HuRanges()
    assert HuRanges().to_builtins() == {"muscle": [-29, 150], "lama": [-29, 29], "nama": [30, 150], "imat": [-190, -30]}


@pytest.mark.parametrize("text", ["muscle", "muscle=1", "muscle=a:b", "fat=1:2", "muscle=1:2,muscle=3:4", "nama=9:1"])
def test_a_range_that_makes_no_sense_is_refused(text: str) -> None:
    """Catches a mistyped range that counts as the default."""
    with pytest.raises(OptionError, match="--hu_ranges"):
        HuRanges.parse(text)


# --- several labels and slices ---------------------------------------------------------------------------------------


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.sampled_from([{3: "a"}, {1: "a", 3: "b"}, {3: "b", 1: "a", 200: "c"}]),
)
def test_any_label_map_is_measured_as_by_brute_force(seed: int, shape: tuple[int, int], labels: dict[int, str]) -> None:
    """Catches labels that get each other's pixels, in sorting or in the bounding box."""
    rng = np.random.default_rng(seed)
    label_map = rng.choice(np.array([0, 0, 1, 3, 200, 255], np.uint8), shape)
    hu = rng.integers(-300, 300, shape).astype(np.float32)
    affine = grid(10, 10)
    found = measure_slice(hu, label_map, affine, 7, labels)
    assert [(one.label_id, one.label, one.slice_index) for one in found] == [(i, n, 7) for i, n in labels.items()]
    for one in found:
        pixels = [float(hu[r, c]) for r in range(shape[0]) for c in range(shape[1]) if label_map[r, c] == one.label_id]
        muscle = [value for value in pixels if -29 <= value <= 150]
        assert one.n_pixels == len(pixels)
        assert one.area_in_range_cm2 == pytest.approx(len(muscle))
        assert one.lama_cm2 == pytest.approx(sum(value < 30 for value in muscle))
        assert one.fat_cm2 == pytest.approx(sum(-190 <= value <= -30 for value in pixels))
        assert one.mean_hu == (pytest.approx(sum(pixels) / len(pixels), abs=1e-4) if pixels else None)
        assert one.mean_hu_in_range == (pytest.approx(sum(muscle) / len(muscle), abs=1e-4) if muscle else None)
        assert one.median_hu == (pytest.approx(np.median(pixels)) if pixels else None)


@given(st.integers(0, 2**32 - 1))
def test_pooled_slices_are_as_one_big_slice(seed: int) -> None:
    """Catches means of means: slices count by their pixels, and the scatter between them belongs to the SD."""
    rng = np.random.default_rng(seed)
    label_maps = [np.asarray(rng.random((6, 7)) < share, np.uint8) for share in (0.9, 0.1, 0.0)]
    images = [rng.normal(mean, 40, (6, 7)).astype(np.float32) for mean in (20, 90, 0)]
    found = pool(
        row
        for i, (hu, ids) in enumerate(zip(images, label_maps, strict=True))
        for row in measure_slice(hu, ids, grid(), i, LABELS)
    )
    pixels = np.concatenate([hu[ids == 1] for hu, ids in zip(images, label_maps, strict=True)]).astype(np.float64)
    muscle = pixels[(np.floor(pixels + 0.5) >= -29) & (np.floor(pixels + 0.5) <= 150)]
    assert found.n_pixels == pixels.size
    assert found.mean_hu == pytest.approx(pixels.mean(), abs=1e-4)
    assert found.sd_hu == pytest.approx(pixels.std(), abs=1e-4)
    assert found.share_in_range == pytest.approx(muscle.size / pixels.size)
    assert found.mean_hu_in_range == pytest.approx(muscle.mean(), abs=1e-4)


def test_nothing_pooled_is_nothing() -> None:
    """Catches a division by zero where a label is nowhere."""
    found = pool([])
    assert (found.n_pixels, found.volume_ml, found.mean_hu, found.mean_hu_in_range) == (0, 0, None, None)


def test_where_a_slice_lies() -> None:
    """Catches the z of a neighbour: that of ImagePositionPatient of the slice itself."""
    affine = grid(step_mm=2.5)
    affine[2, 3] = -400
    assert measure_slice(np.zeros((2, 2), np.float32), np.ones((2, 2), np.uint8), affine, 4, LABELS)[0].z_mm == -390


@pytest.mark.parametrize("kind", ["anisotropic", "oblique"])
def test_statistics_agree_with_simpleitk(phantoms: dict[str, object], kind: str) -> None:
    """Catches volumes, means, medians and SDs that another program does not find on the same voxels."""
    sitk = pytest.importorskip("SimpleITK")
    phantom = phantoms[kind]
    rows = [
        row
        for plane in range(phantom.hu.shape[2])
        for row in measure_slice(
            phantom.hu[:, :, plane].astype(np.float32), phantom.label_map[:, :, plane], phantom.affine_lps, plane,
            phantom.label_names,
        )
    ]  # fmt: skip
    spacing_mm = np.linalg.norm(phantom.affine_lps[:3, :3], axis=0)
    images = []
    for array in (phantom.hu.astype(np.float32), phantom.label_map):
        image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 0, 1)))
        image.SetSpacing([float(spacing_mm[axis]) for axis in (1, 0, 2)])
        images.append(image)
    theirs = sitk.LabelStatisticsImageFilter()
    theirs.Execute(*images)
    assert set(theirs.GetLabels()) - {0} == set(phantom.label_names)
    for label_id in phantom.label_names:
        mine = pool(row for row in rows if row.label_id == label_id)
        n = theirs.GetCount(label_id)
        assert mine.n_pixels == n
        assert mine.volume_ml == pytest.approx(n * float(np.prod(spacing_mm)) / 1000)
        assert mine.mean_hu == pytest.approx(theirs.GetMean(label_id), abs=1e-3)
        # SimpleITK divides by n - 1
        assert mine.sd_hu == pytest.approx(theirs.GetSigma(label_id) * math.sqrt((n - 1) / n), rel=1e-4)


@pytest.mark.parametrize(
    "values",
    [
        [7],
        [7, 8],
        [8, 7, 7],
        [-1000, 3, 4, 3000],
        [0.5, 1.5, 9.25],
        [-3, -3, 5, 5],
        [0, 1e6, 2e6, 3e6],
        [2, 2, 2, 9, 9],
    ],
)
def test_medians_of_whole_and_broken_hu(values: list[float]) -> None:
    """Catches a median by counting that is off by one bin, or that counts what has no bins."""
    assert measure_one([values], np.ones((1, len(values))), grid()).median_hu == np.median(values)


# --- what cannot be measured -----------------------------------------------------------------------------------------


def test_arrays_on_two_grids_are_refused() -> None:
    """Catches a transposed or cropped mask that numpy would broadcast or fail on without a word."""
    with pytest.raises(GeometryError, match="slice 3"):
        measure_slice(np.zeros((4, 5), np.float32), np.ones((5, 4), np.uint8), grid(), 3, LABELS)


def test_a_pixel_without_a_value_is_refused() -> None:
    """Catches a mean that is NaN because one voxel of an image is; outside the mask it does no harm."""
    hu = np.zeros((2, 2), np.float32)
    hu[0, 0] = np.nan
    with pytest.raises(InputError, match="no number"):
        measure_slice(hu, np.ones((2, 2), np.uint8), grid(), 0, LABELS)
    assert measure_slice(hu, np.array([[0, 1], [1, 1]], np.uint8), grid(), 0, LABELS)[0].n_pixels == 3


def test_the_formula_of_the_cross_section() -> None:
    """Catches an area that depends on the step between slices."""
    assert pixel_area_cm2(grid(0.8, 0.8, 1.0, 20)) == pytest.approx(pixel_area_cm2(grid(0.8, 0.8, 7.0, 20)))
