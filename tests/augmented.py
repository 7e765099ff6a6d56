"""Samples to augment, and augmentations of them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarco.augmentation.draws import Augmentation, draw_augmentation
from sarco.batches.samples import SliceDataset
from sarco.core.training_options import AugmentOptions, DataOptions
from sarco.scan.labels import IGNORE_ID, LabelTable
from sarco.training.cache import SliceCache

SIDE = 48
NO = AugmentOptions(augment="no")
STRONG = AugmentOptions()
EVERYTHING = AugmentOptions(do_flips=True, aug_prob=1.0)
ALWAYS = AugmentOptions(augment="no", do_flips=True, do_elastic_transforms=True, aug_prob=1.0)
OFTEN = AugmentOptions(augment="no", do_flips=True, do_elastic_transforms=True, aug_prob=0.6)
FLIP_ROWS, FLIP_COLUMNS = np.diag([-1.0, 1.0]), np.diag([1.0, -1.0])
QUARTER = np.array([[0.0, -1.0], [1.0, 0.0]])
LABELS = LabelTable({1: "psoas_left", 4: "spine", 7: "psoas_right"})


def geometry(matrix: NDArray[np.float64], bend: NDArray[np.float64] | None = None) -> Augmentation:
    """A change of place and of nothing else."""
    return Augmentation(matrix, bend, gain=1.0, shift_hu=0.0, noise_hu=0.0, noise_seed=0)


def draw(seed: int, options: AugmentOptions = OFTEN, pixel_mm: float = 1.5) -> Augmentation:
    """What happens to a sample with this seed."""
    return draw_augmentation(np.random.default_rng(seed), options, pixel_mm, may_mirror=True)


def random_sample(seed: int, channels: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """An image full of detail, and channel numbers from IGNORED to 3."""
    rng = np.random.default_rng(seed)
    hu = rng.uniform(-500, 500, (channels, SIDE, SIDE)).astype(np.float32)
    return hu, rng.integers(-1, 4, (SIDE, SIDE)).astype(np.int16)


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
