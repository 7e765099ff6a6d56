"""What is drawn: a function of seed, epoch, slice and turn, as often and as far as documented."""

from typing import Any

import numpy as np
import pytest
import torch
from augmented import ALWAYS, FLIP_COLUMNS, FLIP_ROWS, LABELS, OFTEN, QUARTER, SIDE, STRONG, dataset, draw, geometry
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sarco.augmentation.draws import (
    GAIN,
    NOISE_HU,
    SHIFT_HU,
    STRONG_PROBABILITIES,
    TEXTURES,
    USUAL_PROBABILITY,
    Augmentation,
    draw_augmentation,
)
from sarco.batches import samples
from sarco.batches.samples import IGNORED, scale_window
from sarco.core.training_options import AugmentOptions
from sarco.scan.labels import IGNORE_ID, LabelTable
from sarco.training.sampling import Draw

SEEDS = st.integers(0, 2**31)


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
    never = AugmentOptions(augment="no", do_flips=True, do_elastic_transforms=True, aug_prob=0.0)
    varied, plain = dataset(never, channels), dataset(None, channels)
    for place in range(4):
        one, two = varied[Draw(place, 7)], plain[Draw(place, 7)]
        assert torch.equal(one["image"], two["image"]) and torch.equal(one["label"], two["label"])


def test_neither_flag_changes_nothing_at_any_probability() -> None:
    """Catches augmentation that nobody asked for."""
    varied, plain = dataset(AugmentOptions(augment="no", aug_prob=1.0)), dataset(None)
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
    both = AugmentOptions(augment="no", do_flips=True, do_elastic_transforms=True, aug_prob=probability)
    n = 2000
    tolerance = 4 * np.sqrt(probability * (1 - probability) / n)
    found = [draw(seed, both) for seed in range(n)]
    assert np.mean([a.bend is not None for a in found]) == pytest.approx(probability, abs=tolerance)
    assert np.mean([a.gain != 1 for a in found]) == pytest.approx(probability, abs=tolerance)
    assert np.mean([a.noise_hu > 0 for a in found]) == pytest.approx(probability, abs=tolerance)
    scaled = [abs(abs(np.linalg.det(a.matrix)) - 1) > 1e-9 for a in found]
    assert np.mean(scaled) == pytest.approx(probability, abs=tolerance)
    flips = [draw(seed, AugmentOptions(augment="no", do_flips=True, aug_prob=probability)).matrix for seed in range(n)]
    assert np.mean([abs(m[0, 1]) for m in flips]) == pytest.approx(probability, abs=tolerance)  # quarter rotations
    odd = 2 * probability * (1 - probability)
    assert np.mean([np.linalg.det(m) < 0 for m in flips]) == pytest.approx(odd, abs=2 * tolerance)


def test_a_flag_does_not_shift_the_draws_of_the_other() -> None:
    """Catches runs that cannot be compared, because one flag changes what another one draws."""
    for seed in range(50):
        flips = draw(seed, AugmentOptions(augment="no", do_flips=True, aug_prob=0.5))
        both = draw(seed, AugmentOptions(augment="no", do_flips=True, do_elastic_transforms=True, aug_prob=0.5))
        assert (flips.gain, flips.shift_hu, flips.noise_hu) == (both.gain, both.shift_hu, both.noise_hu)
        assert flips.mirrors == both.mirrors
        assert set(np.unique(np.abs(flips.matrix))) <= {0.0, 1.0} and flips.bend is None


def test_three_slices_of_a_sample_get_one_augmentation() -> None:
    """Catches a loader that draws for each channel anew."""
    data = dataset(AugmentOptions(augment="no", do_flips=True, aug_prob=0.5), channels=3)
    data.cache.images[:, 1:] = data.cache.images[:, :1]
    for epoch in range(8):
        image = data[Draw(0, epoch)]["image"]
        # Noise is each slice's own; without it the three are one.
        assert (image[0] - image[1]).abs().max() < 8 * NOISE_HU / 500
        assert (image[0] - image[1]).abs().mean() < 2 * NOISE_HU / 500


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

    monkeypatch.setattr(samples, "draw_augmentation", remember)
    label_map = np.zeros((SIDE, SIDE), dtype=np.uint8)
    label_map[10:20, 30:40], label_map[12:17, 5:10], label_map[2:5, 20:27] = 1, 7, 4
    label_map[40:44] = IGNORE_ID
    data = dataset(AugmentOptions(augment="no", do_flips=True, aug_prob=0.5), label_map=label_map)
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


def kinds(found: Augmentation) -> dict[str, bool]:
    """Which kinds of strong augmentation happened, told by what they leave."""
    matrix = found.matrix @ np.diag([1.0, -1.0]) if found.mirrors else found.matrix
    area = abs(float(np.linalg.det(matrix)))
    plain = matrix / np.sqrt(area)
    return {
        "mirror": found.mirrors,
        "rotation": abs(plain[0, 1]) > 1e-9,
        "size": abs(area - 1) > 1e-9,
        "stretch": abs(np.linalg.cond(plain) - 1) > 1e-9,
        "shift": found.shift != (0.0, 0.0),
        "elastic": found.bend is not None,
        "contrast": found.gain != 1 and found.shift_hu != 0,
        "tone": found.tone_hu != 0,
        "noise": found.noise_hu > 0,
        "focus": (found.blur_px > 0) != (found.sharpen > 0),
        "coarseness": found.coarseness > 1,
        "neighbours": found.neighbours is not None,
        **{part: part in found.scene for part in ("arms", "table", "metal", "cut")},
    }


