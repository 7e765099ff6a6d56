"""Warps: exact where they can be, one resampling where they cannot, and the same on every device."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from augmented import (
    ALWAYS,
    EVERYTHING,
    FLIP_COLUMNS,
    FLIP_ROWS,
    OFTEN,
    QUARTER,
    SIDE,
    STRONG,
    draw,
    geometry,
    random_sample,
)
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sarco.augmentation.appearance import change_hu
from sarco.augmentation.draws import BEND_LIMIT, BEND_POINTS, BEND_SHARE, Augmentation
from sarco.augmentation.warp import coordinate_map, warp_batch, warp_sample
from sarco.batches.samples import IGNORED
from sarco.core.training_options import AugmentOptions
from sarco.scan.hu import AIR_HU

SEEDS = st.integers(0, 2**31)


def smooth_image(coordinates: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """A picture that is known between its pixels too, HU at (row, column)."""
    rows, columns = coordinates[..., 0] / SIDE, coordinates[..., 1] / SIDE
    return (400 * np.sin(2.1 * rows + 0.3) * np.cos(1.7 * columns) + 100 * columns).astype(np.float32)


def grid() -> NDArray[np.float64]:
    """(S, S, 2), the place of each pixel."""
    return np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), axis=-1).astype(np.float64)


EXACT = {
    "rows": (FLIP_ROWS, lambda a: np.flip(a, -2)),
    "columns": (FLIP_COLUMNS, lambda a: np.flip(a, -1)),
    "both": (FLIP_COLUMNS @ FLIP_ROWS, lambda a: np.flip(a, (-2, -1))),
    "quarter": (QUARTER, lambda a: np.rot90(a, -1, (-2, -1))),
    "three quarters": (QUARTER @ QUARTER @ QUARTER, lambda a: np.rot90(a, 1, (-2, -1))),
    "quarter of a flip": (QUARTER @ FLIP_ROWS, None),
}


@pytest.mark.parametrize("name", EXACT)
def test_flips_and_quarter_rotations_are_exact(name: str) -> None:
    """Catches blur, or a shift by half a pixel, where pixels only change places."""
    matrix, expected = EXACT[name]
    hu, label = random_sample(1, channels=3)
    coordinates = coordinate_map(geometry(matrix), SIDE)
    warped, moved = warp_sample(hu, label, coordinates)
    if expected is None:  # the map goes from result to source: first the rotation of the flipped picture
        candidates = [np.rot90(np.flip(hu, -2), n, (-2, -1)) for n in (1, 3)]
        assert sum(np.array_equal(warped, candidate) for candidate in candidates) == 1
        return
    assert np.array_equal(warped, expected(hu))
    assert np.array_equal(moved, expected(label))
    batched, labels = warp_batch(*(torch.from_numpy(a.copy())[None] for a in (hu, label, coordinates)))
    assert np.allclose(batched[0], expected(hu), atol=0.05)  # float32 of grid_sample, of 1000 HU
    assert np.array_equal(labels[0], expected(label))


@given(SEEDS, st.sampled_from([OFTEN, STRONG, EVERYTHING]))
def test_cpu_and_gpu_warp_alike(seed: int, options: AugmentOptions) -> None:
    """Catches a network that sees other images on another device."""
    hu, label = random_sample(seed, channels=3)
    coordinates = coordinate_map(draw(seed, options), SIDE)
    warped, moved = warp_sample(hu, label, coordinates)
    tensors = (torch.from_numpy(a)[None] for a in (hu, label.astype(np.int64), coordinates))
    batched, labels = warp_batch(*tensors)
    assert np.abs(warped - batched[0].numpy()).max() < 0.05  # HU, of 1000
    from_tie = np.abs(coordinates - np.floor(coordinates) - 0.5).min(axis=-1)
    assert np.all((moved == labels[0].numpy()) | (from_tie < 1e-3))


@given(SEEDS)
def test_several_changes_are_one_resampling(seed: int) -> None:
    """Catches a picture that is resampled again for each change, and blurred each time."""
    found = draw(seed, ALWAYS)
    coordinates = coordinate_map(found, SIDE)
    warped, _ = warp_sample(smooth_image(grid())[None], np.zeros((SIDE, SIDE), np.int16), coordinates)
    inside = ((coordinates >= 0) & (coordinates <= SIDE - 1)).all(axis=-1)
    # One linear interpolation of this picture is off by at most 1/8 of its second derivatives.
    assert np.abs(warped[0] - smooth_image(coordinates))[inside].max() < 1.0


@given(SEEDS)
def test_map_is_the_composition_of_its_parts(seed: int) -> None:
    """Catches parts in another order, or about another centre, when they come together."""
    found = draw(seed, ALWAYS)
    centre = (SIDE - 1) / 2
    bent = coordinate_map(geometry(np.eye(2), found.bend), SIDE).astype(np.float64)
    composed = (bent - centre) @ found.matrix.T + centre
    assert np.abs(coordinate_map(found, SIDE) - composed).max() < 1e-4
    strong = draw(seed, EVERYTHING)
    bent = coordinate_map(geometry(np.eye(2), strong.bend), SIDE).astype(np.float64) - centre
    composed = (bent - SIDE * np.array(strong.shift)) @ strong.matrix.T + centre
    assert np.abs(coordinate_map(strong, SIDE) - composed).max() < 1e-4


def jacobian(coordinates: NDArray[np.floating[Any]]) -> float:
    """The smallest share that any pixel keeps of its area, negative where the picture is folded."""
    down = np.diff(coordinates.astype(np.float64), axis=0)[:, :-1]
    right = np.diff(coordinates.astype(np.float64), axis=1)[:-1]
    return float((down[..., 0] * right[..., 1] - down[..., 1] * right[..., 0]).min())


@given(SEEDS)
def test_deformation_never_folds(seed: int) -> None:
    """Catches a picture folded over itself, where one place would hold two tissues."""
    found = draw(seed, AugmentOptions(augment="no", do_elastic_transforms=True, aug_prob=1.0))
    assert jacobian(coordinate_map(found, 64)) > 0.05
    strong = draw(seed, AugmentOptions(aug_prob=1.0))
    share = jacobian(coordinate_map(strong, 64)) / np.linalg.det(strong.matrix)  # in a mirror both are negative
    assert share > 0.05


def test_deformation_does_not_fold_at_its_worst() -> None:
    """Catches limits that only random draws respect: every control point pushed as far as it can be, the worst way."""
    rng = np.random.default_rng(0)
    worst = np.inf
    for _ in range(6):
        bend = rng.choice([-1.0, 1.0], (BEND_POINTS, BEND_POINTS, 2)) * BEND_LIMIT * BEND_SHARE
        lowest = jacobian(coordinate_map(geometry(np.eye(2), bend), SIDE))
        for _ in range(150):  # downhill
            other = bend.copy()
            other[tuple(rng.integers(bend.shape))] *= -1
            found = jacobian(coordinate_map(geometry(np.eye(2), other), SIDE))
            if found < lowest:
                bend, lowest = other, found
        worst = min(worst, lowest)
    assert worst > 0.05


@pytest.mark.parametrize("size", [32, 64, 256])
def test_deformation_scales_with_the_image(size: int) -> None:
    """Catches shifts in pixels, which are nothing on a large image."""
    bend = draw(3, ALWAYS).bend
    shift = coordinate_map(geometry(np.eye(2), bend), size) - coordinate_map(geometry(np.eye(2)), size)
    assert 0.01 < np.abs(shift).max() / size < 0.05


@given(SEEDS)
def test_labels_are_never_interpolated(seed: int) -> None:
    """Catches ids between two ids, which stand for a third muscle."""
    rng = np.random.default_rng(seed)
    label = rng.choice(np.array([IGNORED, 2, 9], dtype=np.int16), (SIDE, SIDE))
    hu = np.zeros((1, SIDE, SIDE), np.float32)
    coordinates = coordinate_map(draw(seed, ALWAYS), SIDE)
    _, moved = warp_sample(hu, label, coordinates)
    assert set(np.unique(moved)) <= {IGNORED, 0, 2, 9}
    _, moved = warp_batch(*(torch.from_numpy(a)[None] for a in (hu, label.astype(np.int64), coordinates)))
    assert set(moved.unique().tolist()) <= {IGNORED, 0, 2, 9}


def test_outside_is_air_and_background() -> None:
    """Catches borders that are repeated or mirrored into a second body."""
    hu, label = random_sample(2)
    label[:] = 3
    coordinates = coordinate_map(geometry(np.eye(2) * 2.0), SIDE)  # shrinks the picture to half its size
    warped, moved = warp_sample(hu, label, coordinates)
    outside = ((coordinates < -1) | (coordinates > SIDE)).any(axis=-1)
    inside = ((coordinates > 0) & (coordinates < SIDE - 1)).all(axis=-1)
    assert outside.sum() > 100
    assert (warped[0][outside] == AIR_HU).all() and (moved[outside] == 0).all()
    assert (warped[0][inside] != AIR_HU).all() and (moved[inside] == 3).all()
    batched, labels = warp_batch(*(torch.from_numpy(a)[None] for a in (hu, label, coordinates)))
    assert np.allclose(batched[0, 0][outside], AIR_HU) and (labels[0][outside] == 0).all()


@given(SEEDS)
def test_three_slices_move_together(seed: int) -> None:
    """Catches neighbours that are bent each its own way."""
    hu, label = random_sample(seed)
    found = draw(seed, ALWAYS)
    warped, _ = warp_sample(np.repeat(hu, 3, axis=0), label, coordinate_map(found, SIDE))
    assert np.array_equal(warped[0], warped[1]) and np.array_equal(warped[0], warped[2])
    contrast = Augmentation(np.eye(2), None, found.gain, found.shift_hu, 0.0, 0)
    changed = change_hu(warped, contrast)
    assert np.array_equal(changed[0], changed[1]) and np.array_equal(changed[0], changed[2])


def disc(row: float = 23.5, column: float = 23.5, radius: float = 8.0) -> NDArray[np.int16]:
    """(S, S), label 2 within a circle."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return (2 * (np.hypot(rows - row, columns - column) <= radius)).astype(np.int16)


