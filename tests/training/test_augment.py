"""Augmentation: exact where it can be, one resampling where it cannot, and the same on every device."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import sarco_datamodule
from sarco.core.training_options import AugmentOptions, DataOptions
from sarco.scan.hu import AIR_HU
from sarco.scan.labels import IGNORE_ID, LabelTable
from sarco.training.augment import (
    BEND_LIMIT,
    BEND_POINTS,
    BEND_SHARE,
    GAIN,
    NOISE_HU,
    SHIFT_HU,
    SOFT_TISSUE_HU,
    Augmentation,
    change_hu,
    coordinate_map,
    draw_augmentation,
    warp_batch,
    warp_sample,
)
from sarco.training.cache import SliceCache
from sarco.training.sampling import Draw
from sarco_datamodule import IGNORED, SliceDataset
from transforms import scale_window

SIDE = 48
ALWAYS = AugmentOptions(do_flips=True, do_elastic_transforms=True, aug_prob=1.0)
OFTEN = AugmentOptions(do_flips=True, do_elastic_transforms=True, aug_prob=0.6)
FLIP_ROWS, FLIP_COLUMNS = np.diag([-1.0, 1.0]), np.diag([1.0, -1.0])
QUARTER = np.array([[0.0, -1.0], [1.0, 0.0]])
LABELS = LabelTable({1: "psoas_left", 4: "spine", 7: "psoas_right"})
SEEDS = st.integers(0, 2**31)


def geometry(matrix: NDArray[np.float64], bend: NDArray[np.float64] | None = None) -> Augmentation:
    """A change of place and of nothing else."""
    return Augmentation(matrix, bend, gain=1.0, shift_hu=0.0, noise_hu=0.0, noise_seed=0)


def draw(seed: int, options: AugmentOptions = OFTEN) -> Augmentation:
    """What happens to a sample with this seed."""
    return draw_augmentation(np.random.default_rng(seed), options)


def random_sample(seed: int, channels: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """An image full of detail, and channel numbers from IGNORED to 3."""
    rng = np.random.default_rng(seed)
    hu = rng.uniform(-500, 500, (channels, SIDE, SIDE)).astype(np.float32)
    return hu, rng.integers(-1, 4, (SIDE, SIDE)).astype(np.int16)


def smooth_image(coordinates: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """A picture that is known between its pixels too, HU at (row, column)."""
    rows, columns = coordinates[..., 0] / SIDE, coordinates[..., 1] / SIDE
    return (400 * np.sin(2.1 * rows + 0.3) * np.cos(1.7 * columns) + 100 * columns).astype(np.float32)


def grid() -> NDArray[np.float64]:
    """(S, S, 2), the place of each pixel."""
    return np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), axis=-1).astype(np.float64)


def dataset(
    augment: AugmentOptions | None,
    channels: int = 1,
    labels: LabelTable = LABELS,
    label_map: NDArray[np.uint8] | None = None,
    **options: Any,
) -> SliceDataset:
    """Four slices of noise with label ids of the table, unlabelled pixels among them."""
    rng = np.random.default_rng(5)
    images = rng.integers(-900, 900, (4, channels, SIDE, SIDE)).astype(np.int16)
    if label_map is None:
        label_maps = rng.choice(np.array([0, *labels.ids, IGNORE_ID], dtype=np.uint8), (4, SIDE, SIDE))
    else:
        label_maps = np.repeat(label_map[None], 4, axis=0)
    cache = SliceCache(images, label_maps, np.ones((4, 256), dtype=bool), Path(), reused=False)
    chosen = DataOptions(image_size=64, channel_3d=channels == 3, **options)
    return SliceDataset(cache, [0, 1, 2, 3], [1.0] * 4, labels, chosen, augment)


@pytest.mark.parametrize("place", range(4))
def test_same_seed_same_augmentation(place: int) -> None:
    """Catches chance that comes from elsewhere: from the order of loading, the process or the clock."""
    first, second = dataset(OFTEN, seed=3), dataset(OFTEN, seed=3)
    second[Draw(0, epoch=9)]
    np.random.rand(17), torch.rand(3)
    for epoch in range(3):
        one, two = first[Draw(place, epoch)], second[Draw(place, epoch)]
        assert all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("other", [{"seed": 4}, {"epoch": 1}, {"place": 1}])
def test_other_seed_epoch_or_slice_gives_another(other: dict[str, int]) -> None:
    """Catches an augmentation that is the same for all slices, or in all epochs."""
    one = [dataset(OFTEN, seed=3)[Draw(place, 0)]["image"] for place in range(4)]
    data = dataset(OFTEN, seed=other.get("seed", 3))
    draws = [Draw((place + other.get("place", 0)) % 4, other.get("epoch", 0)) for place in range(4)]
    two = [data[each]["image"] for each in draws]
    assert not any(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("channels", [1, 3])
def test_probability_0_changes_nothing(channels: int) -> None:
    """Catches a resampling with an identity map, which is no identity at the last digit."""
    never = AugmentOptions(do_flips=True, do_elastic_transforms=True, aug_prob=0.0)
    varied, plain = dataset(never, channels), dataset(None, channels)
    for place in range(4):
        one, two = varied[Draw(place, 7)], plain[Draw(place, 7)]
        assert torch.equal(one["image"], two["image"]) and torch.equal(one["label"], two["label"])


def test_neither_flag_changes_nothing_at_any_probability() -> None:
    """Catches augmentation that nobody asked for."""
    varied, plain = dataset(AugmentOptions(aug_prob=1.0)), dataset(None)
    assert torch.equal(varied[Draw(2, 7)]["image"], plain[Draw(2, 7)]["image"])


def test_validation_is_never_augmented() -> None:
    """Catches augmentation of draws that belong to no epoch of training."""
    assert torch.equal(dataset(ALWAYS)[Draw(1)]["image"], dataset(None)[Draw(1)]["image"])
    assert torch.equal(dataset(ALWAYS)[1]["label"], dataset(None)[1]["label"])


@given(SEEDS)
def test_probability_1_does_everything(seed: int) -> None:
    """Catches a kind that never happens."""
    found = draw(seed, ALWAYS)
    flipped = QUARTER @ FLIP_COLUMNS @ FLIP_ROWS
    turned = flipped.T @ found.matrix
    angle, size = np.arctan2(turned[1, 0], turned[0, 0]), np.sqrt(np.linalg.det(found.matrix))
    assert found.bend is not None and found.moves
    assert 0 < abs(np.rad2deg(angle)) <= 10 and 1 / 1.3 <= size <= 1.3 and size != 1
    assert found.gain != 1 and found.shift_hu != 0 and found.noise_hu > 0


@pytest.mark.parametrize("probability", [0.2, 0.7])
def test_each_kind_happens_as_often_as_asked(probability: float) -> None:
    """Catches probabilities that multiply, so that the rare becomes rarer."""
    both = AugmentOptions(do_flips=True, do_elastic_transforms=True, aug_prob=probability)
    n = 2000
    tolerance = 4 * np.sqrt(probability * (1 - probability) / n)
    found = [draw(seed, both) for seed in range(n)]
    assert np.mean([a.bend is not None for a in found]) == pytest.approx(probability, abs=tolerance)
    assert np.mean([a.gain != 1 for a in found]) == pytest.approx(probability, abs=tolerance)
    assert np.mean([a.noise_hu > 0 for a in found]) == pytest.approx(probability, abs=tolerance)
    scaled = [abs(abs(np.linalg.det(a.matrix)) - 1) > 1e-9 for a in found]
    assert np.mean(scaled) == pytest.approx(probability, abs=tolerance)
    flips = [draw(seed, AugmentOptions(do_flips=True, aug_prob=probability)).matrix for seed in range(n)]
    assert np.mean([abs(m[0, 1]) for m in flips]) == pytest.approx(probability, abs=tolerance)  # quarter rotations
    odd = 2 * probability * (1 - probability)
    assert np.mean([np.linalg.det(m) < 0 for m in flips]) == pytest.approx(odd, abs=2 * tolerance)


def test_a_flag_does_not_shift_the_draws_of_the_other() -> None:
    """Catches runs that cannot be compared, because one flag changes what another one draws."""
    for seed in range(50):
        flips = draw(seed, AugmentOptions(do_flips=True, aug_prob=0.5))
        both = draw(seed, AugmentOptions(do_flips=True, do_elastic_transforms=True, aug_prob=0.5))
        assert (flips.gain, flips.shift_hu, flips.noise_hu) == (both.gain, both.shift_hu, both.noise_hu)
        assert flips.mirrors == both.mirrors
        assert set(np.unique(np.abs(flips.matrix))) <= {0.0, 1.0} and flips.bend is None


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


@given(SEEDS)
def test_cpu_and_gpu_warp_alike(seed: int) -> None:
    """Catches a network that sees other images on another device."""
    hu, label = random_sample(seed, channels=3)
    coordinates = coordinate_map(draw(seed), SIDE)
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


def jacobian(coordinates: NDArray[np.floating[Any]]) -> float:
    """The smallest share that any pixel keeps of its area, negative where the picture is folded."""
    down = np.diff(coordinates.astype(np.float64), axis=0)[:, :-1]
    right = np.diff(coordinates.astype(np.float64), axis=1)[:-1]
    return float((down[..., 0] * right[..., 1] - down[..., 1] * right[..., 0]).min())


@given(SEEDS)
def test_deformation_never_folds(seed: int) -> None:
    """Catches a picture folded over itself, where one place would hold two tissues."""
    found = draw(seed, AugmentOptions(do_elastic_transforms=True, aug_prob=1.0))
    assert jacobian(coordinate_map(found, 64)) > 0.05


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


def test_three_slices_of_a_sample_get_one_augmentation() -> None:
    """Catches a loader that draws for each channel anew."""
    data = dataset(AugmentOptions(do_flips=True, aug_prob=0.5), channels=3)
    data.cache.images[:, 1:] = data.cache.images[:, :1]
    for epoch in range(8):
        image = data[Draw(0, epoch)]["image"]
        # Noise is each slice's own; without it the three are one.
        assert (image[0] - image[1]).abs().max() < 8 * NOISE_HU / 500
        assert (image[0] - image[1]).abs().mean() < 2 * NOISE_HU / 500


def test_contrast_turns_about_soft_tissue() -> None:
    """Catches contrast about 0 HU or air, which shifts muscle along."""
    hu = np.array([[[SOFT_TISSUE_HU, 150.0, -150.0]]], dtype=np.float32)
    stronger = Augmentation(np.eye(2), None, gain=1.05, shift_hu=0.0, noise_hu=0.0, noise_seed=0)
    assert change_hu(hu, stronger) == pytest.approx(np.array([[[50.0, 155.0, -160.0]]]))
    brighter = Augmentation(np.eye(2), None, gain=1.0, shift_hu=-7.5, noise_hu=0.0, noise_seed=0)
    assert change_hu(hu, brighter) == pytest.approx(hu - 7.5)


def test_noise_is_as_strong_as_stated() -> None:
    """Catches noise of another width, noise that is the same on neighbours, and noise that cannot be repeated."""
    noisy = Augmentation(np.eye(2), None, gain=1.0, shift_hu=0.0, noise_hu=12.0, noise_seed=4)
    noise = change_hu(np.full((3, 128, 128), 40.0, np.float32), noisy) - 40
    assert noise.std() == pytest.approx(12, rel=0.02) and noise.mean() == pytest.approx(0, abs=0.3)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05
    assert np.array_equal(noise, change_hu(np.full((3, 128, 128), 40.0, np.float32), noisy) - 40)


@given(SEEDS)
def test_hu_changes_stay_light(seed: int) -> None:
    """Catches contrast that turns fat into muscle."""
    found = draw(seed, ALWAYS)
    assert abs(found.gain - 1) <= GAIN and abs(found.shift_hu) <= SHIFT_HU and 0 <= found.noise_hu <= NOISE_HU


@pytest.mark.parametrize(
    ("matrix", "mirrors"),
    [
        (FLIP_ROWS, True),
        (FLIP_COLUMNS, True),
        (FLIP_ROWS @ FLIP_COLUMNS, False),
        (QUARTER, False),
        (QUARTER @ FLIP_ROWS, True),
        (QUARTER @ FLIP_ROWS @ FLIP_COLUMNS, False),
        (1.1 * FLIP_COLUMNS, True),
        (np.eye(2), False),
    ],
)
def test_only_an_odd_number_of_flips_mirrors_the_patient(matrix: NDArray[np.float64], mirrors: bool) -> None:
    """Catches left taken for right after a rotation, or after two flips."""
    assert geometry(matrix).mirrors is mirrors


def sides(label: torch.Tensor) -> dict[str, int]:
    """Pixels of each side."""
    return {"left": int((label == 1).sum()), "right": int((label == 3).sum()), "spine": int((label == 2).sum())}


def test_left_and_right_change_names_when_the_patient_is_mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a network that is taught that left and right are chance."""
    drawn: list[Augmentation] = []

    def remember(*inputs: Any) -> Augmentation:
        drawn.append(draw_augmentation(*inputs))
        return drawn[-1]

    monkeypatch.setattr(sarco_datamodule, "draw_augmentation", remember)
    label_map = np.zeros((SIDE, SIDE), dtype=np.uint8)
    label_map[10:20, 30:40], label_map[12:17, 5:10], label_map[2:5, 20:27] = 1, 7, 4
    label_map[40:44] = IGNORE_ID
    data = dataset(AugmentOptions(do_flips=True, aug_prob=0.5), label_map=label_map)
    plain = {"left": 100, "right": 25, "spine": 21}
    swapped = {"left": 25, "right": 100, "spine": 21}
    seen = []
    for epoch in range(24):
        label = data[Draw(0, epoch)]["label"]
        assert sides(label) == (swapped if drawn[-1].mirrors else plain)
        assert int((label == IGNORED).sum()) == 4 * SIDE
        seen.append((drawn[-1].mirrors, drawn[-1].moves))
    assert {(True, True), (False, True), (False, False)} <= set(seen)