@pytest.mark.parametrize("factor", [1.0, 0.5, 3.0])
def test_strong_kinds_happen_as_often_as_documented(factor: float) -> None:
    """Catches a kind that never happens, that takes another with it, or that --aug_prob does not reach."""
    n = 1500
    found = [kinds(draw(seed, AugmentOptions(aug_prob=USUAL_PROBABILITY * factor))) for seed in range(n)]
    for kind, usual in STRONG_PROBABILITIES.items():
        expected = min(usual * factor, 0.5 if kind == "mirror" else 1.0)
        tolerance = 4 * np.sqrt(expected * (1 - expected) / n) + 1e-12
        assert np.mean([each[kind] for each in found]) == pytest.approx(expected, abs=tolerance), kind


@given(SEEDS, st.sampled_from([0.75, 1.5, 3.0, 6.0]))
def test_strong_stays_within_its_limits(seed: int, pixel_mm: float) -> None:
    """Catches a patient upside down, half as large, of another tissue, or coarser than any scan."""
    found = draw(seed, AugmentOptions(aug_prob=1.0), pixel_mm)
    matrix = found.matrix @ np.diag([1.0, -1.0]) if found.mirrors else found.matrix
    _, spread, _ = np.linalg.svd(matrix)
    size = 1 / np.sqrt(np.linalg.det(matrix))
    assert 0.7 <= size <= 1.4 and spread[0] / spread[1] <= 1.15 + 1e-9 and max(map(abs, found.shift)) <= 0.1
    middle = np.rad2deg(np.arctan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1]))
    assert abs(middle) <= 20.5  # a stretch along other axes adds a little
    assert 0.8 <= found.gain <= 1.25 and abs(found.shift_hu) <= 25 and abs(found.tone_hu) <= 30
    assert 4 <= found.noise_hu <= 40 and found.blur_px * pixel_mm <= 2 and found.sharpen <= 1
    assert found.coarseness * pixel_mm <= max(5.0, pixel_mm) + 1e-9
    assert found.neighbours is not None and np.allclose(found.neighbours.sum(axis=1), 1)
    assert found.texture is not None and 0 <= found.texture <= TEXTURES - 1


def same_augmentation(one: Augmentation, two: Augmentation) -> bool:
    """Whether two samples are changed alike."""
    return all(np.array_equal(vars(one)[name], vars(two)[name]) for name in vars(one))


def test_light_is_what_elastic_transforms_are_alone() -> None:
    """Catches a word for the old way that means another way."""
    for seed in range(50):
        elastic = draw(seed, AugmentOptions(augment="no", do_elastic_transforms=True, aug_prob=0.5))
        assert same_augmentation(elastic, draw(seed, AugmentOptions(augment="light", aug_prob=0.5)))
    assert any(draw(seed, AugmentOptions(augment="light")).moves for seed in range(20))


def test_old_flags_beside_strong() -> None:
    """Catches two elastic deformations on top of each other, and flips that strong augmentation swallows."""
    for seed in range(50):
        assert same_augmentation(draw(seed, STRONG), draw(seed, AugmentOptions(do_elastic_transforms=True)))
    upright = [draw(seed, STRONG).matrix for seed in range(200)]
    flipped = [draw(seed, AugmentOptions(do_flips=True)).matrix for seed in range(200)]
    assert all(matrix[0, 0] > 0 for matrix in upright) and any(matrix[0, 0] < 0 for matrix in flipped)


def test_strong_is_the_default_and_changes_slices() -> None:
    """Catches a default that is forgotten on the way to the data set."""
    varied, plain = dataset(AugmentOptions()), dataset(None)
    changed = [not torch.equal(varied[Draw(0, epoch)]["image"], plain[0]["image"]) for epoch in range(10)]
    assert sum(changed) >= 9
    never = dataset(AugmentOptions(aug_prob=0.0))
    assert torch.equal(never[Draw(0, 3)]["image"], plain[0]["image"])


def test_another_turn_of_a_slice_is_another_augmentation() -> None:
    """Catches small data sets that are passed several times in an epoch and show the same pictures each time."""
    data = dataset(STRONG)
    images = [data[Draw(1, 4, turn=turn)]["image"] for turn in range(4)]
    assert not any(torch.equal(images[i], images[j]) for i in range(4) for j in range(i))
    assert torch.equal(images[2], dataset(STRONG)[Draw(1, 4, turn=2)]["image"])


@pytest.mark.parametrize(
    ("names", "mirrored"),
    [
        ({1: "psoas_left", 4: "spine", 7: "psoas_right"}, True),
        ({1: "psoas", 4: "spine", 7: "back"}, True),
        ({1: "psoas_left", 4: "spine", 7: "back"}, False),
    ],
)
def test_patients_are_mirrored_where_labels_allow_it(names: dict[int, str], mirrored: bool) -> None:
    """Catches a left psoas without a right one that is taught on both sides, and mirrors that never come."""
    label_map = np.zeros((SIDE, SIDE), dtype=np.uint8)
    label_map[20:28, 30:38], label_map[22:26, 12:16] = 1, 7
    data = dataset(STRONG, labels=LabelTable(names), label_map=label_map)
    seen = set()
    for epoch in range(24):
        label = data[Draw(0, epoch)]["label"].numpy()
        columns = {channel: np.flatnonzero((label == channel).any(axis=0)) for channel in (1, 3)}
        if all(len(found) for found in columns.values()):
            seen.add(columns[1].mean() > columns[3].mean())
    swaps = "left" in names[1] and "right" in names[7]
    assert seen == ({True, False} if mirrored and not swaps else {True})
