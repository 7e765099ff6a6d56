"""Statistics of training slices: the figures by hand, and the same slice seen alike before and after the crop."""

import json
from pathlib import Path

import numpy as np
import pytest
from crops import crops

from sarco.crop.body import find_body
from sarco.phantom.patient import PhantomOptions, make_phantom
from sarco.quality.likeness import (
    FEATURES,
    FEWEST_SLICES,
    MAD_TO_SD,
    coarsen_labels,
    measure_training,
    slice_features,
    z_scores,
)


def test_figures_by_hand() -> None:
    """Catches a share of the wrong whole, a ratio turned over, and values outside the network's window count_of."""
    hu = np.full((10, 10), -1000, np.float32)
    body = np.zeros((10, 10), bool)
    body[2:6, 1:9] = True  # 4 high, 8 wide
    body[2, 1] = False
    hu[body] = 0
    hu[3, 3], hu[3, 4] = 100, 900  # the second counts as 250
    share = np.zeros((10, 10), np.float32)
    share[3, 3:5] = 1
    share[4, 3] = 0.4
    found = slice_features(hu, share, body, pixel_cm2=1.0)
    assert found == {
        "body_mean_hu": pytest.approx(350 / 31),
        "body_sd_hu": pytest.approx(np.sqrt((100**2 + 250**2) / 31 - (350 / 31) ** 2)),
        "width_to_height": 2.0,
        "body_fill": pytest.approx(31 / 32),
        "muscle_mean_hu": pytest.approx(175),
        "muscle_sd_hu": pytest.approx(75),
        "muscle_share": pytest.approx(2.4 / 31),
    }
    assert "muscle_share" not in slice_features(hu, share, body, pixel_cm2=0.5), "too little muscle to judge"
    assert slice_features(hu, share, np.zeros_like(body), 1.0) == {}


def test_share_of_labels_leaves_out_what_nobody_looked_at() -> None:
    """Catches 255 taken for muscle, and ids averaged instead of areas."""
    ids = np.zeros((4, 4), np.uint8)
    ids[0, :2], ids[2:, 2:], ids[2, 0] = (1, 200), 255, 7
    np.testing.assert_allclose(coarsen_labels(ids, (2, 2)), [[0.5, 0], [0.25, 0]], atol=0.003)


def test_statistics_are_medians_and_deviations() -> None:
    """Catches a mean that one odd slice moves, a spread that is not scaled, and labels in part count_of in full."""
    shades = np.concatenate([np.arange(30) * 4, [240]])
    images = np.full((31, 1, 64, 64), -1000, np.int16)
    label_maps = np.zeros((31, 64, 64), np.uint8)
    images[:, 0, 8:56, 8:56] = shades[:, None, None]
    label_maps[:, 20:40, 20:40] = 1
    label_maps[0, 0, 0] = 255
    found = measure_training(images, label_maps)
    entry = found["features"]["body_mean_hu"]
    assert found["n_slices"] == entry["n"] == 31
    assert entry["median"] == pytest.approx(np.median(shades), abs=1)
    assert entry["spread"] == pytest.approx(MAD_TO_SD * np.median(np.abs(shades - np.median(shades))), rel=0.05)
    assert found["features"]["muscle_mean_hu"]["n"] == 30
    assert found["features"]["width_to_height"]["spread"] == FEATURES["width_to_height"], "all alike"
    assert json.loads(json.dumps(found)) == found
    half = measure_training(images, label_maps, range(0, 31, 1))
    assert half == found
    assert measure_training(images[: FEWEST_SLICES - 1], label_maps[: FEWEST_SLICES - 1]) == {}


def test_chosen_slices_alone_count() -> None:
    """Catches validation slices in the statistics of the training."""
    images = np.full((50, 1, 64, 64), -1000, np.int16)
    images[:25, 0, 8:56, 8:56], images[25:, 0, 8:56, 8:56] = 30, 200
    none = np.zeros((50, 64, 64), np.uint8)
    assert measure_training(images, none, range(25))["features"]["body_mean_hu"]["median"] == pytest.approx(30)
    assert measure_training(images, none, range(25, 50))["features"]["body_mean_hu"]["median"] == pytest.approx(200)


def test_the_middle_of_three_slices_counts() -> None:
    """Catches a neighbour measured in place of the slice that was labelled."""
    images = np.full((20, 3, 64, 64), 0, np.int16)
    images[:, 1] = 100
    found = measure_training(images, np.ones((20, 64, 64), np.uint8))
    assert found["features"]["muscle_mean_hu"]["median"] == 100


def test_score_counts_spreads() -> None:
    """Catches a difference that is not divided, or divided by the wrong entry."""
    statistics = {"features": {"a": {"median": 10.0, "spread": 2.0, "n": 30}}}
    assert z_scores({"a": 4.0, "b": 1.0}, statistics) == {"a": -3.0}
    assert z_scores({"a": 4.0}, {}) == {}


@pytest.mark.parametrize(("size", "pixel_mm"), [(96, None), (256, None), (160, 3.0), (224, 1.8)])
def test_a_slice_looks_the_same_before_and_after_the_crop(size: int, pixel_mm: float | None) -> None:
    """Catches figures that depend on the crop: every patient would look unlike the training data."""
    for seed in (1, 8):
        phantom = make_phantom(seed, PhantomOptions(n_slices=FEWEST_SLICES, rows=192, columns=192, arms=False))
        found = measure_training(*crops(phantom, size, pixel_mm), pixel_mm=pixel_mm)
        row_mm, column_mm, _ = np.linalg.norm(phantom.affine_lps[:3, :3], axis=0)
        direct: dict[str, list[float]] = {name: [] for name in FEATURES}
        for k in range(FEWEST_SLICES):
            hu = phantom.hu[..., k].astype(np.float32)
            body = find_body(hu, (row_mm, column_mm))
            share = coarsen_labels(phantom.label_map[..., k], body.trunk.shape)
            for name, value in slice_features(body.coarse_hu, share, body.trunk, body.pixel_cm2).items():
                direct[name].append(value)
        for name, floor in FEATURES.items():
            assert found["features"][name]["median"] == pytest.approx(np.median(direct[name]), abs=2.5 * floor), name


def test_memory_mapped_slices_are_read_one_by_one(tmp_path: Path) -> None:
    """Catches a whole data set that is pulled into memory, or one that is written to."""
    np.save(tmp_path / "images.npy", np.full((FEWEST_SLICES, 1, 32, 32), 40, np.int16))
    np.save(tmp_path / "labels.npy", np.ones((FEWEST_SLICES, 32, 32), np.uint8))
    images, labels = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("images", "labels"))
    assert measure_training(images, labels)["features"]["muscle_mean_hu"]["median"] == 40
