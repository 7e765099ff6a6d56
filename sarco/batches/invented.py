"""Invented slices as a run sees them: on its crop, with its label ids, by number and without end."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sarco.anatomy.labels import view_of
from sarco.batches.style import Style, lend_style
from sarco.core.training_options import DataOptions
from sarco.crop.grid import Placement
from sarco.phantom.stream import FIELD_MM, TRAINING, InventedStream
from sarco.scan.labels import LabelTable


class InventedCrops:
    """What `sarco.training.cache.SliceCache` is for prepared slices, painted on the fly.

    Attributes:
        known: (K,) bool, the channels that invented slices can tell anything about, background first.
    """

    def __init__(
        self, options: DataOptions, labels: LabelTable, seed: int, part: int = TRAINING, styles: Sequence[Style] = ()
    ) -> None:
        """Paints nothing yet.

        Args:
            options: the crop, its size as numbers, and 2D/3-slice.
            labels: of the run.
            seed: of the invented patients.
            part: of the stream, see `InventedStream`.
            styles: that real slices lend; none leaves slices as they are painted.
        """
        size, pixel_mm = options.crop_size
        self._crop_size = size, pixel_mm
        self._stream = InventedStream(seed, part, pixel_mm or FIELD_MM / size, 3 if options.channel_3d else 1)
        self._styles = styles
        self._id_of, self.known = view_of(labels)

    def take(self, number: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        """The slice with this number: image (C, S, S) in HU, label map (S, S) with the run's ids."""
        drawn = self._stream.draw(number)
        placement = Placement.around_body(drawn.hu.astype(np.float32), drawn.affine_lps, *self._crop_size)
        image = placement.crop_image(drawn.hu)
        if self._styles:
            # A chance of its own: what is painted is the same with and without a style.
            chance = np.random.SeedSequence([self._stream.seed, self._stream.part, number], spawn_key=(1,))
            image = lend_style(image, self._styles, np.random.default_rng(chance), self._crop_size[1])
        stored = image.round().clip(-32768, 32767).astype(np.int16)
        return stored, placement.crop_label_map(self._id_of[drawn.label_map][None])[0]