def test_labels_without_sides_keep_their_names_in_a_mirror() -> None:
    """Catches a swap of labels that merely stand beside each other in the table."""
    table = LabelTable({1: "liver", 4: "psoas_left", 7: "spine"})  # a left one without a right one
    assert table.mirrored_channels() == [0, 1, 2, 3]
    assert LABELS.mirrored_channels() == [0, 3, 2, 1]


@given(SEEDS)
def test_unlabelled_pixels_stay_unlabelled(seed: int) -> None:
    """Catches pixels that nobody looked at and that become background, or a muscle."""
    data = dataset(ALWAYS, label_map=np.full((SIDE, SIDE), IGNORE_ID, dtype=np.uint8))
    found = data[Draw(0, seed % 1000)]["label"]
    assert set(found.unique().tolist()) <= {IGNORED, 0}
    assert (found == IGNORED).float().mean() > 0.5  # 0 is what lay outside


def test_window_comes_last() -> None:
    """Catches values beyond [0, 1], which contrast and noise would leave behind a window."""
    image = dataset(ALWAYS)[Draw(0, 0)]["image"]
    assert float(image.min()) >= 0 and float(image.max()) <= 1
    hu = torch.tensor([-1024.0, -250.0, 0.0, 250.0, 3000.0])
    assert scale_window(hu, -250, 250).tolist() == [0, 0, 0.5, 1, 1]