def moved(label: NDArray[np.int16], found: Augmentation) -> NDArray[np.bool_]:
    """Where the labelled pixels are after a warp."""
    return warp_sample(np.zeros((1, SIDE, SIDE), np.float32), label, coordinate_map(found, SIDE))[1] == 2


@pytest.mark.parametrize("size", [0.7, 1.0, 1.4])
def test_size_means_the_size_of_the_picture(size: float) -> None:
    """Catches 1.4 that makes a patient smaller."""
    area = moved(disc(radius=12), geometry(np.eye(2) / size)).sum()
    assert area == pytest.approx(size**2 * (disc(radius=12) == 2).sum(), rel=0.03)


def test_stretch_changes_the_shape_and_not_the_area() -> None:
    """Catches a stretch that is a second change of size."""
    stretch = np.sqrt(1.15)
    wide = moved(disc(radius=12), geometry(np.diag([stretch, 1 / stretch])))
    rows, columns = wide.any(axis=1).sum(), wide.any(axis=0).sum()
    assert columns / rows == pytest.approx(1.15, abs=0.06)
    assert wide.sum() == pytest.approx((disc(radius=12) == 2).sum(), rel=0.03)


@pytest.mark.parametrize("matrix", [np.eye(2), FLIP_COLUMNS, np.eye(2) / 1.2])
def test_shift_moves_the_picture_down_and_right(matrix: NDArray[np.float64]) -> None:
    """Catches a shift the other way, or one that a mirror or another size changes."""
    found = moved(disc(), replace(geometry(matrix), shift=(5 / SIDE, -2 / SIDE)))
    assert np.argwhere(found).mean(axis=0) == pytest.approx([23.5 + 5, 23.5 - 2], abs=0.1)
