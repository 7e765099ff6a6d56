"""Surface distances against brute force, against SimpleITK, and on masks that can be count_of by hand."""

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sarco.comparison.surface import compare_surfaces, find_surface, squared_distance
from sarco.phantom.patient import PhantomOptions, make_phantom

SPACING = (0.7, 1.3, 4.0)


def blobs(seed: int, shape: tuple[int, int, int] = (14, 11, 5)) -> NDArray[np.bool_]:
    """A few random boxes."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, bool)
    for _ in range(rng.integers(1, 4)):
        start = [rng.integers(0, size - 1) for size in shape]
        stop = [rng.integers(low + 1, size + 1) for low, size in zip(start, shape, strict=True)]
        mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    return mask


def test_surface_by_hand() -> None:
    """Catches corners taken for inside, holes without a surface, and the edge of the picture taken for inside."""
    mask = np.zeros((5, 5, 3), bool)
    mask[:, 1:, :] = True
    surface = find_surface(mask)
    assert not surface[1:4, 2:4, 1].any() and surface.sum() == mask.sum() - 3 * 2
    mask[2, 3, 1] = False
    assert find_surface(mask)[2, 2, 1] and not find_surface(mask)[1, 2, 1]
    flat = np.ones((5, 5, 1), bool)
    assert find_surface(flat).sum() == 16, "a lone slice has an inside"


@given(st.integers(0, 10_000), st.tuples(*[st.floats(0.3, 6)] * 3))
@settings(max_examples=60)
def test_distance_equals_brute_force(seed: int, spacing: tuple[float, float, float]) -> None:
    """Catches a spacing on the wrong axis, and a search that ends too early."""
    rng = np.random.default_rng(seed)
    points = rng.random((9, 7, 5)) < rng.choice([0.004, 0.05, 0.4])
    found = squared_distance(points, spacing)
    places = np.argwhere(points) * spacing
    if not len(places):
        assert np.isinf(found).all()
        return
    everywhere = np.argwhere(np.ones(points.shape, bool)) * spacing
    expected = ((everywhere[:, None] - places[None]) ** 2).sum(-1).min(1).reshape(points.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def itk(mask: NDArray[np.bool_], spacing: tuple[float, float, float]) -> SimpleITK.Image:
    """The mask for SimpleITK, whose arrays are (slice, row, column) and whose spacings are (column, row, slice)."""
    image = SimpleITK.GetImageFromArray(mask.transpose(2, 0, 1).astype(np.uint8))
    image.SetSpacing((spacing[1], spacing[0], spacing[2]))
    return image


@pytest.mark.parametrize("seed", range(12))
def test_distances_equal_those_of_simpleitk(seed: int) -> None:
    """Catches another definition of the surface or of the average than the one that is documented."""
    truth, prediction = blobs(seed), blobs(seed + 100)
    found = compare_surfaces(truth, prediction, SPACING)
    directed = []
    for one, two in ((truth, prediction), (prediction, truth)):
        # ITK's distance map to a surface, read where the other surface is: voxel centre to voxel centre.
        target = itk(find_surface(two), SPACING)
        far = SimpleITK.SignedMaurerDistanceMap(
            target, squaredDistance=False, useImageSpacing=True, insideIsPositive=False
        )
        distance = np.abs(SimpleITK.GetArrayFromImage(far)).transpose(1, 2, 0)
        on_it = find_surface(two)
        distance[on_it] = 0  # ITK measures to the outline of what it is given
        directed.append(distance[find_surface(one)])
    assert found.hd95_mm == pytest.approx(max(np.percentile(d, 95) for d in directed), abs=1e-4)
    assert found.asd_mm == pytest.approx(np.concatenate(directed).mean(), abs=1e-4)


@pytest.mark.parametrize("seed", [3, 4, 8])
def test_largest_distance_on_muscle_equals_simpleitk(seed: int) -> None:
    """Catches a distance that is right on boxes only: ITK's own filter, on muscle that is shifted aside."""
    options = PhantomOptions(n_slices=4, rows=72, columns=80, spacing_mm=(4.1, 4.7, 6.0))
    truth = make_phantom(seed, options).label_map > 0
    prediction = np.roll(truth, (2, -1, 1), axis=(0, 1, 2))
    prediction[:, :, 0] = False
    surfaces = [find_surface(mask) for mask in (truth, prediction)]
    there, back = (squared_distance(two, (4.1, 4.7, 6.0))[one].max() for one, two in (surfaces, surfaces[::-1]))
    itks = SimpleITK.HausdorffDistanceImageFilter()
    itks.Execute(itk(truth, (4.1, 4.7, 6.0)), itk(prediction, (4.1, 4.7, 6.0)))
    assert max(there, back) ** 0.5 == pytest.approx(itks.GetHausdorffDistance(), abs=1e-4)


def test_shifted_cube_by_hand() -> None:
    """Catches distances in voxels, and an average over one direction only."""
    truth, prediction = np.zeros((12, 12, 9), bool), np.zeros((12, 12, 9), bool)
    truth[2:5, 4, 3] = True  # a rod of three voxels, all surface
    prediction[4:7, 4, 3] = True  # two further along
    found = compare_surfaces(truth, prediction, SPACING)
    # Both ways: 2 x 0.7, 0.7 and 0.
    assert found.asd_mm == pytest.approx(0.7)
    assert found.hd95_mm == pytest.approx(0.7 + 0.9 * 0.7)
    for axis, step in enumerate(SPACING):
        moved = compare_surfaces(truth, np.roll(truth, 1, axis=axis), SPACING)
        assert moved.hd95_mm == pytest.approx(step if axis else 0.9 * step)  # along the rod: its end, 0 and 0
    assert compare_surfaces(truth, truth, SPACING).asd_mm == 0


def test_no_surface_no_distance() -> None:
    """Catches a distance of 0 or of infinity where one mask is empty."""
    one, none = blobs(1), np.zeros((14, 11, 5), bool)
    for truth, prediction in ((one, none), (none, one), (none, none)):
        found = compare_surfaces(truth, prediction, SPACING)
        assert np.isnan([found.hd95_mm, found.asd_mm]).all()
