"""Samples as the network takes them, from prepared slices or from invented ones, varied as a training wants it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from sarco.augmentation.appearance import change_appearance
from sarco.augmentation.draws import draw_augmentation
from sarco.augmentation.warp import coordinate_map, warp_sample
from sarco.batches.invented import InventedCrops
from sarco.core.training_options import AugmentOptions, DataOptions
from sarco.scan.labels import IGNORE_ID, LabelTable
from sarco.training.cache import SliceCache
from sarco.training.sampling import Draw, chance_of_draw

TRUNK_MM = 400.0  # about what an image shows, where the size of its pixels depends on the patient
ALL_NUMBERS = range(1 << 62)  # of invented slices: each is its own place
IGNORED = -1  # channel number of pixels that nobody looked at


def scale_window(hu: torch.Tensor, hu_min: float, hu_max: float) -> torch.Tensor:
    """Clips HU to a window and scales it to [0, 1]."""
    return hu.clamp(hu_min, hu_max).sub_(hu_min).div_(hu_max - hu_min)


class SliceDataset(Dataset[dict[str, Any]]):
    """Prepared slices as the network takes them."""

    def __init__(
        self,
        cache: SliceCache | InventedCrops,
        indices: Sequence[int],
        weights: Sequence[float] | None,
        labels: LabelTable,
        options: DataOptions,
        augment: AugmentOptions | None = None,
        on_device: bool = False,
    ) -> None:
        """A view of some slices of the cache.

        Args:
            cache: all prepared slices, or invented ones.
            indices: which of them this data set shows, in order.
            weights: of each in the loss; None where all count in full.
            labels: the table whose k-th label is channel k + 1.
            options: HU window, seed, and size of a pixel.
            augment: how slices are varied; None for not at all.
            on_device: leave warp and HU window to `SarcoDataModule.on_after_batch_transfer`.
        """
        self.cache = cache
        self.indices = indices
        self.weights = weights
        self.options = options
        self.augment = augment
        self.on_device = on_device
        self.channel_of_id = np.zeros(256, dtype=np.int16)
        self.channel_of_id[list(labels.ids)] = np.arange(1, labels.n_channels)
        self.channel_of_id[IGNORE_ID] = IGNORED
        self.may_mirror = not labels.mirror_doubt()
        self.mirrored_channel = np.array([*labels.mirrored_channels(), IGNORED], dtype=np.int16)  # the last is -1

    def __len__(self) -> int:
        """Number of slices."""
        return len(self.indices)

    def __getitem__(self, draw: Draw | int) -> dict[str, Any]:
        """One sample, as `SarcoDataModule` describes it."""
        draw = draw if isinstance(draw, Draw) else Draw(draw)
        index = self.indices[draw.place]
        image_hu, label_map = self.cache.take(index)
        hu: NDArray[np.float32] = image_hu.astype(np.float32)
        label: NDArray[np.int16] = self.channel_of_id[label_map]
        weight = 1.0 if self.weights is None else self.weights[draw.place]
        sample: dict[str, Any] = {"index": index, "weight": np.float32(weight)}
        if self.augment and draw.epoch >= 0:
            hu, label, coordinates = self._vary(hu, label, draw)
            if coordinates is not None:
                sample["coordinates"] = torch.from_numpy(coordinates)
        if not draw.counts:
            label = np.full_like(label, IGNORED)
        image = torch.from_numpy(hu)
        if "coordinates" not in sample:
            image = scale_window(image, self.options.hu_min, self.options.hu_max)
        return {**sample, "image": image, "label": torch.from_numpy(label.astype(np.int64))}

    def _vary(
        self, hu: NDArray[np.float32], label: NDArray[np.int16], draw: Draw
    ) -> tuple[NDArray[np.float32], NDArray[np.int16], NDArray[np.float32] | None]:
        """Augments a sample; what is drawn depends on seed, epoch, slice and its turn alone.

        Returns:
            Image, label, and the map that a device is to warp both by; None where it is done already.
        """
        assert self.augment is not None
        rng = chance_of_draw(draw, self.options.seed, self.indices[draw.place])
        pixel_mm = self.options.pixel_mm or TRUNK_MM / hu.shape[-1]
        augmentation = draw_augmentation(rng, self.augment, pixel_mm, self.may_mirror)
        if augmentation.mirrors:
            label = self.mirrored_channel[label]
        # Before the warp, so that a device that warps later gets the same.
        hu, label = change_appearance(hu, label, augmentation, pixel_mm)
        if self.on_device:
            return hu, label, coordinate_map(augmentation, hu.shape[-1])
        if augmentation.moves:
            hu, label = warp_sample(hu, label, coordinate_map(augmentation, hu.shape[-1]))
        return hu, label, None
