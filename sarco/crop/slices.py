"""A slice on its way to the network, and its label map on the way back to the grid of the slice."""

from dataclasses import dataclass
from functools import lru_cache, reduce

import cv2
import numpy as np
from numpy.typing import NDArray

from sarco.core.training_options import DataOptions
from sarco.crop.body import Body, find_body
from sarco.crop.grid import Placement
from sarco.io.images import read_hu
from sarco.scan.geometry import spacing_mm
from sarco.scan.labels import LabelTable
from sarco.scan.series import Series, SliceHeader, find_neighbours

Images = NDArray[np.float32]  # (B, C, S, S) in [0, 1]
Logits = NDArray[np.float32]  # (B, K, S, S)


@dataclass(frozen=True)
class PreparedSlice:
    """A slice on its way to the network.

    Attributes:
        plane: its place in the series.
        hu: (row, column) Hounsfield units.
        image: (C, S, S) in [0, 1], what the network sees.
        placement: where that lies on the slice.
        body: what was found of the body in it.
    """

    plane: int
    hu: NDArray[np.float32]
    image: Images
    placement: Placement
    body: Body


@dataclass(frozen=True)
class RestoredSlice:
    """A prediction on the grid of its slice.

    Attributes:
        slice_index: its plane in the series.
        label_map: (row, column) uint8 label ids.
        confidence: mean probability of the winning label over the body, 0..1; 0 where there is no body.
    """

    slice_index: int
    label_map: NDArray[np.uint8]
    confidence: float


class SlicePreparer:
    """Reads, crops and windows slices: the same numbers that `SarcoInfDataModule` gives, without MONAI."""

    def __init__(self, series: Series, options: DataOptions) -> None:
        """Reads nothing yet.

        Args:
            series: the slices.
            options: crop, window and 2D/3-slice as in training: those of the checkpoint.
        """
        self.series = series
        self.options = options
        self._neighbours = dict(find_neighbours(series.slices)) if options.channel_3d else {}
        self._read = lru_cache(maxsize=4)(self._read_slice)  # neighbours are decoded once

    def __call__(self, place: int) -> PreparedSlice:
        """The slice at this place among the slices of the series.

        Raises:
            InputError: it cannot be read.
        """
        header = self.series.slices[place]
        plane = self.series.plane_index[place]
        below, above = self._neighbours.get(header, (header, header))
        headers = [below, header, above] if self.options.channel_3d else [header]
        channels, bodies = zip(*map(self._read, headers), strict=True)
        placement = Placement.around(bodies, self.series.plane_affine_lps(plane), *self.options.crop_size)
        image = placement.crop_image(np.stack(channels) if self.options.channel_3d else channels[0][None])
        low, high = np.float32(self.options.hu_min), np.float32(self.options.hu_max)
        np.clip(image, low, high, out=image)
        image -= low
        image /= np.float32(self.options.hu_max - self.options.hu_min)
        middle = len(headers) // 2
        return PreparedSlice(plane, channels[middle], image, placement, bodies[middle])

    def _read_slice(self, header: SliceHeader) -> tuple[NDArray[np.float32], Body]:
        hu = read_hu(header)
        row_mm, column_mm, _ = spacing_mm(self.series.affine_lps)
        return hu, find_body(hu, (row_mm, column_mm))


class SliceRestorer:
    """Brings logits back onto the grid of their slice: softmax, warp, the likeliest label of each pixel."""

    def __init__(self, labels: LabelTable) -> None:
        """Remembers what each channel of the network means."""
        self._id_of_channel = np.zeros(256, dtype=np.uint8)
        self._id_of_channel[1 : 1 + len(labels.ids)] = labels.ids

    def __call__(self, prepared: PreparedSlice, logits: Logits) -> RestoredSlice:
        """The label map of one slice, from logits (K, S, S)."""
        probability, winning = softmax(logits)
        channels = prepared.placement.restore_channels(probability)
        in_body = (prepared.image[len(prepared.image) // 2] > 0).astype(np.uint8)
        confidence = float(cv2.mean(winning, mask=in_body)[0])
        return RestoredSlice(
            prepared.plane, np.asarray(cv2.LUT(channels, self._id_of_channel), dtype=np.uint8), confidence
        )


def softmax(logits: Logits) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities (K, S, S) of logits (K, S, S), and the largest of them for each pixel (S, S)."""
    logits = np.ascontiguousarray(logits, dtype=np.float32)
    largest = reduce(cv2.max, logits)
    probability = np.empty_like(logits)
    for channel, its in zip(probability, logits, strict=True):
        cv2.subtract(its, largest, dst=channel)
        cv2.exp(channel, dst=channel)
    total = reduce(cv2.add, probability)
    for channel in probability:
        cv2.divide(channel, total, dst=channel)
    return probability, 1 / total
